//! What a walk over spans says, and what messages decoded by prost say, written down to be compared.

use prost::Message;

use super::super::error::{ExportError, Reason};
use super::super::message::{KeyValue, Resource};
use super::messages::{self, Span};
use super::visit::{self, Visit};
use super::wire;

/// `ExportTraceServiceRequest`
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

/// Writes down what it is told; attributes as prost reads them.
#[derive(Default)]
struct Record(Vec<String>);

impl Visit for Record {
    fn resource(&mut self, resource: &[u8]) -> Result<(), ExportError> {
        self.0.push(format!("{:?}", Resource::decode(resource)?));
        Ok(())
    }
    fn span(&mut self, span: &visit::Span<'_>) -> Result<(), ExportError> {
        let attributes: Vec<KeyValue> = Span::decode(span.attributes)?.attributes;
        self.0.push(format!("{:?} {attributes:?}", visit::Span { attributes: &[], ..*span }));
        Ok(())
    }
    fn refuse(&mut self, reason: Reason, name: &str) {
        self.0.push(format!("{reason:?} {name}"));
    }
}

fn walked(body: &[u8]) -> Result<Vec<String>, ExportError> {
    let mut record = Record::default();
    wire::drive(body, &mut kymo_core::Budget::unlimited().try_reserve(0)?, &mut record)?;
    Ok(record.0)
}

fn decoded(body: &[u8]) -> Option<Vec<String>> {
    let (mut record, mut attributes) = (Record::default(), Vec::new());
    for of_resource in Request::decode(body).ok()?.resource_spans {
        record.resource(&of_resource.resource.unwrap_or_default().encode_to_vec()).ok()?;
        for span in of_resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
            messages::tell(span, &mut attributes, &mut record).ok()?;
        }
    }
    Some(record.0)
}

/// Holds a walk over any bytes to what prost decodes of them. A walk looks into less, so it may read more; what both read
/// is the same.
///
/// # Panics
/// It is not.
#[cfg_attr(not(feature = "fuzz"), allow(unreachable_pub, reason = "a door for fuzz targets"))]
pub fn assert_span_drivers_agree(body: &[u8]) {
    if let (Ok(walked), Some(decoded)) = (walked(body), decoded(body)) {
        assert_eq!(walked, decoded);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::otlp::message::AnyValue;

    fn span() -> impl Strategy<Value = Span> {
        let id = || prop::collection::vec(any::<u8>(), 0..17);
        let pair = ("[a-z.]{0,8}", prop::option::of("[a-z]{0,8}")).prop_map(|(key, text)| KeyValue {
            key,
            value: text.map(|text| AnyValue { string_value: Some(text), ..AnyValue::default() }),
        });
        let ids = (id(), id(), id(), "[a-zé/]{0,8}");
        let rest = (
            any::<i32>(),
            any::<u64>(),
            any::<u64>(),
            prop::collection::vec(pair, 0..4),
            prop::option::of(any::<i32>()),
        );
        (ids, rest).prop_map(|((trace_id, span_id, parent_span_id, name), (kind, start, end, attributes, status))| {
            Span {
                trace_id,
                span_id,
                parent_span_id,
                name,
                kind,
                start_time_unix_nano: start,
                end_time_unix_nano: end,
                attributes,
                status: status.map(|code| messages::Status { code }),
            }
        })
    }

    proptest! {
        #[test]
        fn a_walk_says_what_prost_decodes(spans in prop::collection::vec(prop::collection::vec(span(), 0..4), 0..4), flips in prop::collection::vec(any::<prop::sample::Index>(), 0..3)) {
            let resource_spans = spans.into_iter().map(|spans| ResourceSpans {
                resource: Some(Resource::default()),
                scope_spans: vec![ScopeSpans { spans }],
            });
            let mut body = Request { resource_spans: resource_spans.collect() }.encode_to_vec();
            prop_assert_eq!(walked(&body).ok(), decoded(&body));
            if !body.is_empty() {
                for flip in flips {
                    let bit = flip.index(body.len() * 8);
                    body[bit / 8] ^= 1 << (bit % 8);
                }
            }
            assert_span_drivers_agree(&body);
        }
    }
}
