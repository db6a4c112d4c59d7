//! Configuration files: what is accepted, what is said of the rest.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::process::{Said, kymo, run};

/// A file as Prometheus' users have it, with sections that Kymo does not act on.
pub(crate) const PROMETHEUS: &str = r#"# my global config
global:
  scrape_interval: 15s # Set the scrape interval to every 15 seconds. Default is every 1 minute.
  evaluation_interval: 15s
  external_labels: {monitor: 'codelab'}

# Alertmanager configuration
alerting:
  alertmanagers:
    - static_configs:
        - targets:
          # - alertmanager:9093

# Load rules once and periodically evaluate them according to the global 'evaluation_interval'.
rule_files:
  # - "first_rules.yml"

scrape_configs:
  - job_name: "prometheus"
    static_configs:
      - targets: ["localhost:9090"]
        labels:
          app: "prometheus"
  - job_name: node
    scrape_interval: 5s
    file_sd_configs:
      - files: [targets/*.json]
    consul_sd_configs:
      - server: localhost:8500
    relabel_configs:
      - source_labels: [__address__]
        regex: '(?P<host>.*):(\d+)'
        target_label: host
        replacement: ${host}-${2}
remote_write:
  - url: http://elsewhere/api/v1/write
"#;

struct File {
    folder: TempDir,
    path: PathBuf,
}

fn file(text: &str) -> File {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("kymo.yml");
    fs::write(&path, text).unwrap();
    File { folder, path }
}

fn config(command: &str, file: &File) -> Said {
    run(["config", command, file.path.to_str().unwrap()])
}

#[test]
fn a_prometheus_file_is_accepted_and_what_is_not_acted_on_is_named() {
    let file = file(PROMETHEUS);
    let said = config("check", &file);
    assert!(said.status == 0 && said.err.is_empty(), "{said:?}");
    assert!(said.out.starts_with(&format!("{} can be used: 2 scrape jobs\n", file.path.display())), "{said:?}");
    let named: Vec<&str> = said.out.lines().filter_map(|line| line.strip_prefix("  not acted on: ")).collect();
    let expected = ["alerting", "remote_write", "consul_sd_configs of scrape job \"node\""];
    assert_eq!(named.len(), expected.len(), "an empty section says nothing: {named:?}");
    for what in expected {
        assert!(named.iter().any(|line| line.starts_with(what)), "{what} is not in {named:?}");
    }
}

#[test]
fn effective_values_are_shown_with_defaults_and_paths_filled_in() {
    let file = file(PROMETHEUS);
    let said = config("show", &file);
    assert_eq!(said.status, 0, "{said:?}");
    let targets = file.folder.path().join("targets/*.json");
    for expected in [
        "# not acted on: alerting",
        "  scrape_timeout: 10s\n",
        "- job_name: node\n  scrape_interval: 5s\n  scrape_timeout: 5s\n",
        "  metrics_path: /metrics\n",
        "    replacement: ${host}-${2}\n",
        &targets.display().to_string(),
    ] {
        assert!(said.out.contains(expected), "{expected:?} is not in\n{}", said.out);
    }
    // What is shown is a file again, and the same one but for what was forgotten.
    let again = self::file(&said.out);
    let shown_again = config("show", &again);
    assert_eq!(shown_again.status, 0, "{shown_again:?}");
    let values = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(values(&shown_again.out), values(&said.out));
}

#[test]
fn without_a_file_the_defaults_are_shown() {
    let said = run(["config", "show"]);
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out.starts_with("global:\n  scrape_interval: 1m\n  scrape_timeout: 10s\n"), "{said:?}");
}

#[test]
fn every_fault_is_told_with_its_place_and_the_nearest_right_key() {
    let file = file(
        "\
global:
  scrape_intervall: 15s
  scrape_timeout: soon
scrape_configs:
  - job_name: a
    static_config:
      - targets: [\"x:1\"]
    honor_labels: maybe
  - job_name: b
    relabel_configs:
      - action: rename
kymo:
  listen: 9911
  memory: 2GiB
remote_wirte: []
",
    );
    let said = config("check", &file);
    assert!(said.status == 1 && said.out.is_empty(), "{said:?}");
    let path = file.path.display();
    for (place, message, hint) in [
        ("2:3", "unknown key \"scrape_intervall\"", "did you mean \"scrape_interval\"?"),
        ("3:19", "not a valid duration string: \"soon\"", ""),
        ("6:5", "unknown key \"static_config\"", "did you mean \"static_configs\"?"),
        ("8:19", "invalid boolean", ""),
        ("11:9", "unknown relabel action \"rename\"", ""),
        ("13:11", "expected an address and a port", ""),
        ("14:3", "unknown key \"memory\"", "did you mean \"memory_limit\"?"),
        ("15:1", "unknown key \"remote_wirte\"", "did you mean \"remote_write\"?"),
    ] {
        let place = format!("--> {path}:{place}\n");
        let at = said.err.find(&place).unwrap_or_else(|| panic!("{place:?} is not in\n{}", said.err));
        let before = said.err[..at].lines().rev().nth(1).unwrap();
        assert!(before.contains(message), "{place}: {before}");
        let frame = said.err[at..].split("\nerror").next().unwrap();
        assert!(frame.contains(hint), "{place}: {frame}");
    }
    assert!(said.err.ends_with("error: 8 errors in the configuration file\n"), "{}", said.err);
}

#[test]
fn what_contradicts_itself_is_told_at_its_job() {
    let file = file(
        "\
scrape_configs:
  - job_name: a
    scheme: gopher
  - job_name: b
    scrape_interval: 5s
    scrape_timeout: 10s
  - job_name: c
  - job_name: c
  - job_name: d
    tls_config: {ca_file: missing.pem}
  - job_name: e
    oauth2: {client_id: x, token_url: 'http://x'}
",
    );
    let said = config("check", &file);
    assert_eq!(said.status, 1, "{said:?}");
    let missing = file.folder.path().join("missing.pem").display().to_string();
    for (line, message) in [
        (2, "invalid scheme \"gopher\""),
        (4, "scrape timeout greater than scrape interval"),
        (8, "found multiple scrape configs with job name \"c\""),
        (9, missing.as_str()),
    ] {
        let place = format!("{}:{line}:5", file.path.display());
        assert!(said.err.contains(&place) && said.err.contains(message), "{place} {message}: {}", said.err);
    }
    assert!(said.err.ends_with("error: 4 errors in the configuration file\n"), "{}", said.err);
}

#[test]
fn a_job_that_cannot_be_asked_as_it_says_is_named_and_left_out() {
    let file = file("scrape_configs: [{job_name: e, tls_config: {server_name: 127.0.0.1}}]");
    let said = config("check", &file);
    assert!(said.status == 0 && said.out.contains("0 scrape jobs"), "{said:?}");
    assert!(
        said.out.contains(
            "not acted on: scrape job \"e\", because tls_config server_name that is an IP address is not supported"
        ),
        "{said:?}"
    );
}

#[test]
fn variables_are_filled_in_and_secrets_never_shown() {
    let file = file(
        r#"# ${NOT_SET} in a comment is nobody's variable
scrape_configs:
  - job_name: ${KYMO_TEST_JOB}
    metrics_path: "/$${literal}"
    params: {quoted: ["${KYMO_TEST_ODD}", '${KYMO_TEST_ODD}']}
    basic_auth: {username: u, password: "${KYMO_TEST_PASSWORD}"}
    proxy_url: http://u:${KYMO_TEST_PASSWORD}@proxy:3128
    scrape_interval: ${KYMO_TEST_JOB} s
"#,
    );
    let with_environment = |command: &str| {
        let mut command = kymo(["config", command, file.path.to_str().unwrap()]);
        let variables = [("JOB", "30"), ("ODD", "a\"b'c\\d"), ("PASSWORD", "hunter2")];
        command.envs(variables.map(|(name, value)| (format!("KYMO_TEST_{name}"), value)));
        Said::from(command.output().unwrap())
    };
    let said = with_environment("check");
    assert_eq!(said.status, 1, "{said:?}");
    assert!(
        said.err.contains(":8:22\n") && said.err.contains("${KYMO_TEST_JOB} s"),
        "places are those of the file: {said:?}"
    );

    let text = fs::read_to_string(&file.path).unwrap().replace("JOB} s", "JOB}s");
    fs::write(&file.path, text).unwrap();
    let said = with_environment("show");
    assert_eq!(said.status, 0, "{said:?}");
    for expected in
        ["scrape_interval: 30s", "metrics_path: /${literal}", "password: <secret>", "http://u:<secret>@proxy:3128"]
    {
        assert!(said.out.contains(expected), "{expected:?} is not in\n{}", said.out);
    }
    assert_eq!(said.out.matches("a\"b'c\\d").count() + said.out.matches("a\\\"b'c\\\\d").count(), 2, "{}", said.out);
    assert!(!said.out.contains("hunter2"), "{}", said.out);

    let said = config("check", &file);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.err.contains("KYMO_TEST_PASSWORD is not set") && said.err.contains(":6:"), "{said:?}");
}

#[test]
fn a_value_from_the_environment_cannot_change_the_structure() {
    let file = file("scrape_configs:\n  - job_name: ${KYMO_TEST_JOB}\n");
    for value in ["x\n    scheme: https", "x # y", "{a: b}", "a: b"] {
        let mut command = kymo(["config", "check", file.path.to_str().unwrap()]);
        let said = Said::from(command.env("KYMO_TEST_JOB", value).output().unwrap());
        assert_eq!(said.status, 1, "{value:?}: {said:?}");
        assert!(said.err.contains("needs double quotes here") && said.err.contains(":2:15"), "{value:?}: {said:?}");
    }
}

#[test]
fn a_file_that_is_none_is_refused() {
    let missing = TempDir::new().unwrap().path().join("missing.yml");
    let said = run(["config", "check", missing.to_str().unwrap()]);
    assert!(said.status == 1 && said.err.contains("cannot read the file"), "{said:?}");
    for (text, message) in [("scrape_configs: [", "unclosed bracket"), ("- a\n- b\n", ""), ("a: 1\na: 2\n", "")] {
        let said = config("check", &file(text));
        assert!(said.status == 1 && said.err.contains(message), "{text:?}: {said:?}");
    }
    let said = config("check", &file("# nothing\n"));
    assert_eq!(said.status, 0, "an empty file asks for nothing: {said:?}");
}

#[test]
fn retention_is_a_duration_or_a_list_and_mistakes_in_it_are_named() {
    let folder = TempDir::new().unwrap();
    let check = |kymo: &str| {
        let path = folder.path().join("kymo.yml");
        fs::write(&path, format!("kymo:\n  {kymo}\n")).unwrap();
        run(["config".as_ref(), "check".as_ref(), path.as_os_str()])
    };
    for good in [
        "retention: 9d",
        "retention: 0",
        "retention: [{match: '{job=\"debug\"}', keep: 3d}, {match: up, keep: 0d}]",
        "retention: [{match: '{job=~\"a|b\"}', keep: 3d}, {keep: 1y}]",
        "retention_disk_share: 80%",
        "retention: {raw: 30d, 5m: 1y, 1h: 5y}",
        "retention: [{match: '{job=\"debug\"}', keep: 3d}, {raw: 30d, 1h: 0d}]",
        "retention_size: 64MiB",
    ] {
        let said = check(good);
        assert_eq!(said.status, 0, "{good}: {said:?}");
    }
    for (bad, expected) in [
        ("retention: [{match: '{job=', keep: 3d}]", "selects no series"),
        ("retention: [{match: '{}', keep: 3d}]", "must not match the empty value"),
        ("retention: [{match: up, keep: soon}]", "expected a duration like 30d"),
        ("retention: [{match: up}]", "keep"),
        ("retention: [{keep: 3d}, {match: up, keep: 4d}]", "never reached"),
        ("retention: {keep: 3d}", "keep"),
        ("retention: true", "durations as raw, 5m and 1h"),
        ("retention: {raw: 3h, 5m: 1y}", "kept 4h at least"),
        ("retention: [{match: up, 5m: 1y}]", "stand alone"),
        ("retention_size: 1KiB", "or 0 for any number"),
        ("retention_disk_share: 80", "a percentage"),
        ("retention_disk_share: 180%", "a percentage"),
    ] {
        let said = check(bad);
        assert!(said.status != 0 && said.err.contains(expected), "{bad}: {said:?}");
    }
}
