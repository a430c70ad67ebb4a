//! Tries what the running kernel's eBPF can do. Nothing goes by the version: distributions bring features back, and leave them out.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use aya::{
    maps::MapType,
    programs::{ProgramError, ProgramType},
    sys::{BpfHelper, is_helper_supported, is_map_supported},
};
use aya_obj::generated::{
    BPF_ALU64, BPF_EXIT, BPF_JMP, BPF_K, BPF_MOV, bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_map_type, bpf_prog_type,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{LayoutError, capabilities::Capabilities, types::Types};

/// What this kernel can do, except for [`Capabilities::FUNCTION_RECORDS`] and [`Capabilities::MODE_CREATED`], which its type information
/// tells; and what was refused for another reason than that the kernel does not know it. Needs the rights that loading a program needs.
pub(super) fn probe(types: &Types) -> Result<(Capabilities, Vec<Refusal>), LayoutError> {
    let trivial = trivial_program(bpf_prog_type::BPF_PROG_TYPE_TRACEPOINT, None);
    let trivial = trivial.map_err(|source| LayoutError::Refused { what: "to load a program", source })?;
    let has_helper = |helper| is_helper_supported(ProgramType::TracePoint, helper).map_err(system_error);
    let mut found = Capabilities::empty();
    let mut refusals = Vec::new();
    for (capability, answer) in [
        (Capabilities::TRAMPOLINES, has_trampolines(types)),
        (Capabilities::RING_BUFFER, is_map_supported(MapType::RingBuf).map_err(|error| error.io_error)),
        (Capabilities::PROBE_READ_KERNEL, has_helper(BpfHelper::BPF_FUNC_probe_read_kernel)),
        (Capabilities::TYPED_TASK, has_helper(BpfHelper::BPF_FUNC_get_current_task_btf)),
        (Capabilities::RECURSION_COUNT, counts_recursion(&trivial)),
        (Capabilities::MEMCG_ACCOUNTING, is_charged_to_group()),
    ] {
        match answer {
            Ok(is_there) => found.set(capability, is_there),
            Err(answer) => refusals.push(Refusal { capability, answer }),
        }
    }
    Ok((found, refusals))
}

/// A capability that could not be tried out: it counts as missing.
pub(super) struct Refusal {
    pub(super) capability: Capabilities,
    pub(super) answer: io::Error,
}

fn system_error(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}

/// Whether a program can be put into a trampoline of a kernel function.
fn has_trampolines(types: &Types) -> io::Result<bool> {
    // Made for tests like this one; a kernel without networking has none.
    let function = ["bpf_fentry_test1", "security_file_open"].into_iter().find_map(|name| types.function_id(name));
    let Some(function) = function else { return Ok(false) };
    let program = match trivial_program(bpf_prog_type::BPF_PROG_TYPE_TRACING, Some(function)) {
        Ok(program) => program,
        // Before 5.5 neither the type of program nor the fields that it needs exist.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::E2BIG | libc::ENOTSUP | ENOTSUPP)) => return Ok(false),
        Err(error) => return Err(error),
    };
    // On x86-64 what loads can be attached. On arm64 trampolines came years later than the programs for them (6.4), so it takes a trial,
    // which costs the detaching: a wait for every task to leave the trampoline.
    if cfg!(target_arch = "x86_64") {
        return Ok(true);
    }
    let mut attr = zeroed();
    attr.raw_tracepoint.prog_fd = program.as_raw_fd().cast_unsigned();
    match descriptor(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(ENOTSUPP) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The kernel's own number for what it cannot do; the C library has no name for it.
const ENOTSUPP: i32 = 524;

/// Whether a map can be made where this process may lock no memory at all: then the control group pays for it.
fn is_charged_to_group() -> io::Result<bool> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, 0, hard)?;
    let mut attr = zeroed();
    // SAFETY: all zeros is a value of every member of the union.
    let map = unsafe { &mut attr.__bindgen_anon_1 };
    map.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    map.key_size = 4;
    map.value_size = 8;
    map.max_entries = 1;
    let made = descriptor(bpf_cmd::BPF_MAP_CREATE, &mut attr);
    // The soft limit can always be raised again up to the hard one, which has not changed.
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
    Ok(made.is_ok())
}

fn counts_recursion(program: &OwnedFd) -> io::Result<bool> {
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    Ok(told.lines().any(|line| line.starts_with("recursion_misses:")))
}

/// Loads a program that returns 0; one of the type "tracing" for the entry of a function.
fn trivial_program(kind: bpf_prog_type, function: Option<u32>) -> io::Result<OwnedFd> {
    let program = [instruction(BPF_ALU64 | BPF_MOV | BPF_K), instruction(BPF_JMP | BPF_EXIT)];
    let mut attr = zeroed();
    // SAFETY: all zeros is a value of every member of the union.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = kind as u32;
    load.insn_cnt = program.len() as u32;
    load.insns = program.as_ptr().expose_provenance() as u64;
    load.license = c"GPL".as_ptr().expose_provenance() as u64;
    if let Some(function) = function {
        load.expected_attach_type = bpf_attach_type::BPF_TRACE_FENTRY as u32;
        load.attach_btf_id = function;
    }
    descriptor(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// With register 0 as destination and 0 as the number.
fn instruction(code: u32) -> bpf_insn {
    bpf_insn { code: code as u8, _bitfield_align_1: [], _bitfield_1: bpf_insn::new_bitfield_1(0, 0), off: 0, imm: 0 }
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain numbers, for which the kernel defines zero as "not given".
    unsafe { std::mem::zeroed() }
}

/// Calls `bpf(2)` with a command that answers with a new descriptor.
fn descriptor(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: `attr` lives during the call and has the size that is told; what it points to lives in the caller.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>()) };
    match i32::try_from(answer) {
        // SAFETY: the kernel has just made the descriptor for us alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
