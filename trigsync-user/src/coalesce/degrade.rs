//! A set that has grown too large says less with fewer marks: directories in place of what is in them.
//!
//! The deepest directories go first, and of these the ones that hold the most: what is compared for nothing stays as little as it can.

use super::{
    arena::{Arena, Id, NONE, ROOT},
    set::DirtySet,
};
use crate::model::{Ops, Scope, Stamp};

/// A directory with fewer nodes below it is worth no mark of its own in the first round; in each further one it may have half as many.
const WORTH_IT: u32 = 64;

impl DirtySet {
    /// Puts directories in place of what is marked in them until there are no more than `most` nodes. Returns how many it took.
    pub(super) fn degrade(&mut self, most: usize, now: Stamp) -> u64 {
        let mut made = 0;
        let mut worth = WORTH_IT;
        while self.nodes() > most && worth > 0 {
            for id in candidates(&self.arena, worth) {
                if self.nodes() <= most {
                    break;
                }
                let path = self.arena.path(id);
                // By content: among what was marked in there may be files of equal size and time.
                self.mark_here(&path, Scope::Tree, Ops::WRITE | Ops::RESCAN | Ops::DIRECTORY, now);
                made += 1;
            }
            worth /= 2;
        }
        made
    }
}

/// Directories with at least so many nodes below: the deepest first, and of the same depth the largest. What is below one of them counts as
/// one node for those above it.
fn candidates(arena: &Arena, worth: u32) -> Vec<Id> {
    let below = arena.below(ROOT);
    let (mut sizes, mut depths) = (vec![0_u32; arena.capacity()], vec![0_u32; arena.capacity()]);
    for &id in &below {
        depths[id as usize] = depths[arena.get(id).parent() as usize] + 1;
    }
    let mut found = Vec::new();
    // Children before their parents.
    for id in below.into_iter().rev().chain([ROOT]) {
        let mut size = sizes[id as usize];
        if size >= worth {
            found.push(id);
            size = 0;
        }
        let parent = arena.get(id).parent();
        if parent != NONE {
            sizes[parent as usize] += size + 1;
        }
    }
    found.sort_by_key(|&id| (std::cmp::Reverse(depths[id as usize]), std::cmp::Reverse(sizes[id as usize])));
    found
}
