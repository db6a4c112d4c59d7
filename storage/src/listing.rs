//! Label names or values of many series, each once.

use std::cmp::Ordering;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// First room for texts: a few hundred of them.
const TEXT_BYTES: usize = 8 << 10;

/// In which order a source shows its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Each once, rising: they are compared with those listed before side by side.
    Rising,
    /// In none, and maybe several times: they are looked for by their hash.
    None,
}

/// Texts seen in one source after another, packed.
#[derive(Debug)]
pub(crate) struct Listing {
    text: String,
    /// Those of earlier sources, sorted.
    all: Vec<Place>,
    /// Those that only this source has, as it shows them.
    new: Vec<Place>,
    order: Order,
    /// How many of `all` lie below what a rising source shows next.
    passed: usize,
    /// All, by hash; for a source without order.
    seen: HashTable<Place>,
    hasher: RandomState,
}

/// Begin and end in the packed text.
#[derive(Debug, Clone, Copy)]
struct Place(usize, usize);

/// A text that is not listed yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unlisted<'a> {
    text: &'a str,
    /// Of a source without order.
    hash: u64,
}

impl Place {
    fn of(self, text: &str) -> &str {
        &text[self.0..self.1]
    }
}

impl Listing {
    pub(crate) fn new() -> Listing {
        Listing {
            text: String::with_capacity(TEXT_BYTES),
            all: Vec::new(),
            new: Vec::with_capacity(TEXT_BYTES / 32),
            order: Order::Rising,
            passed: 0,
            seen: HashTable::new(),
            hasher: RandomState::default(),
        }
    }

    /// What is shown from now on comes from another source.
    pub(crate) fn begin(&mut self, order: Order) {
        self.take_over();
        self.order = order;
        self.seen.clear();
        if order == Order::None {
            let Listing { text, all, seen, hasher, .. } = self;
            let hash = |place: &Place| hasher.hash_one(place.of(text));
            seen.reserve(all.len(), hash);
            for place in all.iter() {
                seen.insert_unique(hash(place), *place, hash);
            }
        }
    }

    fn take_over(&mut self) {
        let Listing { text, all, new, .. } = self;
        let is_rising = self.order == Order::Rising;
        if all.is_empty() && is_rising {
            std::mem::swap(all, new);
        } else if !new.is_empty() {
            // Stable, since these are lists that are mostly sorted already.
            all.append(new);
            all.sort_by(|a, b| a.of(text).cmp(b.of(text)));
        }
        self.passed = 0;
    }

    /// `text` if it is worth while to look for it. Asked once of what a rising source shows.
    pub(crate) fn lacks<'a>(&mut self, text: &'a str) -> Option<Unlisted<'a>> {
        if self.order == Order::None {
            let hash = self.hasher.hash_one(text);
            let is_known = self.seen.find(hash, |place| place.of(&self.text) == text).is_some();
            return (!is_known).then_some(Unlisted { text, hash });
        }
        while let Some(place) = self.all.get(self.passed) {
            match place.of(&self.text).cmp(text) {
                Ordering::Less => self.passed += 1,
                Ordering::Equal => {
                    self.passed += 1;
                    return None;
                }
                Ordering::Greater => break,
            }
        }
        Some(Unlisted { text, hash: 0 })
    }

    /// Adds what was found to be lacking just before.
    pub(crate) fn add_lacking(&mut self, Unlisted { text, hash }: Unlisted<'_>) {
        let begin = self.text.len();
        self.text.push_str(text);
        let place = Place(begin, self.text.len());
        self.new.push(place);
        if self.order == Order::None {
            let Listing { text, seen, hasher, .. } = self;
            seen.insert_unique(hash, place, |place| hasher.hash_one(place.of(text)));
        }
    }

    pub(crate) fn add(&mut self, text: &str) {
        if let Some(unlisted) = self.lacks(text) {
            self.add_lacking(unlisted);
        }
    }

    /// All of them, rising.
    pub(crate) fn sorted(&mut self) -> impl Iterator<Item = &str> {
        self.take_over();
        self.all.iter().map(|place| place.of(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_listed_once_and_in_order_however_they_come() {
        let name = |n: usize| format!("name_{n:03}");
        let mut listing = Listing::new();
        // Every third, rising; then the even ones; then all, in no order and twice.
        (0..500).step_by(3).for_each(|n| listing.add(&name(n)));
        listing.begin(Order::Rising);
        for n in (0..500).step_by(2) {
            let text = name(n);
            let unlisted = listing.lacks(&text);
            assert_eq!(unlisted.is_some(), n % 3 != 0, "{text}");
            unlisted.into_iter().for_each(|unlisted| listing.add_lacking(unlisted));
        }
        listing.begin(Order::None);
        for round in 0..2 {
            for n in (0..500).rev().map(|n| n * 7 % 500) {
                let text = name(n);
                assert_eq!(listing.lacks(&text).is_some(), round == 0 && n % 2 != 0 && n % 3 != 0, "{text}");
                listing.add(&text);
            }
        }
        listing.begin(Order::Rising);
        (0..500).for_each(|n| assert!(listing.lacks(&name(n)).is_none()));
        assert!(listing.sorted().eq((0..500).map(name)));
    }

    #[test]
    fn one_source_without_order_is_sorted() {
        let mut listing = Listing::new();
        listing.begin(Order::None);
        ["b", "c", "a", "b", ""].iter().for_each(|text| listing.add(text));
        assert!(listing.sorted().eq(["", "a", "b", "c"]));
    }
}
