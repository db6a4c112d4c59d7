//! How values of a family are kept, beyond their kind.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::histogram::{SCHEMA_MAX, SCHEMA_MIN};

/// Bucket bounds for durations in seconds, 5 ms to 10 s: the customary ones of Prometheus clients.
pub const DURATION_BUCKETS_DEFAULT: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Quantiles of a summary unless the builder says otherwise.
pub const QUANTILES_DEFAULT: [f64; 3] = [0.5, 0.95, 0.99];

/// The window of a summary unless the builder says otherwise: that of Prometheus clients.
pub const SUMMARY_WINDOW_DEFAULT: Duration = Duration::from_secs(600);

/// At schema −4 so many buckets cover all numbers of one sign, so no histogram needs more.
pub const NATIVE_BUCKETS_MIN: usize = 160;

/// How a native histogram is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NativeOptions {
    /// Resolution to begin with, −4 to 8: each bucket's upper bound is 2^(2^−schema) times its lower one.
    pub schema: i8,
    /// Buckets of each sign, from the lowest in use to the highest, at the most. One more, and the resolution is halved.
    /// At least [`NATIVE_BUCKETS_MIN`].
    pub buckets_max: usize,
    /// What is no larger than this, whatever its sign, is counted as zero.
    pub zero_threshold: f64,
}

impl Default for NativeOptions {
    /// Schema 3: eight buckets to a power of two, quantiles within 9.1 %. 160 buckets span a factor of a million there. The
    /// zero bucket is Prometheus' own, 2^−128.
    fn default() -> Self {
        Self { schema: 3, buckets_max: NATIVE_BUCKETS_MIN, zero_threshold: f64::from_bits((1023 - 128) << 52) }
    }
}

/// What one kind of value needs to know. Equal for all series of a family.
#[derive(Debug, Clone)]
pub enum Options {
    /// Nothing.
    Plain,
    /// Of a histogram with explicit buckets.
    Buckets(Arc<Bounds>),
    /// Of a native histogram.
    Native(NativeOptions),
    /// Of a summary.
    Summary(SummaryOptions),
}

/// Ranks and window of a summary, and the clock that moves it on.
#[derive(Debug, Clone)]
pub struct SummaryOptions {
    /// Rising, 0 to 1.
    pub(super) quantiles: Vec<f64>,
    pub(super) window: Duration,
    pub(super) clock: SharedClock,
}

/// A clock that `Debug` passes over.
#[derive(Clone)]
pub(super) struct SharedClock(pub(super) Arc<dyn Clock>);

impl std::fmt::Debug for SharedClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// Upper bounds of buckets, laid out for being searched.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// Rising; the last is `+Inf`.
    upper: Vec<f64>,
    search: Search,
}

#[derive(Debug, Clone, PartialEq)]
enum Search {
    Steps(Steps),
    /// For bounds that are too many or too close for a table: `upper` without the last, and `+Inf` up to a multiple of
    /// [`LANES`].
    Scan(Vec<f64>),
}

/// A table over the leading bits of a number, so fine that no entry has more than one bound in it: one comparison tells
/// the bucket.
///
/// Bits of floats that are not negative rise with them. What is below the first entry, negative numbers included, is in
/// the first, and what is above the last in the last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Steps {
    /// The least number whose leading bits are those of the first entry.
    floor: f64,
    /// Bits left out.
    shift: u32,
    /// The leading bits of `floor`.
    first: u64,
    but_last: Box<[Step]>,
    last: Step,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    /// The lowest bound that is not below the entry.
    bound: f64,
    /// How many bounds are below the entry.
    below: u32,
}

/// Bounds compared at a time.
const LANES: usize = 4;
/// Up to so many bounds are all compared, which takes no branch; of more, halves are chosen first.
const SCAN_MAX: usize = 32;
/// A table takes no more than 8 KiB. Bounds of which each is at least twice the one before take an entry per power of two,
/// a hundred equal ones from 0 take 422.
const STEPS_MAX: u64 = 512;
const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS - 1;
/// More would tell nothing apart in so short a table; sign, exponent and these are 32 bits.
const KEPT_MAX: u32 = 20;

impl Steps {
    /// `None` where a table would be too long, or more than one bound is not above zero.
    fn of(upper: &[f64]) -> Option<Self> {
        let (_, finite) = upper.split_last()?;
        if finite.iter().skip(1).any(|bound| *bound <= 0.0) {
            return None;
        }
        (0..=KEPT_MAX).find_map(|kept| {
            let shift = MANTISSA_BITS - kept;
            let leading = |bound: f64| bound.to_bits() >> shift;
            // The lowest bound has the first entry for itself.
            let first = finite.get(1).map_or(Some(0), |bound| leading(*bound).checked_sub(1))?;
            let last = finite.iter().skip(1).map(|bound| leading(*bound)).next_back().unwrap_or(first);
            // Bounds are checked later than they are laid out, so they may fall.
            last.checked_sub(first).filter(|length| *length < STEPS_MAX)?;
            let floor = f64::from_bits(first << shift);
            let entry_of = |bound: f64| leading(floor.max(bound));
            finite.windows(2).all(|pair| entry_of(pair[0]) < entry_of(pair[1])).then(|| {
                let step = |entry| {
                    let below = finite.partition_point(|bound| entry_of(*bound) < entry);
                    Step { bound: upper.get(below).copied().unwrap_or(f64::INFINITY), below: below as u32 }
                };
                Self { floor, shift, first, but_last: (first..last).map(step).collect(), last: step(last) }
            })
        })
    }

    #[inline(always)]
    pub(super) fn bucket_of(&self, value: f64) -> u32 {
        // One instruction, which `max` is not: the number is never NaN.
        let raised = if value > self.floor { value } else { self.floor };
        let entry = (raised.to_bits() >> self.shift).wrapping_sub(self.first);
        let step = self.but_last.get(entry as usize).unwrap_or(&self.last);
        step.below + u32::from(step.bound < value)
    }
}

impl Bounds {
    /// `+Inf` is added if it is missing.
    pub(super) fn new(bounds: &[f64]) -> Self {
        let finite = bounds.strip_suffix(&[f64::INFINITY]).unwrap_or(bounds);
        let mut upper = finite.to_vec();
        upper.push(f64::INFINITY);
        let scan = || {
            let mut padded = finite.to_vec();
            padded.resize(finite.len().next_multiple_of(LANES), f64::INFINITY);
            Search::Scan(padded)
        };
        let search = Steps::of(&upper).map_or_else(scan, Search::Steps);
        Self { upper, search }
    }

    pub(super) fn upper(&self) -> &[f64] {
        &self.upper
    }

    /// Finds the bucket of a number, if these bounds are such that a table is short.
    #[inline(always)]
    pub(super) fn steps(&self) -> Option<&Steps> {
        match &self.search {
            Search::Steps(steps) => Some(steps),
            Search::Scan(_) => None,
        }
    }

    /// Index of the bucket of a number: how many bounds are below it.
    pub(super) fn bucket_of(&self, value: f64) -> u32 {
        match &self.search {
            Search::Steps(steps) => steps.bucket_of(value),
            Search::Scan(padded) => scan(padded, value),
        }
    }
}

/// How many of these bounds are below a number.
fn scan(padded: &[f64], value: f64) -> u32 {
    let mut from = 0;
    let mut rest = padded;
    while rest.len() > SCAN_MAX {
        let half = (rest.len() / 2).next_multiple_of(LANES);
        match rest.split_at_checked(half) {
            Some((low, high)) if low.last().is_some_and(|bound| *bound < value) => {
                from += low.len() as u32;
                rest = high;
            }
            Some((low, _)) => rest = low,
            None => break,
        }
    }
    // Padding is never below a number, `+Inf` included. Counted in floats, two lanes of which compare at once.
    let mut below = [0.0_f64; LANES];
    while let Some((bounds, others)) = rest.split_first_chunk::<LANES>() {
        for (below, bound) in below.iter_mut().zip(bounds) {
            *below += if *bound < value { 1.0 } else { 0.0 };
        }
        rest = others;
    }
    // The last bits of so large a number are those of a whole one.
    from + (below.iter().sum::<f64>() + (1_u64 << 52) as f64).to_bits() as u32
}

impl Options {
    /// Whether two descriptions say the same; the clock is the registry's.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain, Self::Plain) => true,
            (Self::Buckets(a), Self::Buckets(b)) => a == b,
            (Self::Native(a), Self::Native(b)) => a == b,
            (Self::Summary(a), Self::Summary(b)) => a.quantiles == b.quantiles && a.window == b.window,
            _ => false,
        }
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Plain => Ok(()),
            Self::Buckets(bounds) => check_bounds(bounds.upper()),
            Self::Native(native) => check_native(native),
            Self::Summary(summary) => match summary {
                _ if !summary.quantiles.iter().all(|quantile| (0.0..=1.0).contains(quantile)) => {
                    Err("a quantile is outside 0 to 1")
                }
                _ if summary.window.is_zero() => Err("the window of a summary has no length"),
                _ => Ok(()),
            },
        }
    }
}

fn check_bounds(bounds: &[f64]) -> Result<(), &'static str> {
    if bounds.iter().any(|bound| bound.is_nan()) {
        return Err("a bucket bound is not a number");
    }
    if bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("bucket bounds do not rise");
    }
    Ok(())
}

fn check_native(native: &NativeOptions) -> Result<(), &'static str> {
    if !(SCHEMA_MIN..=SCHEMA_MAX).contains(&native.schema) {
        return Err("the schema of a native histogram is outside -4 to 8");
    }
    if native.buckets_max < NATIVE_BUCKETS_MIN {
        return Err("a native histogram needs 160 buckets, as many as cover all numbers at the coarsest schema");
    }
    if !(0.0..f64::INFINITY).contains(&native.zero_threshold) {
        return Err("the zero threshold of a native histogram is negative or not finite");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_is_in_the_first_bucket_whose_bound_reaches_it(
            mut bounds in prop_oneof![
                prop::collection::vec(-1e3..1e3_f64, 0..200),
                prop::collection::vec(0.0..1e3_f64, 0..20),
                prop::collection::vec((-9..9_i32, 1..10_u8).prop_map(|(power, digit)| f64::from(digit) * 10_f64.powi(power)), 0..40),
                prop::collection::vec(any::<f64>().prop_filter("a bound", |bound| bound.is_finite()), 0..40),
            ],
            lowest in prop::option::of(prop_oneof![Just(0.0), Just(-0.0), Just(-5.0), Just(f64::MIN_POSITIVE / 4.0)]),
            values in prop::collection::vec(prop_oneof![-1.1e3..1.1e3_f64, any::<f64>(), Just(0.0), Just(-0.0)], 1..20),
        ) {
            bounds.extend(lowest);
            bounds.sort_by(f64::total_cmp);
            bounds.dedup_by(|a, b| a == b);
            let laid_out = Bounds::new(&bounds);
            // Of zero a neighbour is NaN this way, and left out.
            let beside = |bound: &f64| [bound.to_bits().wrapping_sub(1), bound.to_bits(), bound.to_bits() + 1].map(f64::from_bits);
            let ends = [f64::INFINITY, f64::NEG_INFINITY];
            let values = values.into_iter().chain(bounds.iter().flat_map(beside)).chain(ends);
            for value in values.filter(|value| !value.is_nan()) {
                let wanted = bounds.partition_point(|bound| *bound < value);
                prop_assert_eq!(laid_out.bucket_of(value) as usize, wanted, "{}", value);
            }
        }
    }

    #[test]
    fn usual_bounds_are_found_in_a_table_and_others_by_a_scan() {
        let entries = |bounds: &[f64]| match Bounds::new(bounds).search {
            Search::Steps(Steps { but_last, .. }) => Some(but_last.len() + 1),
            Search::Scan(_) => None,
        };
        let hundred: Vec<f64> = (0..=100).map(f64::from).collect();
        let doubling: Vec<f64> = (0..40).map(|power| 2_f64.powi(power)).collect();
        for (bounds, expected) in [
            (&[][..], Some(1)),
            (&[0.5], Some(1)),
            (&[-1.0, 0.5], Some(2)),
            (&DURATION_BUCKETS_DEFAULT, Some(12)),
            (&hundred, Some(422)),
            (&doubling, Some(40)),
            (&[-2.0, -1.0, 0.5], None),
            (&[1.0, 1.0 + f64::EPSILON, 2.0], None),
            (&[0.0, 1e-300, 1e300], None),
        ] {
            assert_eq!(entries(bounds), expected, "{bounds:?}");
        }
    }
}
