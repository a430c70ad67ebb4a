//! Compares a source with a target and changes nothing.
//!
//! A name that exists only at the target is drift too (`*deleting`), except what the filter leaves alone.

use std::ffi::OsString;

use tokio_util::sync::CancellationToken;

use super::{
    Answer, Compare, Listing, Route, Rsync, Verdict, Work,
    arguments::{comparison, look_back},
    classify::Findings,
    list,
    text::{clean, unescape},
};
use crate::model::{RelPath, RelPathBuf};

/// Marks the lines that are about a path: rsync prints others beside them.
const MARK: &str = "trigsync-drift:";

/// One path that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Where; the root where its own attributes differ.
    pub path: RelPathBuf,
    /// rsync's own word for the difference: `>f.st......`, `*deleting`, …
    pub item: String,
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub enum Extent<'a> {
    /// Everything below the root.
    Whole,
    /// These names alone, flat, and the directories that lead to them.
    Names(&'a [&'a RelPath]),
    /// These directories, and the names directly in them.
    Levels(&'a [&'a RelPath]),
}

/// What a comparison has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// What differs.
    pub drift: Vec<Drift>,
    /// What an rsync said that could not look at some of it.
    pub incomplete: Option<Answer>,
}

impl Rsync {
    /// What a run would change at the target.
    ///
    /// `checksum` reads every file on both sides. An `Err` is the answer of an rsync that has not compared what it should.
    pub async fn compare(
        &self,
        route: &Route<'_>,
        checksum: bool,
        extent: Extent<'_>,
        stop: &CancellationToken,
    ) -> Result<Comparison, Answer> {
        let compare = if checksum { Compare::Checksum } else { Compare::Quick };
        let (work, list) = match extent {
            Extent::Whole => (Work::Trees(compare), list([RelPath::root()], Listing::Plain)),
            Extent::Names(paths) => (Work::Entries(compare), list(paths.iter().copied(), Listing::Plain)),
            Extent::Levels(paths) => (Work::Levels, list(paths.iter().copied(), Listing::Levels)),
        };
        let arguments = comparison(self.version(), route, work, checksum, &format!("{MARK}%i %n")).map_err(Answer::hold)?;
        self.itemized(route, &arguments, list, stop).await
    }

    /// How one name right in the target's root differs from the source's, its owner included.
    pub(super) async fn look_back(&self, route: &Route<'_>, name: &str, stop: &CancellationToken) -> Result<Vec<Drift>, Answer> {
        let arguments = look_back(self.version(), route, name, &format!("{MARK}%i %n")).map_err(Answer::hold)?;
        match self.itemized(route, &arguments, Vec::new(), stop).await? {
            Comparison { drift, incomplete: None } => Ok(drift),
            Comparison { incomplete: Some(answer), .. } => Err(answer),
        }
    }

    async fn itemized(
        &self,
        route: &Route<'_>,
        arguments: &[OsString],
        list: Vec<u8>,
        stop: &CancellationToken,
    ) -> Result<Comparison, Answer> {
        let mut findings = Findings::new(route, None);
        let mut drift = Vec::new();
        let exit = self
            .execute(route, arguments, list, stop, |line| match line.strip_prefix(MARK.as_bytes()) {
                Some(item) => drift.extend(parse(item)),
                None => findings.line(line),
            })
            .await;
        let answer = findings.answer(exit);
        match answer.verdict {
            // What vanished meanwhile is a change of its own, and on its way.
            Verdict::Done | Verdict::Vanished(_) => Ok(Comparison { drift, incomplete: None }),
            Verdict::Partial { .. } => Ok(Comparison { drift, incomplete: Some(answer) }),
            _ => Err(answer),
        }
    }
}

/// `>f.st...... name`, `*deleting   name/`: eleven characters, a space and the name.
fn parse(line: &[u8]) -> Option<Drift> {
    let (item, name) = line.split_at_checked(11)?;
    let name = name.strip_prefix(b" ")?;
    let item = std::str::from_utf8(item).ok()?.trim_end().to_owned();
    Some(Drift { path: clean(&unescape(name))?, item })
}

#[cfg(any(test, feature = "fuzzing"))]
/// What rsync may print, whole: its lines as those of a run and of a comparison, its exit code, and its version. No path leads out of the
/// root, whatever it says.
pub(crate) fn fuzz(route: &Route<'_>, bytes: &[u8]) {
    let Some((code, output)) = bytes.split_first() else { return };
    let is_path = |path: &RelPath| assert!(RelPathBuf::new(path.as_bytes().to_vec()).is_ok(), "{path}");
    let mut findings = Findings::new(route, None);
    for line in output.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if let Some(drift) = parse(line) {
            is_path(&drift.path);
        }
        findings.line(line);
    }
    match findings.answer(super::process::Exit::Code(i32::from(*code))).verdict {
        Verdict::Vanished(paths) | Verdict::Partial { paths, .. } => paths.iter().for_each(|path| is_path(path)),
        _ => {}
    }
    let _ = super::Version::parse(&String::from_utf8_lossy(output));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_with_their_names() {
        let path = |bytes: &[u8]| RelPathBuf::new(bytes.to_vec()).unwrap();
        for (line, expected, item) in [
            (&b">f.st...... big"[..], &b"big"[..], ">f.st......"),
            (b".d..t...... ./", b"", ".d..t......"),
            (b"cd+++++++++ dd/ee/", b"dd/ee", "cd+++++++++"),
            (b"*deleting   n\\#012l", b"n\nl", "*deleting"),
            (b"*deleting    leading space/", b" leading space", "*deleting"),
        ] {
            assert_eq!(parse(line), Some(Drift { path: path(expected), item: item.into() }));
        }
        assert_eq!(parse(b"short"), None);
    }
}
