//! Aggregations: series are put into groups by their labels once, then each group is folded over the
//! whole grid.

mod count_values;
mod fold;
mod quantile;
mod ratio;
mod select;

use std::collections::HashMap;

use kymo_core::query::QueryError;

pub(super) use self::fold::Folding;
use self::quantile::Quantiles;
use self::select::{Limits, Ranks};
use super::Evaluator;
use super::column::{Scalars, Vector};
use super::labels::{Groups, Projection};
use super::notes::Note;
use crate::parser::{Aggregate, AggregateOp, NodeId, Span};

impl<'a> Evaluator<'a> {
    /// Evaluates an aggregation.
    pub(super) fn aggregate(&mut self, id: NodeId, span: Span, what: &'a Aggregate) -> Result<Vector, QueryError> {
        let steps = self.grid(id).steps();
        if self.streams.is_folded(self.ast, what.expr) {
            // Its series were folded as they came.
            return Ok(self.take_vector(what.expr));
        }
        let mut folding = self.folding(what, steps, span)?;
        let mut vector = self.take_vector(what.expr);
        if is_order_free(what.op) {
            // The place of a series that an aggregation or a join made depends on what else the range holds.
            vector.sort(&self.meter)?;
        }
        for series in &vector.series {
            self.meter.check()?;
            folding.add(series, &mut self.notes)?;
        }
        drop(vector);
        folding.finish(&mut self.notes)
    }

    /// The aggregation `what`, which must be one that takes series as they come.
    pub(super) fn folding(
        &mut self,
        what: &'a Aggregate,
        steps: usize,
        span: Span,
    ) -> Result<Box<dyn Folding + 'a>, QueryError> {
        use AggregateOp::{Bottomk, CountValues, LimitRatio, Limitk, Quantile, Topk};
        if what.op == CountValues {
            return Ok(Box::new(self.value_counts(what, steps)?));
        }
        if !matches!(what.op, Topk | Bottomk | Limitk | LimitRatio | Quantile) {
            return self.states(what, steps);
        }
        let param_id = what.param.expect("the parser gives these their parameter");
        let mut param = self.take_scalars(param_id);
        if !self.check_param(what.op, &param, self.span(param_id))? {
            // Known to take nothing.
            param = Scalars::Constant(0.0);
        }
        let (op, by, at, out) = (what.op, projection(what), Groups::default(), self.empty()?);
        Ok(match op {
            // Parentheses around the vector count here.
            Quantile => Box::new(Quantiles {
                by,
                q: param,
                steps,
                span: self.ast[what.expr].span,
                at,
                groups: Vec::new(),
                out,
                ctx: self.ctx,
            }),
            Topk | Bottomk => Box::new(Ranks {
                op,
                by,
                k_max: param.values().iter().fold(0, |most, k| (*k as usize).max(most)),
                k: param,
                steps,
                span,
                out,
                held: self.meter.hold()?,
                meter: self.meter.clone(),
                at,
                groups: Vec::new(),
                members: HashMap::default(),
                came: 0,
            }),
            _ => Box::new(Limits {
                op,
                by,
                param,
                steps,
                at,
                taken: Vec::new(),
                chosen: Vec::new(),
                out,
                meter: self.meter.clone(),
            }),
        })
    }

    /// Notes and refuses parameters as upstream does, before anything is aggregated. False when the
    /// answer is known to be empty.
    fn check_param(&mut self, op: AggregateOp, param: &Scalars, span: Span) -> Result<bool, QueryError> {
        let values = param.values();
        let any_nan = values.iter().any(|v| v.is_nan());
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        match op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => {
                if any_nan {
                    return Err(super::invalid("Parameter value is NaN"));
                }
                if max < 1.0 {
                    return Ok(false);
                }
                if min <= i64::MIN as f64 {
                    return Err(super::invalid(format!(
                        "Scalar value {} underflows int64",
                        super::notes::general(min)
                    )));
                }
                if max >= LARGEST_INTEGER {
                    return Err(super::invalid(format!("Scalar value {} overflows int64", super::notes::general(max))));
                }
            }
            AggregateOp::LimitRatio => {
                if any_nan {
                    return Err(super::invalid("Ratio value is NaN"));
                }
                if max == 0.0 && min == 0.0 {
                    return Ok(false);
                }
                if max > 1.0 {
                    self.notes.add(Note::InvalidRatio { ratio: max, capped: 1.0 }, span);
                }
                if min < -1.0 {
                    self.notes.add(Note::InvalidRatio { ratio: min, capped: -1.0 }, span);
                }
            }
            AggregateOp::Quantile => {
                if any_nan {
                    self.notes.add(Note::InvalidQuantile(f64::NAN), span);
                }
                for wrong in [(max > 1.0).then_some(max), (min < 0.0).then_some(min)].into_iter().flatten() {
                    self.notes.add(Note::InvalidQuantile(wrong), span);
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

/// Bytes that the groups of an aggregation hold per step besides the answer, about.
pub(super) fn state_bytes(op: AggregateOp, series: u64, groups: u64) -> u64 {
    use AggregateOp::{
        Avg, Bottomk, Count, CountValues, Group, LimitRatio, Limitk, Max, Min, Quantile, Stddev, Stdvar, Sum, Topk,
    };
    groups
        * match op {
            Sum => 16,
            Avg => 20,
            Count | Limitk => 4,
            Min | Max => 16,
            Group => 8,
            Stddev | Stdvar => 40,
            Topk | Bottomk => 40,
            LimitRatio | CountValues => 0,
            Quantile => return series * quantile::VALUE_BYTES,
        }
}

/// Whether an aggregation's answer may not depend on the order of its input. Of the others, which of two equal values
/// stays is decided by what came first, as upstream does.
pub(super) fn is_order_free(op: AggregateOp) -> bool {
    use AggregateOp::{Bottomk, LimitRatio, Limitk, Topk};
    !matches!(op, Topk | Bottomk | Limitk | LimitRatio)
}

/// The largest float that is an `i64`.
const LARGEST_INTEGER: f64 = 9_223_372_036_854_774_784.0;

pub(super) fn projection(what: &Aggregate) -> Projection<'_> {
    if what.without { Projection::Drop(&what.grouping) } else { Projection::Keep(&what.grouping) }
}
