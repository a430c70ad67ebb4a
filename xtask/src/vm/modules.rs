//! A kernel's modules: which are needed for what the guest mounts, and in which order they are loaded.
//!
//! What a module needs is read from the module itself (its `.modinfo`), not from `modules.dep`: that file is made when a package is
//! installed, and is missing from one that was only unpacked.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use ignore::WalkBuilder;

use crate::packages;

/// A module, ready to be loaded.
pub struct Module {
    /// As the kernel names it.
    pub name: String,
    /// The object, decompressed.
    pub object: Vec<u8>,
}

/// The modules for `wanted`, each after those that it needs. What is not among the files is built in, or the kernel does not have it.
pub fn closure(directory: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let files = files(directory)?;
    let mut order =
        Order { read: |name: &str| files.get(name).map(|path| decompressed(path)).transpose(), seen: HashSet::new(), loaded: Vec::new() };
    for name in wanted {
        order.add(name)?;
    }
    Ok(order.loaded)
}

/// Every module's file by the module's name.
fn files(directory: &Path) -> Result<HashMap<String, PathBuf>> {
    let mut files = HashMap::new();
    // Links beside the modules lead to the kernel's source.
    for entry in WalkBuilder::new(directory.join("kernel")).standard_filters(false).build() {
        let path = entry.with_context(|| format!("reading {}", directory.display()))?.into_path();
        if let Some(name) = path.file_name().and_then(|name| module_name(name.to_str()?)) {
            files.insert(name, path);
        }
    }
    Ok(files)
}

/// `crc32c_intel` of `crc32c-intel.ko.xz`.
fn module_name(file: &str) -> Option<String> {
    let (name, rest) = file.split_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

struct Order<R> {
    read: R,
    seen: HashSet<String>,
    loaded: Vec<Module>,
}

impl<R: FnMut(&str) -> Result<Option<Vec<u8>>>> Order<R> {
    fn add(&mut self, name: &str) -> Result<()> {
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(object) = (self.read)(name)? else { return Ok(()) };
        for needed in needs(&object) {
            self.add(&needed)?;
        }
        self.loaded.push(Module { name: name.to_owned(), object });
        Ok(())
    }
}

/// What a module says that must be there before it: by its symbols, and by a hint to modprobe. A hint may name an algorithm, whose plain
/// implementation has a name of its own.
fn needs(object: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for entry in object.split(|byte| *byte == 0) {
        let Ok(entry) = std::str::from_utf8(entry) else { continue };
        if let Some(list) = entry.strip_prefix("depends=") {
            names.extend(list.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")));
        } else if let Some(list) = entry.strip_prefix("softdep=pre: ") {
            for name in list.split_whitespace().take_while(|word| *word != "post:") {
                let name = name.strip_prefix("crypto-").unwrap_or(name).replace('-', "_");
                names.extend([format!("{name}_generic"), name]);
            }
        }
    }
    names
}

fn decompressed(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => packages::XZ,
        Some("zst") => packages::ZSTD,
        Some("gz") => packages::GZIP,
        _ => return fs::read(path).with_context(|| format!("reading {}", path.display())),
    };
    packages::require(&[program])?;
    let mut command = Command::new(program.program);
    let output = command.args(["-d", "-c", "-q"]).arg(path).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("{} does not start", program.program))?;
    if !output.status.success() {
        bail!("{} cannot be decompressed by {}", path.display(), program.program);
    }
    Ok(output.stdout)
}

/// The modules that make each of these file systems mountable in a guest.
pub fn for_file_systems(names: &[String]) -> Vec<&'static str> {
    let known: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("ext4", ["loop", "ext4"].as_slice()),
        ("xfs", &["loop", "xfs"]),
        ("btrfs", &["loop", "btrfs"]),
        ("overlay", &["loop", "ext4", "overlay"]),
    ]);
    let mut wanted: Vec<_> = names.iter().filter_map(|name| known.get(name.as_str())).flat_map(|modules| modules.iter().copied()).collect();
    let mut seen = HashSet::new();
    wanted.retain(|name| seen.insert(*name));
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(objects: &[(&str, &str)], wanted: &[&str]) -> Vec<String> {
        let objects: HashMap<_, _> = objects.iter().copied().collect();
        let read = |name: &str| Ok(objects.get(name).map(|object| object.replace('|', "\0").into_bytes()));
        let mut order = Order { read, seen: HashSet::new(), loaded: Vec::new() };
        for name in wanted {
            order.add(name).unwrap();
        }
        order.loaded.into_iter().map(|module| module.name).collect()
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it() {
        let objects = [
            ("btrfs", "\x7fELF|license=GPL|softdep=pre: crypto-crc32c|softdep=pre: blake2b-256|depends=libcrc32c,raid6_pq|"),
            ("xfs", "|depends=libcrc32c|"),
            ("libcrc32c", "|softdep=pre: crc32c post: other|depends=|"),
            ("crc32c_generic", "|depends=|"),
            ("raid6_pq", "|depends=|"),
            ("other", "|depends=|"),
        ];
        assert_eq!(order(&objects, &["loop", "xfs", "btrfs"]), ["crc32c_generic", "libcrc32c", "xfs", "raid6_pq", "btrfs"]);
        assert!(order(&objects, &["ext4"]).is_empty());
    }

    #[test]
    fn modules_that_need_each_other_do_not_run_in_circles() {
        assert_eq!(order(&[("a", "|depends=b|"), ("b", "|depends=a|")], &["a"]), ["b", "a"]);
    }

    #[test]
    fn a_file_names_its_module_compressed_or_not() {
        assert_eq!(module_name("crc32c-intel.ko").as_deref(), Some("crc32c_intel"));
        assert_eq!(module_name("xfs.ko.xz").as_deref(), Some("xfs"));
        assert_eq!(module_name("btrfs.ko.zst").as_deref(), Some("btrfs"));
        assert_eq!(module_name("modules.builtin"), None);
        assert_eq!(module_name("a.koala"), None);
    }

    #[test]
    fn each_file_system_has_its_modules_once() {
        let names = ["tmpfs", "xfs", "ext4", "overlay"].map(str::to_owned);
        assert_eq!(for_file_systems(&names), ["loop", "xfs", "ext4", "overlay"]);
    }
}
