//! Whether a plugin could run: what can be found out without telling it anything.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::Uri;
use nix::unistd::{AccessFlags, access};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::config::{PluginAction, PluginConfig, Separator};

/// How long whoever is to be told may take to be found, or to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What would run, or who answers; or what is wrong.
pub async fn check(config: &PluginConfig) -> Result<String, String> {
    let patiently = timeout(PATIENCE, look(config)).await;
    patiently.unwrap_or_else(|_| Err(format!("{} does not answer within {PATIENCE:?}", config.action.address())))
}

async fn look(config: &PluginConfig) -> Result<String, String> {
    let address = config.action.address();
    match &config.action {
        PluginAction::Exec { .. } => program(&address),
        // Whoever gets one path by connection would take an empty one for a path.
        PluginAction::Tcp { separator: Separator::Connection, .. } => {
            let mut found = lookup_host(&address).await.map_err(|error| format!("{address}: {error}"))?;
            found.next().map(|found| format!("{address} is {found}; it is not asked")).ok_or(format!("{address} is nobody"))
        }
        PluginAction::Tcp { .. } => connect(&address).await,
        PluginAction::Http(_) | PluginAction::Purge { .. } => match host_and_port(&address) {
            Some(server) => connect(&server).await,
            None => Ok(format!("{address} depends on what is told; it is not asked")),
        },
    }
}

async fn connect(address: &str) -> Result<String, String> {
    TcpStream::connect(address).await.map(|_| format!("{address} listens")).map_err(|error| format!("{address}: {error}"))
}

fn program(name: &str) -> Result<String, String> {
    let runs = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    if name.contains('/') {
        let path = Path::new(name);
        return match (path.exists(), runs(path)) {
            (_, true) => Ok(name.to_owned()),
            (true, false) => Err(format!("{name} cannot be run (chmod +x {name})")),
            (false, _) => Err(format!("{name} is not there (install it, or name the right file)")),
        };
    }
    let search = env::var_os("PATH").unwrap_or_default();
    let found: Option<PathBuf> = env::split_paths(&search).map(|directory| directory.join(name)).find(|path| runs(path));
    found.map(|path| path.display().to_string()).ok_or(format!("{name} is not in PATH (install it, or write its whole path)"))
}

/// None where the host is filled in.
fn host_and_port(url: &str) -> Option<String> {
    let authority = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    let uri: Uri = authority.parse().ok()?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    Some(format!("{}:{port}", uri.host()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_in_urls() {
        for (url, server) in [
            ("https://x.org/purge?u={url}", Some("x.org:443")),
            ("http://x.org:8080", Some("x.org:8080")),
            ("http://[::1]/a", Some("[::1]:80")),
            ("http://{path}.x.org/a", None),
        ] {
            assert_eq!(host_and_port(url).as_deref(), server, "{url}");
        }
    }

    #[test]
    fn programs_are_found_as_they_would_be() {
        assert!(program("sh").is_ok_and(|path| path.ends_with("/sh")) && program("/bin/sh").is_ok());
        assert!(program("no-such-program").is_err() && program("/etc/passwd").is_err_and(|reason| reason.contains("chmod")));
    }
}
