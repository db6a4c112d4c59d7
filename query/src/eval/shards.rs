//! Series of a selector, made on as many threads as are free.
//!
//! ```text
//!   set ──▶ shard 0 ─┐ read · window · function          in order
//!           shard 1 ─┤ on any thread           ──▶ shard 0, shard 1, … ──▶ sink, on the query's
//!           shard 2 ─┘
//! ```
//!
//! The series of a [`SeriesSet`] are cut into *shards*: neighbours in label order that together are a fraction of a
//! millisecond's work. Whatever is done to a series by itself is done on the thread that claims its shard; the query's own
//! thread takes what was made in label order, and alone adds to sums and says what is to be said. So an answer has the same
//! bits, notes and counts on one thread and on many. (Sums of shards, added at the end, would not: which series share a
//! shard depends on the range, and an answer that is put together of ranges must have the bits of a fresh one.)
//!
//! The shard whose turn it is, if nobody has claimed it, goes straight into the sink; while another thread still makes it, the
//! query's makes one of those behind it. So a query that gets no help or loses it goes on as if there were none. It is also
//! refused nothing for want of memory that its helpers hold: they give all of it back first ([`Relief`]).

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use kymo_core::query::QueryError;
use kymo_core::storage::Columns;
use kymo_core::{Labels, QueryContext, Reservation, SelectError, SeriesSet};

use super::column::{Column, Series};
use super::meter::{Meter, Relief};
use super::notes::{Noted, Notes};
use super::rolled::Met;
use super::select::Reader;
use super::sink::Sink;
use super::{Evaluator, SampleCounts};
use crate::threads::Threads;

/// Samples and steps of a shard: 50 µs of most functions, against which claiming one is nothing, and few enough for the caches.
const SHARD_WORK: usize = if cfg!(test) { 100 } else { 32 << 10 };
/// What a series takes beside its samples, in their measure.
const SERIES_WORK: usize = if cfg!(test) { 0 } else { 64 };
/// Fewer, of a function that slides, are made before the help of another thread has paid for its beginning.
const SHARDS_MIN: usize = if cfg!(test) { 2 } else { 48 };
/// Bytes beyond which no shards are made ahead any more: they are of long histograms.
const SHARD_BYTES_MAX: u64 = 4 << 20;
/// Shards per thread that may be made before their turn.
const AHEAD_PER_THREAD: usize = 2;

/// Makes a series from what is stored of it.
pub(super) trait Make<'a> {
    /// Fills the column of `made`, whose labels are those in storage, from samples it may take; `false` if nothing came of
    /// them. What becomes of a series may not depend on those before.
    fn make(&mut self, samples: &mut Columns, made: &mut Made, desk: &mut Desk<'_, 'a>) -> Result<bool, QueryError>;
}

/// One series and what it was made of.
#[derive(Debug)]
pub(super) struct Made {
    /// Labels in storage.
    pub(super) source: Labels,
    pub(super) series: Series,
}

impl Made {
    pub(super) fn new() -> Made {
        let series = Series { labels: Labels::empty(), drop_name: false, column: Column::default() };
        Made { source: Labels::empty(), series }
    }
}

/// What was read, of any number of series in any order.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) samples: u64,
    pub(super) bytes: u64,
    pub(super) met: Met,
}

impl Read {
    fn add(&mut self, more: &Read) {
        self.samples += more.samples;
        self.bytes += more.bytes;
        self.met.add(&more.met);
    }
}

/// Where it is told what a series costs and says.
pub(super) struct Desk<'d, 'a> {
    pub(super) meter: &'d Meter<'a>,
    pub(super) notes: &'d mut Notes<'a>,
    pub(super) counts: &'d mut SampleCounts,
    pub(super) read: &'d mut Read,
    pub(super) room: Room<'d, 'a>,
}

/// What pays for columns.
pub(super) enum Room<'d, 'a> {
    Sink(&'d mut Sink<'a>),
    Shard,
}

impl Desk<'_, '_> {
    /// Reserves the bytes of a column about to be made.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<(), QueryError> {
        match &mut self.room {
            Room::Sink(sink) => sink.reserve(bytes),
            // Paid for as a whole.
            Room::Shard => Ok(()),
        }
    }
}

/// What is asked of each series.
pub(super) struct Order<'o, 'a, M> {
    pub(super) set: &'o dyn SeriesSet,
    pub(super) steps: usize,
    /// What a sample takes, against one of a function that slides.
    pub(super) weight: usize,
    /// Makes a maker, with buffers of its own.
    pub(super) maker: &'o (dyn Fn(&Meter<'a>) -> Result<M, QueryError> + Sync),
}

impl<M> Clone for Order<'_, '_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Order<'_, '_, M> {}

/// Is shown each series before it goes into the sink.
pub(super) type Look<'l, 'a> = &'l mut dyn FnMut(&mut Evaluator<'a>, &Made) -> Result<(), QueryError>;

/// A thread's side: a maker and what it reads into.
struct Bench<'o, M> {
    set: &'o dyn SeriesSet,
    reader: Reader,
    maker: M,
}

impl<'o, M> Bench<'o, M> {
    fn new<'a>(order: Order<'o, 'a, M>, meter: &Meter<'a>) -> Result<Bench<'o, M>, QueryError> {
        let (reader, maker) = (Reader::new(meter)?, (order.maker)(meter)?);
        Ok(Bench { set: order.set, reader, maker })
    }

    /// Makes series `index`; gives the samples read and whether anything came of them.
    fn make<'a>(&mut self, index: usize, made: &mut Made, desk: &mut Desk<'_, 'a>) -> Result<(usize, bool), QueryError>
    where
        M: Make<'a>,
    {
        desk.read.bytes += self.set.estimate_bytes(index);
        self.reader.read(self.set, index, desk.meter)?;
        let columns = &mut self.reader.columns;
        let samples = columns.times.len();
        if samples == 0 {
            return Ok((0, false));
        }
        desk.read.met.see(columns);
        made.source = self.set.labels(index);
        made.series.labels = made.source.clone();
        made.series.drop_name = false;
        Ok((samples, self.maker.make(columns, made, desk)?))
    }
}

/// Series that were made before their turn.
#[derive(Debug)]
struct Shard {
    rows: Vec<Row>,
    /// Rows that mean something; the others keep their buffers.
    len: usize,
    read: Read,
    counts: SampleCounts,
    /// What pays for the columns of all rows; with the board while it is taken.
    bytes: Option<Reservation>,
}

#[derive(Debug)]
struct Row {
    made: Made,
    samples: usize,
    is_some: bool,
    /// What is to be said of it.
    notes: Option<Box<Noted>>,
}

/// What a helper needs to begin, on a thread of its own.
struct Hire<'o, 'a, M> {
    order: Order<'o, 'a, M>,
    text: &'a str,
    ctx: &'a QueryContext,
    samples_max: u64,
    /// Counts nothing yet.
    counts: SampleCounts,
}

impl<'a, M: Make<'a>> Hire<'_, 'a, M> {
    /// Makes shards as long as there are any, there is memory, and the thread is not wanted elsewhere.
    fn help(&self, board: &Board, threads: &Threads) {
        let meter = Meter::new(self.ctx, self.samples_max);
        let Ok(mut bench) = Bench::new(self.order, &meter) else { return };
        let mut notes = Notes::new(self.text);
        while let Some((claim, spare)) = board.claim(threads) {
            let done = self.make(claim.range.clone(), spare, &mut bench, &meter, &mut notes);
            if !claim.settle(done) {
                break;
            }
        }
        board.lock().helpers_bytes += meter.peak_bytes();
    }

    fn make(
        &self,
        range: Range<usize>,
        spare: Option<Shard>,
        bench: &mut Bench<'_, M>,
        meter: &Meter<'a>,
        notes: &mut Notes<'a>,
    ) -> Result<Option<Box<Shard>>, QueryError> {
        let mut shard = match spare {
            Some(shard) => shard,
            None => Shard { rows: Vec::new(), len: 0, read: Read::default(), counts: self.counts.clone(), bytes: None },
        };
        let column_bytes = Column::bytes(self.order.steps);
        let needed = column_bytes * range.len().max(shard.rows.len()) as u64;
        let mut bytes = match shard.bytes.take() {
            Some(bytes) => bytes,
            None => self.ctx.budget.try_reserve(0).map_err(SelectError::from)?,
        };
        // Histograms of its last series are gone.
        bytes.shrink(bytes.bytes().saturating_sub(needed));
        bytes.grow(needed.saturating_sub(bytes.bytes())).map_err(SelectError::from)?;
        for index in range {
            let Shard { rows, len, read, counts, .. } = &mut shard;
            if *len == rows.len() {
                rows.push(Row { made: Made::new(), samples: 0, is_some: false, notes: None });
            }
            let row = &mut rows[*len];
            let mut desk = Desk { meter, notes, counts, read, room: Room::Shard };
            (row.samples, row.is_some) = bench.make(index, &mut row.made, &mut desk)?;
            row.notes = notes.take();
            let histograms = row.made.series.column.histograms.iter();
            let histogram_bytes: u64 = histograms.map(|(_, histogram)| histogram.bytes() as u64).sum();
            bytes.grow(histogram_bytes).map_err(SelectError::from)?;
            *len += 1;
            if bytes.bytes() > SHARD_BYTES_MAX {
                return Ok(None);
            }
        }
        shard.bytes = Some(bytes);
        Ok(Some(Box::new(shard)))
    }
}

/// Where one shard is.
#[derive(Debug)]
enum Place {
    Free,
    Claimed,
    Made(Box<Shard>),
    /// Is not made ahead: there is no memory for it, or something is wrong with it, which its turn tells.
    Refused,
    /// In the sink, or on the way there.
    Taken,
}

/// What a query's threads share.
#[derive(Debug)]
struct Board {
    ends: Vec<u32>,
    /// The query's and those that help.
    threads: usize,
    state: Mutex<State>,
    /// Rung at every change.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    places: Vec<Place>,
    /// The shard whose turn it is.
    turn: usize,
    /// No more shards are to be made ahead.
    is_over: bool,
    /// Threads that wait for a change.
    waiting: usize,
    /// Threads that help, or are about to.
    helpers: usize,
    /// What pays for the board.
    paid: Option<Reservation>,
    /// What pays for the shard that is going into the sink.
    in_hand: Option<Reservation>,
    /// Taken shards, for their buffers.
    spare: Vec<Shard>,
    /// Bytes of shards that wait for their turn, and the most there were.
    bytes: u64,
    peak_bytes: u64,
    /// Most bytes of helpers that left.
    helpers_bytes: u64,
}

/// A shard that a thread is making.
struct Claim<'b> {
    board: &'b Board,
    number: usize,
    range: Range<usize>,
    is_settled: bool,
}

impl Claim<'_> {
    /// Puts what was made where the query's thread takes it; `false` if it was not made.
    fn settle(mut self, made: Result<Option<Box<Shard>>, QueryError>) -> bool {
        self.is_settled = true;
        let mut state = self.board.lock();
        let is_well = matches!(made, Ok(Some(_)));
        state.is_over |= !is_well;
        state.places[self.number] = match made {
            // Where nothing is to be made ahead any more, it is waited for its memory at most.
            Ok(Some(shard)) if !state.is_over => {
                state.bytes += shard.bytes.as_ref().map_or(0, Reservation::bytes);
                state.peak_bytes = state.peak_bytes.max(state.bytes);
                Place::Made(shard)
            }
            _ => Place::Refused,
        };
        self.board.ring(&state);
        is_well
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            // Its thread panics; the query's must not wait for it.
            let mut state = self.board.lock();
            state.places[self.number] = Place::Refused;
            self.board.ring(&state);
        }
    }
}

/// What the query's thread does next.
enum Turn<'b> {
    /// Make this shard into the sink.
    Make(Range<usize>),
    Take(Box<Shard>),
    /// Make a later one, instead of waiting for one that is being made.
    Ahead(Claim<'b>, Option<Shard>),
}

impl Board {
    fn new(ends: Vec<u32>, helpers: usize, paid: Option<Reservation>) -> Board {
        let state = State {
            places: ends.iter().map(|_| Place::Free).collect(),
            turn: 0,
            is_over: false,
            waiting: 0,
            helpers,
            paid,
            in_hand: None,
            spare: Vec::new(),
            bytes: 0,
            peak_bytes: 0,
            helpers_bytes: 0,
        };
        Board { ends, threads: 1 + helpers, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        state.waiting += 1;
        let mut state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    /// Wakes who waits for a change. Ringing takes a call of the system, and mostly nobody waits.
    fn ring(&self, state: &State) {
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    fn range(&self, number: usize) -> Range<usize> {
        let begin = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        begin as usize..self.ends[number] as usize
    }

    /// Waits until there is a shard to make ahead; `None` when there will be none, or the thread is wanted elsewhere.
    fn claim(&self, threads: &Threads) -> Option<(Claim<'_>, Option<Shard>)> {
        let mut state = self.lock();
        while !state.is_over && !threads.is_crowded() {
            if let Some(claimed) = self.claim_from(&mut state) {
                return Some(claimed);
            }
            if !state.places.iter().skip(state.turn + 1).any(|place| matches!(place, Place::Free)) {
                return None;
            }
            state = self.wait(state);
        }
        None
    }

    /// Claims the next free shard behind the one whose turn it is, unless that is too far ahead; with buffers, if there are any.
    fn claim_from(&self, state: &mut State) -> Option<(Claim<'_>, Option<Shard>)> {
        if state.is_over {
            return None;
        }
        let end = state.places.len().min(state.turn + 1 + AHEAD_PER_THREAD * self.threads);
        let number = (state.turn + 1..end).find(|number| matches!(state.places[*number], Place::Free))?;
        state.places[number] = Place::Claimed;
        let claim = Claim { board: self, number, range: self.range(number), is_settled: false };
        Some((claim, state.spare.pop()))
    }

    /// For the query's thread: shard `number`, whose turn it is now, or what brings it nearer.
    fn next(&self, number: usize) -> Turn<'_> {
        let mut state = self.lock();
        state.turn = number;
        self.ring(&state);
        loop {
            match std::mem::replace(&mut state.places[number], Place::Taken) {
                Place::Free | Place::Refused => return Turn::Make(self.range(number)),
                Place::Made(mut shard) => {
                    state.in_hand = shard.bytes.take();
                    state.bytes -= state.in_hand.as_ref().map_or(0, Reservation::bytes);
                    return Turn::Take(shard);
                }
                Place::Claimed => state.places[number] = Place::Claimed,
                Place::Taken => unreachable!("a shard has one turn"),
            }
            if let Some((claim, spare)) = self.claim_from(&mut state) {
                return Turn::Ahead(claim, spare);
            }
            state = self.wait(state);
        }
    }

    /// Keeps the buffers of a shard that was taken.
    fn put_back(&self, mut shard: Shard) {
        shard.len = 0;
        shard.read = Read::default();
        shard.counts.clear();
        shard.rows.iter_mut().for_each(|row| row.made.series.column.histograms = Vec::new());
        let mut state = self.lock();
        shard.bytes = state.in_hand.take();
        if !state.is_over {
            state.spare.push(shard);
        }
    }
}

/// Gives all back. What is on its way into the sink, one shard at most, and the list of shards are let go of a little later.
impl Relief for Board {
    fn give_way(&self) {
        let mut state = self.lock();
        state.is_over = true;
        (state.paid, state.in_hand) = (None, None);
        state.spare.clear();
        for place in state.places.iter_mut().filter(|place| matches!(place, Place::Made(_))) {
            *place = Place::Refused;
        }
        state.bytes = 0;
        self.ring(&state);
        while state.helpers > 0 {
            state = self.wait(state);
        }
    }
}

/// A helper that has not left.
struct Here<'b>(&'b Board);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.helpers -= 1;
        self.0.ring(&state);
    }
}

/// Sends helpers home when the query's thread is done with them, one way or another.
struct Over<'b>(&'b Board);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_over = true;
        self.0.ring(&state);
    }
}

/// Where shards end.
fn cut(set: &dyn SeriesSet, steps: usize, meter: &Meter<'_>) -> Result<Vec<u32>, QueryError> {
    let (mut ends, mut work) = (Vec::new(), 0);
    for index in 0..set.len() {
        meter.check_often()?;
        work += set.estimate(index) + steps + SERIES_WORK;
        if work >= SHARD_WORK {
            ends.push(index as u32 + 1);
            work = 0;
        }
    }
    if work > 0 {
        ends.push(set.len() as u32);
    }
    Ok(ends)
}

impl<'a> Evaluator<'a> {
    /// Makes the series of a set and puts them into a sink, in their order.
    pub(super) fn make_all<M: Make<'a>>(
        &mut self,
        order: Order<'_, 'a, M>,
        sink: &mut Sink<'a>,
        look: Look<'_, 'a>,
    ) -> Result<Read, QueryError> {
        let mut line = Line { bench: Bench::new(order, &self.meter)?, made: Made::new(), read: Read::default() };
        let len = order.set.len();
        let ends = match len >= SHARDS_MIN && self.threads.has_room() {
            true => cut(order.set, order.steps, &self.meter)?,
            false => Vec::new(),
        };
        let paid = self.ctx.budget.try_reserve((ends.len() * (size_of::<u32>() + size_of::<Place>())) as u64).ok();
        let helpers: Vec<_> = match ends.len() {
            shards if shards * order.weight < SHARDS_MIN || paid.is_none() => Vec::new(),
            shards => std::iter::from_fn(|| self.threads.try_join()).take(shards / 2).collect(),
        };
        if helpers.is_empty() {
            drop((ends, paid));
            self.make_range(0..len, &mut line, sink, look)?;
            return Ok(line.read);
        }
        let board = Arc::new(Board::new(ends, helpers.len(), paid));
        let counts = self.samples.since(&self.samples);
        let hire = Hire { order, text: self.text, ctx: self.ctx, samples_max: self.meter.samples_max(), counts };
        let threads = self.threads;
        self.meter.set_relief(Some(board.clone()));
        let done = thread::scope(|scope| {
            let (board, hire) = (&*board, &hire);
            let _over = Over(board);
            for busy in helpers {
                let here = Here(board);
                let help = move || {
                    let (_busy, _here) = (busy, here);
                    hire.help(board, threads);
                };
                // Without a thread there is no help.
                let _ = thread::Builder::new().name("kymo-query-help".to_owned()).spawn_scoped(scope, help);
            }
            self.take_all((board, hire), &mut line, order.steps, sink, look)
        });
        self.meter.set_relief(None);
        done?;
        let state = board.lock();
        self.meter.held_beside(state.peak_bytes + state.helpers_bytes);
        Ok(line.read)
    }

    /// Takes one shard after another, and makes those that nobody did.
    fn take_all<M: Make<'a>>(
        &mut self,
        (board, hire): (&Board, &Hire<'_, 'a, M>),
        line: &mut Line<'_, M>,
        steps: usize,
        sink: &mut Sink<'a>,
        look: Look<'_, 'a>,
    ) -> Result<(), QueryError> {
        let mut notes = Notes::new(self.text);
        let mut number = 0;
        while number < board.ends.len() {
            match board.next(number) {
                Turn::Make(range) => self.make_range(range, line, sink, look)?,
                Turn::Take(mut shard) => {
                    self.take_shard(&mut shard, line, steps, sink, look)?;
                    board.put_back(*shard);
                }
                Turn::Ahead(claim, spare) => {
                    let done = hire.make(claim.range.clone(), spare, &mut line.bench, &self.meter, &mut notes);
                    claim.settle(done);
                    continue;
                }
            }
            number += 1;
        }
        Ok(())
    }

    fn take_shard<M: Make<'a>>(
        &mut self,
        shard: &mut Shard,
        line: &mut Line<'_, M>,
        steps: usize,
        sink: &mut Sink<'a>,
        look: Look<'_, 'a>,
    ) -> Result<(), QueryError> {
        self.samples.add(&shard.counts);
        line.read.add(&shard.read);
        for row in &mut shard.rows[..shard.len] {
            self.meter.check_often()?;
            line.bench.reader.has_read(row.samples)?;
            if let Some(notes) = row.notes.take() {
                self.notes.append(*notes);
            }
            if row.is_some {
                sink.reserve(Column::bytes(steps))?;
                look(self, &row.made)?;
                sink.push(&mut row.made.series, &mut self.notes)?;
            }
        }
        Ok(())
    }

    /// Makes series on the query's thread.
    fn make_range<M: Make<'a>>(
        &mut self,
        range: Range<usize>,
        line: &mut Line<'_, M>,
        sink: &mut Sink<'a>,
        look: Look<'_, 'a>,
    ) -> Result<(), QueryError> {
        let Line { bench, made, read } = line;
        for index in range {
            let (meter, notes, counts) = (&self.meter, &mut self.notes, &mut self.samples);
            let mut desk = Desk { meter, notes, counts, read, room: Room::Sink(sink) };
            let (samples, is_some) = bench.make(index, made, &mut desk)?;
            bench.reader.has_read(samples)?;
            if is_some {
                look(self, made)?;
                sink.push(&mut made.series, &mut self.notes)?;
            }
        }
        Ok(())
    }
}

/// What the query's thread makes series with.
struct Line<'o, M> {
    bench: Bench<'o, M>,
    made: Made,
    read: Read,
}
