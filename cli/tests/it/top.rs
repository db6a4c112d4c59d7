//! `kymo top --once`: the same screens over a server, over its data directory, and over one program.

use std::path::Path;

use tempfile::TempDir;

use crate::http;
use crate::process::{Said, Server, run, wait_for};

const VIEWS: [&str; 10] =
    ["overview", "services", "explore", "metrics", "host", "contexts", "targets", "cardinality", "drops", "queries"];

fn frame(source: &[&str], view: &str, extra: &[&str]) -> Said {
    let size = ["top", "--once", "--width", "120", "--height", "30", "--view", view];
    run(size.iter().chain(source).chain(extra))
}

/// A server that scrapes another one and an address at which nobody listens, until both are stored; and that other one.
fn scraping(folder: &Path) -> (Server, Server) {
    let config = folder.join("kymo.yml");
    let scraped = Server::start_with(&folder.join("scraped"), &[]);
    let jobs = format!(
        "scrape_configs:\n- job_name: shop\n  scrape_interval: 1s\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n\
         - job_name: gone\n  scrape_interval: 1s\n  static_configs: [{{targets: ['127.0.0.1:1']}}]\n",
        scraped.port
    );
    std::fs::write(&config, jobs).unwrap();
    let server = Server::start_with(folder, &["--config", config.to_str().unwrap(), "--collect", "self"]);
    wait_for("two targets", || {
        let path = "/api/v1/query?query=count(up)%20unless%20count(up%7Bjob%3D%22shop%22%7D%20%3D%3D%200)";
        let targets = http::get(server.port, "/api/v1/targets").ok()?.body;
        let are_told = targets.contains("\"health\":\"up\"") && targets.contains("\"health\":\"down\"");
        (are_told && http::get(server.port, path).ok()?.body.contains("\"3\"")).then_some(())
    });
    wait_for("what the server stores of itself", || {
        let path = "/api/v1/query?query=kymo_received_samples_total%7Bjob%3D%22kymo%22,source%3D%22scrape%22%7D";
        http::get(server.port, path).ok()?.body.contains("outcome").then_some(())
    });
    (server, scraped)
}

#[test]
fn every_view_is_told_by_a_server_and_stored_facts_by_its_directory() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("scraped")).unwrap();
    let (server, _scraped) = scraping(folder.path());
    let url = server.url();
    for view in VIEWS {
        let said = frame(&["--server", &url], view, if view == "explore" { &["--query", "up"] } else { &[] });
        assert!(said.status == 0 && said.out.lines().count() == 30, "{view}: {said:?}");
        assert!(!said.out.contains("LOST"), "{view}: {}", said.out);
    }
    let told = |source: &[&str], view: &str, expected: &[&str]| {
        let said = frame(source, view, &[]);
        for text in expected {
            assert!(said.out.contains(text), "{view} of {source:?} lacks {text:?}:\n{}{}", said.out, said.err);
        }
    };
    let of_server = ["--server", url.as_str()];
    told(&of_server, "targets", &["gone", "127.0.0.1:1", "shop", "1 up, 1 down"]);
    told(&of_server, "cardinality", &["kymo_", "instance", "job=shop"]);
    told(&of_server, "contexts", &["global"]);
    told(&of_server, "drops", &["scrape"]);
    told(&of_server, "overview", &["target 127.0.0.1:1"]);

    assert!(server.terminate().success());
    let data = folder.path().join("data");
    let before = files(&data);
    let directory = ["--data-dir", data.to_str().unwrap()];
    told(&directory, "targets", &["gone", "127.0.0.1:1", "shop", "1 up, 1 down"]);
    told(&directory, "cardinality", &["kymo_", "instance", "job=shop"]);
    told(&directory, "metrics", &["kymo_"]);
    told(&directory, "drops", &["scrape", "RECEIVED"]);
    told(&directory, "queries", &["a data directory runs no queries"]);
    told(&directory, "overview", &["target 127.0.0.1:1"]);
    assert_eq!(files(&data), before, "a directory that is looked at stays as it is");
}

/// Names and lengths of the files below a folder.
fn files(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path().display().to_string(), entry.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}

#[test]
fn what_cannot_be_shown_is_said() {
    let folder = TempDir::new().unwrap();
    let nothing = frame(&["--data-dir", folder.path().to_str().unwrap()], "overview", &[]);
    assert!(nothing.status == 1 && nothing.err.contains("is no data directory"), "{nothing:?}");
    let lost = frame(&["--server", "http://127.0.0.1:1"], "overview", &[]);
    assert!(lost.out.contains("LOST") || lost.err.contains("127.0.0.1:1"), "{lost:?}");
    let unknown = frame(&[], "nowhere", &[]);
    assert!(unknown.status == 2 && unknown.err.contains("nowhere"), "{unknown:?}");
}
