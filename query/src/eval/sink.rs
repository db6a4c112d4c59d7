//! Where the series of a selector or a function over ranges go: into a vector, or straight into the
//! aggregation around it, which then never holds more than its groups.

use kymo_core::query::QueryError;

use super::Evaluator;
use super::aggregate::Folding;
use super::column::{Series, Vector};
use super::meter::Hold;
use super::notes::Notes;
use crate::parser::{AggregateOp, Ast, ExprKind, NodeId, ValueType};

/// Takes series in label order.
pub(super) enum Sink<'a> {
    /// Keeps them.
    Collect(Vector),
    /// Folds them; holds the column on its way.
    Fold { folding: Box<dyn Folding + 'a>, passing: Hold },
}

impl Sink<'_> {
    /// Reserves the bytes of a column about to be made.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<(), QueryError> {
        match self {
            Sink::Collect(vector) => vector.hold.grow_bytes(bytes),
            Sink::Fold { passing, .. } => passing.reach_bytes(bytes),
        }
    }

    /// Takes a series that has a sample; what is left of it is for the next one.
    pub(super) fn push(&mut self, series: &mut Series, notes: &mut Notes<'_>) -> Result<(), QueryError> {
        match self {
            Sink::Collect(vector) => {
                vector.hold.grow_samples(series.column.len())?;
                let column = std::mem::take(&mut series.column);
                vector.series.push(Series { labels: series.labels.clone(), drop_name: series.drop_name, column });
                Ok(())
            }
            Sink::Fold { folding, passing } => {
                passing.set_samples(series.column.len())?;
                folding.add(series, notes)
            }
        }
    }

    /// The vector, or what was made of it.
    pub(super) fn finish(self, notes: &mut Notes<'_>) -> Result<Vector, QueryError> {
        match self {
            Sink::Collect(vector) => Ok(vector),
            Sink::Fold { folding, .. } => folding.finish(notes),
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

/// Whether each series is added to its group and then done with.
fn folds(op: AggregateOp) -> bool {
    use AggregateOp::{Avg, Count, Group, Max, Min, Stddev, Stdvar, Sum};
    matches!(op, Avg | Count | Group | Max | Min | Stddev | Stdvar | Sum)
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
    /// Where the series of node `id` go.
    pub(super) fn sink(&self, id: NodeId) -> Result<Sink<'a>, QueryError> {
        let Some(aggregate_id) = self.streams[id.idx()] else { return Ok(Sink::Collect(self.empty()?)) };
        let ast = self.ast;
        let ExprKind::Aggregate(aggregate) = &ast[aggregate_id].kind else {
            panic!("only aggregations take series as they come")
        };
        let folding = self.folding(aggregate, self.grid(id).steps())?;
        Ok(Sink::Fold { folding, passing: self.meter.hold()? })
    }
}
