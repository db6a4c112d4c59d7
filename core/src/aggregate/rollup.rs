//! Rollups: the samples of a bucket of time as a few figures, from which functions over whole buckets can be told exactly.
//!
//! A bucket keeps the first and last sample with their times, count, sum, minimum, maximum, and what a counter lost to
//! resets; of native histograms first, last, count, their sum, and the sum of those before resets. Rollups are rolled up
//! again by the same rules, so an hour made of five minutes equals one made of samples (sums of floats to 1e-12 relative).
//!
//! A bucket is `(end − width, end]`, as windows of PromQL are: over a window that begins and ends between buckets each of them is
//! inside or outside. In any other window a bucket counts where its last sample lies, so windows that follow each other
//! count each bucket once.

use super::{CompensatedSum, Max, Min};
use crate::histogram::{HistogramSum, NativeHistogram};
use crate::storage::{ColumnValue, Columns, FloatRollup, HistogramRollup, RunKind, SelectHint, Tier};

/// Which figures of buckets something is told from, so that a store need not read the others; the last sample is always there.
///
/// A figure that is not in it means nothing in what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures(u8);

impl Figures {
    /// None: the last sample alone.
    pub const NONE: Figures = Figures(0);
    /// The first sample and its time.
    pub const FIRST: Figures = Figures(1);
    /// How many samples.
    pub const COUNT: Figures = Figures(2);
    /// Their sum.
    pub const SUM: Figures = Figures(4);
    /// The smallest.
    pub const MIN: Figures = Figures(8);
    /// The largest.
    pub const MAX: Figures = Figures(16);
    /// What a counter lost to resets.
    pub const LOST: Figures = Figures(32);
    /// All of them.
    pub const ALL: Figures = Figures(63);

    /// Those that a function over a range is told from; all if it is not said what rows are for.
    #[must_use]
    pub fn of(hint: &SelectHint) -> Figures {
        if *hint == SelectHint::default() {
            return Figures::ALL;
        }
        match hint.function {
            // An instant selector is the last sample, whatever stands around it.
            _ if hint.range_ms == 0 => Figures::NONE,
            // Of histograms the sum tells the layout of what is between.
            Some("rate" | "increase") => Figures::FIRST.and(Figures::COUNT).and(Figures::SUM).and(Figures::LOST),
            Some("delta") => Figures::FIRST.and(Figures::COUNT),
            Some("sum_over_time") => Figures::SUM,
            Some("avg_over_time") => Figures::SUM.and(Figures::COUNT),
            Some("count_over_time") => Figures::COUNT,
            Some("min_over_time") => Figures::MIN,
            Some("max_over_time") => Figures::MAX,
            Some("first_over_time" | "ts_of_first_over_time") => Figures::FIRST,
            Some("quantile_over_time") => Figures::MIN.and(Figures::MAX).and(Figures::COUNT),
            // From the last sample of each bucket.
            Some(_) => Figures::NONE,
            None => Figures::ALL,
        }
    }

    const fn and(self, other: Figures) -> Figures {
        Figures(self.0 | other.0)
    }

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn has(self, other: Figures) -> bool {
        self.0 & other.0 == other.0
    }

    /// Takes what is not in it out of rows, as a store that did not read it.
    pub fn keep(self, columns: &mut Columns) {
        let lasts =
            columns.iter().filter(|(_, value)| matches!(value, ColumnValue::Float(_))).map(|(time_ms, _)| time_ms);
        let lasts: Vec<i64> = lasts.collect();
        for (of, last_ms) in columns.rollups.floats.iter_mut().zip(lasts) {
            let unread = |figure: Figures, value: f64| if self.has(figure) { value } else { f64::NAN };
            *of = FloatRollup {
                first_ms: if self.has(Figures::FIRST) { of.first_ms } else { last_ms },
                first: unread(Figures::FIRST, of.first),
                count: unread(Figures::COUNT, of.count),
                sum: unread(Figures::SUM, of.sum),
                min: unread(Figures::MIN, of.min),
                max: unread(Figures::MAX, of.max),
                lost: unread(Figures::LOST, of.lost),
            };
        }
        for of in &mut columns.rollups.histograms {
            if !self.has(Figures::FIRST) {
                of.first = NativeHistogram::default();
            }
            if !self.has(Figures::COUNT) {
                of.count = f64::NAN;
            }
            of.sum = of.sum.take().filter(|_| self.has(Figures::SUM));
            of.lost = of.lost.take().filter(|_| self.has(Figures::LOST));
        }
    }
}

/// The floats of the bucket at hand.
struct Floats {
    last_ms: i64,
    last: f64,
    /// Without sum, minimum and maximum, which stand below.
    of: FloatRollup,
    sum: CompensatedSum,
    min: Min,
    max: Max,
}

impl Floats {
    fn new(last_ms: i64, last: f64, of: FloatRollup) -> Floats {
        let (mut min, mut max) = (Min::default(), Max::default());
        min.update(of.min);
        max.update(of.max);
        Floats { last_ms, last, of, sum: CompensatedSum { sum: of.sum, compensation: 0.0 }, min, max }
    }

    fn merge(&mut self, last_ms: i64, last: f64, later: &FloatRollup) {
        if later.first < self.last {
            self.of.lost += self.last;
        }
        self.of.lost += later.lost;
        self.of.count += later.count;
        self.sum.add(later.sum);
        self.min.update(later.min);
        self.max.update(later.max);
        (self.last_ms, self.last) = (last_ms, last);
    }

    fn finish(&self) -> FloatRollup {
        let (min, max) = (self.min.finish().unwrap_or(f64::NAN), self.max.finish().unwrap_or(f64::NAN));
        FloatRollup { sum: self.sum.total(), min, max, ..self.of }
    }
}

/// The histograms of the bucket at hand.
struct Histograms {
    last_ms: i64,
    last: NativeHistogram,
    /// Without the sums, which stand below.
    of: HistogramRollup,
    sum: Option<HistogramSum>,
    lost: Option<HistogramSum>,
}

impl Histograms {
    fn new(last_ms: i64, last: &NativeHistogram, of: HistogramRollup) -> Histograms {
        let sum = of.sum.as_ref().map(HistogramSum::new);
        let lost = of.lost.as_ref().map(HistogramSum::new);
        Histograms { last_ms, last: last.clone(), of, sum, lost }
    }

    fn merge(&mut self, last_ms: i64, last: &NativeHistogram, later: &HistogramRollup) {
        if later.first.detect_reset(&self.last) {
            let before = self.last.clone();
            self.lose(&before);
        }
        if let Some(lost) = &later.lost {
            self.lose(lost);
        }
        self.of.count += later.count;
        self.sum = match (self.sum.take(), &later.sum) {
            (Some(mut sum), Some(later)) => sum.add(later).is_ok().then_some(sum),
            _ => None,
        };
        (self.last_ms, self.last) = (last_ms, last.clone());
    }

    fn lose(&mut self, before: &NativeHistogram) {
        match &mut self.lost {
            // Of kinds that cannot be added there is no sum, which says so.
            Some(lost) => {
                let _ = lost.add(before);
            }
            None => self.lost = Some(HistogramSum::new(before)),
        }
    }

    fn finish(self) -> (NativeHistogram, HistogramRollup) {
        let value = |sum: Option<HistogramSum>| sum.map(|sum| sum.value());
        // One sample is its own sum, with the bits it has.
        let sum = if self.of.count > 1.0 { value(self.sum) } else { self.of.sum };
        // Where kinds met there is no rate either.
        let lost = if sum.is_some() { value(self.lost) } else { None };
        (self.last, HistogramRollup { sum, lost, ..self.of })
    }
}

/// Rolls rows up, be they samples or rollups of a finer tier, into buckets of `tier`, and appends those to `into`, whose rows must
/// lie before them.
///
/// O(rows). Start timestamps are left out.
pub fn roll_up(rows: &Columns, tier: Tier, into: &mut Columns) {
    let (mut end_ms, mut floats, mut histograms) = (None, None::<Floats>, None::<Histograms>);
    let mut stale_ms = None;
    let (mut float, mut histogram) = (0, 0);
    for (time_ms, value) in rows.iter() {
        let end = tier.bucket_end_ms(time_ms);
        if end_ms != Some(end) {
            push_bucket(tier, floats.take(), histograms.take(), stale_ms.take(), into);
            end_ms = Some(end);
        }
        match value {
            ColumnValue::Float(value) => {
                let of = rows.rollups.floats.get(float).copied().unwrap_or_else(|| FloatRollup::of(time_ms, value));
                float += 1;
                match &mut floats {
                    Some(bucket) => bucket.merge(time_ms, value, &of),
                    None => floats = Some(Floats::new(time_ms, value, of)),
                }
            }
            ColumnValue::Histogram(value) => {
                let of = rows.rollups.histograms.get(histogram).cloned();
                let of = of.unwrap_or_else(|| HistogramRollup::of(time_ms, value));
                histogram += 1;
                match &mut histograms {
                    Some(bucket) => bucket.merge(time_ms, value, &of),
                    None => histograms = Some(Histograms::new(time_ms, value, of)),
                }
            }
            ColumnValue::Stale => stale_ms = Some(time_ms),
        }
    }
    push_bucket(tier, floats, histograms, stale_ms, into);
}

fn push_bucket(
    tier: Tier,
    floats: Option<Floats>,
    histograms: Option<Histograms>,
    stale_ms: Option<i64>,
    into: &mut Columns,
) {
    let before = into.times.len();
    let newest =
        [floats.as_ref().map(|f| f.last_ms), histograms.as_ref().map(|h| h.last_ms)].into_iter().max().flatten();
    let histograms_first = match (&floats, &histograms) {
        (Some(floats), Some(histograms)) => histograms.last_ms < floats.last_ms,
        _ => false,
    };
    let (mut floats, mut histograms) = (floats, histograms);
    for is_histogram in [histograms_first, !histograms_first] {
        if is_histogram {
            if let Some(bucket) = histograms.take() {
                let last_ms = bucket.last_ms;
                let (last, of) = bucket.finish();
                into.push(last_ms, 0, ColumnValue::Histogram(&last));
                into.rollups.histograms.push(of);
            }
        } else if let Some(bucket) = floats.take() {
            into.push(bucket.last_ms, 0, ColumnValue::Float(bucket.last));
            into.rollups.floats.push(bucket.finish());
        }
    }
    if let Some(stale_ms) = stale_ms.filter(|stale_ms| newest.is_none_or(|newest| newest < *stale_ms)) {
        into.push(stale_ms, 0, ColumnValue::Stale);
    }
    into.rollups.add_rows(tier, into.times.len() - before);
    if into.tier.width_ms() < tier.width_ms() {
        into.tier = tier;
    }
}

/// Appends rows in `(start_ms, end_ms]` to `into`, whose rows must lie before them: rollups as they are, and samples as rows that
/// stand for themselves.
pub fn append_rows(rows: &Columns, start_ms: i64, end_ms: i64, into: &mut Columns) {
    let (mut float, mut histogram, mut at, mut of_tier) = (0, 0, 0, rows.rollups.tiers.iter().copied());
    let (mut tier, mut left) = of_tier.next().unwrap_or((Tier::Raw, usize::MAX));
    let mut runs = rows.runs.iter().copied();
    let (mut kind, mut in_run) = (RunKind::Stale, 0);
    for &time_ms in &rows.times {
        while left == 0 {
            (tier, left) = of_tier.next().unwrap_or((Tier::Raw, usize::MAX));
        }
        left -= 1;
        while in_run == 0 {
            let Some(run) = runs.next() else { return };
            (kind, in_run) = (run.kind, run.len);
        }
        in_run -= 1;
        let is_inside = start_ms < time_ms && time_ms <= end_ms;
        match kind {
            RunKind::Float => {
                if is_inside {
                    let (value, of) = (rows.floats[float], rows.rollups.floats.get(float));
                    into.push(time_ms, 0, ColumnValue::Float(value));
                    into.rollups.floats.push(of.copied().unwrap_or_else(|| FloatRollup::of(time_ms, value)));
                }
                float += 1;
            }
            RunKind::Histogram => {
                if is_inside {
                    let (value, of) = (&rows.histograms[histogram], rows.rollups.histograms.get(histogram));
                    into.push(time_ms, 0, ColumnValue::Histogram(value));
                    let of = of.cloned().unwrap_or_else(|| HistogramRollup::of(time_ms, value));
                    into.rollups.histograms.push(of);
                }
                histogram += 1;
            }
            RunKind::Stale => {
                if is_inside {
                    into.push(time_ms, 0, ColumnValue::Stale);
                }
            }
        }
        if is_inside {
            into.rollups.add_rows(tier, 1);
            if into.tier.width_ms() < tier.width_ms() {
                into.tier = tier;
            }
        }
        at += 1;
    }
    debug_assert_eq!(at, rows.times.len(), "runs add up");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn columns(samples: &[(i64, Option<f64>)]) -> Columns {
        let mut columns = Columns::default();
        for (time, value) in samples {
            columns.push(*time, 0, value.map_or(ColumnValue::Stale, ColumnValue::Float));
        }
        columns
    }

    #[test]
    fn a_bucket_is_open_to_the_left_and_keeps_what_a_counter_lost() {
        let mut found = Columns::default();
        let samples = [(0, 9.0), (1, 5.0), (150_000, 7.0), (299_999, 2.0), (300_000, 3.0), (300_001, 8.0)];
        let samples: Vec<_> =
            samples.iter().map(|(time, value)| (*time, Some(*value))).chain([(400_000, None)]).collect();
        roll_up(&columns(&samples), Tier::FiveMinutes, &mut found);
        assert_eq!(found.times, [0, 300_000, 300_001, 400_000]);
        assert_eq!(found.floats, [9.0, 3.0, 8.0]);
        let middle = FloatRollup { first_ms: 1, first: 5.0, count: 4.0, sum: 17.0, min: 2.0, max: 7.0, lost: 7.0 };
        assert_eq!(found.rollups.floats[1], middle);
        assert_eq!(found.rollups.tiers, [(Tier::FiveMinutes, 4)]);
        assert_eq!(found.tier, Tier::FiveMinutes);
        assert_eq!(found.runs.len(), 2, "the marker is the newest of its bucket: {:?}", found.runs);
    }

    #[test]
    fn buckets_of_times_before_the_epoch_end_at_multiples_too() {
        let ends = [-300_001, -300_000, -1, 0, 1, 300_000].map(|time| Tier::FiveMinutes.bucket_end_ms(time));
        assert_eq!(ends, [-300_000, -300_000, 0, 0, 300_000, 300_000]);
        assert_eq!(Tier::OneHour.bucket_end_ms(i64::MAX), i64::MAX);
    }

    proptest! {
        #[test]
        fn an_hour_of_five_minutes_equals_an_hour_of_samples(
            steps in prop::collection::vec((1i64..200_000, prop::option::weighted(0.9, -100i32..100)), 1..300)
        ) {
            let mut at = 1_700_000_000_000;
            let samples: Vec<(i64, Option<f64>)> = steps.iter().map(|(step, value)| {
                at += step;
                (at, value.map(f64::from))
            }).collect();
            let raw = columns(&samples);
            let (mut fine, mut of_fine, mut of_raw) = (Columns::default(), Columns::default(), Columns::default());
            roll_up(&raw, Tier::FiveMinutes, &mut fine);
            roll_up(&fine, Tier::OneHour, &mut of_fine);
            roll_up(&raw, Tier::OneHour, &mut of_raw);
            prop_assert_eq!(&of_fine.times, &of_raw.times);
            prop_assert_eq!(&of_fine.runs, &of_raw.runs);
            prop_assert_eq!(&of_fine.floats, &of_raw.floats);
            prop_assert_eq!(&of_fine.rollups, &of_raw.rollups);
            let counted: f64 = of_raw.rollups.floats.iter().map(|f| f.count).sum();
            prop_assert_eq!(counted as usize, samples.iter().filter(|s| s.1.is_some()).count());
            // Cutting and joining changes nothing.
            let mut joined = Columns::default();
            append_rows(&fine, i64::MIN, samples[samples.len() / 2].0, &mut joined);
            append_rows(&fine, samples[samples.len() / 2].0, i64::MAX, &mut joined);
            prop_assert_eq!(&joined.times, &fine.times);
            prop_assert_eq!(&joined.rollups, &fine.rollups);
        }
    }
}
