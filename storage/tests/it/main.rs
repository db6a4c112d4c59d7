//! The engine at its door: the contract of `MetricStorage`, and what survives which accident.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod catalogue;
mod contract;
mod copies;
mod corruption;
mod crashes;
mod deletes;
mod kill;
mod named;
mod queue;
mod recovery;
mod redis;
mod rollups;
mod simulation;
mod state;
mod tending;
mod times;
mod verify;
mod world;
