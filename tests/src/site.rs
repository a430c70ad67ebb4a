//! A source, a target of one kind, and the daemon between them; and the tests that every kind of target has to pass.

use std::{
    any::Any,
    path::{Path, PathBuf},
};

use crate::{
    compare,
    mirror::{Launch, Mirror},
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip::Cause,
    sshd::Sshd,
};

/// How the target is reached.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A path of this machine.
    Local,
    /// A module of an rsync daemon, with a password.
    RsyncDaemon,
    /// A directory behind an sshd.
    Ssh,
}

/// One target on this machine and what is needed to reach it; whatever serves it ends with this value.
pub struct Served {
    /// As for `--target`.
    pub address: String,
    /// Further flags.
    pub flags: Vec<String>,
    /// What has to come first in the daemon's PATH.
    pub programs: Option<PathBuf>,
    _server: Box<dyn Any>,
}

impl Served {
    /// Serves `target`, a directory in `room`.
    pub fn start(room: &Room, kind: Kind, target: &Path) -> Result<Self, Cause> {
        let display = |path: &Path| path.display().to_string();
        Ok(match kind {
            Kind::Local => Self { address: display(target), flags: Vec::new(), programs: None, _server: Box::new(()) },
            Kind::RsyncDaemon => {
                let server = RsyncDaemon::start(room, &[Module::new("mirror", target).secret("deploy", "open sesame")]);
                let password = room.secret("password", "open sesame\n");
                let flags = vec!["--password-file".to_owned(), display(&password)];
                Self { address: server.url_as("deploy", "mirror"), flags, programs: None, _server: Box::new(server) }
            }
            Kind::Ssh => {
                let server = Sshd::start(room)?;
                let flags = vec!["--identity".to_owned(), display(&server.identity)];
                Self { address: server.url(target), flags, programs: Some(server.programs.clone()), _server: Box::new(server) }
            }
        })
    }
}

/// A source and a mirror of it that is kept by a running daemon.
pub struct Site<'a> {
    /// Where everything is.
    pub room: &'a Room,
    /// The source.
    pub source: PathBuf,
    /// The directory that the target's address means.
    pub target: PathBuf,
    /// The daemon.
    pub mirror: Mirror<'a>,
    _served: Served,
}

impl<'a> Site<'a> {
    /// Starts a daemon between the room's `source`, with whatever is in it already, and its `target`. The guard on deletions is off.
    pub fn start(room: &'a Room, kind: Kind) -> Result<Self, Cause> {
        let (source, target) = (room.source(), room.target());
        let served = Served::start(room, kind, &target)?;
        let mut launch = Launch::flags(room, &source, &[&served.address]).and(["--max-delete", "100%"]).and(&served.flags);
        if let Some(programs) = &served.programs {
            launch = launch.path_first(programs);
        }
        Ok(Self { room, source, target, mirror: launch.start(), _served: served })
    }

    /// Flushes and compares.
    #[track_caller]
    pub fn arrived(&self, what: &str) {
        let outcome = self.mirror.flush_within(crate::mirror::ARRIVAL);
        assert!(outcome.code == 0, "{what}: flush failed: {outcome}");
        compare::assert_equal_for(&self.source, &self.target, what);
    }
}

/// The tests of one kind of target, one `#[test]` for each.
#[macro_export]
macro_rules! every_change_arrives {
    ($kind:expr) => {
        $crate::every_change_arrives! {
            $kind,
            contents, renames, deletions, types, metadata, hostile_names, a_file_that_stays_open, five_thousand_files,
            the_root_itself, what_was_there_before,
        }
    };
    ($kind:expr, $($name:ident,)*) => {
        $(#[test]
        fn $name() {
            $crate::site_tests::run($kind, $crate::site_tests::$name);
        })*
    };
}
