//! Names that hold on one machine only: absolute paths of it, and the hosts of package registries.

use std::env;
use std::path::Path;

use super::{Finding, Text};

/// Second-level names and top-level domains of package registries; kept apart so that this table is no match itself.
const REGISTRIES: [(&str, &str); 5] =
    [("crates", "io"), ("debian", "org"), ("npmjs", "org"), ("pypi", "org"), ("pythonhosted", "org")];

pub(super) fn check(root: &Path, texts: &[Text]) -> Vec<Finding> {
    let mut paths: Vec<String> = Vec::new();
    let home = env::var("HOME").unwrap_or_default();
    for folder in [root.parent().map(|parent| parent.display().to_string()), Some(home)] {
        if let Some(folder) = folder.filter(|folder| folder.len() > 1) {
            paths.push(format!("{}/", folder.trim_end_matches('/')));
        }
    }
    find(&paths, texts)
}

fn find(paths: &[String], texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The lock file names the registry's index by design.
    for text in texts.iter().filter(|text| !text.path.ends_with("Cargo.lock")) {
        for (index, line) in text.content.lines().enumerate() {
            for path in paths.iter().filter(|path| holds_path(line, path)) {
                findings.push(Finding::new(
                    &text.path,
                    index + 1,
                    format!("the line names {path}, a folder of this machine"),
                    "say where it lies relative to the repository, or find it at run time",
                ));
            }
            if let Some(host) = registry_host(line) {
                findings.push(Finding::new(
                    &text.path,
                    index + 1,
                    format!("the line names {host}, the host of a registry"),
                    "leave the host to the machine's own configuration",
                ));
            }
        }
    }
    findings
}

/// Whether `path` stands in `line` at the start of a path.
fn holds_path(line: &str, path: &str) -> bool {
    line.match_indices(path)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-/$}*~".contains(before)))
}

/// The host of the first address in `line` that belongs to a registry.
fn registry_host(line: &str) -> Option<&str> {
    line.split("://").skip(1).find_map(|rest| {
        let end = rest.find(|char: char| !(char.is_ascii_alphanumeric() || ".-".contains(char))).unwrap_or(rest.len());
        let host = &rest[..end];
        let mut labels = host.rsplit('.');
        let (top, second) = (labels.next()?, labels.next()?);
        REGISTRIES.contains(&(second, top)).then_some(host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_machine_are_found_only_where_a_path_starts() {
        for (line, holds) in [
            ("open(\"/build/here/x\")", true),
            ("/build/x", true),
            ("target/build/x", false),
            ("$DIR/build/x", false),
            ("https://host.test/build/x", false),
        ] {
            assert_eq!(holds_path(line, "/build/"), holds, "{line}");
        }
    }

    #[test]
    fn hosts_of_registries_are_found_in_addresses() {
        let host = ["mirror.", "debian", ".", "org"].concat();
        assert_eq!(registry_host(&format!("deb http://{host}/debian sid main")), Some(host.as_str()));
        assert_eq!(registry_host("see https://prometheus.io/docs"), None);
        assert_eq!(registry_host("no address"), None);
    }
}
