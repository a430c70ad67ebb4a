//! The address of a target, in rsync's own forms.
//!
//! What parses here holds no password, nothing that ssh could take for an option, no `..` and no control character.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Where an rsync daemon listens that says nothing else.
pub const RSYNC_PORT: u16 = 873;

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetAddress {
    /// A directory of this machine; absolute.
    Local(PathBuf),
    /// `[USER@]HOST:PATH` or `ssh://[USER@]HOST[:PORT]/PATH`.
    Ssh {
        /// The remote user; ssh's own choice where there is none.
        user: Option<String>,
        /// Host name or address; an IPv6 address without brackets.
        host: String,
        /// 22, or what ssh's configuration says.
        port: Option<u16>,
        /// As the remote side takes it: relative to the home directory unless it begins with a slash.
        path: String,
    },
    /// `rsync://[USER@]HOST[:PORT]/MODULE[/PATH]` or `[USER@]HOST::MODULE[/PATH]`.
    Daemon {
        /// The user of the module's `auth users`.
        user: Option<String>,
        /// Host name or address; an IPv6 address without brackets.
        host: String,
        /// [`RSYNC_PORT`] where there is none.
        port: Option<u16>,
        /// The module's name.
        module: String,
        /// Below the module, without a leading slash; may be empty.
        path: String,
    },
}

/// Why a text is no address of a target, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidAddress {
    reason: String,
    secret: bool,
}

impl InvalidAddress {
    /// The reason with the text that it is about, unless that holds a password.
    pub(super) fn about(&self, written: &str) -> String {
        if self.secret { self.reason.clone() } else { format!("`{}` {}", written.escape_debug(), self.reason) }
    }
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, InvalidAddress> {
    Err(InvalidAddress { reason: reason.into(), secret: false })
}

impl FromStr for TargetAddress {
    type Err = InvalidAddress;

    /// A local path may be relative here; `RawConfig::resolve` makes it absolute.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if text.is_empty() {
            return refuse("is empty (write a path, HOST:PATH, ssh://HOST/PATH or rsync://HOST/MODULE)");
        }
        if text.chars().any(char::is_control) {
            return refuse("holds a control character");
        }
        if let Some((scheme, rest)) = text.split_once("://")
            && !scheme.contains(['/', ':', '@'])
        {
            return match scheme.to_ascii_lowercase().as_str() {
                "ssh" => parse_ssh_url(rest),
                "rsync" => parse_rsync_url(rest),
                other => refuse(unknown_scheme(other)),
            };
        }
        let Some((authority, rest)) = split_at_host_colon(text) else { return parse_local(text) };
        let Authority { user, host, .. } = parse_authority(authority, false)?;
        match rest.strip_prefix(':') {
            Some(module_and_path) => daemon(user, host, None, module_and_path),
            None => ssh(user, host, None, rest),
        }
    }
}

/// rsync's rule: a colon before the first slash makes it remote. An IPv6 address stands in brackets.
fn split_at_host_colon(text: &str) -> Option<(&str, &str)> {
    let host = text.find('@').filter(|&at| !text[..at].contains(['/', ':', '['])).map_or(0, |at| at + 1);
    let end_of_brackets = if text[host..].starts_with('[') { host + text[host..].find(']')? } else { 0 };
    let colon = end_of_brackets + text[end_of_brackets..].find(':')?;
    (!text[..colon].contains('/')).then(|| (&text[..colon], &text[colon + 1..]))
}

fn parse_local(text: &str) -> Result<TargetAddress, InvalidAddress> {
    if text == "~" || text.starts_with("~/") {
        return refuse("begins with `~`, which only a shell expands (write the whole path)");
    }
    Ok(TargetAddress::Local(PathBuf::from(text)))
}

fn parse_ssh_url(rest: &str) -> Result<TargetAddress, InvalidAddress> {
    let Some(slash) = rest.find('/') else { return refuse("has no path (write ssh://HOST/PATH)") };
    let Authority { user, host, port } = parse_authority(&rest[..slash], true)?;
    ssh(user, host, port, &rest[slash..])
}

fn parse_rsync_url(rest: &str) -> Result<TargetAddress, InvalidAddress> {
    let (authority, module_and_path) = rest.split_once('/').unwrap_or((rest, ""));
    let Authority { user, host, port } = parse_authority(authority, true)?;
    daemon(user, host, port, module_and_path)
}

fn ssh(user: Option<String>, host: String, port: Option<u16>, path: &str) -> Result<TargetAddress, InvalidAddress> {
    if path.is_empty() {
        return refuse("has no path (write HOST:PATH; `HOST:.` is the home directory)");
    }
    if path.starts_with('-') {
        return refuse("has a path that begins with `-`, which the remote side would take for an option (write `./-…`)");
    }
    let absolute = if path.starts_with('/') { "/" } else { "" };
    let names = plain_names(path)?.join("/");
    let path = if absolute.is_empty() && names.is_empty() { ".".to_owned() } else { format!("{absolute}{names}") };
    // `./-x` must keep what makes it no option.
    let path = if path.starts_with('-') { format!("./{path}") } else { path };
    Ok(TargetAddress::Ssh { user, host, port, path })
}

fn daemon(user: Option<String>, host: String, port: Option<u16>, module_and_path: &str) -> Result<TargetAddress, InvalidAddress> {
    let (module, path) = module_and_path.split_once('/').unwrap_or((module_and_path, ""));
    if module.is_empty() || module == "." || module == ".." {
        return refuse("names no module (write rsync://HOST/MODULE or HOST::MODULE)");
    }
    if module.starts_with('-') {
        return refuse("has a module that begins with `-`");
    }
    Ok(TargetAddress::Daemon { user, host, port, module: module.to_owned(), path: plain_names(path)?.join("/") })
}

/// The names of a remote path, without empty ones and `.`.
fn plain_names(path: &str) -> Result<Vec<&str>, InvalidAddress> {
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if names.contains(&"..") {
        return refuse("has `..` in its path (write the path without it)");
    }
    Ok(names)
}

struct Authority {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

/// `[USER@]HOST[:PORT]`.
fn parse_authority(text: &str, with_port: bool) -> Result<Authority, InvalidAddress> {
    let (user, host) = match text.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, text),
    };
    if let Some(user) = user {
        if user.contains(':') {
            let reason =
                "holds a password before its `@` (write it into a file and name that with password_file; for ssh use identity)".to_owned();
            return Err(InvalidAddress { reason, secret: true });
        }
        if user.is_empty() || user.starts_with('-') || user.contains(|c: char| c.is_whitespace() || "/@'\"\\$`;&|<>()".contains(c)) {
            return refuse("has an unusable user name before the `@`");
        }
    }
    let (host, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return refuse("has a `[` without its `]`") };
            let number = address.split('%').next().unwrap_or(address);
            if number.parse::<std::net::Ipv6Addr>().is_err() {
                return refuse(format!("has `{address}` in brackets, which is no IPv6 address"));
            }
            match port {
                "" => (address, None),
                port => match port.strip_prefix(':') {
                    Some(port) => (address, Some(port)),
                    None => return refuse("has something behind the `]` that is no port"),
                },
            }
        }
        None => match host.split_once(':') {
            Some((_, port)) if port.contains(':') => return refuse("holds an IPv6 address without brackets (write [ADDRESS])"),
            Some((host, port)) => (host, Some(port)),
            None => (host, None),
        },
    };
    if host.is_empty() {
        return refuse("names no host");
    }
    if host.starts_with('-') {
        return refuse("has a host that begins with `-`, which ssh would take for an option");
    }
    if let Some(strange) = host.chars().find(|&c| !c.is_alphanumeric() && !".-_%:".contains(c)) {
        return refuse(format!("has {strange:?} in its host name"));
    }
    let port = match port {
        Some(port) if with_port => match port.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return refuse(format!("has `{port}` for a port (write a number from 1 to 65535)")),
        },
        _ => None,
    };
    Ok(Authority { user: user.map(str::to_owned), host: host.to_owned(), port })
}

fn unknown_scheme(scheme: &str) -> String {
    match super::error::near_miss(scheme, ["ssh", "rsync"]) {
        Some(near) => format!("has the scheme `{scheme}://`, which rsync does not know (did you mean `{near}://`?)"),
        None => format!("has the scheme `{scheme}://`, which rsync does not know (write ssh:// or rsync://)"),
    }
}

impl fmt::Display for TargetAddress {
    /// As rsync takes it on its command line; an ssh port, which rsync has no form for, as `ssh://`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = |f: &mut fmt::Formatter<'_>, user: &Option<String>, host: &str, port: Option<u16>| {
            if let Some(user) = user {
                write!(f, "{user}@")?;
            }
            if host.contains(':') { write!(f, "[{host}]") } else { f.write_str(host) }?;
            port.map_or(Ok(()), |port| write!(f, ":{port}"))
        };
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Ssh { user, host, port: None, path } => {
                authority(f, user, host, None)?;
                write!(f, ":{path}")
            }
            Self::Ssh { user, host, port, path } => {
                f.write_str("ssh://")?;
                authority(f, user, host, *port)?;
                f.write_str(path)
            }
            Self::Daemon { user, host, port, module, path } => {
                f.write_str("rsync://")?;
                authority(f, user, host, *port)?;
                write!(f, "/{module}")?;
                if path.is_empty() { Ok(()) } else { write!(f, "/{path}") }
            }
        }
    }
}

impl TargetAddress {
    /// For addresses of other machines: the machine and port, and the path there, so that two of them can be compared.
    pub(super) fn remote_place(&self) -> Option<(String, PathBuf)> {
        match self {
            Self::Local(_) => None,
            Self::Ssh { user, host, port, path } => {
                // A relative path is below that user's home; an absolute one is the same for every user.
                let home = if path.starts_with('/') { "" } else { user.as_deref().unwrap_or("?") };
                let path = Path::new("/").join(path.trim_start_matches("./").trim_start_matches('/'));
                Some((
                    format!("ssh {} {} {home}", host.to_ascii_lowercase(), port.unwrap_or(22)),
                    if path == Path::new("/.") { "/".into() } else { path },
                ))
            }
            Self::Daemon { host, port, module, path, .. } => {
                Some((format!("rsync {} {} {module}", host.to_ascii_lowercase(), port.unwrap_or(RSYNC_PORT)), Path::new("/").join(path)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match text.parse::<TargetAddress>() {
            Ok(address) => {
                let shown = address.to_string();
                assert_eq!(shown.parse::<TargetAddress>(), Ok(address), "{text}");
                shown
            }
            Err(error) => format!("! {error}"),
        }
    }

    #[test]
    fn every_form_and_how_rsync_gets_it() {
        for (written, expected) in [
            ("/mnt/mirror", "/mnt/mirror"),
            ("mirror", "mirror"),
            ("/mnt/a:b", "/mnt/a:b"),
            ("./a:b", "./a:b"),
            ("/srv/[x]:y", "/srv/[x]:y"),
            ("backup:/srv/www", "backup:/srv/www"),
            ("backup:www", "backup:www"),
            ("backup:./-x", "backup:./-x"),
            ("backup:.", "backup:."),
            ("deploy@edge1:/srv//www/", "deploy@edge1:/srv/www"),
            ("deploy@[fe80::1%eth0]:/srv", "deploy@[fe80::1%eth0]:/srv"),
            ("ssh://deploy@edge1:2222/srv/www", "ssh://deploy@edge1:2222/srv/www"),
            ("SSH://edge1/srv", "edge1:/srv"),
            ("ssh://edge1/", "edge1:/"),
            ("ssh://[::1]:22/srv", "ssh://[::1]:22/srv"),
            ("rsync://web@backup/www", "rsync://web@backup/www"),
            ("rsync://backup:8873/www/a/b/", "rsync://backup:8873/www/a/b"),
            ("backup::www/a", "rsync://backup/www/a"),
            ("web@[::1]::www", "rsync://web@[::1]/www"),
        ] {
            assert_eq!(shown(written), expected, "{written}");
        }
    }

    #[test]
    fn refusals_name_the_remedy() {
        for (written, expected) in [
            ("", "! is empty (write a path, HOST:PATH, ssh://HOST/PATH or rsync://HOST/MODULE)"),
            ("/a\nb", "! holds a control character"),
            ("~/mirror", "! begins with `~`, which only a shell expands (write the whole path)"),
            ("-oProxyCommand=x:/srv", "! has a host that begins with `-`, which ssh would take for an option"),
            ("ssh://-oProxyCommand=x/srv", "! has a host that begins with `-`, which ssh would take for an option"),
            ("-lroot@host:/srv", "! has an unusable user name before the `@`"),
            ("backup:", "! has no path (write HOST:PATH; `HOST:.` is the home directory)"),
            ("backup:-x", "! has a path that begins with `-`, which the remote side would take for an option (write `./-…`)"),
            ("backup:a/../b", "! has `..` in its path (write the path without it)"),
            ("ssh://backup", "! has no path (write ssh://HOST/PATH)"),
            ("ssh://backup:0/x", "! has `0` for a port (write a number from 1 to 65535)"),
            ("ssh://::1/x", "! holds an IPv6 address without brackets (write [ADDRESS])"),
            ("ssh://[::g]/x", "! has `::g` in brackets, which is no IPv6 address"),
            ("ssh://a b/x", "! has ' ' in its host name"),
            (
                "rsync://web:secret@backup/www",
                "! holds a password before its `@` (write it into a file and name that with password_file; for ssh use identity)",
            ),
            ("rsync://backup", "! names no module (write rsync://HOST/MODULE or HOST::MODULE)"),
            ("rsync:///www", "! names no host"),
            ("backup::", "! names no module (write rsync://HOST/MODULE or HOST::MODULE)"),
            ("rsync://backup/www/../etc", "! has `..` in its path (write the path without it)"),
            ("rsyncd://backup/www", "! has the scheme `rsyncd://`, which rsync does not know (did you mean `rsync://`?)"),
            ("https://backup/www", "! has the scheme `https://`, which rsync does not know (write ssh:// or rsync://)"),
        ] {
            assert_eq!(shown(written), expected, "{written}");
        }
    }
}
