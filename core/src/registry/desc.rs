//! What a family is, said once.

use crate::metric::MetricKind;

/// One line of a crate's metrics table, from which both the family and the reference page are made.
///
/// ```
/// use kymo_core::metric::MetricKind;
/// use kymo_core::registry::{MetricDesc, Registry};
///
/// const APPENDS: MetricDesc = MetricDesc {
///     name: "kymo_appends_total",
///     kind: MetricKind::Counter,
///     unit: "",
///     help: "Batches appended.",
///     labels: &[],
/// };
/// let appends = Registry::new().counter(&APPENDS).register()?;
/// appends.inc();
/// # Ok::<(), kymo_core::registry::RegisterError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricDesc {
    /// Name of the family, unit and `_total` included.
    pub name: &'static str,
    /// Its kind; the handle asked for must be of it.
    pub kind: MetricKind,
    /// Unit as OpenMetrics names it (`seconds`, `bytes`), empty for none.
    pub unit: &'static str,
    /// What it means, one sentence.
    pub help: &'static str,
    /// Names of its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
}

/// What a builder starts from: a bare name or a [`MetricDesc`].
#[derive(Debug, Clone, Copy)]
pub struct FamilyDesc<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Option<MetricKind>,
    pub(super) unit: &'a str,
    pub(super) help: &'a str,
    /// `None`: the builder's caller names the labels.
    pub(super) labels: Option<&'a [&'a str]>,
}

impl<'a> From<&'a str> for FamilyDesc<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, kind: None, unit: "", help: "", labels: None }
    }
}

impl<'a> From<&'a String> for FamilyDesc<'a> {
    fn from(name: &'a String) -> Self {
        name.as_str().into()
    }
}

impl From<&MetricDesc> for FamilyDesc<'static> {
    fn from(desc: &MetricDesc) -> Self {
        Self { name: desc.name, kind: Some(desc.kind), unit: desc.unit, help: desc.help, labels: Some(desc.labels) }
    }
}
