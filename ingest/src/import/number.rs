//! Floats as files write them: every one, by its bits.

use kymo_core::histogram::NORMAL_NAN_BITS;
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A float out of text: a number, `NaN`, `NaN(0x7ff0000000000002)` for one NaN of many, `Infinity`, `+Inf`.
pub(super) fn parse(text: &str) -> Option<f64> {
    match text {
        "NaN" | "nan" => return Some(f64::from_bits(NORMAL_NAN_BITS)),
        "Infinity" | "+Inf" | "Inf" => return Some(f64::INFINITY),
        "-Infinity" | "-Inf" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    if let Some(bits) = text.strip_prefix("NaN(0x").and_then(|rest| rest.strip_suffix(')')) {
        return u64::from_str_radix(bits, 16).ok().map(f64::from_bits).filter(|value| value.is_nan());
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// A float in JSON: a number, a text that [`parse`] reads, or null for the normal NaN.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(pub(super) f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Number, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Number;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number, null, or a text like \"Infinity\"")
            }

            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(f64::from_bits(NORMAL_NAN_BITS)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                parse(text).map(Number).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(Any)
    }
}
