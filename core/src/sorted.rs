//! Sorting that a cancelled query leaves: in runs, which are then merged two by two.

use std::cmp::Ordering;

use crate::storage::{QueryContext, SelectError};

/// Items sorted or merged between two looks at the cancel flag: well below a millisecond's worth.
const RUN: usize = 1 << 12;

impl QueryContext {
    /// Sorts, looking now and then whether the query should stop; equal items keep their order. A list of at most
    /// 4,096 is sorted where it is, a longer one takes as much memory again.
    ///
    /// # Errors
    /// When the query is cancelled or out of time.
    pub fn sorted<T>(
        &self,
        mut items: Vec<T>,
        mut compare: impl FnMut(&T, &T) -> Ordering,
    ) -> Result<Vec<T>, SelectError> {
        if items.len() <= RUN {
            items.sort_by(compare);
            return Ok(items);
        }
        let mut runs = Vec::with_capacity(items.len().div_ceil(RUN));
        let mut rest = items.into_iter();
        while rest.len() > 0 {
            self.check()?;
            let mut run: Vec<T> = rest.by_ref().take(RUN).collect();
            run.sort_by(&mut compare);
            runs.push(run);
        }
        // Only neighbours are merged, so equal items stay in order.
        while runs.len() > 1 {
            let mut pass = Vec::with_capacity(runs.len().div_ceil(2));
            let mut pairs = runs.into_iter();
            while let Some(left) = pairs.next() {
                pass.push(match pairs.next() {
                    Some(right) => merge(left, right, self, &mut compare)?,
                    None => left,
                });
            }
            runs = pass;
        }
        Ok(runs.pop().unwrap_or_default())
    }
}

fn merge<T>(
    left: Vec<T>,
    right: Vec<T>,
    ctx: &QueryContext,
    compare: &mut impl FnMut(&T, &T) -> Ordering,
) -> Result<Vec<T>, SelectError> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    loop {
        if merged.len() % RUN == 0 {
            ctx.check()?;
        }
        let next = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if compare(a, b) == Ordering::Greater => right.next(),
            (Some(_), _) => left.next(),
            (None, _) => right.next(),
        };
        let Some(next) = next else { return Ok(merged) };
        merged.push(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few numbers many times, each with its place.
    fn mixed(len: u64) -> Vec<(u64, u64)> {
        (0..len).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57, n)).collect()
    }

    #[test]
    fn long_lists_are_sorted_as_short_ones_are() {
        let ctx = QueryContext::unlimited();
        for len in [0, 1, 4_096, 4_097, 8_192, 12_289, 50_000] {
            let mut expected = mixed(len);
            expected.sort_by_key(|item| item.0);
            assert_eq!(ctx.sorted(mixed(len), |a, b| a.0.cmp(&b.0)).unwrap(), expected, "{len}");
        }
    }

    #[test]
    fn a_cancelled_sort_ends_within_one_run() {
        let (mut all, ctx) = (0_usize, QueryContext::unlimited());
        ctx.sorted(mixed(50_000), |a, b| {
            all += 1;
            a.0.cmp(&b.0)
        })
        .unwrap();
        for cancel_at in (1..all).step_by(all / 50) {
            let (mut compared, ctx) = (0, QueryContext::unlimited());
            let outcome = ctx.sorted(mixed(50_000), |a, b| {
                compared += 1;
                if compared == cancel_at {
                    ctx.cancel.cancel();
                }
                a.0.cmp(&b.0)
            });
            let more = compared - cancel_at;
            // What a run takes to be sorted, or to be merged.
            assert!(more <= RUN * 13, "{more} comparisons after a cancel at {cancel_at}");
            let is_ended = matches!(outcome, Err(SelectError::Cancelled));
            assert!(is_ended || all - cancel_at <= RUN, "{cancel_at} of {all}");
        }
    }
}
