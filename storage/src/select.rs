//! Reading: a snapshot of matching series, and the catalogue.

use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::{HashMap, HashSet, HashSetExt};
use kymo_core::batch::Exemplar;
use kymo_core::memory::EXEMPLARS_PER_SERIES_MAX;
use kymo_core::storage::{CancelFlag, Columns, SharedSeries, Tier};
use kymo_core::{Labels, QueryContext, Reservation, SelectError, Selector, SeriesSet};

use crate::block::ChunkRef;
use crate::blocks::{Blocks, LiveBlock};
use crate::engine::Engine;
use crate::head::{HeadCopy, HeadSnapshot};
use crate::hidden::Hidden;
use crate::listing::Listing;
use crate::merge::{Run, Source, damaged_in_memory, merge};
use crate::retention::RetentionPolicy;

/// Memory reserved per series found, beside what is copied of it.
const BYTES_PER_SERIES: u64 = 160;
/// Series between two looks at the deadline and the cancel flag.
pub(crate) const SERIES_PER_CHECK: usize = 256;
/// Values of a label compared with an expression between two such looks.
pub(crate) const VALUES_PER_CHECK: usize = 256;

/// A snapshot of matching series.
pub(crate) struct Selection {
    version: u64,
    start_ms: i64,
    end_ms: i64,
    series: Vec<Selected>,
    /// Of those in the head.
    shared: Option<SharedSeries>,
    head: HeadCopy,
    /// What blocks have of all series.
    parts: Vec<Part>,
    /// Chunks of all series that reach into the window.
    chunks: Vec<ChunkRef>,
    hidden: Vec<Hidden>,
    blocks: Arc<Blocks>,
    origins: Origins,
    /// Of the query that reads.
    cancel: CancelFlag,
    _memory: Reservation,
}

struct Selected {
    labels: Labels,
    head: HeadSnapshot,
    /// Where what is hidden of that stands in the list of it.
    hidden: Option<NonZeroU32>,
    /// What the last of its blocks has.
    last_part: Option<NonZeroU32>,
}

/// What one block has of a series. Places in lists are counted from 1.
struct Part {
    /// Number of the block in the list; rising from a series' first part to its last.
    block: u32,
    /// Where its chunks stand in the list of chunks.
    chunks: Range<u32>,
    /// Where what is hidden of them stands in that list.
    hidden: Option<NonZeroU32>,
    previous: Option<NonZeroU32>,
}

/// Numbers for columns of times. Most are told apart by where they come from; what that leaves apart although it is
/// equal, and what comes from several places at once, by content.
#[derive(Default)]
struct Origins(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_origin: HashMap<Vec<(u64, u64)>, u64>,
    /// By hash.
    by_content: HashMap<u64, (u64, Vec<i64>)>,
    /// Times in there.
    kept: usize,
    numbers: u64,
}

impl Origins {
    /// Marks numbers given here, as apart from those that stand for one column of one block.
    const GIVEN: u64 = 1 << 63;
    /// Times kept for comparison: 128 KiB.
    const KEPT_MAX: usize = 16 << 10;

    /// The number of `times`, which come from `origin`; 0 if nothing is known of them.
    fn number(&self, origin: Option<&[(u64, u64)]>, times: &[i64]) -> u64 {
        match origin {
            Some([]) => return 0,
            Some(&[(block, column)]) if block > 0 && block < 1 << 31 && column < 1 << 32 => {
                return block << 32 | column;
            }
            _ => {}
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = origin.and_then(|list| known.by_origin.get(list)) {
            return *number;
        }
        let number = known.by_content(times).or_else(|| origin.is_some().then(|| known.next()));
        if let (Some(list), Some(number)) = (origin, number) {
            known.by_origin.insert(list.to_vec(), number);
        }
        number.unwrap_or(0)
    }
}

impl Known {
    fn next(&mut self) -> u64 {
        self.numbers += 1;
        Origins::GIVEN | self.numbers
    }

    /// The number of these times, as long as there is room to compare them.
    fn by_content(&mut self, times: &[i64]) -> Option<u64> {
        let hash = self.by_content.hasher().hash_one(times);
        if let Some((number, kept)) = self.by_content.get(&hash) {
            return (kept == times).then_some(*number);
        }
        if self.kept + times.len() > Origins::KEPT_MAX {
            return None;
        }
        let number = self.next();
        self.kept += times.len();
        self.by_content.insert(hash, (number, times.to_vec()));
        Some(number)
    }
}

/// A selector with its window cut to what retention keeps of any series.
pub(crate) struct Inside {
    pub(crate) what: Selector,
    policy: Arc<RetentionPolicy>,
    pub(crate) now_ms: i64,
}

impl Inside {
    /// Where the window begins for a series, exclusive.
    pub(crate) fn start_of(&self, labels: &Labels) -> i64 {
        if self.policy.oldest_of_some_ms(Tier::Raw, self.now_ms) <= self.what.start_ms {
            return self.what.start_ms;
        }
        self.what.start_ms.max(self.policy.oldest_of_ms(Tier::Raw, labels.as_ref(), self.now_ms).saturating_sub(1))
    }
}

impl Engine {
    pub(crate) fn snapshot(&self, what: &Selector, ctx: &QueryContext) -> Result<Selection, SelectError> {
        ctx.check()?;
        let mut memory = ctx.budget.try_reserve(0)?;
        let inside = &self.inside_retention(what, Tier::Raw);
        let (what, now_ms) = (&inside.what, inside.now_ms);
        let (start_ms, end_ms) = (what.start_ms, what.end_ms);
        let (mut series, mut head): (Vec<Selected>, _) = (Vec::new(), HeadCopy::default());
        let (mut chunks, mut hides, mut parts) = (Vec::<ChunkRef>::new(), Vec::<Hidden>::new(), Vec::<Part>::new());
        // Nobody tells increments to most engines; then their table is not looked at.
        let has_increments = self.counts.increment_bytes.load(Ordering::Relaxed) > 0;
        let mut numbers = Vec::new();
        let (version, blocks, live, shared) = {
            // Locked until all is copied: a batch is seen whole or not at all.
            let state = self.head.read();
            let reaching = state.select_reaching(&what.matchers, (start_ms, end_ms), ctx)?;
            memory.grow(reaching.len() as u64 * BYTES_PER_SERIES)?;
            series.reserve_exact(reaching.len());
            numbers.reserve_exact(reaching.len());
            for (at, number) in reaching.into_iter().enumerate() {
                if at.is_multiple_of(SERIES_PER_CHECK) {
                    ctx.check()?;
                }
                let Some(found) = state.get(number) else { continue };
                let (first_ms, mut hidden) = (inside.start_of(&found.labels), None);
                if first_ms > start_ms {
                    if !state.reaches(found, first_ms, end_ms) {
                        continue;
                    }
                    // A chunk is copied whole, also if it begins before that.
                    hides.push(Hidden::of(vec![(i64::MIN, first_ms)]));
                    hidden = number_of(hides.len());
                }
                let copied = state.copy(found, (first_ms, end_ms), &mut head, &mut |bytes| memory.grow(bytes))?;
                series.push(Selected { labels: found.labels.clone(), head: copied, hidden, last_part: None });
                numbers.push(number);
            }
            let shared = if has_increments && !numbers.is_empty() { self.increments().shared(&numbers) } else { None };
            (self.changes().version(), self.blocks(), state.series(), shared)
        };
        let copied = series.iter_mut().map(|series| &mut series.head);
        head.finish(copied, (start_ms, end_ms), &mut |bytes| memory.grow(bytes))?;
        let sorted = self.head.sorted(&numbers, |at| &series[at as usize].labels, live, ctx)?;
        let mut series = taken(series, &sorted);
        for (number, block) in blocks.list().iter().enumerate().filter(|(_, block)| block.tier() == Tier::Raw) {
            ctx.check()?;
            let mut found: Vec<(Labels, Part)> = Vec::new();
            block.select(what, now_ms, ctx, |labels, reaching, hidden| {
                let hidden_bytes = hidden.map_or(0, Hidden::bytes);
                memory.grow(BYTES_PER_SERIES + (size_of_val(reaching) + hidden_bytes) as u64)?;
                let begin = chunks.len() as u32;
                chunks.extend_from_slice(reaching);
                hides.extend(hidden.cloned());
                let hidden = hidden.and_then(|_| number_of(hides.len()));
                let here = Part { block: number as u32, chunks: begin..chunks.len() as u32, hidden, previous: None };
                found.push((labels.clone(), here));
                if found.len().is_multiple_of(SERIES_PER_CHECK) { ctx.check() } else { Ok(()) }
            })?;
            series = join(series, found, &mut parts);
        }
        let shared = if has_increments && series.len() > numbers.len() { self.shared_among(&series) } else { shared };
        let origins = Origins::default();
        Ok(Selection {
            version,
            start_ms,
            end_ms,
            series,
            shared,
            head,
            parts,
            chunks,
            hidden: hides,
            blocks,
            origins,
            cancel: ctx.cancel.clone(),
            _memory: memory,
        })
    }

    /// What several writers share of selected series, of which some have all their samples in blocks. They are in the head as long
    /// as they have a table.
    fn shared_among(&self, series: &[Selected]) -> Option<SharedSeries> {
        let (state, increments) = (self.head.read(), self.increments());
        let mut numbers: Vec<u32> = if increments.len() < series.len() {
            let is_selected = |number: &u32| {
                let Some(found) = state.get(*number) else { return false };
                series.binary_search_by(|selected| selected.labels.cmp(&found.labels)).is_ok()
            };
            increments.numbers().filter(is_selected).collect()
        } else {
            let number =
                |selected: &Selected| state.find(self.head.hash(selected.labels.as_ref()), selected.labels.as_ref());
            series.iter().filter_map(number).collect()
        };
        numbers.sort_unstable();
        increments.shared(&numbers)
    }

    /// `coarsest` is the last tier that is looked at.
    pub(crate) fn inside_retention(&self, what: &Selector, coarsest: Tier) -> Inside {
        let (policy, now_ms) = (self.retention(), self.options.clock.now_ms());
        let mut what = what.clone();
        let oldest_ms = match coarsest {
            Tier::Raw => policy.oldest_ms(Tier::Raw, now_ms),
            _ => policy.oldest_of_all_ms(now_ms),
        };
        what.start_ms = what.start_ms.max(oldest_ms.saturating_sub(1));
        Inside { what, policy, now_ms }
    }

    pub(crate) fn list_series(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<Labels>, SelectError> {
        let inside = &self.inside_retention(what, Tier::OneHour);
        let (what, now_ms) = (&inside.what, inside.now_ms);
        let (numbers, found, blocks, live) = {
            let state = self.head.read();
            let numbers = state.select_reaching(&what.matchers, (what.start_ms, what.end_ms), ctx)?;
            let series = numbers.into_iter().filter_map(|number| Some((number, state.get(number)?)));
            let reaching = series.filter(|(_, series)| {
                let start_ms = inside.start_of(&series.labels);
                start_ms == what.start_ms || state.reaches(series, start_ms, what.end_ms)
            });
            let (numbers, found): (Vec<u32>, Vec<Labels>) =
                reaching.map(|(number, series)| (number, series.labels.clone())).unzip();
            (numbers, found, self.blocks(), state.series())
        };
        let sorted = self.head.sorted(&numbers, |at| &found[at as usize], live, ctx)?;
        let mut found = taken(found, &sorted);
        for block in blocks.list() {
            ctx.check()?;
            let mut here = Vec::new();
            block.select(what, now_ms, ctx, |labels, _, _| {
                here.push(labels.clone());
                Ok(())
            })?;
            found = join_labels(found, here);
        }
        Ok(found)
    }

    pub(crate) fn list_names(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        Ok(self.listed(None, what, ctx)?.sorted().map(str::to_owned).collect())
    }

    pub(crate) fn list_values(
        &self,
        name: &str,
        what: &Selector,
        ctx: &QueryContext,
    ) -> Result<Vec<String>, SelectError> {
        Ok(self.listed(Some(name), what, ctx)?.sorted().map(str::to_owned).collect())
    }

    pub(crate) fn show_values(
        &self,
        name: &str,
        what: &Selector,
        ctx: &QueryContext,
        visit: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), SelectError> {
        // Where it ended is for who ended it.
        let _ = self.listed(Some(name), what, ctx)?.sorted().try_for_each(visit);
        Ok(())
    }

    /// The label names, or the values of one, of matching series.
    fn listed(&self, name: Option<&str>, what: &Selector, ctx: &QueryContext) -> Result<Listing, SelectError> {
        let mut listing = Listing::new();
        let inside = &self.inside_retention(what, Tier::OneHour);
        let look_into = |block: &LiveBlock, listing: &mut Listing| {
            ctx.check()?;
            match name {
                Some(name) => block.label_values(name, &inside.what, inside.now_ms, ctx, listing),
                None => block.label_names(&inside.what, inside.now_ms, ctx, listing),
            }
        };
        // Blocks first, since they can be asked for one series of each: the head is then asked for what they lack. What
        // has left it meanwhile is in blocks that were not there before.
        let before = self.blocks();
        before.list().iter().try_for_each(|block| look_into(block, &mut listing))?;
        let blocks = self.visit_head(name, inside, ctx, &mut listing)?;
        let is_new = |block: &&Arc<LiveBlock>| !before.list().iter().any(|known| Arc::ptr_eq(known, block));
        blocks.list().iter().filter(is_new).try_for_each(|block| look_into(block, &mut listing))?;
        Ok(listing)
    }

    /// Adds the label names, or the values of one, of matching series of the head; gives the blocks that belong to it.
    fn visit_head(
        &self,
        name: Option<&str>,
        inside: &Inside,
        ctx: &QueryContext,
        listing: &mut Listing,
    ) -> Result<Arc<Blocks>, SelectError> {
        let state = self.head.read();
        let window = (|labels: &Labels| inside.start_of(labels), inside.what.end_ms);
        state.names_or_values(name, &inside.what.matchers, window, ctx, listing)?;
        Ok(self.blocks())
    }

    pub(crate) fn list_exemplars(
        &self,
        what: &Selector,
        ctx: &QueryContext,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        let inside = &self.inside_retention(what, Tier::OneHour);
        let (what, now_ms) = (&inside.what, inside.now_ms);
        let mut all: std::collections::BTreeMap<Labels, Vec<Exemplar>> = Default::default();
        let mut keep = |labels: Labels, exemplars: &[Exemplar]| {
            let start_ms = inside.start_of(&labels);
            let covered = exemplars.iter().filter(|e| start_ms < e.time_ms && e.time_ms <= what.end_ms);
            let mut covered = covered.peekable();
            if covered.peek().is_some() {
                let kept = all.entry(labels).or_default();
                covered.for_each(|e| {
                    if !kept.contains(e) {
                        kept.push(e.clone());
                    }
                });
            }
        };
        let blocks = {
            let state = self.head.read();
            for number in state.select(&what.matchers, &|| ctx.check())? {
                if let Some(series) = state.get(number) {
                    keep(series.labels.clone(), series.exemplars());
                }
            }
            self.blocks()
        };
        for block in blocks.list() {
            ctx.check()?;
            let hides = block.hides(what.start_ms, what.end_ms, now_ms)?;
            for (series, mut exemplars) in block.exemplars()? {
                let labels = block.labels(series)?;
                if what.matches(labels.as_ref()) {
                    if let Some(hidden) = hides.of(series) {
                        exemplars.retain(|exemplar| !hidden.contains(exemplar.time_ms));
                    }
                    keep(labels, &exemplars);
                }
            }
        }
        for exemplars in all.values_mut() {
            exemplars.sort_by_key(|e| e.time_ms);
            let surplus = exemplars.len().saturating_sub(EXEMPLARS_PER_SERIES_MAX);
            exemplars.drain(..surplus);
        }
        Ok(all.into_iter().collect())
    }
}

/// Takes the items in this order of their places, each of which comes once.
fn taken<T>(items: Vec<T>, order: &[u32]) -> Vec<T> {
    if order.iter().copied().eq(0..items.len() as u32) {
        return items;
    }
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    order.iter().filter_map(|at| items[*at as usize].take()).collect()
}

/// The number of the last of so many items, counted from 1.
fn number_of(count: usize) -> Option<NonZeroU32> {
    NonZeroU32::new(count as u32)
}

/// Joins the label sets of one block into the list; both are sorted, and hold none twice.
fn join_labels(known: Vec<Labels>, found: Vec<Labels>) -> Vec<Labels> {
    if known.is_empty() || found.is_empty() {
        return if known.is_empty() { found } else { known };
    }
    let mut joined = Vec::with_capacity(known.len().max(found.len()));
    let mut left = known.into_iter().peekable();
    for labels in found {
        // Equality first, as in `join`.
        while left.next_if(|next| *next == labels).is_none()
            && let Some(before) = left.next_if(|next| *next < labels)
        {
            joined.push(before);
        }
        joined.push(labels);
    }
    joined.extend(left);
    joined
}

/// Joins the series of one block into the list; both are sorted by labels.
fn join(series: Vec<Selected>, found: Vec<(Labels, Part)>, parts: &mut Vec<Part>) -> Vec<Selected> {
    if found.is_empty() {
        return series;
    }
    let mut joined = Vec::with_capacity(series.len().max(found.len()));
    let mut left = series.into_iter().peekable();
    for (labels, part) in found {
        // Mostly the same series come in the same order, and equality is far cheaper than order.
        let mut here = None;
        while let Some(next) = left.peek() {
            if next.labels == labels {
                here = left.next();
                break;
            }
            match left.next_if(|next| next.labels < labels) {
                Some(before) => joined.push(before),
                None => break,
            }
        }
        let mut here =
            here.unwrap_or_else(|| Selected { labels, head: HeadSnapshot::default(), hidden: None, last_part: None });
        parts.push(Part { previous: here.last_part, ..part });
        here.last_part = number_of(parts.len());
        joined.push(here);
    }
    joined.extend(left);
    joined
}

impl Selection {
    /// What blocks have of a series, from the last to the first.
    fn parts(&self, series: &Selected) -> impl Iterator<Item = &Part> {
        let part = |number: Option<NonZeroU32>| self.parts.get(number?.get() as usize - 1);
        std::iter::successors(part(series.last_part), move |last| part(last.previous))
    }

    fn chunks(&self, part: &Part) -> &[ChunkRef] {
        &self.chunks[part.chunks.start as usize..part.chunks.end as usize]
    }

    /// Its runs, by rising precedence.
    fn runs<'a>(&'a self, series: &'a Selected) -> Vec<Run<'a>> {
        let mut runs = Vec::new();
        for part in self.parts(series) {
            let block = &**self.blocks.list()[part.block as usize];
            let hidden = self.hidden(part.hidden);
            runs.extend(self.chunks(part).iter().rev().map(|chunk| Run {
                min_time_ms: chunk.min_time_ms,
                max_time_ms: chunk.max_time_ms,
                source: Source::Block(block, chunk),
                hidden,
            }));
        }
        runs.reverse();
        let (head, hidden) = (self.head.runs(&series.head), self.hidden(series.hidden));
        runs.extend(head.map(|(min_time_ms, max_time_ms, run)| Run {
            min_time_ms,
            max_time_ms,
            source: Source::Head(run),
            hidden,
        }));
        runs
    }

    fn hidden(&self, number: Option<NonZeroU32>) -> Option<&Hidden> {
        self.hidden.get(number?.get() as usize - 1)
    }

    /// About how many samples of a chunk lie in the window: those of a column are mostly as far apart as its first and
    /// last say.
    fn samples_in(&self, chunk: &ChunkRef) -> usize {
        let length = i128::from(chunk.max_time_ms) - i128::from(chunk.min_time_ms);
        let first = chunk.min_time_ms.max(self.start_ms);
        let inside = i128::from(chunk.max_time_ms.min(self.end_ms)) - i128::from(first);
        if inside >= length {
            return chunk.samples as usize;
        }
        let share = i128::from(chunk.samples) * inside.max(0) / length.max(1);
        share as usize + 1
    }

    pub(crate) fn blocks(&self) -> Arc<Blocks> {
        Arc::clone(&self.blocks)
    }

    /// First and last times of what the head has of a series.
    pub(crate) fn head_bounds(&self, index: usize) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.head.runs(&self.series[index].head).map(|(first, last, _)| (first, last))
    }

    /// Samples and bytes of values of one series in chunks of blocks that reach into the window.
    pub(crate) fn in_chunks(&self, index: usize) -> (u64, u64) {
        let chunks = self.parts(&self.series[index]).flat_map(|part| self.chunks(part));
        chunks.fold((0, 0), |(samples, bytes), chunk| (samples + u64::from(chunk.samples), bytes + chunk.bytes()))
    }
}

impl SeriesSet for Selection {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.series[index].labels.clone()
    }

    fn shared(&self) -> Option<SharedSeries> {
        self.shared
    }

    fn estimate(&self, index: usize) -> usize {
        let series = &self.series[index];
        let chunks = self.parts(series).flat_map(|part| self.chunks(part));
        series.head.samples() + chunks.map(|chunk| self.samples_in(chunk)).sum::<usize>()
    }

    fn estimate_bytes(&self, index: usize) -> u64 {
        self.head.stored_bytes(&self.series[index].head) + self.in_chunks(index).1
    }

    fn distinct_times(&self) -> Option<usize> {
        let mut known: HashSet<Vec<(u64, u64)>> = HashSet::new();
        let mut origin = Vec::new();
        for series in &self.series {
            origin.clear();
            for part in self.parts(series) {
                let block = self.blocks.list()[part.block as usize].id();
                origin.extend(self.chunks(part).iter().rev().map(|chunk| (block, u64::from(chunk.row.column))));
            }
            origin.extend(self.head.runs(&series.head).filter_map(|(_, _, run)| Some((0, run.times_name()?))));
            if !known.contains(&origin) {
                known.insert(origin.clone());
            }
        }
        Some(known.len())
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn read(&self, index: usize, columns: &mut Columns) -> Result<(), SelectError> {
        columns.clear();
        let series = &self.series[index];
        if series.last_part.is_none() && series.hidden.is_none() && series.head.is_rising() {
            self.head.read_rising(&series.head, (self.start_ms, self.end_ms), columns).map_err(damaged_in_memory)?;
            // No block has number 0.
            let name = series.head.times_name().filter(|_| !columns.times.is_empty()).map(|name| (0, name));
            columns.times_id = self.origins.number(Some(name.as_slice()), &columns.times);
            return Ok(());
        }
        let mut runs = self.runs(series);
        let origin = merge(&mut runs, self.start_ms, self.end_ms, columns, || {
            // A series of years is many chunks.
            if self.cancel.is_cancelled() { Err(SelectError::Cancelled) } else { Ok(()) }
        })?;
        columns.times_id = self.origins.number(origin.as_deref(), &columns.times);
        Ok(())
    }
}
