//! What the receiver says of itself, in one table.

use kymo_core::metric::MetricKind;
use kymo_core::registry::{Counter, Family, Histogram, MetricDesc, RegisterError, Registry};

use super::{Encoding, Outcome, SpanOutcome};

/// Every metric of the OTLP receiver.
pub const METRICS: &[MetricDesc] = &[REQUESTS, DURATION, POINTS, SPANS, BYTES, INCREMENTS];

const REQUESTS: MetricDesc = MetricDesc {
    name: "kymo_otlp_requests_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "OTLP requests answered, by transport and its status: that of HTTP, or the code of gRPC.",
    labels: &["transport", "code"],
};
const DURATION: MetricDesc = MetricDesc {
    name: "kymo_otlp_duration_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    help: "Time to decompress, decode, translate and append one request, without waiting for the body or for a thread.",
    labels: &["encoding"],
};
const POINTS: MetricDesc = MetricDesc {
    name: "kymo_otlp_points_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Data points of decoded requests, by whether they are in the engine now.",
    labels: &["encoding", "outcome"],
};
const SPANS: MetricDesc = MetricDesc {
    name: "kymo_otlp_spans_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Spans of decoded requests: counted, of those under the operation kymo_overflow, known already and not counted again, or rejected.",
    labels: &["outcome"],
};
const BYTES: MetricDesc = MetricDesc {
    name: "kymo_otlp_bytes_total",
    kind: MetricKind::Counter,
    unit: "bytes",
    help: "Bytes of request bodies, as sent and after decompression.",
    labels: &["form"],
};

const INCREMENTS: MetricDesc = MetricDesc {
    name: "kymo_otlp_increments_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Rows of delta points and of shared cumulative series that needed a word: told before and not added again, or added behind a gap.",
    labels: &["outcome"],
};

/// The receiver's handles.
#[derive(Debug)]
pub(super) struct OtlpMetrics {
    requests: Family<Counter, 2>,
    pub(super) compressed_bytes: Counter,
    pub(super) decompressed_bytes: Counter,
    told_before: Counter,
    gaps: Counter,
    /// Counted, overflow, identical, rejected.
    spans: [Counter; 4],
    protobuf: EncodingMetrics,
    json: EncodingMetrics,
}

/// Handles of one encoding.
#[derive(Debug)]
pub(super) struct EncodingMetrics {
    pub(super) duration: Histogram,
    written: Counter,
    rejected: Counter,
}

impl EncodingMetrics {
    pub(super) fn count(&self, outcome: &Outcome) {
        self.written.add(outcome.written);
        self.rejected.add(outcome.rejected());
    }
}

impl OtlpMetrics {
    pub(super) fn register(registry: &Registry) -> Result<OtlpMetrics, RegisterError> {
        let durations = registry.histogram(&DURATION).labels(["encoding"]).family()?;
        let points = registry.counter(&POINTS).labels(["encoding", "outcome"]).family()?;
        let bytes = registry.counter(&BYTES).labels(["form"]).family()?;
        let increments = registry.counter(&INCREMENTS).labels(["outcome"]).family()?;
        let spans = registry.counter(&SPANS).labels(["outcome"]).family()?;
        let of = |encoding| EncodingMetrics {
            duration: durations.with([encoding]),
            written: points.with([encoding, "written"]),
            rejected: points.with([encoding, "rejected"]),
        };
        Ok(OtlpMetrics {
            requests: registry.counter(&REQUESTS).labels(["transport", "code"]).family()?,
            compressed_bytes: bytes.with(["compressed"]),
            decompressed_bytes: bytes.with(["decompressed"]),
            told_before: increments.with(["identical"]),
            gaps: increments.with(["gap"]),
            spans: ["counted", "overflow", "identical", "rejected"].map(|outcome| spans.with([outcome])),
            protobuf: of("protobuf"),
            json: of("json"),
        })
    }

    pub(super) fn of(&self, encoding: Encoding) -> &EncodingMetrics {
        match encoding {
            Encoding::Protobuf => &self.protobuf,
            Encoding::Json => &self.json,
        }
    }

    /// Counts what became of increments.
    pub(super) fn added(&self, outcome: &Outcome) {
        self.told_before.add(outcome.told_before);
        self.gaps.add(outcome.gaps);
    }

    /// Counts what became of spans.
    pub(super) fn count_spans(&self, outcome: &SpanOutcome) {
        let counts = [outcome.counted, outcome.overflow, outcome.identical, outcome.rejected()];
        self.spans.iter().zip(counts).for_each(|(counter, count)| counter.add(count));
    }

    /// Counts an answer. `code` must be one of few.
    pub(super) fn answered(&self, transport: &'static str, code: &str) {
        self.requests.with([transport, code]).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_holds_exactly_what_is_registered() {
        let registry = Registry::new();
        OtlpMetrics::register(&registry).unwrap();
        let registered: BTreeSet<String> = registry.snapshot().into_iter().map(|family| family.name).collect();
        let listed: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
        assert_eq!(registered, listed);
        assert_eq!(listed.len(), METRICS.len());
    }
}
