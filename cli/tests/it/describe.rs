//! The program describing itself.

use std::fs;
use std::process::Command;

use kymo::config::reference::{self, Section};
use tempfile::TempDir;

use crate::process::run;

#[test]
fn help_has_examples_and_names_the_environment() {
    for command in ["serve", "query", "status", "promqltest", "config", "completions", "man"] {
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
fn the_configuration_page_says_what_every_key_means_and_which_are_acted_on() {
    let sections = reference::sections();
    assert!(sections.len() > 12, "{sections:?}");
    let page = run(["reference", "--configuration"]).out;
    assert!(!page.contains("{{"), "a table is missing:\n{page}");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kymo.yml");
    for Section { name, keys } in &sections {
        assert!(!keys.is_empty(), "{name} has no keys");
        for key in keys.iter().filter(|key| key.is_acted_on) {
            // A table has it, unless its section has a heading of its own or is what cannot be acted on.
            let has_row = page.contains(&format!("| `{}` | {} |", key.name, key.kind));
            assert!(has_row || ["ConfigFile", "OAuth2"].contains(&name.as_str()), "{name}: {key:?} is not in\n{page}");
            assert!(!key.meaning.is_empty() && !key.kind.is_empty(), "{name}: {key:?} has no comment");
        }
        for key in keys.iter().filter(|key| !key.is_acted_on) {
            // Its being there is told.
            let key = &key.name;
            let text = match name.as_str() {
                "ConfigFile" => format!("{key}: [x]\n"),
                "Global" => format!("global: {{{key}: [x]}}\n"),
                "ScrapeConfig" => format!("scrape_configs: [{{job_name: a, {key}: [x]}}]\n"),
                name => panic!("{key} of {name} is not acted on"),
            };
            fs::write(&file, &text).unwrap();
            let said = run(["config", "check", file.to_str().unwrap()]);
            assert!(
                said.status == 0 && said.out.contains("not acted on: ") && said.out.contains(key),
                "{text}{said:?}"
            );
        }
    }
}

#[test]
fn the_schema_of_a_file_names_what_the_reader_takes() {
    let schema: serde_json::Value = serde_json::from_str(&run(["config", "schema"]).out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let interval = &schema["$defs"]["ScrapeConfig"]["properties"]["scrape_interval"];
    let wanted = serde_json::json!({
        "type": ["string", "null"], "format": "duration", "default": "1m", "description": "How often targets are asked.",
    });
    assert_eq!(*interval, wanted);
    for section in ["Global", "ScrapeConfig", "KymoSection", "OtlpConfig", "TlsConfig", "RelabelFields"] {
        assert_eq!(schema["$defs"][section]["additionalProperties"], false, "{section} refuses unknown keys");
    }
}

#[test]
fn defaults_of_the_configuration_page_are_those_in_force() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kymo.yml");
    fs::write(&file, "scrape_configs: [{job_name: a}]\n").unwrap();
    let shown = run(["config", "show", file.to_str().unwrap()]).out;
    let sections = reference::sections();
    let find = |section: &str, name: &str| {
        let section = sections.iter().find(|known| known.name == section);
        section.and_then(|section| section.keys.iter().find(|key| key.name == name))
    };
    let (mut section, mut compared) = ("", Vec::new());
    // Of the section `kymo` only what was written is shown; its defaults are those of the flags.
    for line in shown.lines().take_while(|line| *line != "kymo:") {
        match line.split_once(':') {
            Some(("global", _)) => section = "Global",
            Some(("scrape_configs", _)) => section = "ScrapeConfig",
            Some(("otlp", _)) => section = "OtlpConfig",
            Some(("service_health", _)) => section = "ServiceHealthConfig",
            Some(("  thresholds", _)) => section = "ThresholdsConfig",
            // A list of rules.
            Some(("  metrics", _)) => section = "",
            _ if section.is_empty() => {}
            Some((key, value)) if !value.is_empty() && !["- job_name", "- a"].contains(&key.trim()) => {
                let key = find(section, key.trim()).unwrap_or_else(|| panic!("{section} has no key for {line:?}"));
                assert_eq!(key.default, value.trim(), "{section}: {key:?}");
                compared.push(&key.name);
            }
            _ => {}
        }
    }
    assert!(compared.len() > 15, "{compared:?}");
    let flags = run(["reference", "--cli"]).out;
    let of_flags = [
        ("KymoSection", "data_dir", "--data-dir"),
        ("KymoSection", "listen", "--listen"),
        ("OtlpListeners", "grpc", "--otlp-grpc"),
        ("OtlpListeners", "http", "--otlp-http"),
        ("KymoSection", "retention", "--retention"),
        ("KymoSection", "memory_limit", "--memory-limit"),
        ("KymoSection", "sync", "--sync"),
    ];
    for (section, name, flag) in of_flags {
        let key = find(section, name).unwrap();
        let line = flags.lines().find(|line| line.starts_with(&format!("| `{flag} ")));
        let line = line.unwrap_or_else(|| panic!("no {flag}"));
        assert!(line.contains(&format!("| {} |", key.default)), "{key:?}: {line}");
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
    // The tree of contexts is a library's too, and runs tasks.
    for name in ["clap", "axum", "hyper", "reqwest", "rustls", "serde-saphyr"] {
        assert!(has(&program, name), "{name} is not in the program any more; name something that is:\n{program}");
        assert!(!has(&library, name), "{name} is in the library:\n{library}");
    }
}
