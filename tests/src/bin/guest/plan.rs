//! What this guest is to run: the host's `xtask/src/vm/plan.rs` writes what is read here.

use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// The contents of `/plan.json`.
#[derive(Debug, Deserialize)]
pub struct Plan {
    /// Modules of the kernel, each after those that it needs.
    pub modules: Vec<String>,
    /// Names of file systems.
    pub file_systems: Vec<String>,
    /// Whether the clock counts instructions.
    pub counts: bool,
    /// What runs, in this order.
    pub runs: Vec<Run>,
}

/// A suite's program on one tier.
#[derive(Debug, Deserialize)]
pub struct Run {
    /// The suite.
    pub suite: String,
    /// The program, and arguments that come before those of every suite.
    pub command: Vec<String>,
    /// The tier, perhaps with a mask: `ebpf-kprobe@el8.2`.
    pub tier: String,
    /// The file systems, in this order.
    pub file_systems: Vec<String>,
    /// Only cases whose names hold this.
    pub only: Option<String>,
    /// How long it may take on one of them.
    pub limit_seconds: u64,
}

impl Plan {
    /// The plan that the host put beside this program.
    pub fn read() -> Result<Self> {
        let text = fs::read("/plan.json").context("the initramfs has no /plan.json")?;
        serde_json::from_slice(&text).context("/plan.json is not a plan: were the host's and the guest's programs built together?")
    }
}
