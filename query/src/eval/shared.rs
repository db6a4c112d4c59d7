//! Expressions that stand more than once in a query and are evaluated once.
//!
//! Two nodes are alike if they say the same, on one grid, of inputs that are alike; which times and samples that is
//! about is part of the plan, so `@`, offsets and subqueries need no rule of their own. Of the largest such trees the
//! first is evaluated, and the later ones take its value: a copy, or, where series go into an aggregation as they
//! come, a place of their own that the series go into as well (`sum(rate(x[5m])) / count(rate(x[5m]))` reads and
//! computes every rate once, and holds none of them).
//!
//! What is shared changes no answer: if anything was noted on the way (each note tells its place in the text), or if
//! there is no room for the second value yet, the later tree is evaluated as if it stood alone.

use std::collections::HashMap;

use kymo_core::query::QueryError;
use kymo_core::{ErrorKind, Labels};

use super::column::{Column, Scalars, Series, Value, Vector};
use super::sink::{Sink, Streams};
use super::{Evaluator, SampleCounts};
use crate::parser::{Ast, Expr, ExprKind, NodeId};
use crate::plan::Plan;

/// Trees of more nodes are not searched.
const NODES_MAX: usize = 10_000;

/// Which nodes take the value of which.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Per node that gives its value.
    givers: HashMap<NodeId, Giver>,
    /// Per node that takes one.
    takers: HashMap<NodeId, Taker>,
    /// Givers by the first node of their trees.
    begins: HashMap<usize, Vec<NodeId>>,
    /// Per node of the arena, the taker whose tree it belongs to; empty if there is none.
    part_of: Vec<Option<NodeId>>,
}

#[derive(Debug)]
struct Giver {
    takers: Vec<NodeId>,
    /// What was known when its tree began.
    before: Option<Before>,
}

#[derive(Debug)]
struct Before {
    said: u64,
    samples: SampleCounts,
}

#[derive(Debug)]
struct Taker {
    begin: usize,
    giver: NodeId,
    /// Its series go where they go as they come, beside those of the giver.
    along: bool,
    /// Samples that count as read once more.
    samples: Option<SampleCounts>,
}

/// What makes nodes alike.
#[derive(PartialEq, Eq, Hash)]
struct Likeness {
    own: String,
    inputs: Vec<u32>,
}

impl Shared {
    pub(super) fn find(ast: &Ast, plan: &Plan, streams: &Streams) -> Shared {
        let selectors = plan.nodes.iter().filter(|node| node.asks_storage()).count();
        if selectors < 2 || ast.nodes().len() > NODES_MAX {
            return Shared::default();
        }
        let trees = Trees::of(ast, plan);
        let mut shared = Shared::default();
        let mut first: HashMap<u32, NodeId> = HashMap::new();
        let can_share = |id: NodeId, expr: &Expr| {
            let is_value = match &expr.kind {
                ExprKind::VectorSelector(selector) => !selector.may_match_empty,
                ExprKind::Call(_) | ExprKind::Aggregate(_) | ExprKind::Binary(_) | ExprKind::Unary(_) => true,
                _ => false,
            };
            is_value && trees.reads[id.idx()] && trees.is_in_a_row(id) && !streams.is_passed(id)
        };
        for (id, expr) in ast.iter() {
            if can_share(id, expr) {
                first.entry(trees.class[id.idx()]).or_insert(id);
            }
        }
        if first.len() == ast.iter().filter(|(id, expr)| can_share(*id, expr)).count() {
            return shared;
        }
        shared.part_of = vec![None; ast.nodes().len()];
        let mut open = vec![ast.root()];
        while let Some(id) = open.pop() {
            let expr = &ast[id];
            let giver = first.get(&trees.class[id.idx()]).copied().filter(|giver| giver.idx() < id.idx());
            let giver = giver.filter(|giver| can_share(id, expr) && shared.part_of[giver.idx()].is_none());
            let along = giver.and_then(|giver| along(ast, plan, streams, giver, id));
            let (Some(giver), Some(along)) = (giver, along) else {
                // The first child is looked at first, so what stands before a node is known when it is its turn.
                let mut children = Vec::new();
                expr.for_each_child(|child| children.push(child));
                open.extend(children.into_iter().rev());
                continue;
            };
            let begin = trees.begin[id.idx()];
            shared.part_of[begin..=id.idx()].fill(Some(id));
            shared.takers.insert(id, Taker { begin, giver, along, samples: None });
            let Shared { givers, begins, .. } = &mut shared;
            let of = givers.entry(giver).or_insert_with(|| {
                begins.entry(trees.begin[giver.idx()]).or_default().push(giver);
                Giver { takers: Vec::new(), before: None }
            });
            of.takers.push(id);
        }
        shared
    }

    /// The taker whose tree a node belongs to.
    pub(super) fn taken_with(&self, id: NodeId) -> Option<NodeId> {
        *self.part_of.get(id.idx())?
    }

    /// Nodes that take the value of `id`, or series as it makes them.
    pub(super) fn takers_of(&self, id: NodeId) -> &[NodeId] {
        self.givers.get(&id).map_or(&[], |giver| &giver.takers)
    }

    /// Nodes whose series go where they go as those of `id` come.
    pub(super) fn along_with(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.takers_of(id).iter().copied().filter(|taker| self.takers[taker].along)
    }
}

/// Whether a later node can take the value of an earlier one that is alike, and if so, whether its series go along.
fn along(ast: &Ast, plan: &Plan, streams: &Streams, giver: NodeId, taker: NodeId) -> Option<bool> {
    let into = |id: NodeId| streams.aggregate_of(id);
    if into(giver).is_none() && into(taker).is_none() {
        return Some(false);
    }
    // A subquery's series are in the order in which they came unless they are summed.
    let mut is_stored = plan.node(giver).asks_storage();
    ast[giver].for_each_child(|child| is_stored |= plan.node(ast.unwrap_parens(child)).asks_storage());
    // What an aggregation takes besides its vector may not be known yet.
    let has_no_param = into(taker).is_none_or(|id| match &ast[id].kind {
        ExprKind::Aggregate(aggregate) => aggregate.param.is_none(),
        _ => false,
    });
    (is_stored && has_no_param).then_some(true)
}

/// What is known of the trees below all nodes.
struct Trees {
    /// Equal numbers are alike.
    class: Vec<u32>,
    /// The first node of each, in the arena.
    begin: Vec<usize>,
    /// How many nodes there are in each.
    count: Vec<usize>,
    /// Whether anything is read from storage.
    reads: Vec<bool>,
}

impl Trees {
    fn of(ast: &Ast, plan: &Plan) -> Trees {
        let mut trees = Trees { class: Vec::new(), begin: Vec::new(), count: Vec::new(), reads: Vec::new() };
        let mut classes: HashMap<Likeness, u32> = HashMap::new();
        for (id, expr) in ast.iter() {
            let (mut inputs, mut begin, mut count) = (Vec::new(), id.idx(), 1);
            let mut reads = plan.node(id).asks_storage();
            expr.for_each_child(|child| {
                inputs.push(trees.class[child.idx()]);
                begin = begin.min(trees.begin[child.idx()]);
                count += trees.count[child.idx()];
                reads |= trees.reads[child.idx()];
            });
            let class = if let ExprKind::Paren(inner) = expr.kind {
                trees.class[inner.idx()]
            } else {
                let next = classes.len() as u32;
                *classes.entry(Likeness { own: own(plan, id, &expr.kind), inputs }).or_insert(next)
            };
            trees.class.push(class);
            trees.begin.push(begin);
            trees.count.push(count);
            trees.reads.push(reads);
        }
        trees
    }

    /// Whether a tree's nodes stand one after another, so that they are evaluated one after another.
    fn is_in_a_row(&self, id: NodeId) -> bool {
        self.begin[id.idx()] + self.count[id.idx()] == id.idx() + 1
    }
}

/// What a node says besides its inputs.
fn own(plan: &Plan, id: NodeId, kind: &ExprKind) -> String {
    let node = plan.node(id);
    let said = match kind {
        ExprKind::NumberLiteral(number) => format!("{:x}", number.value.to_bits()),
        ExprKind::StringLiteral(text) => format!("{text:?}"),
        ExprKind::VectorSelector(selector) => format!("instant {}", selector.may_match_empty),
        ExprKind::MatrixSelector(_) => "range".to_owned(),
        ExprKind::Subquery(_) => "subquery".to_owned(),
        ExprKind::Call(call) => call.function.name.to_owned(),
        ExprKind::Aggregate(aggregate) => format!("{:?} {:?} {}", aggregate.op, aggregate.grouping, aggregate.without),
        ExprKind::Binary(binary) => format!("{:?} {} {:?}", binary.op, binary.return_bool, binary.matching),
        ExprKind::Unary(unary) => format!("{:?}", unary.op),
        ExprKind::Paren(_) => String::new(),
    };
    format!("{said} {:?} {:?} {:?} {:?}", node.grid, node.broadcast, node.counting, node.source)
}

impl<'a> Evaluator<'a> {
    /// Whether a node need not be evaluated, because the value of its tree is there; counts what it would have read.
    pub(super) fn is_taken(&mut self, id: NodeId) -> bool {
        let Some(taker) = self.shared.taken_with(id).filter(|taker| self.values[taker.idx()].is_some()) else {
            return false;
        };
        self.opened[id.idx()] = None;
        if taker == id
            && let Some(taker) = self.shared.takers.get_mut(&id)
        {
            if let Some(samples) = taker.samples.take() {
                self.samples.add(&samples);
            }
            self.nodes_shared += (id.idx() + 1 - taker.begin) as u64;
            self.seen[id.idx()].same_as = Some(taker.giver);
        }
        true
    }

    /// Notes what is known where the trees of givers begin.
    pub(super) fn mark_givers(&mut self, at: NodeId) {
        let Shared { givers, begins, .. } = &mut self.shared;
        for giver in begins.get(&at.idx()).into_iter().flatten() {
            if let Some(giver) = givers.get_mut(giver) {
                giver.before = Some(Before { said: self.notes.said(), samples: self.samples.clone() });
            }
        }
    }

    /// Whether something was noted since the tree of a giver began.
    fn has_noted(&self, giver: NodeId) -> bool {
        let before = self.shared.givers.get(&giver).and_then(|giver| giver.before.as_ref());
        before.is_none_or(|before| before.said != self.notes.said())
    }

    /// Hands the value of a node to those that take it.
    pub(super) fn give(&mut self, id: NodeId, value: &Value) -> Result<(), QueryError> {
        let Some(giver) = self.shared.givers.get(&id) else { return Ok(()) };
        let (has_noted, takers) = (self.has_noted(id), giver.takers.clone());
        let samples = giver.before.as_ref().map(|before| self.samples.since(&before.samples));
        for taker in takers {
            if !self.shared.takers[&taker].along && !has_noted {
                match self.copied(value) {
                    Ok(copy) => {
                        if let Value::Vector(vector) = &copy {
                            self.seen[taker.idx()].actual.memory_bytes = vector.hold.bytes();
                            self.seen[taker.idx()].actual.series = vector.series.len() as u64;
                        }
                        self.values[taker.idx()] = Some(copy);
                    }
                    // What does not fit twice now may fit later.
                    Err(error) if error.kind == ErrorKind::Limit => continue,
                    Err(error) => return Err(error),
                }
            }
            if let Some(taker) = self.shared.takers.get_mut(&taker) {
                taker.samples = samples.clone();
            }
        }
        Ok(())
    }

    /// A copy that is held for itself.
    fn copied(&self, value: &Value) -> Result<Value, QueryError> {
        let mut hold = self.meter.hold()?;
        Ok(match value {
            Value::Scalar(Scalars::Constant(value)) => Value::Scalar(Scalars::Constant(*value)),
            Value::Scalar(Scalars::PerStep(values, of)) => {
                hold.grow_bytes(of.bytes())?;
                Value::Scalar(Scalars::PerStep(values.clone(), hold))
            }
            Value::Vector(vector) => {
                hold.grow_bytes(vector.hold.bytes())?;
                hold.grow_samples(vector.series.iter().map(|series| series.column.len()).sum())?;
                let mut series = Vec::with_capacity(vector.series.len());
                for one in &vector.series {
                    self.meter.check_often()?;
                    series.push(one.clone());
                }
                Value::Vector(Vector { series, hold })
            }
            Value::Deferred => Value::Deferred,
            Value::Text => Value::Text,
        })
    }

    /// What a sink made of the series of node `id`, once all have come; what was made beside goes to those that take it.
    pub(super) fn drained(&mut self, id: NodeId, mut sink: Sink<'a>) -> Result<Vector, QueryError> {
        sink.tell(id, &mut self.seen);
        let beside = sink.take_beside();
        let has_noted = !beside.is_empty() && self.has_noted(id);
        for mut one in beside {
            one.tell(&mut self.seen);
            if let Some(vector) = one.finish()?.filter(|_| !has_noted) {
                self.seen[one.id.idx()].actual.memory_bytes = vector.hold.bytes();
                self.values[one.id.idx()] = Some(Value::Vector(vector));
            }
        }
        sink.finish(&mut self.notes)
    }
}

/// A series to be changed, in buffers of its own.
#[derive(Debug)]
pub(super) struct Scratch(Series);

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch(Series { labels: Labels::empty(), drop_name: false, column: Column::default() })
    }
}

impl Scratch {
    /// The same series, to be changed.
    pub(super) fn of(&mut self, series: &Series) -> &mut Series {
        let Series { labels, drop_name, column } = &mut self.0;
        labels.clone_from(&series.labels);
        *drop_name = series.drop_name;
        column.values.clone_from(&series.column.values);
        column.floats.clone_from(&series.column.floats);
        column.histograms.clone_from(&series.column.histograms);
        &mut self.0
    }
}
