//! A thread that looks, so that nobody has to ask.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Finding, is_alive};
use crate::context::Context;
use crate::metrics::ContextMetrics;

/// How a tree is watched.
pub struct WatchOptions {
    /// Pause between looks for circles. A circle is found within it.
    pub interval: Duration,
    /// Least pause between walks over the whole tree, for long holds, waits and idle tasks. Where a walk takes long, the
    /// pause is a thousand times as long as the walk.
    pub walk_interval: Duration,
    /// Told of each finding once, when it begins. Logs it unless set: a circle as an error, the rest as a warning.
    pub report: Box<dyn Fn(&Finding) + Send>,
    /// Brought up to date with every walk.
    pub metrics: Option<ContextMetrics>,
}

impl Default for WatchOptions {
    fn default() -> WatchOptions {
        WatchOptions {
            interval: Duration::from_millis(250),
            walk_interval: Duration::from_secs(1),
            report: Box::new(log),
            metrics: None,
        }
    }
}

fn log(finding: &Finding) {
    match finding {
        Finding::Cycle { within_one_task: false, .. } => tracing::error!("{finding}"),
        _ => tracing::warn!("{finding}"),
    }
}

/// A tree that is watched by a thread of its own, which goes on when every thread of the program hangs. Dropping it ends
/// the thread.
#[must_use = "a watch that is dropped at once sees nothing"]
pub struct Watch {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    wake: Condvar,
}

impl Watch {
    /// Watches the tree of `context` until the watch is dropped or the tree is gone.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(context: &Context, options: WatchOptions) -> io::Result<Watch> {
        let stop = Arc::new(Stop::default());
        let root = Arc::downgrade(&context.root().own());
        let asked = stop.clone();
        let work = move || {
            let mut watcher = Watcher { options, known: BTreeSet::new(), walked: BTreeSet::new() };
            let mut next_walk = Instant::now();
            loop {
                let Some(context) = is_alive(&root) else { return };
                let began = Instant::now();
                let walks = began >= next_walk;
                watcher.look(&context, walks);
                drop(context);
                if walks {
                    let ended = Instant::now();
                    next_walk = ended + watcher.options.walk_interval.max((ended - began) * 1_000);
                }
                let pause = watcher.options.interval;
                let guard = asked.asked.lock().unwrap_or_else(PoisonError::into_inner);
                let slept = asked.wake.wait_timeout_while(guard, pause, |asked| !*asked);
                if *slept.unwrap_or_else(PoisonError::into_inner).0 {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("kymo-watch".into()).spawn(work)?;
        Ok(Watch { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *self.stop.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // It may be this very thread that drops the last owner, from within a report.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

struct Watcher {
    options: WatchOptions,
    /// Circles that were reported and go on.
    known: BTreeSet<String>,
    /// The same of what walks find.
    walked: BTreeSet<String>,
}

impl Watcher {
    fn look(&mut self, context: &Context, walks: bool) {
        let (cycles, others) = if walks {
            let (cycles, others) = context.findings().into_iter().partition(|f| matches!(f, Finding::Cycle { .. }));
            if let Some(metrics) = &self.options.metrics {
                metrics.refresh();
            }
            (cycles, Some(others))
        } else {
            (context.cycles(), None)
        };
        report_new(&cycles, &mut self.known, &self.options.report);
        if let Some(others) = others {
            let others: Vec<Finding> = others;
            report_new(&others, &mut self.walked, &self.options.report);
        }
    }
}

/// Reports what was not there before; what is gone may come again.
fn report_new(found: &[Finding], known: &mut BTreeSet<String>, report: &dyn Fn(&Finding)) {
    let mut now = BTreeSet::new();
    for finding in found {
        let key = finding.key();
        if !known.contains(&key) && !now.contains(&key) {
            report(finding);
        }
        now.insert(key);
    }
    *known = now;
}
