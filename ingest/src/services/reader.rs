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

/// What one rule says of one service, in one reading.
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

    /// Counts what came until `until_ms`.
    pub(super) fn read(
        &mut self,
        storage: &dyn MetricStorage,
        ctx: &QueryContext,
        health: &ServiceHealth,
        until_ms: i64,
    ) -> Result<(), SelectError> {
        let mut told: BTreeMap<String, BTreeMap<usize, Told>> = BTreeMap::new();
        let mut columns = Columns::default();
        for at in 0..self.rules.len() {
            let names = self.rules[at].names.clone();
            let set = storage.select(&Selector::new(names, until_ms - REACH_MS, until_ms), ctx)?;
            for i in 0..set.len() {
                let labels = set.labels(i);
                let rule = &self.rules[at];
                let Some(service) = first(&labels, &rule.rule.service) else { continue };
                let outcome = first(&labels, &rule.rule.outcome);
                if rule.rule.metric == RequestMetric::Counter && outcome.is_none() {
                    continue;
                }
                let is_failed = outcome.is_some_and(|outcome| rule.errors.matches(outcome));
                let of = told.entry(service.to_owned()).or_default().entry(at).or_default();
                of.knows_outcomes |= outcome.is_some();
                let operation: Vec<&str> = rule
                    .rule
                    .operation
                    .iter()
                    .filter_map(|label| labels.get(label))
                    .filter(|text| !text.is_empty())
                    .collect();
                set.read(i, &mut columns)?;
                let gains = of.operations.entry(operation.join(" ")).or_default();
                let newest_ms = self.follow(at, &labels, &columns, is_failed, gains);
                of.newest_ms = of.newest_ms.max(newest_ms);
            }
        }
        self.followed.retain(|_, followed| followed.read_ms > until_ms - FORGET_MS);
        for (service, told) in told {
            if !health.is_traced(&service) {
                self.count(health, &service, told);
            }
        }
        Ok(())
    }

    /// Takes the gains of a series; returns the time of its newest sample that was not read before.
    fn follow(&mut self, rule: usize, labels: &Labels, columns: &Columns, is_failed: bool, gains: &mut Gains) -> i64 {
        let unit = match self.rules[rule].rule.unit {
            LatencyUnit::Seconds => 1.0,
            LatencyUnit::Milliseconds => 1e-3,
        };
        let is_histogram = self.rules[rule].rule.metric == RequestMetric::Histogram;
        // Of a classic histogram the bound; a series without one is told by the name's other form.
        let bound = labels.get("le").filter(|_| is_histogram).and_then(|le| le.parse::<f64>().ok());
        let outcome = if is_failed { Outcome::Failed } else { Outcome::Ok };
        let key = (rule, labels.clone());
        let (mut newest_ms, mut gained) = (0, 0.0);
        let is_full = self.followed.len() >= FOLLOWED_SERIES_MAX;
        let mut known = self.followed.remove(&key);
        if known.is_none() && is_full {
            return 0;
        }
        for (at, (time_ms, value)) in columns.iter().enumerate() {
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
                        newest_ms = time_ms;
                        match bound {
                            Some(_) => gained += gain,
                            None if is_histogram => {}
                            None => gains.counts[outcome as usize].add(outcome, Latency::Unknown, gain.round() as u64),
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
                        newest_ms = time_ms;
                        gains.counts[outcome as usize].add_histogram(outcome, &gain, unit);
                    }
                    Value::Histogram(Box::new(value.clone()))
                }
            };
            known = Some(Followed { read_ms: time_ms, value });
        }
        if let Some(bound) = bound {
            // Also when it gained nothing: where it ends, the next one begins.
            let others = without_bound(labels);
            gains.is_failed.insert(others.clone(), is_failed);
            *gains.classic.entry((others, Bound(bound * unit))).or_default() += gained;
        }
        if let Some(known) = known {
            self.followed.insert(key, known);
        }
        newest_ms
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
            from_ms = (from_ms + STEP_MS).min(now_ms);
            self.reader.read(&*self.storage, ctx, health, from_ms)?;
            self.read_ms = self.read_ms.max(from_ms);
        }
        // A clock that was set back.
        self.read_ms = self.read_ms.min(now_ms);
        Ok(())
    }
}
