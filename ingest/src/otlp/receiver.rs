//! From a body to an engine, without a network.

use std::sync::Arc;

use bytes::Bytes;
use kymo_core::registry::RegisterError;
use kymo_core::storage::{AppendReport, RowCounts};
use kymo_core::{Budget, Clock, LossLedger, MetricStorage, Reservation};
use prost::Message;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::compression::Coding;
use super::config::{OtlpConfig, OtlpLimits};
use super::error::{ExportError, Reason};
use super::json::{self, BadMetric};
use super::memory::{Layout, weigh_json_part, weigh_json_request};
use super::message::{Metric, Request, Resource, Scope};
use super::metrics::OtlpMetrics;
use super::outcome::Outcome;
use super::translate::Translation;
use super::{Encoding, SOURCE};
use crate::remote_write::{BODY_BYTES_CAP, ReceiverParts};

/// Takes `ExportMetricsServiceRequest`s and hands their data points to an engine.
///
/// Shared by all requests. Blocking: it runs on the caller's thread, and appending may wait for the disk.
///
/// ```
/// use std::sync::Arc;
/// use kymo_core::MemoryStorage;
/// use kymo_ingest::otlp::{Coding, Encoding, OtlpConfig, OtlpLimits, Receiver};
/// use kymo_ingest::remote_write::ReceiverParts;
///
/// let parts = ReceiverParts::around(Arc::new(MemoryStorage::default()));
/// let receiver = Receiver::new(OtlpConfig::default(), OtlpLimits::default(), parts)?;
/// let body = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
///     {"name":"queue.length","gauge":{"dataPoints":[{"timeUnixNano":"1760000000000000000","asInt":"7"}]}}]}]}]}"#;
/// let outcome = receiver.export(Encoding::Json, Coding::Identity, body.into())?;
/// assert_eq!((outcome.written, outcome.rejected()), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver {
    config: OtlpConfig,
    limits: OtlpLimits,
    storage: Arc<dyn MetricStorage>,
    ledger: Arc<LossLedger>,
    clock: Arc<dyn Clock>,
    budget: Budget,
    pub(super) metrics: OtlpMetrics,
}

impl Receiver {
    /// A receiver in front of an engine. What requests take is reserved under the parts' budget, and no limit in bytes is
    /// above [`BODY_BYTES_CAP`].
    ///
    /// # Errors
    /// [`RegisterError`] when the registry holds other metrics of the same names.
    pub fn new(config: OtlpConfig, limits: OtlpLimits, parts: ReceiverParts) -> Result<Receiver, RegisterError> {
        let ReceiverParts { storage, ledger, clock, budget, registry } = parts;
        let budget = budget.child("otlp", u64::MAX);
        let limits = OtlpLimits {
            body_bytes_max: limits.body_bytes_max.min(BODY_BYTES_CAP),
            decompressed_bytes_max: limits.decompressed_bytes_max.min(BODY_BYTES_CAP),
            unfolded_bytes_max: limits.unfolded_bytes_max.min(BODY_BYTES_CAP),
        };
        let metrics = OtlpMetrics::register(&registry)?;
        Ok(Receiver { config, limits, storage, ledger, clock, budget, metrics })
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &OtlpLimits {
        &self.limits
    }

    /// Where the bytes of requests are reserved.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Unpacks and decodes a body and appends what is valid in it; books everything in the loss ledger.
    ///
    /// `Ok` with refusals is a partial success: what is not refused is stored.
    ///
    /// # Errors
    /// [`ExportError`] when nothing of the request was stored.
    pub fn export(&self, encoding: Encoding, coding: Coding, body: Bytes) -> Result<Outcome, ExportError> {
        let started = self.clock.monotonic();
        let metrics = self.metrics.of(encoding);
        self.metrics.compressed_bytes.add(body.len() as u64);
        let result = self.try_export(encoding, coding, body);
        match &result {
            Ok(outcome) => metrics.count(outcome),
            Err(error) => self.book_failure(error),
        }
        metrics.duration.record(self.clock.monotonic().saturating_sub(started).as_secs_f64());
        result
    }

    /// Books a request that failed as a whole, if its points are lost.
    pub(super) fn book_failure(&self, error: &ExportError) {
        if let Some(reason) = error.loss_reason() {
            self.ledger.refuse(SOURCE, reason, 1, self.clock.now_ms(), || error.to_string());
        }
    }

    fn try_export(&self, encoding: Encoding, coding: Coding, body: Bytes) -> Result<Outcome, ExportError> {
        let mut held = self.budget.try_reserve(0)?;
        let body = coding.decode(body, self.limits.decompressed_bytes_max, &mut held)?;
        self.metrics.decompressed_bytes.add(body.len() as u64);
        let mut translation = Translation::new(&self.config, &self.budget, self.limits.unfolded_bytes_max)?;
        match encoding {
            Encoding::Protobuf => translate_protobuf(&mut translation, body, &mut held)?,
            Encoding::Json => translate_json(&mut translation, &body, &mut held)?,
        }
        drop(held);
        let report = match translation.batch.is_empty() {
            true => AppendReport::default(),
            false => self.storage.append(&translation.batch).map_err(|source| ExportError::Append { source })?,
        };
        let outcome = translation.finish(&report);
        self.book(&report, &outcome);
        Ok(outcome)
    }

    /// Books a request that was accepted, in points.
    ///
    /// An engine counts rows. Where the rows of a request are partly new and partly not, and points have several, its
    /// points are divided as its rows are; their sum is exact.
    fn book(&self, report: &AppendReport, outcome: &Outcome) {
        let rows = [report.stored, report.identical, report.replaced].map(|counts| u128::from(counts.samples()));
        let all: u128 = rows.iter().sum();
        let share = |rows: u128| (u128::from(outcome.written) * rows).checked_div(all).unwrap_or(0) as u64;
        let points = |floats| RowCounts { floats, ..RowCounts::default() };
        let (identical, replaced) = (share(rows[1]), share(rows[2]));
        let accepted = AppendReport {
            stored: points(outcome.written - identical - replaced),
            identical: points(identical),
            replaced: points(replaced),
            ..AppendReport::default()
        };
        let now_ms = self.clock.now_ms();
        self.ledger.book(SOURCE, &accepted, now_ms, |_| String::new());
        for refusal in &outcome.refusals {
            self.ledger.refuse(SOURCE, refusal.reason.as_str(), refusal.points, now_ms, || refusal.example.clone());
        }
    }
}

fn translate_protobuf(
    translation: &mut Translation<'_>,
    body: Bytes,
    held: &mut Reservation,
) -> Result<(), ExportError> {
    let protobuf = |source| ExportError::Protobuf { source };
    let message = |source| ExportError::Message { source };
    held.grow(Layout::Request.weigh(&body).map_err(protobuf)?)?;
    let request = Request::decode(body).map_err(message)?;
    let (no_resource, no_scope) = (Resource::default(), Scope::default());
    for of_resource in &request.resource_metrics {
        let resource = of_resource.resource.as_ref().unwrap_or(&no_resource);
        translation.begin_resource(resource);
        for of_scope in &of_resource.scope_metrics {
            translation.begin_scope(of_scope.scope.as_ref().unwrap_or(&no_scope), &of_scope.schema_url);
            for encoded in &of_scope.metrics {
                let weight = Layout::Metric.weigh(encoded).map_err(protobuf)?;
                held.grow(weight)?;
                translation.metric(&Metric::decode(&encoded[..]).map_err(message)?)?;
                held.shrink(weight);
            }
        }
        translation.end_resource(resource)?;
    }
    Ok(())
}

fn translate_json(translation: &mut Translation<'_>, body: &[u8], held: &mut Reservation) -> Result<(), ExportError> {
    held.grow(weigh_json_request(body))?;
    let request: json::Request<'_> = serde_json::from_slice(body).map_err(|source| ExportError::Json { source })?;
    for of_resource in &request.resource_metrics {
        let (resource, resource_weight) = parse_part::<Resource>(of_resource.resource, held)?;
        translation.begin_resource(&resource);
        for of_scope in &of_resource.scope_metrics {
            let (scope, scope_weight) = parse_part::<Scope>(of_scope.scope, held)?;
            translation.begin_scope(&scope, &of_scope.schema_url);
            for text in &of_scope.metrics {
                let weight = weigh_json_part(text.get());
                held.grow(weight)?;
                match serde_json::from_str::<Metric>(text.get()) {
                    Ok(metric) => translation.metric(&metric)?,
                    Err(_) => {
                        let bad = BadMetric::of(text);
                        translation.refuse(Reason::InvalidMetric, bad.points, &bad.name);
                    }
                }
                held.shrink(weight);
            }
            held.shrink(scope_weight);
        }
        translation.end_resource(&resource)?;
        held.shrink(resource_weight);
    }
    Ok(())
}

/// A resource or scope, with the bytes that were reserved for it.
fn parse_part<'t, P: Deserialize<'t> + Default>(
    text: Option<&'t RawValue>,
    held: &mut Reservation,
) -> Result<(P, u64), ExportError> {
    let Some(text) = text else { return Ok((P::default(), 0)) };
    let weight = weigh_json_part(text.get());
    held.grow(weight)?;
    let part = serde_json::from_str(text.get()).map_err(|source| ExportError::Json { source })?;
    Ok((part, weight))
}
