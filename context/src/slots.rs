//! Things kept under a number that is given out on insertion and used again after removal.

/// What is kept, in no order that means anything. Insertion and removal are O(1).
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// Head of the list of free slots.
    free: u32,
    taken: u32,
}

#[derive(Debug)]
enum Slot<T> {
    Taken(T),
    /// The next free one.
    Free(u32),
}

const END: u32 = u32::MAX;
/// An empty set keeps this much room, so that one that fills and empties allocates once.
const ROOM_KEPT: usize = 32;

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), free: END, taken: 0 }
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.taken += 1;
        match self.slots.get_mut(self.free as usize) {
            Some(slot) => {
                let at = self.free;
                if let Slot::Free(next) = *slot {
                    self.free = next;
                }
                *slot = Slot::Taken(value);
                at
            }
            None => {
                if self.slots.capacity() == 0 {
                    // Many sets hold one thing, and there may be a million sets.
                    self.slots.reserve_exact(1);
                }
                self.slots.push(Slot::Taken(value));
                (self.slots.len() - 1) as u32
            }
        }
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        match self.slots.get_mut(at as usize) {
            Some(Slot::Taken(value)) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let slot = self.slots.get_mut(at as usize)?;
        if let Slot::Free(_) = slot {
            return None;
        }
        let Slot::Taken(value) = std::mem::replace(slot, Slot::Free(self.free)) else { return None };
        self.free = at;
        self.taken -= 1;
        if self.taken == 0 && self.slots.capacity() > ROOM_KEPT {
            *self = Self::new();
        }
        Some(value)
    }

    /// Takes everything out.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        let slots = std::mem::replace(self, Self::new()).slots;
        slots.into_iter().filter_map(|slot| match slot {
            Slot::Taken(value) => Some(value),
            Slot::Free(_) => None,
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Taken(value) => Some(value),
            Slot::Free(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_what_a_map_holds(steps in prop::collection::vec((any::<bool>(), 0_usize..40), 1..300)) {
            let (mut slots, mut model) = (Slots::new(), std::collections::BTreeMap::new());
            for (number, (is_insertion, pick)) in steps.into_iter().enumerate() {
                if is_insertion {
                    let at = slots.insert(number);
                    prop_assert!(model.insert(at, number).is_none(), "slot {at} was taken");
                } else if let Some(at) = model.keys().nth(pick).copied() {
                    prop_assert_eq!(slots.remove(at), model.remove(&at));
                    prop_assert_eq!(slots.remove(at), None);
                }
                let mut held: Vec<usize> = slots.iter().copied().collect();
                held.sort_unstable();
                let mut expected: Vec<usize> = model.values().copied().collect();
                expected.sort_unstable();
                prop_assert_eq!(held, expected);
            }
            prop_assert!(slots.slots.len() <= 300);
        }
    }

    #[test]
    fn an_emptied_set_gives_its_room_back() {
        let mut slots = Slots::new();
        let all: Vec<u32> = (0..10_000).map(|n| slots.insert(n)).collect();
        for at in all {
            slots.remove(at);
        }
        assert!(slots.slots.capacity() <= ROOM_KEPT);
    }
}
