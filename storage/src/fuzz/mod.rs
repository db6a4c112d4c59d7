//! Doors for the fuzz targets: each takes any bytes and must neither panic nor allocate beyond them.
//!
//! Built for fuzzing, no checksum is compared (`codec::is_sum`): what an input changes is read, not
//! refused at the door.

#[cfg(test)]
mod seeds;

use std::path::Path;
use std::sync::Arc;

use kymo_core::Budget;
use kymo_core::storage::Columns;

use crate::fs::{Fs, SimFs};
use crate::verify::{Depth, VerifyReport};
use crate::{block, chunk, head, increments, manifest, wal};

/// A frame's payload, with and without what it leans on.
pub fn wal_payload(bytes: &[u8]) {
    let mut chain = wal::ChainReader::default();
    for footing in [wal::Footing::Lost, wal::Footing::Firm, wal::Footing::Firm] {
        read_payload(bytes, &mut chain, footing);
    }
}

fn read_payload(bytes: &[u8], chain: &mut wal::ChainReader, footing: wal::Footing) {
    let mut records = 0usize;
    let _ = wal::decode(bytes, chain, footing, |record| {
        records += match record {
            wal::Record::Define(definitions, _) => definitions.len(),
            _ => 1,
        }
    });
    assert!(records <= 8 * bytes.len(), "{records} records out of {} bytes", bytes.len());
}

/// A whole segment file.
pub fn wal_segment(bytes: &[u8]) {
    let (disk, path) = with_file(bytes);
    let Ok(mut reader) = wal::SegmentReader::open(&disk, path, 1) else { return };
    let mut chain = wal::ChainReader::default();
    while let Ok(Some(frame)) = reader.next() {
        assert!(frame.end as usize <= bytes.len());
        read_payload(frame.payload, &mut chain, frame.footing);
    }
}

/// A sealed run of the head, values and times: the first byte says how many samples, the second how wide times are.
pub fn head_run(bytes: &[u8]) {
    head::fuzz_run(bytes);
}

/// The values of a chunk of a block: the first byte says how many, the second where a range begins.
pub fn chunk(bytes: &[u8]) {
    let [count, start, payload @ ..] = bytes else { return };
    let count = usize::from(*count) * 5 + 1;
    let times: Vec<i64> = (0..count as i64).map(|n| n * 15_000).collect();
    let range = usize::from(*start).min(count)..count;
    let mut columns = Columns::default();
    columns.times.extend_from_slice(&times[range.clone()]);
    if chunk::decode(payload, &times, range, &mut columns).is_ok() {
        assert_eq!(columns.iter().count(), columns.times.len(), "every time has a value");
        assert!(columns.starts.is_empty() || columns.starts.len() == columns.times.len(), "starts for all or none");
    }
}

/// A block file, and its pages without the checksums that guard them.
pub fn block(bytes: &[u8]) {
    let (disk, path) = with_file(bytes);
    let (cache, budget) = (Arc::new(block::BlockCache::new(&Budget::unlimited(), 1 << 20)), Budget::unlimited());
    if let Ok(block) = block::Block::open(&disk, path, &budget, &cache) {
        block::check(&block, Depth::Samples, &mut VerifyReport::default(), &mut |_| {});
    }
    block::check_pages(bytes);
    let _ = block::Footer::decode(bytes, 1 << 20);
}

/// A manifest; one that is read is written as it was.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = manifest::Manifest::decode(bytes) else { return };
    let again = manifest::Manifest::decode(&manifest.encode());
    assert!(again.is_ok_and(|again| again == manifest), "{manifest:?}");
}

/// Totals; those that are read are written as they were.
pub fn totals(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        let mut all = Vec::new();
        increments::decode(bytes, |labels, totals| all.push((labels, totals))).ok().map(|()| all)
    };
    let Some(all) = read(bytes) else { return };
    let written = increments::encode(all.iter().map(|(labels, totals)| (labels, totals)));
    let again = read(&written).map(|all| increments::encode(all.iter().map(|(labels, totals)| (labels, totals))));
    assert_eq!(again.as_deref(), Some(&*written), "{} series", all.len());
}

/// A queue of one segment, and a checkpoint: the first byte says how long that is.
#[cfg(feature = "fuzz")]
pub fn queue(bytes: &[u8]) {
    use kymo_core::state::{DiskQueue, QueueError};
    let Some((len, rest)) = bytes.split_first() else { return };
    let (checkpoint, segment) = rest.split_at(usize::from(*len).min(rest.len()));
    let disk = SimFs::new(0);
    let write = |name: &str, bytes: &[u8]| {
        let file = disk.create_new(Path::new(name));
        assert!(file.is_ok_and(|file| file.append_all(bytes).is_ok()), "the simulated disk takes the input");
    };
    write("/00000000000000000000.queue", segment);
    if *len > 0 {
        write("/CHECKPOINT", checkpoint);
    }
    let opened = crate::state::FileQueue::open(Arc::new(disk), Path::new("/"), crate::state::QueueOptions::default());
    let Ok((queue, _)) = opened else { return };
    let (mut at, mut records) = (queue.checkpoint(), Vec::new());
    while at < queue.end() {
        let next = match queue.read(at, 1 << 10, &mut records) {
            Ok(next) => next,
            Err(QueueError::Damaged { resume, .. }) => resume,
            Err(error) => panic!("{error:?}"),
        };
        assert!(next > at, "reading goes on");
        at = next;
    }
    let read: usize = records.iter().map(Vec::len).sum();
    assert!(read <= segment.len(), "{read} bytes out of {}", segment.len());
    let appended = queue.append(b"next");
    assert!(queue.acknowledge(at).is_ok() && appended.is_ok());
}

fn with_file(bytes: &[u8]) -> (SimFs, &'static Path) {
    let (disk, path) = (SimFs::new(0), Path::new("/file"));
    let written = disk.create_new(path).map(|file| file.append_all(bytes).is_ok());
    assert!(matches!(written, Ok(true)), "the simulated disk takes the input");
    (disk, path)
}
