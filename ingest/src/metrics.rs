//! What this crate says of itself, in one table.

use kymo_core::metric::MetricKind;
use kymo_core::registry::{Counter, Family, Gauge, Histogram, MetricDesc, RegisterError, Registry};

use crate::remote_write::{Version, Written};

/// Every metric of this crate; the reference page is made from it.
pub const METRICS: &[MetricDesc] = &[REQUESTS, DURATION, ELEMENTS, BYTES, SERIES, RESENT, CACHED_SERIES, CACHED_BYTES];

const REQUESTS: MetricDesc = MetricDesc {
    name: "kymo_remote_write_requests_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Remote-write requests answered, by protocol version (none where the headers named no message) and status.",
    labels: &["version", "code"],
};
const DURATION: MetricDesc = MetricDesc {
    name: "kymo_remote_write_duration_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    help: "Time to decompress, decode and append one request, without waiting for the body or for a thread.",
    labels: &["version"],
};
const ELEMENTS: MetricDesc = MetricDesc {
    name: "kymo_remote_write_elements_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Samples, histograms and exemplars of decoded requests, by whether they are in the engine now.",
    labels: &["version", "kind", "outcome"],
};
const BYTES: MetricDesc = MetricDesc {
    name: "kymo_remote_write_bytes_total",
    kind: MetricKind::Counter,
    unit: "bytes",
    help: "Bytes of request bodies, as sent and after decompression.",
    labels: &["form"],
};
const SERIES: MetricDesc = MetricDesc {
    name: "kymo_remote_write_series_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Series of decoded requests, by whether the cache of known series had them.",
    labels: &["cache"],
};
const RESENT: MetricDesc = MetricDesc {
    name: "kymo_remote_write_resent_rows_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Samples and exemplars appended a second time, with labels, because the engine no longer knew their series.",
    labels: &[],
};
const CACHED_SERIES: MetricDesc = MetricDesc {
    name: "kymo_remote_write_cached_series",
    kind: MetricKind::Gauge,
    unit: "",
    help: "Series in the caches of known series.",
    labels: &[],
};
const CACHED_BYTES: MetricDesc = MetricDesc {
    name: "kymo_remote_write_cached_series_bytes",
    kind: MetricKind::Gauge,
    unit: "bytes",
    help: "Memory that the caches of known series are accounted for.",
    labels: &[],
};

/// The handles of the remote-write receiver.
#[derive(Debug)]
pub(crate) struct RemoteWriteMetrics {
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "what is answered is counted by the HTTP handler"))]
    requests: Family<Counter, 2>,
    pub(crate) compressed_bytes: Counter,
    pub(crate) decompressed_bytes: Counter,
    pub(crate) known_series: Counter,
    pub(crate) new_series: Counter,
    pub(crate) resent_rows: Counter,
    pub(crate) cached_series: Gauge,
    pub(crate) cached_bytes: Gauge,
    v1: VersionMetrics,
    v2: VersionMetrics,
}

/// Handles of one version.
#[derive(Debug)]
pub(crate) struct VersionMetrics {
    pub(crate) duration: Histogram,
    written: [Counter; 3],
    refused: [Counter; 3],
}

impl VersionMetrics {
    pub(crate) fn count(&self, written: Written, refused: Written) {
        for (counters, elements) in [(&self.written, written), (&self.refused, refused)] {
            for (counter, count) in counters.iter().zip([elements.samples, elements.histograms, elements.exemplars]) {
                counter.add(count);
            }
        }
    }
}

impl RemoteWriteMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<RemoteWriteMetrics, RegisterError> {
        let durations = registry.histogram(&DURATION).labels(["version"]).family()?;
        let elements = registry.counter(&ELEMENTS).labels(["version", "kind", "outcome"]).family()?;
        let bytes = registry.counter(&BYTES).labels(["form"]).family()?;
        let series = registry.counter(&SERIES).labels(["cache"]).family()?;
        let of = |version: Version| {
            let version = name(Some(version));
            let kinds =
                |outcome| ["sample", "histogram", "exemplar"].map(|kind| elements.with([version, kind, outcome]));
            VersionMetrics { duration: durations.with([version]), written: kinds("written"), refused: kinds("refused") }
        };
        Ok(RemoteWriteMetrics {
            requests: registry.counter(&REQUESTS).labels(["version", "code"]).family()?,
            compressed_bytes: bytes.with(["compressed"]),
            decompressed_bytes: bytes.with(["decompressed"]),
            known_series: series.with(["hit"]),
            new_series: series.with(["miss"]),
            resent_rows: registry.counter(&RESENT).register()?,
            cached_series: registry.gauge(&CACHED_SERIES).register()?,
            cached_bytes: registry.gauge(&CACHED_BYTES).register()?,
            v1: of(Version::V1),
            v2: of(Version::V2),
        })
    }

    pub(crate) fn of(&self, version: Version) -> &VersionMetrics {
        match version {
            Version::V1 => &self.v1,
            Version::V2 => &self.v2,
        }
    }

    #[cfg(feature = "http")]
    pub(crate) fn answered(&self, version: Option<Version>, code: http::StatusCode) {
        self.requests.with([name(version), code.as_str()]).inc();
    }
}

fn name(version: Option<Version>) -> &'static str {
    match version {
        Some(Version::V1) => "1.0",
        Some(Version::V2) => "2.0",
        None => "none",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_holds_exactly_what_is_registered() {
        let registry = Registry::new();
        RemoteWriteMetrics::register(&registry).unwrap();
        let registered: BTreeSet<String> = registry.snapshot().into_iter().map(|family| family.name).collect();
        let listed: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
        assert_eq!(registered, listed);
        assert_eq!(listed.len(), METRICS.len());
    }
}
