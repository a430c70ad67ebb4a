//! Whether the kernel takes the processor from a thread in the middle of a program: then it skips that program for whoever comes next.

use std::fs;

/// Whether it may, as far as this process can tell.
pub fn interrupts_programs() -> bool {
    let chosen = fs::read_to_string("/sys/kernel/debug/sched/preempt").ok();
    interrupts(chosen.as_deref(), &fs::read_to_string("/proc/version").unwrap_or_default())
}

/// `chosen` marks the choice of several, such as `none (voluntary) full`; `version` says what the kernel was built for.
fn interrupts(chosen: Option<&str>, version: &str) -> bool {
    let word = chosen.and_then(|text| text.split_whitespace().find_map(|word| word.strip_prefix('(')?.strip_suffix(')')));
    // PREEMPT, PREEMPT_DYNAMIC (which may be any of the choices), PREEMPT_LAZY, PREEMPT_RT.
    word.map_or_else(|| version.contains(" PREEMPT"), |word| word != "none" && word != "voluntary")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_at_boot_counts_before_what_was_built() {
        let dynamic = "Linux version 7.2.12 (gcc-16) #1 SMP PREEMPT_DYNAMIC Debian 7.2.12-1 (2026-10-22)";
        assert!(interrupts(Some("full (lazy)\n"), dynamic));
        assert!(interrupts(Some("none voluntary (full)\n"), dynamic));
        assert!(!interrupts(Some("none (voluntary) full lazy\n"), dynamic));
        assert!(!interrupts(Some("(none) voluntary full\n"), dynamic));
        assert!(interrupts(None, dynamic));
        assert!(interrupts(None, "Linux version 6.1.0-rt #1 SMP PREEMPT_RT Debian"));
        assert!(!interrupts(None, "Linux version 5.10.0-32-cloud-amd64 #1 SMP Debian 5.10.223-1 (2024-08-10)"));
    }
}
