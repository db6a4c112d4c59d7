//! Remote write 1.0 requests, made before anything is timed.
//!
//! `WriteRequest { timeseries = 1 }`, `TimeSeries { labels = 1, samples = 2 }`, `Label { name = 1, value = 2 }`,
//! `Sample { value = 1: double, timestamp = 2: int64 }`, in a snappy block.

use std::ops::Range;

use anyhow::{Context, Result};

use super::Load;

/// What Prometheus puts into one request by default.
const SAMPLES_PER_REQUEST: usize = 2_000;

const SERIES_TAG: u8 = 1 << 3 | 2;
const LABEL_TAG: u8 = 1 << 3 | 2;
const SAMPLE_TAG: u8 = 2 << 3 | 2;
const NAME_TAG: u8 = 1 << 3 | 2;
const VALUE_TAG: u8 = 2 << 3 | 2;
const DOUBLE_TAG: u8 = 1 << 3 | 1;
const TIME_TAG: u8 = 2 << 3;

/// One body.
pub struct Request {
    /// Compressed.
    pub body: Vec<u8>,
    /// Samples in it.
    pub samples: u64,
    /// Samples in it that are NaN, which VictoriaMetrics does not keep.
    pub nans: u64,
}

/// Requests of a load, in the order of time.
pub struct Requests {
    /// Per scrape; requests of one scrape hold different series, and the same ones in every scrape.
    pub scrapes: Vec<Vec<Request>>,
}

impl Requests {
    /// Makes the requests of some scrapes, with one sample of each series a scrape.
    ///
    /// # Errors
    /// A request cannot be compressed.
    pub fn of(load: &Load, scrapes: Range<usize>) -> Result<Requests> {
        let labels: Vec<Vec<u8>> = (0..load.shape().series).map(|index| encoded_labels(load, index)).collect();
        let mut message = Vec::new();
        let scrapes = scrapes
            .map(|scrape| {
                let series = (0..labels.len()).step_by(SAMPLES_PER_REQUEST);
                series
                    .map(|first| {
                        let members = first..(first + SAMPLES_PER_REQUEST).min(labels.len());
                        request(load, scrape, members, &labels, &mut message)
                    })
                    .collect()
            })
            .collect::<Result<_>>()?;
        Ok(Requests { scrapes })
    }

    /// Samples in all of them, NaNs among them, and bytes of all bodies.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64) {
        self.scrapes.iter().flatten().fold((0, 0, 0), |sum, request| {
            (sum.0 + request.samples, sum.1 + request.nans, sum.2 + request.body.len() as u64)
        })
    }
}

fn request(
    load: &Load,
    scrape: usize,
    series: Range<usize>,
    labels: &[Vec<u8>],
    message: &mut Vec<u8>,
) -> Result<Request> {
    message.clear();
    let (mut samples, mut nans) = (0, 0);
    for index in series {
        let Some((time_ms, value)) = load.sample(index, scrape) else { continue };
        samples += 1;
        nans += u64::from(value.is_nan());
        let mut sample = vec![DOUBLE_TAG];
        sample.extend_from_slice(&value.to_le_bytes());
        sample.push(TIME_TAG);
        put_varint(&mut sample, time_ms.cast_unsigned());
        message.push(SERIES_TAG);
        put_varint(message, (labels[index].len() + 2 + sample.len()) as u64);
        message.extend_from_slice(&labels[index]);
        put_bytes(message, SAMPLE_TAG, &sample);
    }
    let body = snap::raw::Encoder::new().compress_vec(message).context("cannot compress a request")?;
    Ok(Request { body, samples, nans })
}

fn encoded_labels(load: &Load, index: usize) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (name, value) in load.labels(index).iter() {
        let mut label = Vec::new();
        put_bytes(&mut label, NAME_TAG, name.as_bytes());
        put_bytes(&mut label, VALUE_TAG, value.as_bytes());
        put_bytes(&mut encoded, LABEL_TAG, &label);
    }
    encoded
}

fn put_bytes(to: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    to.push(tag);
    put_varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}
