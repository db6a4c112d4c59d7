//! Which queries answer each step by itself, and what each step looks at.
//!
//! An answer that was given before may be kept step by step only if a step's answer does not depend on where the
//! range begins and ends, down to the last bit. Most of PromQL is like that. What is not:
//! - `start()`, `end()`, `range()`, and `@` with the first two;
//! - `info`, which joins by what the whole range holds;
//! - whatever depends on the *order* of series that come out of an aggregation, a join or a change of labels: there
//!   a series' place depends on which series the range holds. Sums sort such inputs first (`eval::aggregate`);
//!   `topk` and its like, for which equal values are taken as they come, are left to a cold evaluation;
//! - series of several names that become one when names are dropped: refused if they meet anywhere in the range.

use kymo_core::Selector;

use super::{Plan, TimeRule};
use crate::parser::{AggregateOp, Ast, At, BinaryOp, Call, ExprKind, MatchOp, NodeId, ValueType, VectorSelector};

/// What answers depend on in storage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dependence {
    /// Which series; its window is that of the whole grid.
    pub(crate) selector: Selector,
    /// Which of its samples each step looks at.
    pub(crate) window: Reach,
}

/// Samples that a step at time t looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those in `(t − back, t + ahead]`, in milliseconds.
    Around { back_ms: i64, ahead_ms: i64 },
    /// Those in `(start, end]`, whatever the step.
    Fixed { start_ms: i64, end_ms: i64 },
}

impl Reach {
    /// The reach of something evaluated over this one, by its time rule and how far its window goes.
    fn through(self, time: TimeRule, back: i64, ahead: i64) -> Reach {
        let offset = time.offset_ms;
        match (time.at_ms, self) {
            (Some(at_ms), _) => Reach::Fixed {
                start_ms: at_ms.saturating_sub(offset).saturating_sub(back),
                end_ms: at_ms.saturating_sub(offset).saturating_add(ahead),
            },
            (None, Reach::Around { back_ms, ahead_ms }) => Reach::Around {
                back_ms: back_ms.saturating_add(offset).saturating_add(back),
                ahead_ms: ahead_ms.saturating_sub(offset).saturating_add(ahead),
            },
            (None, Reach::Fixed { start_ms, end_ms }) => Reach::Fixed {
                start_ms: start_ms.saturating_sub(offset).saturating_sub(back),
                end_ms: end_ms.saturating_sub(offset).saturating_add(ahead),
            },
        }
    }
}

/// What is known of the series of a vector.
#[derive(Debug, Clone, Copy)]
struct Series {
    /// Their order follows from their labels alone.
    ordered: bool,
    /// They differ in more than what is dropped with their names.
    apart: bool,
}

const CANONICAL: Series = Series { ordered: true, apart: true };

impl Series {
    /// After an operation that drops names: series that become one take the place of the first.
    fn without_names(self) -> Series {
        Series { ordered: self.ordered && self.apart, apart: true }
    }
}

impl Plan {
    /// What each step depends on; `None` if steps do not answer by themselves.
    pub(crate) fn dependences(&self, ast: &Ast, text: &str) -> Option<Vec<Dependence>> {
        if mentions_range(text) {
            return None;
        }
        let mut known: Vec<Series> = Vec::with_capacity(ast.nodes().len());
        for (_, expr) in ast.iter() {
            known.push(series_of(ast, &known, &expr.kind)?);
        }
        let mut reaches = vec![Reach::Around { back_ms: 0, ahead_ms: 0 }; ast.nodes().len()];
        let mut found: Vec<Dependence> = Vec::new();
        for (id, expr) in ast.iter().rev() {
            let mut reach = reaches[id.idx()];
            if let Some(source) = &self.node(id).source {
                reach =
                    reach.through(source.time, source.range_ms.saturating_add(source.margin_ms.0), source.margin_ms.1);
                if let Some(selector) = &source.selector {
                    let one = Dependence { selector: selector.clone(), window: reach };
                    if !found.contains(&one) {
                        found.push(one);
                    }
                }
            }
            expr.for_each_child(|child| reaches[child.idx()] = reach);
            if found.len() > DEPENDENCES_MAX {
                return None;
            }
        }
        Some(found)
    }
}

/// A query of more selectors is evaluated whole: asking what changed for each costs too.
const DEPENDENCES_MAX: usize = 32;

/// Whether `range (` stands anywhere, be it in a string: durations may use it, and those are resolved already.
fn mentions_range(text: &str) -> bool {
    text.match_indices("range").any(|(at, word)| text[at + word.len()..].trim_start().starts_with('('))
}

/// `None` where steps depend on the range.
fn series_of(ast: &Ast, known: &[Series], kind: &ExprKind) -> Option<Series> {
    let of = |id: NodeId| known[id.idx()];
    Some(match kind {
        ExprKind::NumberLiteral(_) | ExprKind::StringLiteral(_) => CANONICAL,
        ExprKind::VectorSelector(selector) => of_selector(selector)?,
        ExprKind::MatrixSelector(matrix) => of_selector(&matrix.selector)?,
        ExprKind::Subquery(subquery) => {
            if matches!(subquery.at, Some(At::Start | At::End)) {
                return None;
            }
            of(subquery.expr)
        }
        ExprKind::Paren(inner) => of(*inner),
        ExprKind::Unary(unary) => of(unary.expr).without_names(),
        ExprKind::Call(call) => return of_call(ast, known, call),
        ExprKind::Aggregate(aggregate) => {
            use AggregateOp::{Bottomk, LimitRatio, Limitk, Topk};
            let inner = of(aggregate.expr);
            match aggregate.op {
                Topk | Bottomk | Limitk => inner.ordered.then_some(inner)?,
                LimitRatio => inner,
                _ => {
                    let by_name = !aggregate.without && aggregate.grouping.iter().any(|l| l == kymo_core::METRIC_NAME);
                    Series { ordered: false, apart: !by_name }
                }
            }
        }
        ExprKind::Binary(binary) => {
            let (lhs, rhs) = (binary.lhs, binary.rhs);
            let is_scalar = |id: NodeId| ast[id].value_type == ValueType::Scalar;
            let vector = match (is_scalar(lhs), is_scalar(rhs)) {
                (true, true) => return Some(CANONICAL),
                (true, false) => Some(of(rhs)),
                (false, true) => Some(of(lhs)),
                (false, false) => None,
            };
            match (vector, binary.op) {
                (Some(vector), op) if op.is_comparison() && !binary.return_bool => vector,
                (Some(vector), _) => vector.without_names(),
                (None, BinaryOp::And | BinaryOp::Unless) => of(lhs),
                (None, _) => Series { ordered: false, apart: false },
            }
        }
    })
}

fn of_selector(selector: &VectorSelector) -> Option<Series> {
    if selector.may_match_empty || matches!(selector.at, Some(At::Start | At::End)) {
        return None;
    }
    let is_name = |name: &str| name == kymo_core::METRIC_NAME;
    let apart = selector.matchers.iter().any(|m| is_name(&m.name) && m.op == MatchOp::Equal && !m.value.is_empty());
    Some(Series { ordered: true, apart })
}

fn of_call(ast: &Ast, known: &[Series], call: &Call) -> Option<Series> {
    let name = call.function.name;
    if let Some(&range) = call.args.iter().find(|arg| ast[**arg].value_type == ValueType::Matrix) {
        let series = known[range.idx()];
        return match name {
            "absent_over_time" => Some(CANONICAL),
            "last_over_time" | "first_over_time" => Some(series),
            _ => series.apart.then(|| series.without_names()),
        };
    }
    let vector = call.args.iter().find(|arg| ast[**arg].value_type == ValueType::Vector).map(|arg| known[arg.idx()]);
    match name {
        "info" | "start" | "end" | "range" => None,
        "label_replace" | "label_join" => Some(Series { ordered: false, apart: false }),
        "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
            Some(Series { ordered: false, apart: vector.is_none_or(|v| v.apart) })
        }
        "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
            Some(Series { ordered: false, apart: true })
        }
        "absent" | "scalar" => Some(CANONICAL),
        _ => Some(vector.map_or(CANONICAL, Series::without_names)),
    }
}
