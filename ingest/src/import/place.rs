//! Where an import stands.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where an import can go on: everything before it was given to the sink, with the batch that it came with or with one
/// before that. What is read twice by going on is at most the line, series or record that lay in both.
///
/// It belongs to one file or directory that has not changed since. The default is the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Of a text: of the file. Of a block: of its index.
    pub(super) bytes: u64,
    /// Lines of the text, or records of the logs, that stand before.
    pub(super) items: u64,
    pub(super) of: Of,
}

/// What is stood in, and what of the part before holds on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Of {
    /// A text; its header, or the type it declared last, as the lines that said so.
    Text(String),
    /// The block of this name.
    Block(String),
    /// The logs, behind all blocks.
    Logs,
    /// Nothing was read yet.
    #[default]
    Nothing,
}

impl Place {
    /// Bytes of a text that are skipped: its reader must be given the text behind them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self.of {
            Of::Text(_) => self.bytes,
            Of::Block(_) | Of::Logs | Of::Nothing => 0,
        }
    }

    /// Whether this is the beginning.
    #[must_use]
    pub fn is_beginning(&self) -> bool {
        self.of == Of::Nothing
    }

    /// What a text began with, or declared last.
    pub(super) fn context(&self) -> &str {
        match &self.of {
            Of::Text(context) => context,
            Of::Block(_) | Of::Logs | Of::Nothing => "",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.of {
            Of::Nothing => f.write_str("the beginning"),
            Of::Text(_) => write!(f, "line {}", self.items + 1),
            Of::Block(name) => write!(f, "byte {} of the index of block {name}", self.bytes),
            Of::Logs => write!(f, "log record {}", self.items + 1),
        }
    }
}
