//! A sample and its exemplars, borrowed.

use kymo_core::{FamilyType, NativeHistogram};

/// One sample of an exposition.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    /// Name and labels as they stand in the body; [`push_labels`](super::push_labels) reads them.
    pub series: &'a [u8],
    /// The type declared last. Label values `le` and `quantile` are read in its light.
    pub family_type: FamilyType,
    /// The value.
    pub value: SampleValue,
    /// Milliseconds since the Unix epoch, if the target gives it.
    pub time_ms: Option<i64>,
    /// When the value began to count, milliseconds since the Unix epoch; 0 = unset.
    pub start_ms: i64,
    /// Traced observations.
    pub exemplars: Exemplars<'a>,
}

/// The value of a sample.
#[derive(Debug, Clone)]
pub enum SampleValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Box<NativeHistogram>),
}

/// By bits.
impl PartialEq for SampleValue {
    fn eq(&self, other: &SampleValue) -> bool {
        match (self, other) {
            (SampleValue::Float(a), SampleValue::Float(b)) => a.to_bits() == b.to_bits(),
            (SampleValue::Histogram(a), SampleValue::Histogram(b)) => a.same_bits(b),
            _ => false,
        }
    }
}

/// The exemplars of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Exemplars<'a> {
    /// What the spans are of.
    text: &'a [u8],
    first: Option<ExemplarSpan>,
    more: &'a [ExemplarSpan],
}

/// An exemplar whose labels stand somewhere in a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ExemplarSpan {
    pub(super) labels: (u32, u32),
    pub(super) value: f64,
    pub(super) time_ms: Option<i64>,
}

/// One traced observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar<'a> {
    /// Its labels in braces, as they stand in the body; [`push_exemplar_labels`](super::push_exemplar_labels) reads them.
    pub labels: &'a [u8],
    /// The observed value.
    pub value: f64,
    /// Milliseconds since the Unix epoch, if given.
    pub time_ms: Option<i64>,
}

impl<'a> Exemplars<'a> {
    pub(super) fn one(text: &'a [u8], exemplar: ExemplarSpan) -> Exemplars<'a> {
        Exemplars { text, first: Some(exemplar), more: &[] }
    }

    pub(super) fn many(text: &'a [u8], exemplars: &'a [ExemplarSpan]) -> Exemplars<'a> {
        Exemplars { text, first: None, more: exemplars }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty()
    }

    /// The exemplars in the order of the body.
    pub fn iter(&self) -> impl Iterator<Item = Exemplar<'a>> + use<'a> {
        let text = self.text;
        self.first.into_iter().chain(self.more.iter().copied()).map(move |span| Exemplar {
            labels: &text[span.labels.0 as usize..span.labels.1 as usize],
            value: span.value,
            time_ms: span.time_ms,
        })
    }
}
