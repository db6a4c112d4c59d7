//! Exemplars: which trace an observation belongs to.

use kymo_core::{Exemplar, LabelsBuilder};

use super::message;
use super::name::Unnameable;
use super::translate::millis;
use super::value;

/// Most characters of an exemplar's labels, as OpenMetrics has it. Attributes beyond it are left out, ids never.
const LABEL_CHARS_MAX: usize = 128;
const TRACE_ID_BYTES: usize = 16;
const SPAN_ID_BYTES: usize = 8;

/// The observed value.
pub(super) fn value(sent: &message::Exemplar) -> Option<f64> {
    sent.as_double.or(sent.as_int.map(|value| value as f64))
}

/// The exemplar as it is stored; `None` if it has no value. `time_ms` is used where it has no time.
pub(super) fn translate(
    sent: &message::Exemplar,
    time_ms: i64,
    label_name: impl Fn(&str) -> Result<String, Unnameable>,
) -> Option<Exemplar> {
    let mut labels = LabelsBuilder::new();
    let mut chars = 0;
    for (name, id, len) in [("trace_id", &sent.trace_id, TRACE_ID_BYTES), ("span_id", &sent.span_id, SPAN_ID_BYTES)] {
        // All zero means unset; another length is no id.
        if id.len() == len && id.iter().any(|byte| *byte != 0) {
            let text: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            chars += name.len() + text.len();
            labels.set(name, &text);
        }
    }
    let attributes: Vec<(String, String)> = sent
        .filtered_attributes
        .iter()
        .filter_map(|pair| Some((label_name(&pair.key).ok()?, pair.value.as_ref().map(value::text)?)))
        .collect();
    chars += attributes.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum::<usize>();
    if chars <= LABEL_CHARS_MAX {
        for (name, value) in &attributes {
            // An attribute called like an id is not one.
            if labels.get(name).is_none() {
                labels.set(name, value);
            }
        }
    }
    let time_ms = if sent.time_unix_nano == 0 { time_ms } else { millis(sent.time_unix_nano) };
    Some(Exemplar { labels: labels.labels(), value: value(sent)?, time_ms })
}
