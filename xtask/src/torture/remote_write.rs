//! Requests of Prometheus remote write 1.0, encoded by hand.
//!
//! `WriteRequest { timeseries = 1 }`, `TimeSeries { labels = 1, samples = 2 }`, `Label { name = 1, value = 2 }`,
//! `Sample { value = 1: double, timestamp = 2: int64 }`, snappy block format around it. `TimeSeries` has native histograms
//! as 4: `Histogram { count_int = 1, sum = 3: double, schema = 4: sint32, zero_threshold = 5: double, zero_count_int = 6,
//! positive_spans = 11, positive_deltas = 12: packed sint64, timestamp = 15 }`, `BucketSpan { offset = 1: sint32, length = 2 }`.

use anyhow::{Context, Result};

pub(super) const PATH: &str = "/api/v1/write";
pub(super) const HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];

const WIRE_VARINT: u8 = 0;
const WIRE_FIXED64: u8 = 1;
const WIRE_BYTES: u8 = 2;

/// A request under construction, not yet compressed.
#[derive(Default)]
pub(super) struct Request {
    message: Vec<u8>,
}

impl Request {
    /// Adds a series; `labels` sorted by name, `samples` as time in ms and value.
    pub(super) fn push_series(&mut self, labels: &[(&str, &str)], samples: impl Iterator<Item = (i64, f64)>) {
        let mut series = labelled(labels);
        for (time_ms, value) in samples {
            let mut sample = Vec::new();
            push_tag(&mut sample, 1, WIRE_FIXED64);
            sample.extend_from_slice(&value.to_le_bytes());
            push_tag(&mut sample, 2, WIRE_VARINT);
            push_varint(&mut sample, time_ms.cast_unsigned());
            push_bytes(&mut series, 2, &sample);
        }
        push_bytes(&mut self.message, 1, &series);
    }

    /// Adds a series of native histograms; `samples` as time in ms and sum. Two buckets hold as many observations as
    /// the sum says.
    pub(super) fn push_histograms(&mut self, labels: &[(&str, &str)], samples: impl Iterator<Item = (i64, u64)>) {
        let mut series = labelled(labels);
        for (time_ms, sum) in samples {
            let mut histogram = Vec::new();
            push_tag(&mut histogram, 1, WIRE_VARINT);
            push_varint(&mut histogram, 2 * sum);
            push_tag(&mut histogram, 3, WIRE_FIXED64);
            histogram.extend_from_slice(&(sum as f64).to_le_bytes());
            push_tag(&mut histogram, 4, WIRE_VARINT);
            push_varint(&mut histogram, zigzag(2));
            push_tag(&mut histogram, 5, WIRE_FIXED64);
            histogram.extend_from_slice(&1e-128f64.to_le_bytes());
            let mut span = Vec::new();
            push_tag(&mut span, 1, WIRE_VARINT);
            push_varint(&mut span, zigzag(-3));
            push_tag(&mut span, 2, WIRE_VARINT);
            push_varint(&mut span, 2);
            push_bytes(&mut histogram, 11, &span);
            // The second bucket is told as its difference to the first.
            let mut deltas = Vec::new();
            push_varint(&mut deltas, zigzag(sum.cast_signed()));
            push_varint(&mut deltas, zigzag(0));
            push_bytes(&mut histogram, 12, &deltas);
            push_tag(&mut histogram, 15, WIRE_VARINT);
            push_varint(&mut histogram, time_ms.cast_unsigned());
            push_bytes(&mut series, 4, &histogram);
        }
        push_bytes(&mut self.message, 1, &series);
    }

    pub(super) fn compressed(&self) -> Result<Vec<u8>> {
        snap::raw::Encoder::new().compress_vec(&self.message).context("cannot compress a request")
    }
}

/// A series that has its labels only.
fn labelled(labels: &[(&str, &str)]) -> Vec<u8> {
    let mut series = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        push_bytes(&mut label, 1, name.as_bytes());
        push_bytes(&mut label, 2, value.as_bytes());
        push_bytes(&mut series, 1, &label);
    }
    series
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn push_tag(to: &mut Vec<u8>, field: u8, wire: u8) {
    to.push(field << 3 | wire);
}

fn push_bytes(to: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    push_tag(to, field, WIRE_BYTES);
    push_varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn push_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_bytes_of_the_specification() {
        let mut request = Request::default();
        request.push_series(&[("a", "b")], [(300, 1.0)].into_iter());
        let sample = [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0xac, 0x02];
        let mut expected = vec![0x0a, 22, 0x0a, 6, 0x0a, 1, b'a', 0x12, 1, b'b', 0x12, 12];
        expected.extend_from_slice(&sample);
        assert_eq!(request.message, expected);
        let compressed = request.compressed().unwrap();
        assert_eq!(zigzag(-3), 5);
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&compressed).unwrap(), expected);
    }
}
