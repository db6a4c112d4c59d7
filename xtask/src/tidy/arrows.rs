//! Which crate may use which: the table of the house, held against `cargo metadata`.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;

struct Crate {
    name: &'static str,
    /// Crates of the workspace it may use in production code.
    uses: &'static [&'static str],
    /// Those of `uses` that must stay behind a feature.
    only_by_feature: &'static [&'static str],
    /// Crates from outside that its design keeps out.
    absent: &'static [&'static str],
}

const RUNTIMES: &[&str] = &["async-std", "smol", "tokio"];
const RUNTIMES_AND_WIRE: &[&str] =
    &["async-std", "axum", "hyper", "prost", "reqwest", "serde_json", "smol", "snap", "tokio", "tonic", "tower-http"];
const HTTP: &[&str] = &["axum", "hyper", "reqwest", "tonic", "tower-http"];
const EVERYTHING: &[&str] = &[
    "kymo-alerts",
    "kymo-context",
    "kymo-core",
    "kymo-dashboard",
    "kymo-export",
    "kymo-ingest",
    "kymo-query",
    "kymo-storage",
];

const fn room(name: &'static str, uses: &'static [&'static str], absent: &'static [&'static str]) -> Crate {
    Crate { name, uses, only_by_feature: &[], absent }
}

/// Arrows point down only: a crate may use those above its own line.
const HOUSE: [Crate; 12] = [
    room("kymo-core", &[], RUNTIMES_AND_WIRE),
    room("kymo-context-macros", &[], RUNTIMES_AND_WIRE),
    room("kymo-context", &["kymo-core", "kymo-context-macros"], HTTP),
    room("kymo-storage", &["kymo-core"], RUNTIMES_AND_WIRE),
    room("kymo-query", &["kymo-core"], RUNTIMES),
    room("kymo-ingest", &["kymo-core"], &[]),
    Crate { only_by_feature: &["kymo-query"], ..room("kymo-export", &["kymo-core", "kymo-query"], &[]) },
    room("kymo-alerts", &["kymo-core", "kymo-query"], &[]),
    room("kymo-dashboard", &["kymo-core"], &[]),
    room("kymo", EVERYTHING, &[]),
    room("xtask", &[], RUNTIMES),
    room(
        "kymo-benches",
        &[
            "kymo",
            "kymo-alerts",
            "kymo-context",
            "kymo-core",
            "kymo-dashboard",
            "kymo-export",
            "kymo-ingest",
            "kymo-query",
            "kymo-storage",
        ],
        &[],
    ),
];

/// Arrows of production code only: tests may use what they like.
pub(super) fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let root = metadata["workspace_root"].as_str().context("cargo metadata names no workspace")?;
    let members: Vec<&Value> = packages.iter().filter(|package| package["source"].is_null()).collect();
    let member_names: Vec<&str> = members.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in &members {
        let name = package["name"].as_str().context("cargo metadata lists a package without a name")?;
        let path = package["manifest_path"].as_str().unwrap_or_default();
        let path = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/');
        let finding = |problem: String, fix: String| Finding::new(path, 1, problem, fix);
        let Some(room) = HOUSE.iter().find(|room| room.name == name) else {
            findings.push(finding(
                format!("crate {name} has no place in the house"),
                "add it, and what it may use, to xtask/src/tidy/arrows.rs and to ARCHITECTURE.md".to_owned(),
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if !dependency["kind"].is_null() {
                continue;
            }
            let used = dependency["name"].as_str().unwrap_or_default();
            if room.absent.contains(&used) {
                findings.push(finding(
                    format!("{name} uses {used}, which its design keeps out"),
                    "do this work in the crate at the edge that speaks it".to_owned(),
                ));
            } else if member_names.contains(&used) && !room.uses.contains(&used) {
                findings.push(finding(
                    format!("{name} uses {used}"),
                    format!("let both meet through a trait of kymo-core; {name} may use {}", listed(room.uses)),
                ));
            } else if room.only_by_feature.contains(&used) && dependency["optional"] != true {
                findings.push(finding(
                    format!("{name} uses {used} without a feature"),
                    "make the dependency optional and name it in a feature".to_owned(),
                ));
            }
        }
    }
    Ok(findings)
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "no crate of the workspace".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(name: &str, dependencies: Value) -> Value {
        json!({
            "workspace_root": "/w",
            "packages": [
                {"name": name, "source": null, "manifest_path": "/w/room/Cargo.toml", "dependencies": dependencies},
                {"name": "kymo-query", "source": null, "manifest_path": "/w/query/Cargo.toml", "dependencies": []},
                {"name": "kymo-storage", "source": null, "manifest_path": "/w/storage/Cargo.toml", "dependencies": []},
            ]
        })
    }

    #[test]
    fn an_arrow_that_is_not_in_the_table_is_found() {
        for (name, dependency, expected) in [
            ("kymo-ingest", json!({"name": "kymo-storage", "kind": null}), Some("kymo-ingest uses kymo-storage")),
            ("kymo-ingest", json!({"name": "kymo-storage", "kind": "dev"}), None),
            ("kymo-alerts", json!({"name": "kymo-query", "kind": null}), None),
            (
                "kymo-export",
                json!({"name": "kymo-query", "kind": null}),
                Some("kymo-export uses kymo-query without a feature"),
            ),
            ("kymo-export", json!({"name": "kymo-query", "kind": null, "optional": true}), None),
            (
                "kymo-core",
                json!({"name": "tokio", "kind": null}),
                Some("kymo-core uses tokio, which its design keeps out"),
            ),
            ("kymo-attic", json!({"name": "serde", "kind": null}), Some("crate kymo-attic has no place in the house")),
        ] {
            let found = check(&metadata(name, json!([dependency]))).unwrap();
            let problems: Vec<&str> = found.iter().map(Finding::problem).collect();
            assert_eq!(problems, expected.into_iter().collect::<Vec<_>>(), "{name}");
        }
    }
}
