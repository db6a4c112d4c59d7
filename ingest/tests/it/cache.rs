//! Known series: sent by ref when they come again, found again when the engine forgets, never mistaken.

use kymo_core::Budget;
use kymo_core::ledger::Received;
use kymo_ingest::remote_write::{RemoteWriteConfig, Version, Written};
use prost::Message;

use crate::support::{Door, NOW_MS};
use crate::wire::{self, Symbols, body, compress, series_v1, v1, v2};

fn names(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("metric_{n}")).collect()
}

fn request(version: Version, names: &[String], time: i64) -> Vec<u8> {
    match version {
        Version::V1 => {
            let timeseries = names.iter().map(|name| {
                let mut series = series_v1(&[("__name__", name), ("job", "node")], &[(time, 1.0)]);
                if name.ends_with('3') {
                    series.samples.clear();
                    series.histograms.push(wire::histogram(time));
                    let stale = wire::Histogram { timestamp: time + 1, ..wire::histogram(time) };
                    let sum = f64::from_bits(kymo_core::histogram::STALE_NAN_BITS);
                    series.histograms.push(wire::Histogram { sum, ..stale });
                    series.exemplars.push(v1::Exemplar { labels: vec![], value: 3.0, timestamp: time });
                }
                series
            });
            body(&v1::WriteRequest { timeseries: timeseries.collect(), metadata: vec![] })
        }
        Version::V2 => {
            let mut symbols = Symbols::default();
            // Numbered anew in every request.
            symbols.of(&format!("padding {time}"));
            let timeseries = names.iter().map(|name| {
                let mut series = symbols.series(&[("__name__", name), ("job", "node")], &[(time, 1.0)]);
                series.samples[0].start_timestamp = NOW_MS - 100;
                if name.ends_with('3') {
                    series.samples.clear();
                    let stale = f64::from_bits(kymo_core::histogram::STALE_NAN_BITS);
                    series.histograms.push(wire::Histogram { start_timestamp: 5, ..wire::histogram(time) });
                    series.histograms.push(wire::Histogram { timestamp: time + 1, sum: stale, ..wire::histogram(0) });
                    series.exemplars.push(v2::Exemplar { labels_refs: vec![], value: 3.0, timestamp: time });
                }
                series
            });
            let timeseries = timeseries.collect();
            body(&symbols.request(timeseries))
        }
    }
}

#[test]
fn known_series_are_named_by_ref_in_any_order() {
    for version in [Version::V1, Version::V2] {
        let door = Door::open();
        let mut names: Vec<String> = names(600).into_iter().filter(|name| !name.ends_with('3')).collect();
        let count = names.len();
        door.write(version, &request(version, &names, NOW_MS)).unwrap();
        assert_eq!(door.engine.appended(), [(0, count)]);
        door.write(version, &request(version, &names, NOW_MS + 1)).unwrap();
        names.reverse();
        names.push("one more".into());
        door.write(version, &request(version, &names, NOW_MS + 2)).unwrap();
        names.rotate_left(100);
        door.write(version, &request(version, &names, NOW_MS + 3)).unwrap();
        assert_eq!(door.engine.appended(), [(count, 0), (count, 1), (count + 1, 0)], "{version:?}");
        assert_eq!(door.stored().len(), 4 * count + 2);
        assert_eq!(door.receiver.cached_series().0, count + 1);
    }
}

#[test]
fn refs_that_became_unknown_are_sent_again_with_labels_and_nothing_is_lost() {
    for version in [Version::V1, Version::V2] {
        let door = Door::open();
        let twin = Door::open();
        let names = names(40);
        let time = |round: i64| NOW_MS - 10_000 + 10 * round;
        for round in 0..6 {
            if round % 2 == 1 {
                door.engine.memory.reopen();
            }
            let sent = request(version, &names, time(round));
            let outcome = door.write(version, &sent).unwrap();
            let unknown = twin.write(version, &sent).unwrap();
            assert_eq!(outcome, unknown, "round {round}");
            assert_eq!(outcome.written, Written { samples: 36, histograms: 8, exemplars: 4 });
        }
        assert_eq!(door.stored(), twin.stored());
        assert_eq!(door.stored().len(), 6 * 48);
        let wanted = Received { received: 6 * 44, stored: 6 * 44, ..Received::default() };
        assert_eq!(door.received(), wanted);
        // First round by labels; then alternating: all unknown and sent again, all known.
        let by_ref = (44, 0);
        let rounds = [(0, 44), by_ref, (0, 44), by_ref, by_ref, (0, 44), by_ref, by_ref, (0, 44)];
        assert_eq!(door.engine.appended(), rounds, "{version:?}");
    }
}

#[test]
fn a_failure_between_the_two_appends_says_what_was_written_and_a_retry_completes_it() {
    let door = Door::open();
    let names = names(3);
    door.write(Version::V1, &request(Version::V1, &names, NOW_MS)).unwrap();
    door.engine.memory.reopen();
    door.engine.failures.lock().unwrap().extend([false, true]);
    let mut more = names.clone();
    more.push("new".into());
    let sent = request(Version::V1, &more, NOW_MS + 1);
    let error = door.write(Version::V1, &sent).unwrap_err();
    assert_eq!(error.written(), Written { samples: 1, histograms: 0, exemplars: 0 });
    assert_eq!(error.loss_reason(), None);
    let outcome = door.write(Version::V1, &sent).unwrap();
    assert_eq!(outcome.written.samples, 4);
    let wanted = Received { received: 3 + 1 + 4, stored: 3 + 1 + 3, identical: 1, ..Received::default() };
    assert_eq!(door.received(), wanted);
}

#[test]
fn labels_behind_the_samples_are_read_and_never_mistaken_for_the_series_before_them() {
    let door = Door::open();
    let plain = series_v1(&[("__name__", "a"), ("b", "1")], &[(NOW_MS, 1.0)]);
    door.write(Version::V1, &body(&v1::WriteRequest { timeseries: vec![plain.clone()], metadata: vec![] })).unwrap();
    // The same message with one more label at its end is another series.
    let mut scattered = plain.encode_to_vec();
    scattered.extend([0x0a, 0x06]);
    scattered.extend(v1::Label { name: "c".into(), value: "2".into() }.encode_to_vec());
    let mut late = vec![0x0a, scattered.len() as u8];
    late.extend(&scattered);
    for _ in 0..2 {
        door.write(Version::V1, &compress(&late)).unwrap();
    }
    let stored: Vec<_> = door.stored().into_iter().collect();
    assert_eq!(stored.len(), 2);
    assert!(stored[0].starts_with(r#"[("__name__", "a"), ("b", "1"), ("c", "2")]"#), "{stored:?}");
    assert_eq!(door.receiver.cached_series().0, 1);
}

#[test]
fn a_label_more_or_less_than_predicted_is_another_series() {
    let door = Door::open();
    let send = |labels: &[&[(&str, &str)]], time: i64| {
        let timeseries = labels.iter().map(|labels| series_v1(labels, &[(time, 1.0)])).collect();
        door.write(Version::V1, &body(&v1::WriteRequest { timeseries, metadata: vec![] })).unwrap();
    };
    let (first, short) = ([("__name__", "a")], [("__name__", "b"), ("x", "1")]);
    let long = [("__name__", "b"), ("x", "1"), ("y", "2")];
    send(&[&first, &short], NOW_MS);
    send(&[&first, &long], NOW_MS + 1);
    send(&[&first, &short], NOW_MS + 2);
    send(&[&first, &long], NOW_MS + 3);
    let stored = door.stored();
    let of = |what: &str| stored.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!(of(r#"[("__name__", "b"), ("x", "1")] "#), 2, "{stored:#?}");
    assert_eq!(of(r#"[("__name__", "b"), ("x", "1"), ("y", "2")] "#), 2, "{stored:#?}");
}

#[test]
fn a_cache_without_room_only_costs_time() {
    let config = RemoteWriteConfig { cache_bytes_max: 0, ..RemoteWriteConfig::default() };
    let door = Door::with(config, Budget::unlimited());
    let names = names(50);
    for round in 0..3 {
        door.write(Version::V1, &request(Version::V1, &names, NOW_MS + 10 * round)).unwrap();
    }
    assert_eq!((door.stored().len(), door.receiver.cached_series()), (3 * 60, (0, 0)));
}

#[test]
fn metadata_of_known_series_is_sent_once_and_again_when_it_changes() {
    use kymo_core::{MetricStorage, QueryContext};
    let door = Door::open();
    let send = |help: &str, time: i64| {
        let mut symbols = Symbols::default();
        let metadata = v2::Metadata { r#type: 1, help_ref: symbols.of(help), unit_ref: 0 };
        let series = (0..3).map(|n| v2::TimeSeries {
            metadata: Some(metadata),
            ..symbols.series(&[("__name__", "requests_total"), ("n", &n.to_string())], &[(time, 1.0)])
        });
        let series = series.collect();
        door.write(Version::V2, &body(&symbols.request(series))).unwrap();
    };
    for (n, help) in ["one", "one", "two", "two", "one"].into_iter().enumerate() {
        send(help, NOW_MS + n as i64);
    }
    let kept = door.engine.metadata(Some("requests_total"), &QueryContext::unlimited()).unwrap();
    let helps: Vec<_> = kept[0].1.iter().map(|m| m.help.as_str()).collect();
    assert_eq!(helps, ["one", "two"]);
}

#[test]
fn label_references_in_two_places_are_read_as_one_list_and_never_predicted_by_the_first() {
    let door = Door::open();
    let send = |extra: bool, time: i64| {
        let mut symbols = Symbols::default();
        let first = symbols.series(&[("__name__", "a")], &[(time, 1.0)]);
        let second = symbols.series(&[("__name__", "b"), ("x", "1")], &[(time, 1.0)]);
        let more = v2::TimeSeries { labels_refs: symbols.refs(&[("y", "2")]), ..v2::TimeSeries::default() };
        let mut series = second.encode_to_vec();
        if extra {
            series.extend(more.encode_to_vec());
        }
        let mut bytes = symbols.request(vec![first]).encode_to_vec();
        bytes.extend([0x2a, series.len() as u8]);
        bytes.extend(series);
        assert!(door.write(Version::V2, &compress(&bytes)).unwrap().is_complete());
    };
    for round in 0..4 {
        send(round % 2 == 1, NOW_MS + round);
    }
    let stored = door.stored();
    let of = |what: &str| stored.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!(of(r#"[("__name__", "b"), ("x", "1")] "#), 2, "{stored:#?}");
    assert_eq!(of(r#"[("__name__", "b"), ("x", "1"), ("y", "2")] "#), 2, "{stored:#?}");
}

#[test]
fn writers_side_by_side_with_an_engine_that_forgets_lose_and_double_nothing() {
    const WRITERS: i64 = 4;
    const REQUESTS: i64 = 30;
    // Little room, so that entries come and go while others predict them.
    let config = RemoteWriteConfig { cache_bytes_max: 64 << 10, ..RemoteWriteConfig::default() };
    let door = Door::with(config, Budget::unlimited());
    // Every writer sends every series, in an order of its own, some of them new in each request.
    let names_of = |writer: i64, request: i64| {
        let mut names: Vec<String> = (0..300).map(|n| format!("metric_{n}")).collect();
        names.rotate_left((writer * 37 + request * 5) as usize);
        names.extend((0..5).map(|n| format!("new_{writer}_{request}_{n}")));
        names.retain(|name| !name.ends_with('3'));
        names
    };
    let sent: u64 = std::thread::scope(|scope| {
        let door = &door;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    let version = if writer % 2 == 0 { Version::V1 } else { Version::V2 };
                    let mut sent = 0;
                    for round in 0..REQUESTS {
                        let names = names_of(writer, round);
                        // A time of its own per request, so that nothing is identical.
                        let time = NOW_MS - 1_000 + writer * REQUESTS + round;
                        let outcome = door.write(version, &request(version, &names, time)).unwrap();
                        assert_eq!(outcome.written.samples, names.len() as u64);
                        sent += outcome.written.samples;
                        if round % 7 == writer {
                            door.engine.memory.reopen();
                        }
                    }
                    sent
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(door.received(), Received { received: sent, stored: sent, ..Received::default() });
    let stored = door.stored();
    assert_eq!(stored.len() as u64, sent);
    for writer in 0..WRITERS {
        for round in 0..REQUESTS {
            let time = NOW_MS - 1_000 + writer * REQUESTS + round;
            let start = if writer % 2 == 0 { 0 } else { NOW_MS - 100 };
            for name in names_of(writer, round) {
                let labels = kymo_core::Labels::from_pairs([("__name__", name.as_str()), ("job", "node")]);
                let wanted = crate::support::line(&labels, time, start, &crate::support::float(1.0));
                assert!(stored.contains(&wanted), "{wanted}");
            }
        }
    }
}
