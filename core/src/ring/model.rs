//! The protocol of `lane` under loom: a point is whole or counted as overwritten.

/// What `lane` is made of here.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};
}

#[allow(clippy::duplicate_mod, reason = "compiled once more, with other atomics")]
#[path = "lane.rs"]
mod lane;

use loom::sync::Arc;
use loom::thread;

use self::lane::Lane;

#[test]
fn a_reader_never_sees_a_torn_point() {
    let mut builder = loom::model::Builder::new();
    // More interruptions find nothing new in so few steps and take minutes.
    builder.preemption_bound = Some(3);
    builder.check(|| {
        const POINTS: u64 = 3;
        let lane = Arc::new(Lane::new(2));
        let writing = Arc::clone(&lane);
        let writer = thread::spawn(move || (1..=POINTS).for_each(|n| writing.push([n; 4])));
        let (mut next, mut seen, mut lost) = (0, Vec::new(), 0);
        lost += lane.drain(&mut next, |words| seen.push(words));
        writer.join().unwrap();
        lost += lane.drain(&mut next, |words| seen.push(words));
        assert!(seen.iter().all(|words| words.iter().all(|word| *word == words[0])), "torn: {seen:?}");
        assert!(seen.windows(2).all(|pair| pair[0][0] < pair[1][0]), "out of order: {seen:?}");
        assert_eq!(seen.len() as u64 + lost, POINTS);
        assert_eq!(lane.capacity(), 2);
    });
}
