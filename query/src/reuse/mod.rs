//! Answers of range queries, kept so that a dashboard which asks again one step later pays for that step.
//!
//! ```text
//!   query ──▶ an answer to the same text, on the same grid?
//!               │ no ──▶ evaluate all steps ───────────────────────────────┐
//!               │ yes ─▶ which of its steps did no later write touch? ─▶ evaluate the others ─▶ join ─▶ keep
//! ```
//!
//! Invariants: (1) an answer is kept with the version of the storage from *before* it was evaluated, so a write that
//! it may have missed counts as later; (2) a step is taken over only if no write since that version touched a sample
//! it looks at, by [`MetricStorage::changed_since`] for each selector; (3) what is joined has the bits of a cold
//! evaluation, because every step answers by itself (`plan::local`) and series are joined in label order; (4) kept
//! answers are reserved in a budget of their own, and are the first to go.

mod join;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kymo_core::query::{EngineOptions, Grid, ResultSeries};
use kymo_core::storage::Changes;
use kymo_core::{Budget, MetricStorage, Reservation};

pub(crate) use self::join::{Part, join, join_notes, series_bytes};
use crate::eval::notes::Placed;
use crate::plan::{Dependence, Reach};

/// Answers kept at most, however small.
const ANSWERS_MAX: usize = 4_096;
/// One answer may take this part of the budget.
const ANSWER_SHARE: u64 = 4;
/// Stretches of steps that are evaluated one by one; beyond it they are joined to one.
const STRETCHES_MAX: usize = 4;
/// Steps that are rather evaluated again than to make two stretches.
const GAP_MAX: usize = 16;

/// What must be the same for an answer to be of use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    text: String,
    step_ms: i64,
    /// Where the steps lie between two multiples of the step.
    phase_ms: i64,
    lookback_ms: i64,
    options: Options,
}

/// [`EngineOptions`], which does not hash, as far as it changes answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Options([bool; 7], std::time::Duration);

impl Question {
    /// `None` for a grid that has no steps to take over.
    pub(crate) fn new(text: &str, grid: Grid, lookback_ms: i64, options: &EngineOptions) -> Option<Question> {
        let Grid::Range { start_ms, step_ms, .. } = grid else { return None };
        let options = Options(
            [
                options.experimental_functions,
                options.duration_expressions,
                options.extended_range_selectors,
                options.fill_modifiers,
                options.delayed_name_removal,
                options.type_and_unit_labels,
                options.start_timestamps,
            ],
            options.default_subquery_step,
        );
        // Names that are dropped at the end only may be kept in one range and dropped in another.
        let is_local = !options.0[4] && step_ms > 0;
        is_local.then(|| Question {
            text: text.to_owned(),
            step_ms,
            phase_ms: start_ms.rem_euclid(step_ms),
            lookback_ms,
            options,
        })
    }
}

/// An answer as it was given.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Of the storage, from before it was evaluated.
    pub(crate) version: u64,
    pub(crate) grid: Grid,
    /// Sorted by labels, all on `grid`.
    pub(crate) series: Vec<ResultSeries>,
    /// Remarks, with the steps of `grid` they are about; one at most.
    pub(crate) notes: Vec<Placed>,
    _memory: Reservation,
}

/// What of a kept answer is still true on another grid.
pub(crate) struct Usable {
    pub(crate) kept: Arc<Kept>,
    /// Steps of the new grid that are taken over, and those to evaluate: together all, in order, none twice.
    pub(crate) old: Vec<Range<usize>>,
    pub(crate) new: Vec<Range<usize>>,
}

/// Kept answers, of one storage.
#[derive(Debug)]
pub(crate) struct Reuse {
    budget: Budget,
    /// Guards the table; never held while anything is evaluated or a storage is asked.
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    answers: HashMap<Question, Slot>,
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    kept: Arc<Kept>,
    /// The table's clock when it was last of use.
    used: u64,
}

impl Reuse {
    pub(crate) fn new(budget: Budget) -> Reuse {
        Reuse { budget, table: Mutex::default() }
    }

    /// What is still true of an answer to `question`, on `grid`; and the version to keep the new one with.
    pub(crate) fn look_up(
        &self,
        question: &Question,
        grid: Grid,
        dependences: &[Dependence],
        storage: &dyn MetricStorage,
    ) -> Option<Usable> {
        let kept = {
            let mut table = self.lock();
            table.clock += 1;
            let now = table.clock;
            let slot = table.answers.get_mut(question)?;
            slot.used = now;
            Arc::clone(&slot.kept)
        };
        let mut usable = vec![false; grid.steps()];
        for (step, is_usable) in usable.iter_mut().enumerate() {
            *is_usable = covers(kept.grid, grid.time_ms(step));
        }
        for dependence in dependences {
            match storage.changed_since(kept.version, &dependence.selector) {
                Changes::Unknown => return None,
                Changes::Ranges(ranges) => {
                    for touched in ranges {
                        drop_touched(&mut usable, grid, dependence.window, touched);
                    }
                }
            }
        }
        let (old, new) = stretches(&usable);
        (!old.is_empty()).then_some(Usable { kept, old, new })
    }

    /// Keeps an answer, if there is room when the least used ones go.
    pub(crate) fn keep(&self, question: Question, version: u64, grid: Grid, series: &[ResultSeries], notes: &[Placed]) {
        let bytes = series_bytes(series) + (size_of::<Kept>() + 2 * question.text.len()) as u64 + notes_bytes(notes);
        if bytes > self.budget.limit() / ANSWER_SHARE || notes.len() > 1 {
            self.lock().answers.remove(&question);
            return;
        }
        let mut table = self.lock();
        table.answers.remove(&question);
        let memory = loop {
            match self.budget.try_reserve(bytes) {
                Ok(memory) if table.answers.len() < ANSWERS_MAX => break memory,
                _ if table.forget_least_used() => {}
                _ => return,
            }
        };
        table.clock += 1;
        let used = table.clock;
        let kept = Kept { version, grid, series: series.to_vec(), notes: notes.to_vec(), _memory: memory };
        table.answers.insert(question, Slot { kept: Arc::new(kept), used });
    }

    /// Gives all memory back.
    pub(crate) fn forget(&self) {
        self.lock().answers.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is sound between any two statements, so a panic elsewhere does not spoil it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn forget_least_used(&mut self) -> bool {
        let least = self.answers.iter().min_by_key(|(_, slot)| slot.used).map(|(question, _)| question.clone());
        least.is_some_and(|question| self.answers.remove(&question).is_some())
    }
}

fn notes_bytes(notes: &[Placed]) -> u64 {
    notes.iter().map(|note| (note.text.len() + note.steps.bytes()) as u64).sum()
}

/// Whether a grid has a step at this time; both grids have one phase.
fn covers(grid: Grid, time_ms: i64) -> bool {
    time_ms >= grid.start_ms() && time_ms <= grid.end_ms()
}

/// Clears the steps that look at a sample in `touched`, both ends inclusive.
fn drop_touched(usable: &mut [bool], grid: Grid, reach: Reach, (first, last): (i64, i64)) {
    let (from, until) = match reach {
        // A sample at x is looked at by steps from x − ahead to just before x + back.
        Reach::Around { back_ms, ahead_ms } => (first.saturating_sub(ahead_ms), last.saturating_add(back_ms)),
        Reach::Fixed { start_ms, end_ms } if last > start_ms && first <= end_ms => (i64::MIN, i64::MAX),
        Reach::Fixed { .. } => return,
    };
    for (step, is_usable) in usable.iter_mut().enumerate() {
        let time_ms = grid.time_ms(step);
        *is_usable &= time_ms < from || (time_ms >= until && until != i64::MAX);
    }
}

/// Stretches of usable and of other steps. Few and not too short ones: each of the others costs a selection.
fn stretches(usable: &[bool]) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let mut new: Vec<Range<usize>> = Vec::new();
    for step in (0..usable.len()).filter(|step| !usable[*step]) {
        match new.last_mut() {
            Some(last) if step - last.end <= GAP_MAX => last.end = step + 1,
            _ => new.push(step..step + 1),
        }
    }
    if new.len() > STRETCHES_MAX {
        let whole = new[0].start..new[new.len() - 1].end;
        new.clear();
        new.push(whole);
    }
    let mut old = Vec::new();
    let mut at = 0;
    for stretch in &new {
        if stretch.start > at {
            old.push(at..stretch.start);
        }
        at = stretch.end;
    }
    if at < usable.len() {
        old.push(at..usable.len());
    }
    (old, new)
}

/// Part of a grid.
pub(crate) fn part_of(grid: Grid, steps: &Range<usize>) -> Grid {
    Grid::Range { start_ms: grid.time_ms(steps.start), end_ms: grid.time_ms(steps.end - 1), step_ms: grid.step_ms() }
}
