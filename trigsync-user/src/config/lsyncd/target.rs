//! Where a sync of lsyncd's writes to, as an address of trigsync's.

use std::net::Ipv6Addr;

use super::{
    keys::{Keys, error},
    rsync::Options,
    ssh::Shell,
};
use crate::config::{ConfigError, InvalidAddress, TargetAddress, foreign::with, raw::At};

/// What `host` and `targetdir` of `default.rsyncssh` come to, in rsync's form.
pub(super) fn of_host(host: &At<String>, directory: &At<String>) -> At<String> {
    let host = if host.value.parse::<Ipv6Addr>().is_ok() { format!("[{}]", host.value) } else { host.value.clone() };
    with(directory, format!("{host}:{}", directory.value))
}

/// The address, with what ssh and rsync are told apart from it.
pub(super) fn address(keys: &Keys<'_>, to: &At<String>, shell: &Shell, options: &Options) -> Result<TargetAddress, ConfigError> {
    let wrong = |message: String| error(keys.file, to, message);
    // rsync has the home directory of an empty path.
    let text = if to.value.ends_with(':') && !to.value.ends_with("::") { format!("{}.", to.value) } else { to.value.clone() };
    let mut address: TargetAddress = text.parse().map_err(|error: InvalidAddress| wrong(error.about(&text)))?;
    match &mut address {
        TargetAddress::Local(_) => {}
        TargetAddress::Ssh { user, port, path, .. } => {
            *path = below_home(path).map_err(|reason| wrong(format!("`{text}` {reason}")))?;
            if let (None, Some(written)) = (&user, &shell.user) {
                *user = Some(written.value.clone());
            }
            if let (None, Some(written)) = (*port, &shell.port)
                && written.value != 22
            {
                *port = Some(written.value);
            }
            if port.is_some() && !path.starts_with('/') {
                let reason = "is below the home directory, which no address with a port can be (write the whole path, or the port into \
                              ssh's own configuration)";
                return Err(wrong(format!("`{text}` {reason}")));
            }
        }
        TargetAddress::Daemon { port, .. } => {
            if let Some(rsh) = &options.rsh {
                let message =
                    "reaches an rsync daemon through a remote shell, which trigsync cannot (write HOST:PATH, or leave this sync to lsyncd)";
                return Err(error(keys.file, rsh, message));
            }
            if let (None, Some(written)) = (*port, &options.port) {
                *port = Some(written.value);
            }
        }
    }
    // A user or host that ssh was told is checked as any other.
    address.to_string().parse().map_err(|error: InvalidAddress| wrong(error.about(&text)))
}

/// What begins with no slash is below the home directory, for ssh and rsync alike, with a `~` or without.
fn below_home(path: &str) -> Result<String, &'static str> {
    match path.strip_prefix('~') {
        None => Ok(path.to_owned()),
        Some("") => Ok(".".to_owned()),
        Some(rest) => match rest.strip_prefix('/') {
            Some(rest) => Ok(rest.to_owned()),
            None => Err("is in somebody else's home directory, which only a shell finds (write the whole path)"),
        },
    }
}
