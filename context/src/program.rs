//! What `#[kymo_context::main]` starts.

use std::future::Future;

use crate::global::global;
use crate::watch::{Watch, WatchOptions};

/// A program that runs on tokio, inside the global context. The attribute's options are these methods.
#[derive(Debug, Default)]
#[must_use = "nothing runs before `run`"]
pub struct Program {
    worker_threads: Option<usize>,
    is_on_one_thread: bool,
    is_unwatched: bool,
    is_attached: bool,
}

impl Program {
    /// As many threads as there are cores, watched, without a socket.
    pub fn new() -> Program {
        Program::default()
    }

    /// Threads of tokio.
    pub fn worker_threads(mut self, count: usize) -> Program {
        self.worker_threads = Some(count);
        self
    }

    /// Runs everything on the thread of `main`.
    pub fn current_thread(mut self, is_on: bool) -> Program {
        self.is_on_one_thread = is_on;
        self
    }

    /// Whether a thread looks for deadlocks and long waits, and logs them. On unless set.
    pub fn watch(mut self, is_on: bool) -> Program {
        self.is_unwatched = !is_on;
        self
    }

    /// Whether `kymo status` can look in, see [`attach`](crate::attach). Off unless set; where there are no Unix sockets it
    /// stays off.
    pub fn attach(mut self, is_on: bool) -> Program {
        self.is_attached = is_on;
        self
    }

    /// Runs `main`; when it returns, the global context is cancelled and the threads end.
    ///
    /// # Panics
    /// Threads cannot be started, or the socket cannot be opened: the program cannot do what its source says.
    pub fn run<F: Future>(self, main: F) -> F::Output {
        let mut builder = if self.is_on_one_thread {
            tokio::runtime::Builder::new_current_thread()
        } else {
            tokio::runtime::Builder::new_multi_thread()
        };
        if let Some(count) = self.worker_threads {
            builder.worker_threads(count);
        }
        let runtime = builder.enable_all().build().unwrap_or_else(|error| panic!("cannot start tokio: {error}"));
        let global = global();
        let _watch = (!self.is_unwatched).then(|| {
            let watch = Watch::start(&global, WatchOptions::default());
            watch.unwrap_or_else(|error| panic!("cannot start the thread that watches: {error}"))
        });
        #[cfg(unix)]
        let _attach = self.is_attached.then(|| {
            let attach = crate::attach::Attach::open(&global);
            attach.unwrap_or_else(|error| panic!("cannot open the socket for kymo status: {error:?}"))
        });
        let output = runtime.block_on(global.run(main));
        global.cancel();
        output
    }
}
