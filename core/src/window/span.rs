//! The windows there are, and what was counted in them.

use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A window, from the shortest to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// The last second.
    Second,
    /// The last 60 seconds.
    Minute,
    /// The last 60 minutes.
    Hour,
    /// The last 24 hours.
    Day,
    /// Everything.
    SinceStart,
}

impl Span {
    /// All of them, shortest first.
    pub const ALL: [Span; 5] = [Span::Second, Span::Minute, Span::Hour, Span::Day, Span::SinceStart];

    /// `last_second`, `last_minute`, `last_hour`, `last_day`, `since_start`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Span::Second => "last_second",
            Span::Minute => "last_minute",
            Span::Hour => "last_hour",
            Span::Day => "last_day",
            Span::SinceStart => "since_start",
        }
    }

    /// The span of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Span> {
        Span::ALL.into_iter().find(|span| span.as_str() == name)
    }

    /// How long it is; `None` for one without an end.
    #[must_use]
    pub fn length(self) -> Option<Duration> {
        match self {
            Span::Second => Some(Duration::from_secs(1)),
            Span::Minute => Some(Duration::from_secs(60)),
            Span::Hour => Some(Duration::from_secs(3_600)),
            Span::Day => Some(Duration::from_secs(86_400)),
            Span::SinceStart => None,
        }
    }

    /// By how much a window may be longer than its length: the length of one bucket.
    #[must_use]
    pub fn error_bound(self) -> Duration {
        match self {
            Span::Second => Duration::from_millis(50),
            Span::Minute => Duration::from_secs(1),
            Span::Hour => Duration::from_secs(60),
            Span::Day => Duration::from_secs(900),
            Span::SinceStart => Duration::ZERO,
        }
    }
}

/// Whether something happens more often than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trend {
    /// More often.
    Up,
    /// As often, or nobody can tell.
    #[default]
    Flat,
    /// Less often.
    Down,
}

impl Trend {
    /// Compares a count with that of a window of equal length before it.
    ///
    /// A difference counts when it is larger than a tenth of the earlier count and than two standard deviations of what
    /// chance alone would give (a difference of Poisson counts varies as their sum).
    #[must_use]
    pub fn between(before: u64, now: u64) -> Trend {
        let difference = now.abs_diff(before) as f64;
        if difference <= before as f64 / 10.0 || difference <= 2.0 * (before as f64 + now as f64).sqrt() {
            Trend::Flat
        } else if now > before {
            Trend::Up
        } else {
            Trend::Down
        }
    }
}

/// Counts of all windows at one moment.
///
/// A shorter window never holds more than a longer one. Sums of counts read at one moment are the counts of the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WindowCounts {
    /// In the last second.
    pub last_second: u64,
    /// In the last 60 seconds.
    pub last_minute: u64,
    /// In the last 60 minutes.
    pub last_hour: u64,
    /// In the last 24 hours.
    pub last_day: u64,
    /// Ever.
    pub since_start: u64,
    /// In the newest 60 whole seconds, for the trend: what began within this second is left out.
    pub newest_whole_minute: u64,
    /// In the 60 seconds before those.
    pub minute_before: u64,
}

impl WindowCounts {
    /// The count of one window.
    #[must_use]
    pub fn get(&self, span: Span) -> u64 {
        match span {
            Span::Second => self.last_second,
            Span::Minute => self.last_minute,
            Span::Hour => self.last_hour,
            Span::Day => self.last_day,
            Span::SinceStart => self.since_start,
        }
    }

    /// The last minute against the one before it.
    #[must_use]
    pub fn trend(&self) -> Trend {
        Trend::between(self.minute_before, self.newest_whole_minute)
    }
}

impl AddAssign for WindowCounts {
    fn add_assign(&mut self, other: WindowCounts) {
        self.last_second += other.last_second;
        self.last_minute += other.last_minute;
        self.last_hour += other.last_hour;
        self.last_day += other.last_day;
        self.since_start += other.since_start;
        self.newest_whole_minute += other.newest_whole_minute;
        self.minute_before += other.minute_before;
    }
}
