//! Limits of the receiver, each with its default and the reason for it.

use std::num::NonZeroUsize;

/// A body, and what it unpacks to, may not be larger than this whatever is configured: offsets into it are 32 bits.
pub const BODY_BYTES_CAP: usize = 1 << 30;

/// Limits of a [`Receiver`](super::Receiver). Every one names itself in the answer that refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteWriteConfig {
    /// Largest compressed body, in bytes. Default 32 MiB: no body within the limit below compresses to more.
    pub compressed_bytes_max: usize,
    /// Largest body after decompression, in bytes. Default 32 MiB, as in the reference implementation.
    pub decompressed_bytes_max: usize,
    /// Most samples (floats, histograms) and exemplars in one request. Default 1,000,000: five hundred times what
    /// Prometheus sends at once, and small enough that their columns stay near 100 MiB.
    pub samples_max: usize,
    /// Most bytes of label names and values of one series. Default 256 KiB: far beyond any engine's label limits;
    /// it bounds what a few label references of remote write 2.0 can unfold to.
    pub series_label_bytes_max: usize,
    /// Most bytes that the symbol references of one 2.0 request unfold to. Default 256 MiB.
    pub unfolded_bytes_max: usize,
    /// Memory for the caches of known series. Default 64 MiB: about 350,000 series of 130 bytes of labels.
    pub cache_bytes_max: u64,
    /// Most sets of buffers kept between requests. Default: as many as may decode at once, one for each core.
    pub scratch_max: usize,
    /// Buffers larger than this, in bytes, are given back after the request. Default 8 MiB.
    pub scratch_bytes_max: u64,
}

impl Default for RemoteWriteConfig {
    fn default() -> RemoteWriteConfig {
        RemoteWriteConfig {
            compressed_bytes_max: 32 << 20,
            decompressed_bytes_max: 32 << 20,
            samples_max: 1_000_000,
            series_label_bytes_max: 256 << 10,
            unfolded_bytes_max: 256 << 20,
            cache_bytes_max: 64 << 20,
            scratch_max: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            scratch_bytes_max: 8 << 20,
        }
    }
}
