//! A running total, and rings of what it was.
//!
//! Writers add to `total`; the first of them in a new tick turns the rings under their lock, which costs at most one
//! pass over the rings however long it was silent. Readers take the lock, so that total and rings belong together.
//!
//! 1. `rings` is turned to `tick`: slot `e mod len` of a ring holds the total before its bucket `e` began, for the
//!    buckets `tick / TICKS - BUCKETS ..= tick / TICKS`.
//! 2. What `rings` holds never exceeds `total`, and never falls from one bucket to the next: no count is negative.
//!
//! **Orderings.** All are relaxed. `total` publishes no other memory; `tick` only saves the lock: a thread that sees an
//! old tick takes the lock and looks again, and a thread whose time is older than the tick adds all the same, so its event
//! counts when it was added. Invariant 2 holds because every turn and every read is inside the lock, which orders their
//! loads of `total`.

use std::time::Duration;

use super::span::WindowCounts;
use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

/// The shortest bucket; all others are whole numbers of it.
const TICKS_PER_SECOND: u64 = 20;
const TICK_NANOS: u32 = 50_000_000;

/// A ring of `LEN` slots whose buckets are `TICKS` long: `LEN - 1` whole buckets and the one under way.
struct Ring<const TICKS: u64, const LEN: usize> {
    totals: [u64; LEN],
}

impl<const TICKS: u64, const LEN: usize> Ring<TICKS, LEN> {
    const fn new() -> Self {
        Self { totals: [0; LEN] }
    }

    /// Begins the buckets up to that of tick `to`; `total` is what they begin with.
    fn turn(&mut self, from: u64, to: u64, total: u64) {
        let (from, to) = (from / TICKS, to / TICKS);
        let first = (from + 1).max((to + 1).saturating_sub(LEN as u64));
        for bucket in first..=to {
            self.totals[(bucket % LEN as u64) as usize] = total;
        }
    }

    /// The total before the bucket `buckets` before that of tick `at` began. `turned` is where the ring stands.
    fn before(&self, turned: u64, at: u64, buckets: u64, total: u64) -> u64 {
        match (at / TICKS).checked_sub(buckets) {
            // Before all time nothing was counted.
            None => 0,
            // Nothing was counted since the ring was turned.
            Some(bucket) if bucket > turned / TICKS => total,
            Some(bucket) => self.totals[(bucket % LEN as u64) as usize],
        }
    }
}

/// Windows of 20 × 50 ms, 60 × 1 s, 60 × 1 min and 96 × 15 min. Seconds are kept for two minutes, for the trend.
struct Rings {
    second: Ring<1, 21>,
    minute: Ring<TICKS_PER_SECOND, 121>,
    hour: Ring<{ 60 * TICKS_PER_SECOND }, 61>,
    day: Ring<{ 15 * 60 * TICKS_PER_SECOND }, 97>,
}

impl Rings {
    fn turn(&mut self, from: u64, to: u64, total: u64) {
        self.second.turn(from, to, total);
        self.minute.turn(from, to, total);
        self.hour.turn(from, to, total);
        self.day.turn(from, to, total);
    }
}

/// Counts events over the windows of [`Span`](super::Span). 2.4 kB, allocates nothing.
///
/// Times given to one counter come from one [`Clock::monotonic`](crate::Clock::monotonic). A time before the newest one
/// is taken for the newest.
pub struct WindowCounter {
    total: AtomicU64,
    /// Written inside the lock of `rings` only.
    tick: AtomicU64,
    /// Guards the rings and orders turns and reads; held for a few stores. A leaf: nothing else is locked inside.
    rings: Mutex<Rings>,
}

impl WindowCounter {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> WindowCounter {
        let rings = Rings { second: Ring::new(), minute: Ring::new(), hour: Ring::new(), day: Ring::new() };
        WindowCounter { total: AtomicU64::new(0), tick: AtomicU64::new(0), rings: Mutex::new(rings) }
    }

    /// Counts `by` events at the time `now`. Any number of threads; O(1).
    pub fn add(&self, by: u64, now: Duration) {
        let tick = tick_of(now);
        if tick > self.tick.load(Ordering::Relaxed) {
            self.turn(&mut self.lock(), tick);
        }
        self.total.fetch_add(by, Ordering::Relaxed);
    }

    /// Everything ever counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// The counts of all windows that end at `now`. O(1).
    #[must_use]
    pub fn read(&self, now: Duration) -> WindowCounts {
        let rings = self.lock();
        let turned = self.tick.load(Ordering::Relaxed);
        let (at, total) = (tick_of(now).max(turned), self.total());
        let minute = |buckets| rings.minute.before(turned, at, buckets, total);
        WindowCounts {
            last_second: total - rings.second.before(turned, at, 20, total),
            last_minute: total - minute(60),
            last_hour: total - rings.hour.before(turned, at, 60, total),
            last_day: total - rings.day.before(turned, at, 96, total),
            since_start: total,
            newest_whole_minute: minute(0) - minute(60),
            minute_before: minute(60) - minute(120),
        }
    }

    /// Takes over what `other` counted, and when: from then on this counter shows the sum of both.
    pub fn absorb(&self, other: WindowCounter) {
        let mut rings = self.lock();
        let theirs_turned = other.tick.load(Ordering::Relaxed);
        let tick = self.tick.load(Ordering::Relaxed).max(theirs_turned);
        self.turn(&mut rings, tick);
        let theirs_total = other.total();
        let mut theirs = other.lock();
        theirs.turn(theirs_turned, tick, theirs_total);
        let add = |ours: &mut [u64], theirs: &[u64]| ours.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        add(&mut rings.second.totals, &theirs.second.totals);
        add(&mut rings.minute.totals, &theirs.minute.totals);
        add(&mut rings.hour.totals, &theirs.hour.totals);
        add(&mut rings.day.totals, &theirs.day.totals);
        self.total.fetch_add(theirs_total, Ordering::Relaxed);
    }

    fn turn(&self, rings: &mut Rings, to: u64) {
        let from = self.tick.load(Ordering::Relaxed);
        if to > from {
            rings.turn(from, to, self.total());
            self.tick.store(to, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        // Nothing inside the lock panics between two writes that belong together.
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for WindowCounter {
    fn default() -> WindowCounter {
        WindowCounter::new()
    }
}

impl std::fmt::Debug for WindowCounter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowCounter").field("total", &self.total()).finish_non_exhaustive()
    }
}

fn tick_of(now: Duration) -> u64 {
    // No process runs for as long as the limit, and sums of it and a bucket do not overflow.
    let seconds = now.as_secs().min(u64::MAX / TICKS_PER_SECOND / 2);
    seconds * TICKS_PER_SECOND + u64::from(now.subsec_nanos() / TICK_NANOS)
}
