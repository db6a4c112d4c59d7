use prost::Message;

use super::*;
use crate::cases::decode::wire;

const SHAPE: Shape = Shape { series: 3_000, scrapes: 400, base_ms: 1_800_000_000_000 };

fn load() -> Load {
    Load::new(synthetic(7), SHAPE)
}

#[test]
fn one_seed_makes_one_load() {
    let (a, b) = (load(), load());
    let other = Load::new(synthetic(8), SHAPE);
    let samples = |load: &Load| -> Vec<(usize, i64, u64)> {
        [0, 299, 300, 399]
            .iter()
            .flat_map(|scrape| load.scrape(*scrape).map(|(index, t, v)| (index, t, v.to_bits())).collect::<Vec<_>>())
            .collect()
    };
    assert_eq!(samples(&a), samples(&b));
    assert_ne!(samples(&a), samples(&other));
    assert!((0..SHAPE.series).all(|index| a.labels(index) == b.labels(index)));
}

#[test]
fn clones_are_other_hosts_some_scrapes_ahead() {
    let load = load();
    let per_clone = load.recording().series.len();
    assert_eq!(load.labels(0).get("instance"), Some("host-0"));
    assert_eq!(load.labels(per_clone).get("instance"), Some("host-1"));
    for index in 0..SHAPE.series - per_clone {
        let ahead = load.sample(index, CLONE_SHIFT).map(|(_, value)| value.to_bits());
        assert_eq!(load.sample(index + per_clone, 0).map(|(_, value)| value.to_bits()), ahead);
    }
    assert!(load.is_one_target(0, 1));
    assert!(!load.is_one_target(0, per_clone));
}

#[test]
fn counters_go_on_when_the_recording_starts_again() {
    let load = load();
    let (mut counters, mut resets) = (0, 0);
    for index in 0..load.recording().series.len() {
        let recorded = &load.recording().series[index];
        if recorded.values.iter().any(Option::is_none) || !load.labels(index).metric_name().unwrap().ends_with("_total")
        {
            continue;
        }
        let length = recorded.values.len();
        let at = |scrape| load.sample(index, scrape).map(|(_, value)| value).unwrap();
        resets += (1..length).filter(|scrape| at(*scrape) < at(scrape - 1)).count();
        if recorded.growth > 0.0 {
            counters += 1;
            assert!(at(length) >= at(length - 1), "series {index} falls from {} to {}", at(length - 1), at(length));
        }
    }
    assert!(counters > 100, "{counters} counters");
    assert!(resets > 10, "{resets} resets");
}

/// What a body says, series by series.
fn read(body: &[u8]) -> Vec<(Labels, i64, u64)> {
    let body = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    let message = wire::WriteRequest::decode(&*body).unwrap();
    let read = message.timeseries.into_iter().map(|series| {
        let labels = Labels::from_pairs(series.labels.iter().map(|label| (&label.name, &label.value)));
        let [sample] = series.samples[..] else { panic!("{:?}", series.samples) };
        (labels, sample.timestamp, sample.value.to_bits())
    });
    read.collect()
}

fn samples_of(load: &Load, scrape: usize) -> Vec<(Labels, i64, u64)> {
    load.scrape(scrape).map(|(index, t, v)| (load.labels(index).clone(), t, v.to_bits())).collect()
}

#[test]
fn requests_hold_the_samples_of_the_load() {
    let load = Load::new(synthetic(7), Shape { series: 2_500, ..SHAPE });
    let requests = requests(&load, 3..5).unwrap();
    assert_eq!(requests.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    for (scrape, requests) in (3..5).zip(&requests) {
        let found: Vec<_> = requests.iter().map(|request| read(&request.body)).collect();
        let samples: Vec<u64> = requests.iter().map(|request| request.samples).collect();
        assert_eq!(found.iter().map(|series| series.len() as u64).collect::<Vec<_>>(), samples);
        assert_eq!(found.concat(), samples_of(&load, scrape));
    }
}

#[test]
fn a_file_of_requests_holds_the_load_and_is_the_same_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let load = Load::new(synthetic(7), Shape { series: 2_500, scrapes: 4, ..SHAPE });
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let written = RequestFile::write(&load, &first).unwrap();
    RequestFile::write(&load, &second).unwrap();
    assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
    let opened = RequestFile::open(&first).unwrap();
    assert_eq!((&opened.scrapes, opened.checksum().unwrap()), (&written.scrapes, written.checksum().unwrap()));
    assert_eq!(opened.totals().0, load.samples());
    let mut body = Vec::new();
    for (scrape, requests) in opened.scrapes.iter().enumerate() {
        let mut found = Vec::new();
        for placed in requests {
            opened.read(placed, &mut body).unwrap();
            found.extend(read(&body));
        }
        assert_eq!(found, samples_of(&load, scrape));
    }
    let bytes = std::fs::read(&first).unwrap();
    std::fs::write(&second, &bytes[..bytes.len() - 1]).unwrap();
    assert!(RequestFile::open(&second).is_err(), "a file that is cut short is noticed");
}

#[test]
fn the_recording_as_it_is_has_every_sample_once() {
    let recording = synthetic(7);
    let recorded: usize = recording.series.iter().map(|series| series.values.iter().flatten().count()).sum();
    let shape = Shape::plain(&recording, SHAPE.base_ms);
    assert_eq!(Load::new(recording, shape).samples(), recorded as u64);
}
