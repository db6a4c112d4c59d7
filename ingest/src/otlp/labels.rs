//! The labels of a point: of its attributes, its scope and its resource.

use kymo_core::labels::{LabelsBuilder, LabelsRef, METRIC_NAME};

use super::config::OtlpConfig;
use super::error::Reason;
use super::message::{KeyValue, Resource, Scope};
use super::name::{Unnameable, label_name};
use super::value;

pub(super) const SERVICE_NAME: &str = "service.name";
pub(super) const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE: &str = "service.instance.id";
/// What says which target a resource is, and becomes `job` and `instance`.
const IDENTIFYING: [&str; 3] = [SERVICE_NAMESPACE, SERVICE_NAME, SERVICE_INSTANCE];

type Pairs = Vec<(String, String)>;

/// Makes label sets; keeps what the points of a resource and scope have in common.
pub(super) struct SeriesLabels<'c> {
    config: &'c OtlpConfig,
    /// Of the resource: win over attributes of the point.
    target: Pairs,
    /// Promoted attributes of the resource: only where the point has no such label.
    promoted: Result<Pairs, Unnameable>,
    /// Of the scope: win over attributes of the point and promoted ones.
    scope: Result<Pairs, Unnameable>,
    /// The labels of the current point; the name and what one series adds are set last.
    builder: LabelsBuilder,
    /// Attributes of the point, sorted by key.
    sorted: Pairs,
}

impl<'c> SeriesLabels<'c> {
    pub(super) fn new(config: &'c OtlpConfig) -> SeriesLabels<'c> {
        SeriesLabels {
            config,
            target: Vec::new(),
            promoted: Ok(Vec::new()),
            scope: Ok(Vec::new()),
            builder: LabelsBuilder::new(),
            sorted: Vec::new(),
        }
    }

    /// The label name of an attribute key.
    pub(super) fn label_name(&self, key: &str) -> Result<String, Unnameable> {
        label_of(key, self.config)
    }

    /// Goes on with the points of `resource`, which have no scope yet.
    pub(super) fn set_resource(&mut self, resource: &Resource) {
        self.scope = Ok(Vec::new());
        self.target.clear();
        let attribute = |key: &str| resource.attributes.iter().find(|pair| pair.key == key).map(value_text);
        if let Some(name) = attribute(SERVICE_NAME) {
            let job = attribute(SERVICE_NAMESPACE).map(|namespace| format!("{namespace}/{name}"));
            self.target.push(("job".to_owned(), job.unwrap_or(name)));
        }
        if let Some(instance) = attribute(SERVICE_INSTANCE) {
            self.target.push(("instance".to_owned(), instance));
        }
        let promoted = resource.attributes.iter().filter(|pair| self.config.promotes(&pair.key));
        self.promoted = promoted.map(|pair| Ok((self.label_name(&pair.key)?, value_text(pair)))).collect();
    }

    /// Whether the resource says which process it is.
    pub(super) fn has_instance(&self) -> bool {
        self.target.iter().any(|(name, value)| name == "instance" && !value.is_empty())
    }

    /// Goes on with the points of `scope`, of the same resource.
    pub(super) fn set_scope(&mut self, scope: &Scope, schema_url: &str) {
        self.scope =
            if self.config.promote_scope_metadata { self.scope_pairs(scope, schema_url) } else { Ok(Vec::new()) };
    }

    fn scope_pairs(&self, scope: &Scope, schema_url: &str) -> Result<Pairs, Unnameable> {
        // Attributes of these names would be taken for the fields themselves.
        let fields = [("name", scope.name.as_str()), ("version", &scope.version), ("schema_url", schema_url)];
        let field = fields.iter().map(|(name, value)| Ok((format!("otel_scope_{name}"), (*value).to_owned())));
        let attributes = scope.attributes.iter().filter(|pair| fields.iter().all(|(name, _)| *name != pair.key));
        let attribute = |pair: &KeyValue| match pair.key.is_empty() {
            true => Err(Unnameable),
            false => Ok((self.label_name(&format!("otel_scope_{}", pair.key))?, value_text(pair))),
        };
        field
            .chain(attributes.map(attribute))
            .filter(|pair| !matches!(pair, Ok((_, value)) if value.is_empty()))
            .collect()
    }

    /// Goes on with the point that has `attributes`; its series are then made by [`series`](Self::series).
    pub(super) fn set_point(&mut self, attributes: &[KeyValue]) -> Result<(), Reason> {
        self.start(attributes, |_| true).map_err(|Unnameable| Reason::InvalidAttributeKey)?;
        let (Ok(promoted), Ok(scope)) = (&self.promoted, &self.scope) else { return Err(Reason::InvalidAttributeKey) };
        for (name, value) in promoted {
            if self.builder.get(name).is_none() {
                self.builder.set(name, value);
            }
        }
        for (name, value) in scope.iter().chain(&self.target) {
            self.builder.set(name, value);
        }
        Ok(())
    }

    /// Begins a label set with attributes; values of keys that become the same name are joined in the order of keys.
    fn start(&mut self, attributes: &[KeyValue], keep: impl Fn(&str) -> bool) -> Result<(), Unnameable> {
        self.builder.clear();
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.clear();
        let kept = attributes.iter().filter(|pair| keep(&pair.key));
        sorted.extend(kept.map(|pair| (pair.key.clone(), value_text(pair))));
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        for (key, value) in &sorted {
            let name = self.label_name(key)?;
            match self.builder.get(&name).filter(|before| !before.is_empty()) {
                Some(before) => {
                    let joined = format!("{before};{value}");
                    self.builder.set(&name, &joined);
                }
                None => {
                    self.builder.set(&name, value);
                }
            }
        }
        self.sorted = sorted;
        Ok(())
    }

    /// The labels of the point's series `name`, with one more label if given.
    pub(super) fn series(&mut self, name: &str, extra: Option<(&str, &str)>) -> LabelsRef<'_> {
        self.builder.set(METRIC_NAME, name);
        if let Some((name, value)) = extra {
            self.builder.set(name, value);
        }
        self.builder.build().expect("names are set, so none stands twice, and none is empty")
    }

    /// The labels of the resource's `target_info`, if it has something to tell and a target to tell it of.
    pub(super) fn target_info(&mut self, resource: &Resource) -> Option<LabelsRef<'_>> {
        let tells = resource.attributes.iter().any(|pair| !IDENTIFYING.contains(&pair.key.as_str()));
        let identified = self.target.iter().any(|(_, value)| !value.is_empty());
        if !tells || !identified {
            return None;
        }
        let config = self.config;
        let keeps = |key: &str| config.keep_identifying_resource_attributes || !IDENTIFYING.contains(&key);
        // What cannot be a label is left out: it tells nothing apart, as `job` and `instance` do that.
        self.start(&resource.attributes, |key| keeps(key) && label_of(key, config).is_ok()).ok()?;
        for (name, value) in &self.target {
            self.builder.set(name, value);
        }
        Some(self.series("target_info", None))
    }
}

fn label_of(key: &str, config: &OtlpConfig) -> Result<String, Unnameable> {
    label_name(
        key,
        config.translation_strategy.escapes(),
        config.label_name_underscore_sanitization,
        config.label_name_preserve_multiple_underscores,
    )
}

fn value_text(pair: &KeyValue) -> String {
    pair.value.as_ref().map(value::text).unwrap_or_default()
}
