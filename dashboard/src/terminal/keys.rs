//! The key map: what a key does where. The help is printed from it, so it cannot say anything else.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a person can ask for with one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Quit,
    Help,
    Search,
    Command,
    NextView,
    PreviousView,
    View(usize),
    Back,
    Open,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Left,
    Right,
    Sort,
    Reverse,
    Copy,
    CopyRow,
    Refresh,
    Pause,
    ZoomIn,
    ZoomOut,
    PanLeft,
    PanRight,
    Live,
    Compare,
    Logarithmic,
    Style,
    Edit,
    Explain,
    Table,
    Bookmark,
    Theme,
    Suspend,
}

/// Where a key means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// In every view.
    Everywhere,
    /// Where there is a list.
    Lists,
    /// Where there is a chart.
    Charts,
    /// In explore.
    Explore,
}

impl Scope {
    /// Its heading in the help.
    pub(super) fn title(self) -> &'static str {
        match self {
            Scope::Everywhere => "Everywhere",
            Scope::Lists => "Lists",
            Scope::Charts => "Charts",
            Scope::Explore => "Explore",
        }
    }
}

/// One line of the key map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding {
    /// Where it holds.
    pub scope: Scope,
    /// Any of these keys.
    pub keys: &'static [Key],
    /// What it does.
    pub action: Action,
    /// In words.
    pub text: &'static str,
}

/// A key with what is held down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    code: KeyCode,
    control: bool,
}

const fn char(char: char) -> Key {
    Key { code: KeyCode::Char(char), control: false }
}

const fn control(char: char) -> Key {
    Key { code: KeyCode::Char(char), control: true }
}

const fn key(code: KeyCode) -> Key {
    Key { code, control: false }
}

const fn bind(scope: Scope, keys: &'static [Key], action: Action, text: &'static str) -> Binding {
    Binding { scope, keys, action, text }
}

/// All of it, in the order of the help.
pub(super) const KEY_MAP: &[Binding] = &[
    bind(Scope::Everywhere, &[char('q'), control('c')], Action::Quit, "leave"),
    bind(Scope::Everywhere, &[char('?'), key(KeyCode::F(1))], Action::Help, "this help"),
    bind(Scope::Everywhere, &[key(KeyCode::Tab)], Action::NextView, "next view"),
    bind(Scope::Everywhere, &[key(KeyCode::BackTab)], Action::PreviousView, "previous view"),
    bind(Scope::Everywhere, &[char('1')], Action::View(0), "overview; 2 … 9 and 0 are the next ones"),
    bind(Scope::Everywhere, &[char('2')], Action::View(1), ""),
    bind(Scope::Everywhere, &[char('3')], Action::View(2), ""),
    bind(Scope::Everywhere, &[char('4')], Action::View(3), ""),
    bind(Scope::Everywhere, &[char('5')], Action::View(4), ""),
    bind(Scope::Everywhere, &[char('6')], Action::View(5), ""),
    bind(Scope::Everywhere, &[char('7')], Action::View(6), ""),
    bind(Scope::Everywhere, &[char('8')], Action::View(7), ""),
    bind(Scope::Everywhere, &[char('9')], Action::View(8), ""),
    bind(Scope::Everywhere, &[char('0')], Action::View(9), ""),
    bind(Scope::Everywhere, &[key(KeyCode::Esc), key(KeyCode::Backspace)], Action::Back, "back; clears a search first"),
    bind(Scope::Everywhere, &[char('/')], Action::Search, "search in this view"),
    bind(Scope::Everywhere, &[char(':')], Action::Command, "command; Tab completes, Up and Down are its history"),
    bind(Scope::Everywhere, &[char('y')], Action::Copy, "copy the chosen cell or the query (OSC 52)"),
    bind(Scope::Everywhere, &[char('Y')], Action::CopyRow, "copy the chosen row, its cells between tabs"),
    bind(Scope::Everywhere, &[char('r')], Action::Refresh, "ask again now"),
    bind(Scope::Everywhere, &[char(' ')], Action::Pause, "stand still, and go on"),
    bind(Scope::Everywhere, &[char('b')], Action::Bookmark, "bookmark what is shown; :bookmarks lists them"),
    bind(Scope::Everywhere, &[char('T')], Action::Theme, "next theme: dark, light, no colours"),
    bind(Scope::Everywhere, &[control('z')], Action::Suspend, "suspend; fg comes back"),
    bind(Scope::Lists, &[key(KeyCode::Up), char('k')], Action::Up, "up; the wheel too"),
    bind(Scope::Lists, &[key(KeyCode::Down), char('j')], Action::Down, "down"),
    bind(Scope::Lists, &[key(KeyCode::PageUp), control('b')], Action::PageUp, "a page up"),
    bind(Scope::Lists, &[key(KeyCode::PageDown), control('f')], Action::PageDown, "a page down"),
    bind(Scope::Lists, &[key(KeyCode::Home), char('g')], Action::First, "the first"),
    bind(Scope::Lists, &[key(KeyCode::End), char('G')], Action::Last, "the last"),
    bind(Scope::Lists, &[key(KeyCode::Enter)], Action::Open, "look closer; a click on the chosen row too"),
    bind(Scope::Lists, &[key(KeyCode::Left), char('h')], Action::Left, "the column to the left, or the list beside"),
    bind(Scope::Lists, &[key(KeyCode::Right), char('l')], Action::Right, "the column to the right, or the list beside"),
    bind(Scope::Lists, &[char('s')], Action::Sort, "sort by the next column; a click on a heading too"),
    bind(Scope::Lists, &[char('S')], Action::Reverse, "turn the order round"),
    bind(Scope::Charts, &[char('+'), char('=')], Action::ZoomIn, "zoom in; drag across a chart, or the wheel on it"),
    bind(Scope::Charts, &[char('-')], Action::ZoomOut, "zoom out"),
    bind(Scope::Charts, &[char('[')], Action::PanLeft, "earlier"),
    bind(Scope::Charts, &[char(']')], Action::PanRight, "later"),
    bind(Scope::Charts, &[char('n')], Action::Live, "until now, moving on"),
    bind(Scope::Charts, &[char('c')], Action::Compare, "compare with an hour, a day, a week ago, nothing"),
    bind(Scope::Charts, &[char('L')], Action::Logarithmic, "logarithmic scale, on and off"),
    bind(Scope::Charts, &[char('a')], Action::Style, "lines, areas, stacked, heatmap, as suits each"),
    bind(
        Scope::Explore,
        &[char('e'), char('i')],
        Action::Edit,
        "edit the query; Enter asks, Tab completes, Up is history",
    ),
    bind(Scope::Explore, &[char('x')], Action::Explain, "explain: the plan with its cost"),
    bind(Scope::Explore, &[char('t')], Action::Table, "chart and table, chart, table"),
];

/// What a key press means where lists, charts and the query are as told.
pub(super) fn action(press: KeyEvent, in_explore: bool) -> Option<Action> {
    let pressed = Key { code: press.code, control: press.modifiers.contains(KeyModifiers::CONTROL) };
    let holds = |binding: &&Binding| in_explore || binding.scope != Scope::Explore;
    KEY_MAP.iter().filter(holds).find(|binding| binding.keys.contains(&pressed)).map(|binding| binding.action)
}

impl Key {
    /// As a person calls it.
    pub(super) fn name(self) -> String {
        let name = match self.code {
            KeyCode::Char(' ') => "Space".to_owned(),
            KeyCode::Char(char) if self.control => return format!("Ctrl-{char}"),
            KeyCode::Char(char) => char.to_string(),
            KeyCode::BackTab => "Shift-Tab".to_owned(),
            KeyCode::PageUp => "PgUp".to_owned(),
            KeyCode::PageDown => "PgDn".to_owned(),
            KeyCode::F(number) => format!("F{number}"),
            other => format!("{other:?}"),
        };
        if self.control { format!("Ctrl-{name}") } else { name }
    }
}

/// The help: headings, and lines of keys and words.
pub(super) fn help() -> Vec<(&'static str, Vec<(String, &'static str)>)> {
    [Scope::Everywhere, Scope::Lists, Scope::Charts, Scope::Explore]
        .into_iter()
        .map(|scope| {
            let of_scope = KEY_MAP.iter().filter(|binding| binding.scope == scope && !binding.text.is_empty());
            let line = |binding: &Binding| {
                let names: Vec<String> = binding.keys.iter().map(|key| key.name()).collect();
                (names.join(" "), binding.text)
            };
            (scope.title(), of_scope.map(line).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things() {
        for (at, binding) in KEY_MAP.iter().enumerate() {
            for other in &KEY_MAP[at + 1..] {
                let shared = binding.keys.iter().find(|key| other.keys.contains(key));
                assert!(shared.is_none(), "{shared:?} is {:?} and {:?}", binding.action, other.action);
            }
        }
    }

    #[test]
    fn every_key_of_the_help_does_what_its_line_says() {
        for binding in KEY_MAP {
            for key in binding.keys {
                let modifiers = if key.control { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
                assert_eq!(action(KeyEvent::new(key.code, modifiers), true), Some(binding.action));
            }
        }
        let lines: usize = help().iter().map(|(_, lines)| lines.len()).sum();
        assert_eq!(lines, KEY_MAP.iter().filter(|binding| !binding.text.is_empty()).count());
        assert_eq!(action(KeyEvent::new(KeyCode::Char('x'), KeyModifiers::NONE), false), None);
    }
}
