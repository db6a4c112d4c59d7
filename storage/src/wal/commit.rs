//! Group commit: whoever comes first writes the frames of all who wait, with one write and one sync.
//!
//! A thread puts its payload into the queue. If nobody is writing it becomes the *leader*: it takes
//! the whole queue, writes it, gives everyone an outcome, and steps down; whoever queued meanwhile elects the next. There is
//! no timer, so a lone writer is never delayed. Outcomes carry a *turn*; [`Commit::in_turn`] lets threads apply their
//! frames in exactly the order of the log.
//!
//! Locks, by rank: `queue` before nothing else held; `writer` is taken without `queue`; `turn` alone.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::writer::LogWriter;

/// Why a payload was not written.
#[derive(Debug, Clone)]
pub(crate) enum CommitError {
    /// The log moved to another generation meanwhile: encode again, with definitions.
    Outdated,
    /// The disk failed; nothing of the group is in the log.
    Io(Arc<io::Error>),
}

/// See the module.
pub(crate) struct Commit {
    queue: Mutex<Queue>,
    /// Rung when outcomes are there or the leader has stepped down.
    settled: Condvar,
    writer: Mutex<LogWriter>,
    generation: Arc<AtomicU64>,
    /// The turn that may apply now.
    turn: Mutex<u64>,
    /// Rung when `turn` moves.
    turned: Condvar,
}

#[derive(Default)]
struct Queue {
    next_ticket: u64,
    next_turn: u64,
    waiting: Vec<Waiting>,
    outcomes: HashMap<u64, Result<u64, CommitError>>,
    has_leader: bool,
}

struct Waiting {
    ticket: u64,
    generation: u64,
    payload: Vec<u8>,
}

impl Commit {
    pub(crate) fn new(writer: LogWriter) -> Commit {
        Commit {
            queue: Mutex::default(),
            settled: Condvar::new(),
            generation: writer.shared_generation(),
            writer: Mutex::new(writer),
            turn: Mutex::new(0),
            turned: Condvar::new(),
        }
    }

    /// The generation to encode for. It may be outdated by the time of [`write`](Self::write).
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Writes a payload that was encoded for `generation`; gives the turn in which to apply it.
    ///
    /// A turn given must be taken with [`in_turn`](Self::in_turn), or everyone behind waits forever.
    pub(crate) fn write(&self, payload: Vec<u8>, generation: u64, now: Duration) -> Result<u64, CommitError> {
        let mut queue = self.queue();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push(Waiting { ticket, generation, payload });
        loop {
            if let Some(outcome) = queue.outcomes.remove(&ticket) {
                return outcome;
            }
            if queue.has_leader {
                queue = self.settled.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.has_leader = true;
            let group = std::mem::take(&mut queue.waiting);
            drop(queue);
            let written = self.write_group(&group, now);
            queue = self.queue();
            queue.has_leader = false;
            for (waiting, result) in group.iter().zip(written) {
                let outcome = result.map(|()| {
                    let turn = queue.next_turn;
                    queue.next_turn += 1;
                    turn
                });
                queue.outcomes.insert(waiting.ticket, outcome);
            }
            self.settled.notify_all();
        }
    }

    fn write_group(&self, group: &[Waiting], now: Duration) -> Vec<Result<(), CommitError>> {
        let mut writer = self.writer();
        let current = writer.generation();
        let payloads: Vec<&[u8]> =
            group.iter().filter(|w| w.generation == current).map(|w| w.payload.as_slice()).collect();
        let written = if payloads.is_empty() { Ok(()) } else { writer.write(&payloads, now) };
        let written = written.map_err(|error| CommitError::Io(Arc::new(error)));
        let outcome = |w: &Waiting| if w.generation == current { written.clone() } else { Err(CommitError::Outdated) };
        group.iter().map(outcome).collect()
    }

    /// Runs `apply` when every earlier turn has been taken.
    pub(crate) fn in_turn<T>(&self, turn: u64, apply: impl FnOnce() -> T) -> T {
        let mut now = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        while *now != turn {
            now = self.turned.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        drop(now);
        // Moves on also when `apply` panics: others must not wait for a thread that is gone.
        let _passed = Pass { commit: self };
        apply()
    }

    /// Runs `work` on the writer while no frame is being written and every frame written before has been
    /// applied; frames written later are applied after it.
    pub(crate) fn quiesced<T>(&self, work: impl FnOnce(&mut LogWriter) -> T) -> T {
        let mut queue = self.queue();
        while queue.has_leader {
            queue = self.settled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.has_leader = true;
        let turn = queue.next_turn;
        queue.next_turn += 1;
        drop(queue);
        let _stepping_down = StepDown { commit: self };
        self.in_turn(turn, || work(&mut self.writer()))
    }

    /// The writer, for what concerns no frame in flight: syncing, counting, removing old segments.
    pub(crate) fn writer(&self) -> MutexGuard<'_, LogWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Pass<'a> {
    commit: &'a Commit,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        *self.commit.turn.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.commit.turned.notify_all();
    }
}

struct StepDown<'a> {
    commit: &'a Commit,
}

impl Drop for StepDown<'_> {
    fn drop(&mut self) {
        self.commit.queue().has_leader = false;
        self.commit.settled.notify_all();
    }
}
