//! Samples as servers really get them: a recording of a few targets, cloned to any number of hosts.
//!
//! Scrape `n` of clone `k` is scrape `(n + 7k)` of the recording modulo its length, sent at `base + 15 s × n` plus the
//! lateness it was recorded with. Counters go on at each wrap instead of starting again; a scrape that a series was not
//! in stays one that it is not in. The *measured set* is the first 15,920 series in the order of clones and 960 scrapes;
//! the recording *as it is* is its 302 scrapes, once. `cargo xtask gen peer-set` writes both as requests.

mod peer_set;
mod recording;
mod requests;
mod synthetic;

use std::path::Path;

use anyhow::Result;
use kymo_core::{Clock, Labels, SystemClock};

pub use peer_set::{PeerSet, peer_set, write_peer_set};
pub use recording::{RecordedSeries, Recording, Target};
pub use requests::{Placed, Request, RequestFile, request, request_of, requests};

/// Between scrapes.
pub const INTERVAL_MS: i64 = 15_000;
/// Scrapes by which each clone is ahead of the one before.
const CLONE_SHIFT: usize = 7;
/// Series of the set that ratios are taken on.
pub const SERIES_MEASURED: usize = 15_920;
/// Scrapes of the set that ratios are taken on: four hours.
pub const SCRAPES_MEASURED: usize = 960;
/// Between the last sample and now: VictoriaMetrics hides what is younger than 30 s.
const AGE_MS: i64 = 5 * 60_000;
/// Of synthetic recordings.
const SEED: u64 = 20_261_120;
/// Where the recording lies, seen from the root of the repository.
const RECORDING: &str = "../shared/data/node_recording.om.zst";

/// How much of a recording is played, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Series; the recording is cloned until there are enough.
    pub series: usize,
    /// Scrapes of each.
    pub scrapes: usize,
    /// Time of the first scrape, ms since the Unix epoch.
    pub base_ms: i64,
}

/// Samples, made when asked for: all of them would take gigabytes.
pub struct Load {
    recording: Recording,
    series: Vec<Cloned>,
    shape: Shape,
}

struct Cloned {
    clone: usize,
    recorded: usize,
    labels: Labels,
}

/// The recording if it is there, else a synthetic one of the same shape.
///
/// # Errors
/// The recording is there but cannot be read.
pub fn recording() -> Result<Recording> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(RECORDING);
    if path.is_file() { recording::read(&path) } else { Ok(synthetic::record(SEED)) }
}

/// A base for the measured set that ends a few minutes ago, so that every server takes it and shows all of it.
#[must_use]
pub fn base_ms_of_now() -> i64 {
    base_ms_before(SystemClock::new().now_ms(), SCRAPES_MEASURED)
}

/// The base from which `scrapes` scrapes end `AGE_MS` before `now_ms`, on a whole interval.
#[must_use]
pub fn base_ms_before(now_ms: i64, scrapes: usize) -> i64 {
    (now_ms - AGE_MS - INTERVAL_MS * scrapes as i64).div_euclid(INTERVAL_MS) * INTERVAL_MS
}

/// Counters with resets, flat and noisy gauges, late scrapes and series that come and go, the same for one seed.
#[must_use]
pub fn synthetic(seed: u64) -> Recording {
    synthetic::record(seed)
}

impl Shape {
    /// The set that ratios are taken on.
    #[must_use]
    pub fn measured(base_ms: i64) -> Shape {
        Shape { series: SERIES_MEASURED, scrapes: SCRAPES_MEASURED, base_ms }
    }

    /// The recording as it is, each scrape once: no clones, no wraps.
    #[must_use]
    pub fn plain(recording: &Recording, base_ms: i64) -> Shape {
        Shape { series: recording.series.len(), scrapes: recording.scrapes(), base_ms }
    }
}

impl Load {
    /// Plays `recording` in `shape`.
    #[must_use]
    pub fn new(recording: Recording, shape: Shape) -> Load {
        let per_clone = recording.series.len();
        let series = (0..shape.series)
            .map(|index| {
                let (clone, recorded) = (index / per_clone, index % per_clone);
                let host = format!("host-{clone}");
                let labels = recording.series[recorded].labels.iter().map(|(name, value)| {
                    let value = if name == "instance" { &host } else { value };
                    (name.as_str(), value.as_str())
                });
                Cloned { clone, recorded, labels: Labels::from_pairs(labels) }
            })
            .collect();
        Load { recording, series, shape }
    }

    /// What the samples come from.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// How much is played.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Moves the load to another time.
    pub fn begin_at(&mut self, base_ms: i64) {
        self.shape.base_ms = base_ms;
    }

    /// The labels of series `index`.
    #[must_use]
    pub fn labels(&self, index: usize) -> &Labels {
        &self.series[index].labels
    }

    /// Whether two series come from one target, and so from one scrape.
    #[must_use]
    pub fn is_one_target(&self, a: usize, b: usize) -> bool {
        let target =
            |index: usize| (self.series[index].clone, self.recording.series[self.series[index].recorded].target);
        target(a) == target(b)
    }

    /// Time (ms) and value of one scrape of one series, if it was there.
    #[must_use]
    pub fn sample(&self, index: usize, scrape: usize) -> Option<(i64, f64)> {
        let cloned = &self.series[index];
        let recorded = &self.recording.series[cloned.recorded];
        let lateness_ms = &self.recording.targets[recorded.target].lateness_ms;
        let at = scrape + CLONE_SHIFT * cloned.clone;
        let (wraps, at) = (at / lateness_ms.len(), at % lateness_ms.len());
        let value = recorded.carried_on(recorded.values[at]?, wraps);
        Some((self.shape.base_ms + INTERVAL_MS * scrape as i64 + lateness_ms[at], value))
    }

    /// All samples of one scrape of all series, by number of the series.
    pub fn scrape(&self, scrape: usize) -> impl Iterator<Item = (usize, i64, f64)> {
        (0..self.series.len()).filter_map(move |index| self.sample(index, scrape).map(|(t, v)| (index, t, v)))
    }

    /// How many samples there are.
    #[must_use]
    pub fn samples(&self) -> u64 {
        (0..self.shape.scrapes).map(|scrape| self.scrape(scrape).count() as u64).sum()
    }

    /// Metric names, sorted, each once.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.series.iter().filter_map(|series| series.labels.metric_name()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests;
