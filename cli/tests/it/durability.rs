//! What was acknowledged is there after every kind of end.

use std::io::{Read, Write};
use std::net::TcpStream;

use tempfile::TempDir;

use crate::http;
use crate::process::{Server, configured, run, wait_for};
use crate::remote_write::{Request, now_ms};

const SAMPLES: i64 = 100;

fn write(server: &Server, metric: &str, start_ms: i64) {
    let samples: Vec<(i64, f64)> = (0..SAMPLES).map(|n| (start_ms + n * 1000, n as f64)).collect();
    let sent = Request::default().floats(&[("__name__", metric)], &samples).send(server.port);
    assert_eq!(sent.status, 204, "{sent:?}");
}

fn count(server: &Server, metric: &str) -> String {
    let said = server.query(&[&format!("count_over_time({metric}[1h])"), "--output", "csv"]);
    assert_eq!(said.status, 0, "{said:?}");
    said.out.lines().nth(1).and_then(|row| row.split(',').nth(1)).unwrap_or("none").trim().to_owned()
}

#[test]
fn a_terminated_server_ends_well_and_has_everything_when_it_comes_back() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    write(&server, "kept", now_ms() - SAMPLES * 1000);
    let status = server.terminate();
    assert!(status.success(), "{status}");

    let server = Server::start(&folder);
    assert_eq!(count(&server, "kept"), SAMPLES.to_string());
}

#[test]
fn a_killed_server_has_everything_when_it_comes_back() {
    let folder = TempDir::new().unwrap();
    for round in 0..3 {
        let server = Server::start(&folder);
        for earlier in 0..round {
            assert_eq!(count(&server, &format!("round_{earlier}")), SAMPLES.to_string());
        }
        write(&server, &format!("round_{round}"), now_ms() - SAMPLES * 1000);
        server.kill();
    }
    let server = Server::start(&folder);
    for round in 0..3 {
        assert_eq!(count(&server, &format!("round_{round}")), SAMPLES.to_string());
    }
    assert!(!server.out().contains("DAMAGED"), "{}", server.out());
}

#[test]
fn an_interrupt_ends_a_server_as_well() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::start(&folder);
    server.signal("INT");
    assert!(server.wait().success());
}

#[test]
fn a_second_signal_leaves_at_once_and_the_status_says_so() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::start(&folder);
    write(&server, "kept", now_ms() - SAMPLES * 1000);
    // A request that never ends keeps the drain waiting.
    let mut endless = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let head = "POST /api/v1/write HTTP/1.1\r\nHost: kymo\r\nContent-Type: application/x-protobuf\r\n\
                Content-Encoding: snappy\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n";
    endless.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 12];
    endless.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 100", "the server waits for the body");
    server.signal("TERM");
    wait_for("the drain", || server.err().contains("stopping").then_some(()));
    server.signal("TERM");
    let status = server.wait();
    assert_eq!(status.code(), Some(128 + 15), "{status}\n{}", server.err());

    let server = Server::start(&folder);
    assert_eq!(count(&server, "kept"), SAMPLES.to_string());
}

#[test]
fn data_is_compacted_by_a_server_and_without_one() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    write(&server, "kept", now_ms() - SAMPLES * 1000);
    let url = format!("http://127.0.0.1:{}", server.port);
    let refused = run(["compact", "--server", &url]);
    assert!(refused.status == 1 && refused.err.contains("--enable-admin-api"), "{refused:?}");
    let data = folder.path().join("data");
    let in_use = run(["compact".as_ref(), "--data-dir".as_ref(), data.as_os_str()]);
    assert_eq!(in_use.status, 1, "{in_use:?}");
    assert!(server.terminate().success());

    let alone = run(["compact".as_ref(), "--data-dir".as_ref(), data.as_os_str()]);
    assert!(alone.status == 0 && alone.out.contains("became 1 blocks"), "{alone:?}");
    let nothing = run(["compact".as_ref(), "--data-dir".as_ref(), folder.path().as_os_str()]);
    assert!(nothing.status == 1 && nothing.err.contains("is no data directory"), "{nothing:?}");

    let server = Server::start_with(folder.path(), &["--enable-admin-api"]);
    write(&server, "late", now_ms() - SAMPLES * 1000);
    let by_server = run(["compact", "--server", &format!("http://127.0.0.1:{}", server.port)]);
    assert_eq!(by_server.status, 0, "{by_server:?}");
    for metric in ["kept", "late"] {
        assert_eq!(count(&server, metric), SAMPLES.to_string());
    }
    // Told at the next round of upkeep.
    let in_blocks = format!("\nkymo_storage_block_samples {}\n", 2 * SAMPLES);
    wait_for("all samples in blocks", || {
        http::get(server.port, "/metrics").is_ok_and(|answer| answer.body.contains(&in_blocks)).then_some(())
    });
}

#[test]
fn series_are_deleted_by_a_server_and_without_one() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), &["--enable-admin-api"]);
    let url = format!("http://127.0.0.1:{}", server.port);
    for metric in ["kept", "tmp_a", "tmp_b"] {
        write(&server, metric, now_ms() - SAMPLES * 1000);
    }
    let both = "{__name__=~\"tmp_.*\"}";
    let dry = run(["delete", both, "tmp_a", "--server", &url, "--dry-run"]);
    let would = format!("2 series, {} samples", 2 * SAMPLES);
    assert!(dry.status == 0 && dry.out.starts_with(&would) && dry.out.contains("would be deleted"), "{dry:?}");
    assert_eq!(count(&server, "tmp_a"), SAMPLES.to_string());
    let early = run(["delete", "tmp_a", "--server", &url, "--end", "-30d", "--output", "csv"]);
    assert_eq!(
        (early.status, &*early.out),
        (0, "series,samples,buckets,value_bytes,freed_bytes\n0,0,0,0,\n"),
        "{early:?}"
    );
    let done = run(["delete", "tmp_a", "--server", &url, "--clean", "--output", "json"]);
    assert_eq!(done.status, 0, "{done:?}");
    let done: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&done["deleted"]["samples"], &done["dryRun"]), (&SAMPLES.into(), &false.into()), "{done}");
    assert!(done["cleaned"]["blocks"].is_u64(), "{done}");
    assert_eq!(count(&server, "kept"), SAMPLES.to_string());
    assert_ne!(count(&server, "tmp_a"), SAMPLES.to_string());
    assert!(server.terminate().success());

    let data = folder.path().join("data");
    let alone = run(["delete".as_ref(), both.as_ref(), "--data-dir".as_ref(), data.as_os_str(), "--clean".as_ref()]);
    let deleted = format!("1 series, {SAMPLES} samples");
    assert!(alone.status == 0 && alone.out.starts_with(&deleted) && alone.out.contains("given back"), "{alone:?}");
    for (selector, wrong) in [("{}", "must not match the empty value"), ("up{", "selects no series")] {
        let said = run(["delete", selector, "--server", &url]);
        assert!(said.status == 2 && said.err.contains(wrong), "{said:?}");
    }
    let server = Server::start(&folder);
    assert_eq!(count(&server, "kept"), SAMPLES.to_string());
    let off = run(["delete", "kept", "--server", &format!("http://127.0.0.1:{}", server.port)]);
    assert!(off.status == 1 && off.err.contains("--enable-admin-api"), "{off:?}");
}

#[test]
fn retention_by_series_is_looked_at_first_and_put_in_force_by_a_reload() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, kymo: &str| configured(folder.path(), name, kymo);
    let path = file("kymo.yml", "retention: 90d");
    let server = Server::start_with(folder.path(), &["--config", path.to_str().unwrap()]);
    let url = format!("http://127.0.0.1:{}", server.port);
    for metric in ["debug", "kept"] {
        write(&server, metric, now_ms() - SAMPLES * 1000);
    }
    // Into blocks, of which the figures are.
    assert_eq!(run(["compact", "--server", &url]).status, 0);
    let rule = "retention: [{match: debug, keep: 1ms}, {keep: 80d}], retention_disk_share: 90%";
    let new = file("new.yml", rule);
    let in_force = run(["retention", "--server", &url]);
    assert_eq!(
        in_force.out,
        "all others kept 90d: 0 samples of 0 series go, 0 B\nbeyond the limits of size, the oldest: 0 samples of 0 series go, 0 B\n"
    );
    let tried = run(["retention", "--server", &url, "--config", new.to_str().unwrap(), "--output", "csv"]);
    assert_eq!(tried.status, 0, "{tried:?}");
    let goes = format!("\"{{__name__=\"\"debug\"\"}}\",1ms,1,{SAMPLES},");
    assert!(tried.out.lines().nth(1).is_some_and(|line| line.starts_with(&goes)), "{tried:?}");
    assert_eq!(tried.out.lines().nth(2), Some("\"all others\",80d,0,0,0,0"));
    assert_eq!(count(&server, "debug"), SAMPLES.to_string());

    file("kymo.yml", rule);
    assert_eq!(http::send(server.port, "POST", "/-/reload", &[], &[]).unwrap().status, 200);
    assert_ne!(count(&server, "debug"), SAMPLES.to_string());
    assert_eq!(count(&server, "kept"), SAMPLES.to_string());
    assert!(server.terminate().success());
    let data = folder.path().join("data");
    let alone: [&std::ffi::OsStr; 5] =
        ["retention".as_ref(), "--config".as_ref(), new.as_os_str(), "--data-dir".as_ref(), data.as_os_str()];
    let alone = run(alone);
    assert!(alone.status == 0 && alone.out.contains("all others kept 80d: 0 samples"), "{alone:?}");
}
