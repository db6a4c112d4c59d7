//! The data both servers get: made up from a seed, an hour and a half of it.
//!
//! Counters fall back, samples are missing, series come and go with and without a staleness marker; there are
//! NaN, infinities and −0; histograms are classic, exponential of several schemas, of custom buckets whose
//! bounds change, and gauges; one family changes between floats and histograms.

use std::collections::BTreeMap;

use kymo_core::random::{Random, SeededRandom};

/// 2023-11-14 22:00:00 UTC, a full hour: within one block of both engines.
pub(super) const START_MS: i64 = 1_699_999_200_000;
/// How long the data is.
pub(super) const LENGTH_MS: i64 = 90 * MINUTE_MS;
const MINUTE_MS: i64 = 60_000;
/// The bits of a staleness marker.
pub(super) const STALE: u64 = 0x7ff0_0000_0000_0002;

const JOBS: [&str; 3] = ["api", "db", "web"];
const INSTANCES: [&str; 2] = ["i0", "i1"];
const BOUNDS: [(&str, f64); 5] = [("0.1", 0.1), ("0.5", 0.5), ("1", 1.0), ("2.5", 2.5), ("+Inf", f64::INFINITY)];

/// One series; labels sorted by name.
pub(super) struct Series {
    pub(super) labels: Vec<(String, String)>,
    pub(super) points: Vec<(i64, Point)>,
}

#[derive(Clone)]
pub(super) enum Point {
    Float(f64),
    Histogram(Histogram),
}

/// A native histogram; counts are not deltas.
#[derive(Clone, Default)]
pub(super) struct Histogram {
    pub(super) schema: i32,
    pub(super) float: bool,
    pub(super) gauge: bool,
    pub(super) zero_threshold: f64,
    pub(super) zero: u64,
    pub(super) sum: f64,
    pub(super) positive: BTreeMap<i32, u64>,
    pub(super) negative: BTreeMap<i32, u64>,
    /// Upper bounds of custom buckets.
    pub(super) bounds: Vec<f64>,
}

impl Histogram {
    pub(super) fn count(&self) -> u64 {
        self.zero + self.positive.values().chain(self.negative.values()).sum::<u64>()
    }

    fn observe(&mut self, value: f64) {
        self.sum += value;
        if self.schema == -53 {
            let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
            *self.positive.entry(bucket as i32).or_default() += 1;
        } else if value.abs() <= self.zero_threshold {
            self.zero += 1;
        } else {
            let index = (value.abs().log2() * f64::from(self.schema).exp2()).ceil() as i32;
            let side = if value > 0.0 { &mut self.positive } else { &mut self.negative };
            *side.entry(index).or_default() += 1;
        }
    }

    /// Back to nothing, and one observation on each side that is used: the reference shows buckets that only
    /// later samples of a chunk fill as empty ones, which quantiles tell from absent ones.
    fn restart(&mut self, signed: bool) {
        (self.zero, self.sum) = (0, 0.0);
        self.positive.clear();
        self.negative.clear();
        self.observe(1.5);
        if signed {
            self.observe(-1.5);
        }
    }
}

struct Maker {
    random: SeededRandom,
    series: Vec<Series>,
}

/// Everything, sorted by labels.
pub(super) fn make(seed: u64) -> Vec<Series> {
    let mut maker = Maker { random: SeededRandom::new(seed), series: Vec::new() };
    maker.counters();
    maker.gauges();
    maker.coming_and_going();
    maker.classic_histograms();
    maker.native_histograms();
    maker.oddities();
    maker.series.sort_by(|a, b| a.labels.cmp(&b.labels));
    maker.series
}

impl Maker {
    fn below(&self, end: u64) -> u64 {
        self.random.below(end)
    }

    fn chance(&self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    fn add(&mut self, name: &str, labels: &[(&str, &str)], points: Vec<(i64, Point)>) {
        let mut labels: Vec<(String, String)> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        labels.push(("__name__".to_owned(), name.to_owned()));
        labels.sort();
        self.series.push(Series { labels, points });
    }

    /// Times of samples: regular with a phase, rarely late by milliseconds, with gaps.
    fn times(&self, every_ms: i64) -> Vec<i64> {
        let phase = self.below(every_ms as u64) as i64;
        let mut times = Vec::new();
        let mut missing = 0;
        for tick in 0..LENGTH_MS / every_ms {
            if missing > 0 {
                missing -= 1;
                continue;
            }
            if self.chance(60) {
                missing = self.below(40);
            }
            let late = if self.chance(8) { self.below(400) as i64 } else { 0 };
            times.push(START_MS + phase + tick * every_ms + late);
        }
        times
    }

    fn floats(&self, every_ms: i64, mut value: impl FnMut(&Self) -> f64) -> Vec<(i64, Point)> {
        self.times(every_ms).into_iter().map(|time| (time, Point::Float(value(self)))).collect()
    }

    fn counter(&self, every_ms: i64, most: u64) -> Vec<(i64, Point)> {
        let mut total = self.below(1000) as f64;
        self.floats(every_ms, |maker| {
            total = if maker.chance(80) { maker.below(5) as f64 } else { total + maker.below(most) as f64 };
            total
        })
    }

    fn counters(&mut self) {
        for job in JOBS {
            for instance in INSTANCES {
                for code in ["200", "404", "500"] {
                    let points = self.counter(15_000, 20);
                    self.add("requests_total", &[("code", code), ("instance", instance), ("job", job)], points);
                }
                let points = self.counter(30_000, 2);
                self.add("errors_total", &[("instance", instance), ("job", job)], points);
            }
        }
    }

    fn gauges(&mut self) {
        for (number, job) in JOBS.into_iter().enumerate() {
            for instance in INSTANCES {
                for room in ["a", "b"] {
                    let mut value = 20.0 + self.below(20) as f64;
                    let points = self.floats(15_000, |maker| {
                        value += maker.random.next_f64() - 0.5;
                        match maker.below(150) {
                            0 => f64::NAN,
                            1 => f64::INFINITY,
                            2 => f64::NEG_INFINITY,
                            3 => -0.0,
                            _ => value,
                        }
                    });
                    self.add("temperature", &[("instance", instance), ("job", job), ("room", room)], points);
                }
                let points = self.floats(20_000, |maker| maker.below(4) as f64 - 1.0);
                self.add("level", &[("instance", instance), ("job", job)], points);
            }
            let points = self.floats(60_000, |_| [100.0, 250.0, -3.5][number]);
            self.add("limits", &[("job", job)], points);
            let points = self.floats(60_000, |_| 1.0);
            self.add("owner", &[("job", job), ("team", ["red", "blue", "red"][number])], points);
        }
    }

    fn coming_and_going(&mut self) {
        for pod in 0..14 {
            let born = START_MS + self.below(70) as i64 * MINUTE_MS;
            let gone = born + (3 + self.below(25) as i64) * MINUTE_MS;
            let mut points = self.counter(15_000, 9);
            points.retain(|(time, _)| (born..gone).contains(time));
            if !self.chance(3) {
                points.push((gone, Point::Float(f64::from_bits(STALE))));
            }
            let name = format!("pod{pod}");
            self.add("churn", &[("job", JOBS[pod % 3]), ("pod", &name)], points);
        }
        for x in 0..4 {
            let every_ms = (4 + x) * MINUTE_MS + 7_000;
            let points = self.floats(every_ms, |maker| maker.below(10) as f64);
            self.add("sparse", &[("x", &x.to_string())], points);
        }
        for job in JOBS {
            for instance in INSTANCES {
                // A new version takes over at some time; the old series is marked as gone.
                let turn = START_MS + (20 + self.below(40) as i64) * MINUTE_MS;
                for (version, old) in [("1.0", true), ("1.1", false)] {
                    let mut points = self.floats(60_000, |_| 1.0);
                    points.retain(|(time, _)| (*time < turn) == old);
                    if old {
                        points.push((turn, Point::Float(f64::from_bits(STALE))));
                    }
                    let labels = [("instance", instance), ("job", job), ("data", "x"), ("version", version)];
                    self.add("target_info", &labels, points);
                }
            }
        }
    }

    fn classic_histograms(&mut self) {
        for job in JOBS {
            let times = self.times(15_000);
            let mut counts = [0.0; BOUNDS.len()];
            let mut sum = 0.0;
            let mut points: Vec<Vec<(i64, Point)>> = vec![Vec::new(); BOUNDS.len() + 2];
            for time in times {
                if self.chance(120) {
                    (counts, sum) = ([0.0; BOUNDS.len()], 0.0);
                }
                for _ in 0..self.below(8) {
                    let value = self.random.next_f64() * 4.0;
                    sum += value;
                    for (count, (_, bound)) in counts.iter_mut().zip(BOUNDS) {
                        *count += f64::from(u8::from(value <= bound));
                    }
                }
                for (at, count) in counts.into_iter().enumerate() {
                    // Sometimes a bucket is behind those below it.
                    let behind = if at == 2 && self.chance(20) { 2.0 } else { 0.0 };
                    points[at].push((time, Point::Float((count - behind).max(0.0))));
                }
                points[BOUNDS.len()].push((time, Point::Float(sum)));
                points[BOUNDS.len() + 1].push((time, Point::Float(counts[BOUNDS.len() - 1])));
            }
            for (at, points) in points.into_iter().enumerate() {
                match BOUNDS.get(at) {
                    Some((le, _)) => self.add("latency_seconds_bucket", &[("job", job), ("le", le)], points),
                    None if at == BOUNDS.len() => self.add("latency_seconds_sum", &[("job", job)], points),
                    None => self.add("latency_seconds_count", &[("job", job)], points),
                }
            }
        }
        for le in ["1", "abc", "3"] {
            let points = self.floats(30_000, |maker| maker.below(9) as f64);
            self.add("broken_bucket", &[("le", le)], points);
        }
    }

    /// A histogram after every sample; `change` is told the number of the sample.
    fn histograms(
        &self,
        mut histogram: Histogram,
        signed: bool,
        mut change: impl FnMut(&mut Histogram, usize),
    ) -> Vec<(i64, Point)> {
        let mut points = Vec::new();
        for (number, time) in self.times(15_000).into_iter().enumerate() {
            if number == 0 || self.chance(90) || histogram.gauge {
                histogram.restart(signed);
            }
            change(&mut histogram, number);
            // At least one: whether two equal histograms are the same is the reference's chunk layout.
            for _ in 0..1 + self.below(7) {
                let size = (self.random.next_f64() * 8.0 - 4.0).exp2();
                let value = if signed && self.chance(3) { -size } else { size };
                histogram.observe(if self.chance(9) { 0.0 } else { value });
            }
            points.push((time, Point::Histogram(histogram.clone())));
        }
        points
    }

    fn native_histograms(&mut self) {
        let plain = Histogram { zero_threshold: 1e-3, ..Histogram::default() };
        for job in JOBS {
            for (instance, schema) in INSTANCES.into_iter().zip([3, 1]) {
                let start = Histogram { schema, ..plain.clone() };
                let coarser = |histogram: &mut Histogram, number: usize| {
                    if job == "db" && number == 150 {
                        histogram.schema -= 1;
                        histogram.restart(job == "web");
                    }
                };
                let points = self.histograms(start, job == "web", coarser);
                self.add("nh", &[("instance", instance), ("job", job)], points);

                let bounds = if instance == "i0" { vec![0.1, 0.5, 1.0, 2.5, 10.0] } else { vec![0.1, 1.0, 10.0] };
                let start = Histogram { schema: -53, bounds, ..Histogram::default() };
                let rebound = |histogram: &mut Histogram, number: usize| {
                    if job == "db" && number == 150 {
                        histogram.bounds = vec![0.5, 1.0, 5.0];
                        histogram.restart(false);
                    }
                };
                let points = self.histograms(start, false, rebound);
                self.add("nhcb", &[("instance", instance), ("job", job)], points);
            }
            let start = Histogram { schema: 2, float: true, ..plain.clone() };
            let points = self.histograms(start, false, |_, _| {});
            self.add("nh_float", &[("job", job)], points);
            let start = Histogram { schema: 2, gauge: true, ..plain.clone() };
            let points = self.histograms(start, true, |_, _| {});
            self.add("nh_gauge", &[("job", job)], points);
            let mut points = self.histograms(Histogram { schema: 2, ..plain.clone() }, false, |_, _| {});
            for (number, (_, point)) in points.iter_mut().enumerate() {
                if number / 40 % 2 == 1 {
                    *point = Point::Float(number as f64);
                }
            }
            self.add("mixed", &[("job", job)], points);
        }
    }

    fn oddities(&mut self) {
        let moments = [0.0, -1.0, 951_868_800.0, 1_709_251_140.5, 4_102_444_800.0, -86_401.0, f64::NAN, 1e18];
        for (x, moment) in moments.into_iter().enumerate() {
            let points = self.floats(60_000, |maker| moment + maker.below(100) as f64 * 86_400.0);
            self.add("moment", &[("x", &x.to_string())], points);
        }
        let extremes =
            [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, f64::MIN, 1e-300, 0.0, -0.0, 0.5, -2.5, 1e-9];
        for (x, extreme) in extremes.into_iter().enumerate() {
            let points = self.floats(60_000, |_| extreme);
            self.add("extreme", &[("x", &x.to_string())], points);
        }
        for job in JOBS {
            let points = self.floats(30_000, |maker| maker.below(100) as f64);
            self.add("odd.name", &[("job", job), ("dotted.label", "é \"quoted\"")], points);
        }
    }
}
