//! What happened when: processes that started, targets that went down or came back, and what the person noted.
//!
//! All charts of a view show the same marks, so they are asked for once, and less often than values.

use kymo_core::query::{PointValue, QueryRequest, QueryResult};

use super::ask::Ask;
use super::chart::Mark;
use super::result::series_of;
use super::settings::{Note, Settings};
use super::span::Span;

/// How old the events may become while a chart is visible.
pub(super) const AGE_MS: i64 = 10_000;
/// Marks on a chart at most, the newest; more could not be told apart.
const MARKS_MAX: usize = 40;
/// What is closer than this share of the span is one mark.
const CLOSE: i64 = 60;

/// Asks for what happened in a span. Starts are told by the value, turns by a value other than a step before.
pub(super) fn ask(span: &Span, now_ms: i64) -> Ask {
    let (start, _) = span.range(now_ms);
    let text = format!(
        "label_replace(process_start_time_seconds >= {}, \"event\", \"start\", \"\", \"\") \
         or label_replace(up != (up offset {}s), \"event\", \"turn\", \"\", \"\")",
        start / 1_000,
        span.step_ms() / 1_000,
    );
    Ask::Query(QueryRequest::new(text, span.grid(now_ms, 0)))
}

/// What an answer to [`ask`] tells: moments and words, by time.
pub(super) fn events(answered: &QueryResult) -> Vec<Mark> {
    let mut marks = Vec::new();
    for one in series_of(answered) {
        let job = one.labels.get("job").unwrap_or("a process");
        let is_start = one.labels.get("event") == Some("start");
        for (time, value) in one.points() {
            let PointValue::Float(value) = value else { continue };
            let (time_ms, what) = match value {
                _ if is_start => ((value * 1e3) as i64, "started"),
                0.0 => (time, "down"),
                _ => (time, "up"),
            };
            marks.push(Mark { time_ms, text: format!("{job} {what}") });
        }
    }
    // A process that started is told at each step anew.
    marks.sort_by(|a, b| (a.time_ms, &a.text).cmp(&(b.time_ms, &b.text)));
    marks.dedup();
    marks
}

/// Events and notes of a span, those that lie together as one.
pub(super) fn shown(events: &[Mark], settings: &Settings, now_ms: i64) -> Vec<Mark> {
    let (start, end) = settings.span.range(now_ms);
    let notes = settings.notes.iter().map(|Note { time_ms, text }| Mark { time_ms: *time_ms, text: text.clone() });
    let mut all: Vec<Mark> =
        events.iter().cloned().chain(notes).filter(|mark| (start..=end).contains(&mark.time_ms)).collect();
    all.sort_by_key(|mark| mark.time_ms);
    let mut merged: Vec<(Mark, usize)> = Vec::new();
    for mark in all {
        match merged.last_mut() {
            Some((last, others)) if mark.time_ms - last.time_ms < (end - start) / CLOSE => *others += 1,
            _ => merged.push((mark, 0)),
        }
    }
    let first = merged.len().saturating_sub(MARKS_MAX);
    let named = merged.into_iter().skip(first).map(|(mark, others)| match others {
        0 => mark,
        others => Mark { text: format!("{} +{others}", mark.text), ..mark },
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use kymo_core::Labels;
    use kymo_core::query::{PointTimes, QueryValue, ResultSeries};

    use super::*;

    const NOW: i64 = 1_700_000_100_000;

    fn series(job: &str, event: &str, points: &[(i64, f64)]) -> ResultSeries {
        ResultSeries {
            labels: Labels::from_pairs([("event", event), ("job", job)]),
            times: PointTimes::Own(points.iter().map(|(time, _)| *time).collect()),
            floats: points.iter().map(|(_, value)| *value).collect(),
            histograms: Vec::new(),
        }
    }

    #[test]
    fn starts_are_told_once_and_turns_by_their_direction() {
        let began = (NOW / 1_000 - 300) as f64 + 0.25;
        let list = vec![
            series("shop", "start", &[(NOW - 10_000, began), (NOW - 5_000, began), (NOW, began)]),
            series("node", "turn", &[(NOW - 60_000, 0.0), (NOW - 30_000, 1.0)]),
        ];
        let answered = QueryResult { value: QueryValue::Matrix(list), ..QueryResult::default() };
        let found: Vec<_> = events(&answered).into_iter().map(|mark| (NOW - mark.time_ms, mark.text)).collect();
        let expected = [(299_750, "shop started"), (60_000, "node down"), (30_000, "node up")];
        assert_eq!(found, expected.map(|(ago, text)| (ago, text.to_owned())));
    }

    #[test]
    fn notes_join_events_and_what_lies_together_is_one_mark() {
        let mark = |ago: i64, text: &str| Mark { time_ms: NOW - ago, text: text.to_owned() };
        let note = |ago: i64, text: &str| Note { time_ms: NOW - ago, text: text.to_owned() };
        let settings =
            Settings { notes: vec![note(120_000, "deployed"), note(86_400_000, "long ago")], ..Settings::default() };
        let events = [mark(600_000, "shop started"), mark(599_000, "node started"), mark(598_000, "vm started")];
        let shown = shown(&events, &settings, NOW);
        assert_eq!(shown, [mark(600_000, "shop started +2"), mark(120_000, "deployed")]);
    }
}
