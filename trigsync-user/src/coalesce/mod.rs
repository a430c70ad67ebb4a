//! Folds marks together and decides when they are ripe.
//!
//! - `T` absorbs every mark at or below it; a mark below a `T` changes nothing.
//! - A mark costs time in proportion to the depth of its path, never to the size of the set.
//! - A cut takes what is ripe and leaves the rest; what is marked after the cut belongs to the next one.
//! - A directory that is made where one may have gone that nobody saw going is a `T` (`levels`).
//! - A set has a bound: beyond it, whole directories take the place of what is marked in them (`degrade`).
//! - Pure: no I/O, and the clock is an argument.

mod arena;
mod changes;
mod degrade;
mod levels;
mod queue;
mod set;

pub use changes::{Change, Changes};
pub use set::{DirtySet, Taken};
