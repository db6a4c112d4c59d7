//! Laws and tables of the model.

use super::*;

fn sample() -> NativeHistogram {
    NativeHistogram {
        schema: 1,
        hint: ResetHint::Unknown,
        zero_threshold: 0.001,
        counts: HistogramCounts::Integer(BucketCounts { zero: 1, count: 6, positive: vec![2, 3], negative: vec![] }),
        sum: 12.5,
        positive_spans: vec![BucketSpan { offset: -2, len: 1 }, BucketSpan { offset: 3, len: 1 }],
        negative_spans: vec![],
        custom_values: Arc::from([]),
    }
}

#[test]
fn a_sound_histogram_is_accepted_and_each_fault_is_named() {
    assert_eq!(sample().validate(), Ok(()));
    let mut bad = sample();
    bad.schema = 9;
    assert_eq!(bad.validate(), Err(HistogramError::Schema { schema: 9 }));
    let mut bad = sample();
    bad.positive_spans[1].offset = -1;
    assert_eq!(bad.validate(), Err(HistogramError::SpanOffset));
    let mut bad = sample();
    bad.positive_spans.pop();
    assert_eq!(bad.validate(), Err(HistogramError::SpanLength { spans: 1, counts: 2 }));
    let mut bad = sample();
    bad.counts = HistogramCounts::Float(BucketCounts { positive: vec![-1.0, 0.0], ..Default::default() });
    assert_eq!(bad.validate(), Err(HistogramError::NegativeCount));
    let mut bad = sample();
    if let HistogramCounts::Integer(c) = &mut bad.counts {
        c.count = 5;
    }
    assert_eq!(bad.validate(), Err(HistogramError::CountMismatch));
}

#[test]
fn identity_is_by_bits() {
    let (mut a, mut b) = (sample(), sample());
    assert!(a.same_bits(&b));
    (a.sum, b.sum) = (f64::NAN, stale_nan());
    assert!(!a.same_bits(&b));
    assert!(b.is_stale() && !a.is_stale());
    (a.sum, b.sum) = (0.0, -0.0);
    assert!(!a.same_bits(&b));
}

/// A histogram of one side, float counts, in the words of the test notation.
fn positive(schema: i8, first: i32, counts: &[f64]) -> NativeHistogram {
    NativeHistogram {
        schema,
        hint: ResetHint::Unknown,
        zero_threshold: 0.0,
        counts: HistogramCounts::Float(BucketCounts {
            zero: 0.0,
            count: counts.iter().sum(),
            positive: counts.to_vec(),
            negative: vec![],
        }),
        sum: 0.0,
        positive_spans: vec![BucketSpan { offset: first, len: counts.len() as u32 }],
        negative_spans: vec![],
        custom_values: Arc::from([]),
    }
}

fn custom(bounds: &[f64], counts: &[f64]) -> NativeHistogram {
    NativeHistogram { custom_values: bounds.into(), ..positive(CUSTOM_BUCKETS_SCHEMA, 0, counts) }
}

fn floats(h: &mut NativeHistogram) -> &mut BucketCounts<f64> {
    h.float_counts()
}

/// 34 observations on both sides of zero.
fn two_sided() -> NativeHistogram {
    let mut h = positive(0, 0, &[2.0, 4.0, 8.0, 16.0]);
    h.zero_threshold = 0.001;
    h.sum = 123.75;
    h.negative_spans = vec![BucketSpan { offset: 0, len: 2 }];
    floats(&mut h).negative = vec![1.0, 2.0];
    floats(&mut h).zero = 1.0;
    floats(&mut h).count = 34.0;
    h
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

/// Buckets as (side, number, count), without the empty ones.
fn populated(h: &NativeHistogram) -> Vec<(bool, i32, f64)> {
    let negative = h.negative_buckets().map(|b| (false, b.index, b.count));
    let positive = h.positive_buckets().map(|b| (true, b.index, b.count));
    negative.chain(positive).filter(|(_, _, count)| *count != 0.0).collect()
}

fn assert_same_data(a: &NativeHistogram, b: &NativeHistogram) {
    let shown = || format!("{}\n{}", TestNotation(a), TestNotation(b));
    assert_eq!((a.schema, a.zero_threshold), (b.schema, b.zero_threshold), "{}", shown());
    assert_eq!(a.custom_values, b.custom_values, "{}", shown());
    assert!(close(a.count(), b.count()) && close(a.counts.zero(), b.counts.zero()), "{}", shown());
    assert!(close(a.sum, b.sum), "{}", shown());
    let (ours, theirs) = (populated(a), populated(b));
    assert_eq!(ours.len(), theirs.len(), "{}", shown());
    for (x, y) in ours.iter().zip(&theirs) {
        assert!(x.0 == y.0 && x.1 == y.1 && close(x.2, y.2), "{}", shown());
    }
}

#[test]
fn a_zero_bucket_grows_past_the_populated_bucket_it_would_cut() {
    let mut narrow = positive(0, 0, &[4.0, 5.0, 6.0]); // (0.5,1] (1,2] (2,4]
    let mut wide = positive(0, 3, &[7.0]);
    wide.zero_threshold = 1.5; // inside (1,2]
    floats(&mut wide).zero = 10.0;
    floats(&mut wide).count = 17.0;
    let notes = narrow.add(&wide).unwrap();
    assert_eq!(notes, MergeNotes::default());
    narrow.compact(0);
    assert_eq!(TestNotation(&narrow).to_string(), "{{count:32 z_bucket:19 z_bucket_w:2 offset:2 buckets:[6 7]}}");
}

#[test]
fn an_empty_bucket_does_not_hold_a_zero_bucket_up() {
    let mut narrow = positive(0, 0, &[4.0, 0.0, 6.0]);
    let mut wide = positive(0, 3, &[7.0]);
    wide.zero_threshold = 1.5;
    narrow.add(&wide).unwrap();
    assert_eq!(narrow.zero_threshold, 1.5);
    assert_eq!(narrow.counts.zero(), 4.0);
}

#[test]
fn the_coarser_schema_wins_from_either_side() {
    let fine = positive(1, 1, &[1.0, 2.0, 3.0, 4.0]);
    let coarse = positive(0, 1, &[10.0]);
    for (mut a, b) in [(fine.clone(), coarse.clone()), (coarse, fine)] {
        a.add(&b).unwrap();
        assert_eq!((a.schema, populated(&a)), (0, vec![(true, 1, 13.0), (true, 2, 7.0)]));
    }
}

#[test]
fn custom_bounds_are_reduced_to_those_of_both() {
    let mut a = custom(&[1.0, 2.0, 5.0, 10.0], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    let b = custom(&[2.0, 3.0, 10.0], &[10.0, 20.0, 30.0, 40.0]);
    let notes = a.add(&b).unwrap();
    assert!(notes.bounds_reconciled);
    assert_eq!(&*a.custom_values, &[2.0, 10.0]);
    assert_eq!(populated(&a), [(true, 0, 13.0), (true, 1, 57.0), (true, 2, 45.0)]);
    let mut same = b.clone();
    assert!(!same.add(&b).unwrap().bounds_reconciled);
    let mut apart = custom(&[1.0], &[1.0, 2.0]);
    apart.add(&custom(&[7.0], &[3.0, 4.0])).unwrap();
    assert!(apart.custom_values.is_empty());
    assert_eq!(populated(&apart), [(true, 0, 10.0)]);
}

#[test]
fn custom_and_exponential_buckets_do_not_mix_and_nothing_changes() {
    let mut a = custom(&[1.0], &[1.0, 2.0]);
    let before = a.clone();
    assert_eq!(a.add(&positive(0, 0, &[1.0])), Err(MixedBuckets));
    assert!(a.same_bits(&before));
    assert_eq!(positive(0, 0, &[1.0]).subtract(&before), Err(MixedBuckets));
}

#[test]
fn hints_merge_as_the_table_says() {
    use ResetHint::{Gauge, NotReset, Reset, Unknown};
    let rows = [
        (Unknown, Unknown, Unknown, false),
        (Unknown, Reset, Unknown, false),
        (NotReset, Unknown, Unknown, false),
        (Reset, Reset, Reset, false),
        (NotReset, NotReset, NotReset, false),
        (Gauge, Reset, Gauge, false),
        (Unknown, Gauge, Gauge, false),
        (Reset, NotReset, Unknown, true),
        (NotReset, Reset, Unknown, true),
    ];
    for (ours, theirs, merged, collision) in rows {
        let (mut a, mut b) = (positive(0, 0, &[1.0]), positive(0, 0, &[1.0]));
        (a.hint, b.hint) = (ours, theirs);
        let notes = a.add(&b).unwrap();
        assert_eq!((a.hint, notes.reset_collision), (merged, collision), "{ours:?} + {theirs:?}");
    }
}

#[test]
fn multiples_make_gauges_when_negative_and_division_by_zero_clears_buckets() {
    let mut h = two_sided();
    h.multiply(-2.0);
    assert_eq!((h.count(), h.sum, h.hint), (-68.0, -247.5, ResetHint::Gauge));
    assert_eq!(populated(&h)[0], (false, 0, -2.0));
    let mut h = two_sided();
    h.divide(0.0);
    assert!(h.count().is_infinite() && h.sum.is_infinite() && h.counts.zero().is_infinite());
    assert!(populated(&h).is_empty() && h.positive_spans.is_empty());
}

#[test]
fn compaction_fills_small_gaps_and_drops_empty_edges() {
    let mut h = positive(0, -2, &[0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0]);
    let before = populated(&h);
    h.compact(0);
    assert_eq!(h.positive_spans.len(), 3);
    assert_eq!(h.positive_spans[0], BucketSpan { offset: -1, len: 1 });
    h.compact(1);
    assert_eq!(h.positive_spans, [BucketSpan { offset: -1, len: 3 }, BucketSpan { offset: 3, len: 1 }]);
    h.compact(usize::MAX);
    assert_eq!(h.positive_spans, [BucketSpan { offset: -1, len: 7 }]);
    assert_eq!(populated(&h), before);
}

#[test]
fn equality_is_of_data_not_of_form() {
    let mut integer = sample();
    let mut float = integer.to_float();
    assert!(integer.equals(&float) && float.equals(&integer));
    float.hint = ResetHint::Gauge;
    float.positive_spans.insert(1, BucketSpan { offset: 1, len: 0 });
    float.positive_spans[2].offset -= 1;
    assert!(integer.equals(&float));
    float.sum = -12.5;
    assert!(!integer.equals(&float));
    integer.compact(3);
    assert!(!integer.equals(&sample()), "an empty bucket more is another layout");
}

#[test]
fn buckets_come_in_order_and_are_cut_at_the_zero_bucket() {
    let mut h = two_sided();
    h.zero_threshold = 0.6; // inside the first bucket of each side
    let forward: Vec<Bucket> = h.all_buckets().collect();
    let bounds: Vec<_> = forward.iter().map(|b| (b.lower, b.upper)).collect();
    assert_eq!(bounds, [(-2.0, -1.0), (-1.0, -0.6), (-0.6, 0.6), (0.6, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 8.0)]);
    let mut backward: Vec<Bucket> = h.all_buckets().rev().collect();
    backward.reverse();
    assert_eq!(forward, backward);
}

#[test]
fn text_is_that_of_prometheus() {
    let h = two_sided();
    assert_eq!(
        h.to_string(),
        "{count:34, sum:123.75, [-2,-1):2, [-1,-0.5):1, [-0.001,0.001]:1, (0.5,1]:2, (1,2]:4, (2,4]:8, (4,8]:16}"
    );
    assert_eq!(
        TestNotation(&h).to_string(),
        "{{count:34 sum:123.75 z_bucket:1 z_bucket_w:0.001 buckets:[2 4 8 16] n_buckets:[1 2]}}"
    );
    let mut h = custom(&[5.0, 10.0], &[1.0, 0.0, 4.0]);
    h.hint = ResetHint::NotReset;
    assert_eq!(h.to_string(), "{count:5, sum:0, [-Inf,5]:1, (10,+Inf]:4}");
    assert_eq!(
        TestNotation(&h).to_string(),
        "{{schema:-53 count:5 custom_values:[5 10] counter_reset_hint:not_reset buckets:[1 0 4]}}"
    );
    assert_eq!(TestNotation(&positive(0, 0, &[])).to_string(), "{{}}");
}

#[test]
fn quantiles_interpolate_by_the_kind_of_bucket() {
    let mut zero_only = positive(0, 1, &[0.0]);
    zero_only.zero_threshold = 2.0;
    floats(&mut zero_only).zero = 10.0;
    floats(&mut zero_only).count = 10.0;
    let mut nan = positive(0, 1, &[4.0]);
    nan.sum = f64::NAN;
    floats(&mut nan).count = 5.0;
    let rows = [
        (positive(0, 1, &[4.0]), 0.5, 2f64.sqrt(), NanEffect::None),
        (positive(0, 1, &[4.0]), 1.0, 2.0, NanEffect::None),
        (positive(0, 1, &[4.0]), -0.1, f64::NEG_INFINITY, NanEffect::None),
        (positive(0, 1, &[4.0]), 1.1, f64::INFINITY, NanEffect::None),
        (positive(0, 1, &[4.0]), f64::NAN, f64::NAN, NanEffect::None),
        (positive(0, 1, &[]), 0.5, f64::NAN, NanEffect::None),
        (custom(&[5.0, 10.0], &[2.0, 2.0, 0.0]), 0.75, 7.5, NanEffect::None),
        (custom(&[5.0, 10.0], &[2.0, 2.0, 4.0]), 0.9, 10.0, NanEffect::None),
        (custom(&[-5.0, 10.0], &[2.0, 2.0, 0.0]), 0.1, -5.0, NanEffect::None),
        (custom(&[5.0], &[2.0, 0.0]), 0.5, 2.5, NanEffect::None),
        (zero_only, 0.25, 0.5, NanEffect::None),
        (nan.clone(), 0.4, 2f64.sqrt(), NanEffect::Skewed),
        (nan, 0.9, f64::NAN, NanEffect::Result),
    ];
    for (h, q, value, effect) in rows {
        let (found, seen) = h.quantile(q);
        assert!(close(found, value) && seen == effect, "{q} of {}: {found} {seen:?}", TestNotation(&h));
    }
    let mirrored = {
        let mut h = positive(0, 1, &[]);
        h.negative_spans = vec![BucketSpan { offset: 1, len: 1 }];
        floats(&mut h).negative = vec![4.0];
        floats(&mut h).count = 4.0;
        h
    };
    assert!(close(mirrored.quantile(0.25).0, -(2f64.powf(0.75))));
}

#[test]
fn fractions_leave_observations_of_nan_out() {
    let h = positive(0, 1, &[4.0, 4.0]);
    assert_eq!(h.fraction(1.0, 2.0), (0.5, NanEffect::None));
    assert!(close(h.fraction(2f64.sqrt(), 4.0).0, 0.75));
    assert_eq!(h.fraction(3.0, 2.0), (0.0, NanEffect::None));
    assert!(h.fraction(f64::NAN, 2.0).0.is_nan() && positive(0, 0, &[]).fraction(0.0, 1.0).0.is_nan());
    let mut nan = h.clone();
    nan.sum = f64::NAN;
    floats(&mut nan).count = 10.0;
    assert_eq!(nan.fraction(f64::NEG_INFINITY, f64::INFINITY), (0.8, NanEffect::Excluded));
    assert_eq!(custom(&[5.0, 10.0], &[2.0, 2.0, 4.0]).fraction(2.5, 7.5).0, 0.25);
}

#[test]
fn spread_is_taken_around_the_mean_of_the_sum() {
    let mut h = positive(0, 1, &[1.0, 1.0]); // middles √2 and √8
    h.sum = 2f64.sqrt() + 8f64.sqrt();
    assert!(close(h.mean(), 1.5 * 2f64.sqrt()));
    assert!(close(h.standard_deviation(), 2f64.sqrt() / 2.0));
    assert!(positive(0, 0, &[]).variance().is_nan());
}

#[test]
fn trimming_keeps_what_lies_on_one_side() {
    let h = two_sided();
    let all = h.trimmed(f64::INFINITY, Keep::Below);
    assert!(all.equals(&h), "nothing to cut leaves count and sum alone");
    for (at, keep) in [(f64::NEG_INFINITY, Keep::Below), (f64::INFINITY, Keep::Above)] {
        let none = h.trimmed(at, keep);
        assert_eq!(TestNotation(&none).to_string(), "{{z_bucket_w:0.001}}");
    }
    let above = h.trimmed(0.0, Keep::Above);
    assert_eq!((above.count(), above.counts.zero()), (30.5, 0.5));
    let middles = 2.0 * 0.5f64.sqrt() + 4.0 * 2f64.sqrt() + 8.0 * 8f64.sqrt() + 16.0 * 32f64.sqrt();
    assert!(close(above.sum, middles + 0.5 * 0.0005));
    let cut = positive(0, 1, &[4.0]).trimmed(2f64.sqrt(), Keep::Below);
    assert!(close(cut.count(), 2.0) && close(cut.sum, 2.0 * 2f64.powf(0.25)));
    let bounds = custom(&[5.0, 10.0], &[2.0, 2.0, 4.0]);
    let below = bounds.trimmed(7.5, Keep::Below);
    assert_eq!((below.count(), below.sum), (3.0, 2.0 * 2.5 + 6.25));
    let above = bounds.trimmed(20.0, Keep::Above);
    assert_eq!((above.count(), above.sum), (4.0, 80.0), "the last bucket is kept whole");
    assert_eq!(bounds.trimmed(20.0, Keep::Below).count(), 4.0, "and goes whole");
}

#[test]
fn classic_series_become_custom_buckets() {
    let mut classic = ClassicHistogram::default();
    for (le, count) in [(10.0, 7.0), (1.0, 2.0), (f64::INFINITY, 7.0), (5.0, 2.0), (1.0, 9.0)] {
        classic.set_bucket(le, count).unwrap();
    }
    classic.set_sum(31.5);
    let mut h = classic.clone().convert().unwrap();
    assert!(h.validate().is_ok() && matches!(h.counts, HistogramCounts::Integer(_)));
    assert_eq!(TestNotation(&h).to_string(), "{{schema:-53 count:7 sum:31.5 custom_values:[1 5 10] buckets:[2 0 5]}}");
    classic.set_count(7.5).unwrap();
    assert_eq!(
        classic.clone().convert().unwrap_err(),
        ClassicError::CountMismatch { count: 7.5, le: f64::INFINITY, last: 7.0 }
    );
    let mut open = ClassicHistogram::default();
    open.set_bucket(1.0, 0.5).unwrap();
    open.set_count(2.0).unwrap();
    h = open.convert().unwrap();
    assert_eq!(TestNotation(&h).to_string(), "{{schema:-53 count:2 custom_values:[1] buckets:[0.5 1.5]}}");
    let mut broken = ClassicHistogram::default();
    broken.set_bucket(1.0, 3.0).unwrap();
    assert_eq!(broken.set_bucket(2.0, 1.0), Err(ClassicError::NotCumulative { le: 2.0, count: 1.0, below: 3.0 }));
    assert_eq!(broken.set_bucket(0.5, 4.0), Err(ClassicError::NotCumulative { le: 1.0, count: 3.0, below: 4.0 }));
    assert_eq!(broken.set_bucket(f64::NAN, 1.0), Err(ClassicError::NanBound));
    assert_eq!(broken.set_count(-1.0), Err(ClassicError::NegativeCount { count: -1.0 }));
    assert_eq!(ClassicHistogram::default().convert().unwrap_err(), ClassicError::MissingCount);
    assert_eq!(ClassicPart::of_name("a_bucket"), Some((ClassicPart::Bucket, "a")));
    assert_eq!(ClassicPart::of_name("a_total"), None);
}

#[test]
fn a_reset_is_seen_where_only_a_reset_explains_the_change() {
    let before = two_sided();
    let mut hinted = before.clone();
    hinted.hint = ResetHint::Reset;
    assert!(hinted.detect_reset(&before));
    let mut lower = before.clone();
    floats(&mut lower).positive[1] = 3.0;
    floats(&mut lower).count = 40.0;
    assert!(lower.detect_reset(&before));
    lower.hint = ResetHint::NotReset;
    assert!(!lower.detect_reset(&before));
    let mut narrower = before.clone();
    narrower.zero_threshold = 0.0001;
    assert!(narrower.detect_reset(&before));
    let mut cutting = before.clone();
    cutting.zero_threshold = 1.5;
    floats(&mut cutting).zero = 30.0;
    assert!(cutting.detect_reset(&before), "the zero bucket ends inside a populated one");
    let mut wider = before.clone();
    wider.zero_threshold = 1.0;
    floats(&mut wider).zero = 4.0;
    wider.compact(0);
    assert!(!wider.detect_reset(&before));
    assert!(custom(&[1.0], &[40.0]).detect_reset(&before) && before.detect_reset(&custom(&[1.0], &[4.0])));
    let (a, b) = (custom(&[1.0, 2.0, 3.0], &[1.0, 1.0, 1.0, 1.0]), custom(&[2.0, 4.0], &[2.0, 1.0, 1.0]));
    assert!(!b.detect_reset(&a));
    assert!(custom(&[2.0, 4.0], &[1.0, 3.0, 3.0]).detect_reset(&a), "fewer up to 2, which both know");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Valid integer histograms; no bucket lies wholly inside the zero bucket.
    fn histograms(schemas: std::ops::RangeInclusive<i8>) -> impl Strategy<Value = NativeHistogram> {
        let side = || prop::collection::btree_map(-7i32..8, 0u64..50, 0..8);
        let threshold = prop::sample::select(vec![0.0, 0.001, 0.5, 0.9, 1.0, 3.0]);
        (schemas, threshold, 0u64..20, side(), side(), -1e3..1e3).prop_map(
            |(schema, zero_threshold, zero, positive, negative, sum)| {
                let outside = |side: std::collections::BTreeMap<i32, u64>| {
                    layout::from_entries(
                        side.into_iter().filter(|(index, _)| exponential_bound(*index, schema) > zero_threshold),
                    )
                };
                let ((positive_spans, positive), (negative_spans, negative)) = (outside(positive), outside(negative));
                let count = zero + positive.iter().sum::<u64>() + negative.iter().sum::<u64>();
                NativeHistogram {
                    schema,
                    hint: ResetHint::Unknown,
                    zero_threshold,
                    counts: HistogramCounts::Integer(BucketCounts { zero, count, positive, negative }),
                    sum,
                    positive_spans,
                    negative_spans,
                    custom_values: Arc::from([]),
                }
            },
        )
    }

    fn customs() -> impl Strategy<Value = NativeHistogram> {
        prop::collection::btree_map(0u8..12, 0u32..50, 1..8).prop_map(|buckets| {
            let bounds: Vec<f64> = buckets.keys().map(|&n| f64::from(n)).collect();
            let counts: Vec<f64> = buckets.values().map(|&n| f64::from(n)).chain([3.0]).collect();
            custom(&bounds, &counts)
        })
    }

    fn sum_of(a: &NativeHistogram, b: &NativeHistogram) -> NativeHistogram {
        let mut sum = a.clone();
        sum.add(b).unwrap();
        sum
    }

    proptest! {
        #[test]
        fn generated_histograms_are_valid(h in histograms(-4..=8)) {
            prop_assert_eq!(h.validate(), Ok(()));
            let in_buckets: f64 = h.all_buckets().map(|b| b.count).sum();
            prop_assert_eq!(in_buckets, h.count());
        }

        #[test]
        fn addition_commutes(a in histograms(-4..=8), b in histograms(-4..=8)) {
            assert_same_data(&sum_of(&a, &b), &sum_of(&b, &a));
        }

        #[test]
        fn addition_of_custom_buckets_commutes(a in customs(), b in customs()) {
            assert_same_data(&sum_of(&a, &b), &sum_of(&b, &a));
        }

        #[test]
        fn nothing_is_lost_in_an_addition(a in histograms(-4..=8), b in histograms(-4..=8)) {
            let sum = sum_of(&a, &b);
            prop_assert_eq!(sum.count(), a.count() + b.count());
            let in_buckets: f64 = sum.all_buckets().map(|b| b.count).sum();
            prop_assert_eq!(in_buckets, sum.count());
        }

        #[test]
        fn subtraction_undoes_addition(a in histograms(2..=2), b in histograms(2..=2)) {
            let mut b = b;
            b.zero_threshold = a.zero_threshold;
            let outside = above_threshold(&b);
            let mut back = sum_of(&a, &outside);
            back.subtract(&outside).unwrap();
            // Sums of observations are no integers.
            back.sum = a.sum;
            assert_same_data(&back, &a);
        }

        #[test]
        fn any_order_gives_the_same_sum(mut terms in prop::collection::vec(histograms(1..=1), 1..6)) {
            // One layout rule for all: where zero buckets and schemas differ, what must be given up depends
            // on the order, here as in Prometheus.
            for term in &mut terms {
                term.zero_threshold = 0.0;
            }
            let total = |terms: &mut dyn Iterator<Item = &NativeHistogram>| {
                let mut sum = HistogramSum::new(terms.next().unwrap());
                for term in terms {
                    sum.add(term).unwrap();
                }
                sum.value()
            };
            assert_same_data(&total(&mut terms.iter()), &total(&mut terms.iter().rev()));
        }

        #[test]
        fn a_coarser_histogram_has_its_quantiles_in_the_bucket_of_the_fine_ones(
            h in histograms(2..=5), down in 1i8..4, q in 0.0..=1.0f64
        ) {
            prop_assume!(h.count() > 0.0);
            // An exact zero bucket, so that no bucket is cut by it.
            let mut h = h;
            h.zero_threshold = 0.0;
            let coarse = h.at_schema(h.schema - down).unwrap();
            prop_assert_eq!(coarse.validate(), Ok(()));
            let (fine, rough) = (h.quantile(q).0, coarse.quantile(q).0);
            let slack = 1e-9 * fine.abs();
            let together = coarse.all_buckets().any(|b| {
                let holds = |v: f64| b.lower - slack <= v && v <= b.upper + slack;
                holds(fine) && holds(rough)
            });
            prop_assert!(together, "{fine} and {rough} in {}", coarse);
        }

        #[test]
        fn a_fraction_is_the_inverse_of_a_quantile(h in histograms(0..=3), q in 0.01..0.99f64) {
            prop_assume!(h.count() > 0.0);
            let at = h.quantile(q).0;
            // At zero the buckets around it have no width to tell ranks apart.
            prop_assume!(at != 0.0 && at.abs() != h.zero_threshold);
            let back = h.fraction(f64::NEG_INFINITY, at).0;
            let (mut least, mut most) = (0.0, 0.0);
            for bucket in h.all_buckets() {
                if bucket.upper < at * (1.0 - 1e-9 * at.signum()) { least += bucket.count; }
                if bucket.lower < at * (1.0 + 1e-9 * at.signum()) { most += bucket.count; }
            }
            let all = h.count();
            prop_assert!(least / all - 1e-9 <= back && back <= most / all + 1e-9, "{back} of {at} in {h}");
        }

        #[test]
        fn growth_is_no_reset_and_loss_is_one(a in histograms(-2..=4), b in histograms(-2..=4)) {
            prop_assert!(!a.detect_reset(&a));
            let grown = sum_of(&a, &b);
            // A wider zero bucket in a coarser schema may cut a bucket that is coarse only now: a reset, as in
            // Prometheus.
            if grown.zero_threshold == a.zero_threshold || grown.schema == a.schema {
                prop_assert!(!grown.detect_reset(&a), "{} after {}", TestNotation(&grown), TestNotation(&a));
            }
            if b.count() > 0.0 {
                prop_assert!(a.detect_reset(&grown));
            }
            if a.schema > -4 {
                let coarse = a.at_schema(a.schema - 1).unwrap();
                prop_assert!(!coarse.detect_reset(&a) && a.detect_reset(&coarse));
            }
        }

        #[test]
        fn what_is_kept_below_and_above_is_the_whole(mut h in histograms(0..=3), at in -9.0..9.0f64) {
            h.zero_threshold = 0.0;
            let (below, above) = (h.trimmed(at, Keep::Below), h.trimmed(at, Keep::Above));
            prop_assert!((below.count() + above.count() - h.count()).abs() <= 1e-9 * h.count());
            let beyond = |b: &Bucket, outside: bool| outside && b.count != 0.0;
            prop_assert!(!below.all_buckets().any(|b| beyond(&b, b.lower >= at)), "{below}");
            prop_assert!(!above.all_buckets().any(|b| beyond(&b, b.upper <= at)), "{above}");
        }

        #[test]
        fn trimming_and_fractions_agree(mut h in histograms(0..=3), at in -9.0..9.0f64) {
            prop_assume!(h.count() > 0.0);
            h.zero_threshold = 0.0;
            let (below, _) = h.fraction(f64::NEG_INFINITY, at);
            prop_assert!((h.trimmed(at, Keep::Below).count() / h.count() - below).abs() <= 1e-9);
        }

        #[test]
        fn compaction_changes_no_data(h in histograms(-4..=8), empty_max in 0usize..6) {
            let mut compact = h.clone();
            compact.compact(empty_max);
            prop_assert_eq!(compact.validate(), Ok(()));
            assert_same_data(&compact, &h);
        }

        #[test]
        fn broken_spans_never_panic(
            offsets in prop::collection::vec((any::<i32>(), 0u32..5), 0..4), counts in prop::collection::vec(any::<f64>(), 0..8)
        ) {
            let mut h = positive(0, 0, &counts);
            h.positive_spans = offsets.into_iter().map(|(offset, len)| BucketSpan { offset, len }).collect();
            let _ = (h.quantile(0.3), h.fraction(-1.0, 1.0), h.variance(), h.to_string(), h.detect_reset(&two_sided()));
            let _ = (h.trimmed(1.0, Keep::Below), h.at_schema(-2).unwrap(), h.all_buckets().rev().count());
        }
    }

    fn above_threshold(h: &NativeHistogram) -> NativeHistogram {
        let mut outside = h.clone();
        let keep = |spans: &[BucketSpan], counts: &[u64]| {
            layout::from_entries(
                layout::entries(spans, counts)
                    .filter(|(index, _)| exponential_bound(*index, h.schema) > h.zero_threshold),
            )
        };
        if let HistogramCounts::Integer(c) = &mut outside.counts {
            (outside.positive_spans, c.positive) = keep(&h.positive_spans, &c.positive);
            (outside.negative_spans, c.negative) = keep(&h.negative_spans, &c.negative);
            c.count = c.zero + c.positive.iter().sum::<u64>() + c.negative.iter().sum::<u64>();
        }
        outside
    }
}
