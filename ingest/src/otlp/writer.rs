//! Who counts: a number for a stream as its sender sees it, the same in every process and after every restart.
//!
//! A stream is what OpenTelemetry's data model says: all attributes of resource and scope, the metric's name and unit, the
//! point's attributes. Much of that is no label, or not the same label twice (`a.b` and `a_b`), so several streams may
//! meet in one series; their numbers keep them apart there.
//!
//! Numbers are xxHash64, which is what keeps them equal over restarts and architectures: they stand in the engine's
//! files. The order of attributes makes no difference. Two streams of one series that share a number by chance (one in
//! 2^64) would be taken for one.

use prost::Message;
use xxhash_rust::xxh64::xxh64;

use super::error::ExportError;
use super::message::AnyValue;
use super::value;
use crate::proto::{Cursor, Span};

/// The stream at hand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stream {
    resource: u64,
    scope: u64,
    metric: u64,
    point: u64,
}

impl Stream {
    /// Goes on with a resource of this number, which has no scope yet.
    pub(super) fn set_resource(&mut self, number: u64) {
        *self = Stream { resource: number, ..Stream::default() };
    }

    pub(super) fn set_scope(&mut self, number: u64) {
        self.scope = number;
    }

    pub(super) fn set_metric(&mut self, name: &str, unit: &str) {
        self.metric = xxh64(unit.as_bytes(), xxh64(name.as_bytes(), 0));
    }

    /// Goes on with the point of these attributes, whole fields of a number.
    pub(super) fn set_point(&mut self, attributes: &[u8], number: u32) -> Result<(), ExportError> {
        self.point = of_attributes(attributes, number)?;
        Ok(())
    }

    /// The number of who tells increments.
    pub(super) fn writer(&self) -> u64 {
        [self.scope, self.metric, self.point].iter().fold(self.resource, |seed, part| xxh64(&part.to_le_bytes(), seed))
    }

    /// The number of who has counted since `start_ns`: of two processes that say the same of themselves, two.
    pub(super) fn writer_since(&self, start_ns: u64) -> u64 {
        xxh64(&start_ns.to_le_bytes(), self.writer())
    }
}

/// The number of an encoded `Resource`.
pub(super) fn of_resource(resource: &[u8]) -> Result<u64, ExportError> {
    of_attributes(resource, 1)
}

/// The number of an encoded `InstrumentationScope`.
pub(super) fn of_scope(scope: &[u8], schema_url: &str) -> Result<u64, ExportError> {
    let (mut name, mut version) = (&[][..], &[][..]);
    let mut fields = Cursor::new(scope);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.span()?.of(scope),
            2 => version = field.span()?.of(scope),
            _ => {}
        }
    }
    let attributes = of_attributes(scope, 3)?;
    Ok([name, version, schema_url.as_bytes()].iter().fold(attributes, |seed, text| xxh64(text, seed)))
}

/// The sum of the numbers of every attribute among the fields, so that their order makes no difference.
fn of_attributes(fields: &[u8], number: u32) -> Result<u64, ExportError> {
    let body = fields;
    let mut sum = 0u64;
    let mut fields = Cursor::new(body);
    while let Some(field) = fields.next()? {
        if field.number == number {
            sum = sum.wrapping_add(of_attribute(body, field.span()?)?);
        }
    }
    Ok(sum)
}

fn of_attribute(body: &[u8], pair: Span) -> Result<u64, ExportError> {
    let (mut key, mut value) = (&[][..], None);
    let mut fields = Cursor::over(body, pair);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => key = field.span()?.of(body),
            2 => value = Some(field.span()?),
            _ => {}
        }
    }
    let key = xxh64(key, 0);
    let Some(value) = value else { return Ok(key) };
    let mut number = key;
    let mut fields = Cursor::over(body, value);
    while let Some(field) = fields.next()? {
        // The kind is part of it: `1` and `"1"` are two values of one text.
        let seed = key.wrapping_add(u64::from(field.number));
        number = match field.number {
            1 | 7 => xxh64(field.span()?.of(body), seed),
            2 | 3 => xxh64(&field.varint()?.to_le_bytes(), seed),
            4 => xxh64(&field.fixed64()?.to_le_bytes(), seed),
            5 | 6 => xxh64(value::text(&AnyValue::decode(value.of(body))?).as_bytes(), seed),
            _ => number,
        };
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::message::{KeyValue, Resource, Scope};

    fn resource(json: &str) -> Stream {
        let resource: Resource = serde_json::from_str(&format!(r#"{{"attributes":[{json}]}}"#)).unwrap();
        let mut stream = Stream::default();
        stream.set_resource(of_resource(&resource.encode_to_vec()).unwrap());
        stream
    }

    #[test]
    fn the_number_of_a_stream_is_for_ever_and_knows_no_order() {
        let a = r#"{"key":"host.name","value":{"stringValue":"web-1"}}"#;
        let b = r#"{"key":"process.pid","value":{"intValue":"7"}}"#;
        let both = resource(&format!("{a},{b}"));
        assert_eq!(both.writer(), resource(&format!("{b},{a}")).writer());
        // It stands in data directories; another number here would count retries twice.
        assert_eq!(both.writer(), 0xffc7_7399_76ac_71cd);
        assert_eq!(both.writer_since(5), 0xc201_ed06_14e1_c89f);
        let mut numbers = vec![
            both.writer(),
            both.writer_since(0),
            both.writer_since(5),
            resource(a).writer(),
            resource(b).writer(),
            resource(r#"{"key":"process.pid","value":{"stringValue":"7"}}"#).writer(),
            resource(r#"{"key":"process.pid"}"#).writer(),
            resource(r#"{"key":"process.pid","value":{"arrayValue":{"values":[{"intValue":7}]}}}"#).writer(),
            resource("").writer(),
        ];
        let scope =
            |name: &str, version: &str| Scope { name: name.into(), version: version.into(), attributes: vec![] };
        for scope in [scope("m", ""), scope("", "m")] {
            let mut stream = both;
            stream.set_scope(of_scope(&scope.encode_to_vec(), "").unwrap());
            numbers.push(stream.writer());
        }
        for (name, unit) in [("m", ""), ("", "m")] {
            let mut stream = both;
            stream.set_metric(name, unit);
            numbers.push(stream.writer());
        }
        let mut stream = both;
        let mut attributes = Vec::new();
        prost::encoding::message::encode(7, &KeyValue { key: "m".into(), value: None }, &mut attributes);
        stream.set_point(&attributes, 7).unwrap();
        numbers.push(stream.writer());
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
    }
}
