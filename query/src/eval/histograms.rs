//! `histogram_quantile`, `histogram_fraction` and their like over vectors.
//!
//! Series that differ only in `le` are one classic histogram; which ones belong together is found
//! once, the buckets of a step are gathered per step. A native histogram is a histogram by itself.

use std::collections::HashMap;

use kymo_core::histogram::NanEffect;
use kymo_core::query::{Grid, QueryError};
use kymo_core::text::{FloatText, parse_float};
use kymo_core::{Labels, LabelsBuilder, NativeHistogram};

use super::Evaluator;
use super::column::{Column, Scalars, Series, StepSet, Vector};
use super::labels::NameRemoval;
use super::meter::Pace;
use super::notes::Note;
use crate::functions::buckets::{self, Bucket};
use crate::parser::{Call, NodeId, Span};

/// The label with a bucket's upper bound.
const BUCKET_LABEL: &str = "le";

/// One classic histogram: its labels without `le`, and its buckets' bounds and series.
struct Classic {
    labels: Labels,
    drop_name: bool,
    buckets: Vec<(f64, usize)>,
}

/// Steps at which histograms are left out, per classic and per series.
struct Conflicts {
    classics: Vec<Option<StepSet>>,
    natives: Vec<Option<StepSet>>,
}

/// A question on its way through all histograms.
struct Inquiry {
    question: Question,
    /// The label that tells the quantile, of `histogram_quantiles`.
    label: Option<String>,
    grid: Grid,
    /// What notes on native and on classic histograms point at.
    native_span: Span,
    classic_span: Span,
}

/// What is asked of each histogram.
enum Question {
    Quantile(Scalars),
    Fraction(Scalars, Scalars),
}

impl Evaluator<'_> {
    /// Evaluates `histogram_quantile`, `histogram_fraction` or `histogram_quantiles`.
    pub(super) fn histograms(&mut self, id: NodeId, name: &str, call: &Call) -> Result<Vector, QueryError> {
        let args = &call.args;
        let (vector_at, quantiles) = match name {
            "histogram_quantile" => (1, &args[..1]),
            "histogram_fraction" => (2, &args[..0]),
            _ => (0, &args[2..]),
        };
        let label = (vector_at == 0).then(|| self.string(args[1]).to_owned());
        let mut questions = Vec::new();
        for &arg in quantiles {
            let q = self.take_scalars(arg);
            self.note_quantiles(&q, self.span(arg));
            questions.push(Question::Quantile(q));
        }
        if questions.is_empty() {
            questions.push(Question::Fraction(self.take_scalars(args[0]), self.take_scalars(args[1])));
        }
        let vector = self.take_vector(args[vector_at]);
        let (native_span, classic_span) = (self.span(args[0]), self.span(args[vector_at]));
        let classics = self.classics(&vector, classic_span);
        let conflicts = self.conflicts(&vector, &classics, classic_span);
        let mut out = self.empty()?;
        for question in questions {
            let inquiry = Inquiry { question, label: label.clone(), grid: self.grid(id), native_span, classic_span };
            for (series, conflict) in vector.series.iter().zip(&conflicts.natives) {
                self.meter.check()?;
                self.ask_native(&mut out, series, conflict.as_ref(), &inquiry)?;
            }
            for (classic, conflict) in classics.iter().zip(&conflicts.classics) {
                self.meter.check()?;
                self.ask_classic(&mut out, &vector, classic, conflict.as_ref(), &inquiry)?;
            }
        }
        self.finish(out)
    }

    /// Functions of native histograms alone: floats are left out.
    pub(super) fn of_histograms(&mut self, name: &str, mut vector: Vector) -> Result<Vector, QueryError> {
        let question = |h: &NativeHistogram| match name {
            "histogram_count" => h.count(),
            "histogram_sum" => h.sum,
            "histogram_avg" => h.mean(),
            "histogram_stdvar" => h.variance(),
            _ => h.standard_deviation(),
        };
        for series in &mut vector.series {
            self.meter.check()?;
            let steps = series.column.values.len();
            let histograms = std::mem::take(&mut series.column.histograms);
            series.column.floats = StepSet::empty(steps);
            for (step, histogram) in histograms {
                series.column.set(step as usize, question(&histogram));
            }
            self.names.apply(series);
        }
        self.finish(vector)
    }

    /// Where a classic and a native histogram of the same labels meet: neither is asked there.
    fn conflicts(&mut self, vector: &Vector, classics: &[Classic], span: Span) -> Conflicts {
        let mut found = Conflicts {
            classics: classics.iter().map(|_| None).collect(),
            natives: vector.series.iter().map(|_| None).collect(),
        };
        let places: HashMap<&Labels, usize> =
            classics.iter().enumerate().map(|(at, classic)| (&classic.labels, at)).collect();
        for (number, native) in vector.series.iter().enumerate().filter(|(_, s)| !s.column.histograms.is_empty()) {
            let Some(&at) = places.get(&native.labels) else { continue };
            let mut meeting = StepSet::empty(native.column.values.len());
            for &(_, bucket) in &classics[at].buckets {
                meeting.union_with(&vector.series[bucket].column.floats);
            }
            let mut there = StepSet::empty(native.column.values.len());
            native.column.histograms.iter().for_each(|(step, _)| there.insert(*step as usize));
            meeting.intersect_with(&there);
            if !meeting.is_empty() {
                let metric = native.labels.metric_name().unwrap_or_default();
                self.notes.add(Note::MixedClassicNative { metric }, span);
                found.classics[at] = Some(meeting.clone());
                found.natives[number] = Some(meeting);
            }
        }
        found
    }

    /// The name notes on quantiles use: only while names are still there.
    fn noted_metric<'l>(&self, labels: &'l Labels) -> &'l str {
        match self.names {
            NameRemoval::Delayed => labels.metric_name().unwrap_or_default(),
            NameRemoval::AtOnce => "",
        }
    }

    fn ask_native(
        &mut self,
        out: &mut Vector,
        series: &Series,
        conflict: Option<&StepSet>,
        inquiry: &Inquiry,
    ) -> Result<(), QueryError> {
        if series.column.histograms.is_empty() {
            return Ok(());
        }
        let metric = self.noted_metric(&series.labels);
        let (steps, span) = (inquiry.grid.steps(), inquiry.native_span);
        out.hold.grow_bytes(Column::bytes(steps))?;
        let mut column = Column::empty(steps);
        for (step, histogram) in &series.column.histograms {
            let step = *step as usize;
            if conflict.is_some_and(|meeting| meeting.contains(step)) {
                continue;
            }
            let (value, effect) = match &inquiry.question {
                Question::Fraction(lower, upper) => histogram.fraction(lower.at(step), upper.at(step)),
                Question::Quantile(q) => histogram.quantile(q.at(step)),
            };
            match effect {
                NanEffect::None => {}
                NanEffect::Result => self.notes.add(Note::QuantileOfNan { metric }, span),
                NanEffect::Skewed => self.notes.add(Note::QuantileSkewedByNan { metric }, span),
                NanEffect::Excluded => self.notes.add(Note::FractionWithNan { metric }, span),
            }
            column.set(step, value);
        }
        self.push_answers(out, &series.labels, series.drop_name, column, inquiry)
    }

    fn note_quantiles(&mut self, q: &Scalars, span: Span) {
        for &wrong in q.values().iter().filter(|q| !(0.0..=1.0).contains(*q)) {
            self.notes.add(Note::InvalidQuantile(wrong), span);
        }
    }

    fn classics(&mut self, vector: &Vector, span: Span) -> Vec<Classic> {
        let mut at: HashMap<Labels, usize> = HashMap::new();
        let mut found: Vec<Classic> = Vec::new();
        for (number, series) in vector.series.iter().enumerate().filter(|(_, s)| !s.column.floats.is_empty()) {
            let le = series.labels.get(BUCKET_LABEL).unwrap_or_default();
            let Ok(bound) = parse_float(le) else {
                let metric = series.labels.metric_name().unwrap_or_default();
                self.notes.add(Note::BadBucketLabel { metric, value: le }, span);
                continue;
            };
            let labels = LabelsBuilder::from_labels(series.labels.as_ref()).remove(BUCKET_LABEL).labels();
            let idx = *at.entry(labels).or_insert_with_key(|labels| {
                found.push(Classic { labels: labels.clone(), drop_name: false, buckets: Vec::new() });
                found.len() - 1
            });
            found[idx].buckets.push((bound, number));
            found[idx].drop_name |= series.drop_name;
        }
        found
    }

    fn ask_classic(
        &mut self,
        out: &mut Vector,
        vector: &Vector,
        classic: &Classic,
        conflict: Option<&StepSet>,
        inquiry: &Inquiry,
    ) -> Result<(), QueryError> {
        let steps = inquiry.grid.steps();
        let metric = self.noted_metric(&classic.labels);
        out.hold.grow_bytes(Column::bytes(steps))?;
        let mut column = Column::empty(steps);
        let mut pace = Pace::default();
        let mut gathered: Vec<Bucket> = Vec::with_capacity(classic.buckets.len());
        for step in 0..steps {
            pace.work(&self.meter, classic.buckets.len())?;
            gathered.clear();
            gathered.extend(classic.buckets.iter().filter_map(|&(upper, number)| {
                Some(Bucket { upper, count: vector.series[number].column.float(step)? })
            }));
            if gathered.is_empty() || conflict.is_some_and(|meeting| meeting.contains(step)) {
                continue;
            }
            let value = match &inquiry.question {
                Question::Fraction(lower, upper) => buckets::fraction(lower.at(step), upper.at(step), &mut gathered),
                Question::Quantile(q) => {
                    let (value, fix) = buckets::quantile(q.at(step), &mut gathered);
                    if let Some(fix) = fix {
                        self.notes.forced_monotonicity(metric, inquiry.grid.time_ms(step), fix, inquiry.classic_span);
                    }
                    value
                }
            };
            column.set(step, value);
        }
        self.push_answers(out, &classic.labels, classic.drop_name, column, inquiry)
    }

    /// Adds the answers of one histogram: one series, or one per different quantile the steps ask for.
    fn push_answers(
        &mut self,
        out: &mut Vector,
        labels: &Labels,
        drop_name: bool,
        column: Column,
        inquiry: &Inquiry,
    ) -> Result<(), QueryError> {
        let mut answers: Vec<(Labels, Column)> = Vec::new();
        match (&inquiry.label, &inquiry.question) {
            (Some(label), Question::Quantile(q)) => {
                for step in column.floats.iter() {
                    let text = FloatText::open_metrics(q.at(step));
                    let labels = LabelsBuilder::from_labels(labels.as_ref()).set(label, text.as_str()).labels();
                    let known = answers.iter().position(|(known, _)| *known == labels);
                    let at = known.unwrap_or_else(|| {
                        answers.push((labels, Column::empty(column.values.len())));
                        answers.len() - 1
                    });
                    answers[at].1.set(step, column.values[step]);
                }
            }
            _ => answers.push((labels.clone(), column)),
        }
        for (labels, column) in answers.into_iter().filter(|(_, column)| !column.is_empty()) {
            out.hold.grow_samples(column.len())?;
            let mut series = Series { labels, drop_name, column };
            self.names.apply(&mut series);
            out.series.push(series);
        }
        Ok(())
    }
}
