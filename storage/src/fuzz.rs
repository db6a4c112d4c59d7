//! Doors for the fuzz targets: each takes any bytes and must neither panic nor allocate beyond them.

use std::path::Path;

use kymo_core::storage::Columns;

use crate::fs::{Fs, SimFs};
use crate::{block, chunk, manifest, wal};

/// A frame's payload.
pub fn wal_payload(bytes: &[u8]) {
    let mut records = 0usize;
    let _ = wal::decode(bytes, |_| records += 1);
    assert!(records <= bytes.len(), "{records} records out of {} bytes", bytes.len());
}

/// A whole segment file.
pub fn wal_segment(bytes: &[u8]) {
    let (disk, path) = with_file(bytes);
    let Ok(mut reader) = wal::SegmentReader::open(&disk, path, 1) else { return };
    while let Ok(Some((payload, end))) = reader.next() {
        assert!(end as usize <= bytes.len());
        wal_payload(payload);
    }
}

/// A chunk.
pub fn chunk(bytes: &[u8]) {
    let mut columns = Columns::default();
    if chunk::decode(bytes, i64::MIN, i64::MAX, &mut columns).is_ok() {
        assert!(columns.times.windows(2).all(|w| w[0] < w[1]), "times rise");
        assert_eq!(columns.iter().count(), columns.times.len(), "every time has a value");
        let mut again = Vec::new();
        chunk::encode(&columns, &mut again);
        let mut reread = Columns::default();
        chunk::decode(&again, i64::MIN, i64::MAX, &mut reread).expect("what was written reads back");
        assert_eq!(reread.times, columns.times);
    }
}

/// A block file, and its two index sections without the checksums that guard them.
pub fn block(bytes: &[u8]) {
    let (disk, path) = with_file(bytes);
    let _ = block::check_whole(&disk, path);
    if let Some((&split, rest)) = bytes.split_first() {
        let at = usize::from(split).min(rest.len());
        let (symbols, series) = rest.split_at(at);
        let _ = block::read_index(symbols, series);
    }
    let _ = block::Footer::decode(bytes, 1 << 20);
}

/// A manifest.
pub fn manifest(bytes: &[u8]) {
    let _ = manifest::Manifest::decode(bytes);
}

fn with_file(bytes: &[u8]) -> (SimFs, &'static Path) {
    let (disk, path) = (SimFs::new(0), Path::new("/file"));
    let written = disk.create_new(path).map(|file| file.append_all(bytes).is_ok());
    assert!(matches!(written, Ok(true)), "the simulated disk takes the input");
    (disk, path)
}
