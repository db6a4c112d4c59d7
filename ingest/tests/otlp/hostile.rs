//! Whatever bytes come, there is an answer, the books balance, and all memory is given back.

use kymo_ingest::otlp::{Coding, Encoding};
use proptest::prelude::*;
use prost::Message;

use crate::protobuf::{everything, everything_json};
use crate::support::{Door, gzip, metrics};
use crate::traces::{SPANS_JSON, shop};

fn take(encoding: Encoding, coding: Coding, body: Vec<u8>) -> Result<(), TestCaseError> {
    let door = Door::open();
    let result = door.receiver.export(encoding, coding, body.into());
    let received = door.received();
    match result {
        Ok(outcome) => {
            prop_assert_eq!(received.received, outcome.written + outcome.rejected());
            prop_assert_eq!(received.rejected, outcome.rejected());
            prop_assert!(outcome.response(encoding).len() < 4 << 20);
        }
        Err(error) => {
            prop_assert!(error.loss_reason().is_some(), "{error}");
            prop_assert!(door.stored().is_empty());
            prop_assert_eq!((received.received, received.rejected), (1, 1));
        }
    }
    prop_assert_eq!(received.received, received.stored + received.identical + received.replaced + received.rejected);
    prop_assert_eq!(door.held(), 0);
    Ok(())
}

fn take_spans(encoding: Encoding, coding: Coding, body: Vec<u8>) -> Result<(), TestCaseError> {
    let door = Door::open();
    let result = door.receiver.export_spans(encoding, coding, body.into());
    let received = door.received_spans();
    match result {
        Ok(outcome) => {
            prop_assert_eq!(received.received, outcome.counted + outcome.identical + outcome.rejected());
            prop_assert_eq!((received.stored, received.rejected), (outcome.counted, outcome.rejected()));
            prop_assert!(outcome.response(encoding).len() < 4 << 20);
        }
        Err(error) => {
            prop_assert!(error.loss_reason().is_some(), "{error}");
            prop_assert!(door.stored().is_empty());
            prop_assert_eq!((received.received, received.rejected), (1, 1));
        }
    }
    prop_assert_eq!(door.held(), 0);
    Ok(())
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Protobuf), Just(Encoding::Json)]
}

proptest! {
    #[test]
    fn arbitrary_bytes_have_an_answer(
        encoding in encoding(),
        coding in prop_oneof![Just(Coding::Identity), Just(Coding::Gzip), Just(Coding::Zstd)],
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        take(encoding, coding, body.clone())?;
        take_spans(encoding, coding, body)?;
    }

    #[test]
    fn flipped_bits_of_spans_have_an_answer(encoding in encoding(), flips in prop::collection::vec(any::<prop::sample::Index>(), 1..8)) {
        let mut body = match encoding {
            Encoding::Protobuf => shop().encode_to_vec(),
            Encoding::Json => SPANS_JSON.as_bytes().to_vec(),
        };
        for flip in flips {
            let bit = flip.index(body.len() * 8);
            body[bit / 8] ^= 1 << (bit % 8);
        }
        take_spans(encoding, Coding::Identity, body)?;
    }

    #[test]
    fn flipped_bits_have_an_answer(encoding in encoding(), flips in prop::collection::vec(any::<prop::sample::Index>(), 1..8), cut in any::<prop::sample::Index>(), truncate: bool) {
        let mut body = match encoding {
            Encoding::Protobuf => everything().encode_to_vec(),
            Encoding::Json => everything_json().into_bytes(),
        };
        for flip in flips {
            let bit = flip.index(body.len() * 8);
            body[bit / 8] ^= 1 << (bit % 8);
        }
        if truncate {
            body.truncate(cut.index(body.len()));
        }
        take(encoding, Coding::Identity, body)?;
    }

    #[test]
    fn flipped_bits_of_compressed_bodies_have_an_answer(flip in any::<prop::sample::Index>(), zstd: bool) {
        let plain = everything().encode_to_vec();
        let (coding, mut body) = match zstd {
            true => (Coding::Zstd, zstd::stream::encode_all(&plain[..], 3).unwrap()),
            false => (Coding::Gzip, gzip(&plain)),
        };
        let bit = flip.index(body.len() * 8);
        body[bit / 8] ^= 1 << (bit % 8);
        take(Encoding::Protobuf, coding, body)?;
    }
}

#[test]
fn nesting_without_end_costs_only_what_it_stands_in() {
    let depth = 10_000;
    let (open, close) = ("[".repeat(depth), "]".repeat(depth));
    let point = r#"{"timeUnixNano":"1760000000000000000","asInt":1"#;
    let values = r#"{"arrayValue":{"values":["#.repeat(depth) + &"]}}".repeat(depth);
    for (metric, written, rejected) in [
        (format!(r#"{{"name":"m","later":{open}{close},"gauge":{{"dataPoints":[{point}}}]}}}}"#), 2, 0),
        (
            format!(
                r#"{{"name":"m","gauge":{{"dataPoints":[{point},"attributes":[{{"key":"a","value":{values}}}]}}]}}}}"#
            ),
            1,
            1,
        ),
    ] {
        let door = Door::open();
        let good = format!(r#"{{"name":"good","gauge":{{"dataPoints":[{point}}}]}}}}"#);
        let outcome = door.export(Encoding::Json, metrics(&format!("{metric},{good}"))).unwrap();
        assert_eq!((outcome.written, outcome.rejected()), (written, rejected), "{outcome:?}");
    }
}

#[test]
fn every_truncation_of_a_request_has_an_answer() {
    let body = everything().encode_to_vec();
    for len in 0..body.len() {
        take(Encoding::Protobuf, Coding::Identity, body[..len].to_vec()).unwrap();
    }
    let body = shop().encode_to_vec();
    for len in 0..body.len() {
        take_spans(Encoding::Protobuf, Coding::Identity, body[..len].to_vec()).unwrap();
    }
    for len in 0..SPANS_JSON.len() {
        take_spans(Encoding::Json, Coding::Identity, SPANS_JSON.as_bytes()[..len].to_vec()).unwrap();
    }
}

#[test]
fn spans_of_wrong_types_and_bombs_are_refused_and_unknown_fields_are_not() {
    let door = Door::open();
    let spans = |span: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
    let ids = r#""traceId":"5b8efff798038103d269b633813fc60c","startTimeUnixNano":1,"endTimeUnixNano":2"#;
    for (number, (body, counted, rejected)) in [
        ("{}".to_owned(), 0, 0),
        (spans(""), 0, 0),
        (spans("7"), 0, 1),
        (spans("[]"), 0, 1),
        (spans(&format!(r#"{{{ids},"spanId":"zz","name":"n"}}"#)), 0, 1),
        (spans(&format!(r#"{{{ids},"spanId":"0000000000000001","name":7}}"#)), 0, 1),
        (spans(&format!(r#"{{{ids},"spanId":"0000000000000001","status":[]}}"#)), 0, 1),
        (spans(&format!(r#"{{{ids},"spanId":"0000000000000001","attributes":{{}}}}"#)), 0, 1),
        (spans(&format!(r#"{{{ids},"spanId":"0000000000000002","later":{{"a":[1]}},"name":null}}"#)), 1, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let outcome = door.receiver.export_spans(Encoding::Json, Coding::Identity, body.into()).unwrap();
        assert_eq!((outcome.counted, outcome.rejected()), (counted, rejected), "case {number}: {outcome:?}");
    }
    // Field 6 as text, field 7 as a varint; a varint without end; a group that does not end.
    for body in [&[0x0a, 6, 0x12, 4, 0x12, 2, 0x32, 0][..], &[0x0a, 6, 0x12, 4, 0x12, 2, 0x38, 1], &[0xff; 11], &[0x0b]]
    {
        let error = door.receiver.export_spans(Encoding::Protobuf, Coding::Identity, body.to_vec().into()).unwrap_err();
        assert_eq!(error.loss_reason(), Some("bad_protobuf"), "{error}");
    }
    let error =
        door.receiver.export_spans(Encoding::Protobuf, Coding::Gzip, gzip(&vec![0; 65 << 20]).into()).unwrap_err();
    assert_eq!(error.loss_reason(), Some("too_large"), "{error}");
    // A thousand levels of attributes.
    let deep = r#"{"arrayValue":{"values":["#.repeat(1_000) + &"]}}".repeat(1_000);
    let body = spans(&format!(
        r#"{{{ids},"spanId":"0000000000000003","attributes":[{{"key":"http.route","value":{deep}}}]}}"#
    ));
    let outcome = door.receiver.export_spans(Encoding::Json, Coding::Identity, body.into()).unwrap();
    assert_eq!((outcome.counted, outcome.rejected()), (0, 1), "{outcome:?}");
}
