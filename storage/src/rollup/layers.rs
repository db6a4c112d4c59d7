//! Which tier says what of one series: stored rollups, and what is not rolled up yet, or not any more as it is stored, rolled up
//! from what is finer.

use kymo_core::LabelsRef;
use kymo_core::aggregate::rollup::{append_rows, roll_up};
use kymo_core::storage::{Columns, Tier};

use super::spans::{Rolled, Spans, whole_hours};
use crate::hidden::Hidden;
use crate::retention::RetentionPolicy;

/// The times up to which a series is answered by something coarser; each is the end of an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Borders {
    /// Samples lie behind it.
    pub(super) raw: i64,
    /// Rollups of five minutes lie behind it.
    pub(super) five_minutes: i64,
    /// Nothing lies before it.
    pub(super) one_hour: i64,
}

impl Borders {
    pub(super) fn of(policy: &RetentionPolicy, labels: LabelsRef<'_>, now_ms: i64) -> Borders {
        let before = |tier| policy.oldest_of_ms(tier, labels, now_ms).saturating_sub(1);
        let raw = before(Tier::Raw);
        let five_minutes = before(Tier::FiveMinutes).min(raw);
        Borders { raw, five_minutes, one_hour: before(Tier::OneHour).min(five_minutes) }
    }
}

/// Where something coarser stands for what went for its size, of all series alike.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Stands {
    has_fine: bool,
    /// Five minutes for samples.
    fine_for_samples: Spans,
    /// Hours for samples.
    coarse_for_samples: Spans,
    /// Hours for five minutes.
    coarse_for_fine: Spans,
}

impl Stands {
    pub(super) fn of(policy: &RetentionPolicy, rolled: &Rolled) -> Stands {
        let stood_for = |tier: Tier, coarser: Tier| match policy.has(tier) && policy.has(coarser) {
            true => rolled.stood_for(tier, coarser),
            false => Spans::default(),
        };
        let fine_for_samples = stood_for(Tier::Raw, Tier::FiveMinutes);
        Stands {
            has_fine: policy.has(Tier::FiveMinutes),
            coarse_for_samples: stood_for(Tier::Raw, Tier::OneHour).without(&fine_for_samples),
            coarse_for_fine: stood_for(Tier::FiveMinutes, Tier::OneHour),
            fine_for_samples,
        }
    }

    /// Whether samples in a window that is open to the left are stood for.
    pub(super) fn reach(&self, start_ms: i64, end_ms: i64) -> bool {
        let reach = |spans: &Spans| !spans.within(start_ms, end_ms).is_empty();
        reach(&self.fine_for_samples) || reach(&self.coarse_for_samples)
    }

    /// The time up to which they reach.
    pub(super) fn until_ms(&self) -> i64 {
        let ends = [&self.fine_for_samples, &self.coarse_for_samples].into_iter().filter_map(Spans::end);
        ends.max().unwrap_or(i64::MIN)
    }

    /// Which tier answers when, by rising time.
    pub(super) fn zones(&self, borders: Borders) -> Vec<(i64, i64, Tier)> {
        let Borders { raw, five_minutes, one_hour } = borders;
        let end = i64::MAX;
        let mut zones = vec![(one_hour, five_minutes, Tier::OneHour)];
        let mut add = |spans: &Spans, within: (i64, i64), outside: Tier, inside: Tier| {
            let pieces = spans.pieces(within.0, within.1).into_iter();
            zones.extend(pieces.map(|(start, end, is_in)| (start, end, if is_in { inside } else { outside })));
        };
        if self.has_fine {
            add(&self.coarse_for_fine, (five_minutes, raw), Tier::FiveMinutes, Tier::OneHour);
        }
        // Of samples: first where five minutes stand for them, and in what is left where hours do.
        for (start, end, is_fine) in self.fine_for_samples.pieces(raw, end) {
            if is_fine {
                add(&Spans::default(), (start, end), Tier::FiveMinutes, Tier::FiveMinutes);
            } else {
                add(&self.coarse_for_samples, (start, end), Tier::Raw, Tier::OneHour);
            }
        }
        zones.retain(|(start, end, _)| start < end);
        zones
    }
}

/// What there is of one series.
#[derive(Default)]
pub(super) struct Layers {
    /// Samples.
    pub(super) raw: Columns,
    /// Stored rows, without what was deleted.
    pub(super) five_minutes: Columns,
    pub(super) one_hour: Columns,
    /// Where stored rows are what the samples say, or all that is left to say it.
    usable: [Spans; 2],
    /// What an hour is made of.
    made_of_fine: bool,
}

impl Layers {
    pub(super) fn stored(&mut self, tier: Tier) -> &mut Columns {
        if tier == Tier::OneHour { &mut self.one_hour } else { &mut self.five_minutes }
    }

    /// Says which stored rows hold. Where `touched` since they were made, they do only if there is nothing finer.
    pub(super) fn settle(&mut self, rolled: &Rolled, touched: [&Spans; 2], borders: Borders, stands: &Stands) {
        self.made_of_fine = stands.has_fine;
        let until = [borders.raw, if self.made_of_fine { borders.five_minutes } else { borders.raw }];
        for (at, tier) in [Tier::FiveMinutes, Tier::OneHour].into_iter().enumerate() {
            let made = rolled.of(tier);
            self.usable[at] = made.clean().without(touched[at]);
            self.usable[at].add_all(&made.built.within(i64::MIN, until[at]));
        }
        let [fine, coarse] = &mut self.usable;
        fine.add_all(&stands.fine_for_samples);
        coarse.add_all(&stands.coarse_for_samples);
        coarse.add_all(&stands.coarse_for_fine);
    }

    /// Appends the rows of a tier between two times, which end hours.
    pub(super) fn rows(&self, tier: Tier, start_ms: i64, end_ms: i64, into: &mut Columns) {
        let (stored, usable, finer) = match tier {
            Tier::Raw => return append_rows(&self.raw, start_ms, end_ms, into),
            Tier::FiveMinutes => (&self.five_minutes, &self.usable[0], Tier::Raw),
            Tier::OneHour if self.made_of_fine => (&self.one_hour, &self.usable[1], Tier::FiveMinutes),
            Tier::OneHour => (&self.one_hour, &self.usable[1], Tier::Raw),
        };
        for (start, end, is_usable) in usable.pieces(start_ms, end_ms) {
            if is_usable {
                append_rows(stored, start, end, into);
            } else {
                let mut rows = Columns::default();
                self.rows(finer, start, end, &mut rows);
                roll_up(&rows, tier, into);
            }
        }
    }
}

/// Appends rows without the buckets that something hidden lies in.
pub(super) fn append_shown(rows: &Columns, tier: Tier, hidden: &Hidden, into: &mut Columns) {
    let bucket = |(first, last): &(i64, i64)| {
        let begin = tier.bucket_end_ms(*first).saturating_sub(tier.width_ms());
        (begin.saturating_add(1), tier.bucket_end_ms(*last))
    };
    let buckets = Hidden::of(hidden.ranges().iter().map(bucket).collect());
    buckets.gaps(i64::MIN, i64::MAX).for_each(|(start, end)| append_rows(rows, start, end, into));
}

/// The hours that something hidden lies in.
pub(super) fn hours_of(hidden: &Hidden) -> Spans {
    let mut spans = Spans::default();
    for (first, last) in hidden.ranges() {
        let (start, end) = whole_hours(*first, *last);
        spans.add(start, end);
    }
    spans
}
