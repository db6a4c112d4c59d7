//! The screen at its door: frames of every view over made data, and what keys and a lost server do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod behaviour;
mod figures;
mod frames;
mod world;
