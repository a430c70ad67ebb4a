//! lsyncd's configuration on the command line: what is imported mirrors what lsyncd did, and what cannot be imported is refused.

use std::{fs, os::unix::fs::PermissionsExt};

use trigsync_tests::{
    room::Room,
    skip, tree,
    trigsync::{assert_refused, trigsync},
};

#[test]
fn what_is_imported_mirrors_the_same() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, target) = (room.source(), room.target());
    tree::web_site(&source);
    for file in ["cache/page", "deep/cache/page", "page.tmp"] {
        fs::create_dir_all(source.join(file).parent().expect("it has one")).expect("a directory in the source");
        fs::write(source.join(file), file).expect("a file in the source");
    }
    fs::write(source.join("index"), "executable").expect("a file in the source");
    fs::set_permissions(source.join("index"), fs::Permissions::from_mode(0o751)).expect("its mode");
    let lua = room.at("lsyncd.conf.lua");
    let text = format!(
        "settings {{ statusFile = '/tmp/lsyncd.status', nodaemon = true }}\n\
         local options = {{ _extra = {{ '--chmod=F600' }}, perms = true }}\n\
         for _, target in ipairs {{ '{}' }} do\n\
             sync {{ default.rsync, source = '{}', target = target, exclude = {{ '*.tmp', '/cache/' }}, rsync = options }}\n\
         end\n",
        target.display(),
        source.display()
    );
    fs::write(&lua, &text).expect("a file in the room");
    let imported = trigsync(&room, ["import".as_ref(), lua.as_os_str()]);
    assert_eq!(imported.code, 0, "{imported}");
    for words in ["not carried over", "lsyncd.conf.lua:1: settings.statusFile: ", "different from lsyncd, with nothing lost"] {
        assert!(imported.stderr.contains(words), "{words}: {imported}");
    }
    let toml = room.at("trigsync.toml");
    fs::write(&toml, &imported.stdout).expect("a file in the room");
    let synced = trigsync(&room, ["sync".as_ref(), "--config".as_ref(), toml.as_os_str()]);
    assert_eq!(synced.code, 0, "{synced}");
    assert!(target.join("deep/cache/page").exists() && !target.join("cache").exists() && !target.join("page.tmp").exists());
    let mode = fs::metadata(target.join("index")).expect("it has arrived").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    fs::write(&lua, text.replace("rsync = options", "onCreate = 'cp ^source ^target'")).expect("a file in the room");
    assert_refused(
        &trigsync(&room, ["import".as_ref(), lua.as_os_str()]),
        2,
        &["lsyncd.conf.lua:4: sync.onCreate: is a command of your own"],
    );
    assert_refused(&trigsync(&room, ["run".as_ref(), "--config".as_ref(), lua.as_os_str()]), 2, &["trigsync import FILE > trigsync.toml"]);
}
