//! What each class of the recording's series takes: bytes, ns to compact, ns to read, and which encoders it got.

use anyhow::Result;
use kymo_core::{Columns, MetricStorage, QueryContext, Selector};

use super::bytes::check_bits;
use super::{folder, timed};
use crate::cases::append::{Appending, open};
use crate::groups::Setup;
use crate::load::{self, Load, RecordedSeries, SCRAPES_MEASURED, Shape};
use crate::report::{Goal, Report, Row};

/// Reads of everything; the best one counts, the first ones fill caches.
const READS: usize = 5;

/// What the values of a series are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Constant,
    Integers,
    Decimals,
    Floats,
}

const CLASSES: [(Class, &str); 4] = [
    (Class::Constant, "constant series"),
    (Class::Integers, "integers"),
    (Class::Decimals, "decimals"),
    (Class::Floats, "other floats"),
];

fn class(series: &RecordedSeries) -> Class {
    let mut bits = series.values.iter().flatten().map(|value| value.to_bits());
    let first = bits.next();
    if bits.all(|bits| Some(bits) == first) {
        return Class::Constant;
    }
    match series.decimals {
        Some(0) => Class::Integers,
        Some(_) => Class::Decimals,
        None => Class::Floats,
    }
}

/// Adds three rows per class, and a note on its encoders.
pub(super) fn run(setup: &Setup, report: &mut Report) -> Result<()> {
    let recording = load::recording()?;
    for (one, what) in CLASSES {
        let mut of_class = recording.clone();
        of_class.series.retain(|series| class(series) == one);
        if of_class.series.is_empty() {
            report.later(what, "the recording has no such series");
            continue;
        }
        let base_ms = load::base_ms_of_now();
        let shape = Shape { series: of_class.series.len(), scrapes: SCRAPES_MEASURED, base_ms };
        let load = Load::new(of_class, shape);
        let dir = folder(setup, &format!("class {what}"))?;
        let mut appending = Appending::new(&load, &dir)?;
        appending.append_up_to(&load, shape.scrapes)?;
        let ((), compacted) = timed(|| Ok(appending.engine().compact(|| true)?))?;
        appending.abandon();
        let (engine, _) = open(&dir)?;
        check_bits(&load, &engine)?;
        let samples = load.samples() as f64;
        let (mut columns, mut best) = (Columns::default(), f64::INFINITY);
        for _ in 0..READS {
            let ((), took) = timed(|| {
                let set = engine.select(&Selector::everything(), &QueryContext::unlimited())?;
                (0..set.len()).try_for_each(|number| set.read(number, &mut columns))?;
                Ok(())
            })?;
            best = best.min(took.as_nanos() as f64 / samples);
        }
        let statistics = engine.block_statistics()?;
        let raw = ("value as it is", 8.0);
        report.row(
            Row::new(format!("values, {what}"), "B/sample", statistics.value_bytes as f64 / samples)
                .floor(raw.0, raw.1),
        );
        report.row(Row::new(format!("flush and compact, {what}"), "ns/sample", compacted.as_nanos() as f64 / samples));
        report.row(Row::new(format!("select and decode, {what}"), "ns/sample", best).goal(Goal::AtMost(4.0)));
        let shares: Vec<String> = statistics
            .encodings
            .iter()
            .map(|encoding| {
                let (share, bytes) = (encoding.samples as f64 / samples, encoding.bytes as f64);
                let each = bytes / (encoding.samples as f64).max(1.0);
                format!("{} {:.1} % of samples at {each:.3} B", encoding.name, 100.0 * share)
            })
            .collect();
        report.note(format!("Encoders of {what} ({} series): {}.", shape.series, shares.join(", ")));
    }
    Ok(())
}
