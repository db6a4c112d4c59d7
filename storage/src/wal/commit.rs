//! Group commit: whoever comes first writes the frames of all who wait, with one write and one sync.
//!
//! A thread encodes its frame into the queue, under the queue's lock: frames lean on those before them ([`Chain`]), so
//! they are encoded in the order in which they are written. If nobody is writing it becomes the *leader*: it takes the
//! whole queue, writes it, gives everyone an outcome, and steps down; whoever queued meanwhile elects the next. There is
//! no timer, so a lone writer is never delayed. Outcomes carry a *turn*; [`Commit::in_turn`] lets threads apply their
//! frames in exactly the order of the log.
//!
//! When the log moves to another generation, or loses a frame, what was encoded for the one before is encoded again.
//!
//! Locks, by rank: `queue` before nothing else held; `writer` is taken without `queue`; `turn` alone.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::chain::Chain;
use super::frame::FRAME_HEADER_LEN;
use super::writer::{FrameSpan, LogWriter};

/// See the module.
pub(crate) struct Commit {
    queue: Mutex<Queue>,
    /// Rung when outcomes are there or the leader has stepped down.
    settled: Condvar,
    writer: Mutex<LogWriter>,
    log_bytes: Arc<AtomicU64>,
    generation: Arc<AtomicU64>,
    turn: Mutex<Turn>,
    /// Rung when `turn` moves.
    turned: Condvar,
}

struct Turn {
    /// The one that may apply now.
    now: u64,
    /// Threads that wait for another. Nothing is rung for none: ringing takes a call of the system.
    waiting: usize,
}

struct Queue {
    chain: Chain,
    next_ticket: u64,
    next_turn: u64,
    waiting: Group,
    /// The buffers of the group written last.
    spare: Group,
    /// By ticket; few at a time.
    outcomes: Vec<(u64, Outcome)>,
    has_leader: bool,
    /// Threads that wait until something is settled.
    asleep: usize,
}

/// Frames that are written together.
#[derive(Default)]
struct Group {
    /// Frames with blank headers, back to back.
    bytes: Vec<u8>,
    members: Vec<Member>,
    /// What is written of it.
    spans: Vec<FrameSpan>,
}

struct Member {
    ticket: u64,
    generation: u64,
    span: FrameSpan,
}

#[derive(Clone)]
enum Outcome {
    /// Written; to be applied in this turn.
    Written(u64),
    /// The log moved to another generation meanwhile: to be encoded again.
    Outdated,
    /// The disk failed; nothing of the group is in the log.
    Failed(Arc<io::Error>),
}

impl Commit {
    pub(crate) fn new(writer: LogWriter) -> Commit {
        let generation = writer.shared_generation();
        let log_bytes = writer.shared_bytes();
        let queue = Queue {
            chain: Chain::new(writer.generation()),
            next_ticket: 0,
            next_turn: 0,
            waiting: Group::default(),
            spare: Group::default(),
            outcomes: Vec::new(),
            has_leader: false,
            asleep: 0,
        };
        Commit {
            queue: Mutex::new(queue),
            settled: Condvar::new(),
            generation,
            writer: Mutex::new(writer),
            log_bytes,
            turn: Mutex::new(Turn { now: 0, waiting: 0 }),
            turned: Condvar::new(),
        }
    }

    /// Writes what `encode` appends to a buffer; gives the turn in which to apply it. `encode` tells whether it wrote a
    /// key frame, and is called again when the log moved on meanwhile.
    ///
    /// A turn given must be taken with [`in_turn`](Self::in_turn), or everyone behind waits forever.
    ///
    /// # Errors
    /// What the disk said; nothing is in the log.
    pub(crate) fn write(
        &self,
        now: Duration,
        mut encode: impl FnMut(&mut Chain, &mut Vec<u8>) -> bool,
    ) -> Result<u64, Arc<io::Error>> {
        let mut queue = self.queue();
        loop {
            let ticket = queue.enqueue(self.generation.load(Ordering::Acquire), &mut encode);
            let outcome;
            (queue, outcome) = self.settle(queue, ticket, now);
            match outcome {
                Outcome::Written(turn) => return Ok(turn),
                Outcome::Failed(error) => return Err(error),
                Outcome::Outdated => {}
            }
        }
    }

    /// Waits for the outcome of a ticket, or brings it about.
    fn settle<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        ticket: u64,
        now: Duration,
    ) -> (MutexGuard<'a, Queue>, Outcome) {
        loop {
            if let Some(at) = queue.outcomes.iter().position(|(of, _)| *of == ticket) {
                let (_, outcome) = queue.outcomes.swap_remove(at);
                return (queue, outcome);
            }
            if queue.has_leader {
                queue = self.sleep(queue);
                continue;
            }
            queue.has_leader = true;
            let Queue { waiting, spare, .. } = &mut *queue;
            std::mem::swap(waiting, spare);
            let mut group = std::mem::take(spare);
            drop(queue);
            let (generation, written) = self.write_group(&mut group, now);
            queue = self.queue();
            for member in &group.members {
                let outcome = match &written {
                    Err(error) => Outcome::Failed(Arc::clone(error)),
                    Ok(()) if member.generation != generation => Outcome::Outdated,
                    Ok(()) => {
                        queue.next_turn += 1;
                        Outcome::Written(queue.next_turn - 1)
                    }
                };
                queue.outcomes.push((member.ticket, outcome));
            }
            group.clear();
            queue.spare = group;
            self.step_down(&mut queue);
        }
    }

    /// Waits until something is settled.
    fn sleep<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        queue.asleep += 1;
        let mut queue = self.settled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        queue.asleep -= 1;
        queue
    }

    /// Lets another lead, and wakes who waits for that or for an outcome, which is in the queue by now.
    fn step_down(&self, queue: &mut Queue) {
        queue.has_leader = false;
        if queue.asleep > 0 {
            self.settled.notify_all();
        }
    }

    /// Writes the frames that are of the log's generation; gives that.
    fn write_group(&self, group: &mut Group, now: Duration) -> (u64, Result<(), Arc<io::Error>>) {
        let mut writer = self.writer();
        // First: what it does may move the log on, and then the frames are outdated.
        let room = writer.make_room();
        let generation = writer.generation();
        if let Err(error) = room {
            return (generation, Err(Arc::new(error)));
        }
        group.keep(generation);
        if group.spans.is_empty() {
            return (generation, Ok(()));
        }
        let written = writer.write(&mut group.bytes, &group.spans, now);
        (generation, written.map_err(Arc::new))
    }

    /// Runs `apply` when every earlier turn has been taken.
    pub(crate) fn in_turn<T>(&self, turn: u64, apply: impl FnOnce() -> T) -> T {
        let mut state = self.turn();
        while state.now != turn {
            state.waiting += 1;
            state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        drop(state);
        // Moves on also when `apply` panics: others must not wait for a thread that is gone.
        let _passed = Pass { commit: self };
        apply()
    }

    /// Runs `work` on the writer while no frame is being written and every frame written before has been
    /// applied; frames written later are applied after it.
    pub(crate) fn quiesced<T>(&self, work: impl FnOnce(&mut LogWriter) -> T) -> T {
        let mut queue = self.queue();
        while queue.has_leader {
            queue = self.sleep(queue);
        }
        queue.has_leader = true;
        let turn = queue.next_turn;
        queue.next_turn += 1;
        drop(queue);
        let _stepping_down = StepDown { commit: self };
        self.in_turn(turn, || work(&mut self.writer()))
    }

    /// Bytes of the log as it is now; waits for nobody.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// The writer, for what concerns no frame in flight: syncing, counting, removing old segments.
    pub(crate) fn writer(&self) -> MutexGuard<'_, LogWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Encodes a frame behind those that wait; gives its ticket.
    fn enqueue(&mut self, generation: u64, encode: &mut impl FnMut(&mut Chain, &mut Vec<u8>) -> bool) -> u64 {
        if self.chain.generation != generation {
            self.chain.restart(generation);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let bytes = &mut self.waiting.bytes;
        let start = bytes.len();
        bytes.resize(start + FRAME_HEADER_LEN, 0);
        let is_key = encode(&mut self.chain, bytes);
        let definitions = self.chain.generation_definitions;
        let span = FrameSpan { start, end: bytes.len(), is_key, definitions };
        self.waiting.members.push(Member { ticket, generation, span });
        ticket
    }
}

impl Group {
    /// Lists the frames of `generation` in `spans` and closes the gaps that others leave.
    fn keep(&mut self, generation: u64) {
        self.spans.clear();
        let mut end = 0;
        for member in self.members.iter().filter(|member| member.generation == generation) {
            let FrameSpan { start, end: frame_end, .. } = member.span;
            self.bytes.copy_within(start..frame_end, end);
            self.spans.push(FrameSpan { start: end, end: end + frame_end - start, ..member.span });
            end += frame_end - start;
        }
        self.bytes.truncate(end);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.members.clear();
        self.spans.clear();
    }
}

struct Pass<'a> {
    commit: &'a Commit,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut turn = self.commit.turn();
        turn.now += 1;
        if turn.waiting > 0 {
            self.commit.turned.notify_all();
        }
    }
}

struct StepDown<'a> {
    commit: &'a Commit,
}

impl Drop for StepDown<'_> {
    fn drop(&mut self) {
        self.commit.step_down(&mut self.commit.queue());
    }
}
