//! The keys of each section: one table, in the order of the page.

use super::Row;

const fn row(key: &'static str, kind: &'static str, default: &'static str, meaning: &'static str) -> Row {
    Row { key, kind, default, meaning }
}

pub(super) const KYMO: &[Row] = &[
    row("data_dir", "path", "./kymo-data", "where the data lives; created when missing"),
    row("listen", "address", "127.0.0.1:9911", "address of the HTTP listener"),
    row("otlp.grpc", "address or off", "127.0.0.1:4317", "where OTLP is listened for over gRPC"),
    row("otlp.http", "address or off", "127.0.0.1:4318", "where OTLP is listened for over HTTP"),
    row("collect", "list of host and self", "[]", "what is watched without being told where; without a file both"),
    row("retention", "duration", "30d", "how long samples are kept, `0` for ever"),
    row("memory_limit", "size", "60 % of what the process may have", "memory for everything together"),
    row("sync", "always, interval or never", "interval", "when the log is synced against power loss"),
    row("auth_token_file", "path", "", "file with bearer tokens, one a line, of which every request must carry one"),
    row("enable_lifecycle", "boolean", "false", "whether `POST /-/reload` and `POST /-/quit` are answered"),
    row("enable_admin_api", "boolean", "false", "not served yet"),
];

pub(super) const GLOBAL: &[Row] = &[
    row("scrape_interval", "duration", "1m", "how often targets are asked"),
    row("scrape_timeout", "duration", "10s", "how long an answer may take; no longer than the interval"),
    row("scrape_protocols", "list of formats", "in the order above", "formats that targets are asked for, best first"),
    row("evaluation_interval", "duration", "", "of rules, which are not evaluated"),
    row("rule_query_offset", "duration", "", "of rules, which are not evaluated"),
    row("body_size_limit", "size", "0", "largest answer after decompression; 0 for any"),
    row("sample_limit", "number", "0", "most samples of a scrape after relabelling; 0 for any number"),
    row("target_limit", "number", "0", "most targets of a job; 0 for any number"),
    row("label_limit", "number", "0", "most labels of a series; 0 for any number"),
    row("label_name_length_limit", "number", "0", "longest label name in bytes; 0 for any"),
    row("label_value_length_limit", "number", "0", "longest label value in bytes; 0 for any"),
    row(
        "keep_dropped_targets",
        "number",
        "0",
        "most targets dropped by relabelling that are remembered; 0 for any number",
    ),
    row("scrape_native_histograms", "boolean", "false", "whether native histograms are taken"),
    row(
        "always_scrape_classic_histograms",
        "boolean",
        "false",
        "whether classic buckets are taken of histograms that have native ones too",
    ),
    row(
        "extra_scrape_metrics",
        "boolean",
        "false",
        "whether `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` are stored",
    ),
    row("metric_name_validation_scheme", "utf8 or legacy", "utf8", "which names are accepted"),
    row(
        "metric_name_escaping_scheme",
        "allow-utf-8, underscores, dots or values",
        "by the validation scheme",
        "how targets are asked to write names that are not legacy ones",
    ),
];

pub(super) const SCRAPE: &[Row] = &[
    row("job_name", "text", "", "name of the job, required: its series carry it as label `job`"),
    row("scrape_interval", "duration", "1m", "how often targets are asked"),
    row("scrape_timeout", "duration", "10s", "how long an answer may take; no longer than the interval"),
    row("scrape_protocols", "list of formats", "as in `global`", "formats that targets are asked for, best first"),
    row("fallback_scrape_protocol", "format", "", "the format of an answer without a content type that is known"),
    row("metrics_path", "text", "/metrics", "path of the metrics"),
    row("scheme", "http or https", "http", "how targets are spoken to"),
    row("params", "lists of text by name", "{}", "parameters of the URL"),
    row("honor_labels", "boolean", "false", "whether a target's own labels win over those that the scraper adds"),
    row("honor_timestamps", "boolean", "true", "whether timestamps of targets are used"),
    row(
        "track_timestamps_staleness",
        "boolean",
        "false",
        "whether series with timestamps of their own go stale when they vanish",
    ),
    row("enable_compression", "boolean", "true", "whether answers may be compressed"),
    row("scrape_native_histograms", "boolean", "false", "whether native histograms are taken"),
    row(
        "always_scrape_classic_histograms",
        "boolean",
        "false",
        "whether classic buckets are taken of histograms that have native ones too",
    ),
    row("scrape_classic_histograms", "boolean", "false", "the older name of `always_scrape_classic_histograms`"),
    row(
        "extra_scrape_metrics",
        "boolean",
        "false",
        "whether `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` are stored",
    ),
    row("metric_name_validation_scheme", "utf8 or legacy", "utf8", "which names are accepted"),
    row(
        "metric_name_escaping_scheme",
        "allow-utf-8, underscores, dots or values",
        "by the validation scheme",
        "how targets are asked to write names that are not legacy ones",
    ),
    row("body_size_limit", "size", "0", "largest answer after decompression; 0 for any"),
    row("sample_limit", "number", "0", "most samples of a scrape after relabelling; 0 for any number"),
    row("label_limit", "number", "0", "most labels of a series; 0 for any number"),
    row("label_name_length_limit", "number", "0", "longest label name in bytes; 0 for any"),
    row("label_value_length_limit", "number", "0", "longest label value in bytes; 0 for any"),
    row("target_limit", "number", "0", "most targets of the job; 0 for any number"),
    row(
        "keep_dropped_targets",
        "number",
        "0",
        "most targets dropped by relabelling that are remembered; 0 for any number",
    ),
    row(
        "native_histogram_bucket_limit",
        "number",
        "0",
        "most buckets of a native histogram; finer ones are merged until they fit. 0 for any number",
    ),
    row(
        "native_histogram_min_bucket_factor",
        "number",
        "0",
        "smallest growth from one bucket of a native histogram to the next; finer ones are merged. 0 for any",
    ),
    row("static_configs", "list of groups", "[]", "targets as listed"),
    row("file_sd_configs", "list", "[]", "targets from files"),
    row("http_sd_configs", "list", "[]", "targets from HTTP endpoints"),
    row("dns_sd_configs", "list", "[]", "targets from DNS"),
    row("relabel_configs", "list of rules", "[]", "rules over the labels of targets"),
    row("metric_relabel_configs", "list of rules", "[]", "rules over the labels of samples"),
];

pub(super) const STATIC: &[Row] = &[
    row("targets", "list of text", "[]", "addresses, each a host and a port"),
    row("labels", "text by name", "{}", "labels that all of them get"),
];

pub(super) const FILE_SD: &[Row] = &[
    row(
        "files",
        "list of paths",
        "[]",
        "files with groups, ending in `.json`, `.yml` or `.yaml`; the last part of a path may hold `*`",
    ),
    row(
        "refresh_interval",
        "duration",
        "5s",
        "accepted as in Prometheus; files are looked at every five seconds in any case",
    ),
];

pub(super) const HTTP_SD: &[Row] = &[
    row("url", "URL", "", "the endpoint, which answers with groups as JSON; required"),
    row("refresh_interval", "duration", "1m", "how often it is asked"),
];

pub(super) const DNS_SD: &[Row] = &[
    row("names", "list of text", "[]", "names to look up"),
    row("type", "SRV, A, AAAA, MX or NS", "SRV", "which records are asked for"),
    row("port", "number", "", "the targets' port; needed for all types but SRV, whose records name it"),
    row("refresh_interval", "duration", "30s", "how often names are looked up"),
];

pub(super) const RELABEL: &[Row] = &[
    row("source_labels", "list of text", "[]", "labels whose values, joined, are the source; an absent label is empty"),
    row("separator", "text", ";", "stands between the joined values"),
    row("regex", "expression", "(.*)", "matched against the whole source, or against label names"),
    row("modulus", "number", "", "for `hashmod`"),
    row("target_label", "text", "", "the label that is set; a template for `replace`"),
    row("replacement", "text", "$1", "template of the value, or of the name for `labelmap`"),
    row("action", "text", "replace", "name of the action, in any case"),
];

pub(super) const HTTP: &[Row] = &[
    row("basic_auth", "section", "", "user name and password"),
    row("authorization", "section", "", "the `Authorization` header"),
    row("oauth2", "section", "", "not acted on: the job is left out"),
    row("bearer_token", "secret", "", "the older way to write `authorization`"),
    row("bearer_token_file", "path", "", "a file with a bearer token"),
    row("tls_config", "section", "", "how the server is verified and which certificate is shown to it"),
    row("follow_redirects", "boolean", "true", "whether redirects are followed"),
    row("enable_http2", "boolean", "true", "whether HTTP/2 may be negotiated"),
    row("proxy_url", "URL", "", "the proxy"),
    row("no_proxy", "text", "", "hosts that are reached directly, comma-separated"),
    row("proxy_from_environment", "boolean", "false", "not acted on: the job is left out"),
    row("proxy_connect_header", "lists of secrets by name", "{}", "not acted on: the job is left out"),
    row("http_headers", "sections by name", "{}", "headers added to each request"),
];

pub(super) const BASIC_AUTH: &[Row] = &[
    row("username", "text", "", "the user"),
    row("username_file", "path", "", "a file with the user"),
    row("password", "secret", "", "the password"),
    row("password_file", "path", "", "a file with the password"),
];

pub(super) const AUTHORIZATION: &[Row] = &[
    row("type", "text", "Bearer", "the scheme"),
    row("credentials", "secret", "", "what follows the scheme"),
    row("credentials_file", "path", "", "a file with what follows the scheme"),
];

pub(super) const TLS: &[Row] = &[
    row("ca", "PEM", "", "certificates that sign the server's"),
    row("ca_file", "path", "", "a file with them"),
    row("cert", "PEM", "", "the certificate shown to the server"),
    row("cert_file", "path", "", "a file with it"),
    row("key", "secret, PEM", "", "the key of that certificate"),
    row("key_file", "path", "", "a file with it"),
    row("server_name", "text", "", "not acted on: the job is left out"),
    row("insecure_skip_verify", "boolean", "false", "accepts any certificate"),
    row(
        "min_version",
        "TLS10, TLS11, TLS12 or TLS13",
        "TLS12",
        "oldest version accepted; below TLS12 nothing is spoken",
    ),
    row("max_version", "TLS12 or TLS13", "TLS13", "newest version offered"),
];

pub(super) const HEADERS: &[Row] = &[
    row("values", "list of text", "[]", "values that may be shown"),
    row("secrets", "list of secrets", "[]", "values that may not"),
    row("files", "list of paths", "[]", "files with values"),
];

pub(super) const OTLP: &[Row] = &[
    row(
        "translation_strategy",
        "UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes or NoTranslation",
        "UnderscoreEscapingWithSuffixes",
        "how names are translated",
    ),
    row("promote_resource_attributes", "list of text", "[]", "resource attributes that become labels of every series"),
    row(
        "promote_all_resource_attributes",
        "boolean",
        "false",
        "makes all resource attributes labels but `ignore_resource_attributes`",
    ),
    row(
        "ignore_resource_attributes",
        "list of text",
        "[]",
        "resource attributes that `promote_all_resource_attributes` leaves out",
    ),
    row(
        "keep_identifying_resource_attributes",
        "boolean",
        "false",
        "also keeps `service.name`, `service.namespace` and `service.instance.id` as labels of `target_info`",
    ),
    row(
        "promote_scope_metadata",
        "boolean",
        "true",
        "makes name, version, schema URL and attributes of the scope labels `otel_scope_*`",
    ),
    row(
        "label_name_underscore_sanitization",
        "boolean",
        "true",
        "puts `key` before label names that begin with one underscore",
    ),
    row(
        "label_name_preserve_multiple_underscores",
        "boolean",
        "true",
        "keeps neighbouring underscores in label names apart instead of making them one",
    ),
    row(
        "convert_histograms_to_nhcb",
        "boolean",
        "false",
        "stores histograms with explicit bounds as native histograms with custom buckets",
    ),
    row(
        "keep_min_max",
        "boolean",
        "false",
        "stores a histogram's `min` and `max` as gauges `<name>_min` and `<name>_max`; else they are dropped",
    ),
];
