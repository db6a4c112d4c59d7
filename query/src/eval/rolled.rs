//! What is said of answers that come from rollups: which tier, up to when, and how exact.

use kymo_core::query::Grid;
use kymo_core::storage::{Columns, Tier};

use super::notes::{Note, Notes, RolledUp};
use crate::parser::Span;
use crate::plan::Source;

/// Rollups met at one node.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// The time of the newest row, of five minutes and of an hour.
    until_ms: [Option<i64>; 2],
    /// How far a quantile may be off.
    pub(crate) error: f64,
}

/// How a function is told from rollups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Telling {
    /// A selector: the last sample.
    Selected,
    /// From the figures of buckets.
    Exact,
    /// Within bounds.
    Bounded,
    /// From the last sample of each bucket.
    FromLast(&'static str),
}

impl Met {
    /// Looks at what was read.
    pub(crate) fn see(&mut self, columns: &Columns) {
        let mut rows = 0;
        for (tier, count) in &columns.rollups.tiers {
            rows += count;
            let until = columns.times.get(rows.wrapping_sub(1)).copied();
            match tier {
                Tier::Raw => {}
                Tier::FiveMinutes => self.until_ms[0] = self.until_ms[0].max(until),
                Tier::OneHour => self.until_ms[1] = self.until_ms[1].max(until),
            }
        }
    }

    /// Adds what was met elsewhere.
    pub(crate) fn add(&mut self, more: &Met) {
        for (until, more) in self.until_ms.iter_mut().zip(more.until_ms) {
            *until = (*until).max(more);
        }
        self.error = self.error.max(more.error);
    }

    /// Says it.
    pub(crate) fn say(&self, telling: Telling, grid: Grid, source: &Source, notes: &mut Notes<'_>, span: Span) {
        for (tier, until_ms) in [Tier::FiveMinutes, Tier::OneHour].into_iter().zip(self.until_ms) {
            let Some(until_ms) = until_ms.filter(|_| grid.steps() > 0) else { continue };
            let width = tier.width_ms();
            let ends = source.time.end_ms(grid.start_ms()).rem_euclid(width) == 0
                && (grid.steps() == 1 || source.time.at_ms.is_some() || grid.step_ms().rem_euclid(width) == 0);
            let how = match telling {
                Telling::Selected if ends => RolledUp::Exact,
                Telling::Selected => RolledUp::Held,
                Telling::Exact if ends && source.range_ms.rem_euclid(width) == 0 => RolledUp::Exact,
                Telling::Exact => RolledUp::Unaligned,
                Telling::Bounded => RolledUp::Bounded(self.error),
                Telling::FromLast(function) => RolledUp::FromLast(function),
            };
            notes.add(Note::Rollups { tier, until_ms: tier.bucket_end_ms(until_ms), how }, span);
        }
    }
}
