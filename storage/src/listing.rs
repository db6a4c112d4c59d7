//! Label names or values of many series, each once.

use foldhash::{HashSet, HashSetExt};

/// Strings seen.
#[derive(Debug)]
pub(crate) struct Listing(HashSet<Box<str>>);

impl Listing {
    pub(crate) fn new() -> Listing {
        Listing(HashSet::new())
    }

    /// Whether it is worth while to look for this one.
    pub(crate) fn lacks(&self, text: &str) -> bool {
        !self.0.contains(text)
    }

    pub(crate) fn add(&mut self, text: &str) {
        if self.lacks(text) {
            self.0.insert(text.into());
        }
    }

    pub(crate) fn sorted(self) -> Vec<String> {
        let mut all: Vec<String> = self.0.into_iter().map(String::from).collect();
        all.sort_unstable();
        all
    }
}
