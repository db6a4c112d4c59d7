//! Whatever bytes come, there is an answer, the books balance, and all memory is given back.

use kymo_ingest::otlp::{Coding, Encoding};
use proptest::prelude::*;
use prost::Message;

use crate::protobuf::{everything, everything_json};
use crate::support::{Door, gzip, metrics};

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
        take(encoding, coding, body)?;
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
}
