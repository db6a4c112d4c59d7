//! Totals of series that are only told what was added: the rules of [`Increment`] and [`Total`] rows.
//!
//! Delta temporality and counts derived from spans tell increments; cumulative points of several writers of one
//! series tell each writer's total. [`SeriesTotals`] makes of either the one cumulative series that a query wants.
//! It is a state machine without clock, lock or disk: the same rows in the same order give the same totals, bit by
//! bit, which is what lets an engine log rows and rebuild totals by replay.
//!
//! **Increments.** Of each writer the last [`INTERVALS_PER_WRITER`] intervals `(start, end]` are remembered, last by
//! their end. A row with exactly a remembered interval is a retry: *identical*, nothing is added. Any other overlap
//! with what the writer told before is refused; below the intervals that are no longer remembered everything counts
//! as told, since nobody knows any more. All else is added, before, between or behind what is remembered: a gap is no
//! fault.
//!
//! **Totals.** A writer's share is what its cumulative points add up to over its restarts. A point later than the
//! writer's last one adds what its value grew by; if the writer began anew since (a later start, or a value that
//! fell), it adds its whole value. A point with exactly a remembered start and time is *identical*; one that is not
//! later than the last, or that began before it, is refused as an overlap: what it says is in the later one.
//!
//! **Time.** A new total stands at the row's end or at the time of the newest total, whichever is later; so totals
//! never fall with time. Every writer's share stays in the total, however long it is silent.
//!
//! Floats and histograms are summed apart, so a series that changed its type loses neither sum.

use std::collections::BTreeMap;

use crate::batch::{AddedValue, Increment, Total};
use crate::histogram::{HistogramCounts, NativeHistogram, ResetHint};
use crate::storage::RejectReason;

/// Intervals remembered per writer: at one delta a second this is a minute of retries, at one a minute an hour.
pub const INTERVALS_PER_WRITER: usize = 64;

/// Writers of these numbers are one: what counts spans, whose requests of one millisecond take turns.
pub const TURNS: std::ops::Range<u64> = 0x6b79_6d6f_7370_0000..0x6b79_6d6f_7370_0100;

/// `(start, end]` of a row as it was sent, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    /// End, inclusive. First, because intervals are ordered by it.
    pub end_ms: i64,
    /// Start, exclusive.
    pub start_ms: i64,
}

/// The newest cumulative point of a writer.
#[derive(Debug, Clone)]
pub struct Share {
    /// When the writer began to count.
    pub start_ms: i64,
    /// When it told so.
    pub time_ms: i64,
    /// What it told.
    pub value: AddedValue,
}

/// What is known of one writer.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    /// Everything before this counts as told.
    pub told_until_ms: Option<i64>,
    /// What is remembered: rising, at most [`INTERVALS_PER_WRITER`].
    pub recent: Vec<Interval>,
    /// Of cumulative points.
    pub share: Option<Share>,
    /// Increments that were refused.
    pub overlaps: Overlaps,
}

/// Increments of a writer that overlapped what it told before, and were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overlaps {
    /// How many, since all that is remembered of the writer came after the last of them.
    pub count: u64,
    /// End of the writer's newest interval when the last of them came.
    pub newest_ms: i64,
}

/// The whole state of a series, to be kept and brought back.
#[derive(Debug, Clone, Default)]
pub struct TotalsState {
    /// Start of the first row ever added; the start timestamp of every total.
    pub began_ms: i64,
    /// Time of the newest total.
    pub newest_ms: Option<i64>,
    /// Rows of unknown writers that begin before this are refused or count as told: a table was forgotten here.
    pub forgotten_until_ms: Option<i64>,
    /// Sum of plain numbers.
    pub float: Option<f64>,
    /// Sum of distributions.
    pub histogram: Option<NativeHistogram>,
    /// By their number.
    pub writers: BTreeMap<u64, Writer>,
}

/// The running totals of one series. See the module.
#[derive(Debug, Clone, Default)]
pub struct SeriesTotals(TotalsState);

/// What became of a row.
#[derive(Debug, Clone)]
pub enum Taken {
    /// It was there already.
    Identical,
    /// It was added; this is the sample to write.
    Added(NewTotal),
}

/// A sample of the cumulative series.
#[derive(Debug, Clone)]
pub struct NewTotal {
    /// At or behind every total before.
    pub time_ms: i64,
    /// When the series began to count; 0 if its first row did not say.
    pub start_ms: i64,
    /// The total.
    pub value: AddedValue,
    /// Whether nothing was told of the time between the writer's newest interval and this one. No fault, but what was
    /// counted there, if anything was, is in no total.
    pub behind_gap: bool,
}

/// Why a row can be refused without knowing the state: an increment that ends before it starts, a number that is not
/// finite, a distribution that breaks a rule or is a staleness marker.
#[must_use]
pub fn fault_of_increment(increment: &Increment) -> Option<RejectReason> {
    if increment.end_ms < increment.start_ms {
        return Some(RejectReason::InvalidIncrement);
    }
    fault_of_value(&increment.value)
}

/// The same of a [`Total`] told at `time_ms`.
#[must_use]
pub fn fault_of_total(total: &Total, time_ms: i64) -> Option<RejectReason> {
    if time_ms < total.start_ms {
        return Some(RejectReason::InvalidIncrement);
    }
    fault_of_value(&total.value)
}

fn fault_of_value(value: &AddedValue) -> Option<RejectReason> {
    match value {
        AddedValue::Float(value) if !value.is_finite() => Some(RejectReason::InvalidIncrement),
        AddedValue::Histogram(value) if value.is_stale() => Some(RejectReason::InvalidIncrement),
        AddedValue::Histogram(value) if value.validate().is_err() => Some(RejectReason::InvalidHistogram),
        AddedValue::Float(_) | AddedValue::Histogram(_) => None,
    }
}

impl SeriesTotals {
    /// A series that goes on from a total of which only the sum is known: its writers were forgotten.
    #[must_use]
    pub fn resumed(newest: &NewTotal) -> SeriesTotals {
        let mut state = TotalsState {
            began_ms: newest.start_ms,
            newest_ms: Some(newest.time_ms),
            forgotten_until_ms: Some(newest.time_ms),
            ..TotalsState::default()
        };
        match &newest.value {
            AddedValue::Float(value) => state.float = Some(*value),
            AddedValue::Histogram(value) => state.histogram = Some(value.clone()),
        }
        SeriesTotals(state)
    }

    /// From a state that [`state`](Self::state) gave; `None` if it breaks an invariant.
    #[must_use]
    pub fn from_state(state: TotalsState) -> Option<SeriesTotals> {
        let is_sound = |writer: &Writer| {
            let rise = writer.recent.windows(2).all(|pair| pair[0] < pair[1]);
            let end = |interval: &Interval| interval.start_ms <= interval.end_ms;
            rise && writer.recent.len() <= INTERVALS_PER_WRITER && writer.recent.iter().all(end)
        };
        state.writers.values().all(is_sound).then_some(SeriesTotals(state))
    }

    /// The whole state.
    #[must_use]
    pub fn state(&self) -> &TotalsState {
        &self.0
    }

    /// Whether it has heard of a writer; one it has not takes memory.
    #[must_use]
    pub fn knows(&self, writer: u64) -> bool {
        self.0.writers.contains_key(&writer)
    }

    /// Writers it remembers.
    #[must_use]
    pub fn writers(&self) -> usize {
        self.0.writers.len()
    }

    /// Those of them that count for themselves: of [`TURNS`] there is one.
    #[must_use]
    pub fn independent_writers(&self) -> usize {
        let turns = self.0.writers.range(TURNS).count();
        self.0.writers.len() - turns.saturating_sub(1)
    }

    /// Times between neighbouring increments of a writer, of those remembered, that nothing was told of. No fault, but what was
    /// counted there, if anything was, is in no total. Cumulative totals have none, since each says it all.
    #[must_use]
    pub fn gaps(&self) -> usize {
        let of = |writer: &Writer| {
            // Of one without a start nothing is known but its moment.
            let is_gap = |pair: &&[Interval]| pair[0].end_ms < pair[1].start_ms && pair[1].start_ms < pair[1].end_ms;
            writer.recent.windows(2).filter(is_gap).count()
        };
        let counts = |(number, writer): &(&u64, &Writer)| writer.share.is_none() && !TURNS.contains(number);
        self.0.writers.iter().filter(counts).map(|(_, writer)| of(writer)).sum()
    }

    /// Increments refused as overlaps. They are forgotten once all that is remembered of their writer came after them.
    #[must_use]
    pub fn overlaps(&self) -> u64 {
        let counts = |(number, _): &(&u64, &Writer)| !TURNS.contains(number);
        self.0.writers.iter().filter(counts).fold(0, |sum, (_, writer)| sum.saturating_add(writer.overlaps.count))
    }

    /// Bytes it holds on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let share = |share: &Share| match &share.value {
            AddedValue::Histogram(value) => value.bytes(),
            AddedValue::Float(_) => 0,
        };
        let writer =
            |writer: &Writer| writer.recent.capacity() * size_of::<Interval>() + writer.share.as_ref().map_or(0, share);
        // A node of the tree is at least half full.
        self.0.writers.values().map(|w| 2 * (size_of::<Writer>() + 8) + writer(w)).sum::<usize>()
            + self.0.histogram.as_ref().map_or(0, NativeHistogram::bytes)
    }

    /// Adds an increment.
    ///
    /// # Errors
    /// The row is refused and no sum changes: [`RejectReason::OverlappingIncrement`], what [`fault_of_increment`]
    /// says, or [`RejectReason::InvalidIncrement`] where a distribution cannot be added to those before.
    pub fn add(&mut self, increment: &Increment) -> Result<Taken, RejectReason> {
        if let Some(reason) = fault_of_increment(increment) {
            return Err(reason);
        }
        let interval = Interval { start_ms: increment.start_ms, end_ms: increment.end_ms };
        match self.0.writers.get_mut(&increment.writer) {
            Some(writer) if writer.remembers(interval) => return Ok(Taken::Identical),
            Some(writer) if writer.overlaps(interval) => {
                writer.note_overlap();
                return Err(RejectReason::OverlappingIncrement);
            }
            None if self.0.forgotten_until_ms.is_some_and(|until| interval.first_ms() < until) => {
                return Err(RejectReason::OverlappingIncrement);
            }
            _ => {}
        }
        let sum = self.sum_with(&increment.value)?;
        let writer = self.0.writers.entry(increment.writer).or_default();
        let behind_gap = writer.recent.last().is_some_and(|newest| newest.end_ms < interval.first_ms());
        writer.remember(interval);
        Ok(Taken::Added(NewTotal { behind_gap, ..self.written(interval, sum) }))
    }

    /// Takes a writer's cumulative total told at `time_ms`.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn replace(&mut self, total: &Total, time_ms: i64) -> Result<Taken, RejectReason> {
        if let Some(reason) = fault_of_total(total, time_ms) {
            return Err(reason);
        }
        let interval = Interval { start_ms: total.start_ms, end_ms: time_ms };
        let growth = match self.0.writers.get(&total.writer) {
            Some(writer) if writer.remembers(interval) => return Ok(Taken::Identical),
            Some(writer) => writer.growth(total, time_ms)?,
            // Its share up to there is in the sum already; what it grew by since, nobody knows.
            None if self.0.forgotten_until_ms.is_some_and(|until| interval.first_ms() < until) => None,
            None => Some(total.value.clone()),
        };
        let sum = match &growth {
            // As it was told: adding what it grew by would round.
            Some(_) if self.goes_on_alone(total) => total.value.clone(),
            Some(growth) => self.sum_with(growth)?,
            None => self.sum_like(&total.value),
        };
        let sum = match sum {
            AddedValue::Histogram(value) => {
                AddedValue::Histogram(NativeHistogram { hint: ResetHint::Unknown, ..value })
            }
            sum => sum,
        };
        let writer = self.0.writers.entry(total.writer).or_default();
        writer.share = Some(Share { start_ms: total.start_ms, time_ms, value: total.value.clone() });
        writer.remember(interval);
        Ok(Taken::Added(self.written(interval, sum)))
    }

    /// Whether all there is to the sum is the share of this writer, which goes on counting since the same start.
    fn goes_on_alone(&self, total: &Total) -> bool {
        let Some(share) = self.0.writers.get(&total.writer).and_then(|writer| writer.share.as_ref()) else {
            return false;
        };
        if share.start_ms != total.start_ms {
            return false;
        }
        match (&share.value, &total.value) {
            (AddedValue::Float(before), AddedValue::Float(now)) => {
                now >= before && self.0.float.is_some_and(|sum| sum.to_bits() == before.to_bits())
            }
            (AddedValue::Histogram(before), AddedValue::Histogram(now)) => {
                let same = |sum: &NativeHistogram| {
                    sum.same_bits(&NativeHistogram { hint: ResetHint::Unknown, ..before.clone() })
                };
                !began_anew(now, before) && self.0.histogram.as_ref().is_some_and(same)
            }
            _ => false,
        }
    }

    /// The sum of the value's kind after adding it.
    fn sum_with(&self, value: &AddedValue) -> Result<AddedValue, RejectReason> {
        match value {
            AddedValue::Float(value) => {
                let sum = self.0.float.unwrap_or(0.0) + value;
                if sum.is_finite() { Ok(AddedValue::Float(sum)) } else { Err(RejectReason::InvalidIncrement) }
            }
            AddedValue::Histogram(value) => {
                let sum = match &self.0.histogram {
                    Some(before) => sum_of(before, value)?,
                    None => value.clone(),
                };
                // Whether a total fell is told by comparing; a hint would be wrong where samples are merged.
                Ok(AddedValue::Histogram(NativeHistogram { hint: ResetHint::Unknown, ..sum }))
            }
        }
    }

    /// The sum of the value's kind as it is.
    fn sum_like(&self, value: &AddedValue) -> AddedValue {
        match (value, &self.0.histogram) {
            (AddedValue::Float(_), _) => AddedValue::Float(self.0.float.unwrap_or(0.0)),
            (AddedValue::Histogram(_), Some(sum)) => AddedValue::Histogram(sum.clone()),
            (AddedValue::Histogram(value), None) => AddedValue::Histogram(value.clone()),
        }
    }

    fn written(&mut self, interval: Interval, sum: AddedValue) -> NewTotal {
        let time_ms = self.0.newest_ms.map_or(interval.end_ms, |newest| newest.max(interval.end_ms));
        if self.0.newest_ms.is_none() {
            self.0.began_ms = interval.start_ms;
        }
        self.0.newest_ms = Some(time_ms);
        match &sum {
            AddedValue::Float(value) => self.0.float = Some(*value),
            AddedValue::Histogram(value) => self.0.histogram = Some(value.clone()),
        }
        NewTotal { time_ms, start_ms: self.0.began_ms, value: sum, behind_gap: false }
    }
}

impl Interval {
    /// Where it begins: an interval without length is the moment of its end.
    fn first_ms(self) -> i64 {
        self.start_ms.min(self.end_ms.saturating_sub(1))
    }

    fn meets(self, other: Interval) -> bool {
        self.first_ms() < other.end_ms && other.first_ms() < self.end_ms
    }
}

impl Writer {
    fn remembers(&self, interval: Interval) -> bool {
        self.recent.binary_search(&interval).is_ok()
    }

    fn overlaps(&self, interval: Interval) -> bool {
        self.told_until_ms.is_some_and(|until| interval.first_ms() < until)
            || self.recent.iter().rev().any(|other| interval.meets(*other))
    }

    /// What a cumulative point adds: all of it when the writer began anew.
    fn growth(&self, total: &Total, time_ms: i64) -> Result<Option<AddedValue>, RejectReason> {
        let Some(share) = &self.share else {
            // Only increments came before: what they told is not told again.
            let told = self.recent.last().map(|interval| interval.end_ms).max(self.told_until_ms);
            let is_behind = told.is_none_or(|told| total.start_ms >= told);
            return if is_behind { Ok(Some(total.value.clone())) } else { Err(RejectReason::OverlappingIncrement) };
        };
        if time_ms <= share.time_ms || total.start_ms < share.start_ms {
            return Err(RejectReason::OverlappingIncrement);
        }
        if total.start_ms > share.start_ms {
            return Ok(Some(total.value.clone()));
        }
        Ok(Some(match (&share.value, &total.value) {
            (AddedValue::Float(before), AddedValue::Float(now)) if now >= before => AddedValue::Float(now - before),
            (AddedValue::Histogram(before), AddedValue::Histogram(now)) if !began_anew(now, before) => {
                AddedValue::Histogram(difference(now, before)?)
            }
            // It fell, or has another type: the writer began anew without saying so.
            (_, now) => now.clone(),
        }))
    }

    fn remember(&mut self, interval: Interval) {
        let at = self.recent.partition_point(|other| *other < interval);
        self.recent.insert(at, interval);
        if self.recent.len() > INTERVALS_PER_WRITER {
            let forgotten = self.recent.remove(0);
            self.told_until_ms = self.told_until_ms.max(Some(forgotten.end_ms));
            if self.told_until_ms >= Some(self.overlaps.newest_ms) {
                self.overlaps = Overlaps::default();
            }
        }
    }

    fn note_overlap(&mut self) {
        let newest = self.recent.last().map(|interval| interval.end_ms).max(self.told_until_ms);
        self.overlaps.count = self.overlaps.count.saturating_add(1);
        self.overlaps.newest_ms = newest.unwrap_or(i64::MIN);
    }
}

/// A hint that there was no reset is not believed: counts may not fall.
fn began_anew(now: &NativeHistogram, before: &NativeHistogram) -> bool {
    match now.hint {
        ResetHint::NotReset => NativeHistogram { hint: ResetHint::Unknown, ..now.clone() }.detect_reset(before),
        ResetHint::Unknown | ResetHint::Reset | ResetHint::Gauge => now.detect_reset(before),
    }
}

fn sum_of(before: &NativeHistogram, more: &NativeHistogram) -> Result<NativeHistogram, RejectReason> {
    let mut sum = NativeHistogram { hint: ResetHint::Unknown, ..before.clone() };
    let term = NativeHistogram { hint: ResetHint::Unknown, ..more.clone() };
    sum.add(&term).map_err(|_| RejectReason::InvalidIncrement)?;
    Ok(of_kind(sum, before, more))
}

fn difference(now: &NativeHistogram, before: &NativeHistogram) -> Result<NativeHistogram, RejectReason> {
    let mut rest = NativeHistogram { hint: ResetHint::Unknown, ..now.clone() };
    let term = NativeHistogram { hint: ResetHint::Unknown, ..before.clone() };
    rest.subtract(&term).map_err(|_| RejectReason::InvalidIncrement)?;
    Ok(of_kind(rest, now, before))
}

/// Arithmetic gives float counts; those of integers are integers again.
fn of_kind(result: NativeHistogram, a: &NativeHistogram, b: &NativeHistogram) -> NativeHistogram {
    let is_integer = |h: &NativeHistogram| matches!(h.counts, HistogramCounts::Integer(_));
    if is_integer(a) && is_integer(b) { result.to_integer().unwrap_or(result) } else { result }
}

#[cfg(test)]
mod tests;
