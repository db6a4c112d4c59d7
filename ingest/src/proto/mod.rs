//! Reading protobuf where it lies: a cursor over the bytes of one message, borrowed, without allocation.
//!
//! Invariants: (1) no input makes it panic; (2) no length is believed before the bytes are seen to be
//! there; (3) unknown fields are skipped, whatever their wire type, nested groups only to a fixed depth;
//! (4) every offset in an error counts from the start of the whole body, however deep the message lies.
//!
//! Messages inside messages are [`Span`]s of the same body, so a decoder can remember where something
//! stood without borrowing it.

#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "some of it is read by OTLP alone"))]
mod cursor;
#[cfg(test)]
mod tests;

pub use cursor::ProtoError;
pub(crate) use cursor::{Cursor, Field, Span, zigzag};
