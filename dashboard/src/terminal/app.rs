//! The state of the screen, and how events change it.
//!
//! ```text
//! Event ─▶ App::update ─▶ effects (ask, copy, save, suspend, leave)        nothing here waits, reads a clock
//!             App ─▶ screen::render ─▶ frame and Hits ─▶ App::saw          or knows a terminal
//! ```
//!
//! 1. Only the visible view asks. What was asked for another is dropped when it comes.
//! 2. A question has at most one answer under way unless a person wanted it anew; an older answer never replaces a newer.
//! 3. While the server is lost nothing is asked but whether it is back.

use std::collections::BTreeMap;

use kymo_core::ErrorKind;
use kymo_core::query::QueryError;
use ratatui::crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use super::ask::{Answer, Ask};
use super::chart::{Kind, Mark, Plot};
use super::command;
use super::keys::{self, Action};
use super::line::{Edit, Line, remember};
use super::marks;
use super::screen::{Hits, Target};
use super::services::families;
use super::settings::{Arrangement, Settings};
use super::span::Span;
use super::text::span;
use super::theme::{Palette, Theme};
use super::view::{Catalog, Cx, Slot, Then, View, ViewId};

/// How old the names of metrics may become while somebody needs them.
const CATALOG_MS: i64 = 60_000;
/// How far back a metric counts as alive.
const NAMES_AGE_MS: i64 = 3_600_000;
/// Longest pause between two tries to reach a lost server.
const RETRY_MAX_MS: i64 = 10_000;
/// How long a word to the person is shown.
const MESSAGE_MS: i64 = 6_000;

/// What happens to the screen.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "some events a second, each looked at at once; none is kept")]
pub enum Event {
    /// A key.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// The mouse.
    Mouse(MouseEvent),
    /// Columns and lines of the terminal.
    Resize(u16, u16),
    /// It is this time, milliseconds since the Unix epoch.
    Tick(i64),
    /// A question was answered.
    Answer(Question, Result<Answer, QueryError>),
}

/// What the screen wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Ask, and give the answer back under this name.
    Ask(Question, Ask),
    /// Put a text on the clipboard.
    Copy(String),
    /// Keep [`App::settings`].
    Save,
    /// Go to the background until the person comes back.
    Suspend,
    /// Leave.
    Quit,
}

/// How a view is arranged now.
fn arrangement(view: &mut dyn View) -> Arrangement {
    let sorts = view.lists().iter().map(|list| list.sort).collect();
    match view.parts().copied() {
        Some(parts) => Arrangement { sorts, parts, query: view.subject().to_owned() },
        None => Arrangement { sorts, ..Arrangement::default() },
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asker {
    View(ViewId, Slot),
    Names,
    Metadata,
    Marks,
    About,
}

/// The name of a question; its number rises, so that an older answer is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    asker: Asker,
    number: u64,
}

/// A line at the foot of the screen that is typed into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// After `/`.
    Search(Line),
    /// After `:`.
    Command(Line),
}

/// A server that cannot be reached.
#[derive(Debug, Clone)]
struct Lost {
    since_ms: i64,
    tries: u32,
    next_ms: i64,
    why: String,
}

/// How the screen begins.
#[derive(Debug, Clone)]
pub struct Options {
    /// What was kept.
    pub settings: Settings,
    /// Who is asked, for the foot of the screen.
    pub source: String,
    /// No colours, whatever the settings say.
    pub no_color: bool,
    /// Whether the locale can show more than ASCII.
    pub unicode: bool,
    /// Milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// Columns and lines of the terminal.
    pub size: (u16, u16),
}

/// Everything that the screen knows.
pub struct App {
    /// What is kept between two runs.
    pub settings: Settings,
    /// The time of the last tick.
    pub now_ms: i64,
    /// The view that is shown.
    pub view_id: ViewId,
    /// How far the help is scrolled, where it is shown.
    pub help: Option<usize>,
    /// The line that is typed into.
    pub prompt: Option<Prompt>,
    /// A word to the person.
    pub message: Option<String>,
    /// Whether nothing is asked until the person goes on.
    pub paused: bool,
    theme: Theme,
    message_ms: i64,
    views: BTreeMap<ViewId, Box<dyn View>>,
    /// How they were arranged after the last event of the person.
    arranged: BTreeMap<ViewId, Arrangement>,
    /// What is searched for, by view.
    searches: BTreeMap<ViewId, String>,
    /// Where the person came from: views, and what they were about.
    trail: Vec<(ViewId, String)>,
    catalog: Catalog,
    catalog_due_ms: i64,
    /// What happened, as last told, and what is drawn of it with the person's notes.
    events: Vec<Mark>,
    marks: Vec<Mark>,
    /// When to ask for them, unless another span is shown before.
    marks_due: (i64, Option<Span>),
    due_ms: i64,
    /// A view wants to ask by then.
    wake_ms: Option<i64>,
    under_way: BTreeMap<Asker, u64>,
    /// When questions of the visible view were answered last.
    answered_ms: BTreeMap<Slot, i64>,
    asked: u64,
    lost: Option<Lost>,
    hits: Hits,
    dragged: Option<(Plot, u16)>,
    size: (u16, u16),
    source: String,
    no_color: bool,
    unicode: bool,
}

impl App {
    /// A screen that knows nothing yet, and its first questions.
    pub fn new(options: Options) -> (App, Vec<Effect>) {
        let view_id = options.settings.view;
        let mut app = App {
            view_id,
            settings: options.settings,
            now_ms: options.now_ms,
            help: None,
            prompt: None,
            message: None,
            paused: false,
            theme: Theme::new(Palette::Dark, options.unicode),
            message_ms: 0,
            views: ViewId::ALL.into_iter().map(|id| (id, id.build())).collect(),
            arranged: BTreeMap::new(),
            searches: BTreeMap::new(),
            trail: Vec::new(),
            catalog: Catalog::default(),
            catalog_due_ms: i64::MIN,
            events: Vec::new(),
            marks: Vec::new(),
            marks_due: (i64::MIN, None),
            due_ms: i64::MIN,
            wake_ms: None,
            under_way: BTreeMap::new(),
            answered_ms: BTreeMap::new(),
            asked: 0,
            lost: None,
            hits: Hits::default(),
            dragged: None,
            size: options.size,
            source: options.source,
            no_color: options.no_color,
            unicode: options.unicode,
        };
        app.choose_theme();
        app.arrange();
        let mut effects = Vec::new();
        app.ask_now(&mut effects);
        (app, effects)
    }

    /// Colours and glyphs in force.
    pub fn theme(&self) -> Theme {
        self.theme
    }

    fn choose_theme(&mut self) {
        let palette = if self.no_color { Palette::None } else { self.settings.palette };
        self.theme = Theme::new(palette, self.settings.unicode.unwrap_or(self.unicode));
    }

    /// Arranges the views as they were left.
    fn arrange(&mut self) {
        for (id, view) in &mut self.views {
            if let Some(kept) = self.settings.arrangements.get(id) {
                for (list, sort) in view.lists_mut().iter_mut().zip(&kept.sorts) {
                    list.sort = *sort;
                }
                if let Some(parts) = view.parts() {
                    *parts = kept.parts;
                    if !kept.query.is_empty() {
                        view.set_subject(&kept.query);
                    }
                }
            }
            self.arranged.insert(*id, arrangement(&mut **view));
        }
    }

    /// Keeps how the visible view is arranged, if that changed.
    fn keep(&mut self, effects: &mut Vec<Effect>) {
        let Some(view) = self.views.get_mut(&self.view_id) else { return };
        let now = arrangement(&mut **view);
        if self.arranged.insert(self.view_id, now.clone()).is_some_and(|before| before != now) {
            self.settings.arrangements.insert(self.view_id, now);
            // Before it may be left.
            effects.insert(0, Effect::Save);
        }
    }

    /// The view that is shown.
    pub fn view(&self) -> &dyn View {
        &*self.views[&self.view_id]
    }

    /// What views may look at.
    pub fn cx(&self) -> Cx<'_> {
        Cx {
            now_ms: self.now_ms,
            theme: &self.theme,
            span: &self.settings.span,
            catalog: &self.catalog,
            window: &self.settings.window,
            search: self.searches.get(&self.view_id).map_or("", String::as_str),
            queries: &self.settings.queries,
            marks: &self.marks,
            height: self.size.1,
            width: self.size.0,
        }
    }

    /// What is said across the screen: that the server is lost.
    pub fn banner(&self) -> Option<String> {
        let lost = self.lost.as_ref()?;
        let (for_, next) = (self.now_ms - lost.since_ms, (lost.next_ms - self.now_ms).max(0));
        // Whole seconds: the screen is drawn about that often.
        let seconds = |ms: i64| span((ms + 999) / 1_000 * 1_000);
        let when = if next > 0 { format!("again in {}", seconds(next)) } else { "asking again".to_owned() };
        Some(format!("LOST for {} · {when} · {}", seconds(for_.max(1)), lost.why))
    }

    /// Who is asked.
    pub fn about(&self) -> String {
        self.source.clone()
    }

    /// Remembers what lies where on the frame that was drawn.
    pub fn saw(&mut self, hits: Hits) {
        self.hits = hits;
    }

    /// The time by which a tick is wanted, whatever else happens.
    pub fn wake_ms(&self) -> i64 {
        let second = self.now_ms - self.now_ms.rem_euclid(1_000) + 1_000;
        self.wake_ms.unwrap_or(second).min(second)
    }

    /// Whether questions of the visible view are under way.
    pub fn is_asking(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Lets an event happen.
    pub fn update(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        let is_person = matches!(event, Event::Key(_) | Event::Mouse(_) | Event::Paste(_));
        match event {
            Event::Tick(now_ms) => self.tick(now_ms, &mut effects),
            Event::Resize(width, height) => {
                self.size = (width, height);
                self.ask_now(&mut effects);
            }
            Event::Answer(question, answer) => self.answered(question, answer, &mut effects),
            Event::Key(press) if press.kind != KeyEventKind::Release => self.press(press, &mut effects),
            Event::Key(_) => {}
            Event::Paste(text) => self.paste(&text, &mut effects),
            Event::Mouse(mouse) => self.mouse(mouse, &mut effects),
        }
        if is_person {
            self.keep(&mut effects);
        }
        self.choose_theme();
        self.marks = marks::shown(&self.events, &self.settings, self.now_ms);
        effects
    }

    fn tick(&mut self, now_ms: i64, effects: &mut Vec<Effect>) {
        self.now_ms = now_ms;
        if now_ms - self.message_ms > MESSAGE_MS {
            self.message = None;
        }
        if let Some(lost) = &self.lost {
            if now_ms >= lost.next_ms && !self.under_way.contains_key(&Asker::About) {
                self.ask(Asker::About, Ask::About, effects);
            }
            return;
        }
        let is_woken = self.wake_ms.is_some_and(|wake| now_ms >= wake);
        if is_woken {
            self.wake_ms = None;
            self.ask_view(true, effects);
        } else if now_ms >= self.due_ms && !self.paused {
            self.ask_view(false, effects);
        }
    }

    /// Asks for what is visible, also what is under way.
    pub fn ask_now(&mut self, effects: &mut Vec<Effect>) {
        if self.lost.is_none() {
            self.ask_view(true, effects);
        }
    }

    fn ask_view(&mut self, anew: bool, effects: &mut Vec<Effect>) {
        self.due_ms = self.now_ms + i64::from(self.settings.interval_s) * 1_000;
        if self.view().needs_catalog() && self.now_ms >= self.catalog_due_ms {
            self.catalog_due_ms = self.now_ms + CATALOG_MS;
            self.ask(Asker::Names, Ask::Names { since_ms: self.now_ms - NAMES_AGE_MS }, effects);
            self.ask(Asker::Metadata, Ask::Metadata, effects);
        }
        let span = self.settings.span;
        if self.view().has_chart() && (self.now_ms >= self.marks_due.0 || self.marks_due.1 != Some(span)) {
            self.marks_due = (self.now_ms + marks::AGE_MS, Some(span));
            self.ask(Asker::Marks, marks::ask(&span, self.now_ms), effects);
        }
        for (slot, ask) in self.view().asks(&self.cx()) {
            let asker = Asker::View(self.view_id, slot);
            let is_due = || {
                let age_ms = self.view().age_ms(slot);
                let is_old = |answered: &i64| self.now_ms - answered >= age_ms;
                !self.under_way.contains_key(&asker) && self.answered_ms.get(&slot).is_none_or(is_old)
            };
            if anew || is_due() {
                self.ask(asker, ask, effects);
            }
        }
    }

    fn ask(&mut self, asker: Asker, ask: Ask, effects: &mut Vec<Effect>) {
        self.asked += 1;
        self.under_way.insert(asker, self.asked);
        effects.push(Effect::Ask(Question { asker, number: self.asked }, ask));
    }

    fn answered(&mut self, question: Question, answer: Result<Answer, QueryError>, effects: &mut Vec<Effect>) {
        // An older answer than the one that is awaited says nothing.
        if self.under_way.get(&question.asker) != Some(&question.number) {
            return;
        }
        self.under_way.remove(&question.asker);
        if let Err(error) = &answer
            && matches!(error.kind, ErrorKind::Unavailable { .. })
        {
            self.lose(error, question.asker == Asker::About);
            return;
        }
        match question.asker {
            Asker::View(id, slot) => {
                self.answered_ms.insert(slot, self.now_ms);
                let Some(mut view) = self.views.remove(&id) else { return };
                view.answer(slot, answer, &self.cx());
                self.views.insert(id, view);
            }
            Asker::Names => {
                if let Ok(Answer::Texts(names)) = answer {
                    let was_known = self.catalog.is_known;
                    let found = families(&names);
                    let is_other = found != self.catalog.families || !was_known;
                    (self.catalog.names, self.catalog.families, self.catalog.is_known) = (names, found, true);
                    if is_other {
                        self.ask_now(effects);
                    }
                }
            }
            Asker::Metadata => {
                if let Ok(Answer::Metadata(list)) = answer {
                    let newest = |(name, versions): (String, Vec<_>)| Some((name, versions.into_iter().next()?));
                    self.catalog.metadata = list.into_iter().filter_map(newest).collect();
                }
            }
            Asker::Marks => {
                if let Ok(Answer::Query(answered)) = answer {
                    self.events = marks::events(&answered);
                }
            }
            Asker::About => {
                if let Some(lost) = self.lost.take() {
                    self.say(format!("back after {}", span(self.now_ms - lost.since_ms)));
                    self.catalog_due_ms = i64::MIN;
                    self.ask_now(effects);
                }
            }
        }
    }

    /// A question that found no place in the pool is as good as never asked: the next round asks it again.
    pub fn give_up(&mut self, question: Question) {
        if self.under_way.get(&question.asker) == Some(&question.number) {
            self.under_way.remove(&question.asker);
        }
    }

    fn lose(&mut self, error: &QueryError, is_probe: bool) {
        let why = error.message.lines().next().unwrap_or_default().to_owned();
        let now_ms = self.now_ms;
        match &mut self.lost {
            None => self.lost = Some(Lost { since_ms: now_ms, tries: 0, next_ms: now_ms + 1_000, why }),
            Some(lost) if is_probe => {
                lost.tries += 1;
                lost.next_ms = now_ms + (1_000 << lost.tries.min(5)).min(RETRY_MAX_MS);
                lost.why = why;
            }
            Some(_) => {}
        }
        self.under_way.retain(|asker, _| *asker == Asker::About);
    }

    fn say(&mut self, text: impl Into<String>) {
        self.message = Some(text.into());
        self.message_ms = self.now_ms;
    }

    fn press(&mut self, press: KeyEvent, effects: &mut Vec<Effect>) {
        let is_control_c = press.code == KeyCode::Char('c') && press.modifiers.contains(KeyModifiers::CONTROL);
        if is_control_c && self.prompt.is_none() && !self.view().is_typing() {
            effects.push(Effect::Save);
            effects.push(Effect::Quit);
            return;
        }
        if self.prompt.is_some() {
            self.prompt_key(press, effects);
            return;
        }
        if self.help.is_none() && self.view().is_typing() {
            let then = self.with_view(|view, cx| view.type_key(press, cx));
            self.then(then, effects);
            return;
        }
        if let Some(action) = keys::action(press, self.view_id == ViewId::Explore) {
            self.act(action, effects);
        }
    }

    fn with_view<T>(&mut self, change: impl FnOnce(&mut dyn View, &Cx<'_>) -> T) -> T {
        let id = self.view_id;
        let mut view = self.views.remove(&id).unwrap_or_else(|| id.build());
        let changed = change(&mut *view, &self.cx());
        self.views.insert(id, view);
        changed
    }

    fn prompt_key(&mut self, press: KeyEvent, effects: &mut Vec<Effect>) {
        let Some(mut prompt) = self.prompt.take() else { return };
        let (line, history) = match &mut prompt {
            Prompt::Search(line) => (line, &self.settings.searches),
            Prompt::Command(line) => (line, &self.settings.commands),
        };
        let is_control_c = press.code == KeyCode::Char('c') && press.modifiers.contains(KeyModifiers::CONTROL);
        match press.code {
            KeyCode::Esc => {
                if matches!(prompt, Prompt::Search(_)) {
                    self.searches.remove(&self.view_id);
                }
                return;
            }
            _ if is_control_c => return,
            KeyCode::Enter => {
                let text = line.text().to_owned();
                match prompt {
                    Prompt::Search(_) => {
                        remember(&mut self.settings.searches, &text);
                        self.ask_now(effects);
                    }
                    Prompt::Command(_) => {
                        remember(&mut self.settings.commands, &text);
                        self.message_ms = self.now_ms;
                        if let Err(why) = command::run(self, &text, effects) {
                            self.say(why);
                        }
                    }
                }
                effects.push(Effect::Save);
                return;
            }
            KeyCode::Tab => {
                if let Prompt::Command(line) = &mut prompt
                    && let Some(done) = command::complete(line.text(), &self.settings)
                {
                    *line = Line::new(done);
                }
            }
            KeyCode::Backspace if line.text().is_empty() => return,
            _ => {
                let edit = line.press(press, history);
                if let (Edit::Changed, Prompt::Search(line)) = (edit, &prompt) {
                    // The list follows while one types.
                    self.searches.insert(self.view_id, line.text().to_owned());
                }
            }
        }
        self.prompt = Some(prompt);
    }

    fn paste(&mut self, text: &str, effects: &mut Vec<Effect>) {
        match &mut self.prompt {
            Some(Prompt::Search(line) | Prompt::Command(line)) => line.paste(text),
            None => {
                let then = self.with_view(|view, cx| view.paste(text, cx));
                self.then(then, effects);
            }
        }
    }

    fn act(&mut self, action: Action, effects: &mut Vec<Effect>) {
        if let Some(scroll) = self.help {
            let page = usize::from(self.size.1.saturating_sub(4));
            self.help = match action {
                Action::Down => Some(scroll + 1),
                Action::Up => Some(scroll.saturating_sub(1)),
                Action::PageDown | Action::Pause => Some(scroll + page),
                Action::PageUp => Some(scroll.saturating_sub(page)),
                Action::First => Some(0),
                Action::Quit | Action::Back | Action::Help | Action::Open => None,
                _ => Some(scroll),
            };
            return;
        }
        let then = self.with_view(|view, cx| view.act(action, cx));
        if then != Then::NotMine {
            self.then(then, effects);
            return;
        }
        match action {
            Action::Quit => effects.extend([Effect::Save, Effect::Quit]),
            Action::Help => self.help = Some(0),
            Action::Search => {
                let text = self.searches.get(&self.view_id).cloned().unwrap_or_default();
                self.prompt = Some(Prompt::Search(Line::new(text)));
            }
            Action::Command => self.prompt = Some(Prompt::Command(Line::default())),
            Action::NextView => self.step(1, effects),
            Action::PreviousView => self.step(ViewId::TABS.len() - 1, effects),
            Action::View(number) => {
                if let Some(id) = ViewId::TABS.get(number) {
                    self.open(*id, None, effects);
                }
            }
            Action::Back => {
                if self.searches.remove(&self.view_id).is_none()
                    && let Some((id, subject)) = self.trail.pop()
                {
                    if let Some(view) = self.views.get_mut(&id).filter(|view| view.subject() != subject) {
                        view.set_subject(&subject);
                    }
                    self.show(id, effects);
                }
            }
            Action::Refresh => {
                self.catalog_due_ms = i64::MIN;
                if let Some(lost) = &mut self.lost {
                    lost.next_ms = self.now_ms;
                }
                self.ask_now(effects);
            }
            Action::Pause => self.paused = !self.paused,
            Action::Bookmark => {
                self.message_ms = self.now_ms;
                if let Err(why) = command::run(self, "bookmark", effects) {
                    self.say(why);
                }
            }
            Action::Theme => {
                self.settings.palette = match self.settings.palette {
                    Palette::Dark => Palette::Light,
                    Palette::Light => Palette::None,
                    Palette::None => Palette::Dark,
                };
                effects.push(Effect::Save);
            }
            Action::Suspend => effects.push(Effect::Suspend),
            _ if self.view().has_chart() => self.move_span(action, effects),
            _ => {}
        }
    }

    fn move_span(&mut self, action: Action, effects: &mut Vec<Effect>) {
        let now_ms = self.now_ms;
        let span = &mut self.settings.span;
        match action {
            Action::ZoomIn => span.zoom(true, None, now_ms),
            Action::ZoomOut => span.zoom(false, None, now_ms),
            Action::PanLeft => span.pan(false, now_ms),
            Action::PanRight => span.pan(true, now_ms),
            Action::Live => span.end_ms = None,
            Action::Compare => {
                let with = span.next_comparison();
                self.say(format!("compared with {with}"));
            }
            Action::Logarithmic => {
                span.log = !span.log;
                return;
            }
            Action::Style => {
                span.kind = match span.kind {
                    None => Some(Kind::Lines),
                    Some(Kind::Lines) => Some(Kind::Areas),
                    Some(Kind::Areas) => Some(Kind::Stacked),
                    Some(Kind::Stacked) => Some(Kind::Heat),
                    Some(Kind::Heat) => None,
                };
                let name = span.kind.map_or("as suits each", Kind::name);
                self.say(format!("charts: {name}"));
                return;
            }
            _ => return,
        }
        self.ask_now(effects);
    }

    fn step(&mut self, by: usize, effects: &mut Vec<Effect>) {
        let at = ViewId::TABS.iter().position(|id| *id == self.view_id).unwrap_or(1);
        self.open(ViewId::TABS[(at + by) % ViewId::TABS.len()], None, effects);
    }

    /// Goes to a view, about another subject if one is given.
    pub fn open(&mut self, id: ViewId, subject: Option<&str>, effects: &mut Vec<Effect>) {
        let from = (self.view_id, self.view().subject().to_owned());
        if let (Some(subject), Some(view)) = (subject, self.views.get_mut(&id)) {
            view.set_subject(subject);
        }
        if id != from.0 || self.views[&id].subject() != from.1 {
            self.trail.push(from);
            // Nobody goes back further than that.
            if self.trail.len() > 50 {
                self.trail.remove(0);
            }
        }
        self.show(id, effects);
    }

    fn show(&mut self, id: ViewId, effects: &mut Vec<Effect>) {
        self.view_id = id;
        self.settings.view = if id == ViewId::Service { ViewId::Services } else { id };
        // What another view asked is not waited for any more.
        self.under_way.retain(|asker, _| !matches!(asker, Asker::View(of, _) if *of != id));
        self.answered_ms.clear();
        self.wake_ms = None;
        self.ask_now(effects);
    }

    fn then(&mut self, then: Then, effects: &mut Vec<Effect>) {
        match then {
            Then::NotMine | Then::Done => {}
            Then::Ask => self.ask_now(effects),
            Then::Service(name) => self.open(ViewId::Service, Some(&name), effects),
            Then::Explore(text) => self.open(ViewId::Explore, Some(&text), effects),
            Then::Copy(text) => {
                let shown: String = text.chars().take(40).collect();
                self.say(format!("copied {shown}"));
                effects.push(Effect::Copy(text));
            }
            Then::Asked(text) => {
                remember(&mut self.settings.queries, &text);
                effects.push(Effect::Save);
                self.ask_now(effects);
            }
            Then::Say(text) => self.say(text),
            Then::Wake(at_ms) => self.wake_ms = Some(at_ms),
        }
    }

    fn mouse(&mut self, mouse: MouseEvent, effects: &mut Vec<Effect>) {
        if self.help.is_some() {
            match mouse.kind {
                MouseEventKind::ScrollDown => self.act(Action::Down, effects),
                MouseEventKind::ScrollUp => self.act(Action::Up, effects),
                MouseEventKind::Down(_) => self.help = None,
                _ => {}
            }
            return;
        }
        let target = self.hits.at(mouse.column, mouse.row);
        match (mouse.kind, target) {
            (MouseEventKind::Down(MouseButton::Left), Some(Target::Tab(id))) => self.open(id, None, effects),
            (MouseEventKind::Down(MouseButton::Left), Some(Target::Row(list, row))) => {
                let then = self.with_view(|view, cx| view.click(list, row, cx));
                self.then(then, effects);
            }
            (MouseEventKind::Down(MouseButton::Left), Some(Target::Heading(list, column))) => {
                self.with_view(|view, _| view.click_heading(list, column));
            }
            (MouseEventKind::Down(MouseButton::Left), Some(Target::Plot(plot))) => {
                self.dragged = Some((plot, mouse.column));
                self.with_view(|view, _| view.set_cursor(plot.time_at(mouse.column)));
            }
            (MouseEventKind::Drag(MouseButton::Left), _) => {
                if let Some((plot, _)) = self.dragged {
                    self.with_view(|view, _| view.set_cursor(plot.time_at(mouse.column)));
                }
            }
            (MouseEventKind::Up(MouseButton::Left), _) => {
                if let Some((plot, from)) = self.dragged.take()
                    && from.abs_diff(mouse.column) > 1
                {
                    let last = plot.area.right().saturating_sub(1);
                    let to = mouse.column.clamp(plot.area.x, last);
                    if let (Some(from), Some(to)) = (plot.time_at(from), plot.time_at(to)) {
                        self.settings.span.select(from, to);
                        self.with_view(|view, _| view.set_cursor(None));
                        self.ask_now(effects);
                    }
                }
            }
            (MouseEventKind::ScrollUp | MouseEventKind::ScrollDown, Some(Target::Plot(plot))) => {
                let into = mouse.kind == MouseEventKind::ScrollUp;
                self.settings.span.zoom(into, plot.time_at(mouse.column), self.now_ms);
                self.ask_now(effects);
            }
            (MouseEventKind::ScrollDown, _) => self.act(Action::Down, effects),
            (MouseEventKind::ScrollUp, _) => self.act(Action::Up, effects),
            _ => {}
        }
    }
}
