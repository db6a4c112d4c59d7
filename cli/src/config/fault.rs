//! What is wrong with a file, and where.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// A place in the file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
    /// Length in characters, 0 if it is not known.
    pub(super) chars: u64,
}

impl Place {
    pub(super) fn new(line: u64, column: u64, chars: u64) -> Place {
        Place { line, column, chars }
    }

    pub(super) fn of(location: &serde_saphyr::Location) -> Place {
        Place::new(location.line(), location.column(), 0)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: Option<Place>,
    pub(super) message: String,
    /// What to write instead.
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Fault {
        Fault { place: None, message: message.into(), hint: None }
    }

    pub(super) fn at(place: Place, message: impl Into<String>) -> Fault {
        Fault { place: Some(place), ..Fault::new(message) }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Fault {
        Fault { hint: Some(hint.into()), ..self }
    }
}

/// Everything that is wrong with a file. At least one fault.
#[derive(Debug)]
pub struct Faults {
    path: PathBuf,
    /// As written: what variables stand for is not shown.
    text: String,
    faults: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(path: &Path, text: String, mut faults: Vec<Fault>) -> Faults {
        faults.sort_by_key(|fault| fault.place.map(|place| (place.line, place.column)));
        Faults { path: path.to_owned(), text, faults }
    }

    /// A file that could not even be read.
    pub(super) fn unread(path: &Path, message: String) -> Faults {
        Faults::new(path, String::new(), vec![Fault::new(format!("cannot read the file: {message}"))])
    }

    pub fn count(&self) -> usize {
        self.faults.len()
    }

    /// `FILE:LINE:COLUMN: message; hint`, a line each.
    pub fn lines(&self) -> String {
        let lines = self.faults.iter().map(|fault| {
            let mut line = self.path.display().to_string();
            if let Some(place) = fault.place {
                // Writing to a String cannot fail.
                let _ = write!(line, ":{}:{}", place.line, place.column);
            }
            let _ = write!(line, ": {}", fault.message);
            if let Some(hint) = &fault.hint {
                let _ = write!(line, "; {hint}");
            }
            line
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// For a person: each fault with the piece of the file that it lies in.
    pub fn framed(&self) -> String {
        let path = self.path.display().to_string();
        let frames = self.faults.iter().map(|fault| {
            let title = Level::ERROR.primary_title(&*fault.message);
            let group = match fault.place {
                Some(place) => {
                    let span = span(&self.text, place);
                    let snippet = Snippet::source(&*self.text).path(&*path);
                    title.element(snippet.annotation(AnnotationKind::Primary.span(span)))
                }
                None => title.element(Level::NOTE.message(&*path)),
            };
            let group = match &fault.hint {
                Some(hint) => group.element(Level::HELP.message(&**hint)),
                None => group,
            };
            Renderer::styled().render(&[group])
        });
        frames.collect::<Vec<_>>().join("\n\n")
    }
}

/// The bytes of a place: as long as it says, else to the end of the word.
fn span(text: &str, place: Place) -> std::ops::Range<usize> {
    let lines = usize::try_from(place.line).unwrap_or(usize::MAX).saturating_sub(1);
    let line_start: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
    let line = text[line_start..].lines().next().unwrap_or_default();
    let mut starts = line.char_indices().map(|(at, _)| at);
    let column = usize::try_from(place.column).unwrap_or(usize::MAX).saturating_sub(1);
    let start = starts.nth(column).unwrap_or(line.len());
    let rest = &line[start..];
    let len = match usize::try_from(place.chars) {
        Ok(0) | Err(_) => rest.find(|char: char| char.is_whitespace() || ":,]}#".contains(char)).unwrap_or(rest.len()),
        Ok(chars) => rest.char_indices().nth(chars).map_or(rest.len(), |(at, _)| at),
    };
    let first = rest.chars().next().map_or(0, char::len_utf8);
    line_start + start..line_start + start + len.max(first)
}

/// An error and its causes on one line. A cause that its effect already quotes is not said twice.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}
