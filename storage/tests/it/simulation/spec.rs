//! What is sent, in a form that can be sent again: to the engine, to the engine after a crash, and to the model.

use std::sync::Arc;

use kymo_core::batch::{AddedValue, Exemplar, FamilyType, Increment, Metadata, SampleBatch, SeriesRef, Total};
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, NativeHistogram, ResetHint, stale_nan};
use kymo_core::{Deletion, Labels, MatchOp, Matcher, Random};

/// Series with samples of their own; those above are added up.
pub(super) const PLAIN_SERIES: u8 = 6;
pub(super) const SERIES: u8 = 9;
const WRITERS: u64 = 3;
/// Values of a float, the odd ones included that encoders trip over.
const FLOATS: [f64; 8] = [0.0, -0.0, 1.0, 2.5, 1e300, f64::INFINITY, f64::NAN, 123_456_789.0];

/// One row.
#[derive(Debug, Clone)]
pub(super) struct RowSpec {
    pub(super) series: u8,
    pub(super) time_ms: i64,
    start_ms: i64,
    value: ValueSpec,
}

#[derive(Debug, Clone)]
enum ValueSpec {
    Float(f64),
    Histogram(NativeHistogram),
    Stale,
    Increment(Increment),
    Total(Total),
}

/// One batch.
#[derive(Debug, Clone, Default)]
pub(super) struct BatchSpec {
    pub(super) rows: Vec<RowSpec>,
    exemplars: Vec<(u8, Exemplar)>,
    metadata: Vec<(String, Metadata)>,
}

fn labels(series: u8) -> Labels {
    let number = series.to_string();
    let name = if series < PLAIN_SERIES { "m" } else { "added_total" };
    Labels::from_pairs([("__name__", name), ("odd", "ä\n\"\\"), ("s", &number)])
}

/// A delete: of one series, of some by an expression, or of all; of all times or of some stretch.
pub(super) fn deletion(random: &dyn Random, now_ms: i64) -> Deletion {
    let one = || vec![Matcher::equal("s", random.below(u64::from(SERIES)).to_string())];
    let some = || vec![Matcher::new("s", MatchOp::Regex, "[0-4]").expect("compiles"), Matcher::equal("__name__", "m")];
    let any_of = match random.below(6) {
        0 => vec![vec![]],
        1 => vec![some()],
        2 => vec![one(), some(), one()],
        _ => vec![one()],
    };
    let second = |ago: u64| now_ms - random.below(ago) as i64 * 1_000;
    let (start_ms, end_ms) = match random.below(4) {
        0 => (i64::MIN, i64::MAX),
        1 => (second(4 * 3_600), i64::MAX),
        _ => {
            let end_ms = second(9 * 3_600);
            (end_ms - random.below(3 * 3_600) as i64 * 1_000, end_ms)
        }
    };
    Deletion { any_of, start_ms, end_ms }
}

fn histogram(random: &dyn Random) -> NativeHistogram {
    let n = 1 + random.below(5);
    let x = n as f64;
    if random.below(4) == 0 {
        return NativeHistogram {
            schema: -53,
            hint: ResetHint::Unknown,
            zero_threshold: 0.0,
            counts: HistogramCounts::Float(BucketCounts {
                zero: 0.0,
                count: 2.0 * x,
                positive: vec![x, x],
                negative: vec![],
            }),
            sum: f64::NAN,
            positive_spans: vec![BucketSpan { offset: 0, len: 2 }],
            negative_spans: vec![],
            custom_values: Arc::from([0.1, 5.0]),
        };
    }
    NativeHistogram {
        schema: 2,
        hint: if random.below(2) == 0 { ResetHint::NotReset } else { ResetHint::Gauge },
        zero_threshold: 1e-128,
        counts: HistogramCounts::Integer(BucketCounts {
            zero: n,
            count: 4 * n,
            positive: vec![n, n],
            negative: vec![n],
        }),
        sum: x * 0.5,
        positive_spans: vec![BucketSpan { offset: -3, len: 1 }, BucketSpan { offset: 4, len: 1 }],
        negative_spans: vec![BucketSpan { offset: 9, len: 1 }],
        custom_values: Arc::from([]),
    }
}

fn value(random: &dyn Random) -> ValueSpec {
    match random.below(10) {
        0 => ValueSpec::Stale,
        1 | 2 => ValueSpec::Histogram(histogram(random)),
        _ => ValueSpec::Float(FLOATS[random.below(FLOATS.len() as u64) as usize]),
    }
}

/// Something to add: a distribution only of layouts that can be added.
fn added(random: &dyn Random) -> AddedValue {
    if random.below(4) > 0 {
        return AddedValue::Float((1 + random.below(9)) as f64);
    }
    loop {
        let one = histogram(random);
        if one.schema >= 0 {
            return AddedValue::Histogram(one);
        }
    }
}

impl BatchSpec {
    /// A batch around `now_ms`: mostly of now, some rows hours late, some that were sent before, some in bursts that
    /// fill runs.
    pub(super) fn draw(random: &dyn Random, now_ms: i64, sent: &[BatchSpec]) -> BatchSpec {
        let mut batch = BatchSpec::default();
        for _ in 0..1 + random.below(8) {
            let series = random.below(u64::from(SERIES)) as u8;
            let late = match random.below(6) {
                0 => random.below(9 * 3_600) as i64,
                1 => random.below(120) as i64,
                _ => 0,
            };
            let time_ms = now_ms - late * 1_000;
            if series >= PLAIN_SERIES {
                batch.rows.push(RowSpec::of_added(random, series, time_ms));
                continue;
            }
            let burst = if random.below(16) == 0 { 30 + random.below(60) as i64 } else { 1 };
            let start_ms = if random.below(3) == 0 { time_ms - 60_000 } else { 0 };
            for n in 0..burst {
                let value = value(random);
                batch.rows.push(RowSpec { series, time_ms: time_ms - n * 1_000, start_ms, value });
            }
        }
        // Sent before: whole batches as retries send them, and single rows with other bits.
        if let Some(before) =
            sent.len().checked_sub(1).map(|last| &sent[last - random.below(last as u64 / 2 + 1) as usize])
        {
            match random.below(8) {
                0 => batch.rows.extend(before.rows.iter().cloned()),
                1 => {
                    let plain = before.rows.iter().filter(|row| row.series < PLAIN_SERIES).take(3);
                    batch.rows.extend(plain.map(|row| RowSpec { value: value(random), ..row.clone() }));
                }
                _ => {}
            }
        }
        if random.below(6) == 0 {
            let exemplar = Exemplar {
                labels: Labels::from_pairs([("trace_id", random.below(1 << 20).to_string())]),
                value: random.below(10) as f64,
                time_ms: now_ms - random.below(3_600) as i64 * 1_000,
            };
            batch.exemplars.push((random.below(u64::from(PLAIN_SERIES)) as u8, exemplar));
        }
        if random.below(10) == 0 {
            let help = format!("Help {}.", random.below(3));
            let metadata = Metadata { family_type: FamilyType::Gauge, unit: String::new(), help };
            batch.metadata.push((format!("family_{}", random.below(2)), metadata));
        }
        batch
    }

    /// The batch as it is sent, by refs where `known` has one.
    pub(super) fn build(&self, known: &[Option<SeriesRef>]) -> SampleBatch {
        let mut batch = SampleBatch::new();
        let kept: Vec<_> = (0..SERIES).map(|series| batch.keep(labels(series).as_ref())).collect();
        for row in &self.rows {
            let at = usize::from(row.series);
            match known.get(at).copied().flatten() {
                Some(series) => row.push(&mut batch, series.into()),
                None => row.push(&mut batch, kept[at].into()),
            }
        }
        for (series, exemplar) in &self.exemplars {
            batch.push_exemplar(kept[usize::from(*series)], exemplar.clone());
        }
        for (family, metadata) in &self.metadata {
            batch.push_metadata(family.clone(), metadata.clone());
        }
        batch
    }
}

impl RowSpec {
    fn of_added(random: &dyn Random, series: u8, time_ms: i64) -> RowSpec {
        // On whole half minutes, so that intervals meet often.
        let end_ms = time_ms.div_euclid(30_000) * 30_000;
        let start_ms = end_ms - 30_000 * (1 + random.below(3) as i64);
        let (writer, value) = (random.below(WRITERS), added(random));
        // The last series is told totals.
        let value = if series + 1 == SERIES {
            ValueSpec::Total(Total { writer, start_ms: end_ms - end_ms.rem_euclid(3_600_000), value })
        } else {
            ValueSpec::Increment(Increment { writer, start_ms, end_ms, value })
        };
        RowSpec { series, time_ms: end_ms, start_ms: 0, value }
    }

    fn push(&self, batch: &mut SampleBatch, series: kymo_core::batch::PushSeries<'_>) {
        match &self.value {
            ValueSpec::Float(value) => batch.push_float(series, self.time_ms, *value),
            ValueSpec::Histogram(value) => batch.push_histogram(series, self.time_ms, value.clone()),
            ValueSpec::Stale => batch.push_float(series, self.time_ms, stale_nan()),
            ValueSpec::Increment(increment) => batch.push_increment(series, increment.clone()),
            ValueSpec::Total(total) => batch.push_total(series, self.time_ms, total.clone()),
        }
        batch.set_start(self.start_ms);
    }
}
