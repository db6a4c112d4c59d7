//! Why a scrape failed.

use kymo_core::BudgetExceeded;
use kymo_core::labels::LabelError;
use kymo_core::pool::PoolFull;
use kymo_core::storage::AppendError;

use super::negotiate::ContentTypeError;
use crate::exposition::ExpositionError;

/// A scrape that failed as a whole: nothing of the answer is stored, and the target's series go stale.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// No answer.
    #[error("Get {url:?}: {}", chain(&**source))]
    Request {
        /// What was asked.
        url: String,
        /// Why there is none.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No whole answer in time.
    #[error("Get {url:?}: context deadline exceeded")]
    Timeout {
        /// What was asked.
        url: String,
    },
    /// An answer that says no.
    #[error("server returned HTTP status {status}")]
    Status {
        /// The status.
        status: reqwest::StatusCode,
    },
    /// An answer in no known format.
    #[error(transparent)]
    ContentType(#[from] ContentTypeError),
    /// An answer that is compressed in a way that was not asked for.
    #[error("unsupported Content-Encoding {encoding:?}")]
    Encoding {
        /// The way.
        encoding: String,
    },
    /// An answer that is not what its content type says.
    #[error(transparent)]
    Exposition(#[from] ExpositionError),
    /// A series without a name, after relabelling.
    #[error("missing metric name (__name__ label)")]
    MissingName,
    /// A name that `metric_name_validation_scheme: legacy` does not accept.
    #[error("invalid metric name or label names: {series}")]
    Names {
        /// The series.
        series: String,
    },
    /// A series whose labels are none.
    #[error(transparent)]
    Labels(#[from] LabelError),
    /// `body_size_limit`.
    #[error("body size limit exceeded")]
    BodyLimit,
    /// `sample_limit`.
    #[error("sample limit exceeded")]
    SampleLimit,
    /// `native_histogram_bucket_limit`, where merging buckets did not help.
    #[error("histogram bucket limit exceeded")]
    BucketLimit,
    /// `label_limit`.
    #[error("label_limit exceeded (metric: {metric:.50}, number of labels: {count}, limit: {limit})")]
    LabelLimit {
        /// The metric.
        metric: String,
        /// Its labels.
        count: usize,
        /// The limit.
        limit: u64,
    },
    /// `label_name_length_limit`.
    #[error(
        "label_name_length_limit exceeded (metric: {metric:.50}, label name: {name:.50}, length: {len}, limit: {limit})"
    )]
    LabelNameLimit {
        /// The metric.
        metric: String,
        /// The label.
        name: String,
        /// Its length in bytes.
        len: usize,
        /// The limit.
        limit: u64,
    },
    /// `label_value_length_limit`.
    #[error(
        "label_value_length_limit exceeded (metric: {metric:.50}, label name: {name:.50}, value: {value:.50?}, length: {len}, limit: {limit})"
    )]
    LabelValueLimit {
        /// The metric.
        metric: String,
        /// The label.
        name: String,
        /// Its value.
        value: String,
        /// Length of the value in bytes.
        len: usize,
        /// The limit.
        limit: u64,
    },
    /// `target_limit`.
    #[error("target_limit exceeded (number of targets: {count}, limit: {limit})")]
    TargetLimit {
        /// Targets of the job.
        count: usize,
        /// The limit.
        limit: u64,
    },
    /// No memory for the answer or its series.
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
}

impl ScrapeError {
    /// The reason under which failed scrapes are counted.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            ScrapeError::Request { .. } => "request",
            ScrapeError::Timeout { .. } => "timeout",
            ScrapeError::Status { .. } => "status",
            ScrapeError::TargetLimit { .. } => "target_limit",
            others => others.loss_reason().unwrap_or("other"),
        }
    }

    /// The reason under which the ledger books samples that arrived and are lost; `None` if none arrived.
    pub(super) fn loss_reason(&self) -> Option<&'static str> {
        Some(match self {
            ScrapeError::Request { .. }
            | ScrapeError::Timeout { .. }
            | ScrapeError::Status { .. }
            | ScrapeError::TargetLimit { .. } => return None,
            ScrapeError::ContentType(_) => "bad_content_type",
            ScrapeError::Encoding { .. } => "bad_content_encoding",
            ScrapeError::Exposition(_) => "bad_exposition",
            ScrapeError::MissingName => "missing_name",
            ScrapeError::Names { .. } | ScrapeError::Labels(_) => "bad_labels",
            ScrapeError::BodyLimit => "body_size_limit",
            ScrapeError::SampleLimit => "sample_limit",
            ScrapeError::BucketLimit => "native_histogram_bucket_limit",
            ScrapeError::LabelLimit { .. } => "label_limit",
            ScrapeError::LabelNameLimit { .. } => "label_name_length_limit",
            ScrapeError::LabelValueLimit { .. } => "label_value_length_limit",
            ScrapeError::Budget(_) => "memory_limit",
        })
    }
}

/// Why what a scrape gave could not be stored: its samples are lost, and its target is not to blame.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine took nothing.
    #[error("the samples could not be stored: {}", chain(.0))]
    Append(#[from] AppendError),
    /// No thread to store with.
    #[error(transparent)]
    Pool(#[from] PoolFull),
    /// A job of ours died.
    #[error("storing was cut short")]
    Lost,
}

/// An error with its causes, for a page that shows one line. Causes that say the same again are left out.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
