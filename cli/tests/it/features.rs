//! `--enable-feature`: parts of PromQL that are off by default.

use tempfile::TempDir;

use crate::http;
use crate::process::{Server, run};

fn answer(server: &Server, expression: &str) -> (u16, serde_json::Value) {
    let answer = http::get(server.port, &format!("/api/v1/query?query={}", http::encoded(expression))).unwrap();
    (answer.status, answer.json())
}

#[test]
fn a_part_of_the_language_is_there_once_its_feature_is_named() {
    let folder = TempDir::new().unwrap();
    let rows = [
        (
            "limitk(1, up)",
            "1:1: parse error: limitk() is experimental and must be enabled with \
          --enable-feature=promql-experimental-functions",
        ),
        ("rate(up[5m] smoothed)", "1:1: parse error: smoothed modifier is experimental and not enabled"),
        ("up + fill(0) up", "1:1: parse error: binop fill modifiers are experimental and not enabled"),
    ];
    let plain = Server::start(&folder);
    for (expression, refusal) in rows {
        let (status, answer) = answer(&plain, expression);
        let error = answer["error"].as_str().unwrap();
        assert!(status == 400 && error.ends_with(refusal.split_once(": ").unwrap().1), "{expression}: {error}");
    }
    drop(plain);
    let names = "promql-experimental-functions,promql-extended-range-selectors,promql-duration-expr";
    let flags =
        ["--enable-feature", names, "--enable-feature", "promql-binop-fill-modifiers", "--enable-feature", "old-ui"];
    let server = Server::start_with(folder.path(), &flags);
    for (expression, _) in rows {
        assert_eq!(answer(&server, expression).0, 200, "{expression}");
    }
    let flags = http::get(server.port, "/api/v1/status/flags").unwrap().json();
    let on = "promql-binop-fill-modifiers,promql-experimental-functions,promql-extended-range-selectors";
    assert_eq!(flags["data"]["enable-feature"], on);
    assert!(server.out().contains("--enable-feature=old-ui: there is nothing to switch here"), "{}", server.out());
}

#[test]
fn an_unknown_feature_is_refused_with_the_names_there_are() {
    let said = run(["serve", "--enable-feature", "promql-nonsense"]);
    assert_eq!(said.status, 2, "{said:?}");
    assert!(
        said.err.contains("unknown feature \"promql-nonsense\": expected promql-binop-fill-modifiers,"),
        "{said:?}"
    );
}
