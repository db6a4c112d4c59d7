//! `kymo status`: looking into a running server, and at what is not there.

use tempfile::TempDir;

use crate::http;
use crate::process::{Server, kymo, run, wait_for};

#[test]
fn a_server_shows_its_requests_queries_and_lanes() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder);
    assert_eq!(http::get(server.port, "/api/v1/query?query=up").unwrap().status, 200);
    assert_eq!(http::get(server.port, "/nowhere").unwrap().status, 404);
    let said = run(["status", &server.url()]);
    assert_eq!(said.status, 0, "{said:?}");
    for expected in [
        "✅ global (",
        "✅ global.http./api/v1/query (",
        "Requests: 1 total | 1 last hour | 1 last minute |",
        "✅ global.http.no route (",
        "global.upkeep.flush (",
        "waits for \"its next moment\"",
        "- global.http./api/v1/query.GET.kymo-query (",
        "success: \"404\"",
    ] {
        assert!(said.out.contains(expected), "{expected} is not in\n{}", said.out);
    }
    let json = run(["status", &server.url(), "--json"]);
    let status: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(status["contexts"][0]["path"], "global");
    // They are brought up to date once a second.
    wait_for("the contexts' metrics", || {
        let metrics = http::get(server.port, "/metrics").ok()?;
        metrics.body.contains("kymo_context_requests_total{path=\"global.http\"}").then_some(())
    });
}

#[cfg(unix)]
#[test]
fn a_socket_is_opened_when_asked_for_and_found_by_the_process_id() {
    let folder = TempDir::new().unwrap();
    let runtime = TempDir::new().unwrap();
    // The folder that `kymo serve` and `kymo status` agree on, away from the caller's own.
    let server = Server::start_in(folder.path(), &["--status-socket"], ("XDG_RUNTIME_DIR", runtime.path()));
    let status = |target: &str| -> crate::process::Said {
        kymo(["status", target]).env("XDG_RUNTIME_DIR", runtime.path()).output().unwrap().into()
    };
    let pid = server.pid().to_string();
    let said = status(&pid);
    assert!(said.status == 0 && said.out.contains("global.upkeep.sync"), "{said:?}");
    let socket = runtime.path().join("kymo").join(format!("{pid}.sock"));
    assert!(status(&socket.display().to_string()).out.contains("global.upkeep.sync"));
    let other = status("1");
    assert!(other.status == 1 && other.err.contains(&format!("these processes have one: {pid}")), "{other:?}");
    assert!(server.terminate().success());
    assert!(!socket.exists(), "gone with the server");
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    for (target, expected) in [
        ("http://127.0.0.1:1", "cannot ask http://127.0.0.1:1/api/v1/status/contexts"),
        ("no/such.sock", "cannot ask the program: cannot read the status at no/such.sock"),
        ("://", "is no address of a server"),
    ] {
        let said = run(["status", target]);
        assert!(said.status != 0 && said.err.contains(expected), "{target}: {said:?}");
    }
}
