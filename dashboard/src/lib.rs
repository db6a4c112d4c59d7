//! What people look at: the terminal over anything that answers PromQL.
//!
//! [`terminal`] asks a [`QueryBackend`](kymo_core::QueryBackend) and a
//! [`StatusSource`](kymo_core::status::StatusSource), so the same screen runs over a server, a data directory that is only
//! read, or one attached program. `kymo top` is the loop; `kymo query --plot` is one of its charts.
//!
//! ```
//! use kymo_core::query::{Grid, PointTimes, QueryResult, QueryValue, ResultSeries};
//! use kymo_dashboard::terminal::{Look, Palette, plot};
//!
//! let grid = Grid::Range { start_ms: 0, end_ms: 60_000, step_ms: 1_000 };
//! let times: Vec<i64> = (0..=60).map(|second| second * 1_000).collect();
//! let floats = (0..=60).map(f64::from).collect();
//! let labels = kymo_core::Labels::from_pairs([("__name__", "clock")]);
//! let series = ResultSeries { labels, times: PointTimes::Own(times), floats, histograms: Vec::new() };
//! let answered = QueryResult { value: QueryValue::Matrix(vec![series]), ..QueryResult::default() };
//! let look = Look { size: (60, 10), palette: Palette::None, unicode: false, log: false };
//! let text = plot("clock", grid, &answered, look);
//! assert!(text.lines().count() == 11 && text.contains("* clock"));
//! ```
//!
//! Deliberately absent: how answers come about (that is the backend's), and sockets (those are the program's).

pub mod terminal;
