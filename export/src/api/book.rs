//! Queries that run, the slowest of late, and the log of all.
//!
//! Every query of `query` and `query_range` has an entry from its arrival to its answer. While it is there it is shown by
//! `status/queries` and can be cancelled by its number; then it goes into the log, if there is one.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kymo_core::Clock;
use kymo_core::query::{Grid, QueryCost};
use kymo_core::storage::CancelFlag;
use kymo_core::text::write_rfc3339;
use serde_json::{Map, Value, json};

use super::queue::Client;

/// Most finished queries that are remembered.
const SLOWEST_MAX: usize = 20;
/// How long one is remembered.
const SLOWEST_AGE: Duration = Duration::from_secs(60 * 60);

/// Where queries are logged: a line of JSON for each. Clones share the file.
#[derive(Debug, Clone, Default)]
pub struct QueryLog(Arc<Mutex<Option<File>>>);

impl QueryLog {
    /// Logs to the end of this file from now on, created if it is not there; to none if none is named. A file that was moved
    /// away by a rotation is opened anew by naming it again.
    ///
    /// # Errors
    /// The file cannot be opened; then everything stays as it was.
    pub fn set_file(&self, path: Option<&Path>) -> io::Result<()> {
        let file = path.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn write(&self, line: &Value) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = file.as_mut() else { return };
        let mut line = line.to_string();
        line.push('\n');
        if let Err(error) = open.write_all(line.as_bytes()) {
            tracing::error!(%error, "the query log cannot be written and is given up until the next reload");
            *file = None;
        }
    }
}

/// What is known of a query when it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) text: String,
    pub(crate) grid: Grid,
    pub(crate) client: Client,
    pub(crate) path: &'static str,
}

/// All entries, shared by clones.
#[derive(Clone)]
pub(crate) struct QueryBook(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    log: QueryLog,
    /// Held for a few steps only.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    running: BTreeMap<u64, Running>,
    /// The slowest first.
    slowest: Vec<Finished>,
}

struct Running {
    asked: Asked,
    began_ms: i64,
    began: Duration,
    /// When it got a place.
    started: Option<Duration>,
    cancel: CancelFlag,
}

struct Finished {
    asked: Asked,
    id: u64,
    began_ms: i64,
    ended: Duration,
    took: Duration,
    waited: Duration,
    cost: QueryCost,
    error: Option<String>,
}

/// An entry; dropping it without an end means that the client went away.
pub(crate) struct Entry {
    book: QueryBook,
    id: u64,
    ended: bool,
}

impl QueryBook {
    pub(crate) fn new(clock: Arc<dyn Clock>, log: QueryLog) -> QueryBook {
        QueryBook(Arc::new(Shared { clock, log, state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A query has arrived; `cancel` ends it.
    pub(crate) fn begin(&self, asked: Asked, cancel: CancelFlag) -> Entry {
        let (began_ms, began) = (self.0.clock.now_ms(), self.0.clock.monotonic());
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        state.running.insert(id, Running { asked, began_ms, began, started: None, cancel });
        Entry { book: self.clone(), id, ended: false }
    }

    /// Ends a query; says whether there is one of this number.
    pub(crate) fn cancel(&self, id: u64) -> bool {
        let state = self.state();
        let found = state.running.get(&id);
        found.inspect(|running| running.cancel.cancel());
        found.is_some()
    }

    fn end(&self, id: u64, cost: QueryCost, error: Option<String>) {
        let now = self.0.clock.monotonic();
        let Some(running) = self.state().running.remove(&id) else { return };
        let Running { asked, began_ms, began, started, .. } = running;
        let took = now.saturating_sub(began);
        let waited = started.unwrap_or(now).saturating_sub(began);
        let finished = Finished { asked, id, began_ms, ended: now, took, waited, cost, error };
        if self.0.log.is_open() {
            self.0.log.write(&finished.log_line());
        }
        let mut state = self.state();
        state.slowest.retain(|slow| now.saturating_sub(slow.ended) < SLOWEST_AGE);
        let at = state.slowest.partition_point(|slow| slow.took >= took);
        if at < SLOWEST_MAX {
            state.slowest.insert(at, finished);
            state.slowest.truncate(SLOWEST_MAX);
        }
    }

    /// For `status/queries`.
    pub(crate) fn shown(&self) -> (Vec<Value>, Vec<Value>) {
        let now = self.0.clock.monotonic();
        let state = self.state();
        let running = state.running.iter().map(|(id, running)| {
            let mut shown = query_json(&running.asked);
            shown.insert("id".to_owned(), json!(id));
            shown.insert("since".to_owned(), json!(time_text(running.began_ms)));
            shown.insert("seconds".to_owned(), json!(now.saturating_sub(running.began).as_secs_f64()));
            let is_running = running.started.is_some();
            shown.insert("state".to_owned(), json!(if is_running { "running" } else { "waiting" }));
            Value::Object(shown)
        });
        let slowest = state.slowest.iter().filter(|slow| now.saturating_sub(slow.ended) < SLOWEST_AGE).map(|slow| {
            let mut shown = query_json(&slow.asked);
            shown.insert("id".to_owned(), json!(slow.id));
            shown.insert("since".to_owned(), json!(time_text(slow.began_ms)));
            shown.insert("seconds".to_owned(), json!(slow.took.as_secs_f64()));
            shown.insert("cost".to_owned(), slow.cost_json());
            if let Some(error) = &slow.error {
                shown.insert("error".to_owned(), json!(error));
            }
            Value::Object(shown)
        });
        (running.collect(), slowest.collect())
    }
}

impl Entry {
    /// It has a place now.
    pub(crate) fn started(&self) {
        let now = self.book.0.clock.monotonic();
        if let Some(running) = self.book.state().running.get_mut(&self.id) {
            running.started = Some(now);
        }
    }

    /// It was answered, or refused with `error`.
    pub(crate) fn ended(mut self, cost: QueryCost, error: Option<String>) {
        self.ended = true;
        self.book.end(self.id, cost, error);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.ended {
            self.book.end(self.id, QueryCost::default(), Some("the client went away".to_owned()));
        }
    }
}

impl Finished {
    fn cost_json(&self) -> Value {
        let QueryCost { time, series, samples, bytes, memory_bytes, steps_reused, nodes_shared } = self.cost;
        json!({
            "seconds": self.took.as_secs_f64(),
            "waitSeconds": self.waited.as_secs_f64(),
            "evalSeconds": time.as_secs_f64(),
            "series": series,
            "samples": samples,
            "bytes": bytes,
            "memoryBytes": memory_bytes,
            "stepsReused": steps_reused,
            "nodesShared": nodes_shared,
        })
    }

    /// Keys that Prometheus' query log has mean the same here.
    fn log_line(&self) -> Value {
        let mut shown = query_json(&self.asked);
        let client = shown.remove("client").unwrap_or_default();
        let mut line = json!({
            "ts": time_text(self.began_ms),
            "id": self.id,
            "params": shown,
            "httpRequest": {"clientIP": client, "path": self.asked.path},
            "cost": self.cost_json(),
        });
        if let Some(error) = &self.error {
            line["error"] = json!(error);
        }
        line
    }
}

fn time_text(time_ms: i64) -> String {
    let mut text = String::new();
    write_rfc3339(&mut text, time_ms);
    text
}

fn query_json(asked: &Asked) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("query".to_owned(), json!(asked.text));
    shown.insert("start".to_owned(), json!(time_text(asked.grid.start_ms())));
    let (end_ms, step_ms) = match asked.grid {
        Grid::Instant { at_ms } => (at_ms, 0),
        Grid::Range { end_ms, step_ms, .. } => (end_ms, step_ms),
    };
    shown.insert("end".to_owned(), json!(time_text(end_ms)));
    shown.insert("step".to_owned(), json!(step_ms as f64 / 1000.0));
    shown.insert("client".to_owned(), json!(asked.client.map(|client| client.to_string()).unwrap_or_default()));
    shown
}

#[cfg(test)]
mod tests {
    use kymo_core::ManualClock;

    use super::*;

    fn asked(text: &str) -> Asked {
        let grid = Grid::Range { start_ms: 1_000, end_ms: 61_500, step_ms: 500 };
        Asked { text: text.to_owned(), grid, client: Some([127, 0, 0, 1].into()), path: "/api/v1/query_range" }
    }

    #[test]
    fn a_query_is_shown_while_it_runs_and_can_be_cancelled_by_its_number() {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let book = QueryBook::new(clock.clone(), QueryLog::default());
        let cancel = CancelFlag::default();
        let entry = book.begin(asked("up"), cancel.clone());
        clock.advance(Duration::from_millis(250));
        let (running, slowest) = book.shown();
        let wanted = json!({
            "id": 1, "query": "up", "start": "1970-01-01T00:00:01Z", "end": "1970-01-01T00:01:01.5Z", "step": 0.5,
            "client": "127.0.0.1", "since": "2023-11-14T22:13:20Z", "seconds": 0.25, "state": "waiting",
        });
        assert_eq!((running, slowest), (vec![wanted], vec![]));
        entry.started();
        assert_eq!(book.shown().0[0]["state"], "running");
        assert!(book.cancel(1) && cancel.is_cancelled() && !book.cancel(2));
        entry.ended(QueryCost::default(), Some("query was canceled".to_owned()));
        let (running, slowest) = book.shown();
        assert!(running.is_empty() && slowest[0]["error"] == "query was canceled", "{slowest:?}");
    }

    #[test]
    fn the_slowest_of_the_last_hour_are_kept() {
        let clock = Arc::new(ManualClock::at(0));
        let book = QueryBook::new(clock.clone(), QueryLog::default());
        for seconds in 1..=30u64 {
            let entry = book.begin(asked(&seconds.to_string()), CancelFlag::default());
            clock.advance(Duration::from_secs(seconds));
            entry.ended(QueryCost::default(), None);
        }
        let texts = |shown: Vec<Value>| -> Vec<String> {
            shown.iter().map(|query| query["query"].as_str().unwrap().to_owned()).collect()
        };
        let slowest = texts(book.shown().1);
        assert_eq!((slowest.len(), &*slowest[0], &*slowest[19]), (SLOWEST_MAX, "30", "11"));
        clock.advance(SLOWEST_AGE);
        assert!(book.shown().1.is_empty());
    }

    #[test]
    fn every_query_is_a_line_of_the_log() {
        let folder = std::env::temp_dir().join(format!("kymo-query-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("queries.log");
        let log = QueryLog::default();
        let book = QueryBook::new(Arc::new(ManualClock::at(0)), log.clone());
        book.begin(asked("unheard"), CancelFlag::default()).ended(QueryCost::default(), None);
        log.set_file(Some(&path)).unwrap();
        let cost = QueryCost { samples: 7, ..QueryCost::default() };
        book.begin(asked("up"), CancelFlag::default()).ended(cost, None);
        drop(book.begin(asked("gone"), CancelFlag::default()));
        log.set_file(None).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!((&lines[0]["params"]["query"], &lines[0]["cost"]["samples"]), (&json!("up"), &json!(7)));
        assert_eq!(lines[0]["httpRequest"], json!({"clientIP": "127.0.0.1", "path": "/api/v1/query_range"}));
        assert_eq!(lines[1]["error"], "the client went away");
    }
}
