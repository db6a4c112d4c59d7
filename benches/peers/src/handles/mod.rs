//! How many ns, instructions, allocations and bytes does recording take: ours, the floor's, and those of other crates?
//!
//! The rows of `cargo xtask bench hot-path` with others beside ours. Handles of the `metrics!` macros pay a virtual call, so
//! they have rows of their own, in which our recorder stands beside the published one.

mod client;
mod facade;
mod measured;
mod prometheus;
mod sdk;

use std::hint::black_box;

use anyhow::{Result, ensure};
use kymo_benches::cases::handles::{ROTATION, five, in_rotation, label_values, observations, repeat};
use kymo_benches::groups::hot_path::{self, Operation, Peer};
use kymo_benches::groups::pages;
use kymo_benches::machine;
use kymo_benches::report::Report;

use self::client::OfClient;
use self::facade::Facade;
use self::measured::OfMeasured;
use self::prometheus::OfPrometheus;
use self::sdk::OfSdk;

/// Label names of the look-ups.
const LABELS_2: [&str; 2] = ["method", "path"];
const LABELS_5: [&str; 5] = ["code", "host", "method", "path", "zone"];
/// What the rows of facades are called after.
const BY_FACADE: &str = " by `metrics!` handle";

/// What all of them record.
struct Values {
    observations: [f64; ROTATION],
    labels: Vec<[String; 2]>,
}

impl Values {
    fn new() -> Values {
        Values { observations: observations(), labels: label_values() }
    }

    /// Calls `work` with a handle that the optimiser knows nothing of, so often, each time in a call that is not inlined.
    fn each<H>(handle: &H, times: u64, work: impl Fn(&H) + Copy) {
        let handle = black_box(handle);
        repeat(times, || apart(handle, work));
    }

    /// The same with an observation.
    fn observe<H>(&self, handle: &H, times: u64, work: impl Fn(&H, f64) + Copy) {
        let (handle, values) = black_box((handle, &self.observations));
        in_rotation(times, values, |value| apart(handle, |handle| work(handle, *value)));
    }

    /// The same with two label values.
    fn by_two<H>(&self, handle: &H, times: u64, work: impl Fn(&H, [&str; 2]) + Copy) {
        let (handle, labels) = black_box((handle, &self.labels));
        in_rotation(times, labels, |[method, path]| apart(handle, |handle| work(handle, [method, path])));
    }

    /// The same with five.
    fn by_five<H>(&self, handle: &H, times: u64, work: impl Fn(&H, [&str; 5]) + Copy) {
        let (handle, labels) = black_box((handle, &self.labels));
        in_rotation(times, labels, |labels| apart(handle, |handle| work(handle, five(labels))));
    }
}

#[inline(never)]
fn apart<H>(handle: &H, work: impl FnOnce(&H)) {
    work(handle);
}

/// The labels of so many series.
fn many_labels(series: usize) -> impl Iterator<Item = [String; 2]> {
    (0..series).map(|n| [["GET", "POST"][n % 2].to_owned(), format!("/api/v1/resource/{}", n / 2)])
}

/// Others, and both recorders behind the facade.
struct Others {
    prometheus: OfPrometheus,
    client: OfClient,
    measured: OfMeasured,
    sdk: OfSdk,
    our_facade: Facade<kymo_core::registry::Recorder>,
    facade: Facade<metrics_exporter_prometheus::PrometheusRecorder>,
}

impl Others {
    fn new() -> Result<Others> {
        Ok(Others {
            prometheus: OfPrometheus::new()?,
            client: OfClient::new(),
            measured: OfMeasured::new(),
            sdk: OfSdk::new(),
            our_facade: Facade::of_ours()?,
            facade: Facade::of_exporter()?,
        })
    }

    fn typed(&self) -> [&dyn Peer; 4] {
        [&self.prometheus, &self.client, &self.measured, &self.sdk]
    }
}

/// Does what the command line asks to be counted. Only what is asked for is made.
pub(crate) fn count(name: &str, times: u64) -> Result<()> {
    let of = |peer: &dyn Peer| hot_path::by_name(name, times, &[peer]);
    match name.split('/').next() {
        Some("prometheus") => of(&OfPrometheus::new()?),
        Some("prometheus-client") => of(&OfClient::new()),
        Some("measured") => of(&OfMeasured::new()),
        Some("opentelemetry_sdk") => of(&OfSdk::new()),
        Some("kymo by facade") => of(&Facade::of_ours()?),
        Some("metrics-exporter-prometheus") => of(&Facade::of_exporter()?),
        _ => hot_path::by_name(name, times, &[]),
    }
}

/// Prints the table of handles.
pub(crate) fn run() -> Result<()> {
    let others = Others::new()?;
    others.check()?;
    let mut report = Report::default();
    report.note(format!("{} (at the start).", machine::describe()));
    hot_path::run(&mut report, &others.typed())?;
    hot_path::compare(&mut report, BY_FACADE, &others.our_facade, &[&others.facade], None)?;
    pages::run(&mut report)?;
    report.note(
        "Peers' scraper makes the text page of the series; OpenTelemetry's SDK has no page of its own, so its scraper \
         collects. Its handles are bound instruments, which are experimental; it is given attributes with each look-up.",
    );
    println!("{report}");
    Ok(())
}

impl Others {
    /// Everything recorded is shown by who it was recorded with.
    fn check(&self) -> Result<()> {
        let all: [(&dyn Peer, &dyn Fn(Operation) -> String); 5] = [
            (&self.prometheus, &|operation| self.prometheus.page(operation)),
            (&self.client, &|operation| self.client.page(operation)),
            (&self.measured, &|operation| self.measured.page(operation)),
            (&self.our_facade, &|operation| self.our_facade.page(operation)),
            (&self.facade, &|operation| self.facade.page(operation)),
        ];
        for (peer, page) in all {
            for operation in Operation::ALL {
                let before = total(&page(operation), operation);
                peer.record(operation, ROTATION as u64);
                let after = total(&page(operation), operation);
                let wanted = if operation == Operation::Gauge { 1.0 } else { before + ROTATION as f64 };
                ensure!(after == wanted, "{} shows {after} and not {wanted} after {operation:?}", peer.name());
            }
        }
        self.sdk.check()
    }
}

/// What a page shows in all: of counters their sum, of a histogram its count, and 1 for a gauge that shows a level.
fn total(page: &str, operation: Operation) -> f64 {
    let samples = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let values = samples.filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        (operation != Operation::Histogram || series.ends_with("_count")).then(|| value.parse::<f64>().ok())?
    });
    match operation {
        Operation::Gauge => f64::from(u8::from(values.last().is_some_and(|level| level != 0.0))),
        _ => values.sum(),
    }
}
