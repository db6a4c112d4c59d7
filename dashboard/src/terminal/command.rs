//! The commands after `:`, their help and their completion.

use kymo_core::text::parse_duration_ms;

use super::app::{App, Effect};
use super::chart::Kind;
use super::settings::{Bookmark, Note, Settings};
use super::span::COMPARISONS;
use super::theme::Palette;
use super::view::ViewId;

/// Notes kept at most; an older one gives way.
const NOTES_MAX: usize = 200;
/// Characters of a note kept at most.
const NOTE_CHARS_MAX: usize = 60;

/// One command.
pub(super) struct Command {
    /// What is typed.
    pub name: &'static str,
    /// What follows it.
    pub arguments: &'static str,
    /// What it does.
    pub text: &'static str,
    run: fn(&mut App, &str, &mut Vec<Effect>) -> Result<(), String>,
}

/// All of them, sorted.
pub(super) const COMMANDS: &[Command] = &[
    Command { name: "ascii", arguments: "on|off", text: "draw with ASCII only", run: ascii },
    Command { name: "bookmark", arguments: "[NAME]", text: "keep this view, its query and span", run: bookmark },
    Command { name: "bookmarks", arguments: "", text: "the names of all bookmarks", run: bookmarks },
    Command { name: "chart", arguments: "auto|lines|areas|stacked|heatmap", text: "how charts are drawn", run: chart },
    Command { name: "compare", arguments: "hour|day|week|off", text: "draw the same of then behind", run: compare },
    Command { name: "forget", arguments: "NAME", text: "remove a bookmark", run: forget },
    Command { name: "go", arguments: "NAME", text: "to a bookmark", run: go },
    Command { name: "interval", arguments: "SECONDS", text: "how often to ask", run: interval },
    Command { name: "log", arguments: "on|off", text: "logarithmic scale", run: log },
    Command { name: "mark", arguments: "TEXT", text: "note a word on charts, at the cursor or now", run: mark },
    Command { name: "query", arguments: "EXPR", text: "explore an expression", run: query },
    Command { name: "quit", arguments: "", text: "leave", run: quit },
    Command { name: "range", arguments: "DURATION", text: "how much time charts show: 15m, 6h, 7d", run: range },
    Command { name: "service", arguments: "NAME", text: "look at one service", run: service },
    Command { name: "theme", arguments: "dark|light|none", text: "colours", run: theme },
    Command { name: "unmark", arguments: "TEXT", text: "remove a note", run: unmark },
    Command { name: "view", arguments: "NAME", text: "to a view", run: view },
    Command { name: "window", arguments: "DURATION", text: "over what rates are taken: 1m, 5m", run: window },
];

/// Runs a line; what is wrong with it is said to the person.
///
/// # Errors
/// The words for the person.
pub(super) fn run(app: &mut App, line: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    let (name, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
    if name.is_empty() {
        return Ok(());
    }
    let exact = COMMANDS.iter().find(|command| command.name == name);
    let command = exact.or_else(|| COMMANDS.iter().find(|command| command.name.starts_with(name)));
    match (command, ViewId::of_name(name)) {
        (Some(command), _) => (command.run)(app, rest.trim(), effects),
        (None, Some(id)) => view(app, id.name(), effects),
        (None, None) => Err(format!("no command {name:?}; ? lists them")),
    }
}

/// What may follow a line, as a grey hint.
pub(super) fn hint(line: &str, settings: &Settings) -> String {
    let candidates = candidates(line, settings);
    if !line.contains(' ')
        && let Some(command) = COMMANDS.iter().find(|command| command.name == line)
    {
        return format!("{}   {}", command.arguments, command.text);
    }
    candidates.into_iter().take(8).collect::<Vec<_>>().join("  ")
}

/// The line with its last word completed, as far as that is certain.
pub(super) fn complete(line: &str, settings: &Settings) -> Option<String> {
    let candidates = candidates(line, settings);
    let first = candidates.first()?;
    let common = candidates.iter().fold(first.len(), |length, other| {
        first.bytes().zip(other.bytes()).take(length).take_while(|(a, b)| a == b).count()
    });
    let start = line.rfind(' ').map_or(0, |at| at + 1);
    let mut done = line[..start].to_owned() + first.get(..common)?;
    if candidates.len() == 1 && start == 0 {
        done.push(' ');
    }
    (done.len() > line.len()).then_some(done)
}

fn candidates(line: &str, settings: &Settings) -> Vec<String> {
    let Some((name, typed)) = line.split_once(' ') else {
        return COMMANDS.iter().map(|command| command.name.to_owned()).filter(|name| name.starts_with(line)).collect();
    };
    let words: Vec<String> = match name {
        "view" => ViewId::ALL.iter().map(|view| view.name().to_owned()).collect(),
        "unmark" => settings.notes.iter().map(|note| note.text.clone()).collect(),
        "go" | "forget" => settings.bookmarks.iter().map(|bookmark| bookmark.name.clone()).collect(),
        _ => COMMANDS
            .iter()
            .find(|command| command.name == name)
            .filter(|command| command.arguments.contains('|'))
            .map(|command| command.arguments.split('|').map(str::to_owned).collect())
            .unwrap_or_default(),
    };
    words.into_iter().filter(|word| word.starts_with(typed)).collect()
}

fn on_off(text: &str, now: bool) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        "" => Ok(!now),
        _ => Err("expected on or off".to_owned()),
    }
}

fn ascii(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    app.settings.unicode = Some(!on_off(text, !app.theme().unicode)?);
    effects.push(Effect::Save);
    Ok(())
}

fn bookmark(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    let subject = app.view().subject().to_owned();
    let name = match text {
        "" if subject.is_empty() => app.view_id.name().to_owned(),
        "" => subject.chars().take(40).collect(),
        name => name.to_owned(),
    };
    let made = Bookmark { name, view: app.view_id, subject, length_ms: app.settings.span.length_ms };
    app.settings.bookmarks.retain(|bookmark| bookmark.name != made.name);
    app.message = Some(format!("bookmarked as {:?}; :go leads back", made.name));
    app.settings.bookmarks.push(made);
    effects.push(Effect::Save);
    Ok(())
}

fn bookmarks(app: &mut App, _: &str, _: &mut Vec<Effect>) -> Result<(), String> {
    let names: Vec<&str> = app.settings.bookmarks.iter().map(|bookmark| bookmark.name.as_str()).collect();
    app.message = Some(match names.is_empty() {
        true => "no bookmarks yet: b makes one".to_owned(),
        false => format!("bookmarks: {}", names.join(", ")),
    });
    Ok(())
}

fn chart(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    app.settings.span.kind = match text {
        "auto" => None,
        "lines" => Some(Kind::Lines),
        "areas" => Some(Kind::Areas),
        "stacked" => Some(Kind::Stacked),
        "heatmap" => Some(Kind::Heat),
        _ => return Err("expected auto, lines, areas, stacked or heatmap".to_owned()),
    };
    effects.push(Effect::Save);
    Ok(())
}

fn compare(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    let at = ["off", "hour", "day", "week"].iter().position(|name| *name == text);
    let at = at.ok_or("expected hour, day, week or off")?;
    app.settings.span.compare_ms = COMPARISONS[at].0;
    app.ask_now(effects);
    Ok(())
}

fn forget(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    let before = app.settings.bookmarks.len();
    app.settings.bookmarks.retain(|bookmark| bookmark.name != text);
    if app.settings.bookmarks.len() == before {
        return Err(format!("no bookmark {text:?}"));
    }
    effects.push(Effect::Save);
    Ok(())
}

fn go(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    let found = app.settings.bookmarks.iter().find(|bookmark| bookmark.name.starts_with(text)).cloned();
    let bookmark = found.ok_or_else(|| format!("no bookmark {text:?}"))?;
    app.settings.span.set_length(bookmark.length_ms);
    app.open(bookmark.view, (!bookmark.subject.is_empty()).then_some(&*bookmark.subject), effects);
    Ok(())
}

fn interval(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    let seconds = text.trim_end_matches('s').parse().ok().filter(|seconds| (1..=3_600).contains(seconds));
    app.settings.interval_s = seconds.ok_or("expected 1 to 3600 seconds")?;
    effects.push(Effect::Save);
    Ok(())
}

fn log(app: &mut App, text: &str, _: &mut Vec<Effect>) -> Result<(), String> {
    app.settings.span.log = on_off(text, app.settings.span.log)?;
    Ok(())
}

fn mark(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    if text.is_empty() {
        return Err("which word?".to_owned());
    }
    let time_ms = app.view().cursor().unwrap_or(app.now_ms);
    app.settings.notes.push(Note { time_ms, text: text.chars().take(NOTE_CHARS_MAX).collect() });
    let old = app.settings.notes.len().saturating_sub(NOTES_MAX);
    app.settings.notes.drain(..old);
    effects.push(Effect::Save);
    Ok(())
}

fn unmark(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    let before = app.settings.notes.len();
    app.settings.notes.retain(|note| note.text != text);
    if app.settings.notes.len() == before {
        return Err(format!("no note {text:?}"));
    }
    effects.push(Effect::Save);
    Ok(())
}

fn query(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    app.open(ViewId::Explore, Some(text), effects);
    Ok(())
}

fn quit(_: &mut App, _: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    effects.push(Effect::Quit);
    Ok(())
}

fn duration(text: &str) -> Result<i64, String> {
    let parsed = parse_duration_ms(text).ok().filter(|ms| *ms > 0);
    parsed.ok_or_else(|| "expected a duration like 15m, 6h or 7d".to_owned())
}

fn range(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    app.settings.span.set_length(duration(text)?);
    effects.push(Effect::Save);
    app.ask_now(effects);
    Ok(())
}

fn service(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    if text.is_empty() {
        return Err("which service?".to_owned());
    }
    app.open(ViewId::Service, Some(text), effects);
    Ok(())
}

fn theme(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    app.settings.palette = Palette::of_name(text).ok_or("expected dark, light or none")?;
    effects.push(Effect::Save);
    Ok(())
}

fn view(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    let id = ViewId::of_name(text).ok_or_else(|| format!("no view {text:?}"))?;
    app.open(id, None, effects);
    Ok(())
}

fn window(app: &mut App, text: &str, effects: &mut Vec<Effect>) -> Result<(), String> {
    duration(text)?;
    app.settings.window = text.to_owned();
    effects.push(Effect::Save);
    app.ask_now(effects);
    Ok(())
}
