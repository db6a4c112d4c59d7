//! Remote write 2.0: a batch as one request.

use std::collections::HashMap;
use std::time::Duration;

use kymo_core::batch::{RowSeries, RowValue, SampleBatch};
use kymo_core::histogram::{BucketSpan, HistogramCounts, STALE_NAN_BITS};
use kymo_core::query::QueryError;
use kymo_core::{ErrorKind, NativeHistogram, QueryContext};
use reqwest::{Method, header};

use super::{PrometheusClient, decode, stopped};

/// First and longest pause before a batch that was not taken is sent again.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Attempts before giving up: some five minutes.
const ATTEMPTS_MAX: u32 = 14;
const CONTENT_TYPE: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// What became of a batch that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Samples and histograms that the server has now.
    pub written: u64,
    /// Those that it refused.
    pub refused: u64,
    /// Why it refused them, in its words.
    pub reason: Option<String>,
}

impl PrometheusClient {
    /// Sends a batch whose rows name their series by labels, by remote write 2.0, and repeats it while the server cannot
    /// take it. A sample that is sent twice is stored once.
    ///
    /// Increments and totals have no form on this wire and are left out; metadata goes with the first series of its family.
    ///
    /// # Errors
    /// The server's, after five minutes of trying, or the context's.
    pub fn write(&self, batch: &SampleBatch, ctx: &QueryContext) -> Result<Written, QueryError> {
        let (body, rows) = encode(batch);
        if rows == 0 && batch.exemplars().len() == 0 {
            return Ok(Written::default());
        }
        let packed = snap::raw::Encoder::new().compress_vec(&body);
        let packed = packed.map_err(|error| QueryError::execute(ErrorKind::Internal, error.to_string()))?;
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1", "write"]);
        }
        let mut pause = RETRY_MIN;
        for attempt in 1.. {
            let sent = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    sent = self.send_write(&url, &packed, rows) => sent,
                    stopped = stopped(ctx) => Err(stopped),
                }
            });
            match sent {
                Err(error) if matches!(error.kind, ErrorKind::Unavailable { .. }) && attempt < ATTEMPTS_MAX => {
                    let wait = pause;
                    self.runtime.block_on(async {
                        tokio::select! {
                            () = tokio::time::sleep(wait) => Ok(()),
                            stopped = stopped(ctx) => Err(stopped),
                        }
                    })?;
                    pause = (pause * 2).min(RETRY_MAX);
                }
                other => return other,
            }
        }
        Ok(Written::default())
    }

    async fn send_write(&self, url: &reqwest::Url, body: &[u8], rows: u64) -> Result<Written, QueryError> {
        let mut request = reqwest::Request::new(Method::POST, url.clone());
        *request.timeout_mut() = Some(self.options.timeout);
        for (name, value) in [
            (header::CONTENT_TYPE, CONTENT_TYPE),
            (header::CONTENT_ENCODING, "snappy"),
            (header::HeaderName::from_static("x-prometheus-remote-write-version"), "2.0.0"),
        ] {
            request.headers_mut().insert(name, header::HeaderValue::from_static(value));
        }
        *request.body_mut() = Some(body.to_vec().into());
        let response = self.http.send(request).await.map_err(|error| self.unsent(&error))?;
        let status = response.status();
        let count = |kind: &str| {
            let name = format!("x-prometheus-remote-write-{kind}-written");
            response.headers().get(name).and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        };
        let (samples, histograms) = (count("samples"), count("histograms"));
        if status.is_success() {
            return Ok(Written { written: rows, ..Written::default() });
        }
        let text = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        if let (400, Some(samples)) = (status.as_u16(), samples) {
            let written = (samples + histograms.unwrap_or(0)).min(rows);
            let reason = String::from_utf8_lossy(&text).trim().to_owned();
            return Ok(Written { written, refused: rows - written, reason: Some(reason) });
        }
        Err(decode::refusal(&text, RETRY_MIN).unwrap_or_else(|| self.foreign(status, &text, RETRY_MIN)))
    }
}

/// The message, and how many samples and histograms it has.
fn encode(batch: &SampleBatch) -> (Vec<u8>, u64) {
    let mut symbols = Symbols::default();
    symbols.number("");
    let mut order: Vec<Series> = Vec::new();
    let mut places: HashMap<(Vec<u8>, bool), usize> = HashMap::new();
    let mut rows = 0;
    let mut place = |packed: &[u8], of_histograms: bool, order: &mut Vec<Series>, symbols: &mut Symbols| {
        let key = (packed.to_vec(), of_histograms);
        if let Some(place) = places.get(&key) {
            return *place;
        }
        let mut refs = Vec::new();
        let mut name = String::new();
        if let Ok(labels) = kymo_core::LabelsRef::from_packed(packed) {
            for (label, value) in labels.iter() {
                put_varint(&mut refs, symbols.number(label));
                put_varint(&mut refs, symbols.number(value));
            }
            name = labels.metric_name().unwrap_or_default().to_owned();
        }
        let mut message = Vec::new();
        put_bytes(&mut message, 1, &refs);
        order.push(Series { message, name });
        places.insert(key, order.len() - 1);
        order.len() - 1
    };
    for row in batch.rows() {
        let RowSeries::Labels(labels) = row.series else { continue };
        let of_histograms = matches!(row.value, RowValue::Histogram(_));
        let mut message = Vec::new();
        let number = match row.value {
            RowValue::Float(_) | RowValue::Stale => {
                let bits = if let RowValue::Float(value) = row.value { value.to_bits() } else { STALE_NAN_BITS };
                put_double(&mut message, 1, bits);
                put_int(&mut message, 2, row.time_ms);
                put_int(&mut message, 3, row.start_ms);
                2
            }
            RowValue::Histogram(value) => {
                put_histogram(&mut message, value, row.time_ms, row.start_ms);
                3
            }
            RowValue::Increment(_) | RowValue::Total(_) => continue,
        };
        let at = place(labels.packed(), of_histograms, &mut order, &mut symbols);
        put_bytes(&mut order[at].message, number, &message);
        rows += 1;
    }
    for (series, exemplar) in batch.exemplars() {
        let RowSeries::Labels(labels) = series else { continue };
        let (mut refs, mut message) = (Vec::new(), Vec::new());
        for (label, value) in exemplar.labels.iter() {
            put_varint(&mut refs, symbols.number(label));
            put_varint(&mut refs, symbols.number(value));
        }
        put_bytes(&mut message, 1, &refs);
        put_double(&mut message, 2, exemplar.value.to_bits());
        put_int(&mut message, 3, exemplar.time_ms);
        let at = place(labels.packed(), false, &mut order, &mut symbols);
        put_bytes(&mut order[at].message, 4, &message);
    }
    for (family, metadata) in batch.metadata() {
        let is_of = |series: &&mut Series| series.name == *family || series.name.strip_suffix("_total") == Some(family);
        if let Some(series) = order.iter_mut().find(is_of) {
            let mut message = Vec::new();
            put_int(&mut message, 1, metadata.family_type as i64);
            put_int(&mut message, 3, symbols.number(&metadata.help) as i64);
            put_int(&mut message, 4, symbols.number(&metadata.unit) as i64);
            put_bytes(&mut series.message, 5, &message);
        }
    }
    let mut request = Vec::new();
    symbols.texts.iter().for_each(|text| put_bytes(&mut request, 4, text.as_bytes()));
    order.iter().for_each(|series| put_bytes(&mut request, 5, &series.message));
    (request, rows)
}

struct Series {
    message: Vec<u8>,
    name: String,
}

#[derive(Default)]
struct Symbols {
    texts: Vec<String>,
    numbers: HashMap<String, u64>,
}

impl Symbols {
    fn number(&mut self, text: &str) -> u64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u64;
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }
}

fn put_histogram(out: &mut Vec<u8>, value: &NativeHistogram, time_ms: i64, start_ms: i64) {
    let zigzag = |value: i64| ((value << 1) ^ (value >> 63)) as u64;
    match &value.counts {
        HistogramCounts::Integer(counts) => {
            put_tag(out, 1, 0);
            put_varint(out, counts.count);
        }
        HistogramCounts::Float(counts) => put_double(out, 2, counts.count.to_bits()),
    }
    put_double(out, 3, value.sum.to_bits());
    put_tag(out, 4, 0);
    put_varint(out, zigzag(i64::from(value.schema)));
    put_double(out, 5, value.zero_threshold.to_bits());
    match &value.counts {
        HistogramCounts::Integer(counts) => {
            put_tag(out, 6, 0);
            put_varint(out, counts.zero);
        }
        HistogramCounts::Float(counts) => put_double(out, 7, counts.zero.to_bits()),
    }
    let spans = |out: &mut Vec<u8>, number: u32, spans: &[BucketSpan]| {
        for span in spans {
            let mut message = Vec::new();
            put_tag(&mut message, 1, 0);
            put_varint(&mut message, zigzag(i64::from(span.offset)));
            put_int(&mut message, 2, i64::from(span.len));
            put_bytes(out, number, &message);
        }
    };
    let deltas = |out: &mut Vec<u8>, number: u32, counts: &[u64]| {
        let (mut packed, mut before) = (Vec::new(), 0i64);
        for count in counts {
            let count = *count as i64;
            put_varint(&mut packed, zigzag(count.wrapping_sub(before)));
            before = count;
        }
        put_packed(out, number, &packed);
    };
    let floats = |out: &mut Vec<u8>, number: u32, values: &[f64]| {
        let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        put_packed(out, number, &packed);
    };
    spans(out, 8, &value.negative_spans);
    match &value.counts {
        HistogramCounts::Integer(counts) => deltas(out, 9, &counts.negative),
        HistogramCounts::Float(counts) => floats(out, 10, &counts.negative),
    }
    spans(out, 11, &value.positive_spans);
    match &value.counts {
        HistogramCounts::Integer(counts) => deltas(out, 12, &counts.positive),
        HistogramCounts::Float(counts) => floats(out, 13, &counts.positive),
    }
    put_int(out, 14, i64::from(value.hint as u8));
    put_int(out, 15, time_ms);
    floats(out, 16, &value.custom_values);
    put_int(out, 17, start_ms);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_tag(out: &mut Vec<u8>, number: u32, wire: u32) {
    put_varint(out, u64::from(number << 3 | wire));
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A list of numbers, which is left out when empty.
fn put_packed(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_bytes(out, number, bytes);
    }
}

fn put_double(out: &mut Vec<u8>, number: u32, bits: u64) {
    put_tag(out, number, 1);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// A number, which is left out when 0.
fn put_int(out: &mut Vec<u8>, number: u32, value: i64) {
    if value != 0 {
        put_tag(out, number, 0);
        put_varint(out, value as u64);
    }
}
