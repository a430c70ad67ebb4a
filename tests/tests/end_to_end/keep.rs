//! `delete = false`: what is gone at the source stays at the targets.

use std::{fs, time::Duration};

use trigsync_tests::{compare, mirror::Launch, room::Room, skip, tree, trigsync::trigsync};

#[test]
fn what_is_gone_here_stays_there_until_deletions_are_switched_on() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    for name in ["old", "moved", "becomes a directory", "dir/in it", "dir/deep/in it", "gives way/in it"] {
        let path = source.join(name);
        fs::create_dir_all(path.parent().expect("it lies in the room")).expect("a directory in the source");
        fs::write(path, name).expect("a file in the source");
    }
    // A program that hears of what has arrived: what is kept has not gone.
    let told = room.at("told");
    let tell = room.program("tell", &format!("cat >> '{}'; echo >> '{0}'", told.display()));
    let config = |delete: bool| {
        format!(
            "[[sync]]\nname = \"site\"\nsource = {source:?}\ndelete = {delete}\nmax_delete = \"0%\"\n[[sync.target]]\nname = \"it\"\nto = {target:?}\n\
             [[sync.plugin]]\nname = \"teller\"\nkind = \"exec\"\ncommand = [{tell:?}]\ninput = \"json\"\n"
        )
    };
    let launch = Launch::config(&room, &config(false));
    let mirror = launch.start();
    mirror.flush();
    compare::assert_equal(&source, &target);
    let kept = |names: &[&str]| names.iter().for_each(|name| assert!(target.join(name).exists(), "{name} stays"));

    fs::remove_file(source.join("old")).expect("it is there");
    fs::rename(source.join("moved"), source.join("new name")).expect("it is there");
    fs::remove_dir_all(source.join("dir")).expect("it is there");
    fs::remove_file(source.join("becomes a directory")).expect("it is there");
    fs::create_dir(source.join("becomes a directory")).expect("a directory in the source");
    fs::write(source.join("becomes a directory/in it"), "new").expect("a file in the source");
    mirror.flush();
    let gone = ["old", "moved", "dir/in it", "dir/deep/in it"];
    kept(&gone);
    assert_eq!(fs::read_to_string(target.join("new name")).expect("it has arrived"), "moved");
    assert!(target.join("becomes a directory/in it").exists());

    let heard = || fs::read_to_string(&told).unwrap_or_default();
    let of_new = mirror.until("the program has heard of the new name", Duration::from_secs(20), |_| {
        Some(heard()).filter(|text| text.contains("new name"))
    });
    for name in ["old", "moved", "dir"] {
        assert!(!of_new.contains(&format!("\"{name}\"")), "{name} has not gone there: {of_new}");
    }

    // Nothing of this is drift, for nobody who compares.
    trigsync(&room, ["audit"]).expect(0);
    let verify = || trigsync(&room, ["verify".as_ref(), "--config".as_ref(), Launch::file(&room).as_os_str()]);
    verify().expect(0);

    // A directory that would have to go for a file is kept with what it holds, and told.
    fs::remove_dir_all(source.join("gives way")).expect("it is there");
    fs::write(source.join("gives way"), "a file").expect("a file in the source");
    mirror.until("the file is set aside", Duration::from_secs(20), |status| {
        (status.target("site", "it")["set_aside"].as_array()?.len() == 1).then_some(())
    });
    kept(&["gives way/in it"]);
    fs::remove_file(source.join("gives way")).expect("it is there");
    mirror.flush();

    // A full pass of a daemon that knows nothing keeps it too.
    mirror.kill9();
    fs::remove_dir_all(room.state()).expect("it is ours");
    let mirror = launch.start();
    mirror.flush();
    kept(&gone);

    launch.rewrite(&config(true).replace("0%", "100%"));
    mirror.reload();
    mirror.until("everything that is gone here goes", Duration::from_secs(20), |_| (!target.join(gone[0]).exists()).then_some(()));
    mirror.flush();
    compare::assert_equal(&source, &target);
}
