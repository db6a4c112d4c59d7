//! What cannot be done is said in one line: what, where, and what to do.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::http;
use crate::process::{ANY_PORTS, Said, Server, kymo, run};
use crate::remote_write::{Request, now_ms};

/// Runs a `kymo serve` that must end by itself.
fn refused(flags: &[&str]) -> Said {
    run(["serve"].iter().chain(&ANY_PORTS).chain(flags))
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_touched() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let said = run(["serve", "--listen", &address, "--data-dir", data.to_str().unwrap()]);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.err.contains(&address) && said.err.contains("--listen"), "{said:?}");
    assert!(said.out.is_empty(), "{said:?}");
    assert!(!data.exists(), "the data directory was made although the server could not start");
    for flag in ["--otlp-grpc", "--otlp-http"] {
        let said = refused(&[flag, &address, "--data-dir", data.to_str().unwrap()]);
        assert_eq!(said.status, 1, "{said:?}");
        assert!(said.err.contains(&address) && said.err.contains(&format!("{flag} (off for none)")), "{said:?}");
        assert!(said.out.is_empty() && !data.exists(), "{said:?}");
    }
}

#[test]
fn a_data_directory_in_use_is_named() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let data = folder.path().join("data");
    let said = refused(&["--data-dir", data.to_str().unwrap()]);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.err.contains(data.to_str().unwrap()) && said.err.contains("another kymo uses it"), "{said:?}");
    drop(server);
    // The lock goes with the process.
    drop(Server::start(&folder));
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    for data in [file.clone(), file.join("below")] {
        let said = refused(&["--data-dir", data.to_str().unwrap()]);
        assert_eq!(said.status, 1, "{said:?}");
        assert!(said.err.contains(data.to_str().unwrap()) && said.err.contains("--data-dir"), "{said:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a directory");
}

#[test]
fn a_ports_file_that_cannot_be_written_is_named() {
    let folder = TempDir::new().unwrap();
    let (data, ports) = (folder.path().join("data"), folder.path().join("missing/ports.json"));
    let said = refused(&["--data-dir", data.to_str().unwrap(), "--ports-file", ports.to_str().unwrap()]);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.err.contains(ports.to_str().unwrap()) && said.err.contains("--ports-file"), "{said:?}");
}

#[test]
fn a_token_file_without_a_token_does_not_open_the_server() {
    let folder = TempDir::new().unwrap();
    let (data, token) = (folder.path().join("data"), folder.path().join("token"));
    let flags = ["--data-dir", data.to_str().unwrap(), "--auth-token-file", token.to_str().unwrap()];
    let said = refused(&flags);
    assert!(said.status == 1 && said.err.contains(token.to_str().unwrap()), "{said:?}");
    fs::write(&token, "\n  \n").unwrap();
    let said = refused(&flags);
    assert!(said.status == 1 && said.err.contains("holds no token"), "{said:?}");
    assert!(!data.exists());
}

#[test]
fn values_that_are_none_are_named_with_what_was_expected() {
    let rows: [(&[&str], &str); 13] = [
        (&["serve", "--listen", "9911"], "127.0.0.1:9911"),
        (&["serve", "--listen", "127.0.0.1:99111"], "127.0.0.1:9911"),
        (&["serve", "--memory-limit", "1XB"], "KiB, MiB, GiB"),
        (&["serve", "--memory-limit", "1KiB"], "64MiB"),
        (&["serve", "--retention", "30 days"], "30d"),
        (&["serve", "--sync", "sometimes"], "always, interval or never"),
        (&["serve", "--collect", "everything"], "host, self"),
        (&["serve", "--otlp-grpc", "on"], "or off"),
        (&["serve", "--log-format", "xml"], "json"),
        (&["serve", "--lisen", "127.0.0.1:0"], "--listen"),
        (&["query", "up", "--time", "yesterday"], "seconds since 1970"),
        (&["query", "up", "--start", "-1h", "--step", "0"], "at least a millisecond"),
        (&["query", "up", "--timeout", "soon"], "30s"),
    ];
    for (arguments, expected) in rows {
        let said = run(arguments);
        assert_eq!(said.status, 2, "{arguments:?}: {said:?}");
        assert!(said.err.contains(expected) && said.out.is_empty(), "{arguments:?}: {said:?}");
    }
}

#[test]
fn commands_without_what_they_need_show_how_they_are_used() {
    for (arguments, status) in [(&["query"][..], 2), (&["promqltest"], 2), (&["serv"], 2), (&[], 2)] {
        let said = run(arguments);
        assert_eq!(said.status, status, "{arguments:?}: {said:?}");
        assert!(said.err.contains("Usage") || said.err.contains("--help"), "{arguments:?}: {said:?}");
    }
    let output = kymo(["query", "up", "--time", "now", "--start", "-1h"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// Every file below `folder` with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_data_directory_of_a_newer_version_is_refused_and_left_as_it_was() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let sent = Request::default().floats(&[("__name__", "kept")], &[(now_ms(), 1.0)]).send(server.port);
    assert_eq!(sent.status, 204, "{sent:?}");
    assert!(server.terminate().success());

    // The version follows the magic, see docs/format/manifest.md.
    let (data, version) = (folder.path().join("data"), 8..12);
    let manifest = data.join("MANIFEST");
    let ours = fs::read(&manifest).unwrap();
    let mut newer = ours.clone();
    newer[version].copy_from_slice(&u32::MAX.to_le_bytes());
    fs::write(&manifest, newer).unwrap();
    let before = contents(&data);
    let said = refused(&["--data-dir", data.to_str().unwrap()]);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.err.contains("newer version") && said.err.contains(manifest.to_str().unwrap()), "{said:?}");
    assert!(before == contents(&data), "something in the data directory was changed");

    fs::write(&manifest, ours).unwrap();
    let said = Server::start(&folder).query(&["count_over_time(kept[5m])", "--output", "csv"]);
    assert!(said.out.ends_with(",1\r\n"), "{said:?}");
}

#[test]
fn hostile_queries_are_refused_while_a_small_one_beside_them_is_answered() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let port = server.port;
    let ask = move |text: &str| {
        let body = format!("query={}&time=0", http::encoded(text));
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        http::send(port, "POST", "/api/v1/query", &headers, body.as_bytes()).unwrap()
    };
    // (text, status, what the refusal names)
    let hostile = [
        (format!("1{}", "+1".repeat(100_000)), 400, "limit"),
        (format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000)), 400, "limit"),
        (format!("{}1", "-".repeat(100_000)), 400, "limit"),
        (format!("vector(1){}", "[1h:1m]".repeat(20_000)), 400, "parse error"),
        ("x".repeat(10 << 20), 413, "limit"),
        (format!("{{a=~\"{}\"}}", "((a{100}){100}){100}"), 400, "error parsing regexp"),
        (format!("{{a=~\"{}\"}}", "(a+)+".repeat(150_000)), 400, "error parsing regexp"),
    ];
    std::thread::scope(|threads| {
        for (text, status, names) in &hostile {
            threads.spawn(move || {
                for _ in 0..3 {
                    let answer = ask(text);
                    let start = &text[..text.len().min(30)];
                    assert_eq!(answer.status, *status, "{start}: {}", &answer.body[..answer.body.len().min(300)]);
                    assert!(answer.body.contains(names), "{start}: {}", &answer.body[..answer.body.len().min(300)]);
                }
            });
        }
        for _ in 0..20 {
            let answer = ask("1 + 1");
            assert_eq!((answer.status, answer.json()["data"]["result"][1].as_str()), (200, Some("2")));
        }
    });
}

/// Asks for `query_range` at `steps + 1` moments, a second apart, up to now.
fn over_steps(server: &Server, query: &str, steps: i64, more: &str) -> http::Answer {
    let end = now_ms() / 1000;
    let form = format!("query={}&start={}&end={end}&step=1{more}", http::encoded(query), end - steps);
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    http::send(server.port, "POST", "/api/v1/query_range", &headers, form.as_bytes()).unwrap()
}

/// Status and kind are as wanted, and the text has all parts: the limit, what was needed, what sets it.
fn must_name(answer: &http::Answer, status: u16, kind: &str, parts: &[&str]) {
    let shown = &answer.body[..answer.body.len().min(400)];
    assert_eq!(answer.status, status, "{shown}");
    let json = answer.json();
    assert_eq!((json["status"].as_str(), json["errorType"].as_str()), (Some("error"), Some(kind)), "{shown}");
    let text = json["error"].as_str().unwrap();
    for part in parts {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn every_limit_on_a_query_names_itself_the_need_and_the_setting() {
    let folder = TempDir::new().unwrap();
    let limits = ["--query-memory", "64KiB", "--query-timeout", "7s"];
    let server = Server::start_with(folder.path(), &limits);
    let memory = ["\"process/queries/query\" of 65536 bytes", "more bytes were wanted", "--query-memory sets it"];
    must_name(&over_steps(&server, "vector(1)", 4_000, ""), 422, "execution", &memory);
    // Prometheus' words to the letter: they name the limit and the parameter.
    let points = ["maximum resolution of 11,000 points", "?step=XX"];
    must_name(&over_steps(&server, "vector(1)", 11_001, ""), 400, "bad_data", &points);
    for (timeout, named) in [("&timeout=0", "0ns"), ("&timeout=0.000000001", "1ns")] {
        let time = ["query timed out in query queue", &format!("more was needed than {named}"), "--query-timeout"];
        must_name(&over_steps(&server, "vector(1)", 1, timeout), 503, "timeout", &time);
    }
    let depth = ["limit of 16384 levels, which is fixed"];
    let deep = format!("{}1{}", "(".repeat(20_000), ")".repeat(20_000));
    must_name(&over_steps(&server, &deep, 1, ""), 400, "bad_data", &depth);
    let parts = ["more operators and operands than the limit of 65536, which is fixed"];
    must_name(&over_steps(&server, &format!("1{}", "+1".repeat(100_000)), 1, ""), 400, "bad_data", &parts);
    let text = ["2000000 bytes are more than the limit of 1048576, which is fixed"];
    must_name(&over_steps(&server, &"x".repeat(2_000_000), 1, ""), 413, "bad_data", &text);
    // Every byte of this is three in a form.
    let form = ["the form of 1200", "longer than the limit of 10485760 bytes, which is fixed"];
    must_name(&over_steps(&server, &" ".repeat(4_000_000), 1, ""), 413, "bad_data", &form);
    // A small query is answered as before.
    assert_eq!(over_steps(&server, "vector(1)", 10, "").status, 200);
}

#[test]
fn all_queries_together_have_a_limit_that_is_named() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), &["--memory-limit", "64MiB"]);
    let mut request = Request::default();
    for n in 0..600 {
        request = request.floats(&[("__name__", "x"), ("n", &n.to_string())], &[(now_ms() - 12_000_000, 1.0)]);
    }
    assert_eq!(request.send(server.port).status, 204);
    let refused = over_steps(&server, "max_over_time(x[1d])", 11_000, "");
    let named = ["memory limit \"process/queries\" of", "more bytes were wanted", "--memory-limit sets it"];
    must_name(&refused, 422, "execution", &named);
    assert_eq!(over_steps(&server, "count(max_over_time(x[1d]))", 10, "").status, 200);
}

#[test]
fn a_body_beyond_the_limit_is_refused_before_it_is_read() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let head = "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 70000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(
        answer.contains("the request body of 70000000 bytes is longer than the limit of 67108864 bytes"),
        "{answer}"
    );
}
