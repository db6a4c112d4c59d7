//! Remote write 1.0 requests, made before anything is timed: a few in memory, or all of a load in a file.
//!
//! `WriteRequest { timeseries = 1 }`, `TimeSeries { labels = 1, samples = 2 }`, `Label { name = 1, value = 2 }`,
//! `Sample { value = 1: double, timestamp = 2: int64 }`, in a snappy block.
//!
//! **The file.** `KYMOREQ1`, then request after request: scrape, samples, NaNs among them, length of the body (u32
//! each, little-endian), the body. Requests stand in the order of time; those of one scrape hold different series, and
//! the same ones in every scrape. One load makes one file, byte by byte.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Load;

/// What Prometheus puts into one request by default.
const SAMPLES_PER_REQUEST: usize = 2_000;

const MAGIC: [u8; 8] = *b"KYMOREQ1";
const RECORD_HEADER_LEN: u64 = 16;

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

/// Makes requests, scrape by scrape.
struct Encoder<'a> {
    load: &'a Load,
    labels: Vec<Vec<u8>>,
    message: Vec<u8>,
    sample: Vec<u8>,
    snappy: snap::raw::Encoder,
}

impl Encoder<'_> {
    fn new(load: &Load) -> Encoder<'_> {
        let labels = (0..load.shape().series).map(|index| encoded_labels(load, index)).collect();
        Encoder { load, labels, message: Vec::new(), sample: Vec::new(), snappy: snap::raw::Encoder::new() }
    }

    /// Requests of one scrape, with one sample of each series.
    fn scrape(&mut self, scrape: usize) -> Result<Vec<Request>> {
        let series = (0..self.labels.len()).step_by(SAMPLES_PER_REQUEST);
        series.map(|first| self.request(scrape, first..(first + SAMPLES_PER_REQUEST).min(self.labels.len()))).collect()
    }

    fn request(&mut self, scrape: usize, series: Range<usize>) -> Result<Request> {
        self.message.clear();
        let (mut samples, mut nans) = (0, 0);
        for index in series {
            let Some((time_ms, value)) = self.load.sample(index, scrape) else { continue };
            samples += 1;
            nans += u64::from(value.is_nan());
            put_sample(&mut self.sample, time_ms, value);
            self.message.push(SERIES_TAG);
            put_varint(&mut self.message, (self.labels[index].len() + 2 + self.sample.len()) as u64);
            self.message.extend_from_slice(&self.labels[index]);
            put_bytes(&mut self.message, SAMPLE_TAG, &self.sample);
        }
        let body = self.snappy.compress_vec(&self.message).context("cannot compress a request")?;
        Ok(Request { body, samples, nans })
    }
}

/// Some scrapes of a load as requests, per scrape.
///
/// # Errors
/// A request cannot be compressed.
pub fn requests(load: &Load, scrapes: Range<usize>) -> Result<Vec<Vec<Request>>> {
    let mut encoder = Encoder::new(load);
    scrapes.map(|scrape| encoder.scrape(scrape)).collect()
}

/// One request with the samples of some series at one scrape.
///
/// # Errors
/// It cannot be compressed.
pub fn request(load: &Load, scrape: usize, series: Range<usize>) -> Result<Request> {
    Encoder::new(load).request(scrape, series)
}

/// One request with a sample of each of some series, whose labels are sorted; its value is its number.
///
/// # Errors
/// It cannot be compressed.
pub fn request_of<'a, const N: usize>(
    series: impl Iterator<Item = [(&'a str, String); N]>,
    time_ms: i64,
) -> Result<Request> {
    let (mut message, mut sample, mut samples) = (Vec::new(), Vec::new(), 0);
    for labels in series {
        let labels = encoded(labels.iter().map(|(name, value)| (*name, value.as_str())));
        put_sample(&mut sample, time_ms, samples as f64);
        message.push(SERIES_TAG);
        put_varint(&mut message, (labels.len() + 2 + sample.len()) as u64);
        message.extend_from_slice(&labels);
        put_bytes(&mut message, SAMPLE_TAG, &sample);
        samples += 1;
    }
    let body = snap::raw::Encoder::new().compress_vec(&message).context("cannot compress a request")?;
    Ok(Request { body, samples, nans: 0 })
}

/// Where a request stands in its file, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Samples in it.
    pub samples: u64,
    /// Samples in it that are NaN.
    pub nans: u64,
    at: u64,
    bytes: usize,
}

/// Requests in a file: what is held in memory is where they stand.
pub struct RequestFile {
    file: File,
    /// Per scrape.
    pub scrapes: Vec<Vec<Placed>>,
}

impl RequestFile {
    /// Writes the requests of a whole load. Memory is bounded by one scrape.
    ///
    /// # Errors
    /// The disk's, or a request that cannot be compressed.
    pub fn write(load: &Load, path: &Path) -> Result<RequestFile> {
        let failed = || format!("cannot write {}", path.display());
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.with_context(failed)?;
        let mut out = BufWriter::with_capacity(1 << 20, &file);
        out.write_all(&MAGIC).with_context(failed)?;
        let (mut encoder, mut at, mut scrapes) = (Encoder::new(load), MAGIC.len() as u64, Vec::new());
        for scrape in 0..load.shape().scrapes {
            let mut placed = Vec::new();
            for request in encoder.scrape(scrape)? {
                let fields = [scrape as u64, request.samples, request.nans, request.body.len() as u64];
                for field in fields {
                    out.write_all(&u32::try_from(field)?.to_le_bytes()).with_context(failed)?;
                }
                out.write_all(&request.body).with_context(failed)?;
                at += RECORD_HEADER_LEN;
                let bytes = request.body.len();
                placed.push(Placed { samples: request.samples, nans: request.nans, at, bytes });
                at += bytes as u64;
            }
            scrapes.push(placed);
        }
        out.flush().with_context(failed)?;
        drop(out);
        Ok(RequestFile { file, scrapes })
    }

    /// Opens a file that [`write`](Self::write) made.
    ///
    /// # Errors
    /// The disk's, or a file of another form.
    pub fn open(path: &Path) -> Result<RequestFile> {
        let failed = || format!("cannot read {}", path.display());
        let file = File::open(path).with_context(failed)?;
        let len = file.metadata().with_context(failed)?.len();
        let mut from = BufReader::new(&file);
        let mut magic = [0; 8];
        from.read_exact(&mut magic).with_context(failed)?;
        ensure!(magic == MAGIC, "{} holds no requests", path.display());
        let (mut at, mut scrapes) = (MAGIC.len() as u64, Vec::<Vec<Placed>>::new());
        while at < len {
            let mut field = || -> Result<u64> {
                let mut bytes = [0; 4];
                from.read_exact(&mut bytes).with_context(failed)?;
                Ok(u64::from(u32::from_le_bytes(bytes)))
            };
            let (scrape, samples, nans, bytes) = (field()? as usize, field()?, field()?, field()?);
            at += RECORD_HEADER_LEN;
            if scrape == scrapes.len() {
                scrapes.push(Vec::new());
            }
            ensure!(scrape + 1 == scrapes.len(), "{}: scrape {scrape} at byte {at} is out of order", path.display());
            ensure!(at + bytes <= len, "{} ends within the request at byte {at}", path.display());
            scrapes[scrape].push(Placed { samples, nans, at, bytes: bytes as usize });
            at += bytes;
            from.seek_relative(bytes.cast_signed()).with_context(failed)?;
        }
        Ok(RequestFile { file, scrapes })
    }

    /// Reads one body into a reused buffer.
    ///
    /// # Errors
    /// The disk's.
    pub fn read(&self, placed: &Placed, body: &mut Vec<u8>) -> Result<()> {
        body.resize(placed.bytes, 0);
        self.file.read_exact_at(body, placed.at).context("cannot read a request")
    }

    /// Samples in all of them, NaNs among them, and bytes of all bodies.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64) {
        self.scrapes.iter().flatten().fold((0, 0, 0), |sum, request| {
            (sum.0 + request.samples, sum.1 + request.nans, sum.2 + request.bytes as u64)
        })
    }

    /// CRC-32 of the whole file: what two runs are compared by.
    ///
    /// # Errors
    /// The disk's.
    pub fn checksum(&self) -> Result<u32> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        let (mut hasher, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer).context("cannot read requests")? {
                0 => return Ok(hasher.finalize()),
                bytes => hasher.update(&buffer[..bytes]),
            }
        }
    }
}

fn encoded_labels(load: &Load, index: usize) -> Vec<u8> {
    encoded(load.labels(index).iter())
}

/// In place of the sample before.
fn put_sample(to: &mut Vec<u8>, time_ms: i64, value: f64) {
    to.clear();
    to.push(DOUBLE_TAG);
    to.extend_from_slice(&value.to_le_bytes());
    to.push(TIME_TAG);
    put_varint(to, time_ms.cast_unsigned());
}

fn encoded<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (name, value) in labels {
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
