//! The two sets that bytes are quoted on, written to files: the measured one and the recording as it is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Load, RequestFile, Shape, recording};

/// One file of requests.
pub struct PeerSet {
    /// Its name, without the folder.
    pub name: &'static str,
    /// Where it lies.
    pub path: PathBuf,
    /// What it was made from.
    pub source: String,
    /// What is played.
    pub shape: Shape,
    /// Samples, NaNs among them, and bytes of all bodies.
    pub totals: (u64, u64, u64),
    /// CRC-32 of the file.
    pub checksum: u32,
}

impl fmt::Display for PeerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (samples, nans, bytes) = self.totals;
        let Shape { series, scrapes, base_ms } = self.shape;
        write!(
            f,
            "{}: {series} series × {scrapes} scrapes of {} from {base_ms} ms on: {samples} samples, {nans} of them NaN; \
             {bytes} bytes of requests, checksum {:08x}",
            self.path.display(),
            self.source,
            self.checksum
        )
    }
}

/// The name and the load of each set.
///
/// # Errors
/// The recording cannot be read.
pub fn peer_set(base_ms: i64) -> Result<[(&'static str, Load); 2]> {
    let recording = recording()?;
    let plain = Shape::plain(&recording, base_ms);
    Ok([("measured", Load::new(recording.clone(), Shape::measured(base_ms))), ("plain", Load::new(recording, plain))])
}

/// Writes `measured.requests` and `plain.requests` into `dir`, the first scrape at `base_ms`.
///
/// # Errors
/// The recording cannot be read, or the disk fails.
pub fn write_peer_set(dir: &Path, base_ms: i64) -> Result<Vec<PeerSet>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut written = Vec::new();
    for (name, load) in peer_set(base_ms)? {
        let path = dir.join(format!("{name}.requests"));
        let file = RequestFile::write(&load, &path)?;
        let (totals, checksum) = (file.totals(), file.checksum()?);
        let source = load.recording().source.clone();
        written.push(PeerSet { name, path, source, shape: load.shape(), totals, checksum });
    }
    Ok(written)
}
