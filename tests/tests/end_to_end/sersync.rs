//! sersync's confxml.xml in trigsync's place: the course's lab with a real rsync daemon, a reload, an import, and what is refused.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::Path,
    time::Duration,
};

use trigsync_tests::{
    compare,
    listener::Listener,
    mirror::Launch,
    process::eventually,
    room::Room,
    rsyncd::{Module, RsyncDaemon},
    skip, tree,
    trigsync::{assert_refused, trigsync},
};

const LIMIT: Duration = Duration::from_secs(10);

/// Beside the file with the password.
const FAIL_LOG: &str = "rsync_fail_log.sh";

/// The lines of a shipped file that the course has people edit.
struct Confxml<'a> {
    filter: bool,
    source: &'a Path,
    port: &'a str,
    params: &'a str,
    password_file: &'a Path,
}

impl Confxml<'_> {
    fn text(&self) -> String {
        let Self { filter, source, port, params, password_file } = self;
        format!(
            r#"<?xml version="1.0" encoding="ISO-8859-1"?>
<head version="2.5">
    <host hostip="localhost" port="8008"></host>
    <fileSystem xfs="false"/>
    <filter start="{filter}"><!-- 过滤 -->
        <exclude expression="(.*)\.svn"></exclude>
        <exclude expression="^info/*"></exclude>
    </filter>
    <sersync>
        <localpath watch="{}"><remote ip="127.0.0.1" name="backup"/></localpath>
        <rsync>
            <commonParams params="{params}"/>
            <auth start="true" users="rsync_backup" passwordfile="{}"/>
            <userDefinedPort start="true" port="{port}"/>
            <timeout start="true" time="100"/>
            <ssh start="false"/>
        </rsync>
        <failLog path="{}" timeToExecute="1"/>
    </sersync>
</head>
"#,
            source.display(),
            password_file.display(),
            password_file.with_file_name(FAIL_LOG).display()
        )
    }
}

/// A daemon as the course sets it up, and its port.
fn daemon(room: &Room, target: &Path) -> (RsyncDaemon, String) {
    let module = Module::new("backup", target).secret("rsync_backup", "oldboy").set("max connections", "10");
    let daemon = RsyncDaemon::start(room, &[module]);
    let port = daemon.url("").rsplit(':').next().and_then(|rest| rest.split('/').next()).expect("it has a port").to_owned();
    (daemon, port)
}

#[test]
fn the_courses_lab_runs_on_its_own_file() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    for directory in ["info", "deep/info", "deep/x.svn"] {
        fs::create_dir_all(source.join(directory)).expect("a directory in the source");
        fs::write(source.join(directory).join("page"), directory).expect("a file in the source");
    }
    let (mut daemon, port) = daemon(&room, &target);
    let password_file = room.secret("rsync.password", "oldboy\n");
    let confxml = Confxml { filter: true, source: &source, port: &port, params: "-artuz", password_file: &password_file };
    let launch = Launch::config(&room, &confxml.text());
    let mirror = launch.start();
    mirror.until_logged("commonParams@params: `-u` is left out");
    mirror.flush();
    assert!(!target.join("info").exists() && !target.join("deep/x.svn").exists(), "the filter does not hold");
    assert_eq!(tree::content(target.join("deep/info/page")).as_deref(), Some(&b"deep/info"[..]), "the filter holds where it does not");

    tree::many_files(&source.join("two thousand"), 2000);
    fs::write(source.join(".hidden"), "sersync leaves it out").expect("a file in the source");
    fs::write(source.join("info/page"), "left alone").expect("a file in the source");
    mirror.flush();
    assert!(target.join(".hidden").exists() && !target.join("info").exists());
    // Fewer than the guard counts.
    fs::remove_dir_all(source.join("two thousand/d0")).expect("it is there");
    mirror.flush();

    launch.rewrite(&Confxml { filter: false, ..confxml }.text());
    mirror.reload();
    mirror.until_logged("the configuration was reloaded");
    mirror.until("what was left alone has arrived", LIMIT, |_| target.join("deep/x.svn/page").exists().then_some(()));
    mirror.flush();
    compare::assert_equal(&source, &target);

    daemon.kill9();
    fs::write(source.join("meanwhile"), "meanwhile").expect("a file in the source");
    let fail_log = room.at(FAIL_LOG);
    let told = |words: &str| {
        eventually(&format!("{words} stands in the log of failures"), LIMIT, || {
            let text = fs::read_to_string(&fail_log).unwrap_or_default();
            text.lines().any(|line| line.contains(words)).then_some(text)
        })
    };
    told("\tretrying\t-\t");
    daemon.restart();
    mirror.flush();
    let text = told("\tok\t-\t");
    assert!(text.lines().all(|line| line.starts_with("# ")), "{text}");
    assert_eq!(fs::metadata(&fail_log).expect("it is there").permissions().mode() & 0o7777, 0o600);
    compare::assert_equal(&source, &target);
}

#[test]
fn what_is_imported_mirrors_the_same() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    symlink("nowhere", source.join("link")).expect("a link in the source");
    let (_daemon, port) = daemon(&room, &target);
    let password_file = room.secret("rsync.password", "oldboy\n");
    // Without -a and -l: sersync sends no links.
    let confxml = Confxml { filter: true, source: &source, port: &port, params: "-rtz --max-size=9g", password_file: &password_file };
    let xml = room.at("confxml.xml");
    fs::write(&xml, confxml.text()).expect("a file in the room");
    let imported = trigsync(&room, ["import".as_ref(), xml.as_os_str()]);
    assert_eq!(imported.code, 0, "{imported}");
    for words in ["/rsync_fail_log.sh\" # line 18: failLog@path", "retry_max = \"1m\" # line 18: failLog@timeToExecute"] {
        assert!(imported.stdout.contains(words), "{words}: {imported}");
    }
    for words in ["not carried over", "`--max-size=9g` is left out", "different from sersync", "confxml.xml:12:35: "] {
        assert!(imported.stderr.contains(words), "{words}: {imported}");
    }

    let mirror = Launch::config(&room, &imported.stdout).start();
    mirror.flush();
    assert!(fs::symlink_metadata(target.join("link")).is_err(), "a link was sent");
    fs::remove_file(source.join("link")).expect("it is there");
    fs::write(source.join("new"), "new").expect("a file in the source");
    symlink("new", source.join("another link")).expect("a link in the source");
    mirror.flush();
    assert!(target.join("new").exists() && fs::symlink_metadata(target.join("another link")).is_err());
    assert_eq!(mirror.status().0["syncs"][0]["targets"][0]["set_aside"].as_u64().unwrap_or(0), 0, "{:?}", mirror.status().0);
}

#[test]
fn other_commands_take_the_file_too() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let (_daemon, port) = daemon(&room, &target);
    let password_file = room.secret("rsync.password", "oldboy\n");
    let confxml = Confxml { filter: false, source: &source, port: &port, params: "-auz", password_file: &password_file };
    let file = room.at("any name");
    let with_file = |command: &str| trigsync(&room, [command.as_ref(), "--config".as_ref(), file.as_os_str()]);
    fs::write(&file, confxml.text()).expect("a file in the room");
    let synced = with_file("sync");
    assert_eq!(synced.code, 0, "{synced}");
    compare::assert_equal(&source, &target);
    let verified = with_file("verify");
    assert_eq!(verified.code, 0, "{verified}");
    let doctor = with_file("doctor");
    assert!(doctor.stdout.contains("`-u` is left out") && doctor.stdout.contains("rsync://rsync_backup@127.0.0.1"), "{doctor}");

    let broken = confxml.text().replace("<sersync>", "<sersync><crontab start=\"true\" schedule=\"0\"/>");
    fs::write(&file, &broken).expect("a file in the room");
    for command in ["run", "sync", "doctor"] {
        assert_refused(&with_file(command), 2, &["any name:9:46: crontab@schedule: ", "minutes"]);
    }
    assert_refused(&trigsync(&room, ["import".as_ref(), file.as_os_str()]), 2, &["any name:9:46: crontab@schedule: "]);
    fs::write(&file, broken.replace("</sersync>", "")).expect("a file in the room");
    assert_refused(&with_file("run"), 2, &["any name:20:1: ", "is not XML"]);
}

/// The file with a plugin that runs.
fn with_plugin(confxml: &Confxml<'_>, name: &str, inner: &str) -> String {
    let runs = format!("<plugin start=\"true\" name=\"{name}\"/></sersync><plugin name=\"{name}\">{inner}</plugin>");
    confxml.text().replace("</sersync>", &runs)
}

#[test]
fn plugins_are_told_as_sersync_told_them() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let (_daemon, port) = daemon(&room, &target);
    let password_file = room.secret("rsync.password", "oldboy\n");
    let confxml = Confxml { filter: false, source: &source, port: &port, params: "-artuz", password_file: &password_file };
    // Without a first line that says what runs it, as many were written for sersync.
    let (script, told) = (room.at("tell.sh"), room.at("told"));
    fs::write(&script, format!("printf '%s %s %s\\0' \"$#\" \"$1\" \"$2\" >> '{}'; exit 3\n", told.display()))
        .expect("a script in the room");
    let command = format!(
        "<param prefix=\"{}\" suffix=\"last\" ignoreError=\"true\"/><filter start=\"true\"><include expression=\"(.*)\\.php\"/></filter>",
        script.display()
    );
    let launch = Launch::config(&room, &with_plugin(&confxml, "command", &command));
    let mut mirror = launch.start();
    mirror.flush();
    let names: [&[u8]; 4] = [b"a.php", b"-v $(touch pwned).php", b"\xff\n\".php", b"left out.html"];
    for name in names {
        fs::write(source.join(OsStr::from_bytes(name)), "content").expect("a file in the source");
    }
    let of = |name: &&[u8]| [b"2 ", source.as_os_str().as_bytes(), b"/", name, b" last"].concat();
    let words = || -> BTreeSet<Vec<u8>> { fs::read(&told).unwrap_or_default().split(|byte| *byte == 0).map(<[u8]>::to_vec).collect() };
    eventually("the script is told", LIMIT, || names[..3].iter().all(|name| words().contains(&of(name))).then_some(()));
    mirror.flush();
    assert!(!words().contains(&of(&names[3])), "the filter does not hold");
    assert!(!source.join("pwned").exists(), "a name was run");
    let plugin = &mirror.status().0["syncs"][0]["plugins"][0];
    assert_eq!(plugin["runs"], plugin["failures"], "a run that fails is not repeated: {plugin}");
    mirror.stop();

    let server = Listener::tcp();
    let inner =
        format!("<localpath watch=\"{}/\"><deshost ip=\"127.0.0.1\" port=\"{}\"/></localpath>", source.display(), server.address.port());
    let xml = room.at("socket.xml");
    fs::write(&xml, with_plugin(&confxml, "socket", &inner)).expect("a file in the room");
    // What is imported tells as well.
    let imported = trigsync(&room, ["import".as_ref(), xml.as_os_str()]);
    assert!(imported.code == 0 && imported.stdout.contains("separator = \"connection\""), "{imported}");
    launch.rewrite(&imported.stdout);
    let mirror = launch.start();
    // What changes during the full pass of a start is part of it.
    mirror.flush();
    fs::remove_file(source.join("a.php")).expect("it is there");
    fs::write(source.join(OsStr::from_bytes(b"\xfe\nnew")), "new").expect("a file in the source");
    let of = |name: &[u8]| [source.as_os_str().as_bytes(), b"/", name].concat();
    eventually("each path has a connection", LIMIT, || {
        let heard = server.heard();
        [&b"a.php"[..], b"\xfe\nnew"].iter().all(|name| heard.contains(&of(name))).then_some(())
    });
    drop(mirror);
}

#[test]
fn one_plugin_runs_alone() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let source = room.source();
    tree::web_site(&source);
    // What is for rsync is not looked at: nobody listens there, and the file with the password is not.
    let confxml = Confxml { filter: true, source: &source, port: "no port", params: "-n", password_file: &room.at("nowhere") };
    let (script, told) = (room.at("tell.sh"), room.at("told"));
    fs::write(&script, format!("printf '%s\\0' \"$1\" >> '{}'\n", told.display())).expect("a script in the room");
    let server = Listener::tcp();
    let plugins = format!(
        "<plugin start=\"false\" name=\"socket\"/></sersync><plugin name=\"command\"><param prefix=\"{}\" suffix=\"\"/></plugin>\
         <plugin name=\"socket\"><localpath watch=\"{}\"><deshost ip=\"127.0.0.1\" port=\"{}\"/></localpath></plugin>",
        script.display(),
        room.directory("other").display(),
        server.address.port()
    );
    let text = confxml.text().replace("</sersync>", &plugins);
    let of = |directory: &Path, name: &[u8]| [directory.as_os_str().as_bytes(), b"/", name].concat();
    let names: [&[u8]; 3] = [b"new.html", b"-v $(touch pwned)", b"\xff\n\""];

    let mut mirror = Launch::sersync(&room, &text).and(["-r", "-m", "command"]).env("PATH", "/nowhere").start();
    mirror.until_logged("-r has no effect beside -m");
    for name in names {
        fs::write(source.join(OsStr::from_bytes(name)), "content").expect("a file in the source");
    }
    fs::create_dir_all(source.join("deep/x.svn")).expect("a directory in the source");
    fs::remove_file(source.join("index.html")).expect("it is there");
    let words = || -> BTreeSet<Vec<u8>> { fs::read(&told).unwrap_or_default().split(|byte| *byte == 0).map(<[u8]>::to_vec).collect() };
    eventually("the script is told", LIMIT, || {
        names.iter().chain([&&b"index.html"[..]]).all(|name| words().contains(&of(&source, name))).then_some(())
    });
    mirror.flush();
    assert!(!words().contains(&of(&source, b"deep/x.svn")), "the filter does not hold");
    assert!(!source.join("pwned").exists(), "a name was run");
    assert!(mirror.ready.contains("targets=0 plugins=1") && mirror.rsyncs().is_empty());
    mirror.ask(&["check"]).expect(0);
    mirror.stop();

    // The plugin's own directory is watched, as by sersync.
    let mut mirror = Launch::sersync(&room, &text).and(["-m", "socket"]).start();
    mirror.until_logged("is watched, as by sersync's -m");
    fs::write(room.at("other/told"), "told").expect("a file in the other directory");
    eventually("the server is told", LIMIT, || server.heard().contains(&of(&room.at("other"), b"told")).then_some(()));
    mirror.stop();

    let refused = Launch::sersync(&room, &text).and(["-m", "refreshCDN"]).refused();
    assert_refused(&refused, 2, &["has no plugin `refreshCDN`", "name one that is there: command, socket"]);
    let xml = room.at("confxml.xml");
    fs::write(&xml, &text).expect("a file in the room");
    let imported = trigsync(&room, ["import".as_ref(), "-m".as_ref(), "command".as_ref(), xml.as_os_str()]);
    assert!(imported.code == 0 && !imported.stdout.contains("target"), "{imported}");
    let mirror = Launch::config(&room, &imported.stdout).start();
    fs::write(source.join("imported"), "told").expect("a file in the source");
    eventually("what is imported tells as well", LIMIT, || words().contains(&of(&source, b"imported")).then_some(()));
    drop(mirror);
}
