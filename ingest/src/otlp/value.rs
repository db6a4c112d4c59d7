//! Attribute values as label values.

use std::collections::BTreeMap;

use kymo_core::text::write_float_plain;

use super::base64;
use super::message::AnyValue;

/// Doubles print without an exponent between these powers of ten, as in JavaScript and Go's JSON.
const PLAIN: std::ops::Range<f64> = 1e-6..1e21;

/// The text of a value: strings as they are, numbers and booleans in JSON's notation, bytes in base64, arrays and
/// key-value lists as JSON with keys sorted. Nothing at all is the empty text.
pub(super) fn text(value: &AnyValue) -> String {
    match value {
        AnyValue { string_value: Some(text), .. } => text.clone(),
        AnyValue { bytes_value: Some(bytes), .. } => base64::encode(bytes),
        AnyValue { double_value: Some(number), .. } => float(*number),
        value if is_empty(value) => String::new(),
        value => {
            let mut json = String::new();
            write_json(&mut json, value);
            json
        }
    }
}

fn is_empty(value: &AnyValue) -> bool {
    *value == AnyValue::default()
}

fn write_json(out: &mut String, value: &AnyValue) {
    if let Some(text) = &value.string_value {
        write_string(out, text);
    } else if let Some(yes) = value.bool_value {
        out.push_str(if yes { "true" } else { "false" });
    } else if let Some(number) = value.int_value {
        kymo_core::text::write_i64(out, number);
    } else if let Some(number) = value.double_value {
        if number.is_finite() {
            out.push_str(&float(number));
        } else {
            write_string(out, &float(number));
        }
    } else if let Some(array) = &value.array_value {
        out.push('[');
        for (at, value) in array.values.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            write_json(out, value);
        }
        out.push(']');
    } else if let Some(list) = &value.kvlist_value {
        // Of equal keys the last wins.
        let sorted: BTreeMap<&str, Option<&AnyValue>> =
            list.values.iter().map(|pair| (pair.key.as_str(), pair.value.as_ref())).collect();
        out.push('{');
        for (at, (key, value)) in sorted.into_iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            write_string(out, key);
            out.push(':');
            match value {
                Some(value) => write_json(out, value),
                None => out.push_str("null"),
            }
        }
        out.push('}');
    } else if let Some(bytes) = &value.bytes_value {
        write_string(out, &base64::encode(bytes));
    } else {
        out.push_str("null");
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The shortest text that reads back as `number`; what JSON has no number for is a word.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let mut text = String::new();
    if number == 0.0 || PLAIN.contains(&number.abs()) {
        write_float_plain(&mut text, number);
        return text;
    }
    text = format!("{number:e}");
    if let Some(at) = text.find('e').filter(|at| !text[at + 1..].starts_with('-')) {
        text.insert(at + 1, '+');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> AnyValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_type_of_value_has_a_text() {
        let table = [
            ("{}", ""),
            (r#"{"stringValue":""}"#, ""),
            (r#"{"stringValue":"a\"b\n"}"#, "a\"b\n"),
            (r#"{"boolValue":false}"#, "false"),
            (r#"{"intValue":"-9223372036854775808"}"#, "-9223372036854775808"),
            (r#"{"doubleValue":1}"#, "1"),
            (r#"{"doubleValue":0.1}"#, "0.1"),
            (r#"{"doubleValue":-0.0}"#, "-0"),
            (r#"{"doubleValue":1e21}"#, "1e+21"),
            (r#"{"doubleValue":123456789012345680000}"#, "123456789012345680000"),
            (r#"{"doubleValue":1.5e-7}"#, "1.5e-7"),
            (r#"{"doubleValue":"NaN"}"#, "NaN"),
            (r#"{"doubleValue":"-Infinity"}"#, "-Infinity"),
            (r#"{"bytesValue":"AP8="}"#, "AP8="),
            (r#"{"arrayValue":{}}"#, "[]"),
            (
                r#"{"arrayValue":{"values":[{"stringValue":"a\"<\u0001"},{"intValue":1},{"boolValue":true},{},{"bytesValue":"AP8="},{"doubleValue":"NaN"}]}}"#,
                r#"["a\"<\u0001",1,true,null,"AP8=","NaN"]"#,
            ),
            (
                r#"{"kvlistValue":{"values":[{"key":"b","value":{"doubleValue":1.5}},{"key":"a"},{"key":"c","value":{"kvlistValue":{"values":[]}}}]}}"#,
                r#"{"a":null,"b":1.5,"c":{}}"#,
            ),
        ];
        for (json, expected) in table {
            assert_eq!(text(&parse(json)), expected, "{json}");
        }
    }
}
