//! An answer that takes over steps has the bits of one that does not, whatever happens in between.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use kymo_core::query::{PointTimes, QueryError, QueryResult, QueryValue};
use kymo_core::storage::{AppendError, AppendReport, ColumnValue, Columns, StorageStatistics};
use kymo_core::{
    Deletion, Exemplar, Labels, LabelsRef, MemoryStorage, Metadata, QueryBackend, QueryContext, QueryRequest,
    SampleBatch, SelectError, Selector, SeriesRef, SeriesSet,
};
use proptest::prelude::*;

use super::*;
use crate::Engine;
use crate::eval::tests::steps::{SERIES, vectors};
use crate::eval::tests::storage;

const STEP_MS: i64 = 47_000;

/// A storage that also loses samples by age, and counts what is selected.
struct Losing {
    inner: Arc<MemoryStorage>,
    /// Samples gone: of series that match, in this range, both ends inclusive.
    lost: Mutex<Vec<(Selector, (i64, i64))>>,
    /// What a version of this storage was made of: a version of the inner one, and how many losses.
    versions: Mutex<HashMap<u64, (u64, usize)>>,
    selected: AtomicU64,
}

impl Losing {
    fn new(inner: Arc<MemoryStorage>) -> Losing {
        Losing { inner, lost: Mutex::default(), versions: Mutex::default(), selected: AtomicU64::new(0) }
    }

    fn lose(&self, what: Selector, range: (i64, i64)) {
        self.lost.lock().unwrap().push((what, range));
    }
}

struct Rest(Vec<(Labels, Columns)>, u64);

impl SeriesSet for Rest {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn labels(&self, index: usize) -> Labels {
        self.0[index].0.clone()
    }
    fn estimate(&self, index: usize) -> usize {
        self.0[index].1.times.len()
    }
    fn version(&self) -> u64 {
        self.1
    }
    fn read(&self, index: usize, columns: &mut Columns) -> Result<(), SelectError> {
        columns.clone_from(&self.0[index].1);
        Ok(())
    }
}

impl MetricStorage for Losing {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        self.inner.append(batch)
    }
    fn select(&self, what: &Selector, ctx: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
        self.selected.fetch_add(1, Ordering::Relaxed);
        let version = self.version();
        let set = self.inner.select(what, ctx)?;
        let lost = self.lost.lock().unwrap();
        let (mut all, mut columns) = (Vec::new(), Columns::default());
        for index in 0..set.len() {
            set.read(index, &mut columns)?;
            let labels = set.labels(index);
            let is_lost = |time: i64| {
                lost.iter().any(|(who, range)| time >= range.0 && time <= range.1 && who.matches(labels.as_ref()))
            };
            let mut rest = Columns::default();
            for (time, value) in columns.iter().filter(|(time, _)| !is_lost(*time)) {
                match value {
                    ColumnValue::Float(float) => rest.push(time, 0, ColumnValue::Float(float)),
                    other => rest.push(time, 0, other),
                }
            }
            if !rest.times.is_empty() {
                all.push((labels, rest));
            }
        }
        Ok(Box::new(Rest(all, version)))
    }
    fn version(&self) -> u64 {
        let of = (self.inner.version(), self.lost.lock().unwrap().len());
        let version = of.0 + of.1 as u64;
        self.versions.lock().unwrap().insert(version, of);
        version
    }
    fn changed_since(&self, since: u64, what: &Selector) -> Changes {
        let Some(&(inner, losses)) = self.versions.lock().unwrap().get(&since) else { return Changes::Unknown };
        match self.inner.changed_since(inner, what) {
            Changes::Ranges(mut ranges) => {
                ranges.extend(self.lost.lock().unwrap()[losses..].iter().map(|(_, range)| *range));
                Changes::Ranges(ranges)
            }
            Changes::Unknown => Changes::Unknown,
        }
    }
    fn resolve(&self, labels: LabelsRef<'_>) -> Option<SeriesRef> {
        self.inner.resolve(labels)
    }
    fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.inner.labels(series)
    }
    fn label_names(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.inner.label_names(what, ctx)
    }
    fn label_values(&self, name: &str, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.inner.label_values(name, what, ctx)
    }
    fn metadata(&self, of: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        self.inner.metadata(of, ctx)
    }
    fn exemplars(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        self.inner.exemplars(what, ctx)
    }
    fn statistics(&self) -> StorageStatistics {
        self.inner.statistics()
    }
}

/// What happens between two questions.
#[derive(Debug, Clone)]
enum Event {
    /// A sample of one of the series, anywhere in time; stale if there is no value.
    Write { series: usize, time_s: i64, value: Option<f64> },
    /// Everything before this time goes.
    Retire { before_s: i64 },
    /// Samples of one group of series go, those that are written there later stay.
    Delete { group: bool, from_s: i64, len_s: i64 },
    /// The range moves and is asked for.
    Ask { steps: i64 },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (0usize..6, 0i64..1_400, prop::option::weighted(0.9, -5.0..50.0f64))
            .prop_map(|(series, time_s, value)| Event::Write { series, time_s, value }),
        1 => (0i64..700).prop_map(|before_s| Event::Retire { before_s }),
        1 => (any::<bool>(), 0i64..1_000, 1i64..300)
            .prop_map(|(group, from_s, len_s)| Event::Delete { group, from_s, len_s }),
        5 => (-1i64..4).prop_map(|steps| Event::Ask { steps }),
    ];
    prop::collection::vec(event, 2..14)
}

fn write(storage: &MemoryStorage, series: usize, time_ms: i64, value: Option<f64>) {
    let labels = [
        [("__name__", "a"), ("g", "1"), ("n", "1")],
        [("__name__", "a"), ("g", "1"), ("n", "2")],
        [("__name__", "a"), ("g", "2"), ("n", "3")],
        [("__name__", "a"), ("g", "0"), ("n", "new")],
        [("__name__", "b"), ("g", "1"), ("n", "")],
        [("__name__", "b"), ("g", "2"), ("n", "")],
    ];
    let labels = Labels::from_pairs(labels[series]);
    let mut batch = SampleBatch::new();
    match value {
        Some(value) => batch.push_float(&labels, time_ms, value),
        None => batch.push_stale(&labels, time_ms),
    }
    storage.append(&batch).unwrap();
}

/// Everything of an answer, floats by their bits.
fn bits(answer: &Result<QueryResult, QueryError>) -> Vec<String> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return vec![error.message.clone()],
    };
    let QueryValue::Matrix(series) = &answer.value else { panic!("a range query answers a matrix") };
    let mut lines: Vec<String> = series
        .iter()
        .map(|one| {
            let PointTimes::Grid(presence) = &one.times else { panic!("not on the grid") };
            let floats: Vec<u64> = one.floats.iter().map(|value| value.to_bits()).collect();
            let times: Vec<i64> = presence.times().collect();
            format!("{} {times:?} {} {floats:x?} {:?}", one.labels, presence.count(), one.histograms)
        })
        .collect();
    lines.push(format!("{:?}", answer.annotations));
    lines
}

fn ask(engine: &Engine, text: &str, start_ms: i64) -> Result<QueryResult, QueryError> {
    let grid = Grid::Range { start_ms, end_ms: start_ms + 14 * STEP_MS, step_ms: STEP_MS };
    engine.query(&QueryRequest::new(text, grid), &QueryContext::unlimited())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_taken_over_has_the_bits_of_a_cold_answer(text in vectors(), events in events()) {
        let data = storage(30_000, SERIES);
        let losing = Arc::new(Losing::new(Arc::clone(&data)));
        let mut options = EngineOptions::all();
        options.delayed_name_removal = false;
        let config = crate::EngineConfig { options, ..crate::EngineConfig::default() };
        let cold = Engine::with_config(losing.clone(), config.clone());
        let warm = Engine::with_config(losing.clone(), config).keeping_answers(Budget::root("answers", 1 << 20));
        let mut start_ms = 100_000;
        prop_assert_eq!(bits(&ask(&warm, &text, start_ms)), bits(&ask(&cold, &text, start_ms)), "{} at first", text);
        for event in events {
            match event {
                Event::Write { series, time_s, value } => write(&data, series, time_s * 1_000, value),
                Event::Retire { before_s } => losing.lose(Selector::everything(), (i64::MIN, before_s * 1_000)),
                Event::Delete { group, from_s, len_s } => {
                    let group = kymo_core::Matcher::equal("g", if group { "1" } else { "2" });
                    let (start_ms, end_ms) = (from_s * 1_000, (from_s + len_s) * 1_000);
                    // What is written there later is kept.
                    data.delete(&Deletion { any_of: vec![vec![group]], start_ms, end_ms });
                }
                Event::Ask { steps } => {
                    start_ms += steps * STEP_MS;
                    let (found, expected) = (ask(&warm, &text, start_ms), ask(&cold, &text, start_ms));
                    prop_assert_eq!(bits(&found), bits(&expected), "{} from {}", text, start_ms);
                }
            }
        }
    }
}

fn engines(budget: u64) -> (Arc<MemoryStorage>, Arc<Losing>, Engine) {
    let data = storage(30_000, SERIES);
    let losing = Arc::new(Losing::new(Arc::clone(&data)));
    let warm = Engine::new(losing.clone()).keeping_answers(Budget::root("answers", budget));
    (data, losing, warm)
}

#[test]
fn a_range_that_moves_pays_for_its_new_steps() {
    let (data, losing, engine) = engines(1 << 20);
    let reused = |text: &str, start_ms: i64| ask(&engine, text, start_ms).unwrap().cost.steps_reused;
    let text = "sum by (g) (rate(a[2m]))";
    assert_eq!(reused(text, 100_000), 0);
    // The same again reads nothing.
    let selected = losing.selected.load(Ordering::Relaxed);
    assert_eq!(reused(text, 100_000), 15);
    assert_eq!(losing.selected.load(Ordering::Relaxed), selected);
    assert_eq!(reused(text, 100_000 + STEP_MS), 14);
    assert_eq!(reused(text, 100_000 - STEP_MS), 13);
    // A late write costs the steps whose windows hold it, one of another metric none.
    let late = 100_000 + 5 * STEP_MS + 1;
    write(&data, 0, late, Some(7.0));
    assert_eq!(reused(text, 100_000 - STEP_MS), 13);
    write(&data, 4, late, Some(7.0));
    assert_eq!(reused(text, 100_000 - STEP_MS), 15);
}

#[test]
fn what_depends_on_the_range_is_evaluated_whole() {
    let (_, _, engine) = engines(1 << 20);
    let texts = [
        "a @ end()",
        "a + start()",
        "sum_over_time(a[range() / 3])",
        "topk(1, sum by (g) (a))",
        "rate({g=\"1\"}[2m])",
        "info(a)",
        "abs(a) offset 5m",
    ];
    for text in texts {
        for _ in 0..2 {
            let cost = ask(&engine, text, 100_000).map(|answer| answer.cost.steps_reused);
            assert!(!cost.is_ok_and(|reused| reused > 0), "{text}");
        }
    }
    for text in
        ["a offset -1m", "a @ 400", "sum_over_time(a[2m:30s])", "topk(1, a)", "sum(sum by (g) (a))", "rate(a[2m])"]
    {
        ask(&engine, text, 100_000).unwrap();
        assert_eq!(ask(&engine, text, 100_000).unwrap().cost.steps_reused, 15, "{text}");
    }
}

#[test]
fn an_info_goes_with_the_steps_it_was_about() {
    let (_, _, engine) = engines(1 << 20);
    // The third series has its first two samples near the end.
    let text = "rate(a{n=\"3\"}[1m])";
    let infos = |start_ms: i64| ask(&engine, text, start_ms).unwrap().annotations.infos.len();
    assert_eq!(infos(100_000), 1);
    assert_eq!(infos(100_000 - 13 * STEP_MS), 0);
}

#[test]
fn kept_answers_stay_within_their_budget_and_the_least_used_go() {
    let budget = Budget::root("answers", 10_000);
    let engine = Engine::new(storage(30_000, SERIES)).keeping_answers(budget.clone());
    for number in 0..100 {
        ask(&engine, &format!("a + {number}"), 100_000).unwrap();
        assert!(budget.used() <= 10_000);
    }
    assert!(budget.used() > 5_000);
    let reused = |number: u32| ask(&engine, &format!("a + {number}"), 100_000).unwrap().cost.steps_reused;
    assert_eq!((reused(99), reused(0)), (15, 0));
    engine.forget_answers();
    assert_eq!(budget.used(), 0);
}

#[test]
fn stretches_are_few() {
    let usable = |text: &str| text.bytes().map(|byte| byte == b'+').collect::<Vec<_>>();
    let found = stretches(&usable("++++--++-+++++++++++++++++++++-"));
    assert_eq!(found, (vec![0..4, 9..30], vec![4..9, 30..31]));
    let shown = |text: &str| format!("{:?}", stretches(&usable(text)));
    assert_eq!(shown("++"), "([0..2], [])");
    assert_eq!(shown("--"), "([], [0..2])");
    assert_eq!(shown(&"-+++++++++++++++++++".repeat(8)), "([141..160], [0..141])");
}
