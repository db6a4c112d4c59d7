//! `prometheus.WriteRequest`: every series carries its labels as strings.
//!
//! The cache key of a series is the run of label fields at the start of its message, as sent. A message
//! with a label field anywhere else is legal protobuf that no sender writes; it is read correctly, but not cached.

use std::hash::BuildHasher;

use kymo_core::{FamilyType, Metadata};

use super::Version;
use super::config::RemoteWriteConfig;
use super::error::DecodeError;
use super::naming::Naming;
use super::rows::{FloatSample, Layout, Rows, refuse, usual_sample};
use crate::proto::{Cursor, ProtoError, Span};
use crate::series_cache::{Hit, SeriesCache, Session, Sessions};

const LAYOUT: Layout = Layout { version: Version::V1, histograms: 4, exemplars: 3 };
/// The first byte of a series: field number 1, length-delimited.
const SERIES_TAG: u8 = 0x0a;
/// The first byte of a label field: number 1, length-delimited.
const LABEL_TAG: u8 = 0x0a;
/// The first byte of a sample field: number 2, length-delimited.
const SAMPLE_TAG: u8 = 0x12;

pub(super) fn decode<S: BuildHasher>(
    body: &[u8],
    cache: &SeriesCache<S>,
    rows: &mut Rows,
    config: &RemoteWriteConfig,
) -> Result<(), DecodeError> {
    let mut sessions = Sessions::new(cache);
    let mut fields = Cursor::new(body);
    loop {
        if let Some(message) = fields.take_short(SERIES_TAG) {
            series(body, message, sessions.next(), rows, config)?;
            continue;
        }
        let Some(field) = fields.next()? else { break };
        match field.number {
            1 => series(body, field.span()?, sessions.next(), rows, config)?,
            3 => metadata(body, field.span()?, rows)?,
            _ => {}
        }
    }
    Ok(())
}

#[inline]
fn series<S: BuildHasher>(
    body: &[u8],
    message: Span,
    session: &mut Session<'_, S>,
    rows: &mut Rows,
    config: &RemoteWriteConfig,
) -> Result<(), DecodeError> {
    let bytes = message.of(body);
    // Behind the label fields of the series that followed last time, if it stands here again.
    let predicted = session.predicted().and_then(|(slot, key)| Some((slot, bytes.strip_prefix(key)?)));
    let mut hit = None;
    if let Some((slot, rest)) = predicted
        && rest.first() != Some(&LABEL_TAG)
    {
        hit = session.hit(slot);
        if let (Some(hit), Some(sample)) = (hit, only_sample(rest)) {
            return rows.push_usual(message, hit, sample, config);
        }
    }
    any_series(body, message, hit, session, rows, config)
}

/// What nearly every message holds besides labels: one sample.
#[inline]
fn only_sample(rest: &[u8]) -> Option<FloatSample> {
    let [SAMPLE_TAG, len, sample @ ..] = rest else { return None };
    if usize::from(*len) == sample.len() { usual_sample(sample, LAYOUT) } else { None }
}

fn any_series<S: BuildHasher>(
    body: &[u8],
    message: Span,
    predicted: Option<Hit>,
    session: &mut Session<'_, S>,
    rows: &mut Rows,
    config: &RemoteWriteConfig,
) -> Result<(), DecodeError> {
    let mut hit = match predicted {
        Some(hit) => Some(hit),
        None => session.find(message.first(labels_len(body, message)?).of(body)),
    };
    if let Some(Hit { key_len, .. }) = hit
        && has_labels(body, message.skip(key_len))?
    {
        hit = None;
    }
    let (target, elements) = match hit {
        Some(hit) => (Ok(hit.series.into()), message.skip(hit.key_len)),
        None => (rows.keep(Version::V1, body, message)?, message),
    };
    rows.open(message, hit, 0)?;
    let refused = rows.elements(body, elements, LAYOUT, target, config)?;
    if let Err(reason) = target {
        refuse(&mut rows.refusals, reason, refused, || Naming::Inline.example(body, message));
    }
    rows.close();
    Ok(())
}

/// Length of the run of label fields at the start of a series message.
fn labels_len(body: &[u8], message: Span) -> Result<usize, ProtoError> {
    let bytes = message.of(body);
    let start = message.range().start;
    let mut fields = Cursor::over(body, message);
    let mut len = 0;
    while bytes.get(len) == Some(&LABEL_TAG) {
        fields.next()?;
        len = fields.position() - start;
    }
    Ok(len)
}

/// Whether a label field stands in `rest` of a series message.
fn has_labels(body: &[u8], rest: Span) -> Result<bool, ProtoError> {
    // Nearly every message goes on with exactly one sample.
    if let [SAMPLE_TAG, len, sample @ ..] = rest.of(body)
        && *len < 0x80
        && sample.len() == usize::from(*len)
    {
        return Ok(false);
    }
    let mut fields = Cursor::over(body, rest);
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The cache key of a series message; `None` if it has none.
pub(super) fn key(body: &[u8], message: Span) -> Option<Span> {
    let len = labels_len(body, message).ok()?;
    match has_labels(body, message.skip(len)) {
        Ok(false) => Some(message.first(len)),
        Ok(true) | Err(_) => None,
    }
}

/// A `MetricMetadata` message.
fn metadata(body: &[u8], message: Span, rows: &mut Rows) -> Result<(), DecodeError> {
    rows.meter.take(message.len() + 2 * size_of::<(String, Metadata)>())?;
    let text = |span: Span| String::from_utf8_lossy(span.of(body)).into_owned();
    let (mut family, mut metadata) = (String::new(), Metadata::default());
    let mut fields = Cursor::over(body, message);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => metadata.family_type = family_type(field.uint32()?),
            2 => family = text(field.span()?),
            4 => metadata.help = text(field.span()?),
            5 => metadata.unit = text(field.span()?),
            _ => {}
        }
    }
    if !family.is_empty() {
        rows.batch.push_metadata(family, metadata);
    }
    Ok(())
}

/// The type that has this number in both versions; one of a later version is unknown.
pub(super) fn family_type(number: u32) -> FamilyType {
    u8::try_from(number).ok().and_then(FamilyType::from_u8).unwrap_or_default()
}
