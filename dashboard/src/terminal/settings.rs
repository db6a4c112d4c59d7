//! What is kept between two runs: theme, span, bookmarks, histories, where one was and how it was arranged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::span::Span;
use super::theme::Palette;
use super::view::ViewId;

/// The file's content. What an older or newer version does not know is left at its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Colours.
    pub palette: Palette,
    /// Whether more than ASCII is drawn; `None` for what the locale says.
    pub unicode: Option<bool>,
    /// The view that was shown last.
    pub view: ViewId,
    /// How the person arranged the views.
    pub arrangements: BTreeMap<ViewId, Arrangement>,
    /// The span of time.
    pub span: Span,
    /// The window of rates, as PromQL writes it.
    pub window: String,
    /// Seconds between two rounds of questions.
    pub interval_s: u32,
    /// Bookmarks, in the order in which they were made.
    pub bookmarks: Vec<Bookmark>,
    /// What the person noted on charts, oldest note first.
    pub notes: Vec<Note>,
    /// Queries, newest last.
    pub queries: Vec<String>,
    /// Commands, newest last.
    pub commands: Vec<String>,
    /// Searches, newest last.
    pub searches: Vec<String>,
}

/// How a view is arranged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Arrangement {
    /// Of each of its lists, the column that it is sorted by, and whether the largest comes first.
    pub sorts: Vec<(usize, bool)>,
    /// Of explore, the query.
    pub query: String,
    /// Of explore, what is shown of the answer.
    pub parts: Parts,
}

/// What is shown of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Parts {
    /// Chart, table or both.
    pub shown: Shown,
    /// The plan as well.
    pub plan: bool,
}

/// A chart, a table or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is what its name says")]
pub enum Shown {
    #[default]
    Both,
    Chart,
    Table,
}

/// A view, and what it showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    /// Its name.
    pub name: String,
    /// The view.
    pub view: ViewId,
    /// The query or the service; empty if the view has neither.
    #[serde(default)]
    pub subject: String,
    /// The length of the span, milliseconds.
    pub length_ms: i64,
}

/// A word of the person at a moment, drawn on every chart that shows that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// What.
    pub text: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            palette: Palette::Dark,
            unicode: None,
            view: ViewId::Overview,
            arrangements: BTreeMap::new(),
            span: Span::default(),
            window: "2m".to_owned(),
            interval_s: 2,
            bookmarks: Vec::new(),
            notes: Vec::new(),
            queries: Vec::new(),
            commands: Vec::new(),
            searches: Vec::new(),
        }
    }
}

impl Settings {
    /// Reads the file's text.
    ///
    /// # Errors
    /// Where it is no settings.
    pub fn read(text: &str) -> Result<Settings, serde_json::Error> {
        let mut settings: Settings = serde_json::from_str(text)?;
        settings.interval_s = settings.interval_s.clamp(1, 3_600);
        let length_ms = settings.span.length_ms;
        settings.span.set_length(length_ms);
        Ok(settings)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        // Strings and numbers: nothing of it can fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_their_file_and_unknown_keys_do_no_harm() {
        let bookmark = Bookmark { name: "a".to_owned(), view: ViewId::Explore, subject: "up".to_owned(), length_ms: 1 };
        let notes = vec![Note { time_ms: 1, text: "deployed".to_owned() }];
        let parts = Parts { shown: Shown::Table, plan: true };
        let explore = Arrangement { sorts: vec![(3, false)], query: "up".to_owned(), parts };
        let settings = Settings {
            bookmarks: vec![bookmark],
            notes,
            queries: vec!["up".to_owned()],
            arrangements: BTreeMap::from([(ViewId::Explore, explore)]),
            ..Settings::default()
        };
        assert_eq!(Settings::read(&settings.text()).ok(), Some(settings));
        let read = Settings::read(r#"{"palette":"light","future":1,"interval_s":0}"#).ok();
        assert_eq!(read, Some(Settings { palette: Palette::Light, interval_s: 1, ..Settings::default() }));
        assert!(Settings::read("no json").is_err());
    }
}
