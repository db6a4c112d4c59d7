//! What a frame may lean on: per series the value logged last, and which series came next.
//!
//! A value is written as what changed of the series' last one, a series as "the one that followed last time". Writer and
//! reader keep the same two facts per series and must therefore see the same frames: after a *key frame* neither knows
//! anything, so a reader that lost its way finds it there. Definitions are kept apart: they last for a generation of the
//! log.

use foldhash::HashMap;

/// Frames after which a key frame is written, if it repays: damage costs what stands before the next one.
pub(super) const KEY_FRAMES: u32 = 64;
/// Bytes after which a key frame is written as well, if it repays.
const KEY_BYTES: usize = 4 << 20;
/// Rows since the last key frame, per series among them, from which another repays: the first row of each series takes
/// some nine bytes, the others about one. With fewer, a million series would be written in full by every scrape.
const ROWS_PER_SERIES: u64 = 8;
/// Bytes after which a key frame is written in any case: what is kept for a failed sync begins with one.
const KEY_BYTES_MAX: usize = 32 << 20;
/// Series per page.
const PAGE: usize = 512;
/// Series whose slots a reader keeps together.
const NEIGHBOURS: u32 = 16;
/// No series.
pub(crate) const NONE: u32 = u32::MAX;

/// What a writer knows of a series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// The value logged last.
    pub(super) bits: u64,
    /// The series that followed.
    pub(super) next: u32,
    /// The key frame since which this holds; 0 for none.
    epoch: u32,
}

/// The writer's side. Series are numbers of the head.
#[derive(Debug)]
pub(crate) struct Chain {
    pages: Vec<Option<Box<[Link; PAGE]>>>,
    /// The generation of the log it was begun for.
    pub(super) generation: u64,
    /// Bytes of definitions in that generation.
    pub(super) generation_definitions: u64,
    /// Rises with every key frame.
    epoch: u32,
    /// The first epoch of the generation: what was touched before is not defined in it.
    generation_epoch: u32,
    /// Since the last key frame, as all up to `definition_bytes`.
    frames: u32,
    bytes: usize,
    rows: u64,
    /// Series among those rows.
    met: u64,
    /// Bytes of definitions.
    definition_bytes: usize,
    /// The last series of the last frame.
    pub(super) last: u32,
    /// Buffers of the encoder.
    pub(super) changed: Vec<u8>,
    pub(super) values: Vec<u8>,
}

impl Chain {
    /// A chain whose first frame will be a key frame.
    pub(crate) fn new(generation: u64) -> Chain {
        Chain {
            pages: Vec::new(),
            generation,
            generation_definitions: 0,
            epoch: 0,
            generation_epoch: 1,
            frames: KEY_FRAMES,
            bytes: 0,
            rows: 0,
            met: 0,
            definition_bytes: 0,
            last: NONE,
            changed: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Begins anew for another generation: a key frame comes next, and every series is defined again.
    pub(super) fn restart(&mut self, generation: u64) {
        (self.generation, self.generation_definitions) = (generation, 0);
        self.generation_epoch = self.epoch + 1;
        (self.frames, self.rows, self.met) = (KEY_FRAMES, 0, 0);
        // Pages of series that are gone would stay for ever.
        self.pages.clear();
    }

    /// Begins a frame; tells whether it is a key frame.
    pub(super) fn begin(&mut self) -> bool {
        let repays = self.rows >= ROWS_PER_SERIES * self.met;
        let is_due = self.frames >= KEY_FRAMES || self.bytes >= KEY_BYTES;
        // Rows of series that are being defined lean on nothing, so then a key frame costs nothing.
        let is_key = (is_due && repays) || self.definition_bytes >= KEY_BYTES || self.bytes >= KEY_BYTES_MAX;
        if is_key {
            self.epoch += 1;
            (self.frames, self.bytes, self.rows, self.met) = (0, 0, 0, 0);
            (self.definition_bytes, self.last) = (0, NONE);
        }
        self.frames += 1;
        is_key
    }

    /// Ends a frame of so many bytes and rows.
    pub(super) fn end(&mut self, bytes: usize, rows: usize) {
        self.bytes += bytes;
        self.rows += rows as u64;
    }

    /// Notes that definitions of so many bytes were written.
    pub(super) fn defined(&mut self, bytes: usize) {
        self.definition_bytes += bytes;
        self.generation_definitions += bytes as u64;
    }

    /// The link of a series, and whether the series must be defined first.
    #[inline]
    pub(super) fn link(&mut self, series: u32) -> (&mut Link, bool) {
        let (page, at) = (series as usize / PAGE, series as usize % PAGE);
        if self.pages.get(page).is_none_or(Option::is_none) {
            self.add_page(page);
        }
        let link = &mut self.pages[page].as_mut().expect("it was added")[at];
        let is_undefined = link.epoch < self.generation_epoch;
        if link.epoch != self.epoch {
            *link = Link { bits: 0, next: NONE, epoch: self.epoch };
            self.met += 1;
        }
        (link, is_undefined)
    }

    #[cold]
    fn add_page(&mut self, page: usize) {
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        self.pages[page] = Some(Box::new([Link { bits: 0, next: NONE, epoch: 0 }; PAGE]));
    }
}

/// What a reader knows of a series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) bits: u64,
    /// The series' number in its opening.
    pub(super) index: u32,
    /// The slot of the series that followed.
    pub(super) next: u32,
    /// What the series is to whoever applies the records; kept over key frames.
    pub(super) number: u32,
    epoch: u32,
}

/// The reader's side, for one segment. Series are slots, in the order in which they were met.
#[derive(Debug)]
pub(crate) struct ChainReader {
    pub(super) opening: u32,
    slots: Vec<Slot>,
    /// Slots of neighbouring series lie together: they come in the order of their numbers, mostly.
    by_index: HashMap<u32, [u32; NEIGHBOURS as usize]>,
    epoch: u32,
    /// The slot of the last row.
    pub(super) last: u32,
    /// Rows of the frame being read: slot and time.
    pub(super) rows: Vec<(u32, i64)>,
}

impl Default for ChainReader {
    fn default() -> ChainReader {
        ChainReader {
            opening: 0,
            slots: Vec::new(),
            by_index: HashMap::default(),
            epoch: 0,
            last: NONE,
            rows: Vec::new(),
        }
    }
}

impl ChainReader {
    /// Forgets everything, as at the beginning of a segment.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.by_index.clear();
        self.last = NONE;
    }

    /// Forgets what a key frame does not lean on.
    pub(super) fn begin_key(&mut self) {
        self.epoch += 1;
        self.last = NONE;
    }

    /// The slot of a series, made if it is met for the first time.
    pub(super) fn slot(&mut self, index: u32) -> u32 {
        let neighbours = self.by_index.entry(index / NEIGHBOURS).or_insert([NONE; NEIGHBOURS as usize]);
        let slot = &mut neighbours[(index % NEIGHBOURS) as usize];
        if *slot == NONE {
            *slot = self.slots.len() as u32;
            self.slots.push(Slot { bits: 0, index, next: NONE, number: NONE, epoch: 0 });
        }
        *slot
    }

    /// Notes a series that is defined, and what it is to whoever applies the records.
    pub(super) fn define(&mut self, index: u32, number: u32) {
        let slot = self.slot(index);
        self.slots[slot as usize].number = number;
    }

    /// The slot as it stands since the last key frame.
    #[inline]
    pub(super) fn get(&mut self, slot: u32) -> &mut Slot {
        let epoch = self.epoch;
        let found = &mut self.slots[slot as usize];
        if found.epoch != epoch {
            *found = Slot { bits: 0, next: NONE, epoch, ..*found };
        }
        found
    }

    /// The slot of the series expected behind `slot`, if that is not the next number.
    #[inline]
    pub(super) fn follower(&mut self, slot: u32) -> Option<u32> {
        let next = self.get(slot).next;
        (next != NONE).then_some(next)
    }

    /// The series' number in its opening.
    #[inline]
    pub(super) fn index(&self, slot: u32) -> u32 {
        self.slots[slot as usize].index
    }

    /// The slot behind `slot` if that has the next number, as series that were defined one after another do.
    #[inline]
    pub(super) fn neighbour(&self, slot: u32) -> Option<u32> {
        let next = self.slots.get(slot as usize + 1)?;
        (next.index == self.slots[slot as usize].index.wrapping_add(1)).then_some(slot + 1)
    }
}
