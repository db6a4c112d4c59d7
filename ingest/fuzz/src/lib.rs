//! What both remote-write targets hold any input to.

pub mod exposition;
pub mod import;
pub mod otlp;

use std::sync::Arc;

use kymo_core::memory::MemoryOptions;
use kymo_core::{Budget, LossLedger, ManualClock, MemoryStorage};
use kymo_ingest::remote_write::{Receiver, ReceiverParts, RemoteWriteConfig, Version, Written};

/// Feeds a message, and the bytes as a body as they are.
///
/// Whatever they are, the answer does not depend on what the cache knows, everything decoded is booked once, and
/// memory is given back but for what the caches are accounted for.
pub fn feed(version: Version, message: &[u8]) {
    let root = Budget::root("process", 64 << 20);
    let clock = Arc::new(ManualClock::at(1_760_000_000_000));
    let storage = Arc::new(MemoryStorage::new(MemoryOptions { clock: clock.clone(), ..MemoryOptions::default() }));
    let ledger = Arc::new(LossLedger::default());
    let parts =
        ReceiverParts { ledger: ledger.clone(), clock, budget: root.clone(), ..ReceiverParts::around(storage.clone()) };
    let config = RemoteWriteConfig { scratch_max: 0, ..RemoteWriteConfig::default() };
    let Ok(receiver) = Receiver::new(config, parts) else { panic!("a fresh registry takes the metrics") };

    let _ = receiver.write(version, message);
    let Ok(body) = snap::raw::Encoder::new().compress_vec(message) else { return };
    let mut answers: Vec<Option<(Written, usize)>> = Vec::new();
    // Cold, with every series known, and with every ref forgotten.
    for round in 0..3 {
        if round == 2 {
            storage.reopen();
        }
        let answer = receiver.write(version, &body).ok();
        answers.push(answer.map(|outcome| (outcome.written, outcome.refusals.len())));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    for (_, totals) in ledger.received() {
        assert_eq!(totals.received, totals.stored + totals.identical + totals.replaced + totals.rejected);
    }
    let (_, cached) = receiver.cached_series();
    assert!(root.used() <= cached + (128 << 10), "{} held, {cached} cached", root.used());
}
