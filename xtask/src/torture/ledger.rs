//! What a writer sent, what was acknowledged, and whether the server still has it.
//!
//! A writer owns a few series. Sample `i` of each has the value `i` and lies `i` ms after the ledger's first one, so a
//! window over the acknowledged samples has a known count and a known sum, and every single value can be told from its
//! time. A request that was not acknowledged is sent again unchanged, as real senders do; until then the server may have
//! it or not.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::http::{Connection, query_encoded};
use super::remote_write::{HEADERS, PATH, Request};

const METRIC: &str = "torture_total";
/// The samples lie this far in the past, so that a long run does not reach the future.
const HEAD_START: Duration = Duration::from_hours(6);
/// Samples of one series in one answer when single values are compared.
const SLICE: u64 = 20_000;

#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Series of one writer.
    pub(super) series: usize,
    /// Samples of one series in one request.
    pub(super) samples: u64,
}

pub(super) struct Writer {
    name: String,
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
        Ok(Self { name: format!("w{number}"), shape, first_ms, acknowledged: 0, requests: 0, refused: 0 })
    }

    /// Samples of all series that were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged * self.shape.series as u64
    }

    /// Sends the next request. An answer that is neither success nor 503 is an error.
    pub(super) fn send(&mut self, http: &mut Connection) -> Result<Sent> {
        let mut request = Request::default();
        for series in 0..self.shape.series {
            let labels = [("__name__", METRIC), ("series", &series.to_string()), ("writer", &self.name)];
            let indexes = self.acknowledged..self.acknowledged + self.shape.samples;
            request.push_series(&labels, indexes.map(|index| (self.time_ms(index), index as f64)));
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

    fn time_ms(&self, index: u64) -> i64 {
        self.first_ms + index.cast_signed()
    }

    /// Holds count and sum of the acknowledged samples, and the count of all, against what was sent.
    pub(super) fn check_totals(&self, http: &mut Connection) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        if let Some(last) = self.acknowledged.checked_sub(1) {
            let counts = self.totals(http, "count_over_time", self.acknowledged, last)?;
            let sums = self.totals(http, "sum_over_time", self.acknowledged, last)?;
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
        for count in self.totals(http, "count_over_time", most * 2, most * 2 - 1)? {
            verdict.wrong += (count as u64).saturating_sub(most);
        }
        Ok(verdict)
    }

    /// Compares every acknowledged sample by itself.
    pub(super) fn check_each(&self, http: &mut Connection) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        let mut from = 0;
        while from < self.acknowledged {
            let until = self.acknowledged.min(from + SLICE);
            let window = format!("{}[{}ms]", self.selector(), until - from);
            let mut found = 0;
            for element in self.query(http, &window, until - 1)? {
                let samples = element["values"].as_array().context("a series has no values")?;
                for (index, sample) in (from..until).zip(samples) {
                    let time_ms = (sample[0].as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64;
                    let value: f64 = sample[1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
                    verdict.wrong += u64::from((time_ms, value) != (self.time_ms(index), index as f64));
                    found += 1;
                }
            }
            verdict.lost += ((until - from) * self.shape.series as u64).saturating_sub(found);
            from = until;
        }
        Ok(verdict)
    }

    fn selector(&self) -> String {
        format!("{METRIC}{{writer=\"{}\"}}", self.name)
    }

    /// `function` over the window of `length` ms that ends with sample `last`, per series; 0 for one that is absent.
    fn totals(&self, http: &mut Connection, function: &str, length: u64, last: u64) -> Result<Vec<f64>> {
        let elements = self.query(http, &format!("{function}({}[{length}ms])", self.selector()), last)?;
        let mut totals = vec![0.0; self.shape.series];
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

    /// Asks for `expression` at the time of sample `last`.
    fn query(&self, http: &mut Connection, expression: &str, last: u64) -> Result<Vec<Value>> {
        let time_ms = self.time_ms(last);
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
