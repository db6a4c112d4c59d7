//! What the collectors say of themselves, in one table.

use kymo_core::metric::MetricKind;
use kymo_core::registry::{Counter, Family, Gauge, MetricDesc, RegisterError, Registry};

/// Every metric of the collectors; the reference page is made from it.
pub const METRICS: &[MetricDesc] = &[ROUNDS, FAILURES, SAMPLES];

const ROUNDS: MetricDesc = MetricDesc {
    name: "kymo_collect_rounds_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Rounds of a collector, by source and by whether their samples were stored.",
    labels: &["source", "outcome"],
};
const FAILURES: MetricDesc = MetricDesc {
    name: "kymo_collect_failures_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Times that one part of the host could not be read or understood; what is absent on a host is not counted.",
    labels: &["collector"],
};
const SAMPLES: MetricDesc = MetricDesc {
    name: "kymo_collect_samples",
    kind: MetricKind::Gauge,
    unit: "",
    help: "Samples of a collector's last round.",
    labels: &["source"],
};

/// The handles of one collector.
#[derive(Debug)]
pub(super) struct RoundMetrics {
    pub(super) stored: Counter,
    pub(super) failed: Counter,
    pub(super) skipped: Counter,
    pub(super) samples: Gauge,
}

impl RoundMetrics {
    pub(super) fn register(registry: &Registry, source: &str) -> Result<RoundMetrics, RegisterError> {
        let rounds = registry.counter(&ROUNDS).labels(["source", "outcome"]).family()?;
        let of = |outcome| rounds.with([source, outcome]);
        Ok(RoundMetrics {
            stored: of("stored"),
            failed: of("failed"),
            skipped: of("skipped"),
            samples: registry.gauge(&SAMPLES).labels(["source"]).family()?.with([source]),
        })
    }
}

/// The failures of the host's parts.
pub(super) fn failures(registry: &Registry) -> Result<Family<Counter, 1>, RegisterError> {
    registry.counter(&FAILURES).labels(["collector"]).family()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_holds_exactly_what_is_registered() {
        let registry = Registry::new();
        RoundMetrics::register(&registry, "host").unwrap();
        failures(&registry).unwrap();
        let registered: BTreeSet<String> = registry.snapshot().into_iter().map(|family| family.name).collect();
        let listed: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
        assert_eq!(registered, listed);
        assert_eq!(listed.len(), METRICS.len());
    }
}
