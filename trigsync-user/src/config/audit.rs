//! How the audit compares: how often, how fast, and when.

use std::{fmt, str::FromStr, time::Duration};

use jiff::civil::Time;
use serde::{Deserialize, Serialize};

/// How a sync's targets are compared with its source, in the background, a slice at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditConfig {
    /// From the beginning of one cycle through the source to the beginning of the next, at least. 7 days; zero: one after the other.
    pub every: Duration,
    /// Names compared in a second, on average. 500.
    pub names: u64,
    /// Bytes read in a second, on average, at each side; where contents are compared. 10 MiB.
    pub bytes: u64,
    /// The largest share of the time that a comparison may run, above 0.0, to 1.0. 0.1.
    pub share: f64,
    /// Nothing is compared outside; none: at any time.
    pub window: Option<Window>,
    /// Whether contents are compared, or only sizes and times.
    pub checksum: bool,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { every: Duration::from_secs(7 * 24 * 3600), names: 500, bytes: 10 << 20, share: 0.1, window: None, checksum: false }
    }
}

/// A part of every day, by the local clock. Over midnight where it ends before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Minutes since midnight.
    begin: u16,
    end: u16,
}

const DAY: u16 = 24 * 60;

impl Window {
    /// How long it is until the window opens, from `now`; none where it is open.
    pub fn opens_in(self, now: Time) -> Option<Duration> {
        let now = now.duration_since(Time::midnight()).unsigned_abs();
        let minutes = |minutes: u16| Duration::from_secs(u64::from(minutes) * 60);
        let (begin, end) = (minutes(self.begin), minutes(self.end));
        let is_open = if begin < end { (begin..end).contains(&now) } else { now >= begin || now < end };
        if is_open {
            return None;
        }
        Some(begin.checked_sub(now).unwrap_or_else(|| (begin + minutes(DAY)).saturating_sub(now)))
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no part of a day (write two times of the local clock, as \"01:00-05:30\")");
        let minutes = |time: &str| {
            let (hours, minutes) = time.trim().split_once(':')?;
            let number = |digits: &str, below: u16| {
                let is_plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
                digits.parse().ok().filter(|&number: &u16| is_plain && number < below)
            };
            Some(number(hours, 24)? * 60 + number(minutes, 60)?)
        };
        let (begin, end) = text.split_once('-').ok_or_else(wrong)?;
        let (begin, end) = minutes(begin).zip(minutes(end)).ok_or_else(wrong)?;
        if begin == end {
            return Err(format!("`{text}` ends when it begins (leave `window` out to compare at any time)"));
        }
        Ok(Self { begin, end })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { begin, end } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", begin / 60, begin % 60, end / 60, end % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens_in(window: &str, hours: i8, minutes: i8) -> Option<Duration> {
        let window: Window = window.parse().unwrap();
        window.opens_in(Time::constant(hours, minutes, 0, 0))
    }

    #[test]
    fn a_window_opens_and_closes() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        assert_eq!(opens_in("01:00-05:30", 0, 0), hours(1));
        assert_eq!(opens_in("01:00-05:30", 1, 0), None);
        assert_eq!(opens_in("01:00-05:30", 5, 29), None);
        assert_eq!(opens_in("01:00-05:30", 5, 30), Some(Duration::from_secs(19 * 3600 + 1800)));
        assert_eq!(opens_in("22:00-04:00", 23, 59), None);
        assert_eq!(opens_in("22:00-04:00", 0, 0), None);
        assert_eq!(opens_in("22:00-04:00", 4, 0), hours(18));
    }

    #[test]
    fn what_is_no_window_is_said() {
        for text in ["", "01:00", "1-5", "24:00-01:00", "01:60-02:00", "01:00-01:00", "-1:00-02:00", "+1:00-02:00", "001:00-02:00"] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
        assert_eq!("1:00 - 5:30".parse::<Window>().unwrap().to_string(), "01:00-05:30");
    }
}
