//! Several runs of one series made one: at one timestamp the run of highest precedence wins.

use std::sync::Arc;

use kymo_core::storage::{ColumnValue, Columns};
use kymo_core::{NativeHistogram, SelectError};

use crate::block::{Block, ChunkRef};
use crate::codec::Malformed;
use crate::head::HeadRun;
use crate::hidden::Hidden;

/// What is wrong with a run of the head.
pub(crate) fn damaged_in_memory(fault: Malformed) -> SelectError {
    SelectError::Damaged { place: "a sealed run in memory".into(), what: fault.to_string() }
}

/// Where a run is read from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Head(HeadRun<'a>),
    Block(&'a Block, &'a ChunkRef),
    /// A chunk whose payload is at hand; it is read whole.
    Payload(&'a Block, &'a ChunkRef, &'a [u8]),
}

/// A run with first and last time.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) min_time_ms: i64,
    pub(crate) max_time_ms: i64,
    pub(crate) source: Source<'a>,
    /// Times that are not shown.
    pub(crate) hidden: Option<&'a Hidden>,
}

/// Where the times of what was read come from: equal lists, read in one window, mean equal times. `None` once some of
/// them cannot be named.
pub(crate) type TimesOrigin = Option<Vec<(u64, u64)>>;

impl Run<'_> {
    /// Appends its samples in the window to `columns`.
    fn read(
        &self,
        start_ms: i64,
        end_ms: i64,
        columns: &mut Columns,
        origin: &mut TimesOrigin,
    ) -> Result<(), SelectError> {
        if let Some(hidden) = self.hidden.filter(|hidden| hidden.meets(self.min_time_ms, self.max_time_ms)) {
            *origin = None;
            if hidden.covers(self.min_time_ms, self.max_time_ms) {
                return Ok(());
            }
            let plain = Run { hidden: None, ..*self };
            return match self.source {
                // Is read whole, so what is hidden is left out afterwards.
                Source::Payload(..) => {
                    let mut whole = Columns::default();
                    plain.read(start_ms, end_ms, &mut whole, origin)?;
                    push_shown(&whole, hidden, columns);
                    Ok(())
                }
                Source::Head(_) | Source::Block(..) => {
                    let mut gaps = hidden.gaps(start_ms, end_ms);
                    gaps.try_for_each(|(start, end)| plain.read(start, end, columns, &mut None))
                }
            };
        }
        let before = columns.times.len();
        let named = match self.source {
            Source::Head(run) => {
                run.read(start_ms, end_ms, columns).map_err(damaged_in_memory)?;
                // No block has number 0.
                run.times_name().map(|name| (0, name))
            }
            Source::Block(block, chunk) => {
                block.read(chunk, start_ms, end_ms, columns)?;
                Some((block.id(), u64::from(chunk.row.column)))
            }
            Source::Payload(block, chunk, payload) => {
                block.read_payload(chunk, payload, columns)?;
                None
            }
        };
        if columns.times.len() > before {
            match (&mut *origin, named) {
                (Some(list), Some(named)) => list.push(named),
                _ => *origin = None,
            }
        }
        Ok(())
    }
}

fn push_shown(whole: &Columns, hidden: &Hidden, columns: &mut Columns) {
    for (n, (time, value)) in whole.iter().enumerate().filter(|(_, (time, _))| !hidden.contains(*time)) {
        columns.push(time, whole.starts.get(n).copied().unwrap_or(0), value);
    }
}

/// Appends the samples in the window to `columns`, and says where their times come from. `runs` come by rising
/// precedence, and leave by rising time. `check` is asked before each of them.
pub(crate) fn merge(
    runs: &mut Vec<Run<'_>>,
    start_ms: i64,
    end_ms: i64,
    columns: &mut Columns,
    check: impl Fn() -> Result<(), SelectError>,
) -> Result<TimesOrigin, SelectError> {
    runs.retain(|run| run.max_time_ms > start_ms && run.min_time_ms <= end_ms);
    let mut origin = Some(Vec::new());
    if runs.windows(2).all(|w| w[0].max_time_ms < w[1].min_time_ms) {
        for run in runs.iter() {
            check()?;
            run.read(start_ms, end_ms, columns, &mut origin)?;
        }
        return Ok(origin);
    }
    // Stable, so that of two runs the one of higher precedence stays behind.
    let mut by_time: Vec<(usize, Run<'_>)> = runs.iter().copied().enumerate().collect();
    by_time.sort_by_key(|(_, run)| run.min_time_ms);
    let mut rest = by_time.as_mut_slice();
    while !rest.is_empty() {
        check()?;
        // Runs that overlap, directly or through others.
        let (mut count, mut end) = (1, rest[0].1.max_time_ms);
        while let Some((_, next)) = rest.get(count).filter(|(_, next)| next.min_time_ms <= end) {
            end = end.max(next.max_time_ms);
            count += 1;
        }
        let (cluster, behind) = rest.split_at_mut(count);
        if let [(_, alone)] = cluster {
            alone.read(start_ms, end_ms, columns, &mut origin)?;
        } else {
            origin = None;
            cluster.sort_by_key(|(precedence, _)| *precedence);
            merge_overlapping(cluster.iter().map(|(_, run)| run), start_ms, end_ms, columns)?;
        }
        rest = behind;
    }
    runs.sort_by_key(|run| run.min_time_ms);
    Ok(origin)
}

fn merge_overlapping<'a>(
    by_precedence: impl Iterator<Item = &'a Run<'a>>,
    start_ms: i64,
    end_ms: i64,
    columns: &mut Columns,
) -> Result<(), SelectError> {
    let mut samples: Vec<(i64, usize, i64, Value)> = Vec::new();
    let mut one = Columns::default();
    for (precedence, run) in by_precedence.enumerate() {
        one.clear();
        run.read(start_ms, end_ms, &mut one, &mut None)?;
        for (n, (time, value)) in one.iter().enumerate() {
            let start = one.starts.get(n).copied().unwrap_or(0);
            samples.push((time, precedence, start, Value::from(value)));
        }
    }
    samples.sort_by_key(|sample| (sample.0, sample.1));
    for (n, (time, _, start, value)) in samples.iter().enumerate() {
        let is_overruled = samples.get(n + 1).is_some_and(|next| next.0 == *time);
        if !is_overruled {
            columns.push(*time, *start, value.as_column());
        }
    }
    Ok(())
}

enum Value {
    Float(f64),
    Histogram(Arc<NativeHistogram>),
    Stale,
}

impl From<ColumnValue<'_>> for Value {
    fn from(value: ColumnValue<'_>) -> Value {
        match value {
            ColumnValue::Float(v) => Value::Float(v),
            ColumnValue::Histogram(h) => Value::Histogram(Arc::new(h.clone())),
            ColumnValue::Stale => Value::Stale,
        }
    }
}

impl Value {
    fn as_column(&self) -> ColumnValue<'_> {
        match self {
            Value::Float(v) => ColumnValue::Float(*v),
            Value::Histogram(h) => ColumnValue::Histogram(h),
            Value::Stale => ColumnValue::Stale,
        }
    }
}
