//! Two vectors: which series meet is decided by labels once per pair, not per step.
//!
//! Series of equal signature (the labels that the operator matches by) form a match group. In each
//! group the "one" side may have several series as long as no two have a sample at the same step.
//! For `group_right` sides are swapped, and swapped back for each operation.

use std::collections::HashMap;

use kymo_core::query::QueryError;
use kymo_core::{Labels, LabelsBuilder};

use super::element::with_histogram;
use super::{Remarks, changes_meaning, note_remarks, outcome};
use crate::eval::column::{Column, Sample, Series, StepSet, Vector};
use crate::eval::labels::{self, Projection, braced, drop_metadata};
use crate::eval::meter::{Meter, Pace};
use crate::eval::{Evaluator, invalid};
use crate::functions::math::{arithmetic, compare};
use crate::parser::{Binary, BinaryOp, Cardinality, Span, VectorMatching};

/// What the operator matches by.
pub(super) fn projection(matching: &VectorMatching) -> Projection<'_> {
    if matching.on { Projection::Keep(&matching.labels) } else { Projection::Drop(&matching.labels) }
}

/// Series of both sides with one signature, by number.
#[derive(Debug, Default)]
struct MatchGroup {
    many: Vec<usize>,
    one: Vec<usize>,
}

/// One side of a pair: a series, or the value that stands for a missing one.
#[derive(Clone, Copy)]
enum Operand<'a> {
    Column(&'a Column),
    Fill(f64),
}

impl Operand<'_> {
    fn sample(self, step: usize) -> Option<Sample> {
        match self {
            Operand::Fill(value) => Some(Sample::Float(value)),
            Operand::Column(column) => match column.float(step) {
                Some(value) => Some(Sample::Float(value)),
                None => column.histogram(step).cloned().map(Sample::Histogram),
            },
        }
    }

    fn float(self, step: usize) -> f64 {
        match self {
            Operand::Fill(value) => value,
            Operand::Column(column) => column.values[step],
        }
    }

    fn has_histograms(self) -> bool {
        matches!(self, Operand::Column(column) if !column.histograms.is_empty())
    }
}

/// The pairs of one operator, and what they gave so far.
struct Joined<'a> {
    binary: &'a Binary,
    matching: &'a VectorMatching,
    steps: usize,
    out: Vector,
    remarks: Remarks,
}

impl Evaluator<'_> {
    pub(super) fn matched(
        &mut self,
        binary: &Binary,
        span: Span,
        matching: &VectorMatching,
        lhs: Vector,
        rhs: Vector,
        steps: usize,
    ) -> Result<Vector, QueryError> {
        let swapped = matching.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (&rhs.series, &lhs.series) } else { (&lhs.series, &rhs.series) };
        let (fill_many, fill_one) =
            if swapped { (matching.fill_right, matching.fill_left) } else { (matching.fill_left, matching.fill_right) };
        if (many.is_empty() || one.is_empty()) && fill_many.is_none() && fill_one.is_none() {
            return self.empty();
        }
        let by = projection(matching);
        let (signatures, groups) = match_groups(many, one, by, &self.meter)?;
        let always = matching.fill_left.is_some() || matching.fill_right.is_some();
        check_one_side(&groups, &signatures, many, one, swapped, always, steps)?;
        let mut pace = Pace::default();
        let mut joined = Joined { binary, matching, steps, out: self.empty()?, remarks: Remarks::default() };
        for (signature, group) in signatures.iter().zip(&groups) {
            // Steps at which the group matched: for one-to-one all, else per result's labels.
            let mut matched = StepSet::empty(steps);
            let mut by_result: HashMap<Labels, StepSet> = HashMap::new();
            for &m in &group.many {
                self.meter.check()?;
                let mut unmatched = many[m].column.present();
                for &o in &group.one {
                    pace.work(&self.meter, steps)?;
                    let mut at = many[m].column.present();
                    let there = one[o].column.present();
                    at.intersect_with(&there);
                    unmatched.subtract(&there);
                    let sides = (Operand::Column(&many[m].column), Operand::Column(&one[o].column));
                    let result = joined.labels(&many[m].labels, &one[o].labels);
                    let done = self.pair(&mut joined, m, sides, &at, result.clone())?;
                    check_once(matching.card, &mut matched, &mut by_result, result, &done)?;
                }
                if let (Some(fill), false) = (fill_one, unmatched.is_empty()) {
                    let sides = (Operand::Column(&many[m].column), Operand::Fill(fill));
                    let result = joined.labels(&many[m].labels, signature);
                    let done = self.pair(&mut joined, m, sides, &unmatched, result.clone())?;
                    check_once(matching.card, &mut matched, &mut by_result, result, &done)?;
                }
            }
            let Some(fill) = fill_many else { continue };
            for &o in &group.one {
                let mut at = one[o].column.present();
                at.subtract(&matched);
                if !at.is_empty() {
                    let sides = (Operand::Fill(fill), Operand::Column(&one[o].column));
                    let result = joined.labels(signature, &one[o].labels);
                    self.pair(&mut joined, many.len() + o, sides, &at, result)?;
                }
            }
        }
        note_remarks(&mut self.notes, binary.op, &joined.remarks, span);
        let mut out = joined.out;
        if binary.return_bool {
            for series in &mut out.series {
                self.names.apply(series);
            }
        }
        out.series = labels::merge(out.series, &self.meter)?;
        out.hold.set_samples(out.series.iter().map(|s| s.column.len()).sum())?;
        Ok(out)
    }

    /// Operates on one pair at the steps `at`; answers at which of them there was an operation. `place` is that of the
    /// pair among all, in upstream's order.
    fn pair(
        &mut self,
        joined: &mut Joined<'_>,
        place: usize,
        (many, one): (Operand<'_>, Operand<'_>),
        at: &StepSet,
        labels: Labels,
    ) -> Result<StepSet, QueryError> {
        let Joined { binary, matching, steps, out, remarks } = joined;
        if at.is_empty() {
            return Ok(StepSet::empty(*steps));
        }
        let (lhs, rhs) = if matching.card == Cardinality::OneToMany { (one, many) } else { (many, one) };
        let op = binary.op;
        out.hold.grow_bytes(Column::bytes(*steps))?;
        let mut column = Column::empty(*steps);
        let mut done = at.clone();
        let only_histograms = matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
        if lhs.has_histograms() || rhs.has_histograms() || only_histograms {
            for step in at.iter() {
                let (Some(a), Some(b)) = (lhs.sample(step), rhs.sample(step)) else { continue };
                let (sample, keep) = match (&a, &b) {
                    (Sample::Float(a), Sample::Float(b)) if !only_histograms => {
                        let (value, keep) = numbers(op, *a, *b, binary.return_bool);
                        (Sample::Float(value), keep)
                    }
                    _ => {
                        let (found, remark) = outcome(with_histogram(op, &a, &b));
                        remark.into_iter().for_each(|remark| remarks.keep(place, step, *steps, remark));
                        match found {
                            Some((_, keep)) if binary.return_bool => (Sample::Float(f64::from(u8::from(keep))), true),
                            Some(found) => found,
                            None => {
                                done.remove(step);
                                continue;
                            }
                        }
                    }
                };
                if keep {
                    column.put(step, sample);
                }
            }
        } else {
            for step in at.iter() {
                let (value, keep) = numbers(op, lhs.float(step), rhs.float(step), binary.return_bool);
                if keep {
                    column.set(step, value);
                }
            }
        }
        if !column.is_empty() {
            out.hold.grow_samples(column.len())?;
            out.series.push(Series { labels, drop_name: false, column });
        }
        Ok(done)
    }
}

/// The result of two floats, and whether it stays.
fn numbers(op: BinaryOp, lhs: f64, rhs: f64, return_bool: bool) -> (f64, bool) {
    if !op.is_comparison() {
        return (arithmetic(op, lhs, rhs), true);
    }
    let holds = compare(op, lhs, rhs);
    if return_bool { (f64::from(u8::from(holds)), true) } else { (lhs, holds) }
}

impl Joined<'_> {
    /// Labels of the result of a pair.
    fn labels(&self, many: &Labels, one: &Labels) -> Labels {
        let mut builder = LabelsBuilder::from_labels(many.as_ref());
        if changes_meaning(self.binary.op) {
            drop_metadata(&mut builder);
        }
        let named = |name: &str| self.matching.labels.iter().any(|label| label == name);
        if self.matching.card == Cardinality::OneToOne {
            builder.retain(|name, _| named(name) == self.matching.on);
        }
        for name in &self.matching.include {
            builder.set(name, one.get(name).unwrap_or_default());
        }
        builder.labels()
    }
}

/// Signatures in the order first met, with their series.
fn match_groups(
    many: &[Series],
    one: &[Series],
    by: Projection<'_>,
    meter: &Meter<'_>,
) -> Result<(Vec<Labels>, Vec<MatchGroup>), QueryError> {
    let mut at: HashMap<Labels, usize> = HashMap::new();
    let (mut signatures, mut groups): (Vec<Labels>, Vec<MatchGroup>) = (Vec::new(), Vec::new());
    let mut group_of = |labels: &Labels| {
        meter.check_often()?;
        Ok(*at.entry(by.of(labels)).or_insert_with_key(|signature| {
            signatures.push(signature.clone());
            groups.push(MatchGroup::default());
            groups.len() - 1
        }))
    };
    let places: Vec<usize> = many.iter().map(|series| group_of(&series.labels)).collect::<Result<_, QueryError>>()?;
    let ones: Vec<usize> = one.iter().map(|series| group_of(&series.labels)).collect::<Result<_, QueryError>>()?;
    places.into_iter().enumerate().for_each(|(number, group)| groups[group].many.push(number));
    ones.into_iter().enumerate().for_each(|(number, group)| groups[group].one.push(number));
    Ok((signatures, groups))
}

/// Fails when two series of the "one" side meet in a match group at a step where anything is matched.
fn check_one_side(
    groups: &[MatchGroup],
    signatures: &[Labels],
    many: &[Series],
    one: &[Series],
    swapped: bool,
    always: bool,
    steps: usize,
) -> Result<(), QueryError> {
    let mut asked: Option<StepSet> = None;
    let mut earliest: Option<(usize, usize, usize, usize)> = None;
    for (number, group) in groups.iter().enumerate().filter(|(_, group)| group.one.len() > 1) {
        let asked = asked.get_or_insert_with(|| {
            if always {
                return StepSet::full(steps);
            }
            let mut any = StepSet::empty(steps);
            many.iter().for_each(|series| any.union_with(&series.column.present()));
            any
        });
        let mut taken = StepSet::empty(steps);
        for (place, &later) in group.one.iter().enumerate() {
            let mut present = one[later].column.present();
            present.intersect_with(asked);
            // Of one step, the series that upstream comes to first.
            let sooner = |step: usize| earliest.is_none_or(|(known, _, _, other)| (step, later) < (known, other));
            if let Some(step) = taken.first_common(&present).filter(|&step| sooner(step)) {
                let holds = |&&o: &&usize| one[o].column.present().contains(step);
                let first = group.one[..place].iter().find(holds).copied().unwrap_or(later);
                earliest = Some((step, number, first, later));
            }
            taken.union_with(&present);
        }
    }
    let Some((_, group, first, later)) = earliest else { return Ok(()) };
    let side = if swapped { "left" } else { "right" };
    Err(invalid(format!(
        "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many \
         matching not allowed: matching labels must be unique on one side",
        braced(&signatures[group]),
        braced((&one[first].labels).min(&one[later].labels)),
        braced((&one[first].labels).max(&one[later].labels))
    )))
}

/// Fails when a match group has two results at one step where only one may be.
fn check_once(
    card: Cardinality,
    matched: &mut StepSet,
    by_result: &mut HashMap<Labels, StepSet>,
    result: Labels,
    done: &StepSet,
) -> Result<(), QueryError> {
    if card == Cardinality::OneToOne {
        if matched.first_common(done).is_some() {
            let text = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
            return Err(invalid(text));
        }
    } else if let Some(known) = by_result.get_mut(&result) {
        if known.first_common(done).is_some() {
            return Err(invalid("multiple matches for labels: grouping labels must ensure unique matches"));
        }
        known.union_with(done);
    } else {
        by_result.insert(result, done.clone());
    }
    matched.union_with(done);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_keep_the_left_value_unless_bool() {
        assert_eq!(numbers(BinaryOp::Greater, 3.0, 2.0, false), (3.0, true));
        assert_eq!(numbers(BinaryOp::Greater, 1.0, 2.0, false), (1.0, false));
        assert_eq!(numbers(BinaryOp::Greater, 1.0, 2.0, true), (0.0, true));
        assert_eq!(numbers(BinaryOp::Add, 1.0, 2.0, false), (3.0, true));
    }
}
