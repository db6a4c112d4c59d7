//! Labels in braces: finding their end, and reading them.

use kymo_core::text::{FloatText, parse_float, unescape_label_value};
use kymo_core::{FamilyType, LabelsBuilder, METRIC_NAME};

use super::error::{ExpositionError, Fault};
use super::scan::{Newlines, Scan};

/// By whose rules labels are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// Blanks between any two tokens, newlines in values, commas where one likes.
    Text,
    /// None of that.
    OpenMetrics,
    /// As OpenMetrics, and no name of a metric.
    Exemplar,
}

/// Byte offsets of something between two quotes, or of a bare name.
type Range = (usize, usize);

/// What stands between braces.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// The metric's name.
    Name(Range),
    /// A label's name and value.
    Label(Range, Range),
}

/// Reads labels up to the closing brace, the opening one being read. `named` says whether the metric has a name, before
/// and after.
#[inline]
pub(super) fn scan_labels(
    scan: &mut Scan<'_>,
    rules: Rules,
    named: &mut bool,
    mut each: impl FnMut(Part),
) -> Result<(), Fault> {
    let blanks = |scan: &mut Scan<'_>| {
        if rules == Rules::Text {
            scan.skip_blanks();
        }
    };
    let in_names = if rules == Rules::Exemplar { Newlines::Refused } else { Newlines::Allowed };
    let in_values = if rules == Rules::Text { Newlines::Allowed } else { Newlines::Refused };
    loop {
        blanks(scan);
        if scan.take(b'}') {
            return Ok(());
        }
        let start = scan.at;
        let quoted = scan.quoted(in_names);
        let name = match quoted {
            Some(name) => name,
            None if scan.label_name() => (start, scan.at),
            None => return Err(Fault::LabelName),
        };
        if quoted.is_some() {
            scan.check_utf8(name.0, name.1, "label name")?;
        }
        blanks(scan);
        if quoted.is_some() && matches!(scan.peek(), Some(b',' | b'}')) {
            if rules == Rules::Exemplar {
                return Err(Fault::LabelName);
            }
            if *named {
                return Err(Fault::NameTwice);
            }
            *named = true;
            each(Part::Name(name));
            scan.take(b',');
            continue;
        }
        if !scan.take(b'=') {
            return Err(Fault::Equal);
        }
        blanks(scan);
        let value = scan.quoted(in_values).ok_or(Fault::LabelValue)?;
        scan.check_utf8(value.0, value.1, "label value")?;
        each(Part::Label(name, value));
        blanks(scan);
        if !scan.take(b',') && rules != Rules::Text && scan.peek() != Some(b'}') {
            return Err(Fault::LabelEnd);
        }
    }
}

/// Reads the labels of a series' text, as a [`Sample`](super::Sample) carries it, into `builder`, which is cleared first.
/// The name becomes `__name__`; duplicates are found when the builder builds.
///
/// Values of `le` in histograms and of `quantile` in summaries are written as OpenMetrics does (`1` becomes `1.0`), so that
/// a series is the same one whichever format it came by.
///
/// # Errors
/// [`ExpositionError`] for a text that no parser gave.
pub fn push_labels(series: &[u8], family_type: FamilyType, builder: &mut LabelsBuilder) -> Result<(), ExpositionError> {
    builder.clear();
    let mut scan = Scan::accepted(series);
    let mut named = scan.metric_name();
    let bare_len = scan.at;
    let bound = match family_type {
        FamilyType::Histogram => "le",
        FamilyType::Summary => "quantile",
        _ => "",
    };
    let fault = (|| {
        if named {
            builder.push(METRIC_NAME, scan.text(0, bare_len, "metric name")?);
        }
        scan.skip_blanks();
        if scan.take(b'{') {
            push_parts(&mut scan, Rules::Text, &mut named, bound, builder)?;
        }
        match named {
            true if scan.rest().is_empty() => Ok(()),
            true => Err(Fault::Value { after: "metric" }),
            false => Err(Fault::NameMissing),
        }
    })();
    fault.map_err(|fault| scan.error(fault))
}

/// Reads the labels of an [`Exemplar`](super::Exemplar) into `builder`, which is cleared first.
///
/// # Errors
/// [`ExpositionError`] for a text that no parser gave.
pub fn push_exemplar_labels(labels: &[u8], builder: &mut LabelsBuilder) -> Result<(), ExpositionError> {
    builder.clear();
    let mut scan = Scan::accepted(labels);
    let fault = match scan.take(b'{') {
        true => push_parts(&mut scan, Rules::Exemplar, &mut false, "", builder),
        false => Err(Fault::LabelName),
    };
    fault.map_err(|fault| scan.error(fault))
}

fn push_parts(
    scan: &mut Scan<'_>,
    rules: Rules,
    named: &mut bool,
    bound: &str,
    builder: &mut LabelsBuilder,
) -> Result<(), Fault> {
    let whole = Scan::accepted(scan.bytes);
    let mut bad = None;
    scan_labels(scan, rules, named, |part| {
        let pushed = match part {
            Part::Name(name) => whole
                .text(name.0, name.1, "metric name")
                .map(|name| builder.push(METRIC_NAME, &unescape_label_value(name))),
            Part::Label(name, value) => push_label(&whole, name, value, bound, builder),
        };
        if let Err(fault) = pushed {
            bad.get_or_insert(fault);
        }
    })?;
    bad.map_or(Ok(()), Err)
}

fn push_label(
    scan: &Scan<'_>,
    name: Range,
    value: Range,
    bound: &str,
    builder: &mut LabelsBuilder,
) -> Result<(), Fault> {
    let name = unescape_label_value(scan.text(name.0, name.1, "label name")?);
    let value = unescape_label_value(scan.text(value.0, value.1, "label value")?);
    match parse_float(&value) {
        Ok(number) if !bound.is_empty() && name == bound => {
            builder.push(&name, FloatText::open_metrics(number).as_str());
        }
        _ => builder.push(&name, &value),
    }
    Ok(())
}
