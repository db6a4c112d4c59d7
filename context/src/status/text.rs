//! The status for people.

use std::fmt::{self, Write};
use std::io::IsTerminal;
use std::time::Duration;

use kymo_core::window::Trend;

use super::{ContextStatus, CounterStatus, FinishedStatus, Requests, State, Status};
use crate::value::MetricValue;

/// Paths of ended contexts that are shown, those with the most requests of the last day. JSON has all.
const ENDED_PATHS_MAX: usize = 20;

/// Finished contexts that are shown.
const FINISHED_SHOWN_MAX: usize = 10;

/// Whether text has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Letters only.
    Plain,
    /// With ANSI escape codes.
    Ansi,
}

impl Paint {
    /// Colours for a terminal, unless `NO_COLOR` is set or the terminal is a dumb one.
    #[must_use]
    pub fn of(out: &impl IsTerminal) -> Paint {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if out.is_terminal() && !is_set("NO_COLOR") && !is_dumb { Paint::Ansi } else { Paint::Plain }
    }

    fn wrap(self, code: &'static str, text: impl fmt::Display) -> impl fmt::Display {
        let (on, off) = match self {
            Paint::Plain => ("", ""),
            Paint::Ansi => (code, RESET),
        };
        DisplayWith(move |f: &mut fmt::Formatter<'_>| write!(f, "{on}{text}{off}"))
    }
}

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";

struct DisplayWith<F>(F);

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for DisplayWith<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)(f)
    }
}

/// Without colours; [`Status::painted`] can have some.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, Paint::Plain)
    }
}

impl Status {
    /// As text, in colours or not.
    pub fn painted(&self, paint: Paint) -> impl fmt::Display + '_ {
        DisplayWith(move |f: &mut fmt::Formatter<'_>| self.write(f, paint))
    }

    /// Prints it on the standard output, in colours on a terminal.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn print(&self) -> std::io::Result<()> {
        let out = std::io::stdout();
        let paint = Paint::of(&out);
        std::io::Write::write_fmt(&mut out.lock(), format_args!("{}", self.painted(paint)))
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, paint: Paint) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{} {}", paint.wrap(RED, "!"), paint.wrap(BOLD, finding))?;
        }
        if !self.findings.is_empty() {
            writeln!(f)?;
        }
        for context in &self.contexts {
            write_context(f, context, paint)?;
        }
        self.write_ended_paths(f, paint)?;
        if let Some(latest) = self.latest.as_ref().filter(|latest| !latest.is_empty()) {
            writeln!(f, "\n{}", paint.wrap(BOLD, format_args!("Last finished of {}:", Thousands(self.finished))))?;
            for finished in latest.iter().take(FINISHED_SHOWN_MAX) {
                write_finished(f, finished, paint)?;
            }
        }
        if self.paths.folded > 0 || self.paths.refused > 0 {
            let paths = &self.paths;
            writeln!(
                f,
                "\nPaths: {} counted, {} folded into their parents, {} counted by their parents for want of room",
                Thousands(paths.counted as u64),
                Thousands(paths.folded),
                Thousands(paths.refused)
            )?;
        }
        Ok(())
    }

    fn write_ended_paths(&self, f: &mut fmt::Formatter<'_>, paint: Paint) -> fmt::Result {
        let mut ended: Vec<_> =
            self.requests.iter().filter(|path| !path.lives && path.requests.since_start > 0).collect();
        if ended.is_empty() {
            return Ok(());
        }
        // Stable: equals stay sorted by path.
        ended.sort_by_key(|path| std::cmp::Reverse(path.requests.last_day));
        writeln!(f, "\n{}", paint.wrap(BOLD, "Ended, still counted:"))?;
        for path in ended.iter().take(ENDED_PATHS_MAX) {
            writeln!(f, "{} {}", paint.wrap(DIM, "○"), path.path)?;
            writeln!(f, "    {}", RequestsText(&path.requests, paint))?;
        }
        match ended.len().checked_sub(ENDED_PATHS_MAX) {
            Some(more) if more > 0 => writeln!(f, "  and {} more", Thousands(more as u64)),
            _ => Ok(()),
        }
    }
}

fn write_context(f: &mut fmt::Formatter<'_>, context: &ContextStatus, paint: Paint) -> fmt::Result {
    let indent = "  ".repeat(context.depth);
    let (icon, colour) = match context.state {
        State::Active | State::Completed => ("✅", GREEN),
        State::Idle => ("💤", DIM),
        State::Waiting => ("⏳", GREEN),
        State::Stuck => ("⚠️", YELLOW),
        State::Deadlocked => ("🔒", RED),
        State::Cancelled => ("🛑", YELLOW),
        State::Failed => ("❌", RED),
    };
    let state = paint.wrap(colour, StateText(context));
    writeln!(f, "{indent}{icon} {} ({}, {state})", paint.wrap(BOLD, &context.path), UptimeText(context.uptime))?;
    // The state says what it waits for longest, unless something is more important.
    let told = usize::from(matches!(context.state, State::Waiting | State::Stuck));
    for wait in context.waits.iter().skip(told) {
        let verb = if wait.stuck { "Stuck on" } else { "Waits for" };
        writeln!(f, "{indent}    {verb} {:?} {}{}", wait.what, DurationText(wait.waited), HeldBy(&wait.held_by))?;
    }
    for hold in &context.holds {
        write!(f, "{indent}    Holds {} {:?} {}", hold.kind.as_str(), hold.lock, DurationText(hold.held))?;
        match hold.waiting {
            0 => writeln!(f)?,
            waiting => writeln!(f, ", {waiting} waiting")?,
        }
    }
    if let Some(requests) = &context.requests {
        writeln!(f, "{indent}    {}", RequestsText(requests, paint))?;
    }
    if !context.counters.is_empty() {
        let pairs = context.counters.iter().map(|(name, counter)| format!("{name} {}", CounterText(*counter)));
        writeln!(f, "{indent}    Counters: {}", joined(pairs))?;
    }
    if !context.metrics.is_empty() {
        let pairs = context.metrics.iter().map(|(key, value)| format!("{key}={}", MetricText(value)));
        writeln!(f, "{indent}    Metrics: {}", joined(pairs))?;
    }
    if !context.data.is_empty() {
        writeln!(f, "{indent}    Data: {}", joined(context.data.iter().map(|(key, value)| format!("{key}={value}"))))?;
    }
    if context.left_out > 0 {
        writeln!(f, "{indent}    {} values found no room", Thousands(context.left_out))?;
    }
    Ok(())
}

fn write_finished(f: &mut fmt::Formatter<'_>, finished: &FinishedStatus, paint: Paint) -> fmt::Result {
    write!(f, "- {} ({}", finished.path, UptimeText(finished.uptime))?;
    match &finished.outcome {
        Some(outcome) if outcome.ok => write!(f, ", {}: {:?}", paint.wrap(GREEN, "success"), outcome.message)?,
        Some(outcome) => write!(f, ", {}: {:?}", paint.wrap(RED, "failed"), outcome.message)?,
        None if finished.is_cancelled => write!(f, ", {}", paint.wrap(YELLOW, "cancelled"))?,
        None => {}
    }
    writeln!(f, ") {} ago", UptimeText(finished.ago))
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

struct StateText<'a>(&'a ContextStatus);

impl fmt::Display for StateText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = self.0;
        let message = |word: &str, f: &mut fmt::Formatter<'_>| match &context.outcome {
            Some(outcome) if !outcome.message.is_empty() => write!(f, "{word}: {:?}", outcome.message),
            _ => f.write_str(word),
        };
        match (context.state, context.waits.first()) {
            (State::Active, _) => f.write_str("active"),
            (State::Idle, _) => write!(f, "idle {}", UptimeText(context.idle)),
            (State::Stuck, Some(wait)) => {
                write!(f, "stuck on {:?} {}{}", wait.what, DurationText(wait.waited), HeldBy(&wait.held_by))
            }
            (State::Waiting, Some(wait)) => {
                write!(f, "waits for {:?} {}{}", wait.what, DurationText(wait.waited), HeldBy(&wait.held_by))
            }
            (State::Stuck, None) => f.write_str("stuck"),
            (State::Waiting, None) => f.write_str("waiting"),
            (State::Deadlocked, _) => f.write_str("deadlocked"),
            (State::Cancelled, _) => f.write_str("cancelled"),
            (State::Completed, _) => message("done", f),
            (State::Failed, _) => message("failed", f),
        }
    }
}

struct HeldBy<'a>(&'a [String]);

impl fmt::Display for HeldBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            [one] => write!(f, ", held by {one}"),
            [one, rest @ ..] => write!(f, ", held by {one} and {} more", rest.len()),
        }
    }
}

struct RequestsText<'a>(&'a Requests, Paint);

impl fmt::Display for RequestsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Requests { since_start, last_hour, last_minute, last_second, trend, .. } = self.0;
        let trend = match trend {
            Trend::Up => self.1.wrap(GREEN, "↗ up"),
            Trend::Flat => self.1.wrap(DIM, "→ flat"),
            Trend::Down => self.1.wrap(YELLOW, "↘ down"),
        };
        write!(
            f,
            "Requests: {} total | {} last hour | {} last minute | {}/sec current | {trend}",
            Thousands(*since_start),
            Thousands(*last_hour),
            Thousands(*last_minute),
            Thousands(*last_second),
        )
    }
}

struct CounterText(CounterStatus);

impl fmt::Display for CounterText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            CounterStatus { total, live: 0 } => write!(f, "{} total", Thousands(total)),
            CounterStatus { total: 0, live } => write!(f, "{} live", Thousands(live)),
            CounterStatus { total, live } => write!(f, "{} total ({} live)", Thousands(total), Thousands(live)),
        }
    }
}

struct MetricText<'a>(&'a MetricValue);

impl fmt::Display for MetricText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            MetricValue::Counter(count) => Thousands(*count).fmt(f),
            MetricValue::Gauge(value) => write!(f, "{value}"),
            MetricValue::Duration(duration) => DurationText(*duration).fmt(f),
            MetricValue::Text(text) => write!(f, "{text:?}"),
            MetricValue::Bytes(bytes) => write!(f, "{} B", Thousands(*bytes)),
        }
    }
}

/// `1,247`
struct Thousands(u64);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at) % 3 == 0 {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// How long something lived, in the two largest units that say something: `350ms`, `12s`, `23m`, `2h 15m`, `3d 4h`.
/// Seconds beside minutes are left out.
struct UptimeText(Duration);

impl fmt::Display for UptimeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
        match () {
            () if seconds == 0 => write!(f, "{}ms", self.0.subsec_millis()),
            () if minutes == 0 => write!(f, "{seconds}s"),
            () if hours == 0 => write!(f, "{minutes}m"),
            () if days == 0 => two(f, hours, 'h', minutes % 60, 'm'),
            () => two(f, days, 'd', hours % 24, 'h'),
        }
    }
}

fn two(f: &mut fmt::Formatter<'_>, large: u64, unit: char, small: u64, small_unit: char) -> fmt::Result {
    match small {
        0 => write!(f, "{large}{unit}"),
        small => write!(f, "{large}{unit} {small}{small_unit}"),
    }
}

/// How long something takes, to a tenth below a minute: `350 ms`, `12.3 s`, `2 min 5 s`, `1 h 3 min`.
pub(crate) struct DurationText(pub(crate) Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 => write!(f, "{} ms", self.0.as_millis()),
            1..60 => write!(f, "{seconds}.{} s", self.0.subsec_millis() / 100),
            60..3_600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            _ => write!(f, "{} h {} min", seconds / 3_600, seconds / 60 % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_as_people_write_them() {
        for (number, text) in [(0, "0"), (999, "999"), (1_247, "1,247"), (1_000_000, "1,000,000")] {
            assert_eq!(Thousands(number).to_string(), text);
        }
        let ms = Duration::from_millis;
        for (time, text) in [
            (350, "350ms"),
            (59_999, "59s"),
            (1_380_000, "23m"),
            (8_100_000, "2h 15m"),
            (7_200_000, "2h"),
            (273_600_000, "3d 4h"),
        ] {
            assert_eq!(UptimeText(ms(time)).to_string(), text);
        }
        for (time, text) in [(12_345, "12.3 s"), (350, "350 ms"), (125_000, "2 min 5 s"), (3_780_000, "1 h 3 min")] {
            assert_eq!(DurationText(ms(time)).to_string(), text);
        }
    }
}
