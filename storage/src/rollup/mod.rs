//! Rollups: buckets of five minutes and of an hour, made of samples by the merge lane, that answer where samples are not kept
//! any more, or when a query asks for them.
//!
//! ```text
//!   blocks of samples ──▶ blocks of 5 m, one a day ──▶ blocks of 1 h, one in ten days
//!          └── deletes, late data: an hour that was touched is dirty, and rolled up again
//! ```
//!
//! A block of rollups is a block whose series have chunks of figures ([`rows`]); which hours are made, and which of them are
//! dirty, stands in the manifest ([`spans`]), and changes with it: a crash leaves the old block or the new one.
//!
//! Invariants: (1) what is made and not dirty says what the samples say, as long as those are kept; a query that asks for a tier rolls
//! the rest up on its way; (2) an hour of samples goes only after it was rolled up, while rollups are kept; (3) a
//! bucket whose samples are gone is carried from block to block, and never made anew from a part of them; (4) a delete
//! hides every bucket it reaches into; (5) where samples went for their size after they were rolled up, what was rolled up
//! answers and is never touched again.

mod build;
mod layers;
mod measure;
mod rows;
mod select;
mod spans;

pub(crate) use build::{RollupJob, made_of};
pub(crate) use rows::GROUP;
pub(crate) use spans::{Rolled, Spans, whole_hours};
