//! The same as `table` behind one lock, without unsafe code and without pins.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Table {
    /// Taken under the pool's lock and alone.
    strings: Mutex<Strings>,
}

#[derive(Debug, Default)]
struct Strings {
    ids: BTreeMap<String, (u64, bool)>,
    /// In the order in which the hand passes.
    hand: VecDeque<String>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn strings(&self) -> MutexGuard<'_, Strings> {
        self.strings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, _: u64, text: &str) -> Option<u64> {
        self.strings().ids.get_mut(text).map(|(id, is_marked)| {
            *is_marked = true;
            *id
        })
    }

    pub(super) fn find_locked(&self, hash: u64, text: &str) -> Option<u64> {
        self.find(hash, text)
    }

    pub(super) fn resolve_locked(&self, id: u64) -> Option<String> {
        self.strings().ids.iter().find(|(_, (known, _))| *known == id).map(|(text, _)| text.clone())
    }

    pub(super) fn insert_locked(&self, _: u64, text: &str, id: u64, _: impl Fn(&str) -> u64) {
        let mut strings = self.strings();
        strings.ids.insert(text.to_owned(), (id, false));
        strings.hand.push_back(text.to_owned());
    }

    pub(super) fn evict_locked(&self) -> Option<usize> {
        let mut strings = self.strings();
        for _ in 0..4 * strings.hand.len() {
            let text = strings.hand.pop_front()?;
            match strings.ids.get_mut(&text) {
                Some((_, is_marked)) if *is_marked => {
                    *is_marked = false;
                    strings.hand.push_back(text);
                }
                _ => {
                    strings.ids.remove(&text);
                    return Some(text.len());
                }
            }
        }
        None
    }
}
