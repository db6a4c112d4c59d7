//! `topk bottomk limitk limit_ratio`: some series of each group, chosen at every step.
//!
//! Series come one after another and only what is chosen so far is kept: of `topk` and `bottomk` the values in each
//! step's heap, of the others the samples that are taken in.

use std::collections::HashMap;

use kymo_core::Labels;
use kymo_core::query::QueryError;

use super::fold::Folding;
use super::ratio::sample_offset;
use crate::eval::column::{Column, Scalars, Series, StepSet, Vector};
use crate::eval::labels::{Groups, Projection};
use crate::eval::meter::{Hold, Meter, Pace};
use crate::eval::notes::{Note, Notes};
use crate::parser::{AggregateOp, Span};

/// `topk` and `bottomk`.
pub(super) struct Ranks<'a> {
    pub(super) op: AggregateOp,
    pub(super) by: Projection<'a>,
    pub(super) k: Scalars,
    /// The greatest of all steps.
    pub(super) k_max: usize,
    pub(super) steps: usize,
    pub(super) span: Span,
    pub(super) out: Vector,
    /// Of heaps and members.
    pub(super) held: Hold,
    pub(super) meter: Meter<'a>,
    pub(super) at: Groups,
    /// Per group, the heaps of all steps.
    pub(super) groups: Vec<Rankings>,
    /// Series that are in a heap, by the order they came.
    pub(super) members: HashMap<u32, Member, foldhash::fast::RandomState>,
    pub(super) came: u32,
}

/// Bytes of one member, with its place in the table.
const MEMBER_BYTES: u64 = (size_of::<Member>() + 2 * size_of::<u32>()) as u64;

/// A series that is in heaps.
#[derive(Debug)]
pub(super) struct Member {
    labels: Labels,
    drop_name: bool,
    group: usize,
    /// In how many heaps.
    places: usize,
}

impl Folding for Ranks<'_> {
    fn add(&mut self, series: &Series, notes: &mut Notes<'_>) -> Result<(), QueryError> {
        // Where nothing is chosen, nothing is looked at.
        if series.column.histograms.iter().any(|(step, _)| self.k.at(*step as usize) >= 1.0) {
            notes.add(Note::IgnoredInAggregation { op: self.op.as_str() }, self.span);
        }
        let group = self.at.of(self.by, &series.labels);
        if group == self.groups.len() {
            self.held.grow_bytes((self.steps * size_of::<u32>()) as u64)?;
            self.groups.push(Rankings { lens: vec![0; self.steps], ..Rankings::default() });
        }
        let rankings = &mut self.groups[group];
        rankings.make_room(self.k_max, &mut self.held)?;
        let mut mine = Member { labels: series.labels.clone(), drop_name: series.drop_name, group, places: 0 };
        let number = self.came;
        self.came += 1;
        for step in series.column.floats.iter() {
            let k = self.k.at(step) as i64;
            if k < 1 {
                continue;
            }
            match rankings.offer(step, self.op, (series.column.values[step], number), k as usize) {
                Offered::Refused => {}
                Offered::Added => mine.places += 1,
                Offered::InsteadOf(other) => {
                    mine.places += 1;
                    if let Some(beaten) = self.members.get_mut(&other) {
                        beaten.places -= 1;
                        if beaten.places == 0 {
                            self.members.remove(&other);
                            self.held.shrink_bytes(MEMBER_BYTES);
                        }
                    }
                }
            }
        }
        if mine.places > 0 {
            self.held.grow_bytes(MEMBER_BYTES)?;
            self.members.insert(number, mine);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &mut Notes<'_>) -> Result<Vector, QueryError> {
        let Ranks { op, steps, mut out, groups, members, meter, came, mut held, .. } = *self;
        let order: Vec<u32> = if steps == 1 {
            // An instant answer has the best first within each group.
            let mut order = Vec::with_capacity(members.len());
            for group in &groups {
                order.extend(in_order(group.at(0), op, &meter)?);
            }
            order
        } else {
            let all: Vec<u32> = members.keys().copied().collect();
            meter.sorted(all, |a, b| (members[a].group, *a).cmp(&(members[b].group, *b)))?
        };
        // Where each member's series stands.
        held.grow_bytes(u64::from(came) * size_of::<u32>() as u64)?;
        let mut place_of = vec![0u32; came as usize];
        for &number in &order {
            meter.check_often()?;
            let member = &members[&number];
            out.hold.grow_bytes(Column::bytes(steps))?;
            out.hold.grow_samples(member.places)?;
            place_of[number as usize] = out.series.len() as u32;
            let column = Column::empty(steps);
            out.series.push(Series { labels: member.labels.clone(), drop_name: member.drop_name, column });
        }
        let mut pace = Pace::default();
        for group in &groups {
            for step in 0..steps {
                let best = group.at(step);
                pace.work(&meter, best.len())?;
                for &(value, number) in best {
                    out.series[place_of[number as usize] as usize].column.set(step, value);
                }
            }
        }
        Ok(out)
    }
}

/// `limitk` and `limit_ratio`.
pub(super) struct Limits<'a> {
    pub(super) op: AggregateOp,
    pub(super) by: Projection<'a>,
    pub(super) param: Scalars,
    pub(super) steps: usize,
    pub(super) at: Groups,
    /// Per group and step, how many `limitk` took.
    pub(super) taken: Vec<Vec<u32>>,
    /// By group.
    pub(super) chosen: Vec<(usize, Series)>,
    pub(super) out: Vector,
    pub(super) meter: Meter<'a>,
}

impl Folding for Limits<'_> {
    fn add(&mut self, series: &Series, _: &mut Notes<'_>) -> Result<(), QueryError> {
        let group = self.at.of(self.by, &series.labels);
        let mut kept = StepSet::empty(self.steps);
        let present = series.column.present();
        if self.op == AggregateOp::LimitRatio {
            let offset = sample_offset(&series.labels);
            let stays = |step: &usize| ratio_keeps(self.param.at(*step).clamp(-1.0, 1.0), offset);
            present.iter().filter(stays).for_each(|step| kept.insert(step));
        } else {
            if group == self.taken.len() {
                self.out.hold.grow_bytes((self.steps * size_of::<u32>()) as u64)?;
                self.taken.push(vec![0; self.steps]);
            }
            let taken = &mut self.taken[group];
            for step in present.iter() {
                if i64::from(taken[step]) < self.param.at(step) as i64 {
                    taken[step] += 1;
                    kept.insert(step);
                }
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        self.out.hold.grow_bytes(Column::bytes(self.steps))?;
        let mut chosen = series.clone();
        chosen.column.retain(&kept);
        self.out.hold.grow_samples(chosen.column.len())?;
        self.chosen.push((group, chosen));
        Ok(())
    }

    fn finish(self: Box<Self>, _: &mut Notes<'_>) -> Result<Vector, QueryError> {
        let Limits { chosen, mut out, meter, .. } = *self;
        let chosen = meter.sorted(chosen, |(a, _), (b, _)| a.cmp(b))?;
        out.series.extend(chosen.into_iter().map(|(_, series)| series));
        Ok(out)
    }
}

/// Whether a ratio takes a series in: from below if positive, the complement from above if negative.
fn ratio_keeps(ratio: f64, offset: f64) -> bool {
    if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
}

/// The best members of a group at every step, in the very heaps upstream keeps: which of two equal values stays depends on
/// their shape. All lie in one piece of memory, since there may be a thousand steps and more.
#[derive(Debug, Default)]
pub(super) struct Rankings {
    /// Members of each step's heap.
    lens: Vec<u32>,
    /// (value, member), so many for each step; the worst is at the front.
    best: Vec<(f64, u32)>,
    room: usize,
    /// Series of this group that came.
    came: usize,
}

/// What became of a value.
#[derive(Debug, PartialEq, Eq)]
enum Offered {
    Refused,
    Added,
    InsteadOf(u32),
}

/// Whether `a` goes before `b` is taken out: NaN is worst.
fn worse(op: AggregateOp, a: f64, b: f64) -> bool {
    a.is_nan() || if op == AggregateOp::Topk { a < b } else { a > b }
}

impl Rankings {
    /// Another series comes: every heap may grow by one, up to `k_max`.
    fn make_room(&mut self, k_max: usize, held: &mut Hold) -> Result<(), QueryError> {
        self.came += 1;
        if self.came <= self.room || self.room >= k_max {
            return Ok(());
        }
        let (steps, before) = (self.lens.len(), self.room);
        let room = (2 * before).clamp(1, k_max);
        held.grow_bytes((room * steps * size_of::<(f64, u32)>()) as u64)?;
        let mut best = Vec::with_capacity(room * steps);
        for step in 0..steps {
            best.extend_from_slice(&self.best[step * before..(step + 1) * before]);
            best.resize((step + 1) * room, (0.0, 0));
        }
        (self.best, self.room) = (best, room);
        held.shrink_bytes((before * steps * size_of::<(f64, u32)>()) as u64);
        Ok(())
    }

    /// The heap of a step.
    fn at(&self, step: usize) -> &[(f64, u32)] {
        &self.best[step * self.room..][..self.lens[step] as usize]
    }

    fn offer(&mut self, step: usize, op: AggregateOp, offered: (f64, u32), k: usize) -> Offered {
        let (len, begin) = (self.lens[step] as usize, step * self.room);
        if len < k {
            self.lens[step] += 1;
            let best = &mut self.best[begin..=begin + len];
            best[len] = offered;
            up(best, op);
            return Offered::Added;
        }
        let best = &mut self.best[begin..begin + len];
        let (worst, other) = best[0];
        let beats = if op == AggregateOp::Topk { worst < offered.0 } else { worst > offered.0 };
        if !beats && (!worst.is_nan() || offered.0.is_nan()) {
            return Offered::Refused;
        }
        best[0] = offered;
        down(best, op);
        Offered::InsteadOf(other)
    }
}

/// Moves the last of a heap to its place.
fn up(best: &mut [(f64, u32)], op: AggregateOp) {
    let mut at = best.len() - 1;
    while at > 0 {
        let parent = (at - 1) / 2;
        if !worse(op, best[at].0, best[parent].0) {
            return;
        }
        best.swap(at, parent);
        at = parent;
    }
}

/// Moves the first of a heap to its place.
fn down(best: &mut [(f64, u32)], op: AggregateOp) {
    let mut at = 0;
    loop {
        let left = 2 * at + 1;
        if left >= best.len() {
            return;
        }
        let right = left + 1;
        let child = if right < best.len() && worse(op, best[right].0, best[left].0) { right } else { left };
        if !worse(op, best[child].0, best[at].0) {
            return;
        }
        best.swap(at, child);
        at = child;
    }
}

/// Members of a heap, best first, NaN last.
fn in_order(heap: &[(f64, u32)], op: AggregateOp, meter: &Meter<'_>) -> Result<Vec<u32>, QueryError> {
    let best = meter.sorted(heap.to_vec(), |a, b| match (a.0.is_nan(), b.0.is_nan()) {
        (false, false) if op == AggregateOp::Topk => b.0.total_cmp(&a.0),
        (false, false) => a.0.total_cmp(&b.0),
        (a_nan, b_nan) => a_nan.cmp(&b_nan),
    })?;
    Ok(best.into_iter().map(|(_, member)| member).collect())
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
            let context = kymo_core::QueryContext::unlimited();
            let meter = Meter::new(&context, u64::MAX);
            let mut held = meter.hold().unwrap();
            let mut rankings = Rankings { lens: vec![0; 2], ..Rankings::default() };
            for (member, &value) in (0..).zip(&values) {
                rankings.make_room(k, &mut held).unwrap();
                rankings.offer(1, op, (value, member), k);
            }
            assert!(rankings.at(0).is_empty());
            let order = in_order(rankings.at(1), op, &meter).unwrap();
            assert_eq!(order, expected, "{op}({k})");
        }
    }

    #[test]
    fn a_ratio_and_its_complement_share_no_series() {
        for offset in [0.0, 0.2, 0.4, 0.6, 0.999] {
            assert!(ratio_keeps(0.4, offset) != ratio_keeps(-0.6, offset), "{offset}");
        }
    }
}
