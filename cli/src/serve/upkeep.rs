//! The threads that tend the engine: one per lane.
//!
//! The engine starts none of its own. Each thread does one bounded step at a time and sleeps until the engine wants
//! the next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kymo_context::Context;
use kymo_core::{Clock, heap};
use kymo_storage::{Engine, Lane, MaintainLimit, Next};

use crate::allocator;
use crate::failure::{Failure, chain};

/// Longest pause. The engine names its next moment on a clock that may be set back, and an idle lane is not told of
/// appends but for one that fills the head; as long as the sync interval, so that neither makes a sync late.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// First pause after a failure; each further one doubles it. A full disk must not spin.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether the process has grown.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// So much more than when the allocator last gave pages back is worth asking it again: a large query leaves as much.
const GROWTH_BYTES: u64 = 32 << 20;
/// It is asked again after so long in any case: what was in use at the time may have been freed since.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(300);

/// Lets go of what is remembered and not needed any more; whether it did. Most calls have nothing to do.
pub(super) type LetGo = Box<dyn Fn() -> bool + Send>;

/// The running threads.
pub(super) struct Upkeep {
    bell: Arc<Bell>,
    threads: Vec<JoinHandle<()>>,
}

impl Upkeep {
    /// `let_go` is called once a second or so.
    pub(super) fn start(
        engine: &Arc<Engine>,
        clock: &Arc<dyn Clock>,
        global: &Context,
        let_go: Vec<LetGo>,
    ) -> Result<Upkeep, Failure> {
        let mut heap = Some(Heap::new(let_go, clock.clone()));
        let parent = global.child("upkeep").begin();
        let mut upkeep = Upkeep { bell: Arc::default(), threads: Vec::new() };
        let bell = upkeep.bell.clone();
        engine.on_full(move || bell.ring(|rung| rung.is_full = true));
        for lane in Lane::ALL {
            let (engine, clock, bell) = (engine.clone(), clock.clone(), upkeep.bell.clone());
            let context = parent.child(lane.as_str()).begin();
            let heap = if lane == Lane::Flush { heap.take() } else { None };
            let thread = std::thread::Builder::new()
                .name(format!("kymo-{}", lane.as_str()))
                .spawn(move || or_abort(lane, move || tend(&engine, lane, &*clock, &bell, &context, heap)))
                .map_err(|error| Failure::because("cannot start a thread that tends the engine", &error))?;
            upkeep.threads.push(thread);
        }
        Ok(upkeep)
    }

    /// Wakes and joins the threads; a step that runs is finished.
    pub(super) fn stop(self) {
        self.bell.ring(|rung| rung.is_over = true);
        for thread in self.threads {
            // Ends with an error only after `or_abort`, which does not come back.
            let _ = thread.join();
        }
    }
}

/// What wakes the threads before their time.
#[derive(Default)]
struct Bell {
    /// Guards nothing but itself.
    rung: Mutex<Rung>,
    wake: Condvar,
}

/// What it was rung for.
#[derive(Default)]
struct Rung {
    /// They are to end.
    is_over: bool,
    /// There is much to flush.
    is_full: bool,
}

impl Bell {
    fn ring(&self, set: impl FnOnce(&mut Rung)) {
        set(&mut self.rung.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }

    /// Sleeps for `pause`, or until told that the lane has something to do or is to end; says whether it is to end.
    fn sleep(&self, lane: Lane, pause: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |rung: &Rung| rung.is_over || (rung.is_full && lane == Lane::Flush);
        let sleeps_on = |rung: &mut Rung| !is_meant(rung);
        let mut rung = self.wake.wait_timeout_while(rung, pause, sleeps_on).unwrap_or_else(PoisonError::into_inner).0;
        if lane == Lane::Flush {
            rung.is_full = false;
        }
        rung.is_over
    }
}

/// What one lane's thread does besides: having freed memory given back to the system.
struct Heap {
    let_go: Vec<LetGo>,
    clock: Arc<dyn Clock>,
    looked: Duration,
    /// When pages were last given back, and what was resident then.
    given_back: Duration,
    resident: u64,
}

impl Heap {
    fn new(let_go: Vec<LetGo>, clock: Arc<dyn Clock>) -> Heap {
        let (now, resident) = (clock.monotonic(), heap::resident_bytes().unwrap_or(u64::MAX));
        Heap { let_go, clock, looked: now, given_back: now, resident }
    }

    /// `is_freed`: much was freed just now.
    fn tend(&mut self, is_freed: bool) {
        let mut is_let_go = false;
        for let_go in &self.let_go {
            is_let_go |= let_go();
        }
        let now = self.clock.monotonic();
        let mut is_worth_it = is_freed || is_let_go || now.saturating_sub(self.given_back) >= GIVE_BACK_EVERY;
        if now.saturating_sub(self.looked) >= LOOK_EVERY {
            self.looked = now;
            let resident = heap::resident_bytes().unwrap_or(0);
            is_worth_it |= resident.saturating_sub(self.resident) > GROWTH_BYTES;
        }
        if is_worth_it {
            allocator::give_back();
            (self.given_back, self.resident) = (now, heap::resident_bytes().unwrap_or(u64::MAX));
        }
    }
}

fn tend(engine: &Engine, lane: Lane, clock: &dyn Clock, bell: &Bell, context: &Context, mut heap: Option<Heap>) {
    let mut failing: Option<Failing> = None;
    let mut freed = engine.memory_freed();
    loop {
        let step = context.child("step").begin();
        step.persist();
        let done = step.enter(|| engine.maintain(lane, MaintainLimit::default()));
        let pause = match done {
            Ok(next) => {
                if let Some(failing) = failing.take() {
                    tracing::info!(lane = lane.as_str(), failures = failing.count, "upkeep works again");
                }
                match next {
                    Next::Now => Duration::ZERO,
                    Next::At(ms) => {
                        let left_ms = u64::try_from(ms.saturating_sub(clock.now_ms())).unwrap_or(0);
                        Duration::from_millis(left_ms).min(PAUSE_MAX)
                    }
                    Next::Idle => PAUSE_MAX,
                }
            }
            Err(error) => {
                let error = chain(&error);
                step.complete_with_status(false, &error);
                failing.get_or_insert_default().note(lane, &error)
            }
        };
        if let Some(heap) = &mut heap {
            let is_freed = engine.memory_freed() != freed;
            freed = engine.memory_freed();
            heap.tend(is_freed);
        }
        drop(step);
        let _waiting = context.blocking_on("its next moment");
        if bell.sleep(lane, pause) {
            return;
        }
    }
}

/// A lane's failures in a row.
#[derive(Default)]
struct Failing {
    count: u32,
    last: String,
}

impl Failing {
    /// Logs a failure when it is new or the pause has grown, and gives the pause.
    fn note(&mut self, lane: Lane, error: &str) -> Duration {
        let pause = RETRY_MIN.saturating_mul(1 << self.count.min(16)).min(RETRY_MAX);
        self.count = self.count.saturating_add(1);
        if self.last != error || pause < RETRY_MAX {
            tracing::error!(
                lane = lane.as_str(),
                failures = self.count,
                retry_ms = pause.as_millis() as u64,
                "upkeep failed: {error}"
            );
            error.clone_into(&mut self.last);
        }
        pause
    }
}

/// A lane that panics would leave a server that acknowledges and no longer syncs: the process ends instead, and the
/// log keeps what was acknowledged.
fn or_abort(lane: Lane, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!(
            lane = lane.as_str(),
            "upkeep panicked: this is a fault of Kymo; ending the process, the log is kept"
        );
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_head_wakes_the_lane_that_flushes_once_and_the_end_wakes_all() {
        let bell = Bell::default();
        bell.ring(|rung| rung.is_full = true);
        assert!(!bell.sleep(Lane::Merge, Duration::ZERO));
        // Would sleep for as long as the test may take.
        assert!(!bell.sleep(Lane::Flush, Duration::MAX));
        assert!(!bell.rung.lock().unwrap().is_full, "it is told once");
        bell.ring(|rung| rung.is_over = true);
        for lane in Lane::ALL {
            assert!(bell.sleep(lane, Duration::MAX), "{lane:?}");
        }
    }
}
