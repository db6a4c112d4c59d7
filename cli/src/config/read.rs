//! From text to [`ConfigFile`], and from the YAML reader's errors to faults.
//!
//! The reader stops at the first error. So that a file can be mended in one go, the entry it stopped at is blanked out
//! and the rest is read again, as long as that brings something new to light.

use serde_saphyr::{DefaultMessageFormatter, Error, MessageFormatter};

use super::expand::{Expanded, expand};
use super::fault::{Fault, Place};
use super::file::ConfigFile;

/// Most faults told at once.
const FAULTS_MAX: usize = 20;
/// Words less alike than this are no slip of the pen (Jaro–Winkler, 1 for equal ones).
const ALIKE_MIN: f64 = 0.8;

/// Reads a file; `variable` is the environment.
///
/// # Errors
/// Its faults, at places of `written`.
pub(super) fn read(written: &str, variable: impl Fn(&str) -> Option<String>) -> Result<ConfigFile, Vec<Fault>> {
    let expanded = expand(written, variable)?;
    let mut lines: Vec<&str> = expanded.text.split('\n').collect();
    let mut faults: Vec<Fault> = Vec::new();
    loop {
        let error = match parse(&lines.join("\n")) {
            Ok(file) if faults.is_empty() => return Ok(file),
            Ok(_) => return Err(faults),
            Err(error) => error,
        };
        let fault = fault(&error, &expanded);
        let at = line(&fault);
        // What blanking brought about is not the author's fault.
        if faults.iter().any(|known| line(known) == at) {
            // A list's item of which nothing is left is no item.
            if at.is_some_and(|line| blank_item(&mut lines, line)) {
                continue;
            }
            return Err(faults);
        }
        if !faults.is_empty() && !is_about_a_value(&error) {
            return Err(faults);
        }
        faults.push(fault);
        if faults.len() == FAULTS_MAX || !at.is_some_and(|line| blank(&mut lines, line)) {
            return Err(faults);
        }
    }
}

fn parse(text: &str) -> Result<ConfigFile, Error> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options::<Option<ConfigFile>>(text, options).map(Option::unwrap_or_default)
}

fn line(fault: &Fault) -> Option<u64> {
    fault.place.map(|place| place.line)
}

fn fault(error: &Error, expanded: &Expanded) -> Fault {
    let error = error.without_snippet();
    let place = error.location().map(|location| expanded.original(Place::of(&location)));
    let fault = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let fault = Fault::new(format!("unknown key {field:?}"));
            match nearest(field, expected) {
                Some(known) => fault.hint(format!("did you mean {known:?}?")),
                None => fault.hint(format!("expected one of {}", expected.join(", "))),
            }
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            let fault = Fault::new(format!("unknown value {variant:?}"));
            fault.hint(format!("expected one of {}", expected.join(", ")))
        }
        other => {
            let message = DefaultMessageFormatter.format_message(other).into_owned();
            // The place is told on its own.
            Fault::new(match message.rfind(" at line ") {
                Some(at) => message[..at].to_owned(),
                None => message,
            })
        }
    };
    Fault { place, ..fault }
}

/// Whether a single entry is wrong, and the rest can be read without it.
fn is_about_a_value(error: &Error) -> bool {
    !matches!(
        error.without_snippet(),
        Error::Eof { .. }
            | Error::MultipleDocuments { .. }
            | Error::UnknownAnchor { .. }
            | Error::ContainerEndMismatch { .. }
            | Error::ExternalMessage { .. }
    )
}

/// The known key that was probably meant.
fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = known.iter().map(|known| (strsim::jaro_winkler(written, known), *known));
    let (best, known) = alike.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best >= ALIKE_MIN).then_some(known)
}

/// Takes the entry (`key: value`) that begins at this line, counted from 1, out of a file in block style, with the
/// lines below that belong to it; says whether there was one.
fn blank(lines: &mut [&str], number: u64) -> bool {
    let Some(first) = usize::try_from(number).ok().and_then(|number| number.checked_sub(1)) else { return false };
    let Some(line) = lines.get(first).copied() else { return false };
    let mut entry = line.trim_start();
    while let Some(item) = entry.strip_prefix("- ") {
        entry = item.trim_start();
    }
    if !entry.contains(':') || entry.starts_with(['#', '{', '[']) {
        return false;
    }
    let indent = line.len() - entry.len();
    lines[first] = &line[..indent];
    for below in &mut lines[first + 1..] {
        let content = below.trim_start();
        let below_indent = below.len() - content.len();
        let belongs =
            content.is_empty() || below_indent > indent || below_indent == indent && content.starts_with("- ");
        if !belongs {
            break;
        }
        *below = "";
    }
    true
}

/// Takes the dash of an empty item out of a list; says whether there was one.
fn blank_item(lines: &mut [&str], number: u64) -> bool {
    let first = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    let Some(line) = first.and_then(|first| lines.get_mut(first)) else { return false };
    let is_item = !line.trim().is_empty() && line.chars().all(|char| char == '-' || char.is_whitespace());
    if is_item {
        *line = "";
    }
    is_item
}
