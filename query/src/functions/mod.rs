//! The formulas of PromQL's functions, on slices and numbers alone.
//!
//! Nothing here knows series, grids or storage; `eval` brings the samples and keeps the answers.

pub(crate) mod buckets;
pub(crate) mod calendar;
pub(crate) mod histogram;
pub(crate) mod math;
pub(crate) mod natural;
pub(crate) mod over_time;
pub(crate) mod rate;
pub(crate) mod regression;
pub(crate) mod rolled;
pub(crate) mod sorted_window;
pub(crate) mod starts;
pub(crate) mod window_sum;
