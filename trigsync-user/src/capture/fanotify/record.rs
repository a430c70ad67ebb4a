//! Reads the records that a fanotify group with `FAN_REPORT_DFID_NAME` yields, without copying.
//!
//! - Never reads outside the buffer, whatever is in it, and never panics.
//! - A buffer that is not as `fanotify(7)` says ends in one [`Malformed`]: the events behind it are lost.

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// `FAN_…`; several operations on one name may have been merged.
    pub mask: u64,
    /// The directory and name that a rename took away.
    pub old: Option<Named<'a>>,
    /// The directory and name that a rename gave.
    pub new: Option<Named<'a>>,
    /// The directory and name of everything else.
    pub at: Option<Named<'a>>,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    /// The directory.
    pub dir: Handle<'a>,
    /// A name in it; `.` for the directory itself.
    pub name: &'a [u8],
}

/// A file handle together with its file system, as it stands in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle<'a> {
    /// Everything: identifies the directory among all file systems.
    pub key: &'a [u8],
    /// `f_fsid` of the file system.
    pub fsid: [u8; 8],
    /// `handle_type` of `struct file_handle`.
    pub kind: i32,
    /// `f_handle` of `struct file_handle`.
    pub bytes: &'a [u8],
}

/// The buffer does not hold what the kernel promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fanotify gave a record that makes no sense: {0}")]
pub(super) struct Malformed(&'static str);

/// Length of `struct fanotify_event_metadata`.
pub(super) const METADATA: usize = size_of::<libc::fanotify_event_metadata>();

/// Longest handle the kernel makes (`MAX_HANDLE_SZ`).
pub(super) const MAX_HANDLE: usize = 128;

/// The records in what one `read` returned.
pub(super) fn records(buffer: &[u8]) -> impl Iterator<Item = Result<Record<'_>, Malformed>> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = record(&mut rest);
        if record.is_err() {
            rest = &[];
        }
        Some(record)
    })
}

fn record<'a>(rest: &mut &'a [u8]) -> Result<Record<'a>, Malformed> {
    let metadata: &[u8; METADATA] = rest.first_chunk().ok_or(Malformed("it is cut off"))?;
    let [l0, l1, l2, l3, version, _, m0, m1, ..] = *metadata;
    let event_len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
    let metadata_len = usize::from(u16::from_ne_bytes([m0, m1]));
    let mask = u64::from_ne_bytes(metadata[8..16].try_into().map_err(|_| Malformed("it is cut off"))?);
    if version != libc::FANOTIFY_METADATA_VERSION {
        return Err(Malformed("its version is unknown"));
    }
    if metadata_len < METADATA || event_len < metadata_len {
        return Err(Malformed("its length is too small"));
    }
    let (event, after) = rest.split_at_checked(event_len).ok_or(Malformed("it is longer than the buffer"))?;
    *rest = after;
    let mut record = Record { mask, old: None, new: None, at: None };
    let mut infos = &event[metadata_len..];
    while !infos.is_empty() {
        let &[kind, _, l0, l1] = infos.first_chunk().ok_or(Malformed("an information record is cut off"))?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        if length < 4 {
            return Err(Malformed("an information record's length is too small"));
        }
        let (info, after) = infos.split_at_checked(length).ok_or(Malformed("an information record is longer than its event"))?;
        infos = after;
        let slot = match kind {
            libc::FAN_EVENT_INFO_TYPE_DFID_NAME => &mut record.at,
            libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME => &mut record.old,
            libc::FAN_EVENT_INFO_TYPE_NEW_DFID_NAME => &mut record.new,
            _ => continue,
        };
        *slot = Some(named(&info[4..])?);
    }
    Ok(record)
}

fn named(body: &[u8]) -> Result<Named<'_>, Malformed> {
    let (fsid, rest) = body.split_first_chunk::<8>().ok_or(Malformed("a file handle is cut off"))?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(Malformed("a file handle is cut off"))?;
    let (kind, rest) = rest.split_first_chunk::<4>().ok_or(Malformed("a file handle is cut off"))?;
    let length = u32::from_ne_bytes(*length) as usize;
    if length > MAX_HANDLE {
        return Err(Malformed("a file handle is too long"));
    }
    let (bytes, name) = rest.split_at_checked(length).ok_or(Malformed("a file handle is longer than its record"))?;
    let end = name.iter().position(|&byte| byte == 0).ok_or(Malformed("a name has no end"))?;
    let name = &name[..end];
    if name.is_empty() || name == b".." || name.contains(&b'/') {
        return Err(Malformed("a name is none"));
    }
    let key = &body[..16 + length];
    Ok(Named { dir: Handle { key, fsid: *fsid, kind: i32::from_ne_bytes(*kind), bytes }, name })
}

#[cfg(any(test, feature = "fuzzing"))]
/// Whatever is accepted has names that stand in a directory.
pub(crate) fn fuzz(bytes: &[u8]) {
    for record in records(bytes).flatten() {
        for named in [record.old, record.new, record.at].into_iter().flatten() {
            assert!(named.name == b"." || crate::model::is_name(named.name), "{:?}", named.name);
            assert!(named.dir.bytes.len() <= MAX_HANDLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FSID: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn info(kind: u8, handle: &[u8], name: &[u8]) -> Vec<u8> {
        let mut body = FSID.to_vec();
        body.extend((handle.len() as u32).to_ne_bytes());
        body.extend(1_i32.to_ne_bytes());
        body.extend(handle);
        body.extend(name);
        body.push(0);
        body.resize(body.len().next_multiple_of(4), 0);
        let mut info = vec![kind, 0];
        info.extend((body.len() as u16 + 4).to_ne_bytes());
        info.extend(body);
        info
    }

    fn event(mask: u64, infos: &[Vec<u8>]) -> Vec<u8> {
        let infos = infos.concat();
        let mut event = ((METADATA + infos.len()) as u32).to_ne_bytes().to_vec();
        event.extend([libc::FANOTIFY_METADATA_VERSION, 0]);
        event.extend((METADATA as u16).to_ne_bytes());
        event.extend(mask.to_ne_bytes());
        event.extend(libc::FAN_NOFD.to_ne_bytes());
        event.extend(7_i32.to_ne_bytes());
        event.extend(infos);
        event
    }

    fn rename() -> Vec<u8> {
        let old = info(libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, b"handle-a", b"x\xff");
        let new = info(libc::FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, b"handle-bb", b"y");
        event(libc::FAN_RENAME | libc::FAN_ONDIR, &[old, new])
    }

    #[test]
    fn names_and_handles_are_found() {
        let buffer = [event(libc::FAN_CREATE, &[info(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"12345678", b"name")]), rename()].concat();
        let found: Vec<_> = records(&buffer).map(Result::unwrap).collect();
        assert_eq!(found.len(), 2);
        let at = found[0].at.unwrap();
        assert_eq!((at.name, at.dir.bytes, at.dir.kind, at.dir.fsid), (&b"name"[..], &b"12345678"[..], 1, FSID));
        assert!(at.dir.key.starts_with(&FSID) && at.dir.key.ends_with(b"12345678"));
        assert_eq!(found[1].old.unwrap().name, b"x\xff");
        assert_eq!(found[1].new.unwrap().dir.bytes, b"handle-bb");
        assert_eq!(found[1].at, None);
    }

    #[test]
    fn an_overflow_has_no_name() {
        let buffer = event(libc::FAN_Q_OVERFLOW, &[]);
        let found: Vec<_> = records(&buffer).collect();
        assert_eq!(found, [Ok(Record { mask: libc::FAN_Q_OVERFLOW, old: None, new: None, at: None })]);
    }

    #[test]
    fn unknown_information_is_passed_over() {
        let buffer = event(libc::FAN_MODIFY, &[vec![99, 0, 4, 0], info(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"h", b"n")]);
        assert_eq!(records(&buffer).next().unwrap().unwrap().at.unwrap().name, b"n");
    }

    #[test]
    fn every_truncation_is_told_or_yields_whole_records_only() {
        let whole = [rename(), rename()].concat();
        for length in 0..whole.len() {
            let found: Vec<_> = records(&whole[..length]).collect();
            let good = found.iter().filter(|record| record.is_ok()).count();
            assert_eq!(good, length / rename().len());
            assert_eq!(found.len() - good, usize::from(length % rename().len() != 0), "{length}");
        }
    }

    #[test]
    fn no_byte_can_make_it_panic_or_loop() {
        let whole = [rename(), rename()].concat();
        for at in 0..whole.len() {
            for value in [0, 1, 3, 0x2f, 0x7f, 0x80, 0xff] {
                let mut hostile = whole.clone();
                hostile[at] = value;
                assert!(records(&hostile).count() <= whole.len() / METADATA, "byte {at} = {value}");
            }
        }
    }

    #[test]
    fn names_that_would_lead_elsewhere_are_refused() {
        for name in [&b".."[..], b"a/b", b""] {
            let buffer = event(libc::FAN_CREATE, &[info(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"h", name)]);
            assert!(records(&buffer).next().unwrap().is_err(), "{name:?}");
        }
    }
}
