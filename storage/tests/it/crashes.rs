//! The machine stops at every single operation of the disk in each kind of tending, by a kill and by power loss.
//!
//! What is seen afterwards is what was to be seen before the step that it stopped in, or after it, in every tier; nothing is
//! damaged, and the work, begun again, ends where it would have ended. Snapshots and restorations are in `copies`, and all of it
//! at once, with crashes at random, in `simulation`.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kymo_core::storage::{Columns, Tier};
use kymo_core::{Clock, Deletion, ManualClock, Matcher, MetricStorage, QueryContext, SampleBatch, Selector};
use kymo_storage::fs::{CrashKind, SimFs};
use kymo_storage::{
    Depth, Engine, Lane, MaintainLimit, Next, Options, RetentionPolicy, RetentionRule, SyncPolicy, verify,
};

use crate::world::{DIR, clock, open, options, series};

const SERIES: u64 = 3;
const STEP_MS: u64 = 240_000;
const HOUR: u64 = 3_600;

/// Whether there is more of it.
type Stepped = Result<bool, Box<dyn Error>>;

struct Work {
    seed: u64,
    /// What holds while the data is written, and while it is tended.
    before: RetentionPolicy,
    during: RetentionPolicy,
    prepare: fn(&Engine, &ManualClock),
    /// Each is repeated until there is no more of it.
    steps: &'static [fn(&Engine) -> Stepped],
    /// Whether any of it changes what is seen.
    shows: bool,
}

fn hours(count: u64) -> Option<Duration> {
    Some(Duration::from_secs(count * HOUR))
}

fn for_ever() -> RetentionPolicy {
    RetentionPolicy::of_age(None)
}

fn rolled_up(raw_hours: u64) -> RetentionPolicy {
    let (five_minutes, one_hour) = (hours(24 * 60), hours(24 * 90));
    RetentionPolicy { five_minutes, one_hour, ..RetentionPolicy::of_age(hours(raw_hours)) }
}

/// Lets hours pass, in which counters with resets are written.
fn write(engine: &Engine, clock: &ManualClock, hours: u64) {
    let end_ms = clock.now_ms() + (hours * HOUR * 1_000) as i64;
    while clock.now_ms() < end_ms {
        let mut batch = SampleBatch::new();
        let at = clock.now_ms();
        let value = (at / STEP_MS as i64 % 97) as f64;
        (0..SERIES).for_each(|n| batch.push_float(&series(n), at, value + n as f64 / 8.0));
        engine.append(&batch).expect("append");
        clock.advance(Duration::from_millis(STEP_MS));
    }
}

/// A day and a half in blocks of some hours, and an hour of the log.
fn days(engine: &Engine, clock: &ManualClock) {
    for _ in 0..9 {
        write(engine, clock, 4);
        engine.flush().expect("flush");
    }
    write(engine, clock, 1);
}

fn merged_days(engine: &Engine, clock: &ManualClock) {
    days(engine, clock);
    while merges(engine).expect("merges") {}
}

fn rolled_days(engine: &Engine, clock: &ManualClock) {
    days(engine, clock);
    engine.compact(|| true).expect("compact");
}

fn merges(engine: &Engine) -> Stepped {
    Ok(engine.maintain(Lane::Merge, MaintainLimit::default())? == Next::Now)
}

fn retires(engine: &Engine) -> Stepped {
    Ok(engine.maintain(Lane::Flush, MaintainLimit::default())? == Next::Now)
}

fn compacts(engine: &Engine) -> Stepped {
    engine.compact(|| true)?;
    Ok(false)
}

fn deletes(engine: &Engine) -> Stepped {
    let first = engine.statistics().min_time_ms.expect("there are samples");
    let matchers = vec![Matcher::equal("n", "1")];
    // From the middle of a bucket to the middle of another one.
    let (start_ms, end_ms) = (i64::MIN, first - first % 3_600_000 + 17 * 3_600_000 + 150_000);
    engine.delete(&Deletion { start_ms, end_ms, ..Deletion::of(matchers) })?;
    Ok(false)
}

fn cleans(engine: &Engine) -> Stepped {
    engine.clean_tombstones(|| true)?;
    Ok(false)
}

fn late(engine: &Engine) -> Stepped {
    let first = engine.statistics().min_time_ms.expect("there are samples");
    let mut batch = SampleBatch::new();
    (0..5).for_each(|n| batch.push_float(&series(2), first + 7_000_001 + n * 5_000_000, 1e6));
    engine.append(&batch)?;
    Ok(false)
}

/// Everything that is answered, by tier and series.
fn seen(engine: &Engine) -> String {
    let has_rollups = engine.retention().has_rollups();
    let tiers = [None, Some(Tier::Raw), Some(Tier::FiveMinutes), Some(Tier::OneHour)];
    let (ctx, mut columns, mut text) = (QueryContext::unlimited(), Columns::default(), String::new());
    for tier in tiers.into_iter().take(if has_rollups { 4 } else { 1 }) {
        let set = engine.select(&Selector { tier, ..Selector::everything() }, &ctx).expect("select");
        for index in 0..set.len() {
            set.read(index, &mut columns).expect("read");
            if columns.times.is_empty() {
                continue;
            }
            let Columns { times, runs, floats, rollups, .. } = &columns;
            // That all of them are samples is told in another way once there are rollups.
            let is_rolled = rollups.tiers.iter().any(|(of, _)| *of != Tier::Raw);
            let rows = is_rolled.then_some((&rollups.floats, &rollups.tiers));
            writeln!(text, "{tier:?} {}: {times:?} {runs:?} {floats:?} {rows:?}", set.labels(index)).expect("a text");
        }
    }
    text
}

impl Work {
    fn open(&self, disk: &SimFs, clock: &Arc<ManualClock>, retention: &RetentionPolicy) -> Engine {
        let options = Options { retention: retention.clone(), ..options(clock, SyncPolicy::Always) };
        let (engine, report) = open(disk, options).unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        assert!(report.quarantined.is_empty() && report.log_damage.is_empty(), "seed {}: {report:?}", self.seed);
        engine
    }

    /// Does all of it, or as much as the disk allows.
    fn run(&self, engine: &Engine, mut stepped: impl FnMut()) -> Result<(), Box<dyn Error>> {
        for step in self.steps {
            loop {
                let more = step(engine)?;
                stepped();
                if !more {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Gives how many operations there were to stop at.
    fn stop_everywhere(&self) -> u64 {
        let (base, clock) = (SimFs::new(self.seed), clock());
        let engine = self.open(&base, &clock, &self.before);
        (self.prepare)(&engine, &clock);
        drop(engine);
        let copy = || {
            let disk = base.crash(CrashKind::ProcessKill);
            let engine = self.open(&disk, &clock, &self.during);
            let begin = disk.op_count();
            (disk, engine, begin)
        };
        let (disk, engine, begin) = copy();
        let mut states = vec![seen(&engine)];
        self.run(&engine, || states.push(seen(&engine))).unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        let operations = disk.op_count() - begin;
        let changed = states.windows(2).find_map(|pair| {
            let mut lines = pair[0].lines().zip(pair[1].lines());
            (pair[0] != pair[1]).then(|| lines.find(|(before, after)| before != after))
        });
        assert_eq!(changed.is_some(), self.shows, "seed {}: {changed:?}", self.seed);
        drop(engine);

        for kind in [CrashKind::ProcessKill, CrashKind::PowerLoss] {
            for at in 1..=operations {
                let when = format!("seed {}, {kind:?} at operation {at} of {operations}", self.seed);
                let (disk, engine, begin) = copy();
                disk.crash_at(begin + at);
                let mut done = 0;
                let ran = self.run(&engine, || done += 1);
                assert!(disk.has_crashed(), "{when}: it did something else, and {ran:?}");
                drop(engine);
                let disk = disk.crash(kind);
                let engine = self.open(&disk, &clock, &self.during);
                let found = seen(&engine);
                let wanted = &states[done..states.len().min(done + 2)];
                assert!(
                    wanted.contains(&found),
                    "{when}, {done} steps done: {found}\nwanted: {}",
                    wanted.join("\nor: ")
                );
                let report = verify(&disk, Path::new(DIR), Depth::Samples, &mut |_, _| {}).expect("verify");
                assert!(report.is_sound(), "{when}: {:?}", report.faults);
                // Begun again, it ends where it would have.
                self.run(&engine, || ()).unwrap_or_else(|error| panic!("{when}: {error}"));
                assert_eq!(seen(&engine), states[states.len() - 1], "{when}");
                engine.close().expect("close");
                drop(engine);
                let report = verify(&disk, Path::new(DIR), Depth::Samples, &mut |_, _| {}).expect("verify");
                assert!(report.is_sound() && report.notes.is_empty(), "{when}: {report:?}");
            }
        }
        operations
    }
}

#[test]
fn a_merge() {
    let (before, during) = (for_ever(), for_ever());
    let work = Work { seed: 1, before, during, prepare: days, steps: &[merges, compacts], shows: false };
    assert!(work.stop_everywhere() > 20);
}

#[test]
fn a_retirement_by_age() {
    let during = RetentionPolicy::of_age(hours(20));
    let work = Work { seed: 2, before: for_ever(), during, prepare: days, steps: &[retires, merges], shows: false };
    assert!(work.stop_everywhere() > 5);
}

#[test]
fn a_retirement_by_size() {
    let during = RetentionPolicy { max_bytes: Some(9_000), ..for_ever() };
    let work = Work { seed: 3, before: for_ever(), during, prepare: days, steps: &[retires], shows: true };
    assert!(work.stop_everywhere() > 1);
}

#[test]
fn a_retirement_of_some_series() {
    let rule = RetentionRule { matchers: vec![Matcher::equal("n", "1")], keep: hours(10) };
    let during = RetentionPolicy { rules: vec![rule], ..for_ever() };
    let steps: &[fn(&Engine) -> Stepped] = &[retires, merges, compacts];
    let work = Work { seed: 4, before: for_ever(), during, prepare: merged_days, steps, shows: false };
    assert!(work.stop_everywhere() > 10);
}

#[test]
fn a_delete_and_its_cleaning() {
    let (before, during) = (for_ever(), for_ever());
    let work = Work { seed: 5, before, during, prepare: merged_days, steps: &[deletes, cleans], shows: true };
    assert!(work.stop_everywhere() > 10);
}

#[test]
fn a_delete_that_merges_clean() {
    let (before, during) = (for_ever(), for_ever());
    let work = Work { seed: 6, before, during, prepare: days, steps: &[deletes, merges, compacts], shows: true };
    assert!(work.stop_everywhere() > 20);
}

#[test]
fn rolling_up() {
    let (before, during) = (for_ever(), rolled_up(24 * 30));
    let work = Work { seed: 7, before, during, prepare: merged_days, steps: &[merges, compacts], shows: false };
    assert!(work.stop_everywhere() > 20);
}

#[test]
fn rolling_up_anew_what_came_late() {
    let (before, during) = (rolled_up(24 * 30), rolled_up(24 * 30));
    let steps: &[fn(&Engine) -> Stepped] = &[late, compacts];
    let work = Work { seed: 8, before, during, prepare: rolled_days, steps, shows: true };
    assert!(work.stop_everywhere() > 20);
}

#[test]
fn a_retirement_of_samples_that_are_rolled_up() {
    let (before, during) = (rolled_up(24 * 30), rolled_up(12));
    let steps: &[fn(&Engine) -> Stepped] = &[merges, retires, compacts];
    let work = Work { seed: 9, before, during, prepare: rolled_days, steps, shows: false };
    assert!(work.stop_everywhere() > 10);
}

#[test]
fn a_delete_of_what_is_rolled_up() {
    let (before, during) = (rolled_up(24 * 30), rolled_up(24 * 30));
    let steps: &[fn(&Engine) -> Stepped] = &[deletes, cleans, compacts];
    let work = Work { seed: 10, before, during, prepare: rolled_days, steps, shows: true };
    assert!(work.stop_everywhere() > 20);
}
