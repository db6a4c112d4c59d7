//! Everything at once on a simulated disk, against the plainest engine there is.
//!
//! A world is drawn from a seed: batches of floats, histograms, staleness markers, increments, totals, exemplars and
//! metadata, late, repeated and with other bits; deletes, flushes, merges, rollups, syncs, retirement by age and by size, and
//! closing between them; snapshots, and directories restored from them, in which the world goes on; and crashes at any
//! operation of the disk, in the middle of any of these. What was acknowledged also goes to a
//! [`MemoryStorage`]. After each crash the engine must hold what the model holds, or that and the whole of the batch that
//! was on its way; then the batch is sent again, as senders do, and the world goes on.
//!
//! `KYMO_SIMULATE_SEEDS` sets how many worlds are run, `KYMO_SIMULATE_FIRST` the seed of the first; a failure names its
//! seed and what had been done.

mod copies;
mod spec;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kymo_core::aggregate::rollup::{append_rows, roll_up};
use kymo_core::batch::{Exemplar, Metadata};
use kymo_core::memory::{MemoryOptions, MemoryStorage};
use kymo_core::random::SeededRandom;
use kymo_core::storage::{ColumnValue, Columns, Tier};
use kymo_core::{
    AppendReport, Changes, Clock, Labels, ManualClock, Matcher, MetricStorage, NativeHistogram, QueryContext, Random,
    SelectError, Selector, SeriesRef,
};
use kymo_storage::fs::{CrashKind, SimFs};
use kymo_storage::{
    Engine, Lane, MaintainLimit, Next, Options, RetentionPolicy, RetentionRule, StorageError, SyncPolicy,
};

use self::copies::Copied;
use self::spec::{BatchSpec, SERIES};
use crate::world::{DIR, NOW_MS};

/// Worlds of an ordinary test run; `cargo xtask torture simulate` runs more.
const SEEDS: u64 = 2_000;
const STEPS: u64 = 30;
/// The series that is kept for another time than the others, in half of the worlds.
const BRIEF: u8 = 2;
const KEEP: Duration = Duration::from_secs(6 * 3_600);
const HOUR_MS: i64 = 3_600_000;

/// A value that equals another with the same bits only.
#[derive(Debug, Clone)]
enum Bits {
    Float(u64),
    Histogram(NativeHistogram),
    Stale,
}

impl PartialEq for Bits {
    fn eq(&self, other: &Bits) -> bool {
        match (self, other) {
            (Bits::Float(a), Bits::Float(b)) => a == b,
            (Bits::Histogram(a), Bits::Histogram(b)) => a.same_bits(b),
            (Bits::Stale, Bits::Stale) => true,
            _ => false,
        }
    }
}

impl From<ColumnValue<'_>> for Bits {
    fn from(value: ColumnValue<'_>) -> Bits {
        match value {
            ColumnValue::Float(value) => Bits::Float(value.to_bits()),
            ColumnValue::Histogram(value) => Bits::Histogram(value.clone()),
            ColumnValue::Stale => Bits::Stale,
        }
    }
}

/// Series → its samples: time, start, value.
type Samples = BTreeMap<Labels, Vec<(i64, i64, Bits)>>;

/// What a query can see.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    samples: Samples,
    exemplars: Vec<(Labels, Vec<Exemplar>)>,
    metadata: Vec<(String, Vec<Metadata>)>,
}

struct World {
    seed: u64,
    random: SeededRandom,
    clock: Arc<ManualClock>,
    retention: Option<Duration>,
    retention_bytes: Option<u64>,
    /// First and last times of blocks that went for their size: what is missing there is no loss.
    retired: Vec<(i64, i64)>,
    /// How long one of the series is kept, if not as the others.
    brief: Option<Duration>,
    /// Whether rollups are made.
    rolls_up: bool,
    /// Up to here samples may have gone for their size, so that they do not tell what rollups say.
    untold_ms: i64,
    sync: SyncPolicy,
    crash: CrashKind,
    disk: SimFs,
    /// Where the data lives: another place once it was restored.
    dir: PathBuf,
    engine: Option<Engine>,
    /// Snapshots, the oldest first.
    copies: Vec<Copied>,
    /// Directories restored until now.
    restored: u64,
    /// Snapshots and restorations in which the machine stopped.
    cut_short: u64,
    refs: Vec<Option<SeriesRef>>,
    model: MemoryStorage,
    sent: Vec<BatchSpec>,
    done: Vec<String>,
    crashes: u64,
}

#[derive(Debug, Default)]
struct Tally {
    crashes: AtomicU64,
    batches: AtomicU64,
    snapshots: AtomicU64,
    restored: AtomicU64,
    /// Snapshots and restorations that a crash cut short.
    cut_short: AtomicU64,
}

impl World {
    fn new(seed: u64) -> World {
        let random = SeededRandom::new(seed);
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let retention = (random.below(3) == 0).then_some(KEEP);
        let brief = (random.below(2) == 0).then(|| Duration::from_secs(3_600 * (1 + random.below(9))));
        let crash = if random.below(3) == 0 { CrashKind::PowerLoss } else { CrashKind::ProcessKill };
        // Without a sync before the acknowledgement, power loss may take what was acknowledged.
        let sync = match (crash, random.below(3)) {
            (CrashKind::PowerLoss, _) | (_, 0) => SyncPolicy::Always,
            (CrashKind::ProcessKill, 1) => SyncPolicy::Interval,
            (CrashKind::ProcessKill, _) => SyncPolicy::Never,
        };
        let retention_bytes = (random.below(4) == 0).then(|| 2_000 + random.below(12_000));
        let rolls_up = random.below(2) == 0;
        // Of what goes for its size only the range is known.
        let brief = brief.filter(|_| retention_bytes.is_none());
        let series = vec![Matcher::equal("s", BRIEF.to_string())];
        let rules = brief.map(|keep| (series, Some(keep))).into_iter().collect();
        let of_age = MemoryOptions { clock: clock.clone(), retention, rules, ..MemoryOptions::default() };
        let model = MemoryStorage::new(of_age);
        let mut world = World {
            seed,
            random,
            clock,
            retention,
            retention_bytes,
            retired: Vec::new(),
            brief,
            rolls_up,
            untold_ms: i64::MIN,
            sync,
            crash,
            disk: SimFs::new(seed),
            dir: PathBuf::from(DIR),
            engine: None,
            copies: Vec::new(),
            restored: 0,
            cut_short: 0,
            refs: Vec::new(),
            model,
            sent: Vec::new(),
            done: Vec::new(),
            crashes: 0,
        };
        world.open();
        world
    }

    fn fail(&self, what: impl std::fmt::Display) -> ! {
        panic!("seed {}: {what}\nafter: {}", self.seed, self.done.join(", "))
    }

    fn open(&mut self) {
        let engine = match self.open_in(&self.dir) {
            Ok(engine) => engine,
            // A crash while opening: the machine starts once more.
            Err(_) if self.disk.has_crashed() => {
                self.note("crashed while opening");
                self.crashes += 1;
                self.disk = self.disk.crash(self.crash);
                return self.open();
            }
            Err(error) => self.fail(format!("cannot open: {error}")),
        };
        self.refs = vec![None; usize::from(SERIES)];
        self.engine = Some(engine);
    }

    fn open_in(&self, dir: &Path) -> Result<Engine, StorageError> {
        let options = Options {
            clock: self.clock.clone(),
            sync: self.sync,
            retention: self.policy(),
            reserve_bytes: 4_096,
            ..Options::default()
        };
        let (engine, report) = Engine::open(Arc::new(self.disk.clone()), dir, options)?;
        if !report.quarantined.is_empty() || !report.log_damage.is_empty() || report.orphaned_samples > 0 {
            self.fail(format!("damage without a cause: {report:?}"));
        }
        Ok(engine)
    }

    fn policy(&self) -> RetentionPolicy {
        let rule = |keep| RetentionRule { matchers: vec![Matcher::equal("s", BRIEF.to_string())], keep: Some(keep) };
        RetentionPolicy {
            rules: self.brief.map(rule).into_iter().collect(),
            max_bytes: self.retention_bytes,
            five_minutes: self.rolls_up.then_some(4 * KEEP),
            one_hour: self.rolls_up.then_some(8 * KEEP),
            ..RetentionPolicy::of_age(self.retention)
        }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it is open between steps")
    }

    fn note(&mut self, what: impl Into<String>) {
        self.done.push(what.into());
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            if self.random.below(12) == 0 {
                // Somewhere in what comes next; most steps take one to some dozen operations.
                self.disk.crash_at(self.disk.op_count() + 1 + self.random.below(40));
            }
            self.step();
        }
        self.crash(None);
        self.close();
        self.check("at the end");
    }

    fn step(&mut self) {
        let what = self.random.below(26);
        let lane = |lane: Lane| move |engine: &Engine| engine.maintain(lane, MaintainLimit::default()).map(drop);
        match what {
            0 | 1 => self.tend("flush", Engine::flush),
            2 => self.retire(),
            3 => self.tend("merge", |engine| {
                while engine.maintain(Lane::Merge, MaintainLimit::default())? == Next::Now {}
                Ok(())
            }),
            4 => self.tend("sync", lane(Lane::Sync)),
            5 => self.close(),
            6 => self.check("between"),
            7 => self.delete(),
            8 => self.tend("clean", |engine| match engine.clean_tombstones(|| true) {
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            }),
            9 => self.move_out(),
            10 => drop(self.copy()),
            11 => self.look_back(),
            _ => self.append(),
        }
        let forward = if self.random.below(10) == 0 { 2 * 3_600 } else { self.random.below(30) };
        self.clock.advance(Duration::from_secs(forward));
    }

    fn tend(&mut self, what: &str, tend: impl FnOnce(&Engine) -> Result<(), StorageError>) {
        self.note(what);
        match tend(self.engine()) {
            // Also where the engine could do without what failed.
            _ if self.disk.has_crashed() => self.crash(None),
            Ok(()) => {}
            Err(error) => self.fail(format!("{what}: {error}")),
        }
    }

    /// The lane that also removes what is too old, or too much.
    fn retire(&mut self) {
        let before = self.engine().version();
        self.note("flush lane");
        let tended = self.engine().maintain(Lane::Flush, MaintainLimit::default());
        if self.disk.has_crashed() {
            self.restart();
            if self.retention_bytes.is_some() {
                // Whatever it had got to.
                let (found, wanted) = (self.found(), self.wanted());
                self.retired.extend(missing(&found, &wanted).into_iter().map(|time| (time, time)));
                self.untold_ms = self.clock.now_ms();
            }
            return self.check("after a crash");
        }
        if let Err(error) = tended {
            self.fail(format!("flush lane: {error}"));
        }
        if self.retention_bytes.is_some() {
            match self.engine().changed_since(before, &Selector::everything()) {
                // Nothing is written meanwhile, so this is what was removed, and with a retention by age what is hidden.
                Changes::Ranges(ranges) => {
                    let oldest_ms = self.oldest_ms();
                    let newest = ranges.iter().map(|(_, last)| *last).max();
                    self.untold_ms = self.untold_ms.max(newest.unwrap_or(i64::MIN));
                    self.retired.extend(ranges.into_iter().filter(|(_, last)| *last > oldest_ms));
                }
                Changes::Unknown => self.fail("the flush lane does not say what it removed"),
            }
        }
    }

    fn oldest_ms(&self) -> i64 {
        self.retention
            .into_iter()
            .chain(self.brief)
            .min()
            .map_or(i64::MIN, |keep| self.clock.now_ms() - keep.as_millis() as i64)
    }

    fn keep_of(&self, labels: &Labels) -> Option<Duration> {
        let is_brief = labels.get("s") == Some(&BRIEF.to_string());
        if is_brief { self.brief.or(self.retention) } else { self.retention }
    }

    fn oldest_of_ms(&self, labels: &Labels) -> i64 {
        self.keep_of(labels).map_or(i64::MIN, |keep| self.clock.now_ms() - keep.as_millis() as i64)
    }

    /// A series of which rollups say something else than its samples, where there are samples.
    fn untrue_rollup(&self, engine: &Engine) -> Result<Option<String>, SelectError> {
        if !self.rolls_up {
            return Ok(None);
        }
        let ctx = QueryContext::unlimited();
        let mut columns = Columns::default();
        for tier in [Tier::FiveMinutes, Tier::OneHour] {
            let rows = |tier: Tier, columns: &mut Columns| -> Result<BTreeMap<Labels, Columns>, SelectError> {
                let set = engine.select(&Selector { tier: Some(tier), ..Selector::everything() }, &ctx)?;
                let mut all = BTreeMap::new();
                for index in 0..set.len() {
                    set.read(index, columns)?;
                    let labels = set.labels(index);
                    // Behind the hour in which samples begin to be kept.
                    let border = match self.oldest_of_ms(&labels) {
                        i64::MIN => i64::MIN,
                        oldest => (oldest - 1).div_euclid(HOUR_MS) * HOUR_MS,
                    };
                    let border = border.max(Tier::OneHour.bucket_end_ms(self.untold_ms));
                    let mut kept = Columns::default();
                    append_rows(columns, border, i64::MAX, &mut kept);
                    if !kept.times.is_empty() {
                        all.insert(labels, kept);
                    }
                }
                Ok(all)
            };
            let (samples, found) = (rows(Tier::Raw, &mut columns)?, rows(tier, &mut columns)?);
            for labels in samples.keys().chain(found.keys()) {
                let mut wanted = Columns::default();
                if let Some(samples) = samples.get(labels) {
                    // Hours are made of five minutes, so that sums have the same bits.
                    let mut fine = Columns::default();
                    roll_up(samples, Tier::FiveMinutes, &mut fine);
                    roll_up(&fine, tier, &mut wanted);
                }
                let nothing = Columns::default();
                let found = found.get(labels).unwrap_or(&nothing);
                let said = |columns: &Columns| format!("{:?} {:?} {:?}", columns.times, columns.runs, columns.rollups);
                if said(found) != said(&wanted) {
                    let (found, wanted) = (said(found), said(&wanted));
                    return Ok(Some(format!("{tier} of {labels} says {found}\nits samples {wanted}")));
                }
            }
        }
        Ok(None)
    }

    fn append(&mut self) {
        let spec = BatchSpec::draw(&self.random, self.clock.now_ms(), &self.sent);
        let by_ref = self.random.below(2) == 0;
        let live =
            |series: &Option<SeriesRef>| series.filter(|series| by_ref && self.engine().labels(*series).is_some());
        let known: Vec<Option<SeriesRef>> = self.refs.iter().map(live).collect();
        self.note(format!("append {} rows", spec.rows.len()));
        match self.engine().append(&spec.build(&known)) {
            Ok(report) => self.acknowledged(spec, &report),
            Err(_) if self.disk.has_crashed() => self.crash(Some(spec)),
            Err(error) => self.fail(format!("append: {error}")),
        }
    }

    fn delete(&mut self) {
        let what = spec::deletion(&self.random, self.clock.now_ms());
        self.note(format!("delete {what:?}"));
        match self.engine().delete(&what) {
            Ok(()) => self.model.delete(&what),
            Err(_) if self.disk.has_crashed() => {
                self.crash_with(|world| world.model.delete(&what), "the delete that was on its way");
                // Asked for again, as an operator would.
                if let Err(error) = self.engine().delete(&what) {
                    self.fail(format!("deleting again: {error}"));
                }
            }
            Err(error) => self.fail(format!("delete: {error}")),
        }
        self.check("after a delete");
    }

    fn acknowledged(&mut self, spec: BatchSpec, report: &AppendReport) {
        let expected = self.model.append(&spec.build(&[])).expect("the model takes everything");
        let counts = |report: &AppendReport| {
            // Which exemplars are there already is known of those in memory only.
            let [mut stored, mut identical] = [report.stored, report.identical];
            (stored.exemplars, identical.exemplars) = (0, 0);
            (stored, identical, report.replaced, report.rejected.clone())
        };
        // What was removed for its size may be written anew.
        let written = |report: &AppendReport| report.written().samples();
        let is_same = match self.retention_bytes {
            None => counts(report) == counts(&expected),
            Some(_) => written(report) == written(&expected) && report.rejected == expected.rejected,
        };
        if !is_same || !report.unknown_refs.is_empty() {
            self.fail(format!("the report is {report:?}, the model's {expected:?}"));
        }
        for (row, series) in &report.new_refs {
            self.refs[usize::from(spec.rows[*row].series)] = Some(*series);
        }
        self.sent.push(spec);
    }

    fn close(&mut self) {
        self.note("close");
        let closed = self.engine().close();
        self.engine = None;
        if closed.is_err() || self.disk.has_crashed() {
            self.crash(None);
            return;
        }
        self.open();
        self.check("after a clean end");
    }

    /// The machine stops and starts again; `on_its_way` was not acknowledged.
    fn crash(&mut self, on_its_way: Option<BatchSpec>) {
        let Some(spec) = on_its_way else {
            return self.crash_with(|_| (), "nothing");
        };
        self.note(format!("{} rows on their way", spec.rows.len()));
        // Sent again, as senders do: whether it was there before or not, now it is, once.
        let send = |world: &mut World| drop(world.model.append(&spec.build(&[])).expect("the model takes everything"));
        self.crash_with(send, "the batch that was on its way");
        match self.engine().append(&spec.build(&[])) {
            Ok(report) => {
                for (row, series) in &report.new_refs {
                    self.refs[usize::from(spec.rows[*row].series)] = Some(*series);
                }
                self.sent.push(spec);
                self.check("after sending again");
            }
            Err(error) => self.fail(format!("sending again: {error}")),
        }
    }

    /// The machine stops and starts again. Either nothing of what was on its way has happened, or all of it, which the
    /// model is told afterwards.
    fn crash_with(&mut self, on_its_way: impl FnOnce(&mut World), what: &str) {
        self.note(format!("crash with {what}"));
        self.restart();
        let found = self.found();
        let without = self.less_retired(self.wanted(), &found);
        on_its_way(self);
        if found != without {
            let with = self.wanted();
            self.same(&found, &with, &format!("after a crash, with {what}"));
        }
    }

    fn restart(&mut self) {
        self.crashes += 1;
        self.engine = None;
        self.disk = self.disk.crash(self.crash);
        self.open();
    }

    /// What is wanted without what was removed for its size and is not found.
    fn less_retired(&self, mut wanted: Seen, found: &Seen) -> Seen {
        let is_retired = |time: i64| self.retired.iter().any(|(first, last)| (*first..=*last).contains(&time));
        for (labels, samples) in &mut wanted.samples {
            let found = found.samples.get(labels).map_or(&[][..], Vec::as_slice);
            samples.retain(|(time, ..)| !is_retired(*time) || found.iter().any(|sample| sample.0 == *time));
        }
        wanted.samples.retain(|_, samples| !samples.is_empty());
        if self.retention_bytes.is_some() {
            // Both go with the last block that says them.
            wanted.metadata = found.metadata.clone();
            wanted.exemplars = found.exemplars.clone();
        }
        wanted
    }

    fn check(&mut self, when: &str) {
        let looked = self.seen(self.engine()).and_then(|found| Ok((found, self.untrue_rollup(self.engine())?)));
        match looked {
            Ok((_, Some(untrue))) => self.fail(format!("{when}: {untrue}")),
            Ok((found, None)) => self.same(&found, &self.wanted(), when),
            Err(_) if self.disk.has_crashed() => self.crash(None),
            Err(error) => self.fail(format!("{when}: {error}")),
        }
    }

    fn found(&self) -> Seen {
        self.seen(self.engine()).unwrap_or_else(|error| self.fail(error))
    }

    fn wanted(&self) -> Seen {
        self.seen(&self.model).unwrap_or_else(|error| self.fail(error))
    }

    fn same(&self, found: &Seen, wanted: &Seen, when: &str) {
        let wanted = &self.less_retired(wanted.clone(), found);
        if found == wanted {
            return;
        }
        let names = found.samples.keys().chain(wanted.samples.keys());
        for name in names {
            let (found, wanted) = (found.samples.get(name), wanted.samples.get(name));
            if found != wanted {
                let (found, wanted) = (found.cloned().unwrap_or_default(), wanted.cloned().unwrap_or_default());
                let only = |here: &[(i64, i64, Bits)], there: &[(i64, i64, Bits)]| {
                    let only = here.iter().filter(|sample| !there.contains(sample));
                    only.map(|(time, start, value)| format!("{} {start} {value:?}", time - NOW_MS)).collect::<Vec<_>>()
                };
                self.fail(format!(
                    "{when}: {name} has {} samples, not {}; only found: {:?}; missing: {:?}",
                    found.len(),
                    wanted.len(),
                    only(&found, &wanted),
                    only(&wanted, &found)
                ));
            }
        }
        if found.exemplars != wanted.exemplars {
            self.fail(format!("{when}: exemplars are {:?}, not {:?}", found.exemplars, wanted.exemplars));
        }
        self.fail(format!("{when}: metadata is {:?}, not {:?}", found.metadata, wanted.metadata))
    }

    fn seen(&self, storage: &dyn MetricStorage) -> Result<Seen, SelectError> {
        let ctx = QueryContext::unlimited();
        let set = storage.select(&Selector { tier: Some(Tier::Raw), ..Selector::everything() }, &ctx)?;
        let (mut columns, mut samples) = (Columns::default(), Samples::new());
        for index in 0..set.len() {
            set.read(index, &mut columns)?;
            let start = |n: usize| columns.starts.get(n).copied().unwrap_or(0);
            let of_series = columns.iter().enumerate().map(|(n, (t, v))| (t, start(n), v.into()));
            // With rollups samples are kept by whole hours.
            let oldest_ms = self.oldest_of_ms(&set.labels(index));
            let of_series: Vec<(i64, i64, Bits)> = of_series.filter(|(time, ..)| *time >= oldest_ms).collect();
            if of_series.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
                self.fail(format!("times of {:?} do not rise: {of_series:?}", set.labels(index)));
            }
            if !of_series.is_empty() {
                samples.insert(set.labels(index), of_series);
            }
        }
        // What is outside retention may be there or not.
        let what = Selector::new(vec![], self.oldest_ms(), i64::MAX);
        let exemplars = storage.exemplars(&what, &ctx)?;
        // What was declared long ago goes with the last block that says it.
        let metadata = match self.retention.or(self.brief) {
            None => storage.metadata(None, &ctx)?,
            Some(_) => Vec::new(),
        };
        Ok(Seen { samples, exemplars, metadata })
    }
}

/// Times of samples that are wanted and not found.
fn missing(found: &Seen, wanted: &Seen) -> Vec<i64> {
    let wanted =
        wanted.samples.iter().flat_map(|(labels, samples)| samples.iter().map(move |sample| (labels, sample.0)));
    let is_found = |labels: &Labels, time: i64| {
        found.samples.get(labels).is_some_and(|samples| samples.iter().any(|sample| sample.0 == time))
    };
    wanted.filter(|(labels, time)| !is_found(labels, *time)).map(|(_, time)| time).collect()
}

fn from_env(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// Runs worlds on as many threads as there are cores.
fn run() -> Tally {
    let first = from_env("KYMO_SIMULATE_FIRST", 1);
    let end = first + from_env("KYMO_SIMULATE_SEEDS", SEEDS);
    let (next, tally) = (AtomicU64::new(first), Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let mut world = World::new(seed);
                    world.run();
                    tally.crashes.fetch_add(world.crashes, Ordering::Relaxed);
                    tally.batches.fetch_add(world.sent.len() as u64, Ordering::Relaxed);
                    tally.snapshots.fetch_add(world.copies.len() as u64, Ordering::Relaxed);
                    tally.restored.fetch_add(world.restored, Ordering::Relaxed);
                    tally.cut_short.fetch_add(world.cut_short, Ordering::Relaxed);
                }
            });
        }
    });
    println!("simulation: {} seeds from {first}: {tally:?}", end - first);
    tally
}

#[test]
fn after_each_crash_all_that_was_acknowledged_is_there_once_and_no_half_batch() {
    let tally = run();
    let crashes = tally.crashes.into_inner();
    let seeds = from_env("KYMO_SIMULATE_SEEDS", SEEDS);
    assert!(crashes >= seeds, "{crashes} crashes are too few to say something");
    let cut_short = tally.cut_short.into_inner();
    assert!(cut_short >= seeds / 10, "{cut_short} crashes in copies are too few to say something");
}
