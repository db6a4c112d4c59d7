//! A line of text that is edited: a query, a command, a search.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Lines kept of each history.
pub(super) const HISTORY_MAX: usize = 200;

/// The text and where the next character goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    text: String,
    /// A byte position between characters.
    cursor: usize,
    /// Which line of the history is shown, counted from the newest, and what was typed before.
    recalled: Option<(usize, String)>,
}

/// What a key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// The text is another.
    Changed,
    /// Only the cursor moved.
    Moved,
    /// The key is not one of editing.
    NotMine,
}

impl Line {
    /// A text with the cursor at its end.
    pub fn new(text: impl Into<String>) -> Line {
        let text = text.into();
        Line { cursor: text.len(), text, recalled: None }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the next character goes, in bytes.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Replaces the bytes from `start` to the cursor.
    pub fn complete(&mut self, start: usize, with: &str) {
        self.text.replace_range(start..self.cursor, with);
        self.cursor = start + with.len();
    }

    /// Adds pasted text; line ends become blanks.
    pub fn paste(&mut self, text: &str) {
        let clean: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        self.text.insert_str(self.cursor, &clean);
        self.cursor += clean.len();
    }

    /// Edits by a key; `history` newest last.
    pub fn press(&mut self, press: KeyEvent, history: &[String]) -> Edit {
        let control = press.modifiers.contains(KeyModifiers::CONTROL);
        let before = self.before();
        match press.code {
            KeyCode::Char('a') if control => self.cursor = 0,
            KeyCode::Char('e') if control => self.cursor = self.text.len(),
            KeyCode::Char('u') if control => {
                self.text.drain(..self.cursor);
                self.cursor = 0;
                return Edit::Changed;
            }
            KeyCode::Char('k') if control => {
                self.text.truncate(self.cursor);
                return Edit::Changed;
            }
            KeyCode::Char('w') if control => {
                let kept = self.text[..self.cursor].trim_end();
                let start = kept
                    .rfind(|char: char| !(char.is_alphanumeric() || char == '_'))
                    .map_or(0, |at| at + kept[at..].chars().next().map_or(1, char::len_utf8));
                let start =
                    if start == kept.len() { kept.char_indices().last().map_or(0, |(at, _)| at) } else { start };
                self.text.drain(start..self.cursor);
                self.cursor = start;
                return Edit::Changed;
            }
            KeyCode::Char(_) if control => return Edit::NotMine,
            KeyCode::Char(char) => {
                self.text.insert(self.cursor, char);
                self.cursor += char.len_utf8();
                self.recalled = None;
                return Edit::Changed;
            }
            KeyCode::Backspace => {
                if before < self.cursor {
                    self.text.drain(before..self.cursor);
                    self.cursor = before;
                }
                return Edit::Changed;
            }
            KeyCode::Delete => {
                let after = self.after();
                self.text.drain(self.cursor..after);
                return Edit::Changed;
            }
            KeyCode::Left => self.cursor = before,
            KeyCode::Right => self.cursor = self.after(),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            KeyCode::Up => return self.recall(history, 1),
            KeyCode::Down => return self.recall(history, -1),
            _ => return Edit::NotMine,
        }
        Edit::Moved
    }

    fn recall(&mut self, history: &[String], by: i64) -> Edit {
        let (shown, typed) = match self.recalled.take() {
            Some((at, typed)) => (at as i64, typed),
            None => (-1, self.text.clone()),
        };
        let wanted = (shown + by).clamp(-1, history.len() as i64 - 1);
        let text = match usize::try_from(wanted) {
            Ok(at) => {
                let text = history[history.len() - 1 - at].clone();
                self.recalled = Some((at, typed));
                text
            }
            Err(_) => typed,
        };
        self.cursor = text.len();
        self.text = text;
        Edit::Changed
    }

    fn before(&self) -> usize {
        self.text[..self.cursor].char_indices().last().map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        self.cursor + self.text[self.cursor..].chars().next().map_or(0, char::len_utf8)
    }
}

/// Adds a line to a history, once, as its newest.
pub(super) fn remember(history: &mut Vec<String>, text: &str) {
    if text.trim().is_empty() {
        return;
    }
    history.retain(|line| line != text);
    history.push(text.to_owned());
    let excess = history.len().saturating_sub(HISTORY_MAX);
    history.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(line: &mut Line, code: KeyCode, history: &[String]) -> Edit {
        line.press(KeyEvent::new(code, KeyModifiers::NONE), history)
    }

    #[test]
    fn text_is_edited_by_characters() {
        let mut line = Line::new("aé");
        press(&mut line, KeyCode::Backspace, &[]);
        press(&mut line, KeyCode::Char('日'), &[]);
        press(&mut line, KeyCode::Left, &[]);
        press(&mut line, KeyCode::Char('b'), &[]);
        assert_eq!((line.text(), line.cursor()), ("ab日", 2));
        press(&mut line, KeyCode::Delete, &[]);
        line.press(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL), &[]);
        assert_eq!((line.text(), line.cursor()), ("", 0));
        let mut line = Line::new("sum(rate");
        line.press(KeyEvent::new(KeyCode::Char('w'), KeyModifiers::CONTROL), &[]);
        assert_eq!(line.text(), "sum(");
        line.paste("a\nb");
        assert_eq!(line.text(), "sum(a b");
    }

    #[test]
    fn history_is_walked_and_what_was_typed_comes_back() {
        let mut history = Vec::new();
        for text in ["up", "down", "up", " "] {
            remember(&mut history, text);
        }
        assert_eq!(history, ["down", "up"]);
        let mut line = Line::new("typed");
        let mut seen = Vec::new();
        for code in [KeyCode::Up, KeyCode::Up, KeyCode::Up, KeyCode::Down, KeyCode::Down, KeyCode::Down] {
            press(&mut line, code, &history);
            seen.push(line.text().to_owned());
        }
        assert_eq!(seen, ["up", "down", "down", "up", "typed", "typed"]);
    }
}
