//! Which program goes to which function, and what is not seen where that fails.
//!
//! Program by program: one that the kernel refuses takes away what it stands for, by name, and nothing else; only where it is one
//! that the tier cannot do without, the tier is not taken.

use std::{fs::File, io, os::fd::AsFd as _};

use aya::{
    Btf, Ebpf,
    maps::{Array, MapError},
    programs::{Program, ProgramError, links::FdLink},
};
use tracing::{debug, warn};
use trigsync_common::{
    settings::{ABSENT, Settings},
    values::Report,
};

use super::{
    layout::{
        Survey,
        functions::Missing,
        hooks::{HOOKS, Hook, Need},
    },
    load::short_of_memory,
    maps::{Plain, REPORT},
    tracefs::Probes,
};
use crate::capture::{CaptureError, Tier};

/// Lines of the verifier's log that are told: the last ones say why.
const LINES_OF_LOG: usize = 6;

/// A program at its function.
pub(super) struct Hung {
    /// As in the object.
    pub program: String,
    function: &'static str,
    /// What holds it there; probes are held by [`Probes`].
    pub link: Option<FdLink>,
}

/// Programs that are attached.
pub(super) struct Attached {
    pub hung: Vec<Hung>,
    /// Sentences: what is not seen, and why.
    pub lacks: Vec<String>,
    /// Where they hang, in the kprobe tier.
    probes: Option<Probes>,
}

/// Why a program is not attached.
#[derive(Debug)]
pub(super) enum Failure {
    /// The verifier found it too long to follow: shorter limits may help.
    TooComplex(String),
    /// Nothing helps.
    Refused(String),
    /// The kernel does not let this process.
    Forbidden(String),
}

impl Failure {
    fn of(error: &ProgramError) -> Self {
        let ProgramError::LoadError { io_error, verifier_log } = error else { return Self::other(error) };
        let log = verifier_log.to_string();
        let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty() && !is_statistics(line)).collect();
        let told = format!("{io_error}: {}", lines[lines.len().saturating_sub(LINES_OF_LOG)..].join(" | "));
        let is_long = io_error.raw_os_error() == Some(libc::E2BIG) || log.contains("too complex") || log.contains("too large");
        match io_error.kind() {
            _ if is_long => Self::TooComplex(told),
            io::ErrorKind::PermissionDenied if lines.is_empty() => Self::Forbidden(io_error.to_string()),
            _ => Self::Refused(told),
        }
    }

    fn other(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut told = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !told.contains(&cause_text) {
                told = format!("{told}: {cause_text}");
            }
            source = cause.source();
        }
        Self::Refused(told)
    }

    fn text(&self) -> &str {
        match self {
            Self::TooComplex(why) | Self::Refused(why) | Self::Forbidden(why) => why,
        }
    }
}

/// What the verifier counted stands after what it found.
fn is_statistics(line: &str) -> bool {
    ["processed ", "verification time", "stack depth"].iter().any(|start| line.starts_with(start))
}

/// Why a tier is not taken.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// Another try with shorter limits may work.
    TooComplex(CaptureError),
    /// It will not.
    Never(CaptureError),
}

/// Before the name of a program that stands in where the kernel skips the one of that name.
const SECOND: &str = "second_";

/// A function's programs in this tier: as they are called in the object, in the order in which they are attached.
fn programs(survey: &Survey, tier: Tier, hook: &Hook) -> Vec<String> {
    let named = |kind: &str| format!("{kind}_{}", hook.function);
    // On return first: whoever enters before both are there is then not taken for one that never left.
    let kinds = if tier == Tier::EbpfKprobe { ["kretprobe", "kprobe"] } else { ["fexit", "fentry"] };
    let first = kinds.map(named);
    if tier == Tier::EbpfKprobe || survey.settings.second == 0 {
        return first.into();
    }
    // Of two programs at one place, the kernel runs first what came last.
    first.iter().map(|name| format!("{SECOND}{name}")).chain(first.clone()).collect()
}

/// What sees the removal of a directory where `vfs_rmdir` is not called as a function. They run with every name that is removed.
const INSTEAD_OF_RMDIR: [&str; 2] = ["shrink_dcache_parent", "d_delete"];

/// Whether a program only stands in for another.
pub(super) fn is_second(program: &str) -> bool {
    program.starts_with(SECOND)
}

/// Why no program is loaded for a function; `Ok(false)` where none is needed.
pub(super) fn is_wanted(survey: &Survey, tier: Tier, hook: &Hook) -> Result<bool, String> {
    let settings = &survey.settings;
    if hook.function == "security_inode_create" && settings.mode_created != 0 {
        return Ok(false);
    }
    let present =
        if tier == Tier::EbpfKprobe { survey.functions.probeable(hook.function) } else { survey.functions.traceable(hook.function) };
    present.map_err(|missing| missing.to_string())?;
    // Not having a record matters to trampolines only.
    let counts = |why: &str| tier == Tier::EbpfFexit || why != Missing::NotRecorded.to_string();
    if let Some(lack) = survey.lacks.iter().find(|lack| lack.what == hook.function && counts(&lack.why)) {
        return Err(lack.why.clone());
    }
    needs(settings, hook.function).map_or(Ok(true), |what| Err(format!("this kernel has no {what}")))
}

/// The first field that a function's programs need and this kernel does not have.
fn needs(settings: &Settings, function: &str) -> Option<&'static str> {
    let fields: &[(u64, &str)] = match function {
        "io_write" => &[(settings.request_file, "io_kiocb.file")],
        "io_complete_rw" | "aio_complete_rw" => &[(settings.kiocb_file, "kiocb.ki_filp"), (settings.kiocb_flags, "kiocb.ki_flags")],
        "file_update_time" => &[(settings.file_mapping, "file.f_mapping"), (settings.mapping_writable, "address_space.i_mmap_writable")],
        _ => &[],
    };
    fields.iter().find(|(value, _)| *value == ABSENT).map(|(_, name)| *name)
}

/// Loads and attaches all that this kernel takes.
/// `is_last`: there are no shorter limits to try.
pub(super) fn attach(ebpf: &mut Ebpf, survey: &Survey, tier: Tier, is_last: bool) -> Result<Attached, NotTaken> {
    let btf = match tier {
        Tier::EbpfKprobe => None,
        _ => Some(
            Btf::from_sys_fs().map_err(|error| NotTaken::Never(refused("any program", "any function", Failure::other(&error).text())))?,
        ),
    };
    let probes = match tier {
        Tier::EbpfKprobe => Some(Probes::new().map_err(NotTaken::Never)?),
        _ => None,
    };
    let mut attached = Attached { hung: Vec::new(), lacks: Vec::new(), probes };
    for hook in &HOOKS {
        let wanted = is_wanted(survey, tier, hook);
        if matches!(wanted, Ok(false)) {
            continue;
        }
        let names: Vec<String> = programs(survey, tier, hook).into_iter().filter(|name| ebpf.program(name).is_some()).collect();
        let result = wanted.map_err(|why| (String::new(), Failure::Refused(why))).and_then(|_| {
            names.into_iter().try_for_each(|name| {
                let link = attached.one(ebpf, &name, hook.function, btf.as_ref()).map_err(|failure| (name.clone(), failure))?;
                attached.hung.push(Hung { program: name, function: hook.function, link });
                Ok(())
            })
        });
        let Err((name, failure)) = result else { continue };
        attached.detach(ebpf, hook.function);
        debug!(function = hook.function, program = name, ?failure, "not attached");
        match (hook.need, failure) {
            (_, Failure::Forbidden(why)) => {
                return Err(NotTaken::Never(short_of_memory(survey).unwrap_or_else(|| forbidden(&why))));
            }
            (Need::Required, Failure::TooComplex(why)) if !is_last => {
                return Err(NotTaken::TooComplex(refused(&name, hook.function, &why)));
            }
            (Need::Required, failure) => return Err(NotTaken::Never(refused(&name, hook.function, failure.text()))),
            (Need::Else(_), Failure::Refused(_)) if name.is_empty() => {}
            (_, Failure::TooComplex(why)) if !is_last => return Err(NotTaken::TooComplex(refused(&name, hook.function, &why))),
            (Need::Costs(costs) | Need::Else(costs), failure) => {
                attached.lacks.push(lack(hook.function, costs, failure.text()));
            }
        }
    }
    Ok(attached)
}

/// What is not seen for want of a function.
pub(super) fn lack(function: &str, costs: &str, why: &str) -> String {
    format!("{function}: {costs} ({why})")
}

fn refused(program: &str, function: &str, why: &str) -> CaptureError {
    CaptureError::Refused { program: program.to_owned(), function: function.to_owned(), why: why.to_owned() }
}

fn forbidden(why: &str) -> CaptureError {
    let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let remedy = if lockdown.contains("[confidentiality]") {
        "the kernel is locked down for confidentiality: boot with lockdown=integrity"
    } else {
        "this process has the capabilities; look for a seccomp filter, a container's profile or a security module that forbids bpf(2)"
    };
    CaptureError::Forbidden { why: why.to_owned(), remedy }
}

impl Attached {
    fn one(&mut self, ebpf: &mut Ebpf, name: &str, function: &'static str, btf: Option<&Btf>) -> Result<Option<FdLink>, Failure> {
        let gone = || Failure::Refused("the object has no such program".to_owned());
        let program = ebpf.program_mut(name).ok_or_else(gone)?;
        let done = match (program, btf) {
            (Program::FExit(program), Some(btf)) => {
                program.load(function, btf).and_then(|()| program.attach()).and_then(|id| program.take_link(id)).map(FdLink::from)
            }
            (Program::FEntry(program), Some(btf)) => {
                program.load(function, btf).and_then(|()| program.attach()).and_then(|id| program.take_link(id)).map(FdLink::from)
            }
            (Program::KProbe(program), None) => {
                program.load().map_err(|error| Failure::of(&error))?;
                let probes = self.probes.as_mut().ok_or_else(gone)?;
                let fd = program.fd().map_err(|error| Failure::of(&error))?;
                probes.attach(name, function, fd.as_fd()).map_err(|error| Failure::Refused(error.to_string()))?;
                return Ok(None);
            }
            _ => return Err(Failure::Refused("it is not of the kind that its name says".to_owned())),
        };
        done.map(Some).map_err(|error| Failure::of(&error))
    }

    /// Takes off what stands for a function that turned out to run its own programs. Returns the names of what was taken off.
    pub fn spare(&mut self, ebpf: &mut Ebpf) -> Vec<String> {
        let runs = |name: &str| ebpf.program(name).and_then(|program| program.info().ok()).is_some_and(|info| info.run_count() > 0);
        if !["fexit_vfs_rmdir", "kretprobe_vfs_rmdir"].into_iter().any(runs) {
            return Vec::new();
        }
        let spared = |hung: &&Hung| INSTEAD_OF_RMDIR.contains(&hung.function);
        let names = self.hung.iter().filter(spared).map(|hung| hung.program.clone()).collect();
        for function in INSTEAD_OF_RMDIR {
            self.detach(ebpf, function);
        }
        names
    }

    /// Takes off what hangs at a function of which a part failed, or that is of no use.
    fn detach(&mut self, ebpf: &mut Ebpf, function: &str) {
        for hung in self.hung.extract_if(.., |hung| hung.function == function) {
            let name = hung.program;
            drop(hung.link);
            if let Some(probes) = &mut self.probes {
                probes.detach(&name);
            }
            let unloaded = match ebpf.program_mut(&name) {
                Some(Program::FExit(program)) => program.unload(),
                Some(Program::FEntry(program)) => program.unload(),
                Some(Program::KProbe(program)) => program.unload(),
                _ => Ok(()),
            };
            debug!(name, ?unloaded, "taken off again");
        }
    }

    /// Takes the second programs off again where this kernel runs them first: then they would stand in every time.
    pub fn check_order(&mut self, ebpf: &Ebpf) {
        const OPENINGS: u64 = 64;
        let stood_in = || {
            let report = ebpf.map(REPORT).ok_or(MapError::InvalidName { name: REPORT.to_owned() })?;
            Array::<_, Plain<Report>>::try_from(report)?.get(&0, 0).map(|report| report.0.stood_in)
        };
        let before = stood_in();
        // Each runs the two programs of one function.
        (0..OPENINGS).for_each(|_| drop(File::open("/dev/null")));
        match (before, stood_in()) {
            (Ok(before), Ok(after)) if after.wrapping_sub(before) < OPENINGS => {}
            (before, after) => {
                warn!(
                    ?before,
                    ?after,
                    "this kernel runs a program that came later after one that came before: calls that it skips are losses"
                );
                self.hung.retain(|hung| !is_second(&hung.program));
            }
        }
    }

    /// The kernel's count of calls that a probe missed; `None` where there are no probes.
    pub fn missed_by_probes(&self) -> Option<io::Result<u64>> {
        self.probes.as_ref().map(Probes::missed)
    }
}
