//! Summaries: quantiles of what was observed lately.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::handle::{Handle, sealed};
use super::node::Node;
use super::options::{Options, QUANTILES_DEFAULT, SUMMARY_WINDOW_DEFAULT, SharedClock, SummaryOptions};
use super::sketch::{self, Sketch};
use super::view::{Reading, Recorded, Scratch};
use crate::clock::Clock;
use crate::metric::{MetricKind, Quantile};

/// Parts of a window: it slides by a sixth of its length.
const PARTS: usize = 6;

/// Quantiles over a sliding window, each within 1 % of a true value of that rank; count and sum since the start.
///
/// The window is six parts long, the youngest still being filled: it always holds the observations of at least five sixths
/// of its length and of never more than all of it. It empties by itself while nobody records. An observation costs a lock
/// and a clock; use a [`Histogram`](super::Histogram) where that is too much.
#[derive(Debug, Clone)]
pub struct Summary {
    node: Arc<Node<SummaryValue>>,
}

/// What is kept of the window, and of all time.
#[derive(Debug)]
pub struct SummaryValue {
    options: Arc<Options>,
    /// Held for one insertion, or one copy of the bins.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    count: u64,
    sum: f64,
    /// Part `n` of time is at `n % PARTS`.
    parts: [Sketch; PARTS],
    /// The number of the part that was recorded in last.
    newest: u64,
}

impl Kept {
    /// Empties the parts of which another time has come.
    fn slide(&mut self, now: u64) {
        let oldest = now.saturating_sub(PARTS as u64 - 1);
        for part in (self.newest + 1).max(oldest)..=now {
            self.parts[part as usize % PARTS].clear();
        }
        self.newest = self.newest.max(now);
    }
}

impl SummaryValue {
    fn options(&self) -> &SummaryOptions {
        match &*self.options {
            Options::Summary(options) => options,
            // The builder gives a summary no other kind of options.
            _ => unreachable!("a summary without quantiles"),
        }
    }

    /// The window as it is now.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        let SummaryOptions { window, clock: SharedClock(clock), .. } = self.options();
        let part = (window.as_nanos() / PARTS as u128).max(1);
        let now = u64::try_from(clock.monotonic().as_nanos() / part).unwrap_or(u64::MAX);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.slide(now);
        kept
    }
}

impl Recorded for SummaryValue {
    fn new(options: &Arc<Options>) -> Self {
        Self { options: Arc::clone(options), kept: Mutex::default() }
    }

    fn reading<'a>(&'a self, _: usize, scratch: &'a mut Scratch) -> Reading<'a> {
        let (sum, count) = {
            let kept = self.kept();
            scratch.bins.clear();
            kept.parts.iter().for_each(|part| part.bins(&mut scratch.bins));
            (kept.sum, kept.count)
        };
        scratch.bins.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
        let quantile = |&quantile: &f64| Quantile { quantile, value: sketch::quantile(&scratch.bins, quantile) };
        scratch.quantiles.clear();
        scratch.quantiles.extend(self.options().quantiles.iter().map(quantile));
        Reading::Summary { quantiles: &scratch.quantiles, sum, count }
    }
}

impl Handle for Summary {
    const KIND: MetricKind = MetricKind::Summary;
}

impl sealed::Sealed for Summary {
    type Value = SummaryValue;
    const TYPE_NAME: &'static str = "Summary";
    const OWN_LABEL: Option<&'static str> = Some("quantile");

    fn default_options(clock: &Arc<dyn Clock>) -> Options {
        Options::Summary(SummaryOptions {
            quantiles: QUANTILES_DEFAULT.to_vec(),
            window: SUMMARY_WINDOW_DEFAULT,
            clock: SharedClock(Arc::clone(clock)),
        })
    }

    fn of(node: Arc<Node<SummaryValue>>) -> Self {
        Self { node }
    }

    fn node(&self) -> &Arc<Node<SummaryValue>> {
        &self.node
    }
}

impl Summary {
    /// Keeps one observation. What is not finite has no rank among numbers and is ignored.
    pub fn record(&self, value: f64) {
        if value.is_finite() {
            let mut kept = self.node.value.kept();
            kept.count += 1;
            kept.sum += value;
            let newest = kept.newest as usize % PARTS;
            kept.parts[newest].insert(value);
        }
    }

    /// The value of a rank, 0 to 1, in the window; NaN when the window is empty.
    pub fn quantile(&self, quantile: f64) -> f64 {
        let mut bins = Vec::new();
        self.node.value.kept().parts.iter().for_each(|part| part.bins(&mut bins));
        bins.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
        sketch::quantile(&bins, quantile)
    }

    /// How far back quantiles reach.
    pub fn window(&self) -> Duration {
        self.node.value.options().window
    }

    /// Number of observations since the start.
    pub fn count(&self) -> u64 {
        self.node.value.kept().count
    }

    /// Sum of observations since the start.
    pub fn sum(&self) -> f64 {
        self.node.value.kept().sum
    }
}
