//! Reading: a snapshot of matching series, and the catalogue.

use std::cell::RefCell;
use std::sync::Arc;

use foldhash::{HashSet, HashSetExt};
use kymo_core::batch::Exemplar;
use kymo_core::memory::EXEMPLARS_PER_SERIES_MAX;
use kymo_core::storage::Columns;
use kymo_core::{Labels, QueryContext, Reservation, SelectError, Selector, SeriesSet};

use crate::block::Block;
use crate::blocks::Blocks;
use crate::engine::Engine;
use crate::head::HeadSnapshot;
use crate::merge::{Run, Source, merge};

/// Memory reserved per series found, beside what is copied of it.
const BYTES_PER_SERIES: u64 = 160;
/// Series of the head between two looks at the deadline.
const SERIES_PER_CHECK: u32 = 64;

/// Strings seen, each kept once.
struct Distinct(HashSet<String>);

impl Default for Distinct {
    fn default() -> Distinct {
        Distinct(HashSet::new())
    }
}

impl Distinct {
    fn add(&mut self, text: &str) {
        if !self.0.contains(text) {
            self.0.insert(text.to_owned());
        }
    }

    fn sorted(self) -> Vec<String> {
        let mut all: Vec<String> = self.0.into_iter().collect();
        all.sort_unstable();
        all
    }
}

/// A snapshot of matching series.
pub(crate) struct Selection {
    version: u64,
    start_ms: i64,
    end_ms: i64,
    series: Vec<Selected>,
    blocks: Arc<Blocks>,
    _memory: Reservation,
}

#[derive(Default)]
struct Selected {
    labels: Labels,
    head: HeadSnapshot,
    /// Number of the block in the list, and of the series in the block; rising by the block.
    in_blocks: Vec<(u32, u32)>,
}

impl Engine {
    pub(crate) fn snapshot(&self, what: &Selector, ctx: &QueryContext) -> Result<Selection, SelectError> {
        ctx.check()?;
        let mut memory = ctx.budget.try_reserve(0)?;
        let what = &self.inside_retention(what);
        let mut series: Vec<Selected> = Vec::new();
        let (version, blocks) = {
            // Locked until all is copied: a batch is seen whole or not at all.
            let state = self.head.read();
            for number in state.select(&what.matchers) {
                let Some(found) = state.get(number) else { continue };
                if state.reaches(found, what.start_ms, what.end_ms) {
                    let head = state.snapshot(found, what.start_ms, what.end_ms);
                    memory.grow(BYTES_PER_SERIES + head.bytes() as u64)?;
                    series.push(Selected { labels: found.labels.clone(), head, in_blocks: Vec::new() });
                }
                if number % SERIES_PER_CHECK == 0 {
                    ctx.check()?;
                }
            }
            (self.changes().version(), self.blocks())
        };
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        for (number, block) in blocks.list().iter().enumerate() {
            ctx.check()?;
            let found = block.select(what);
            memory.grow(found.len() as u64 * BYTES_PER_SERIES)?;
            series = join(series, found.into_iter().map(|n| (block.labels(n), n as u32)), number as u32);
        }
        Ok(Selection { version, start_ms: what.start_ms, end_ms: what.end_ms, series, blocks, _memory: memory })
    }

    /// The selector with its window cut to what retention keeps.
    fn inside_retention(&self, what: &Selector) -> Selector {
        let mut inside = what.clone();
        inside.start_ms = inside.start_ms.max(self.oldest_ms().saturating_sub(1));
        inside
    }

    pub(crate) fn list_series(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<Labels>, SelectError> {
        let found: RefCell<Vec<Labels>> = RefCell::default();
        self.visit(
            what,
            ctx,
            |labels| found.borrow_mut().push(labels.clone()),
            |block, series| {
                found.borrow_mut().push(block.labels(series));
            },
        )?;
        let mut found = found.into_inner();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    pub(crate) fn list_names(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        let names = RefCell::new(Distinct::default());
        let add = |name: &str| names.borrow_mut().add(name);
        self.visit(
            what,
            ctx,
            |labels| labels.iter().for_each(|(name, _)| add(name)),
            |block, series| {
                block.label_pairs(series).for_each(|(name, _)| add(name));
            },
        )?;
        Ok(names.into_inner().sorted())
    }

    pub(crate) fn list_values(
        &self,
        name: &str,
        what: &Selector,
        ctx: &QueryContext,
    ) -> Result<Vec<String>, SelectError> {
        let values = RefCell::new(Distinct::default());
        let add = |value: Option<&str>| value.into_iter().for_each(|value| values.borrow_mut().add(value));
        self.visit(
            what,
            ctx,
            |labels| add(labels.get(name)),
            |block, series| {
                add(block.label_pairs(series).find(|(found, _)| *found == name).map(|(_, value)| value));
            },
        )?;
        Ok(values.into_inner().sorted())
    }

    /// Shows every matching series of the head, then of the blocks; one may be shown more than once.
    fn visit(
        &self,
        what: &Selector,
        ctx: &QueryContext,
        mut in_head: impl FnMut(&Labels),
        mut in_block: impl FnMut(&Block, usize),
    ) -> Result<(), SelectError> {
        let what = &self.inside_retention(what);
        let blocks = {
            let state = self.head.read();
            let numbers = state.select(&what.matchers);
            let series = numbers.iter().filter_map(|number| state.get(number));
            series.filter(|s| state.reaches(s, what.start_ms, what.end_ms)).for_each(|s| in_head(&s.labels));
            self.blocks()
        };
        for block in blocks.list() {
            ctx.check()?;
            block.select(what).into_iter().for_each(|series| in_block(block, series));
        }
        Ok(())
    }

    pub(crate) fn list_exemplars(
        &self,
        what: &Selector,
        ctx: &QueryContext,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        let what = &self.inside_retention(what);
        let mut all: std::collections::BTreeMap<Labels, Vec<Exemplar>> = Default::default();
        let mut keep = |labels: Labels, exemplars: &[Exemplar]| {
            let covered = exemplars.iter().filter(|e| what.covers(e.time_ms));
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
            for number in state.select(&what.matchers) {
                if let Some(series) = state.get(number) {
                    keep(series.labels.clone(), series.exemplars());
                }
            }
            self.blocks()
        };
        for block in blocks.list() {
            ctx.check()?;
            for (series, exemplars) in block.exemplars()? {
                let labels = block.labels(series);
                if what.matches(labels.as_ref()) {
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

/// Joins the series of one block into the list; both are sorted by labels.
fn join(series: Vec<Selected>, found: impl ExactSizeIterator<Item = (Labels, u32)>, block: u32) -> Vec<Selected> {
    if found.len() == 0 {
        return series;
    }
    let mut joined = Vec::with_capacity(series.len().max(found.len()));
    let mut left = series.into_iter().peekable();
    for (labels, number) in found {
        while let Some(before) = left.next_if(|s| s.labels < labels) {
            joined.push(before);
        }
        let mut here = match left.next_if(|s| s.labels == labels) {
            Some(same) => same,
            None => Selected { labels, ..Selected::default() },
        };
        here.in_blocks.push((block, number));
        joined.push(here);
    }
    joined.extend(left);
    joined
}

impl Selected {
    /// Its runs, by rising precedence.
    fn runs<'a>(&'a self, blocks: &'a Blocks) -> Vec<Run<'a>> {
        let mut runs = Vec::new();
        for &(block, number) in &self.in_blocks {
            let block = &*blocks.list()[block as usize];
            runs.extend(block.chunks(number as usize).iter().map(|meta| Run {
                min_time_ms: meta.min_time_ms,
                max_time_ms: meta.max_time_ms,
                source: Source::Block(block, meta),
            }));
        }
        let head = self.head.runs();
        runs.extend(head.map(|(min_time_ms, max_time_ms, run)| Run {
            min_time_ms,
            max_time_ms,
            source: Source::Head(run),
        }));
        runs
    }
}

impl SeriesSet for Selection {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.series[index].labels.clone()
    }

    fn estimate(&self, index: usize) -> usize {
        let series = &self.series[index];
        let in_window = |block: u32, number: u32| -> usize {
            let chunks = self.blocks.list()[block as usize].chunks(number as usize);
            let reaching = chunks.iter().filter(|c| c.max_time_ms > self.start_ms && c.min_time_ms <= self.end_ms);
            reaching.map(|c| c.samples as usize).sum()
        };
        series.head.samples() + series.in_blocks.iter().map(|&(b, n)| in_window(b, n)).sum::<usize>()
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn read(&self, index: usize, columns: &mut Columns) -> Result<(), SelectError> {
        columns.clear();
        let mut runs = self.series[index].runs(&self.blocks);
        merge(&mut runs, self.start_ms, self.end_ms, columns)
    }
}
