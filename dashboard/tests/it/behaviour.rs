//! What keys, the mouse and a lost server do to the state, without a terminal and without waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kymo_core::QueryContext;
use kymo_dashboard::terminal::{App, Ask, Effect, Event, Options, Settings, ViewId, render};
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Rect;

use crate::world::{NOW, World, options, sources};

/// A screen with somebody who answers its questions at once.
struct Desk {
    app: App,
    world: Arc<World>,
    now_ms: i64,
    /// Questions since they were last looked at.
    asked: Vec<Ask>,
    /// Other effects.
    effects: Vec<Effect>,
}

impl Desk {
    fn at(view: ViewId) -> Desk {
        Desk::in_world(World::default(), view)
    }

    fn in_world(world: World, view: ViewId) -> Desk {
        Desk::with(world, Settings { view, ..Settings::default() })
    }

    fn with(world: World, settings: Settings) -> Desk {
        let world = Arc::new(world);
        let (app, effects) = App::new(Options { settings, ..options(ViewId::Overview, (120, 40)) });
        let mut desk = Desk { app, world, now_ms: NOW, asked: Vec::new(), effects: Vec::new() };
        desk.perform(effects);
        desk
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut next = effects;
        while !next.is_empty() {
            let mut following = Vec::new();
            for effect in next {
                match effect {
                    Effect::Ask(question, ask) => {
                        let answer = ask.answer(&sources(&self.world), &QueryContext::unlimited());
                        self.asked.push(ask);
                        following.extend(self.app.update(Event::Answer(question, answer)));
                    }
                    other => self.effects.push(other),
                }
            }
            next = following;
        }
    }

    fn event(&mut self, event: Event) {
        let effects = self.app.update(event);
        self.perform(effects);
    }

    fn key(&mut self, code: KeyCode) {
        self.event(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }

    fn keys(&mut self, text: &str) {
        text.chars().for_each(|char| self.key(KeyCode::Char(char)));
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        self.event(Event::Tick(self.now_ms));
    }

    fn shown(&mut self) -> String {
        let area = Rect::new(0, 0, 120, 40);
        let mut buffer = Buffer::empty(area);
        let hits = render(&self.app, area, &mut buffer);
        self.app.saw(hits);
        let cells: Vec<&str> = buffer.content.iter().map(|cell| cell.symbol()).collect();
        cells.chunks(120).map(|row| row.concat().trim_end().to_owned() + "\n").collect()
    }

    fn click(&mut self, kind: MouseEventKind, column: u16, row: u16) {
        self.event(Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }));
    }

    /// Where a text stands on the screen.
    fn find(&mut self, text: &str) -> (u16, u16) {
        let shown = self.shown();
        let (row, line) = shown.lines().enumerate().find(|(_, line)| line.contains(text)).unwrap();
        (line[..line.find(text).unwrap()].chars().count() as u16, row as u16)
    }
}

#[test]
fn only_the_visible_view_asks() {
    let mut desk = Desk::at(ViewId::Targets);
    assert_eq!(desk.asked, [Ask::Targets]);
    desk.asked.clear();
    desk.keys("9");
    assert_eq!(desk.asked, [Ask::Drops]);
    desk.asked.clear();
    desk.pass(2_000);
    assert_eq!(desk.asked, [Ask::Drops]);
    desk.asked.clear();
    desk.keys(" ");
    desk.pass(2_000);
    assert_eq!(desk.asked, [], "a paused screen asks nothing");
}

#[test]
fn what_the_server_judges_is_not_asked_of_promql_each_round() {
    let quantiles = |desk: &Desk| -> usize {
        let is_one = |ask: &&Ask| matches!(ask, Ask::Query(query) if query.text.contains("histogram_quantile"));
        desk.asked.iter().filter(is_one).count()
    };
    for view in [ViewId::Services, ViewId::Overview] {
        let mut desk = Desk::in_world(World { judges: true, ..World::default() }, view);
        assert!(desk.shown().contains("errors 8.5 % of requests"), "{}", desk.shown());
        desk.asked.clear();
        desk.pass(2_000);
        assert!(desk.asked.contains(&Ask::Services) && quantiles(&desk) == 0, "{:?}", desk.asked);
        // What was an hour ago is asked now and then, and everything when a person wants it anew.
        desk.pass(20_000);
        assert_eq!(quantiles(&desk), 1, "{:?}", desk.asked);
        desk.asked.clear();
        desk.keys("r");
        assert_eq!(quantiles(&desk), 1, "{:?}", desk.asked);
    }
    let mut desk = Desk::at(ViewId::Services);
    desk.asked.clear();
    desk.pass(2_000);
    assert_eq!(quantiles(&desk), 3, "{:?}", desk.asked);
}

#[test]
fn search_narrows_while_typed_and_escape_takes_it_back() {
    let mut desk = Desk::at(ViewId::Services);
    assert!(desk.shown().contains("catalog") && desk.shown().contains("checkout"));
    desk.keys("/che");
    assert!(desk.shown().contains("checkout") && !desk.shown().contains("catalog"));
    desk.key(KeyCode::Enter);
    assert!(!desk.shown().contains("catalog"));
    desk.key(KeyCode::Esc);
    assert!(desk.shown().contains("catalog"));
}

#[test]
fn a_service_is_opened_and_left_again() {
    let mut desk = Desk::at(ViewId::Services);
    desk.key(KeyCode::Enter);
    assert_eq!(desk.app.view_id, ViewId::Service);
    let shown = desk.shown();
    assert!(shown.contains("checkout") && shown.contains("UNHEALTHY: errors 8.5% ≥ 5%"), "{shown}");
    assert!(shown.contains("POST /orders") && shown.contains("0af7651916cd43dd8448eb211c80319c"), "{shown}");
    assert!(shown.contains("payments") && shown.contains("gateway"), "callees and callers: {shown}");
    desk.key(KeyCode::Esc);
    assert_eq!(desk.app.view_id, ViewId::Services);
}

#[test]
fn who_calls_and_is_called_is_gone_through_and_back() {
    let mut desk = Desk::in_world(World { judges: true, ..World::default() }, ViewId::Services);
    desk.key(KeyCode::Enter);
    assert_eq!(desk.app.view().subject(), "checkout");
    // Operations, called by, calls: the second of those.
    desk.keys("ll");
    desk.key(KeyCode::Down);
    desk.key(KeyCode::Enter);
    assert_eq!(desk.app.view().subject(), "payments");
    desk.key(KeyCode::Esc);
    assert_eq!(desk.app.view().subject(), "checkout");
    let (x, y) = desk.find("410ms 04:38:59");
    desk.click(MouseEventKind::Down(MouseButton::Left), x, y);
    desk.effects.clear();
    desk.keys("y");
    assert_eq!(desk.effects, [Effect::Copy("4bf92f3577b34da6a3ce929d0e0e4736".to_owned())]);
    let (x, y) = desk.find("gateway");
    for _ in 0..2 {
        desk.click(MouseEventKind::Down(MouseButton::Left), x, y);
    }
    assert_eq!(desk.app.view().subject(), "gateway");
    desk.key(KeyCode::Esc);
    desk.key(KeyCode::Esc);
    assert_eq!(desk.app.view_id, ViewId::Services);
}

#[test]
fn a_lost_server_is_said_asked_for_and_found_again() {
    let mut desk = Desk::at(ViewId::Services);
    desk.world.gone.store(true, Ordering::SeqCst);
    desk.pass(2_000);
    let shown = desk.shown();
    assert!(shown.contains("LOST") && shown.contains("connection refused"), "{shown}");
    assert!(shown.contains("checkout"), "what was known stays: {shown}");
    desk.asked.clear();
    for _ in 0..20 {
        desk.pass(1_000);
    }
    assert!(desk.asked.iter().all(|ask| *ask == Ask::About), "{:?}", desk.asked);
    assert!((2..=8).contains(&desk.asked.len()), "pauses grow: {}", desk.asked.len());
    desk.world.gone.store(false, Ordering::SeqCst);
    desk.pass(10_000);
    let shown = desk.shown();
    assert!(!shown.contains("LOST") && shown.contains("back after"), "{shown}");
    assert!(desk.asked.iter().any(|ask| matches!(ask, Ask::Query(_))));
}

#[test]
fn a_query_is_completed_checked_and_asked() {
    let mut desk = Desk::at(ViewId::Explore);
    desk.keys("e");
    for _ in 0..2 {
        desk.key(KeyCode::Backspace);
    }
    desk.keys("rate(node_cp");
    assert!(desk.shown().contains("node_cpu_seconds_total"), "{}", desk.shown());
    desk.key(KeyCode::Tab);
    desk.keys("{jo");
    desk.pass(1_000);
    desk.key(KeyCode::Tab);
    desk.keys("=\"no");
    desk.pass(1_000);
    desk.key(KeyCode::Tab);
    desk.keys("\"}[1m])");
    desk.key(KeyCode::Enter);
    let text = "rate(node_cpu_seconds_total{job=\"node\"}[1m])";
    assert_eq!(desk.app.settings.queries, [text]);
    assert!(desk.asked.iter().any(|ask| matches!(ask, Ask::Query(request) if request.text == text)));
    desk.keys("e");
    desk.key(KeyCode::Up);
    assert!(desk.shown().contains(text), "the history has it");
}

#[test]
fn slips_are_named_as_typed_by_the_text_alone_and_then_by_the_server() {
    let mut desk = Desk::at(ViewId::Explore);
    desk.keys("e");
    desk.keys(" + smu(up)");
    assert!(desk.shown().contains("unknown function \"smu\""), "{}", desk.shown());
    desk.key(KeyCode::Esc);
    desk.keys("e + wrong x");
    assert!(!desk.shown().contains("unexpected identifier"));
    desk.pass(1_000);
    assert!(desk.shown().contains("unexpected identifier \"wrong\""), "{}", desk.shown());
    desk.keys("y");
    assert!(!desk.shown().contains("unexpected identifier"), "what was said of another text is gone");
}

#[test]
fn zoom_pan_and_comparison_change_what_is_asked() {
    let mut desk = Desk::at(ViewId::Explore);
    let range = |desk: &mut Desk| {
        let found = desk.asked.iter().rev().find_map(|ask| match ask {
            Ask::Query(request) if request.grid.steps() > 1 => Some((request.grid.start_ms(), request.grid.end_ms())),
            _ => None,
        });
        found.unwrap()
    };
    let (start, end) = range(&mut desk);
    assert_eq!(end - start, 900_000);
    desk.keys("+");
    let (start, end) = range(&mut desk);
    assert!((448_000..=450_000).contains(&(end - start)), "{}", end - start);
    desk.keys("[");
    assert!(range(&mut desk).1 < end);
    desk.keys("nc");
    let asked: Vec<i64> = desk
        .asked
        .iter()
        .filter_map(|ask| match ask {
            Ask::Query(request) if request.grid.steps() > 1 => Some(request.grid.end_ms()),
            _ => None,
        })
        .collect();
    assert_eq!(asked[asked.len() - 2] - asked[asked.len() - 1], 3_600_000, "the same an hour ago");
}

#[test]
fn the_mouse_chooses_tabs_rows_and_spans() {
    let mut desk = Desk::at(ViewId::Overview);
    let (x, y) = desk.find("7 Targets");
    desk.click(MouseEventKind::Down(MouseButton::Left), x, y);
    assert_eq!(desk.app.view_id, ViewId::Targets);
    let (x, y) = desk.find("10.0.0.8");
    desk.click(MouseEventKind::Down(MouseButton::Left), x, y);
    desk.shown();
    desk.click(MouseEventKind::Down(MouseButton::Left), x, y);
    assert_eq!(desk.app.view_id, ViewId::Explore);
    assert!(desk.shown().contains("10.0.0.8:8080"));
    let before = desk.app.settings.span.length_ms;
    desk.click(MouseEventKind::Down(MouseButton::Left), 40, 12);
    desk.click(MouseEventKind::Drag(MouseButton::Left), 60, 12);
    desk.click(MouseEventKind::Up(MouseButton::Left), 60, 12);
    let after = desk.app.settings.span;
    assert!(after.length_ms < before / 3 && after.end_ms.is_some(), "{after:?}");
}

#[test]
fn commands_are_completed_run_and_remembered() {
    let mut desk = Desk::at(ViewId::Overview);
    desk.keys(":view ho");
    desk.key(KeyCode::Tab);
    desk.key(KeyCode::Enter);
    assert_eq!(desk.app.view_id, ViewId::Host);
    desk.keys(":range 6h");
    desk.key(KeyCode::Enter);
    assert_eq!(desk.app.settings.span.length_ms, 6 * 3_600_000);
    desk.keys(":query sum(up)");
    desk.key(KeyCode::Enter);
    desk.keys("b1:go sum");
    desk.key(KeyCode::Enter);
    assert_eq!((desk.app.view_id, desk.app.view().subject()), (ViewId::Explore, "sum(up)"));
    assert!(desk.effects.contains(&Effect::Save));
    desk.keys(":nonsense");
    desk.key(KeyCode::Enter);
    assert!(desk.shown().contains("no command \"nonsense\""));
    assert_eq!(desk.app.settings.commands.len(), 5);
}

#[test]
fn what_is_copied_goes_to_the_clipboard() {
    let mut desk = Desk::at(ViewId::Explore);
    desk.keys("y");
    assert_eq!(desk.effects, [Effect::Copy("up".to_owned())]);
    let mut desk = Desk::at(ViewId::Services);
    desk.keys("Y");
    assert!(
        matches!(&desk.effects[..], [Effect::Copy(row)] if row.starts_with("checkout\t9.5/s\t8.5%")),
        "{:?}",
        desk.effects
    );
}

#[test]
fn the_help_is_the_key_map_and_closes() {
    let mut desk = Desk::at(ViewId::Overview);
    desk.keys("?");
    let shown = desk.shown();
    for text in ["Everywhere", "Ctrl-z", "suspend; fg comes back", "zoom in"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    desk.key(KeyCode::PageDown);
    assert!(desk.shown().contains(":bookmark"), "{}", desk.shown());
    desk.key(KeyCode::Esc);
    assert!(desk.shown().contains("What is sick"));
}

#[test]
fn a_new_size_is_drawn_and_asked_for() {
    let mut desk = Desk::at(ViewId::Services);
    desk.asked.clear();
    desk.event(Event::Resize(80, 24));
    assert!(!desk.asked.is_empty());
    let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
    render(&desk.app, Rect::new(0, 0, 80, 24), &mut buffer);
    for (width, height) in [(1, 1), (40, 10), (41, 11), (300, 12), (60, 100)] {
        for view in ViewId::ALL {
            let effects = {
                let mut effects = Vec::new();
                desk.app.open(view, (view == ViewId::Service).then_some("checkout"), &mut effects);
                effects
            };
            desk.perform(effects);
            desk.event(Event::Resize(width, height));
            let area = Rect::new(0, 0, width, height);
            render(&desk.app, area, &mut Buffer::empty(area));
        }
    }
}

#[test]
fn an_old_answer_never_replaces_a_newer_one() {
    let world = Arc::new(World::default());
    let (mut app, first) = App::new(options(ViewId::Targets, (120, 40)));
    let second = app.update(Event::Resize(120, 41));
    let answered = |effects: &[Effect]| match &effects[0] {
        Effect::Ask(question, ask) => (*question, ask.answer(&sources(&world), &QueryContext::unlimited())),
        other => panic!("{other:?}"),
    };
    let (new, good) = answered(&second);
    world.gone.store(true, Ordering::SeqCst);
    let (old, bad) = answered(&first);
    app.update(Event::Answer(new, good));
    app.update(Event::Answer(old, bad));
    assert_eq!(app.banner(), None);
}

#[test]
fn what_happened_and_what_was_noted_stand_on_every_chart() {
    let mut desk = Desk::at(ViewId::Explore);
    desk.keys(":query up");
    desk.key(KeyCode::Enter);
    assert!(desk.shown().contains("▼checkout started"), "{}", desk.shown());
    desk.key(KeyCode::Left);
    for _ in 0..60 {
        desk.key(KeyCode::Left);
    }
    desk.keys(":mark deployed 1.4");
    desk.key(KeyCode::Enter);
    assert!(desk.shown().contains("▼deployed 1.4"), "{}", desk.shown());
    assert!(desk.effects.contains(&Effect::Save));
    desk.keys("5");
    assert_eq!(desk.shown().matches("▼deployed 1.4").count(), 6, "{}", desk.shown());
    desk.keys(":unmark deployed 1.4");
    desk.key(KeyCode::Enter);
    assert!(!desk.shown().contains("deployed") && desk.app.settings.notes.is_empty());
    desk.asked.clear();
    desk.pass(2_000);
    let events = |asked: &[Ask]| asked.iter().filter(|ask| format!("{ask:?}").contains("process_start_time")).count();
    assert_eq!(events(&desk.asked), 0, "events are asked for less often than values");
    desk.pass(10_000);
    assert_eq!(events(&desk.asked), 1);
}

#[test]
fn how_views_were_arranged_is_kept() {
    let mut desk = Desk::at(ViewId::Services);
    desk.keys("s");
    assert_eq!(desk.effects, [Effect::Save]);
    desk.effects.clear();
    desk.keys("j");
    assert_eq!(desk.effects, [], "where one is in a list is not kept");
    desk.keys("3txe");
    desk.keys(" + 1");
    desk.key(KeyCode::Enter);
    desk.keys("aa8l s q");
    let left = desk.app.settings.clone();
    let mut kept = options(ViewId::Explore, (120, 40));
    kept.settings = Settings::read(&left.text()).unwrap();
    let (again, _) = App::new(kept);
    assert_eq!(again.settings, left);
    assert_eq!(again.view_id, ViewId::Cardinality);
    let mut desk = Desk::with(World::default(), Settings { view: ViewId::Explore, ..left });
    let shown = desk.shown();
    assert!(shown.contains("❯ up + 1") && shown.contains("Plan:") && !shown.contains("─ Now ─"), "{shown}");
    desk.keys("2");
    assert!(desk.shown().contains("SERVICE▾"), "{}", desk.shown());
}

#[test]
fn every_chart_is_compared_with_an_earlier_time() {
    for (view, charts) in [(ViewId::Overview, 4), (ViewId::Metrics, 1), (ViewId::Host, 6), (ViewId::Explore, 1)] {
        let mut desk = Desk::at(view);
        let alone = desk.shown();
        desk.keys("nc");
        let ranges = desk.asked.iter().filter_map(|ask| match ask {
            Ask::Query(request) if request.grid.steps() > 100 => Some(request.grid.end_ms()),
            _ => None,
        });
        let newest = ranges.clone().max().unwrap();
        assert_eq!(ranges.filter(|end| *end == newest - 3_600_000).count(), charts, "{}", view.name());
        let both = desk.shown();
        assert_ne!(dots(&alone), dots(&both), "{}", view.name());
        desk.keys(":compare off");
        desk.key(KeyCode::Enter);
        assert_eq!(dots(&alone), dots(&desk.shown()), "{}", view.name());
    }
}

/// What is drawn on canvases.
fn dots(shown: &str) -> String {
    shown.chars().filter(|char| ('\u{2800}'..='\u{28ff}').contains(char)).collect()
}

#[test]
fn a_distribution_is_a_heatmap_until_lines_are_wanted() {
    let mut desk = Desk::at(ViewId::Overview);
    desk.keys(":query sum by (le) (rate(http_server_request_duration_seconds_bucket[5m]))");
    desk.key(KeyCode::Enter);
    let shown = desk.shown();
    assert!(shown.contains("████") && dots(&shown).is_empty(), "{shown}");
    // What is observed are seconds, not a rate of them.
    assert!(shown.contains("ms █") && shown.contains("▼checkout started"), "{shown}");
    desk.keys("a");
    let shown = desk.shown();
    assert!(!shown.contains("████") && !dots(&shown).is_empty(), "{shown}");
    desk.keys(":chart heatmap");
    desk.key(KeyCode::Enter);
    assert!(desk.shown().contains("████"), "{}", desk.shown());
    // Where there is no distribution there are lines.
    desk.keys(":query up");
    desk.key(KeyCode::Enter);
    assert!(!dots(&desk.shown()).is_empty());
}
