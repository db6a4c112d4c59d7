//! What Kymo costs, beside the floor and beside others, measured in one run.
//!
//! ```text
//!   load (recording or synthetic, cloned and re-timed) ──► requests ──► servers ──┐
//!     └──► batches ──► engine, decoder, handles (cases) ──► rounds ───────────────┴──► report
//! ```
//!
//! `cargo xtask bench` prints the report. The micro-benches in `benches/` time the same [`cases`] with criterion, for
//! work on one of them; `benches/peers` compares them with other crates.
//!
//! Rules: (1) a result is checked before it is timed; (2) cases of one table run in turn, in rounds, so that a busy
//! machine slows all of them alike; (3) what one thread does is given in CPU time of that thread, what a server does
//! in CPU time of its process; (4) bytes are quoted only after every sample was read back with its bits.

pub mod cases;
pub mod groups;
pub mod heap;
pub mod instructions;
pub mod load;
pub mod machine;
pub mod report;
pub mod rounds;
pub mod servers;
