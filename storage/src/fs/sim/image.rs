//! The bytes of one file: as the running system sees them, and as the disk has them.

use std::collections::BTreeMap;

use super::extents::Extents;
use super::rng::Rng;

/// What a disk writes in one piece or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Until a sync fails, replaying `unsynced` over `durable` gives `live`.
#[derive(Clone, Debug, Default)]
pub(super) struct FileImage {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Changes since the last sync, oldest first.
    unsynced: Vec<Change>,
    room: Extents,
    durable_room: Extents,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

impl FileImage {
    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    /// The bytes that have room on the disk.
    pub(super) fn room(&self) -> &Extents {
        &self.room
    }

    pub(super) fn take_room(&mut self, offset: u64, len: u64) {
        self.room.insert(offset..offset + len);
    }

    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.take_room(offset as u64, data.len() as u64);
        put(&mut self.live, offset, data);
        let data = data.to_vec();
        self.unsynced.push(Change::Write { offset, data });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.room.truncate(len as u64);
        self.live.resize(len, 0);
        self.unsynced.push(Change::SetLen(len));
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write { offset, data } => put(&mut self.durable, offset, &data),
                Change::SetLen(len) => self.durable.resize(len, 0),
            }
        }
        self.durable_room = self.room.clone();
    }

    /// A sync failed: the pages count as clean from now on and no later sync writes them. Lengths
    /// are in the journal and stay to be synced.
    pub(super) fn lose_unsynced_writes(&mut self) {
        self.unsynced.retain(|c| matches!(c, Change::SetLen(_)));
    }

    /// Flips the bits of `mask` in one byte, wherever it is kept. `None` past the end.
    pub(super) fn corrupt(&mut self, at: usize, mask: u8) -> Option<()> {
        *self.live.get_mut(at)? ^= mask;
        if let Some(byte) = self.durable.get_mut(at) {
            *byte ^= mask;
        }
        for change in &mut self.unsynced {
            if let Change::Write { offset, data } = change
                && let Some(byte) = at.checked_sub(*offset).and_then(|i| data.get_mut(i))
            {
                *byte ^= mask;
            }
        }
        Some(())
    }

    /// The file after power came back: all of it is durable now.
    pub(super) fn after_power_loss(&self, rng: &mut Rng) -> Self {
        let bytes = match rng.up_to(3) {
            0 => self.durable.clone(),
            1 => self.replay(self.unsynced.len(), 0, |_, _| true),
            2 => self.torn(rng),
            _ => self.scattered(rng),
        };
        let mut room = self.durable_room.clone();
        room.insert_all(&Extents::whole(bytes.len() as u64));
        Self { live: bytes.clone(), durable: bytes, unsynced: Vec::new(), room: room.clone(), durable_room: room }
    }

    /// The changes arrived in order, up to somewhere inside one of them.
    fn torn(&self, rng: &mut Rng) -> Vec<u8> {
        let cut = rng.up_to(self.unsynced.len());
        let Some(Change::Write { offset, data }) = self.unsynced.get(cut) else {
            return self.replay(cut, 0, |_, nth| nth < cut);
        };
        let end = offset + data.len();
        let first = offset / SECTOR_BYTES;
        let kept_end = first + rng.up_to(end.div_ceil(SECTOR_BYTES) - first);
        let torn_len = if kept_end == first { 0 } else { end.min(kept_end * SECTOR_BYTES) };
        self.replay(cut, torn_len, |sector, nth| nth < cut || (nth == cut && sector < kept_end))
    }

    /// Every sector, and the length, is as it was at a moment of its own.
    fn scattered(&self, rng: &mut Rng) -> Vec<u8> {
        let lengths = rng.up_to(self.unsynced.len());
        let newest = self.first_shrink_from(lengths);
        let mut cuts = BTreeMap::new();
        self.replay(lengths, 0, |sector, nth| nth < *cuts.entry(sector).or_insert_with(|| rng.up_to(newest)))
    }

    /// Replays the lengths of the first `lengths` changes and of each write the sectors that
    /// `keeps(sector, nth change)`; the result is at least `len_min` long.
    fn replay(&self, lengths: usize, len_min: usize, mut keeps: impl FnMut(usize, usize) -> bool) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let mut len = bytes.len();
        for (nth, change) in self.unsynced.iter().enumerate() {
            match change {
                Change::Write { offset, data } => {
                    for (at, piece) in sectors(*offset, data) {
                        if keeps(at / SECTOR_BYTES, nth) {
                            put(&mut bytes, at, piece);
                        }
                    }
                    if nth < lengths {
                        len = len.max(offset + data.len());
                    }
                }
                Change::SetLen(new) if nth < lengths => {
                    bytes.resize(*new, 0);
                    len = *new;
                }
                Change::SetLen(_) => {}
            }
        }
        bytes.resize(len.max(len_min), 0);
        bytes
    }

    /// The first change at or after `from` that cuts the file. What is written after a cut goes to
    /// new places on the disk, which nothing points to unless the cut itself has arrived.
    fn first_shrink_from(&self, from: usize) -> usize {
        let mut len = self.durable.len();
        for (nth, change) in self.unsynced.iter().enumerate() {
            match change {
                Change::Write { offset, data } => len = len.max(offset + data.len()),
                Change::SetLen(new) if *new < len && nth >= from => return nth,
                Change::SetLen(new) => len = *new,
            }
        }
        self.unsynced.len()
    }
}

/// The parts of `data`, written at `offset`, that share no sector; each with its own offset.
fn sectors(offset: usize, mut data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = offset;
    std::iter::from_fn(move || {
        let piece_bytes = (SECTOR_BYTES - at % SECTOR_BYTES).min(data.len());
        let (piece, rest) = data.split_at(piece_bytes);
        let here = at;
        at += piece_bytes;
        data = rest;
        (!piece.is_empty()).then_some((here, piece))
    })
}

/// Overwrites `bytes` at `offset`, lengthening them where needed.
fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}
