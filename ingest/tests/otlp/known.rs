//! Series that came before are looked up by their bytes, and are the same series all the same.

use std::sync::atomic::Ordering;

use kymo_ingest::otlp::{Encoding, OtlpConfig, Outcome};
use prost::Message;

use crate::protobuf::{everything, everything_json};
use crate::support::Door;

#[test]
fn known_series_are_the_same_series_in_both_encodings_and_after_the_engine_forgot_them() {
    let bodies: Vec<Vec<u8>> = vec![everything().encode_to_vec(), everything_json().into()];
    let config = || OtlpConfig { keep_min_max: true, ..OtlpConfig::default() };
    let fresh = Door::configured(config());
    send_as(&fresh, Encoding::Protobuf, &bodies[0]);
    let expected = (fresh.stored(), fresh.metadata());
    let door = Door::configured(config());
    for (round, (encoding, body)) in
        [(Encoding::Protobuf, &bodies[0]), (Encoding::Json, &bodies[1]), (Encoding::Protobuf, &bodies[0])]
            .into_iter()
            .cycle()
            .take(9)
            .enumerate()
    {
        door.engine.forgets.store(round % 3 == 2, Ordering::SeqCst);
        let outcome = send_as(&door, encoding, body);
        assert_eq!(outcome.rejected(), 0, "{round}: {outcome:?}");
        assert_eq!((door.stored(), door.metadata()), expected, "{round}");
    }
    assert!(door.receiver.cached_series().0 > 0);
}

fn send_as(door: &Door, encoding: Encoding, body: &[u8]) -> Outcome {
    door.export(encoding, body).unwrap_or_else(|error| panic!("{error:?}"))
}
