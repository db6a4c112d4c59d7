//! Reading through tiers: samples where they are kept, rollups where they are not, or all of one tier if it is asked for.

use std::sync::Arc;

use kymo_core::aggregate::rollup::{Figures, append_rows};
use kymo_core::storage::{Columns, Tier};
use kymo_core::{Labels, QueryContext, Reservation, SelectError, Selector, SeriesSet};

use super::layers::{Borders, Layers, Stands, append_shown, hours_of};
use super::rows::{self, Cached};
use super::spans::{Spans, whole_hours};
use crate::block::ChunkRef;
use crate::blocks::{Blocks, LiveBlock};
use crate::engine::Engine;
use crate::hidden::Hidden;
use crate::retention::RetentionPolicy;
use crate::select::Selection;

/// Memory reserved per series of a block.
const BYTES_PER_SERIES: u64 = 160;
/// Series between two looks at the deadline.
const SERIES_PER_CHECK: usize = 256;

/// A snapshot of matching series in several tiers.
pub(crate) struct Tiered {
    raw: Selection,
    blocks: Arc<Blocks>,
    policy: Arc<RetentionPolicy>,
    now_ms: i64,
    start_ms: i64,
    end_ms: i64,
    asked: Option<Tier>,
    tier: Tier,
    stands: Stands,
    /// What rows are read with.
    figures: Figures,
    series: Vec<Series>,
    _memory: Reservation,
}

#[derive(Default)]
struct Series {
    labels: Labels,
    /// Its number among those with samples.
    raw: Option<usize>,
    /// By rising time, tier by tier.
    stored: Vec<Stored>,
}

/// What a block of rollups has of a series.
struct Stored {
    /// Its number in the list.
    block: usize,
    chunks: Box<[ChunkRef]>,
    hidden: Option<Hidden>,
}

impl Engine {
    /// Whether rollups have a say in a selection.
    pub(crate) fn asks_rollups(&self, what: &Selector) -> bool {
        match what.tier {
            Some(Tier::Raw) => false,
            Some(_) => true,
            None => {
                let policy = self.retention();
                policy.has_rollups()
                    && (what.start_ms
                        < policy.oldest_of_some_ms(Tier::Raw, self.options.clock.now_ms()).saturating_sub(1)
                        || Stands::of(&policy, self.blocks().rolled()).reach(what.start_ms, what.end_ms))
            }
        }
    }

    /// The time up to which rollups may answer a selection: what touches one of their buckets changes all of it.
    pub(crate) fn rollups_until_ms(&self, what: &Selector) -> i64 {
        if !self.asks_rollups(what) {
            return i64::MIN;
        }
        let (policy, now_ms) = (self.retention(), self.options.clock.now_ms());
        match what.tier {
            Some(_) => i64::MAX,
            None => {
                let by_age = policy.oldest_of_some_ms(Tier::Raw, now_ms).saturating_sub(1);
                by_age.max(Stands::of(&policy, self.blocks().rolled()).until_ms())
            }
        }
    }

    pub(crate) fn tiered_snapshot(&self, what: &Selector, ctx: &QueryContext) -> Result<Tiered, SelectError> {
        let (policy, now_ms) = (self.retention(), self.options.clock.now_ms());
        let mut memory = ctx.budget.try_reserve(0)?;
        let mut of_samples = what.clone();
        if what.tier.is_some() {
            // What is rolled up on the way is rolled up in whole buckets.
            let (start, end) = whole_hours(what.start_ms.saturating_add(1), what.end_ms);
            (of_samples.start_ms, of_samples.end_ms) = (start, end);
        }
        let raw = self.snapshot(&of_samples, ctx)?;
        let blocks = raw.blocks();
        let mut found: Vec<(Labels, Stored)> = Vec::new();
        let mut tier = what.tier.unwrap_or_default();
        // Rows lie one bucket further back, for who looks back.
        let reach_ms = what.start_ms.saturating_sub(Tier::OneHour.width_ms());
        for (number, block) in blocks.list().iter().enumerate() {
            let (of_block, footer) = (block.tier(), block.footer());
            let is_wanted = of_block != Tier::Raw
                && policy.has(of_block)
                && footer.max_time_ms > reach_ms
                && footer.min_time_ms <= what.end_ms
                && footer.max_time_ms >= policy.oldest_ms(of_block, now_ms);
            // Five minutes make the hours that are not there.
            if !is_wanted {
                continue;
            }
            ctx.check()?;
            let deleted = block.deleted(i64::MIN, i64::MAX)?;
            let everything = Selector::new(what.matchers.clone(), i64::MIN, i64::MAX);
            block.block().select(&everything, ctx, |series, labels, chunks| {
                memory.grow(BYTES_PER_SERIES + size_of_val(chunks) as u64)?;
                let stored = Stored { block: number, chunks: chunks.into(), hidden: deleted.of(series) };
                found.push((labels.clone(), stored));
                if found.len().is_multiple_of(SERIES_PER_CHECK) { ctx.check() } else { Ok(()) }
            })?;
            if of_block.width_ms() > tier.width_ms() {
                tier = of_block;
            }
        }
        found.sort_by(|a, b| {
            let place = |stored: &Stored| (blocks.list()[stored.block].footer().min_time_ms, stored.block);
            a.0.cmp(&b.0).then_with(|| place(&a.1).cmp(&place(&b.1)))
        });
        let series = joined(&raw, found);
        let (start_ms, end_ms, asked) = (what.start_ms, what.end_ms, what.tier);
        let (stands, figures) = (Stands::of(&policy, blocks.rolled()), Figures::of(&what.hint));
        let _memory = memory;
        Ok(Tiered { raw, blocks, policy, now_ms, start_ms, end_ms, asked, tier, stands, figures, series, _memory })
    }
}

/// Series with samples and series with rollups, by labels.
fn joined(raw: &Selection, found: Vec<(Labels, Stored)>) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::with_capacity(raw.len());
    let mut found = found.into_iter().peekable();
    let mut take = |until: Option<&Labels>, series: &mut Vec<Series>| {
        while let Some((labels, stored)) = found.next_if(|next| until.is_none_or(|until| next.0 <= *until)) {
            match series.last_mut() {
                Some(last) if last.labels == labels => last.stored.push(stored),
                _ => series.push(Series { labels, raw: None, stored: vec![stored] }),
            }
        }
    };
    for number in 0..raw.len() {
        let labels = raw.labels(number);
        take(Some(&labels), &mut series);
        match series.last_mut() {
            Some(last) if last.labels == labels => last.raw = Some(number),
            _ => series.push(Series { labels, raw: Some(number), stored: Vec::new() }),
        }
    }
    take(None, &mut series);
    series
}

impl Tiered {
    fn block(&self, stored: &Stored) -> &LiveBlock {
        &self.blocks.list()[stored.block]
    }

    /// Reads what is stored of a tier; gives the hours that deletes have touched since.
    fn stored(&self, series: &Series, tier: Tier, layers: &mut Layers) -> Result<Spans, SelectError> {
        let mut touched = Spans::default();
        for stored in series.stored.iter().filter(|stored| self.block(stored).tier() == tier) {
            let block = self.block(stored);
            let place = || format!("{}: rollups of {}", block.path().display(), series.labels);
            let into = layers.stored(tier);
            match &stored.hidden {
                None => rows::read(&stored.chunks, tier, self.figures, &Cached(block), &place, into)?,
                Some(hidden) => {
                    let mut all = Columns::default();
                    rows::read(&stored.chunks, tier, self.figures, &Cached(block), &place, &mut all)?;
                    append_shown(&all, tier, hidden, into);
                    touched.add_all(&hours_of(hidden));
                }
            }
        }
        Ok(touched)
    }

    /// What answers unasked: the finest there is.
    fn read_finest(&self, layers: &Layers, borders: Borders, columns: &mut Columns) {
        for (start, end, tier) in self.stands.zones(borders) {
            let (rows, reach_ms) = match tier {
                Tier::Raw => (&layers.raw, 0),
                Tier::FiveMinutes => (&layers.five_minutes, tier.width_ms()),
                Tier::OneHour => (&layers.one_hour, tier.width_ms()),
            };
            append_rows(rows, start.max(self.start_ms.saturating_sub(reach_ms)), end.min(self.end_ms), columns);
        }
    }

    /// What was asked for, and where that is not kept any more what is coarser.
    fn read_asked(&self, tier: Tier, layers: &Layers, borders: Borders, columns: &mut Columns) {
        let (start, end) = whole_hours(self.start_ms.saturating_add(1), self.end_ms);
        let start = start.saturating_sub(Tier::OneHour.width_ms());
        let mut all = Columns::default();
        if tier == Tier::FiveMinutes {
            for (from, to, answers) in self.stands.zones(borders) {
                match answers {
                    Tier::OneHour => append_rows(&layers.one_hour, start.max(from), end.min(to), &mut all),
                    Tier::FiveMinutes | Tier::Raw => layers.rows(tier, start.max(from), end.min(to), &mut all),
                }
            }
        } else {
            layers.rows(tier, start.max(borders.one_hour), end, &mut all);
        }
        append_rows(&all, self.start_ms.saturating_sub(Tier::OneHour.width_ms()), self.end_ms, columns);
    }
}

impl SeriesSet for Tiered {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.series[index].labels.clone()
    }

    fn estimate(&self, index: usize) -> usize {
        let series = &self.series[index];
        let rows = |stored: &Stored| {
            stored.chunks.iter().step_by(rows::GROUP).map(|last| last.samples as usize).sum::<usize>()
        };
        series.raw.map_or(0, |raw| self.raw.estimate(raw)) + series.stored.iter().map(rows).sum::<usize>()
    }

    fn tier(&self) -> Tier {
        self.tier
    }

    fn shared(&self) -> Option<kymo_core::storage::SharedSeries> {
        self.raw.shared()
    }

    fn version(&self) -> u64 {
        self.raw.version()
    }

    fn read(&self, index: usize, columns: &mut Columns) -> Result<(), SelectError> {
        let series = &self.series[index];
        if self.asked.is_none() && series.stored.is_empty() {
            return match series.raw {
                Some(raw) => self.raw.read(raw, columns),
                None => {
                    columns.clear();
                    Ok(())
                }
            };
        }
        columns.clear();
        let mut layers = Layers::default();
        let mut touched =
            [self.stored(series, Tier::FiveMinutes, &mut layers)?, self.stored(series, Tier::OneHour, &mut layers)?];
        if let Some(raw) = series.raw {
            self.raw.read(raw, &mut layers.raw)?;
            // What is in memory came behind what is rolled up.
            for (first, last) in self.raw.head_bounds(raw) {
                let (start, end) = whole_hours(first, last);
                touched.iter_mut().for_each(|touched| touched.add(start, end));
            }
        }
        let borders = Borders::of(&self.policy, series.labels.as_ref(), self.now_ms);
        match self.asked {
            None => self.read_finest(&layers, borders, columns),
            Some(tier) => {
                let [fine, coarse] = &mut touched;
                coarse.add_all(fine);
                layers.settle(self.blocks.rolled(), [fine, coarse], borders, &self.stands);
                self.read_asked(tier, &layers, borders, columns);
            }
        }
        Ok(())
    }
}
