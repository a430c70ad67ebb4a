//! sersync's `-m`: one plugin of the file, without rsync. A sync without targets comes of it.
//!
//! What the file says of remotes, of rsync and of full syncs is for mirrors, and not looked at.

use super::{confxml::Confxml, translate::Translator, with};
use crate::config::{
    ConfigError,
    raw::{At, RawSync},
};

/// Where sersync and trigsync differ whatever the file says.
const ALWAYS: &[&str] = &[
    "the plugin is told of a change when it has come to rest, within milliseconds and once for many of the same path; what a filter excludes is never told",
    "names like `.x`, `x~` and `4913` are told too",
    "what the kernel lost the plugin is not told of, and the log says so (imported, and without its `match`, it would be told of the source itself then)",
    "what happened while it did not run the plugin is not told of",
];

impl Translator<'_> {
    /// The sync of the plugin that is asked for.
    pub(super) fn alone(&mut self) -> Result<RawSync, ConfigError> {
        let watch = &self.xml.watch;
        let patterns = self.patterns(&[])?;
        let source = self.root();
        // As far down as sersync's own watches go.
        let cross_mounts = Some(with(watch, true));
        let plugins = self.plugin()?.into_iter().collect();
        self.switches_of_a_plugin();
        self.debug();
        if self.xml.crontab.start.value {
            self.warn(&self.xml.crontab.start, "has no effect beside -m: nothing is mirrored, so there are no full passes");
        }
        let anywhere = At { value: (), line: None, column: None, key: "sersync".to_owned() };
        for text in ALWAYS {
            self.differ(&anywhere, *text);
        }
        Ok(RawSync { source: Some(with(watch, source)), patterns, cross_mounts, plugins, ..RawSync::new(with(watch, ())) })
    }

    /// Which changes sersync listens to. A plugin is told of what is there, whatever told of it.
    fn switches_of_a_plugin(&mut self) {
        let Confxml { inotify, .. } = self.xml;
        for (switch, what) in [
            (&inotify.delete, "what is deleted"),
            (&inotify.create_folder, "new directories"),
            (&inotify.close_write, "what was written"),
            (&inotify.move_from, "what is moved away"),
            (&inotify.move_to, "what is moved here"),
        ] {
            if !switch.value {
                self.warn(switch, format!("has no effect: the plugin is told of {what} all the same"));
            }
        }
        for (switch, what) in [(&inotify.attrib, "new modes, owners and times"), (&inotify.create_file, "new files that are still empty")] {
            if !switch.value {
                self.differ(switch, format!("the plugin is told of {what} too"));
            }
        }
    }
}
