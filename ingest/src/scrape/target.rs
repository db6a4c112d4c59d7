//! From what discovery found to what is asked.

use std::collections::BTreeMap;

use kymo_core::config::{Relabelled, relabel};
use kymo_core::status::LabelMap;
use kymo_core::text::{DurationError, parse_duration_ms};
use kymo_core::{Labels, LabelsBuilder};

use super::config::JobConfig;

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const PARAM: &str = "__param_";
const META: &str = "__meta_";
const RESERVED: &str = "__";
const JOB: &str = "job";
const INSTANCE: &str = "instance";

/// Something to scrape.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    /// Labels that its series carry.
    pub(super) labels: Labels,
    /// Labels as discovered, before relabelling.
    pub(super) discovered: LabelMap,
    /// What is asked, as Prometheus shows it: a default port stays.
    pub(super) url: String,
    pub(super) interval_ms: i64,
    pub(super) timeout_ms: i64,
    /// Two targets of one job with one identity are one. The same in every process, so that a target keeps its phase.
    pub(super) identity: u64,
}

/// What relabelling made of something discovered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Made {
    Target(Target),
    /// A rule dropped it; these were its labels.
    Dropped(LabelMap),
}

/// Why something discovered is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetError {
    #[error("no address")]
    NoAddress,
    #[error("{address:?} is not a valid hostname")]
    Address { address: String },
    #[error("invalid scheme: {scheme:?}")]
    Scheme { scheme: String },
    #[error("error parsing scrape {what}: {source}")]
    Duration { what: &'static str, source: DurationError },
    #[error("scrape {what} cannot be 0")]
    Zero { what: &'static str },
    #[error("scrape timeout cannot be greater than scrape interval ({timeout:?} > {interval:?})")]
    Timeout { timeout: String, interval: String },
}

/// Makes a target from discovered labels: those of the target itself win over those of its group.
pub(super) fn make(job: &JobConfig, own: &LabelMap, group: &LabelMap) -> Result<Made, TargetError> {
    let mut discovered = group.clone();
    discovered.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
    let defaults = [
        (JOB, job.name.clone()),
        (INTERVAL, job.interval.to_string()),
        (TIMEOUT, job.timeout.to_string()),
        (METRICS_PATH, job.metrics_path.clone()),
        (SCHEME, job.scheme.clone()),
    ];
    for (name, value) in defaults {
        let there = discovered.get(name).is_some_and(|value| !value.is_empty());
        if !there {
            discovered.insert(name.to_owned(), value);
        }
    }
    for (name, values) in &job.params {
        if let Some(first) = values.first() {
            discovered.insert(format!("{PARAM}{name}"), first.clone());
        }
    }
    discovered.retain(|_, value| !value.is_empty());
    let mut builder = LabelsBuilder::new();
    for (name, value) in &discovered {
        builder.push(name, value);
    }
    if relabel(&job.relabel, &mut builder) == Relabelled::Dropped {
        return Ok(Made::Dropped(discovered));
    }
    finish(job, builder, discovered).map(Made::Target)
}

fn finish(job: &JobConfig, mut builder: LabelsBuilder, discovered: LabelMap) -> Result<Target, TargetError> {
    let get = |builder: &LabelsBuilder, name: &str| builder.get(name).unwrap_or_default().to_owned();
    let address = get(&builder, ADDRESS);
    if address.is_empty() {
        return Err(TargetError::NoAddress);
    }
    if address.contains('/') {
        return Err(TargetError::Address { address });
    }
    let scheme = get(&builder, SCHEME);
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(TargetError::Scheme { scheme });
    }
    let (interval, timeout) = (get(&builder, INTERVAL), get(&builder, TIMEOUT));
    let (interval_ms, timeout_ms) = (duration("interval", &interval)?, duration("timeout", &timeout)?);
    if timeout_ms > interval_ms {
        return Err(TargetError::Timeout { timeout, interval });
    }
    builder.retain(|name, _| !name.starts_with(META));
    if get(&builder, INSTANCE).is_empty() {
        builder.set(INSTANCE, &address);
    }
    let url = url(job, &builder, &scheme, &address);
    // Interval and timeout are part of the identity: a target whose interval changes is another one.
    let all = builder.labels();
    let identity = fnv1a(fnv1a(FNV_OFFSET, all.as_ref().packed()), url.as_bytes());
    let public = all.iter().filter(|(name, _)| !name.starts_with(RESERVED));
    Ok(Target { labels: Labels::from_pairs(public), discovered, url, interval_ms, timeout_ms, identity })
}

fn duration(what: &'static str, text: &str) -> Result<i64, TargetError> {
    match parse_duration_ms(text) {
        Ok(0) => Err(TargetError::Zero { what }),
        Ok(ms) => Ok(ms),
        Err(source) => Err(TargetError::Duration { what, source }),
    }
}

/// The URL: parameters of the job, the first value of each replaced by the label's, sorted by name.
fn url(job: &JobConfig, labels: &LabelsBuilder, scheme: &str, address: &str) -> String {
    let mut params: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, values) in &job.params {
        params.insert(name, values.iter().map(String::as_str).collect());
    }
    for (name, value) in labels.iter() {
        let Some(name) = name.strip_prefix(PARAM) else { continue };
        let values = params.entry(name).or_default();
        match values.first_mut() {
            Some(first) => *first = value,
            None => values.push(value),
        }
    }
    let path = labels.get(METRICS_PATH).unwrap_or_default();
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    let mut url =
        format!("{scheme}://{address}{slash}{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23"));
    let mut separator = '?';
    for (name, values) in params {
        for value in values {
            url.push(separator);
            escape_query(&mut url, name);
            url.push('=');
            escape_query(&mut url, value);
            separator = '&';
        }
    }
    url
}

/// As Go's `url.QueryEscape`.
fn escape_query(url: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => url.push(char::from(byte)),
            b' ' => url.push('+'),
            _ => *url += &format!("%{byte:02X}"),
        }
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, which is the same on every machine and in every version.
fn fnv1a(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::config::{ScrapeConfig, ScrapeDefaults};

    fn job(json: &str) -> JobConfig {
        let config: ScrapeConfig = serde_json::from_str(json).unwrap();
        config.resolve(&ScrapeDefaults::default()).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> LabelMap {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn target(job: &JobConfig, own: &[(&str, &str)], group: &[(&str, &str)]) -> Target {
        match make(job, &labels(own), &labels(group)).unwrap() {
            Made::Target(target) => target,
            Made::Dropped(labels) => panic!("dropped: {labels:?}"),
        }
    }

    #[test]
    fn a_target_has_its_jobs_settings_as_labels() {
        let job = job(r#"{"job_name":"node","scrape_interval":"15s","params":{"q":["a b","c"],"m":["1"]}}"#);
        let target =
            target(&job, &[("__address__", "host:9100"), ("env", "own")], &[("env", "group"), ("__meta_x", "y")]);
        assert_eq!(target.url, "http://host:9100/metrics?m=1&q=a+b&q=c");
        assert_eq!(target.labels, Labels::from_pairs([("env", "own"), ("instance", "host:9100"), ("job", "node")]));
        assert_eq!((target.interval_ms, target.timeout_ms), (15_000, 10_000));
        let wanted = labels(&[
            ("__address__", "host:9100"),
            ("__meta_x", "y"),
            ("__metrics_path__", "/metrics"),
            ("__param_m", "1"),
            ("__param_q", "a b"),
            ("__scheme__", "http"),
            ("__scrape_interval__", "15s"),
            ("__scrape_timeout__", "10s"),
            ("env", "own"),
            ("job", "node"),
        ]);
        assert_eq!(target.discovered, wanted);
    }

    #[test]
    fn rules_may_change_what_is_asked_and_how_often() {
        let job = job(r#"{"job_name":"probe","metrics_path":"/probe","params":{"module":["http"]},"relabel_configs":[
            {"source_labels":["__address__"],"target_label":"__param_target"},
            {"source_labels":["__address__"],"target_label":"instance"},
            {"target_label":"__address__","replacement":"blackbox:9115"},
            {"target_label":"__scheme__","replacement":"https"},
            {"target_label":"__scrape_interval__","replacement":"1m30s"},
            {"target_label":"__scrape_timeout__","replacement":"1m"}]}"#);
        let target = target(&job, &[("__address__", "https://example.org/?a=ü")], &[]);
        assert_eq!(
            target.url,
            "https://blackbox:9115/probe?module=http&target=https%3A%2F%2Fexample.org%2F%3Fa%3D%C3%BC"
        );
        assert_eq!((target.interval_ms, target.timeout_ms), (90_000, 60_000));
        assert_eq!(target.labels.get("instance"), Some("https://example.org/?a=ü"));
    }

    #[test]
    fn what_is_no_target_says_why() {
        let plain = job(r#"{"job_name":"j"}"#);
        let error = |own: &[(&str, &str)]| make(&plain, &labels(own), &LabelMap::new()).unwrap_err().to_string();
        let address = ("__address__", "h:1");
        assert_eq!(error(&[]), "no address");
        assert_eq!(error(&[("__address__", "http://h:1")]), "\"http://h:1\" is not a valid hostname");
        assert_eq!(error(&[address, ("__scheme__", "ftp")]), "invalid scheme: \"ftp\"");
        assert_eq!(error(&[address, ("__scrape_interval__", "0s")]), "scrape interval cannot be 0");
        assert!(error(&[address, ("__scrape_timeout__", "x")]).starts_with("error parsing scrape timeout: "));
        assert_eq!(
            error(&[address, ("__scrape_timeout__", "2m")]),
            "scrape timeout cannot be greater than scrape interval (\"2m\" > \"1m\")"
        );
        let drop = job(r#"{"job_name":"j","relabel_configs":[{"source_labels":["job"],"regex":"j","action":"drop"}]}"#);
        let Made::Dropped(dropped) = make(&drop, &labels(&[address]), &LabelMap::new()).unwrap() else {
            panic!("kept")
        };
        assert_eq!(dropped["__address__"], "h:1");
    }

    #[test]
    fn identity_is_of_labels_and_url_and_never_changes() {
        let plain = job(r#"{"job_name":"j"}"#);
        let one = target(&plain, &[("__address__", "h:1")], &[]);
        assert_eq!(one.identity, target(&plain, &[("__address__", "h:1")], &[("__meta_a", "b")]).identity);
        assert_ne!(one.identity, target(&plain, &[("__address__", "h:2")], &[]).identity);
        assert_ne!(one.identity, target(&plain, &[("__address__", "h:1"), ("a", "b")], &[]).identity);
        assert_eq!(fnv1a(FNV_OFFSET, b"foobar"), 0x8594_4171_f739_67e8);
    }
}
