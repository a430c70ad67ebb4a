//! Which of the functions that programs want to be attached to are there, by the names in `/proc/kallsyms` and by their records in the
//! type information.
//!
//! The compiler may have left only a copy with a name of its own (`vfs_write.isra.0`, `.constprop.0`, `.part.0`, `.llvm.…`): such a
//! function does not take the arguments that its source says, so it counts as missing, with the reason.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, BufReader},
};

use super::{hooks::HOOKS, types::Types};

/// Where the kernel lists its symbols; the names are there for everyone.
const LIST: &str = "/proc/kallsyms";

/// What is known of each function of [`HOOKS`].
#[derive(Clone, Debug, Default)]
pub struct Functions {
    symbols: Symbols,
    /// Those of which the type information has a record.
    recorded: HashSet<&'static str>,
}

/// The functions of [`HOOKS`] among the kernel's symbols.
#[derive(Clone, Debug, Default)]
pub struct Symbols(HashMap<&'static str, Occurrence>);

#[derive(Clone, Debug, Default)]
struct Occurrence {
    /// How many functions of the kernel itself have exactly this name.
    plain: usize,
    /// A name that the compiler gave to a copy.
    altered: Option<String>,
}

/// Why nothing can be attached to a function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No symbol has its name.
    #[error("this kernel has no such function")]
    Nowhere,
    /// The compiler has changed it.
    #[error("the compiler left only {0}, which takes other arguments")]
    Altered(String),
    /// Its name does not tell which one is meant.
    #[error("this kernel has {0} functions of that name")]
    Several(usize),
    /// A trampoline needs the record.
    #[error("the kernel's type information has no record of it")]
    NotRecorded,
}

impl Functions {
    /// Of the kernel that has these symbols and types.
    pub fn new(symbols: Symbols, types: &Types) -> Self {
        let recorded = HOOKS.iter().map(|hook| hook.function).filter(|function| types.function_id(function).is_some());
        Self { symbols, recorded: recorded.collect() }
    }

    /// As if every function with a record in the type information were there: for kernels that do not run here.
    pub fn recorded(types: &Types) -> Self {
        let Self { recorded, .. } = Self::new(Symbols::default(), types);
        let symbols = recorded.iter().map(|function| (*function, Occurrence { plain: 1, altered: None }));
        Self { symbols: Symbols(symbols.collect()), recorded }
    }

    /// Whether a probe on entry or return can be attached.
    pub fn probeable(&self, function: &str) -> Result<(), Missing> {
        let Some(occurrence) = self.symbols.0.get(function) else { return Err(Missing::Nowhere) };
        match (occurrence.plain, &occurrence.altered) {
            (1, _) => Ok(()),
            (0, Some(name)) => Err(Missing::Altered(name.clone())),
            (0, None) => Err(Missing::Nowhere),
            (several, _) => Err(Missing::Several(several)),
        }
    }

    /// Whether a trampoline can be attached.
    pub fn traceable(&self, function: &str) -> Result<(), Missing> {
        self.probeable(function)?;
        if self.recorded.contains(function) { Ok(()) } else { Err(Missing::NotRecorded) }
    }
}

impl Symbols {
    /// Of the running kernel.
    pub fn read() -> io::Result<Self> {
        Self::listed(BufReader::with_capacity(1 << 16, fs::File::open(LIST)?))
    }

    /// Of a list in the format of `/proc/kallsyms`; functions of modules are others that share a name.
    pub(super) fn listed(mut list: impl io::BufRead) -> io::Result<Self> {
        let wanted: HashMap<&[u8], &'static str> = HOOKS.iter().map(|hook| (hook.function.as_bytes(), hook.function)).collect();
        let mut found: HashMap<&'static str, Occurrence> = HashMap::with_capacity(wanted.len());
        let mut line = Vec::new();
        while list.read_until(b'\n', &mut line)? > 0 {
            if let Some(symbol) = function_symbol(&line) {
                let plain = symbol.split(|byte| *byte == b'.').next().unwrap_or_default();
                if let Some(function) = wanted.get(plain) {
                    let occurrence = found.entry(function).or_default();
                    match plain.len() == symbol.len() {
                        true => occurrence.plain += 1,
                        false => occurrence.altered = Some(String::from_utf8_lossy(symbol).into_owned()),
                    }
                }
            }
            line.clear();
        }
        Ok(Self(found))
    }
}

/// The name in a line such as `ffffffff81000000 T vfs_write`, if it is a function's of the kernel itself.
fn function_symbol(line: &[u8]) -> Option<&[u8]> {
    let mut words = line.trim_ascii_end().split(|byte| matches!(byte, b' ' | b'\t'));
    let (_, kind, name) = (words.next()?, words.next()?, words.next()?);
    let is_function = matches!(kind, b"t" | b"T" | b"w" | b"W");
    (is_function && words.next().is_none()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_by_the_compiler_is_not_the_function() {
        let list = "0000000000000000 t vfs_mkdir.isra.0\n\
                    0000000000000000 T vfs_rmdir\n\
                    0000000000000000 t vfs_rmdir.part.0\n\
                    0000000000000000 t io_write\n\
                    0000000000000000 t io_write\n\
                    0000000000000000 d vfs_write\n\
                    0000000000000000 t vfs_link\t[overlay]\n";
        let functions = Functions { symbols: Symbols::listed(list.as_bytes()).unwrap(), recorded: HashSet::new() };
        assert_eq!(functions.probeable("vfs_mkdir"), Err(Missing::Altered("vfs_mkdir.isra.0".to_owned())));
        assert_eq!(functions.probeable("vfs_rmdir"), Ok(()));
        assert_eq!(functions.traceable("vfs_rmdir"), Err(Missing::NotRecorded));
        assert_eq!(functions.probeable("io_write"), Err(Missing::Several(2)));
        assert_eq!(functions.probeable("vfs_write"), Err(Missing::Nowhere));
        assert_eq!(functions.probeable("vfs_link"), Err(Missing::Nowhere));
    }
}
