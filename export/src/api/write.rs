//! Results as JSON, written straight from their columns.
//!
//! Room is made once per series from an upper bound of its text, so nothing is allocated per value. Two
//! things keep a range result cheap: the texts of a grid's times are made once for all series, and a
//! value equal to the one before it is copied instead of printed.

use std::ops::ControlFlow;

use kymo_core::query::{
    Annotations, Grid, GridPresence, PointTimes, QueryResult, QueryStats, QueryValue, ResultSeries,
};
use kymo_core::text::{FloatText, write_float_json, write_float_plain, write_timestamp_seconds, write_u64};
use kymo_core::{Labels, NativeHistogram};

use super::body::Answer;
use super::histogram::{histogram_bytes_max, write_histogram};
use crate::json::{ESCAPED_BYTES_MAX, write_string};
use crate::status::ApiError;

/// Most warnings, and most infos, in one answer; the rest is counted.
const ANNOTATIONS_MAX: usize = 10;
/// `[-9223372036854775.808,"-2.2250738585072014e-308"],` rounded up.
const POINT_BYTES_MAX: usize = 56;
/// Braces, keys and resultType around the data.
const FRAME_BYTES: usize = 256;
/// Points written between two looks whether anybody waits for them: below a millisecond's worth.
const POINTS_PER_CHECK: usize = 1 << 13;
/// `"metric":{`, `"values":[`, `"histograms":[` and their ends.
const SERIES_BYTES: usize = 64;

/// Writes the whole envelope of a query.
pub(crate) fn write_query(out: &mut Answer, result: &QueryResult) -> Result<(), ApiError> {
    out.reserve(FRAME_BYTES)?;
    out.bytes.extend_from_slice(br#"{"status":"success","data":{"resultType":""#);
    match &result.value {
        QueryValue::Scalar { time_ms, value } => {
            out.bytes.extend_from_slice(br#"scalar","result":["#);
            write_timestamp_seconds(&mut out.bytes, *time_ms);
            out.bytes.extend_from_slice(b",\"");
            write_float_json(&mut out.bytes, *value);
            out.bytes.extend_from_slice(b"\"]");
        }
        QueryValue::String { time_ms, value } => {
            out.reserve(FRAME_BYTES + value.len() * ESCAPED_BYTES_MAX)?;
            out.bytes.extend_from_slice(br#"string","result":["#);
            write_timestamp_seconds(&mut out.bytes, *time_ms);
            out.bytes.push(b',');
            write_string(&mut out.bytes, value);
            out.bytes.push(b']');
        }
        QueryValue::Vector(series) => {
            out.bytes.extend_from_slice(br#"vector","result":["#);
            write_list(out, series, write_vector_element)?;
            out.bytes.push(b']');
        }
        QueryValue::Matrix(series) => {
            out.bytes.extend_from_slice(br#"matrix","result":["#);
            let mut texts = PointTexts::default();
            write_list(out, series, |out, series| write_matrix_element(out, series, &mut texts))?;
            out.bytes.push(b']');
        }
    }
    if let Some(stats) = &result.stats {
        write_stats(out, stats)?;
    }
    if let Some(plan) = &result.plan {
        out.reserve(FRAME_BYTES)?;
        out.bytes.extend_from_slice(br#","explain":"#);
        super::plan::write_plan(out, plan)?;
    }
    out.reserve(FRAME_BYTES)?;
    out.bytes.push(b'}');
    write_end(out, &result.annotations)
}

/// Writes the envelope of a list; `write` appends one element.
pub(crate) fn write_data_list<T>(
    out: &mut Answer,
    items: &[T],
    annotations: &Annotations,
    write: impl FnMut(&mut Answer, &T) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    out.reserve(FRAME_BYTES)?;
    out.bytes.extend_from_slice(br#"{"status":"success","data":["#);
    write_list(out, items, write)?;
    out.bytes.push(b']');
    write_end(out, annotations)
}

/// Writes the envelope of a list of texts as `list` shows them; it gives the remarks on them.
pub(crate) fn write_data_texts(
    out: &mut Answer,
    list: impl FnOnce(&mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Annotations, ApiError>,
) -> Result<(), ApiError> {
    out.reserve(FRAME_BYTES)?;
    out.bytes.extend_from_slice(br#"{"status":"success","data":["#);
    let (mut outcome, mut is_first) = (Ok(()), true);
    let annotations = list(&mut |text| {
        if !std::mem::take(&mut is_first) {
            // Within the room that each text leaves.
            out.bytes.push(b',');
        }
        outcome = write_text(out, text);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome?;
    out.bytes.push(b']');
    write_end(out, &annotations)
}

/// Appends a string with room made for it.
pub(crate) fn write_text(out: &mut Answer, text: &str) -> Result<(), ApiError> {
    out.reserve(text.len() * ESCAPED_BYTES_MAX + FRAME_BYTES)?;
    write_string(&mut out.bytes, text);
    Ok(())
}

/// Appends a label set as an object.
pub(crate) fn write_labels(out: &mut Answer, labels: &Labels) -> Result<(), ApiError> {
    // Each byte of the packed form is at most one byte of text; quotes and commas take six per label.
    out.reserve(labels.as_ref().packed().len() * ESCAPED_BYTES_MAX + labels.len() * 6 + FRAME_BYTES)?;
    let mut separator = b'{';
    for (name, value) in labels.iter() {
        out.bytes.push(separator);
        separator = b',';
        write_string(&mut out.bytes, name);
        out.bytes.push(b':');
        write_string(&mut out.bytes, value);
    }
    if separator == b'{' {
        out.bytes.push(b'{');
    }
    out.bytes.push(b'}');
    Ok(())
}

/// Ends an envelope after its data: annotations and the last brace.
pub(crate) fn write_end(out: &mut Answer, annotations: &Annotations) -> Result<(), ApiError> {
    write_annotations(out, "warning", &annotations.warnings)?;
    write_annotations(out, "info", &annotations.infos)?;
    out.reserve(1)?;
    out.bytes.push(b'}');
    Ok(())
}

fn write_annotations(out: &mut Answer, kind: &str, texts: &[String]) -> Result<(), ApiError> {
    if texts.is_empty() {
        return Ok(());
    }
    out.reserve(FRAME_BYTES)?;
    out.bytes.extend_from_slice(b",\"");
    out.bytes.extend_from_slice(kind.as_bytes());
    out.bytes.extend_from_slice(b"s\":[");
    let (shown, omitted) = texts.split_at(texts.len().min(ANNOTATIONS_MAX));
    write_list(out, shown, |out, text| write_text(out, text))?;
    if !omitted.is_empty() {
        out.bytes.push(b',');
        write_text(out, &format!("{} more {kind} annotations omitted", omitted.len()))?;
    }
    out.bytes.push(b']');
    Ok(())
}

fn write_list<T>(
    out: &mut Answer,
    items: &[T],
    mut write: impl FnMut(&mut Answer, &T) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            out.reserve(1)?;
            out.bytes.push(b',');
        }
        write(out, item)?;
    }
    out.reserve(FRAME_BYTES)
}

fn write_vector_element(out: &mut Answer, series: &ResultSeries) -> Result<(), ApiError> {
    out.bytes.extend_from_slice(br#"{"metric":"#);
    write_labels(out, &series.labels)?;
    let time_ms = match &series.times {
        PointTimes::Grid(presence) => presence.times().next(),
        PointTimes::Own(times) => times.first().copied(),
    };
    let time_ms = time_ms.unwrap_or_default();
    if let Some((_, histogram)) = series.histograms.first() {
        out.reserve(SERIES_BYTES + POINT_BYTES_MAX + histogram_bytes_max(histogram))?;
        out.bytes.extend_from_slice(br#","histogram":"#);
        write_histogram_point(&mut out.bytes, time_ms, histogram);
    } else if let Some(value) = series.floats.first() {
        out.reserve(SERIES_BYTES + POINT_BYTES_MAX)?;
        out.bytes.extend_from_slice(br#","value":["#);
        write_timestamp_seconds(&mut out.bytes, time_ms);
        out.bytes.extend_from_slice(b",\"");
        write_float_json(&mut out.bytes, *value);
        out.bytes.extend_from_slice(b"\"]");
    }
    out.bytes.push(b'}');
    out.reserve(FRAME_BYTES)
}

fn write_matrix_element(out: &mut Answer, series: &ResultSeries, texts: &mut PointTexts) -> Result<(), ApiError> {
    out.bytes.extend_from_slice(br#"{"metric":"#);
    write_labels(out, &series.labels)?;
    if !series.floats.is_empty() {
        out.reserve(SERIES_BYTES + series.floats.len() * POINT_BYTES_MAX + Padded::BYTES)?;
        out.bytes.extend_from_slice(br#","values":["#);
        write_floats(out, series, texts)?;
        out.bytes.push(b']');
    }
    if !series.histograms.is_empty() {
        out.bytes.extend_from_slice(br#","histograms":["#);
        match &series.times {
            PointTimes::Grid(presence) => write_histograms(out, presence.times(), &series.histograms)?,
            PointTimes::Own(times) => write_histograms(out, times.iter().copied(), &series.histograms)?,
        }
        out.bytes.push(b']');
    }
    out.bytes.push(b'}');
    out.reserve(FRAME_BYTES)
}

/// Appends the float points of a series, commas between them.
fn write_floats(out: &mut Answer, series: &ResultSeries, texts: &mut PointTexts) -> Result<(), ApiError> {
    let floats = series.floats.iter().copied();
    match &series.times {
        PointTimes::Own(times) if series.histograms.is_empty() => {
            // A series of samples as they are may be very long.
            for (times, floats) in times.chunks(POINTS_PER_CHECK).zip(series.floats.chunks(POINTS_PER_CHECK)) {
                out.check()?;
                let mut points = FloatPoints::new(&mut out.bytes);
                texts.of_own(times).iter().zip(floats).for_each(|(start, value)| points.push(start, *value));
            }
        }
        PointTimes::Own(times) => {
            let mut points = FloatPoints::new(&mut out.bytes);
            for (time_ms, value) in float_times(times.iter().copied(), &series.histograms).zip(floats) {
                points.push(&Padded::point_start(time_ms), value);
            }
        }
        PointTimes::Grid(presence) => {
            let (starts, mut points) = (texts.of_grid(presence), FloatPoints::new(&mut out.bytes));
            let (start_ms, step_ms) = (presence.grid().start_ms(), presence.grid().step_ms());
            if series.histograms.is_empty() && presence.count() == starts.len() {
                starts.iter().zip(floats).for_each(|(start, value)| points.push(start, value));
            } else {
                for (time_ms, value) in float_times(presence.times(), &series.histograms).zip(floats) {
                    points.push(&starts[((time_ms - start_ms) / step_ms) as usize], value);
                }
            }
        }
    }
    // The comma after the last point.
    out.bytes.pop();
    Ok(())
}

/// The times whose points are floats: those whose number is not a histogram's.
fn float_times<'a>(
    times: impl Iterator<Item = i64> + 'a,
    histograms: &'a [(usize, NativeHistogram)],
) -> impl Iterator<Item = i64> + 'a {
    let mut histograms = histograms.iter().map(|(number, _)| *number).peekable();
    times.enumerate().filter_map(
        move |(number, time)| {
            if histograms.next_if_eq(&number).is_some() { None } else { Some(time) }
        },
    )
}

/// A short text, padded so that appending it is two moves of sixteen bytes whatever its length.
#[derive(Clone, Copy)]
struct Padded {
    bytes: [u8; Padded::BYTES],
    len: usize,
}

impl Padded {
    const BYTES: usize = 32;

    /// `[1700000000.123,"`, which every float point begins with.
    fn point_start(time_ms: i64) -> Padded {
        let mut text = Vec::with_capacity(Padded::BYTES);
        text.push(b'[');
        write_timestamp_seconds(&mut text, time_ms);
        text.extend_from_slice(b",\"");
        let mut bytes = [0; Padded::BYTES];
        bytes[..text.len()].copy_from_slice(&text);
        Padded { bytes, len: text.len() }
    }

    /// `1.5"],`, which every float point ends with, and a comma.
    fn point_end(value: f64) -> Padded {
        const END: &[u8] = b"\"],";
        let text = FloatText::json(value);
        let (&(mut bytes), len) = text.padded();
        bytes[len..len + END.len()].copy_from_slice(END);
        Padded { bytes, len: len + END.len() }
    }

    /// Appends the text, and leaves no trace of what stands behind it.
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.len;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

/// The beginnings of points, made once for all series on one grid, and for all neighbours with the same times.
#[derive(Default)]
struct PointTexts {
    grid: Option<Grid>,
    on_grid: Vec<Padded>,
    own_times: Vec<i64>,
    own: Vec<Padded>,
}

impl PointTexts {
    fn of_grid(&mut self, presence: &GridPresence) -> &[Padded] {
        let grid = presence.grid();
        if self.grid != Some(grid) {
            self.grid = Some(grid);
            self.on_grid.clear();
            self.on_grid.extend((0..grid.steps()).map(|step| Padded::point_start(grid.time_ms(step))));
        }
        &self.on_grid
    }

    /// Series of one target share their times; so do most neighbours in label order.
    fn of_own(&mut self, times: &[i64]) -> &[Padded] {
        if self.own_times != times {
            self.own_times.clear();
            self.own_times.extend_from_slice(times);
            self.own.clear();
            self.own.extend(times.iter().copied().map(Padded::point_start));
        }
        &self.own
    }
}

/// Appends float points, and remembers the last value's text.
struct FloatPoints<'a> {
    out: &'a mut Vec<u8>,
    /// Bits of the last value, and its text.
    last: Option<(u64, Padded)>,
}

impl FloatPoints<'_> {
    fn new(out: &mut Vec<u8>) -> FloatPoints<'_> {
        FloatPoints { out, last: None }
    }

    #[inline]
    fn push(&mut self, start: &Padded, value: f64) {
        start.append(self.out);
        match &self.last {
            Some((bits, text)) if *bits == value.to_bits() => text.append(self.out),
            _ => {
                let text = Padded::point_end(value);
                text.append(self.out);
                self.last = Some((value.to_bits(), text));
            }
        }
    }
}

fn write_histograms(
    out: &mut Answer,
    times: impl Iterator<Item = i64>,
    histograms: &[(usize, NativeHistogram)],
) -> Result<(), ApiError> {
    let mut numbered = times.enumerate();
    let mut separator = false;
    for (number, histogram) in histograms {
        let Some((_, time_ms)) = numbered.find(|(at, _)| at == number) else {
            break;
        };
        out.reserve(SERIES_BYTES + POINT_BYTES_MAX + histogram_bytes_max(histogram))?;
        if separator {
            out.bytes.push(b',');
        }
        separator = true;
        write_histogram_point(&mut out.bytes, time_ms, histogram);
    }
    out.reserve(FRAME_BYTES)
}

/// `[1700000000,{"count":…}]`
fn write_histogram_point(out: &mut Vec<u8>, time_ms: i64, histogram: &NativeHistogram) {
    out.push(b'[');
    write_timestamp_seconds(out, time_ms);
    out.push(b',');
    write_histogram(out, histogram);
    out.push(b']');
}

fn write_stats(out: &mut Answer, stats: &QueryStats) -> Result<(), ApiError> {
    out.reserve(2 * FRAME_BYTES + stats.samples_per_step.len() * POINT_BYTES_MAX)?;
    let bytes = &mut out.bytes;
    bytes.extend_from_slice(br#","stats":{"timings":{"evalTotalTime":"#);
    let parts = [
        ("", stats.eval_time),
        (r#","resultSortTime":"#, std::time::Duration::ZERO),
        (r#","queryPreparationTime":"#, stats.prepare_time),
        (r#","innerEvalTime":"#, stats.eval_time.saturating_sub(stats.prepare_time)),
        (r#","execQueueTime":"#, stats.total_time.saturating_sub(stats.eval_time)),
        (r#","execTotalTime":"#, stats.total_time),
    ];
    for (key, time) in parts {
        bytes.extend_from_slice(key.as_bytes());
        write_float_plain(bytes, time.as_secs_f64());
    }
    bytes.extend_from_slice(br#"},"samples":{"#);
    if !stats.samples_per_step.is_empty() {
        bytes.extend_from_slice(br#""totalQueryableSamplesPerStep":["#);
        for (number, (time_ms, samples)) in stats.samples_per_step.iter().enumerate() {
            bytes.extend_from_slice(if number == 0 { b"[" } else { b",[" });
            write_timestamp_seconds(bytes, *time_ms);
            bytes.push(b',');
            write_u64(bytes, *samples);
            bytes.push(b']');
        }
        bytes.extend_from_slice(b"],");
    }
    bytes.extend_from_slice(br#""totalQueryableSamples":"#);
    write_u64(bytes, stats.total_queryable_samples);
    bytes.extend_from_slice(br#","peakSamples":"#);
    write_u64(bytes, stats.peak_samples);
    bytes.extend_from_slice(b"}}");
    Ok(())
}
