//! A registry's live values as the Prometheus text format 0.0.4, for whoever scrapes this process.
//!
//! Families stand by name, series by labels, so two expositions of the same values are the same bytes.
//! The format knows only `[a-zA-Z_:][a-zA-Z0-9_:]*`: any other character becomes `_`. Where that would
//! make two names one, the later of them keeps its identity in the `U__` form, so no series is lost.
//!
//! Deliberately absent: OpenMetrics, exemplars, and quoted names, which all need a negotiated version.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;

use kymo_core::metric::MetricType;
use kymo_core::registry::{FamilySnapshot, SeriesSnapshot};
use kymo_core::text::{
    is_legacy_label_name, is_legacy_metric_name, write_escaped_help, write_escaped_label_value, write_float_general,
    write_u64,
};

use crate::label_name;

/// What the format is called in `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics` over `registry`.
#[cfg(any(feature = "api", feature = "server"))]
pub fn routes(registry: kymo_core::registry::Registry) -> axum::Router {
    let answer = move || async move {
        let mut text = Vec::new();
        write_text(&mut text, &registry.snapshot());
        ([(http::header::CONTENT_TYPE, CONTENT_TYPE)], text)
    };
    axum::Router::new().route("/metrics", axum::routing::get(answer))
}

/// Appends all families.
pub fn write_text(out: &mut Vec<u8>, families: &[FamilySnapshot]) {
    let mut names = Names::new(families.iter().map(|f| f.name.as_str()), is_legacy_metric_name);
    for family in families {
        let name = names.of(&family.name);
        if !family.help.is_empty() {
            out.extend_from_slice(b"# HELP ");
            out.extend_from_slice(name.as_bytes());
            out.push(b' ');
            write_escaped_help(out, &family.help);
            out.push(b'\n');
        }
        out.extend_from_slice(b"# TYPE ");
        out.extend_from_slice(name.as_bytes());
        out.push(b' ');
        out.extend_from_slice(family.kind.as_str().as_bytes());
        out.push(b'\n');
        for series in &family.series {
            write_series(out, &name, series);
        }
    }
}

fn write_series(out: &mut Vec<u8>, name: &str, series: &SeriesSnapshot) {
    let labels = label_text(series);
    let mut line = Lines { out, name, labels: &labels };
    match &series.value {
        MetricType::Counter { value, .. } | MetricType::Gauge { value } => line.float("", None, *value),
        MetricType::Histogram { buckets, sum, count, .. } => {
            for bucket in buckets {
                line.count("_bucket", Some(("le", bucket.upper_bound)), bucket.cumulative_count);
            }
            line.float("_sum", None, *sum);
            line.count("_count", None, *count);
        }
        MetricType::Summary { quantiles, sum, count } => {
            for quantile in quantiles {
                line.float("", Some(("quantile", quantile.quantile)), quantile.value);
            }
            line.float("_sum", None, *sum);
            line.count("_count", None, *count);
        }
    }
}

/// `a="1",b="2"`, shared by all lines of a series.
fn label_text(series: &SeriesSnapshot) -> Vec<u8> {
    let mut text = Vec::new();
    let mut names = Names::new(series.labels.iter().map(|(name, _)| name.as_str()), is_legacy_label_name);
    for (name, value) in series.labels.iter() {
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(names.of(name).as_bytes());
        text.extend_from_slice(b"=\"");
        write_escaped_label_value(&mut text, value);
        text.push(b'"');
    }
    text
}

/// The lines of one series.
struct Lines<'a> {
    out: &'a mut Vec<u8>,
    name: &'a str,
    labels: &'a [u8],
}

impl Lines<'_> {
    fn float(&mut self, suffix: &str, extra: Option<(&str, f64)>, value: f64) {
        self.start(suffix, extra);
        write_float_general(self.out, value);
        self.out.push(b'\n');
    }

    fn count(&mut self, suffix: &str, extra: Option<(&str, f64)>, value: u64) {
        self.start(suffix, extra);
        write_u64(self.out, value);
        self.out.push(b'\n');
    }

    fn start(&mut self, suffix: &str, extra: Option<(&str, f64)>) {
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        if extra.is_some() || !self.labels.is_empty() {
            self.out.push(b'{');
            self.out.extend_from_slice(self.labels);
            if let Some((label, value)) = extra {
                if !self.labels.is_empty() {
                    self.out.push(b',');
                }
                self.out.extend_from_slice(label.as_bytes());
                self.out.extend_from_slice(b"=\"");
                write_float_general(self.out, value);
                self.out.push(b'"');
            }
            self.out.push(b'}');
        }
        self.out.push(b' ');
    }
}

/// Names as the format can write them, no two the same.
struct Names {
    is_legacy: fn(&str) -> bool,
    /// Taken: every name that needs no change, and every changed one given out. Empty while nothing needs a change.
    taken: BTreeSet<String>,
}

impl Names {
    fn new<'a>(names: impl Iterator<Item = &'a str> + Clone, is_legacy: fn(&str) -> bool) -> Names {
        let mut taken = BTreeSet::new();
        if !names.clone().all(is_legacy) {
            taken.extend(names.filter(|name| is_legacy(name)).map(str::to_owned));
        }
        Names { is_legacy, taken }
    }

    fn of<'a>(&mut self, name: &'a str) -> Cow<'a, str> {
        if (self.is_legacy)(name) {
            return name.into();
        }
        let plain = |(at, c): (usize, char)| {
            // A digit may stand anywhere but first.
            let mut utf8 = [0; 4];
            let text = c.encode_utf8(&mut utf8);
            match c {
                '0'..='9' if at > 0 => c,
                _ if (self.is_legacy)(text) => c,
                _ => '_',
            }
        };
        let underscored: String = name.char_indices().map(plain).collect();
        let given = if self.taken.insert(underscored.clone()) {
            underscored
        } else {
            let kept = label_name::escape(name).replace(':', "_3a_");
            self.taken.insert(kept.clone());
            kept
        };
        given.into()
    }
}
