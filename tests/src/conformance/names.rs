//! Names: linked, removed, made in depth.

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
    fcntl::{AT_FDCWD, AtFlags},
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
];

fn linked(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("old"), "x")?;
    b.forget()?;
    fs::hard_link(b.at("old"), b.at("new"))?;
    b.expect_with(&[E("new")], |path| path == b"old")
}

fn symlinked(b: &mut Bench<'_>) -> Result<(), Fault> {
    symlink("nowhere", b.at("link"))?;
    b.expect(&[E("link")])
}

fn open_tmpfile(b: &Bench<'_>) -> Result<File, Fault> {
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(&b.root);
    match opened {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Err(Fault::NotCovered("this file system has no O_TMPFILE".to_owned()))
        }
        result => Ok(result?),
    }
}

fn link_tmpfile(b: &Bench<'_>, file: &File) -> Result<(), Errno> {
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(AT_FDCWD, source.as_str(), AT_FDCWD, &b.at("named"), AtFlags::AT_SYMLINK_FOLLOW)
}

fn tmpfile(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut file = open_tmpfile(b)?;
    file.write_all(b"x")?;
    // While it has no name, the kernel may call it by its number.
    b.expect_with(&[], |path| path.starts_with(b"#"))?;
    link_tmpfile(b, &file)?;
    b.expect_with(&[E("named")], |path| path.starts_with(b"#"))
}

fn tmpfile_written_later(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut file = open_tmpfile(b)?;
    link_tmpfile(b, &file)?;
    b.forget()?;
    file.write_all(b"x")?;
    b.expect_with(&[E("named")], |path| path.starts_with(b"#"))
}

fn unlinked(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("f"), "")?;
    b.forget()?;
    fs::remove_file(b.at("f"))?;
    b.expect(&[E("f")])
}

fn unlinked_open(b: &mut Bench<'_>) -> Result<(), Fault> {
    let mut file = File::create(b.at("f"))?;
    b.forget()?;
    fs::remove_file(b.at("f"))?;
    b.expect(&[E("f")])?;
    file.write_all(b"x")?;
    drop(file);
    b.expect_with(&[], |path| path == b"f")
}

fn removed_directory(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir(b.at("d"))?;
    b.forget()?;
    fs::remove_dir(b.at("d"))?;
    b.expect(&[E("d")])
}

fn removed_tree(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn made_anew(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn made_directory(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir(b.at("d"))?;
    b.expect(&[E("d")])
}

fn made_deep(b: &mut Bench<'_>) -> Result<(), Fault> {
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
