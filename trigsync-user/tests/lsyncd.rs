//! lsyncd's configuration: what each file of `tests/lsyncd` comes to, as a table that `TRIGSYNC_RENEW=1` writes anew, and what no program
//! may do.

mod imported;

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use trigsync::config::{
    self, Config, ConfigError, Overrides, RawConfig,
    foreign::{Imported, NoteKind},
    lsyncd,
};

const FILES: &str = "tests/lsyncd";
const EXPECTED: &str = "tests/lsyncd/expected.txt";

/// What the configurations name.
fn fixture() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["www", "other", "deep/www"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for name in ["rsync.pas", "id_ed25519"] {
        fs::write(at(name), "secret\n").unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    for name in ["exclude.txt", "filter.txt"] {
        fs::copy(Path::new(FILES).join(name), at(name)).unwrap();
    }
    directory
}

/// Every file, by its name.
fn files() -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(FILES)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "lua"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn import(directory: &Path, text: &str) -> Result<Imported, ConfigError> {
    lsyncd::parse(text.replace("$DIR", directory.to_str().unwrap()).as_bytes(), &directory.join("lsyncd.conf.lua"))
}

fn resolve(directory: &Path, raw: RawConfig) -> Result<Config, ConfigError> {
    raw.resolve(&Overrides::default(), &directory.join("state"))
}

fn without_directory(directory: &Path, text: &str) -> String {
    text.replace(&format!("{}/lsyncd.conf.lua", directory.display()), "FILE").replace(directory.to_str().unwrap(), "$DIR")
}

/// What is not as for a configuration that says only from where and to where.
fn effective(config: &Config) -> String {
    let mut out = format!("rsync {}\n", config.daemon.rsync.display());
    for sync in &config.syncs {
        let settle = sync.settle;
        _ = writeln!(
            out,
            "sync {} of {}, cross_mounts = {}, settle {:?} {:?} {:?}",
            sync.name,
            sync.source.display(),
            sync.cross_mounts,
            settle.finished,
            settle.quiet,
            settle.max_age
        );
        out.push_str(&imported::of_sync(sync));
        for target in &sync.targets {
            assert_eq!(target.name.parse(), Ok(target.address.clone()));
            _ = write!(out, "  target {}, {} at once, timeout {:?}", target.address, target.connections, target.timeout);
            for (what, file) in [("password", &target.password_file), ("identity", &target.identity)] {
                if let Some(file) = file {
                    _ = write!(out, ", {what} {}", file.display());
                }
            }
            if let Some(limit) = &target.bandwidth_limit {
                _ = write!(out, ", limit {limit}");
            }
            _ = writeln!(out, "\n    options {:?}", target.options);
        }
    }
    out
}

fn shown(directory: &Path, name: &str, text: &str) -> String {
    let imported = import(directory, text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let config = resolve(directory, imported.raw.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut out = format!("=== {name}\n{}", effective(&config));
    for note in &imported.notes {
        let kind = match note.kind {
            NoteKind::Warning => "warning",
            NoteKind::Difference => "differs",
        };
        let line = note.to_string();
        // What is so whatever the file says stands in the table once.
        if !line.contains(": lsyncd: ") || name == "one_directory.lua" {
            _ = writeln!(out, "  {kind}: {line}");
        }
    }
    without_directory(directory, &out)
}

#[test]
fn every_file_comes_to_what_the_table_says() {
    let directory = fixture();
    let files = files();
    assert!(files.len() >= 11, "{}", files.len());
    let found: String = files.iter().map(|(name, text)| shown(directory.path(), name, text)).collect();
    if std::env::var_os("TRIGSYNC_RENEW").is_some() {
        fs::write(EXPECTED, &found).unwrap();
    }
    let expected = fs::read_to_string(EXPECTED).unwrap();
    for (found, expected) in found.split_inclusive("\n=== ").zip(expected.split_inclusive("\n=== ")) {
        assert_eq!(found, expected, "TRIGSYNC_RENEW=1 writes {EXPECTED} anew");
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn what_is_imported_resolves_to_the_same() {
    let directory = fixture();
    for (name, text) in files() {
        let imported = import(directory.path(), &text).unwrap();
        let config = resolve(directory.path(), imported.raw.clone()).unwrap();
        let toml = imported.to_toml().unwrap();
        let again = RawConfig::parse(&toml, &directory.path().join("elsewhere/trigsync.toml"))
            .and_then(|raw| resolve(directory.path(), raw))
            .unwrap_or_else(|error| panic!("{name}: {error}\n{toml}"));
        assert_eq!(again, config, "{name}\n{toml}");
    }
}

#[test]
fn the_toml_says_where_each_value_comes_from() {
    let directory = fixture();
    let text = fs::read_to_string(Path::new(FILES).join("over_ssh.lua")).unwrap();
    let toml = without_directory(directory.path(), &import(directory.path(), &text).unwrap().to_toml().unwrap());
    if std::env::var_os("TRIGSYNC_RENEW").is_some() {
        fs::write("tests/lsyncd/imported.toml", &toml).unwrap();
    }
    assert_eq!(toml, fs::read_to_string("tests/lsyncd/imported.toml").unwrap());
}

#[test]
fn content_decides_whose_configuration_it_is() {
    let directory = fixture();
    let file = directory.path().join("confxml.xml");
    let lua = "sync{default.rsync, source = '$DIR/www', target = '$DIR/mirror'}".replace("$DIR", directory.path().to_str().unwrap());
    for text in [lua.clone(), format!("\u{feff}{lua}"), format!("#!/usr/bin/lsyncd\n{lua}")] {
        fs::write(&file, text).unwrap();
        assert_eq!(config::import(&file).unwrap().program, "lsyncd");
    }
    let lua_file = directory.path().join("a.lua");
    fs::write(&lua_file, &lua).unwrap();
    let error = RawConfig::read(&lua_file).unwrap_err().to_string();
    assert!(error.ends_with("a.lua: is not TOML; if it is lsyncd's, import it (trigsync import FILE > trigsync.toml)"), "{error}");
    let xml = include_str!("sersync/shipped.xml");
    let file = directory.path().join("lsyncd.conf.lua");
    fs::write(&file, xml.replace("$DIR", directory.path().to_str().unwrap())).unwrap();
    assert_eq!(config::import(&file).unwrap().program, "sersync");
}

/// A good sync, with something more in it.
fn with(more: &str) -> String {
    format!("sync{{default.rsync, source = '$DIR/www', target = '/mirror', {more}}}")
}

#[test]
fn what_cannot_be_imported_is_refused_with_its_place() {
    let directory = fixture();
    let ssh = |more: &str| format!("\nsync{{default.rsyncssh, source = '$DIR/www', host = 'h', targetdir = '/t', {more}}}");
    let refused = [
        (
            "sync{default.rsync source = 1}",
            "FILE:1: is not Lua: '}' expected near 'source' (name lsyncd's configuration, or sersync's confxml.xml)",
        ),
        (
            "[[sync]]\nsource = '/srv'\n",
            "FILE:1: is not Lua: unexpected symbol near '[[sync]]' (name lsyncd's configuration, or sersync's confxml.xml)",
        ),
        (
            "\u{1b}Lua",
            "FILE: is not Lua: attempt to load a binary chunk (mode is 't') (name lsyncd's configuration, or sersync's confxml.xml)",
        ),
        ("local x = nil\n\nx.y = 1", "FILE:3: attempt to index a nil value (local 'x')"),
        ("error('no such host\\nhere')", "FILE:1: no such host here"),
        ("error('plain', 0)", "FILE: plain"),
        ("-- nothing", "FILE: has no sync{} (name lsyncd's configuration, or sersync's confxml.xml)"),
        ("sync 'www'", "FILE:1: sync: wants a table (write sync{ … })"),
        ("\nsettings(1)", "FILE:2: settings: wants a table (write settings{ … })"),
        ("settings{logFile = 'x'}", "FILE:1: settings.logFile: is no setting of lsyncd's (did you mean `logfile`?)"),
        (
            "sync{source = '$DIR/www', target = '/mirror'}",
            "FILE:1: sync: rests on none of default.rsync, default.rsyncssh and default.direct (leave this sync to lsyncd)",
        ),
        (
            "local bash = {\n  onCreate = 'cp -r ^sourcePathname ^targetPathname',\n}\nsync{bash, source = '$DIR/www', target = '/mirror'}",
            "FILE:4: sync.onCreate: is a command of your own, and trigsync runs nothing but rsync (take it out, or leave this sync to lsyncd)",
        ),
        (
            "sync{default.rsync, source = '$DIR/www', target = '/mirror',\n  onStartup = function(event) end}",
            "FILE:1: sync.onStartup: is a function of your own, in line 2, and trigsync runs nothing but rsync (take it out, or leave this sync \
             to lsyncd)",
        ),
        (
            "default.rsync.action = function(inlet)\nend\nsync{default.rsync, source = '$DIR/www', target = '/mirror'}",
            "FILE:3: sync.action: is a function of your own, in line 1, and trigsync runs nothing but rsync (take it out, or leave this sync to \
             lsyncd)",
        ),
        (
            &with("init = function(event) default.rsync.init(event) end"),
            "FILE:1: sync.init: is a function of your own, in line 1, and trigsync runs nothing but rsync (take it out, or leave this sync to lsyncd)",
        ),
        (
            &with("tunnel = tunnel{command = {'ssh', '-N'}}"),
            "FILE:1: sync.tunnel: is not opened by trigsync (run it as a service of its own, and leave tunnel = out)",
        ),
        (
            &with("delete = 'running'"),
            "FILE:1: sync.delete: keeps at the target only what it has beside the source when lsyncd starts, which trigsync cannot (write true, \
             or false to keep everything)",
        ),
        (&with("delete = 'never'"), "FILE:1: sync.delete: is none of true, false, \"startup\" and \"running\""),
        (&with("exlude = {'x'}"), "FILE:1: sync.exlude: is no key of lsyncd's (did you mean `exclude`?)"),
        (&with("host = 'h'"), "FILE:1: sync.host: is no key of lsyncd's (take it out)"),
        (
            &with("exclude = {key = 'x'}"),
            "FILE:1: sync.exclude: has a key `key`, where only texts in a row count (write them without keys)",
        ),
        (&with("exclude = {function() end}"), "FILE:1: sync.exclude: is a function, not text"),
        (
            &with("exclude = {'a/**/b'}"),
            "FILE:1: sync.exclude: the pattern `a/**/b` has a `**` (write it without: `a/b` is any `b` in any `a`)",
        ),
        (
            &with("excludeFrom = '/dev/zero'"),
            "FILE:1: sync.excludeFrom: `/dev/zero` is no file that can be read (name one, or write its patterns with exclude =)",
        ),
        (
            &with("filter = {'merge x'}"),
            "FILE:1: sync.filter: `merge x` is no rule that can be imported (write `- PATTERN` or `+ PATTERN`)",
        ),
        (&with("delay = '5'"), "FILE:1: sync.delay: is text, not a number"),
        (&with("delay = -1"), "FILE:1: sync.delay: -1 is no number of seconds"),
        (&with("delay = 0/0"), "FILE:1: sync.delay: NaN is no number of seconds"),
        (&with("maxProcesses = 0.5"), "FILE:1: sync.maxProcesses: 0.5 is no number of processes (write at least 1)"),
        (&with("rsync = true"), "FILE:1: sync.rsync: is true or false, not a table"),
        (&with("rsync = {binary = '~/rsync'}"), "FILE:1: rsync.binary: `~/rsync` is no program (write the whole path)"),
        (&with("rsync = {timeout = 1e10}"), "FILE:1: rsync.timeout: `10000000000` is no number of seconds"),
        (&with("'archive'"), "FILE:1: sync: holds `archive` without a key (write KEY = VALUE)"),
        (&with("rsync = {'archive'}"), "FILE:1: rsync: holds `archive` without a key (write KEY = VALUE)"),
        (&with("layer = 1"), "FILE:1: sync.layer: is no key of lsyncd's (take it out)"),
        (
            &with("rsyncOps = '-a', rsync = {archive = true}"),
            "FILE:1: sync.rsyncOps: stands beside rsync = { … }, which takes its place (leave one out)",
        ),
        ("settings{5} sync{default.rsync}", "FILE:1: settings.[a number]: is no setting of lsyncd's (take it out)"),
        (&with("rsync = {recursive = true}"), "FILE:1: rsync.recursive: is no key of lsyncd's (take it out)"),
        (
            &with("rsync = {dry_run = true}"),
            "FILE:1: rsync.dry_run: `-n` cannot be used (nothing would reach the target), nor left out without harm to the target (take it out \
             yourself)",
        ),
        (
            &with("rsync = {_extra = {'--include=*.c'}}"),
            "FILE:1: rsync._extra: `--include=*.c` cannot be used (write exclude = or include =, which hold for events and deletions too), nor \
             left out without harm to the target (take it out yourself)",
        ),
        (
            &with("rsync = {bwlimit = 'fast'}"),
            "FILE:1: rsync.bwlimit: `fast` is no bandwidth for rsync (write KiB a second, or a number with its unit, as \"10m\")",
        ),
        ("sync{default.rsync, target = '/mirror'}", "FILE:1: sync.source: is missing (write the directory to mirror)"),
        ("sync{default.rsync, source = '$DIR/www'}", "FILE:1: sync.target: is missing (write the place to write to)"),
        (
            "sync{default.direct, source = '$DIR/www', target = 'web1:/srv'}",
            "FILE:1: sync.target: is on another machine, where default.direct cannot write (use default.rsync)",
        ),
        (
            "sync{default.rsync, source = '$DIR/www', target = 'web1:~bob/x'}",
            "FILE:1: sync.target: `web1:~bob/x` is in somebody else's home directory, which only a shell finds (write the whole path)",
        ),
        (
            "sync{default.rsync, source = '$DIR/www', target = 'web1:x', rsync = {rsh = 'ssh -p 23'}}",
            "FILE:1: sync.target: `web1:x` is below the home directory, which no address with a port can be (write the whole path, or the port \
             into ssh's own configuration)",
        ),
        (
            "sync{default.rsync, source = '$DIR/www', target = 'web1:/x', rsync = {rsh = 'sshpass -p secret ssh'}}",
            "FILE:1: rsync.rsh: runs `sshpass`, and trigsync reaches hosts by ssh alone (write ssh, with a key: identity =)",
        ),
        (
            "sync{default.rsync, source = '$DIR/www', target = 'web1::module', rsync = {rsh = 'ssh'}}",
            "FILE:1: rsync.rsh: reaches an rsync daemon through a remote shell, which trigsync cannot (write HOST:PATH, or leave this sync to lsyncd)",
        ),
        (&ssh("ssh = {port = 'x'}"), "FILE:2: ssh.port: `x` is no port (write a number from 1 to 65535)"),
        (&ssh("ssh = {options = {'Port=1'}}"), "FILE:2: options: holds `Port=1` without a key (write KEY = VALUE)"),
        (&ssh("ssh = {_extra = {'host'}}"), "FILE:2: ssh._extra: `host` is no option of ssh's (take it out)"),
        (&ssh("ssh = {identityFile = '~/.ssh/id'}"), "FILE:2: ssh.identityFile: `~/.ssh/id` begins with `~` (write the whole path)"),
        (&ssh("ssh = {_extra = {'-l', '-oProxyCommand=x'}}"), "FILE:2: sync.targetdir: `h:/t` has an unusable user name before the `@`"),
        (&ssh("target = '/x'"), "FILE:2: sync.target: is no key of lsyncd's (did you mean `targetdir`?)"),
    ];
    for (text, expected) in refused {
        let error = import(directory.path(), text).expect_err(text);
        assert_eq!(without_directory(directory.path(), &error.to_string()), expected, "{text}");
    }
}

#[test]
fn a_hostile_program_ends_in_an_error() {
    let directory = fixture();
    let absent =
        |name: &str| format!("FILE:1: `{name}` cannot be used: an import runs nothing and reads no other file (write out what it gives)");
    let endless = "FILE:1: does not end: 20 million steps of Lua were made up to here (write plain tables)".to_owned();
    let memory = "FILE: takes more than 64 MiB of memory in Lua (write plain tables)".to_owned();
    let long = "FILE: has not ended after 5 s, within a single call (write plain tables)".to_owned();
    let mark = directory.path().join("mark");
    let run = format!("os.execute('touch {}')", mark.display());
    for (text, expected) in [
        ("while true do end", endless.clone()),
        ("local function f() return f() end f()", endless.clone()),
        ("while true do local t = {} end", endless),
        ("local t = {} while true do t[#t + 1] = {} end", memory.clone()),
        ("local s = 'x' while true do s = s .. s end", memory.clone()),
        ("string.rep('x', 1 << 30)", memory.clone()),
        ("string.find(string.rep('a', 60), string.rep('a*', 30) .. 'b')", long),
        ("local function f() f() end f()", memory.clone()),
        (&run, absent("os.execute")),
        ("os.exit(0)", absent("os.exit")),
        ("io.open('/etc/passwd')", absent("io.open")),
        ("io.popen('id')", absent("io.popen")),
        ("_G.io.lines('x')", absent("io.lines")),
        ("require 'socket'", absent("require")),
        ("package.loadlib('x', 'y')", absent("package.loadlib")),
        ("debug.getregistry()", absent("debug.getregistry")),
        ("dofile('/etc/passwd')", absent("dofile")),
        ("loadfile('/etc/passwd')", absent("loadfile")),
        ("load('\\27Lua')()", absent("load")),
        ("pcall(function() while true do end end)", absent("pcall")),
        ("coroutine.wrap(function() while true do end end)()", absent("coroutine.wrap")),
        ("setmetatable({}, {__gc = function() while true do end end})", absent("setmetatable")),
        ("spawn({}, 'id')", absent("spawn")),
        ("string.dump(print)", "FILE:1: attempt to call a nil value (field 'dump')".to_owned()),
        ("local t = {} t[1] = t sync(t)", "FILE:1: sync: holds tables deeper than 16 levels (write plain tables)".to_owned()),
        (
            "local s, t = string.rep('x', 1 << 20), {} for i = 1, 1000 do t[i] = s end sync(t)",
            "FILE:1: sync: and what came before hold more than 100000 values or 8 MiB of text (write fewer)".to_owned(),
        ),
        ("for i = 1, 2000 do sync{} end", "FILE:1: sync: there are more than 1000 (write fewer)".to_owned()),
        ("sync{source = '\\xff'}", "FILE:1: sync: has a text that is not UTF-8 (write it in UTF-8)".to_owned()),
    ] {
        let began = Instant::now();
        let error = import(directory.path(), text).expect_err(text);
        let shown = without_directory(directory.path(), &error.to_string());
        assert_eq!(shown, expected, "{text}");
        assert!(began.elapsed() < Duration::from_secs(60), "{text} took {:?}", began.elapsed());
    }
    assert!(!mark.exists());
    let huge = format!("--{}", "x".repeat(2 << 20));
    let error = import(directory.path(), &huge).unwrap_err().to_string();
    assert!(error.ends_with("has 2097154 bytes, which no configuration of lsyncd's has (name the right file)"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// A file with bytes of it overwritten is imported or refused, in one line, and nothing else; what is imported can be read again.
    #[test]
    fn damaged_files_do_not_crash(which in any::<prop::sample::Index>(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let files = files();
        let mut bytes = which.get(&files).1.replace("$DIR", "/srv").into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        match lsyncd::parse(&bytes, Path::new("/etc/lsyncd.conf.lua")) {
            Ok(imported) => {
                let toml = imported.to_toml().unwrap();
                prop_assert!(RawConfig::parse(&toml, Path::new("/etc/trigsync.toml")).is_ok(), "{}", toml);
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n'), "{}", error),
        }
    }
}
