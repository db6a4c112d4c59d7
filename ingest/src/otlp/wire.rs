//! The driver of binary protobuf: one walk over the body, which allocates nothing but what the longest point needs.
//!
//! Fields may come in any order, and a message that stands several times is one message of all their fields, as
//! protobuf has it: where a sender makes use of that, the parts are copied together.

use kymo_core::Reservation;

use super::error::ExportError;
use super::visit::{
    Buckets, Data, EXPONENTIAL_ATTRIBUTES, EXPONENTIAL_EXEMPLARS, ExponentialPoint, HISTOGRAM_ATTRIBUTES,
    HISTOGRAM_EXEMPLARS, HistogramPoint, Metric, NUMBER_ATTRIBUTES, NUMBER_EXEMPLARS, NumberPoint, SUMMARY_ATTRIBUTES,
    SummaryPoint, Visit,
};
use crate::proto::{Cursor, Span};

/// A field number and its wire type: of what has a length, and of eight bytes.
const TAG_OF_POINTS: u8 = 1 << 3 | 2;
const TAG_OF_NUMBER_ATTRIBUTES: u8 = (NUMBER_ATTRIBUTES << 3 | 2) as u8;
const TAG_OF_START: u8 = 2 << 3 | 1;
const TAG_OF_TIME: u8 = 3 << 3 | 1;
const TAG_OF_DOUBLE: u8 = 4 << 3 | 1;
const TAG_OF_INTEGER: u8 = 6 << 3 | 1;

/// Columns of the point at hand, used again for the next.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    counts: Vec<u64>,
    negative: Vec<u64>,
    bounds: Vec<f64>,
    quantiles: Vec<(f64, f64)>,
}

impl Buffers {
    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        8 * (self.counts.capacity() + self.negative.capacity() + self.bounds.capacity() + 2 * self.quantiles.capacity())
    }
}

/// Tells `visit` what stands in `body`. Memory is reserved in `held` before it is taken.
pub(super) fn drive<V: Visit>(
    body: &[u8],
    buffers: &mut Buffers,
    held: &mut Reservation,
    visit: &mut V,
) -> Result<(), ExportError> {
    let reserved = buffers.bytes() as u64;
    let mut walk = Walk { buffers, held, reserved, visit };
    let mut fields = Cursor::new(body);
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            walk.resource_metrics(body, field.span()?)?;
        }
    }
    Ok(())
}

struct Walk<'w, V> {
    buffers: &'w mut Buffers,
    held: &'w mut Reservation,
    /// Bytes of the buffers that are paid for.
    reserved: u64,
    visit: &'w mut V,
}

impl<V: Visit> Walk<'_, V> {
    /// Pays for buffers that hold `more` elements of 8 bytes more, before they grow.
    fn pay(&mut self, more: usize) -> Result<(), ExportError> {
        // A vector may double.
        let wanted = (self.buffers.bytes() + 2 * 8 * more) as u64;
        if wanted > self.reserved {
            self.held.grow(wanted - self.reserved)?;
            self.reserved = wanted;
        }
        Ok(())
    }

    fn resource_metrics(&mut self, body: &[u8], span: Span) -> Result<(), ExportError> {
        let mut resource = Merged::default();
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next()? {
            if field.number == 1 {
                resource.add(body, field.span()?, self.held)?;
            }
        }
        self.visit.resource(resource.bytes(body))?;
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next()? {
            if field.number == 2 {
                self.scope_metrics(body, field.span()?)?;
            }
        }
        self.visit.end_resource()
    }

    fn scope_metrics(&mut self, body: &[u8], span: Span) -> Result<(), ExportError> {
        let mut scope = Merged::default();
        let mut schema_url = "";
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => scope.add(body, field.span()?, self.held)?,
                3 => schema_url = text(field.span()?.of(body))?,
                _ => {}
            }
        }
        self.visit.scope(scope.bytes(body), schema_url)?;
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next()? {
            if field.number == 2 {
                self.metric(body, field.span()?)?;
            }
        }
        Ok(())
    }

    fn metric(&mut self, body: &[u8], span: Span) -> Result<(), ExportError> {
        let (mut name, mut description, mut unit) = ("", "", "");
        // Of several kinds of data the last counts, with all there is of it since the one before.
        let mut data = (0, Merged::default());
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => name = text(field.span()?.of(body))?,
                2 => description = text(field.span()?.of(body))?,
                3 => unit = text(field.span()?.of(body))?,
                5 | 7 | 9 | 10 | 11 => {
                    let span = field.span()?;
                    if data.0 != field.number {
                        data = (field.number, Merged::default());
                    }
                    data.1.add(body, span, self.held)?;
                }
                _ => {}
            }
        }
        let (number, merged) = data;
        match merged.spare.is_empty() {
            true => self.data(Metric { name, description, unit, data: Data::Unknown }, number, body, merged.span),
            false => {
                let body = &merged.spare;
                self.data(Metric { name, description, unit, data: Data::Unknown }, number, body, Span::whole(body))
            }
        }
    }

    fn data(&mut self, metric: Metric<'_>, number: u32, body: &[u8], span: Span) -> Result<(), ExportError> {
        let (mut temporality, mut is_monotonic) = (0, false);
        if matches!(number, 7 | 9 | 10) {
            let mut fields = Cursor::over(body, span);
            while let Some(field) = fields.next()? {
                match field.number {
                    2 => temporality = field.varint()? as i32,
                    3 if number == 7 => is_monotonic = field.varint()? != 0,
                    _ => {}
                }
            }
        }
        let data = match number {
            5 => Data::Gauge,
            7 => Data::Sum { temporality, is_monotonic },
            9 => Data::Histogram { temporality },
            10 => Data::Exponential { temporality },
            11 => Data::Summary,
            _ => Data::Unknown,
        };
        self.visit.metric(&Metric { data, ..metric })?;
        let mut fields = Cursor::over(body, span);
        if matches!(data, Data::Gauge | Data::Sum { .. }) {
            // Most are short, and there are many of them.
            while let Some(span) = fields.take_short(TAG_OF_POINTS) {
                self.number(body, span)?;
            }
        }
        while let Some(field) = fields.next()? {
            if field.number == 1 {
                let span = field.span()?;
                match data {
                    Data::Gauge | Data::Sum { .. } => self.number(body, span)?,
                    Data::Histogram { .. } => self.histogram(body, span)?,
                    Data::Exponential { .. } => self.exponential(body, span)?,
                    Data::Summary => self.summary(body, span)?,
                    Data::Unknown => {}
                }
            }
        }
        self.visit.end_metric()
    }

    #[inline]
    fn number(&mut self, body: &[u8], span: Span) -> Result<(), ExportError> {
        match expected_number(span.of(body), self.visit.expected()) {
            Some(point) => self.visit.number(&point),
            None => self.any_number(body, span),
        }
    }

    fn any_number(&mut self, body: &[u8], span: Span) -> Result<(), ExportError> {
        let mut point = NumberPoint::default();
        let (mut attributes, mut exemplars) = (Run::default(), Run::default());
        // Where both are sent, which no encoder does, the double counts, as in JSON.
        let (mut double, mut integer) = (None, None);
        let mut fields = Cursor::over(body, span);
        loop {
            let at = fields.position();
            // What stands where it stood in the last request is not walked through.
            if attributes.is_empty()
                && fields.peek() == Some(TAG_OF_NUMBER_ATTRIBUTES)
                && fields.skip_expected(self.visit.expected(), TAG_OF_NUMBER_ATTRIBUTES)
            {
                attributes.add(body, at, fields.position());
                point.is_expected = true;
                continue;
            }
            let Some(field) = fields.next()? else { break };
            match field.number {
                2 => point.start_ns = field.fixed64()?,
                3 => point.time_ns = field.fixed64()?,
                4 => double = Some(field.double()?),
                6 => integer = Some(field.fixed64()? as i64 as f64),
                8 => point.flags = field.uint32()?,
                NUMBER_ATTRIBUTES => {
                    field.span()?;
                    point.is_expected = false;
                    attributes.add(body, at, fields.position());
                }
                NUMBER_EXEMPLARS => {
                    field.span()?;
                    exemplars.add(body, at, fields.position());
                }
                _ => {}
            }
        }
        point.value = double.or(integer);
        let (attributes, exemplars) = (attributes.bytes(body), exemplars.bytes(body));
        self.visit.number(&NumberPoint { attributes, exemplars, ..point })
    }

    fn histogram(&mut self, body: &[u8], span: Span) -> Result<(), ExportError> {
        let mut point = HistogramPoint::default();
        let (mut attributes, mut exemplars) = (Run::default(), Run::default());
        self.buffers.counts.clear();
        self.buffers.bounds.clear();
        let mut fields = Cursor::over(body, span);
        loop {
            let at = fields.position();
            let Some(field) = fields.next()? else { break };
            match field.number {
                2 => point.start_ns = field.fixed64()?,
                3 => point.time_ns = field.fixed64()?,
                4 => point.count = field.fixed64()?,
                5 => point.sum = Some(field.double()?),
                6 => {
                    self.pay(field.elements(8))?;
                    let counts = &mut self.buffers.counts;
                    field.doubles(body, |bits| counts.push(bits.to_bits()))?;
                }
                7 => {
                    self.pay(field.elements(8))?;
                    let bounds = &mut self.buffers.bounds;
                    field.doubles(body, |bound| bounds.push(bound))?;
                }
                10 => point.flags = field.uint32()?,
                11 => point.min = Some(field.double()?),
                12 => point.max = Some(field.double()?),
                HISTOGRAM_ATTRIBUTES => {
                    field.span()?;
                    attributes.add(body, at, fields.position());
                }
                HISTOGRAM_EXEMPLARS => {
                    field.span()?;
                    exemplars.add(body, at, fields.position());
                }
                _ => {}
            }
        }
        self.visit.histogram(&HistogramPoint {
            bucket_counts: &self.buffers.counts,
            explicit_bounds: &self.buffers.bounds,
            attributes: attributes.bytes(body),
            exemplars: exemplars.bytes(body),
            ..point
        })
    }

    fn exponential(&mut self, body: &[u8], span: Span) -> Result<(), ExportError> {
        let mut point = ExponentialPoint::default();
        let (mut attributes, mut exemplars) = (Run::default(), Run::default());
        let mut offsets = [0, 0];
        self.buffers.counts.clear();
        self.buffers.negative.clear();
        let mut fields = Cursor::over(body, span);
        loop {
            let at = fields.position();
            let Some(field) = fields.next()? else { break };
            match field.number {
                2 => point.start_ns = field.fixed64()?,
                3 => point.time_ns = field.fixed64()?,
                4 => point.count = field.fixed64()?,
                5 => point.sum = Some(field.double()?),
                6 => point.scale = field.sint32()?,
                7 => point.zero_count = field.fixed64()?,
                side @ (8 | 9) => {
                    let mut inner = Cursor::over(body, field.span()?);
                    while let Some(field) = inner.next()? {
                        match field.number {
                            1 => offsets[usize::from(side == 9)] = field.sint32()?,
                            2 => {
                                self.pay(field.elements(1))?;
                                let Buffers { counts, negative, .. } = &mut *self.buffers;
                                let counts = if side == 8 { counts } else { negative };
                                field.varints(body, |count| counts.push(count))?;
                            }
                            _ => {}
                        }
                    }
                }
                10 => point.flags = field.uint32()?,
                12 => point.min = Some(field.double()?),
                13 => point.max = Some(field.double()?),
                14 => point.zero_threshold = field.double()?,
                EXPONENTIAL_ATTRIBUTES => {
                    field.span()?;
                    attributes.add(body, at, fields.position());
                }
                EXPONENTIAL_EXEMPLARS => {
                    field.span()?;
                    exemplars.add(body, at, fields.position());
                }
                _ => {}
            }
        }
        self.visit.exponential(&ExponentialPoint {
            positive: Buckets { offset: offsets[0], counts: &self.buffers.counts },
            negative: Buckets { offset: offsets[1], counts: &self.buffers.negative },
            attributes: attributes.bytes(body),
            exemplars: exemplars.bytes(body),
            ..point
        })
    }

    fn summary(&mut self, body: &[u8], span: Span) -> Result<(), ExportError> {
        let mut point = SummaryPoint::default();
        let mut attributes = Run::default();
        self.buffers.quantiles.clear();
        let mut fields = Cursor::over(body, span);
        loop {
            let at = fields.position();
            let Some(field) = fields.next()? else { break };
            match field.number {
                2 => point.start_ns = field.fixed64()?,
                3 => point.time_ns = field.fixed64()?,
                4 => point.count = field.fixed64()?,
                5 => point.sum = field.double()?,
                6 => {
                    let (mut quantile, mut value) = (0.0, 0.0);
                    let mut inner = Cursor::over(body, field.span()?);
                    while let Some(field) = inner.next()? {
                        match field.number {
                            1 => quantile = field.double()?,
                            2 => value = field.double()?,
                            _ => {}
                        }
                    }
                    self.pay(2 * (self.buffers.quantiles.len() + 1))?;
                    self.buffers.quantiles.push((quantile, value));
                }
                8 => point.flags = field.uint32()?,
                SUMMARY_ATTRIBUTES => {
                    field.span()?;
                    attributes.add(body, at, fields.position());
                }
                _ => {}
            }
        }
        let (quantiles, attributes) = (&*self.buffers.quantiles, attributes.bytes(body));
        self.visit.summary(&SummaryPoint { quantiles, attributes, ..point })
    }
}

/// A point as encoders write nearly all of them: times, a value and the attributes that are expected, in the order of their
/// numbers and nothing else. `None` of any other, whatever is wrong with it or not.
#[inline]
fn expected_number<'a>(point: &'a [u8], expected: &[u8]) -> Option<NumberPoint<'a>> {
    let (start_ns, rest) = match fixed64(point, TAG_OF_START) {
        Some((start_ns, rest)) => (start_ns, rest),
        None => (0, point),
    };
    let (time_ns, rest) = fixed64(rest, TAG_OF_TIME)?;
    let (value, attributes) = match fixed64(rest, TAG_OF_DOUBLE) {
        Some((bits, rest)) => (f64::from_bits(bits), rest),
        None => fixed64(rest, TAG_OF_INTEGER).map(|(bits, rest)| (bits as i64 as f64, rest))?,
    };
    let is_it = !expected.is_empty() && attributes == expected;
    let number = NumberPoint { start_ns, time_ns, value: Some(value), ..NumberPoint::default() };
    is_it.then_some(NumberPoint { attributes, is_expected: true, ..number })
}

/// The eight bytes of a field that stands first, and what is behind it.
#[inline]
fn fixed64(bytes: &[u8], tag: u8) -> Option<(u64, &[u8])> {
    let ([first, bits @ ..], rest) = bytes.split_first_chunk::<9>()?;
    (*first == tag).then_some((u64::from_le_bytes(*bits), rest))
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, ExportError> {
    std::str::from_utf8(bytes).map_err(|source| ExportError::Text { source })
}

/// A message that may stand in several parts.
#[derive(Debug, Default)]
pub(super) struct Merged {
    span: Span,
    /// All parts, where there are several.
    spare: Vec<u8>,
}

impl Merged {
    pub(super) fn add(&mut self, body: &[u8], part: Span, held: &mut Reservation) -> Result<(), ExportError> {
        if self.span.is_empty() && self.spare.is_empty() {
            self.span = part;
            return Ok(());
        }
        if self.spare.is_empty() {
            held.grow(self.span.len() as u64)?;
            self.spare.extend_from_slice(self.span.of(body));
        }
        // The vector may double.
        held.grow(2 * part.len() as u64)?;
        self.spare.extend_from_slice(part.of(body));
        Ok(())
    }

    pub(super) fn bytes<'a>(&'a self, body: &'a [u8]) -> &'a [u8] {
        if self.spare.is_empty() { self.span.of(body) } else { &self.spare }
    }
}

/// Fields of one number, which nearly always stand side by side.
#[derive(Debug, Default)]
pub(super) struct Run {
    start: usize,
    end: usize,
    /// All of them, where they do not. No longer than the point that holds them.
    spare: Vec<u8>,
}

impl Run {
    #[inline]
    fn is_empty(&self) -> bool {
        self.end == 0
    }

    #[inline]
    pub(super) fn add(&mut self, body: &[u8], start: usize, end: usize) {
        if self.end == 0 {
            (self.start, self.end) = (start, end);
        } else if self.spare.is_empty() && self.end == start {
            self.end = end;
        } else {
            if self.spare.is_empty() {
                self.spare.extend_from_slice(&body[self.start..self.end]);
            }
            self.spare.extend_from_slice(&body[start..end]);
        }
    }

    #[inline]
    pub(super) fn bytes<'a>(&'a self, body: &'a [u8]) -> &'a [u8] {
        if self.spare.is_empty() { &body[self.start..self.end] } else { &self.spare }
    }
}
