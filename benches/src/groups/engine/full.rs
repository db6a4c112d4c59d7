//! How long a head that is as full as it gets takes to replay, late samples in it or not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use kymo_core::{Clock, Labels, MetricStorage, SampleBatch, SeriesRef, SystemClock};

use super::{folder, timed};
use crate::cases::append::open;
use crate::groups::Setup;
use crate::report::{Goal, Report, Row};
use crate::servers::{Binary, Kind, Server};

const ROWS_PER_BATCH: u64 = 2_000;
/// More than any head takes before it is full.
const ROWS_MAX: u64 = 10_000_000;
/// Seconds until a server is ready, which is asked for heads of so many series.
const READY_MAX: f64 = 1.0;
const LARGE: u64 = 1_000_000;
/// From the middle of the samples to now.
const BACK_MS: i64 = 8 * 3_600_000;

/// Samples in the order in which they come.
struct Order {
    what: &'static str,
    series: u64,
    labels: fn(u64) -> Labels,
    /// The most seconds that opening it may take, log and all, if there is a limit.
    open_max: Option<f64>,
    /// Series and time, in milliseconds from the middle of what there is, of the n-th sample. No two are the same.
    row: fn(u64) -> (u64, i64),
}

const ORDERS: [Order; 10] = [
    Order {
        what: "10,000 series in order",
        series: 10_000,
        labels: numbered,
        open_max: Some(1.0),
        row: |n| (n % 10_000, (n / 10_000) as i64 * 5_000),
    },
    Order {
        what: "1,000,000 series in order",
        series: 1_000_000,
        labels: numbered,
        open_max: Some(1.0),
        row: |n| (n % 1_000_000, (n / 1_000_000) as i64 * 5_000),
    },
    Order {
        what: "1,000,000 series of 1,000 hosts in order",
        series: 1_000_000,
        labels: of_hosts,
        open_max: Some(1.0),
        row: |n| (n % 1_000_000, (n / 1_000_000) as i64 * 5_000),
    },
    Order {
        what: "3,000,000 series of 3,000 hosts in order",
        series: 3_000_000,
        labels: of_hosts,
        open_max: None,
        row: |n| (n % 3_000_000, (n / 3_000_000) as i64 * 5_000),
    },
    Order {
        what: "10,000 series, a tenth two hours late",
        series: 10_000,
        labels: numbered,
        open_max: Some(1.0),
        row: |n| {
            let scrape = (n / 10_000) as i64;
            (n % 10_000, if scrape % 10 == 9 { scrape * 5_000 - 7_200_000 } else { scrape * 5_000 })
        },
    },
    Order {
        what: "10,000 series of two senders, one a minute behind",
        series: 10_000,
        labels: numbered,
        open_max: Some(1.0),
        row: |n| {
            let scrape = (n / 20_000) as i64;
            (n % 10_000, if n % 20_000 < 10_000 { scrape * 15_000 } else { (scrape - 4) * 15_000 + 7_500 })
        },
    },
    Order {
        what: "300 series, a third falling into the past",
        series: 300,
        labels: numbered,
        open_max: Some(1.0),
        row: |n| {
            let scrape = (n / 300) as i64;
            (n % 300, if scrape % 3 == 2 { -1 - scrape * 100 } else { scrape * 100 })
        },
    },
    Order {
        what: "one of 10,000 series has half of all, a tenth anywhere",
        series: 10_000,
        labels: numbered,
        open_max: Some(1.0),
        row: |n| if n % 2 == 0 { (0, anywhere(n / 2)) } else { (1 + n / 2 % 9_999, (n / 2 / 9_999) as i64 * 5_000) },
    },
    Order {
        what: "one series, a tenth anywhere",
        series: 1,
        labels: numbered,
        open_max: Some(1.0),
        row: |n| (0, anywhere(n)),
    },
    Order {
        what: "one series, all falling",
        series: 1,
        labels: numbered,
        open_max: Some(1.0),
        row: |n| (0, -(n as i64)),
    },
];

/// As few labels as there may be: `n` alone tells the series from others.
fn numbered(series: u64) -> Labels {
    Labels::from_pairs([("__name__", "full".to_owned()), ("n", series.to_string())])
}

/// Labels as a fleet has them: a thousand series of each host.
fn of_hosts(series: u64) -> Labels {
    let of_host = series % 1_000;
    Labels::from_pairs([
        ("__name__", format!("node_something_{}_seconds_total", of_host / 2)),
        ("cluster", "eu-central-1".to_owned()),
        ("device", format!("nvme{}n1", of_host % 2)),
        ("instance", format!("host-{}.example.org:9100", series / 1_000)),
        ("job", "node".to_owned()),
    ])
}

/// Rises by 4 ms, but for each tenth, which is anywhere below.
fn anywhere(n: u64) -> i64 {
    let late = n / 10;
    let time = match late.checked_ilog2() {
        _ if n % 10 != 9 => 4 * n,
        None => 31,
        // Spread over all tens by turning the bits round; each power of two has a place of its own in them.
        Some(0) => 1,
        Some(bits) => {
            let ten = late.reverse_bits() >> (u64::BITS - bits);
            40 * ten + 4 * u64::from(bits / 3) + 1 + u64::from(bits % 3)
        }
    };
    time.cast_signed()
}

/// Adds a row per order.
pub(super) fn run(setup: &Setup, report: &mut Report) -> Result<()> {
    let mut in_order = None;
    for order in &ORDERS {
        let dir = folder(setup, &format!("full {}", order.what))?;
        // Where a server looks for it.
        let data = dir.join("data");
        let (rows, append_ns) = fill(order, &data)?;
        let wall = Instant::now();
        let (engine, opened) = open(&data)?;
        let wall = wall.elapsed().as_secs_f64();
        ensure!(opened.samples == rows, "replay gives {} of {rows} samples", opened.samples);
        drop(engine);
        let row = |what: &str, seconds| Row::new(format!("{what}, head full: {}", order.what), "s", seconds);
        let floor = *in_order.get_or_insert(wall);
        let goal = order.open_max.map_or(Goal::None, Goal::AtMost);
        report.row(row("open after a kill", wall).floor("in order", floor).goal(goal));
        // Nothing was flushed, so the log is as it was.
        if let Some(path) = setup.kymo.as_ref().filter(|_| order.series >= LARGE) {
            let binary = Binary { kind: Kind::Kymo, path: path.clone(), version: String::new() };
            let server = Server::start(&binary, &dir)?;
            let ready = server.ready_after().as_secs_f64();
            report.row(row("ready after a kill, server on one core", ready).goal(Goal::AtMost(READY_MAX)));
            let answers = server.answers_after().as_secs_f64();
            report.row(row("first answer after a kill, server on one core", answers));
        }
        report.note(format!(
            "Head full of {}: {:.2} M samples, {append_ns:.0} ns each to append.",
            order.what,
            rows as f64 / 1e6
        ));
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

/// Appends until the head is full, and leaves it there as a kill does. Gives how many samples, and ns for each.
fn fill(order: &Order, dir: &Path) -> Result<(u64, f64)> {
    let (engine, _) = open(dir)?;
    let is_full = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_full);
    engine.on_full(move || told.store(true, Ordering::Relaxed));
    let base_ms = SystemClock::new().now_ms() - BACK_MS;
    let mut refs: Vec<Option<SeriesRef>> = vec![None; order.series as usize];
    let (mut rows, mut nanos, mut batch) = (0, 0, SampleBatch::new());
    while rows < ROWS_MAX && !is_full.load(Ordering::Relaxed) {
        batch.clear();
        let members: Vec<usize> = (rows..rows + ROWS_PER_BATCH)
            .map(|n| {
                let (series, time_ms) = (order.row)(n);
                match refs[series as usize] {
                    Some(known) => batch.push_float(known, base_ms + time_ms, n as f64),
                    None => batch.push_float(&(order.labels)(series), base_ms + time_ms, n as f64),
                }
                series as usize
            })
            .collect();
        let (appended, took) = timed(|| Ok(engine.append(&batch)?))?;
        ensure!(appended.stored.floats == ROWS_PER_BATCH, "not all of {} is new: {appended:?}", order.what);
        for (row, series) in appended.new_refs {
            refs[members[row]] = Some(series);
        }
        rows += ROWS_PER_BATCH;
        nanos += took.as_nanos();
        // As a second does, which passes between scrapes: until then the log's frames are held as well.
        engine.sync_now()?;
    }
    ensure!(is_full.load(Ordering::Relaxed), "{rows} samples do not fill the head");
    Ok((rows, nanos as f64 / rows as f64))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_samples_of_an_order_are_the_same_and_late_ones_are_below() {
        let mut seen = HashSet::new();
        let mut newest = i64::MIN;
        for n in 0..1_000_000 {
            let time = anywhere(n);
            assert!(seen.insert(time), "{time} twice");
            assert_eq!(time < newest, n % 10 == 9, "{n}");
            newest = newest.max(time);
        }
        for order in &ORDERS {
            let mut seen = HashSet::new();
            assert!((0..200_000).all(|n| seen.insert((order.row)(n))), "{}", order.what);
        }
    }
}
