//! Limits of the receiver, and how names and attributes are translated.

use serde::Deserialize;

/// Limits of a [`Receiver`](super::Receiver). Every one names itself in the answer that refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpLimits {
    /// Largest body as sent, in bytes; 1 GiB at most, as every limit here. Default 64 MiB, as the OTLP specification recommends.
    pub body_bytes_max: usize,
    /// Largest body after decompression, in bytes. Default 64 MiB, as the OTLP specification recommends.
    pub decompressed_bytes_max: usize,
    /// Most bytes that the series of one request unfold to: every bucket of a histogram is a series with all labels.
    /// Default 256 MiB, a hundred times what a full request of an SDK takes.
    pub unfolded_bytes_max: usize,
}

impl Default for OtlpLimits {
    fn default() -> OtlpLimits {
        OtlpLimits { body_bytes_max: 64 << 20, decompressed_bytes_max: 64 << 20, unfolded_bytes_max: 256 << 20 }
    }
}

/// How metric names and attribute keys become names of series and labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
pub enum TranslationStrategy {
    /// Everything but letters, digits, `_` and, in metric names, `:` becomes `_`; unit and type become suffixes.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// The same without suffixes.
    UnderscoreEscapingWithoutSuffixes,
    /// Names stay as they are, in UTF-8; unit and type become suffixes.
    NoUTF8EscapingWithSuffixes,
    /// Names stay as they are.
    NoTranslation,
}

impl TranslationStrategy {
    pub(super) fn escapes(self) -> bool {
        use TranslationStrategy::{UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes};
        matches!(self, UnderscoreEscapingWithSuffixes | UnderscoreEscapingWithoutSuffixes)
    }

    pub(super) fn adds_suffixes(self) -> bool {
        use TranslationStrategy::{NoUTF8EscapingWithSuffixes, UnderscoreEscapingWithSuffixes};
        matches!(self, UnderscoreEscapingWithSuffixes | NoUTF8EscapingWithSuffixes)
    }
}

/// The `otlp` section of the configuration: how OpenTelemetry's model becomes Prometheus'.
///
/// Keys that Prometheus knows mean the same here; `promote_scope_metadata` is on by default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// How names are translated. Default `UnderscoreEscapingWithSuffixes`.
    pub translation_strategy: TranslationStrategy,
    /// Resource attributes that become labels of every series.
    pub promote_resource_attributes: Vec<String>,
    /// Makes all resource attributes labels but `ignore_resource_attributes`.
    pub promote_all_resource_attributes: bool,
    /// Resource attributes that `promote_all_resource_attributes` leaves out.
    pub ignore_resource_attributes: Vec<String>,
    /// Also keeps `service.name`, `service.namespace` and `service.instance.id` as labels of `target_info`.
    pub keep_identifying_resource_attributes: bool,
    /// Makes name, version, schema URL and attributes of the scope labels `otel_scope_*`.
    pub promote_scope_metadata: bool,
    /// Puts `key` before label names that begin with one underscore.
    pub label_name_underscore_sanitization: bool,
    /// Keeps neighbouring underscores in label names apart instead of making them one.
    pub label_name_preserve_multiple_underscores: bool,
    /// Stores histograms with explicit bounds as native histograms with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Stores a histogram's `min` and `max` as gauges `<name>_min` and `<name>_max`; else they are dropped.
    pub keep_min_max: bool,
}

impl Default for OtlpConfig {
    fn default() -> OtlpConfig {
        OtlpConfig {
            translation_strategy: TranslationStrategy::default(),
            promote_resource_attributes: Vec::new(),
            promote_all_resource_attributes: false,
            ignore_resource_attributes: Vec::new(),
            keep_identifying_resource_attributes: false,
            promote_scope_metadata: true,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
            convert_histograms_to_nhcb: false,
            keep_min_max: false,
        }
    }
}

/// Settings of an [`OtlpConfig`] that exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpConfigError {
    /// All attributes, and a list of them.
    #[error("promote_all_resource_attributes and promote_resource_attributes cannot both be set")]
    PromoteTwice,
    /// A list of exceptions without a rule.
    #[error("ignore_resource_attributes needs promote_all_resource_attributes")]
    IgnoreNothing,
}

impl OtlpConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`OtlpConfigError`] names the first contradiction.
    pub fn validate(&self) -> Result<(), OtlpConfigError> {
        if self.promote_all_resource_attributes && !self.promote_resource_attributes.is_empty() {
            return Err(OtlpConfigError::PromoteTwice);
        }
        if !self.promote_all_resource_attributes && !self.ignore_resource_attributes.is_empty() {
            return Err(OtlpConfigError::IgnoreNothing);
        }
        Ok(())
    }

    pub(super) fn promotes(&self, key: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|listed| listed == key);
        match self.promote_all_resource_attributes {
            true => !listed(&self.ignore_resource_attributes),
            false => listed(&self.promote_resource_attributes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_of_a_prometheus_file_is_read() {
        let section = r#"{"promote_resource_attributes": ["k8s.pod.name"], "promote_all_resource_attributes": false,
            "ignore_resource_attributes": [], "translation_strategy": "NoUTF8EscapingWithSuffixes",
            "keep_identifying_resource_attributes": true, "convert_histograms_to_nhcb": true,
            "promote_scope_metadata": false, "label_name_underscore_sanitization": false,
            "label_name_preserve_multiple_underscores": false}"#;
        let config: OtlpConfig = serde_json::from_str(section).unwrap();
        let expected = OtlpConfig {
            promote_resource_attributes: vec!["k8s.pod.name".into()],
            translation_strategy: TranslationStrategy::NoUTF8EscapingWithSuffixes,
            keep_identifying_resource_attributes: true,
            convert_histograms_to_nhcb: true,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: false,
            label_name_preserve_multiple_underscores: false,
            ..OtlpConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!(serde_json::from_str::<OtlpConfig>("{}").unwrap(), OtlpConfig::default());
        assert!(serde_json::from_str::<OtlpConfig>(r#"{"promote": []}"#).is_err());
    }

    #[test]
    fn promotion_is_all_or_a_list() {
        let list = OtlpConfig { promote_resource_attributes: vec!["a".into()], ..OtlpConfig::default() };
        assert_eq!((list.validate(), list.promotes("a"), list.promotes("b")), (Ok(()), true, false));
        let all = OtlpConfig {
            promote_all_resource_attributes: true,
            ignore_resource_attributes: vec!["a".into()],
            ..OtlpConfig::default()
        };
        assert_eq!((all.validate(), all.promotes("a"), all.promotes("b")), (Ok(()), false, true));
        let both = OtlpConfig { promote_resource_attributes: vec!["a".into()], ..all.clone() };
        assert_eq!(both.validate(), Err(OtlpConfigError::PromoteTwice));
        let neither = OtlpConfig { promote_all_resource_attributes: false, ..all };
        assert_eq!(neither.validate(), Err(OtlpConfigError::IgnoreNothing));
    }
}
