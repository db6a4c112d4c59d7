//! Requests out of metrics: what the series of the rules gained since they were last read.
//!
//! Reading what is stored, rather than listening to what comes, treats all doors alike, costs nothing on the way in, and begins after
//! a start where it ended. Only gains count: of a series that is new nothing is known but what its start time says, and a
//! counter that fell began anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use kymo_core::health::{Counts, Latency, Outcome, ServiceHealth};
use kymo_core::histogram::NativeHistogram;
use kymo_core::storage::{Changes, ColumnValue};
use kymo_core::{Columns, Labels, METRIC_NAME, MetricStorage, QueryContext, SelectError, Selector};

use super::config::{Compiled, LatencyUnit, RequestMetric};

/// How far back samples are looked for: later ones are not counted. PromQL's lookback, for the same reason.
const REACH_MS: i64 = 300_000;
/// A series that gave nothing for so long is forgotten; if it comes back, it is new.
const FORGET_MS: i64 = 3_600_000;
/// What happened long ago is read in steps of so long.
const STEP_MS: i64 = 60_000;
/// Steps that are read at once at the most, so that each is not looked for alone.
const STEPS_AT_ONCE: usize = 20;
/// Series times steps that are read at once at the most: what they gained is held until all are read.
const GAINS_AT_ONCE: usize = 200_000;
/// What came late is looked for so often.
const GO_BACK_EVERY_MS: i64 = 15_000;
/// How long ago: the longest window.
pub(super) const LATE_MAX_MS: i64 = 3_600_000;
/// Series that are followed at most, all rules together.
pub const FOLLOWED_SERIES_MAX: usize = 200_000;

/// Which of the rules' series is followed, and how far it is read.
struct Followed {
    read_ms: i64,
    value: Value,
}

enum Value {
    Float(f64),
    Histogram(Box<NativeHistogram>),
}

/// A series that a rule is about, and what its labels say.
struct Series<'a> {
    rule: usize,
    labels: &'a Labels,
    service: &'a str,
    operation: String,
    knows_outcomes: bool,
    is_failed: bool,
}

/// What rules say of services, in one step.
type ByService = BTreeMap<String, BTreeMap<usize, Told>>;

/// What one rule says of one service, in one step.
#[derive(Default)]
struct Told {
    /// Whether its series say how requests ended.
    knows_outcomes: bool,
    operations: BTreeMap<String, Gains>,
    newest_ms: i64,
}

#[derive(Default)]
struct Gains {
    /// Gains by outcome, as [`Outcome`] numbers them: of native histograms and counters, ready to be counted.
    counts: [Counts; 2],
    /// Of classic histograms by their other labels and upper bound: how many more took at most so long.
    classic: BTreeMap<(Labels, Bound), f64>,
    is_failed: BTreeMap<Labels, bool>,
}

/// An upper bound, in order.
#[derive(Clone, Copy, PartialEq)]
struct Bound(f64);

impl Eq for Bound {}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Bound) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Bound) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Follows the series of rules.
pub(super) struct MetricReader {
    rules: Vec<Compiled>,
    followed: BTreeMap<(usize, Labels), Followed>,
    /// Nothing up to here counts.
    since_ms: i64,
}

impl MetricReader {
    /// Begins behind `since_ms`.
    pub(super) fn new(rules: Vec<Compiled>, since_ms: i64) -> MetricReader {
        MetricReader { rules, followed: BTreeMap::new(), since_ms }
    }

    /// How many steps may be read at once; of series that nobody has counted yet a single one.
    fn steps_at_once(&self) -> usize {
        match self.followed.len() {
            0 => 1,
            series => (GAINS_AT_ONCE / series).clamp(1, STEPS_AT_ONCE),
        }
    }

    /// Counts what came until each of `steps`, which rise by [`STEP_MS`] at the most, at its time.
    pub(super) fn read(
        &mut self,
        storage: &dyn MetricStorage,
        ctx: &QueryContext,
        health: &ServiceHealth,
        steps: &[i64],
    ) -> Result<(), SelectError> {
        let (Some(&first_ms), Some(&last_ms)) = (steps.first(), steps.last()) else { return Ok(()) };
        let mut told: Vec<ByService> = steps.iter().map(|_| BTreeMap::new()).collect();
        let mut columns = Columns::default();
        for at in 0..self.rules.len() {
            let names = self.rules[at].names.clone();
            let set = storage.select(&Selector::new(names, first_ms - REACH_MS, last_ms), ctx)?;
            for i in 0..set.len() {
                let labels = set.labels(i);
                let Compiled { rule, errors, .. } = &self.rules[at];
                let Some(service) = first(&labels, &rule.service) else { continue };
                let outcome = first(&labels, &rule.outcome);
                if rule.metric == RequestMetric::Counter && outcome.is_none() {
                    continue;
                }
                let operation = rule.operation.iter().filter_map(|label| labels.get(label));
                let operation: Vec<&str> = operation.filter(|text| !text.is_empty()).collect();
                let series = Series {
                    rule: at,
                    labels: &labels,
                    service,
                    operation: operation.join(" "),
                    knows_outcomes: outcome.is_some(),
                    is_failed: outcome.is_some_and(|outcome| errors.matches(outcome)),
                };
                set.read(i, &mut columns)?;
                self.follow(&series, &columns, steps, &mut told);
            }
        }
        self.followed.retain(|_, followed| followed.read_ms > last_ms - FORGET_MS);
        for (service, told) in told.into_iter().flatten() {
            if !health.is_traced(&service) {
                self.count(health, &service, told);
            }
        }
        Ok(())
    }

    /// Takes the gains of a series, in each step.
    fn follow(&mut self, series: &Series<'_>, columns: &Columns, steps: &[i64], told: &mut [ByService]) {
        let Compiled { rule, .. } = &self.rules[series.rule];
        let unit = match rule.unit {
            LatencyUnit::Seconds => 1.0,
            LatencyUnit::Milliseconds => 1e-3,
        };
        let is_histogram = rule.metric == RequestMetric::Histogram;
        // Of a classic histogram the bound; a series without one is told by the name's other form.
        let bound = series.labels.get("le").filter(|_| is_histogram).and_then(|le| le.parse::<f64>().ok());
        let bucket = bound.map(|bound| (without_bound(series.labels), Bound(bound * unit)));
        let outcome = if series.is_failed { Outcome::Failed } else { Outcome::Ok };
        let key = (series.rule, series.labels.clone());
        let is_full = self.followed.len() >= FOLLOWED_SERIES_MAX;
        let mut known = self.followed.remove(&key);
        let is_left_out = known.is_none() && is_full;
        let mut samples = columns.iter().enumerate().peekable();
        let mut before_ms = None;
        for (&until_ms, told) in steps.iter().zip(told) {
            if let Some(before_ms) = before_ms.replace(until_ms) {
                known = known.filter(|known| known.read_ms > before_ms - FORGET_MS);
            }
            let times_until = |time_ms: i64| columns.times.partition_point(|time| *time <= time_ms);
            if times_until(until_ms - REACH_MS) == times_until(until_ms) {
                continue;
            }
            let of = told.entry(series.service.to_owned()).or_default().entry(series.rule).or_default();
            of.knows_outcomes |= series.knows_outcomes;
            let gains = of.operations.entry(series.operation.clone()).or_default();
            if is_left_out {
                continue;
            }
            let mut gained = 0.0;
            while let Some((at, (time_ms, value))) = samples.next_if(|(_, (time_ms, _))| *time_ms <= until_ms) {
                if known.as_ref().is_some_and(|known| time_ms < known.read_ms) {
                    continue;
                }
                // Told anew since it was read: totals of several writers grow at the time of the newest of them.
                let is_again = known.as_ref().is_some_and(|known| time_ms == known.read_ms);
                // All that a series counts which began since is new; so is what one counts that began anew.
                let start_ms = columns.starts.get(at).copied().unwrap_or(0);
                let is_born = start_ms > self.since_ms;
                let is_new = time_ms > self.since_ms;
                let value = match value {
                    ColumnValue::Stale => continue,
                    ColumnValue::Float(value) => {
                        let before = match &known {
                            Some(Followed { value: Value::Float(before), .. }) => Some(*before),
                            _ => None,
                        };
                        let gain = match before {
                            Some(before) if value >= before => value - before,
                            // Put right, and no new beginning.
                            Some(_) if is_again => 0.0,
                            None if !is_born => 0.0,
                            _ => value,
                        };
                        if is_new && gain > 0.0 {
                            of.newest_ms = of.newest_ms.max(time_ms);
                            match bound {
                                Some(_) => gained += gain,
                                None if is_histogram => {}
                                None => {
                                    let gain = gain.round() as u64;
                                    gains.counts[outcome as usize].add(outcome, Latency::Unknown, gain);
                                }
                            }
                        }
                        Value::Float(value)
                    }
                    ColumnValue::Histogram(value) => {
                        let before = match &known {
                            Some(Followed { value: Value::Histogram(before), .. }) => Some(&**before),
                            _ => None,
                        };
                        let mut gain = value.to_float();
                        let is_gain = match before {
                            Some(before) if !value.detect_reset(before) => gain.subtract(before).is_ok(),
                            Some(_) => !is_again,
                            None => is_born,
                        };
                        if is_new && is_gain && is_histogram && gain.count() > 0.0 {
                            of.newest_ms = of.newest_ms.max(time_ms);
                            gains.counts[outcome as usize].add_histogram(outcome, &gain, unit);
                        }
                        Value::Histogram(Box::new(value.clone()))
                    }
                };
                known = Some(Followed { read_ms: time_ms, value });
            }
            if let Some((others, bound)) = &bucket {
                // Also when it gained nothing: where it ends, the next one begins.
                gains.is_failed.insert(others.clone(), series.is_failed);
                *gains.classic.entry((others.clone(), *bound)).or_default() += gained;
            }
        }
        if let Some(known) = known {
            self.followed.insert(key, known);
        }
    }

    /// Counts what several rules say of a service, each request once: requests and errors by the first rule whose series say
    /// how requests ended, latencies by the same if it is a histogram, else by the first that is.
    fn count(&self, health: &ServiceHealth, service: &str, mut told: BTreeMap<usize, Told>) {
        let is_histogram = |rule: &usize| self.rules[*rule].rule.metric == RequestMetric::Histogram;
        let knowing = told.iter().find(|(_, told)| told.knows_outcomes).map(|(rule, _)| *rule);
        let Some(counting) = knowing.or_else(|| told.keys().next().copied()) else { return };
        let timing =
            Some(counting).filter(is_histogram).or_else(|| told.keys().copied().find(|rule| is_histogram(rule)));
        for rule in [Some(counting), timing.filter(|timing| *timing != counting)].into_iter().flatten() {
            let Some(of) = told.remove(&rule) else { continue };
            let kind = self.rules[rule].rule.kind;
            for (operation, mut gains) in of.operations {
                gains.unfold();
                let mut counts = Counts::new();
                for gained in &gains.counts {
                    if rule == counting { counts.merge(gained) } else { counts.merge(&gained.latencies_only()) }
                }
                health.record_counts(service, &operation, kind, &counts, of.newest_ms);
            }
        }
    }
}

impl Gains {
    /// Makes counts of the gains of classic buckets, which each hold those below them.
    fn unfold(&mut self) {
        let mut classic = std::mem::take(&mut self.classic).into_iter().peekable();
        let (mut below, mut lower) = (0.0, 0.0);
        while let Some(((others, Bound(upper)), held)) = classic.next() {
            let is_failed = self.is_failed.get(&others).copied().unwrap_or_default();
            let outcome = if is_failed { Outcome::Failed } else { Outcome::Ok };
            // A bucket that was not told of since holds at least what is below it.
            let within = (held - below).max(0.0).round() as u64;
            self.counts[outcome as usize].add(outcome, Latency::Between(lower, upper), within);
            (below, lower) = (f64::max(below, held), upper);
            if classic.peek().is_none_or(|((next, _), _)| *next != others) {
                (below, lower) = (0.0, 0.0);
            }
        }
    }
}

fn first<'a>(labels: &'a Labels, names: &[String]) -> Option<&'a str> {
    names.iter().filter_map(|name| labels.get(name)).find(|value| !value.is_empty())
}

fn without_bound(labels: &Labels) -> Labels {
    Labels::from_pairs(labels.iter().filter(|(name, _)| *name != "le" && *name != METRIC_NAME))
}

/// The rules of a configuration that was validated; one that cannot be used is left out.
pub(super) fn compiled(rules: &[super::config::RequestRule]) -> Vec<Compiled> {
    rules.iter().filter_map(|rule| rule.compile().ok()).collect()
}

/// What is read step by step, and how far it is read.
pub(super) struct Reading {
    pub(super) storage: Arc<dyn MetricStorage>,
    pub(super) reader: MetricReader,
    pub(super) read_ms: i64,
    /// The storage's version when it was last read.
    pub(super) version: u64,
    /// When history that came late was last gone through.
    pub(super) went_back_ms: i64,
}

impl Reading {
    /// Reads up to `now_ms`, in steps of [`STEP_MS`], so that what happened long ago counts at its time.
    ///
    /// What came since for times longer ago than is looked back counts too, as a whole history that is sent at once does; that
    /// costs more, and is done seldom.
    pub(super) fn catch_up(
        &mut self,
        ctx: &QueryContext,
        health: &ServiceHealth,
        now_ms: i64,
    ) -> Result<(), SelectError> {
        let version = self.storage.version();
        let oldest_ms = now_ms - LATE_MAX_MS;
        let mut from_ms = self.read_ms.clamp(oldest_ms, now_ms);
        if now_ms - self.went_back_ms >= GO_BACK_EVERY_MS {
            let changes = self.storage.changed_since(self.version, &Selector::new(Vec::new(), oldest_ms, now_ms));
            if let Changes::Ranges(ranges) = changes
                && let Some(&(first_ms, _)) = ranges.iter().find(|(_, last_ms)| *last_ms > oldest_ms)
                && first_ms < from_ms - REACH_MS + STEP_MS
            {
                from_ms = first_ms.max(oldest_ms);
                self.went_back_ms = now_ms;
            }
            self.version = version;
        }
        while from_ms < now_ms {
            let mut steps = Vec::new();
            while from_ms < now_ms && steps.len() < self.reader.steps_at_once() {
                from_ms = (from_ms + STEP_MS).min(now_ms);
                steps.push(from_ms);
            }
            self.reader.read(&*self.storage, ctx, health, &steps)?;
            self.read_ms = self.read_ms.max(from_ms);
        }
        // A clock that was set back.
        self.read_ms = self.read_ms.min(now_ms);
        Ok(())
    }
}
