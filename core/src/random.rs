//! Randomness as a parameter: seeded in tests and simulations, from the system in production.
//!
//! One generator serves both: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
//! number generators", OOPSLA 2014). Its state is one counter, so `&self` and any number of threads
//! cost a single atomic add. It passes statistical tests and hides nothing: never use it for keys
//! or tokens.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of random numbers that can be shared between threads.
///
/// Every call gives a fresh value; numbers are uniform over all of `u64`. Object-safe, so that a
/// simulator can hand its own to every part it drives.
pub trait Random: Send + Sync {
    /// The next 64 random bits.
    fn next_u64(&self) -> u64;

    /// A number in `0..end`, without bias that matters: the error is below `end` / 2^64.
    /// Returns 0 for `end` 0.
    fn below(&self, end: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// A number in `[0, 1)` with 53 random bits.
    fn next_f64(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The odd number nearest to 2^64 divided by the golden ratio: SplitMix64's step.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Deterministic: one seed gives one sequence.
///
/// With several threads the *set* of numbers is the same, who gets which is not.
///
/// ```
/// use kymo_core::random::{Random, SeededRandom};
///
/// let (a, b) = (SeededRandom::new(7), SeededRandom::new(7));
/// assert_eq!(a.next_u64(), b.next_u64());
/// ```
#[derive(Debug)]
pub struct SeededRandom {
    state: AtomicU64,
}

impl SeededRandom {
    /// Starts the sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }
}

impl Random for SeededRandom {
    /// Relaxed: each call takes its own step of the counter, and nothing else is published.
    fn next_u64(&self) -> u64 {
        mix(self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }
}

/// Seeded by the operating system; differs from process to process and value to value.
#[derive(Debug)]
pub struct OsRandom {
    inner: SeededRandom,
}

impl OsRandom {
    /// Draws a seed from the system.
    ///
    /// The standard library seeds its hash keys from the system's random source; hashing nothing
    /// with fresh keys turns them into 64 bits without a dependency.
    pub fn new() -> Self {
        Self { inner: SeededRandom::new(RandomState::new().build_hasher().finish()) }
    }
}

impl Default for OsRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl Random for OsRandom {
    fn next_u64(&self) -> u64 {
        self.inner.next_u64()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sequence_is_that_of_splitmix64() {
        // First outputs of the reference implementation for seed 1234567.
        let random = SeededRandom::new(1_234_567);
        let found: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(found, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn threads_share_one_sequence_without_repeats() {
        let random = SeededRandom::new(42);
        let drawn = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1000).map(|_| random.next_u64()).collect::<Vec<_>>())).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<BTreeSet<_>>()
        });
        let alone = SeededRandom::new(42);
        assert_eq!(drawn, (0..4000).map(|_| alone.next_u64()).collect::<BTreeSet<_>>());
    }

    #[test]
    fn ranges_hold() {
        let random = SeededRandom::new(1);
        for _ in 0..1000 {
            assert!(random.below(10) < 10);
            assert!((0.0..1.0).contains(&random.next_f64()));
        }
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn system_seeds_differ() {
        assert_ne!(OsRandom::new().next_u64(), OsRandom::new().next_u64());
    }
}
