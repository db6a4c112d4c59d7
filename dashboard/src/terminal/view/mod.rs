//! The views: each holds what it was told, says what it wants to know, and draws itself.

mod cardinality;
mod contexts;
mod drops;
mod explore;
mod host;
mod metrics;
mod overview;
mod panel;
mod queries;
mod service;
mod services;
mod targets;

use std::collections::BTreeMap;

use kymo_core::batch::Metadata;
use kymo_core::query::QueryError;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyEvent;
use ratatui::layout::Rect;
use serde::{Deserialize, Serialize};

use super::ask::{Answer, Ask};
use super::chart::Mark;
use super::keys::Action;
use super::screen::Hits;
use super::services::Family;
use super::settings::Parts;
use super::span::Span;
use super::table::TableState;
use super::theme::Theme;

/// Which question of a view.
pub(super) type Slot = u8;

/// The views, in the order of their tabs; the last has none and is reached from services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is what its name says")]
pub enum ViewId {
    #[default]
    Overview,
    Services,
    Explore,
    Metrics,
    Host,
    Contexts,
    Targets,
    Cardinality,
    Drops,
    Queries,
    Service,
}

impl ViewId {
    /// Those with a tab, in order.
    pub const TABS: [ViewId; 10] = [
        ViewId::Overview,
        ViewId::Services,
        ViewId::Explore,
        ViewId::Metrics,
        ViewId::Host,
        ViewId::Contexts,
        ViewId::Targets,
        ViewId::Cardinality,
        ViewId::Drops,
        ViewId::Queries,
    ];
    /// All.
    pub const ALL: [ViewId; 11] = {
        let mut all = [ViewId::Service; 11];
        let mut at = 0;
        while at < 10 {
            all[at] = ViewId::TABS[at];
            at += 1;
        }
        all
    };

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ViewId::Overview => "overview",
            ViewId::Services => "services",
            ViewId::Explore => "explore",
            ViewId::Metrics => "metrics",
            ViewId::Host => "host",
            ViewId::Contexts => "contexts",
            ViewId::Targets => "targets",
            ViewId::Cardinality => "cardinality",
            ViewId::Drops => "drops",
            ViewId::Queries => "queries",
            ViewId::Service => "service",
        }
    }

    /// By name, or by how it begins.
    pub fn of_name(name: &str) -> Option<ViewId> {
        let exact = ViewId::ALL.into_iter().find(|view| view.name() == name);
        exact.or_else(|| ViewId::ALL.into_iter().find(|view| !name.is_empty() && view.name().starts_with(name)))
    }

    pub(super) fn build(self) -> Box<dyn View> {
        match self {
            ViewId::Overview => Box::new(overview::Overview::default()),
            ViewId::Services => Box::new(services::Services::default()),
            ViewId::Explore => Box::new(explore::Explore::default()),
            ViewId::Metrics => Box::new(metrics::Metrics::default()),
            ViewId::Host => Box::new(host::Host::default()),
            ViewId::Contexts => Box::new(contexts::Contexts::default()),
            ViewId::Targets => Box::new(targets::Targets::default()),
            ViewId::Cardinality => Box::new(cardinality::Cardinality::default()),
            ViewId::Drops => Box::new(drops::Drops::default()),
            ViewId::Queries => Box::new(queries::Queries::default()),
            ViewId::Service => Box::new(service::ServiceView::default()),
        }
    }
}

/// What every view may look at.
pub struct Cx<'a> {
    /// The time of the last tick, milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// Colours and glyphs.
    pub theme: &'a Theme,
    /// The span of charts.
    pub span: &'a Span,
    /// Names of metrics and what is known of them.
    pub catalog: &'a Catalog,
    /// The window of rates, as PromQL writes it.
    pub window: &'a str,
    /// What is searched for; empty if nothing.
    pub search: &'a str,
    /// Queries asked before, newest last.
    pub queries: &'a [String],
    /// What happened in the span, by time.
    pub marks: &'a [Mark],
    /// Lines of the terminal.
    pub height: u16,
    /// Columns of the terminal.
    pub width: u16,
}

impl Cx<'_> {
    /// Whether a text is what is searched for.
    pub fn matches(&self, text: &str) -> bool {
        self.search.split_whitespace().all(|word| text.to_lowercase().contains(&word.to_lowercase()))
    }

    /// Rows of a list that fills the screen.
    pub fn page(&self) -> usize {
        usize::from(self.height.saturating_sub(5)).max(1)
    }
}

/// Names of metrics and what is known of them; asked for as long as a view needs it.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Metrics with recent samples, sorted.
    pub names: Vec<String>,
    /// Type, unit and help by family.
    pub metadata: BTreeMap<String, Metadata>,
    /// Where requests are counted.
    pub families: Vec<Family>,
    /// Whether the names were answered.
    pub is_known: bool,
}

/// What a view wants the rest to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    /// The key was none of the view's.
    NotMine,
    /// It was; nothing else changes.
    Done,
    /// What is shown is another: ask anew.
    Ask,
    /// Go to a service.
    Service(String),
    /// Go to explore with an expression.
    Explore(String),
    /// Copy a text.
    Copy(String),
    /// Remember a query in the history.
    Asked(String),
    /// A word to the person.
    Say(String),
    /// A moment at which the view wants to be asked for its questions.
    Wake(i64),
}

/// A view. Nothing here waits or knows a terminal.
pub trait View {
    /// What should be known for what is shown now.
    fn asks(&self, cx: &Cx<'_>) -> Vec<(Slot, Ask)>;

    /// How old an answer may become, milliseconds, before its question is due again; 0 for every round. What a person wants
    /// anew is asked at any age.
    fn age_ms(&self, slot: Slot) -> i64 {
        let _ = slot;
        0
    }

    /// Takes what was answered to a question of [`asks`](Self::asks).
    fn answer(&mut self, slot: Slot, answer: Result<Answer, QueryError>, cx: &Cx<'_>);

    /// Does what a key asks for.
    fn act(&mut self, action: Action, cx: &Cx<'_>) -> Then;

    /// Draws itself.
    fn render(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits);

    /// A row of one of its lists was clicked.
    fn click(&mut self, list: usize, row: usize, cx: &Cx<'_>) -> Then {
        let _ = (list, row, cx);
        Then::NotMine
    }

    /// A heading of one of its lists was clicked.
    fn click_heading(&mut self, list: usize, column: usize) {
        let _ = (list, column);
    }

    /// Its lists that can be sorted.
    fn lists(&self) -> &[TableState] {
        &[]
    }

    /// The same, to be sorted as they were.
    fn lists_mut(&mut self) -> &mut [TableState] {
        &mut []
    }

    /// What is shown of its answer, where that is chosen.
    fn parts(&mut self) -> Option<&mut Parts> {
        None
    }

    /// The query or the service that it is about.
    fn subject(&self) -> &str {
        ""
    }

    /// Is about another query or service from now on.
    fn set_subject(&mut self, subject: &str) {
        let _ = subject;
    }

    /// Whether keys are text now.
    fn is_typing(&self) -> bool {
        false
    }

    /// A key while it is typed into.
    fn type_key(&mut self, press: KeyEvent, cx: &Cx<'_>) -> Then {
        let _ = (press, cx);
        Then::NotMine
    }

    /// Text pasted while it is typed into.
    fn paste(&mut self, text: &str, cx: &Cx<'_>) -> Then {
        let _ = (text, cx);
        Then::NotMine
    }

    /// Whether there are charts, which zoom and pan.
    fn has_chart(&self) -> bool {
        false
    }

    /// Whether the names of metrics must be known.
    fn needs_catalog(&self) -> bool {
        false
    }

    /// The moment of a chart that is looked at, if one is.
    fn cursor(&self) -> Option<i64> {
        None
    }

    /// Looks at a moment of a chart.
    fn set_cursor(&mut self, time_ms: Option<i64>) {
        let _ = time_ms;
    }
}

/// What an answer failed with, in one line.
fn failure(error: &QueryError) -> String {
    error.message.lines().next().unwrap_or_default().to_owned()
}
