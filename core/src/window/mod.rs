//! How often something happened lately: counts over sliding windows of fixed size in memory.
//!
//! A [`WindowCounter`] keeps one running total, and per window a ring of what that total was when each of its buckets
//! began. A window's count is the total less what it was at the window's edge, so an event costs one addition however
//! many windows there are, and a window that nobody adds to empties by itself: reading it later looks further on in the
//! ring, and nothing has to tick.
//!
//! Windows slide by buckets. A window always holds every event of its length, and at most one bucket more:
//!
//! | [`Span`] | length | bucket, the error bound |
//! |---|---|---|
//! | `Second` | 1 s | 50 ms |
//! | `Minute` | 60 s | 1 s |
//! | `Hour` | 60 min | 1 min |
//! | `Day` | 24 h | 15 min |
//! | `SinceStart` | everything | exact |
//!
//! Time is a parameter: the monotonic time of a [`Clock`](crate::Clock), so that setting the wall clock changes nothing,
//! and a test or a simulation moves it as it likes.
//!
//! ```
//! use std::time::Duration;
//! use kymo_core::window::{Span, WindowCounter};
//! use kymo_core::{Clock, ManualClock};
//!
//! let clock = ManualClock::at(0);
//! let requests = WindowCounter::new();
//! requests.add(3, clock.monotonic());
//! clock.advance(Duration::from_secs(30));
//! requests.add(1, clock.monotonic());
//!
//! let counts = requests.read(clock.monotonic());
//! assert_eq!(counts.get(Span::Second), 1);
//! assert_eq!(counts.get(Span::Minute), 4);
//!
//! clock.advance(Duration::from_secs(40));
//! assert_eq!(requests.read(clock.monotonic()).get(Span::Minute), 1);
//! assert_eq!(requests.read(clock.monotonic()).get(Span::SinceStart), 4);
//! ```

mod counter;
mod span;
mod sync;
#[cfg(test)]
mod tests;

pub use counter::WindowCounter;
pub use span::{Span, Trend, WindowCounts};
