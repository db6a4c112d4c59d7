//! `topk bottomk limitk limit_ratio`: some series of each group, chosen at every step.

use kymo_core::query::QueryError;

use super::Group;
use super::ratio::sample_offset;
use crate::eval::Evaluator;
use crate::eval::column::{Column, Scalars, Series, StepSet, Vector};
use crate::eval::meter::Pace;
use crate::eval::notes::Note;
use crate::parser::{AggregateOp, Span};

impl Evaluator<'_> {
    pub(super) fn select_members(
        &mut self,
        mut vector: Vector,
        groups: &[Group],
        op: AggregateOp,
        param: &Scalars,
        steps: usize,
        span: Span,
    ) -> Result<Vector, QueryError> {
        let ranked = matches!(op, AggregateOp::Topk | AggregateOp::Bottomk);
        if ranked && vector.series.iter().any(|s| !s.column.histograms.is_empty()) {
            self.notes.add(Note::IgnoredInAggregation { op: op.as_str() }, span);
        }
        let mut kept: Vec<StepSet> = vector.series.iter().map(|_| StepSet::empty(steps)).collect();
        // The order of an instant answer: best first within a group.
        let mut order: Vec<usize> = Vec::new();
        let mut pace = Pace::default();
        for group in groups {
            match op {
                AggregateOp::LimitRatio => {
                    for &member in &group.members {
                        self.meter.check()?;
                        let offset = sample_offset(&vector.series[member].labels);
                        for step in vector.series[member].column.present().iter() {
                            if ratio_keeps(param.at(step).clamp(-1.0, 1.0), offset) {
                                kept[member].insert(step);
                            }
                        }
                        order.push(member);
                    }
                }
                AggregateOp::Limitk => {
                    let mut taken = vec![0i64; steps];
                    for &member in &group.members {
                        self.meter.check()?;
                        for step in vector.series[member].column.present().iter() {
                            if taken[step] < param.at(step) as i64 {
                                taken[step] += 1;
                                kept[member].insert(step);
                            }
                        }
                        order.push(member);
                    }
                }
                _ => {
                    let mut ranking = Ranking { best: Vec::new(), op };
                    for step in 0..steps {
                        pace.work(&self.meter, group.members.len())?;
                        ranking.best.clear();
                        let k = (param.at(step) as i64).min(vector.series.len() as i64);
                        for &member in &group.members {
                            if let (Some(value), true) = (vector.series[member].column.float(step), k >= 1) {
                                ranking.offer(value, member, k as usize);
                            }
                        }
                        for &(_, member) in &ranking.best {
                            kept[member].insert(step);
                        }
                        if steps == 1 {
                            order.extend(ranking.in_order());
                        }
                    }
                    if steps != 1 {
                        order.extend(&group.members);
                    }
                }
            }
        }
        let mut places: Vec<Option<Series>> = std::mem::take(&mut vector.series).into_iter().map(Some).collect();
        for member in order {
            let Some(mut series) = places[member].take() else { continue };
            if ranked {
                series.column.histograms.clear();
            }
            series.column.retain(&kept[member]);
            if !series.column.is_empty() {
                vector.series.push(series);
            }
        }
        vector.hold.set_samples(vector.series.iter().map(|s| Column::len(&s.column)).sum())?;
        Ok(vector)
    }
}

/// Whether a ratio takes a series in: from below if positive, the complement from above if negative.
fn ratio_keeps(ratio: f64, offset: f64) -> bool {
    if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
}

/// The best members of one step, in the very heap upstream keeps: which of two equal values stays
/// depends on its shape.
struct Ranking {
    /// (value, member); the worst is at the front.
    best: Vec<(f64, usize)>,
    op: AggregateOp,
}

impl Ranking {
    /// Whether `a` goes before `b` is taken out: NaN is worst.
    fn worse(&self, a: f64, b: f64) -> bool {
        a.is_nan() || if self.op == AggregateOp::Topk { a < b } else { a > b }
    }

    fn offer(&mut self, value: f64, member: usize, k: usize) {
        if self.best.len() < k {
            self.best.push((value, member));
            self.up(self.best.len() - 1);
        } else {
            let worst = self.best[0].0;
            let beats = if self.op == AggregateOp::Topk { worst < value } else { worst > value };
            if beats || (worst.is_nan() && !value.is_nan()) {
                self.best[0] = (value, member);
                self.down();
            }
        }
    }

    fn up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.worse(self.best[at].0, self.best[parent].0) {
                return;
            }
            self.best.swap(at, parent);
            at = parent;
        }
    }

    fn down(&mut self) {
        let mut at = 0;
        loop {
            let left = 2 * at + 1;
            if left >= self.best.len() {
                return;
            }
            let right = left + 1;
            let child =
                if right < self.best.len() && self.worse(self.best[right].0, self.best[left].0) { right } else { left };
            if !self.worse(self.best[child].0, self.best[at].0) {
                return;
            }
            self.best.swap(at, child);
            at = child;
        }
    }

    /// Members, best first, NaN last.
    fn in_order(&self) -> Vec<usize> {
        let mut sorted = self.best.clone();
        sorted.sort_by(|a, b| match (a.0.is_nan(), b.0.is_nan()) {
            (false, false) if self.op == AggregateOp::Topk => b.0.total_cmp(&a.0),
            (false, false) => a.0.total_cmp(&b.0),
            (a_nan, b_nan) => a_nan.cmp(&b_nan),
        });
        sorted.into_iter().map(|(_, member)| member).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_stay_and_nan_only_where_there_is_room() {
        let values = [3.0, f64::NAN, 7.0, 1.0, 5.0];
        for (op, k, expected) in [
            (AggregateOp::Topk, 2, vec![2, 4]),
            (AggregateOp::Bottomk, 2, vec![3, 0]),
            (AggregateOp::Topk, 5, vec![2, 4, 0, 3, 1]),
        ] {
            let mut ranking = Ranking { best: Vec::new(), op };
            for (member, &value) in values.iter().enumerate() {
                ranking.offer(value, member, k);
            }
            assert_eq!(ranking.in_order(), expected, "{op}({k})");
        }
    }

    #[test]
    fn a_ratio_and_its_complement_share_no_series() {
        for offset in [0.0, 0.2, 0.4, 0.6, 0.999] {
            assert!(ratio_keeps(0.4, offset) != ratio_keeps(-0.6, offset), "{offset}");
        }
    }
}
