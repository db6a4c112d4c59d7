//! What was deleted from a block and is still in its chunks.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::buf::{Buf, Short};
use super::malformed;
use crate::import::ImportError;

const MAGIC: u32 = 0x0130_ba30;
const VERSION: u8 = 1;
const HEADER_LEN: usize = 5;

/// Deleted times by series, both ends included.
#[derive(Debug, Default)]
pub(super) struct Tombstones(HashMap<u64, Vec<(i64, i64)>>);

impl Tombstones {
    /// The file of a block; none is no deletion.
    pub(super) fn read(block: &Path) -> Result<Tombstones, ImportError> {
        let path = block.join("tombstones");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Tombstones::default()),
            Err(source) => return Err(ImportError::Read { place: path.display().to_string(), source }),
        };
        let body = bytes.len().checked_sub(4).filter(|body| *body >= HEADER_LEN);
        let body = body.ok_or_else(|| malformed(&path, 0, "cut short"))?;
        let crc = Buf::new(&bytes[body..]).u32().unwrap_or(0);
        if crc32c::crc32c(&bytes[HEADER_LEN..body]) != crc {
            return Err(malformed(&path, body as u64, "checksum is wrong"));
        }
        Tombstones::decode(&bytes[..body]).map_err(|Short| malformed(&path, 0, "these are no tombstones of version 1"))
    }

    fn decode(bytes: &[u8]) -> Result<Tombstones, Short> {
        let mut from = Buf::new(bytes);
        if from.u32()? != MAGIC || from.u8()? != VERSION {
            return Err(Short);
        }
        let mut tombstones = Tombstones::default();
        while !from.is_empty() {
            let series = from.uvarint()?;
            tombstones.add(series, from.varint()?, from.varint()?);
        }
        Ok(tombstones)
    }

    pub(super) fn add(&mut self, series: u64, first_ms: i64, last_ms: i64) {
        self.0.entry(series).or_default().push((first_ms, last_ms));
    }

    /// What was deleted of a series.
    pub(super) fn of(&self, series: u64) -> &[(i64, i64)] {
        self.0.get(&series).map_or(&[], Vec::as_slice)
    }
}

/// Whether a time was deleted.
pub(super) fn hides(deleted: &[(i64, i64)], time_ms: i64) -> bool {
    deleted.iter().any(|(first, last)| (*first..=*last).contains(&time_ms))
}
