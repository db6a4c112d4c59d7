//! Gauges: one number that every thread sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::cells;
use super::handle::{Handle, sealed};
use super::node::Node;
use super::options::Options;
use super::view::{Reading, Recorded, Scratch};
use crate::metric::MetricKind;

/// A level.
///
/// Setting it is one store. Threads that set one gauge at the same time write to one cache line: the newest level is what
/// a gauge means, so there is nothing to keep apart.
#[derive(Debug, Clone)]
pub struct Gauge {
    node: Arc<Node<GaugeValue>>,
}

/// Bits of an `f64`.
#[derive(Debug)]
pub struct GaugeValue(AtomicU64);

impl Recorded for GaugeValue {
    fn new(_: &Arc<Options>) -> Self {
        Self(AtomicU64::new(0))
    }

    fn reading<'a>(&'a self, _: usize, _: &'a mut Scratch) -> Reading<'a> {
        Reading::Gauge(f64::from_bits(self.0.load(Relaxed)))
    }
}

impl GaugeValue {
    #[inline]
    pub(super) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    pub(super) fn add(&self, by: f64) {
        cells::add_to_shared(&self.0, by);
    }
}

impl Handle for Gauge {
    const KIND: MetricKind = MetricKind::Gauge;
}

impl sealed::Sealed for Gauge {
    type Value = GaugeValue;
    const TYPE_NAME: &'static str = "Gauge";

    #[inline]
    fn of(node: Arc<Node<GaugeValue>>) -> Self {
        Self { node }
    }

    fn node(&self) -> &Arc<Node<GaugeValue>> {
        &self.node
    }
}

impl Gauge {
    /// Sets the level.
    #[inline]
    pub fn set(&self, value: f64) {
        self.node.value.set(value);
    }

    /// Raises the level, or lowers it by a negative number. A locked instruction: count with an
    /// [`UpDownCounter`](super::UpDownCounter) where many threads do.
    pub fn add(&self, by: f64) {
        self.node.value.add(by);
    }

    /// The level.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.node.value.0.load(Relaxed))
    }
}
