//! Several runs of one series made one: at one timestamp the run of highest precedence wins.

use std::sync::Arc;

use kymo_core::storage::{ColumnValue, Columns};
use kymo_core::{NativeHistogram, SelectError};

use crate::block::{Block, ChunkMeta};
use crate::head::HeadRun;

/// Where a run is read from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Head(HeadRun<'a>),
    Block(&'a Block, &'a ChunkMeta),
}

/// A run with first and last time.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) min_time_ms: i64,
    pub(crate) max_time_ms: i64,
    pub(crate) source: Source<'a>,
}

impl Run<'_> {
    fn read(&self, start_ms: i64, end_ms: i64, columns: &mut Columns) -> Result<(), SelectError> {
        match self.source {
            Source::Head(run) => run.read(start_ms, end_ms, columns).map_err(|fault| SelectError::Damaged {
                place: "a sealed run in memory".into(),
                what: fault.to_string(),
            }),
            Source::Block(block, meta) => block.read(meta, start_ms, end_ms, columns),
        }
    }
}

/// Appends the samples in the window to `columns`. `runs` come by rising precedence, and leave by rising time.
pub(crate) fn merge(
    runs: &mut Vec<Run<'_>>,
    start_ms: i64,
    end_ms: i64,
    columns: &mut Columns,
) -> Result<(), SelectError> {
    runs.retain(|run| run.max_time_ms > start_ms && run.min_time_ms <= end_ms);
    let by_precedence = runs.clone();
    runs.sort_by_key(|run| run.min_time_ms);
    if runs.windows(2).all(|w| w[0].max_time_ms < w[1].min_time_ms) {
        return runs.iter().try_for_each(|run| run.read(start_ms, end_ms, columns));
    }
    let mut samples: Vec<(i64, usize, i64, Value)> = Vec::new();
    let mut one = Columns::default();
    for (precedence, run) in by_precedence.iter().enumerate() {
        one.clear();
        run.read(start_ms, end_ms, &mut one)?;
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
