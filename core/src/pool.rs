//! Where blocking work runs when the caller may not block.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::ErrorKind;

/// A piece of blocking work.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs blocking jobs on threads of its own; bounded.
pub trait BlockingPool: Send + Sync {
    /// Takes the job, or refuses it at once when the queue is full. Never blocks.
    ///
    /// # Errors
    /// [`PoolFull`] names the pool and its limit; the job is dropped.
    fn try_execute(&self, job: Job) -> Result<(), PoolFull>;
}

/// The queue of a pool is full, or the pool has stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {name:?} pool is full: {limit} jobs are waiting")]
pub struct PoolFull {
    /// Which pool.
    pub name: String,
    /// Length of its queue.
    pub limit: usize,
}

impl PoolFull {
    /// Always [`ErrorKind::Unavailable`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::unavailable()
    }
}

/// A fixed number of threads behind a bounded queue, first come first served.
///
/// A job goes to the thread that worked last, whose caches and whose share of the allocator are warm: a pool of many
/// threads that is asked for one thing at a time works as one of a single thread does.
///
/// Dropping the pool finishes what is queued and joins the threads.
pub struct ThreadPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    name: String,
    limit: usize,
    /// Guards the queue; never held while a job runs.
    queue: Mutex<Queue>,
    /// One for each thread.
    ready: Vec<Condvar>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Threads that wait for a job and were not woken for one, the last to begin last.
    idle: Vec<usize>,
    stopped: bool,
}

impl ThreadPool {
    /// Starts `threads` threads named after the pool; at most `queue` jobs wait.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(name: &str, threads: usize, queue: usize) -> std::io::Result<ThreadPool> {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            limit: queue,
            queue: Mutex::default(),
            ready: std::iter::repeat_with(Condvar::new).take(threads).collect(),
        });
        let mut pool = ThreadPool { shared, threads: Vec::new() };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let thread =
                std::thread::Builder::new().name(format!("{name}-{number}")).spawn(move || shared.run(number))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }
}

impl BlockingPool for ThreadPool {
    fn try_execute(&self, job: Job) -> Result<(), PoolFull> {
        let mut queue = self.shared.lock();
        if queue.stopped || queue.jobs.len() >= self.shared.limit {
            return Err(PoolFull { name: self.shared.name.clone(), limit: self.shared.limit });
        }
        queue.jobs.push_back(job);
        let woken = queue.idle.pop();
        drop(queue);
        if let Some(number) = woken {
            self.shared.ready[number].notify_one();
        }
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What thread `number` does.
    fn run(&self, number: usize) {
        loop {
            let mut queue = self.lock();
            let job = loop {
                match queue.jobs.pop_front() {
                    Some(job) => break job,
                    None if queue.stopped => return,
                    None => {
                        queue.idle.push(number);
                        queue = self.ready[number].wait(queue).unwrap_or_else(PoisonError::into_inner);
                        // It is there still if it woke by itself.
                        queue.idle.retain(|idle| *idle != number);
                    }
                }
            };
            drop(queue);
            // A job that panics has dropped its reply channel, which its caller sees; the thread lives on.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.ready.iter().for_each(Condvar::notify_one);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_full_queue_refuses_and_names_its_limit_and_a_panic_kills_no_thread() {
        let pool = ThreadPool::start("queries", 1, 1).unwrap();
        let (started, on_start) = mpsc::channel();
        let (release, gate) = mpsc::channel::<()>();
        let (done, on_done) = mpsc::channel();
        pool.try_execute(Box::new(move || {
            started.send(()).unwrap();
            gate.recv().unwrap();
            panic!("a job's own fault");
        }))
        .unwrap();
        on_start.recv().unwrap();
        pool.try_execute(Box::new(move || done.send(7).unwrap())).unwrap();
        let refused = pool.try_execute(Box::new(|| {})).unwrap_err();
        assert_eq!(refused, PoolFull { name: "queries".into(), limit: 1 });
        release.send(()).unwrap();
        assert_eq!(on_done.recv().unwrap(), 7);
    }

    #[test]
    fn a_job_goes_to_the_thread_that_worked_last() {
        let pool = ThreadPool::start("queries", 4, 4).unwrap();
        let (done, on_done) = mpsc::channel();
        let ask = || {
            // Whoever answered is idle again before the next job comes.
            while pool.shared.lock().idle.len() < 4 {
                std::thread::yield_now();
            }
            let done = done.clone();
            pool.try_execute(Box::new(move || done.send(std::thread::current().id()).unwrap())).unwrap();
            on_done.recv().unwrap()
        };
        let first = ask();
        assert!((0..20).all(|_| ask() == first));
    }

    #[test]
    fn dropping_the_pool_finishes_what_is_queued() {
        let (done, on_done) = mpsc::channel();
        let pool = ThreadPool::start("ingest", 2, 100).unwrap();
        for n in 0..50 {
            let done = done.clone();
            pool.try_execute(Box::new(move || done.send(n).unwrap())).unwrap();
        }
        drop((pool, done));
        assert_eq!(on_done.iter().count(), 50);
    }
}
