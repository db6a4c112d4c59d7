//! What a refresh costs at 1,000 services.
//!
//! `cargo test --release -p kymo-dashboard --test it figures -- --ignored --nocapture` prints milliseconds.

use std::sync::Arc;
use std::time::Instant;

use kymo_core::QueryContext;
use kymo_dashboard::terminal::{App, Effect, Event, ViewId, render};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::world::{NOW, World, options, sources};

#[test]
#[ignore = "prints figures"]
fn a_refresh_at_a_thousand_services() {
    const ROUNDS: i64 = 50;
    let world = Arc::new(World { services: 1_000, ..World::default() });
    for view in [ViewId::Services, ViewId::Overview] {
        let (mut app, mut effects) = App::new(options(view, (120, 40)));
        let area = Rect::new(0, 0, 120, 40);
        let (mut asked, mut told, mut drawn) = (0.0, 0.0, 0.0);
        let mut buffer = Buffer::empty(area);
        for round in 0..ROUNDS {
            while !effects.is_empty() {
                let mut next = Vec::new();
                for effect in effects {
                    let Effect::Ask(question, ask) = effect else { continue };
                    let answer = ask.answer(&sources(&world), &QueryContext::unlimited());
                    let began = Instant::now();
                    next.extend(app.update(Event::Answer(question, answer)));
                    told += began.elapsed().as_secs_f64();
                }
                effects = next;
            }
            let began = Instant::now();
            effects = app.update(Event::Tick(NOW + (round + 1) * 2_000));
            asked += began.elapsed().as_secs_f64();
            let began = Instant::now();
            buffer = Buffer::empty(area);
            render(&app, area, &mut buffer);
            drawn += began.elapsed().as_secs_f64();
        }
        let ms = |seconds: f64| seconds * 1e3 / ROUNDS as f64;
        println!("{}: ask {:.2} ms, take answers {:.2} ms, draw {:.2} ms", view.name(), ms(asked), ms(told), ms(drawn));
        let text: String = buffer.content.iter().map(|cell| cell.symbol()).collect();
        assert!(text.contains("1000 services"), "{text}");
    }
}
