//! Scrapes as they happened, read from OpenMetrics text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Targets were scraped once a second, on the second.
const RECORDED_INTERVAL_MS: i64 = 1_000;
/// Beyond this many digits a value is a measured float, not a decimal.
const DECIMALS_MAX: u32 = 9;

/// Some targets over one stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// What it is, for the reader of a report.
    pub source: String,
    /// What was scraped.
    pub targets: Vec<Target>,
    /// In the order of the file.
    pub series: Vec<RecordedSeries>,
}

/// What was scraped, and how late each scrape was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Per scrape, ms.
    pub lateness_ms: Vec<i64>,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedSeries {
    /// With `__name__` and `instance`.
    pub labels: Vec<(String, String)>,
    /// Its place in [`Recording::targets`].
    pub target: usize,
    /// As many as its target has scrapes.
    pub values: Vec<Option<f64>>,
    /// What a counter has grown by over the recording; 0 for anything else.
    pub growth: f64,
    /// Digits behind the point with which its values are written; `None` if they are no decimals.
    pub decimals: Option<u32>,
}

impl Recording {
    /// Scrapes of the target with the most.
    #[must_use]
    pub fn scrapes(&self) -> usize {
        self.targets.iter().map(|target| target.lateness_ms.len()).max().unwrap_or(0)
    }
}

impl RecordedSeries {
    /// `value` as it reads after the recording was played `wraps` times before.
    #[must_use]
    pub fn carried_on(&self, value: f64, wraps: usize) -> f64 {
        if wraps == 0 || self.growth == 0.0 || !value.is_finite() {
            return value;
        }
        let sum = value + self.growth * wraps as f64;
        match self.decimals {
            // Without this a sum has more digits than an exporter would have written.
            Some(decimals) => {
                let scale = 10f64.powi(decimals as i32);
                let scaled = (sum * scale).round();
                if scaled.abs() < 2f64.powi(53) { scaled / scale } else { sum }
            }
            None => sum,
        }
    }
}

/// How values of a family go on when a recording is played again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Everything but quantiles rises.
    Cumulative,
    Level,
    /// Not declared: a counter if it never fell.
    Unknown,
}

#[derive(Default)]
struct Lines {
    samples: Vec<(i64, f64)>,
    decimals: Option<u32>,
    is_cumulative: bool,
}

pub(super) fn read(path: &Path) -> Result<Recording> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = BufReader::with_capacity(1 << 20, zstd::Decoder::new(file)?);
    parse(text, name).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads text whose families, series and samples are in order, as recorders write it.
fn parse(mut text: impl BufRead, source: String) -> Result<Recording> {
    let (mut line, mut series_text) = (String::new(), String::new());
    let mut family = (String::new(), Family::Unknown);
    let mut found: Vec<(Vec<(String, String)>, Lines)> = Vec::new();
    for number in 1.. {
        line.clear();
        if text.read_line(&mut line)? == 0 {
            break;
        }
        let content = line.trim_end();
        if let Some(declared) = content.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').with_context(|| format!("line {number}: a type"))?;
            let kind = match kind {
                "counter" | "histogram" | "summary" => Family::Cumulative,
                "unknown" => Family::Unknown,
                _ => Family::Level,
            };
            family = (name.to_owned(), kind);
            continue;
        }
        if content.starts_with('#') || content.is_empty() {
            continue;
        }
        let sample = || format!("line {number}: a sample is expected, found {content:?}");
        let (rest, time) = content.rsplit_once(' ').with_context(sample)?;
        let (name_and_labels, value_text) = rest.rsplit_once(' ').with_context(sample)?;
        let time_ms = (time.parse::<f64>().with_context(sample)? * 1_000.0).round() as i64;
        let value: f64 = value_text.parse().with_context(sample)?;
        if name_and_labels != series_text {
            series_text = name_and_labels.to_owned();
            let labels = labels(name_and_labels).with_context(sample)?;
            let kind = if name_and_labels.starts_with(&family.0) { family.1 } else { Family::Unknown };
            let is_quantile = labels.iter().any(|(name, _)| name == "quantile");
            let is_cumulative = kind != Family::Level && !is_quantile;
            found.push((labels, Lines { decimals: Some(0), is_cumulative, ..Lines::default() }));
        }
        let Some((_, lines)) = found.last_mut() else { bail!("{}", sample()) };
        lines.samples.push((time_ms, value));
        lines.decimals = lines.decimals.zip(decimals(value_text)).map(|(a, b)| a.max(b));
    }
    Ok(arrange(found, source))
}

/// Digits behind the point of a number as written; `None` if it is no short decimal.
fn decimals(text: &str) -> Option<u32> {
    if text.contains(['e', 'E', 'n', 'N']) {
        return None;
    }
    let digits = text.split_once('.').map_or(0, |(_, fraction)| fraction.len() as u32);
    (digits <= DECIMALS_MAX).then_some(digits)
}

/// `name{a="b",c="d"}`; a value may hold `\\`, `\"` and `\n`.
fn labels(text: &str) -> Option<Vec<(String, String)>> {
    let (name, mut rest) = text.split_once('{').unwrap_or((text, "}"));
    let mut labels = vec![("__name__".to_owned(), name.to_owned())];
    while rest != "}" {
        let (label, after) = rest.split_once("=\"")?;
        let (mut value, mut end, mut chars) = (String::new(), None, after.char_indices());
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = Some(at);
                    break;
                }
                '\\' => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    escaped => value.push(escaped),
                },
                c => value.push(c),
            }
        }
        rest = after[end? + 1..].trim_start_matches(',');
        labels.push((label.to_owned(), value));
    }
    Some(labels)
}

/// Puts every sample into its target's scrape.
fn arrange(found: Vec<(Vec<(String, String)>, Lines)>, source: String) -> Recording {
    let job = |labels: &[(String, String)]| {
        labels.iter().find(|(name, _)| name == "job").map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let mut times: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for (labels, lines) in &found {
        times.entry(job(labels)).or_default().extend(lines.samples.iter().map(|(time_ms, _)| time_ms));
    }
    let jobs: Vec<&String> = times.keys().collect();
    let series = found
        .iter()
        .map(|(labels, lines)| {
            let job = job(labels);
            let scrapes = &times[&job];
            let at: BTreeMap<i64, f64> = lines.samples.iter().copied().collect();
            let never_falls = lines.samples.windows(2).all(|pair| pair[0].1 <= pair[1].1);
            let growth = match (lines.samples.first(), lines.samples.last()) {
                (Some(first), Some(last)) if lines.is_cumulative && never_falls => last.1 - first.1,
                _ => 0.0,
            };
            RecordedSeries {
                labels: labels.clone(),
                target: jobs.iter().position(|name| **name == job).unwrap_or_default(),
                values: scrapes.iter().map(|time_ms| at.get(time_ms).copied()).collect(),
                growth,
                decimals: lines.decimals,
            }
        })
        .collect();
    let lateness = |scrapes: &BTreeSet<i64>| scrapes.iter().map(|t| t.rem_euclid(RECORDED_INTERVAL_MS)).collect();
    let targets = times.values().map(|scrapes| Target { lateness_ms: lateness(scrapes) }).collect();
    Recording { source, targets, series }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_scrapes_of_targets() {
        let text = "\
# TYPE requests counter
requests_total{path=\"a\\\"b\",job=\"web\"} 5 1.000
requests_total{path=\"a\\\"b\",job=\"web\"} 7.5 3.250
# TYPE up gauge
up{job=\"web\"} 1 1.000
up{job=\"web\"} NaN 2.010
up{job=\"web\"} 1 3.250
# EOF
";
        let recording = parse(text.as_bytes(), "text".to_owned()).unwrap();
        assert_eq!(recording.targets, [Target { lateness_ms: vec![0, 10, 250] }]);
        let [requests, up] = &recording.series[..] else { panic!("{recording:?}") };
        assert_eq!(requests.labels[1], ("path".to_owned(), "a\"b".to_owned()));
        assert_eq!(requests.values, [Some(5.0), None, Some(7.5)]);
        assert_eq!((requests.growth, requests.decimals), (2.5, Some(1)));
        assert_eq!(requests.carried_on(7.5, 2), 12.5);
        assert!(up.values[1].is_some_and(f64::is_nan));
        assert_eq!((up.growth, up.decimals), (0.0, None));
    }

    #[test]
    fn carrying_on_adds_no_digits() {
        let series =
            RecordedSeries { labels: Vec::new(), target: 0, values: Vec::new(), growth: 0.1, decimals: Some(1) };
        assert_eq!(series.carried_on(0.2, 1), 0.3);
        assert_ne!(0.2 + 0.1, 0.3);
    }
}
