//! Small text files of the kernel: reading them, and saying what is wrong with one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why a collector gave nothing, or not all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not read as it should.
    #[error("{path}: {wanted} expected in {line:?}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
        /// The line.
        line: String,
    },
}

impl ReadError {
    /// Whether this machine just does not offer the file: not built into the kernel, switched off, not shown to a
    /// container.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, Unsupported};
        match self {
            ReadError::Read { source, .. } => {
                matches!(source.kind(), NotFound | NotADirectory | PermissionDenied | Unsupported)
            }
            ReadError::Format { .. } => false,
        }
    }
}

/// A file that was read.
pub(super) struct Text {
    path: PathBuf,
    text: String,
}

impl Text {
    /// Reads a file; what is not UTF-8 in it is replaced.
    pub(super) fn read(path: PathBuf) -> Result<Text, ReadError> {
        match fs::read(&path) {
            Ok(bytes) => Ok(Text { path, text: into_text(bytes) }),
            Err(source) => Err(ReadError::Read { path, source }),
        }
    }

    /// As [`read`](Self::read); `None` where the file is absent.
    pub(super) fn read_if_there(path: PathBuf) -> Result<Option<Text>, ReadError> {
        match Text::read(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn lines(&self) -> std::str::Lines<'_> {
        self.text.lines()
    }

    /// The only value of a file with one.
    pub(super) fn value(&self) -> Result<f64, ReadError> {
        self.number(self.text.trim(), &self.text)
    }

    /// A field of `line` as a number.
    pub(super) fn number(&self, field: &str, line: &str) -> Result<f64, ReadError> {
        field.parse().map_err(|_| self.wrong("a number", line))
    }

    /// A field that may be missing as a number.
    pub(super) fn number_at(&self, fields: &[&str], at: usize, line: &str) -> Result<f64, ReadError> {
        self.number(fields.get(at).copied().unwrap_or(""), line)
    }

    /// A field of `line` as a hexadecimal number.
    pub(super) fn hex(&self, field: &str, line: &str) -> Result<f64, ReadError> {
        let number = u64::from_str_radix(field, 16).map_err(|_| self.wrong("a hexadecimal number", line))?;
        Ok(number as f64)
    }

    pub(super) fn wrong(&self, wanted: &'static str, line: &str) -> ReadError {
        // Enough to see what it is; a line of `/proc` may have thousands of characters.
        let line = line.chars().take(120).collect();
        ReadError::Format { path: self.path.clone(), wanted, line }
    }
}

/// A file with one value, trimmed; `None` whenever it cannot be read. Attributes of devices say "no" by any error.
pub(super) fn attribute(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|bytes| into_text(bytes).trim().to_owned())
}

/// An attribute that is a whole number, decimal or `0x…`.
pub(super) fn integer(path: &Path) -> Option<i64> {
    let text = attribute(path)?;
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Names in a directory, sorted.
pub(super) fn names_in(path: PathBuf) -> Result<Vec<String>, ReadError> {
    let entries = fs::read_dir(&path).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<Vec<String>>>()
    });
    let mut names = entries.map_err(|source| ReadError::Read { path, source })?;
    names.sort_unstable();
    Ok(names)
}

pub(super) fn fields(line: &str) -> Vec<&str> {
    line.split_ascii_whitespace().collect()
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
