//! What was counted, by when: three rings of slots, and the windows that are read from them.

use super::cells::{BUCKETS, Place, bounds};
use super::figures::HealthWindow;

/// Lengths of the windows, milliseconds, shortest first.
pub const WINDOWS_MS: [i64; 4] = [60_000, 300_000, 900_000, 3_600_000];

/// Slots of the one-minute window.
const FINE_MS: i64 = 5_000;
/// Slots of the windows of five and fifteen minutes.
const MINUTE_MS: i64 = 60_000;
/// Slots of the window of an hour.
const COARSE_MS: i64 = 300_000;
/// Slots that a window holds, the one under way included: of a minute, five, fifteen, and an hour.
const FINE_HELD: i64 = 13;
const FIVE_HELD: i64 = 6;
const FIFTEEN_HELD: i64 = 16;
const HOUR_HELD: i64 = 13;

/// Counts by place, in the order of places.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot(Vec<(Place, u64)>);

impl Slot {
    /// Adds what stands in the order of places: one walk through both.
    pub(super) fn add(&mut self, places: &[(Place, u64)]) {
        merge(&mut self.0, places.iter().copied());
    }

    /// What was counted, in the order of places.
    pub(super) fn places(&self) -> &[(Place, u64)] {
        &self.0
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<(Place, u64)>()
    }

    pub(super) fn get(&self, place: Place) -> u64 {
        self.0.binary_search_by_key(&place, |(place, _)| *place).map_or(0, |at| self.0[at].1)
    }
}

/// Adds `more` to `sums`, which is in the order of keys; cheap where `more` is too, right where it is not.
fn merge<K: Ord + Copy>(sums: &mut Vec<(K, u64)>, more: impl Iterator<Item = (K, u64)>) {
    let mut at = 0;
    for (key, count) in more {
        if at > 0 && sums[at - 1].0 >= key {
            at = 0;
        }
        while at < sums.len() && sums[at].0 < key {
            at += 1;
        }
        match sums.get_mut(at) {
            Some((known, sum)) if *known == key => *sum = sum.saturating_add(count),
            _ => sums.insert(at, (key, count)),
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
    fn add(&mut self, at_ms: i64, now_ms: i64, places: &[(Place, u64)]) {
        let (at, now) = (at_ms.div_euclid(MS), now_ms.div_euclid(MS));
        if now - at < LEN as i64 {
            self.slot(at.min(now)).add(places);
        }
    }

    /// The slots from `oldest` to `newest` slots before the one under way.
    fn slots(&self, now_ms: i64, oldest: i64, newest: i64) -> impl Iterator<Item = &Slot> {
        let now = now_ms.div_euclid(MS);
        (now - oldest..=now - newest).map(|number| &self.0[number.rem_euclid(LEN as i64) as usize])
    }

    /// The slots that leave the newest `held` when the ring is turned on.
    fn leaving(&self, from_ms: i64, to_ms: i64, held: i64) -> impl Iterator<Item = &Slot> {
        let (from, to) = (from_ms.div_euclid(MS), to_ms.div_euclid(MS));
        (from - held + 1..=from.min(to - held)).map(|number| &self.0[number.rem_euclid(LEN as i64) as usize])
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|slot| slot.0.is_empty())
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|slot| size_of::<Slot>() + slot.bytes()).sum()
    }
}

/// What the slots of a window hold together, kept up to date as they come and go.
#[derive(Debug, Default)]
struct Sum {
    /// By bucket, in their order. One that emptied stays until a slot leaves.
    latencies: Vec<(u16, u64)>,
    timed: u64,
    requests: u64,
    errors: u64,
}

impl Sum {
    fn add(&mut self, places: &[(Place, u64)]) {
        for &(place, count) in places {
            let (requests, errors) = place.outcome().counts(count);
            self.requests = self.requests.saturating_add(requests);
            self.errors = self.errors.saturating_add(errors);
            self.timed = self.timed.saturating_add(if place.bucket().is_some() { count } else { 0 });
        }
        merge(&mut self.latencies, places.iter().filter_map(|&(place, count)| Some((place.bucket()? as u16, count))));
    }

    fn take(&mut self, places: &[(Place, u64)]) {
        for &(place, count) in places {
            let (requests, errors) = place.outcome().counts(count);
            self.requests = self.requests.saturating_sub(requests);
            self.errors = self.errors.saturating_sub(errors);
            if let Some(bucket) = place.bucket() {
                self.timed = self.timed.saturating_sub(count);
                // What is taken was added before.
                if let Ok(at) = self.latencies.binary_search_by_key(&(bucket as u16), |(bucket, _)| *bucket) {
                    self.latencies[at].1 = self.latencies[at].1.saturating_sub(count);
                }
            }
        }
        self.latencies.retain(|(_, count)| *count > 0);
    }

    fn window(&self, window_ms: i64, over_ms: i64) -> HealthWindow {
        let latencies = self.latencies.iter().map(|(bucket, count)| (usize::from(*bucket), *count));
        let quantiles = quantiles(latencies, self.timed, [0.5, 0.95, 0.99]);
        window((window_ms, over_ms), (self.requests, self.errors), quantiles)
    }
}

/// The sums of the four windows.
#[derive(Debug, Default)]
struct Sums([Sum; 4]);

impl Sums {
    /// Takes away what leaves the windows; before the rings are turned.
    fn turn(&mut self, history: &History, to_ms: i64) {
        let from_ms = history.turned_ms;
        let [minute, five, fifteen, hour] = &mut self.0;
        history.fine.leaving(from_ms, to_ms, FINE_HELD).for_each(|slot| minute.take(&slot.0));
        history.minutes.leaving(from_ms, to_ms, FIVE_HELD).for_each(|slot| five.take(&slot.0));
        history.minutes.leaving(from_ms, to_ms, FIFTEEN_HELD).for_each(|slot| fifteen.take(&slot.0));
        history.coarse.leaving(from_ms, to_ms, HOUR_HELD).for_each(|slot| hour.take(&slot.0));
    }

    fn add(&mut self, at_ms: i64, now_ms: i64, places: &[(Place, u64)]) {
        let slots = [(FINE_MS, FINE_HELD), (MINUTE_MS, FIVE_HELD), (MINUTE_MS, FIFTEEN_HELD), (COARSE_MS, HOUR_HELD)];
        for (sum, (slot_ms, held)) in self.0.iter_mut().zip(slots) {
            if now_ms.div_euclid(slot_ms) - at_ms.div_euclid(slot_ms) < held {
                sum.add(places);
            }
        }
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
            let (requests, errors) = place.outcome().counts(count);
            self.requests += requests;
            self.errors += errors;
        }
    }

    fn quantiles<const N: usize>(&self, ranks: [f64; N]) -> [Option<f64>; N] {
        quantiles(self.latencies.iter().copied().enumerate(), self.timed, ranks)
    }

    fn window(&self, window_ms: i64, over_ms: i64) -> HealthWindow {
        window((window_ms, over_ms), (self.requests, self.errors), self.quantiles([0.5, 0.95, 0.99]))
    }
}

/// Latencies of these ranks, which rise, among `timed` ones that are told by rising bucket; each is the middle of its bucket, on a
/// scale of ratios.
fn quantiles<const N: usize>(
    latencies: impl Iterator<Item = (usize, u64)>,
    timed: u64,
    ranks: [f64; N],
) -> [Option<f64>; N] {
    let mut found = [None; N];
    if timed == 0 {
        return found;
    }
    let (mut at, mut seen) = (0, 0);
    for (bucket, count) in latencies.filter(|(_, count)| *count != 0) {
        seen += count;
        // The request of rank q is the ⌈q · n⌉th.
        while at < N && seen as f64 >= ranks[at] * timed as f64 {
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

fn window(
    (window_ms, over_ms): (i64, i64),
    (requests, errors): (u64, u64),
    [p50, p95, p99]: [Option<f64>; 3],
) -> HealthWindow {
    HealthWindow {
        window_ms,
        requests,
        errors,
        rate: requests as f64 / (over_ms as f64 / 1e3),
        error_ratio: if requests == 0 { 0.0 } else { errors as f64 / requests as f64 },
        p50,
        p95,
        p99,
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

/// All that was counted of one thing. What its windows hold together is found out when it is asked for ([`read`](Self::read)),
/// unless it is asked for again and again ([`followed`](Self::followed)).
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
    /// Where the windows are read each second.
    sums: Option<Box<Sums>>,
}

impl History {
    /// One whose windows are kept up to date: 30 times cheaper to read, and more to keep.
    pub(super) fn followed() -> History {
        History { sums: Some(Box::default()), ..History::default() }
    }

    /// Goes on to `now_ms`; a time before the newest one is taken for the newest.
    pub(super) fn turn(&mut self, now_ms: i64) {
        if now_ms > self.turned_ms {
            if let Some(mut sums) = self.sums.take() {
                sums.turn(self, now_ms);
                self.sums = Some(sums);
            }
            self.fine.turn(self.turned_ms, now_ms);
            self.minutes.turn(self.turned_ms, now_ms);
            self.coarse.turn(self.turned_ms, now_ms);
            self.turned_ms = now_ms;
        }
    }

    /// Counts at a time up to which it was turned, or before; best in the order of places.
    pub(super) fn add(&mut self, at_ms: i64, places: &[(Place, u64)]) {
        if places.is_empty() {
            return;
        }
        for &(place, count) in places {
            let (requests, errors) = place.outcome().counts(count);
            self.requests += requests;
            self.errors += errors;
        }
        if self.first_ms == 0 || at_ms < self.first_ms {
            self.first_ms = at_ms;
        }
        if self.turned_ms - at_ms >= COARSE_MS {
            self.usual = None;
        }
        self.fine.add(at_ms, self.turned_ms, places);
        self.minutes.add(at_ms, self.turned_ms, places);
        self.coarse.add(at_ms, self.turned_ms, places);
        if let Some(sums) = &mut self.sums {
            sums.add(at_ms, self.turned_ms, places);
        }
    }

    /// Bytes it holds on the heap.
    pub(super) fn bytes(&self) -> usize {
        let of = |sum: &Sum| size_of::<Sum>() + sum.latencies.capacity() * size_of::<(u16, u64)>();
        let sums: usize = self.sums.iter().flat_map(|sums| &sums.0).map(of).sum();
        self.fine.bytes() + self.minutes.bytes() + self.coarse.bytes() + sums
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
        // A window holds `held` slots less what there is to come of the one under way; of a young service only its lifetime.
        let over = |slot_ms: i64, held: i64| {
            let held_ms = (held - 1) * slot_ms + now_ms.rem_euclid(slot_ms);
            held_ms.min(now_ms - self.first_ms).max(1_000)
        };
        let over = [
            over(FINE_MS, FINE_HELD),
            over(MINUTE_MS, FIVE_HELD),
            over(MINUTE_MS, FIFTEEN_HELD),
            over(COARSE_MS, HOUR_HELD),
        ];
        let mut windows = [HealthWindow::default(); 4];
        if let Some(sums) = &self.sums {
            for (at, sum) in sums.0.iter().enumerate() {
                windows[at] = sum.window(WINDOWS_MS[at], over[at]);
            }
            return Shown { windows, usual: Usual::default() };
        }
        tally.clear();
        tally.add(self.fine.slots(now_ms, FINE_HELD - 1, 0));
        windows[0] = tally.window(WINDOWS_MS[0], over[0]);
        tally.clear();
        tally.add(self.minutes.slots(now_ms, FIVE_HELD - 1, 0));
        windows[1] = tally.window(WINDOWS_MS[1], over[1]);
        tally.add(self.minutes.slots(now_ms, FIFTEEN_HELD - 1, FIVE_HELD));
        windows[2] = tally.window(WINDOWS_MS[2], over[2]);
        tally.clear();
        tally.add(self.coarse.slots(now_ms, HOUR_HELD - 1, 0));
        windows[3] = tally.window(WINDOWS_MS[3], over[3]);
        Shown { windows, usual: Usual::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Outcome;
    use crate::random::{Random, SeededRandom};

    #[test]
    fn windows_that_are_kept_are_those_that_are_found_out() {
        let random = SeededRandom::new(5);
        let (mut kept, mut found) = (History::followed(), History::default());
        let (mut tally, mut now_ms) = (Tally::new(), 1_700_000_000_000);
        for round in 0..4_000 {
            // Mostly a second later, now and then a pause that empties some windows or all.
            now_ms += match random.below(200) {
                0 => 70_000,
                1 => 400_000,
                2 if random.below(10) == 0 => 4_000_000,
                _ => 1_000,
            };
            kept.turn(now_ms);
            found.turn(now_ms);
            for _ in 0..random.below(4) {
                let places: Vec<(Place, u64)> = (0..random.below(6))
                    .map(|_| {
                        let outcome = [Outcome::Ok, Outcome::Failed, Outcome::LatencyOnly][random.below(3) as usize];
                        let bucket = (random.below(9) > 0).then(|| random.below(40) as usize);
                        (Place::new(outcome, bucket), 1 + random.below(5))
                    })
                    .collect();
                let late_ms = [0, 0, 0, 90_000, 1_000_000, 5_000_000][random.below(6) as usize];
                kept.add(now_ms - late_ms, &places);
                found.add(now_ms - late_ms, &places);
            }
            let (a, b) = (kept.read(&mut tally), found.read(&mut tally));
            assert_eq!(a.windows, b.windows, "round {round}");
            assert_eq!((kept.requests, kept.errors), (found.requests, found.errors));
        }
    }
}
