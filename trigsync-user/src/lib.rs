//! trigsync: sees every change below huge directory trees and keeps rsync targets equal to them.
//!
//! Data flows one way: `capture` → `coalesce` → `plan` → `dispatch`; `model` and `config` are below everything, `observe`,
//! `control` and `scan` at the side, and `runtime` wires. ARCHITECTURE.md is the map.

pub mod audit;
pub mod capture;
pub mod cli;
pub mod coalesce;
pub mod config;
pub mod control;
pub mod dispatch;
/// The readers of bytes from outside, as fuzz targets call them.
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod journal;
mod lock;
pub mod model;
pub mod observe;
pub mod plan;
pub mod plugin;
pub mod rsync;
pub mod runtime;
mod sabotage;
pub mod scan;
