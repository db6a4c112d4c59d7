//! What a request would become, without an engine: the dry run of names, labels and promotion rules.

use kymo_core::batch::{RowSeries, RowValue};
use kymo_core::{Budget, Labels, Metadata};

use super::compression::Coding;
use super::config::{OtlpConfig, OtlpLimits};
use super::error::ExportError;
use super::known::Known;
use super::outcome::Outcome;
use super::receiver::drive;
use super::translate::{Buffers, Translation};
use super::{Encoding, wire};
use crate::series_cache::SeriesCache;

/// The bytes a gzip body begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// The same of zstd.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How the values of a series would be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// As samples.
    Sample,
    /// As staleness markers: its points have no value.
    Stale,
    /// As native histograms.
    Histogram,
    /// Deltas, added up.
    Increment,
    /// Cumulative values of one of several possible writers, added up with those of others.
    Total,
}

impl Written {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Written::Sample => "sample",
            Written::Stale => "stale",
            Written::Histogram => "histogram",
            Written::Increment => "increment",
            Written::Total => "total",
        }
    }
}

/// What a request would become.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Every series, sorted by labels.
    pub series: Vec<(Labels, Written)>,
    /// Type, unit and help of every family, in the order met.
    pub metadata: Vec<(String, Metadata)>,
    /// What would be refused before an engine is asked.
    pub outcome: Outcome,
}

impl Preview {
    /// Of a body in any encoding and coding: JSON begins with `{`, and compressed bodies say what they are.
    ///
    /// # Errors
    /// [`ExportError`] as a receiver would answer.
    pub fn of(config: &OtlpConfig, body: &[u8]) -> Result<Preview, ExportError> {
        let coding = match body {
            body if body.starts_with(&GZIP) => Coding::Gzip,
            body if body.starts_with(&ZSTD) => Coding::Zstd,
            _ => Coding::Identity,
        };
        let (limits, budget) = (OtlpLimits::default(), Budget::unlimited());
        let mut held = budget.try_reserve(0)?;
        let body = coding.decode(body.to_vec().into(), limits.decompressed_bytes_max, &mut held)?;
        // A message of protobuf never begins like that: it would be the group of field 15.
        let encoding = match body.trim_ascii_start().first() {
            Some(b'{') => Encoding::Json,
            _ => Encoding::Protobuf,
        };
        let (known, series) = (Known::new(&budget), SeriesCache::new(&budget));
        let max = limits.unfolded_bytes_max;
        let mut translation = Translation::new(config, (&known, &series), Buffers::default(), &budget, max)?;
        drive(encoding, &body, &mut wire::Buffers::default(), &mut held, &mut translation)?;
        let outcome = translation.finish(&kymo_core::AppendReport::default());
        let batch = &translation.buffers.batch;
        let each = batch.rows().filter_map(|row| {
            let RowSeries::Labels(labels) = row.series else { return None };
            let written = match row.value {
                RowValue::Float(_) => Written::Sample,
                RowValue::Histogram(_) => Written::Histogram,
                RowValue::Stale => Written::Stale,
                RowValue::Increment(_) => Written::Increment,
                RowValue::Total(_) => Written::Total,
            };
            Some((labels.to_labels(), written))
        });
        let mut series: Vec<(Labels, Written)> = each.collect();
        series.sort_by(|a, b| a.0.cmp(&b.0));
        series.dedup();
        let metadata = batch.metadata().to_vec();
        Ok(Preview { series, metadata, outcome })
    }
}
