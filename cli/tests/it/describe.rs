//! The program describing itself.

use std::process::Command;

use tempfile::TempDir;

use crate::process::run;

#[test]
fn help_has_examples_and_names_the_environment() {
    for command in ["serve", "query", "promqltest", "config", "completions", "man"] {
        let said = run([command, "--help"]);
        assert!(said.status == 0 && said.out.contains("Examples:"), "{command}: {said:?}");
    }
    let said = run(["serve", "--help"]);
    for expected in ["--data-dir", "KYMO_DATA_DIR", "127.0.0.1:9911", "./kymo-data", "60 %"] {
        assert!(said.out.contains(expected), "{expected} is not in\n{}", said.out);
    }
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(run(["--version"]).out, format!("kymo {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_and_manual_pages_are_made_from_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let said = run(["completions", shell]);
        assert!(said.status == 0 && said.out.contains("promqltest"), "{shell}: {said:?}");
    }
    assert!(run(["man"]).out.contains(".TH kymo 1"));
    let folder = TempDir::new().unwrap();
    let said = run(["man", "--dir", folder.path().to_str().unwrap()]);
    assert_eq!(said.status, 0, "{said:?}");
    for page in ["kymo.1", "kymo-serve.1", "kymo-query.1"] {
        assert!(folder.path().join(page).is_file(), "{page} is missing");
    }
    assert!(!folder.path().join("kymo-reference.1").exists(), "hidden commands have no page");
}

#[test]
fn reference_pages_are_the_same_everywhere_and_name_every_flag() {
    let page = run(["reference", "--cli"]).out;
    for flag in ["--config", "--data-dir", "--listen", "--retention", "--memory-limit", "--sync", "--ports-file"] {
        assert!(page.contains(flag), "{flag} is not in\n{page}");
    }
    let serve = page.split("\n## ").find(|section| section.starts_with("kymo serve")).unwrap();
    for row in serve.lines().filter(|line| line.starts_with("| `--")) {
        assert!(row.contains("| `KYMO_"), "a flag of serve has no environment variable: {row}");
    }
    let changed = crate::process::kymo(["reference", "--cli"]).env("KYMO_DATA_DIR", "/elsewhere").output().unwrap();
    assert_eq!(String::from_utf8(changed.stdout).unwrap(), page);
    for command in ["config check", "config show"] {
        assert!(page.contains(&format!("\n### kymo {command}\n")), "{command} is not in\n{page}");
    }
    let limits = run(["reference", "--limits"]).out;
    assert!(limits.contains("| points per series of a range query | 11000 |"), "{limits}");
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    for line in page.lines().chain(limits.lines()).filter(|line| line.starts_with('|')) {
        assert!([4, 5].contains(&columns(line)), "a cell breaks its table: {line}");
    }
}

#[test]
fn the_library_alone_pulls_no_command_line_and_no_http_stack() {
    let tree = |features: &[&str]| {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
            .args(features)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let has = |tree: &str, name: &str| tree.lines().any(|line| line.split(' ').next() == Some(name));
    let (program, library) = (tree(&[]), tree(&["--no-default-features"]));
    assert!(has(&library, "kymo-export") && has(&library, "kymo-storage"), "{library}");
    for name in ["clap", "axum", "hyper", "reqwest", "tokio", "rustls", "serde_json"] {
        assert!(has(&program, name), "{name} is not in the program any more; name something that is:\n{program}");
        assert!(!has(&library, name), "{name} is in the library:\n{library}");
    }
}
