//! Sets of a block's series, as runs of their numbers: what postings are made of, and mostly far fewer than series.

use roaring::RoaringBitmap;

/// The first number, and the one behind the last.
pub(crate) type Run = (u32, u32);

/// A set of numbers. Runs rise and do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<Run>);

impl Runs {
    /// All numbers below `end`.
    pub(crate) fn below(end: u32) -> Runs {
        Runs(if end > 0 { vec![(0, end)] } else { Vec::new() })
    }

    /// Whatever these hold, in any order, and overlapping or not. Lists of runs that rise are merged, not sorted anew.
    pub(crate) fn of(mut runs: Vec<Run>) -> Runs {
        if !runs.is_sorted() {
            runs.sort();
        }
        runs.dedup_by(|next, last| {
            let touch = next.0 <= last.1;
            if touch {
                last.1 = last.1.max(next.1);
            }
            touch
        });
        Runs(runs)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.0
    }

    /// The numbers, rising.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|&(begin, end)| begin..end)
    }

    /// Those that `other` does not hold.
    pub(crate) fn without(&self, other: &Runs) -> Runs {
        let mut left = Vec::with_capacity(self.0.len());
        let mut gone = other.runs();
        for &(mut begin, end) in &self.0 {
            gone = &gone[ended_before(gone, begin)..];
            for &(gone_begin, gone_end) in gone.iter().take_while(|run| run.0 < end) {
                if begin < gone_begin {
                    left.push((begin, gone_begin));
                }
                begin = begin.max(gone_end);
            }
            if begin < end {
                left.push((begin, end));
            }
        }
        Runs(left)
    }

    pub(crate) fn to_bitmap(&self) -> RoaringBitmap {
        let mut set = RoaringBitmap::new();
        for &(begin, end) in &self.0 {
            set.insert_range(begin..end);
        }
        set
    }
}

/// Shows what two lists of rising runs share, rising, until `show` says that it has seen enough. Costs a search for each
/// run of the shorter list.
pub(crate) fn shared<E>(a: &[Run], b: &[Run], mut show: impl FnMut(Run) -> Result<bool, E>) -> Result<(), E> {
    let (few, mut many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    for &(begin, end) in few {
        many = &many[ended_before(many, begin)..];
        for run in many.iter().take_while(|run| run.0 < end) {
            if !show((run.0.max(begin), run.1.min(end)))? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// How many runs end at or before `number`, in steps that double.
fn ended_before(runs: &[Run], number: u32) -> usize {
    let mut step = 1;
    while step < runs.len() && runs[step - 1].1 <= number {
        step *= 2;
    }
    let low = step / 2;
    low + runs[low..step.min(runs.len())].partition_point(|run| run.1 <= number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn numbers(runs: &[Run]) -> BTreeSet<u32> {
        runs.iter().flat_map(|&(begin, end)| begin..end).collect()
    }

    fn any_runs() -> impl Strategy<Value = Vec<Run>> {
        let run = (0..400u32, 1..9u32).prop_map(|(begin, len)| (begin, begin + len));
        proptest::collection::vec(run, 0..60)
    }

    proptest! {
        #[test]
        fn runs_are_the_sets_of_their_numbers(a in any_runs(), b in any_runs(), enough in 0..20usize) {
            let (of_a, of_b) = (numbers(&a), numbers(&b));
            let (a, b) = (Runs::of(a), Runs::of(b));
            prop_assert!(a.runs().windows(2).all(|pair| pair[0].1 < pair[1].0), "{a:?}");
            prop_assert!(a.iter().eq(of_a.iter().copied()) && a.is_empty() == of_a.is_empty());
            prop_assert!(a.to_bitmap().iter().eq(of_a.iter().copied()));
            prop_assert!(a.without(&b).iter().eq(of_a.difference(&of_b).copied()));
            let mut both = Vec::new();
            shared(a.runs(), b.runs(), |run| Ok::<_, Infallible>({ both.push(run); true })).unwrap();
            prop_assert!(both.is_sorted() && numbers(&both).iter().eq(of_a.intersection(&of_b)));
            let mut some = Vec::new();
            shared(a.runs(), b.runs(), |run| Ok::<_, Infallible>({ some.push(run); some.len() < enough })).unwrap();
            prop_assert_eq!(&some[..], &both[..enough.max(1).min(both.len())]);
            prop_assert_eq!(Runs::below(400).without(&a).without(&b).iter().count(),
                400 - of_a.union(&of_b).filter(|number| **number < 400).count());
        }
    }
}
