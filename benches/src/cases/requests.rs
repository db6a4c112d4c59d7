//! A request with everything recorded about it, and without: what a program pays for its metrics.
//!
//! A request is a fixed count of arithmetic, so that callgrind counts the same request as the clock times. Recorded are
//! four counters, a gauge and two histograms, each with the labels `method` and `path` of the request, of which there are
//! [`ROTATION`] in turn. The clock that a program reads for a duration is not part of it: what is recorded is at hand.

use std::cell::Cell;
use std::hint::black_box;

use anyhow::{Result, bail, ensure};
use kymo_core::Registry;
use kymo_core::registry::{Counter, Family, Gauge, Histogram, RegisterError};

use super::handles::{BOUNDS, ROTATION, label_values, observations};
use super::work::work;
use crate::instructions;

/// Rounds of arithmetic in one request, each waiting for the one before: 50 µs where 25,000 of them were seen to take 35.9 µs
/// (an EPYC). At another clock the request and its metrics take another time, and their ratio stays about the same.
const WORK_ROUNDS: u64 = 35_000;
/// Upper bounds of the histogram of sizes.
const SIZE_BOUNDS: [f64; 12] = [64.0, 128.0, 256.0, 512.0, 1e3, 2e3, 4e3, 8e3, 16e3, 64e3, 256e3, 1e6];

/// What is recorded of a request.
struct Families {
    requests: Family<Counter, 2>,
    bytes_in: Family<Counter, 2>,
    bytes_out: Family<Counter, 2>,
    rows: Family<Counter, 2>,
    queue: Family<Gauge, 2>,
    duration: Family<Histogram, 2>,
    size: Family<Histogram, 2>,
}

/// The handles of one method and path.
struct Kept {
    requests: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    rows: Counter,
    queue: Gauge,
    duration: Histogram,
    size: Histogram,
}

/// What one request has to tell.
#[derive(Clone, Copy)]
struct Told {
    bytes_in: u64,
    bytes_out: u64,
    rows: u64,
    seconds: f64,
}

/// Requests of all methods and paths in turn.
pub struct Requests {
    families: Families,
    kept: Vec<Kept>,
    labels: Vec<[String; 2]>,
    told: [Told; ROTATION],
    state: Cell<u64>,
}

impl Families {
    fn new(registry: &Registry) -> Result<Families, RegisterError> {
        let labels = ["method", "path"];
        let counter = |name| registry.counter(name).labels(labels).family();
        Ok(Families {
            requests: counter("requests_total")?,
            bytes_in: counter("request_bytes_total")?,
            bytes_out: counter("response_bytes_total")?,
            rows: counter("rows_read_total")?,
            queue: registry.gauge("queue_length").labels(labels).family()?,
            duration: registry.histogram("request_duration_seconds").buckets(&BOUNDS).labels(labels).family()?,
            size: registry.histogram("response_size_bytes").buckets(&SIZE_BOUNDS).labels(labels).family()?,
        })
    }

    fn keep(&self, labels: [&str; 2]) -> Kept {
        Kept {
            requests: self.requests.with(labels),
            bytes_in: self.bytes_in.with(labels),
            bytes_out: self.bytes_out.with(labels),
            rows: self.rows.with(labels),
            queue: self.queue.with(labels),
            duration: self.duration.with(labels),
            size: self.size.with(labels),
        }
    }

    #[inline(never)]
    fn record(&self, labels: [&str; 2], told: Told) {
        self.requests.at(labels).inc();
        self.bytes_in.at(labels).add(told.bytes_in);
        self.bytes_out.at(labels).add(told.bytes_out);
        self.rows.at(labels).add(told.rows);
        self.queue.at(labels).set(told.rows as f64);
        self.duration.at(labels).record(told.seconds);
        self.size.at(labels).record(told.bytes_out as f64);
    }
}

impl Kept {
    #[inline(never)]
    fn record(&self, told: Told) {
        self.requests.inc();
        self.bytes_in.add(told.bytes_in);
        self.bytes_out.add(told.bytes_out);
        self.rows.add(told.rows);
        self.queue.set(told.rows as f64);
        self.duration.record(told.seconds);
        self.size.record(told.bytes_out as f64);
    }
}

impl Requests {
    /// Registers everything and checks that each request is recorded, and that a bare one is not.
    ///
    /// # Errors
    /// A metric that does not show what was recorded.
    pub fn new() -> Result<Requests> {
        let families = Families::new(&Registry::new())?;
        let labels = label_values();
        let requests = Requests {
            kept: labels.iter().map(|[method, path]| families.keep([method, path])).collect(),
            families,
            labels,
            told: observations().map(|seconds| Told {
                bytes_in: 200,
                bytes_out: (seconds * 1e4) as u64,
                rows: (seconds * 100.0) as u64,
                seconds,
            }),
            state: Cell::new(1),
        };
        requests.bare(1);
        requests.kept(1);
        requests.looked_up(1);
        let (kept, told) = (&requests.kept[0], requests.told[0]);
        let counted = [&kept.requests, &kept.bytes_in, &kept.bytes_out, &kept.rows].map(Counter::value);
        let expected = [1, told.bytes_in, told.bytes_out, told.rows].map(|once| (2 * once) as f64);
        ensure!(counted == expected, "two requests count {counted:?} and not {expected:?}");
        ensure!(kept.queue.value() == told.rows as f64, "the gauge shows {}", kept.queue.value());
        let observed = [kept.duration.count(), kept.size.count()];
        ensure!(observed == [2, 2], "the histograms show {observed:?}");
        Ok(requests)
    }

    /// Nothing is recorded.
    pub fn bare(&self, times: u64) {
        self.serve(times, |_| ());
    }

    /// All is recorded through handles that are kept for each method and path.
    pub fn kept(&self, times: u64) {
        self.serve(times, |turn| black_box(&self.kept[turn]).record(self.told[turn]));
    }

    /// All is recorded through series that are looked up for each use.
    pub fn looked_up(&self, times: u64) {
        self.serve(times, |turn| {
            let [method, path] = &self.labels[turn];
            black_box(&self.families).record([method, path], self.told[turn]);
        });
    }

    fn serve(&self, times: u64, record: impl Fn(usize)) {
        for n in 0..times {
            self.state.set(work(self.state.get(), WORK_ROUNDS));
            record(n as usize % ROTATION);
        }
    }

    /// One of them by name, for counting its instructions, each series known before.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn by_name(&self, name: &str, times: u64) -> Result<()> {
        let work = match name {
            "bare request" => Requests::bare,
            "request" => Requests::kept,
            "request, looked up" => Requests::looked_up,
            _ => bail!("no request is called {name:?}"),
        };
        work(self, ROTATION as u64);
        instructions::counted(|| work(self, times));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_recorded() {
        let requests = Requests::new().unwrap();
        requests.kept(ROTATION as u64);
        requests.by_name("request, looked up", ROTATION as u64).unwrap();
        let total: f64 = requests.kept.iter().map(|kept| kept.requests.value()).sum();
        assert_eq!(total, 2.0 + 3.0 * ROTATION as f64);
        assert!(requests.by_name("counter", 1).is_err());
    }
}
