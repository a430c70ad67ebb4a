//! What a confxml.xml says of its plugins.

use super::{
    confxml::{Expressions, Reader, child, children, place, plain, with_default, written},
    short,
    xml::Element,
};
use crate::config::{ConfigError, raw::At};

#[derive(Debug)]
pub(super) struct Plugin {
    pub start: At<bool>,
    pub name: At<String>,
}

/// Those that sersync has.
const PLUGINS: [&str; 4] = ["command", "socket", "refreshCDN", "http"];

/// What a plugin is to do. Its password, where it has one, is not kept.
#[derive(Debug)]
pub(super) enum PluginSettings {
    Command { prefix: At<String>, suffix: At<String>, ignore_error: At<bool>, only: Expressions },
    Socket { watch: At<String>, ip: At<String>, port: At<String> },
    RefreshCdn { watch: At<String>, domain: At<String>, port: At<String>, user: At<String>, base: At<String>, matching: Option<At<String>> },
    Http { watch: At<String>, url: At<String> },
}

impl PluginSettings {
    /// The directory that it is for; none where it is for the one that is mirrored.
    pub fn watch(&self) -> Option<&At<String>> {
        match self {
            Self::Command { .. } => None,
            Self::Socket { watch, .. } | Self::RefreshCdn { watch, .. } | Self::Http { watch, .. } => {
                Some(watch).filter(|watch| !watch.value.is_empty())
            }
        }
    }
}

/// Whether two directories are written alike.
pub(super) fn is_same(one: &At<String>, other: &At<String>) -> bool {
    one.value.trim_end_matches('/') == other.value.trim_end_matches('/')
}

impl Reader<'_> {
    /// The plugin that `-m` names, whether it is switched on or not.
    pub fn asked_for(&self, root: &Element, asked: &str) -> Result<Plugin, ConfigError> {
        let there = |name: &str| children(Some(root), "plugin").find(|plugin| plain(Some(plugin), "name") == name);
        if let (true, Some(found)) = (PLUGINS.contains(&asked), there(asked)) {
            let at = |key: &str| place(found.spot, (), key);
            return Ok(Plugin { start: place(found.spot, true, "plugin"), name: super::with(&at("plugin@name"), asked.to_owned()) });
        }
        let names: Vec<_> = PLUGINS.into_iter().filter(|name| there(name).is_some()).collect();
        let remedy = match names.is_empty() {
            true => ", nor any other (write <plugin name=\"command\">, socket, refreshCDN or http, with what it needs)".to_owned(),
            false => format!(" that sersync knows (name one that is there: {})", names.join(", ")),
        };
        let message = format!("has no plugin `{}`{remedy}", short(asked));
        Err(place(root.spot, (), "head").error(Some(self.file), message))
    }

    /// sersync watches the plugin's own directory then.
    pub fn watch_its_own(&mut self, settings: Option<&PluginSettings>, watch: &mut At<String>) {
        let Some(own) = settings.and_then(PluginSettings::watch).filter(|own| !is_same(own, watch)) else { return };
        let message = format!("is watched, as by sersync's -m, and not the `{}` of {}", short(&watch.value), watch.mention());
        self.warn(own, message);
        *watch = own.clone();
    }

    /// What the first plugin of a name is to do.
    pub fn settings(&mut self, head: Option<&Element>, name: &str) -> Option<PluginSettings> {
        let element = children(head, "plugin").find(|plugin| plain(Some(plugin), "name") == name);
        element?;
        let localpath = child(element, "localpath");
        let watch = with_default(localpath, "localpath@watch", "");
        let [host, info] = ["deshost", "cdninfo"].map(|name| child(localpath, name));
        match name {
            "command" => {
                let param = child(element, "param");
                Some(PluginSettings::Command {
                    prefix: with_default(param, "param@prefix", "/bin/sh"),
                    suffix: with_default(param, "param@suffix", ""),
                    ignore_error: self.switch(param, "param@ignoreError", true),
                    only: self.expressions(child(element, "filter"), "filter", "include"),
                })
            }
            "socket" => Some(PluginSettings::Socket {
                watch,
                ip: with_default(host, "deshost@ip", ""),
                port: with_default(host, "deshost@port", ""),
            }),
            "http" => Some(PluginSettings::Http { watch, url: with_default(host, "deshost@url", "") }),
            "refreshCDN" => {
                let expression = child(localpath, "regexurl");
                let is_on = self.switch(expression, "regexurl@regex", false).value;
                Some(PluginSettings::RefreshCdn {
                    watch,
                    domain: with_default(info, "cdninfo@domainname", ""),
                    port: with_default(info, "cdninfo@port", "80"),
                    user: with_default(info, "cdninfo@username", ""),
                    base: with_default(child(localpath, "sendurl"), "sendurl@base", ""),
                    matching: written(expression, "regexurl@match").filter(|_| is_on),
                })
            }
            _ => None,
        }
    }
}
