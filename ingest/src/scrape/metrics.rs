//! What scraping says of itself, in one table.

use kymo_core::metric::MetricKind;
use kymo_core::registry::{Counter, Family, Gauge, Histogram, MetricDesc, RegisterError, Registry};

/// Every metric of scraping; the reference page is made from it.
pub const METRICS: &[MetricDesc] =
    &[SCRAPES, FAILURES, SAMPLES, BYTES, DURATION, DELAY, SKIPPED, TARGETS, JOBS, REFRESHES];

const SCRAPES: MetricDesc = MetricDesc {
    name: "kymo_scrapes_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Scrapes that ended, by job and by whether the target answered with samples and whether these were stored.",
    labels: &["job", "outcome"],
};
const FAILURES: MetricDesc = MetricDesc {
    name: "kymo_scrape_failures_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Scrapes that failed, by reason: the limit that was exceeded, or what was wrong with the answer.",
    labels: &["reason"],
};
const SAMPLES: MetricDesc = MetricDesc {
    name: "kymo_scrape_samples_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Samples of successful scrapes after relabelling.",
    labels: &["job"],
};
const BYTES: MetricDesc = MetricDesc {
    name: "kymo_scrape_bytes_total",
    kind: MetricKind::Counter,
    unit: "bytes",
    help: "Bytes of targets' answers after decompression.",
    labels: &["job"],
};
const DURATION: MetricDesc = MetricDesc {
    name: "kymo_scrape_duration_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    help: "Time from asking a target until its samples were stored.",
    labels: &["job"],
};
const DELAY: MetricDesc = MetricDesc {
    name: "kymo_scrape_delay_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    help: "Time from the moment that a scrape was planned for until it began.",
    labels: &[],
};
const SKIPPED: MetricDesc = MetricDesc {
    name: "kymo_scrapes_skipped_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Planned scrapes that were left out because the one before was not done.",
    labels: &["job"],
};
const TARGETS: MetricDesc = MetricDesc {
    name: "kymo_scrape_targets",
    kind: MetricKind::Gauge,
    unit: "",
    help: "Targets that are scraped.",
    labels: &["job"],
};
const JOBS: MetricDesc = MetricDesc {
    name: "kymo_scrape_jobs",
    kind: MetricKind::Gauge,
    unit: "",
    help: "Scrape jobs in force.",
    labels: &[],
};
const REFRESHES: MetricDesc = MetricDesc {
    name: "kymo_discovery_refreshes_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Times that a source of targets was asked, by whether it answered.",
    labels: &["job", "outcome"],
};

/// The handles of all jobs.
#[derive(Debug)]
pub(super) struct ScrapeMetrics {
    scrapes: Family<Counter, 2>,
    failures: Family<Counter, 1>,
    samples: Family<Counter, 1>,
    bytes: Family<Counter, 1>,
    duration: Family<Histogram, 1>,
    delay: Histogram,
    skipped: Family<Counter, 1>,
    targets: Family<Gauge, 1>,
    pub(super) jobs: Gauge,
    refreshes: Family<Counter, 2>,
}

/// The handles of one target, which are those of its job.
#[derive(Debug)]
pub(super) struct TargetMetrics {
    pub(super) stored: Counter,
    pub(super) failed: Counter,
    pub(super) not_stored: Counter,
    pub(super) samples: Counter,
    pub(super) bytes: Counter,
    pub(super) duration: Histogram,
    pub(super) delay: Histogram,
    pub(super) skipped: Counter,
}

impl ScrapeMetrics {
    pub(super) fn register(registry: &Registry) -> Result<ScrapeMetrics, RegisterError> {
        Ok(ScrapeMetrics {
            scrapes: registry.counter(&SCRAPES).labels(["job", "outcome"]).family()?,
            failures: registry.counter(&FAILURES).labels(["reason"]).family()?,
            samples: registry.counter(&SAMPLES).labels(["job"]).family()?,
            bytes: registry.counter(&BYTES).labels(["job"]).family()?,
            duration: registry.histogram(&DURATION).labels(["job"]).family()?,
            delay: registry.histogram(&DELAY).register()?,
            skipped: registry.counter(&SKIPPED).labels(["job"]).family()?,
            targets: registry.gauge(&TARGETS).labels(["job"]).family()?,
            jobs: registry.gauge(&JOBS).register()?,
            refreshes: registry.counter(&REFRESHES).labels(["job", "outcome"]).family()?,
        })
    }

    pub(super) fn of_target(&self, job: &str) -> TargetMetrics {
        let scrapes = |outcome| self.scrapes.with([job, outcome]);
        TargetMetrics {
            stored: scrapes("stored"),
            failed: scrapes("failed"),
            not_stored: scrapes("not_stored"),
            samples: self.samples.with([job]),
            bytes: self.bytes.with([job]),
            duration: self.duration.with([job]),
            delay: self.delay.clone(),
            skipped: self.skipped.with([job]),
        }
    }

    pub(super) fn failed(&self, reason: &str) {
        self.failures.with([reason]).inc();
    }

    pub(super) fn set_targets(&self, job: &str, count: usize) {
        self.targets.with([job]).set(count as f64);
    }

    pub(super) fn refreshed(&self, job: &str, has_answered: bool) {
        self.refreshes.with([job, if has_answered { "ok" } else { "failed" }]).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_holds_exactly_what_is_registered() {
        let registry = Registry::new();
        ScrapeMetrics::register(&registry).unwrap();
        let registered: BTreeSet<String> = registry.snapshot().into_iter().map(|family| family.name).collect();
        let listed: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
        assert_eq!(registered, listed);
        assert_eq!(listed.len(), METRICS.len());
    }
}
