//! Contexts of requests: what each step costs, and a request with and without them.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Result, ensure};
use kymo_context::{Context, ContextMutex, Settings, Watch, WatchOptions};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use super::work::{rounds_of, work};

/// CPU work of one request.
const WORK_NANOS: u128 = 50_000;

/// A tree as a server has it, and one request far down in it.
pub struct Contexts {
    global: Arc<Context>,
    endpoint: Arc<Context>,
    /// At depth 4: global, http, endpoint, request.
    request: Arc<Context>,
    accounts: ContextMutex<u64>,
    bare_accounts: Mutex<u64>,
    runtime: Runtime,
    /// Rounds of [`work`] in 50 µs.
    rounds: u64,
    seed: Cell<u64>,
    /// Looks for deadlocks all the while.
    _watch: Watch,
}

impl Contexts {
    /// Makes the tree and checks that it counts.
    ///
    /// # Errors
    /// No runtime or thread, or a request that does not count.
    pub fn new() -> Result<Contexts> {
        let global = Context::with_settings("global", Settings::default());
        let endpoint = global.child("http").begin().child("endpoint").begin();
        let contexts = Contexts {
            request: endpoint.child("request").begin(),
            accounts: global.mutex("accounts", 0),
            bare_accounts: Mutex::new(0),
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            rounds: rounds_of(WORK_NANOS),
            seed: Cell::new(1),
            _watch: Watch::start(&global, WatchOptions::default())?,
            endpoint,
            global,
        };
        contexts.persist(3);
        contexts.child_persist_drop(2);
        contexts.request(1);
        let counted = contexts.global.counter("global.http.endpoint.requests_since_start");
        ensure!(counted == Some(6), "six requests count as {counted:?}");
        Ok(contexts)
    }

    /// Counts a request at depth 4.
    pub fn persist(&self, times: u64) {
        #[inline(never)]
        fn persist(context: &Context) {
            context.persist();
        }
        (0..times).for_each(|_| persist(black_box(&self.request)));
    }

    /// A context begins and ends.
    pub fn child_drop(&self, times: u64) {
        (0..times).for_each(|_| drop(black_box(self.endpoint.child("request").begin())));
    }

    /// A context begins, counts and ends.
    pub fn child_persist_drop(&self, times: u64) {
        (0..times).for_each(|_| self.endpoint.child("request").begin().persist());
    }

    /// An uncontended named lock.
    pub fn lock(&self, times: u64) {
        self.runtime.block_on(self.request.run(async {
            for _ in 0..times {
                *self.accounts.lock().await += 1;
            }
        }));
    }

    /// tokio's lock, uncontended.
    pub fn bare_lock(&self, times: u64) {
        self.runtime.block_on(async {
            for _ in 0..times {
                *self.bare_accounts.lock().await += 1;
            }
        });
    }

    /// A request of 50 µs with a context of its own, counted, with a named lock and a named await, watched.
    pub fn request(&self, times: u64) {
        self.runtime.block_on(async {
            for _ in 0..times {
                let request = self.endpoint.child("request").begin();
                request
                    .run(async {
                        self.work();
                        *self.accounts.lock().await += 1;
                        request.waiting_on("db query", tokio::task::yield_now()).await;
                        request.persist();
                    })
                    .await;
            }
        });
    }

    /// The same request without any of that: tokio's lock, and an await.
    pub fn bare_request(&self, times: u64) {
        self.runtime.block_on(async {
            for _ in 0..times {
                self.work();
                *self.bare_accounts.lock().await += 1;
                tokio::task::yield_now().await;
            }
        });
    }

    fn work(&self) {
        self.seed.set(work(self.seed.get(), self.rounds));
    }
}

/// A tree with so many contexts that live and have values, as a busy server has.
///
/// # Errors
/// Not all of them are shown.
pub fn crowd(count: usize) -> Result<(Arc<Context>, Vec<Arc<Context>>)> {
    let global = Context::with_settings("global", Settings::default());
    let mut contexts = Vec::with_capacity(count);
    while contexts.len() < count - 1 {
        let service = global.child(&format!("service-{}", contexts.len() / 100)).begin();
        contexts.push(service.clone());
        for n in 0..99 {
            if contexts.len() < count - 1 {
                let request = service.child(&format!("request-{n}")).begin();
                request.persist();
                contexts.push(request);
            }
        }
    }
    ensure!(global.status().contexts.len() == count, "{} contexts are shown", global.status().contexts.len());
    Ok((global, contexts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_count_and_a_crowd_is_shown_whole() {
        Contexts::new().unwrap();
        crowd(250).unwrap();
    }
}
