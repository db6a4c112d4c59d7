//! The contract of [`DiskQueue`] as a test that every implementation runs.

#![expect(clippy::unwrap_used, reason = "a suite of tests panics where the contract does not hold")]

use std::cell::RefCell;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::state::{DiskQueue, QueueError, QueuePosition};

/// An implementation under test.
pub trait Subject {
    /// Opens an empty queue that holds this many bytes, and forgets the one before.
    fn open(&mut self, bytes_max: u64) -> Arc<dyn DiskQueue>;
    /// Closes what was opened last, which nobody else holds, and opens it again.
    fn reopen(&mut self) -> Arc<dyn DiskQueue>;
}

/// Runs every test of the suite.
///
/// # Panics
/// Where the contract does not hold, with what was seen.
pub fn run(subject: &mut dyn Subject) {
    type Test = fn(&mut dyn Subject);
    let tests: [(&str, Test); 5] = [
        ("records_come_out_in_order", records_come_out_in_order),
        ("what_was_acknowledged_is_gone_for_good", what_was_acknowledged_is_gone_for_good),
        ("a_full_queue_takes_nothing_until_something_is_acknowledged", a_full_queue_takes_nothing),
        ("writers_and_a_reader_at_once_lose_nothing", writers_and_a_reader_at_once_lose_nothing),
        ("agrees_with_a_model", agrees_with_a_model),
    ];
    for (name, test) in tests {
        println!("contract: {name}");
        test(subject);
    }
}

/// Everything from a position on, with where it ended.
fn rest(queue: &dyn DiskQueue, from: QueuePosition) -> (Vec<Vec<u8>>, QueuePosition) {
    let (mut at, mut records) = (from, Vec::new());
    while at < queue.end() {
        let next = queue.read(at, 50, &mut records).unwrap();
        assert!(next > at, "reading goes on");
        at = next;
    }
    (records, at)
}

fn records_come_out_in_order(subject: &mut dyn Subject) {
    let queue = subject.open(1 << 20);
    assert_eq!((queue.bytes(), queue.checkpoint()), (0, queue.end()));
    assert_eq!(queue.read(queue.end(), 100, &mut Vec::new()).unwrap(), queue.end(), "nothing to read");
    let records: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; usize::from(n)]).collect();
    let mut before = None;
    for record in &records {
        let position = queue.append(record).unwrap();
        assert!(before < Some(position), "positions rise");
        before = Some(position);
    }
    let first = queue.checkpoint();
    assert_eq!(rest(&*queue, first).0, records);
    // At least one, however large.
    let mut some = Vec::new();
    let next = queue.read(first, 0, &mut some).unwrap();
    assert_eq!(some, records[..1]);
    // No more than were asked for, added to what is there.
    let next = queue.read(next, 10, &mut some).unwrap();
    assert_eq!(some, records[..5], "1 + 2 + 3 + 4 bytes");
    assert_eq!(rest(&*queue, next).0, records[5..]);
    assert_eq!(queue.checkpoint(), first, "reading acknowledges nothing");
    drop(queue);
    let queue = subject.reopen();
    assert_eq!(rest(&*queue, queue.checkpoint()).0, records);
    let position = queue.append(b"later").unwrap();
    assert!(before < Some(position), "a position is never given twice");
    assert_eq!(rest(&*queue, position).0, [b"later"]);
}

fn what_was_acknowledged_is_gone_for_good(subject: &mut dyn Subject) {
    let queue = subject.open(1 << 20);
    let positions: Vec<QueuePosition> = (0..10u8).map(|n| queue.append(&[n; 100]).unwrap()).collect();
    let all = queue.bytes();
    queue.acknowledge(positions[4]).unwrap();
    assert_eq!(queue.checkpoint(), positions[4]);
    assert!(queue.bytes() < all && queue.bytes() >= 600, "{} of {all} bytes", queue.bytes());
    queue.acknowledge(positions[2]).unwrap();
    assert_eq!(queue.checkpoint(), positions[4], "never back");
    let gone = queue.read(positions[3], 100, &mut Vec::new()).unwrap_err();
    assert!(matches!(gone, QueueError::Gone { checkpoint, .. } if checkpoint == positions[4]), "{gone:?}");
    assert_eq!(rest(&*queue, positions[4]).0.len(), 6);
    drop(queue);
    let queue = subject.reopen();
    assert_eq!(queue.checkpoint(), positions[4]);
    let (records, end) = rest(&*queue, positions[4]);
    assert_eq!(records, (4..10u8).map(|n| vec![n; 100]).collect::<Vec<_>>());
    queue.acknowledge(end).unwrap();
    assert_eq!((queue.bytes(), queue.checkpoint()), (0, queue.end()));
    drop(queue);
    let queue = subject.reopen();
    assert_eq!(rest(&*queue, queue.checkpoint()).0, Vec::<Vec<u8>>::new());
    let position = queue.append(b"next").unwrap();
    assert!(position > positions[9], "{position:?}");
    assert_eq!(rest(&*queue, queue.checkpoint()).0, [b"next"]);
}

fn a_full_queue_takes_nothing(subject: &mut dyn Subject) {
    let queue = subject.open(4_096);
    let mut taken = 0u8;
    let error = loop {
        match queue.append(&[taken; 200]) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 21, "{taken} records of 200 bytes in 4096");
    };
    assert!(matches!(error, QueueError::Full { wanted: 200, limit_bytes: 4_096 }), "{error:?}");
    let (records, _) = rest(&*queue, queue.checkpoint());
    assert_eq!(records.len(), usize::from(taken));
    assert!(queue.bytes() <= 4_096);
    let mut some = Vec::new();
    let until = queue.read(queue.checkpoint(), 400, &mut some).unwrap();
    queue.acknowledge(until).unwrap();
    queue.append(&[taken; 200]).unwrap();
    let (left, _) = rest(&*queue, queue.checkpoint());
    assert_eq!(left, (2..=taken).map(|n| vec![n; 200]).collect::<Vec<_>>());
    // One that never fits is refused by itself, and the queue goes on.
    assert!(matches!(queue.append(&[0; 5_000]), Err(QueueError::Full { wanted: 5_000, .. })));
}

fn writers_and_a_reader_at_once_lose_nothing(subject: &mut dyn Subject) {
    let queue = subject.open(1 << 20);
    let (writers, each) = (4u8, 50u8);
    let mut read: Vec<Vec<u8>> = Vec::new();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let queue = &queue;
            scope.spawn(move || (0..each).for_each(|n| assert!(queue.append(&[writer, n]).is_ok())));
        }
        let mut at = queue.checkpoint();
        while read.len() < usize::from(writers) * usize::from(each) {
            let next = queue.read(at, 16, &mut read).unwrap();
            if next == at {
                std::thread::yield_now();
            } else {
                queue.acknowledge(next).unwrap();
                at = next;
            }
        }
    });
    for writer in 0..writers {
        let of_one: Vec<u8> = read.iter().filter(|record| record[0] == writer).map(|record| record[1]).collect();
        assert_eq!(of_one, (0..each).collect::<Vec<_>>(), "writer {writer}");
    }
    assert_eq!(queue.bytes(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Read(usize),
    Acknowledge,
    Reopen,
}

fn agrees_with_a_model(subject: &mut dyn Subject) {
    let step = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..90).prop_map(Step::Append),
        3 => (0..300usize).prop_map(Step::Read),
        2 => Just(Step::Acknowledge),
        1 => Just(Step::Reopen),
    ];
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[13; 32]);
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let subject = RefCell::new(subject);
    let outcome = TestRunner::new_with_rng(config, rng).run(&prop::collection::vec(step, 1..60), |steps| {
        let mut queue = subject.borrow_mut().open(1 << 20);
        // Records not acknowledged, and how many of them were read.
        let (mut held, mut read): (Vec<Vec<u8>>, usize) = (Vec::new(), 0);
        let mut at = queue.checkpoint();
        for step in steps {
            match step {
                Step::Append(record) => {
                    queue.append(&record).unwrap();
                    held.push(record);
                }
                Step::Read(bytes_max) => {
                    let mut records = Vec::new();
                    at = queue.read(at, bytes_max, &mut records).unwrap();
                    let bytes: usize = records.iter().map(Vec::len).sum();
                    prop_assert!(bytes <= bytes_max || records.len() == 1, "{} of {} bytes", bytes, bytes_max);
                    prop_assert_eq!(records.is_empty(), read == held.len());
                    prop_assert_eq!(&records[..], &held[read..read + records.len()]);
                    read += records.len();
                }
                Step::Acknowledge => {
                    queue.acknowledge(at).unwrap();
                    held.drain(..read);
                    read = 0;
                    prop_assert_eq!(queue.checkpoint(), at);
                }
                Step::Reopen => {
                    drop(queue);
                    queue = subject.borrow_mut().reopen();
                    at = queue.checkpoint();
                    read = 0;
                }
            }
        }
        let (records, _) = rest(&*queue, queue.checkpoint());
        prop_assert_eq!(records, held);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
