//! From the body of a remote write request to rows for an engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use kymo_core::batch::RowSeries;
use kymo_core::storage::{Changes, RowCounts, StorageStatistics};
use kymo_core::{
    AppendError, AppendReport, Exemplar, Labels, LabelsRef, MemoryStorage, Metadata, MetricStorage, QueryContext,
    SampleBatch, SelectError, Selector, SeriesRef, SeriesSet,
};
use kymo_ingest::remote_write::{Receiver, ReceiverParts, RemoteWriteConfig, Version};
use prost::Message;

use crate::load::{self, Load};

/// The messages as `prost` has them, for the peer's side.
pub mod wire {
    /// The body of a request.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct WriteRequest {
        /// One entry per series.
        #[prost(message, repeated, tag = "1")]
        pub timeseries: Vec<TimeSeries>,
    }
    /// One series.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TimeSeries {
        /// Sorted by name.
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        /// In the order of time.
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
    }
    /// One label.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Label {
        /// Name.
        #[prost(string, tag = "1")]
        pub name: String,
        /// Value.
        #[prost(string, tag = "2")]
        pub value: String,
    }
    /// One sample.
    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct Sample {
        /// Value.
        #[prost(double, tag = "1")]
        pub value: f64,
        /// Milliseconds since the Unix epoch.
        #[prost(int64, tag = "2")]
        pub timestamp: i64,
    }
}

/// Scrapes of which requests are decoded; the first one makes the series known.
const SCRAPES: usize = 2;

/// Ready to decode the same requests any number of times.
pub struct Decode {
    bodies: Vec<Vec<u8>>,
    messages: Vec<Vec<u8>>,
    samples: u64,
    buffer: Vec<u8>,
    receiver: Receiver,
}

impl Decode {
    /// Requests of the first scrapes of `load`, and a receiver that knows their series.
    ///
    /// # Errors
    /// Any way of decoding gives another number of samples than were sent.
    pub fn new(load: &Load) -> Result<Decode> {
        let requests = load::requests(load, 0..SCRAPES)?;
        let samples = requests.iter().flatten().map(|request| request.samples).sum();
        let bodies: Vec<Vec<u8>> = requests.into_iter().flatten().map(|request| request.body).collect();
        let decompress = |body| snap::raw::Decoder::new().decompress_vec(body).context("a request is damaged");
        let messages = bodies.iter().map(|body| decompress(body)).collect::<Result<Vec<_>>>()?;
        let receiver = Receiver::new(RemoteWriteConfig::default(), ReceiverParts::around(Arc::new(Sink::default())))?;
        let mut decode = Decode { bodies, messages, samples, buffer: Vec::new(), receiver };
        // New series first, known ones after that.
        let received = [decode.receive(), decode.receive()];
        let counts = [
            ("the floor", decode.walk()),
            ("prost", decode.prost()),
            ("a new receiver", received[0]),
            ("the receiver", received[1]),
        ];
        for (what, found) in counts {
            ensure!(found == samples, "{what} finds {found} of {samples} samples");
        }
        Ok(decode)
    }

    /// Samples in one pass.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Floor: decompresses into one buffer; gives the bytes.
    pub fn snap(&mut self) -> u64 {
        let mut total = 0;
        let longest = self.messages.iter().map(Vec::len).max().unwrap_or_default();
        self.buffer.resize(longest, 0);
        for body in &self.bodies {
            total += snap::raw::Decoder::new().decompress(body, &mut self.buffer).unwrap_or_default();
        }
        total as u64
    }

    /// Floor: walks messages that are not compressed, looking at every label and sample; gives the samples.
    #[must_use]
    pub fn walk(&self) -> u64 {
        self.messages.iter().map(|message| walk_request(message).unwrap_or_default()).sum()
    }

    /// Peer: decompresses and decodes into owned values; gives the samples.
    pub fn prost(&mut self) -> u64 {
        let mut total = 0;
        for body in &self.bodies {
            let message = snap::raw::Decoder::new().decompress_vec(body).unwrap_or_default();
            let request = wire::WriteRequest::decode(&*message).unwrap_or_default();
            total += request.timeseries.iter().map(|series| series.samples.len() as u64).sum::<u64>();
        }
        total
    }

    /// Ours: decompresses, finds every series by its label bytes and makes rows, for an engine that drops them;
    /// gives the samples.
    #[must_use]
    pub fn receive(&self) -> u64 {
        let written = |body: &Vec<u8>| self.receiver.write(Version::V1, body).map(|outcome| outcome.written.samples);
        self.bodies.iter().map(|body| written(body).unwrap_or_default()).sum()
    }
}

/// Reads what any decoder has to read, and checks no more than bounds.
fn walk_request(message: &[u8]) -> Option<u64> {
    let mut samples = 0;
    let mut at = message;
    while let Some((field, series)) = next_field(&mut at) {
        if field != 1 {
            continue;
        }
        let mut at = series;
        while let Some((field, part)) = next_field(&mut at) {
            match field {
                1 => {
                    let mut label = part;
                    while let Some((_, text)) = next_field(&mut label) {
                        std::hint::black_box(text);
                    }
                }
                2 => {
                    let value = f64::from_le_bytes(part.get(1..9)?.try_into().ok()?);
                    let mut time = part.get(10..)?;
                    std::hint::black_box((value, varint(&mut time)?));
                    samples += 1;
                }
                _ => {}
            }
        }
    }
    Some(samples)
}

fn next_field<'a>(at: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let tag = varint(at)?;
    let length = usize::try_from(varint(at)?).ok()?;
    let (content, rest) = at.split_at_checked(length)?;
    *at = rest;
    Some((tag >> 3, content))
}

fn varint(at: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = at.split_first()?;
        *at = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
        shift += 7;
    }
}

/// An engine that numbers series and counts rows, and is otherwise empty.
#[derive(Default)]
struct Sink {
    series: AtomicU64,
    empty: MemoryStorage,
}

impl MetricStorage for Sink {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        let mut report = AppendReport::default();
        for (number, row) in batch.rows().enumerate() {
            if let RowSeries::Labels(_) = row.series {
                // Relaxed: numbers only have to differ.
                let index = self.series.fetch_add(1, Ordering::Relaxed);
                report.new_refs.extend(SeriesRef::new(1, index).map(|series| (number, series)));
            }
        }
        report.stored = RowCounts { floats: batch.len() as u64, ..RowCounts::default() };
        Ok(report)
    }

    fn select(&self, what: &Selector, ctx: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
        self.empty.select(what, ctx)
    }

    fn version(&self) -> u64 {
        self.empty.version()
    }

    fn changed_since(&self, since: u64, what: &Selector) -> Changes {
        self.empty.changed_since(since, what)
    }

    fn resolve(&self, labels: LabelsRef<'_>) -> Option<SeriesRef> {
        self.empty.resolve(labels)
    }

    fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.empty.labels(series)
    }

    fn label_names(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.empty.label_names(what, ctx)
    }

    fn label_values(&self, name: &str, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.empty.label_values(name, what, ctx)
    }

    fn metadata(&self, family: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        self.empty.metadata(family, ctx)
    }

    fn exemplars(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        self.empty.exemplars(what, ctx)
    }

    fn statistics(&self) -> StorageStatistics {
        self.empty.statistics()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{self, Shape};

    #[test]
    fn every_way_of_decoding_finds_every_sample() {
        let load = Load::new(load::synthetic(1), Shape { series: 300, scrapes: 2, base_ms: 1_800_000_000_000 });
        let decode = Decode::new(&load).unwrap();
        assert_eq!(decode.samples(), load.samples());
    }
}
