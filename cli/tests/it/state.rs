//! The state store as its users have it: `kymo state`, over HTTP, and what a server remembers of its runs.

use std::fs;
use std::net::TcpListener;

use serde_json::Value;
use tempfile::TempDir;

use crate::http;
use crate::process::{Server, run};

fn state(words: &[&str]) -> crate::process::Said {
    run(["state"].iter().chain(words))
}

#[test]
fn facts_are_put_listed_and_taken_away_in_a_directory_and_over_http() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let server = Server::start_with(folder.path(), &["--enable-admin-api"]);
    let (url, dir) = (server.url(), data.to_str().unwrap().to_owned());
    for place in [["--server", &url], ["--data-dir", &dir]] {
        let with = |words: &[&str]| state(&[words, &place].concat());
        if place[0] == "--data-dir" {
            let in_use = with(&["list"]);
            assert!(in_use.status == 1 && in_use.err.contains("--server"), "{in_use:?}");
            break;
        }
        assert_eq!(with(&["get", "user/a"]).status, 1);
        assert_eq!(with(&["put", "user/a", "one\ntwo"]).status, 0);
        assert_eq!(with(&["get", "user/a"]).out, "one\ntwo");
        assert_eq!(with(&["list", "user/"]).out, "user/a\n");
        assert_eq!(
            with(&["list", "--output", "json"]).out,
            "[\"server/id\",\"server/run\",\"server/starts\",\"user/a\"]\n"
        );
    }
    let id = state(&["get", "server/id", "--server", &url]).out;
    assert!(id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    let metrics = http::get(server.port, "/metrics").unwrap();
    let text = metrics.body;
    for line in [
        "storage_operations_total{backend=\"local\",operation=\"put\",result=\"ok\"}",
        "storage_operation_duration_seconds_bucket{backend=\"local\",operation=\"get\",result=\"ok\",le=\"1e-05\"}",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(server.terminate().success());

    // The same facts, in the directory that no server has open.
    let with = |words: &[&str]| state(&[words, &["--data-dir", &dir]].concat());
    assert_eq!(with(&["get", "server/id"]).out, id);
    assert_eq!(with(&["delete", "user/a"]).status, 0);
    assert_eq!(with(&["delete", "user/a"]).status, 1);
    let last: Value = serde_json::from_str(&with(&["get", "server/run"]).out).unwrap();
    assert_eq!(last["ended_in_order"], true, "{last}");
    assert_eq!(with(&["get", ""]).status, 1, "an empty key is none");
}

#[test]
fn a_server_knows_whether_the_run_before_ended_in_order() {
    let folder = TempDir::new().unwrap();
    assert!(Server::start(&folder).terminate().success());
    let server = Server::start(&folder);
    assert!(!server.out().contains("the run before"), "{}", server.out());
    server.kill();
    let server = Server::start(&folder);
    assert!(server.out().contains("the run before ended in no order"), "{}", server.out());
    assert!(server.terminate().success());
    let data = folder.path().join("data");
    let starts = state(&["get", "server/starts", "--data-dir", data.to_str().unwrap()]).out;
    assert_eq!(serde_json::from_str::<Value>(&starts).unwrap(), serde_json::json!({"starts": 3, "after_disorder": 1}));
}

#[test]
fn a_redis_that_is_not_there_keeps_a_server_from_nothing() {
    let folder = TempDir::new().unwrap();
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let config = folder.path().join("kymo.yml");
    let text =
        format!("kymo:\n  state:\n    backend: redis\n    redis: {{url: 'redis://127.0.0.1:{port}', timeout: 2s}}\n");
    fs::write(&config, text).unwrap();
    let server = Server::start_with(folder.path(), &["--config", config.to_str().unwrap()]);
    assert!(
        server.err().contains("the state store does not take what the server wants to remember"),
        "{}",
        server.err()
    );
    let metrics = http::get(server.port, "/metrics").unwrap();
    let text = metrics.body;
    let failed = "storage_operations_total{backend=\"redis\",operation=\"get\",result=\"error\"} 1";
    assert!(text.contains(failed), "{failed} is not in\n{text}");
    let said = state(&["list", "--config", config.to_str().unwrap()]);
    assert!(said.status == 1 && said.err.contains("connecting failed"), "{said:?}");
    assert!(server.terminate().success());
}

#[test]
fn what_a_file_says_of_the_store_is_checked() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("kymo.yml");
    for (text, reason) in [
        ("backend: redis", "there is no redis.url"),
        ("redis: {url: 'redis://127.0.0.1'}", "say backend: redis"),
        ("{backend: redis, redis: {url: 'rediss://127.0.0.1'}}", "expected redis://"),
        ("{backend: redis, redis: {url: 'redis://me:secret@127.0.0.1'}}", "name that as password_file"),
        ("backend: etcd", "etcd"),
    ] {
        fs::write(&config, format!("kymo:\n  state:\n    {text}\n")).unwrap();
        let said = run(["config", "check", config.to_str().unwrap()]);
        assert!(said.status == 1 && said.err.contains(reason) && !said.err.contains("secret@"), "{text}: {said:?}");
    }
}
