//! What the disk gives back: `du` before and after a rule of retention and a delete, on a server at work.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kymo_core::Random;
use kymo_core::random::SeededRandom;
use serde_json::Value;
use tempfile::TempDir;

use crate::http;
use crate::process::{Server, configured, run, wait_for};
use crate::remote_write::{Request, now_ms};

const SERIES: usize = 120;
const SAMPLES: i64 = 2_400;
const STEP_MS: i64 = 180_000;
/// What a file may take on a disk beyond its length.
const ALLOCATION: u64 = 8_192;

/// Bytes that a directory takes on its disk, as `du` counts them.
fn du(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: std::path::PathBuf| match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => du(&path),
        Ok(meta) => meta.blocks() * 512,
        // Removed meanwhile, as files of a server at work are.
        Err(_) => 0,
    };
    entries.map(below).sum()
}

/// Five days of noise, half of it of a job that is debugged.
fn fill(server: &Server, begin_ms: i64) {
    let random = SeededRandom::new(7);
    for n in 0..SERIES {
        let (job, id) = (if n % 2 == 0 { "debug" } else { "shop" }, n.to_string());
        let sample = |m: i64| (begin_ms + m * STEP_MS, random.below(1 << 30) as f64 / 1024.0);
        let samples: Vec<(i64, f64)> = (0..SAMPLES).map(sample).collect();
        let sent = Request::default().floats(&[("__name__", "noise"), ("job", job), ("n", &id)], &samples);
        assert_eq!(sent.send(server.port).status, 204);
    }
}

/// Samples of a job that are older than three days and a bit, and all of it.
fn counts(server: &Server, job: &str) -> [u64; 2] {
    ["sum(count_over_time(noise{job=\"JOB\"}[20d] offset 73h))", "sum(count_over_time(noise{job=\"JOB\"}[20d]))"].map(
        |text| {
            let said = server.query(&[&text.replace("JOB", job), "--output", "csv"]);
            assert_eq!(said.status, 0, "{said:?}");
            said.out
                .lines()
                .nth(1)
                .map_or(0, |row| row.rsplit(',').next().unwrap().trim().parse::<f64>().unwrap() as u64)
        },
    )
}

#[test]
fn a_rule_of_retention_and_a_delete_give_back_on_the_disk_what_they_say() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, kymo: &str| configured(folder.path(), name, kymo);
    let path = file("kymo.yml", "retention: 90d");
    let server = Server::start_with(folder.path(), &["--config", path.to_str().unwrap()]);
    let (url, blocks) = (server.url(), folder.path().join("data/blocks"));
    fill(&server, now_ms() - SAMPLES * STEP_MS - 60_000);
    assert_eq!(run(["compact", "--server", &url]).status, 0);
    let (all, before) = (du(&blocks), counts(&server, "debug"));
    assert_eq!(before[1], SERIES as u64 / 2 * SAMPLES as u64);
    assert!(before[0] > before[1] / 3, "two of five days are too old: {before:?}");

    // Looked at first.
    let rule = "retention: [{match: '{job=\"debug\"}', keep: 3d}, {keep: 90d}]";
    let new = file("new.yml", rule);
    let said = run(["retention", "--server", &url, "--config", new.to_str().unwrap(), "--output", "json"]);
    let would: Value = serde_json::from_str(&said.out).unwrap();
    let goes = &would["byAge"][0]["goes"];
    let (samples, bytes) = (goes["samples"].as_u64().unwrap(), goes["bytes"].as_u64().unwrap());
    assert!(samples >= before[0] && bytes > samples, "noise takes more than a byte a sample: {would}");
    assert_eq!(du(&blocks), all, "looking changes nothing");

    // In force for queries with the reload, on the disk with the next merge.
    file("kymo.yml", rule);
    assert_eq!(http::send(server.port, "POST", "/-/reload", &[], &[]).unwrap().status, 200);
    let after = counts(&server, "debug");
    assert!(after[0] == 0 && after[1] <= before[1] - samples, "{before:?} became {after:?}");
    assert_eq!(counts(&server, "shop"), [before[0], before[1]]);
    assert_eq!(run(["compact", "--server", &url]).status, 0);
    let ruled = wait_for("the bytes of what is too old", || {
        let now = du(&blocks);
        (now + bytes <= all + ALLOCATION).then_some(now)
    });

    // Ten series of the others.
    let ten = "noise{job=\"shop\",n=~\"[13579]|1[13579]\"}";
    let said = run(["delete", ten, "--server", &url, "--clean", "--output", "json"]);
    let done: Value = serde_json::from_str(&said.out).unwrap();
    let figure = |of: &str, name: &str| done[of][name].as_u64().unwrap_or_else(|| panic!("{done}"));
    assert_eq!([figure("deleted", "series"), figure("deleted", "samples")], [10, 10 * SAMPLES as u64]);
    let cleaned = du(&blocks);
    println!(
        "{all} bytes on disk, {ruled} with the rule, which said {bytes}, {cleaned} after the delete, which said {done}"
    );
    assert!(cleaned + figure("deleted", "bytes") <= ruled + ALLOCATION, "{cleaned} of {ruled}: {done}");
    // What the server's own merges were quicker with is not told.
    assert!(cleaned + figure("cleaned", "bytes") <= ruled + ALLOCATION, "{cleaned} of {ruled}: {done}");
    assert_eq!(counts(&server, "shop")[1], before[1] - 10 * SAMPLES as u64);
}
