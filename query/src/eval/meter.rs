//! What a query holds: bytes against its budget, samples against the engine's limit.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

use kymo_core::query::QueryError;
use kymo_core::{ErrorKind, QueryContext, Reservation, SelectError};

/// Work of the same query that holds memory it can do without.
pub(crate) trait Relief: std::fmt::Debug {
    /// Gives all of it back before it returns.
    fn give_way(&self);
}

/// Counts for one query. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Meter<'a> {
    ctx: &'a QueryContext,
    counters: Rc<Counters>,
}

#[derive(Debug)]
struct Counters {
    samples_max: u64,
    live: Cell<u64>,
    peak: Cell<u64>,
    bytes: Cell<u64>,
    peak_bytes: Cell<u64>,
    peak_with_helpers: Cell<u64>,
    /// Since the last mark.
    marked_bytes: Cell<u64>,
    /// Who can give memory back before a reservation fails.
    relief: RefCell<Option<Arc<dyn Relief>>>,
    checks: Cell<u32>,
}

/// Looks at the cancel flag for each at the clock: reading a clock takes as long as reading a few samples.
const CHECKS_PER_CLOCK: u32 = 16;

impl Counters {
    fn took(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        self.peak_bytes.set(self.peak_bytes.get().max(self.bytes.get()));
        self.marked_bytes.set(self.marked_bytes.get().max(self.bytes.get()));
    }

    fn gave_back(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() - bytes);
    }
}

/// Bytes and samples that one value of the evaluation holds; given back on drop.
#[derive(Debug)]
pub(crate) struct Hold {
    reservation: Reservation,
    samples: u64,
    counters: Rc<Counters>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(ctx: &'a QueryContext, samples_max: u64) -> Meter<'a> {
        let counters = Counters {
            samples_max,
            live: Cell::new(0),
            peak: Cell::new(0),
            bytes: Cell::new(0),
            peak_bytes: Cell::new(0),
            peak_with_helpers: Cell::new(0),
            marked_bytes: Cell::new(0),
            relief: RefCell::new(None),
            checks: Cell::new(0),
        };
        Meter { ctx, counters: Rc::new(counters) }
    }

    /// Holds nothing yet.
    pub(crate) fn hold(&self) -> Result<Hold, QueryError> {
        let reservation = self.ctx.budget.try_reserve(0).map_err(SelectError::from)?;
        Ok(Hold { reservation, samples: 0, counters: Rc::clone(&self.counters) })
    }

    /// Fails when the query should stop.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        Ok(self.ctx.check()?)
    }

    /// The same for what comes once per series: looks at the cancel flag always, and at the clock now and then.
    pub(crate) fn check_often(&self) -> Result<(), QueryError> {
        let calls = self.counters.checks.get();
        self.counters.checks.set(calls.wrapping_add(1));
        if calls.is_multiple_of(CHECKS_PER_CLOCK) {
            return self.check();
        }
        if self.ctx.cancel.is_cancelled() { Err(SelectError::Cancelled.into()) } else { Ok(()) }
    }

    /// Sorts; equal items keep their order.
    pub(crate) fn sorted<T>(
        &self,
        items: Vec<T>,
        compare: impl FnMut(&T, &T) -> Ordering,
    ) -> Result<Vec<T>, QueryError> {
        Ok(self.ctx.sorted(items, compare)?)
    }

    /// Most samples held at once so far.
    pub(crate) fn peak_samples(&self) -> u64 {
        self.counters.peak.get()
    }

    /// Bytes held now, from which on the peak is taken anew.
    pub(crate) fn mark(&self) -> u64 {
        self.counters.marked_bytes.set(self.counters.bytes.get());
        self.counters.bytes.get()
    }

    /// Most bytes held at once since the last mark.
    pub(crate) fn peak_since_mark(&self) -> u64 {
        self.counters.marked_bytes.get()
    }

    /// Most bytes held at once so far.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.counters.peak_bytes.get()
    }

    /// Notes that so many bytes were held by helpers beside those counted here.
    pub(crate) fn held_beside(&self, bytes: u64) {
        let counters = &self.counters;
        counters.peak_with_helpers.set(counters.peak_with_helpers.get().max(counters.bytes.get() + bytes));
    }

    /// Most bytes held at once so far, about, those of helpers among them.
    pub(crate) fn peak_with_helpers(&self) -> u64 {
        self.counters.peak_with_helpers.get().max(self.peak_bytes())
    }

    /// Who is asked for memory before a reservation fails, from now on; once.
    pub(crate) fn set_relief(&self, relief: Option<Arc<dyn Relief>>) {
        self.counters.relief.replace(relief);
    }

    /// Most samples that may be held at once.
    pub(crate) fn samples_max(&self) -> u64 {
        self.counters.samples_max
    }

    /// Fails for a grid that could not hold even one series.
    pub(crate) fn check_steps(&self, steps: usize) -> Result<(), QueryError> {
        let (steps, max) = (steps as u64, self.counters.samples_max);
        if steps > max { Err(too_many_samples(steps, max)) } else { Ok(()) }
    }
}

/// Looks at cancel and deadline once per so much work, inside of loops that are long for one series.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    done: usize,
}

impl Pace {
    /// Samples looked at between two checks: well below a millisecond's worth.
    const CHECK_EVERY: usize = 1 << 16;

    /// Counts samples looked at.
    pub(crate) fn work(&mut self, meter: &Meter<'_>, samples: usize) -> Result<(), QueryError> {
        self.done += samples + 1;
        if self.done < Pace::CHECK_EVERY {
            return Ok(());
        }
        self.done = 0;
        meter.check()
    }
}

impl Hold {
    /// Reserves bytes that can be done without; `false`, and nothing, if nobody has them to spare.
    pub(crate) fn spares_bytes(&mut self, bytes: u64) -> bool {
        let is_spared = self.reservation.grow(bytes).is_ok();
        if is_spared {
            self.counters.took(bytes);
        }
        is_spared
    }

    /// Reserves bytes about to be allocated.
    pub(crate) fn grow_bytes(&mut self, bytes: u64) -> Result<(), QueryError> {
        if let Err(refused) = self.reservation.grow(bytes) {
            let relief = self.counters.relief.take().ok_or(SelectError::from(refused))?;
            relief.give_way();
            self.reservation.grow(bytes).map_err(SelectError::from)?;
        }
        self.counters.took(bytes);
        Ok(())
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.reservation.bytes()
    }

    /// Reserves up to `bytes` in all.
    pub(crate) fn reach_bytes(&mut self, bytes: u64) -> Result<(), QueryError> {
        let held = self.reservation.bytes();
        if bytes > held { self.grow_bytes(bytes - held) } else { Ok(()) }
    }

    /// Gives some bytes back.
    pub(crate) fn shrink_bytes(&mut self, bytes: u64) {
        let before = self.reservation.bytes();
        self.reservation.shrink(bytes);
        self.counters.gave_back(before - self.reservation.bytes());
    }

    /// Gives all bytes back and says how many they were, for a value that moves into another.
    pub(crate) fn release(&mut self) -> u64 {
        let bytes = self.reservation.bytes();
        self.reservation.shrink(bytes);
        self.counters.gave_back(bytes);
        bytes
    }

    /// Counts samples that were added.
    pub(crate) fn grow_samples(&mut self, samples: usize) -> Result<(), QueryError> {
        let counters = &self.counters;
        let live = counters.live.get() + samples as u64;
        if live > counters.samples_max {
            return Err(too_many_samples(live, counters.samples_max));
        }
        counters.live.set(live);
        counters.peak.set(counters.peak.get().max(live));
        self.samples += samples as u64;
        Ok(())
    }

    /// Corrects the count after samples were dropped or added.
    pub(crate) fn set_samples(&mut self, samples: usize) -> Result<(), QueryError> {
        self.counters.live.set(self.counters.live.get() - self.samples);
        self.samples = 0;
        self.grow_samples(samples)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.counters.live.set(self.counters.live.get() - self.samples);
        self.counters.gave_back(self.reservation.bytes());
    }
}

/// Prometheus' words, and then what they leave open.
fn too_many_samples(wanted: u64, max: u64) -> QueryError {
    let text = "query processing would load too many samples into memory in query execution";
    let text = format!("{text}: {wanted} at once, and the limit is {max} (--query-max-samples sets it)");
    QueryError::execute(ErrorKind::Limit, text)
}
