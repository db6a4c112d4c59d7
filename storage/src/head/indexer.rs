//! The index of series made on another thread than theirs: replay adds a million at once.

use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};

use kymo_core::Labels;

use super::postings::Postings;

/// Series handed over at once.
const BATCH: usize = 1_024;

/// Has the index, which is nowhere else meanwhile. What waits for it, 24 bytes a series, its owner counts with the index.
#[derive(Debug)]
pub(super) struct Indexer {
    batch: Vec<(u32, Labels)>,
    batches: Sender<Vec<(u32, Labels)>>,
    thread: JoinHandle<Postings>,
}

impl Indexer {
    /// Goes on with this index; `None` when there is no thread to be had, and then it is lost.
    pub(super) fn start(mut postings: Postings) -> Option<Indexer> {
        let (batches, arriving) = channel::<Vec<(u32, Labels)>>();
        let index = move || {
            arriving.into_iter().for_each(|batch| postings.add_all(&batch));
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
