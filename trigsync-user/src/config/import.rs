//! Another program's configuration, whichever it is: what begins with `<` is sersync's, everything else is Lua, and lsyncd's.

use std::path::Path;

use super::{ConfigError, foreign::Imported, lsyncd, raw::read_bytes, sersync};

/// Reads the configuration of sersync or lsyncd from its file, whatever that is called.
pub fn import(file: &Path) -> Result<Imported, ConfigError> {
    let bytes = read_bytes(file)?;
    if sersync::is_xml(&bytes) { sersync::parse(&bytes, file) } else { lsyncd::parse(&bytes, file) }
}

/// The same for one plugin of a confxml.xml alone: a sync without targets.
pub fn import_plugin(file: &Path, plugin: &str) -> Result<Imported, ConfigError> {
    sersync::parse_plugin(&read_bytes(file)?, file, plugin)
}
