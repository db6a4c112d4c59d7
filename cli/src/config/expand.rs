//! `${NAME}` in the file stands for the environment variable.
//!
//! Expanded in the text, before it is YAML, so that a value of any type can come from the environment. Left alone,
//! because `${…}` means something else or nothing there: comments, and the keys of relabel rules in which `${1}` and
//! `${name}` stand for groups of the expression. `$${NAME}` is written for a literal `${NAME}`.
//!
//! A value cannot change the structure of the file: inside quotes it is escaped, and outside of them it is refused if
//! it is more than a plain word of YAML. Quotes are followed within their line.

use super::fault::{Fault, Place};

/// Keys whose values are templates of their own.
const TEMPLATES: [&str; 4] = ["replacement", "regex", "target_label", "separator"];

/// The text with variables filled in; it has the lines of the original.
#[derive(Debug)]
pub(super) struct Expanded {
    pub(super) text: String,
    shifts: Vec<Shift>,
}

/// One variable filled in. Columns count characters from 1.
#[derive(Debug, Clone, Copy)]
struct Shift {
    line: u64,
    /// Column of the value in the expanded text.
    column: u64,
    value_chars: u64,
    written_chars: u64,
}

impl Expanded {
    /// Where in the original a place of the expanded text lies.
    pub(super) fn original(&self, place: Place) -> Place {
        let mut column = place.column;
        // Later shifts of the line are further right, so that each is undone in the text before it.
        for shift in self.shifts.iter().rev().filter(|shift| shift.line == place.line) {
            if shift.column >= column {
                continue;
            }
            let inside = column < shift.column + shift.value_chars;
            column = if inside { shift.column } else { column + shift.written_chars - shift.value_chars };
        }
        Place { column, ..place }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

/// Fills in all variables, or names those that cannot be.
pub(super) fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Expanded, Vec<Fault>> {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), shifts: Vec::new() };
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        expand_line(&mut expanded, line, number, &variable, &mut faults);
    }
    if faults.is_empty() { Ok(expanded) } else { Err(faults) }
}

fn expand_line(
    out: &mut Expanded,
    line: &str,
    number: u64,
    variable: &impl Fn(&str) -> Option<String>,
    faults: &mut Vec<Fault>,
) {
    let (mut quote, mut key) = (Quote::None, "");
    // Where in the line the last word began, and where in the output the line begins.
    let (mut word, line_start) = (0, out.text.len());
    let (mut at, mut before) = (0, ' ');
    while let Some(char) = line[at..].chars().next() {
        let rest = &line[at..];
        if quote == Quote::None && char == '#' && before.is_whitespace() {
            out.text.push_str(rest);
            return;
        }
        if let Some(name) = rest.strip_prefix('$').and_then(name_in_braces)
            && !TEMPLATES.contains(&key)
        {
            let written = name.len() + 3;
            if out.text.ends_with('$') && out.text.len() > line_start {
                // The dollar before says that this one is meant literally.
                out.text.pop();
                out.text.push_str(&rest[..written]);
            } else {
                let place = Place::new(number, chars(&line[..at]) + 1, written as u64);
                match value_of(name, quote, variable) {
                    Ok(value) => {
                        out.shifts.push(Shift {
                            line: number,
                            column: chars(&out.text[line_start..]) + 1,
                            value_chars: chars(&value),
                            written_chars: chars(&rest[..written]),
                        });
                        out.text.push_str(&value);
                    }
                    Err(fault) => faults.push(Fault { place: Some(place), ..fault }),
                }
            }
            (at, before) = (at + written, '}');
            continue;
        }
        match (quote, char) {
            (Quote::Double, '\\') => {
                let escaped = rest[1..].chars().next().map_or(0, char::len_utf8);
                out.text.push_str(&rest[..1 + escaped]);
                (at, before) = (at + 1 + escaped, 'x');
                continue;
            }
            (Quote::Double, '"') | (Quote::Single, '\'') => quote = Quote::None,
            (Quote::None, '"' | '\'') if opens(before) => {
                quote = if char == '"' { Quote::Double } else { Quote::Single };
                word = at;
            }
            (Quote::None, ':') if rest[1..].chars().next().is_none_or(char::is_whitespace) => {
                key = line[word..at].trim_matches(['"', '\'']);
            }
            (Quote::None, _) if opens(before) && !char.is_whitespace() => word = at,
            _ => {}
        }
        out.text.push(char);
        (at, before) = (at + char.len_utf8(), char);
    }
}

/// Whether what follows this character begins a new word.
fn opens(before: char) -> bool {
    before.is_whitespace() || matches!(before, '[' | '{' | ',')
}

/// The name in `{NAME}…`.
fn name_in_braces(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('{')?.split_once('}')?;
    let is_name = name.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
    is_name.then_some(name)
}

fn value_of(name: &str, quote: Quote, variable: &impl Fn(&str) -> Option<String>) -> Result<String, Fault> {
    let Some(value) = variable(name) else {
        let fault = Fault::new(format!("the environment variable {name} is not set"));
        return Err(fault.hint(format!("set it, or write $${{{name}}} if the text itself is meant")));
    };
    match quote {
        Quote::Double => Ok(value.chars().fold(String::new(), |mut text, char| {
            match char {
                '"' | '\\' => text.extend(['\\', char]),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                _ => text.push(char),
            }
            text
        })),
        Quote::Single if !value.contains(['\n', '\r']) => Ok(value.replace('\'', "''")),
        Quote::None if is_plain(&value) => Ok(value),
        _ => {
            Err(Fault::new(format!("the value of {name} needs double quotes here"))
                .hint(format!("write \"${{{name}}}\"")))
        }
    }
}

/// Whether a value in the place of a plain word stays one word.
fn is_plain(value: &str) -> bool {
    let starts = value.starts_with(|char: char| char.is_alphanumeric() || "/._+-(".contains(char));
    let splits = value.contains(['\n', '\r', ',', '[', ']', '{', '}', '"', '\'', '\\']);
    starts
        && !splits
        && !value.contains(": ")
        && !value.contains(" #")
        && !value.ends_with([':', ' '])
        && !value.starts_with("- ")
}

fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}
