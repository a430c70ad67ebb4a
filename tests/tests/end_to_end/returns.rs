//! A directory gives way to something else, and another directory comes to its place while rsync is on its way: what was in the first one
//! must not stay at the target.
//!
//! A program named `rsync` stands before the real one, and changes the source at the moment that matters.

use std::fs;

use trigsync_tests::{compare, mirror::Launch, room::Room, skip};

/// Has a directory become a file, and a directory again within the run that is to send the file: `meanwhile` is done before the real rsync.
fn a_directory_returns(meanwhile: &str) {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, armed) = (room.source(), room.at("armed"));
    fs::create_dir(source.join("d")).expect("a directory in the source");
    fs::write(source.join("d/old"), "old").expect("a file in the source");
    fs::write(source.join("anchor"), "").expect("a file in the source");
    let text = format!(
        "real='{}'\ncd '{}'\nif [ -e '{armed}' ] && grep -q . '{armed}' && ! [ \"$1\" = --version ]; then\n: > '{armed}'\n{meanwhile}\nfi\nexec \"$real\" \"$@\"",
        skip::find_program("rsync").expect("rsync is there").display(),
        source.display(),
        armed = armed.display()
    );
    room.program("rsync", &text);
    // The program is to be started for the run that matters, not ahead of it.
    let target = room.target();
    let config = format!("[[sync]]\nsource = {source:?}\nmax_delete = \"100%\"\n[[sync.target]]\nto = {target:?}\nwarm = 0\n");
    let mirror = Launch::config(&room, &config).path_first(&room.programs()).start();
    mirror.flush();
    compare::assert_equal(&source, &room.target());
    fs::write(&armed, "armed").expect("a file in the room");
    // One after the other within the time that a finished change waits, so that they are one batch.
    fs::rename(source.join("d"), room.at("away")).expect("it was made above");
    fs::write(source.join("d"), "a file for a moment").expect("a file in the source");
    mirror.flush();
    assert_eq!(fs::read_to_string(&armed).expect("it was made above"), "", "the program in rsync's place has done its work");
    assert!(source.join("d/new").exists(), "the directory is back");
    mirror.flush();
    compare::assert_equal(&source, &room.target());
}

#[test]
fn before_rsync_looks() {
    a_directory_returns("rm d && mkdir d && echo new > d/new");
}

#[test]
fn after_rsync_found_it_gone() {
    // What rsync says of a file that it has listed and cannot open any more; it leaves the target as it is.
    let gone =
        "file has vanished: \\\"$PWD/d\\\"\\nrsync warning: some files vanished before they could be transferred (code 24) at main.c(1338)";
    a_directory_returns(&format!("cat > /dev/null; rm d; printf \"{gone} [sender=3.4.1]\\n\" >&2; mkdir d && echo new > d/new; exit 24"));
}
