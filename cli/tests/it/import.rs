//! What was exported comes back bit by bit, into a data directory and into a running server, again and again.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::process::{Said, Server, run};
use crate::remote_write::{Request, now_ms};

pub(crate) fn export(data: &Path, file: &Path, more: &[&str]) -> Said {
    let arguments = ["export".as_ref(), file.as_os_str(), "--data-dir".as_ref(), data.as_os_str()];
    run(arguments.into_iter().chain(more.iter().map(AsRef::as_ref)))
}

pub(crate) fn import(kind: &str, file: &Path, into: &[&str]) -> Said {
    run(["import".as_ref(), kind.as_ref(), file.as_os_str()].into_iter().chain(into.iter().map(AsRef::as_ref)))
}

/// Floats that are easily lost, a staleness marker, another NaN, and native histograms, of the last ten minutes.
fn fill(server: &Server) {
    let from = now_ms() - 600_000;
    let odd = [
        0.0,
        -0.0,
        0.1,
        1e300,
        f64::INFINITY,
        f64::from_bits(0x7ff0_0000_0000_0002),
        f64::from_bits(0xfff8_dead_beef_0001),
    ];
    let samples: Vec<(i64, f64)> = (0..500).map(|n| (from + n * 1_000 + n % 7, odd[n as usize % odd.len()])).collect();
    let plain: Vec<(i64, f64)> = (0..500).map(|n| (from + n * 1_000, n as f64 * 0.25)).collect();
    let mut request = Request::default()
        .floats(&[("__name__", "odd"), ("quote", "a\"b,c\n")], &samples)
        .floats(&[("__name__", "plain"), ("job", "x")], &plain);
    for n in 0..50 {
        request = request.histogram(&[("__name__", "native")], from + n * 1_000, n as f64 / 3.0, &[n + 1, 2, n]);
    }
    let sent = request.send(server.port);
    assert_eq!(sent.status, 204, "{sent:?}");
}

#[test]
fn what_was_exported_from_a_server_at_work_comes_back_bit_by_bit() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let server = Server::start(&folder);
    fill(&server);
    let said = export(&at("data"), &at("first.jsonl"), &[]);
    assert!(said.status == 0 && said.err.contains("exported 1050 samples"), "{said:?}");
    assert!(!at("data/snapshots").read_dir().unwrap().any(|_| true), "the copy is gone");
    let first = fs::read(at("first.jsonl")).unwrap();
    let said = export(&at("data"), &at("first.jsonl"), &[]);
    assert!(said.status == 1, "a file is not written over: {said:?}");
    assert!(server.terminate().success());

    let copy = at("copy");
    let into = ["--data-dir", copy.to_str().unwrap()];
    let said = import("jsonl", &at("first.jsonl"), &into);
    assert!(said.status == 0 && said.out.contains("1050 stored"), "{said:?}");
    let said = import("jsonl", &at("first.jsonl"), &into);
    assert!(said.status == 0 && said.out.contains(" 0 stored, 1050 already there, 0 replaced"), "{said:?}");
    assert_eq!(export(&copy, &at("second.jsonl"), &[]).status, 0);
    assert!(fs::read(at("second.jsonl")).unwrap() == first, "it is the same file, byte by byte");

    // And into a server, which does the same by remote write.
    let home = at("other");
    fs::create_dir(&home).unwrap();
    let other = Server::start_with(&home, &[]);
    let said = import("jsonl", &at("first.jsonl"), &["--server", &other.url()]);
    assert!(said.status == 0 && said.out.contains("1050 stored"), "{said:?}");
    assert_eq!(export(&home.join("data"), &at("third.jsonl"), &[]).status, 0);
    assert!(fs::read(at("third.jsonl")).unwrap() == first, "it is the same file, byte by byte");
    let said = import("jsonl", &at("first.jsonl"), &["--data-dir", home.join("data").to_str().unwrap()]);
    assert!(said.status == 1 && said.err.contains("--server"), "{said:?}");
}

#[test]
fn tables_and_texts_come_back_as_far_as_they_hold_it() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let server = Server::start(&folder);
    fill(&server);
    for (kind, samples) in [("csv", 1_000), ("openmetrics", 500 + 358)] {
        let file = at(kind);
        let said = export(&at("data"), &file, &["--format", kind]);
        assert!(said.status == 0 && said.err.contains(&format!("exported {samples} samples")), "{said:?}");
        assert!(said.err.contains("left out"), "{said:?}");
        let copy = at(&format!("{kind}-copy"));
        let said = import(kind, &file, &["--data-dir", copy.to_str().unwrap()]);
        assert!(said.status == 0 && said.out.contains(&format!("{samples} stored")), "{said:?}");
        let again = at(&format!("{kind}-again"));
        assert_eq!(export(&copy, &again, &["--format", kind]).status, 0);
        assert!(fs::read(&again).unwrap() == fs::read(&file).unwrap(), "{kind}");
    }
    let said =
        export(&at("data"), Path::new("-"), &["--format", "csv", "--match", "plain{job=\"x\"}", "--start", "-20m"]);
    assert!(said.status == 0 && said.out.lines().count() == 501, "{said:?}");
    fs::write(at("bad.csv"), "series,timestamp,value\nup,1,x\n").unwrap();
    let said = import("csv", &at("bad.csv"), &["--data-dir", at("bad").to_str().unwrap()]);
    assert!(said.status == 1 && said.err.contains("line 2"), "{said:?}");
}

#[test]
fn a_server_s_cardinality_is_told() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    fill(&server);
    let said = run(["cardinality", "--server", &server.url(), "--limit", "5"]);
    assert!(said.status == 0 && said.out.starts_with("3 series in the last hour"), "{said:?}");
    assert!(said.out.contains("        1  plain") && said.out.contains("        1  x"), "{}", said.out);
    let said = run(["cardinality", "--server", &server.url(), "--output", "json"]);
    let data: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&data["series"], data["hours"].as_array().unwrap().len()), (&3.into(), 3), "{data}");
}

#[test]
fn the_offender_is_named_when_a_limit_of_series_bites() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), &["--series-limit", "20"]);
    // Forty of these find no room.
    let mut request = Request::default();
    for n in 0..60 {
        let (code, user) = ((n % 3).to_string(), n.to_string());
        request = request.floats(&[("__name__", "hits"), ("code", &code), ("user", &user)], &[(now_ms(), 1.0)]);
    }
    let said = (request.send(server.port), run(["cardinality", "--server", &server.url()]));
    assert!(said.1.out.starts_with("20 series in the last hour, 20 known to the head of 20 at most"), "{said:?}");
    assert!(said.1.out.contains("hits, user"), "{said:?}");
    let drops = crate::http::get(server.port, "/api/v1/status/drops").unwrap().body;
    assert!(drops.contains("series_limit"), "{drops}");
}

#[test]
fn parquet_is_written_by_a_kymo_that_was_built_with_it_and_others_say_what_they_lack() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let server = Server::start(&folder);
    fill(&server);
    let said = export(&at("data"), &at("all.parquet"), &["--format", "parquet"]);
    if cfg!(feature = "parquet") {
        assert!(said.status == 0 && said.err.contains("exported 1000 samples"), "{said:?}");
        assert!(said.err.contains("left out 50 samples"), "{said:?}");
        let bytes = fs::read(at("all.parquet")).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{} bytes", bytes.len());
    } else {
        assert!(said.status == 1 && said.err.contains("without the feature parquet"), "{said:?}");
        assert!(said.err.contains("--features parquet") && !at("all.parquet.part").exists(), "{said:?}");
    }
    assert!(!at("data/snapshots").read_dir().is_ok_and(|mut copies| copies.next().is_some()), "no copy is left");
}
