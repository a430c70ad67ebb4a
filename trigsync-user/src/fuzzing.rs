//! Everything that reads bytes from outside, each as a function of any bytes that must come to an end without a panic.
//!
//! What is accepted is held against what the rest of the program relies on: no path leads out of a root, and what is written is read again
//! as the same. The targets of `cargo xtask fuzz` are these functions, and so is the test that goes through the corpus.

use std::{fs, path::Path, sync::LazyLock};

use rusqlite::{Connection, params};

use crate::{
    capture::{
        ebpf::{
            self,
            layout::{Capabilities, Functions, Types, resolve},
        },
        fanotify,
    },
    config::{Config, Filter, Overrides, RawConfig, foreign::Imported, lsyncd, sersync},
    control::{Request, Response},
    journal::{NAME, Store},
    model::{RelPath, RelPathBuf},
    rsync::{self, Route},
};

/// Reads any bytes.
pub type Reader = fn(&[u8]);

/// Every reader, by the name of its target and of its corpus.
pub const TARGETS: [(&str, Reader); 10] = [
    ("kernel_records", kernel_records),
    ("fanotify_records", fanotify_records),
    ("btf", btf),
    ("toml", toml),
    ("xml", xml),
    ("lua", lua),
    ("filter", filter),
    ("rsync_output", rsync_output),
    ("journal", journal),
    ("control", control),
];

/// A record of the eBPF programs, and an entry of the map of lost directories.
pub fn kernel_records(bytes: &[u8]) {
    ebpf::fuzz_records(bytes);
}

/// What one `read` of a fanotify group returned.
pub fn fanotify_records(bytes: &[u8]) {
    fanotify::fuzz_records(bytes);
}

/// Kernel type information, and all that is looked up in it.
pub fn btf(bytes: &[u8]) {
    let Ok(types) = Types::parse(bytes) else { return };
    // That the kernel lacks something is an answer.
    let _ = resolve("6.0.0", &types, &Functions::recorded(&types), Capabilities::all());
}

/// A configuration. What is accepted goes to another process and is the same there.
pub fn toml(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(config) = RawConfig::parse(text, Path::new("/etc/trigsync.toml")) {
        survives(&config);
        let _ = config.with_overrides(&Overrides::default());
    }
}

/// sersync's configuration.
pub fn xml(bytes: &[u8]) {
    let file = Path::new("/etc/confxml.xml");
    for imported in [sersync::parse(bytes, file), sersync::parse_plugin(bytes, file, "command")].into_iter().flatten() {
        is_written(&imported);
    }
}

/// lsyncd's configuration: a program.
pub fn lua(bytes: &[u8]) {
    if let Ok(imported) = lsyncd::parse(bytes, Path::new("/etc/lsyncd.conf.lua")) {
        is_written(&imported);
    }
}

/// What is imported is the same in another process, and its TOML is read.
fn is_written(imported: &Imported) {
    survives(&imported.raw);
    if let Ok(text) = imported.to_toml() {
        RawConfig::parse(&text, Path::new("/etc/trigsync.toml")).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
}

fn survives(config: &RawConfig) {
    let written = serde_json::to_string(config).expect("a configuration can be written");
    assert_eq!(serde_json::from_str::<RawConfig>(&written).expect("it is what was written"), *config);
}

/// Patterns, one a line; the last line is a path that they are held against.
pub fn filter(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let path = lines.pop().unwrap_or_default();
    let (Ok(filter), Ok(path)) = (Filter::new(&lines), RelPathBuf::new(path.into_bytes())) else { return };
    for directory in [false, true] {
        assert!(filter.excludes(&path, directory) || !filter.excludes_in_kept(&path, directory));
    }
    assert!(!filter.excludes(RelPath::root(), true), "the root is never left out");
    assert!(filter.rsync_rules().iter().all(|rule| !rule.contains('\0')));
}

/// The exit code of an rsync, and what it printed.
pub fn rsync_output(bytes: &[u8]) {
    static CONFIG: LazyLock<Config> = LazyLock::new(|| {
        let raw = RawConfig::from_flags(Path::new("/etc"), &["rsync://user@host/module/path".to_owned()]);
        raw.and_then(|raw| raw.resolve(&Overrides::default(), Path::new("/nowhere"))).expect("it is right")
    });
    let sync = &CONFIG.syncs[0];
    rsync::fuzz(&Route { source: &sync.source, filter: &sync.filter, cross_mounts: false, keep: false, target: &sync.targets[0] }, bytes);
}

/// A journal that was written by somebody else, as a whole, and in its values.
pub fn journal(bytes: &[u8]) {
    let place = tempfile::tempdir().expect("a directory for temporary files");
    let file = place.path().join(NAME);
    fs::write(&file, bytes).expect("room for a small file");
    let (_, left) = Store::open(place.path()).expect("what cannot be used is set aside");
    // Set aside, or right.
    assert!(left.set_aside().is_some() || Store::read_only(place.path()).is_ok());
    drop(left);
    let Ok(connection) = Connection::open(&file) else { return };
    let lane = "INSERT INTO lane (sync, target, source, meaning, audit_began, audit_after) VALUES (?1, ?2, ?3, ?2, ?4, ?3)";
    let text = String::from_utf8_lossy(bytes);
    let number = bytes.first_chunk().map_or(0, |bytes| i64::from_ne_bytes(*bytes));
    let mark = "INSERT INTO mark (lane, path, scope, since) VALUES (1, ?1, ?2, ?3)";
    let reached = "INSERT INTO reached (only, boot, clean, until, uptime, ring, read, told) VALUES (0, ?1, 1, ?2, ?2, ?2, ?2, ?2)";
    let written = [
        connection.execute(lane, params!["sync", text, bytes, number]),
        connection.execute(mark, params![bytes, number % 4, number]),
        connection.execute(reached, params![text, number]),
    ];
    drop(connection);
    let (_, left) = Store::open(place.path()).expect("what cannot be used is set aside");
    let marks = left.of("sync", &text).into_iter().flat_map(|lane| lane.marks());
    for mark in marks {
        assert!(written[1].is_ok() && RelPathBuf::new(mark.path.as_bytes().to_vec()).is_ok());
    }
}

/// A line of the control socket, from either side.
pub fn control(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        let line = serde_json::to_vec(&request).expect("a request can be written");
        serde_json::from_slice::<Request>(&line).expect("it is what was written");
        if let Request::Mark { paths, .. } = request {
            assert!(paths.into_iter().all(|path| RelPathBuf::new(path.as_bytes().to_vec()).is_ok()));
        }
    }
    if let Ok(response) = serde_json::from_slice::<Response>(bytes) {
        serde_json::to_vec(&response).expect("an answer can be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was found once, and what is worth beginning with.
    #[test]
    fn every_file_of_the_corpus_is_read() {
        for (name, read) in TARGETS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
            let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
            let mut count = 0;
            for file in files {
                read(&fs::read(file.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "{name} has no corpus");
        }
    }
}
