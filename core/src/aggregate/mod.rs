//! Aggregation states, shared by queries and rollups.
//!
//! A state takes values ([`update`](Sum::update)), takes another state whose values come after its
//! own ([`merge`](Sum::merge)), and gives its answer ([`finish`](Sum::finish)), which is `None` as
//! long as it has seen nothing. What every state promises, and one property suite checks for all:
//!
//! 1. Merging an empty state changes nothing, from either side.
//! 2. Merging equals feeding the concatenation.
//! 3. The order of values does not matter: exactly for counts, minimum, maximum, and quantiles, to
//!    1e-12 relative for sums, averages and variances. First and last go by time instead.
//!
//! Sums are compensated (Kahan's method with Neumaier's improvement, as in Prometheus), so 2 and 3
//! hold while no partial sum overflows.

mod avg;
mod count;
mod extreme;
mod points;
mod position;
mod quantile;
pub mod rollup;
mod sum;
#[cfg(test)]
mod tests;
mod variance;

pub use avg::Avg;
pub use count::{Count, Group};
pub use extreme::{Max, Min};
pub use points::{AggregatedMetrics, MetricAggregator, PointAggregator};
pub use position::{First, Last};
pub use quantile::{Quantile, nan_first, quantile, quantile_of_sorted};
pub use sum::{CompensatedSum, Sum};
pub use variance::{StdDev, StdVar};
