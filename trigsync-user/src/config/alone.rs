//! A sync without targets: nothing is sent, and its plugins alone are told of what changes below the source.

use super::{
    foreign::with,
    raw::{At, RawAudit, RawSync},
};

/// What stands in the way of a sync without targets, and where; nothing where there are targets.
pub(super) fn check(raw: &RawSync) -> Result<(), (At<()>, String)> {
    if !raw.targets.is_empty() {
        return Ok(());
    }
    if raw.plugins.is_empty() {
        let message = "has no targets (write targets = [\"…\"] or a [[sync.target]]; or a [[sync.plugin]], to tell that alone of changes)";
        return Err((raw.section.clone(), message.to_owned()));
    }
    match means_nothing(raw) {
        Some((at, reason)) => {
            Err((at, format!("means nothing in a sync without targets, where {reason} (leave it out, or write targets = [\"…\"])")))
        }
        None => Ok(()),
    }
}

/// The first key that is only for targets, and why it is.
fn means_nothing(raw: &RawSync) -> Option<(At<()>, &'static str)> {
    fn at<T>(at: &Option<At<T>>) -> Option<At<()>> {
        at.as_ref().map(|at| with(at, ()))
    }
    let RawSync { delete, max_delete, max_delete_floor, retry_max, canary, full_pass, audit, .. } = raw;
    let RawAudit { on, every, names, bytes, share, window, checksum } = audit;
    let deletes = [at(delete), at(max_delete), at(max_delete_floor)].map(|at| (at, "nothing is deleted"));
    let audits = [at(on), at(every), at(names), at(bytes), at(share), at(window), at(checksum)];
    let compares = audits.map(|at| (at, "there is nothing to compare with the source"));
    let passes = (full_pass.as_ref().map(|full_pass| full_pass.section.clone()), "nothing is to be made equal");
    let arrives = [(at(retry_max), "nothing is sent that might fail"), (at(canary), "no canary can arrive")];
    deletes.into_iter().chain(compares).chain([passes]).chain(arrives).find_map(|(at, reason)| Some((at?, reason)))
}
