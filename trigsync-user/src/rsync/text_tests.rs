//! The names in what rsync prints, as paths of the source.

use super::*;

fn names(source: &str, target: TargetRoot) -> Names {
    Names { source: source.as_bytes().to_vec(), target }
}

fn at(path: &str) -> TargetRoot {
    TargetRoot::At(path.into())
}

#[track_caller]
fn failed(names: &Names, line: &str, expected: &[&str]) {
    let found: Vec<_> = names.failed(line.as_bytes()).iter().map(|path| path.as_bytes().to_vec()).collect();
    assert_eq!(found, expected.iter().map(|path| path.as_bytes().to_vec()).collect::<Vec<_>>(), "{line}");
}

#[test]
fn escapes_are_undone_and_nothing_else() {
    assert_eq!(unescape(b"n\\#012l"), b"n\nl");
    assert_eq!(unescape(b"\\#377\\#000"), b"\xff\0");
    assert_eq!(unescape(b"\\#134#123"), b"\\#123");
    for plain in [&b"\\#12"[..], b"\\#477", b"\\#018", b"a\\b", b"\\"] {
        assert_eq!(unescape(plain), plain);
    }
}

#[test]
fn vanished_names_are_relative_to_the_source() {
    let names = names("/srv/www", at("/mnt"));
    let vanished = |line: &str| names.vanished(line.as_bytes()).map(|path| path.as_bytes().to_vec());
    assert_eq!(vanished("file has vanished: \"/srv/www/a/b\""), Some(b"a/b".to_vec()));
    assert_eq!(vanished("directory has vanished: \"/srv/www/a\\#012b\""), Some(b"a\nb".to_vec()));
    assert_eq!(vanished("file has vanished: \"/srv/www/it has vanished: \"x\""), Some(b"it has vanished: \"x".to_vec()));
    assert_eq!(vanished("file has vanished: \"/srv/www2/a\""), None);
    assert_eq!(vanished("rsync: something else"), None);
}

#[test]
fn both_sides_are_told_apart() {
    let local = names("/srv/www", at("/mnt/www"));
    failed(&local, "rsync: [sender] send_files failed to open \"/srv/www/a b\": Permission denied (13)", &["a b"]);
    failed(&local, "rsync: send_files failed to open \"/srv/www/a\": Permission denied (13)", &["a"]);
    failed(&local, "rsync: [generator] failed to set times on \"/mnt/www/.\": Operation not permitted (1)", &[""]);
    failed(&local, "rsync: failed to set times on \"/mnt/www/d\": Operation not permitted (1)", &["d"]);
    failed(&local, "rsync: [sender] readlink_stat(\"/srv/www/l\") failed: Permission denied (13)", &["l"]);
    failed(&local, "rsync: [generator] chown \"/elsewhere/d\" failed: Operation not permitted (1)", &[]);
    // A target below the source's parent, and a root that holds everything.
    let nested = names("/", at("/mnt"));
    failed(&nested, "rsync: [receiver] rename \"/mnt/.a.dZAmsz\" -> \"a\": Operation not permitted (1)", &["a", ".a"]);
    failed(&nested, "rsync: [sender] opendir \"/mnt\" failed: Permission denied (13)", &["mnt"]);
}

#[test]
fn modules_and_home_directories() {
    let module = names("/srv/www", at("sub"));
    failed(&module, "rsync: [generator] symlink \"/sub/im/ln\" (in m) -> \"/x\" failed: Operation not permitted (1)", &["im/ln"]);
    failed(&module, "rsync: [receiver] mkstemp \"/sub/im/.f.2CAsy5\" (in m) failed: Operation not permitted (1)", &["im/f", "im/.f"]);
    failed(&module, "rsync: [generator] failed to set times on \"/sub/.\" (in m): Operation not permitted (1)", &[""]);
    let whole = names("/srv/www", at(""));
    failed(&whole, "rsync: [receiver] mkstemp \"d/.f.dBUQOb\" (in nob) failed: Permission denied (13)", &["d/f", "d/.f"]);
    failed(&whole, "rsync: [generator] recv_generator: mkdir \"d\" (in nob) failed: Permission denied (13)", &["d"]);
    let home = names("/srv/www", TargetRoot::Below(b"www".to_vec()));
    failed(&home, "rsync: [generator] mknod \"/home/deploy/www/p\" failed: Operation not permitted (1)", &["p"]);
    let bare = names("/srv/www", TargetRoot::Below(Vec::new()));
    failed(&bare, "rsync: [generator] mknod \"/home/deploy/p\" failed: Operation not permitted (1)", &[]);
}

#[test]
fn names_without_quotes() {
    let local = names("/srv/www", at("/mnt/www"));
    failed(&local, "could not make way for new regular file: a: b", &["a: b"]);
    failed(&local, "rsync: [generator] delete_file: unlink(im/k(1)) failed: Operation not permitted (1)", &["im/k(1)"]);
    failed(&local, "rsync: [generator] delete_file: rmdir(mp) failed: Device or resource busy (16)", &["mp"]);
    failed(&local, "ERROR: d/f failed verification -- update discarded.", &["d/f"]);
    assert_eq!(Names::kept_directory(b"cannot delete non-empty directory: gone/x").unwrap().as_bytes(), b"gone/x");
}

#[test]
fn hostile_names_are_read_to_their_end() {
    let local = names("/srv/www", at("/mnt/www"));
    failed(&local, "rsync: [sender] send_files failed to open \"/srv/www/a\": b\" failed\": Permission denied (13)", &["a\": b\" failed"]);
    failed(&local, "rsync: [generator] mknod \"/mnt/www/a\" (in m) b\" failed: Operation not permitted (1)", &["a\" (in m) b"]);
}

#[test]
fn temporary_names_may_stand_for_two() {
    let local = names("/srv/www", at("/mnt/www"));
    let mkstemp = |name: &str| format!("rsync: [receiver] mkstemp \"/mnt/www/{name}\" failed: Permission denied (13)");
    failed(&local, &mkstemp(".q.abcdef.OfDFph"), &["q.abcdef", ".q.abcdef"]);
    failed(&local, "rsync: [receiver] failed to set times on \"/mnt/www/.f.OfDFph\": Permission denied (13)", &["f", ".f", ".f.OfDFph"]);
    failed(&local, "rsync: [receiver] failed to set times on \"/mnt/www/f.OfDFph\": Permission denied (13)", &["f.OfDFph"]);
    failed(&local, "rsync: [receiver] failed to set times on \"/mnt/www/.OfDFph\": Permission denied (13)", &[".OfDFph"]);
}

proptest::proptest! {
    #[test]
    fn any_line_is_survived(line: Vec<u8>, start in 0..6_usize) {
        let starts = ["", "rsync: [receiver] mkstemp \"", "rsync: delete_file: ", "could not make way for new ", "ERROR: ", "file has vanished: \""];
        let line = [starts[start].as_bytes(), &line].concat();
        let names = names("/srv/www", at("/mnt/www"));
        names.failed(&line);
        names.vanished(&line);
        Names::kept_directory(&line);
    }
}

#[test]
fn a_name_that_looks_like_an_error_is_a_name() {
    let names = names("/srv/www", at("/mnt"));
    for name in ["delete_file: ) failed: x(", "delete_file: unlink(y) failed: "] {
        failed(&names, &format!("rsync: [sender] send_files failed to open \"/srv/www/{name}\": Permission denied (13)"), &[name]);
    }
    failed(&names, "rsync: delete_file: ) failed: x(1)", &[]);
}
