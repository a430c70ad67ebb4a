//! What `trigsync doctor` tells about the eBPF tiers: each is taken for a moment, and let go.

use super::{
    Ebpf, Options, kernel,
    layout::{self, rights},
};
use crate::capture::Finding;

/// Tries both tiers. Nothing is pinned, and a running daemon's programs are not touched.
pub fn probe(options: &Options) -> Vec<Finding> {
    let options = Options { pins: None, ..options.clone() };
    let mut findings = Vec::new();
    for right in rights::missing().unwrap_or_default() {
        findings.push(Finding::new(right.capability, !right.is_essential, right.to_string()));
    }
    if let Err(error) = kernel::check_namespace() {
        findings.push(Finding::new("eBPF", false, told(&error)));
        return findings;
    }
    let survey = match layout::survey(options.btf.as_deref(), options.mask) {
        Ok(survey) => survey,
        Err(error) => {
            findings.push(Finding::new("eBPF", false, told(&error)));
            return findings;
        }
    };
    findings.push(Finding::new("kernel", true, format!("{}: {}", survey.release, survey.capabilities)));
    for tier in options.tier.tiers() {
        match Ebpf::take(&survey, *tier, &options) {
            Ok(taken) => {
                findings.push(Finding::new(tier.to_string(), true, summary(&taken)));
                findings.extend(taken.lacks().iter().map(|lack| Finding::new(tier.to_string(), true, format!("but {lack}"))));
            }
            Err(error) => findings.push(Finding::new(tier.to_string(), false, told(&error))),
        }
    }
    findings
}

fn summary(taken: &Ebpf) -> String {
    let memory = taken.kernel_memory().div_ceil(1024);
    let limits = taken.limits().map_or(String::new(), |limits| {
        format!("; looks {} directories up, tells paths of {} names", limits.deepest_walk, limits.most_names)
    });
    let programs = taken.programs();
    format!("{programs} programs attached in {:?}, {memory} KiB of kernel memory{limits}", taken.armed_in())
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        told = format!("{told}: {cause}");
        source = cause.source();
    }
    told
}
