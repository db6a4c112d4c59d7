//! What a reader of a registry sees, borrowed from it.

use std::sync::Arc;

use super::exemplar;
use super::node::{self, Node};
use crate::batch::Exemplar;
use crate::histogram::NativeHistogram;
use crate::metric::{MetricKind, Quantile};

/// Sees all that is in a registry: each family, and after it its series.
///
/// No lock of the registry is held meanwhile, so a visitor may record, register and look up.
pub trait Visit {
    /// A family; its series follow.
    fn family(&mut self, family: &FamilyView<'_>);

    /// A series of the family seen last.
    fn series(&mut self, series: &SeriesView<'_>);

    /// Values of the next series of the family seen last, for whoever knows their labels from an earlier time: the family's
    /// [`order`](FamilyView::order) was the same then. Counters of whole numbers without exemplars come like this.
    ///
    /// Says whether they are taken; the same series are shown one by one otherwise.
    fn totals(&mut self, totals: &[u64]) -> bool {
        let _ = totals;
        false
    }
}

/// A family without its series.
#[derive(Debug, Clone, Copy)]
pub struct FamilyView<'a> {
    /// Name of the family.
    pub name: &'a str,
    /// Its kind.
    pub kind: MetricKind,
    /// Its unit, empty for none.
    pub unit: &'a str,
    /// What it means, empty if nobody said.
    pub help: &'a str,
    /// Names of its labels, sorted.
    pub labels: &'a [String],
    /// How many series follow.
    pub len: usize,
    /// Which series follow, in which order: while it is the same number, they are the same, so that what was made of their
    /// labels holds. Of a family of one registry, for as long as that lives.
    pub order: u64,
}

/// One series and its value.
#[derive(Debug)]
pub struct SeriesView<'a> {
    pub(super) names: &'a [String],
    pub(super) encoded: &'a [u8],
    pub(super) names_itself: bool,
    /// When the series was made, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Its value.
    pub reading: Reading<'a>,
    /// By what its exemplars are found, if it has any.
    pub(super) exemplars: Option<usize>,
}

/// The value of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading<'a> {
    /// A total: the sum of both numbers.
    Counter {
        /// Whole increments.
        whole: u64,
        /// Others.
        fraction: f64,
    },
    /// A level.
    Gauge(f64),
    /// A whole level.
    UpDownCounter(i64),
    /// Observations in buckets with given bounds.
    Buckets {
        /// Rising; the last is `+Inf`.
        upper_bounds: &'a [f64],
        /// Observations in each bucket and in no earlier one: not cumulative.
        counts: &'a [u64],
        /// Sum of all observations.
        sum: f64,
        /// Number of all observations: the sum of `counts`.
        count: u64,
    },
    /// Observations in exponential buckets.
    Native(&'a NativeHistogram),
    /// Quantiles of recent observations.
    Summary {
        /// By rising quantile.
        quantiles: &'a [Quantile],
        /// Sum of all observations.
        sum: f64,
        /// Number of all observations.
        count: u64,
    },
}

impl<'a> SeriesView<'a> {
    /// Names and values, sorted by name, without empty values: they equal absent labels. Does not allocate.
    pub fn labels(&self) -> SeriesLabels<'a> {
        SeriesLabels::new(self.names, self.encoded, self.names_itself)
    }

    /// What identifies the series within its family: the same bytes for the same labels for as long as the family lives,
    /// so text made of them can be kept.
    pub fn key(&self) -> &'a [u8] {
        self.encoded
    }

    /// Traced observations, oldest first. Takes a lock if there are any.
    pub fn exemplars(&self) -> Option<Vec<Exemplar>> {
        self.exemplars.map(exemplar::of)
    }
}

/// See [`SeriesView::labels`].
#[derive(Debug, Clone)]
pub struct SeriesLabels<'a> {
    names: std::slice::Iter<'a, String>,
    encoded: &'a [u8],
    names_itself: bool,
}

impl<'a> SeriesLabels<'a> {
    pub(super) fn new(names: &'a [String], encoded: &'a [u8], names_itself: bool) -> Self {
        Self { names: names.iter(), encoded, names_itself }
    }
}

impl<'a> Iterator for SeriesLabels<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let name = match self.names_itself {
                true => node::decode(&mut self.encoded)?,
                false => self.names.next()?,
            };
            let value = node::decode(&mut self.encoded)?;
            if !value.is_empty() {
                return Some((name, value));
            }
        }
    }
}

/// The labels of a node, as its series shows them.
pub(super) fn labels_of<'a, V>(names: &'a [String], node: &'a Node<V>) -> SeriesLabels<'a> {
    SeriesLabels::new(names, node.labels(), node.names_itself())
}

/// Series whose numbers are read under one lock.
pub(super) const RUN: usize = 64;

/// Buffers that a reader uses again and again.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Values of a run of counters or up-down counters, whole parts and others; the others are left out where all are zero.
    pub(super) wholes: Vec<u64>,
    pub(super) fractions: Vec<f64>,
    /// Whether the run has nothing but its whole parts.
    pub(super) is_plain: bool,
    pub(super) counts: Vec<u64>,
    pub(super) native: NativeHistogram,
    pub(super) quantiles: Vec<Quantile>,
    /// Bins of a summary's sketches.
    pub(super) bins: Vec<(f64, u64)>,
}

/// What is recorded in a series, and how it is read.
pub trait Recorded: std::fmt::Debug + Sized + Send + Sync + 'static {
    /// A value with nothing recorded.
    fn new(options: &Arc<super::options::Options>) -> Self;

    /// Reads a run of `RUN` nodes at most into `scratch`, if this kind is read in runs: under one lock, not one each.
    fn read_run(nodes: &[Arc<Node<Self>>], scratch: &mut Scratch) {
        let _ = (nodes, scratch);
    }

    /// The run that was read, where all there is to it are whole totals.
    fn totals(scratch: &Scratch) -> Option<&[u64]> {
        let _ = scratch;
        None
    }

    /// Gives what is recorded. `index` is the node's place in the run that was read.
    fn reading<'a>(&'a self, index: usize, scratch: &'a mut Scratch) -> Reading<'a>;
}
