//! The order of the head's series by their labels, kept because comparing many label sets costs more than reading their
//! samples.
//!
//! Published as a whole and never changed: who sorts takes what is there, and holds no lock while it does. It follows
//! the head when a selection, or a flush, meets many series that are not in it: those that came since are gathered, a few at a time
//! under the head's lock for reading, then sorted and put in their places under no lock at all. Series that went are
//! taken out after they were freed, so it never holds more than one entry per live series, however many came and went.
//!
//! Two locks: `current` is held to take or put one pointer; `following` by the one who makes the next order. Whoever
//! holds the head's lock takes neither; who holds `following` takes the head's for reading, briefly. No append waits
//! for either.
//!
//! Invariants: (1) numbers are never used again, so what is not below `next` is what came since; (2) a series is freed
//! before its entry is taken out, and gathered only if it is live, both while `following` is held: no entry outlives
//! its series for longer than that takes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use foldhash::HashMap;
use kymo_core::{Labels, QueryContext, SelectError};

use super::{Head, SERIES_PER_LOCK};

/// Smaller selections are sorted by comparing labels.
const LARGE: usize = 64;
/// A selection brings the order up to date if it has one in so many of the series that are not in it.
const WORTH_SHARE: usize = 16;
/// So many entries are moved for the time it takes to put one series in its place.
const MOVES_WORTH: usize = 64;
/// A selection of one in so many of the series in the order is sorted without comparing ranks.
const DENSE_SHARE: usize = 4;
/// No place in a selection.
const NOWHERE: u32 = u32::MAX;
/// Comparisons, or moves of that many, between two looks at the cancel flag.
const PER_CHECK: usize = 1 << 12;
/// With fewer the first label tells too little.
const SERIES_PER_METRIC: usize = 16;
/// About what a metric takes in each of the lists made then.
const METRIC_BYTES: usize = 64;
/// Bytes taken for a moment per series that is put in its place.
const SORTING_BYTES: u64 =
    (3 * size_of::<(Labels, u32)>() + 3 * size_of::<u32>() + 2 * METRIC_BYTES / SERIES_PER_METRIC) as u64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Order {
    current: Mutex<Arc<Ranks>>,
    following: Mutex<()>,
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Ranks {
    /// Rising.
    labels: Vec<Labels>,
    /// Numbers, rising, with their places in that list.
    by_number: Vec<(u32, u32)>,
    /// The first number that it was not made for.
    next: u32,
}

/// Whether and where in the order a selected series stands.
struct Placed {
    /// Rank and place in the selection, of those that are in it.
    known: Vec<(u32, u32)>,
    /// Places in the selection of the others.
    unknown: Vec<u32>,
}

impl Head {
    /// Puts a selection of series in the order of their labels: gives their places in it.
    ///
    /// `numbers` rise, `labels` are theirs, `live` is how many series there were. To be called without the head's lock.
    ///
    /// # Errors
    /// The query is cancelled, out of time or out of memory.
    pub(crate) fn sorted<'a>(
        &self,
        numbers: &[u32],
        labels: impl Fn(u32) -> &'a Labels,
        live: usize,
        ctx: &QueryContext,
    ) -> Result<Vec<u32>, SelectError> {
        let compare = |a: &u32, b: &u32| labels(*a).cmp(labels(*b));
        if numbers.len() < LARGE {
            return ctx.sorted((0..numbers.len() as u32).collect(), compare);
        }
        let mut ranks = self.order.current();
        let mut placed = ranks.place(numbers);
        let known = ranks.labels.len();
        let missing = live.saturating_sub(known);
        let unknown = placed.unknown.len();
        if unknown >= LARGE && unknown * WORTH_SHARE >= missing && unknown * MOVES_WORTH >= known {
            match self.follow(ctx) {
                Ok(Some(newer)) => {
                    ranks = newer;
                    placed = ranks.place(numbers);
                }
                // If another query is at it, its order comes too late for this one; and this one can do without.
                Ok(None) | Err(SelectError::Budget(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let Placed { known, unknown } = placed;
        let known = ranks.by_rank(known, ctx)?;
        let unknown = ctx.sorted(unknown, compare)?;
        let mut sorted = Vec::with_capacity(numbers.len());
        let mut rest = known.as_slice();
        for (at, came) in unknown.into_iter().enumerate() {
            if at % PER_CHECK == 0 {
                ctx.check()?;
            }
            let (before, after) = rest.split_at(near(rest, |known| labels(known.1) < labels(came)));
            sorted.extend(before.iter().map(|known| known.1));
            sorted.push(came);
            rest = after;
        }
        sorted.extend(rest.iter().map(|known| known.1));
        Ok(sorted)
    }

    /// Takes the series into the order that came since it was made; `None` if somebody else is at it.
    fn follow(&self, ctx: &QueryContext) -> Result<Option<Arc<Ranks>>, SelectError> {
        let _alone = match self.order.following.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        let ranks = self.order.current();
        let mut memory = ctx.budget.try_reserve((ranks.labels.len() * Ranks::ENTRY_BYTES) as u64)?;
        let mut numbers: Vec<u32> = Vec::new();
        let mut came: Vec<(Labels, u32)> = Vec::new();
        let (mut next, mut gathered) = (ranks.next, 0);
        loop {
            ctx.check()?;
            let state = self.read();
            let end = next.saturating_add(SERIES_PER_LOCK).min(state.numbers_end());
            for number in next..end {
                if let Some(series) = state.get(number) {
                    came.push((series.labels.clone(), numbers.len() as u32));
                    numbers.push(number);
                }
            }
            let is_last = end == state.numbers_end();
            drop(state);
            // What one lock gathers is paid for afterwards.
            memory.grow((numbers.len() - gathered) as u64 * SORTING_BYTES)?;
            (next, gathered) = (end, numbers.len());
            if is_last {
                break;
            }
        }
        let came = by_labels(came, ctx)?;
        let newer = Arc::new(ranks.with(&numbers, came, next, ctx)?);
        self.order.publish(Arc::clone(&newer));
        Ok(Some(newer))
    }

    /// Takes out of the order what is not live any more. To be called without the head's lock, whenever series were
    /// freed.
    pub(crate) fn forget_freed(&self) {
        let _alone = self.order.following.lock().unwrap_or_else(PoisonError::into_inner);
        let ranks = self.order.current();
        let mut is_live = vec![false; ranks.labels.len()];
        for few in ranks.by_number.chunks(SERIES_PER_LOCK as usize) {
            let state = self.read();
            for (number, rank) in few {
                is_live[*rank as usize] = state.get(*number).is_some();
            }
        }
        if is_live.contains(&false) {
            self.order.publish(Arc::new(ranks.only(&is_live)));
        }
    }

    /// Bytes that the order of its series takes.
    pub(crate) fn order_bytes(&self) -> u64 {
        // Relaxed: a figure to show, which publishes nothing.
        self.order.bytes.load(Ordering::Relaxed) as u64
    }

    /// Series in the order.
    #[cfg(test)]
    pub(crate) fn ordered(&self) -> usize {
        let ranks = self.order.current();
        assert_eq!(ranks.labels.len(), ranks.by_number.len(), "one entry each");
        ranks.labels.len()
    }
}

/// Sorts by labels: many are put together by the first, the metric, before those of each metric are compared, which the
/// processor's caches have room for.
fn by_labels(came: Vec<(Labels, u32)>, ctx: &QueryContext) -> Result<Vec<(Labels, u32)>, SelectError> {
    let compare = |a: &(Labels, u32), b: &(Labels, u32)| a.0.cmp(&b.0);
    if came.len() <= PER_CHECK {
        return ctx.sorted(came, compare);
    }
    let mut metrics: HashMap<(&str, &str), u32> = HashMap::default();
    let mut metric_of = Vec::with_capacity(came.len());
    for (at, (labels, _)) in came.iter().enumerate() {
        if at % PER_CHECK == 0 {
            ctx.check()?;
        }
        let next = metrics.len() as u32;
        metric_of.push(*metrics.entry(labels.into_iter().next().unwrap_or_default()).or_insert(next));
        if metrics.len() * SERIES_PER_METRIC > came.len() {
            return ctx.sorted(came, compare);
        }
    }
    let mut rising: Vec<((&str, &str), u32)> = metrics.into_iter().collect();
    rising.sort_unstable();
    let mut rank_of = vec![0; rising.len()];
    rising.iter().zip(0..).for_each(|((_, metric), rank)| rank_of[*metric as usize] = rank);
    let mut of_metric: Vec<Vec<(Labels, u32)>> = Vec::new();
    of_metric.resize_with(rank_of.len(), Vec::new);
    let mut sorted = Vec::with_capacity(came.len());
    came.into_iter().zip(metric_of).for_each(|(one, metric)| of_metric[rank_of[metric as usize]].push(one));
    for same in of_metric {
        ctx.check()?;
        sorted.append(&mut ctx.sorted(same, compare)?);
    }
    Ok(sorted)
}

/// As [`slice::partition_point`], in fewer steps the closer to the beginning it is.
fn near<T>(list: &[T], is_before: impl Fn(&T) -> bool) -> usize {
    let mut reach = 1;
    while list.get(reach - 1).is_some_and(&is_before) {
        reach *= 2;
    }
    let (from, to) = (reach / 2, list.len().min(reach - 1));
    from + list[from..to].partition_point(is_before)
}

impl Order {
    fn guard(&self) -> MutexGuard<'_, Arc<Ranks>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Arc<Ranks> {
        Arc::clone(&self.guard())
    }

    fn publish(&self, ranks: Arc<Ranks>) {
        self.bytes.store(ranks.bytes(), Ordering::Relaxed);
        let before = std::mem::replace(&mut *self.guard(), ranks);
        // What nobody uses any more is freed without the lock.
        drop(before);
    }
}

impl Ranks {
    const ENTRY_BYTES: usize = size_of::<Labels>() + size_of::<(u32, u32)>();

    fn bytes(&self) -> usize {
        self.labels.capacity() * size_of::<Labels>() + self.by_number.capacity() * size_of::<(u32, u32)>()
    }

    /// Finds numbers, which rise.
    fn place(&self, numbers: &[u32]) -> Placed {
        let mut placed = Placed { known: Vec::with_capacity(numbers.len()), unknown: Vec::new() };
        let mut rest = self.by_number.as_slice();
        for (place, &number) in numbers.iter().enumerate() {
            // Of a large selection the next is close by.
            let near = rest.iter().take(8).position(|known| known.0 >= number);
            let at = near.unwrap_or_else(|| rest.partition_point(|known| known.0 < number));
            rest = &rest[at..];
            match rest.first() {
                Some(&(known, rank)) if known == number => placed.known.push((rank, place as u32)),
                _ => placed.unknown.push(place as u32),
            }
        }
        placed
    }

    /// Ranks, which are all different, rising. Many are put where they belong, few are compared.
    fn by_rank(&self, known: Vec<(u32, u32)>, ctx: &QueryContext) -> Result<Vec<(u32, u32)>, SelectError> {
        if known.len() * DENSE_SHARE < self.labels.len() {
            return ctx.sorted(known, |a, b| a.0.cmp(&b.0));
        }
        let mut place_of = vec![NOWHERE; self.labels.len()];
        known.iter().for_each(|(rank, place)| place_of[*rank as usize] = *place);
        ctx.check()?;
        let placed = place_of.into_iter().zip(0..).filter(|(place, _)| *place != NOWHERE);
        Ok(placed.map(|(place, rank)| (rank, place)).collect())
    }

    /// The same with more series: `numbers`, which rise and are above all here, and their labels by labels, each with
    /// its place among the numbers.
    fn with(
        &self,
        numbers: &[u32],
        came: Vec<(Labels, u32)>,
        next: u32,
        ctx: &QueryContext,
    ) -> Result<Ranks, SelectError> {
        let count = self.labels.len() + came.len();
        let (mut labels, mut by_number) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut rank_of_known = Vec::with_capacity(self.labels.len());
        let mut rank_of_came = vec![0; came.len()];
        let mut keep = |labels: &mut Vec<Labels>, known: &[Labels]| {
            for few in known.chunks(PER_CHECK) {
                ctx.check()?;
                rank_of_known.extend((labels.len()..).take(few.len()).map(|rank| rank as u32));
                labels.extend_from_slice(few);
            }
            Ok::<(), SelectError>(())
        };
        let mut rest = self.labels.as_slice();
        for (at, (new, place)) in came.into_iter().enumerate() {
            if at % PER_CHECK == 0 {
                ctx.check()?;
            }
            let (before, after) = rest.split_at(near(rest, |known| *known < new));
            keep(&mut labels, before)?;
            rank_of_came[place as usize] = labels.len() as u32;
            labels.push(new);
            rest = after;
        }
        keep(&mut labels, rest)?;
        by_number.extend(self.by_number.iter().map(|(number, rank)| (*number, rank_of_known[*rank as usize])));
        by_number.extend(numbers.iter().copied().zip(rank_of_came));
        Ok(Ranks { labels, by_number, next })
    }

    /// The same with only some of the series, told by rank.
    fn only(&self, is_kept: &[bool]) -> Ranks {
        let count = is_kept.iter().filter(|is_kept| **is_kept).count();
        let (mut labels, mut by_number) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut rank_of = Vec::with_capacity(is_kept.len());
        for (label_set, is_kept) in self.labels.iter().zip(is_kept) {
            rank_of.push(labels.len() as u32);
            if *is_kept {
                labels.push(label_set.clone());
            }
        }
        let kept = self.by_number.iter().filter(|(_, rank)| is_kept[*rank as usize]);
        by_number.extend(kept.map(|(number, rank)| (*number, rank_of[*rank as usize])));
        Ranks { labels, by_number, next: self.next }
    }
}
