//! Pages read by the reference parser of OpenMetrics, that of Prometheus' Python client. It needs `prometheus_client` in the
//! interpreter that `KYMO_PYTHON` names; else the test is skipped and says so.

use std::io::Write;
use std::process::{Command, Stdio};

use kymo_core::Labels;
use kymo_core::registry::{NativeOptions, Registry};
use kymo_export::exposition::{Escaping, Exposition, Format};

use crate::peers;

/// Reads a page and writes name, labels and value of each sample, and what exemplar it has.
const SCRIPT: &str = r"
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.buffer.read().decode('utf-8')):
    for sample in family.samples:
        traced = '' if sample.exemplar is None else ' %r' % (sorted(sample.exemplar.labels.items()),)
        print(family.type, family.unit, sample.name, sorted(sample.labels.items()), sample.value, traced)
";

#[test]
fn the_reference_parser_reads_every_kind() {
    let Ok(python) = std::env::var("KYMO_PYTHON") else {
        return peers::skip("the_reference_parser_reads_every_kind", "KYMO_PYTHON names no interpreter");
    };
    let registry = Registry::new();
    let requests = registry.counter("asked_requests_total").help("Asked \"what\\how\"\nthen.").labels(["path"]);
    requests.family().unwrap().with(["/b\"\\\n温"]).add(3);
    registry.counter("hits").register().unwrap().add_f64(0.5);
    registry.counter("hits.total").register().unwrap().inc();
    registry.gauge("depth").help("Depth.").register().unwrap().set(f64::NAN);
    registry.gauge("asked_requests_created").register().unwrap().set(1.0);
    registry.histogram("wait_seconds").unit("seconds").help("Wait.").register().unwrap().record(0.2);
    registry.summary("answer_bytes").unit("bytes").help("Size.").register().unwrap().record(7.0);
    registry.up_down_counter("open").help("Open.").register().unwrap().dec();
    let trace = || Labels::from_pairs([("trace_id", "4bf92f3577b34da6")]);
    registry.counter("traced_total").register().unwrap().add_with_exemplar(2, trace(), 1_700_000_000_500);
    let traced = registry.histogram("traced_seconds").buckets(&[0.5, 1.0]).register().unwrap();
    traced.record_with_exemplar(0.75, trace(), 1_700_000_000_500);
    let native = registry.histogram("native_seconds").native(NativeOptions::default()).register().unwrap();
    native.record(0.25);
    registry.gauge("silent").help("Nothing yet.").labels(["never"]).family().unwrap();
    let exposition = Exposition::from(registry).with_created();
    for format in [
        Format::OpenMetrics001,
        Format::OpenMetrics100(Escaping::Underscores),
        Format::OpenMetrics100(Escaping::Dots),
        Format::OpenMetrics100(Escaping::Values),
        Format::OpenMetrics100(Escaping::AllowUtf8),
    ] {
        let page = exposition.render(format);
        let mut child = Command::new(&python)
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&page).unwrap();
        let said = child.wait_with_output().unwrap();
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(said.status.success(), "{format:?}: {}\n{}", words(&said.stderr), words(&page));
        let samples = words(&page).lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(words(&said.stdout).lines().count(), samples, "{format:?}");
        let underscore = if format.escaping() == Escaping::Dots { "__" } else { "_" };
        let name = format!("wait{underscore}seconds");
        let wanted = format!("histogram seconds {name}_bucket [('le', '+Inf')] 1");
        assert!(words(&said.stdout).contains(&wanted), "{format:?}: {}", words(&said.stdout));
        let exemplars = words(&said.stdout).matches(&format!("[('trace{underscore}id', '4bf92f3577b34da6')]")).count();
        assert_eq!(exemplars, 2, "{format:?}: {}", words(&page));
    }
}
