//! What is kept of the spans of one request until all of it is read: a [`Fact`] each, and their texts side by side.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use kymo_core::Reservation;
use prost::Message;

use super::super::error::{ExportError, Reason};
use super::super::labels::{SERVICE_NAME, SERVICE_NAMESPACE};
use super::super::message::KeyValue;
use super::super::outcome::{Refusal, add};
use super::super::translate::millis;
use super::super::value;
use super::meaning::{Kind, Meaning, Peer};
use super::visit::{Span, Visit};
use crate::proto::Cursor;

const TRACE_ID_BYTES: usize = 16;
const SPAN_ID_BYTES: usize = 8;
/// A resource that does not name its service, as SDKs call it.
const UNKNOWN_SERVICE: &str = "unknown_service";
/// Bytes reserved at a time.
const STEP_BYTES: u64 = 64 << 10;

/// A span's or its parent's number in its trace: a hash of both ids; 0 = none.
pub(super) type SpanNumber = u64;

/// Whom a span called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Callee {
    Unsaid,
    Perhaps(Text),
    Certain(Text),
}

/// Bytes of [`Gathered::texts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Text {
    start: u32,
    end: u32,
}

/// Which span of which trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) trace: [u8; TRACE_ID_BYTES],
    pub(super) span: [u8; SPAN_ID_BYTES],
}

/// What is counted of a span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fact {
    pub(super) ids: Ids,
    pub(super) number: SpanNumber,
    pub(super) parent: SpanNumber,
    pub(super) service: Text,
    pub(super) operation: Text,
    pub(super) callee: Callee,
    pub(super) kind: Kind,
    pub(super) is_error: bool,
    pub(super) duration_ns: u64,
    pub(super) end_ms: i64,
}

/// The listener. Buffers are used again for the next request.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) facts: Vec<Fact>,
    texts: String,
    service: Text,
    pub(super) refusals: Vec<Refusal>,
}

impl Gathered {
    /// Forgets everything; whether the buffers are worth keeping.
    pub(super) fn clear(&mut self) -> bool {
        let is_small = self.bytes() <= 4 << 20;
        self.facts.clear();
        self.texts.clear();
        self.service = Text::default();
        self.refusals.clear();
        is_small
    }

    pub(super) fn text(&self, text: Text) -> &str {
        &self.texts[text.start as usize..text.end as usize]
    }

    fn bytes(&self) -> usize {
        self.facts.capacity() * size_of::<Fact>() + self.texts.capacity()
    }

    /// What was written since `start`.
    fn since(&self, start: usize) -> Text {
        // No longer than the body, which is below 4 GiB.
        Text { start: start as u32, end: self.texts.len() as u32 }
    }

    fn keep(&mut self, text: &str) -> Text {
        let start = self.texts.len();
        self.texts.push_str(text);
        self.since(start)
    }
}

/// Gathers with what it needs beside.
pub(super) struct Gathering<'g> {
    gathered: &'g mut Gathered,
    hasher: &'g RandomState,
    held: Reservation,
}

impl<'g> Gathering<'g> {
    pub(super) fn new(gathered: &'g mut Gathered, hasher: &'g RandomState, held: Reservation) -> Gathering<'g> {
        Gathering { gathered, hasher, held }
    }

    /// Pays for one more fact and `bytes` of text before the buffers grow.
    fn pay(&mut self, bytes: usize) -> Result<(), ExportError> {
        let Gathered { facts, texts, .. } = &*self.gathered;
        let fits = facts.len() < facts.capacity() && texts.len() + bytes <= texts.capacity();
        // Vectors may double.
        let wanted =
            if fits { self.gathered.bytes() } else { 2 * (self.gathered.bytes() + bytes) + 4 * size_of::<Fact>() };
        let missing = (wanted as u64).saturating_sub(self.held.bytes());
        if missing > 0 {
            self.held.grow(missing.next_multiple_of(STEP_BYTES))?;
        }
        Ok(())
    }

    fn number(&self, trace: &[u8], span: &[u8]) -> SpanNumber {
        self.hasher.hash_one((trace, span)).max(1)
    }
}

impl Visit for Gathering<'_> {
    fn resource(&mut self, resource: &[u8]) -> Result<(), ExportError> {
        let (mut name, mut namespace) = (None, None);
        let mut fields = Cursor::new(resource);
        while let Some(field) = fields.next()? {
            if field.number != 1 {
                continue;
            }
            let pair = field.span()?.of(resource);
            let mut inner = Cursor::new(pair);
            while let Some(field) = inner.next()? {
                if field.number == 1 {
                    let wanted = match field.span()?.of(pair) {
                        key if key == SERVICE_NAME.as_bytes() => &mut name,
                        key if key == SERVICE_NAMESPACE.as_bytes() => &mut namespace,
                        _ => continue,
                    };
                    if wanted.is_none() {
                        *wanted = Some(KeyValue::decode(pair)?.value.as_ref().map(value::text).unwrap_or_default());
                    }
                }
            }
        }
        self.pay(resource.len() + UNKNOWN_SERVICE.len() + 1)?;
        let start = self.gathered.texts.len();
        let name = name.filter(|name| !name.is_empty());
        if let (Some(namespace), Some(_)) = (namespace, &name) {
            self.gathered.texts.push_str(&namespace);
            self.gathered.texts.push('/');
        }
        self.gathered.texts.push_str(name.as_deref().unwrap_or(UNKNOWN_SERVICE));
        self.gathered.service = self.gathered.since(start);
        Ok(())
    }

    fn span(&mut self, span: &Span<'_>) -> Result<(), ExportError> {
        let is_id = |id: &[u8]| id.iter().any(|byte| *byte != 0);
        let ids = match (span.trace_id.as_array(), span.span_id.as_array()) {
            (Some(trace), Some(own)) if is_id(trace) && is_id(own) => Ok(Ids { trace: *trace, span: *own }),
            _ => Err(Reason::InvalidId),
        };
        let fault = match (span.start_ns, span.end_ns) {
            (0, _) | (_, 0) => Some(Reason::MissingSpanTime),
            (start, end) if end < start => Some(Reason::NegativeDuration),
            _ => None,
        };
        let (ids, duration_ns) = match (ids, fault) {
            (Ok(ids), None) => (ids, span.end_ns - span.start_ns),
            (Err(reason), _) | (_, Some(reason)) => {
                self.refuse(reason, span.name);
                return Ok(());
            }
        };
        let meaning = Meaning::of(span)?;
        self.pay(span.name.len() + span.attributes.len() + 16)?;
        let start = self.gathered.texts.len();
        meaning.operation(&mut self.gathered.texts);
        let operation = self.gathered.since(start);
        let callee = match meaning.peer() {
            Peer::Certain(name) => Callee::Certain(self.gathered.keep(name)),
            Peer::Perhaps(name) => Callee::Perhaps(self.gathered.keep(name)),
            Peer::Unsaid => Callee::Unsaid,
        };
        let has_parent = span.parent_span_id.len() == SPAN_ID_BYTES && is_id(span.parent_span_id);
        self.gathered.facts.push(Fact {
            ids,
            number: self.number(span.trace_id, span.span_id),
            parent: if has_parent { self.number(span.trace_id, span.parent_span_id) } else { 0 },
            service: self.gathered.service,
            operation,
            callee,
            kind: meaning.kind(),
            is_error: meaning.is_error(),
            duration_ns,
            end_ms: millis(span.end_ns),
        });
        Ok(())
    }

    fn refuse(&mut self, reason: Reason, name: &str) {
        add(&mut self.gathered.refusals, reason, 1, "span", name);
    }
}
