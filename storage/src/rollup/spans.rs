//! Stretches of time that are open to the left like buckets, and which of them are rolled up.

use kymo_core::storage::Tier;

use crate::codec::{Malformed, Reader, put_varint, put_zigzag};

/// Disjoint stretches `(start, end]`, rising, with something between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spans(Vec<(i64, i64)>);

impl Spans {
    pub(crate) fn of(start_ms: i64, end_ms: i64) -> Spans {
        Spans(if start_ms < end_ms { vec![(start_ms, end_ms)] } else { Vec::new() })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The end of the last.
    pub(crate) fn end(&self) -> Option<i64> {
        self.0.last().map(|span| span.1)
    }

    /// Joins a stretch in.
    pub(crate) fn add(&mut self, start_ms: i64, end_ms: i64) {
        if start_ms >= end_ms {
            return;
        }
        let begin = self.0.partition_point(|span| span.1 < start_ms);
        let end = self.0.partition_point(|span| span.0 <= end_ms);
        let joined =
            self.0[begin..end].iter().fold((start_ms, end_ms), |all, span| (all.0.min(span.0), all.1.max(span.1)));
        self.0.splice(begin..end, [joined]);
    }

    pub(crate) fn add_all(&mut self, other: &Spans) {
        other.iter().for_each(|(start, end)| self.add(start, end));
    }

    /// Takes a stretch out.
    pub(crate) fn remove(&mut self, start_ms: i64, end_ms: i64) {
        if start_ms >= end_ms {
            return;
        }
        let cut = |&(start, end): &(i64, i64)| [(start, end.min(start_ms)), (start.max(end_ms), end)];
        self.0 = self.0.iter().flat_map(cut).filter(|(start, end)| start < end).collect();
    }

    pub(crate) fn without(&self, other: &Spans) -> Spans {
        let mut left = self.clone();
        other.iter().for_each(|(start, end)| left.remove(start, end));
        left
    }

    /// What of it lies in a stretch.
    pub(crate) fn within(&self, start_ms: i64, end_ms: i64) -> Spans {
        let cut = self.iter().map(|(start, end)| (start.max(start_ms), end.min(end_ms)));
        Spans(cut.filter(|(start, end)| start < end).collect())
    }

    /// What lies in both.
    pub(crate) fn and(&self, other: &Spans) -> Spans {
        let mut both = Spans::default();
        other.iter().for_each(|(start, end)| both.add_all(&self.within(start, end)));
        both
    }

    /// A stretch cut where it enters and leaves these: each piece, and whether it lies in them.
    pub(crate) fn pieces(&self, start_ms: i64, end_ms: i64) -> Vec<(i64, i64, bool)> {
        let (mut pieces, mut at) = (Vec::new(), start_ms);
        for (start, end) in self.within(start_ms, end_ms).iter() {
            if at < start {
                pieces.push((at, start, false));
            }
            pieces.push((start, end, true));
            at = end;
        }
        if at < end_ms {
            pieces.push((at, end_ms, false));
        }
        pieces
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        for (start, end) in self.iter() {
            put_zigzag(out, start);
            put_varint(out, end.wrapping_sub(start) as u64);
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Spans, Malformed> {
        let mut spans = Spans::default();
        for _ in 0..from.count(2)? {
            let (start, len) = (from.zigzag()?, from.varint()?);
            let end = i64::try_from(len).ok().and_then(|len| start.checked_add(len));
            let last = spans.0.last().map(|span| span.1);
            match end.filter(|end| *end > start && last.is_none_or(|last| last < start)) {
                Some(end) => spans.0.push((start, end)),
                None => return from.bad("stretches of time do not rise"),
            }
        }
        Ok(spans)
    }
}

/// What of one tier is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// Rolled up once, in whole hours.
    pub(crate) built: Spans,
    /// Of that, where something came later: rolled up again while there are samples to do it from.
    pub(crate) dirty: Spans,
    /// Retired for its size: not made again.
    pub(crate) gone: Spans,
}

impl Made {
    /// What is as the samples say.
    pub(crate) fn clean(&self) -> Spans {
        self.built.without(&self.dirty)
    }

    /// Notes that something was written between two times, both inclusive; where samples are `gone` nothing can be made anew.
    fn touch(&mut self, first_ms: i64, last_ms: i64, gone: &Spans) {
        let (start, end) = whole_hours(first_ms, last_ms);
        self.dirty.add_all(&self.built.within(start, end).without(gone));
    }
}

/// What is rolled up, by tier, and where that is all there is because what it was made of went for its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rolled {
    /// Hours whose samples went for their size after they were rolled up.
    samples_gone: Spans,
    five_minutes: Made,
    one_hour: Made,
}

impl Rolled {
    pub(crate) fn of(&self, tier: Tier) -> &Made {
        if tier == Tier::OneHour { &self.one_hour } else { &self.five_minutes }
    }

    pub(crate) fn of_mut(&mut self, tier: Tier) -> &mut Made {
        if tier == Tier::OneHour { &mut self.one_hour } else { &mut self.five_minutes }
    }

    /// Notes that samples were written between two times, both inclusive.
    pub(crate) fn touch(&mut self, first_ms: i64, last_ms: i64) {
        self.five_minutes.touch(first_ms, last_ms, &self.samples_gone);
        self.one_hour.touch(first_ms, last_ms, &self.samples_gone);
    }

    /// Hours of a tier that went for their size.
    pub(crate) fn gone(&self, tier: Tier) -> &Spans {
        match tier {
            Tier::Raw => &self.samples_gone,
            Tier::FiveMinutes | Tier::OneHour => &self.of(tier).gone,
        }
    }

    /// Hours of a tier in which `coarser`, which is made of it, is all that is left.
    pub(crate) fn stood_for(&self, tier: Tier, coarser: Tier) -> Spans {
        self.gone(tier).and(&self.of(coarser).built)
    }

    /// Notes that what a tier has in some hours goes for its size, of which `coarser` is made, if any; gives the hours that
    /// are not made of it yet.
    pub(crate) fn let_go(&mut self, tier: Tier, hours: &Spans, coarser: Option<Tier>) -> Spans {
        let made = coarser.map(|coarser| self.of(coarser).built.and(hours)).unwrap_or_default();
        match tier {
            Tier::Raw => self.samples_gone.add_all(&made),
            Tier::FiveMinutes | Tier::OneHour => {
                let of_tier = self.of_mut(tier);
                of_tier.gone.add_all(hours);
                of_tier.built = of_tier.built.without(hours);
                of_tier.dirty = of_tier.dirty.without(hours);
            }
        }
        if let Some(coarser) = coarser {
            let of_coarser = self.of_mut(coarser);
            of_coarser.dirty = of_coarser.dirty.without(&made);
        }
        hours.without(&made)
    }

    /// Notes that rollups were made of what went meanwhile.
    pub(crate) fn made_of_gone(&mut self, tier: Tier, hours: &Spans) {
        if tier == Tier::Raw {
            self.samples_gone.add_all(hours);
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.samples_gone.put(out);
        for made in [&self.five_minutes, &self.one_hour] {
            made.built.put(out);
            made.dirty.put(out);
            made.gone.put(out);
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Rolled, Malformed> {
        let samples_gone = Spans::read(from)?;
        let mut made = || Ok(Made { built: Spans::read(from)?, dirty: Spans::read(from)?, gone: Spans::read(from)? });
        Ok(Rolled { samples_gone, five_minutes: made()?, one_hour: made()? })
    }
}

/// The hours that hold the times between two, both inclusive.
pub(crate) fn whole_hours(first_ms: i64, last_ms: i64) -> (i64, i64) {
    let hour = Tier::OneHour;
    (hour.bucket_end_ms(first_ms).saturating_sub(hour.width_ms()), hour.bucket_end_ms(last_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_joined_cut_and_told_apart() {
        let mut spans = Spans::default();
        [(0, 10), (20, 30), (10, 12), (40, 50), (29, 40)].into_iter().for_each(|(start, end)| spans.add(start, end));
        assert_eq!(spans.0, [(0, 12), (20, 50)]);
        spans.remove(5, 25);
        assert_eq!(spans.0, [(0, 5), (25, 50)]);
        assert_eq!(spans.pieces(3, 30), [(3, 5, true), (5, 25, false), (25, 30, true)]);
        assert_eq!(spans.pieces(60, 70), [(60, 70, false)]);
        assert_eq!(spans.and(&Spans::of(4, 26)).0, [(4, 5), (25, 26)]);
        let mut out = Vec::new();
        spans.put(&mut out);
        assert_eq!(Spans::read(&mut Reader::new(&out)).ok(), Some(spans));
    }

    #[test]
    fn what_is_touched_is_dirty_where_it_was_rolled_up() {
        let hour = 3_600_000;
        let mut made = Made { built: Spans::of(0, 10 * hour), ..Made::default() };
        made.touch(hour, hour, &Spans::default());
        assert_eq!(made.dirty.0, [(0, hour)], "the end of an hour belongs to it");
        made.touch(9 * hour + 1, 12 * hour, &Spans::default());
        assert_eq!(made.clean().0, [(hour, 9 * hour)]);
    }

    #[test]
    fn what_went_for_its_size_is_stood_for_where_it_was_rolled_up_and_is_not_touched() {
        let (hour, fine) = (3_600_000, Tier::FiveMinutes);
        let mut rolled = Rolled::default();
        rolled.of_mut(fine).built = Spans::of(0, 4 * hour);
        rolled.touch(1, 1);
        let left = rolled.let_go(Tier::Raw, &Spans::of(0, 6 * hour), Some(fine));
        assert_eq!(left.0, [(4 * hour, 6 * hour)], "nothing stands for these");
        assert_eq!(rolled.stood_for(Tier::Raw, fine).0, [(0, 4 * hour)]);
        rolled.touch(2, 2);
        assert_eq!(rolled.of(fine).clean().0, [(0, 4 * hour)], "nothing can be made anew there");
        // The rollups themselves go; hours of them were never made.
        assert_eq!(rolled.let_go(fine, &Spans::of(0, hour), Some(Tier::OneHour)).0, [(0, hour)]);
        assert_eq!(rolled.stood_for(Tier::Raw, fine).0, [(hour, 4 * hour)]);
        assert_eq!(rolled.gone(fine).0, [(0, hour)]);
        let mut out = Vec::new();
        rolled.put(&mut out);
        assert_eq!(Rolled::read(&mut Reader::new(&out)).ok(), Some(rolled));
    }
}
