//! `dependencies`: licences, banned crates and sources of everything cargo resolves.
//!
//! Works from `cargo metadata`, so it needs neither another tool nor the network. Known vulnerabilities are not looked
//! up: their database cannot be fetched everywhere.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::tidy::{self, Finding};
use crate::workspace::Workspace;

/// Licences a dependency may be taken under; `A WITH B` is a licence of its own.
const LICENCES: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Licences that one crate alone may have.
const EXCEPTIONS: [(&str, &str); 1] = [
    // In no build of ours: parquet has its hashes seeded while compiling on WebAssembly alone, and `cargo metadata` takes the
    // features of all platforms together.
    ("tiny-keccak", "CC0-1.0"),
];

struct Ban {
    name: &'static str,
    /// Crates whose use of it is accepted.
    except_from: &'static [&'static str],
    reason: &'static str,
}

const BANS: [Ban; 5] = [
    Ban { name: "openssl-sys", except_from: &[], reason: "TLS is rustls with ring" },
    Ban { name: "native-tls", except_from: &[], reason: "TLS is rustls with ring" },
    Ban {
        name: "aws-lc-sys",
        except_from: &[],
        reason: "the one TLS provider is ring; turn off the default features that pull it",
    },
    Ban { name: "dashmap", except_from: &[], reason: "its locks deadlock on re-entry; use papaya or sharded maps" },
    Ban {
        name: "chrono",
        except_from: &["arrow-array", "arrow-cast", "object_store", "parquet"],
        reason: "times are i64 milliseconds, and jiff where a calendar is needed",
    },
];

/// Crates that only tests may use.
const ONLY_IN_TESTS: [(&str, &str); 1] = [("promql-parser", "it is the oracle of the parser's tests")];

pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let findings = check(&workspace.metadata()?)?;
    Ok(tidy::report(findings))
}

fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let shown = format!("{name} {}", package["version"].as_str().unwrap_or_default());

        let licence = package["license"].as_str().unwrap_or("none");
        if !is_allowed(licence) && !EXCEPTIONS.contains(&(name, licence)) {
            findings.push(manifest(
                format!("{shown} is licensed {licence}"),
                "replace it; the accepted licences are listed in xtask/src/dependencies.rs",
            ));
        }
        if let Some(source) = package["source"].as_str()
            && !(source.starts_with("registry+") && source.ends_with("/crates.io-index"))
        {
            findings.push(manifest(
                format!("{shown} comes from {source}"),
                "take it from the public registry or put it into the workspace",
            ));
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let wanted = dependency["name"].as_str().unwrap_or_default();
            let is_normal = dependency["kind"].is_null();
            if is_normal
                && package["source"].is_null()
                && let Some((_, reason)) = ONLY_IN_TESTS.iter().find(|(banned, _)| *banned == wanted)
            {
                findings.push(manifest(
                    format!("{name} depends on {wanted}"),
                    format!("move it to dev-dependencies: {reason}"),
                ));
            }
        }
    }
    for (user, used) in edges(metadata)? {
        if let Some(ban) = BANS.iter().find(|ban| ban.name == used)
            && !ban.except_from.contains(&user.as_str())
        {
            findings.push(manifest(format!("{user} brings in {used}"), ban.reason));
        }
    }
    Ok(findings)
}

/// Who uses whom among the resolved packages, by name.
fn edges(metadata: &Value) -> Result<Vec<(String, String)>> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("cargo metadata resolved nothing")?;
    let name_of = |id: &Value| {
        let packages = metadata["packages"].as_array()?;
        packages.iter().find(|package| package["id"] == *id)?["name"].as_str()
    };
    let mut edges = Vec::new();
    for node in nodes {
        let user = name_of(&node["id"]).context("cargo metadata resolved an unknown package")?;
        for dependency in node["dependencies"].as_array().into_iter().flatten() {
            let used = name_of(dependency).context("cargo metadata resolved an unknown package")?;
            edges.push((user.to_owned(), used.to_owned()));
        }
    }
    Ok(edges)
}

fn manifest(problem: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding::new("Cargo.toml", 1, problem, fix)
}

/// Whether a licence expression can be satisfied by accepted licences alone.
///
/// `/` is the old form of `OR`. An expression that cannot be read is not accepted.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any_of(&mut rest) == Some(true) && rest.is_empty()
}

fn any_of(tokens: &mut &[&str]) -> Option<bool> {
    let mut allowed = all_of(tokens)?;
    while take(tokens, "OR") {
        allowed |= all_of(tokens)?;
    }
    Some(allowed)
}

fn all_of(tokens: &mut &[&str]) -> Option<bool> {
    let mut allowed = licence(tokens)?;
    while take(tokens, "AND") {
        allowed &= licence(tokens)?;
    }
    Some(allowed)
}

fn licence(tokens: &mut &[&str]) -> Option<bool> {
    if take(tokens, "(") {
        let allowed = any_of(tokens)?;
        return take(tokens, ")").then_some(allowed);
    }
    let (name, rest) = tokens.split_first()?;
    *tokens = rest;
    if take(tokens, "WITH") {
        let (exception, rest) = tokens.split_first()?;
        *tokens = rest;
        let whole = format!("{name} WITH {exception}");
        return Some(LICENCES.contains(&whole.as_str()));
    }
    Some(LICENCES.contains(name))
}

fn take(tokens: &mut &[&str], wanted: &str) -> bool {
    match tokens.split_first() {
        Some((first, rest)) if *first == wanted => {
            *tokens = rest;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_licence_expression_is_accepted_when_one_choice_is() {
        for (expression, allowed) in [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("MPL-2.0", false),
            ("MPL-2.0 OR MIT", true),
            ("MPL-2.0 AND MIT", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("Apache-2.0 WITH LLVM-exception OR MIT OR Apache-2.0", true),
            ("GPL-3.0 WITH LLVM-exception", false),
            ("MIT OR", false),
            ("(MIT", false),
            ("MIT)", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression), allowed, "{expression}");
        }
    }

    #[test]
    fn bans_licences_and_sources_are_reported_by_the_crate_that_brings_them() {
        let metadata = json!({
            "packages": [
                {"id": "a", "name": "kymo-core", "version": "0.1.0", "license": "MIT", "source": null, "dependencies": [
                    {"name": "promql-parser", "kind": null}, {"name": "promql-parser", "kind": "dev"}
                ]},
                {"id": "b", "name": "dashmap", "version": "6.0.0", "license": "GPL-3.0", "source": "git+https://x"},
                {"id": "c", "name": "chrono", "version": "0.4.0", "license": "MIT", "source": "registry+https://r/crates.io-index"},
                {"id": "d", "name": "object_store", "version": "0.14.2", "license": "MIT", "source": null},
            ],
            "resolve": {"nodes": [
                {"id": "a", "dependencies": ["b"]}, {"id": "d", "dependencies": ["c"]}
            ]}
        });
        let problems: Vec<String> =
            check(&metadata).unwrap().into_iter().map(|finding| finding.problem().to_owned()).collect();
        assert_eq!(
            problems,
            [
                "kymo-core depends on promql-parser",
                "dashmap 6.0.0 is licensed GPL-3.0",
                "dashmap 6.0.0 comes from git+https://x",
                "kymo-core brings in dashmap",
            ]
        );
    }
}
