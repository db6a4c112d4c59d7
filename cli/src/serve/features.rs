//! `--enable-feature`: what Prometheus has behind switches of that name.

use std::str::FromStr;

use kymo_core::query::EngineOptions;

/// A name of `--enable-feature`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    /// Switches part of PromQL on.
    Language(Switch),
    /// Switches the search of names on.
    Search,
    /// On without it, here or in Prometheus 3.14 too.
    Always,
    /// Known to Prometheus; there is nothing to switch here.
    NotHere(&'static str),
}

/// A part of PromQL that is off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    ExperimentalFunctions,
    ExtendedRangeSelectors,
    FillModifiers,
    DelayedNameRemoval,
    TypeAndUnitLabels,
    StartTimestamps,
}

/// The switches by name, sorted.
const SWITCHES: [(&str, Feature); 7] = [
    ("promql-binop-fill-modifiers", Feature::Language(Switch::FillModifiers)),
    ("promql-delayed-name-removal", Feature::Language(Switch::DelayedNameRemoval)),
    ("promql-experimental-functions", Feature::Language(Switch::ExperimentalFunctions)),
    ("promql-extended-range-selectors", Feature::Language(Switch::ExtendedRangeSelectors)),
    ("search-api", Feature::Search),
    ("type-and-unit-labels", Feature::Language(Switch::TypeAndUnitLabels)),
    ("use-start-timestamps", Feature::Language(Switch::StartTimestamps)),
];

/// What needs no switch.
const ALWAYS: [&str; 9] = [
    "exemplar-storage",
    "native-histograms",
    "ooo-native-histograms",
    "promql-at-modifier",
    "promql-duration-expr",
    "promql-negative-offset",
    "promql-per-step-stats",
    "remote-write-receiver",
    "st-storage",
];

/// What is about parts of Prometheus that are built otherwise here.
const NOT_HERE: [&str; 21] = [
    "agent",
    "auto-gomaxprocs",
    "auto-gomemlimit",
    "auto-reload-config",
    "concurrent-rule-eval",
    "created-timestamp-zero-ingestion",
    "delayed-compaction",
    "expand-external-labels",
    "extra-scrape-metrics",
    "fast-startup",
    "histograms-st-encoding",
    "memory-snapshot-on-shutdown",
    "metadata-wal-records",
    "new-service-discovery-manager",
    "no-default-scrape-port",
    "old-ui",
    "otlp-deltatocumulative",
    "otlp-native-delta-ingestion",
    "st-synthesis",
    "use-uncached-io",
    "xor2-encoding",
];

impl FromStr for Feature {
    type Err = String;

    fn from_str(name: &str) -> Result<Feature, String> {
        if let Some((_, switch)) = SWITCHES.iter().find(|(known, _)| *known == name) {
            return Ok(*switch);
        }
        if ALWAYS.contains(&name) {
            return Ok(Feature::Always);
        }
        if let Some(known) = NOT_HERE.iter().find(|known| **known == name) {
            return Ok(Feature::NotHere(known));
        }
        let switches: Vec<&str> = SWITCHES.iter().map(|(name, _)| *name).collect();
        Err(format!("unknown feature {name:?}: expected {}", switches.join(", ")))
    }
}

/// The switches of the language with everything that was asked for.
pub(super) fn engine_options(features: &[Feature]) -> EngineOptions {
    let mut options = EngineOptions::default();
    for feature in features {
        let Feature::Language(switch) = feature else { continue };
        let option = match switch {
            Switch::ExperimentalFunctions => &mut options.experimental_functions,
            Switch::ExtendedRangeSelectors => &mut options.extended_range_selectors,
            Switch::FillModifiers => &mut options.fill_modifiers,
            Switch::DelayedNameRemoval => &mut options.delayed_name_removal,
            Switch::TypeAndUnitLabels => &mut options.type_and_unit_labels,
            Switch::StartTimestamps => &mut options.start_timestamps,
        };
        *option = true;
    }
    options
}

/// The names of what is switched on, with commas between them.
pub(super) fn names(features: &[Feature]) -> String {
    let on = SWITCHES.iter().filter(|(_, switch)| features.contains(switch));
    let names: Vec<&str> = on.map(|(name, _)| *name).collect();
    names.join(",")
}
