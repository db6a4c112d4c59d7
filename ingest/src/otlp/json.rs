//! OTLP's JSON: protobuf's JSON mapping, but with ids in hex and enums as integers only.
//!
//! Keys are lowerCamelCase, unknown ones are skipped, `null` is a field's default. Numbers of every width may be strings.
//! Metrics are kept as text and parsed one by one, so that a bad one is refused alone; so are resources and scopes,
//! so that all of a request never stands unpacked at once.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, IgnoredAny, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// `ExportMetricsServiceRequest`, its parts not yet parsed.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct Request<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(super) resource_metrics: Vec<ResourceMetrics<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct ResourceMetrics<'a> {
    #[serde(borrow)]
    pub(super) resource: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    pub(super) scope_metrics: Vec<ScopeMetrics<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct ScopeMetrics<'a> {
    #[serde(borrow)]
    pub(super) scope: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    pub(super) metrics: Vec<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    pub(super) schema_url: String,
}

/// Makes structs read from objects alone. Left to itself serde also takes an array for the fields in their order.
macro_rules! objects {
    ($($message:ty),*) => {$(
        impl<'de> serde::Deserialize<'de> for $message {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$message, D::Error> {
                // The derived function, which `remote` makes an inherent one.
                <$message>::deserialize($crate::otlp::json::ObjectOnly(deserializer))
            }
        }
    )*};
    (borrowing $($message:ident),*) => {$(
        impl<'de: 'a, 'a> serde::Deserialize<'de> for $message<'a> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$message<'a>, D::Error> {
                $message::deserialize($crate::otlp::json::ObjectOnly(deserializer))
            }
        }
    )*};
}
pub(super) use objects;

objects!(borrowing Request, ResourceMetrics, ScopeMetrics);

/// Asks for a map where a struct is asked for.
pub(super) struct ObjectOnly<D>(pub(super) D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ObjectOnly<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// What can be told of a metric that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadMetric {
    pub(super) name: String,
    /// Elements of its data points, at least 1.
    pub(super) points: u64,
}

impl BadMetric {
    /// Counts the points without looking into them.
    pub(super) fn of(metric: &RawValue) -> BadMetric {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        #[derive(Deserialize)]
        struct Points {
            #[serde(rename = "dataPoints")]
            data_points: Vec<IgnoredAny>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default, rename_all = "camelCase")]
        struct Data {
            gauge: Option<Points>,
            sum: Option<Points>,
            histogram: Option<Points>,
            exponential_histogram: Option<Points>,
            summary: Option<Points>,
        }
        let name = serde_json::from_str::<Named>(metric.get()).map(|named| named.name).unwrap_or_default();
        let data = serde_json::from_str::<Data>(metric.get()).unwrap_or_default();
        let all = [data.gauge, data.sum, data.histogram, data.exponential_histogram, data.summary];
        let points: usize = all.iter().flatten().map(|points| points.data_points.len()).sum();
        BadMetric { name, points: (points as u64).max(1) }
    }
}

/// A field that is absent, `null`, or there.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A number, or its text in a string.
pub(super) fn number<'de, D: Deserializer<'de>, T: FromNumber>(deserializer: D) -> Result<T, D::Error> {
    Ok(number_or_none(deserializer)?.unwrap_or_default())
}

/// As [`number`], of a field that tells absence from zero.
pub(super) fn number_or_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromNumber,
{
    Ok(Option::<Number<T>>::deserialize(deserializer)?.map(|number| number.0))
}

/// An array of numbers.
pub(super) fn numbers<'de, D: Deserializer<'de>, T: FromNumber>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let all = Option::<Vec<Number<T>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(all.into_iter().map(|number| number.0).collect())
}

/// A trace or span id.
pub(super) fn hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    from_hex(&text).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &"an id in hexadecimal digits"))
}

/// Bytes; standard or URL alphabet, padded or not.
pub(super) fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    match super::base64::decode(&text) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(D::Error::invalid_value(Unexpected::Str(&text), &"base64")),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

/// A number in any of the forms that protobuf's JSON allows.
struct Number<T>(T);

impl<'de, T: FromNumber> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number<T>, D::Error> {
        deserializer.deserialize_any(NumberVisitor(PhantomData)).map(Number)
    }
}

struct NumberVisitor<T>(PhantomData<T>);

impl<T: FromNumber> Visitor<'_> for NumberVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", T::EXPECTED)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::from_integer(number.into()).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::from_integer(number.into()).ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        T::from_float(number).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A protobuf number type.
pub(super) trait FromNumber: Default {
    const EXPECTED: &'static str;
    fn from_integer(number: i128) -> Option<Self>;
    fn from_float(number: f64) -> Option<Self>;
    fn from_text(text: &str) -> Option<Self>;
}

impl FromNumber for f64 {
    const EXPECTED: &'static str = "a number";

    fn from_integer(number: i128) -> Option<f64> {
        Some(number as f64)
    }

    fn from_float(number: f64) -> Option<f64> {
        Some(number)
    }

    fn from_text(text: &str) -> Option<f64> {
        match text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            // Rust also knows words, which JSON does not.
            _ if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => text.parse().ok(),
            _ => None,
        }
    }
}

macro_rules! integer {
    ($($kind:ty => $expected:literal),*) => {$(
        impl FromNumber for $kind {
            const EXPECTED: &'static str = $expected;

            fn from_integer(number: i128) -> Option<$kind> {
                <$kind>::try_from(number).ok()
            }

            fn from_float(number: f64) -> Option<$kind> {
                // `1.0` and `1e3` are integers to protobuf; 2^53 is as far as that is exact.
                let exact = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
                if exact { <$kind>::from_integer(number as i128) } else { None }
            }

            fn from_text(text: &str) -> Option<$kind> {
                text.parse().ok()
            }
        }
    )*};
}

integer!(u64 => "a 64-bit integer from 0", i64 => "a 64-bit integer", u32 => "a 32-bit integer from 0", i32 => "a 32-bit integer");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::message::{AnyValue, Exemplar, Metric, NumberPoint, Sum};

    fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_of_64_bits_are_strings_or_numbers_and_null_is_a_default() {
        let point = |text| parse::<NumberPoint>(text).unwrap();
        for text in [
            r#"{"timeUnixNano":"1760000000000000001","asInt":"-7"}"#,
            r#"{"timeUnixNano":1760000000000000001,"asInt":-7,"flags":null,"attributes":null,"later":[{}]}"#,
            r#"{"timeUnixNano":1760000000000000001,"asInt":-7.0,"asDouble":null}"#,
        ] {
            let expected =
                NumberPoint { time_unix_nano: 1_760_000_000_000_000_001, as_int: Some(-7), ..NumberPoint::default() };
            assert_eq!(point(text), expected, "{text}");
        }
        for (text, value) in [
            (r#"{"asDouble":1}"#, 1.0),
            (r#"{"asDouble":"-1.5e3"}"#, -1500.0),
            (r#"{"asDouble":"Infinity"}"#, f64::INFINITY),
            (r#"{"asDouble":"-Infinity"}"#, f64::NEG_INFINITY),
        ] {
            assert_eq!(point(text).as_double, Some(value), "{text}");
        }
        assert!(point(r#"{"asDouble":"NaN"}"#).as_double.unwrap().is_nan());
        for bad in [
            r#"{"timeUnixNano":-1}"#,
            r#"{"timeUnixNano":"soon"}"#,
            r#"{"asInt":1.5}"#,
            r#"{"asInt":"9223372036854775808"}"#,
            r#"{"asDouble":"nan"}"#,
            r#"{"asDouble":true}"#,
            r#"{"flags":[]}"#,
        ] {
            assert!(parse::<NumberPoint>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_hex_bytes_are_base64_and_enums_are_integers() {
        let exemplar: Exemplar =
            parse(r#"{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174"}"#).unwrap();
        assert_eq!(exemplar.trace_id[..3], [0x5b, 0x8e, 0xff]);
        assert_eq!(exemplar.span_id, [0xee, 0xe1, 0x9b, 0x7e, 0xc3, 0xc1, 0xb1, 0x74]);
        assert!(parse::<Exemplar>(r#"{"traceId":"W47/95gDgQPSabYzgT/GDA=="}"#).is_err());
        assert!(parse::<Exemplar>(r#"{"spanId":"abc"}"#).is_err());
        let bytes = parse::<AnyValue>(r#"{"bytesValue":"AP8Q"}"#).unwrap().bytes_value;
        assert_eq!(bytes, Some(vec![0, 255, 16]));
        assert_eq!(parse::<Sum>(r#"{"aggregationTemporality":2}"#).unwrap().aggregation_temporality, 2);
        assert!(parse::<Sum>(r#"{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE"}"#).is_err());
    }

    #[test]
    fn an_array_is_no_message() {
        for (bad, ok) in [(r#"["m"]"#, r#"{"name":"m"}"#), (r#"{"gauge":[]}"#, r#"{"gauge":{}}"#)] {
            assert!(parse::<Metric>(bad).is_err(), "{bad}");
            assert!(parse::<Metric>(ok).is_ok(), "{ok}");
        }
        for bad in ["[]", r#"{"resourceMetrics":[[]]}"#, r#"{"resourceMetrics":[{"scopeMetrics":[[]]}]}"#] {
            assert!(parse::<Request<'_>>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn snake_case_keys_are_unknown() {
        let metric: Metric = parse(r#"{"name":"m","exponential_histogram":{}}"#).unwrap();
        assert_eq!(metric, Metric { name: "m".into(), ..Metric::default() });
    }

    #[test]
    fn the_points_of_a_bad_metric_are_counted_without_reading_them() {
        let bad = |text| BadMetric::of(serde_json::from_str(text).unwrap());
        for (text, name, points) in [
            (r#"{"name":"m","sum":{"aggregationTemporality":"X","dataPoints":[{},5,"x"]}}"#, "m", 3),
            (r#"{"name":7,"gauge":{"dataPoints":[{},{}]}}"#, "", 2),
            (r#"{"name":"m","gauge":5}"#, "m", 1),
            ("[]", "", 1),
        ] {
            assert_eq!(bad(text), BadMetric { name: name.into(), points }, "{text}");
        }
    }
}
