//! Faults of published crates for metrics, shown beside ours in one run. It fails if ours has one; another's is only shown,
//! as a later version may be without it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use anyhow::{Context, Result, ensure};
use kymo_benches::heap;
use kymo_core::HotMetricsRing;
use kymo_core::metric::{MetricKind, MetricPoint};
use kymo_core::registry::{Recorder as Ours, Registry};
use kymo_export::exposition::{Exposition, Format};
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::storage::AtomicBucket;

const METADATA: Metadata<'_> = Metadata::new(module_path!(), Level::INFO, None);
const WRITERS: u64 = 2;
/// Of each writer.
const OBSERVATIONS: u64 = 2_000_000;
/// A label value with what text has to escape.
const ODD_VALUE: &str = "C:\\dir\\\"x\"\nn";
const LOOKUPS: u64 = 64;

/// What is looked at, how it went with the published crate, and with ours.
struct Found {
    what: &'static str,
    of: &'static str,
    published: Outcome,
    ours: Outcome,
}

/// Whether all is as it should be, and how it looked.
struct Outcome {
    is_right: bool,
    saw: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.is_right { "right" } else { "WRONG" }, self.saw)
    }
}

/// Prints them all.
///
/// # Errors
/// Ours has one of them.
pub(crate) fn run() -> Result<()> {
    let all = [drained()?, ring()?, collisions()?, backslashes()?, allocations()?];
    println!("What published crates get wrong, and ours:\n");
    println!("| Fault | Published | It | Kymo |\n|-------|-----------|----|------|");
    for Found { what, of, published, ours } in &all {
        println!("| {what} | {of} | {published} | {ours} |");
    }
    let wrong: Vec<&str> = all.iter().filter(|found| !found.ours.is_right).map(|found| found.what).collect();
    ensure!(wrong.is_empty(), "Kymo has faults of published crates: {}", wrong.join(", "));
    Ok(())
}

/// Runs writers until each has recorded all of its observations, and `drain` without pause meanwhile and once more.
fn under_load(record: impl Fn(u64) + Sync, drain: impl Fn() + Sync) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !is_over.load(Relaxed) {
                drain();
            }
        });
        let writers = [(); WRITERS as usize].map(|()| scope.spawn(|| (0..OBSERVATIONS).for_each(&record)));
        for writer in writers {
            // A panic is one of the scope, too.
            let _ = writer.join();
        }
        is_over.store(true, Relaxed);
        let _ = reader.join();
    });
    drain();
}

fn kept(of: u64, kept: u64) -> Outcome {
    let lost = of.abs_diff(kept);
    let percent = lost as f64 * 100.0 / of as f64;
    Outcome { is_right: kept == of, saw: format!("{lost} of {of} observations lost ({percent:.4} %)") }
}

/// Observations of a histogram that is read all the time.
fn drained() -> Result<Found> {
    let (bucket, seen) = (AtomicBucket::<f64>::new(), AtomicU64::new(0));
    under_load(
        |n| bucket.push(n as f64),
        || {
            bucket.clear_with(|block| {
                seen.fetch_add(block.len() as u64, Relaxed);
            })
        },
    );
    let registry = Registry::new();
    let histogram = registry.histogram("duration_seconds").register()?;
    let exposition = Exposition::from(registry);
    under_load(|n| histogram.record(n as f64), || drop(exposition.render(Format::Text004)));
    let all = WRITERS * OBSERVATIONS;
    Ok(Found {
        what: "observations lost while they are read",
        of: "metrics-util `AtomicBucket`",
        published: kept(all, seen.load(Relaxed)),
        ours: kept(all, histogram.count()),
    })
}

/// Points of a ring that is drained all the time: what is not given is counted as written over.
fn ring() -> Result<Found> {
    let (bucket, seen) = (AtomicBucket::<MetricPoint>::new(), AtomicU64::new(0));
    let point = |n: u64| MetricPoint::new(1, MetricKind::Gauge, n as i64, n as f64);
    under_load(
        |n| bucket.push(point(n)),
        || {
            bucket.clear_with(|block| {
                seen.fetch_add(block.len() as u64, Relaxed);
            })
        },
    );
    let ring = HotMetricsRing::new(1 << 20, 1 << 12);
    let (ours, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let writers = [ring.writer().context("no lane")?, ring.writer().context("no lane")?];
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                let drained = ring.drain(|_| ());
                ours.fetch_add(drained.points + drained.overwritten, Relaxed);
            }
        });
        let writers =
            writers.map(|mut writer| scope.spawn(move || (0..OBSERVATIONS).for_each(|n| writer.push_metric(point(n)))));
        for writer in writers {
            let _ = writer.join();
        }
        is_over.store(true, Relaxed);
    });
    let drained = ring.drain(|_| ());
    let all = WRITERS * OBSERVATIONS;
    Ok(Found {
        what: "points neither given nor counted as written over while they are drained",
        of: "metrics-util `AtomicBucket`",
        published: kept(all, seen.load(Relaxed)),
        ours: kept(all, ours.load(Relaxed) + drained.points + drained.overwritten),
    })
}

/// The page of the published exporter and ours, of what `record` records by a recorder of the facade.
fn pages(record: impl Fn(&dyn Recorder)) -> Result<[String; 2]> {
    let published = PrometheusBuilder::new().build_recorder();
    record(&published);
    let registry = Registry::new();
    record(&Ours::new(registry.clone()));
    let ours = Exposition::from(registry).render(Format::Text004);
    Ok([published.handle().render(), String::from_utf8(ours)?])
}

/// Two names that are one when they are written with `_` for what text 0.0.4 cannot have.
fn collisions() -> Result<Found> {
    let [published, ours] = pages(|recorder| {
        for (name, by) in [("a.b", 1), ("a_b", 2)] {
            recorder.register_counter(&Key::from_static_name(name), &METADATA).increment(by);
        }
    })?;
    let outcome = |page: &str| {
        let values: Vec<&str> = samples(page).filter_map(|line| Some(line.rsplit_once(' ')?.1)).collect();
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let names: std::collections::BTreeSet<&str> =
            samples(page).filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
        let is_right = sorted == ["1", "2"] && names.len() == 2;
        Outcome { is_right, saw: format!("`{}`", samples(page).collect::<Vec<_>>().join("`, `")) }
    };
    Ok(Found {
        what: "series `a.b` and `a_b`, of 1 and 2",
        of: "metrics-exporter-prometheus",
        published: outcome(&published),
        ours: outcome(&ours),
    })
}

/// A label value that a reader of the page must get back.
fn backslashes() -> Result<Found> {
    let [published, ours] = pages(|recorder| {
        let key = Key::from_parts("odd", vec![Label::new("path", ODD_VALUE)]);
        recorder.register_counter(&key, &METADATA).increment(1);
    })?;
    let outcome = |page: &str| {
        let read = samples(page).next().and_then(label_value);
        let is_right = read.as_deref() == Some(ODD_VALUE);
        Outcome { is_right, saw: read.map_or("no value".to_owned(), |read| format!("read back as {read:?}")) }
    };
    Ok(Found {
        what: "label value `C:\\dir\\\"x\"⏎n`, with a backslash before a quote",
        of: "metrics-exporter-prometheus",
        published: outcome(&published),
        ours: outcome(&ours),
    })
}

fn samples(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The first label's value as a reader of text 0.0.4 has it.
fn label_value(line: &str) -> Option<String> {
    let mut rest = line.split_once("=\"")?.1.chars();
    let mut value = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(value),
            '\\' => value.push(match rest.next()? {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
}

/// A look-up of a series that is there, with a key that is made already.
fn allocations() -> Result<Found> {
    let key = Key::from_parts("asked_total", vec![Label::new("path", "/api")]);
    let of = |recorder: &dyn Recorder| {
        recorder.register_counter(&key, &METADATA).increment(1);
        let (allocations, _, ()) =
            heap::of(|| (0..LOOKUPS).for_each(|_| recorder.register_counter(&key, &METADATA).increment(1)));
        let each = allocations as f64 / LOOKUPS as f64;
        Outcome { is_right: allocations == 0, saw: format!("{each} each") }
    };
    Ok(Found {
        what: "allocations per look-up of a known series",
        of: "metrics-exporter-prometheus",
        published: of(&PrometheusBuilder::new().build_recorder()),
        ours: of(&Ours::new(Registry::new())),
    })
}
