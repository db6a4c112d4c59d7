//! What both OTLP targets hold any input to.

use std::sync::Arc;

use kymo_core::memory::MemoryOptions;
use kymo_core::{Budget, LossLedger, ManualClock, MemoryStorage, MetricStorage};
use kymo_ingest::otlp::{Coding, Encoding, OtlpConfig, OtlpLimits, Receiver};
use kymo_ingest::remote_write::ReceiverParts;

/// Exports a body twice.
///
/// Whatever it is, everything decoded is booked once, a request that is refused as a whole leaves nothing behind, one
/// that is sent again is answered for as many points and brings no new series, and memory is given back. Of protobuf,
/// what is told without decoding is what prost decodes.
pub fn feed(encoding: Encoding, coding: Coding, body: &[u8]) {
    if encoding == Encoding::Protobuf && coding == Coding::Identity {
        kymo_ingest::otlp::assert_drivers_agree(body);
    }
    let root = Budget::root("process", 256 << 20);
    let clock = Arc::new(ManualClock::at(1_760_000_000_000));
    let storage = Arc::new(MemoryStorage::new(MemoryOptions { clock: clock.clone(), ..MemoryOptions::default() }));
    let ledger = Arc::new(LossLedger::default());
    let config = OtlpConfig { keep_min_max: true, ..OtlpConfig::default() };
    let parts =
        ReceiverParts { ledger: ledger.clone(), clock, budget: root.clone(), ..ReceiverParts::around(storage.clone()) };
    let Ok(receiver) = Receiver::new(config, OtlpLimits::default(), parts) else {
        panic!("a fresh registry takes the metrics")
    };
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer = receiver.export(encoding, coding, body.to_vec().into());
        if answer.is_err() {
            assert_eq!(storage.statistics().active_series, 0);
        }
        // Which of them are refused may change: totals older than the newest of their writer, for one, are told in vain.
        let points = answer.ok().map(|outcome| outcome.written + outcome.rejected());
        answers.push((points, storage.statistics().active_series));
        assert_eq!(root.used(), receiver.cached_series().1);
    }
    assert_eq!(answers[0], answers[1]);
    for (_, totals) in ledger.received() {
        assert_eq!(totals.received, totals.stored + totals.identical + totals.replaced + totals.rejected);
    }
}

/// Exports a body of spans twice.
///
/// Everything decoded is booked once, what is sent again is known, and memory is given back. Of protobuf, what is told
/// without decoding is what prost decodes.
pub fn feed_spans(encoding: Encoding, body: &[u8]) {
    if encoding == Encoding::Protobuf {
        kymo_ingest::otlp::assert_span_drivers_agree(body);
    }
    let root = Budget::root("process", 256 << 20);
    let clock = Arc::new(ManualClock::at(1_760_000_000_000));
    let storage = Arc::new(MemoryStorage::new(MemoryOptions { clock: clock.clone(), ..MemoryOptions::default() }));
    let ledger = Arc::new(LossLedger::default());
    let parts =
        ReceiverParts { ledger: ledger.clone(), clock, budget: root.clone(), ..ReceiverParts::around(storage.clone()) };
    let Ok(receiver) = Receiver::new(OtlpConfig::default(), OtlpLimits::default(), parts) else {
        panic!("a fresh registry takes the metrics")
    };
    let first = receiver.export_spans(encoding, Coding::Identity, body.to_vec().into());
    let series = storage.statistics().active_series;
    let again = receiver.export_spans(encoding, Coding::Identity, body.to_vec().into());
    match (first, again) {
        (Ok(first), Ok(again)) => {
            assert_eq!((again.counted, again.rejected()), (0, first.rejected()));
            assert_eq!(again.identical, first.counted + first.identical);
            assert_eq!(first.rows_refused, 0);
        }
        (Err(_), Err(_)) => assert_eq!(series, 0),
        (first, again) => panic!("{first:?} and then {again:?}"),
    }
    assert_eq!(storage.statistics().active_series, series);
    assert_eq!(root.used(), receiver.cached_series().1 + receiver.span_bytes());
    for (_, totals) in ledger.received() {
        assert_eq!(totals.received, totals.stored + totals.identical + totals.replaced + totals.rejected);
    }
}
