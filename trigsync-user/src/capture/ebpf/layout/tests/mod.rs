//! The resolver over real type information: that of this machine, and every file in the directory that `TRIGSYNC_BTF_DIR` names.

use std::{collections::BTreeMap, path::PathBuf};

mod made;

use super::*;

/// Where the test looks for type information of other kernels; each file is named by the release of its kernel.
const DIRECTORY: &str = "TRIGSYNC_BTF_DIR";

/// Offsets that never changed.
const STEADY: [(&str, u64); 6] =
    [("DENTRY_PARENT", 24), ("DENTRY_NAME", 32), ("DENTRY_INODE", 48), ("DENTRY_SB", 104), ("SB_DEVICE", 16), ("INODE_SB", 40)];

fn files() -> Vec<(String, PathBuf)> {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        eprintln!("skipped: {DIRECTORY} names no directory with the type information of other kernels");
        return Vec::new();
    };
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path())).collect()
}

fn settle(release: &str, types: &Types) -> Result<(BTreeMap<&'static str, u64>, Vec<Lack>), LayoutError> {
    let capabilities = Capabilities::TRAMPOLINES | Capabilities::RING_BUFFER | told_by(release, types);
    let (settings, lacks) = resolve(release, types, &Functions::recorded(types), capabilities)?;
    Ok((settings.globals().map(|(name, value)| (name, *value)).collect(), lacks))
}

/// Where nothing is lacking, every setting has a value but those that the loader gives.
fn assert_nothing_is_forgotten(release: &str, found: &BTreeMap<&'static str, u64>, lacks: &[Lack]) {
    if lacks.is_empty() {
        let unset: Vec<_> = found.iter().filter(|(_, value)| **value == NO).map(|(name, _)| *name).collect();
        assert_eq!(unset, ["DEEPEST_WALK", "MOST_NAMES"], "{release}");
    }
}

/// What is known of single kernels, by what their releases begin with: read in their sources and debug information. The columns are
/// those of [`COLUMNS`]; then what such a kernel lacks.
const KNOWN: [(&str, [u64; 28], &[&str]); 5] = [
    (
        "4.18.0-147",
        [24, 32, 68, 608, NO, NO, 1, 4, 1, 3, 1, 4, 1, 3, 2, 4, 1, 3, 1, 2, 6, 0, 3, 0, 5, NO, 0, 0],
        &["io_kiocb.file", "set_posix_acl", "vfs_fileattr_set", "vfs_iocb_iter_write", "io_write", "io_complete_rw"],
    ),
    (
        "5.10.",
        [24, 32, 68, 560, 8, 24, 1, 4, 1, 3, 1, 4, 1, 3, 2, 4, 1, 3, 1, 2, 1, 0, 3, 0, 5, NO, 0, CREATED],
        &["set_posix_acl", "vfs_fileattr_set"],
    ),
    ("6.1.", [24, 32, 68, 592, 16, 40, 2, 5, 2, 4, 2, 5, 2, 4, 3, 5, 2, 4, 2, 3, 1, 1, 4, 1, 6, NO, 0, CREATED], &["set_posix_acl"]),
    ("6.12.", [72, 40, 12, 124, 16, 40, 2, 5, 2, 4, 2, 5, 2, 4, 3, 5, 2, 4, 2, 3, 1, 1, 4, 1, 6, 1, 0, CREATED], &[]),
    ("7.2.", [72, 32, 4, 124, 16, 32, 1, 4, 2, 5, 2, 6, 2, 5, 3, 5, 2, 4, 2, 4, 1, 1, 4, 1, 6, 1, 1, CREATED], &[]),
];

const NO: u64 = trigsync_common::settings::ABSENT;
const CREATED: u64 = 0x10_0000;

const COLUMNS: [&str; 28] = [
    "FILE_DENTRY",
    "FILE_INODE",
    "FILE_MODE",
    "INODE_GENERATION",
    "RENAME_OLD",
    "RENAME_NEW",
    "CREATE_DENTRY",
    "CREATE_ARGUMENTS",
    "MKDIR_DENTRY",
    "MKDIR_ARGUMENTS",
    "MKNOD_DENTRY",
    "MKNOD_ARGUMENTS",
    "SYMLINK_DENTRY",
    "SYMLINK_ARGUMENTS",
    "LINK_DENTRY",
    "LINK_ARGUMENTS",
    "UNLINK_DENTRY",
    "UNLINK_ARGUMENTS",
    "RMDIR_DENTRY",
    "RMDIR_ARGUMENTS",
    "RENAME_ARGUMENTS",
    "CHANGE_DENTRY",
    "CHANGE_ARGUMENTS",
    "SETXATTR_DENTRY",
    "SETXATTR_ARGUMENTS",
    "ACL_DENTRY",
    "MKDIR_RETURNS_DENTRY",
    "MODE_CREATED",
];

#[test]
fn fields_of_this_machine_lie_where_they_always_have() {
    let Ok(types) = Types::read(Path::new(OWN)) else {
        eprintln!("skipped: this kernel tells no type information");
        return;
    };
    let release = nix::sys::utsname::uname().unwrap().release().to_str().unwrap().to_owned();
    let (found, lacks) = settle(&release, &types).unwrap();
    for (name, offset) in STEADY {
        assert_eq!(found[name], offset, "{name}");
    }
    assert_nothing_is_forgotten(&release, &found, &lacks);
}

#[test]
fn this_machine_can_be_surveyed() {
    let survey = match survey(None, None) {
        Err(LayoutError::Rights(right)) => return eprintln!("skipped: {right}"),
        Err(LayoutError::Unreadable { .. }) => return eprintln!("skipped: this kernel tells no type information"),
        Err(LayoutError::Refused { what, source }) => return eprintln!("skipped: the kernel refused {what}: {source}"),
        other => other.unwrap(),
    };
    eprint!("{survey}");
    assert_eq!(survey.settings.dentry_parent, 24);
    assert_eq!(survey.settings.ring, u64::from(survey.capabilities.contains(Capabilities::RING_BUFFER)));
    let narrowed = super::survey(None, Some("el8.2".parse().unwrap())).unwrap();
    assert_eq!(narrowed.capabilities, Capabilities::empty());
    assert_eq!(narrowed.settings.mode_created, 0);
    assert!(narrowed.allows(Tier::EbpfFexit).is_err());
}

#[test]
fn known_kernels_are_found_as_they_are() {
    for (release, path) in files() {
        let (found, lacks) = settle(&release, &Types::read(&path).unwrap()).unwrap();
        for (name, offset) in STEADY {
            assert_eq!(found[name], offset, "{name} of {release}");
        }
        let Some((_, values, missing)) = KNOWN.iter().find(|(beginning, ..)| release.starts_with(beginning)) else {
            eprintln!("{release}: only what never changed was compared");
            continue;
        };
        assert_nothing_is_forgotten(&release, &found, &lacks);
        COLUMNS.iter().zip(values).for_each(|(name, value)| assert_eq!(found[name], *value, "{name} of {release}"));
        assert_eq!(lacks.iter().map(|lack| lack.what.as_str()).collect::<Vec<_>>(), *missing, "{release}");
    }
}

/// 8.2 has no records of functions; what the table says has to be what the records of 8.1 say.
#[test]
fn the_table_of_4_18_agrees_with_the_records_of_a_4_18() {
    for (release, path) in files().into_iter().filter(|(release, _)| table::fits(release)) {
        let types = Types::read(&path).unwrap();
        let functions = Functions::recorded(&types);
        let recorded = resolve(&release, &types, &functions, Capabilities::FUNCTION_RECORDS).unwrap();
        let tabled = resolve(&release, &types, &functions, Capabilities::empty()).unwrap();
        assert_eq!(recorded, tabled, "{release}");
        for hook in &hooks::HOOKS {
            if let Some(signature) = table::signature(hook.function) {
                assert_eq!(types.signature(hook.function), Ok(signature), "{} of {release}", hook.function);
            }
        }
    }
}

/// The type information of 8.2 itself, as near as it can be had: that of 8.1 with every record of a function made one of something else.
#[test]
fn without_records_the_table_and_the_symbols_do() {
    for (release, path) in files().into_iter().filter(|(release, _)| table::fits(release)) {
        let mut bytes = fs::read(&path).unwrap();
        let whole = Types::parse(&bytes).unwrap();
        made::hide_functions(&mut bytes);
        let types = Types::parse(&bytes).unwrap();
        assert_eq!(told_by(&release, &types), Capabilities::empty());
        let recorded = Functions::recorded(&whole);
        let present = hooks::HOOKS.iter().map(|hook| hook.function).filter(|function| recorded.probeable(function).is_ok());
        let symbols: String = present.map(|function| format!("0000000000000000 T {function}\n")).collect();
        let functions = Functions::new(Symbols::listed(symbols.as_bytes()).unwrap(), &types);
        let resolved = resolve(&release, &types, &functions, Capabilities::empty()).unwrap();
        assert_eq!(resolved, resolve(&release, &whole, &recorded, told_by(&release, &whole)).unwrap(), "{release}");
        assert_eq!(functions.traceable("vfs_mkdir"), Err(functions::Missing::NotRecorded));
    }
}

#[test]
fn a_mask_leaves_the_positions_of_a_newer_kernel() {
    for (release, path) in files().into_iter().filter(|(release, _)| !table::fits(release)) {
        let types = Types::read(&path).unwrap();
        let functions = Functions::recorded(&types);
        let masked = resolve(&release, &types, &functions, "el8.2".parse::<Mask>().unwrap().narrow(Capabilities::all())).unwrap();
        let whole = resolve(&release, &types, &functions, Capabilities::all()).unwrap();
        let expected = Settings { mode_created: 0, ring: 0, typed_task: 0, ..whole.0 };
        assert_eq!(masked.0, expected, "{release}");
    }
}
