//! What a registry holds at one moment, as plain data.

use std::sync::Arc;

use crate::metric::{MetricKind, MetricType};

/// A family with its series.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilySnapshot {
    /// Name of the family.
    pub name: String,
    /// Its kind.
    pub kind: MetricKind,
    /// Its unit, empty for none.
    pub unit: String,
    /// What it means, empty if nobody said.
    pub help: String,
    /// Sorted by labels.
    pub series: Vec<SeriesSnapshot>,
}

/// One series with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSnapshot {
    /// Sorted by name; without the metric's name, without empty values.
    pub labels: Arc<[(String, String)]>,
    /// The value.
    pub value: MetricType,
}
