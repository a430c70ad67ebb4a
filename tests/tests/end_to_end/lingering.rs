//! An rsync is cut off: its server may go on by a list of before, so nothing is sent beside it.
//!
//! A program named `rsync` stands before the real one, notes when it was called, and dies once where it is told to.

use std::{fs, path::Path};

use trigsync_tests::{compare, mirror::Launch, room::Room, skip, tree};

/// When each rsync was started, in seconds, with its arguments.
fn calls(noted: &Path) -> Vec<(f64, String)> {
    let text = fs::read_to_string(noted).unwrap_or_default();
    let line = |line: &str| {
        let (at, arguments) = line.split_once(' ').expect("a time and arguments");
        (at.parse().expect("seconds"), arguments.to_owned())
    };
    text.lines().map(line).filter(|(_, arguments): &(f64, String)| !arguments.starts_with("--version")).collect()
}

#[test]
fn nothing_is_sent_before_the_target_has_answered_and_a_moment_longer() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target, noted, armed) = (room.source(), room.target(), room.at("noted"), room.at("armed"));
    tree::web_site(&source);
    let real = skip::find_program("rsync").expect("rsync is there");
    let script = format!(
        "echo \"$(date +%s.%N) $*\" >> '{}'\nif [ -e '{armed}' ] && [ \"$1\" != --version ]; then rm '{armed}'; kill -9 $$; fi\nexec '{}' \"$@\"",
        noted.display(),
        real.display(),
        armed = armed.display()
    );
    room.program("rsync", &script);
    // What has connected ahead would be among the calls.
    let config = format!("[[sync]]\nsource = {source:?}\n[[sync.target]]\nto = {target:?}\nwarm = 0\n");
    let launch = Launch::config(&room, &config).path_first(&room.programs());
    let mut mirror = launch.start();
    mirror.flush();

    let is_dry = |arguments: &str| arguments.split(' ').any(|word| word == "--dry-run");
    for killed in ["rsync", "the daemon"] {
        fs::write(&noted, "").expect("a file in the room");
        if killed == "rsync" {
            fs::write(&armed, "").expect("a file in the room");
            fs::write(source.join("new"), killed).expect("a file in the source");
            mirror.flush();
        } else {
            mirror.kill9();
            fs::write(source.join("new"), killed).expect("a file in the source");
            mirror = launch.start();
            mirror.flush();
        }
        assert_eq!(fs::read_to_string(target.join("new")).expect("it has arrived"), killed);
        let calls = calls(&noted);
        let begun = usize::from(killed == "rsync");
        let [(asked, question), (sent, run), ..] = &calls[begun..] else { panic!("{killed}: {calls:?}") };
        assert!(is_dry(question) && !is_dry(run), "{killed}: the target is asked first: {calls:?}");
        assert!(sent - asked >= 2.0, "{killed}: {calls:?}");
    }
    compare::assert_equal(&source, &target);

    // It ends well, and the next one finds nothing unsent: it asks nothing, and sends at once.
    mirror.stop();
    drop(mirror);
    fs::write(&noted, "").expect("a file in the room");
    fs::write(source.join("new"), "again").expect("a file in the source");
    let mirror = launch.start();
    mirror.flush();
    let calls = calls(&noted);
    assert!(!calls.is_empty() && calls.iter().all(|(_, arguments)| !is_dry(arguments)), "{calls:?}");
}
