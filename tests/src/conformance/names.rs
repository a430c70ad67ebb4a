//! Names: linked, removed, made in depth, renamed.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::{
        fd::AsRawFd as _,
        unix::fs::{OpenOptionsExt as _, symlink},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, RenameFlags, renameat2},
    unistd::linkat,
};

use super::{Bench, E, Fault, Row, T};

pub const CASES: &[Row] = &[
    ("link", linked),
    ("symlink", symlinked),
    ("O_TMPFILE, then linkat", tmpfile),
    ("written after O_TMPFILE was linked", tmpfile_written_later),
    ("unlink", unlinked),
    ("unlink of an open file that is written afterwards", unlinked_open),
    ("rmdir", removed_directory),
    ("rm -rf of a deep tree", removed_tree),
    ("a directory is removed or renamed, and made anew before anyone looks", made_anew),
    ("mkdir", made_directory),
    ("mkdir -p of 40 levels, with a file in each", made_deep),
    ("rename of a file", renamed_file),
    ("rename over an existing file", renamed_over),
    ("rename of a directory", renamed_directory),
    ("a directory that was renamed is known by its new name", renamed_directory_written),
    ("a parent that was renamed is known by its new name", renamed_parent_written),
    ("rename into the root", moved_in),
    ("rename out of the root", moved_out),
    ("rename out of the root and back", moved_out_and_back),
    ("RENAME_EXCHANGE of files, directories, one of each", exchanged),
    ("RENAME_EXCHANGE across the root's border", exchanged_across),
    ("RENAME_NOREPLACE", no_replace),
    ("RENAME_WHITEOUT", whiteout),
    ("an editor's save", saved),
];

fn linked(b: &mut Bench) -> Result<(), Fault> {
    fs::write(b.at("old"), "x")?;
    b.forget()?;
    fs::hard_link(b.at("old"), b.at("new"))?;
    b.expect_with(&[E("new")], |path| path == b"old")
}

fn symlinked(b: &mut Bench) -> Result<(), Fault> {
    symlink("nowhere", b.at("link"))?;
    b.expect(&[E("link")])
}

fn open_tmpfile(b: &Bench) -> Result<File, Fault> {
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(&b.root);
    match opened {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Err(Fault::NotCovered("this file system has no O_TMPFILE".to_owned()))
        }
        result => Ok(result?),
    }
}

fn link_tmpfile(b: &Bench, file: &File) -> Result<(), Errno> {
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(AT_FDCWD, source.as_str(), AT_FDCWD, &b.at("named"), AtFlags::AT_SYMLINK_FOLLOW)
}

fn tmpfile(b: &mut Bench) -> Result<(), Fault> {
    let mut file = open_tmpfile(b)?;
    file.write_all(b"x")?;
    // While it has no name, the kernel may call it by its number.
    b.expect_with(&[], |path| path.starts_with(b"#"))?;
    link_tmpfile(b, &file)?;
    b.expect_with(&[E("named")], |path| path.starts_with(b"#"))
}

fn tmpfile_written_later(b: &mut Bench) -> Result<(), Fault> {
    let mut file = open_tmpfile(b)?;
    link_tmpfile(b, &file)?;
    b.forget()?;
    file.write_all(b"x")?;
    b.expect_with(&[E("named")], |path| path.starts_with(b"#"))
}

fn unlinked(b: &mut Bench) -> Result<(), Fault> {
    fs::write(b.at("f"), "")?;
    b.forget()?;
    fs::remove_file(b.at("f"))?;
    b.expect(&[E("f")])
}

fn unlinked_open(b: &mut Bench) -> Result<(), Fault> {
    let mut file = File::create(b.at("f"))?;
    b.forget()?;
    fs::remove_file(b.at("f"))?;
    b.expect(&[E("f")])?;
    file.write_all(b"x")?;
    drop(file);
    b.expect_with(&[], |path| path == b"f")
}

fn removed_directory(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir(b.at("d"))?;
    b.forget()?;
    fs::remove_dir(b.at("d"))?;
    b.expect(&[E("d")])
}

fn removed_tree(b: &mut Bench) -> Result<(), Fault> {
    let mut names = vec![];
    let mut dir = "top".to_owned();
    for level in 0..20 {
        fs::create_dir(b.at(&dir))?;
        names.push(dir.clone());
        for file in ["x", "y"] {
            let file = format!("{dir}/{file}");
            fs::write(b.at(&file), "")?;
            names.push(file);
        }
        dir = format!("{dir}/{level}");
    }
    b.forget()?;
    fs::remove_dir_all(b.at("top"))?;
    // Below a directory that is gone before anyone looked, nothing more than the topmost name can be asked for.
    b.expect_with(&[E("top")], |path| names.iter().any(|name| name.as_bytes() == path))
}

fn made_anew(b: &mut Bench) -> Result<(), Fault> {
    for name in ["removed", "renamed"] {
        fs::create_dir_all(b.at(name).join("inner"))?;
        fs::write(b.at(name).join("inner/f"), "")?;
    }
    b.forget()?;
    fs::remove_dir_all(b.at("removed"))?;
    fs::create_dir(b.at("removed"))?;
    fs::rename(b.at("renamed"), b.at("other"))?;
    fs::create_dir(b.at("renamed"))?;
    // The entry alone would leave what was inside at the target.
    b.expect_with(&[T("removed"), T("renamed"), T("other")], |path| path.starts_with(b"re"))
}

fn made_directory(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir(b.at("d"))?;
    b.expect(&[E("d")])
}

fn made_deep(b: &mut Bench) -> Result<(), Fault> {
    let mut wanted = vec![];
    let mut dir = String::new();
    for level in 0..40 {
        dir = format!("{dir}{}d{level}", if level == 0 { "" } else { "/" });
        wanted.push(E(&dir));
    }
    fs::create_dir_all(b.at(&dir))?;
    for path in Path::new(&dir).ancestors().filter(|path| !path.as_os_str().is_empty()) {
        let file = format!("{}/file", path.display());
        fs::write(b.at(&file), "x")?;
        wanted.push(E(file));
    }
    b.expect(&wanted)
}

fn renamed_file(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir(b.at("d"))?;
    fs::write(b.at("a"), "")?;
    b.forget()?;
    fs::rename(b.at("a"), b.at("b"))?;
    b.expect(&[E("a"), E("b")])?;
    fs::rename(b.at("b"), b.at("d/c"))?;
    b.expect(&[E("b"), E("d/c")])
}

fn renamed_over(b: &mut Bench) -> Result<(), Fault> {
    fs::write(b.at("a"), "1")?;
    fs::write(b.at("b"), "2")?;
    b.forget()?;
    fs::rename(b.at("a"), b.at("b"))?;
    b.expect(&[E("a"), E("b")])
}

fn renamed_directory(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir_all(b.at("a/inner"))?;
    fs::create_dir(b.at("other"))?;
    b.forget()?;
    fs::rename(b.at("a"), b.at("b"))?;
    b.expect(&[E("a"), T("b")])?;
    fs::rename(b.at("b/inner"), b.at("other/moved"))?;
    b.expect(&[E("b/inner"), T("other/moved")])
}

fn renamed_directory_written(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir(b.at("a"))?;
    fs::write(b.at("a/f"), "")?;
    b.forget()?;
    fs::rename(b.at("a"), b.at("b"))?;
    b.expect(&[E("a"), T("b")])?;
    fs::write(b.at("b/f"), "x")?;
    b.expect(&[E("b/f")])
}

fn renamed_parent_written(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir_all(b.at("a/deep/er"))?;
    fs::write(b.at("a/deep/er/f"), "")?;
    b.forget()?;
    for (old, new) in [("a", "b"), ("b", "c"), ("c", "a")] {
        fs::rename(b.at(old), b.at(new))?;
        b.expect(&[E(old), T(new)])?;
        let file = format!("{new}/deep/er/f");
        fs::write(b.at(&file), "x")?;
        b.expect(&[E(file)])?;
    }
    Ok(())
}

fn moved_in(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir_all(b.outside.join("d/inner"))?;
    fs::write(b.outside.join("d/inner/f"), "")?;
    fs::write(b.outside.join("f"), "")?;
    b.expect_nothing()?;
    fs::rename(b.outside.join("f"), b.at("f"))?;
    b.expect(&[E("f")])?;
    fs::rename(b.outside.join("d"), b.at("d"))?;
    b.expect(&[T("d")])?;
    fs::write(b.at("d/inner/f"), "x")?;
    b.expect(&[E("d/inner/f")])
}

fn moved_out(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir_all(b.at("d/inner"))?;
    fs::write(b.at("d/inner/f"), "")?;
    fs::write(b.at("f"), "")?;
    b.forget()?;
    fs::rename(b.at("f"), b.outside.join("f"))?;
    b.expect(&[E("f")])?;
    fs::rename(b.at("d"), b.outside.join("d"))?;
    b.expect(&[E("d")])?;
    fs::write(b.outside.join("d/inner/f"), "x")?;
    b.expect_nothing()
}

fn moved_out_and_back(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir_all(b.at("d/inner"))?;
    b.forget()?;
    for _ in 0..3 {
        fs::rename(b.at("d"), b.outside.join("d"))?;
        b.expect(&[E("d")])?;
        fs::write(b.outside.join("d/inner/f"), "x")?;
        b.expect_nothing()?;
        fs::rename(b.outside.join("d"), b.at("d"))?;
        b.expect(&[T("d")])?;
        fs::write(b.at("d/inner/f"), "y")?;
        b.expect(&[E("d/inner/f")])?;
    }
    Ok(())
}

fn rename2(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Fault> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) {
        Err(Errno::EINVAL | Errno::ENOSYS) => Err(Fault::NotCovered(format!("this file system has no {flags:?}"))),
        result => Ok(result?),
    }
}

fn exchanged(b: &mut Bench) -> Result<(), Fault> {
    let exchange = RenameFlags::RENAME_EXCHANGE;
    fs::create_dir(b.at("sub"))?;
    for (file, dir) in [("f1", "d1"), ("sub/f2", "sub/d2")] {
        fs::write(b.at(file), file)?;
        fs::create_dir_all(b.at(dir).join("inner"))?;
    }
    b.forget()?;
    rename2(&b.at("f1"), &b.at("sub/f2"), exchange)?;
    b.expect(&[E("f1"), E("sub/f2")])?;
    rename2(&b.at("d1"), &b.at("sub/d2"), exchange)?;
    b.expect_with(&[T("d1"), T("sub/d2")], |path| [&b"d1"[..], b"sub/d2"].contains(&path))?;
    fs::write(b.at("d1/inner/f"), "")?;
    b.expect(&[E("d1/inner/f")])?;
    fs::remove_file(b.at("d1/inner/f"))?;
    b.forget()?;
    rename2(&b.at("f1"), &b.at("sub/d2"), exchange)?;
    b.expect_with(&[T("f1"), E("sub/d2")], |path| path == b"f1")?;
    fs::write(b.at("f1/inner/f"), "")?;
    b.expect(&[E("f1/inner/f")])
}

fn exchanged_across(b: &mut Bench) -> Result<(), Fault> {
    fs::create_dir_all(b.at("d/inner"))?;
    fs::create_dir_all(b.outside.join("d/inner"))?;
    b.forget()?;
    rename2(&b.at("d"), &b.outside.join("d"), RenameFlags::RENAME_EXCHANGE)?;
    b.expect_with(&[T("d")], |path| path == b"d")?;
    fs::write(b.outside.join("d/inner/f"), "")?;
    b.expect_nothing()?;
    fs::write(b.at("d/inner/f"), "")?;
    b.expect(&[E("d/inner/f")])
}

fn no_replace(b: &mut Bench) -> Result<(), Fault> {
    fs::write(b.at("a"), "1")?;
    fs::write(b.at("b"), "2")?;
    b.forget()?;
    assert_eq!(renameat2(AT_FDCWD, &b.at("a"), AT_FDCWD, &b.at("b"), RenameFlags::RENAME_NOREPLACE), Err(Errno::EEXIST));
    b.expect_nothing()?;
    rename2(&b.at("a"), &b.at("c"), RenameFlags::RENAME_NOREPLACE)?;
    b.expect(&[E("a"), E("c")])
}

fn whiteout(b: &mut Bench) -> Result<(), Fault> {
    fs::write(b.at("a"), "1")?;
    b.forget()?;
    rename2(&b.at("a"), &b.at("b"), RenameFlags::RENAME_WHITEOUT)?;
    b.expect(&[E("a"), E("b")])
}

fn saved(b: &mut Bench) -> Result<(), Fault> {
    fs::write(b.at("text"), "old")?;
    b.forget()?;
    let mut file = File::create(b.at(".text.swp"))?;
    file.write_all(b"new")?;
    file.sync_all()?;
    drop(file);
    fs::rename(b.at(".text.swp"), b.at("text"))?;
    b.expect(&[E(".text.swp"), E("text")])
}
