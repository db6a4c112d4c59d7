//! What a request takes in memory, reserved before it is allocated.

use kymo_core::{Budget, BudgetExceeded, Reservation};

use super::error::ExportError;
use super::json;
use super::message::{AnyValue, ExponentialPoint, KeyValue};
use crate::ProtoError;
use crate::proto::Cursor;

/// Bytes reserved at a time, so that a row costs a comparison and not a walk up the tree of budgets.
const STEP_BYTES: usize = 64 << 10;
/// Messages nested deeper than this are refused; prost's own limit.
const DEPTH_MAX: usize = 100;
/// Vectors may take twice what is in them.
const GROWTH: usize = 2;
/// What `{` of JSON may become, at most: a point of a histogram.
pub(super) const JSON_OBJECT_BYTES: usize = size_of::<ExponentialPoint>();
/// Objects open at most where a request, a resource's metrics or a scope's metrics are.
const JSON_OUTER_DEPTH: usize = 3;

/// A message whose fields grow when they are decoded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
    Scope,
    Exemplar,
    KeyValue,
    AnyValue,
    ArrayValue,
    /// `Resource` and `KeyValueList`.
    Attributes,
}

impl Layout {
    /// The fields that take more than their own bytes: number, size of the struct, and what it holds. Embedded messages
    /// that are not repeated count with their owner.
    fn fields(self) -> &'static [(u32, usize, Layout)] {
        const ATTRIBUTE: usize = size_of::<KeyValue>();
        match self {
            Layout::Scope => &[(3, ATTRIBUTE, Layout::KeyValue)],
            Layout::Exemplar => &[(7, ATTRIBUTE, Layout::KeyValue)],
            Layout::KeyValue => &[(2, 0, Layout::AnyValue)],
            Layout::AnyValue => &[(5, 0, Layout::ArrayValue), (6, 0, Layout::Attributes)],
            Layout::ArrayValue => &[(1, size_of::<AnyValue>(), Layout::AnyValue)],
            Layout::Attributes => &[(1, ATTRIBUTE, Layout::KeyValue)],
        }
    }

    /// Bytes that the decoded message takes, at most.
    pub(super) fn weigh(self, body: &[u8]) -> Result<u64, ProtoError> {
        let mut structs = 0;
        self.add(body, Cursor::new(body), 0, &mut structs)?;
        Ok((structs * GROWTH + body.len()) as u64)
    }

    fn add(self, body: &[u8], mut fields: Cursor<'_>, depth: usize, sum: &mut usize) -> Result<(), ProtoError> {
        if depth == DEPTH_MAX {
            return Err(ProtoError::Depth { offset: fields.position() });
        }
        while let Some(field) = fields.next()? {
            if let Some(&(_, bytes, layout)) = self.fields().iter().find(|(number, ..)| *number == field.number) {
                *sum += bytes;
                layout.add(body, Cursor::over(body, field.span()?), depth + 1, sum)?;
            }
        }
        Ok(())
    }
}

/// Bytes that a JSON request takes when its outer levels are parsed, at most. What stands deeper is only pointed to.
pub(super) fn weigh_json_request(body: &[u8]) -> u64 {
    let (mut structs, mut pointers) = (0, 0);
    each_mark(body, |mark, depth| {
        if depth <= JSON_OUTER_DEPTH {
            structs += usize::from(mark == b'{');
            pointers += usize::from(mark != b'{');
        }
    });
    let largest = size_of::<json::ResourceMetrics<'_>>().max(size_of::<json::ScopeMetrics<'_>>());
    (GROWTH * (structs * largest + pointers * size_of::<&str>())) as u64
}

/// Bytes that a resource, scope or metric in JSON takes when it is parsed, at most.
pub(super) fn weigh_json_part(text: &str) -> u64 {
    let (mut objects, mut elements) = (0, 0);
    each_mark(text.as_bytes(), |mark, _| {
        objects += usize::from(mark == b'{');
        elements += usize::from(mark != b'{');
    });
    (GROWTH * (objects * JSON_OBJECT_BYTES + elements * size_of::<u64>()) + text.len()) as u64
}

/// Tells of every `{`, `[` and `,` outside of strings, with the number of objects that are open then.
fn each_mark(body: &[u8], mut each: impl FnMut(u8, usize)) {
    let mut depth = 0usize;
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                // To the end of the string; what is escaped does not end it.
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            b'{' => {
                depth += 1;
                each(b'{', depth);
            }
            b'}' => depth = depth.saturating_sub(1),
            b'[' | b',' => each(*byte, depth),
            _ => {}
        }
    }
}

/// Counts what the rows of a request take, up to a limit.
#[derive(Debug)]
pub(super) struct Meter {
    held: Reservation,
    used: usize,
    /// Reserved for a moment beside what is used.
    lent: u64,
    max: usize,
}

impl Meter {
    pub(super) fn new(budget: &Budget, max: usize) -> Result<Meter, BudgetExceeded> {
        Ok(Meter { held: budget.try_reserve(0)?, used: 0, lent: 0, max })
    }

    /// Takes `bytes` more, before they are allocated.
    #[inline]
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), ExportError> {
        let used = self.used + bytes;
        if used > self.max {
            return Err(ExportError::TooLarge {
                limit: "unfolded_bytes_max",
                max: self.max as u64,
                found: used as u64,
            });
        }
        if used as u64 + self.lent > self.held.bytes() {
            let missing = used as u64 + self.lent - self.held.bytes();
            self.held.grow(missing.next_multiple_of(STEP_BYTES as u64))?;
        }
        self.used = used;
        Ok(())
    }

    /// Reserves `bytes` until they are taken back; gives them.
    pub(super) fn lend(&mut self, bytes: u64) -> Result<u64, BudgetExceeded> {
        self.held.grow(bytes)?;
        self.lent += bytes;
        Ok(bytes)
    }

    pub(super) fn take_back(&mut self, bytes: u64) {
        self.lent -= bytes;
        self.held.shrink(bytes);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::otlp::message;

    #[test]
    fn tiny_messages_weigh_what_they_unfold_to() {
        let resource = message::Resource { attributes: vec![KeyValue::default(); 500] };
        let weight = Layout::Attributes.weigh(&resource.encode_to_vec()).unwrap() as usize;
        assert!((500 * size_of::<KeyValue>()..2_000 * size_of::<KeyValue>()).contains(&weight), "{weight}");
        let array = message::ArrayValue { values: vec![AnyValue::default(); 1_000] };
        let value = AnyValue { array_value: Some(array), ..AnyValue::default() };
        let scope = message::Scope {
            attributes: vec![KeyValue { key: "k".into(), value: Some(value) }],
            ..message::Scope::default()
        };
        let weight = Layout::Scope.weigh(&scope.encode_to_vec()).unwrap() as usize;
        assert!(weight >= 1_000 * size_of::<AnyValue>(), "{weight}");
    }

    #[test]
    fn what_is_lent_is_not_used_for_anything_else() {
        let budget = Budget::root("process", 1 << 20);
        let mut meter = Meter::new(&budget, 1 << 20).unwrap();
        let lent = meter.lend(500 << 10).unwrap();
        meter.take(400 << 10).unwrap();
        assert!(budget.used() >= 900 << 10 && meter.take(200 << 10).is_err());
        meter.take_back(lent);
        meter.take(200 << 10).unwrap();
    }

    #[test]
    fn endless_nesting_is_refused_and_not_followed() {
        let mut value = Vec::new();
        for _ in 0..5_000 {
            // AnyValue.array_value = 5, ArrayValue.values = 1
            for tag in [0x0a, 0x2a] {
                let mut outer = vec![tag];
                prost::encoding::encode_varint(value.len() as u64, &mut outer);
                outer.extend(value);
                value = outer;
            }
        }
        let error = Layout::AnyValue.weigh(&value).unwrap_err();
        assert!(matches!(error, ProtoError::Depth { .. }), "{error}");
    }

    #[test]
    fn json_weighs_more_than_its_structs_and_strings_hide_nothing() {
        let point = size_of::<ExponentialPoint>() as u64;
        assert!(weigh_json_part("[{},{},{}]") >= 3 * point);
        let scopes = r#"{"resourceMetrics":[{"schemaUrl":"\"{{{{","scopeMetrics":[{},{},{}]}]}"#;
        assert!(weigh_json_request(scopes.as_bytes()) >= 3 * size_of::<json::ScopeMetrics<'_>>() as u64);
        // A long metric is only pointed to.
        let metric = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{},{},{}]}}]}]}]}"#;
        let longer = metric.replace("{},{},{}", &["{}"; 1_000].join(","));
        assert_eq!(weigh_json_request(metric.as_bytes()), weigh_json_request(longer.as_bytes()));
    }
}
