//! The manifest: which blocks are live, where replay begins, and how often the directory was opened.
//!
//! Replaced as a whole by rename, so it is either the old one or the new one. That rename is the moment at
//! which a flush, a merge or a retirement happens. `docs/format/manifest.md` is the page.

use std::path::Path;

use crate::blocks::LiveBlock;
use crate::codec::{Malformed, Reader, is_sum, put_block, put_varint};
use crate::error::{StorageError, io_error};
use crate::fs::{Fs, OpenMode};
use crate::rollup::Rolled;
use crate::tombstones::Tombstone;
use crate::wal::LogPosition;

const MAGIC: [u8; 8] = *b"KYMOMAN\0";
/// The version this build writes. It stands for the whole data directory.
const VERSION: u32 = 6;
/// The oldest one it reads: its fields are those of today, and what it stands for is read too.
const VERSION_MIN: u32 = 5;
const FILE: &str = "MANIFEST";
const TEMPORARY: &str = "MANIFEST.new";
/// A manifest of a million blocks is far below this.
const BYTES_MAX: u64 = 64 << 20;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    /// Openings so far; refs of this opening carry it.
    pub(crate) opening: u32,
    /// The sequence of the next block.
    pub(crate) next_sequence: u64,
    /// Where replay begins: everything before is in blocks.
    pub(crate) replay_from: LogPosition,
    /// Number of the file of totals at that position; 0 for none.
    pub(crate) totals: u64,
    /// The last delete in front of where replay begins.
    pub(crate) deletes: u64,
    /// Deletes that hide something of a block.
    pub(crate) tombstones: Vec<Tombstone>,
    /// Live blocks.
    pub(crate) blocks: Vec<BlockEntry>,
    /// What is rolled up.
    pub(crate) rolled: Rolled,
}

/// A live block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    /// Its file.
    pub(crate) name: String,
    /// Deletes up to this one hide nothing of it.
    pub(crate) deletes: u64,
}

impl BlockEntry {
    pub(crate) fn of(block: &LiveBlock) -> BlockEntry {
        BlockEntry { name: block.name().to_owned(), deletes: block.deletes_through() }
    }
}

impl Manifest {
    pub(crate) fn new() -> Manifest {
        Manifest {
            opening: 0,
            next_sequence: 1,
            replay_from: LogPosition { segment: 1, offset: 0 },
            totals: 0,
            deletes: 0,
            tombstones: Vec::new(),
            blocks: Vec::new(),
            rolled: Rolled::default(),
        }
    }

    /// File names of the live blocks.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.blocks.iter().map(|block| &block.name)
    }

    /// Whether a file is a live block's.
    pub(crate) fn lists(&self, name: &str) -> bool {
        self.names().any(|listed| listed == name)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        put_varint(&mut out, u64::from(self.opening));
        put_varint(&mut out, self.next_sequence);
        put_varint(&mut out, self.replay_from.segment);
        put_varint(&mut out, self.replay_from.offset);
        put_varint(&mut out, self.totals);
        put_varint(&mut out, self.deletes);
        put_varint(&mut out, self.tombstones.len() as u64);
        self.tombstones.iter().for_each(|tombstone| tombstone.put(&mut out));
        put_varint(&mut out, self.blocks.len() as u64);
        for block in &self.blocks {
            put_block(&mut out, block.name.as_bytes());
            put_varint(&mut out, block.deletes);
        }
        self.rolled.put(&mut out);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, DecodeError> {
        let from = &mut Reader::new(bytes);
        if from.bytes(8)? != MAGIC {
            return Err(Malformed { what: "this is no manifest", offset: 0 }.into());
        }
        let version = from.u32()?;
        if version > VERSION {
            return Err(DecodeError::Newer(version));
        }
        if version < VERSION_MIN {
            return Err(DecodeError::Older(version));
        }
        let body = bytes.len().saturating_sub(4);
        if body < 12 || !is_sum(crc32fast::hash(&bytes[..body]), Reader::new(&bytes[body..]).u32()?) {
            return Err(Malformed { what: "checksum is wrong", offset: body }.into());
        }
        let from = &mut Reader::new(&bytes[12..body]);
        let opening = u32::try_from(from.varint()?).unwrap_or(u32::MAX);
        let next_sequence = from.varint()?;
        let replay_from = LogPosition { segment: from.varint()?, offset: from.varint()? };
        let totals = from.varint()?;
        let deletes = from.varint()?;
        let count = from.count(4)?;
        let tombstones = (0..count).map(|_| Tombstone::read(from)).collect::<Result<_, Malformed>>()?;
        let count = from.count(2)?;
        let mut entry = || Ok(BlockEntry { name: from.text()?.to_owned(), deletes: from.varint()? });
        let blocks = (0..count).map(|_| entry()).collect::<Result<_, Malformed>>()?;
        let rolled = Rolled::read(from)?;
        from.end()?;
        Ok(Manifest { opening, next_sequence, replay_from, totals, deletes, tombstones, blocks, rolled })
    }

    /// Reads the manifest of `dir`; `None` if there is none.
    pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<Manifest>, StorageError> {
        let path = dir.join(FILE);
        let read = |source| StorageError::Io { path: path.clone(), doing: "reading the manifest", source };
        let file = match fs.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read(error)),
        };
        let len = file.len().map_err(read)?;
        if len > BYTES_MAX {
            let fault = Malformed { what: "file is too long", offset: BYTES_MAX as usize };
            return Err(StorageError::Damaged { path, fault });
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0).map_err(read)?;
        match Manifest::decode(&bytes) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(DecodeError::Malformed(fault)) => Err(StorageError::Damaged { path, fault }),
            Err(DecodeError::Older(version)) => Err(StorageError::OlderVersion { path, version, supported: VERSION }),
            Err(DecodeError::Newer(version)) => Err(StorageError::NewerVersion { path, version, supported: VERSION }),
        }
    }

    /// Makes this the manifest of `dir`, durably.
    pub(crate) fn publish(&self, fs: &dyn Fs, dir: &Path) -> Result<(), StorageError> {
        let (path, temporary) = (dir.join(FILE), dir.join(TEMPORARY));
        let publish = || {
            remove_if_there(fs, &temporary)?;
            let file = fs.create_new(&temporary)?;
            file.append_all(&self.encode())?;
            file.sync_data()?;
            fs.rename(&temporary, &path)?;
            fs.sync_dir(dir)
        };
        publish().map_err(io_error(&path, "publishing the manifest"))
    }
}

/// What a manifest's bytes are not.
#[derive(Debug)]
pub(crate) enum DecodeError {
    Malformed(Malformed),
    Newer(u32),
    Older(u32),
}

impl From<Malformed> for DecodeError {
    fn from(fault: Malformed) -> DecodeError {
        DecodeError::Malformed(fault)
    }
}

/// Removes a file that may not exist.
pub(crate) fn remove_if_there(fs: &dyn Fs, path: &Path) -> std::io::Result<()> {
    match fs.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use kymo_core::storage::Tier;
    use kymo_core::{Deletion, Matcher};

    use super::*;
    use crate::rollup::Spans;

    fn sample() -> Manifest {
        Manifest {
            opening: 3,
            next_sequence: 12,
            replay_from: LogPosition { segment: 9, offset: 0 },
            totals: 10,
            deletes: 4,
            tombstones: vec![Tombstone {
                id: 3,
                what: Deletion { any_of: vec![vec![Matcher::equal("job", "debug")]], start_ms: -1, end_ms: 1_000 },
            }],
            blocks: vec![
                BlockEntry { name: "0000000000000001.block".into(), deletes: 2 },
                BlockEntry { name: "0000000000000011.block".into(), deletes: 4 },
            ],
            rolled: {
                let mut rolled = Rolled::default();
                rolled.of_mut(Tier::FiveMinutes).built = Spans::of(0, 7_200_000);
                rolled.touch(3_600_001, 3_600_001);
                rolled.of_mut(Tier::OneHour).built = Spans::of(0, 3_600_000);
                rolled.let_go(Tier::Raw, &Spans::of(0, 3_600_000), Some(Tier::FiveMinutes));
                rolled
            },
        }
    }

    #[test]
    fn the_page_s_worked_example_is_what_is_written() {
        let page = include_str!("../../docs/format/manifest.md");
        let bytes = sample().encode();
        assert_eq!(crate::format_page::example(page), bytes, "{}", crate::format_page::hex(&bytes));
    }

    #[test]
    fn a_manifest_reads_back_and_every_flip_and_cut_is_noticed() {
        let bytes = sample().encode();
        assert_eq!(Manifest::decode(&bytes).ok(), Some(sample()));
        for at in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(Manifest::decode(&bad).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn the_version_before_is_read() {
        let mut bytes = sample().encode();
        bytes[8] = 5;
        let body = bytes.len() - 4;
        let checksum = crc32fast::hash(&bytes[..body]);
        bytes[body..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Manifest::decode(&bytes).ok(), Some(sample()));
    }

    #[test]
    fn another_version_is_told_apart_from_damage() {
        let mut bytes = sample().encode();
        bytes[8] = 7;
        assert!(matches!(Manifest::decode(&bytes), Err(DecodeError::Newer(7))));
        bytes[8] = 4;
        assert!(matches!(Manifest::decode(&bytes), Err(DecodeError::Older(4))));
    }
}
