//! What the commands answer: to good input with what was asked for, to bad input with one clear line and the right exit code.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
    time::Duration,
};

use trigsync_tests::{
    mirror::Launch,
    process::{Outcome, Process, eventually},
    room::Room,
    skip, tree,
    trigsync::{assert_refused, binary, refusal_fault, source_and_targets, trigsync},
};

fn plain(path: &Path) -> &str {
    path.to_str().expect("the room's path is plain")
}

#[test]
fn a_bad_configuration_is_refused_in_one_line() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let [source, target] = [room.source(), room.target()].map(|path| path.display().to_string());
    fs::write(room.at("file"), "").expect("a file in the room");
    let file = room.at("file").display().to_string();
    let loose = room.secret("loose", "open sesame\n");
    fs::set_permissions(&loose, fs::Permissions::from_mode(0o644)).expect("chmod");
    let good = format!("[[sync]]\nsource = \"{source}\"\ntargets = [\"{target}\"]\n");
    let with_password = |file: &Path| {
        format!("[[sync]]\nsource = \"{source}\"\n[[sync.target]]\nto = \"rsync://u@127.0.0.1:1/m\"\npassword_file = {file:?}\n")
    };
    let missing = room.at("missing");
    let here = "trigsync.toml:";
    let cases = [
        ("no such source", good.replace(&source, "/no/such/source"), vec!["trigsync.toml:2", "source", "/no/such/source"]),
        ("a source that is a file", good.replace(&source, &file), vec!["trigsync.toml:2", "source", &file, "directory"]),
        ("a relative source", good.replace(&source, "relative/path"), vec!["trigsync.toml:2", "source"]),
        ("a misspelt key", good.clone() + "exlude = [\"*.tmp\"]\n", vec!["trigsync.toml:4", "exlude", "did you mean `exclude`?"]),
        (
            "a misspelt key of the daemon",
            "stop_timout = \"1s\"\n".to_owned() + &good,
            vec!["trigsync.toml:1", "stop_timout", "stop_timeout"],
        ),
        (
            "a misspelt key of a target",
            with_password(&loose).replace("password_file", "pasword_file"),
            vec!["pasword_file", "password_file"],
        ),
        ("no TOML", good.replace("[[sync]]", "[[sync"), vec!["trigsync.toml:1"]),
        ("a string without an end", good.replace("\"]", "]"), vec!["trigsync.toml:3"]),
        ("no sync at all", String::new(), vec![]),
        ("no source", good.replace(&format!("source = \"{source}\"\n"), ""), vec![here, "source"]),
        ("no target", good.replace(&format!("\"{target}\""), ""), vec![here, "target"]),
        ("an empty target", good.replace(&target, ""), vec![here, "target"]),
        ("an address without a module", good.replace(&target, "rsync://127.0.0.1"), vec![here, "rsync://127.0.0.1"]),
        ("an address with a bad port", good.replace(&target, "rsync://127.0.0.1:99999/m"), vec![here, "99999"]),
        ("an unknown scheme", good.replace(&target, "ftp://127.0.0.1/m"), vec![here, "ftp"]),
        ("a number for a duration", good.clone() + "settle = { quiet = 20 }\n", vec!["trigsync.toml:4"]),
        ("a bad duration", good.clone() + "settle = { quiet = \"soon\" }\n", vec!["trigsync.toml:4", "quiet", "soon"]),
        ("a bad share", good.clone() + "max_delete = \"150%\"\n", vec!["trigsync.toml:4", "max_delete", "150"]),
        ("a bad size", good.clone() + "batch = { bytes = \"much\" }\n", vec!["trigsync.toml:4", "bytes", "much"]),
        ("a bad backend", "backend = \"inotify\"\n".to_owned() + &good, vec!["trigsync.toml:1", "inotify", "fanotify"]),
        ("the same name twice", good.clone() + &good, vec![here]),
        ("no such password file", with_password(&missing), vec!["trigsync.toml:5", "password_file", plain(&missing)]),
        ("a password file for everybody", with_password(&loose), vec!["trigsync.toml:5", "password_file", plain(&loose), "600"]),
        (
            "an option that the batches rely on",
            good.replace(
                &format!("targets = [\"{target}\"]\n"),
                &format!("[[sync.target]]\nto = \"{target}\"\noptions = [\"--files-from=/etc/passwd\"]\n"),
            ),
            vec![here, "options", "--files-from"],
        ),
    ];
    let mut wrong = Vec::new();
    for (name, text, words) in cases {
        let outcome = Launch::config(&room, &text).refused();
        wrong.extend(refusal_fault(&outcome, 2, &words).map(|fault| format!("{name}: {fault}\n{outcome}")));
    }
    assert!(wrong.is_empty(), "{} answers are not as they should be:\n\n{}", wrong.len(), wrong.join("\n"));
    assert!(tree::names(&room.target()).is_empty(), "something was sent");
}

#[test]
fn bad_flags_are_refused() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let [source, target] = [room.source(), room.target()].map(|path| path.display().to_string());
    let cases: [(&[&str], &str); 12] = [
        (&["run"], "--source"),
        (&["run", "--source", &source], "--target"),
        (&["run", "--target", &target], "--source"),
        (&["run", "--source", "/no/such/source", "--target", &target], "/no/such/source"),
        (&["run", "--source", &source, "--target", "rsync://127.0.0.1"], "rsync://127.0.0.1"),
        (&["run", "--source", &source, "--target", &target, "--max-delete", "150%"], "150"),
        (&["run", "--source", &source, "--target", &target, "--initial-sync", "sometimes"], "sometimes"),
        (&["run", "--source", &source, "--target", &target, "--backend", "ebpf-fexit"], "ebpf-kprobe"),
        (&["run", "--source", &source, "--target", &target, "--btf", "/no/such/btf"], "/no/such/btf"),
        (&["run", "--config", "/no/such/file.toml"], "/no/such/file.toml"),
        (&["flush", "--timeout", "soon"], "soon"),
        (&["mirror"], "mirror"),
    ];
    for (arguments, word) in cases {
        let outcome = trigsync(&room, arguments).expect(2);
        assert!(outcome.stderr.contains(word), "it does not say {word:?}: {outcome}");
    }
}

#[test]
fn a_missing_rsync_is_named() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let text = format!("rsync = \"/nonexistent\"\n[[sync]]\nsource = {:?}\ntargets = [{:?}]\n", room.source(), room.target());
    for command in ["run", "sync"] {
        let launch = Launch::config(&room, &text);
        let outcome = match command {
            "run" => launch.refused(),
            _ => trigsync(&room, ["sync", "--config", plain(&Launch::file(&room))]),
        };
        assert!([1, 2].contains(&outcome.code), "{outcome}");
        assert!(outcome.stderr.contains("/nonexistent"), "it names the rsync that is missing: {outcome}");
    }
}

#[test]
fn without_privilege_it_names_the_capability() {
    if skip::without_root() || skip::without_program(&["setpriv"]) {
        return;
    }
    let room = Room::new();
    let program = room.at("trigsync");
    fs::copy(binary(), &program).expect("a copy where everybody may read it");
    for directory in [room.source(), room.target(), room.directory("state"), room.directory("cwd")] {
        chown(directory, Some(65534), Some(65534)).expect("chown as root");
    }
    let setpriv = |flags: &[&str], backend: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(flags).arg(&program).arg("--state-dir").arg(room.state()).arg("run").current_dir(room.at("cwd"));
        command.args(source_and_targets(&room.source(), &[plain(&room.target())])).args(backend);
        Outcome::of(&mut command, Duration::from_secs(20))
    };
    let is_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
    let nobody = setpriv(&is_nobody, &[]);
    let root_without = setpriv(&["--bounding-set=-sys_admin", "--inh-caps=-all"], &["--backend", "fanotify"]);
    let ebpf = setpriv(&is_nobody, &["--backend", "ebpf"]);
    let names_one_for_ebpf = ["CAP_BPF", "CAP_SYS_ADMIN"].iter().any(|capability| ebpf.stderr.contains(capability));
    assert!(ebpf.code == 1 && names_one_for_ebpf && ebpf.stderr.contains("backend = \"auto\""), "{ebpf}");
    for outcome in [nobody, root_without] {
        assert!([1, 2].contains(&outcome.code), "{outcome}");
        assert!(outcome.stderr.contains("CAP_SYS_ADMIN"), "it names the capability: {outcome}");
        assert!(!outcome.stdout.contains("ready"), "{outcome}");
    }
}

#[test]
fn two_daemons_do_not_share_a_state_directory() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let launch = Launch::flags(&room, &room.source(), &[plain(&room.target())]);
    let mut first = launch.start();
    let second = launch.refused();
    assert!([1, 2].contains(&second.code), "{second}");
    assert!(second.stderr.contains(plain(&room.state())), "it names the state directory: {second}");
    first.flush();
    first.stop();
    // And a state directory that a daemon left behind is no obstacle, also where it was killed.
    launch.start().kill9();
    launch.start().stop();
}

#[test]
fn questions_to_a_daemon_that_is_not_there() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let questions: [&[&str]; 5] = [&["flush"], &["status"], &["status", "--json"], &["stop"], &["release"]];
    for question in questions {
        assert_refused(&trigsync(&room, question), 2, &[plain(&room.state())]);
    }
    // What a killed daemon leaves behind is no daemon.
    Launch::flags(&room, &room.source(), &[plain(&room.target())]).start().kill9();
    for question in questions {
        assert_refused(&trigsync(&room, question), 2, &[plain(&room.state())]);
    }
}

#[test]
fn a_daemons_life() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    let mut mirror = Launch::flags(&room, &source, &[plain(&target)]).start();
    let tier = mirror.ready.split_whitespace().find_map(|word| word.strip_prefix("tier=")).unwrap_or_default().to_owned();
    assert!(["ebpf-fexit", "ebpf-kprobe", "fanotify"].contains(&&*tier), "{}", mirror.ready);
    for word in ["ready", &format!("roots={}", source.display()), "targets=1"] {
        assert!(mirror.ready.contains(word), "{word:?} is missing in the ready line: {}", mirror.ready);
    }
    mirror.flush();
    let status = mirror.status();
    assert_eq!(status.0["capture"]["tier"], *tier);
    assert!(status.0["capture"]["lacks"].is_array(), "{:?}", status.0["capture"]);
    let better = status.0["capture"]["passed_over"].as_array().map_or(0, Vec::len);
    assert_eq!(
        better,
        ["ebpf-fexit", "ebpf-kprobe", "fanotify"].iter().position(|name| *name == tier).unwrap(),
        "{:?}",
        status.0["capture"]
    );
    let site = status.sync("source");
    assert_eq!(site["state"], "running");
    assert_eq!(site["targets"][0]["state"], "ok");
    assert_eq!(site["targets"][0]["pending"], 0);
    let text = mirror.ask(&["status"]).expect(0);
    assert!(text.stdout.contains("source") && text.stdout.contains(plain(&target)), "{text}");
    // Global flags are taken after the command too.
    Outcome::of(Command::new(binary()).args(["status", "--json", "--state-dir"]).arg(room.state()), Duration::from_secs(10)).expect(0);
    mirror.stop();
    assert_refused(&trigsync(&room, ["status"]), 2, &[]);
}

#[test]
fn sigint_ends_it_as_sigterm_does() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let launch = Launch::flags(&room, &room.source(), &[plain(&room.target())]);
    let mirror = launch.start();
    mirror.signal(nix::sys::signal::Signal::SIGINT);
    eventually("the daemon has ended", Duration::from_secs(15), || (trigsync(&room, ["status"]).code == 2).then_some(()));
    drop(mirror);
    assert_eq!(launch.start().terminate(Duration::from_secs(15)).code(), Some(0));
}

#[test]
fn a_standard_error_that_takes_nothing_changes_nothing() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let full = || fs::File::options().write(true).open("/dev/full").expect("the kernel's device that is always full");
    let mut command = trigsync_tests::trigsync::command(&room);
    let status = command.args(["run", "--config", "/missing.toml"]).stderr(full()).status().expect("the binary starts");
    assert_eq!(status.code(), Some(2), "a missing configuration stays what it is");
    // A daemon whose log's disk is full goes on.
    let mut command = trigsync_tests::trigsync::command(&room);
    command.arg("run").args(source_and_targets(&room.source(), &[plain(&room.target())]));
    let mut daemon = Process::start(command.stdout(std::process::Stdio::null()).stderr(full()));
    eventually("the daemon answers", Duration::from_secs(60), || (trigsync(&room, ["status"]).code == 0).then_some(()));
    fs::write(room.source().join("file"), "content").expect("a file in the source");
    trigsync(&room, ["flush"]).expect(0);
    assert_eq!(tree::content(room.target().join("file")), Some(b"content".to_vec()));
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = daemon.wait(Duration::from_secs(20)).expect("SIGTERM ends it");
    assert!(ended.success(), "it ended with {ended}");
}
