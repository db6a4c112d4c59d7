//! Healthy or not, and why.

use std::fmt::Write;

use super::figures::{HealthStatus, HealthWindow};
use super::history::Shown;
use super::options::HealthThresholds;

/// How a service was judged until now.
#[derive(Debug, Clone, Default)]
pub(super) struct Judged {
    pub(super) status: HealthStatus,
    pub(super) since_ms: i64,
    pub(super) reason: String,
    /// Since when the figures are better than the status, on end.
    better_since_ms: Option<i64>,
}

/// A latency as a person says it: `2.3 s`, `230 ms`.
struct Latency(f64);

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (value, unit) = match self.0 {
            seconds if seconds >= 0.9995 => (seconds, "s"),
            seconds if seconds >= 0.000_999_5 => (seconds * 1e3, "ms"),
            seconds => (seconds * 1e6, "µs"),
        };
        if value >= 9.995 { write!(f, "{value:.0} {unit}") } else { write!(f, "{value:.1} {unit}") }
    }
}

fn window_name(window_ms: i64) -> &'static str {
    match window_ms {
        ..=60_000 => "the last minute",
        60_001..=300_000 => "the last 5 minutes",
        300_001..=900_000 => "the last 15 minutes",
        _ => "the last hour",
    }
}

/// The worst that `window` shows, and all of that rank as text. `scale` moves the thresholds.
fn find(
    thresholds: &HealthThresholds,
    window: &HealthWindow,
    usual: Option<f64>,
    scale: f64,
) -> (HealthStatus, String) {
    let mut found: Vec<(HealthStatus, String)> = Vec::new();
    let rank = |value: f64, degraded: f64, unhealthy: f64| {
        if value >= unhealthy * scale {
            Some((HealthStatus::Unhealthy, unhealthy))
        } else if value >= degraded * scale {
            Some((HealthStatus::Degraded, degraded))
        } else {
            None
        }
    };
    let ratio = window.error_ratio;
    if let Some((status, limit)) = rank(ratio, thresholds.errors_degraded, thresholds.errors_unhealthy) {
        let within = window_name(window.window_ms);
        let text = format!("errors {:.1} % of requests in {within}, limit {} %", ratio * 100.0, limit * 100.0);
        found.push((status, text));
    }
    if let Some(p99) = window.p99 {
        let absolute = |limit: Option<std::time::Duration>| limit.map_or(f64::INFINITY, |limit| limit.as_secs_f64());
        let limits = (absolute(thresholds.p99_degraded), absolute(thresholds.p99_unhealthy));
        if let Some((status, limit)) = rank(p99, limits.0, limits.1) {
            found.push((status, format!("p99 {}, limit {}", Latency(p99), Latency(limit))));
        }
        let is_slow = p99 >= thresholds.slower_floor.as_secs_f64();
        if let Some(usual) = usual.filter(|usual| is_slow && *usual > 0.0) {
            let times = p99 / usual;
            if let Some((status, _)) = rank(times, thresholds.slower_degraded, thresholds.slower_unhealthy) {
                found.push((status, format!("p99 {}, {times:.1} × its own last hour", Latency(p99))));
            }
        }
    }
    let worst = found.iter().map(|(status, _)| *status).max().unwrap_or(HealthStatus::Healthy);
    let texts: Vec<String> = found.into_iter().filter(|(status, _)| *status == worst).map(|(_, text)| text).collect();
    (worst, texts.join("; "))
}

impl Judged {
    /// Judges again. `silent_ms` is how long there was no request; `None` when there never was one.
    pub(super) fn again(&mut self, thresholds: &HealthThresholds, shown: &Shown, silent_ms: Option<i64>, now_ms: i64) {
        let silent_max_ms = i64::try_from(thresholds.silent.as_millis()).unwrap_or(i64::MAX);
        let silent_ms = silent_ms.unwrap_or(i64::MAX);
        if silent_ms >= silent_max_ms {
            let minutes = silent_ms / 60_000;
            let reason = match (silent_ms, minutes) {
                (i64::MAX, _) => "no requests yet".to_owned(),
                (_, ..=119) => format!("no requests for {minutes} min"),
                _ => format!("no requests for {} h", minutes / 60),
            };
            return self.set(HealthStatus::Unknown, reason, now_ms);
        }
        let enough = |window: &&HealthWindow| window.requests >= thresholds.requests_min.max(1);
        let Some(window) = shown.windows.iter().find(enough) else {
            let [.., hour] = &shown.windows;
            let reason = format!("{} requests in the last hour, {} to judge", hour.requests, thresholds.requests_min);
            return self.set(HealthStatus::Unknown, reason, now_ms);
        };
        // The hour without its newest minutes says nothing of a window that it holds.
        let is_telling = shown.usual.requests >= thresholds.requests_min && window.window_ms <= 300_000;
        let usual = shown.usual.p99.filter(|_| is_telling);
        let (status, reason) = find(thresholds, window, usual, 1.0);
        if status >= self.status {
            return self.set(status, reason, now_ms);
        }
        // Better than it was: is it by enough, and for long enough?
        let (with_margin, still) = find(thresholds, window, usual, thresholds.leave);
        if with_margin >= self.status {
            (self.better_since_ms, self.reason) = (None, still);
            return;
        }
        let since_ms = *self.better_since_ms.get_or_insert(now_ms);
        let recovery_ms = i64::try_from(thresholds.recovery.as_millis()).unwrap_or(i64::MAX);
        let better_ms = now_ms - since_ms;
        if better_ms >= recovery_ms {
            // No better than with the margin, or it would be worse again at once.
            let reason = if with_margin == status { reason } else { still };
            return self.set(with_margin, reason, now_ms);
        }
        self.reason.clear();
        let left_ms = recovery_ms - better_ms;
        // Writing to a string does not fail.
        let _ = write!(
            self.reason,
            "recovering: within its limits for {} s, healthy in {} s",
            better_ms / 1_000,
            (left_ms + 999) / 1_000
        );
        if with_margin != HealthStatus::Healthy {
            self.reason = format!("recovering: {still}");
        }
    }

    fn set(&mut self, status: HealthStatus, reason: String, now_ms: i64) {
        if status != self.status || self.since_ms == 0 {
            (self.status, self.since_ms) = (status, now_ms);
        }
        (self.reason, self.better_since_ms) = (reason, None);
    }
}
