//! What is known of the series of one target.
//!
//! Two tables. A *text* is the bytes that name a series in the target's answers; it leads to a *series*, which the engine
//! knows by a ref. Several texts may be one series (blanks, the order of labels, relabelling), and a text may be of no series
//! (dropped by relabelling).
//!
//! Invariants: (1) a hit compares all bytes of the text, never the hash alone; (2) two series of the cache never have
//! one ref; (3) a series lives as long as a text leads to it; (4) every text's bytes are paid for from the budget.
//!
//! **Successor prediction.** Targets repeat their order, so every text remembers which one followed it last; the
//! parser is told, and compares instead of parsing.
//!
//! **Staleness.** Scrapes are counted in rounds. A series that was tracked in the round before and is not in this one has
//! vanished and gets a marker.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use kymo_core::{Budget, BudgetExceeded, FamilyType, Reservation, SeriesRef};

/// Bytes reserved at a time.
const STEP_BYTES: u64 = 16 << 10;
/// What a text takes besides its bytes, with its share of both tables and of its series.
const TEXT_BYTES: u64 = 128;
/// Texts that may pile up in failing scrapes before the old ones are forgotten all the same.
const FAILED_TEXTS_MAX: usize = 1_000;

/// Number of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextId(u32);

/// Number of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SeriesId(u32);

impl TextId {
    /// No text; also the successor of one that nothing followed yet.
    pub(super) const NONE: TextId = TextId(u32::MAX);
}

#[derive(Debug)]
struct Text {
    bytes: Box<[u8]>,
    /// `None` if relabelling drops it.
    series: Option<SeriesId>,
    /// In the light of which its labels were read.
    family_type: FamilyType,
    /// The round in which it was last met.
    met: u64,
    next: TextId,
    live: bool,
}

#[derive(Debug)]
struct Series {
    /// `None` until the engine gave one.
    series_ref: Option<SeriesRef>,
    /// One of the texts that lead to it, to name it again.
    text: TextId,
    texts: u32,
    /// The round in which a sample without a timestamp of its own was last sent.
    sent: u64,
    /// The round in which it was last tracked for staleness, and the one before that.
    tracked: u64,
    tracked_before: u64,
}

/// What is known of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Relabelling drops it.
    Dropped,
    /// A series.
    Series(SeriesId),
}

#[derive(Debug)]
pub(super) struct ScrapeCache {
    hasher: RandomState,
    texts: Vec<Text>,
    free_texts: Vec<u32>,
    by_bytes: HashTable<u32>,
    series: Vec<Series>,
    free_series: Vec<u32>,
    by_ref: HashTable<u32>,
    /// From 2, so that 0 is never a round and never the one before.
    round: u64,
    /// Texts after the last scrape that went well.
    settled: usize,
    /// Texts met in this round, and those of them that are new.
    met: usize,
    added: usize,
    last: TextId,
    held: Reservation,
    used: u64,
}

impl ScrapeCache {
    pub(super) fn new(budget: &Budget) -> Result<ScrapeCache, BudgetExceeded> {
        Ok(ScrapeCache {
            hasher: RandomState::default(),
            texts: Vec::new(),
            free_texts: Vec::new(),
            by_bytes: HashTable::new(),
            series: Vec::new(),
            free_series: Vec::new(),
            by_ref: HashTable::new(),
            round: 2,
            settled: 0,
            met: 0,
            added: 0,
            last: TextId::NONE,
            held: budget.try_reserve(0)?,
            used: 0,
        })
    }

    /// Series that are known.
    #[cfg(test)]
    pub(super) fn series_count(&self) -> usize {
        self.series.len() - self.free_series.len()
    }

    /// Begins an answer: nothing precedes its first text.
    pub(super) fn begin(&mut self) {
        self.last = TextId::NONE;
    }

    /// The bytes that are likely next, empty if nothing is known.
    #[inline]
    pub(super) fn expected(&self) -> &[u8] {
        self.texts.get(self.predicted().0 as usize).map_or(b"", |text| &text.bytes)
    }

    #[inline]
    fn predicted(&self) -> TextId {
        self.texts.get(self.last.0 as usize).map_or(TextId(0), |last| last.next)
    }

    /// Looks a text up and notes that it was met.
    #[inline]
    pub(super) fn meet(&mut self, bytes: &[u8]) -> Option<(TextId, Known)> {
        let predicted = self.predicted();
        let id = match self.texts.get(predicted.0 as usize) {
            Some(text) if text.live && *text.bytes == *bytes => predicted,
            _ => self.find(bytes)?,
        };
        self.follow(id);
        let text = &mut self.texts[id.0 as usize];
        self.met += usize::from(text.met != self.round);
        text.met = self.round;
        Some((id, text.series.map_or(Known::Dropped, Known::Series)))
    }

    fn find(&self, bytes: &[u8]) -> Option<TextId> {
        let hash = self.hasher.hash_one(bytes);
        self.by_bytes.find(hash, |&id| *self.texts[id as usize].bytes == *bytes).copied().map(TextId)
    }

    fn follow(&mut self, id: TextId) {
        if let Some(last) = self.texts.get_mut(self.last.0 as usize) {
            last.next = id;
        }
        self.last = id;
    }

    /// Remembers a new text that leads to `series`, or that relabelling drops.
    pub(super) fn add_text(
        &mut self,
        bytes: &[u8],
        family_type: FamilyType,
        series: Option<SeriesId>,
    ) -> Result<TextId, BudgetExceeded> {
        if let Err(refused) = self.pay(bytes.len() as u64 + TEXT_BYTES) {
            self.free_series.extend(series.filter(|id| self.series[id.0 as usize].texts == 0).map(|id| id.0));
            return Err(refused);
        }
        let text = Text { bytes: bytes.into(), series, family_type, met: self.round, next: TextId::NONE, live: true };
        let id = match self.free_texts.pop() {
            Some(id) => {
                self.texts[id as usize] = text;
                id
            }
            None => {
                self.texts.push(text);
                self.texts.len() as u32 - 1
            }
        };
        let hash = self.hasher.hash_one(bytes);
        let (hasher, texts) = (&self.hasher, &self.texts);
        self.by_bytes.insert_unique(hash, id, |&id| hasher.hash_one(&*texts[id as usize].bytes));
        if let Some(series) = series {
            let series = &mut self.series[series.0 as usize];
            series.texts += 1;
            series.text = TextId(id);
        }
        self.follow(TextId(id));
        self.met += 1;
        self.added += 1;
        Ok(TextId(id))
    }

    fn pay(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        let used = self.used + bytes;
        if used > self.held.bytes() {
            self.held.grow((used - self.held.bytes()).next_multiple_of(STEP_BYTES))?;
        }
        self.used = used;
        Ok(())
    }

    /// A new series, to be led to by the next text.
    pub(super) fn add_series(&mut self) -> SeriesId {
        let series = Series { series_ref: None, text: TextId::NONE, texts: 0, sent: 0, tracked: 0, tracked_before: 0 };
        SeriesId(match self.free_series.pop() {
            Some(id) => {
                self.series[id as usize] = series;
                id
            }
            None => {
                self.series.push(series);
                self.series.len() as u32 - 1
            }
        })
    }

    /// The series that has this ref.
    pub(super) fn series_of(&self, series_ref: SeriesRef) -> Option<SeriesId> {
        let hash = self.hasher.hash_one(series_ref);
        let same = |&id: &u32| self.series[id as usize].series_ref == Some(series_ref);
        self.by_ref.find(hash, same).copied().map(SeriesId)
    }

    /// The ref of a series.
    #[inline]
    pub(super) fn series_ref(&self, id: SeriesId) -> Option<SeriesRef> {
        self.series[id.0 as usize].series_ref
    }

    /// Gives a series its ref, in the place of an older one.
    pub(super) fn set_ref(&mut self, id: SeriesId, series_ref: SeriesRef) {
        if self.series_ref(id) == Some(series_ref) || self.series_of(series_ref).is_some() {
            return;
        }
        self.forget_ref(id);
        self.series[id.0 as usize].series_ref = Some(series_ref);
        let hash = self.hasher.hash_one(series_ref);
        let (hasher, series) = (&self.hasher, &self.series);
        self.by_ref
            .insert_unique(hash, id.0, |&id| hasher.hash_one(series[id as usize].series_ref.unwrap_or(series_ref)));
    }

    fn forget_ref(&mut self, id: SeriesId) {
        let Some(series_ref) = self.series[id.0 as usize].series_ref.take() else { return };
        let hash = self.hasher.hash_one(series_ref);
        if let Ok(entry) = self.by_ref.find_entry(hash, |&other| other == id.0) {
            entry.remove();
        }
    }

    /// Notes that a sample at the scrape's own time is sent; says no if one was already in this round.
    #[inline]
    pub(super) fn send_once(&mut self, id: SeriesId) -> bool {
        let series = &mut self.series[id.0 as usize];
        let first = series.sent != self.round;
        series.sent = self.round;
        first
    }

    /// Tracks a series for staleness.
    #[inline]
    pub(super) fn track(&mut self, id: SeriesId) {
        let series = &mut self.series[id.0 as usize];
        if series.tracked != self.round {
            (series.tracked_before, series.tracked) = (series.tracked, self.round);
        }
    }

    /// Takes back what [`track`](Self::track) did: nothing of the series was stored.
    pub(super) fn untrack(&mut self, id: SeriesId) {
        let series = &mut self.series[id.0 as usize];
        if series.tracked == self.round {
            series.tracked = series.tracked_before;
        }
    }

    /// The text that names a series, and the type in whose light it is read.
    pub(super) fn name(&self, id: SeriesId) -> (&[u8], FamilyType) {
        let text = &self.texts[self.series[id.0 as usize].text.0 as usize];
        (&text.bytes, text.family_type)
    }

    /// Series that were tracked in the round before and are not in this one.
    pub(super) fn vanished(&self) -> impl Iterator<Item = (SeriesId, SeriesRef)> + '_ {
        let before = self.round - 1;
        self.which(move |series| series.tracked == before)
    }

    /// Series that were tracked in the round before, whatever this one brought.
    pub(super) fn tracked_before(&self) -> impl Iterator<Item = (SeriesId, SeriesRef)> + '_ {
        let (now, before) = (self.round, self.round - 1);
        self.which(move |series| series.tracked == before || series.tracked == now && series.tracked_before == before)
    }

    fn which(&self, wanted: impl Fn(&Series) -> bool) -> impl Iterator<Item = (SeriesId, SeriesRef)> {
        self.series.iter().enumerate().filter_map(move |(id, series)| {
            let there = series.texts > 0 && wanted(series);
            there.then_some(SeriesId(id as u32)).zip(series.series_ref)
        })
    }

    /// Whether a series with this ref lives.
    pub(super) fn tracks(&self, series_ref: SeriesRef) -> bool {
        self.series_of(series_ref).is_some_and(|id| self.series[id.0 as usize].tracked + 1 >= self.round)
    }

    /// Ends the round of a scrape that failed: nothing is tracked in it.
    pub(super) fn end_failed(&mut self) {
        for series in &mut self.series {
            if series.tracked == self.round {
                (series.tracked, series.tracked_before) = (0, 0);
            }
        }
        let many = self.by_bytes.len() > 2 * self.settled + FAILED_TEXTS_MAX;
        self.forget(|cache, text| {
            text.series.is_some_and(|id| cache.series_ref(id).is_none()) || many && text.met != cache.round
        });
        self.next_round();
    }

    fn next_round(&mut self) {
        self.round += 1;
        (self.met, self.added) = (0, 0);
    }

    /// Ends the round of a scrape of which nothing was stored, through no fault of its target: what was tracked before is
    /// so still.
    pub(super) fn end_unstored(&mut self) {
        let (now, before) = (self.round, self.round - 1);
        for series in &mut self.series {
            let was = series.tracked == before || series.tracked == now && series.tracked_before == before;
            (series.tracked, series.tracked_before) = (if was { now } else { 0 }, 0);
        }
        self.forget(|cache, text| text.series.is_some_and(|id| cache.series_ref(id).is_none()));
        self.next_round();
    }

    /// Ends the round of a scrape that went well: what was not met in it is forgotten, and what got no ref.
    pub(super) fn end(&mut self) {
        if self.added > 0 || self.met < self.by_bytes.len() {
            self.forget(|cache, text| {
                text.met != cache.round || text.series.is_some_and(|id| cache.series_ref(id).is_none())
            });
        }
        self.settled = self.by_bytes.len();
        self.next_round();
    }

    fn forget(&mut self, unwanted: impl Fn(&ScrapeCache, &Text) -> bool) {
        for id in 0..self.texts.len() {
            let text = &self.texts[id];
            if !text.live || !unwanted(self, text) {
                continue;
            }
            let series = text.series;
            let hash = self.hasher.hash_one(&*text.bytes);
            if let Ok(entry) = self.by_bytes.find_entry(hash, |&other| other as usize == id) {
                entry.remove();
            }
            let text = &mut self.texts[id];
            self.used -= (text.bytes.len() as u64 + TEXT_BYTES).min(self.used);
            (text.live, text.bytes) = (false, Box::default());
            self.free_texts.push(id as u32);
            if let Some(series) = series {
                self.leave(series, TextId(id as u32));
            }
        }
        let spare = self.held.bytes().saturating_sub(self.used.next_multiple_of(STEP_BYTES));
        self.held.shrink(spare);
    }

    /// One text less leads to a series.
    fn leave(&mut self, id: SeriesId, text: TextId) {
        let series = &mut self.series[id.0 as usize];
        series.texts -= 1;
        if series.texts == 0 {
            self.forget_ref(id);
            let series = &mut self.series[id.0 as usize];
            (series.sent, series.tracked, series.tracked_before) = (0, 0, 0);
            self.free_series.push(id.0);
        } else if series.text == text {
            // Rare: the text that named the series is gone, and another one still leads to it.
            let other = self.texts.iter().position(|text| text.live && text.series == Some(id));
            if let Some(other) = other {
                self.series[id.0 as usize].text = TextId(other as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series_ref(n: u64) -> SeriesRef {
        SeriesRef::new(1, n).unwrap()
    }

    fn cache() -> ScrapeCache {
        ScrapeCache::new(&Budget::unlimited()).unwrap()
    }

    /// Meets texts as an answer does; new ones get the ref of their number.
    fn scrape(cache: &mut ScrapeCache, texts: &[&str]) {
        cache.begin();
        for text in texts {
            let id = match cache.meet(text.as_bytes()) {
                Some((_, Known::Series(id))) => id,
                Some((_, Known::Dropped)) => continue,
                None => {
                    let id = cache.add_series();
                    cache.add_text(text.as_bytes(), FamilyType::Unknown, Some(id)).unwrap();
                    cache.set_ref(id, series_ref(u64::from(text.as_bytes()[0])));
                    id
                }
            };
            assert!(cache.send_once(id));
            cache.track(id);
        }
    }

    fn vanished(cache: &ScrapeCache) -> Vec<u64> {
        cache.vanished().map(|(_, series)| series.index()).collect()
    }

    #[test]
    fn series_that_are_not_met_again_have_vanished_once() {
        let mut cache = cache();
        scrape(&mut cache, &["a", "b", "c"]);
        assert!(vanished(&cache).is_empty());
        cache.end();
        scrape(&mut cache, &["a", "c"]);
        assert_eq!(vanished(&cache), [u64::from(b'b')]);
        cache.end();
        scrape(&mut cache, &["a", "c"]);
        assert!(vanished(&cache).is_empty());
        assert_eq!((cache.series_count(), cache.tracks(series_ref(u64::from(b'b')))), (2, false));
    }

    #[test]
    fn a_failed_scrape_makes_all_vanish_and_keeps_what_is_known() {
        let mut cache = cache();
        scrape(&mut cache, &["a", "b"]);
        cache.end();
        cache.begin();
        let Some((_, Known::Series(id))) = cache.meet(b"a") else { panic!("known") };
        cache.track(id);
        let all: Vec<u64> = cache.tracked_before().map(|(_, series)| series.index()).collect();
        assert_eq!(all, [u64::from(b'a'), u64::from(b'b')]);
        cache.end_failed();
        assert!(cache.tracked_before().next().is_none());
        assert!(matches!(cache.meet(b"b"), Some((_, Known::Series(_)))));
    }

    #[test]
    fn a_scrape_that_was_not_stored_changes_nothing() {
        let mut cache = cache();
        scrape(&mut cache, &["a", "b"]);
        cache.end();
        scrape(&mut cache, &["a", "c"]);
        cache.end_unstored();
        scrape(&mut cache, &["d"]);
        assert_eq!(vanished(&cache), [u64::from(b'a'), u64::from(b'b')]);
    }

    #[test]
    fn the_next_text_is_predicted_and_a_wrong_guess_is_mended() {
        let mut cache = cache();
        scrape(&mut cache, &["a", "b", "c"]);
        cache.end();
        cache.begin();
        let mut guesses = Vec::new();
        for text in ["a", "c", "b"] {
            guesses.push(String::from_utf8_lossy(cache.expected()).into_owned());
            assert!(cache.meet(text.as_bytes()).is_some());
        }
        assert_eq!(guesses, ["a", "b", ""]);
        cache.begin();
        cache.meet(b"a").unwrap();
        assert_eq!(cache.expected(), b"c");
    }

    #[test]
    fn several_texts_of_one_series_are_sent_once_and_vanish_together() {
        let mut cache = cache();
        scrape(&mut cache, &["a"]);
        let id = cache.series_of(series_ref(u64::from(b'a'))).unwrap();
        cache.add_text(b"a ", FamilyType::Unknown, Some(id)).unwrap();
        assert!(!cache.send_once(id));
        cache.end();
        scrape(&mut cache, &["a "]);
        assert!(vanished(&cache).is_empty());
        assert_eq!(cache.name(id).0, b"a ");
        cache.end();
        scrape(&mut cache, &[]);
        assert_eq!(vanished(&cache), [u64::from(b'a')]);
    }

    #[test]
    fn memory_is_paid_for_and_given_back() {
        let budget = Budget::root("test", 64 << 10);
        let mut cache = ScrapeCache::new(&budget).unwrap();
        let text = vec![b'x'; 60 << 10];
        cache.add_text(&text, FamilyType::Unknown, None).unwrap();
        assert_eq!(budget.used(), 64 << 10);
        let refused = cache.add_text(&text[1..], FamilyType::Unknown, None).unwrap_err();
        assert_eq!(refused.name, "test");
        cache.end();
        cache.end();
        assert_eq!((budget.used(), cache.meet(&text)), (0, None));
    }

    #[test]
    fn series_without_a_ref_are_not_remembered() {
        let mut cache = cache();
        let id = cache.add_series();
        cache.add_text(b"a", FamilyType::Unknown, Some(id)).unwrap();
        cache.track(id);
        cache.end();
        assert_eq!((cache.series_count(), cache.meet(b"a")), (0, None));
    }
}
