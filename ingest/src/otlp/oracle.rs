//! What both drivers tell of one request, written down to be compared: by a property test, and by a fuzz target.

use prost::Message;

use super::error::{ExportError, Reason};
use super::message::{self, Metric, Request, Resource, Scope};
use super::visit::{self, ExponentialPoint, HistogramPoint, NumberPoint, SummaryPoint, Visit};
use super::{messages, wire};

/// Writes down what it is told; attributes and exemplars as prost reads them, without what it does not know.
#[derive(Default)]
struct Record {
    said: Vec<String>,
    /// Attributes of number points, as sent.
    attributes: Vec<Vec<u8>>,
    /// Those that it expects.
    expects: Vec<Vec<u8>>,
    /// Points whose attributes were what it expected.
    expected: usize,
}

impl Record {
    fn add(&mut self, what: impl std::fmt::Debug) -> Result<(), ExportError> {
        self.said.push(format!("{what:?}"));
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
    fn expected(&self) -> &[u8] {
        self.expects.get(self.attributes.len()).map_or(&[], Vec::as_slice)
    }
    fn number(&mut self, point: &NumberPoint<'_>) -> Result<(), ExportError> {
        if point.is_expected {
            assert_eq!(point.attributes, self.expected(), "the driver compares");
            self.expected += 1;
        }
        self.attributes.push(point.attributes.to_vec());
        let attributes = message::NumberPoint::decode(point.attributes)?.attributes;
        let exemplars = message::NumberPoint::decode(point.exemplars)?.exemplars;
        let said = NumberPoint { attributes: &[], exemplars: &[], is_expected: false, ..*point };
        self.add((&said, attributes, exemplars))
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
        self.said.push(format!("{reason:?} {points} {metric}"));
    }
    fn end_resource(&mut self) -> Result<(), ExportError> {
        self.add("end of a resource")
    }
}

/// What a walk over `body` says.
pub(super) fn walked(body: &[u8]) -> Result<Vec<String>, ExportError> {
    Ok(walk(body, Vec::new())?.said)
}

fn walk(body: &[u8], expects: Vec<Vec<u8>>) -> Result<Record, ExportError> {
    let budget = kymo_core::Budget::unlimited();
    let mut record = Record { expects, ..Record::default() };
    wire::drive(body, &mut wire::Buffers::default(), &mut budget.try_reserve(0)?, &mut record)?;
    Ok(record)
}

/// Holds a walk that expects the attributes of `before`, and one that expects its own, to one that expects nothing.
///
/// # Panics
/// They say something else, or one that fails does not.
pub(super) fn assert_expecting_changes_nothing(body: &[u8], before: &[u8]) {
    let attributes = |body: &[u8]| walk(body, Vec::new()).map_or(Vec::new(), |record| record.attributes);
    for expects in [attributes(body), attributes(before)] {
        match (walk(body, Vec::new()), walk(body, expects)) {
            (Ok(plain), Ok(expecting)) => assert_eq!(plain.said, expecting.said),
            (Err(plain), Err(expecting)) => assert_eq!(plain.to_string(), expecting.to_string()),
            (plain, expecting) => panic!("{:?} and {:?}", plain.map(|one| one.said), expecting.map(|one| one.said)),
        }
    }
}

/// How many number points of `body` are found by what is expected, in a walk that knows all of them.
#[cfg(test)]
pub(super) fn found_as_expected(body: &[u8]) -> usize {
    let known = walk(body, Vec::new()).map_or(Vec::new(), |record| record.attributes);
    walk(body, known).map_or(0, |record| record.expected)
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
    Some(record.said)
}

/// Holds a walk over any bytes to what prost decodes of them. A walk looks into less, so it may read more; what both read
/// is the same. And what a listener expects changes nothing.
///
/// # Panics
/// It is not, or does.
#[cfg_attr(not(feature = "fuzz"), allow(unreachable_pub, reason = "a door for fuzz targets"))]
pub fn assert_drivers_agree(body: &[u8]) {
    assert_expecting_changes_nothing(body, body);
    if let (Ok(walked), Some(decoded)) = (walked(body), decoded(body)) {
        assert_eq!(walked, decoded);
    }
}
