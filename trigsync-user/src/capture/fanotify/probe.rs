//! What `trigsync doctor` tells about this tier.

use std::{os::fd::AsFd as _, path::Path};

use super::{
    group::{NamedGroup, no_handle},
    view::Identity,
};
use crate::capture::{CaptureError, Finding, directory::open_directory};

/// Tries the tier: here, and on the file system of `path` (an existing directory; `/` where none is given).
pub fn probe(path: Option<&Path>) -> Vec<Finding> {
    let mut group = match NamedGroup::new(true) {
        Ok(group) => group,
        Err(error) => return vec![Finding::new("fanotify", false, error.to_string())],
    };
    let mut findings = vec![Finding::new("fanotify", true, "reports directories and names")];
    let top = path.unwrap_or(Path::new("/"));
    let subject = format!("fanotify on {}", top.display());
    match try_on(&mut group, top) {
        Ok(()) => {
            findings.push(Finding::new(&subject, true, "the file system takes a mark, and its handles can be opened"));
            let rename = match group.has_rename() {
                true => "a rename is told as one event",
                false => "not in this kernel (5.17 or newer has it); a rename is told as two events, which does as well",
            };
            findings.push(Finding::new("FAN_RENAME", group.has_rename(), rename));
        }
        Err(error) => findings.push(Finding::new(&subject, false, error.to_string())),
    }
    findings
}

fn try_on(group: &mut NamedGroup, top: &Path) -> Result<(), CaptureError> {
    let fd = open_directory(top).map_err(|errno| CaptureError::io("opening", top, errno.into()))?;
    let fd = fd.as_fd();
    group.mark(fd, top)?;
    let (identity, _) = Identity::of(fd).map_err(|errno| no_handle(errno, fd, top))?;
    identity.reopen(fd).map_err(|errno| no_handle(errno, fd, top))?;
    Ok(())
}
