//! Warnings and infos, in Prometheus' words and with its positions.
//!
//! A note about an expression ends in `(line:column)` of its first byte. Texts are upstream's, 3.14.

use std::collections::HashMap;

use kymo_core::query::Annotations;
use kymo_core::storage::{SharedSeries, Tier};
use kymo_core::text::{FloatText, write_quoted, write_rfc3339};

use super::column::StepSet;
use crate::functions::histogram::Remarks;
use crate::parser::Span;

/// What was noted while a query ran.
#[derive(Debug)]
pub(crate) struct Notes<'a> {
    query: &'a str,
    warnings: Said,
    infos: Said,
    /// Of notes that tell at which steps they hold.
    placed: Vec<Placed>,
    /// Whether any does not.
    any_unplaced: bool,
    forced: Vec<ForcedMonotonicity>,
    said: u64,
}

/// What was noted somewhere else.
#[derive(Debug)]
pub(crate) struct Noted {
    warnings: Said,
    infos: Said,
    placed: Vec<Placed>,
    any_unplaced: bool,
    said: u64,
}

/// An info, and the steps of the query's grid at which it is true.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placed {
    pub(crate) text: String,
    pub(crate) steps: StepSet,
}

/// Texts in the order first said, each with the place it was said of last.
#[derive(Debug, Default)]
struct Said {
    /// A parameter that is wrong at every step must not cost the square of steps.
    at: HashMap<String, usize>,
    notes: Vec<(String, Span)>,
}

impl Said {
    fn add(&mut self, text: String, span: Span) {
        match self.at.get(&text) {
            Some(&at) => self.notes[at].1 = span,
            None => {
                self.at.insert(text.clone(), self.notes.len());
                self.notes.push((text, span));
            }
        }
    }
}

/// A note about one expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Note<'n> {
    InvalidQuantile(f64),
    InvalidRatio {
        ratio: f64,
        capped: f64,
    },
    BadBucketLabel {
        metric: &'n str,
        value: &'n str,
    },
    MixedFloatsHistograms {
        metric: &'n str,
    },
    MixedFloatsHistogramsAggregation,
    MixedClassicNative {
        metric: &'n str,
    },
    SortInRangeQuery,
    /// Series of the selector are sums of what several writers told. No text of upstream's.
    SharedSeries(SharedSeries),
    /// Writers of the selector's series left so many gaps. No text of upstream's.
    Gaps(usize),
    /// So many increments of the selector's series were refused. No text of upstream's.
    Overlaps(u64),
    StartTimeOverlap {
        metric: &'n str,
    },
    /// `kind`: the label of its type, where that decides instead of the name.
    PossibleNonCounter {
        metric: &'n str,
        kind: Option<&'n str>,
    },
    IncompatibleTypes {
        lhs: &'n str,
        op: &'n str,
        rhs: &'n str,
    },
    IncompatibleBuckets {
        op: &'n str,
    },
    IgnoredInAggregation {
        op: &'n str,
    },
    IgnoredInMixedRange {
        metric: &'n str,
    },
    NotCounter {
        metric: &'n str,
    },
    NotGauge {
        metric: &'n str,
    },
    MixedExponentialCustom {
        metric: &'n str,
    },
    CounterResetCollision {
        operation: &'n str,
    },
    ReconciledBuckets {
        operation: &'n str,
    },
    QuantileOfNan {
        metric: &'n str,
    },
    QuantileSkewedByNan {
        metric: &'n str,
    },
    FractionWithNan {
        metric: &'n str,
    },
    /// Rollups answered, up to the end of a bucket.
    Rollups {
        tier: Tier,
        until_ms: i64,
        how: RolledUp,
    },
}

/// How exact an answer from rollups is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RolledUp {
    /// As samples would have it.
    Exact,
    /// A selector between the ends of buckets.
    Held,
    /// Windows that cut buckets.
    Unaligned,
    /// Off by this at the most, if windows cut no buckets.
    Bounded(f64),
    /// A function that figures of buckets say nothing of.
    FromLast(&'static str),
}

/// Classic buckets that were made to rise, gathered over steps and series.
#[derive(Debug, Clone, PartialEq)]
struct ForcedMonotonicity {
    text: String,
    place: String,
    fix: BucketFix,
    count: u64,
    min_ms: i64,
    max_ms: i64,
}

/// Where buckets fell and by how much at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BucketFix {
    pub(crate) min_bound: f64,
    pub(crate) max_bound: f64,
    pub(crate) max_diff: f64,
}

impl<'a> Notes<'a> {
    pub(crate) fn new(query: &'a str) -> Notes<'a> {
        Notes {
            query,
            warnings: Said::default(),
            infos: Said::default(),
            placed: Vec::new(),
            any_unplaced: false,
            forced: Vec::new(),
            said: 0,
        }
    }

    /// How often anything was said.
    pub(crate) fn said(&self) -> u64 {
        self.said
    }

    /// Adds an info that is true because of samples at these steps of the query's own grid.
    pub(crate) fn add_info_at(&mut self, note: Note<'_>, span: Span, steps: &StepSet) {
        self.said += 1;
        let (_, said) = note.text();
        let text = format!("PromQL info: {said} ({})", self.place(span));
        self.infos.add(said, span);
        match self.placed.iter_mut().find(|placed| placed.text == text) {
            Some(known) => known.steps.union_with(steps),
            None => self.placed.push(Placed { text, steps: steps.clone() }),
        }
    }

    /// Adds a note about the expression at `span`. Of one text the last place is told, as upstream does.
    pub(crate) fn add(&mut self, note: Note<'_>, span: Span) {
        self.said += 1;
        self.any_unplaced = true;
        match note.text() {
            (Level::Warning, text) => self.warnings.add(text, span),
            (Level::Info, text) => self.infos.add(text, span),
        }
    }

    /// Adds what was remarked while computing with histograms of `metric`.
    pub(crate) fn remarks(&mut self, remarks: Remarks, metric: &str, span: Span) {
        let rows = [
            (remarks.not_counter, Note::NotCounter { metric }),
            (remarks.not_gauge, Note::NotGauge { metric }),
            (remarks.mixed_buckets, Note::MixedExponentialCustom { metric }),
            (remarks.reconciled_add, Note::ReconciledBuckets { operation: "addition" }),
            (remarks.reconciled_sub, Note::ReconciledBuckets { operation: "subtraction" }),
            (remarks.reconciled_aggregate, Note::ReconciledBuckets { operation: "aggregation" }),
            (remarks.collision, Note::CounterResetCollision { operation: "aggregation" }),
        ];
        for (_, note) in rows.into_iter().filter(|(said, _)| *said) {
            self.add(note, span);
        }
    }

    /// Adds a note about buckets of `metric` that fell at `time_ms`.
    pub(crate) fn forced_monotonicity(&mut self, metric: &str, time_ms: i64, fix: BucketFix, span: Span) {
        const TEXT: &str = "input to histogram_quantile needed to be fixed for monotonicity (see \
             https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        self.said += 1;
        let (text, place) = (for_metric(TEXT, metric), self.place(span));
        match self.forced.iter_mut().find(|known| known.text == text) {
            Some(known) if known.place != place => {
                *known = ForcedMonotonicity { text, place, fix, count: 1, min_ms: time_ms, max_ms: time_ms };
            }
            Some(known) => {
                known.count += 1;
                known.min_ms = known.min_ms.min(time_ms);
                known.max_ms = known.max_ms.max(time_ms);
                known.fix.min_bound = known.fix.min_bound.min(fix.min_bound);
                known.fix.max_bound = known.fix.max_bound.max(fix.max_bound);
                known.fix.max_diff = known.fix.max_diff.max(fix.max_diff);
            }
            None => {
                self.forced.push(ForcedMonotonicity { text, place, fix, count: 1, min_ms: time_ms, max_ms: time_ms });
            }
        }
    }

    /// Takes out what was noted of one series, for [`append`](Self::append); fallen buckets are of several.
    pub(crate) fn take(&mut self) -> Option<Box<Noted>> {
        if self.said == 0 {
            return None;
        }
        let Notes { warnings, infos, placed, any_unplaced, said, .. } = std::mem::replace(self, Notes::new(self.query));
        Some(Box::new(Noted { warnings, infos, placed, any_unplaced, said }))
    }

    /// Adds what was noted elsewhere, as if it were noted now.
    pub(crate) fn append(&mut self, more: Noted) {
        more.warnings.notes.into_iter().for_each(|(text, span)| self.warnings.add(text, span));
        more.infos.notes.into_iter().for_each(|(text, span)| self.infos.add(text, span));
        for placed in more.placed {
            match self.placed.iter_mut().find(|known| known.text == placed.text) {
                Some(known) => known.steps.union_with(&placed.steps),
                None => self.placed.push(placed),
            }
        }
        self.any_unplaced |= more.any_unplaced;
        self.said += more.said;
    }

    /// Says that the answer depends on the range as a whole, not on each step alone.
    pub(crate) fn depends_on_range(&mut self) {
        self.any_unplaced = true;
    }

    /// The notes that hold at some steps; `None` if there are others.
    pub(crate) fn by_step(&self) -> Option<Vec<Placed>> {
        (!self.any_unplaced && self.forced.is_empty()).then(|| self.placed.clone())
    }

    /// Everything noted.
    pub(crate) fn finish(self) -> Annotations {
        let mut found = Annotations::default();
        for (text, span) in &self.warnings.notes {
            found.warnings.push(format!("PromQL warning: {text} ({})", self.place(*span)));
        }
        for (text, span) in &self.infos.notes {
            found.infos.push(format!("PromQL info: {text} ({})", self.place(*span)));
        }
        found.infos.extend(self.forced.iter().map(ForcedMonotonicity::render));
        found
    }

    fn place(&self, span: Span) -> String {
        let before = &self.query.as_bytes()[..self.query.len().min(span.start as usize)];
        let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|&&b| b != b'\n').count();
        format!("{line}:{column}")
    }
}

impl ForcedMonotonicity {
    fn render(&self) -> String {
        let mut out = format!(
            "PromQL info: {}, from buckets {} to {}, with a max diff of {}, over {} samples from ",
            self.text,
            general(self.fix.min_bound),
            general(self.fix.max_bound),
            two_digits(self.fix.max_diff),
            self.count,
        );
        // Whole seconds, as upstream prints them.
        write_rfc3339(&mut out, self.min_ms.div_euclid(1000) * 1000);
        out.push_str(" to ");
        write_rfc3339(&mut out, self.max_ms.div_euclid(1000) * 1000);
        out.push_str(&format!(" ({})", self.place));
        out
    }
}

enum Level {
    Warning,
    Info,
}

impl Note<'_> {
    fn text(self) -> (Level, String) {
        use Level::{Info, Warning};
        match self {
            Note::InvalidQuantile(q) => {
                (Warning, format!("quantile value should be between 0 and 1, got {}", general(q)))
            }
            Note::InvalidRatio { ratio, capped } => (
                Warning,
                format!(
                    "ratio value should be between -1 and 1, got {}, capping to {}",
                    general(ratio),
                    general(capped)
                ),
            ),
            Note::BadBucketLabel { metric, value } => {
                let text = format!("bucket label \"le\" is missing or has a malformed value of {}", quoted(value));
                (Warning, for_metric(&text, metric))
            }
            Note::MixedFloatsHistograms { metric } => {
                (Warning, format!("encountered a mix of histograms and floats for metric name {}", quoted(metric)))
            }
            Note::MixedFloatsHistogramsAggregation => {
                (Warning, "encountered a mix of histograms and floats for aggregation".to_owned())
            }
            Note::MixedClassicNative { metric } => {
                (Warning, for_metric("vector contains a mix of classic and native histograms", metric))
            }
            Note::SortInRangeQuery => {
                (Warning, "sort is ineffective for range queries since results are always ordered by labels".to_owned())
            }
            Note::Gaps(gaps) => {
                let text = format!(
                    "{gaps} gaps between increments that writers of these series told lately; what was counted in a gap, if anything \
                     was, is missing from the sums"
                );
                (Info, text)
            }
            Note::Overlaps(overlaps) => {
                let text = format!(
                    "{overlaps} increments of these series were refused lately, since they overlapped what their writers had told \
                     before; what only they told is missing from the sums"
                );
                (Info, text)
            }
            Note::SharedSeries(SharedSeries { series, writers, .. }) => {
                let text = format!(
                    "{series} series are each the sum of several writers that share their labels, up to {writers}; \
                     every writer is added up by itself, and what it told twice or over an overlap counts once"
                );
                (Info, text)
            }
            Note::StartTimeOverlap { metric } => {
                (Warning, for_metric("start timestamps overlap with earlier samples", metric))
            }
            Note::PossibleNonCounter { metric, kind } => {
                let why = match kind {
                    None => "name does not end in _total/_sum/_count/_bucket".to_owned(),
                    Some(kind) => {
                        format!("__type__ label is not set to \"counter\" or \"histogram\", got {}", quoted(kind))
                    }
                };
                (Info, format!("metric might not be a counter, {why}: {}", quoted(metric)))
            }
            Note::IncompatibleTypes { lhs, op, rhs } => (
                Info,
                format!("incompatible sample types encountered for binary operator {}: {lhs} {op} {rhs}", quoted(op)),
            ),
            Note::IncompatibleBuckets { op } => {
                (Warning, format!("incompatible bucket layout encountered for binary operator {op}"))
            }
            Note::IgnoredInAggregation { op } => (Info, format!("ignored histogram in {op} aggregation")),
            Note::IgnoredInMixedRange { metric } => (
                Info,
                format!(
                    "ignored histograms in a range containing both floats and histograms for metric name {}",
                    quoted(metric)
                ),
            ),
            Note::NotCounter { metric } => {
                (Warning, format!("this native histogram metric is not a counter: {}", quoted(metric)))
            }
            Note::NotGauge { metric } => {
                (Warning, format!("this native histogram metric is not a gauge: {}", quoted(metric)))
            }
            Note::MixedExponentialCustom { metric } => (
                Warning,
                format!(
                    "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                    quoted(metric)
                ),
            ),
            Note::CounterResetCollision { operation } => {
                (Warning, format!("conflicting counter resets during histogram {operation}"))
            }
            Note::ReconciledBuckets { operation } => {
                (Info, format!("mismatched custom buckets were reconciled during {operation}"))
            }
            Note::QuantileOfNan { metric } => {
                (Info, for_metric("input to histogram_quantile has NaN observations, result is NaN", metric))
            }
            Note::QuantileSkewedByNan { metric } => {
                let text = "input to histogram_quantile has NaN observations, result is skewed higher";
                (Info, for_metric(text, metric))
            }
            Note::FractionWithNan { metric } => {
                let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
                (Info, for_metric(text, metric))
            }
            Note::Rollups { tier, until_ms, how } => {
                let mut text = format!("rollups of {tier} answer up to ");
                write_rfc3339(&mut text, until_ms);
                text.push_str(&match how {
                    RolledUp::Exact => ", exactly".to_owned(),
                    RolledUp::Held => {
                        format!(": between multiples of {tier} a value holds as it was at the last of them")
                    }
                    RolledUp::Unaligned => {
                        format!(": ranges and times are no multiples of {tier}, so a bucket counts where its last sample lies")
                    }
                    RolledUp::Bounded(error) => format!(": the quantile is off by at most {}", general(error)),
                    RolledUp::FromLast(function) => {
                        format!(": {function}() has no exact form there and takes the last sample of each bucket")
                    }
                });
                (Info, text)
            }
        }
    }
}

fn for_metric(text: &str, metric: &str) -> String {
    if metric.is_empty() { text.to_owned() } else { format!("{text} for metric name {}", quoted(metric)) }
}

/// Go's `%q`.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_quoted(&mut out, text);
    out
}

/// Go's `%g` and `%v`.
pub(crate) fn general(value: f64) -> String {
    FloatText::general(value).as_str().to_owned()
}

/// Go's `%.2g`.
fn two_digits(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return general(value);
    }
    // Rounding to two digits first leaves a number whose shortest form is the one wanted.
    let rounded: f64 = format!("{value:.1e}").parse().unwrap_or(value);
    let exponent = rounded.abs().log10().floor();
    if (-4.0..2.0).contains(&exponent) {
        return general(rounded);
    }
    let text = format!("{rounded:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_stands_once_with_the_line_and_column_it_was_last_said_of() {
        let mut notes = Notes::new("sum(\n  up)");
        for _ in 0..2 {
            notes.add(Note::IgnoredInAggregation { op: "max" }, Span::new(7, 9));
        }
        notes.add(Note::InvalidQuantile(1.5), Span::new(7, 9));
        notes.add(Note::InvalidQuantile(1.5), Span::new(0, 3));
        let found = notes.finish();
        assert_eq!(found.infos, ["PromQL info: ignored histogram in max aggregation (2:3)"]);
        assert_eq!(found.warnings, ["PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:1)"]);
    }

    #[test]
    fn forced_monotonicity_is_one_note_per_metric_with_its_extent() {
        let mut notes = Notes::new("lorem ipsum");
        for (ms, min_bound, max_bound, max_diff) in [
            (1_735_084_800_000, 5.0, 50.0, 5.5),
            (1_703_462_400_000, 10.0, 100.0, 10.0),
            (1_733_011_200_000, 2.5, 75.0, 7.5),
        ] {
            notes.forced_monotonicity("series_1", ms, BucketFix { min_bound, max_bound, max_diff }, Span::new(3, 4));
        }
        assert_eq!(
            notes.finish().infos,
            ["PromQL info: input to histogram_quantile needed to be fixed for monotonicity \
              (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name \
              \"series_1\", from buckets 2.5 to 100, with a max diff of 10, over 3 samples from 2023-12-25T00:00:00Z to \
              2024-12-25T00:00:00Z (1:4)"]
        );
    }

    #[test]
    fn two_digits_are_those_of_go() {
        let rows =
            [(10.0, "10"), (5.25, "5.2"), (123.0, "1.2e+02"), (0.000_012, "1.2e-05"), (0.0, "0"), (99.9, "1e+02")];
        for (value, text) in rows {
            assert_eq!(two_digits(value), text);
        }
    }
}
