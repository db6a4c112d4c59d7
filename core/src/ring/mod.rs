//! Points on their way through a process: pushed without waiting, drained by a collector.
//!
//! A [`HotMetricsRing`] is a fixed number of lanes, one for each thread that writes, so no two threads ever write to one
//! place: two producers cannot claim one slot, and a slot cannot be read half written. A push costs six stores. What is not
//! drained in time is written over, oldest first, and counted: memory is bounded in bytes, and nothing blocks.
//!
//! Nothing that was promised to anybody may go through it: it is for measurements that may be late or few, not for samples
//! that a sender was told are kept.
//!
//! ```
//! use kymo_core::metric::{MetricKind, MetricPoint};
//! use kymo_core::ring::HotMetricsRing;
//!
//! let ring = HotMetricsRing::new(1 << 20, 1_024);
//! let mut writer = ring.writer().expect("a free lane");
//! writer.push_metric(MetricPoint::new(7, MetricKind::Gauge, 1_700_000_000_000, 0.5));
//!
//! let mut sum = 0.0;
//! let drained = ring.drain(|point| sum += point.value);
//! assert_eq!((drained.points, drained.overwritten, sum), (1, 0, 0.5));
//! ```

mod lane;
#[cfg(test)]
mod model;
mod sync;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metric::MetricPoint;
use lane::Lane;

/// A bounded set of lanes for points. Clones share it.
#[derive(Debug, Clone)]
pub struct HotMetricsRing {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lane_points: usize,
    lanes_max: usize,
    /// Guards who writes and how far was read, not the points. Held for a drain, which no writer waits for.
    lanes: Mutex<Lanes>,
}

#[derive(Debug, Default)]
struct Lanes {
    all: Vec<Read>,
    /// Lanes without a writer.
    idle: Vec<Arc<Lane>>,
    overwritten: u64,
}

/// A lane and how far it was read.
#[derive(Debug)]
struct Read {
    lane: Arc<Lane>,
    next: u64,
}

/// What a drain found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Points given.
    pub points: u64,
    /// Points that were written over before they could be read, since the drain before.
    pub overwritten: u64,
}

impl HotMetricsRing {
    /// Lanes of at least `lane_points` points each (a power of two), as many as fit into `bytes_max`, but one at least. A
    /// lane takes memory when it is first written.
    pub fn new(bytes_max: usize, lane_points: usize) -> Self {
        let lane_points = lane_points.max(1).next_power_of_two();
        let lanes_max = (bytes_max / (lane_points * size_of::<MetricPoint>())).max(1);
        Self { shared: Arc::new(Shared { lane_points, lanes_max, lanes: Mutex::default() }) }
    }

    /// A lane to write to; `None` while all have a writer.
    ///
    /// When the writer is dropped another may take the lane; what was pushed stays to be drained.
    pub fn writer(&self) -> Option<RingWriter> {
        let mut lanes = self.shared.lanes();
        let lane = match lanes.idle.pop() {
            Some(lane) => lane,
            None if lanes.all.len() < self.shared.lanes_max => {
                let lane = Arc::new(Lane::new(self.shared.lane_points));
                lanes.all.push(Read { lane: Arc::clone(&lane), next: 0 });
                lane
            }
            None => return None,
        };
        Some(RingWriter { lane, shared: Arc::clone(&self.shared) })
    }

    /// Gives every point that was not given yet, lane by lane, each lane's oldest first. Writers go on meanwhile.
    ///
    /// `each` must not drain the same ring. Does not allocate.
    pub fn drain(&self, mut each: impl FnMut(MetricPoint)) -> Drained {
        let mut lanes = self.shared.lanes();
        let mut drained = Drained::default();
        for Read { lane, next } in &mut lanes.all {
            drained.overwritten += lane.drain(next, |words| {
                drained.points += 1;
                each(MetricPoint::from_words(words));
            });
        }
        lanes.overwritten += drained.overwritten;
        drained
    }

    /// How many points were found overwritten by all drains so far.
    pub fn overwritten(&self) -> u64 {
        self.shared.lanes().overwritten
    }

    /// Bytes that points take when all lanes are in use.
    pub fn bytes_max(&self) -> usize {
        self.shared.lanes_max * self.shared.lane_points * size_of::<MetricPoint>()
    }
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one writer of a lane. May move to another thread, but not be shared.
#[derive(Debug)]
pub struct RingWriter {
    lane: Arc<Lane>,
    shared: Arc<Shared>,
}

impl RingWriter {
    /// Pushes a point over the lane's oldest. Never waits, never fails, does not allocate.
    #[inline]
    pub fn push_metric(&mut self, point: MetricPoint) {
        self.lane.push(point.to_words());
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        self.shared.lanes().idle.push(Arc::clone(&self.lane));
    }
}
