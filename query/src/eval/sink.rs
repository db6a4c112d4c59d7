//! Where the series of a selector or a function over ranges go: into a vector, or straight into the
//! aggregation around it, which then never holds more than its groups.

use kymo_core::query::QueryError;

use super::Evaluator;
use super::aggregate::{Folding, is_order_free};
use super::column::{Series, Vector};
use super::meter::Hold;
use super::notes::Notes;
use crate::parser::{AggregateOp, Ast, ExprKind, NodeId, ValueType};

/// Takes series in label order, and counts them.
pub(super) struct Sink<'a> {
    into: Into<'a>,
    pub(super) taken: usize,
}

enum Into<'a> {
    /// Keeps them.
    Collect(Vector),
    /// Folds them; holds the column on its way.
    Fold { folding: Box<dyn Folding + 'a>, passing: Hold },
}

impl Sink<'_> {
    /// Reserves the bytes of a column about to be made.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<(), QueryError> {
        match &mut self.into {
            Into::Collect(vector) => vector.hold.grow_bytes(bytes),
            Into::Fold { passing, .. } => passing.reach_bytes(bytes),
        }
    }

    /// Takes a series that has a sample; what is left of it is for the next one.
    pub(super) fn push(&mut self, series: &mut Series, notes: &mut Notes<'_>) -> Result<(), QueryError> {
        self.taken += 1;
        match &mut self.into {
            Into::Collect(vector) => {
                vector.hold.grow_samples(series.column.len())?;
                let column = std::mem::take(&mut series.column);
                vector.series.push(Series { labels: series.labels.clone(), drop_name: series.drop_name, column });
                Ok(())
            }
            Into::Fold { folding, passing } => {
                passing.set_samples(series.column.len())?;
                folding.add(series, notes)
            }
        }
    }

    /// The vector, or what was made of it.
    pub(super) fn finish(self, notes: &mut Notes<'_>) -> Result<Vector, QueryError> {
        match self.into {
            Into::Collect(vector) => Ok(vector),
            Into::Fold { folding, .. } => folding.finish(notes),
        }
    }
}

/// Per node, the aggregation that its series are folded into as they come.
pub(super) fn streams(ast: &Ast) -> Vec<Option<NodeId>> {
    let mut into = vec![None; ast.nodes().len()];
    for (id, expr) in ast.iter() {
        let ExprKind::Aggregate(aggregate) = &expr.kind else { continue };
        let inner = ast.unwrap_parens(aggregate.expr);
        if folds(aggregate.op) && streams_series(ast, inner) {
            into[inner.idx()] = Some(id);
        }
    }
    into
}

/// Whether each series is added to its group and then done with: all but quantiles, which need every value.
fn folds(op: AggregateOp) -> bool {
    op != AggregateOp::Quantile
}

/// Whether a node makes its series one after another.
fn streams_series(ast: &Ast, id: NodeId) -> bool {
    match &ast[id].kind {
        ExprKind::VectorSelector(_) => true,
        ExprKind::Call(call) => {
            let over_range = call.args.iter().any(|&arg| ast[arg].value_type == ValueType::Matrix);
            over_range && call.function.name != "absent_over_time"
        }
        _ => false,
    }
}

impl<'a> Evaluator<'a> {
    /// Whether the series of node `id` go straight into an aggregation that may not depend on their order.
    pub(super) fn is_summed(&self, id: NodeId) -> bool {
        let into = self.streams[id.idx()].map(|aggregate| &self.ast[aggregate].kind);
        matches!(into, Some(ExprKind::Aggregate(aggregate)) if is_order_free(aggregate.op))
    }

    /// Where the series of node `id` go.
    pub(super) fn sink(&mut self, id: NodeId) -> Result<Sink<'a>, QueryError> {
        let Some(aggregate_id) = self.streams[id.idx()] else {
            return Ok(Sink { into: Into::Collect(self.empty()?), taken: 0 });
        };
        let ast = self.ast;
        let ExprKind::Aggregate(aggregate) = &ast[aggregate_id].kind else {
            panic!("only aggregations take series as they come")
        };
        let folding = self.folding(aggregate, self.grid(id).steps(), ast[aggregate_id].span)?;
        Ok(Sink { into: Into::Fold { folding, passing: self.meter.hold()? }, taken: 0 })
    }
}
