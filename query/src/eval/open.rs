//! Selectors, looked up before anything is evaluated, and what the plan is expected to cost by them.
//!
//! A selector that stands twice in a query is looked up once. What a node will hold follows from how many series
//! there are and from their labels: which groups an aggregation makes is known exactly, because labels are. Labels
//! are looked at only for a plan that somebody wants to see.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kymo_core::query::{NodeCost, QueryError};
use kymo_core::{Labels, METRIC_NAME, SeriesSet};

use super::aggregate::{projection, state_bytes};
use super::column::Column;
use super::labels::{Projection, without_name};
use super::notes::Note;
use super::select::{Picks, READ_BYTES};
use super::times::ByTimes;
use super::window::Bounds;
use super::{Evaluator, Seen};
use crate::functions::sorted_window::SortedWindow;
use crate::functions::window_sum::WindowSums;
use crate::parser::{AggregateOp, BinaryOp, ExprKind, NodeId, ValueType};

/// Looked-up selectors, by node.
pub(super) type Opened = Vec<Option<Arc<dyn SeriesSet>>>;

/// Labels that together name a target, whose series share their times.
const TARGET_LABELS: [&str; 2] = ["instance", "job"];

/// What is expected to come out of a node.
#[derive(Debug, Clone, Default)]
struct Shape {
    series: u64,
    /// Where labels are looked at.
    labels: Option<Vec<Labels>>,
    /// Most samples of one series, and different columns of times; of what is read from storage.
    longest: u64,
    columns: u64,
}

impl Evaluator<'_> {
    /// Looks every selector up.
    pub(super) fn open(&mut self) -> Result<(), QueryError> {
        let selectors = self.plan.nodes.iter().filter(|node| node.asks_storage()).count();
        let mut known: HashMap<String, Arc<dyn SeriesSet>> = HashMap::new();
        for (id, expr) in self.ast.iter() {
            let node = self.plan.node(id);
            // The second argument of `info` is asked for with matchers that follow from the first.
            let is_info = matches!(&expr.kind, ExprKind::VectorSelector(selector) if selector.may_match_empty);
            let Some(selector) = node.source.as_ref().and_then(|s| s.selector.as_ref()).filter(|_| !is_info) else {
                continue;
            };
            if node.grid.steps() == 0 {
                continue;
            }
            if selectors == 1 {
                self.opened[id.idx()] = Some(Arc::from(self.storage.select(selector, self.ctx)?));
                continue;
            }
            let key = format!("{selector:?}");
            let set = match known.get(&key) {
                Some(set) => Arc::clone(set),
                None => {
                    let set: Arc<dyn SeriesSet> = Arc::from(self.storage.select(selector, self.ctx)?);
                    known.insert(key, Arc::clone(&set));
                    set
                }
            };
            self.opened[id.idx()] = Some(set);
        }
        let mut notes = Vec::new();
        for (id, set) in self.opened.iter().enumerate().filter_map(|(id, set)| Some((id, set.as_ref()?))) {
            self.seen[id].estimated.series = set.len() as u64;
            self.seen[id].tier = Some(set.tier());
            if let Some(shared) = set.shared() {
                notes.push((id, shared));
            }
        }
        for (id, expr) in self.ast.iter() {
            for (_, shared) in notes.iter().filter(|(of, _)| *of == id.idx()) {
                if shared.series > 0 {
                    self.notes.add(Note::SharedSeries(*shared), expr.span);
                }
                if shared.gaps > 0 {
                    self.notes.add(Note::Gaps(shared.gaps), expr.span);
                }
                if shared.overlaps > 0 {
                    self.notes.add(Note::Overlaps(shared.overlaps), expr.span);
                }
            }
        }
        Ok(())
    }

    /// What was looked up for a node, which gives it up.
    pub(super) fn take_opened(&mut self, id: NodeId) -> Option<Arc<dyn SeriesSet>> {
        self.opened[id.idx()].take()
    }

    /// Bytes that the plan is expected to hold at once, about, without looking at labels: for who is refused.
    pub(super) fn expected_bytes(&mut self) -> u64 {
        let shapes = self.estimate_all(false);
        drop(shapes);
        self.seen.iter().map(|seen| seen.estimated.memory_bytes).sum()
    }

    /// Fills in what is expected of every node.
    pub(super) fn estimate(&mut self) {
        self.estimate_all(true);
    }

    fn estimate_all(&mut self, with_labels: bool) -> Vec<Shape> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.ast.nodes().len());
        for (id, expr) in self.ast.iter() {
            let mut cost = NodeCost::default();
            let mut shape = self.shape_of(id, &expr.kind, &shapes, with_labels, &mut cost);
            let steps = self.plan.node(id).grid.steps();
            let column = Column::bytes(steps);
            if let Some(taker) = self.shared.taken_with(id) {
                // Nothing is read here; the tree's value is there.
                cost = NodeCost::default();
                if expr.value_type == ValueType::Scalar {
                    shape = Shape::default();
                } else if taker == id {
                    cost.series = shape.series;
                    cost.memory_bytes = self.taken_bytes(id, &shape);
                }
                let tier = self.seen[id.idx()].tier;
                self.seen[id.idx()] = Seen { estimated: cost, tier, ..Seen::default() };
                shapes.push(shape);
                continue;
            }
            if let Some(broadcast) = self.plan.node(id).broadcast {
                cost.memory_bytes += shape.series * Column::bytes(broadcast);
            }
            cost.series = shape.series;
            if expr.value_type == ValueType::Vector {
                cost.memory_bytes += self.own_bytes(id, &expr.kind, &shapes, &shape, column);
            } else if expr.value_type == ValueType::Scalar && !matches!(expr.kind, ExprKind::NumberLiteral(_)) {
                shape = Shape::default();
                cost.series = 0;
            }
            let tier = self.seen[id.idx()].tier;
            self.seen[id.idx()] = Seen { estimated: cost, tier, ..Seen::default() };
            shapes.push(shape);
        }
        shapes
    }

    fn shape_of(&self, id: NodeId, kind: &ExprKind, shapes: &[Shape], with_labels: bool, cost: &mut NodeCost) -> Shape {
        let of = |id: NodeId| &shapes[id.idx()];
        match kind {
            ExprKind::NumberLiteral(_) | ExprKind::StringLiteral(_) => Shape::default(),
            ExprKind::VectorSelector(_) | ExprKind::MatrixSelector(_) => match &self.opened[id.idx()] {
                Some(set) => of_set(set.as_ref(), with_labels, cost),
                None => Shape::default(),
            },
            ExprKind::Subquery(subquery) => of(subquery.expr).clone(),
            ExprKind::Paren(inner) => of(*inner).clone(),
            ExprKind::Unary(unary) => of(unary.expr).nameless(),
            ExprKind::Call(call) => {
                let typed = |wanted| call.args.iter().find(|arg| self.ast[**arg].value_type == wanted);
                let Some(&arg) = typed(ValueType::Matrix).or_else(|| typed(ValueType::Vector)) else {
                    return Shape { series: 1, labels: Some(vec![Labels::empty()]), ..Shape::default() };
                };
                match call.function.name {
                    "absent" | "absent_over_time" => Shape { series: 1, ..Shape::default() },
                    "histogram_quantile" | "histogram_fraction" => {
                        let le = ["le".to_owned()];
                        of(arg).projected(Projection::Drop(&le))
                    }
                    "last_over_time" | "first_over_time" | "sort" | "sort_desc" | "info" => of(arg).clone(),
                    _ => of(arg).nameless(),
                }
            }
            ExprKind::Aggregate(aggregate) => {
                use AggregateOp::{Bottomk, LimitRatio, Limitk, Topk};
                let inner = of(aggregate.expr);
                match aggregate.op {
                    Topk | Bottomk | Limitk | LimitRatio => {
                        let groups = inner.projected(projection(aggregate)).series;
                        let param = aggregate.param.map(|id| &self.ast[self.ast.unwrap_parens(id)].kind);
                        let k = match param {
                            Some(ExprKind::NumberLiteral(number)) => number.value,
                            _ => f64::INFINITY,
                        };
                        let share = if aggregate.op == LimitRatio {
                            k.abs().min(1.0) * inner.series as f64
                        } else {
                            k.max(0.0) * groups as f64
                        };
                        Shape { series: inner.series.min(share.ceil() as u64), ..inner.clone() }
                    }
                    _ => inner.projected(projection(aggregate)),
                }
            }
            ExprKind::Binary(binary) => {
                let (lhs, rhs) = (of(binary.lhs), of(binary.rhs));
                let is_scalar = |id: NodeId| self.ast[id].value_type == ValueType::Scalar;
                match (is_scalar(binary.lhs), is_scalar(binary.rhs)) {
                    (true, true) => Shape::default(),
                    (true, false) => rhs.nameless(),
                    (false, true) => lhs.nameless(),
                    (false, false) => match binary.op {
                        BinaryOp::And | BinaryOp::Unless => lhs.clone(),
                        BinaryOp::Or => Shape { series: lhs.series + rhs.series, ..Shape::default() },
                        _ => {
                            let many = if lhs.series >= rhs.series { lhs } else { rhs };
                            let one_to_one =
                                binary.matching.as_ref().is_none_or(|m| m.card == crate::parser::Cardinality::OneToOne);
                            let series = if one_to_one { lhs.series.min(rhs.series) } else { many.series };
                            Shape { series, ..many.nameless() }
                        }
                    },
                }
            }
        }
    }

    /// Bytes that stay of the series a node makes.
    fn kept_bytes(&self, id: NodeId, shape: &Shape) -> u64 {
        let steps = self.plan.node(id).grid.steps();
        let column = Column::bytes(steps);
        match self.streams.aggregate_of(id).map(|into| &self.ast[into].kind) {
            // Of a node whose series go into an aggregation as they come: that one's groups, with their states.
            Some(ExprKind::Aggregate(aggregate)) => {
                let groups = shape.projected(projection(aggregate)).series;
                column + groups * column + state_bytes(aggregate.op, shape.series, groups) * steps as u64
            }
            // What was done on the way holds nothing itself.
            _ if self.streams.is_passed(id) => 0,
            _ => shape.series * column,
        }
    }

    /// Bytes of the value that a node takes from another, which made it.
    fn taken_bytes(&self, id: NodeId, shape: &Shape) -> u64 {
        let series = match self.streams.aggregate_of(id).map(|into| &self.ast[into].kind) {
            Some(ExprKind::Aggregate(aggregate)) => shape.projected(projection(aggregate)).series,
            _ => shape.series,
        };
        series * Column::bytes(self.plan.node(id).grid.steps())
    }

    /// Bytes that a vector's node holds, its result included, and those of nodes that take its value.
    fn own_bytes(&self, id: NodeId, kind: &ExprKind, shapes: &[Shape], shape: &Shape, column: u64) -> u64 {
        let steps = self.plan.node(id).grid.steps() as u64;
        let taken: u64 = self.shared.takers_of(id).iter().map(|taker| self.kept_bytes(*taker, shape)).sum();
        let kept = self.kept_bytes(id, shape) + taken;
        match kind {
            ExprKind::VectorSelector(_) => {
                kept + shape.longest * READ_BYTES + ByTimes::<Picks>::bytes(shape.columns, Picks::bytes(steps as usize))
            }
            ExprKind::Call(call) => {
                let matrix = call.args.iter().find(|arg| self.ast[**arg].value_type == ValueType::Matrix);
                match matrix.map(|arg| &shapes[arg.idx()]) {
                    Some(read) => {
                        let samples = read.longest as usize;
                        let scratch = match call.function.name {
                            "sum_over_time" | "avg_over_time" | "changes" | "resets" => WindowSums::bytes(samples),
                            "quantile_over_time" | "mad_over_time" => SortedWindow::bytes(samples),
                            _ => 0,
                        };
                        let bounds = Bounds::bytes(steps as usize) + samples as u64 * 8;
                        kept + scratch + read.longest * READ_BYTES + ByTimes::<Bounds>::bytes(read.columns, bounds)
                    }
                    None => kept,
                }
            }
            ExprKind::Aggregate(aggregate) => {
                // What was folded while it came is told there; here stands the result.
                let own = if self.streams.is_folded(self.ast, aggregate.expr) {
                    0
                } else {
                    state_bytes(aggregate.op, shapes[aggregate.expr.idx()].series, shape.series) * steps
                };
                own + shape.series * column + taken
            }
            // In place, or made anew: the result is what is held.
            _ => kept,
        }
    }
}

/// What a looked-up selector will give.
fn of_set(set: &dyn SeriesSet, with_labels: bool, cost: &mut NodeCost) -> Shape {
    let mut shape = Shape { series: set.len() as u64, columns: 1, ..Shape::default() };
    for index in 0..set.len() {
        let samples = set.estimate(index) as u64;
        shape.longest = shape.longest.max(samples);
        cost.samples += samples;
        cost.bytes += set.estimate_bytes(index);
    }
    if with_labels {
        let labels: Vec<Labels> = (0..set.len()).map(|index| set.labels(index)).collect();
        let targets: BTreeSet<[Option<&str>; 2]> =
            labels.iter().map(|labels| TARGET_LABELS.map(|name| labels.get(name))).collect();
        shape.columns = set.distinct_times().unwrap_or(targets.len()) as u64;
        shape.labels = Some(labels);
    }
    shape
}

impl Shape {
    /// Different label sets that a projection leaves.
    fn projected(&self, by: Projection<'_>) -> Shape {
        let Some(labels) = &self.labels else {
            let is_one = matches!(by, Projection::Keep([]));
            return Shape { series: if is_one { self.series.min(1) } else { self.series }, ..Shape::default() };
        };
        let distinct: BTreeSet<Labels> = labels.iter().map(|labels| by.of(labels)).collect();
        Shape { series: distinct.len() as u64, labels: Some(distinct.into_iter().collect()), ..Shape::default() }
    }

    /// The same series without their names.
    fn nameless(&self) -> Shape {
        let strip =
            |labels: &Labels| if labels.get(METRIC_NAME).is_some() { without_name(labels) } else { labels.clone() };
        let labels = self.labels.as_ref().map(|labels| labels.iter().map(strip).collect());
        Shape { series: self.series, labels, ..Shape::default() }
    }
}
