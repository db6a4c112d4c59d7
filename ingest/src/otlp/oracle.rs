//! What both drivers tell of one request, written down to be compared: by a property test, and by a fuzz target.

use prost::Message;

use super::error::{ExportError, Reason};
use super::message::{self, Metric, Request, Resource, Scope};
use super::visit::{self, ExponentialPoint, HistogramPoint, NumberPoint, SummaryPoint, Visit};
use super::{messages, wire};

/// Writes down what it is told; attributes and exemplars as prost reads them, without what it does not know.
#[derive(Default)]
struct Record(Vec<String>);

impl Record {
    fn add(&mut self, what: impl std::fmt::Debug) -> Result<(), ExportError> {
        self.0.push(format!("{what:?}"));
        Ok(())
    }
}

impl Visit for Record {
    fn resource(&mut self, resource: &[u8]) -> Result<(), ExportError> {
        self.add(Resource::decode(resource)?)
    }
    fn scope(&mut self, scope: &[u8], schema_url: &str) -> Result<(), ExportError> {
        self.add((Scope::decode(scope)?, schema_url))
    }
    fn metric(&mut self, metric: &visit::Metric<'_>) -> Result<(), ExportError> {
        self.add(metric)
    }
    fn number(&mut self, point: &NumberPoint<'_>) -> Result<(), ExportError> {
        let attributes = message::NumberPoint::decode(point.attributes)?.attributes;
        let exemplars = message::NumberPoint::decode(point.exemplars)?.exemplars;
        self.add((&NumberPoint { attributes: &[], exemplars: &[], ..*point }, attributes, exemplars))
    }
    fn histogram(&mut self, point: &HistogramPoint<'_>) -> Result<(), ExportError> {
        let attributes = message::HistogramPoint::decode(point.attributes)?.attributes;
        let exemplars = message::HistogramPoint::decode(point.exemplars)?.exemplars;
        self.add((&HistogramPoint { attributes: &[], exemplars: &[], ..*point }, attributes, exemplars))
    }
    fn exponential(&mut self, point: &ExponentialPoint<'_>) -> Result<(), ExportError> {
        let attributes = message::ExponentialPoint::decode(point.attributes)?.attributes;
        let exemplars = message::ExponentialPoint::decode(point.exemplars)?.exemplars;
        self.add((&ExponentialPoint { attributes: &[], exemplars: &[], ..*point }, attributes, exemplars))
    }
    fn summary(&mut self, point: &SummaryPoint<'_>) -> Result<(), ExportError> {
        let attributes = message::SummaryPoint::decode(point.attributes)?.attributes;
        self.add((&SummaryPoint { attributes: &[], ..*point }, attributes))
    }
    fn end_metric(&mut self) -> Result<(), ExportError> {
        self.add("end of a metric")
    }
    fn refuse(&mut self, reason: Reason, points: u64, metric: &str) {
        self.0.push(format!("{reason:?} {points} {metric}"));
    }
    fn end_resource(&mut self) -> Result<(), ExportError> {
        self.add("end of a resource")
    }
}

/// What a walk over `body` says.
pub(super) fn walked(body: &[u8]) -> Result<Vec<String>, ExportError> {
    let budget = kymo_core::Budget::unlimited();
    let mut record = Record::default();
    wire::drive(body, &mut wire::Buffers::default(), &mut budget.try_reserve(0)?, &mut record)?;
    Ok(record.0)
}

/// What messages decoded by prost say; `None` where they cannot be.
pub(super) fn decoded(body: &[u8]) -> Option<Vec<String>> {
    let mut record = Record::default();
    let mut encoded = messages::Encoded::default();
    for of_resource in Request::decode(body).ok()?.resource_metrics {
        record.resource(&of_resource.resource.unwrap_or_default().encode_to_vec()).ok()?;
        for of_scope in of_resource.scope_metrics {
            record.scope(&of_scope.scope.unwrap_or_default().encode_to_vec(), &of_scope.schema_url).ok()?;
            for metric in of_scope.metrics {
                messages::tell(&Metric::decode(metric).ok()?, &mut encoded, &mut record).ok()?;
            }
        }
        record.end_resource().ok()?;
    }
    Some(record.0)
}

/// Holds a walk over any bytes to what prost decodes of them. A walk looks into less, so it may read more; what both read
/// is the same.
///
/// # Panics
/// It is not.
pub fn assert_drivers_agree(body: &[u8]) {
    if let (Ok(walked), Some(decoded)) = (walked(body), decoded(body)) {
        assert_eq!(walked, decoded);
    }
}
