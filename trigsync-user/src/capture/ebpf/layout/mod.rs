//! What the running kernel is like: where it keeps what the programs read, which arguments its functions take, and what it can do.
//!
//! - All of it is found, and checked, before any program is loaded.
//! - Nothing about a kernel is compiled in, but for the signatures of 4.18, whose type information may not have them.
//! - What a kernel lacks is a [`Lack`] with its reason and its price; without what every program needs there is no [`Survey`] but a
//!   [`LayoutError`] that names the remedy.

pub mod capabilities;
pub mod functions;
pub mod hooks;
mod preemption;
mod probe;
mod resolve;
pub mod rights;
mod table;
#[cfg(test)]
mod tests;
pub mod types;

use std::{
    fmt, fs, io,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use tracing::debug;
use trigsync_common::settings::Settings;

pub use self::{
    capabilities::{Capabilities, Mask},
    functions::{Functions, Symbols},
    preemption::interrupts_programs,
    resolve::resolve,
    rights::MissingRight,
    types::{Absence, Types},
};
use super::super::Tier;

/// Where the kernel keeps its own type information.
const OWN: &str = "/sys/kernel/btf/vmlinux";

/// All that the loader needs to know about a kernel.
#[derive(Clone, Debug)]
pub struct Survey {
    /// As `uname -r` tells it.
    pub release: String,
    /// For the programs. `DEEPEST_WALK` and `MOST_NAMES` are not the kernel's and stay absent.
    pub settings: Settings,
    /// What programs can be attached to.
    pub functions: Functions,
    /// What was found by trying, less what was masked.
    pub capabilities: Capabilities,
    /// What is missing, in the order of the programs.
    pub lacks: Vec<Lack>,
}

/// Something that this kernel does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The function, field or capability, by its name.
    pub what: String,
    /// The reason.
    pub why: String,
    /// What it costs.
    pub severity: Severity,
}

/// What a lack costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// No eBPF tier can be used.
    Everything,
    /// The tier ebpf-fexit cannot be used.
    Trampolines,
    /// Something is not seen, as the sentence says.
    Sight(&'static str),
    /// Nothing is lost; the sentence says how it is done instead.
    Nothing(&'static str),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; ", self.what, self.why)?;
        match self.severity {
            Severity::Everything => f.write_str("without it there is no capture with eBPF"),
            Severity::Trampolines => f.write_str("without it there is no tier ebpf-fexit"),
            Severity::Sight(costs) => f.write_str(costs),
            Severity::Nothing(instead) => f.write_str(instead),
        }
    }
}

/// Why a kernel could not be surveyed. Every message names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The process lacks rights.
    #[error("{0}")]
    Rights(MissingRight),
    /// There is no type information.
    #[error(
        "the kernel's type information ({}) cannot be read; a kernel built without CONFIG_DEBUG_INFO_BTF has none: give that of exactly this \
         kernel with --btf FILE",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The type information makes no sense.
    #[error("{} is not type information (BTF) that can be understood; give that of exactly this kernel with --btf FILE", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: btf_rs::Error,
    },
    /// A field without which no program works.
    #[error("the kernel's type information does not tell where {field} is: {why}; give that of exactly this kernel with --btf FILE")]
    Essential {
        /// Its path.
        field: &'static str,
        /// The reason.
        why: Absence,
    },
    /// The kernel refused a trial.
    #[error("the kernel refused {what}, although this process has the rights; look for a seccomp filter or kernel lockdown")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A file of the system could not be read.
    #[error("{action} failed")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Surveys the running kernel, with the type information in `btf` where its own is not there, and as if it lacked what `mask` hides.
///
/// Loads trial programs, which takes the rights that [`rights::missing`] tells of, and attaches none.
pub fn survey(btf: Option<&Path>, mask: Option<Mask>) -> Result<Survey, LayoutError> {
    let system = |action| move |source| LayoutError::System { action, source };
    let missing = rights::missing().map_err(system("reading this process' capabilities"))?;
    if let Some(right) = missing.into_iter().find(|right| right.is_essential) {
        return Err(LayoutError::Rights(right));
    }
    let release = nix::sys::utsname::uname().map_err(|errno| system("asking for the kernel's release")(errno.into()))?;
    let release = release.release().to_string_lossy().into_owned();
    // Kernels before 5.11 count maps and programs against this limit, those of a capture that is still pinned too, so already the trials
    // need it. Where it cannot be raised, the kernel says so when it matters.
    if let Err(errno) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        debug!(%errno, "raising RLIMIT_MEMLOCK");
    }
    // Both take as long as all the rest together.
    let (types, symbols) = thread::scope(|scope| {
        let symbols = scope.spawn(Symbols::read);
        (Types::read(btf.unwrap_or(Path::new(OWN))), symbols.join())
    });
    let types = types?;
    let symbols = symbols.unwrap_or_else(|panic| resume_unwind(panic)).map_err(system("reading /proc/kallsyms"))?;
    let functions = Functions::new(symbols, &types);
    let (tried, refusals) = probe::probe(&types)?;
    let has = tried | told_by(&release, &types);
    let capabilities = mask.map_or(has, |mask| mask.narrow(has));
    let mut lacks = capabilities.lacks(|capability| match refusals.iter().find(|refusal| refusal.capability == capability) {
        _ if has.contains(capability) => "masked".to_owned(),
        Some(refusal) => format!("the kernel refused a trial ({})", refusal.answer),
        None => "this kernel does not have it".to_owned(),
    });
    let (mut settings, missing) = resolve(&release, &types, &functions, capabilities)?;
    // Kernels that do not count do not skip either.
    settings.second = u64::from(capabilities.contains(Capabilities::RECURSION_COUNT) && interrupts_programs());
    lacks.extend(missing);
    Ok(Survey { release, settings, functions, capabilities, lacks })
}

/// The capabilities that need no trial.
fn told_by(release: &str, types: &Types) -> Capabilities {
    let mut told = Capabilities::empty();
    told.set(Capabilities::FUNCTION_RECORDS, types.function_id("vfs_write").is_some());
    told.set(Capabilities::MODE_CREATED, resolve::marks_created(release, types));
    told
}

impl Types {
    /// Reads the type information in a file.
    pub fn read(path: &Path) -> Result<Self, LayoutError> {
        let bytes = fs::read(path).map_err(|source| LayoutError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&bytes).map_err(|source| LayoutError::Damaged { path: path.to_owned(), source })
    }
}

impl Survey {
    /// Whether a tier can be tried, or the first lack that forbids it. Of the eBPF tiers only; the others do not depend on this.
    pub fn allows(&self, tier: Tier) -> Result<(), &Lack> {
        let needs_trampolines = tier == Tier::EbpfFexit;
        let forbids = |lack: &&Lack| match lack.severity {
            Severity::Everything => true,
            Severity::Trampolines => needs_trampolines,
            Severity::Sight(_) | Severity::Nothing(_) => false,
        };
        self.lacks.iter().find(forbids).map_or(Ok(()), Err)
    }
}

/// For `doctor`: the kernel, what it can do, and a line for each lack.
impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel {}: {}", self.release, self.capabilities)?;
        self.lacks.iter().try_for_each(|lack| writeln!(f, "{lack}"))
    }
}
