//! The terminal: state, events and frames without a terminal, and a thin loop that has one.
//!
//! ```text
//! keys, mouse, clock, answers ─▶ App::update ─▶ effects ─▶ run.rs: asks on a pool, clipboard, settings file
//!                                    │
//!                                    └──▶ render ─▶ a frame (once.rs prints it, run.rs draws what changed)
//! ```
//!
//! State and drawing are pure: the same events give the same frame, which is what the golden frames of the tests are.

mod app;
mod ask;
mod cast;
pub mod chart;
mod command;
mod keys;
mod line;
mod marks;
mod once;
mod promql;
mod result;
mod run;
mod screen;
mod services;
mod settings;
mod span;
mod table;
mod text;
mod theme;
mod view;

pub use app::{App, Effect, Event, Options, Question};
pub use ask::{Answer, Ask, Sources};
pub use cast::{CastError, Recorder, Recording, replay};
pub use once::{Look, Paint, frame, plot};
pub use promql::place;
pub use run::{RunError, Running, run, terminal_size};
pub use screen::{Hits, render};
pub use settings::{Arrangement, Bookmark, Note, Parts, Settings, Shown};
pub use theme::Palette;
pub use view::ViewId;
