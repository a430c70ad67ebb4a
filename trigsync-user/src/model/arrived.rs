//! What a target has got, for whoever is told of it.

use super::RelPathBuf;

/// A path that is at a target as it was in the source when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Where, relative to the source.
    pub path: RelPathBuf,
    /// It was deleted at the target, with what was below it.
    pub gone: bool,
    /// It is a directory. Of what is gone: it was one, as far as anybody saw.
    pub directory: bool,
    /// What is below it was made equal too, or deleted, and is not told path by path.
    pub below: bool,
}
