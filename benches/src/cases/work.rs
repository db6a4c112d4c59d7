//! CPU work that stands for what a request does, the same wherever something is held against a request.

use std::hint::black_box;

use crate::machine;

/// Arithmetic that depends on itself, so that its time is that of its rounds.
#[inline(never)]
pub(crate) fn work(mut state: u64, rounds: u64) -> u64 {
    for _ in 0..rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    black_box(state)
}

/// Rounds of [`work`] that take so long on this machine, now.
pub(crate) fn rounds_of(nanos: u128) -> u64 {
    const SAMPLE: u64 = 1_000_000;
    let best = (0..10).map(|seed| {
        let before = machine::thread_cpu();
        black_box(work(seed + 1, SAMPLE));
        machine::thread_cpu().saturating_sub(before).as_nanos()
    });
    let sample_nanos = best.min().unwrap_or(1).max(1);
    (u128::from(SAMPLE) * nanos / sample_nanos) as u64
}
