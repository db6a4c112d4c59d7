//! What was counted, by when: three rings of slots, and the windows that are read from them.

use super::cells::{BUCKETS, Outcome, Place, bounds};
use super::figures::HealthWindow;

/// Lengths of the windows, milliseconds, shortest first.
pub const WINDOWS_MS: [i64; 4] = [60_000, 300_000, 900_000, 3_600_000];

/// Slots of the one-minute window.
const FINE_MS: i64 = 5_000;
/// Slots of the windows of five and fifteen minutes.
const MINUTE_MS: i64 = 60_000;
/// Slots of the window of an hour.
const COARSE_MS: i64 = 300_000;

/// Counts by place, in the order of places.
#[derive(Debug, Clone, Default)]
struct Slot(Vec<(Place, u64)>);

impl Slot {
    fn add(&mut self, place: Place, by: u64) {
        match self.0.binary_search_by_key(&place, |(place, _)| *place) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(by),
            Err(at) => self.0.insert(at, (place, by)),
        }
    }
}

/// Slots of `MS` milliseconds: `LEN - 1` whole ones and the one under way.
#[derive(Debug)]
struct Ring<const MS: i64, const LEN: usize>(Box<[Slot; LEN]>);

impl<const MS: i64, const LEN: usize> Default for Ring<MS, LEN> {
    fn default() -> Self {
        Ring(Box::new(std::array::from_fn(|_| Slot::default())))
    }
}

impl<const MS: i64, const LEN: usize> Ring<MS, LEN> {
    fn turn(&mut self, from_ms: i64, to_ms: i64) {
        let (from, to) = (from_ms.div_euclid(MS), to_ms.div_euclid(MS));
        for number in (from + 1).max(to - LEN as i64 + 1)..=to {
            self.slot(number).0.clear();
        }
    }

    fn slot(&mut self, number: i64) -> &mut Slot {
        &mut self.0[number.rem_euclid(LEN as i64) as usize]
    }

    /// Counts at `at_ms`, while the ring is turned to `now_ms`; nothing when that is too long ago.
    fn add(&mut self, at_ms: i64, now_ms: i64, place: Place, by: u64) {
        let (at, now) = (at_ms.div_euclid(MS), now_ms.div_euclid(MS));
        if now - at < LEN as i64 {
            self.slot(at.min(now)).add(place, by);
        }
    }

    /// The slots from `oldest` to `newest` slots before the one under way.
    fn slots(&self, now_ms: i64, oldest: i64, newest: i64) -> impl Iterator<Item = &Slot> {
        let now = now_ms.div_euclid(MS);
        (now - oldest..=now - newest).map(|number| &self.0[number.rem_euclid(LEN as i64) as usize])
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|slot| slot.0.is_empty())
    }
}

/// Sums of slots, in buffers that are used again.
pub(super) struct Tally {
    latencies: Box<[u64; BUCKETS]>,
    timed: u64,
    requests: u64,
    errors: u64,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally { latencies: Box::new([0; BUCKETS]), timed: 0, requests: 0, errors: 0 }
    }

    fn clear(&mut self) {
        self.latencies.fill(0);
        (self.timed, self.requests, self.errors) = (0, 0, 0);
    }

    fn add<'a>(&mut self, slots: impl Iterator<Item = &'a Slot>) {
        for &(place, count) in slots.flat_map(|slot| &slot.0) {
            if let Some(bucket) = place.bucket() {
                self.latencies[bucket] += count;
                self.timed += count;
            }
            match place.outcome() {
                Outcome::Ok => self.requests += count,
                Outcome::Failed => {
                    self.requests += count;
                    self.errors += count;
                }
                Outcome::LatencyOnly => {}
            }
        }
    }

    /// Latencies of these ranks, which rise; each is the middle of its bucket, on a scale of ratios.
    fn quantiles<const N: usize>(&self, ranks: [f64; N]) -> [Option<f64>; N] {
        let mut found = [None; N];
        if self.timed == 0 {
            return found;
        }
        let (mut at, mut seen) = (0, 0);
        for (bucket, count) in self.latencies.iter().enumerate().filter(|(_, count)| **count != 0) {
            seen += count;
            // The request of rank q is the ⌈q · n⌉th.
            while at < N && seen as f64 >= ranks[at] * self.timed as f64 {
                let (lower, upper) = bounds(bucket);
                found[at] = Some((lower * upper).sqrt());
                at += 1;
            }
            if at == N {
                break;
            }
        }
        found
    }

    fn window(&self, window_ms: i64, over_ms: i64) -> HealthWindow {
        let [p50, p95, p99] = self.quantiles([0.5, 0.95, 0.99]);
        HealthWindow {
            window_ms,
            requests: self.requests,
            errors: self.errors,
            rate: self.requests as f64 / (over_ms as f64 / 1e3),
            error_ratio: if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 },
            p50,
            p95,
            p99,
        }
    }
}

/// The last hour without its newest five to ten minutes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usual {
    /// Requests whose latency is known.
    pub(super) requests: u64,
    /// The median of the p99s of its five-minute slots, each with the weight of its requests. A trouble must go on for half an hour
    /// before it is what is usual, while the p99 of the hour as a whole would be that of the trouble after half a minute.
    pub(super) p99: Option<f64>,
}

/// What the windows of a history show at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shown {
    pub(super) windows: [HealthWindow; 4],
    /// What was usual.
    pub(super) usual: Usual,
}

/// All that was counted of one thing.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Ever.
    pub(super) requests: u64,
    pub(super) errors: u64,
    /// Up to where the rings are turned; 0 before the first count.
    turned_ms: i64,
    /// When the first request was, in the same time.
    first_ms: i64,
    fine: Ring<FINE_MS, 13>,
    minutes: Ring<MINUTE_MS, 16>,
    coarse: Ring<COARSE_MS, 13>,
    /// With the slot that was under way when it was found out.
    usual: Option<(i64, Usual)>,
}

impl History {
    /// Goes on to `now_ms`; a time before the newest one is taken for the newest.
    pub(super) fn turn(&mut self, now_ms: i64) {
        if now_ms > self.turned_ms {
            self.fine.turn(self.turned_ms, now_ms);
            self.minutes.turn(self.turned_ms, now_ms);
            self.coarse.turn(self.turned_ms, now_ms);
            self.turned_ms = now_ms;
        }
    }

    /// Counts at a time up to which it was turned, or before.
    pub(super) fn add(&mut self, at_ms: i64, place: Place, by: u64) {
        match place.outcome() {
            Outcome::Ok => self.requests += by,
            Outcome::Failed => {
                self.requests += by;
                self.errors += by;
            }
            Outcome::LatencyOnly => {}
        }
        if self.first_ms == 0 || at_ms < self.first_ms {
            self.first_ms = at_ms;
        }
        if self.turned_ms - at_ms >= COARSE_MS {
            self.usual = None;
        }
        self.fine.add(at_ms, self.turned_ms, place, by);
        self.minutes.add(at_ms, self.turned_ms, place, by);
        self.coarse.add(at_ms, self.turned_ms, place, by);
    }

    /// Whether all windows are empty.
    pub(super) fn is_empty(&self) -> bool {
        self.coarse.is_empty() && self.minutes.is_empty() && self.fine.is_empty()
    }

    /// What was usual; found out once in five minutes.
    pub(super) fn usual(&mut self, tally: &mut Tally) -> Usual {
        let number = self.turned_ms.div_euclid(COARSE_MS);
        if let Some((_, usual)) = self.usual.filter(|(of, _)| *of == number) {
            return usual;
        }
        let mut slots: Vec<(f64, u64)> = Vec::new();
        for slot in self.coarse.slots(self.turned_ms, 12, 2) {
            tally.clear();
            tally.add(std::iter::once(slot));
            if let [Some(p99)] = tally.quantiles([0.99]) {
                slots.push((p99, tally.timed));
            }
        }
        slots.sort_by(|a, b| a.0.total_cmp(&b.0));
        let requests: u64 = slots.iter().map(|(_, requests)| requests).sum();
        let mut seen = 0;
        let median = slots.iter().find(|(_, of_slot)| {
            seen += of_slot;
            seen * 2 >= requests
        });
        let usual = Usual { requests, p99: median.map(|(p99, _)| *p99) };
        self.usual = Some((number, usual));
        usual
    }

    pub(super) fn read(&self, tally: &mut Tally) -> Shown {
        let now_ms = self.turned_ms;
        let mut shown = Shown::default();
        // A window holds `whole` slots and what there is of the one under way; of a young service only its lifetime.
        let over = |slot_ms: i64, whole: i64| {
            let held_ms = whole * slot_ms + now_ms.rem_euclid(slot_ms);
            held_ms.min(now_ms - self.first_ms).max(1_000)
        };
        tally.clear();
        tally.add(self.fine.slots(now_ms, 12, 0));
        shown.windows[0] = tally.window(WINDOWS_MS[0], over(FINE_MS, 12));
        tally.clear();
        tally.add(self.minutes.slots(now_ms, 5, 0));
        shown.windows[1] = tally.window(WINDOWS_MS[1], over(MINUTE_MS, 5));
        tally.add(self.minutes.slots(now_ms, 15, 6));
        shown.windows[2] = tally.window(WINDOWS_MS[2], over(MINUTE_MS, 15));
        tally.clear();
        tally.add(self.coarse.slots(now_ms, 12, 0));
        shown.windows[3] = tally.window(WINDOWS_MS[3], over(COARSE_MS, 12));
        shown
    }
}
