//! Configurations as operators write them: what they come to, and what is said about those that are wrong.

use std::{fs, num::NonZeroU32, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use trigsync::{
    config::{AuditConfig, Backend, Config, ConfigError, Filter, Overrides, RawConfig, Schedule, TargetAddress, Times},
    model::RelPath,
};

/// A directory with the sources, targets and files that the configurations name.
fn fixture() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["www", "other", "state/www", "mirror"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    std::os::unix::fs::symlink("www", at("link")).unwrap();
    for (name, mode) in [("backup.pass", 0o600), ("open.pass", 0o644), ("id_ed25519", 0o600)] {
        fs::write(at(name), "secret\n").unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    directory
}

fn resolve(directory: &Path, text: &str, overrides: &Overrides) -> Result<Config, ConfigError> {
    let text = text.replace("$DIR", directory.to_str().unwrap());
    RawConfig::parse(&text, &directory.join("trigsync.toml"))?.resolve(overrides, &directory.join("state"))
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    let directory = fixture();
    let here = directory.path().to_str().unwrap();
    for case in include_str!("config/errors.txt").split("=== ").filter(|case| !case.is_empty()) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (text, expected) = rest.split_once("--- ").unwrap();
        let error = resolve(directory.path(), text, &Overrides::default()).expect_err(title).to_string();
        let shown = error.replace(&format!("{here}/trigsync.toml"), "FILE").replace(here, "$DIR");
        let (start, end) = expected.trim_end().split_once("???").unwrap_or((expected.trim_end(), ""));
        let fits = if expected.contains("???") { shown.starts_with(start) && shown.ends_with(end) } else { shown == start };
        assert!(fits, "{title}\n got: {shown}\nwant: {expected}");
        assert!(!shown.contains('\n'), "{title}: {shown}");
    }
}

#[test]
fn the_documented_example_resolves() {
    let directory = fixture();
    let config = resolve(directory.path(), include_str!("config/spec.toml"), &Overrides::default()).unwrap();
    assert_eq!((config.daemon.memory, config.daemon.metrics), (256 << 20, Some("127.0.0.1:9309".parse().unwrap())));
    assert_eq!(config.daemon.on_state_change, ["/usr/local/bin/tell", "--mirror"]);
    assert_eq!(config.daemon.control_group, Some(0));
    assert_eq!(config.daemon.fail_log, Some(directory.path().join("trigsync.failures")));
    let sync = &config.syncs[0];
    assert_eq!((sync.name.as_str(), sync.canary), ("www", Some(Duration::from_secs(60))));
    assert_eq!(*sync.filter, Filter::new(&["*.tmp", "/cache/", "!keep.tmp"].map(str::to_owned)).unwrap());
    assert_eq!((sync.guards.max_delete_floor, sync.retry_max), (1000, Some(Duration::from_secs(3600))));
    let day = Duration::from_secs(24 * 3600);
    let window = Some("22:00-04:30".parse().unwrap());
    assert_eq!(sync.audit, Some(AuditConfig { every: day, names: 100, bytes: 1 << 20, share: 0.05, window, checksum: true }));
    let times = Times::Cron("30 3 * * 0".parse().unwrap());
    let window = Some("02:00-06:00".parse().unwrap());
    assert_eq!(sync.full_pass, Some(Schedule { times, jitter: Duration::from_secs(600), window }));
    let names: Vec<_> = sync.targets.iter().map(|target| target.name.replace(directory.path().to_str().unwrap(), "$DIR")).collect();
    assert_eq!(names, ["rsync://web@backup/www", "$DIR/mirror", "edge1", "rsync://web@backup2/www"]);
    let plugins: Vec<_> = sync.plugins.iter().map(|plugin| (plugin.name.as_str(), plugin.action.kind(), plugin.batch)).collect();
    assert_eq!(plugins, [("list", "exec", 500), ("feed", "tcp", 1000), ("hook", "http", 1), ("cdn", "purge", 30)]);
    let list = &sync.plugins[0];
    assert_eq!((list.after.as_deref(), list.rate.map(NonZeroU32::get), list.attempts.get()), (Some("edge1"), Some(2), 3));
    assert_eq!((list.timeout, list.memory, list.paths.whole, list.absolute), (Duration::from_secs(60), 1 << 20, true, false));
    assert!(sync.written_here, "a program may write into the source");
    let edge = &sync.targets[2];
    assert_eq!(edge.address.to_string(), "ssh://deploy@edge1:2222/srv/www");
    assert_eq!(edge.identity, Some(directory.path().join("id_ed25519")));
    let inplace = |path: &str, size| edge.inplace.takes(RelPath::new(path.as_bytes()).unwrap(), size);
    assert!(inplace("vm/a.qcow2", 1) && inplace("db/deep/table", 1) && inplace("other", 10 << 30));
    assert!(!inplace("other", (10 << 30) - 1) && !inplace("vm/db/table", 1));
    assert_eq!((edge.options.as_slice(), edge.bandwidth_limit.as_deref()), (&["--acls".to_owned()][..], Some("10m")));
}

#[test]
fn the_least_that_can_be_written_gets_the_defaults() {
    let directory = fixture();
    let config = resolve(directory.path(), "[[sync]]\nsource = 'link'\ntargets = ['new/deep']\n", &Overrides::default()).unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    assert_eq!(config.daemon.backend, Backend::Auto);
    assert_eq!((config.daemon.unlimited_queue, config.daemon.stop_timeout), (true, Duration::from_secs(10)));
    assert_eq!(config.daemon.memory, 512 << 20);
    assert!(config.daemon.metrics.is_none() && config.daemon.on_state_change.is_empty() && config.daemon.fail_log.is_none());
    assert_eq!(config.daemon.rsync, Path::new("rsync"));
    let [sync] = &config.syncs[..] else { panic!("{config:?}") };
    assert_eq!((sync.name.as_str(), &sync.source), ("www", &root.join("www")));
    assert!(
        sync.filter.is_empty()
            && !sync.cross_mounts
            && sync.canary.is_none()
            && sync.full_pass.is_none()
            && sync.retry_max.is_none()
            && config.daemon.control_group.is_none()
    );
    assert_eq!((sync.settle.finished, sync.settle.quiet), (Duration::from_millis(5), Duration::from_millis(20)));
    assert_eq!(sync.settle.max_age, Duration::from_secs(1));
    assert_eq!((sync.batch.paths, sync.batch.bytes), (50_000, 1 << 30));
    assert_eq!((sync.guards.max_delete, sync.guards.max_delete_floor), (0.5, 1000));
    let audit = sync.audit.as_ref().unwrap();
    assert_eq!((audit.every, audit.names, audit.share), (Duration::from_secs(7 * 24 * 3600), 500, 0.1));
    assert!(audit.window.is_none() && !audit.checksum);
    let text = "[[sync]]\nsource = 'link'\ntargets = ['new/deep']\naudit = false\n";
    assert_eq!(resolve(directory.path(), text, &Overrides::default()).unwrap().syncs[0].audit, None);
    let target = &sync.targets[0];
    assert_eq!(target.address, TargetAddress::Local(root.join("new/deep")));
    assert_eq!((target.connections.get(), target.warm), (2, 1));
    assert!(!target.inplace.takes(RelPath::new(b"any").unwrap(), u64::MAX));
    assert_eq!((target.timeout, target.modify_window), (Duration::from_secs(60), -1));

    let guarded =
        resolve(directory.path(), "[[sync]]\nsource = 'www'\ntargets = ['m']\nmax_delete = '10%'\n", &Overrides::default()).unwrap();
    assert_eq!((guarded.syncs[0].guards.max_delete, guarded.syncs[0].guards.max_delete_floor), (0.1, 0));
}

#[test]
fn a_sync_may_have_plugins_and_no_targets() {
    let directory = fixture();
    let plugin = "[[sync.plugin]]\nname = 'p'\nkind = 'exec'\ncommand = ['x']\n";
    let alone = format!("[[sync]]\nsource = 'www'\nexclude = ['*.tmp']\n{plugin}");
    let config = resolve(directory.path(), &alone, &Overrides::default()).unwrap();
    let sync = &config.syncs[0];
    assert!(sync.targets.is_empty() && sync.plugins.len() == 1 && sync.written_here && sync.canary.is_none());
    // What the command line says of targets is for those that there are.
    let overrides = Overrides { max_delete: Some("10%".into()), connections: Some(3), ..Overrides::default() };
    let error = resolve(directory.path(), &alone, &overrides).unwrap_err().to_string();
    assert_eq!(error, "--max-delete: no sync has a target, so nothing is deleted (leave it out)");
    let beside = format!("{alone}[[sync]]\nsource = 'other'\ntargets = ['mirror']\n");
    let config = resolve(directory.path(), &beside, &overrides).unwrap();
    assert_eq!(config.syncs.iter().map(|sync| sync.guards.max_delete).collect::<Vec<_>>(), [0.5, 0.1]);
}

#[test]
fn flags_alone_and_on_top() {
    let directory = fixture();
    let at = |name: &str| directory.path().join(name);
    let flags = RawConfig::from_flags(&at("www"), &["rsync://web@backup/www".into(), at("mirror").to_str().unwrap().into()]).unwrap();
    let overrides = Overrides {
        backend: Some(Backend::EbpfKprobe),
        btf: Some(at("backup.pass")),
        exclude: vec!["*.tmp".into()],
        include: vec!["keep.tmp".into()],
        max_delete: Some("20".into()),
        password_file: Some(at("backup.pass")),
        identity: None,
        rsync_options: vec!["--acls".into()],
        bandwidth_limit: Some("5m".into()),
        connections: Some(1),
    };
    let config = flags.clone().resolve(&overrides, &at("state")).unwrap();
    assert_eq!(config.daemon.backend, Backend::EbpfKprobe);
    assert_eq!(config.daemon.btf, Some(at("backup.pass")));
    let sync = &config.syncs[0];
    assert_eq!(sync.filter.patterns(), ["*.tmp", "!keep.tmp"]);
    assert_eq!((sync.guards.max_delete, sync.guards.max_delete_floor), (0.2, 0));
    assert_eq!(sync.targets[0].password_file, Some(at("backup.pass")));
    assert_eq!(sync.targets[1].password_file, None);
    assert!(sync.targets.iter().all(|target| (target.connections.get(), target.warm) == (1, 0) && target.options == ["--acls"]));

    let wrong = |overrides: Overrides| flags.clone().resolve(&overrides, &at("state")).unwrap_err().to_string();
    assert_eq!(wrong(Overrides { connections: Some(0), ..Overrides::default() }), "--connections: is 0 (write at least 1)");
    assert_eq!(
        wrong(Overrides { identity: Some("x".into()), ..Overrides::default() }),
        "--identity: no target is reached over ssh (for rsync daemons use --password-file)"
    );
    assert_eq!(
        wrong(Overrides { rsync_options: vec!["-n".into()], ..Overrides::default() }),
        "--rsync-option: `-n` cannot be used: nothing would reach the target"
    );
    let inside = RawConfig::from_flags(&at("www"), &[at("www/x").to_str().unwrap().into()]).unwrap();
    assert_eq!(
        inside.resolve(&Overrides::default(), &at("state")).unwrap_err().to_string(),
        "--target: lies inside --source: it would be mirrored into itself (choose a place outside)"
    );
}

#[test]
fn another_process_resolves_the_same_from_json() {
    let directory = fixture();
    let text = include_str!("config/spec.toml").replace("$DIR", directory.path().to_str().unwrap());
    let raw = RawConfig::parse(&text, &directory.path().join("trigsync.toml"))
        .unwrap()
        .with_overrides(&Overrides { exclude: vec!["x".into()], ..Overrides::default() })
        .unwrap();
    let sent: RawConfig = serde_json::from_str(&serde_json::to_string(&raw).unwrap()).unwrap();
    assert_eq!(sent, raw);
    let state = directory.path().join("state");
    assert_eq!(sent.resolve(&Overrides::default(), &state).unwrap(), raw.resolve(&Overrides::default(), &state).unwrap());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = RawConfig::read(Path::new("/nowhere/trigsync.toml")).unwrap_err().to_string();
    assert_eq!(
        error,
        "/nowhere/trigsync.toml: cannot be read: No such file or directory (os error 2) (name a readable file with --config)"
    );
}

#[test]
fn the_readmes_examples_are_accepted() {
    let directory = fixture();
    let readme = include_str!("../../README.md");
    let examples: Vec<_> = readme.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    let targets = [2, 2, 2, 0];
    assert_eq!(examples.len(), targets.len());
    for (example, targets) in examples.into_iter().zip(targets) {
        let sync = if example.starts_with("[[sync.plugin]]") { "[[sync]]\nsource = \"/srv/www\"\ntargets = ['a', 'b']\n" } else { "" };
        let text =
            format!("{sync}{example}").replace("/srv/www\"", "$DIR/www\"").replace("/mnt/", "$DIR/").replace("/etc/trigsync/", "$DIR/");
        let text = text.replace("2222$DIR/www", "2222/srv/www");
        let config = resolve(directory.path(), &text, &Overrides::default()).unwrap_or_else(|error| panic!("{error}\nin\n{text}"));
        assert_eq!(config.syncs[0].name, "www");
        assert_eq!(config.syncs[0].targets.len(), targets);
    }
}

#[test]
fn every_backend_has_its_name() {
    let directory = fixture();
    for (name, backend) in
        [("auto", Backend::Auto), ("ebpf", Backend::Ebpf), ("ebpf-kprobe", Backend::EbpfKprobe), ("fanotify", Backend::Fanotify)]
    {
        let text = format!("backend = '{name}'\nbtf = 'backup.pass'\n[[sync]]\nsource = 'www'\ntargets = ['m']\n");
        let daemon = resolve(directory.path(), &text, &Overrides::default()).unwrap().daemon;
        assert_eq!((daemon.backend, daemon.backend.to_string()), (backend, name.to_owned()));
        assert_eq!(daemon.btf, Some(directory.path().join("backup.pass")));
    }
}

#[test]
fn a_state_directory_inside_a_source_is_left_alone() {
    let directory = fixture();
    let state = directory.path().join("www/va[r]/st*te");
    let text = "[[sync]]\nsource = \"$DIR/www\"\ntargets = [\"$DIR/mirror\"]\ninclude = [\"control.sock\"]\n";
    let text = text.replace("$DIR", directory.path().to_str().unwrap());
    let config = RawConfig::parse(&text, &directory.path().join("trigsync.toml")).unwrap().resolve(&Overrides::default(), &state).unwrap();
    let filter = &config.syncs[0].filter;
    let excludes = |path: &str| filter.excludes(RelPath::new(path.as_bytes()).unwrap(), false);
    assert!(excludes("va[r]/st*te/control.sock"));
    assert!(!excludes("var/state/control.sock") && !excludes("va[r]/other"));
}

#[test]
fn a_file_of_failures_may_lie_where_nothing_is_mirrored() {
    let directory = fixture();
    let text = "fail_log = 'www/logs/failures'\n[[sync]]\nsource = 'www'\ntargets = ['mirror']\nexclude = ['/logs/']\n";
    let config = resolve(directory.path(), text, &Overrides::default()).unwrap();
    assert_eq!(config.daemon.fail_log, Some(directory.path().join("www/logs/failures")));
}
