//! Appending samples of known series by ref allocates nothing.

#![expect(unsafe_code, reason = "a counting allocator implements an unsafe trait")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use kymo_core::{AppendReport, Clock, Labels, ManualClock, MetricStorage, SampleBatch, SeriesRef};
use kymo_storage::fs::RealFs;
use kymo_storage::{Engine, Options, SyncPolicy};

thread_local! {
    /// Allocations of this thread.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes this thread has taken and not given back; an engine has no threads of its own.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

fn hold(bytes: i64) {
    HELD.with(|held| held.set(held.get() + bytes));
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged; counting touches only
// thread-locals that are initialised at compile time and have no destructor, so it never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        hold(layout.size() as i64);
        // SAFETY: the caller's promise about `layout` is the one `System` asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: `pointer` came from `System.alloc` or `System.realloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        hold(size as i64 - layout.size() as i64);
        // SAFETY: as for `dealloc`, and the caller promises a valid `size`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Samples of a run before it is sealed.
const RUN: i64 = 60;
const SERIES: usize = 500;

struct World {
    engine: Engine,
    clock: Arc<ManualClock>,
    refs: Vec<SeriesRef>,
    batch: SampleBatch,
    report: AppendReport,
    scrape: i64,
    _dir: tempfile::TempDir,
}

fn labels(series: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("n", series.to_string())])
}

fn open(sync: SyncPolicy) -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let options = Options { clock: clock.clone(), sync, reserve_bytes: 0, ..Options::default() };
    let (engine, _) = Engine::open(Arc::new(RealFs), dir.path(), options).unwrap();
    let (batch, report) = (SampleBatch::new(), AppendReport::default());
    World { engine, clock, refs: Vec::new(), batch, report, scrape: 0, _dir: dir }
}

impl World {
    /// Makes the series, with a first sample each.
    fn introduce(&mut self) {
        for series in 0..SERIES {
            self.batch.push_float(&labels(series), self.clock.now_ms(), 0.0);
        }
        self.refs = self.engine.append(&self.batch).unwrap().new_refs.iter().map(|(_, series)| *series).collect();
        assert_eq!(self.refs.len(), SERIES);
    }

    /// Appends a scrape; gives the allocations.
    fn scrape(&mut self) -> u64 {
        self.scrape += 1;
        // A few milliseconds late now and then.
        self.clock.advance(Duration::from_millis(15_000 + self.scrape as u64 % 7));
        self.batch.clear();
        for (number, series) in self.refs.iter().enumerate() {
            let value = match number % 4 {
                0 => 1.0,
                1 => (self.scrape * 3 + number as i64) as f64,
                2 => (self.scrape * 37 % 100) as f64 / 10.0,
                _ => (self.scrape as f64 + number as f64).sin(),
            };
            self.batch.push_float(*series, self.clock.now_ms(), value);
        }
        let before = ALLOCATIONS.with(Cell::get);
        self.engine.append_into(&self.batch, &mut self.report).unwrap();
        let allocations = ALLOCATIONS.with(Cell::get) - before;
        assert_eq!(self.report.stored.floats, SERIES as u64);
        allocations
    }
}

#[test]
fn between_two_seals_appending_allocates_nothing_and_a_seal_only_pages() {
    for sync in [SyncPolicy::Never, SyncPolicy::Interval] {
        let mut world = open(sync);
        world.introduce();
        let (mut quiet, mut sealing) = (0, 0);
        for scrape in 0..8 * RUN {
            let allocations = world.scrape();
            world.engine.sync_now().unwrap();
            // The first run fills the buffers that are used again.
            if scrape < 2 * RUN {
                continue;
            }
            // The series were introduced with a sample, so the scrape with number 59 fills their runs, and the next
            // begins another track.
            match (scrape + 2) % RUN {
                0..=2 => sealing += allocations,
                _ => quiet += allocations,
            }
        }
        let samples = 6 * RUN as u64 * SERIES as u64;
        println!("{sync}: {samples} samples, {sealing} allocations while sealing, {quiet} otherwise");
        assert_eq!(quiet, 0, "{sync}: allocations between seals");
        assert!(sealing <= samples / 1_000, "{sync}: {sealing} allocations for sealing {samples} samples");
    }
}

#[test]
fn rows_that_are_told_apart_allocate_nothing_either() {
    let mut world = open(SyncPolicy::Never);
    world.introduce();
    for _ in 0..2 * RUN {
        world.scrape();
    }
    // The same batch once more: identical, told so, and nothing allocated. Runs hold three samples by now.
    for _ in 0..3 {
        world.scrape();
    }
    let before = ALLOCATIONS.with(Cell::get);
    world.engine.append_into(&world.batch, &mut world.report).unwrap();
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    assert_eq!(world.report.identical.floats, SERIES as u64);
}

#[test]
fn series_born_and_gone_give_their_memory_back() {
    let mut world = open(SyncPolicy::Never);
    world.introduce();
    for round in 0..3 {
        let held = HELD.with(Cell::get);
        for n in 0..8_000 {
            world.batch.clear();
            let gone = Labels::from_pairs([("__name__", "gone".to_owned()), ("n", format!("{round} {n}"))]);
            world.batch.push_float(&gone, world.clock.now_ms(), 1.0);
            world.engine.append_into(&world.batch, &mut world.report).unwrap();
        }
        let grown = HELD.with(Cell::get) - held;
        for _ in 0..4 {
            world.scrape();
            world.engine.flush().unwrap();
        }
        assert_eq!(world.engine.statistics().active_series, SERIES as u64);
        let kept = HELD.with(Cell::get) - held;
        println!("round {round}: {grown} bytes grown, {kept} kept");
        assert!(kept < grown / 10, "round {round}: {kept} of {grown} bytes are still held");
    }
}
