//! A receiver that cannot do `--delete-missing-args` (rsync 3.4.3, and some builds of 3.2.7): names are deleted by filter rules instead.
//!
//! The real rsync runs behind a script that gives the answer of such a receiver; the answer's text was taken from a real 3.4.3.

use std::fs;

use trigsync_tests::{compare, mirror::Launch, room::Room, skip, tree};

const REFUSES: &str = r#"
for argument; do
    if [ "$argument" = --delete-missing-args ]; then
        cat >/dev/null
        echo 'invalid file mode 00 for gone [Receiver]' >&2
        echo 'rsync error: protocol incompatibility (code 2) at flist.c(1006) [Receiver=3.4.3]' >&2
        exit 2
    fi
done
exec rsync "$@"
"#;

#[test]
fn names_are_deleted_by_another_way() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    let refuses = room.program("refuses", REFUSES);
    tree::web_site(&source);
    for name in ["a*b/x", "a*b/y", "aXb/x", "q[1]/deep/er/z", "back\\slash", "new\nline"] {
        let path = source.join(name);
        fs::create_dir_all(path.parent().expect("it lies in the room")).expect("a directory");
        fs::write(path, name).expect("a file");
    }
    let config = format!(
        "rsync = {refuses:?}\n[[sync]]\nsource = {source:?}\ntargets = [{target:?}]\nexclude = [\"*.kept\"]\nmax_delete = \"100%\"\n"
    );
    let mirror = Launch::config(&room, &config).start();
    mirror.flush();
    compare::assert_equal(&source, &target);

    fs::write(target.join("q[1]/deep/er/alien.kept"), "").expect("a file at the target");
    fs::remove_file(source.join("a*b/x")).expect("it is there");
    fs::remove_file(source.join("back\\slash")).expect("it is there");
    fs::remove_file(source.join("new\nline")).expect("it is there");
    fs::remove_dir_all(source.join("q[1]")).expect("it is there");
    fs::write(source.join("new"), "new").expect("a file");
    fs::rename(source.join("aXb"), source.join("renamed")).expect("a rename");
    mirror.flush();
    assert!(target.join("q[1]/deep/er/alien.kept").exists(), "an excluded file keeps its directory");
    assert!(!target.join("q[1]/deep/er/z").exists());
    fs::remove_dir_all(target.join("q[1]")).expect("it is there");
    fs::write(source.join("again"), "again").expect("a file, so that the root's own time is sent again");
    mirror.flush();
    compare::assert_equal(&source, &target);
}
