//! Delimited protobuf: `io.prometheus.client.MetricFamily` messages, each behind its length.
//!
//! One metric is taken apart at a time. Its samples are written as series texts into a buffer that is used again, so they
//! look to a reader like those of the text formats: `{"name","label"="value"}`. Histograms and summaries become the series
//! they are in text, in the order count, sum, buckets or quantiles, with a `+Inf` bucket if none was sent.

mod histogram;

use kymo_core::histogram::NORMAL_NAN_BITS;
use kymo_core::text::{FloatText, TextSink, write_escaped_label_value};
use kymo_core::{FamilyType, NativeHistogram};

use super::error::{ExpositionError, Fault};
use super::openmetrics::ends_with_unit;
use super::sample::{ExemplarSpan, Exemplars, Sample, SampleValue};
use super::{Entry, Escapes, RawText};
use crate::proto::{Cursor, Field, ProtoError, Span};
use histogram::{Bucket, Decoded};

/// What of a histogram that has native buckets is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HistogramParts {
    /// The classic buckets, as if there were no native ones.
    #[default]
    Classic,
    /// The native buckets.
    Native,
    /// Both.
    NativeAndClassic,
}

/// Reads delimited protobuf.
#[derive(Debug)]
pub struct ProtobufParser<'a> {
    body: &'a [u8],
    /// Where the next message's length begins.
    at: usize,
    /// Messages begun.
    messages: usize,
    histograms: HistogramParts,
    family: Family<'a>,
    /// Metadata of the family still to be given, newest last.
    announced: [bool; 3],
    metric: Metric,
}

/// The message in hand.
#[derive(Debug)]
struct Family<'a> {
    message: &'a [u8],
    /// Where it begins in the body.
    offset: usize,
    fields: Cursor<'a>,
    name: &'a str,
    help: &'a str,
    unit: &'a str,
    family_type: FamilyType,
}

/// The metric in hand, taken apart; all buffers are used again.
#[derive(Debug, Default)]
struct Metric {
    text: Vec<u8>,
    /// `,"name"="value"` for each label.
    labels: Vec<u8>,
    exemplars: Vec<ExemplarSpan>,
    rows: Vec<Row>,
    /// Rows given so far.
    given: usize,
    time_ms: Option<i64>,
    start_ms: i64,
}

#[derive(Debug)]
struct Row {
    series: (usize, usize),
    value: RowValue,
    exemplars: (usize, usize),
}

#[derive(Debug)]
enum RowValue {
    Float(f64),
    Histogram(Option<Box<NativeHistogram>>),
}

impl<'a> ProtobufParser<'a> {
    /// A parser over a body of less than 4 GiB.
    #[must_use]
    pub fn new(body: &'a [u8], histograms: HistogramParts) -> ProtobufParser<'a> {
        let family = Family {
            message: &[],
            offset: 0,
            fields: Cursor::new(&[]),
            name: "",
            help: "",
            unit: "",
            family_type: FamilyType::Unknown,
        };
        let metric = Metric::default();
        ProtobufParser { body, at: 0, messages: 0, histograms, family, announced: [true; 3], metric }
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// [`ExpositionError`]; further calls make no sense.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ExpositionError> {
        match self.advance() {
            Ok(Step::Entry(number)) => Ok(Some(self.announce(number))),
            Ok(Step::Row) => Ok(Some(Entry::Sample(self.row()))),
            Ok(Step::End) => Ok(None),
            Err(fault) => {
                let inside = match fault {
                    Fault::Protobuf { source } => offset_of(source),
                    _ => 0,
                };
                Err(ExpositionError { line: self.messages, offset: self.family.offset + inside, fault })
            }
        }
    }

    fn advance(&mut self) -> Result<Step, Fault> {
        loop {
            if let Some(number) = self.announced.iter().position(|done| !done) {
                self.announced[number] = true;
                return Ok(Step::Entry(number));
            }
            if self.metric.given < self.metric.rows.len() {
                self.metric.given += 1;
                return Ok(Step::Row);
            }
            match next_metric(&mut self.family)? {
                Some(span) => self.metric.take_apart(&self.family, span, self.histograms)?,
                None if self.at >= self.body.len() => return Ok(Step::End),
                None => self.open_family()?,
            }
        }
    }

    /// Reads the next message's length and what is not metrics in it.
    fn open_family(&mut self) -> Result<(), Fault> {
        self.messages += 1;
        self.family.offset = self.at;
        if u32::try_from(self.body.len()).is_err() {
            return Err(Fault::TooLarge);
        }
        let mut head = Cursor::new(&self.body[self.at..]);
        let len = head.varint().map_err(proto)?;
        let start = self.at + head.position();
        let truncated = Fault::Protobuf { source: ProtoError::Truncated { offset: head.position() } };
        let len = usize::try_from(len).map_err(|_| truncated)?;
        let message = self.body[start..].get(..len).ok_or(truncated)?;
        self.at = start + len;
        self.family = Family::read(message, start)?;
        self.announced = match self.family.has_metrics()? {
            true => [false, false, self.family.unit.is_empty()],
            // Nothing is known of a family without metrics, as in Prometheus.
            false => [true; 3],
        };
        Ok(())
    }

    fn announce(&self, number: usize) -> Entry<'_> {
        let plain = |text| RawText::new(text, Escapes::No);
        let family = plain(self.family.name);
        match number {
            0 => Entry::Help { family, help: plain(self.family.help) },
            1 => Entry::Type { family, family_type: self.family.family_type },
            _ => Entry::Unit { family, unit: plain(self.family.unit) },
        }
    }

    fn row(&mut self) -> Sample<'_> {
        let metric = &mut self.metric;
        let row = &mut metric.rows[metric.given - 1];
        let value = match &mut row.value {
            RowValue::Histogram(histogram) => {
                histogram.take().map_or(SampleValue::Float(f64::NAN), SampleValue::Histogram)
            }
            RowValue::Float(value) => SampleValue::Float(*value),
        };
        let (series, exemplars) = (row.series, row.exemplars);
        Sample {
            series: &metric.text[series.0..series.1],
            family_type: self.family.family_type,
            value,
            time_ms: metric.time_ms,
            start_ms: metric.start_ms,
            exemplars: Exemplars::many(&metric.text, &metric.exemplars[exemplars.0..exemplars.1]),
        }
    }
}

enum Step {
    /// Metadata by its number.
    Entry(usize),
    Row,
    End,
}

fn proto(source: ProtoError) -> Fault {
    Fault::Protobuf { source }
}

fn offset_of(error: ProtoError) -> usize {
    match error {
        ProtoError::Truncated { offset }
        | ProtoError::Varint { offset }
        | ProtoError::Tag { offset }
        | ProtoError::WireType { offset, .. }
        | ProtoError::Depth { offset } => offset,
    }
}

fn text<'a>(message: &'a [u8], field: Field, what: &'static str) -> Result<&'a str, Fault> {
    std::str::from_utf8(field.span().map_err(proto)?.of(message)).map_err(|_| Fault::Utf8 { what })
}

impl<'a> Family<'a> {
    fn read(message: &'a [u8], offset: usize) -> Result<Family<'a>, Fault> {
        let mut family = Family {
            message,
            offset,
            fields: Cursor::new(message),
            name: "",
            help: "",
            unit: "",
            family_type: FamilyType::Counter,
        };
        let mut fields = Cursor::new(message);
        while let Some(field) = fields.next().map_err(proto)? {
            match field.number {
                1 => family.name = text(message, field, "metric name")?,
                2 => family.help = text(message, field, "help text")?,
                3 => family.family_type = family_type(field.uint32().map_err(proto)?).ok_or(Fault::FamilyType)?,
                5 => family.unit = text(message, field, "unit")?,
                _ => {}
            }
        }
        if family.name.is_empty() {
            return Err(Fault::EmptyName);
        }
        let base = match family.family_type {
            FamilyType::Counter => family.name.strip_suffix("_total").unwrap_or(family.name),
            _ => family.name,
        };
        if !family.unit.is_empty() && !ends_with_unit(base, family.unit) {
            return Err(Fault::UnitSuffix);
        }
        Ok(family)
    }

    fn has_metrics(&self) -> Result<bool, Fault> {
        let mut fields = self.fields.clone();
        while let Some(field) = fields.next().map_err(proto)? {
            if field.number == 4 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The next `Metric` message of a family.
fn next_metric(family: &mut Family<'_>) -> Result<Option<Span>, Fault> {
    while let Some(field) = family.fields.next().map_err(proto)? {
        if field.number == 4 {
            return Ok(Some(field.span().map_err(proto)?));
        }
    }
    Ok(None)
}

fn family_type(number: u32) -> Option<FamilyType> {
    Some(match number {
        0 => FamilyType::Counter,
        1 => FamilyType::Gauge,
        2 => FamilyType::Summary,
        3 => FamilyType::Unknown,
        4 => FamilyType::Histogram,
        5 => FamilyType::GaugeHistogram,
        _ => return None,
    })
}

impl Metric {
    fn take_apart(&mut self, family: &Family<'_>, span: Span, parts: HistogramParts) -> Result<(), Fault> {
        self.text.clear();
        self.labels.clear();
        self.exemplars.clear();
        self.rows.clear();
        (self.given, self.time_ms, self.start_ms) = (0, None, 0);
        let body = family.message;
        let mut value = None;
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next().map_err(proto)? {
            match (field.number, family.family_type) {
                (1, _) => write_label(&mut self.labels, body, field.span().map_err(proto)?)?,
                // Prometheus takes 0 for no time.
                (6, _) => self.time_ms = Some(field.int64().map_err(proto)?).filter(|time| *time != 0),
                (2, FamilyType::Gauge)
                | (3, FamilyType::Counter)
                | (4, FamilyType::Summary)
                | (5, FamilyType::Unknown)
                | (7, FamilyType::Histogram | FamilyType::GaugeHistogram) => value = Some(field.span().map_err(proto)?),
                _ => {}
            }
        }
        // A metric without its value is one whose value has every field at its default.
        let value = value.unwrap_or_default();
        match family.family_type {
            FamilyType::Summary => self.summary(family, value),
            FamilyType::Histogram | FamilyType::GaugeHistogram => self.histogram(family, value, parts),
            _ => self.simple(family, value),
        }
    }

    fn simple(&mut self, family: &Family<'_>, span: Span) -> Result<(), Fault> {
        let body = family.message;
        let (mut value, mut exemplar) = (0.0, None);
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next().map_err(proto)? {
            match field.number {
                1 => value = field.double().map_err(proto)?,
                2 if family.family_type == FamilyType::Counter => exemplar = Some(field.span().map_err(proto)?),
                3 if family.family_type == FamilyType::Counter => self.start_ms = time(body, field)?,
                _ => {}
            }
        }
        self.push(family.name, "", None, value);
        if let Some(exemplar) = exemplar {
            self.exemplar(body, exemplar)?;
        }
        Ok(())
    }

    fn summary(&mut self, family: &Family<'_>, span: Span) -> Result<(), Fault> {
        let body = family.message;
        let (mut count, mut sum) = (0, 0.0);
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next().map_err(proto)? {
            match field.number {
                1 => count = field.varint().map_err(proto)?,
                2 => sum = field.double().map_err(proto)?,
                4 => self.start_ms = time(body, field)?,
                _ => {}
            }
        }
        self.push(family.name, "_count", None, count as f64);
        self.push(family.name, "_sum", None, sum);
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next().map_err(proto)? {
            if field.number == 3 {
                let (mut quantile, mut value) = (0.0, 0.0);
                let mut inner = Cursor::over(body, field.span().map_err(proto)?);
                while let Some(field) = inner.next().map_err(proto)? {
                    match field.number {
                        1 => quantile = field.double().map_err(proto)?,
                        2 => value = field.double().map_err(proto)?,
                        _ => {}
                    }
                }
                self.push(family.name, "", Some(("quantile", quantile)), value);
            }
        }
        Ok(())
    }

    fn histogram(&mut self, family: &Family<'_>, span: Span, parts: HistogramParts) -> Result<(), Fault> {
        let body = family.message;
        let decoded = Decoded::read(body, span)?;
        self.start_ms = decoded.start_ms;
        let native = parts != HistogramParts::Classic && decoded.is_native();
        let classic = !native || parts == HistogramParts::NativeAndClassic && decoded.buckets > 0;
        if native {
            let gauge = family.family_type == FamilyType::GaugeHistogram;
            let exemplars = decoded.native_exemplars;
            let histogram = decoded.native(gauge)?;
            self.push_value(family.name, "", None, RowValue::Histogram(Some(Box::new(histogram))));
            self.native_exemplars(body, span, exemplars)?;
        }
        let count = decoded.total();
        if !classic {
            return Ok(());
        }
        self.push(family.name, "_count", None, count);
        self.push(family.name, "_sum", None, decoded.sum);
        let mut infinite = false;
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next().map_err(proto)? {
            if field.number == 3 {
                let bucket = Bucket::read(body, field.span().map_err(proto)?)?;
                infinite |= bucket.bound == f64::INFINITY;
                self.push(family.name, "_bucket", Some(("le", bucket.bound)), bucket.count);
                if let Some(exemplar) = bucket.exemplar {
                    self.exemplar(body, exemplar)?;
                }
            }
        }
        if !infinite {
            self.push(family.name, "_bucket", Some(("le", f64::INFINITY)), count);
        }
        Ok(())
    }

    /// Exemplars of a native histogram: its own if it has any, else those of its classic buckets; none without a time,
    /// because two of them could not be told apart.
    fn native_exemplars(&mut self, body: &[u8], span: Span, own: bool) -> Result<(), Fault> {
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next().map_err(proto)? {
            let exemplar = match (field.number, own) {
                (16, true) => Some(field.span().map_err(proto)?),
                (3, false) => Bucket::read(body, field.span().map_err(proto)?)?.exemplar,
                _ => None,
            };
            if let Some(exemplar) = exemplar {
                self.exemplar(body, exemplar)?;
                if self.exemplars.pop_if(|exemplar| exemplar.time_ms.is_none()).is_some()
                    && let Some(row) = self.rows.last_mut()
                {
                    row.exemplars.1 = self.exemplars.len();
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, name: &str, suffix: &str, bound: Option<(&str, f64)>, value: f64) {
        let value = if value.is_nan() { f64::from_bits(NORMAL_NAN_BITS) } else { value };
        self.push_value(name, suffix, bound, RowValue::Float(value));
    }

    fn push_value(&mut self, name: &str, suffix: &str, bound: Option<(&str, f64)>, value: RowValue) {
        let start = self.text.len();
        self.text.push_str("{\"");
        write_escaped_label_value(&mut self.text, name);
        self.text.push_str(suffix);
        self.text.push(b'"');
        self.text.extend_from_slice(&self.labels);
        if let Some((label, bound)) = bound {
            self.text.push_str(",\"");
            self.text.push_str(label);
            self.text.push_str("\"=\"");
            self.text.push_str(FloatText::open_metrics(bound).as_str());
            self.text.push(b'"');
        }
        self.text.push(b'}');
        let exemplars = (self.exemplars.len(), self.exemplars.len());
        self.rows.push(Row { series: (start, self.text.len()), value, exemplars });
    }

    /// Adds an exemplar to the newest row.
    fn exemplar(&mut self, body: &[u8], span: Span) -> Result<(), Fault> {
        let (mut value, mut time_ms) = (0.0, None);
        let start = self.text.len();
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next().map_err(proto)? {
            match field.number {
                1 => write_label(&mut self.text, body, field.span().map_err(proto)?)?,
                2 => value = field.double().map_err(proto)?,
                3 => time_ms = Some(time(body, field)?),
                _ => {}
            }
        }
        match self.text.get_mut(start) {
            // The comma before the first label is where the brace belongs.
            Some(comma) => *comma = b'{',
            None => self.text.push(b'{'),
        }
        self.text.push(b'}');
        let offset = |at: usize| u32::try_from(at).map_err(|_| Fault::TooLarge);
        let labels = (offset(start)?, offset(self.text.len())?);
        self.exemplars.push(ExemplarSpan { labels, value, time_ms });
        if let Some(row) = self.rows.last_mut() {
            row.exemplars.1 = self.exemplars.len();
        }
        Ok(())
    }
}

/// Writes a `LabelPair` as `,"name"="value"`.
fn write_label(out: &mut Vec<u8>, body: &[u8], span: Span) -> Result<(), Fault> {
    let (mut name, mut value) = ("", "");
    let mut fields = Cursor::over(body, span);
    while let Some(field) = fields.next().map_err(proto)? {
        match field.number {
            1 => name = text(body, field, "label name")?,
            2 => value = text(body, field, "label value")?,
            _ => {}
        }
    }
    if name.is_empty() {
        return Err(Fault::LabelName);
    }
    out.push_str(",\"");
    write_escaped_label_value(out, name);
    out.push_str("\"=\"");
    write_escaped_label_value(out, value);
    out.push(b'"');
    Ok(())
}

/// A `Timestamp` in milliseconds.
fn time(body: &[u8], field: Field) -> Result<i64, Fault> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut fields = Cursor::over(body, field.span().map_err(proto)?);
    while let Some(field) = fields.next().map_err(proto)? {
        match field.number {
            1 => seconds = field.int64().map_err(proto)?,
            2 => nanos = i64::from(field.uint32().map_err(proto)? as i32),
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}
