use kymo_core::config::ConfigDuration;

use super::support::job;
use crate::exposition::HistogramParts;
use crate::scrape::{ScrapeConfig, ScrapeDefaults, ScrapeProtocol, resolve_all};

fn read(yaml: &str) -> ScrapeConfig {
    serde_saphyr::from_str(yaml).unwrap()
}

#[test]
fn an_entry_of_an_existing_file_is_read() {
    let config = read(
        r#"
job_name: service-x
basic_auth:
  username: admin
  password: "multiline\nmysecret"
scrape_interval: 50s
scrape_timeout: 5s
body_size_limit: 10MB
sample_limit: 1000
target_limit: 35
label_limit: 35
label_name_length_limit: 210
label_value_length_limit: 210
scrape_protocols: ["PrometheusText0.0.4"]
fallback_scrape_protocol: PrometheusText0.0.4
metrics_path: /my_path
scheme: https
follow_redirects: false
enable_compression: false
params:
  match[]: ['up']
tls_config:
  insecure_skip_verify: true
static_configs:
  - targets: ['h1:9090', 'h2:9090']
    labels: {env: prod}
  - targets:
dns_sd_configs:
  - refresh_interval: 15s
    names: [first.dns.address.domain.com]
  - names: [a.example]
    type: A
    port: 80
file_sd_configs:
  - files: [foo/*.slow.json, single/file.yml]
    refresh_interval: 10m
http_sd_configs:
  - url: 'http://1234-1234.example/targets'
    authorization: {credentials: mysecret}
kubernetes_sd_configs:
  - role: endpoints
relabel_configs:
  - source_labels: [job, __meta_dns_name]
    regex: (.*)some-[regex]
    target_label: job
    replacement: foo-${1}
metric_relabel_configs:
  - source_labels: [__name__]
    regex: expensive_metric.*
    action: drop
"#,
    );
    let job = config.resolve(&ScrapeDefaults::default()).unwrap();
    assert_eq!((job.interval, job.timeout), (ConfigDuration::from_secs(50), ConfigDuration::from_secs(5)));
    assert_eq!((job.limits.body_bytes, job.limits.samples, job.limits.targets), (10 << 20, 1000, 35));
    assert_eq!(job.protocols, [ScrapeProtocol::PrometheusText004]);
    assert_eq!((job.compression, job.http.follow_redirects, job.http.enable_http2), (false, false, true));
    assert_eq!(job.http.basic_auth.as_ref().unwrap().username, "admin");
    assert_eq!(job.discovery.len(), 5);
    assert_eq!(job.not_acted_on(), ["kubernetes_sd_configs"]);
    let shown = serde_json::to_string(&config).unwrap();
    assert!(!shown.contains("mysecret") && shown.contains("\"kubernetes_sd_configs\":\"not acted on\""), "{shown}");
}

#[test]
fn keys_without_a_value_are_empty() {
    let config = read("job_name: j\nstatic_configs:\nrelabel_configs:\nparams:\nfile_sd_configs: []\n");
    assert_eq!(config, read("job_name: j\n"));
    let group = &read("{job_name: j, static_configs: [{targets: [h], labels: {a: , b: 5, c: yes}}]}").static_configs[0];
    let labels: Vec<(&str, &str)> = group.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(labels, [("b", "5"), ("c", "yes")]);
}

#[test]
fn paths_are_relative_to_the_file_they_stand_in() {
    let mut config = read(
        "{job_name: j, bearer_token_file: t, tls_config: {ca_file: /abs/ca, key_file: k, cert_file: c},
          file_sd_configs: [{files: ['*.json', /abs/x.yml]}],
          http_sd_configs: [{url: 'http://x', basic_auth: {password_file: p}}]}",
    );
    config.set_directory(std::path::Path::new("/etc/kymo"));
    let tls = config.tls_config.as_ref().unwrap();
    let shown = |path: &Option<std::path::PathBuf>| path.as_ref().unwrap().to_str().unwrap().to_owned();
    assert_eq!([shown(&tls.ca_file), shown(&tls.key_file)], ["/abs/ca", "/etc/kymo/k"]);
    assert_eq!(shown(&config.bearer_token_file), "/etc/kymo/t");
    assert_eq!(config.file_sd_configs[0].files, ["/etc/kymo/*.json", "/abs/x.yml"]);
    assert_eq!(shown(&config.http_sd_configs[0].basic_auth.as_ref().unwrap().password_file), "/etc/kymo/p");
}

#[test]
fn defaults_are_those_of_prometheus() {
    let job = job(r#"{"job_name":"j"}"#);
    assert_eq!((job.interval, job.timeout), (ConfigDuration::from_secs(60), ConfigDuration::from_secs(10)));
    assert_eq!((job.metrics_path.as_str(), job.scheme.as_str()), ("/metrics", "http"));
    assert_eq!((job.honor_labels, job.honor_timestamps, job.compression), (false, true, true));
    assert_eq!((job.protocols, job.histograms), (ScrapeProtocol::defaults(false), HistogramParts::Classic));
    let short = read("{job_name: j, scrape_interval: 3s}").resolve(&ScrapeDefaults::default()).unwrap();
    assert_eq!(short.timeout, ConfigDuration::from_secs(3));
    let defaults = ScrapeDefaults { sample_limit: 7, scrape_native_histograms: true, ..ScrapeDefaults::default() };
    let inherited = read("{job_name: j}").resolve(&defaults).unwrap();
    assert_eq!((inherited.limits.samples, inherited.histograms), (7, HistogramParts::Native));
    let own =
        read("{job_name: j, sample_limit: 0, always_scrape_classic_histograms: true}").resolve(&defaults).unwrap();
    assert_eq!((own.limits.samples, own.histograms), (0, HistogramParts::NativeAndClassic));
}

#[test]
fn senseless_entries_are_refused() {
    let table = [
        ("{}", "job_name is empty"),
        (
            "{job_name: j, scrape_interval: 5s, scrape_timeout: 6s}",
            "scrape timeout greater than scrape interval for scrape config with job name \"j\"",
        ),
        ("{job_name: j, scheme: ftp}", "invalid scheme \"ftp\" for scrape config with job name \"j\""),
        (
            "{job_name: j, scrape_protocols: []}",
            "invalid scrape_protocols \"[]\" for scrape config with job name \"j\"",
        ),
        (
            "{job_name: j, static_configs: [{targets: ['http://x']}]}",
            "invalid static_configs target \"http://x\" for scrape config with job name \"j\"",
        ),
        (
            "{job_name: j, file_sd_configs: [{files: ['a/*/b.json']}]}",
            "invalid file_sd_configs path name \"a/*/b.json\" for scrape config with job name \"j\"",
        ),
        (
            "{job_name: j, http_sd_configs: [{url: 'ftp://x'}]}",
            "invalid http_sd_configs url \"ftp://x\" for scrape config with job name \"j\"",
        ),
        (
            "{job_name: j, dns_sd_configs: [{names: [x], type: A}]}",
            "invalid dns_sd_configs port \"none\" for scrape config with job name \"j\"",
        ),
        (
            "{job_name: j, dns_sd_configs: [{names: [x], type: mx, port: 0}]}",
            "invalid dns_sd_configs port \"0\" for scrape config with job name \"j\"",
        ),
        (
            "{job_name: j, dns_sd_configs: [{names: [x], type: TXT}]}",
            "invalid dns_sd_configs type \"TXT\" for scrape config with job name \"j\"",
        ),
        (
            "{job_name: j, metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8}",
            "invalid metric_name_escaping_scheme \"allow-utf-8\" for scrape config with job name \"j\"",
        ),
        (
            "{job_name: j, bearer_token: x, bearer_token_file: y}",
            "scrape config with job name \"j\": at most one of bearer_token and bearer_token_file must be configured",
        ),
    ];
    for (yaml, wanted) in table {
        let error = read(yaml).resolve(&ScrapeDefaults::default()).unwrap_err();
        assert_eq!(error.to_string(), wanted, "{yaml}");
    }
    let twice = resolve_all(&ScrapeDefaults::default(), &[read("{job_name: j}"), read("{job_name: j}")]);
    assert_eq!(twice.unwrap_err().to_string(), "found multiple scrape configs with job name \"j\"");
}

#[test]
fn unknown_fields_are_refused_with_their_place() {
    for yaml in ["job_name: j\nscrape_intervall: 5s\n", "job_name: j\nstatic_configs:\n- target: [x]\n"] {
        let error = serde_saphyr::from_str::<ScrapeConfig>(yaml).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{error}");
    }
}
