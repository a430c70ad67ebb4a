//! From a plugin as written to one that cannot be wrong, as far as can be told without asking anybody.

use std::{path::PathBuf, sync::Arc, time::Duration};

use hyper::{
    Method, Uri,
    header::{HeaderName, HeaderValue},
};

use super::{
    EACH, Expression, HttpRequest, Piece, Placeholder, PluginAction, PluginConfig, PluginPaths, Separator, Template, UrlRule,
    raw::{RawAction, RawPlugin, RawRequest},
};
use crate::config::{ConfigError, Filter, raw::At};

/// Makes errors about values, and checks files that hold secrets.
pub(in crate::config) trait Wrong {
    fn error<T>(&self, at: &At<T>, message: String) -> ConfigError;
    fn private_file(&self, file: &At<PathBuf>) -> Result<(), ConfigError>;
}

/// Paths in one run, where the configuration does not say.
const BATCH: usize = 1000;
/// The same for purges: what the usual services take in one request.
const PURGES: usize = 30;

pub(in crate::config) fn plugin(raw: &RawPlugin, wrong: &impl Wrong) -> Result<PluginConfig, ConfigError> {
    let name = &raw.name.value;
    if name.is_empty() || name.contains(|c: char| c.is_control() || c == '/') {
        return Err(wrong.error(&raw.name, "is empty or holds a slash or a control character (write a short word)".into()));
    }
    let (action, usual) = match &raw.action {
        RawAction::Exec { command, input } => {
            let input = input.as_ref().map(|input| input.value).unwrap_or_default();
            (PluginAction::Exec { command: self::command(command, wrong)?, input }, BATCH)
        }
        RawAction::Tcp { to, separator } => {
            let separator = separator.as_ref().map_or(Separator::Nul, |separator| separator.value);
            (PluginAction::Tcp { to: address(to, wrong)?, separator }, BATCH)
        }
        RawAction::Http { request } => (PluginAction::Http(http(request, wrong)?), BATCH),
        RawAction::Purge { base, replace, request } => {
            (PluginAction::Purge { urls: rule(base, raw, replace, wrong)?, request: purge(request, wrong)? }, PURGES)
        }
    };
    let batch = match (&raw.batch, action.is_for_one()) {
        (Some(batch), true) if batch.value > 1 => {
            return Err(wrong.error(batch, format!("is {}, but every path has a run of its own here (leave it out)", batch.value)));
        }
        (_, true) => 1,
        (Some(batch), false) => usize::try_from(batch.value).unwrap_or(usize::MAX),
        (None, false) => usual,
    };
    Ok(PluginConfig {
        name: name.clone(),
        after: raw.after.as_ref().map(|after| after.value.clone()),
        paths: PluginPaths {
            only: if raw.only.is_empty() { None } else { Some(filter(&raw.only, wrong)?) },
            exclude: filter(&raw.exclude, wrong)?,
            matching: expression(raw, wrong)?,
            whole: raw.whole.as_ref().is_none_or(|whole| whole.value),
        },
        absolute: raw.absolute.as_ref().is_some_and(|absolute| absolute.value),
        batch,
        rate: raw.rate.as_ref().map(|rate| rate.value),
        timeout: raw.timeout.as_ref().map_or(Duration::from_secs(30), |timeout| timeout.value),
        attempts: raw.attempts.as_ref().map_or(const { std::num::NonZeroU32::new(5).unwrap() }, |attempts| attempts.value),
        memory: raw.memory.as_ref().map_or(4 << 20, |memory| usize::try_from(memory.value).unwrap_or(usize::MAX)),
        action,
    })
}

fn filter(patterns: &[At<String>], wrong: &impl Wrong) -> Result<Arc<Filter>, ConfigError> {
    for pattern in patterns {
        Filter::new(std::slice::from_ref(&pattern.value)).map_err(|error| wrong.error(pattern, error.to_string()))?;
    }
    let lines: Vec<_> = patterns.iter().map(|pattern| pattern.value.clone()).collect();
    match Filter::new(&lines) {
        Ok(filter) => Ok(Arc::new(filter)),
        Err(error) => Err(wrong.error(&patterns[0], error.to_string())),
    }
}

fn command(command: &[At<String>], wrong: &impl Wrong) -> Result<Vec<String>, ConfigError> {
    let program = &command[0];
    let text = &program.value;
    if text.is_empty() || text.contains(EACH) {
        return Err(wrong.error(program, "is no program (write its name or its whole path first, and `{path}` in an argument)".into()));
    }
    if text.contains('/') && !text.starts_with('/') {
        return Err(
            wrong.error(program, format!("`{text}` is relative to nothing (write the whole path, or a name that is found in PATH)"))
        );
    }
    Ok(command.iter().map(|word| word.value.clone()).collect())
}

fn address(to: &At<String>, wrong: &impl Wrong) -> Result<String, ConfigError> {
    let parts = to.value.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    match parts {
        Some((host, _)) if !host.contains(|c: char| c.is_whitespace() || c == '/') => Ok(to.value.clone()),
        _ => Err(wrong.error(to, format!("`{}` is no host with a port (write \"HOST:PORT\", or \"[::1]:PORT\")", to.value))),
    }
}

fn rule(base: &At<String>, raw: &RawPlugin, replace: &Option<At<String>>, wrong: &impl Wrong) -> Result<UrlRule, ConfigError> {
    uri(&Template::parse(&base.value).map_err(|message| wrong.error(base, message))?, base, wrong)?;
    if base.value.contains('{') {
        let message = "has a brace, and is not filled in (write where the paths begin, such as \"https://www.example.org/\")";
        return Err(wrong.error(base, message.into()));
    }
    let replace = match (expression(raw, wrong)?, replace) {
        (None, Some(replace)) => return Err(wrong.error(replace, "replaces nothing (write match = \"…\", a regular expression)".into())),
        (Some(expression), Some(replace)) => Some((expression, replace.value.clone())),
        (_, None) => None,
    };
    Ok(UrlRule { base: base.value.trim_end_matches('/').to_owned(), replace })
}

fn expression(raw: &RawPlugin, wrong: &impl Wrong) -> Result<Option<Expression>, ConfigError> {
    let compiled = |at: &At<String>| {
        Expression::new(&at.value).map_err(|reason| wrong.error(at, format!("is no regular expression for bytes: {reason}")))
    };
    raw.matching.as_ref().map(compiled).transpose()
}

fn http(raw: &RawRequest, wrong: &impl Wrong) -> Result<HttpRequest, ConfigError> {
    let method = method(raw, "POST", wrong)?;
    let has_none = [Method::GET, Method::HEAD, Method::DELETE].iter().any(|other| other.as_str() == method);
    let body = template(&raw.body, wrong)?.or_else(|| (!has_none).then(|| Template::parse("{json}").ok()).flatten());
    let request = request(raw, method, body, wrong)?;
    for (hole, what) in [(Placeholder::Url, "{url}"), (Placeholder::Urls, "{urls}")] {
        if let Some(at) = places(raw).into_iter().find(|_| request.asks_for(hole)) {
            return Err(wrong.error(&at, format!("`{what}` is for kind = \"purge\" (write {{path}} or {{json}})")));
        }
    }
    Ok(request)
}

fn purge(raw: &RawRequest, wrong: &impl Wrong) -> Result<HttpRequest, ConfigError> {
    let method = method(raw, if raw.url.is_none() { "PURGE" } else { "POST" }, wrong)?;
    let body = template(&raw.body, wrong)?;
    let request = request(raw, method, body, wrong)?;
    let names_any = [Placeholder::Url, Placeholder::Urls, Placeholder::Path].iter().any(|hole| request.asks_for(*hole));
    match &raw.url {
        Some(url) if !names_any => {
            Err(wrong.error(url, "is asked, and nobody says for what (write {urls} or {url} into the body, or {url} into this)".into()))
        }
        _ => Ok(request),
    }
}

fn method(raw: &RawRequest, usual: &str, wrong: &impl Wrong) -> Result<String, ConfigError> {
    let Some(method) = &raw.method else { return Ok(usual.to_owned()) };
    match Method::from_bytes(method.value.as_bytes()) {
        Ok(_) if method.value.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') => Ok(method.value.clone()),
        _ => Err(wrong.error(method, format!("`{}` is no method (write POST, PUT, PURGE, …)", method.value))),
    }
}

fn template(at: &Option<At<String>>, wrong: &impl Wrong) -> Result<Option<Template>, ConfigError> {
    at.as_ref().map(|at| Template::parse(&at.value).map_err(|message| wrong.error(at, message))).transpose()
}

fn request(raw: &RawRequest, method: String, body: Option<Template>, wrong: &impl Wrong) -> Result<HttpRequest, ConfigError> {
    let url = template(&raw.url, wrong)?;
    if let (Some(url), Some(at)) = (&url, &raw.url) {
        for (hole, word) in [(Placeholder::Json, "{json}"), (Placeholder::Urls, "{urls}")] {
            if url.asks_for(hole) {
                return Err(wrong.error(at, format!("has `{word}`, which may be long (write it into body)")));
            }
        }
        uri(url, at, wrong)?;
    }
    let mut headers = Vec::new();
    for at in &raw.headers {
        let (name, value) = &at.value;
        let value = Template::parse(value).map_err(|message| wrong.error(at, message))?;
        if HeaderName::from_bytes(name.as_bytes()).is_err() || HeaderValue::from_str(&value.to_string()).is_err() {
            return Err(wrong.error(at, format!("`{name}` is no header, or has a value that none can have")));
        }
        if value.asks_for(Placeholder::Json) || value.asks_for(Placeholder::Urls) {
            return Err(wrong.error(at, format!("`{name}` has what may be long (write it into body)")));
        }
        headers.push((name.clone(), value));
    }
    let request = HttpRequest { method, url, headers, body, secret_file: raw.secret_file.as_ref().map(|file| file.value.clone()) };
    match (&raw.secret_file, request.asks_for(Placeholder::Secret)) {
        (Some(file), true) => wrong.private_file(file)?,
        (Some(file), false) => {
            return Err(wrong.error(file, "is asked for nowhere (write `{secret}` into a header, the url or the body)".into()));
        }
        (None, true) => {
            let at = places(raw).into_iter().next();
            return Err(at.map_or_else(
                || ConfigError::new("secret_file", "is missing (write the file that `{secret}` stands for)"),
                |at| wrong.error(&at, "has `{secret}`, and no secret_file says what that is (write secret_file = \"…\")".into()),
            ));
        }
        (None, false) => {}
    }
    Ok(request)
}

/// Where a request's templates stand, for errors.
fn places(raw: &RawRequest) -> Vec<At<()>> {
    let at = |line, column, key: &str| At { value: (), line, column, key: key.to_owned() };
    let headers = raw.headers.iter().map(|header| at(header.line, header.column, &header.key));
    raw.url.iter().chain(&raw.body).map(|text| at(text.line, text.column, &text.key)).chain(headers).collect()
}

fn uri(template: &Template, at: &At<String>, wrong: &impl Wrong) -> Result<(), ConfigError> {
    let filled: String = template.pieces().iter().map(|piece| if let Piece::Text(text) = piece { text } else { "x" }).collect();
    let uri = filled.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    let Some(uri) = uri else {
        return Err(wrong.error(at, format!("`{}` is no URL (write \"http://…\" or \"https://…\")", at.value)));
    };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(
            wrong.error(at, "names a user: the log would show it (write an Authorization header with `{secret}`, and secret_file)".into())
        );
    }
    Ok(())
}
