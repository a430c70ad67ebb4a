//! Full passes on schedule: when everything is compared, whatever has happened since the last time.

use std::{fmt, str::FromStr, time::Duration};

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{SignedDuration, Zoned};
use serde::{Deserialize, Serialize};

use super::Window;

/// When a sync's targets get a full pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// How the times are told.
    pub times: Times,
    /// Each is put off by a random part of this, so that many machines do not begin at once. Zero.
    pub jitter: Duration,
    /// One that would begin outside waits until it opens; none: at any time.
    pub window: Option<Window>,
}

/// How times are told.
#[derive(Clone, Debug, PartialEq)]
pub enum Times {
    /// So long after the last one, or after the start. Not zero.
    Every(Duration),
    /// By the local clock.
    Cron(CronExpression),
}

/// Five fields as in crontab(5), six where the seconds come first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CronExpression {
    text: String,
    cron: Box<Cron>,
}

impl PartialEq for CronExpression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for CronExpression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let wrong = |why: &dyn fmt::Display| {
            format!("`{text}` is no cron expression: {why} (write minute, hour, day, month and weekday, as \"30 3 * * 0\")")
        };
        let cron = parser.parse(text).map_err(|error| wrong(&error))?;
        // The 30th of February.
        cron.find_next_occurrence(&Zoned::now(), false).map_err(|_| wrong(&"it names a time that never comes"))?;
        Ok(Self { text: text.to_owned(), cron: Box::new(cron) })
    }
}

impl TryFrom<String> for CronExpression {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CronExpression> for String {
    fn from(expression: CronExpression) -> Self {
        expression.text
    }
}

impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Schedule {
    /// The first time after `now`, put off by `part`, 0.0 to 1.0, of the jitter. None where there is none that the calendar can tell.
    pub fn next(&self, now: &Zoned, part: f64) -> Option<Zoned> {
        let after = |time: &Zoned, wait: Duration| time.checked_add(SignedDuration::try_from(wait).ok()?).ok();
        let time = match &self.times {
            Times::Every(every) => after(now, *every)?,
            Times::Cron(expression) => expression.cron.find_next_occurrence(now, false).ok()?,
        };
        let time = after(&time, self.jitter.mul_f64(part.clamp(0.0, 1.0)))?;
        match self.window.and_then(|window| window.opens_in(time.time())) {
            Some(wait) => after(&time, wait),
            None => Some(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(times: Times, jitter: u64, window: Option<&str>, part: f64) -> String {
        let now: Zoned = "2026-11-23T12:30:00[UTC]".parse().unwrap();
        let window = window.map(|window| window.parse().unwrap());
        let schedule = Schedule { times, jitter: Duration::from_secs(jitter), window };
        schedule.next(&now, part).unwrap().datetime().to_string()
    }

    #[test]
    fn the_next_time_is_put_off_by_jitter_and_to_the_window() {
        let every = |hours: u64| Times::Every(Duration::from_secs(hours * 3600));
        let cron = |text: &str| Times::Cron(text.parse().unwrap());
        assert_eq!(next(every(10), 0, None, 0.5), "2026-11-23T22:30:00");
        assert_eq!(next(cron("30 3 * * *"), 0, None, 0.5), "2026-11-24T03:30:00");
        assert_eq!(next(cron("5 30 3 * * *"), 0, None, 0.5), "2026-11-24T03:30:05");
        assert_eq!(next(cron("30 12 * * *"), 0, None, 0.5), "2026-11-24T12:30:00", "after now");
        assert_eq!(next(cron("30 3 * * *"), 600, None, 0.5), "2026-11-24T03:35:00");
        assert_eq!(next(cron("30 3 * * *"), 600, Some("03:00-04:00"), 0.5), "2026-11-24T03:35:00");
        assert_eq!(next(every(1), 0, Some("22:00-04:00"), 0.0), "2026-11-23T22:00:00");
        assert_eq!(next(cron("50 3 * * *"), 1200, Some("22:00-04:00"), 1.0), "2026-11-24T22:00:00", "jitter does not lead out of it");
    }

    #[test]
    fn what_is_no_cron_expression_is_said() {
        for text in ["", "daily", "* * * *", "61 * * * *", "0 0 30 2 *", "* * * * * * * *"] {
            assert!(text.parse::<CronExpression>().is_err(), "{text}");
        }
    }
}
