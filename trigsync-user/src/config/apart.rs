//! That nothing which is written lies where it would be read, deleted or overwritten.

use std::{os::unix::ffi::OsStrExt as _, path::PathBuf};

use super::{
    ConfigError, RawConfig, SyncConfig, TargetAddress, TargetConfig,
    places::{Place, Relation},
    plugin,
    raw::At,
    resolve::Resolver,
};
use crate::model::RelPath;

impl Resolver<'_> {
    /// Nothing that is written lies where its own sync reads, or where something else is written. Where it lies in what another sync
    /// reads, that one is told.
    pub(super) fn guard_places(&self, raw: &RawConfig, syncs: &mut [SyncConfig]) -> Result<(), ConfigError> {
        let state = &self.state;
        let mut written: Vec<(&At<String>, &TargetAddress, Option<Place>)> = Vec::new();
        // Of each local target: what its sync reads, and where it writes.
        let mut chains: Vec<(&At<PathBuf>, Place, &At<String>, Place)> = Vec::new();
        let mut sources = Vec::with_capacity(syncs.len());
        for (raw, sync) in raw.syncs.iter().zip(&*syncs) {
            let Some(source_at) = &raw.source else { continue };
            let source = self.mounts.place(&sync.source).map_err(|error| self.error(source_at, error.to_string()))?;
            if matches!(source.relation(state), Some(Relation::Same | Relation::Inside)) {
                let message =
                    format!("is in the state directory of --state-dir, `{}`, which never rests (choose another)", state.path.display());
                return Err(self.error(source_at, message));
            }
            for (target, TargetConfig { address, .. }) in raw.targets.iter().zip(&sync.targets) {
                let at = &target.to;
                let place = match address {
                    TargetAddress::Local(path) => Some(self.place(at, path)?),
                    _ => None,
                };
                if let Some(place) = &place {
                    let other = source_at.mention();
                    match place.relation(&source) {
                        Some(Relation::Same) => return Err(self.error(at, format!("is the same directory as {other}"))),
                        Some(Relation::Inside) => {
                            return Err(
                                self.error(at, format!("lies inside {other}: it would be mirrored into itself (choose a place outside)"))
                            );
                        }
                        Some(Relation::Around) => {
                            return Err(
                                self.error(at, format!("lies around {other}: the source would be deleted (choose a place outside)"))
                            );
                        }
                        None => {}
                    }
                    if place.relation(state).is_some() {
                        let message = format!("overlaps the state directory of --state-dir, `{}` (choose another)", state.path.display());
                        return Err(self.error(at, message));
                    }
                }
                for (other, other_address, other_place) in &written {
                    let relation = match (&place, other_place) {
                        (Some(place), Some(other)) => place.relation(other),
                        (None, None) => remote_relation(address, other_address),
                        _ => None,
                    };
                    let other = format!("the target `{}` of {}", other.value, other.mention());
                    let message = match relation {
                        Some(Relation::Same) => format!("`{}` is the same place as {other} (leave one out)", at.value),
                        Some(Relation::Inside) => format!("`{}` lies inside {other}, which would delete it (choose another)", at.value),
                        Some(Relation::Around) => format!("`{}` lies around {other}, and would delete it (choose another)", at.value),
                        None => continue,
                    };
                    return Err(self.error(at, message));
                }
                if let Some(place) = &place {
                    let back = chains.iter().find(|(_, other_source, _, other_place)| {
                        place.relation(other_source).is_some() && other_place.relation(&source).is_some()
                    });
                    if let Some((other_source, _, other, _)) = back {
                        let message = format!(
                            "`{}` is read by {}, whose {} writes to {}: they would undo each other's changes (leave one out)",
                            at.value,
                            other_source.mention(),
                            other.mention(),
                            source_at.mention()
                        );
                        return Err(self.error(at, message));
                    }
                    chains.push((source_at, source.clone(), at, place.clone()));
                }
                written.push((at, address, place));
            }
            sources.push(source);
        }
        if let Some(file) = &raw.fail_log {
            self.guard_fail_log(file, raw, syncs, &sources, written.iter().filter_map(|(at, _, place)| Some((*at, place.as_ref()?))))?;
        }
        let into = |source: &Place| written.iter().any(|(.., place)| place.as_ref().is_some_and(|place| place.relation(source).is_some()));
        let fed: Vec<bool> = sources.iter().map(into).collect();
        // A plugin may write anywhere, and what it starts descends from the daemon.
        let runs_programs =
            syncs.iter().flat_map(|sync| &sync.plugins).any(|plugin| matches!(plugin.action, plugin::PluginAction::Exec { .. }));
        for (sync, fed) in syncs.iter_mut().zip(fed) {
            sync.written_here = fed || runs_programs;
        }
        Ok(())
    }

    /// What the daemon itself writes into a source would be sent, and no capture tells of it; in a target it would be deleted.
    fn guard_fail_log<'a>(
        &self,
        file: &At<PathBuf>,
        raw: &RawConfig,
        syncs: &[SyncConfig],
        sources: &[Place],
        targets: impl Iterator<Item = (&'a At<String>, &'a Place)>,
    ) -> Result<(), ConfigError> {
        // The file itself may be anything; that is found out when it is opened, and stops nothing.
        let (Some(directory), Some(name)) = (file.value.parent(), file.value.file_name()) else {
            return Err(self.error(file, format!("`{}` is no file (name one)", file.value.display())));
        };
        let Ok(place) = self.mounts.place(directory) else { return Ok(()) };
        let lies_in = |other: &Place| matches!(place.relation(other), Some(Relation::Same | Relation::Inside));
        let shown = file.value.display();
        if lies_in(&self.state) {
            let state = self.state.path.display();
            return Err(
                self.error(file, format!("`{shown}` lies in the state directory of --state-dir, `{state}` (choose a place outside)"))
            );
        }
        for ((raw, sync), source) in raw.syncs.iter().zip(syncs).zip(sources) {
            let below = place.path.join(name).strip_prefix(&source.path).ok().map(|below| below.as_os_str().as_bytes().to_vec());
            let left_alone = below.is_some_and(|below| RelPath::new(&below).is_ok_and(|below| sync.filter.excludes(below, false)));
            if let Some(at) = raw.source.as_ref().filter(|_| lies_in(source) && !left_alone) {
                return Err(
                    self.error(file, format!("`{shown}` lies inside {}, and would be mirrored (choose a place outside)", at.mention()))
                );
            }
        }
        for (at, target) in targets {
            if lies_in(target) {
                let message =
                    format!("`{shown}` lies inside the target of {}, which would delete it (choose a place outside)", at.mention());
                return Err(self.error(file, message));
            }
        }
        Ok(())
    }
}

/// As far as the addresses tell: two names of one host are two hosts here.
fn remote_relation(one: &TargetAddress, other: &TargetAddress) -> Option<Relation> {
    let ((host, path), (other_host, other_path)) = (one.remote_place()?, other.remote_place()?);
    if host != other_host {
        None
    } else if path == other_path {
        Some(Relation::Same)
    } else if path.starts_with(&other_path) {
        Some(Relation::Inside)
    } else {
        other_path.starts_with(&path).then_some(Relation::Around)
    }
}
