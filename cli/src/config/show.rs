//! The effective values of a file, as a file: what was left open is filled in, secrets are masked.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kymo_core::config::Secret;
use kymo_export::MetricsEndpoint;
use kymo_ingest::otlp::OtlpConfig;
use kymo_ingest::scrape::{JobConfig, ScrapeConfig};
use kymo_ingest::services::ServiceHealthConfig;
use serde::Serialize;

use super::file::{ConfigFile, Global, KymoSection};

/// Fills in what a job left open.
pub(super) fn complete(entry: &mut ScrapeConfig, job: &JobConfig) {
    entry.scrape_interval = Some(job.interval);
    entry.scrape_timeout = Some(job.timeout);
    entry.scrape_protocols = Some(job.protocols.clone());
    entry.metrics_path = Some(job.metrics_path.clone());
    entry.scheme = Some(job.scheme.clone());
    entry.honor_timestamps = Some(job.honor_timestamps);
    entry.enable_compression = Some(job.compression);
    entry.follow_redirects = Some(job.http.follow_redirects);
    entry.enable_http2 = Some(job.http.enable_http2);
}

#[derive(Serialize)]
struct Shown<'a> {
    global: &'a Global,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scrape_configs: Vec<&'a ScrapeConfig>,
    otlp: OtlpShown<'a>,
    service_health: &'a ServiceHealthConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<&'a MetricsEndpoint>,
    kymo: &'a KymoSection,
}

#[derive(Serialize)]
struct OtlpShown<'a> {
    translation_strategy: String,
    promote_resource_attributes: &'a [String],
    promote_all_resource_attributes: bool,
    ignore_resource_attributes: &'a [String],
    keep_identifying_resource_attributes: bool,
    promote_scope_metadata: bool,
    label_name_underscore_sanitization: bool,
    label_name_preserve_multiple_underscores: bool,
    convert_histograms_to_nhcb: bool,
    keep_min_max: bool,
}

impl<'a> From<&'a OtlpConfig> for OtlpShown<'a> {
    fn from(otlp: &'a OtlpConfig) -> OtlpShown<'a> {
        OtlpShown {
            translation_strategy: format!("{:?}", otlp.translation_strategy),
            promote_resource_attributes: &otlp.promote_resource_attributes,
            promote_all_resource_attributes: otlp.promote_all_resource_attributes,
            ignore_resource_attributes: &otlp.ignore_resource_attributes,
            keep_identifying_resource_attributes: otlp.keep_identifying_resource_attributes,
            promote_scope_metadata: otlp.promote_scope_metadata,
            label_name_underscore_sanitization: otlp.label_name_underscore_sanitization,
            label_name_preserve_multiple_underscores: otlp.label_name_preserve_multiple_underscores,
            convert_histograms_to_nhcb: otlp.convert_histograms_to_nhcb,
            keep_min_max: otlp.keep_min_max,
        }
    }
}

/// Each scrape job as YAML, once [`yaml`] has masked its secrets.
pub(super) fn jobs(file: &ConfigFile) -> BTreeMap<String, String> {
    let entries = file.scrape_configs.iter().map(|entry| &entry.value);
    entries.map(|entry| (entry.job_name.clone(), serde_saphyr::to_string(entry).unwrap_or_default())).collect()
}

/// The file as YAML. What is not acted on stands in comments at its head.
pub(super) fn yaml(file: &mut ConfigFile, notices: &[String]) -> String {
    let defaults = file.global.defaults();
    file.global.scrape_interval = Some(defaults.scrape_interval);
    file.global.scrape_timeout = Some(defaults.scrape_timeout);
    for entry in &mut file.scrape_configs {
        mask(&mut entry.value);
    }
    let otlp = file.otlp.as_ref().map(|section| section.value.clone()).unwrap_or_default();
    let service_health = file.service_health.as_ref().map(|section| section.value.clone()).unwrap_or_default();
    let shown = Shown {
        global: &file.global,
        scrape_configs: file.scrape_configs.iter().map(|entry| &entry.value).collect(),
        otlp: (&otlp).into(),
        service_health: &service_health,
        metrics: file.metrics.as_ref(),
        kymo: &file.kymo,
    };
    let mut text = String::new();
    for notice in notices {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# not acted on: {notice}");
    }
    match serde_saphyr::to_string(&shown) {
        Ok(yaml) => text.push_str(&yaml),
        Err(error) => {
            let _ = writeln!(text, "# cannot be shown: {error}");
        }
    }
    text
}

/// Hides what is secret and has no type that says so: passwords in URLs.
fn mask(job: &mut ScrapeConfig) {
    let endpoints = job.http_sd_configs.iter_mut();
    let urls = endpoints.flat_map(|endpoint| [Some(&mut endpoint.url), endpoint.proxy_url.as_mut()]);
    for url in urls.chain([job.proxy_url.as_mut()]).flatten() {
        if let Some(masked) = without_password(url) {
            *url = masked;
        }
    }
}

/// `scheme://user:password@host…` with the password masked; `None` if there is none.
fn without_password(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (credentials, _) = authority.rsplit_once('@')?;
    let (user, password) = credentials.split_once(':')?;
    Some(format!("{scheme}://{user}:{}{}", Secret::new(password), &rest[credentials.len()..]))
}
