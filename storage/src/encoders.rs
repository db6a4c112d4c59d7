//! The encoders of floats one by one, as benches measure them. An engine chooses among them by itself.

use std::io;

use kymo_core::storage::{Columns, Run, RunKind};

use crate::chunk::{self, Samples};
use crate::{Compressor, FastCompressor, Malformed, SmallCompressor, head};

/// Samples of a sealed run of the head at the most.
pub const RUN_SAMPLES: usize = crate::sample::RUN_SAMPLES;
/// Samples of a chunk of a block at the most.
pub const CHUNK_SAMPLES_MAX: usize = chunk::CHUNK_SAMPLES_MAX;

/// Appends to `out` how the head keeps the bits of 1 to [`RUN_SAMPLES`] floats; gives the name of the encoding.
pub fn encode_run(bits: &[u64], out: &mut Vec<u8>) -> &'static str {
    head::encode_floats(bits, out)
}

/// Reads `count` floats of a run into `columns`, which holds their times and nothing else.
///
/// # Errors
/// The bytes are no such run.
pub fn decode_run(bytes: &[u8], count: usize, columns: &mut Columns) -> Result<(), Malformed> {
    head::decode_floats(bytes, count, columns)
}

/// Encodes chunks of blocks.
#[derive(Debug)]
pub struct BlockEncoder(FastCompressor, SmallCompressor);

impl BlockEncoder {
    /// # Errors
    /// Out of memory.
    pub fn new() -> io::Result<BlockEncoder> {
        Ok(BlockEncoder(FastCompressor::new()?, SmallCompressor::new()?))
    }

    /// Appends 1 to [`CHUNK_SAMPLES_MAX`] floats as a flush writes them; gives the name of the encoding.
    pub fn flushed(&mut self, times: &[i64], floats: &[f64], out: &mut Vec<u8>) -> &'static str {
        encode(&mut self.0, times, floats, out)
    }

    /// The same as a merge writes them.
    pub fn merged(&mut self, times: &[i64], floats: &[f64], out: &mut Vec<u8>) -> &'static str {
        encode(&mut self.1, times, floats, out)
    }
}

fn encode(by: &mut dyn Compressor, times: &[i64], floats: &[f64], out: &mut Vec<u8>) -> &'static str {
    let runs = [Run { kind: RunKind::Float, len: floats.len() }];
    let begin = out.len();
    by.compress(Samples { times, starts: &[], runs: &runs, floats, histograms: &[] }, out);
    chunk::encoding_of(&out[begin..]).map_or("unknown", |encoding| encoding.as_str())
}

/// Reads the floats of a chunk whose times are `times` into `columns`, which holds those and nothing else.
///
/// # Errors
/// The bytes are no such chunk.
pub fn decode_chunk(payload: &[u8], times: &[i64], columns: &mut Columns) -> Result<(), Malformed> {
    chunk::decode(payload, times, 0..times.len(), columns)
}
