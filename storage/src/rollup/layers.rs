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
    pub(super) fn settle(&mut self, rolled: &Rolled, touched: [&Spans; 2], borders: Borders, made_of_fine: bool) {
        self.made_of_fine = made_of_fine;
        let until = [borders.raw, if made_of_fine { borders.five_minutes } else { borders.raw }];
        for (at, tier) in [Tier::FiveMinutes, Tier::OneHour].into_iter().enumerate() {
            let made = rolled.of(tier);
            self.usable[at] = made.clean().without(touched[at]);
            self.usable[at].add_all(&made.built.within(i64::MIN, until[at]));
        }
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
