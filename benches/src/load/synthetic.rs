//! A recording made up from a seed, for machines without the real one; its mix follows that of real targets.

use kymo_core::Random;
use kymo_core::random::SeededRandom;

use super::recording::{RecordedSeries, Recording, Target};

const TARGETS: usize = 4;
const SERIES_PER_TARGET: usize = 600;
const SCRAPES: usize = 300;
/// The third target restarts here: its counters begin again at 0.
const RESTARTED: (usize, usize) = (2, 140);

/// What a series is like, and of how many in a thousand; measured on node_exporter and three Go servers.
const MIX: [(Kind, u64); 7] = [
    (Kind::Constant, 560),
    (Kind::IntegerCounter, 220),
    (Kind::DecimalCounter, 50),
    (Kind::IntegerGauge, 80),
    (Kind::NoisyGauge, 50),
    (Kind::ShortLived, 30),
    (Kind::Idle, 10),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Constant,
    /// Rises by a small whole number, in every fourth series by nothing most of the time.
    IntegerCounter,
    /// Rises by hundredths, as CPU seconds do.
    DecimalCounter,
    IntegerGauge,
    /// All bits of the mantissa in use.
    NoisyGauge,
    /// Comes and goes within the recording.
    ShortLived,
    /// A summary that saw nothing: NaN.
    Idle,
}

pub(super) fn record(seed: u64) -> Recording {
    let random = SeededRandom::new(seed);
    let targets = (0..TARGETS).map(|_| Target { lateness_ms: lateness(&random) }).collect();
    let series = (0..TARGETS)
        .flat_map(|target| (0..SERIES_PER_TARGET).map(move |number| (target, number)))
        .map(|(target, number)| series(&random, target, number))
        .collect();
    Recording { source: format!("synthetic, seed {seed}"), targets, series }
}

/// Two scrapes in a hundred are late by up to a quarter of a second, the others by at most 20 ms.
fn lateness(random: &SeededRandom) -> Vec<i64> {
    let late = |random: &SeededRandom| if random.below(50) == 0 { random.below(250) } else { random.below(20) };
    (0..SCRAPES).map(|_| late(random) as i64).collect()
}

fn series(random: &SeededRandom, target: usize, number: usize) -> RecordedSeries {
    let mut draw = random.below(MIX.iter().map(|(_, share)| share).sum());
    let kind = MIX
        .iter()
        .find(|(_, share)| {
            let is_it = draw < *share;
            draw = draw.saturating_sub(*share);
            is_it
        })
        .map_or(Kind::Constant, |(kind, _)| *kind);
    let (values, is_cumulative, decimals) = values(random, kind, target);
    let ends = (values.iter().flatten().next(), values.iter().flatten().last());
    let growth = match ends {
        (Some(first), Some(last)) if is_cumulative => (last - first).max(0.0),
        _ => 0.0,
    };
    // Twelve series to a family, as devices, CPUs and buckets make them.
    let suffix = if is_cumulative { "_total" } else { "" };
    let labels = vec![
        ("__name__".to_owned(), format!("synthetic_{target}_family_{:02}{suffix}", number / 12)),
        ("device".to_owned(), format!("device{}", number % 12)),
        ("instance".to_owned(), "host-a".to_owned()),
        ("job".to_owned(), format!("target-{target}")),
    ];
    RecordedSeries { labels, target, values, growth, decimals }
}

fn values(random: &SeededRandom, kind: Kind, target: usize) -> (Vec<Option<f64>>, bool, Option<u32>) {
    let restarts_at = |scrape: usize| RESTARTED == (target, scrape);
    match kind {
        Kind::Constant => {
            let value = random.below(5_000) as f64;
            (vec![Some(value); SCRAPES], false, Some(0))
        }
        Kind::IntegerCounter | Kind::ShortLived => {
            let step = if random.below(4) == 0 { 2 } else { 1 + random.below(3_000) };
            let rarely = step == 2;
            let mut total = random.below(10_000_000);
            let life = if kind == Kind::ShortLived {
                let born = random.below(SCRAPES as u64 - 40) as usize;
                born..born + 20 + random.below(20) as usize
            } else {
                0..SCRAPES
            };
            let mut next = |scrape: usize| {
                if restarts_at(scrape) {
                    total = 0;
                }
                if !rarely || random.below(8) == 0 {
                    total += random.below(step);
                }
                life.contains(&scrape).then_some(total as f64)
            };
            ((0..SCRAPES).map(&mut next).collect(), true, Some(0))
        }
        Kind::DecimalCounter => {
            let mut hundredths = random.below(10_000_000);
            let mut next = |scrape: usize| {
                if restarts_at(scrape) {
                    hundredths = 0;
                }
                hundredths += random.below(120);
                Some(hundredths as f64 / 100.0)
            };
            ((0..SCRAPES).map(&mut next).collect(), true, Some(2))
        }
        Kind::IntegerGauge => {
            let mut level = random.below(1 << 30) as i64;
            let mut next = |_| {
                level = (level + random.below(8_192) as i64 - 4_096).max(0);
                Some((level * 4_096) as f64)
            };
            ((0..SCRAPES).map(&mut next).collect(), false, Some(0))
        }
        Kind::NoisyGauge => {
            let middle = random.next_f64() * 10.0;
            ((0..SCRAPES).map(|_| Some(middle + random.next_f64())).collect(), false, None)
        }
        Kind::Idle => (vec![Some(f64::NAN); SCRAPES], false, None),
    }
}
