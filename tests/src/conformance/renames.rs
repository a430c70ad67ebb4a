//! Renames, of every kind that there is.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};

use super::{Bench, E, Fault, Row, T, bench::check};

pub const CASES: &[Row] = &[
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

fn renamed_file(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir(b.at("d"))?;
    fs::write(b.at("a"), "")?;
    b.forget()?;
    fs::rename(b.at("a"), b.at("b"))?;
    b.expect(&[E("a"), E("b")])?;
    fs::rename(b.at("b"), b.at("d/c"))?;
    b.expect(&[E("b"), E("d/c")])
}

fn renamed_over(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("a"), "1")?;
    fs::write(b.at("b"), "2")?;
    b.forget()?;
    fs::rename(b.at("a"), b.at("b"))?;
    b.expect(&[E("a"), E("b")])
}

fn renamed_directory(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir_all(b.at("a/inner"))?;
    fs::create_dir(b.at("other"))?;
    b.forget()?;
    fs::rename(b.at("a"), b.at("b"))?;
    b.expect(&[E("a"), T("b")])?;
    fs::rename(b.at("b/inner"), b.at("other/moved"))?;
    b.expect(&[E("b/inner"), T("other/moved")])
}

fn renamed_directory_written(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::create_dir(b.at("a"))?;
    fs::write(b.at("a/f"), "")?;
    b.forget()?;
    fs::rename(b.at("a"), b.at("b"))?;
    b.expect(&[E("a"), T("b")])?;
    fs::write(b.at("b/f"), "x")?;
    b.expect(&[E("b/f")])
}

fn renamed_parent_written(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn moved_in(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn moved_out(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn moved_out_and_back(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn exchanged(b: &mut Bench<'_>) -> Result<(), Fault> {
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
    // What was a directory may be marked whole.
    let seen = b.read_all()?;
    let also = |path: &[u8]| path == b"f1";
    check(&seen, &[T("f1"), E("sub/d2")], also).or_else(|_| check(&seen, &[T("f1"), T("sub/d2")], also))?;
    fs::write(b.at("f1/inner/f"), "")?;
    b.expect(&[E("f1/inner/f")])
}

fn exchanged_across(b: &mut Bench<'_>) -> Result<(), Fault> {
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

fn no_replace(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("a"), "1")?;
    fs::write(b.at("b"), "2")?;
    b.forget()?;
    assert_eq!(renameat2(AT_FDCWD, &b.at("a"), AT_FDCWD, &b.at("b"), RenameFlags::RENAME_NOREPLACE), Err(Errno::EEXIST));
    b.expect_nothing()?;
    rename2(&b.at("a"), &b.at("c"), RenameFlags::RENAME_NOREPLACE)?;
    b.expect(&[E("a"), E("c")])
}

fn whiteout(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("a"), "1")?;
    b.forget()?;
    rename2(&b.at("a"), &b.at("b"), RenameFlags::RENAME_WHITEOUT)?;
    b.expect(&[E("a"), E("b")])
}

fn saved(b: &mut Bench<'_>) -> Result<(), Fault> {
    fs::write(b.at("text"), "old")?;
    b.forget()?;
    let mut file = File::create(b.at(".text.swp"))?;
    file.write_all(b"new")?;
    file.sync_all()?;
    drop(file);
    fs::rename(b.at(".text.swp"), b.at("text"))?;
    b.expect(&[E(".text.swp"), E("text")])
}
