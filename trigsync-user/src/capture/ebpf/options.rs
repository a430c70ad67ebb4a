//! What is asked of the eBPF tiers.

use std::path::PathBuf;

use super::layout::Mask;
use crate::capture::Position;

/// Which of the two tiers is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Trampolines, or else probes.
    #[default]
    Auto,
    /// Trampolines or nothing.
    Fexit,
    /// Probes or nothing.
    Kprobe,
}

/// How the programs are loaded.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which tier.
    pub tier: Choice,
    /// The kernel's type information, where it has none itself.
    pub btf: Option<PathBuf>,
    /// What the kernel has and is not to be used.
    pub mask: Option<Mask>,
    /// A directory on a bpffs in which the capture outlives this process.
    pub pins: Option<PathBuf>,
    /// Where a pinned capture was read to, by whoever asks to go on with it.
    pub resume_at: Option<Position>,
    /// Bytes of the ring, where the kernel has one; a power of two.
    pub ring_bytes: u32,
    /// Bytes of the buffer of each processor, where it has none.
    pub buffer_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        let (tier, btf, mask, pins, resume_at) = (Choice::Auto, None, None, None, None);
        Self { tier, btf, mask, pins, resume_at, ring_bytes: 8 << 20, buffer_bytes: 512 << 10 }
    }
}
