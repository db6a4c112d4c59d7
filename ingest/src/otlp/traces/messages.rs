//! The driver of JSON, and the messages it reads; of protobuf they are only read to compare the two.

use kymo_core::Reservation;
use prost::Message;
use prost::encoding::message::encode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::error::{ExportError, Reason};
use super::super::json::{hex, number, objects, or_default};
use super::super::memory::{JSON_OBJECT_BYTES, weigh_json_part, weigh_json_request};
use super::super::message::{KeyValue, Resource};
use super::super::messages::parse_part;
use super::visit::{self, ATTRIBUTES, Visit};

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
struct Request<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    resource_spans: Vec<ResourceSpans<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
struct ResourceSpans<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    scope_spans: Vec<ScopeSpans<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
struct ScopeSpans<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    spans: Vec<&'a RawValue>,
}

/// `Span`, as far as it is looked at.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    #[serde(deserialize_with = "hex")]
    pub(super) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    #[serde(deserialize_with = "hex")]
    pub(super) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    #[serde(deserialize_with = "hex")]
    pub(super) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[prost(int32, tag = "6")]
    #[serde(deserialize_with = "or_default")]
    pub(super) kind: i32,
    #[prost(fixed64, tag = "7")]
    #[serde(deserialize_with = "number")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    #[serde(deserialize_with = "number")]
    pub(super) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    #[serde(deserialize_with = "or_default")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub(super) status: Option<Status>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct Status {
    #[prost(int32, tag = "3")]
    #[serde(deserialize_with = "or_default")]
    pub(super) code: i32,
}

objects!(borrowing Request, ResourceSpans, ScopeSpans);
objects!(Span, Status);

// A `{` of a span is paid for as any other.
const _: () = assert!(size_of::<Span>() <= JSON_OBJECT_BYTES);

/// Tells `visit` what stands in `body`. Memory is reserved in `held` before it is taken.
pub(super) fn drive_json<V: Visit>(body: &[u8], held: &mut Reservation, visit: &mut V) -> Result<(), ExportError> {
    held.grow(weigh_json_request(body))?;
    let request: Request<'_> = serde_json::from_slice(body).map_err(|source| ExportError::Json { source })?;
    let mut attributes = Vec::new();
    for of_resource in &request.resource_spans {
        let (resource, resource_weight) = parse_part::<Resource>(of_resource.resource, held)?;
        visit.resource(&resource.encode_to_vec())?;
        for text in of_resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
            let weight = weigh_json_part(text.get());
            held.grow(weight)?;
            match serde_json::from_str::<Span>(text.get()) {
                Ok(span) => tell(&span, &mut attributes, visit)?,
                Err(_) => visit.refuse(Reason::InvalidSpan, &name_of(text)),
            }
            held.shrink(weight);
        }
        held.shrink(resource_weight);
    }
    Ok(())
}

/// Tells `visit` of one span.
pub(super) fn tell<V: Visit>(span: &Span, attributes: &mut Vec<u8>, visit: &mut V) -> Result<(), ExportError> {
    attributes.clear();
    span.attributes.iter().for_each(|pair| encode(ATTRIBUTES, pair, attributes));
    visit.span(&visit::Span {
        trace_id: &span.trace_id,
        span_id: &span.span_id,
        parent_span_id: &span.parent_span_id,
        name: &span.name,
        kind: span.kind,
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        status: span.status.as_ref().map_or(0, |status| status.code),
        attributes,
    })
}

fn name_of(span: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_str::<Named>(span.get()).map(|named| named.name).unwrap_or_default()
}
