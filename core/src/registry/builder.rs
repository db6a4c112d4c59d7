//! From a description to a handle or a family.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::labels::METRIC_NAME;
use crate::metric::MetricKind;

use super::desc::FamilyDesc;
use super::family::{Family, FamilyCore, FamilyShape};
use super::handle::Handle;
use super::histogram::Histogram;
use super::options::{Bounds, NativeOptions, Options, SummaryOptions};
use super::summary::Summary;
use super::{OVERFLOW_LABEL, Registry, SERIES_PER_FAMILY_DEFAULT};

/// Why a family cannot be had as described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The family's name is empty.
    #[error("a metric family needs a name")]
    EmptyName,
    /// A label name is empty, given twice, or reserved for this kind.
    #[error("metric family {family:?} cannot have the label {label:?}")]
    Label {
        /// The family.
        family: String,
        /// The label.
        label: String,
    },
    /// The labels given are not those of the description.
    #[error("metric family {family:?} is described with labels {described:?}, not {given:?}")]
    DescribedLabels {
        /// The family.
        family: String,
        /// What its description says.
        described: Vec<String>,
        /// What the builder was given.
        given: Vec<String>,
    },
    /// The description says another kind than the handle asked for.
    #[error("metric family {family:?} is a {}, not a {}", .described.as_str(), .asked.as_str())]
    Kind {
        /// The family.
        family: String,
        /// Kind of the description.
        described: MetricKind,
        /// Kind of the handle.
        asked: MetricKind,
    },
    /// A family of this name exists and differs.
    #[error("metric family {family:?} exists with another {what}")]
    Differs {
        /// The family.
        family: String,
        /// In what it differs.
        what: &'static str,
    },
    /// Bucket bounds do not rise, or are not numbers; or a quantile is outside 0 to 1.
    #[error("metric family {family:?}: {what}")]
    Options {
        /// The family.
        family: String,
        /// What is wrong.
        what: &'static str,
    },
}

/// Describes a family; ends with [`register`](Self::register) or [`family`](Self::family).
///
/// `N` is the number of labels whose values are given per series.
#[derive(Debug)]
#[must_use = "a builder registers nothing before `register` or `family`"]
pub struct MetricBuilder<M: Handle, const N: usize = 0> {
    registry: Registry,
    name: String,
    described_kind: Option<MetricKind>,
    described_labels: Option<Vec<String>>,
    unit: String,
    help: String,
    fixed: Vec<(String, String)>,
    labels: [String; N],
    options: Options,
    series_max: usize,
    ttl: Option<Duration>,
    handle: PhantomData<fn() -> M>,
}

impl<M: Handle> MetricBuilder<M> {
    pub(super) fn new(registry: Registry, desc: FamilyDesc<'_>) -> Self {
        let options = M::default_options(&registry.host().clock);
        Self {
            registry,
            name: desc.name.to_owned(),
            described_kind: desc.kind,
            described_labels: desc.labels.map(|labels| labels.iter().map(|label| (*label).to_owned()).collect()),
            unit: desc.unit.to_owned(),
            help: desc.help.to_owned(),
            fixed: Vec::new(),
            labels: [],
            options,
            series_max: SERIES_PER_FAMILY_DEFAULT,
            ttl: None,
            handle: PhantomData,
        }
    }

    /// Names the labels whose values are given per series, in that order.
    pub fn labels<const N: usize>(self, names: [&str; N]) -> MetricBuilder<M, N> {
        MetricBuilder {
            registry: self.registry,
            name: self.name,
            described_kind: self.described_kind,
            described_labels: self.described_labels,
            unit: self.unit,
            help: self.help,
            fixed: self.fixed,
            labels: names.map(str::to_owned),
            options: self.options,
            series_max: self.series_max,
            ttl: self.ttl,
            handle: PhantomData,
        }
    }

    /// Registers the one series of the fixed labels, or finds it.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn register(self) -> Result<M, RegisterError> {
        Ok(self.family()?.with([]))
    }
}

impl<M: Handle, const N: usize> MetricBuilder<M, N> {
    /// Says what the metric means, in one sentence.
    pub fn help(mut self, help: &str) -> Self {
        help.clone_into(&mut self.help);
        self
    }

    /// Names the unit as OpenMetrics does (`seconds`, `bytes`).
    pub fn unit(mut self, unit: &str) -> Self {
        unit.clone_into(&mut self.unit);
        self
    }

    /// Adds a label with the same value for every series made through this builder.
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.fixed.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Limits the family's series; further ones are recorded together in one overflow series. Of a
    /// family that exists, the limit it was made with stays.
    pub fn series_max(mut self, series_max: usize) -> Self {
        self.series_max = series_max;
        self
    }

    /// Has series leave the family that nobody holds a handle of and nobody has looked up for `ttl`. Of a family that
    /// exists, what it was made with stays.
    ///
    /// Nothing runs for that: a series goes when the registry is read, or when room is needed. Look-ups in such a family
    /// take its lock.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Registers the family, or finds it if it exists with the same description.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn family(self) -> Result<Family<M, N>, RegisterError> {
        self.check()?;
        let names = self.fixed.iter().map(|(name, _)| name).chain(&self.labels);
        let mut label_names: Vec<String> = names.cloned().collect();
        label_names.sort_unstable();
        let shape = FamilyShape {
            name: self.name,
            kind: M::KIND,
            unit: self.unit,
            help: self.help,
            label_names,
            is_open: false,
            handle_type: M::TYPE_NAME,
            options: Arc::new(self.options),
        };
        let host = Arc::clone(self.registry.host());
        let core = self.registry.family(FamilyCore::new(shape, self.series_max, self.ttl, host))?;
        Ok(Family::new(core, self.fixed, &self.labels))
    }

    fn check(&self) -> Result<(), RegisterError> {
        let family = || self.name.clone();
        if self.name.is_empty() {
            return Err(RegisterError::EmptyName);
        }
        if let Some(described) = self.described_kind.filter(|kind| *kind != M::KIND) {
            return Err(RegisterError::Kind { family: family(), described, asked: M::KIND });
        }
        let names: Vec<&String> = self.fixed.iter().map(|(name, _)| name).chain(&self.labels).collect();
        for (index, name) in names.iter().enumerate() {
            let name = name.as_str();
            let reserved = [METRIC_NAME, OVERFLOW_LABEL].contains(&name) || M::OWN_LABEL == Some(name);
            if name.is_empty() || reserved || names[..index].iter().any(|known| *known == name) {
                return Err(RegisterError::Label { family: family(), label: name.to_owned() });
            }
        }
        if let Some(described) = &self.described_labels {
            let (mut wanted, mut given) = (described.iter().collect::<Vec<_>>(), names);
            wanted.sort_unstable();
            given.sort_unstable();
            if wanted != given {
                return Err(RegisterError::DescribedLabels {
                    family: family(),
                    described: described.clone(),
                    given: given.into_iter().cloned().collect(),
                });
            }
        }
        self.options.check().map_err(|what| RegisterError::Options { family: family(), what })
    }
}

impl<const N: usize> MetricBuilder<Histogram, N> {
    /// Sets the buckets' upper bounds, rising; `+Inf` is added if it is missing.
    pub fn buckets(mut self, upper_bounds: &[f64]) -> Self {
        self.options = Options::Buckets(Arc::new(Bounds::new(upper_bounds)));
        self
    }

    /// Counts in exponential buckets, which need no bounds, instead of explicit ones.
    pub fn native(mut self, options: NativeOptions) -> Self {
        self.options = Options::Native(options);
        self
    }
}

impl<const N: usize> MetricBuilder<Summary, N> {
    /// Sets which quantiles are shown, 0 to 1.
    pub fn quantiles(self, quantiles: &[f64]) -> Self {
        self.summary(|options| {
            options.quantiles = quantiles.to_vec();
            options.quantiles.sort_by(f64::total_cmp);
        })
    }

    /// Sets how far back quantiles reach.
    pub fn window(self, window: Duration) -> Self {
        self.summary(|options| options.window = window)
    }

    fn summary(mut self, change: impl FnOnce(&mut SummaryOptions)) -> Self {
        if let Options::Summary(options) = &mut self.options {
            change(options);
        }
        self
    }
}
