//! The labels of a series or exemplar, as the two versions write them.

use kymo_core::labels::{LabelError, LabelsBuilder, LabelsRef};
use kymo_core::storage::RejectReason;
use kymo_core::text::write_series_text;

use super::Version;
use super::error::Reason;
use crate::proto::{Cursor, Field, ProtoError, Span};

/// Bytes of a series that an answer or the ledger shows.
const EXAMPLE_BYTES_MAX: usize = 300;
/// Labels of a series that an answer or the ledger shows.
const EXAMPLE_LABELS_MAX: usize = 32;

/// How a message names its labels. In both versions they stand in field 1, of series and exemplars alike.
#[derive(Debug, Clone, Copy)]
pub(super) enum Naming<'a> {
    /// Embedded `Label` messages.
    Inline,
    /// Pairs of indices into the request's symbols.
    Symbols(&'a [Span]),
}

impl<'a> Naming<'a> {
    /// How `version` names labels.
    pub(super) fn of(version: Version, symbols: &'a [Span]) -> Naming<'a> {
        match version {
            Version::V1 => Naming::Inline,
            Version::V2 => Naming::Symbols(symbols),
        }
    }

    /// Hands `each` the names and values of a message's labels, as sent; stops at the first fault.
    pub(super) fn pairs<'b>(
        self,
        body: &'b [u8],
        message: Span,
        mut each: impl FnMut(&'b [u8], &'b [u8]) -> Result<(), Reason>,
    ) -> Result<Result<(), Reason>, ProtoError> {
        let mut refs = RefPairs::default();
        let mut fields = Cursor::over(body, message);
        while let Some(field) = fields.next()? {
            if field.number != 1 {
                continue;
            }
            let result = match self {
                Naming::Inline => {
                    let (name, value) = label(body, field.span()?)?;
                    each(name, value)
                }
                Naming::Symbols(symbols) => refs.read(body, field, symbols, &mut each)?,
            };
            if result.is_err() {
                return Ok(result);
            }
        }
        Ok(refs.end())
    }

    /// Fills `builder` with a message's labels.
    pub(super) fn build<'l>(
        self,
        body: &[u8],
        message: Span,
        builder: &'l mut LabelsBuilder,
    ) -> Result<Result<LabelsRef<'l>, Reason>, ProtoError> {
        builder.clear();
        let mut last: Option<&[u8]> = None;
        let pushed = self.pairs(body, message, |name, value| {
            if let (Naming::Symbols(_), Some(last)) = (self, last) {
                match last.cmp(name) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return Err(Reason::DuplicateLabel),
                    std::cmp::Ordering::Greater => return Err(Reason::UnsortedLabels),
                }
            }
            last = Some(name);
            let utf8 = |bytes| std::str::from_utf8(bytes).map_err(|_| Reason::NotUtf8);
            builder.push(utf8(name)?, utf8(value)?);
            Ok(())
        })?;
        Ok(pushed.and_then(|()| {
            builder.build().map_err(|error| match error {
                LabelError::EmptyName { .. } => Reason::EmptyLabelName,
                LabelError::Duplicate { .. } => Reason::DuplicateLabel,
                _ => Reason::NotUtf8,
            })
        }))
    }

    /// As [`build`](Self::build), for the labels of a series, which must have a name.
    pub(super) fn series<'l>(
        self,
        body: &[u8],
        message: Span,
        builder: &'l mut LabelsBuilder,
    ) -> Result<Result<LabelsRef<'l>, Reason>, ProtoError> {
        let labels = self.build(body, message, builder)?;
        Ok(labels.and_then(|labels| {
            let named = labels.metric_name().is_some();
            if named { Ok(labels) } else { Err(Reason::Row(RejectReason::MissingName)) }
        }))
    }

    /// The value of the label `name`.
    pub(super) fn value<'b>(self, body: &'b [u8], message: Span, name: &str) -> Option<&'b str> {
        let mut found = None;
        let _ = self.pairs(body, message, |n, value| {
            if n == name.as_bytes() {
                found = std::str::from_utf8(value).ok();
            }
            Ok(())
        });
        found
    }

    /// A series in words, whatever is wrong with it; cut short if it is long.
    pub(super) fn example(self, body: &[u8], message: Span) -> String {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(EXAMPLE_BYTES_MAX)]).into_owned();
        // What could be read before a fault is the example.
        let _ = self.pairs(body, message, |name, value| {
            if pairs.len() < EXAMPLE_LABELS_MAX {
                pairs.push((lossy(name), lossy(value)));
            }
            Ok(())
        });
        let mut text = String::from("series ");
        write_series_text(&mut text, pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        if text.len() > EXAMPLE_BYTES_MAX {
            let cut = (0..=EXAMPLE_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            text.truncate(cut);
            text.push('…');
        }
        text
    }
}

/// The name and value of a `Label` message.
fn label(body: &[u8], message: Span) -> Result<(&[u8], &[u8]), ProtoError> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut fields = Cursor::over(body, message);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.span()?.of(body),
            2 => value = field.span()?.of(body),
            _ => {}
        }
    }
    Ok((name, value))
}

/// Pairs up label references, which may come in several fields.
#[derive(Default)]
struct RefPairs<'b> {
    name: Option<&'b [u8]>,
}

impl<'b> RefPairs<'b> {
    fn read(
        &mut self,
        body: &'b [u8],
        field: Field,
        symbols: &[Span],
        mut each: impl FnMut(&'b [u8], &'b [u8]) -> Result<(), Reason>,
    ) -> Result<Result<(), Reason>, ProtoError> {
        let mut result = Ok(());
        field.varints(body, |number| {
            if result.is_err() {
                return;
            }
            // Cut to 32 bits, as protobuf does with an oversized `uint32`.
            let Some(symbol) = symbols.get(number as u32 as usize) else {
                result = Err(Reason::SymbolOutOfRange);
                return;
            };
            match self.name.take() {
                None => self.name = Some(symbol.of(body)),
                Some(name) => result = each(name, symbol.of(body)),
            }
        })?;
        Ok(result)
    }

    fn end(&self) -> Result<(), Reason> {
        if self.name.is_some() { Err(Reason::OddLabelRefs) } else { Ok(()) }
    }
}
