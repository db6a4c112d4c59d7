//! One suite for every state: empty is neutral, merge is concatenation, order does not matter.

use proptest::prelude::*;

use super::*;

/// What the suite drives; time is the sample's place in the input.
trait State: Clone {
    fn empty() -> Self;
    fn feed(&mut self, time_ms: i64, value: f64);
    fn join(&mut self, other: &Self);
    fn answer(&self) -> Option<f64>;
}

macro_rules! states {
    ($($name:ident: $state:ty = $empty:expr, $tolerance:expr, |$s:ident, $t:ident, $v:ident| $feed:expr;)*) => {$(
        impl State for $state {
            fn empty() -> Self { $empty }
            fn feed(&mut self, $t: i64, $v: f64) { let $s = self; let _ = $t; $feed; }
            fn join(&mut self, other: &Self) { self.merge(other); }
            fn answer(&self) -> Option<f64> { self.finish() }
        }

        mod $name {
            use super::*;

            proptest! {
                #[test]
                fn keeps_its_promises(samples in samples(), cuts in prop::collection::vec(0_usize..60, 0..4), seed: u64) {
                    check::<$state>(&samples, &cuts, seed, $tolerance)?;
                }
            }
        }
    )*};
}

states! {
    sum: Sum = Sum::default(), 1e-12, |s, t, v| s.update(v);
    avg: Avg = Avg::default(), 1e-12, |s, t, v| s.update(v);
    count: Count = Count::default(), 0.0, |s, t, v| s.update(v);
    group: Group = Group::default(), 0.0, |s, t, v| s.update(v);
    min: Min = Min::default(), 0.0, |s, t, v| s.update(v);
    max: Max = Max::default(), 0.0, |s, t, v| s.update(v);
    stdvar: StdVar = StdVar::default(), 1e-12, |s, t, v| s.update(v);
    stddev: StdDev = StdDev::default(), 1e-12, |s, t, v| s.update(v);
    median: Quantile = Quantile::new(0.5), 0.0, |s, t, v| s.update(v);
    first: First = First::default(), 0.0, |s, t, v| s.update(t, v);
    last: Last = Last::default(), 0.0, |s, t, v| s.update(t, v);
}

/// Values of one size, values of very different sizes, and some that are no numbers.
fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let value = prop_oneof![
        8 => -1e3..1e3_f64,
        3 => prop::num::f64::NORMAL.prop_map(|v| v.clamp(-1e15, 1e15)),
        1 => Just(0.0),
    ];
    let finite = prop::collection::vec(value, 0..60);
    let odd = prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)];
    (finite, prop::option::weighted(0.1, (odd, 0_usize..60))).prop_map(|(mut values, odd)| {
        if let Some((value, at)) = odd {
            values.insert(at.min(values.len()), value);
        }
        (0..).zip(values).collect()
    })
}

fn fed<S: State>(samples: &[(i64, f64)]) -> S {
    let mut state = S::empty();
    samples.iter().for_each(|&(time_ms, value)| state.feed(time_ms, value));
    state
}

fn check<S: State>(samples: &[(i64, f64)], cuts: &[usize], seed: u64, tolerance: f64) -> Result<(), TestCaseError> {
    let whole: S = fed(samples);
    prop_assert_eq!(whole.answer().is_none(), samples.is_empty());

    let mut neutral = whole.clone();
    neutral.join(&S::empty());
    prop_assert!(same(neutral.answer(), whole.answer()));
    let mut from_empty = S::empty();
    from_empty.join(&whole);
    prop_assert!(same(from_empty.answer(), whole.answer()));

    // The size of the data, so that cancelled sums are judged by what went into them.
    let scale = samples.iter().map(|(_, v)| v.abs()).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let slack = tolerance * scale * f64::EPSILON * samples.len() as f64;
    let close = |found: Option<f64>| match (found, whole.answer()) {
        (Some(a), Some(b)) if a.is_finite() && b.is_finite() => {
            (a - b).abs() <= tolerance * a.abs().max(b.abs()) + slack
        }
        (a, b) => same(a, b),
    };

    let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(samples.len())).collect();
    cuts.sort_unstable();
    cuts.push(samples.len());
    let (mut merged, mut start) = (S::empty(), 0);
    for cut in cuts {
        merged.join(&fed(&samples[start..cut]));
        start = cut;
    }
    prop_assert!(close(merged.answer()), "merged {:?}, whole {:?}", merged.answer(), whole.answer());

    let mut shuffled = samples.to_vec();
    shuffled.sort_by_key(|&(time_ms, _)| (time_ms as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let shuffled = fed::<S>(&shuffled).answer();
    prop_assert!(close(shuffled), "shuffled {:?}, whole {:?}", shuffled, whole.answer());
    Ok(())
}

/// Equal as numbers, or both not a number, or both nothing.
fn same(a: Option<f64>, b: Option<f64>) -> bool {
    a == b || matches!((a, b), (Some(a), Some(b)) if a.is_nan() && b.is_nan())
}

#[test]
fn small_terms_survive_large_ones() {
    let sum: Sum = fed(&[(0, 1.0), (1, 1e100), (2, 1.0), (3, -1e100)]);
    assert_eq!(sum.finish(), Some(2.0));
}

#[test]
fn infinite_sums_stay_infinite() {
    let sum: Sum = fed(&[(0, 1.0), (1, f64::INFINITY), (2, 1e300)]);
    assert_eq!(sum.finish(), Some(f64::INFINITY));
    let opposed: Sum = fed(&[(0, f64::INFINITY), (1, f64::NEG_INFINITY)]);
    assert!(opposed.finish().unwrap().is_nan());
}
