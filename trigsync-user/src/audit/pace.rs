//! When the next slice may be compared. Pure.

use std::time::Duration;

use super::walk::Limit;
use crate::config::AuditConfig;

/// A slice holds what may be compared in so long.
const SLICE: Duration = Duration::from_secs(4);

/// How much a slice holds.
pub(super) fn limit(config: &AuditConfig) -> Limit {
    let of = |rate: u64| rate.saturating_mul(SLICE.as_secs());
    Limit { names: of(config.names), bytes: if config.checksum { of(config.bytes) } else { u64::MAX } }
}

/// From the beginning of a slice of so many names and bytes, which took so long, to the beginning of the next.
pub(super) fn interval(config: &AuditConfig, names: u64, bytes: u64, took: Duration) -> Duration {
    let seconds = |amount: u64, rate: u64| amount as f64 / rate.max(1) as f64;
    let by_bytes = if config.checksum { seconds(bytes, config.bytes) } else { 0.0 };
    let longest = seconds(names, config.names).max(by_bytes).max(took.as_secs_f64() / config.share);
    Duration::try_from_secs_f64(longest).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcest_of_names_bytes_and_time_sets_the_pace() {
        let config = AuditConfig { names: 100, bytes: 1000, share: 0.5, checksum: true, ..AuditConfig::default() };
        let second = Duration::from_secs(1);
        assert_eq!(interval(&config, 200, 1000, second), 2 * second);
        assert_eq!(interval(&config, 200, 7000, second), 7 * second);
        assert_eq!(interval(&config, 200, 1000, 4 * second), 8 * second);
        let config = AuditConfig { checksum: false, ..config };
        assert_eq!(interval(&config, 200, 7000, second), 2 * second);
        assert_eq!(interval(&AuditConfig { share: 1e-300, ..config }, 200, 7000, second), Duration::MAX);
    }
}
