//! Takes a tier: surveys the kernel, loads and attaches, or goes on with what is pinned.

use std::{io, os::fd::AsFd as _, path::Path, time::Instant};

use aya::{
    EbpfError,
    maps::{Array, MapData, MapError},
    sys::{Stats, enable_stats},
};
use tracing::{debug, info, warn};

use super::{
    Ebpf, Hold, Options,
    attach::{self, Attached, NotTaken},
    kernel::{self, Kernel, map_failed},
    layout::{
        self, Survey,
        hooks::{HOOKS, Need},
    },
    load::{self, Limits},
    loss::Losses,
    maps::{EVENTS, Maps},
    options::Choice,
    pins::{self, Pins},
    ring::{self, Buffers, Records},
    roots::Roots,
    slots::Slots,
    tellings::Tellings,
    trial,
};
use crate::capture::{CaptureError, Position, Tier};

/// For probes on a kernel that preempts: while a thread has to wait in a program, the kernel skips those of all others on its processor.
const UNSTEADY: &str = "preemption: under load calls may be missed, and each time everything is compared again (this kernel takes the \
                        processor from threads within a program: PREEMPT lazy, full or RT)";

impl Ebpf {
    /// Loads and attaches the programs of the best tier that this kernel takes, or goes on with a pinned capture that fits.
    pub fn new(options: &Options) -> Result<Self, CaptureError> {
        Self::on(&mut None, options)
    }

    /// The same on a kernel of which this is known. Where nothing is, it is surveyed, which takes far longer than all the rest.
    pub fn on(known: &mut Option<Survey>, options: &Options) -> Result<Self, CaptureError> {
        kernel::check_namespace()?;
        let survey = match known {
            Some(survey) => survey,
            None => known.insert(layout::survey(options.btf.as_deref(), options.mask)?),
        };
        let mut refused = Vec::new();
        for tier in options.tier.tiers() {
            match Self::take(survey, *tier, options) {
                Ok(taken) => {
                    for (tier, error) in refused {
                        warn!(%tier, %error, "not taken");
                    }
                    return Ok(taken);
                }
                Err(error) => refused.push((*tier, error)),
            }
        }
        Err(match refused.len() {
            1 => refused.remove(0).1,
            _ => CaptureError::NoTier(refused),
        })
    }

    /// Takes this tier or none.
    pub(super) fn take(survey: &Survey, tier: Tier, options: &Options) -> Result<Self, CaptureError> {
        survey.allows(tier).map_err(|lack| CaptureError::Lacks(lack.to_string()))?;
        let start = Instant::now();
        let mut lacks: Vec<String> = Vec::new();
        let pins = match (&options.pins, tier) {
            (None, _) => None,
            (Some(base), Tier::EbpfFexit) if survey.settings.ring == 1 => {
                match Pins::new(base, load::digest(&survey.settings, tier, options.ring_bytes)) {
                    Ok(pins) => Some(pins),
                    Err(error) => {
                        lacks.push(format!("pins: the capture ends with the daemon, and a restart scans the source ({error})"));
                        None
                    }
                }
            }
            (Some(base), _) => {
                // A capture of another tier would go on for nobody.
                if let Err(error) = pins::uninstall(base) {
                    warn!(%error, base = %base.display(), "taking a pinned capture away");
                }
                lacks.push(
                    "pins: the capture ends with the daemon, and a restart scans the source (only trampolines with a ring buffer stay)"
                        .to_owned(),
                );
                None
            }
        };
        if let Some(pins) = pins.as_ref().filter(|pins| pins.is_there()) {
            match Self::resume(survey, tier, pins, options.resume_at, start) {
                Ok(resumed) => return Ok(resumed),
                Err(error) => warn!(%error, "going on with the pinned capture; a new one is made"),
            }
        }
        if let Some(pins) = &pins {
            pins.clear()
                .map_err(|source| CaptureError::io("removing old pins in", options.pins.as_deref().unwrap_or(Path::new("/")), source))?;
        }
        Self::begin(survey, tier, options, pins.as_ref(), lacks, start)
    }

    /// Loads and attaches.
    fn begin(
        survey: &Survey,
        tier: Tier,
        options: &Options,
        pins: Option<&Pins>,
        mut lacks: Vec<String>,
        start: Instant,
    ) -> Result<Self, CaptureError> {
        let (mut programs, mut attached, limits) = load_and_attach(survey, tier, options)?;
        if survey.settings.second == 1 {
            match tier {
                Tier::EbpfKprobe => lacks.push(UNSTEADY.to_owned()),
                _ => attached.check_order(&programs),
            }
        }
        let mut kernel_memory = load::kernel_memory(&programs);
        lacks.append(&mut attached.lacks);
        let (mut told, mut tellings) = (None, Tellings::default());
        if let Some(pins) = pins {
            match pins.install(&mut programs, &mut attached).and_then(|()| counts(pins).map_err(io::Error::other)) {
                Ok((map, counted)) => (told, tellings) = (Some(map), counted),
                Err(error) => lacks
                    .push(format!("pins: the capture ends with the daemon, and a restart scans the source (pinning it failed: {error})")),
            }
        }
        let events = programs.take_map(EVENTS).ok_or_else(|| no_map(EVENTS))?;
        let records = if survey.settings.ring == 1 {
            Records::ring(events).map_err(map_failed)?
        } else {
            let failed = |error| CaptureError::io("opening", Path::new("a perf buffer for each processor"), io::Error::other(error));
            let buffers = Buffers::open(events, options.buffer_bytes).map_err(failed)?;
            kernel_memory += buffers.memory();
            Records::Buffers(buffers)
        };
        let maps =
            Maps::new(|name| programs.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })).map_err(map_failed)?;
        let mut losses = Losses::new(told).map_err(map_failed)?;
        for hung in attached.hung.iter().filter(|hung| !attach::is_second(&hung.program)) {
            if let Some(fd) = programs.program(&hung.program).and_then(|program| program.fd().ok()) {
                losses
                    .watch(&hung.program, fd.as_fd())
                    .map_err(|source| CaptureError::io("opening", Path::new("/proc/self/fdinfo"), source))?;
            }
        }
        let kernel = Kernel::new(maps).map_err(map_failed)?;
        let roots = Roots::new(Slots::default())?;
        let hold = Hold { attached: Some(attached), programs: Some(programs), taken_over: Vec::new() };
        let armed_in = start.elapsed();
        info!(%tier, ?armed_in, ?limits, kernel_memory, "programs attached");
        let mut taken = Self {
            tier,
            lacks,
            limits: Some(limits),
            kernel_memory,
            armed_in,
            kernel,
            records,
            roots,
            losses,
            tellings,
            gap: false,
            found: false,
            thorough: false,
            name: Vec::new(),
            path: Vec::new(),
            hold,
        };
        let counting = enable_stats(Stats::RunTime);
        if let Err(error) = trial::run(&mut taken) {
            if let Some(Err(error)) = pins.map(Pins::clear) {
                warn!(%error, "taking a capture away that does not work");
            }
            return Err(error);
        }
        // Without a count, which came with 5.8, they stay.
        if counting.is_ok()
            && let Hold { attached: Some(attached), programs: Some(programs), .. } = &mut taken.hold
        {
            let spared = attached.spare(programs);
            debug!(?spared, "not needed here");
            taken.losses.forget(&spared);
            if let Some(Err(error)) = pins.map(|pins| pins.forget(&spared)) {
                warn!(%error, ?spared, "taking programs away that are not needed");
            }
        }
        Ok(taken)
    }

    /// Goes on with what is pinned.
    fn resume(survey: &Survey, tier: Tier, pins: &Pins, at: Option<Position>, start: Instant) -> Result<Self, CaptureError> {
        let failed = |source| CaptureError::io("opening", Path::new("the pins of a capture"), source);
        let programs = pins.programs().map_err(failed)?;
        let maps = Maps::new(|name| pins.map(name)).map_err(map_failed)?;
        let (told, tellings) = counts(pins).map_err(map_failed)?;
        let gap = at.is_some_and(|at| !is_reached_again(pins, &tellings, at));
        let records = Records::ring(pins.map(EVENTS).map_err(map_failed)?).map_err(map_failed)?;
        let mut losses = Losses::new(Some(told)).map_err(map_failed)?;
        for (name, program) in programs.iter().filter(|(name, _)| !attach::is_second(name)) {
            let fd = program.fd().map_err(|error| failed(io::Error::other(error)))?;
            losses.watch(name, fd.as_fd()).map_err(failed)?;
        }
        let kernel_memory = pins.maps().map_err(failed)?.iter().map(super::maps::kernel_memory).sum();
        let kernel = Kernel::new(maps).map_err(map_failed)?;
        let slots = Slots::inherit(&kernel).map_err(map_failed)?;
        let roots = Roots::new(slots)?;
        let lacks = unattached(survey, tier, &programs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
        let taken_over = programs.into_iter().map(|(_, program)| program).collect();
        let armed_in = start.elapsed();
        info!(%tier, ?armed_in, "went on with a capture that no daemon read");
        Ok(Self {
            tier,
            lacks,
            limits: None,
            kernel_memory,
            armed_in,
            kernel,
            records,
            roots,
            losses,
            tellings,
            gap,
            found: false,
            // What was lost while no daemon ran is told with the first read.
            thorough: true,
            name: Vec::new(),
            path: Vec::new(),
            hold: Hold { attached: None, programs: None, taken_over },
        })
    }
}

/// Both handles to what a pinned capture has counted.
fn counts(pins: &Pins) -> Result<(Array<MapData, u64>, Tellings), MapError> {
    let ring = pins.ring()?.info()?.id();
    Ok((pins.told()?, Tellings::pinned(pins.told()?, ring)?))
}

/// Has the ring read again what came after a position that was noted. False where it is another ring, where something was told since that is
/// in no ring, or where more came than it holds.
fn is_reached_again(pins: &Pins, tellings: &Tellings, at: Position) -> bool {
    if tellings.position(at.read) != Some(at) {
        debug!(?at, "not the capture that was noted, or something was told since that cannot be read again");
        return false;
    }
    let rewound = pins.ring().map_err(io::Error::other).and_then(|ring| {
        let size = ring.info().map_err(io::Error::other)?.max_entries();
        ring::rewind(ring.fd().as_fd(), size, at.read)
    });
    rewound.unwrap_or_else(|error| {
        warn!(%error, "what was read already cannot be read again");
        false
    })
}

impl Choice {
    /// The tiers to try, the best first.
    pub fn tiers(self) -> &'static [Tier] {
        match self {
            Self::Auto => &[Tier::EbpfFexit, Tier::EbpfKprobe],
            Self::Fexit => &[Tier::EbpfFexit],
            Self::Kprobe => &[Tier::EbpfKprobe],
        }
    }
}

/// With the longest limits that the verifier follows.
fn load_and_attach(survey: &Survey, tier: Tier, options: &Options) -> Result<(aya::Ebpf, Attached, Limits), CaptureError> {
    let mut rungs = Limits::LADDER.into_iter().peekable();
    loop {
        let Some(limits) = rungs.next() else { return Err(CaptureError::Lacks("no limits are short enough for the verifier".to_owned())) };
        let is_last = rungs.peek().is_none();
        let mut programs = load::load(&survey.settings, limits, tier, options.ring_bytes).map_err(|error| not_loaded(error, survey))?;
        match attach::attach(&mut programs, survey, tier, is_last) {
            Ok(attached) => return Ok((programs, attached, limits)),
            Err(NotTaken::Never(error)) => return Err(error),
            Err(NotTaken::TooComplex(error)) if is_last => return Err(error),
            Err(NotTaken::TooComplex(error)) => info!(?limits, %error, "too long for this kernel's verifier; shorter limits are tried"),
        }
    }
}

fn not_loaded(error: EbpfError, survey: &Survey) -> CaptureError {
    if let EbpfError::MapError(MapError::CreateError { io_error, .. }) = &error
        && io_error.kind() == io::ErrorKind::PermissionDenied
        && let Some(short) = load::short_of_memory(survey)
    {
        return short;
    }
    CaptureError::io("preparing", Path::new("the programs and their maps"), io::Error::other(error))
}

fn no_map(name: &str) -> CaptureError {
    CaptureError::io("looking for a map in", Path::new("the object"), io::Error::other(format!("it has no map `{name}`")))
}

/// What a capture that was taken over does not see: functions at which no program of it hangs.
fn unattached(survey: &Survey, tier: Tier, programs: &[&str]) -> Vec<String> {
    let missing = HOOKS.iter().filter(|hook| {
        let is_there = programs.iter().any(|program| program.split_once('_').is_some_and(|(_, function)| function == hook.function));
        !is_there && attach::is_wanted(survey, tier, hook) != Ok(false)
    });
    let sentence = |hook: &layout::hooks::Hook| match hook.need {
        Need::Costs(costs) => Some(attach::lack(hook.function, costs, "no program is attached")),
        Need::Required | Need::Else(_) => None,
    };
    missing.filter_map(sentence).collect()
}
