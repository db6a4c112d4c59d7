//! Running totals of the series that are told increments, and the file that keeps them over a flush.
//!
//! The rules are [`kymo_core::increments`]; here is where the state lives. A row of this kind is logged as it was sent and
//! added when its frame is applied, in the log's order, so replay makes the same totals again. A flush lets the log
//! go, so it keeps the state as it was at the moment of freezing in a file that the manifest names ([`file`]).
//!
//! Invariants: (1) the state is changed only by applying frames in the log's order, live and in replay alike; (2) whether
//! a row is the first of a table is decided before its frame is written and stands in the frame: a table that was
//! forgotten while the log still had its beginning would otherwise be there again after a replay; (3) the limit of
//! writers is enforced before the frame is written, so a replay under another limit gives the same totals.

mod file;

pub(crate) use file::{decode, encode, path_of, put_added, read, read_added, write};

use foldhash::HashMap;
use kymo_core::RejectReason;
use kymo_core::batch::{Increment, Row, RowValue, Total};
use kymo_core::increments::{NewTotal, SeriesTotals, Taken};
use kymo_core::storage::SharedSeries;

/// A series that is told nothing for this long is forgotten with its writers: no sender retries for longer.
pub(crate) const FORGET_AFTER_MS: i64 = 24 * 3_600_000;
/// Bytes held for a writer: its intervals, and its node in the tree, which may be half empty.
const BYTES_PER_WRITER: u64 = 64 * 16 + 256;
/// Bytes held for a series beside its writers, distributions apart.
const BYTES_PER_SERIES: u64 = 512;

/// One row that is added up.
#[derive(Debug, Clone)]
pub(crate) enum Added {
    Increment(Increment),
    Total { total: Total, time_ms: i64 },
}

impl Added {
    /// The row, if it is one of these.
    pub(crate) fn of(row: &Row<'_>) -> Option<Added> {
        match row.value {
            RowValue::Increment(increment) => Some(Added::Increment(increment.clone())),
            RowValue::Total(total) => Some(Added::Total { total: total.clone(), time_ms: row.time_ms }),
            RowValue::Float(_) | RowValue::Histogram(_) | RowValue::Stale => None,
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    totals: SeriesTotals,
    /// When it was last told something, by the engine's clock.
    told_ms: i64,
}

/// The tables of all series, by their number in the head.
#[derive(Debug, Default)]
pub(crate) struct Increments {
    tables: HashMap<u32, Table>,
    writers: usize,
}

impl Increments {
    /// Whether the series has a table.
    pub(crate) fn has(&self, series: u32) -> bool {
        self.tables.contains_key(&series)
    }

    /// Whether a row of this writer takes no more memory.
    pub(crate) fn knows(&self, series: u32, writer: u64) -> bool {
        self.tables.get(&series).is_some_and(|table| table.totals.knows(writer))
    }

    /// What several writers share of these series, rising numbers.
    pub(crate) fn shared(&self, series: &[u32]) -> Option<SharedSeries> {
        let of = |number: &u32| self.tables.get(number).map(|table| &table.totals);
        if self.tables.len() < series.len() {
            let selected = self.tables.keys().filter(|number| series.binary_search(number).is_ok());
            return selected.filter_map(of).fold(None, SharedSeries::with);
        }
        series.iter().filter_map(of).fold(None, SharedSeries::with)
    }

    /// Series that have a table.
    pub(crate) fn len(&self) -> usize {
        self.tables.len()
    }

    /// Their numbers, in no order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.tables.keys().copied()
    }

    /// Writers remembered over all series.
    pub(crate) fn writers(&self) -> usize {
        self.writers
    }

    /// About what all tables hold.
    pub(crate) fn bytes(&self) -> u64 {
        self.writers as u64 * BYTES_PER_WRITER + self.tables.len() as u64 * BYTES_PER_SERIES
    }

    /// Applies a row; `begins` if its series had no table when the row was logged.
    pub(crate) fn apply(
        &mut self,
        series: u32,
        row: &Added,
        begins: bool,
        now_ms: i64,
    ) -> Result<Option<NewTotal>, RejectReason> {
        if begins {
            self.forget(series);
        }
        let table = self.tables.entry(series).or_default();
        table.told_ms = now_ms;
        let before = table.totals.writers();
        let taken = match row {
            Added::Increment(increment) => table.totals.add(increment),
            Added::Total { total, time_ms } => table.totals.replace(total, *time_ms),
        };
        self.writers += table.totals.writers() - before;
        match taken? {
            Taken::Identical => Ok(None),
            Taken::Added(total) => Ok(Some(total)),
        }
    }

    /// Takes a table as it was kept.
    pub(crate) fn restore(&mut self, series: u32, totals: SeriesTotals, now_ms: i64) {
        self.forget(series);
        self.writers += totals.writers();
        self.tables.insert(series, Table { totals, told_ms: now_ms });
    }

    fn forget(&mut self, series: u32) {
        if let Some(table) = self.tables.remove(&series) {
            self.writers -= table.totals.writers();
        }
    }

    /// Forgets what was told nothing for [`FORGET_AFTER_MS`].
    pub(crate) fn forget_idle(&mut self, now_ms: i64) {
        let writers = &mut self.writers;
        self.tables.retain(|_, table| {
            let is_kept = now_ms.saturating_sub(table.told_ms) < FORGET_AFTER_MS;
            if !is_kept {
                *writers -= table.totals.writers();
            }
            is_kept
        });
        self.tables.shrink_to_fit();
    }

    /// All tables, by rising number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &SeriesTotals)> {
        let mut numbers: Vec<u32> = self.tables.keys().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().filter_map(|number| Some((number, &self.tables.get(&number)?.totals)))
    }
}

#[cfg(test)]
mod tests;
