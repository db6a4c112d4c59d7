//! Label names or values of many series, each once.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Strings seen, in the order in which they were. Blocks tell theirs in order, so that little is left to sort at the end.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    all: Vec<String>,
    /// Places in `all`.
    seen: HashTable<usize>,
    hasher: RandomState,
}

/// A text that is not listed yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unlisted<'a> {
    text: &'a str,
    hash: u64,
}

impl Listing {
    pub(crate) fn new() -> Listing {
        Listing::default()
    }

    /// `text` if it is worth while to look for it.
    pub(crate) fn lacks<'a>(&self, text: &'a str) -> Option<Unlisted<'a>> {
        let hash = self.hasher.hash_one(text);
        match self.seen.find(hash, |&at| self.all[at] == text) {
            Some(_) => None,
            None => Some(Unlisted { text, hash }),
        }
    }

    /// Adds what was found to be lacking just before.
    pub(crate) fn add_lacking(&mut self, Unlisted { text, hash }: Unlisted<'_>) {
        let Listing { all, seen, hasher } = self;
        seen.insert_unique(hash, all.len(), |&at| hasher.hash_one(all[at].as_str()));
        all.push(text.to_owned());
    }

    pub(crate) fn add(&mut self, text: &str) {
        if let Some(unlisted) = self.lacks(text) {
            self.add_lacking(unlisted);
        }
    }

    pub(crate) fn sorted(self) -> Vec<String> {
        let mut all = self.all;
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_listed_once_and_in_order_however_they_come() {
        let mut listing = Listing::new();
        for round in 0..3 {
            for n in (0..500).rev() {
                let text = format!("name_{:03}", n * 7 % 500);
                assert_eq!(listing.lacks(&text).is_some(), round == 0, "{text}");
                listing.add(&text);
            }
        }
        let wanted: Vec<String> = (0..500).map(|n| format!("name_{n:03}")).collect();
        assert_eq!(listing.sorted(), wanted);
    }
}
