//! Both drivers tell the same of the same request: what a walk over protobuf says is what messages decoded by prost say,
//! for every request that prost can decode.

use proptest::prelude::*;
use prost::Message;

use super::message::{self, Metric, Request, Resource, Scope};
use super::oracle::{assert_drivers_agree, assert_expecting_changes_nothing, decoded, found_as_expected, walked};

fn attributes() -> impl Strategy<Value = Vec<message::KeyValue>> {
    let value = prop_oneof![
        Just(None),
        "[a-zé]{0,5}".prop_map(|text| Some(message::AnyValue { string_value: Some(text), ..Default::default() })),
        any::<i64>().prop_map(|n| Some(message::AnyValue { int_value: Some(n), ..Default::default() })),
        any::<bool>().prop_map(|yes| Some(message::AnyValue { bool_value: Some(yes), ..Default::default() })),
    ];
    prop::collection::vec(("[a-z.]{0,4}", value).prop_map(|(key, value)| message::KeyValue { key, value }), 0..4)
}

fn exemplars() -> impl Strategy<Value = Vec<message::Exemplar>> {
    let exemplar = (any::<u64>(), attributes()).prop_map(|(time_unix_nano, filtered_attributes)| message::Exemplar {
        time_unix_nano,
        as_double: Some(0.5),
        trace_id: vec![1; 16],
        filtered_attributes,
        ..Default::default()
    });
    prop::collection::vec(exemplar, 0..3)
}

fn number() -> impl Strategy<Value = message::NumberPoint> {
    let value = prop_oneof![
        Just((None, None)),
        (-9.0..9.0).prop_map(|v| (Some(v), None)),
        any::<i64>().prop_map(|v| (None, Some(v)))
    ];
    (any::<u64>(), any::<u64>(), value, attributes(), exemplars(), 0..3u32).prop_map(
        |(start_time_unix_nano, time_unix_nano, (as_double, as_int), attributes, exemplars, flags)| {
            message::NumberPoint {
                start_time_unix_nano,
                time_unix_nano,
                as_double,
                as_int,
                attributes,
                exemplars,
                flags,
            }
        },
    )
}

fn histogram() -> impl Strategy<Value = message::HistogramPoint> {
    let columns = (prop::collection::vec(any::<u64>(), 0..5), prop::collection::vec(-9.0..9.0, 0..5));
    (number(), any::<u64>(), columns, prop::option::of(0.0..9.0)).prop_map(
        |(number, count, (bucket_counts, explicit_bounds), sum)| message::HistogramPoint {
            start_time_unix_nano: number.start_time_unix_nano,
            time_unix_nano: number.time_unix_nano,
            count,
            sum,
            bucket_counts,
            explicit_bounds,
            exemplars: number.exemplars,
            attributes: number.attributes,
            flags: number.flags,
            min: sum,
            max: number.as_double,
        },
    )
}

fn exponential() -> impl Strategy<Value = message::ExponentialPoint> {
    let side = || {
        let counts = prop::collection::vec(any::<u64>(), 0..5);
        prop::option::of(
            (any::<i32>(), counts).prop_map(|(offset, bucket_counts)| message::Buckets { offset, bucket_counts }),
        )
    };
    (histogram(), side(), side(), any::<i32>(), 0.0..2.0).prop_map(
        |(point, positive, negative, scale, zero_threshold)| message::ExponentialPoint {
            attributes: point.attributes,
            start_time_unix_nano: point.start_time_unix_nano,
            time_unix_nano: point.time_unix_nano,
            count: point.count,
            sum: point.sum,
            scale,
            zero_count: point.count / 2,
            positive,
            negative,
            flags: point.flags,
            exemplars: point.exemplars,
            min: point.min,
            max: point.max,
            zero_threshold,
        },
    )
}

fn summary() -> impl Strategy<Value = message::SummaryPoint> {
    let quantile = (0.0..1.0, -9.0..9.0).prop_map(|(quantile, value)| message::QuantileValue { quantile, value });
    (histogram(), prop::collection::vec(quantile, 0..4)).prop_map(|(point, quantile_values)| message::SummaryPoint {
        start_time_unix_nano: point.start_time_unix_nano,
        time_unix_nano: point.time_unix_nano,
        count: point.count,
        sum: point.sum.unwrap_or_default(),
        quantile_values,
        attributes: point.attributes,
        flags: point.flags,
    })
}

fn metric() -> impl Strategy<Value = Metric> {
    use prop::collection::vec;
    let named = |(name, unit): (String, String)| Metric { name, unit, ..Default::default() };
    let data = prop_oneof![
        vec(number(), 0..4)
            .prop_map(|data_points| Metric { gauge: Some(message::Gauge { data_points }), ..Default::default() }),
        (vec(number(), 0..4), 0..4, any::<bool>()).prop_map(|(data_points, aggregation_temporality, is_monotonic)| {
            let sum = message::Sum { data_points, aggregation_temporality, is_monotonic };
            Metric { sum: Some(sum), ..Default::default() }
        }),
        (vec(histogram(), 0..3), 0..3).prop_map(|(data_points, aggregation_temporality)| Metric {
            histogram: Some(message::Histogram { data_points, aggregation_temporality }),
            ..Default::default()
        }),
        (vec(exponential(), 0..3), 0..3).prop_map(|(data_points, aggregation_temporality)| Metric {
            exponential_histogram: Some(message::ExponentialHistogram { data_points, aggregation_temporality }),
            ..Default::default()
        }),
        vec(summary(), 0..3)
            .prop_map(|data_points| Metric { summary: Some(message::Summary { data_points }), ..Default::default() }),
        Just(Metric::default()),
    ];
    (("[a-z.]{0,5}", "[a-z]{0,2}"), data).prop_map(move |(names, data)| {
        let Metric { name, unit, .. } = named(names);
        Metric { name, unit, description: "Some.".into(), ..data }
    })
}

fn request() -> impl Strategy<Value = Request> {
    use prop::collection::vec;
    let scope = ("[a-z]{0,3}", attributes(), vec(metric(), 0..3)).prop_map(|(name, attributes, metrics)| {
        let scope = Scope { name: name.clone(), attributes, ..Scope::default() };
        let metrics = metrics.iter().map(|metric| metric.encode_to_vec().into()).collect();
        message::ScopeMetrics { scope: Some(scope), metrics, schema_url: name }
    });
    let resource = (attributes(), vec(scope, 0..3)).prop_map(|(attributes, scope_metrics)| message::ResourceMetrics {
        resource: Some(Resource { attributes }),
        scope_metrics,
    });
    vec(resource, 0..3).prop_map(|resource_metrics| Request { resource_metrics })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_walk_says_what_decoded_messages_say(request in request(), cut in any::<prop::sample::Index>(), flip in any::<u8>()) {
        let whole = request.encode_to_vec();
        prop_assert_eq!(walked(&whole).unwrap(), decoded(&whole).unwrap());
        // Parts of a message that stand one behind the other are one.
        let twice = [&whole[..], &whole].concat();
        prop_assert_eq!(walked(&twice).unwrap(), decoded(&twice).unwrap());
        assert_drivers_agree(&whole);
        if !whole.is_empty() {
            let at = cut.index(whole.len());
            let mut flipped = whole.clone();
            flipped[at] ^= flip;
            assert_drivers_agree(&whole[..at]);
            assert_drivers_agree(&flipped);
            assert_expecting_changes_nothing(&flipped, &whole);
        }
    }
}

#[test]
fn fields_in_any_order_and_messages_in_parts_are_read_as_one() {
    let field = |number: u32, bytes: &[u8]| {
        let mut out = Vec::new();
        prost::encoding::bytes::encode(number, &bytes.to_vec(), &mut out);
        out
    };
    let pair = |key: &str| message::KeyValue { key: key.into(), value: None }.encode_to_vec();
    let time = |ns: u64| {
        let mut out = Vec::new();
        prost::encoding::fixed64::encode(3, &ns, &mut out);
        out
    };
    // Attributes around the time, and the sum in two parts with its temporality between them.
    let point = [field(7, &pair("a")), time(7), field(7, &pair("b"))].concat();
    let sum = [field(7, &field(1, &point)), field(7, &[0x10, 2]), field(7, &field(1, &time(9)))].concat();
    let scope =
        [field(2, &[sum, field(1, b"m")].concat()), field(1, &field(1, b"lib")), field(1, &field(2, b"1"))].concat();
    // The resource behind its metrics, in two parts.
    let resource = [field(2, &scope), field(1, &field(1, &pair("c"))), field(1, &field(1, &pair("d")))].concat();
    let body = field(1, &resource);
    let walked = walked(&body).unwrap();
    assert_eq!(walked, decoded(&body).unwrap());
    assert!(walked.iter().any(|line| line.contains("Sum { temporality: 2")), "{walked:#?}");
    assert_eq!(walked.iter().filter(|line| line.starts_with("(NumberPoint")).count(), 2, "{walked:#?}");
}

#[test]
fn a_point_is_found_by_its_expected_attributes_whatever_else_it_has() {
    let attributes = vec![message::KeyValue { key: "a".into(), value: None }; 2];
    let plain = message::NumberPoint { time_unix_nano: 7, as_double: Some(0.5), attributes, ..Default::default() };
    let exemplars = vec![message::Exemplar::default()];
    let points = [
        message::NumberPoint { start_time_unix_nano: 3, ..plain.clone() },
        message::NumberPoint { as_double: None, as_int: Some(-4), ..plain.clone() },
        message::NumberPoint { as_int: Some(-4), ..plain.clone() },
        message::NumberPoint { flags: 1, ..plain.clone() },
        message::NumberPoint { exemplars, ..plain.clone() },
        message::NumberPoint { as_double: None, ..plain.clone() },
        plain.clone(),
        // Without attributes there is nothing to find it by.
        message::NumberPoint { attributes: Vec::new(), ..plain },
    ];
    let gauge = Some(message::Gauge { data_points: points.into() });
    let metric = Metric { name: "m".into(), gauge, ..Default::default() };
    let scope_metrics =
        vec![message::ScopeMetrics { metrics: vec![metric.encode_to_vec().into()], ..Default::default() }];
    let resource_metrics = vec![message::ResourceMetrics { resource: None, scope_metrics }];
    let body = Request { resource_metrics }.encode_to_vec();
    assert_eq!(found_as_expected(&body), 7);
    assert_drivers_agree(&body);
}
