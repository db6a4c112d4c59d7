//! Shared text forms: floats, durations, sizes, times, quoting, series text.
//!
//! One spelling of each for the whole house. What Prometheus' clients see is printed byte for byte
//! as Go prints it, because those clients compare text: `1e+06` in an expression, `1e-07` in a JSON
//! answer, `1h30m` in a rule.
//!
//! Writers append to a caller's `String` or `Vec<u8>` through [`TextSink`] and allocate nothing
//! else. Each form that is both written and read here keeps `parse(render(x)) == x`.
//!
//! Deliberately absent: wire formats (the exposition encoder, JSON envelopes) and PromQL's number
//! and duration expressions, which belong to the crates that speak them.

mod duration;
mod escape;
mod float;
mod label;
mod sink;
mod size;
mod time;

pub use duration::{
    DurationError, DurationText, parse_duration_ms, parse_duration_ns, parse_signed_duration_ns, write_duration_ms,
    write_go_duration,
};
pub use escape::{
    QuotedText, UnquoteError, UnquoteReason, unescape_label_value, unquote, unquote_prefix, write_escaped_help,
    write_escaped_label_value, write_quoted,
};
pub use float::{
    FloatError, FloatText, parse_exposition_float, parse_float, write_float_exponent, write_float_general,
    write_float_json, write_float_open_metrics, write_float_plain, write_i64, write_u64,
};
pub use label::{
    SeriesText, SeriesTextError, SeriesTextReason, is_legacy_label_name, is_legacy_metric_name, parse_series_text,
    write_label_name, write_series_text,
};
pub use sink::TextSink;
pub use size::{SizeError, parse_size, write_size, write_size_rounded};
pub use time::{TimeError, parse_rfc3339_ms, parse_time_ms, write_rfc3339, write_timestamp_seconds};
