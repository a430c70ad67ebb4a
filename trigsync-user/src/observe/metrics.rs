//! The status in the text format of OpenMetrics, which Prometheus reads. Seconds and bytes, counters that end in `_total`.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::{AnnouncerStatus, LaneState, PluginStatus, Status, SyncState, TargetStatus};

/// The type of what [`metrics`] returns, for HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The whole status, as of now.
pub fn metrics(status: Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("trigsync");
    registry.register_collector(Box::new(Snapshot(status)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Snapshot(Status);

/// A metric of targets: its name, what it is, and where it comes from.
type OfTargets<T> = (&'static str, &'static str, fn(&TargetStatus) -> T);

type Labels = Vec<(&'static str, String)>;

const STATES: [LaneState; 4] = [LaneState::Ok, LaneState::Behind, LaneState::Retrying, LaneState::Held];

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = &self.0;
        let version = vec![("version", status.version.clone()), ("tier", status.capture.tier.clone())];
        gauge(&mut encoder, "build_info", "The version that runs, and the tier that captures; always 1.", [(version, 1.0)])?;
        gauge(&mut encoder, "uptime_seconds", "Since the daemon was ready.", [(vec![], seconds(status.uptime_ms))])?;
        let capture = &status.capture;
        counter(&mut encoder, "capture_events", "Events read from the kernel.", [(vec![], capture.events)])?;
        counter(&mut encoder, "capture_changes", "Events below a watched source.", [(vec![], capture.changes)])?;
        counter(&mut encoder, "capture_losses", "Times that a source was compared whole for lost events.", [(vec![], capture.overflows)])?;
        let kernel = capture.kernel_memory.map(|bytes| (vec![], bytes as f64));
        gauge(&mut encoder, "capture_kernel_memory_bytes", "Kernel memory for ring and maps.", kernel)?;
        let trouble = f64::from(u8::from(status.journal_trouble.is_some()));
        gauge(&mut encoder, "journal_trouble", "1 while the journal cannot be written.", [(vec![], trouble)])?;
        let stopped = status.syncs.iter().map(|sync| {
            let is_stopped = matches!(sync.state, SyncState::Stopped(_));
            (vec![("sync", sync.name.clone())], f64::from(u8::from(is_stopped)))
        });
        gauge(&mut encoder, "sync_stopped", "1 while a guard has stopped the sync.", stopped)?;
        self.announcers(&mut encoder)?;
        self.plugins(&mut encoder)?;
        self.targets(&mut encoder)
    }
}

/// A counter of plugins.
type OfPlugins = (&'static str, &'static str, fn(&PluginStatus) -> u64);

/// A gauge of what tells plugins alone.
type OfAnnouncers = (&'static str, &'static str, fn(&AnnouncerStatus) -> f64);

impl Snapshot {
    /// Of syncs without targets. Where there is none, nothing.
    fn announcers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all: Vec<_> =
            self.0.syncs.iter().filter_map(|sync| Some((vec![("sync", sync.name.clone())], sync.announcer.as_ref()?))).collect();
        if all.is_empty() {
            return Ok(());
        }
        let figures: [OfAnnouncers; 3] = [
            ("announcer_lag_seconds", "Age of the oldest change that the plugins of a sync without targets were not told.", |announcer| {
                seconds(announcer.lag_ms)
            }),
            ("announcer_pending", "Changes that wait to be told.", |announcer| (announcer.pending + announcer.in_flight) as f64),
            ("announcer_held", "1 while the operator holds them.", |announcer| f64::from(u8::from(announcer.state == LaneState::Held))),
        ];
        for (name, help, figure) in figures {
            gauge(encoder, name, help, all.iter().map(|(labels, announcer)| (labels.clone(), figure(announcer))))?;
        }
        let told = all.iter().map(|(labels, announcer)| (labels.clone(), announcer.told));
        counter(encoder, "announcer_told", "Marks that were told.", told)?;
        let degraded = all.iter().map(|(labels, announcer)| (labels.clone(), announcer.degraded));
        counter(encoder, "announcer_degraded", "Directories told whole because the marks in them took too much memory.", degraded)
    }

    fn plugins(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels = |sync: &str, plugin: &PluginStatus| vec![("sync", sync.to_owned()), ("plugin", plugin.name.clone())];
        let plugins: Vec<_> =
            self.0.syncs.iter().flat_map(|sync| sync.plugins.iter().map(move |plugin| (labels(&sync.name, plugin), plugin))).collect();
        let each = |figure: fn(&PluginStatus) -> f64| plugins.iter().map(move |(labels, plugin)| (labels.clone(), figure(plugin)));
        let is_failing = |plugin: &PluginStatus| f64::from(u8::from(plugin.trouble.is_some()));
        gauge(encoder, "plugin_failing", "1 while the last run of the plugin failed.", each(is_failing))?;
        gauge(encoder, "plugin_pending", "Paths that the plugin is to be told of.", each(|plugin| plugin.pending as f64))?;
        let counts: [OfPlugins; 5] = [
            ("plugin_told", "Paths that the plugin was told of.", |plugin| plugin.told),
            ("plugin_runs", "Runs of the plugin that ended.", |plugin| plugin.runs),
            ("plugin_failures", "Runs of the plugin that failed.", |plugin| plugin.failures),
            ("plugin_dropped", "Paths that were given up after the last attempt.", |plugin| plugin.dropped),
            ("plugin_folded", "Paths that gave way to directories because too many waited.", |plugin| plugin.folded),
        ];
        for (name, help, count) in counts {
            counter(encoder, name, help, plugins.iter().map(|(labels, plugin)| (labels.clone(), count(plugin))))?;
        }
        Ok(())
    }

    fn targets(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let states = self.each().flat_map(|(labels, target)| {
            STATES.map(|state| {
                let mut labels = labels.clone();
                labels.push(("state", word(state).to_owned()));
                (labels, f64::from(u8::from(target.state == state)))
            })
        });
        gauge(encoder, "target_state", "1 for the state that the target is in, 0 for the others.", states)?;
        let figures: [OfTargets<f64>; 6] = [
            ("target_lag_seconds", "Age of the oldest change that has not arrived; 0 when equal.", |target| seconds(target.lag_ms)),
            ("target_pending", "Changes that wait.", |target| target.pending as f64),
            ("target_in_flight", "Changes on their way.", |target| target.in_flight as f64),
            ("target_set_aside", "Paths that failed alone and are tried again slowly; 100 at the most.", |target| {
                target.set_aside.len() as f64
            }),
            ("target_parked", "rsync processes that have connected ahead of the next change.", |target| target.parked as f64),
            ("target_state_seconds", "Since when the state is what it is.", |target| seconds(target.since_ms)),
        ];
        for (name, help, figure) in figures {
            gauge(encoder, name, help, self.each().map(|(labels, target)| (labels, figure(target))))?;
        }
        let counts: [OfTargets<u64>; 11] = [
            ("target_changes", "Events that were folded into marks of the target.", |target| target.changes),
            ("target_sent", "Marks that arrived.", |target| target.sent),
            ("target_sent_bytes", "Bytes that rsync wrote to the other side.", |target| target.bytes),
            ("target_batches", "Runs that ended.", |target| target.batches),
            ("target_processes", "rsync processes started.", |target| target.processes),
            ("target_failures", "Runs that failed.", |target| target.failures),
            ("target_degraded", "Directories compared whole because the marks in them took too much memory.", |target| target.degraded),
            ("target_audit_names", "Names that the audit has compared.", |target| target.audit.names),
            ("target_audit_cycles", "Cycles of the audit through the whole source.", |target| target.audit.cycles),
            ("target_audit_findings", "Lost changes that the audit has found, and sent again.", |target| target.audit.findings),
            ("target_audit_unsettled", "Paths that changed whenever the audit looked.", |target| target.audit.unsettled),
        ];
        for (name, help, count) in counts {
            counter(encoder, name, help, self.each().map(|(labels, target)| (labels, count(target))))?;
        }
        let canaries: [OfTargets<Option<f64>>; 3] = [
            ("target_canary_delay_seconds", "How long the last canary that arrived took, end to end.", |target| {
                target.canary.as_ref()?.last_delay_ms.map(|milliseconds| milliseconds / 1000.0)
            }),
            ("target_canary_last_arrival_timestamp_seconds", "When a canary was found at the target last.", |target| {
                target.canary.as_ref()?.last_arrival
            }),
            ("target_canary_overdue_seconds", "For how long a canary should have arrived; 0 where none should.", |target| {
                target.canary.as_ref().map(|canary| seconds(canary.overdue_ms.unwrap_or(0)))
            }),
        ];
        for (name, help, figure) in canaries {
            gauge(encoder, name, help, self.each().filter_map(|(labels, target)| Some((labels, figure(target)?))))?;
        }
        let help = "How long changes took from the event to the end of the rsync that carried them.";
        let mut family = encoder.encode_descriptor("target_delay_seconds", help, None, MetricType::Histogram)?;
        for (labels, target) in self.each() {
            let delay = &target.delay;
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(delay.sum_ms / 1000.0, delay.count, &delay.buckets(), None)?;
        }
        Ok(())
    }

    fn each(&self) -> impl Iterator<Item = (Labels, &TargetStatus)> {
        let labels = |sync: &str, target: &TargetStatus| vec![("sync", sync.to_owned()), ("target", target.name.clone())];
        self.0.syncs.iter().flat_map(move |sync| sync.targets.iter().map(move |target| (labels(&sync.name, target), target)))
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels, f64)>) -> fmt::Result {
    family(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?, samples, ConstGauge::new)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels, u64)>) -> fmt::Result {
    family(encoder.encode_descriptor(name, help, None, MetricType::Counter)?, samples, ConstCounter::new)
}

fn family<T, M: EncodeMetric>(
    mut encoder: MetricEncoder<'_>,
    samples: impl IntoIterator<Item = (Labels, T)>,
    metric: fn(T) -> M,
) -> fmt::Result {
    for (labels, value) in samples {
        if labels.is_empty() {
            // Without labels it is no family, but one metric.
            return metric(value).encode(encoder);
        }
        metric(value).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn word(state: LaneState) -> &'static str {
    match state {
        LaneState::Ok => "ok",
        LaneState::Behind => "behind",
        LaneState::Retrying => "retrying",
        LaneState::Held => "held",
    }
}
