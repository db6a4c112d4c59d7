//! The driver of binary protobuf: one walk over the body, which decodes nothing that is not looked at.

use kymo_core::Reservation;

use super::super::error::ExportError;
use super::super::wire::{Merged, Run, text};
use super::visit::{ATTRIBUTES, Span, Visit};
use crate::proto::{self, Cursor};

/// Tells `visit` what stands in `body`, an `ExportTraceServiceRequest`.
pub(super) fn drive<V: Visit>(body: &[u8], held: &mut Reservation, visit: &mut V) -> Result<(), ExportError> {
    let mut fields = Cursor::new(body);
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            resource_spans(body, field.span()?, held, visit)?;
        }
    }
    Ok(())
}

fn resource_spans<V: Visit>(
    body: &[u8],
    part: proto::Span,
    held: &mut Reservation,
    visit: &mut V,
) -> Result<(), ExportError> {
    let mut resource = Merged::default();
    let mut fields = Cursor::over(body, part);
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            resource.add(body, field.span()?, held)?;
        }
    }
    visit.resource(resource.bytes(body))?;
    let mut fields = Cursor::over(body, part);
    while let Some(field) = fields.next()? {
        if field.number == 2 {
            let mut inner = Cursor::over(body, field.span()?);
            while let Some(field) = inner.next()? {
                // Of the scope nothing is used.
                if field.number == 2 {
                    span(body, field.span()?, visit)?;
                }
            }
        }
    }
    Ok(())
}

fn span<V: Visit>(body: &[u8], part: proto::Span, visit: &mut V) -> Result<(), ExportError> {
    let mut span = Span::default();
    let mut attributes = Run::default();
    let mut fields = Cursor::over(body, part);
    loop {
        let at = fields.position();
        let Some(field) = fields.next()? else { break };
        match field.number {
            1 => span.trace_id = field.span()?.of(body),
            2 => span.span_id = field.span()?.of(body),
            4 => span.parent_span_id = field.span()?.of(body),
            5 => span.name = text(field.span()?.of(body))?,
            6 => span.kind = field.varint()? as i32,
            7 => span.start_ns = field.fixed64()?,
            8 => span.end_ns = field.fixed64()?,
            ATTRIBUTES => {
                field.span()?;
                attributes.add(body, at, fields.position());
            }
            15 => {
                let mut inner = Cursor::over(body, field.span()?);
                while let Some(field) = inner.next()? {
                    if field.number == 3 {
                        span.status = field.varint()? as i32;
                    }
                }
            }
            _ => {}
        }
    }
    visit.span(&Span { attributes: attributes.bytes(body), ..span })
}
