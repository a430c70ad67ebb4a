//! Which tier captures: the best that works here, or the one that the operator wants.
//!
//! - A tier works when its programs load and attach, or its group can be made; nothing is guessed from the kernel's version.
//! - Each tier that would have been better is named with the reason why it was passed over.
//! - A tier that the operator wants and that does not work is an error, never replaced by another.

use std::{
    error::Error as _,
    fs,
    path::{Path, PathBuf},
};

use super::{
    CaptureError, Position, Source, Tier,
    ebpf::{
        self, Ebpf,
        layout::{Mask, Survey},
    },
    fanotify::Fanotify,
};
use crate::config::{Backend, DaemonConfig};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which tiers may be taken.
    pub backend: Backend,
    /// Whether fanotify's queue may grow as long as memory lasts.
    pub unlimited_queue: bool,
    /// Kernel type information for the eBPF tiers, other than the running kernel's own.
    pub btf: Option<PathBuf>,
    /// For tests: the kernel whose abilities the eBPF tiers are held to.
    pub mask: Option<String>,
    /// For tests: bytes of the ring of the eBPF tiers, or of each processor's buffer.
    pub ring: Option<u32>,
    /// The directory in which an eBPF capture is pinned, so that it outlives the process; none where it ends with it.
    pub pins: Option<PathBuf>,
    /// Where the capture that is pinned there was read to.
    pub resume_at: Option<Position>,
}

impl Wanted {
    /// As configured, and not pinned.
    pub fn new(config: &DaemonConfig, mask: Option<String>) -> Self {
        Self {
            backend: config.backend,
            unlimited_queue: config.unlimited_queue,
            btf: config.btf.clone(),
            mask,
            ring: None,
            pins: None,
            resume_at: None,
        }
    }
}

/// A tier that works.
pub struct Opened {
    /// Watches nothing yet.
    pub source: Box<dyn Source>,
    /// What is known of it.
    pub details: Details,
}

/// What is known of a tier on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// What this kernel lacks, with what is not seen for that; one sentence each.
    pub lacks: Vec<String>,
    /// Bytes of kernel memory for ring and maps; none where the kernel takes what it needs.
    pub kernel_memory: Option<u64>,
    /// Whether it goes on in the kernel when the process ends.
    pub outlives_us: bool,
}

/// The tier that was taken.
pub struct Chosen {
    /// It.
    pub opened: Opened,
    /// Those that would have been better, each with the reason why it was not taken.
    pub passed_over: Vec<(Tier, String)>,
}

impl Chosen {
    /// One line for the log.
    pub fn summary(&self) -> String {
        let tier = self.opened.source.tier();
        if self.passed_over.is_empty() {
            format!("capture by {tier}")
        } else {
            format!("capture by {tier}; passed over {}", reasons(&self.passed_over))
        }
    }
}

/// Takes the best tier that may be taken and works.
pub fn choose(wanted: &Wanted) -> Result<Chosen, CaptureError> {
    let mut known = None;
    let chosen = first_that_works(wanted.backend, |tier| open(tier, wanted, &mut known))?;
    if let (Tier::Fanotify, Some(pins)) = (chosen.opened.source.tier(), &wanted.pins) {
        // An eBPF capture of before would go on for nobody.
        match ebpf::uninstall(pins) {
            Ok(removed) if removed.is_empty() => {}
            Ok(_) => tracing::info!("what an eBPF capture had left in the kernel is removed: {}", pins.display()),
            Err(error) => tracing::warn!("an eBPF capture goes on in the kernel for nobody; cannot remove {}: {error}", pins.display()),
        }
    }
    Ok(chosen)
}

/// Tries one tier, on a kernel of which this is known. What is not known yet is found out, and put there for the next.
pub fn open(tier: Tier, wanted: &Wanted, known: &mut Option<Survey>) -> Result<Opened, CaptureError> {
    let choice = match tier {
        Tier::EbpfFexit => ebpf::Choice::Fexit,
        Tier::EbpfKprobe => ebpf::Choice::Kprobe,
        Tier::Fanotify => {
            let source = Box::new(Fanotify::new(wanted.unlimited_queue)?);
            return Ok(Opened { source, details: Details::default() });
        }
    };
    let source = Ebpf::on(known, &ebpf::Options { tier: choice, ..ebpf_options(wanted)? })?;
    let details = Details {
        lacks: source.lacks().to_vec(),
        kernel_memory: Some(source.kernel_memory()),
        outlives_us: tier == Tier::EbpfFexit && wanted.pins.as_deref().is_some_and(holds_a_capture),
    };
    Ok(Opened { source: Box::new(source), details })
}

/// What is asked of the eBPF tiers, either of them.
pub fn ebpf_options(wanted: &Wanted) -> Result<ebpf::Options, CaptureError> {
    let mask = wanted.mask.as_deref().map(str::parse::<Mask>).transpose();
    let mask = mask.map_err(|error| CaptureError::Given { what: error.to_string(), flag: "--capture-mask" })?;
    let defaults = ebpf::Options::default();
    let ring_bytes = wanted.ring.unwrap_or(defaults.ring_bytes);
    let buffer_bytes = wanted.ring.map_or(defaults.buffer_bytes, |bytes| bytes as usize);
    Ok(ebpf::Options {
        btf: wanted.btf.clone(),
        mask,
        pins: wanted.pins.clone(),
        resume_at: wanted.resume_at,
        ring_bytes,
        buffer_bytes,
        ..defaults
    })
}

/// Whether a capture is pinned in a directory: an empty one is where pinning has failed.
fn holds_a_capture(pins: &Path) -> bool {
    fs::read_dir(pins).is_ok_and(|mut entries| entries.next().is_some())
}

/// The tiers that a choice allows, best first.
pub fn allowed(backend: Backend) -> &'static [Tier] {
    match backend {
        Backend::Auto => &Tier::ALL,
        Backend::Ebpf => &[Tier::EbpfFexit, Tier::EbpfKprobe],
        Backend::EbpfKprobe => &[Tier::EbpfKprobe],
        Backend::Fanotify => &[Tier::Fanotify],
    }
}

fn first_that_works(backend: Backend, mut open: impl FnMut(Tier) -> Result<Opened, CaptureError>) -> Result<Chosen, CaptureError> {
    let mut passed_over = Vec::new();
    // What keeps one eBPF tier from working whatever its programs are keeps the other too: finding that out again only takes time.
    let mut of_both: Option<String> = None;
    for &tier in allowed(backend) {
        if let Some(reason) = of_both.as_ref().filter(|_| tier.folds()) {
            passed_over.push((tier, reason.clone()));
            continue;
        }
        match open(tier) {
            Ok(opened) => return Ok(Chosen { opened, passed_over }),
            // What the operator gave is wrong: no other tier makes that right.
            Err(error @ CaptureError::Given { .. }) => return Err(error),
            Err(error) => {
                let reason = with_causes(&error);
                if matches!(error, CaptureError::Layout(_) | CaptureError::PidNamespace | CaptureError::Forbidden { .. }) {
                    of_both = Some(reason.clone());
                }
                passed_over.push((tier, reason));
            }
        }
    }
    let remedy = if backend == Backend::Auto { "" } else { " (or let trigsync take what works: backend = \"auto\")" };
    Err(CaptureError::NothingWorks { reasons: reasons(&passed_over), remedy })
}

/// An error with its causes, in one line.
pub fn with_causes(error: &CaptureError) -> String {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    let told = |told: String, cause: String| if told.contains(&cause) { told } else { format!("{told}: {cause}") };
    causes.map(ToString::to_string).fold(error.to_string(), told)
}

/// `ebpf-fexit and ebpf-kprobe: REASON; fanotify: REASON`: one reason for neighbours that share it.
pub fn reasons(passed_over: &[(Tier, String)]) -> String {
    let groups = passed_over.chunk_by(|(_, one), (_, other)| one == other).map(|group| {
        let tiers: Vec<_> = group.iter().map(|(tier, _)| tier.to_string()).collect();
        format!("{}: {}", tiers.join(" and "), group[0].1)
    });
    groups.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::{io, os::fd::BorrowedFd};

    use super::*;
    use crate::{
        capture::{Continuity, Sink, WatchedRoot},
        model::RootId,
    };

    struct Stub(Tier);

    impl Source for Stub {
        fn tier(&self) -> Tier {
            self.0
        }
        fn add_root(&mut self, _: RootId, _: &WatchedRoot) -> Result<Continuity, CaptureError> {
            Ok(Continuity::Began)
        }
        fn remove_root(&mut self, _: RootId) {}
        fn as_fd(&self) -> BorrowedFd<'_> {
            panic!("nobody reads a stub")
        }
        fn cut(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn barrier(&mut self) -> io::Result<u64> {
            Ok(0)
        }
        fn read(&mut self, _: &mut dyn Sink) -> io::Result<u64> {
            Ok(0)
        }
        fn check_roots(&mut self, _: &mut dyn Sink) {}
    }

    fn refused(what: &'static str) -> CaptureError {
        CaptureError::Kernel { what, needs: "a newer one" }
    }

    /// What is chosen where only `works` works: the tier, and those that were tried in vain.
    fn chosen(backend: Backend, works: &[Tier]) -> Result<(Tier, Vec<Tier>), String> {
        let open = |tier: Tier| {
            let opened = Opened { source: Box::new(Stub(tier)), details: Details::default() };
            works.contains(&tier).then_some(opened).ok_or_else(|| refused("it"))
        };
        let chosen = first_that_works(backend, open).map_err(|error| error.to_string())?;
        Ok((chosen.opened.source.tier(), chosen.passed_over.into_iter().map(|(tier, _)| tier).collect()))
    }

    #[test]
    fn auto_takes_the_best_that_works() {
        use Tier::*;
        assert_eq!(chosen(Backend::Auto, &[EbpfFexit, EbpfKprobe, Fanotify]), Ok((EbpfFexit, vec![])));
        assert_eq!(chosen(Backend::Auto, &[EbpfKprobe, Fanotify]), Ok((EbpfKprobe, vec![EbpfFexit])));
        assert_eq!(chosen(Backend::Auto, &[Fanotify]), Ok((Fanotify, vec![EbpfFexit, EbpfKprobe])));
        let none = chosen(Backend::Auto, &[]).unwrap_err();
        let expected =
            "changes cannot be captured here: ebpf-fexit and ebpf-kprobe and fanotify: this kernel cannot do it: it (a newer one)";
        assert_eq!(none, expected);
    }

    #[test]
    fn what_is_wanted_is_not_replaced() {
        use Tier::*;
        assert_eq!(chosen(Backend::Ebpf, &[EbpfFexit, EbpfKprobe]), Ok((EbpfFexit, vec![])));
        assert_eq!(chosen(Backend::Ebpf, &[EbpfKprobe, Fanotify]), Ok((EbpfKprobe, vec![EbpfFexit])));
        assert_eq!(chosen(Backend::EbpfKprobe, &[EbpfFexit, EbpfKprobe]), Ok((EbpfKprobe, vec![])));
        assert_eq!(chosen(Backend::Fanotify, &Tier::ALL), Ok((Fanotify, vec![])));
        for (backend, works) in [(Backend::Ebpf, Fanotify), (Backend::EbpfKprobe, EbpfFexit), (Backend::Fanotify, EbpfFexit)] {
            let error = chosen(backend, &[works]).unwrap_err();
            assert!(error.ends_with("(or let trigsync take what works: backend = \"auto\")"), "{error}");
        }
    }

    #[test]
    fn what_keeps_both_ebpf_tiers_from_working_is_found_out_once() {
        let mut tried = Vec::new();
        let open = |tier| {
            tried.push(tier);
            Err(if tier == Tier::Fanotify { refused("it") } else { CaptureError::PidNamespace })
        };
        let error = first_that_works(Backend::Auto, open).err().unwrap().to_string();
        assert!(error.contains("ebpf-fexit and ebpf-kprobe: this process is in a pid namespace"), "{error}");
        assert_eq!(tried, [Tier::EbpfFexit, Tier::Fanotify]);
    }

    #[test]
    fn a_reason_that_tiers_share_is_told_once() {
        let over = |reasons: [&str; 3]| reasons_of(Tier::ALL.into_iter().zip(reasons.map(str::to_owned)).collect());
        fn reasons_of(passed_over: Vec<(Tier, String)>) -> String {
            reasons(&passed_over)
        }
        assert_eq!(over(["a", "a", "b"]), "ebpf-fexit and ebpf-kprobe: a; fanotify: b");
        assert_eq!(over(["a", "b", "a"]), "ebpf-fexit: a; ebpf-kprobe: b; fanotify: a");
    }

    #[test]
    fn a_wrong_btf_file_is_told_and_not_passed_over() {
        let mut tried = 0;
        let open = |_| {
            tried += 1;
            Err(CaptureError::Given { what: "`x` is no BTF file".into(), flag: "--btf" })
        };
        let error = first_that_works(Backend::Auto, open).err().map(|error| error.to_string());
        assert_eq!((error.as_deref(), tried), (Some("`x` is no BTF file (leave out --btf, or give another)"), 1));
    }
}
