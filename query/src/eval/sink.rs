//! Where the series of a selector or a function over ranges go: into a vector, or straight into the
//! aggregation around it, which then never holds more than its groups.
//!
//! What stands between them and changes each series by itself (`sum(rate(x[5m]) * 8)`, `count(x > 5)`) is done on the
//! way. It may not make two series one, which only the whole vector tells: where names go, they are gone already.

use kymo_core::ErrorKind;
use kymo_core::query::QueryError;

use super::aggregate::{Folding, is_order_free};
use super::binary::Change;
use super::column::{Series, Vector};
use super::labels::NameRemoval;
use super::meter::Hold;
use super::notes::Notes;
use super::shared::Scratch;
use super::{Evaluator, Seen};
use crate::parser::{Ast, Expr, ExprKind, NodeId, UnaryOp, ValueType};
use crate::plan::Plan;

/// Takes series in label order, and counts them.
pub(super) struct Sink<'a> {
    into: Into<'a>,
    taken: usize,
    beside: Vec<Beside<'a>>,
}

enum Into<'a> {
    /// Keeps them.
    Collect(Vector),
    /// Changes and folds them; holds the column on its way.
    Fold { changes: Vec<Passed<'a>>, names: NameRemoval, folding: Box<dyn Folding + 'a>, passing: Hold },
}

/// A change on the way, and how many series it left.
struct Passed<'a> {
    id: NodeId,
    change: Change<'a>,
    left: usize,
}

/// Where series go that another node, which is like this one, makes.
pub(super) struct Beside<'a> {
    /// The node they are taken for.
    pub(super) id: NodeId,
    /// `None` once there is no room for them now.
    into: Option<Into<'a>>,
    taken: usize,
    /// What would be said too early here; then they are made again.
    notes: Notes<'a>,
    scratch: Scratch,
}

impl<'a> Into<'a> {
    /// Reserves the bytes of a column about to be made.
    fn reserve(&mut self, bytes: u64) -> Result<(), QueryError> {
        match self {
            Into::Collect(vector) => vector.hold.grow_bytes(bytes),
            Into::Fold { passing, .. } => passing.reach_bytes(bytes),
        }
    }

    fn push(&mut self, series: &mut Series, notes: &mut Notes<'_>) -> Result<(), QueryError> {
        match self {
            Into::Collect(vector) => {
                vector.hold.grow_samples(series.column.len())?;
                let column = std::mem::take(&mut series.column);
                vector.series.push(Series { labels: series.labels.clone(), drop_name: series.drop_name, column });
                Ok(())
            }
            Into::Fold { changes, names, folding, passing } => {
                passing.set_samples(series.column.len())?;
                for passed in changes {
                    passed.change.apply(series, *names);
                    if series.column.is_empty() {
                        return Ok(());
                    }
                    passed.left += 1;
                }
                folding.add(series, notes)
            }
        }
    }

    fn tell(&self, id: NodeId, taken: usize, seen: &mut [Seen]) {
        seen[id.idx()].actual.series = taken as u64;
        if let Into::Fold { changes, .. } = self {
            changes.iter().for_each(|passed| seen[passed.id.idx()].actual.series = passed.left as u64);
        }
    }

    fn finish(self, notes: &mut Notes<'_>) -> Result<Vector, QueryError> {
        match self {
            Into::Collect(vector) => Ok(vector),
            Into::Fold { changes, folding, .. } => {
                changes.into_iter().for_each(|passed| passed.change.finish(notes));
                folding.finish(notes)
            }
        }
    }
}

impl<'a> Sink<'a> {
    /// Reserves the bytes of a column about to be made.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<(), QueryError> {
        self.beside.iter_mut().try_for_each(|beside| beside.reserve(bytes))?;
        self.into.reserve(bytes)
    }

    /// Takes a series that has a sample; what is left of it is for the next one.
    pub(super) fn push(&mut self, series: &mut Series, notes: &mut Notes<'_>) -> Result<(), QueryError> {
        self.taken += 1;
        self.beside.iter_mut().try_for_each(|beside| beside.push(series))?;
        self.into.push(series, notes)
    }

    /// Tells how many series were taken from node `id`, and how many the changes on the way left.
    pub(super) fn tell(&self, id: NodeId, seen: &mut [Seen]) {
        self.into.tell(id, self.taken, seen);
    }

    /// What was made of the same series for other nodes.
    pub(super) fn take_beside(&mut self) -> Vec<Beside<'a>> {
        std::mem::take(&mut self.beside)
    }

    /// The vector, or what was made of it.
    pub(super) fn finish(self, notes: &mut Notes<'_>) -> Result<Vector, QueryError> {
        self.into.finish(notes)
    }
}

impl Beside<'_> {
    /// Goes on only while there is room.
    fn given_up<T>(&mut self, done: Result<T, QueryError>) -> Result<Option<T>, QueryError> {
        match done {
            Err(error) if error.kind == ErrorKind::Limit => {
                self.into = None;
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(done) => Ok(Some(done)),
        }
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), QueryError> {
        let Some(into) = &mut self.into else { return Ok(()) };
        let done = into.reserve(bytes);
        self.given_up(done).map(|_| ())
    }

    fn push(&mut self, series: &Series) -> Result<(), QueryError> {
        let Some(into) = &mut self.into else { return Ok(()) };
        self.taken += 1;
        let done = into.push(self.scratch.of(series), &mut self.notes);
        self.given_up(done).map(|_| ())
    }

    /// As a sink does.
    pub(super) fn tell(&self, seen: &mut [Seen]) {
        if let Some(into) = &self.into {
            into.tell(self.id, self.taken, seen);
        }
    }

    /// The vector, or what was made of it; `None` if it has to be made again.
    pub(super) fn finish(&mut self) -> Result<Option<Vector>, QueryError> {
        let Some(into) = self.into.take() else { return Ok(None) };
        let done = into.finish(&mut self.notes);
        Ok(self.given_up(done)?.filter(|_| self.notes.said() == 0))
    }
}

/// Which series are folded as they come.
pub(super) struct Streams {
    /// Per node that makes series one after another.
    of: Vec<Option<Stream>>,
    /// Nodes whose work is done on the way: what their child gives is their own value already.
    passed: Vec<bool>,
}

/// The way of a node's series.
struct Stream {
    aggregate: NodeId,
    /// What stands between, from the source on.
    changes: Vec<NodeId>,
}

impl Streams {
    pub(super) fn find(ast: &Ast, plan: &Plan) -> Streams {
        let count = ast.nodes().len();
        let mut streams = Streams { of: (0..count).map(|_| None).collect(), passed: vec![false; count] };
        for (id, expr) in ast.iter() {
            let ExprKind::Aggregate(aggregate) = &expr.kind else { continue };
            let (mut at, mut changes, mut renames) = (aggregate.expr, Vec::new(), false);
            let source = loop {
                if plan.node(at).broadcast.is_some() {
                    break None;
                }
                let expr = &ast[at];
                if let ExprKind::Paren(inner) = expr.kind {
                    at = inner;
                } else if let Some((inner, change)) = change_of(ast, expr) {
                    changes.push(at);
                    renames |= change.renames();
                    at = inner;
                } else {
                    break (makes_series(ast, expr) && (!renames || is_nameless(expr))).then_some(at);
                }
            };
            if let Some(source) = source {
                changes.iter().for_each(|id| streams.passed[id.idx()] = true);
                changes.reverse();
                streams.of[source.idx()] = Some(Stream { aggregate: id, changes });
            }
        }
        streams
    }

    /// The aggregation that the series of a node are folded into as they come.
    pub(super) fn aggregate_of(&self, id: NodeId) -> Option<NodeId> {
        Some(self.of[id.idx()].as_ref()?.aggregate)
    }

    /// Whether a node's work was done on the way.
    pub(super) fn is_passed(&self, id: NodeId) -> bool {
        self.passed[id.idx()]
    }

    /// Whether what an aggregation is of was folded as it came.
    pub(super) fn is_folded(&self, ast: &Ast, aggregated: NodeId) -> bool {
        let inner = ast.unwrap_parens(aggregated);
        self.is_passed(inner) || self.of[inner.idx()].is_some()
    }
}

/// The vector that a node changes series by series, and how, where that is known before anything is evaluated.
fn change_of<'a>(ast: &Ast, expr: &'a Expr) -> Option<(NodeId, Change<'a>)> {
    match &expr.kind {
        ExprKind::Unary(unary) if unary.op == UnaryOp::Minus => Some((unary.expr, Change::Negate)),
        ExprKind::Binary(binary) => {
            let is_vector = |id: NodeId| ast[id].value_type == ValueType::Vector;
            match (is_vector(binary.lhs), is_vector(binary.rhs)) {
                (true, false) => Some((binary.lhs, Change::with_right(binary, expr.span, literal(ast, binary.rhs)?))),
                (false, true) => Some((binary.rhs, Change::with_left(binary, expr.span, literal(ast, binary.lhs)?))),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The number that a node is, whatever the step.
fn literal(ast: &Ast, id: NodeId) -> Option<f64> {
    match &ast[ast.unwrap_parens(id)].kind {
        ExprKind::NumberLiteral(number) => Some(number.value),
        _ => None,
    }
}

/// Whether a node makes its series one after another.
fn makes_series(ast: &Ast, expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::VectorSelector(_) => true,
        ExprKind::Call(call) => {
            let over_range = call.args.iter().any(|&arg| ast[arg].value_type == ValueType::Matrix);
            over_range && call.function.name != "absent_over_time"
        }
        _ => false,
    }
}

/// Whether the names of such a node's series are gone.
fn is_nameless(expr: &Expr) -> bool {
    matches!(&expr.kind, ExprKind::Call(call) if !matches!(call.function.name, "last_over_time" | "first_over_time"))
}

impl<'a> Evaluator<'a> {
    /// Whether the series of node `id` go straight into an aggregation that may not depend on their order.
    pub(super) fn is_summed(&self, id: NodeId) -> bool {
        let into = self.streams.aggregate_of(id).map(|aggregate| &self.ast[aggregate].kind);
        matches!(into, Some(ExprKind::Aggregate(aggregate)) if is_order_free(aggregate.op))
    }

    /// Where the series of node `id` go, and those of nodes that take them from it.
    pub(super) fn sink(&mut self, id: NodeId) -> Result<Sink<'a>, QueryError> {
        let into = self.way_of(id)?;
        let along: Vec<NodeId> = self.shared.along_with(id).collect();
        let mut beside = Vec::with_capacity(along.len());
        for taker in along {
            let (notes, scratch) = (Notes::new(self.text), Scratch::default());
            beside.push(Beside { id: taker, into: Some(self.way_of(taker)?), taken: 0, notes, scratch });
        }
        Ok(Sink { into, taken: 0, beside })
    }

    fn way_of(&mut self, id: NodeId) -> Result<Into<'a>, QueryError> {
        let ast = self.ast;
        let Some(&Stream { aggregate: aggregate_id, ref changes }) = self.streams.of[id.idx()].as_ref() else {
            return Ok(Into::Collect(self.empty()?));
        };
        let ExprKind::Aggregate(aggregate) = &ast[aggregate_id].kind else {
            panic!("only aggregations take series as they come")
        };
        let passed = |id: &NodeId| {
            let (_, change) = change_of(ast, &ast[*id])?;
            Some(Passed { id: *id, change, left: 0 })
        };
        let changes = changes.iter().filter_map(passed).collect();
        let folding = self.folding(aggregate, self.grid(id).steps(), ast[aggregate_id].span)?;
        Ok(Into::Fold { changes, names: self.names, folding, passing: self.meter.hold()? })
    }
}
