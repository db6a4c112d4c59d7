//! The head's index: which series carry which label.

use std::sync::Arc;

use foldhash::HashMap;
use kymo_core::{Labels, Matcher};
use roaring::RoaringBitmap;

/// Label name → value → series numbers.
#[derive(Debug, Default)]
pub(crate) struct Postings {
    all: RoaringBitmap,
    names: HashMap<Arc<str>, HashMap<Arc<str>, RoaringBitmap>>,
}

impl Postings {
    pub(crate) fn add(&mut self, number: u32, labels: &Labels) {
        self.all.insert(number);
        for (name, value) in labels {
            let values = match self.names.get_mut(name) {
                Some(values) => values,
                None => self.names.entry(Arc::from(name)).or_default(),
            };
            match values.get_mut(value) {
                Some(numbers) => {
                    numbers.insert(number);
                }
                None => {
                    values.insert(Arc::from(value), RoaringBitmap::from_iter([number]));
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, number: u32, labels: &Labels) {
        self.all.remove(number);
        for (name, value) in labels {
            let Some(values) = self.names.get_mut(name) else { continue };
            if let Some(numbers) = values.get_mut(value) {
                numbers.remove(number);
                if numbers.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// Gives back memory that removals left behind.
    pub(crate) fn shrink(&mut self) {
        self.names.shrink_to_fit();
    }

    /// Numbers of the series that satisfy all matchers.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut found: Option<RoaringBitmap> = None;
        // What a label must have narrows first; what it must not have is taken away after.
        for matcher in matchers.iter().filter(|m| !m.matches_empty()) {
            let with = self.with(matcher, true);
            found = Some(match found {
                Some(found) => found & with,
                None => with,
            });
        }
        let mut found = found.unwrap_or_else(|| self.all.clone());
        for matcher in matchers.iter().filter(|m| m.matches_empty()) {
            if found.is_empty() {
                break;
            }
            found -= self.with(matcher, false);
        }
        found
    }

    /// Series that have the matcher's label with a value for which [`Matcher::matches`] gives `wanted`.
    fn with(&self, matcher: &Matcher, wanted: bool) -> RoaringBitmap {
        let Some(values) = self.names.get(matcher.name()) else { return RoaringBitmap::new() };
        let mut sum = RoaringBitmap::new();
        // The literals of `=`, `!=`, `=~ a|b` and `!~ a|b` are just the values that the positive form accepts.
        if let Some(literals) = matcher.literals().filter(|_| wanted != matcher.is_negative()) {
            literals.iter().filter_map(|literal| values.get(literal.as_str())).for_each(|numbers| sum |= numbers);
            return sum;
        }
        #[expect(clippy::iter_over_hash_type, reason = "a union does not depend on the order")]
        for (value, numbers) in values {
            if matcher.matches(value) == wanted {
                sum |= numbers;
            }
        }
        sum
    }
}
