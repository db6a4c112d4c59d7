//! From the labels that a target sends to those that are stored.

use kymo_core::config::{Relabelled, relabel};
use kymo_core::labels::LabelsRef;
use kymo_core::text::{SeriesText, is_legacy_label_name, is_legacy_metric_name};
use kymo_core::{Labels, LabelsBuilder, METRIC_NAME};

use super::config::JobConfig;
use super::error::ScrapeError;
use super::negotiate::NameValidation;

/// Goes before a target's own label that one of the scraper's pushes aside.
const EXPORTED: &str = "exported_";

/// Adds the target's labels to those of a sample and applies the job's rules; `None` if a rule drops it.
///
/// # Errors
/// [`ScrapeError`] for labels that fail the whole scrape: duplicates, no name, limits.
pub(super) fn sample_labels<'b>(
    job: &JobConfig,
    target: &Labels,
    builder: &'b mut LabelsBuilder,
) -> Result<Option<LabelsRef<'b>>, ScrapeError> {
    add_target_labels(job.honor_labels, target, builder);
    if relabel(&job.metric_relabel, builder) == Relabelled::Dropped {
        return Ok(None);
    }
    let labels = builder.build()?;
    if labels.packed().is_empty() {
        return Ok(None);
    }
    let metric = labels.metric_name().ok_or(ScrapeError::MissingName)?;
    check_names(job, metric, labels)?;
    check_limits(job, metric, labels)?;
    Ok(Some(labels))
}

fn add_target_labels(honor: bool, target: &Labels, builder: &mut LabelsBuilder) {
    let is_set = |builder: &LabelsBuilder, name: &str| builder.get(name).is_some_and(|value| !value.is_empty());
    let mut pushed_aside: Vec<(&str, String)> = Vec::new();
    for (name, value) in target {
        match builder.get(name) {
            Some(own) if !own.is_empty() && honor => continue,
            Some(own) if !own.is_empty() => pushed_aside.push((name, own.to_owned())),
            _ => {}
        }
        builder.set(name, value);
    }
    // Short names first, so that `a` becomes `exported_a` before `exported_a` becomes `exported_exported_a`.
    pushed_aside.sort_by_key(|(name, _)| name.len());
    for (name, value) in pushed_aside {
        let mut exported = format!("{EXPORTED}{name}");
        while is_set(builder, &exported) {
            exported.insert_str(0, EXPORTED);
        }
        builder.set(&exported, &value);
    }
}

fn check_limits(job: &JobConfig, metric: &str, labels: LabelsRef<'_>) -> Result<(), ScrapeError> {
    let limits = &job.limits;
    let over = |len: usize, limit: u64| limit > 0 && len as u64 > limit;
    if limits.labels > 0 {
        let count = labels.iter().count();
        if over(count, limits.labels) {
            return Err(ScrapeError::LabelLimit { metric: metric.to_owned(), count, limit: limits.labels });
        }
    }
    if limits.label_name_bytes == 0 && limits.label_value_bytes == 0 {
        return Ok(());
    }
    for (name, value) in labels.iter() {
        if over(name.len(), limits.label_name_bytes) {
            let (metric, len, limit) = (metric.to_owned(), name.len(), limits.label_name_bytes);
            return Err(ScrapeError::LabelNameLimit { metric, name: name.to_owned(), len, limit });
        }
        if over(value.len(), limits.label_value_bytes) {
            let (metric, len, limit) = (metric.to_owned(), value.len(), limits.label_value_bytes);
            let (name, value) = (name.to_owned(), value.to_owned());
            return Err(ScrapeError::LabelValueLimit { metric, name, value, len, limit });
        }
    }
    Ok(())
}

fn check_names(job: &JobConfig, metric: &str, labels: LabelsRef<'_>) -> Result<(), ScrapeError> {
    let legacy = || is_legacy_metric_name(metric) && labels.iter().all(|(name, _)| is_legacy_label_name(name));
    if job.names == NameValidation::Legacy && !legacy() {
        return Err(ScrapeError::Names { series: SeriesText(labels.iter()).to_string() });
    }
    Ok(())
}

/// The labels of a series about the scrape itself.
pub(super) fn report_labels<'b>(name: &str, target: &Labels, builder: &'b mut LabelsBuilder) -> LabelsRef<'b> {
    builder.clear();
    for (name, value) in target {
        builder.push(name, value);
    }
    builder.set(METRIC_NAME, name);
    builder.build().unwrap_or_else(|_| unreachable!("labels of a target have names, each its own"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::config::{ScrapeConfig, ScrapeDefaults};

    fn job(json: &str) -> JobConfig {
        let config: ScrapeConfig = serde_json::from_str(json).unwrap();
        config.resolve(&ScrapeDefaults::default()).unwrap()
    }

    fn relabelled(json: &str, target: &[(&str, &str)], own: &[(&str, &str)]) -> Result<Option<String>, String> {
        let mut builder = LabelsBuilder::new();
        for (name, value) in own {
            builder.push(name, value);
        }
        let target = Labels::from_pairs(target.iter().copied());
        let labels = sample_labels(&job(json), &target, &mut builder).map_err(|error| error.to_string())?;
        let show = |labels: LabelsRef<'_>| labels.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        Ok(labels.map(show))
    }

    #[test]
    fn labels_of_the_target_win_unless_its_own_are_honoured() {
        let target = [("job", "j"), ("instance", "i")];
        let own = [("__name__", "m"), ("job", "own"), ("exported_job", "x"), ("instance", "")];
        let wins = relabelled(r#"{"job_name":"j"}"#, &target, &own).unwrap().unwrap();
        assert_eq!(wins, "__name__=m exported_exported_job=own exported_job=x instance=i job=j ");
        let honoured = relabelled(r#"{"job_name":"j","honor_labels":true}"#, &target, &own).unwrap().unwrap();
        assert_eq!(honoured, "__name__=m exported_job=x instance=i job=own ");
        // Both are pushed aside: the shorter name is free to take `exported_a`, which is not there any more.
        let both = relabelled(
            r#"{"job_name":"j"}"#,
            &[("a", "1"), ("exported_a", "2")],
            &[("__name__", "m"), ("a", "3"), ("exported_a", "4")],
        );
        assert_eq!(
            both.unwrap().unwrap(),
            "__name__=m a=1 exported_a=2 exported_exported_a=3 exported_exported_exported_a=4 "
        );
    }

    #[test]
    fn rules_see_the_target_and_may_drop_the_sample() {
        let rules = r#"{"job_name":"j","metric_relabel_configs":[
            {"source_labels":["job","__name__"],"regex":"j;m","target_label":"__name__","replacement":"n"},
            {"source_labels":["__name__"],"regex":"go_.*","action":"drop"},
            {"regex":"gone","action":"labeldrop"}]}"#;
        let target = [("job", "j")];
        let found = |own: &[(&str, &str)]| relabelled(rules, &target, own);
        assert_eq!(found(&[("__name__", "m"), ("gone", "x")]).unwrap().as_deref(), Some("__name__=n job=j "));
        assert_eq!(found(&[("__name__", "go_gc")]), Ok(None));
        let unnamed = r#"{"job_name":"j","metric_relabel_configs":[{"regex":"__name__","action":"labeldrop"}]}"#;
        let missing = relabelled(unnamed, &target, &[("__name__", "m")]).unwrap_err();
        assert_eq!(missing, "missing metric name (__name__ label)");
        let twice = found(&[("__name__", "m"), ("a", "1"), ("a", "2")]).unwrap_err();
        assert_eq!(twice, "label name \"a\" is not unique");
    }

    #[test]
    fn names_may_be_held_to_the_old_rules() {
        let legacy = r#"{"job_name":"j","metric_name_validation_scheme":"legacy"}"#;
        assert!(relabelled(legacy, &[], &[("__name__", "a:b"), ("c_1", "ü")]).unwrap().is_some());
        for own in [&[("__name__", "a.b")][..], &[("__name__", "a"), ("b:c", "x")]] {
            let error = relabelled(legacy, &[], own).unwrap_err();
            assert!(error.starts_with("invalid metric name or label names: "), "{error}");
            assert!(relabelled(r#"{"job_name":"j"}"#, &[], own).unwrap().is_some());
        }
    }

    #[test]
    fn limits_are_named_as_prometheus_names_them() {
        let own = [("__name__", "metric"), ("label", "value \"x\"")];
        let table = [
            (r#""label_limit":1"#, "label_limit exceeded (metric: metric, number of labels: 2, limit: 1)"),
            (
                r#""label_name_length_limit":7"#,
                "label_name_length_limit exceeded (metric: metric, label name: __name__, length: 8, limit: 7)",
            ),
            (
                r#""label_value_length_limit":8"#,
                r#"label_value_length_limit exceeded (metric: metric, label name: label, value: "value \"x\"", length: 9, limit: 8)"#,
            ),
        ];
        for (limit, wanted) in table {
            let json = format!(r#"{{"job_name":"j",{limit}}}"#);
            assert_eq!(relabelled(&json, &[], &own).unwrap_err(), wanted);
        }
        let fits = r#"{"job_name":"j","label_limit":2,"label_name_length_limit":8,"label_value_length_limit":9}"#;
        assert!(relabelled(fits, &[], &own).unwrap().is_some());
    }
}
