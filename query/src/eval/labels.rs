//! Label sets that operations make, and the rule that no two series of a vector share one.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use kymo_core::query::QueryError;
use kymo_core::{ErrorKind, Labels, LabelsBuilder, LabelsRef, METRIC_NAME};

use super::column::Series;
use super::meter::Meter;

/// Labels that describe the metric and not the series; they go with its name.
pub(crate) const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// The labels without the metric's name and what belongs to it.
pub(crate) fn without_name(labels: &Labels) -> Labels {
    let whole = labels.as_ref().packed().len();
    let mut packed = Vec::with_capacity(whole);
    let rest = labels.as_ref().filter_into(&mut packed, |name| !METADATA_LABELS.contains(&name));
    if rest.packed().len() == whole { labels.clone() } else { rest.to_labels() }
}

pub(crate) fn drop_metadata(builder: &mut LabelsBuilder) {
    builder.retain(|name, _| !METADATA_LABELS.contains(&name));
}

/// How a vector loses its metric names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameRemoval {
    /// At each operation.
    AtOnce,
    /// At the end of the evaluation.
    Delayed,
}

impl NameRemoval {
    /// Marks a series whose operation took the meaning of its name away.
    pub(crate) fn apply(self, series: &mut Series) {
        series.drop_name = true;
        if self == NameRemoval::AtOnce {
            series.labels = without_name(&series.labels);
        }
    }
}

/// The error when two series of a vector have the same labels at one step.
pub(crate) fn same_labels() -> QueryError {
    QueryError::execute(ErrorKind::Invalid, "vector cannot contain metrics with the same labelset")
}

/// Joins series of equal labels; the first one's place is kept.
///
/// # Errors
/// When two of them have a sample at the same step; when the query should stop.
pub(crate) fn merge(series: Vec<Series>, meter: &Meter<'_>) -> Result<Vec<Series>, QueryError> {
    let mut at: HashMap<Labels, usize, RandomState> =
        HashMap::with_capacity_and_hasher(series.len(), RandomState::default());
    let mut out: Vec<Series> = Vec::with_capacity(series.len());
    for one in series {
        meter.check_often()?;
        match at.entry(one.labels.clone()) {
            Entry::Occupied(known) => {
                out[*known.get()].column.absorb(one.column).map_err(|_| same_labels())?;
            }
            Entry::Vacant(free) => {
                free.insert(out.len());
                out.push(one);
            }
        }
    }
    Ok(out)
}

/// Finds two series with equal labels, whether or not they meet at a step.
#[derive(Debug, Default)]
pub(crate) struct Distinct(HashSet<Labels, RandomState>);

impl Distinct {
    /// # Errors
    /// The error of [`same_labels`] for labels that were added before.
    pub(crate) fn add(&mut self, labels: &Labels) -> Result<(), QueryError> {
        if self.0.insert(labels.clone()) { Ok(()) } else { Err(same_labels()) }
    }
}

/// Which labels a grouping or matching keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Projection<'a> {
    /// These.
    Keep(&'a [String]),
    /// All but these and the metric's name.
    Drop(&'a [String]),
}

impl Projection<'_> {
    /// The labels it keeps of `labels`.
    pub(crate) fn of(self, labels: &Labels) -> Labels {
        self.pack(labels, &mut Vec::new()).to_labels()
    }

    fn pack<'b>(self, labels: &Labels, packed: &'b mut Vec<u8>) -> LabelsRef<'b> {
        labels.as_ref().filter_into(packed, |name| match self {
            Projection::Keep(names) => names.iter().any(|n| n == name),
            Projection::Drop(names) => name != METRIC_NAME && !names.iter().any(|n| n == name),
        })
    }
}

/// Numbers of label sets, in the order first met. A set that is known costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    known: HashMap<Labels, usize, RandomState>,
    packed: Vec<u8>,
}

impl Groups {
    /// The number of what `by` keeps of `labels`.
    pub(crate) fn of(&mut self, by: Projection<'_>, labels: &Labels) -> usize {
        let kept = by.pack(labels, &mut self.packed);
        if let Some(&number) = self.known.get(kept.packed()) {
            return number;
        }
        let number = self.known.len();
        self.known.insert(kept.to_labels(), number);
        number
    }

    /// The labels asked for last.
    pub(crate) fn labels(&self) -> Labels {
        self.known.get_key_value(self.packed.as_slice()).map(|(labels, _)| labels.clone()).unwrap_or_default()
    }
}

/// `{a="b", c="d"}`, as Prometheus writes a label set in an error.
pub(crate) fn braced(labels: &Labels) -> String {
    let mut out = String::from("{");
    for (name, value) in labels {
        if out.len() > 1 {
            out.push_str(", ");
        }
        kymo_core::text::write_label_name(&mut out, name);
        out.push('=');
        kymo_core::text::write_quoted(&mut out, value);
    }
    out.push('}');
    out
}
