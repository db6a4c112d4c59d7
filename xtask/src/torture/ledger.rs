//! What a writer sent, what was acknowledged, and whether the server still has it.
//!
//! A writer owns a few series of each [`Track`]: floats as they come, floats of which each lies before all that came
//! earlier, and native histograms. Sample `i` of each has the value `i` (a histogram's is its sum) and a time that `i`
//! tells, so a window over the acknowledged samples has a known count and a known sum, and every single value can be told
//! from its time. A request that was not acknowledged is sent again unchanged, as real senders do; until then the server may have
//! it or not.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::http::{Connection, query_encoded};
use super::remote_write::{HEADERS, PATH, Request};

/// The samples lie this far in the past, so that a long run does not reach the future.
const HEAD_START: Duration = Duration::from_hours(6);
/// Samples of one series in one answer when single values are compared.
const SLICE: u64 = 20_000;

/// A kind of series.
#[derive(Clone, Copy)]
struct Track {
    metric: &'static str,
    /// From one sample to the next.
    step_ms: i64,
    is_histogram: bool,
    /// Whether there is one series of it, or as many as the shape says.
    is_single: bool,
}

const TRACKS: [Track; 3] = [
    Track { metric: "torture_total", step_ms: 1, is_histogram: false, is_single: false },
    // A second apart, so that they reach back over many blocks.
    Track { metric: "torture_late", step_ms: -1_000, is_histogram: false, is_single: true },
    Track { metric: "torture_seconds", step_ms: 1, is_histogram: true, is_single: true },
];

#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Series of one writer with floats as they come.
    pub(super) series: usize,
    /// Samples of one series in one request.
    pub(super) samples: u64,
}

pub(super) struct Writer {
    name: String,
    tracks: &'static [Track],
    shape: Shape,
    /// Time of sample 0, in ms.
    first_ms: i64,
    /// Samples of each series that were acknowledged: all before this one.
    acknowledged: u64,
    pub(super) requests: u64,
    /// Answers that asked to try again later.
    pub(super) refused: u64,
}

/// How a request went.
pub(super) enum Sent {
    Acknowledged,
    /// 503: nothing of it is stored, try again later.
    Refused,
    /// The connection broke; nobody knows.
    Unknown,
}

/// What is wrong with a server's data.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Acknowledged samples that are not there.
    pub(super) lost: u64,
    /// Samples whose value is not the one that was sent, or that were never sent.
    pub(super) wrong: u64,
}

impl Verdict {
    pub(super) fn is_clean(self) -> bool {
        self == Self::default()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.wrong += other.wrong;
    }
}

impl Writer {
    pub(super) fn new(number: usize, shape: Shape) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let first_ms = i64::try_from((now - HEAD_START).as_millis()).context("the clock is beyond its range")?;
        Ok(Self {
            name: format!("w{number}"),
            tracks: &TRACKS,
            shape,
            first_ms,
            acknowledged: 0,
            requests: 0,
            refused: 0,
        })
    }

    /// Samples of all series that were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged * self.tracks.iter().map(|track| self.series_of(track)).sum::<usize>() as u64
    }

    fn series_of(&self, track: &Track) -> usize {
        if track.is_single { 1 } else { self.shape.series }
    }

    /// Sends the next request. An answer that is neither success nor 503 is an error.
    pub(super) fn send(&mut self, http: &mut Connection) -> Result<Sent> {
        let mut request = Request::default();
        for track in self.tracks {
            for series in 0..self.series_of(track) {
                let labels = [("__name__", track.metric), ("series", &series.to_string()), ("writer", &self.name)];
                let indexes = self.acknowledged..self.acknowledged + self.shape.samples;
                let samples = indexes.map(|index| (self.time_ms(track, index), index));
                if track.is_histogram {
                    request.push_histograms(&labels, samples);
                } else {
                    request.push_series(&labels, samples.map(|(time_ms, index)| (time_ms, index as f64)));
                }
            }
        }
        let answer = match http.post(PATH, &HEADERS, &request.compressed()?) {
            Ok(answer) => answer,
            Err(error) if is_broken_connection(&error) => return Ok(Sent::Unknown),
            Err(error) => return Err(error).context("cannot write to the server"),
        };
        if answer.is_success() {
            self.acknowledged += self.shape.samples;
            self.requests += 1;
            Ok(Sent::Acknowledged)
        } else if answer.status == 503 {
            self.refused += 1;
            Ok(Sent::Refused)
        } else {
            bail!("the server answered a write with {}: {}", answer.status, answer.text())
        }
    }

    fn time_ms(&self, track: &Track, index: u64) -> i64 {
        self.first_ms + track.step_ms * index.cast_signed()
    }

    /// Time and length in ms of a window that holds the samples of these numbers.
    fn window(&self, track: &Track, from: u64, until: u64) -> (i64, u64) {
        let last = self.time_ms(track, from).max(self.time_ms(track, until.saturating_sub(1)));
        (last, (until - from) * track.step_ms.unsigned_abs())
    }

    /// Holds count and sum of the acknowledged samples, and the count of all, against what was sent.
    pub(super) fn check_totals(&self, http: &mut Connection) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        for track in self.tracks {
            if let Some(last) = self.acknowledged.checked_sub(1) {
                let counts = self.totals(http, track, "count_over_time", self.acknowledged)?;
                let sums = self.totals(http, track, "sum_over_time", self.acknowledged)?;
                // Exact: a sum of whole numbers far below 2^53.
                let sum = (self.acknowledged * last / 2) as f64;
                for (count, found) in counts.iter().zip(&sums) {
                    let missing = self.acknowledged.saturating_sub(*count as u64);
                    verdict.lost += missing;
                    verdict.wrong += u64::from(missing == 0 && *found != sum);
                }
            }
            // Of the request that nobody answered, all may be there, but no more than that.
            let most = self.acknowledged + self.shape.samples;
            for count in self.totals(http, track, "count_over_time", most * 2)? {
                verdict.wrong += (count as u64).saturating_sub(most);
            }
        }
        Ok(verdict)
    }

    /// Compares every acknowledged sample by itself.
    pub(super) fn check_each(&self, http: &mut Connection) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        for track in self.tracks {
            let mut from = 0;
            while from < self.acknowledged {
                let until = self.acknowledged.min(from + SLICE);
                verdict.add(self.check_slice(http, track, from, until)?);
                from = until;
            }
        }
        Ok(verdict)
    }

    fn check_slice(&self, http: &mut Connection, track: &Track, from: u64, until: u64) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        let (time_ms, length) = self.window(track, from, until);
        let window = format!("{}[{length}ms]", self.selector(track));
        let mut found = 0;
        for element in self.query(http, &window, time_ms)? {
            let of_kind = if track.is_histogram { &element["histograms"] } else { &element["values"] };
            let samples = of_kind.as_array().context("a series has no values")?;
            for (at, sample) in (0..until - from).zip(samples) {
                // Answers rise with time, late samples fall.
                let index = if track.step_ms > 0 { from + at } else { until - 1 - at };
                let time_ms = (sample[0].as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64;
                let value = if track.is_histogram { &sample[1]["sum"] } else { &sample[1] };
                let value: f64 = value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
                verdict.wrong += u64::from((time_ms, value) != (self.time_ms(track, index), index as f64));
                found += 1;
            }
        }
        verdict.lost += ((until - from) * self.series_of(track) as u64).saturating_sub(found);
        Ok(verdict)
    }

    fn selector(&self, track: &Track) -> String {
        format!("{}{{writer=\"{}\"}}", track.metric, self.name)
    }

    /// `function` over the first `length` samples, per series; 0 for one that is absent.
    fn totals(&self, http: &mut Connection, track: &Track, function: &str, length: u64) -> Result<Vec<f64>> {
        let (time_ms, length) = self.window(track, 0, length);
        let mut expression = format!("{function}({}[{length}ms])", self.selector(track));
        if track.is_histogram && function == "sum_over_time" {
            expression = format!("histogram_sum({expression})");
        }
        let elements = self.query(http, &expression, time_ms)?;
        let mut totals = vec![0.0; self.series_of(track)];
        for element in elements {
            let series = element["metric"]["series"].as_str().and_then(|text| text.parse::<usize>().ok());
            let total = element["value"][1].as_str().and_then(|text| text.parse().ok());
            let (Some(series), Some(total)) = (series, total) else {
                bail!("the answer has an element without series or value: {element}");
            };
            *totals.get_mut(series).with_context(|| format!("series {series} was never written"))? = total;
        }
        Ok(totals)
    }

    /// Asks for `expression` at a time.
    fn query(&self, http: &mut Connection, expression: &str, time_ms: i64) -> Result<Vec<Value>> {
        let target = format!(
            "/api/v1/query?query={}&time={}.{:03}",
            query_encoded(expression),
            time_ms.div_euclid(1000),
            time_ms.rem_euclid(1000)
        );
        let answer = http.get(&target).with_context(|| format!("cannot ask for {expression}"))?;
        if !answer.is_success() {
            bail!("the server answered {expression} with {}: {}", answer.status, answer.text());
        }
        let mut answer: Value = serde_json::from_slice(&answer.body).context("an answer is not JSON")?;
        match answer["data"]["result"].take() {
            Value::Array(elements) => Ok(elements),
            other => bail!("the answer to {expression} has the result {other}"),
        }
    }
}

/// Errors of a connection whose other side was killed.
fn is_broken_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    const SHAPE: Shape = Shape { series: 1, samples: 5 };

    /// What `check` finds in a server that answers its queries with these results, one after the other.
    fn verdict(results: &[&str], check: impl Fn(&Writer, &mut Connection) -> Result<Verdict>) -> Verdict {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                for result in results {
                    assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                    let body = format!("{{\"data\":{{\"result\":[{result}]}}}}");
                    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
                }
            });
            let writer = Writer {
                name: "w0".to_owned(),
                tracks: &TRACKS[..1],
                shape: SHAPE,
                first_ms: 1_000,
                acknowledged: 3,
                requests: 1,
                refused: 0,
            };
            check(&writer, &mut Connection::open(port).unwrap()).unwrap()
        })
    }

    #[test]
    fn totals_tell_lost_samples_from_wrong_ones() {
        let total = |total: u32| format!("{{\"metric\":{{\"series\":\"0\"}},\"value\":[1,\"{total}\"]}}");
        for ([count, sum, all], lost, wrong) in
            [([3, 3, 3], 0, 0), ([3, 3, 8], 0, 0), ([2, 3, 2], 1, 0), ([3, 4, 3], 0, 1), ([3, 3, 9], 0, 1)]
        {
            let results = [count, sum, all].map(total);
            let found = verdict(&results.each_ref().map(String::as_str), Writer::check_totals);
            assert_eq!(found, Verdict { lost, wrong }, "count {count}, sum {sum}, all {all}");
        }
        assert_eq!(verdict(&["", "", ""], Writer::check_totals), Verdict { lost: 3, wrong: 0 });
    }

    #[test]
    fn windows_hold_the_samples_they_name() {
        let writer = Writer { tracks: &TRACKS, ..Writer::new(0, SHAPE).unwrap() };
        let [rising, late, _] = &TRACKS;
        let first = writer.first_ms;
        // Left-open: (first - 1, first + 2] and (first - 3,000, first].
        assert_eq!(writer.window(rising, 0, 3), (first + 2, 3));
        assert_eq!(writer.window(late, 0, 3), (first, 3_000));
        assert_eq!(writer.window(late, 2, 3), (first - 2_000, 1_000));
    }

    #[test]
    fn single_samples_are_compared_by_time_and_value() {
        for (values, lost, wrong) in [
            (r#"[1,"0"],[1.001,"1"],[1.002,"2"]"#, 0, 0),
            (r#"[1,"0"],[1.001,"7"],[1.002,"2"]"#, 0, 1),
            (r#"[1,"0"],[1.001,"1"]"#, 1, 0),
            (r#"[1,"0"],[1.002,"2"]"#, 1, 1),
        ] {
            let found = verdict(&[&format!("{{\"values\":[{values}]}}")], Writer::check_each);
            assert_eq!(found, Verdict { lost, wrong }, "{values}");
        }
        assert_eq!(verdict(&[""], Writer::check_each), Verdict { lost: 3, wrong: 0 });
    }
}
