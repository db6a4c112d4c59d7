//! Open runs: values in fixed slots, times in tracks that the series of a scrape share.
//!
//! A run keeps one value until it has another, so most keep one: gauges that stay, counters of what does not happen. A series
//! whose run had several begins the next with room for as many, and gives it back if that one had none.
//!
//! A *track* is a growing column of times. A series that begins a run joins a track whose newest time is that of its
//! sample, and from then on its run is `len` times of the track from `start`. As long as its samples come when those
//! of the others come it stores no time; when one does not, it takes its part of the track along to another.
//!
//! Invariants: (1) what stands in a track is never changed, so a part of it can be compared by place; (2) a track is
//! freed when no run is in it, and whoever remembers places must forget them then ([`Tracks::freed`]).

use std::ops::Range;

use super::slab::Slab;
use super::store::NONE;
use crate::sample::RUN_SAMPLES;

/// Slots per page.
const PAGE_SLOTS: usize = 128;
/// Values from one position to the next. A power of two would put a run's values where they push each other out of the cache.
const PAGE_STRIDE: usize = PAGE_SLOTS + 8;
/// Times after which no run begins in a track any more, so that old ones leave memory.
const TRACK_TIMES: usize = 4 * RUN_SAMPLES;
/// Free tracks that keep their buffers: the next scrapes of as many targets allocate nothing.
const SPARE_TRACKS: usize = 64;
/// Tracks remembered for series that begin a run: targets whose samples come by turns.
const RECENT: usize = 4;

/// Marks names of times that say where in which track they stand.
const NAMES_PART: u64 = 1 << 63;

const _: () = assert!(TRACK_TIMES + RUN_SAMPLES < 1 << 16 && RUN_SAMPLES < 1 << 8, "a name has room for them");

pub(super) type Values = [u64; RUN_SAMPLES];

/// Values of runs, those of one position side by side, so that the samples of a scrape go to memory that lies together.
type Page = [[u64; PAGE_STRIDE]; RUN_SAMPLES];

/// Marks a slot of one value.
const ONE: u32 = 1 << 31;

/// The values of open runs: one as long as all are equal, else one each.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pages: Vec<Box<Page>>,
    free: Vec<u32>,
    /// Slots of one value.
    ones: Vec<u64>,
    free_ones: Vec<u32>,
}

impl Slots {
    /// Begins a run with a value. Takes the slot of the run before, or [`NONE`], and gives that of this one.
    #[inline]
    pub(super) fn begin(&mut self, slot: u32, bits: u64) -> u32 {
        if slot == NONE {
            return self.take_one(bits);
        }
        *self.place(slot, 0) = bits;
        slot
    }

    /// Makes `bits` the value at position `at` of a run of `len`, `len` at the most; gives the run's slot, which may be another.
    #[inline]
    pub(super) fn put(&mut self, slot: u32, len: usize, at: usize, bits: u64) -> u32 {
        if slot & ONE == 0 {
            *self.place(slot, at) = bits;
            return slot;
        }
        if self.value(slot, at) == bits {
            return slot;
        }
        self.spread(slot, len, at, bits)
    }

    /// Gives a run whose values are not equal any more a slot of as many.
    fn spread(&mut self, slot: u32, len: usize, at: usize, bits: u64) -> u32 {
        let one = self.value(slot, 0);
        self.free_ones.push(slot);
        let all = self.take();
        for before in 0..len {
            *self.place(all, before) = one;
        }
        *self.place(all, at) = bits;
        all
    }

    /// Frees the slot of a run that has ended, of which all values were equal: the next may be like it.
    pub(super) fn end_equal(&mut self, slot: u32) -> u32 {
        if slot & ONE != 0 {
            return slot;
        }
        self.free.push(slot);
        NONE
    }

    fn take(&mut self) -> u32 {
        if self.free.is_empty() {
            let first = (self.pages.len() * PAGE_SLOTS) as u32;
            let page = vec![[0; PAGE_STRIDE]; RUN_SAMPLES].into_boxed_slice().try_into();
            self.pages.push(page.expect("a page has its length"));
            self.free.extend((first..first + PAGE_SLOTS as u32).rev());
        }
        self.free.pop().expect("a page was added")
    }

    fn take_one(&mut self, bits: u64) -> u32 {
        if let Some(slot) = self.free_ones.pop() {
            *self.place(slot, 0) = bits;
            return slot;
        }
        self.ones.push(bits);
        ONE | (self.ones.len() as u32 - 1)
    }

    /// Frees all slots; nobody may hold one.
    pub(super) fn reset(&mut self) {
        *self = Slots::default();
    }

    /// Where the value at a position of a run stands.
    #[inline]
    fn place(&mut self, slot: u32, at: usize) -> &mut u64 {
        let slot_in = slot as usize % PAGE_SLOTS;
        match slot & ONE {
            0 => &mut self.pages[slot as usize / PAGE_SLOTS][at][slot_in],
            _ => &mut self.ones[(slot & !ONE) as usize],
        }
    }

    /// The value at a position of a run.
    #[inline]
    pub(super) fn value(&self, slot: u32, at: usize) -> u64 {
        match slot & ONE {
            0 => self.pages[slot as usize / PAGE_SLOTS][at][slot as usize % PAGE_SLOTS],
            _ => self.ones[(slot & !ONE) as usize],
        }
    }

    /// The values at these positions of a run, copied to `room`.
    #[inline]
    pub(super) fn values<'a>(&self, slot: u32, positions: Range<usize>, room: &'a mut Values) -> &'a [u64] {
        let values = &mut room[..positions.len()];
        if slot & ONE != 0 {
            values.fill(self.ones[(slot & !ONE) as usize]);
            return values;
        }
        let (page, slot_in) = (&self.pages[slot as usize / PAGE_SLOTS], slot as usize % PAGE_SLOTS);
        for (value, of_position) in values.iter_mut().zip(&page[positions]) {
            *value = of_position[slot_in];
        }
        values
    }

    pub(super) fn bytes(&self) -> usize {
        let pages = self.pages.len() * size_of::<Page>() + self.pages.capacity() * 8;
        pages + self.ones.capacity() * 8 + (self.free.capacity() + self.free_ones.capacity()) * 4
    }
}

#[derive(Debug, Default)]
struct Track {
    times: Vec<i64>,
    /// Runs in it.
    users: u32,
}

/// Where the times of a run are: `len` times of `track` from `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) track: u32,
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Part {
    /// Names `count` of its times, from that at `from` on: names of one look at the head that are equal mean equal times.
    pub(super) fn name(self, from: usize, count: usize) -> u64 {
        NAMES_PART | u64::from(self.track) << 24 | (u64::from(self.start) + from as u64) << 8 | count as u64
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    tracks: Slab<Track>,
    free: Vec<u32>,
    heap_bytes: usize,
    /// Tracks that were joined or made last, newest first.
    recent: [u32; RECENT],
    /// The last run that left a track, and where it went.
    left: Option<(Part, u32)>,
    /// Whether a track was freed since the last call of [`Tracks::freed`].
    freed: bool,
}

impl Tracks {
    /// Begins a run with `time`.
    pub(super) fn begin(&mut self, time: i64) -> (u32, u32) {
        for at in 0..RECENT {
            let number = self.recent[at];
            if let Some(track) = self.tracks.get_mut(number)
                && track.users > 0
                && track.times.len() < TRACK_TIMES
                && track.times.last() == Some(&time)
            {
                track.users += 1;
                let start = track.times.len() as u32 - 1;
                self.remember(number);
                return (number, start);
            }
        }
        let number = self.make(&[time]);
        self.remember(number);
        (number, 0)
    }

    /// Adds `time` to a run; gives where the run is now if it had to move.
    #[inline]
    pub(super) fn extend(&mut self, part: Part, time: i64) -> Option<(u32, u32)> {
        let track = self.tracks.get_mut(part.track).expect("a run's track is there");
        let at = (part.start + part.len) as usize;
        match track.times.get(at) {
            Some(next) if *next == time => None,
            Some(_) => Some(self.leave(part, time)),
            None => {
                let before = track.times.capacity();
                track.times.push(time);
                self.heap_bytes += (track.times.capacity() - before) * 8;
                None
            }
        }
    }

    /// Moves a run to a track that goes on with `time`: that of the run which left from the same place, or a new one.
    #[cold]
    fn leave(&mut self, part: Part, time: i64) -> (u32, u32) {
        if let Some((from, to)) = self.left
            && from == part
            && let Some(track) = self.tracks.get_mut(to)
            && track.users > 0
            && track.times.get(part.len as usize) == Some(&time)
        {
            track.users += 1;
            self.end(part.track);
            return (to, 0);
        }
        let mut times = [0; RUN_SAMPLES + 1];
        let len = part.len as usize;
        times[..len].copy_from_slice(self.times(part));
        times[len] = time;
        let number = self.make(&times[..=len]);
        self.left = Some((part, number));
        self.end(part.track);
        (number, 0)
    }

    fn make(&mut self, times: &[i64]) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| self.tracks.push(Track::default()));
        let track = self.tracks.get_mut(number).expect("it was made");
        let before = track.times.capacity();
        track.times.extend_from_slice(times);
        track.users = 1;
        self.heap_bytes += (track.times.capacity() - before) * 8;
        number
    }

    fn remember(&mut self, number: u32) {
        if self.recent[0] != number {
            let at = self.recent.iter().position(|recent| *recent == number).unwrap_or(RECENT - 1);
            self.recent[..=at].rotate_right(1);
            self.recent[0] = number;
        }
    }

    /// A run has left the track.
    pub(super) fn end(&mut self, track: u32) {
        let ended = self.tracks.get_mut(track).expect("a run's track is there");
        ended.users -= 1;
        if ended.users == 0 {
            ended.times.clear();
            if self.free.len() >= SPARE_TRACKS {
                self.heap_bytes -= ended.times.capacity() * 8;
                ended.times = Vec::new();
            }
            self.free.push(track);
            self.left = None;
            self.freed = true;
        }
    }

    /// Whether places seen earlier may mean something else now. Asking resets it.
    pub(super) fn freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }

    /// Frees all tracks; no run may be in one.
    pub(super) fn reset(&mut self) {
        *self = Tracks { freed: true, ..Tracks::default() };
    }

    #[inline]
    pub(super) fn times(&self, part: Part) -> &[i64] {
        let track = self.tracks.get(part.track).expect("a run's track is there");
        &track.times[part.start as usize..(part.start + part.len) as usize]
    }

    pub(super) fn bytes(&self) -> usize {
        self.tracks.bytes() + self.heap_bytes + self.free.capacity() * 4
    }
}
