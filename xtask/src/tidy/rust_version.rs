//! Which crates must build on an older Rust, and that everything they use does: by the `rust-version` of each dependency in
//! `cargo metadata`. That their own code does is clippy's `incompatible_msrv`, which reads the same field.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;

/// Of the crates that others embed. What they use only by a feature that brings in a crate of the house that is not among
/// them needs what that crate needs.
const OLDEST: (u64, u64) = (1, 85);
const EMBEDDED: [&str; 4] = ["kymo-core", "kymo-context", "kymo-context-macros", "kymo-export"];
/// Only of features for tests, which are run with the newest Rust.
const FOR_TESTS: [&str; 1] = ["proptest"];

pub(super) fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let nodes = metadata["resolve"]["nodes"].as_array().context("cargo metadata resolved nothing")?;
    let by_id: BTreeMap<&str, &Value> = packages.iter().filter_map(|one| Some((one["id"].as_str()?, one))).collect();
    let uses: BTreeMap<&str, &Value> =
        nodes.iter().filter_map(|one| Some((one["id"].as_str()?, &one["deps"]))).collect();
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| EMBEDDED.iter().any(|name| package["name"] == *name)) {
        let name = package["name"].as_str().unwrap_or_default();
        let own = package["rust_version"].as_str().and_then(version);
        if own != Some(OLDEST) {
            findings.push(manifest(format!("{name} does not say rust-version = \"1.85\""), "say so in its Cargo.toml"));
        }
        let mut seen = BTreeSet::new();
        let mut left = package["id"].as_str().into_iter().collect::<Vec<_>>();
        while let Some(id) = left.pop() {
            let Some(used) = by_id.get(id).filter(|_| seen.insert(id)) else { continue };
            let used_name = used["name"].as_str().unwrap_or_default();
            if (used["source"].is_null() && !EMBEDDED.contains(&used_name)) || FOR_TESTS.contains(&used_name) {
                continue;
            }
            if used["rust_version"].as_str().and_then(version).is_some_and(|needs| needs > OLDEST) {
                let needs = used["rust_version"].as_str().unwrap_or_default();
                findings.push(manifest(
                    format!("{name} must build on Rust 1.85 and uses {used_name}, which needs {needs}"),
                    "take an older version of it, or do without",
                ));
            }
            let dependencies = uses.get(id).and_then(|deps| deps.as_array()).into_iter().flatten();
            left.extend(dependencies.filter(|one| is_normal(one)).filter_map(|one| one["pkg"].as_str()));
        }
    }
    Ok(findings)
}

fn is_normal(dependency: &Value) -> bool {
    dependency["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
}

/// `1.85` or `1.85.1`; the last number may be left out.
fn version(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn manifest(problem: String, fix: &str) -> Finding {
    Finding::new("Cargo.toml", 1, problem, fix)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dependency_that_needs_a_newer_rust_is_found_however_far_away() {
        let kind = |kind: Value| json!([{"kind": kind}]);
        let metadata = json!({
            "packages": [
                {"id": "core", "name": "kymo-core", "rust_version": "1.85", "source": null},
                {"id": "export", "name": "kymo-export", "rust_version": "1.95", "source": null},
                {"id": "query", "name": "kymo-query", "rust_version": "1.95", "source": null},
                {"id": "near", "name": "near", "rust_version": "1.70.0", "source": "registry"},
                {"id": "far", "name": "far", "rust_version": "1.86", "source": "registry"},
                {"id": "test", "name": "test", "rust_version": "1.95", "source": "registry"},
            ],
            "resolve": {"nodes": [
                {"id": "core", "deps": [
                    {"pkg": "near", "dep_kinds": kind(Value::Null)}, {"pkg": "test", "dep_kinds": kind(json!("dev"))},
                ]},
                {"id": "near", "deps": [{"pkg": "far", "dep_kinds": kind(Value::Null)}]},
                {"id": "export", "deps": [{"pkg": "query", "dep_kinds": kind(Value::Null)}]},
            ]}
        });
        let problems: Vec<String> = check(&metadata).unwrap().iter().map(|found| found.problem().to_owned()).collect();
        assert_eq!(
            problems,
            [
                "kymo-core must build on Rust 1.85 and uses far, which needs 1.86",
                "kymo-export does not say rust-version = \"1.85\"",
                "kymo-export must build on Rust 1.85 and uses kymo-export, which needs 1.95",
            ]
        );
    }
}
