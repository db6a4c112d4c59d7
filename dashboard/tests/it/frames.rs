//! Golden frames: every view at three sizes, over the made world.
//!
//! `KYMO_GOLDEN=write cargo test -p kymo-dashboard --test it frames` writes them anew; look at what changed.

use std::path::Path;
use std::sync::Arc;

use kymo_core::QueryContext;
use kymo_dashboard::terminal::{Options, Paint, Palette, Settings, ViewId, frame};

use crate::world::{NOW, World, options, sources};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

fn subject(view: ViewId) -> Option<&'static str> {
    match view {
        ViewId::Service => Some("checkout"),
        ViewId::Explore => Some("up"),
        _ => None,
    }
}

fn drawn(options: Options, subject: Option<&str>) -> String {
    let world = Arc::new(World::default());
    frame(options, subject, &sources(&world), &QueryContext::unlimited(), Paint::Plain)
}

fn check(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/frames").join(name);
    if std::env::var_os("KYMO_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (number, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
        assert_eq!(expected, found, "{name}:{}", number + 1);
    }
    assert_eq!(expected.lines().count(), found.lines().count(), "{name}");
}

#[test]
fn every_view_is_drawn_as_it_was_at_every_size() {
    for view in ViewId::ALL {
        for size in SIZES {
            let text = drawn(options(view, size), subject(view));
            assert_eq!(text.lines().count(), usize::from(size.1), "{}", view.name());
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= usize::from(size.0), "{} is {widest} wide", view.name());
            check(&format!("{}-{}x{}.txt", view.name(), size.0, size.1), &text);
        }
    }
}

#[test]
fn services_are_drawn_as_a_server_judges_them() {
    let world = Arc::new(World { judges: true, ..World::default() });
    for view in [ViewId::Overview, ViewId::Services, ViewId::Service] {
        for size in SIZES {
            let ctx = QueryContext::unlimited();
            let text = frame(options(view, size), subject(view), &sources(&world), &ctx, Paint::Plain);
            check(&format!("judged/{}-{}x{}.txt", view.name(), size.0, size.1), &text);
        }
    }
}

#[test]
fn without_unicode_every_view_is_ascii() {
    for view in ViewId::ALL {
        let settings = Settings { unicode: Some(false), view, ..Settings::default() };
        let text = drawn(Options { settings, ..options(view, (80, 24)) }, subject(view));
        let foreign: String = text.chars().filter(|char| !char.is_ascii()).collect();
        assert_eq!(foreign, "", "{}", view.name());
        check(&format!("ascii/{}-80x24.txt", view.name()), &text);
    }
}

#[test]
fn comparison_and_logarithmic_scale_are_drawn() {
    let mut options = options(ViewId::Explore, (120, 40));
    (options.settings.span.compare_ms, options.settings.span.log) = (3_600_000, true);
    let text = drawn(options, Some("up"));
    check("explore-compared-120x40.txt", &text);
}

#[test]
fn without_colours_no_colour_is_sent() {
    let world = Arc::new(World::default());
    let painted = |palette: Palette, no_color: bool| {
        let mut options = options(ViewId::Services, (100, 24));
        (options.settings.palette, options.no_color, options.now_ms) = (palette, no_color, NOW);
        frame(options, None, &sources(&world), &QueryContext::unlimited(), Paint::Ansi)
    };
    assert!(painted(Palette::Dark, false).contains("38;5;"));
    for text in [painted(Palette::None, false), painted(Palette::Light, true)] {
        assert!(!text.contains("38;5;") && !text.contains("48;5;") && text.contains("\x1b["));
    }
}
