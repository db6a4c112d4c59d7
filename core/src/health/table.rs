//! All services, their operations, and who calls whom.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::HashMap;

use super::OVERFLOW;
use super::cells::{BUCKETS, Cells, FIRST_INDEX, LATENCY_SCHEMA, Outcome, PLACES, Place, bounds, bucket_of};
use super::counts::Counts;
use super::figures::{EdgeHealth, OperationHealth, OperationKind, ServiceHealthMetrics, ServiceName};
use super::history::{History, Shown, Slot, Tally};
use super::judge::Judged;
use super::options::{HealthOptions, HealthThresholds};
use crate::clock::Clock;
use crate::histogram::{BucketCounts, BucketSpan, HistogramCounts, NativeHistogram, ResetHint};

/// A request that ended longer ago counts at the time it ended, not as of now. Exporters of spans hold them back for five seconds
/// if they are not told otherwise, and two slots of the shortest window are as far as it may be off.
const LATE_MS: i64 = 10_000;
/// Spans say so much more than metrics that these are left alone for so long after the last one.
const SPANS_SPEAK_MS: i64 = 600_000;

type ByName<T> = HashMap<Box<str>, T, foldhash::quality::RandomState>;

/// One request, or `weight` of them that were alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request<'a> {
    /// Who answered, or asked.
    pub service: &'a str,
    /// What was asked for: `GET /orders/{id}`, never with the id.
    pub operation: &'a str,
    /// Which side tells.
    pub kind: OperationKind,
    /// How long it took. Less than zero counts as no time, what is no number as not known.
    pub duration_seconds: f64,
    /// Whether it failed, by what the sender says.
    pub is_error: bool,
    /// When it ended, ms since the Unix epoch.
    pub end_ms: i64,
    /// How many requests this one stands for: more than 1 where others like it were not told.
    pub weight: u64,
}

/// Counts that come as they come, and what they were.
#[derive(Debug, Default)]
struct Track {
    cells: Cells,
    /// Held for a few additions, by whoever aggregates, tells of long ago, or reads operations; never while another lock of
    /// this module is wanted.
    history: Mutex<History>,
}

impl Track {
    /// Bytes of it and its place under a name, in a table that may double.
    fn bytes(&self, name: &str, history: &History) -> usize {
        2 * size_of::<(Box<str>, Track)>() + name.len() + self.cells.bytes() + history.bytes()
    }
}

#[derive(Debug)]
struct Service {
    name: ServiceName,
    /// When the newest request ended, wall time.
    seen_ms: AtomicI64,
    /// When the newest span came, wall time; 0 if none did.
    spans_ms: AtomicI64,
    operations: [RwLock<ByName<Track>>; OperationKind::ALL.len()],
    /// Held as [`Track::history`] is.
    whole: Mutex<Whole>,
    judged: Mutex<(Judged, Arc<ServiceHealthMetrics>)>,
}

/// The requests of a service, whatever their operation.
#[derive(Debug)]
struct Whole {
    history: History,
    /// Everything ever counted, by outcome and latency, for who stores it.
    totals: Slot,
}

impl Default for Whole {
    fn default() -> Whole {
        Whole { history: History::followed(), totals: Slot::default() }
    }
}

impl Whole {
    fn add(&mut self, at_ms: i64, places: &[(Place, u64)]) {
        self.history.add(at_ms, places);
        self.totals.add(places);
    }
}

/// What one round needs beside, used again for the next.
struct Round {
    tally: Tally,
    /// Bytes met so far.
    bytes: usize,
    /// What was taken out of the cells of an operation, and of all that make their service.
    drained: Vec<(Place, u64)>,
    entries: Entries,
    merged: Vec<(Place, u64)>,
}

/// Counts by place, to be taken out in order: a number for each, and a bit for each that is not 0.
struct Entries {
    counts: Box<[u64; PLACES]>,
    present: [u64; PLACES.div_ceil(64)],
}

impl Entries {
    fn new() -> Entries {
        Entries { counts: Box::new([0; PLACES]), present: [0; PLACES.div_ceil(64)] }
    }

    fn add(&mut self, places: &[(Place, u64)]) {
        for &(place, count) in places {
            let number = place.number();
            self.counts[number] += count;
            self.present[number / 64] |= 1 << (number % 64);
        }
    }

    /// Moves all to `out`, in the order of places.
    fn take(&mut self, out: &mut Vec<(Place, u64)>) {
        out.clear();
        for (at, present) in self.present.iter_mut().enumerate() {
            while *present != 0 {
                let number = at * 64 + present.trailing_zeros() as usize;
                *present &= *present - 1;
                out.push((Place::of_number(number), std::mem::take(&mut self.counts[number])));
            }
        }
    }
}

/// What was published last: sorted by name, of one moment.
type Published = Vec<(ServiceName, Arc<ServiceHealthMetrics>)>;

/// The health of every known service. See the [module](super).
pub struct ServiceHealth {
    clock: Arc<dyn Clock>,
    /// Wall time less monotonic time when this began.
    origin_ms: i64,
    options: HealthOptions,
    thresholds: RwLock<HealthThresholds>,
    services: RwLock<ByName<Arc<Service>>>,
    edges: RwLock<ByName<ByName<Track>>>,
    operations_count: AtomicUsize,
    edges_count: AtomicUsize,
    /// Bytes of all of it, as of the last round.
    bytes: AtomicUsize,
    /// Requests whose service, operation or edge was beyond a limit.
    overflowed: AtomicU64,
    published: ArcSwap<Published>,
    /// Held by whoever aggregates: one at a time. Ranks before all other locks here.
    turn: Mutex<Round>,
}

impl std::fmt::Debug for ServiceHealth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operations = self.operations_count.load(Ordering::Relaxed);
        f.debug_struct("ServiceHealth")
            .field("services", &read(&self.services).len())
            .field("operations", &operations)
            .finish_non_exhaustive()
    }
}

/// What a service counted since it was first seen, to be stored and some day restored.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthFigures {
    /// The service.
    pub service: ServiceName,
    /// Requests that did not fail, and those that did.
    pub requests: [u64; 2],
    /// Latencies of requests that did not fail, of those that did, and of those counted elsewhere, as histograms of the schema
    /// [`LATENCY_SCHEMA`]. Their sums are of the middles of buckets.
    pub latencies: [NativeHistogram; 3],
}

impl ServiceHealth {
    /// Nothing known yet.
    #[must_use]
    pub fn new(options: HealthOptions, clock: Arc<dyn Clock>) -> ServiceHealth {
        let monotonic_ms = i64::try_from(clock.monotonic().as_millis()).unwrap_or(i64::MAX);
        ServiceHealth {
            origin_ms: clock.now_ms().saturating_sub(monotonic_ms),
            clock,
            thresholds: RwLock::new(options.thresholds.clone()),
            options,
            services: RwLock::default(),
            edges: RwLock::default(),
            operations_count: AtomicUsize::new(0),
            edges_count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            overflowed: AtomicU64::new(0),
            published: ArcSwap::default(),
            turn: Mutex::new(Round {
                tally: Tally::new(),
                bytes: 0,
                drained: Vec::new(),
                entries: Entries::new(),
                merged: Vec::new(),
            }),
        }
    }

    /// Counts a request. Any number of threads; takes no lock that a reader takes. Allocates when a service or operation is
    /// new, and for the first request in an octave of latencies.
    ///
    /// It shows after the next [`aggregate_health`](Self::aggregate_health).
    pub fn record(&self, request: &Request<'_>) {
        let outcome = if request.is_error { Outcome::Failed } else { Outcome::Ok };
        let place = Place::new(outcome, bucket_of(request.duration_seconds));
        let when = self.when(request.end_ms);
        self.on_operation((request.service, request.operation, request.kind), |service, track| {
            service.seen(when.end_ms);
            if service.spans_ms.load(Ordering::Relaxed) < when.now_ms {
                service.spans_ms.fetch_max(when.now_ms, Ordering::Relaxed);
            }
            self.count((service, request.kind), track, when.at_ms, &[(place, request.weight)]);
        });
    }

    /// Counts many requests of one operation at once, as a metric tells them; ended at `end_ms` or shortly before.
    pub fn record_counts(&self, service: &str, operation: &str, kind: OperationKind, counts: &Counts, end_ms: i64) {
        if counts.is_empty() {
            return;
        }
        let when = self.when(end_ms);
        self.on_operation((service, operation, kind), |service, track| {
            service.seen(when.end_ms);
            self.count((service, kind), track, when.at_ms, &counts.places);
        });
    }

    /// Counts a call of one service to another.
    pub fn record_edge(&self, caller: &str, callee: &str, duration_seconds: f64, is_error: bool, end_ms: i64) {
        let outcome = if is_error { Outcome::Failed } else { Outcome::Ok };
        let place = Place::new(outcome, bucket_of(duration_seconds));
        let at_ms = self.when(end_ms).at_ms;
        self.on_edge(caller, callee, |track| self.add(track, at_ms, &[(place, 1)]));
    }

    /// Counts requests of a service as a whole that were stored earlier, ended at `end_ms`. They are in the windows that reach
    /// back so far, and in the totals.
    pub fn restore(&self, service: &str, counts: &Counts, end_ms: i64) {
        let when = self.when(end_ms);
        self.on_service(service, |service| {
            service.seen(when.end_ms);
            let now_ms = self.now_ms();
            let mut whole = lock(&service.whole);
            whole.history.turn(now_ms);
            whole.add(when.at_ms.unwrap_or(now_ms), &counts.places);
        });
    }

    /// Counts requests of an operation that were stored earlier, ended at `end_ms`; its service counts none of them, and is told of
    /// by [`restore`](Self::restore).
    pub fn restore_operation(&self, service: &str, operation: &str, kind: OperationKind, counts: &Counts, end_ms: i64) {
        let at_ms = self.when(end_ms).at_ms.unwrap_or_else(|| self.now_ms());
        self.on_operation((service, operation, kind), |_, track| self.add(track, Some(at_ms), &counts.places));
    }

    /// Counts calls of one service to another that were stored earlier, ended at `end_ms`.
    pub fn restore_edge(&self, caller: &str, callee: &str, counts: &Counts, end_ms: i64) {
        let at_ms = self.when(end_ms).at_ms.unwrap_or_else(|| self.now_ms());
        self.on_edge(caller, callee, |track| self.add(track, Some(at_ms), &counts.places));
    }

    /// Notes that spans told of a service at `at_ms`.
    pub fn restore_traced(&self, service: &str, at_ms: i64) {
        self.on_service(service, |service| {
            service.spans_ms.fetch_max(at_ms.min(self.clock.now_ms()), Ordering::Relaxed);
        });
    }

    /// Makes the totals of a service at least `counts`: what is missing counts as of `end_ms`. For what is known of a service as a
    /// whole, beside what was restored of its last hour in another way.
    pub fn restore_totals(&self, service: &str, counts: &Counts, end_ms: i64) {
        let mut missing: BTreeMap<Place, u64> = BTreeMap::new();
        for &(place, count) in &counts.places {
            *missing.entry(place).or_default() += count;
        }
        if let Some(service) = read(&self.services).get(service) {
            let whole = lock(&service.whole);
            for (place, count) in &mut missing {
                *count = count.saturating_sub(whole.totals.get(*place));
            }
        }
        missing.retain(|_, count| *count > 0);
        self.restore(service, &Counts { places: missing.into_iter().collect() }, end_ms);
    }

    /// Takes away what was counted since the last call, turns the windows, judges, and publishes; forgets who was silent
    /// for too long. Returns how many services are known.
    ///
    /// To be called about once a second; one call at a time works, another waits. O(operations and their buckets), a few µs for each
    /// that was busy: windows are kept up to date and not summed up again.
    pub fn aggregate_health(&self) -> usize {
        let mut round = lock(&self.turn);
        let round = &mut *round;
        round.bytes = 0;
        let (now_ms, wall_ms) = (self.now_ms(), self.clock.now_ms());
        let thresholds = read(&self.thresholds).clone();
        let mut services: Vec<Arc<Service>> = read(&self.services).values().cloned().collect();
        services.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut published: Published = Vec::with_capacity(services.len());
        let mut forgotten = Vec::new();
        for service in &services {
            let is_idle = self.gather(service, now_ms, round);
            let seen_ms = service.seen_ms.load(Ordering::Relaxed);
            if is_idle && wall_ms.saturating_sub(seen_ms) > duration_ms(self.options.forget_after) {
                forgotten.push(service.name.clone());
            }
            let figures = service.judge(&thresholds, &mut round.tally, now_ms, wall_ms);
            published.push((service.name.clone(), figures));
        }
        self.turn_edges(now_ms, round);
        self.bytes.store(round.bytes, Ordering::Relaxed);
        if !forgotten.is_empty() {
            let mut known = write(&self.services);
            for name in &forgotten {
                // Within the lock nobody records: what came since it was looked at keeps the service.
                if known
                    .get(name.as_str())
                    .is_some_and(|service| service.operations.iter().all(|of| read(of).is_empty()))
                {
                    known.remove(name.as_str());
                    published.retain(|(published, _)| published != name);
                }
            }
        }
        let count = published.len();
        self.published.store(Arc::new(published));
        count
    }

    /// Takes away what the operations of a service counted. Returns whether nothing was counted in any window.
    fn gather(&self, service: &Service, now_ms: i64, round: &mut Round) -> bool {
        let Round { bytes, drained, entries, merged, .. } = round;
        for (kind, operations) in OperationKind::ALL.iter().zip(&service.operations) {
            let mut is_any_idle = false;
            for (name, track) in &*read(operations) {
                let mut history = lock(&track.history);
                history.turn(now_ms);
                *bytes += track.bytes(name, &history);
                drained.clear();
                track.cells.drain(|place, count| drained.push((place, count)));
                history.add(now_ms, drained);
                if kind.is_entry() {
                    entries.add(drained);
                }
                is_any_idle |= history.is_empty();
            }
            if is_any_idle {
                let mut operations = write(operations);
                let before = operations.len();
                operations.retain(|_, track| !(track.cells.is_empty() && lock(&track.history).is_empty()));
                self.operations_count.fetch_sub(before - operations.len(), Ordering::Relaxed);
            }
        }
        let mut whole = lock(&service.whole);
        whole.history.turn(now_ms);
        entries.take(merged);
        whole.add(now_ms, merged);
        *bytes += size_of::<Service>() + 2 * service.name.as_str().len() + whole.history.bytes() + whole.totals.bytes();
        whole.history.is_empty()
    }

    fn turn_edges(&self, now_ms: i64, round: &mut Round) {
        let Round { bytes, drained, .. } = round;
        let mut is_any_idle = false;
        for (name, track) in read(&self.edges).values().flatten() {
            let mut history = lock(&track.history);
            history.turn(now_ms);
            *bytes += track.bytes(name, &history);
            drained.clear();
            track.cells.drain(|place, count| drained.push((place, count)));
            history.add(now_ms, drained);
            is_any_idle |= history.is_empty();
        }
        if is_any_idle {
            let mut edges = write(&self.edges);
            edges.retain(|_, callees| {
                let before = callees.len();
                callees.retain(|_, track| !(track.cells.is_empty() && lock(&track.history).is_empty()));
                self.edges_count.fetch_sub(before - callees.len(), Ordering::Relaxed);
                !callees.is_empty()
            });
        }
    }

    /// The figures of a service as last published; `None` if it is not known. Takes no lock, O(log services).
    #[must_use]
    pub fn get(&self, service: &str) -> Option<Arc<ServiceHealthMetrics>> {
        let published = self.published.load();
        let at = published.binary_search_by(|(name, _)| name.as_str().cmp(service)).ok()?;
        Some(Arc::clone(&published[at].1))
    }

    /// Every service with its figures, sorted by name, of one moment. Takes no lock and copies nothing.
    #[must_use]
    pub fn list(&self) -> Arc<Vec<(ServiceName, Arc<ServiceHealthMetrics>)>> {
        self.published.load_full()
    }

    /// Operations of a service that had requests in the last hour, sorted by name and kind; empty if it is not known.
    #[must_use]
    pub fn operations(&self, service: &str) -> Vec<OperationHealth> {
        let Some(service) = read(&self.services).get(service).cloned() else { return Vec::new() };
        let mut tally = Tally::new();
        let mut found = Vec::new();
        for (&kind, operations) in OperationKind::ALL.iter().zip(&service.operations) {
            for (name, track) in &*read(operations) {
                let history = lock(&track.history);
                let windows = history.read(&mut tally).windows.to_vec();
                let (requests, errors) = (history.requests, history.errors);
                found.push(OperationHealth { operation: String::from(&**name), kind, requests, errors, windows });
            }
        }
        found.sort_by(|a, b| a.operation.cmp(&b.operation).then(a.kind.cmp(&b.kind)));
        found
    }

    /// Who called whom in the last hour, sorted by caller and callee.
    #[must_use]
    pub fn edges(&self) -> Vec<EdgeHealth> {
        let mut tally = Tally::new();
        let mut found = Vec::new();
        for (caller, callees) in &*read(&self.edges) {
            for (callee, track) in callees {
                let history = lock(&track.history);
                let windows = history.read(&mut tally).windows.to_vec();
                let (caller, callee) = (String::from(&**caller), String::from(&**callee));
                let (requests, errors) = (history.requests, history.errors);
                found.push(EdgeHealth { caller, callee, requests, errors, windows });
            }
        }
        found.sort_by(|a, b| a.caller.cmp(&b.caller).then_with(|| a.callee.cmp(&b.callee)));
        found
    }

    /// What every service counted so far, sorted by name, for who stores it.
    #[must_use]
    pub fn totals(&self) -> Vec<HealthFigures> {
        let mut services: Vec<Arc<Service>> = read(&self.services).values().cloned().collect();
        services.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        services.iter().map(|service| service.figures()).collect()
    }

    /// Whether spans tell of a service: its metrics would count the same requests again.
    #[must_use]
    pub fn is_traced(&self, service: &str) -> bool {
        let services = read(&self.services);
        let spans_ms = services.get(service).map_or(0, |service| service.spans_ms.load(Ordering::Relaxed));
        spans_ms != 0 && self.clock.now_ms().saturating_sub(spans_ms) < SPANS_SPEAK_MS
    }

    /// Bytes of all that is kept, as of the last round.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn has_no_room(&self) -> bool {
        self.bytes() >= self.options.bytes_max
    }

    /// Requests that count under [`OVERFLOW`] because a limit of names was reached.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Judges by other thresholds from now on.
    pub fn set_thresholds(&self, thresholds: HealthThresholds) {
        *write(&self.thresholds) = thresholds;
    }

    fn when(&self, end_ms: i64) -> When {
        let now_ms = self.clock.now_ms();
        let age_ms = now_ms.saturating_sub(end_ms);
        let at_ms = (age_ms > LATE_MS).then(|| self.now_ms().saturating_sub(age_ms));
        When { now_ms, end_ms: end_ms.min(now_ms), at_ms }
    }

    /// The time of windows: goes on evenly, whatever is done to the wall clock.
    fn now_ms(&self) -> i64 {
        self.origin_ms.saturating_add(duration_ms(self.clock.monotonic()))
    }

    /// Adds to what came now, or to what was at `at_ms`, of an operation and, where that is due, of its service.
    fn count(&self, of: (&Service, OperationKind), track: &Track, at_ms: Option<i64>, places: &[(Place, u64)]) {
        self.add(track, at_ms, places);
        let (service, kind) = of;
        // What came now is taken along when the operation's cells are emptied.
        if let Some(at_ms) = at_ms.filter(|_| kind.is_entry()) {
            let mut whole = lock(&service.whole);
            whole.history.turn(self.now_ms());
            whole.add(at_ms, places);
        }
    }

    fn add(&self, track: &Track, at_ms: Option<i64>, places: &[(Place, u64)]) {
        match at_ms {
            None => places.iter().for_each(|&(place, count)| track.cells.add(place, count)),
            Some(at_ms) => {
                let mut history = lock(&track.history);
                history.turn(self.now_ms());
                history.add(at_ms, places);
            }
        }
    }

    /// Does `with` while the service is known, with the read side of the names taken.
    fn on_service(&self, name: &str, with: impl Fn(&Service)) {
        {
            let services = read(&self.services);
            if let Some(service) = services.get(name) {
                return with(service);
            }
            if self.has_no_room() || services.len() >= self.options.services_max {
                self.overflowed.fetch_add(1, Ordering::Relaxed);
                if let Some(service) = services.get(OVERFLOW) {
                    return with(service);
                }
            }
        }
        let mut services = write(&self.services);
        let is_beyond = self.has_no_room() || services.len() >= self.options.services_max;
        let is_full = is_beyond && !services.contains_key(name);
        let name = if is_full { OVERFLOW } else { name };
        with(services.entry(name.into()).or_insert_with(|| Arc::new(Service::new(name))));
    }

    fn on_edge(&self, caller: &str, callee: &str, with: impl Fn(&Track)) {
        {
            let edges = read(&self.edges);
            let find = |caller: &str, callee: &str| edges.get(caller).and_then(|callees| callees.get(callee));
            if let Some(track) = find(caller, callee) {
                return with(track);
            }
            if self.has_no_room() || self.edges_count.load(Ordering::Relaxed) >= self.options.edges_max {
                self.overflowed.fetch_add(1, Ordering::Relaxed);
                if let Some(track) = find(OVERFLOW, OVERFLOW) {
                    return with(track);
                }
            }
        }
        let mut edges = write(&self.edges);
        let is_full = self.has_no_room() || self.edges_count.load(Ordering::Relaxed) >= self.options.edges_max;
        let (caller, callee) = if is_full { (OVERFLOW, OVERFLOW) } else { (caller, callee) };
        let track = edges.entry(caller.into()).or_default().entry(callee.into()).or_insert_with(|| {
            self.edges_count.fetch_add(1, Ordering::Relaxed);
            Track::default()
        });
        with(track);
    }

    fn on_operation(&self, what: (&str, &str, OperationKind), with: impl Fn(&Service, &Track)) {
        let (service, operation, kind) = what;
        let is_full = |operations: &ByName<Track>| {
            operations.len() >= self.options.operations_of_service_max
                || self.has_no_room()
                || self.operations_count.load(Ordering::Relaxed) >= self.options.operations_max
        };
        self.on_service(service, |service| {
            let operations = &service.operations[kind as usize];
            {
                let operations = read(operations);
                if let Some(track) = operations.get(operation) {
                    return with(service, track);
                }
                if is_full(&operations) {
                    self.overflowed.fetch_add(1, Ordering::Relaxed);
                    if let Some(track) = operations.get(OVERFLOW) {
                        return with(service, track);
                    }
                }
            }
            let mut operations = write(operations);
            let is_beyond = is_full(&operations) && !operations.contains_key(operation);
            let operation = if is_beyond { OVERFLOW } else { operation };
            let track = operations.entry(operation.into()).or_insert_with(|| {
                self.operations_count.fetch_add(1, Ordering::Relaxed);
                Track::default()
            });
            with(service, track);
        });
    }
}

/// When a request ended.
#[derive(Clone, Copy)]
struct When {
    /// Now, wall time.
    now_ms: i64,
    /// The end, wall time, never after now.
    end_ms: i64,
    /// The end in the time of windows, if it was long ago.
    at_ms: Option<i64>,
}

impl Service {
    fn new(name: &str) -> Service {
        Service {
            name: ServiceName::from(name),
            seen_ms: AtomicI64::new(i64::MIN),
            spans_ms: AtomicI64::new(0),
            operations: Default::default(),
            whole: Mutex::default(),
            judged: Mutex::default(),
        }
    }

    fn seen(&self, end_ms: i64) {
        if self.seen_ms.load(Ordering::Relaxed) < end_ms {
            self.seen_ms.fetch_max(end_ms, Ordering::Relaxed);
        }
    }

    fn judge(&self, by: &HealthThresholds, tally: &mut Tally, now_ms: i64, wall_ms: i64) -> Arc<ServiceHealthMetrics> {
        let (shown, requests, errors) = {
            let Whole { history, .. } = &mut *lock(&self.whole);
            let usual = history.usual(tally);
            (Shown { usual, ..history.read(tally) }, history.requests, history.errors)
        };
        let seen_ms = self.seen_ms.load(Ordering::Relaxed);
        let silent_ms = (requests > 0).then(|| wall_ms.saturating_sub(seen_ms));
        let mut judged = lock(&self.judged);
        let (judged, published) = &mut *judged;
        judged.again(by, &shown, silent_ms, now_ms);
        let [minute, ..] = shown.windows;
        let figures = ServiceHealthMetrics {
            requests,
            errors,
            rate: minute.rate,
            error_ratio: minute.error_ratio,
            p50: minute.p50,
            p95: minute.p95,
            p99: minute.p99,
            windows: shown.windows.to_vec(),
            usual_p99: shown.usual.p99,
            last_seen_ms: if seen_ms == i64::MIN { 0 } else { seen_ms },
            status: judged.status,
            status_since_ms: judged.since_ms,
            reason: judged.reason.clone(),
        };
        if **published != figures {
            *published = Arc::new(figures);
        }
        Arc::clone(published)
    }

    fn figures(&self) -> HealthFigures {
        let Whole { totals, .. } = &*lock(&self.whole);
        let mut requests = [0; 2];
        let mut latencies: [Box<[u64; BUCKETS]>; 3] = std::array::from_fn(|_| Box::new([0; BUCKETS]));
        for &(place, count) in totals.places() {
            let outcome = place.outcome() as usize;
            if let Some(of) = requests.get_mut(outcome) {
                *of += count;
            }
            if let Some(bucket) = place.bucket() {
                latencies[outcome][bucket] += count;
            }
        }
        HealthFigures { service: self.name.clone(), requests, latencies: latencies.map(|counts| histogram(&counts)) }
    }
}

/// Counts as a native histogram of the same buckets.
fn histogram(counts: &[u64; BUCKETS]) -> NativeHistogram {
    let (mut spans, mut positive): (Vec<BucketSpan>, Vec<u64>) = (Vec::new(), Vec::new());
    let (mut end, mut sum) = (0, 0.0);
    for (index, &count) in (FIRST_INDEX..).zip(counts).filter(|(_, count)| **count != 0) {
        match spans.last_mut() {
            Some(span) if index == end => span.len += 1,
            _ => spans.push(BucketSpan { offset: index - end, len: 1 }),
        }
        end = index + 1;
        positive.push(count);
        let (lower, upper) = bounds((index - FIRST_INDEX) as usize);
        sum += (lower * upper).sqrt() * count as f64;
    }
    let count = positive.iter().sum();
    NativeHistogram {
        schema: LATENCY_SCHEMA,
        hint: ResetHint::Unknown,
        zero_threshold: 0.0,
        sum,
        counts: HistogramCounts::Integer(BucketCounts { zero: 0, count, positive, negative: Vec::new() }),
        positive_spans: spans,
        negative_spans: Vec::new(),
        custom_values: Arc::default(),
    }
}

fn duration_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

// Nothing panics between two writes that belong together, so a poisoned lock guards whole data.

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
