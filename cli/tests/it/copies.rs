//! The drill: serve under load, take a snapshot, destroy the data, restore, and find every sample that was acknowledged
//! before the snapshot.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::http;
use crate::process::{Server, run, wait_for};
use crate::remote_write::{Request, now_ms};

const SERIES: usize = 20;

/// Writes scrapes one second apart until told to stop; `acknowledged` is the number of those answered 204.
fn load(port: u16, begin_ms: i64, acknowledged: &AtomicI64, stop: &AtomicBool) {
    let names: Vec<String> = (0..SERIES).map(|n| n.to_string()).collect();
    for scrape in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let time = begin_ms + scrape * 1_000;
        let request = names.iter().fold(Request::default(), |request, n| {
            request.floats(&[("__name__", "load"), ("n", n)], &[(time, scrape as f64)])
        });
        let sent = request.send(port);
        assert_eq!(sent.status, 204, "{sent:?}");
        acknowledged.store(scrape + 1, Ordering::Release);
    }
}

/// The lowest number of samples of any series, and the highest.
fn counts(server: &Server) -> (i64, i64) {
    let count = |of: &str| {
        let said = server.query(&[&format!("{of}(count_over_time(load[20d]))"), "--output", "csv"]);
        assert_eq!(said.status, 0, "{said:?}");
        let value = said.out.lines().nth(1).and_then(|row| row.rsplit(',').next()?.trim().parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no count in {:?}", said.out)) as i64
    };
    (count("min"), count("max"))
}

#[test]
fn what_was_acknowledged_before_a_snapshot_is_there_after_the_data_was_destroyed() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), &["--enable-admin-api"]);
    let (acknowledged, stop) = (AtomicI64::new(0), AtomicBool::new(false));
    let data = folder.path().join("data");
    let outside = folder.path().join("backup");
    // Ten days ago, so that many days of scrapes fit between then and now.
    let begin_ms = now_ms() - 10 * 86_400_000;
    let (before, inside) = std::thread::scope(|scope| {
        scope.spawn(|| load(server.port, begin_ms, &acknowledged, &stop));
        let written = || acknowledged.load(Ordering::Acquire);
        wait_for("some load", || (written() > 100).then_some(()));
        // Part of it in blocks, part of it in the log.
        let compacted = http::send(server.port, "POST", "/api/v1/admin/tsdb/compact?wait=true", &[], b"").unwrap();
        assert_eq!(compacted.status, 204, "{compacted:?}");
        let so_far = written();
        wait_for("more load", || (written() > so_far + 20).then_some(()));

        let before = [written(), 0];
        let said = run(["snapshot".as_ref(), outside.as_os_str(), "--data-dir".as_ref(), data.as_os_str()]);
        assert_eq!(said.status, 0, "{said:?}");
        let before = [before[0], written()];
        let said = run(["snapshot", "--server", &server.url()]);
        assert_eq!(said.status, 0, "{said:?}");
        let now = written();
        wait_for("load after the snapshots", || (written() > now + 20).then_some(()));
        stop.store(true, Ordering::Relaxed);
        (before, data.join("snapshots").join(said.out.trim()))
    });
    let moved = folder.path().join("inside");
    fs::rename(&inside, &moved).unwrap();
    server.kill();
    fs::remove_dir_all(&data).unwrap();

    for (snapshot, before) in [(&outside, before[0]), (&moved, before[1])] {
        let said = run(["verify".as_ref(), "--deep".as_ref(), snapshot.as_os_str()]);
        assert_eq!(said.status, 0, "{said:?}");
        let restore = || run(["restore".as_ref(), snapshot.as_os_str(), "--data-dir".as_ref(), data.as_os_str()]);
        let said = restore();
        assert!(said.status == 0 && said.out.contains("copied and checked"), "{said:?}");
        let said = restore();
        assert!(said.status == 1 && said.err.contains("is not empty"), "{said:?}");
        let server = Server::start(&folder);
        let (least, most) = counts(&server);
        // What was acknowledged meanwhile may be there or not, but no scrape in half.
        assert!(least >= before && most == least, "{least} to {most} scrapes of {before} before the snapshot");
        let last = server.query(&["last_over_time(load{n=\"7\"}[20d])", "--output", "json"]);
        let answer: Value = serde_json::from_str(&last.out).unwrap();
        assert_eq!(answer["result"][0]["value"][1], Value::from((most - 1).to_string()), "{answer}");
        assert!(server.terminate().success());
        fs::remove_dir_all(&data).unwrap();
    }
}
