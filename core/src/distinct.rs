//! How many different things were seen, without keeping them.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

/// Registers, as a power of two: 2^10 of a byte give a standard error of 3 %.
const PRECISION: u32 = 10;
const REGISTERS: usize = 1 << PRECISION;
/// Things that are kept as they are until there are more: small counts are exact, and take less.
const EXACT_MAX: usize = 128;

const STATE: FixedState = FixedState::with_seed(0x6b79_6d6f);

/// An estimate of a number of distinct things: exact to 128, beyond within 3 % (standard error) in one KiB.
///
/// HyperLogLog (Flajolet and others, 2007) with linear counting where that is better. Two of them merge into what one
/// would be that had seen everything.
///
/// ```
/// use kymo_core::Distinct;
///
/// let mut seen = Distinct::default();
/// for n in 0..1_000_000 {
///     seen.add(&(n % 50_000));
/// }
/// assert!((45_000..55_000).contains(&seen.count()));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Distinct {
    /// Sorted hashes, until there are too many.
    exact: Vec<u64>,
    /// Empty as long as `exact` holds all.
    registers: Vec<u8>,
}

impl Distinct {
    /// Notes that something was seen. O(1); O(log n) as long as counts are exact.
    pub fn add<T: Hash + ?Sized>(&mut self, thing: &T) {
        self.add_hash(Distinct::hash(thing));
    }

    /// The hash by which things are told apart, for who adds one in several places.
    #[must_use]
    pub fn hash<T: Hash + ?Sized>(thing: &T) -> u64 {
        // A state that is the same in every run: estimates can be compared. Numbers in a row come out of it with some of their
        // order left, which estimates must not see.
        mixed(STATE.hash_one(thing))
    }

    /// Notes that something with this [`hash`](Self::hash) was seen.
    pub fn add_hash(&mut self, hash: u64) {
        if self.registers.is_empty() {
            match self.exact.binary_search(&hash) {
                Ok(_) => return,
                Err(at) => self.exact.insert(at, hash),
            }
            if self.exact.len() > EXACT_MAX {
                self.registers = vec![0; REGISTERS];
                for hash in std::mem::take(&mut self.exact) {
                    self.register(hash);
                }
            }
        } else {
            self.register(hash);
        }
    }

    fn register(&mut self, hash: u64) {
        let register = &mut self.registers[(hash >> (64 - PRECISION)) as usize];
        // Behind the register's number stand 64 − PRECISION bits.
        let rank = ((hash << PRECISION).leading_zeros() + 1).min(64 - PRECISION + 1) as u8;
        *register = (*register).max(rank);
    }

    /// Adds what another has seen.
    pub fn merge(&mut self, other: &Distinct) {
        if other.registers.is_empty() {
            other.exact.iter().for_each(|hash| self.add_hash(*hash));
            return;
        }
        if self.registers.is_empty() {
            let exact = std::mem::take(&mut self.exact);
            self.registers = other.registers.clone();
            exact.into_iter().for_each(|hash| self.register(hash));
            return;
        }
        for (own, theirs) in self.registers.iter_mut().zip(&other.registers) {
            *own = (*own).max(*theirs);
        }
    }

    /// How many there were. O(1) in what was seen.
    #[must_use]
    pub fn count(&self) -> u64 {
        if self.registers.is_empty() {
            return self.exact.len() as u64;
        }
        let registers = REGISTERS as f64;
        let sum: f64 = self.registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let empty = self.registers.iter().filter(|rank| **rank == 0).count();
        let estimate =
            if raw <= 2.5 * registers && empty > 0 { registers * (registers / empty as f64).ln() } else { raw };
        estimate.round() as u64
    }

    /// Bytes held on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.exact.capacity() * 8 + self.registers.capacity()
    }
}

/// Spreads each bit over all: the last step of MurmurHash3. One to one, so small counts stay exact.
fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_counts_are_exact_and_large_ones_near() {
        for wanted in [0u64, 1, 128, 129, 1_000, 30_000, 1_000_000] {
            let mut seen = Distinct::default();
            for round in 0..2 {
                (0..wanted).for_each(|n| seen.add(&format!("value-{n}")));
                let (found, allowed) = (seen.count(), if wanted <= 128 { 0 } else { wanted / 8 });
                assert!(found.abs_diff(wanted) <= allowed, "round {round}: {found} of {wanted}");
            }
        }
    }

    #[test]
    fn merging_is_having_seen_both() {
        for (first, second) in [(10u64, 20u64), (10, 5_000), (5_000, 10), (5_000, 9_000), (0, 0)] {
            let (mut one, mut other, mut both) = (Distinct::default(), Distinct::default(), Distinct::default());
            (0..first).for_each(|n| {
                one.add(&n);
                both.add(&n);
            });
            (first / 2..first / 2 + second).for_each(|n| {
                other.add(&n);
                both.add(&n);
            });
            one.merge(&other);
            assert_eq!(one.count(), both.count(), "{first} and {second}");
        }
    }
}
