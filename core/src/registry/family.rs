//! A family: series by label values, with a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock};

use super::OVERFLOW_LABEL;
use super::builder::RegisterError;
use super::handle::{Cell, Handle};
use super::snapshot::{FamilySnapshot, SeriesSnapshot};
use crate::metric::MetricKind;

/// A family of series that differ in `N` label values.
#[derive(Debug, Clone)]
pub struct Family<M: Handle, const N: usize> {
    core: Arc<FamilyCore>,
    fixed: Arc<[(String, String)]>,
    labels: Arc<[String; N]>,
    handle: PhantomData<fn() -> M>,
}

impl<M: Handle, const N: usize> Family<M, N> {
    pub(super) fn new(core: Arc<FamilyCore>, fixed: Vec<(String, String)>, labels: [String; N]) -> Self {
        Self { core, fixed: fixed.into(), labels: Arc::new(labels), handle: PhantomData }
    }

    /// The handle of these label values, in the order in which the labels were named.
    ///
    /// A new series is made if the family has room, else this is the handle of its overflow series.
    /// Costs a look-up; keep the handle where it is used often.
    pub fn with(&self, values: [&str; N]) -> M {
        let labels = self.series_labels(values);
        let cell = self.core.cell(&labels, &self.fixed, || M::new(&self.core.shape.options).cell());
        match M::from_cell(&cell) {
            Some(handle) => handle,
            // Invariant 1: `check_same` lets one handle type into a family.
            None => unreachable!("cell of another handle type in family {:?}", self.core.name()),
        }
    }

    /// Takes a series out of the family. Handles to it go on but are no longer shown.
    ///
    /// Says whether there was one.
    pub fn remove(&self, values: [&str; N]) -> bool {
        self.core.remove(&self.series_labels(values))
    }

    /// Sorted by name, empty values left out: they equal absent labels.
    fn series_labels(&self, values: [&str; N]) -> Vec<(String, String)> {
        let dynamic = self.labels.iter().zip(values).map(|(n, v)| (n.clone(), v.to_owned()));
        let mut labels: Vec<_> = self.fixed.iter().cloned().chain(dynamic).collect();
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort_unstable();
        labels
    }
}

type SeriesKey = Arc<[(String, String)]>;

/// What a family is. Two builders meet in one family only if they say the same.
#[derive(Debug)]
pub(super) struct FamilyShape {
    pub(super) name: String,
    pub(super) kind: MetricKind,
    pub(super) unit: String,
    pub(super) help: String,
    /// Sorted.
    pub(super) label_names: Vec<String>,
    pub(super) handle_type: &'static str,
    /// A histogram's bounds or a summary's quantiles.
    pub(super) options: Vec<f64>,
}

/// A family without its handle type.
#[derive(Debug)]
pub(super) struct FamilyCore {
    shape: FamilyShape,
    series_max: usize,
    /// Guards which series exist, not their values.
    series: RwLock<Series>,
}

#[derive(Debug, Default)]
struct Series {
    cells: BTreeMap<SeriesKey, Cell>,
    /// Beyond `series_max`, by fixed labels; not counted against it.
    overflow: BTreeMap<SeriesKey, Cell>,
    /// Which label had the most distinct values when the limit was met.
    overflow_label: Option<String>,
}

impl FamilyCore {
    pub(super) fn new(shape: FamilyShape, series_max: usize) -> Self {
        Self { shape, series_max, series: RwLock::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.shape.name
    }

    pub(super) fn check_same(&self, wanted: &Self) -> Result<(), RegisterError> {
        let (known, wanted) = (&self.shape, &wanted.shape);
        let what = if known.handle_type != wanted.handle_type {
            "type"
        } else if known.label_names != wanted.label_names {
            "set of labels"
        } else if known.unit != wanted.unit {
            "unit"
        } else if known.help != wanted.help {
            "help text"
        } else if known.options != wanted.options {
            "set of buckets or quantiles"
        } else {
            return Ok(());
        };
        Err(RegisterError::Differs { family: known.name.clone(), what })
    }

    fn cell(&self, labels: &[(String, String)], fixed: &[(String, String)], make: impl FnOnce() -> Cell) -> Cell {
        if let Some(cell) = self.series.read().unwrap_or_else(PoisonError::into_inner).cells.get(labels) {
            return cell.clone();
        }
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = series.cells.get(labels) {
            return cell.clone();
        }
        if series.cells.len() < self.series_max {
            let cell = make();
            series.cells.insert(labels.into(), cell.clone());
            return cell;
        }
        let label = match &series.overflow_label {
            Some(label) => label.clone(),
            None => {
                let label = most_varied_label(&series.cells, labels);
                series.overflow_label = Some(label.clone());
                label
            }
        };
        let mut key = fixed.to_vec();
        key.push((OVERFLOW_LABEL.to_owned(), label));
        key.sort_unstable();
        series.overflow.entry(key.into()).or_insert_with(make).clone()
    }

    fn remove(&self, labels: &[(String, String)]) -> bool {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series.cells.remove(labels).is_some()
    }

    pub(super) fn snapshot(&self) -> FamilySnapshot {
        let mut cells: Vec<(SeriesKey, Cell)> = {
            let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
            let all = series.cells.iter().chain(&series.overflow);
            all.map(|(labels, cell)| (Arc::clone(labels), cell.clone())).collect()
        };
        cells.sort_by(|(a, _), (b, _)| a.cmp(b));
        FamilySnapshot {
            name: self.shape.name.clone(),
            kind: self.shape.kind,
            unit: self.shape.unit.clone(),
            help: self.shape.help.clone(),
            series: cells.into_iter().map(|(labels, cell)| SeriesSnapshot { labels, value: cell.value() }).collect(),
        }
    }
}

/// The label with the most distinct values among `cells`, the first by name among equals; of no
/// cells the first of `labels`.
fn most_varied_label(cells: &BTreeMap<SeriesKey, Cell>, labels: &[(String, String)]) -> String {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in cells.keys().flat_map(|key| key.iter()).chain(labels) {
        values.entry(name).or_default().insert(value);
    }
    let most = values.iter().rev().max_by_key(|(_, distinct)| distinct.len());
    most.map(|(name, _)| (*name).to_owned()).unwrap_or_default()
}
