//! A pattern of rsync's `--exclude` as a gitignore pattern of exactly the same meaning, or a refusal.
//!
//! The two differ where a slash stands within: rsync's `a/b` is any `b` in any `a`, gitignore's only the one at the top.

use super::short;
use crate::config::pattern::Pattern;

pub(in crate::config) fn gitignore(pattern: &str) -> Result<String, String> {
    let refuse = |reason: &str| Err(format!("the pattern `{}` {reason}", short(pattern)));
    if pattern == "!" || pattern.starts_with("+ ") || pattern.starts_with("- ") {
        return refuse("is a rule, not a plain pattern (write plain patterns only)");
    }
    if pattern.contains('\\') || pattern.ends_with(' ') {
        return refuse("has a backslash, or a space at its end (write it without)");
    }
    let (body, directory) = match pattern.strip_suffix("/***").or_else(|| pattern.strip_suffix('/')) {
        Some(body) => (body, "/"),
        None => (pattern, ""),
    };
    // At either end `**` is any number of whole directories for both; in between, rsync's wants two slashes and gitignore's one.
    let inner = body.strip_prefix("**/").unwrap_or(body);
    let inner = inner.strip_suffix("/**").filter(|_| directory.is_empty()).unwrap_or(inner);
    if inner.is_empty() || inner.contains("**") {
        return refuse("has a `**` (write it without: `a/b` is any `b` in any `a`)");
    }
    let anywhere = body.contains('/') && !body.starts_with('/') && !body.starts_with("**/");
    let escape = if body.starts_with(['!', '#']) { "\\" } else { "" };
    // `dir/***` is bound to a directory of that name, wherever it stands.
    let translated = format!("{}{escape}{body}{directory}", if anywhere { "**/" } else { "" });
    match Pattern::parse(&translated) {
        Ok(_) => Ok(translated),
        Err(error) => refuse(&error.reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_keep_their_meaning() {
        for (pattern, expected) in [
            ("*.php", "*.php"),
            ("info/*", "**/info/*"),
            ("/cache", "/cache"),
            ("/a/b/", "/a/b/"),
            ("cache/", "cache/"),
            ("dir/***", "dir/"),
            ("a/dir/***", "**/a/dir/"),
            ("#x", "\\#x"),
            ("[a-c]?", "[a-c]?"),
            ("/proc/**", "/proc/**"),
            ("cache/**", "**/cache/**"),
            ("**/cache", "**/cache"),
            ("**/a/b/", "**/a/b/"),
        ] {
            assert_eq!(gitignore(pattern).as_deref(), Ok(expected), "{pattern}");
        }
        for pattern in
            ["", "/", "+ x", "- x", "!", "a\\*", "a ", "a/**/b", "**", "**/**", "a**", "a/**/", "/**", "a//b", "../x", "[[:alpha:]]"]
        {
            assert!(gitignore(pattern).is_err(), "{pattern}");
        }
    }
}
