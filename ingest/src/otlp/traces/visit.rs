//! What a request of spans says, told in its order to whoever listens: [`Visit`]. Two drivers tell it, as of metrics.

use super::super::error::{ExportError, Reason};

/// The field number of a span's attributes.
pub(super) const ATTRIBUTES: u32 = 9;

/// A listener. An error of it ends the request.
pub(super) trait Visit {
    /// Goes on with the spans of a resource, an encoded `Resource`.
    fn resource(&mut self, resource: &[u8]) -> Result<(), ExportError>;

    /// A span.
    fn span(&mut self, span: &Span<'_>) -> Result<(), ExportError>;

    /// A span that cannot be read.
    fn refuse(&mut self, reason: Reason, name: &str);
}

/// Times are in nanoseconds since the Unix epoch, 0 = unset; ids are as sent, of any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span<'a> {
    pub(super) trace_id: &'a [u8],
    pub(super) span_id: &'a [u8],
    pub(super) parent_span_id: &'a [u8],
    pub(super) name: &'a str,
    pub(super) kind: i32,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// The code of the status.
    pub(super) status: i32,
    /// Whole fields numbered [`ATTRIBUTES`].
    pub(super) attributes: &'a [u8],
}
