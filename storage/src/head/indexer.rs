//! The index of series made on another thread than theirs: replay adds a million at once.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use kymo_core::Labels;

use super::postings::Postings;

/// Series handed over at once.
const BATCH: usize = 1_024;
/// Batches that may wait: what is added must not run ahead by all the memory there is.
const WAITING_MAX: usize = 64;

/// Has the index, which is nowhere else meanwhile.
#[derive(Debug)]
pub(super) struct Indexer {
    batch: Vec<(u32, Labels)>,
    batches: SyncSender<Vec<(u32, Labels)>>,
    thread: JoinHandle<Postings>,
}

impl Indexer {
    /// Goes on with this index; `None` when there is no thread to be had, and then it is lost.
    pub(super) fn start(mut postings: Postings) -> Option<Indexer> {
        let (batches, arriving) = sync_channel::<Vec<(u32, Labels)>>(WAITING_MAX);
        let index = move || {
            for (number, labels) in arriving.into_iter().flatten() {
                postings.add(number, &labels);
            }
            postings
        };
        let thread = Builder::new().name("kymo-index".to_owned()).spawn(index).ok()?;
        Some(Indexer { batch: Vec::with_capacity(BATCH), batches, thread })
    }

    pub(super) fn add(&mut self, number: u32, labels: Labels) {
        self.batch.push((number, labels));
        if self.batch.len() >= BATCH {
            self.send(BATCH);
        }
    }

    /// The index with all that was added; `None` if that failed.
    pub(super) fn end(mut self) -> Option<Postings> {
        self.send(0);
        drop(self.batches);
        self.thread.join().ok()
    }

    fn send(&mut self, room: usize) {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(room));
        // A thread that does not take it any more has panicked, which the end tells.
        let _ = self.batches.send(batch);
    }
}
