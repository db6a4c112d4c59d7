//! `and`, `or`, `unless`: series of one side by whether the other has a match at the step.

use std::collections::HashMap;

use kymo_core::Labels;
use kymo_core::query::QueryError;

use super::vector::projection;
use crate::eval::Evaluator;
use crate::eval::column::{StepSet, Vector};
use crate::eval::labels;
use crate::parser::{BinaryOp, VectorMatching};

impl Evaluator<'_> {
    pub(super) fn set(
        &mut self,
        op: BinaryOp,
        matching: &VectorMatching,
        lhs: Vector,
        rhs: Vector,
        steps: usize,
    ) -> Result<Vector, QueryError> {
        let by = projection(matching);
        // The side that only says where the other side's series stay.
        let (mut filtered, mut asked) = if op == BinaryOp::Or { (rhs, lhs) } else { (lhs, rhs) };
        let mut present: HashMap<Labels, StepSet> = HashMap::new();
        let mut held = self.meter.hold()?;
        for series in &asked.series {
            self.meter.check()?;
            held.grow_bytes(steps.div_ceil(8) as u64)?;
            let known = present.entry(by.of(&series.labels)).or_insert_with(|| StepSet::empty(steps));
            known.union_with(&series.column.present());
        }
        for series in &mut filtered.series {
            self.meter.check()?;
            let found = present.get(&by.of(&series.labels));
            let mut kept = series.column.present();
            match (op, found) {
                (BinaryOp::And, Some(there)) => kept.intersect_with(there),
                (BinaryOp::And, None) => kept = StepSet::empty(steps),
                (_, Some(there)) => kept.subtract(there),
                (_, None) => continue,
            }
            series.column.retain(&kept);
        }
        if op == BinaryOp::Or {
            asked.series.append(&mut filtered.series);
            asked.series.retain(|series| !series.column.is_empty());
            asked.series = labels::merge(asked.series, &self.meter)?;
            // What the right side held is now part of the result.
            asked.hold.grow_bytes(filtered.hold.release())?;
            drop(filtered);
            asked.hold.set_samples(asked.series.iter().map(|s| s.column.len()).sum())?;
            return Ok(asked);
        }
        filtered.series.retain(|series| !series.column.is_empty());
        filtered.hold.set_samples(filtered.series.iter().map(|s| s.column.len()).sum())?;
        Ok(filtered)
    }
}
