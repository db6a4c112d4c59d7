//! Memory as a tree of reservations under one root.
//!
//! Whoever is about to allocate something that grows with input reserves the bytes first; at a limit
//! the answer is an error that names the limit, and the process lives. A child's bytes count in
//! every ancestor, so the root's limit holds for all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A named limit in bytes, with what is reserved under it. Clones share the count.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Node>);

#[derive(Debug)]
struct Node {
    name: String,
    limit: u64,
    setting: Option<&'static str>,
    /// Relaxed throughout: the count guards no other memory. A refusal may be late by what another
    /// thread reserves meanwhile, never wrong: an overshoot is taken back before anyone keeps it.
    used: AtomicU64,
    parent: Option<Budget>,
}

/// A limit was reached; nothing was reserved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("memory limit {name:?} of {limit} bytes reached: {wanted} more bytes were wanted{}", raised_by(*setting))]
pub struct BudgetExceeded {
    /// The limit's name, with its ancestors: `process/queries`.
    pub name: String,
    /// The limit in bytes.
    pub limit: u64,
    /// What was asked for in bytes, on top of what is held.
    pub wanted: u64,
    /// What sets the limit, for people.
    pub setting: Option<&'static str>,
}

fn raised_by(setting: Option<&'static str>) -> String {
    setting.map(|setting| format!(" ({setting} sets it)")).unwrap_or_default()
}

impl Budget {
    /// A root of its own.
    #[must_use]
    pub fn root(name: &str, limit: u64) -> Budget {
        Budget(Arc::new(Node { name: name.to_owned(), limit, setting: None, used: AtomicU64::new(0), parent: None }))
    }

    /// A root without a limit, for tests and programs that do not care.
    #[must_use]
    pub fn unlimited() -> Budget {
        Budget::root("unlimited", u64::MAX)
    }

    /// A part of this budget with a limit of its own.
    #[must_use]
    pub fn child(&self, name: &str, limit: u64) -> Budget {
        self.part(name, limit, None)
    }

    /// The same, with the flag or field that sets the limit, which a refusal then names.
    #[must_use]
    pub fn child_set_by(&self, name: &str, limit: u64, setting: &'static str) -> Budget {
        self.part(name, limit, Some(setting))
    }

    fn part(&self, name: &str, limit: u64, setting: Option<&'static str>) -> Budget {
        Budget(Arc::new(Node {
            name: format!("{}/{name}", self.0.name),
            limit,
            setting,
            used: AtomicU64::new(0),
            parent: Some(self.clone()),
        }))
    }

    /// Takes `bytes` here and in every ancestor, or nowhere.
    ///
    /// # Errors
    /// [`BudgetExceeded`] names the first limit, from the leaf up, that would be passed.
    pub fn try_reserve(&self, bytes: u64) -> Result<Reservation, BudgetExceeded> {
        self.take(bytes)?;
        Ok(Reservation { budget: self.clone(), bytes })
    }

    /// Bytes reserved under this budget now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// The name with its ancestors.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    fn take(&self, bytes: u64) -> Result<(), BudgetExceeded> {
        let mut at = Some(self);
        while let Some(budget) = at {
            let node = &budget.0;
            let before = node.used.fetch_add(bytes, Ordering::Relaxed);
            if before.saturating_add(bytes) > node.limit {
                let failed = budget;
                let mut undo = Some(self);
                while let Some(b) = undo {
                    b.0.used.fetch_sub(bytes, Ordering::Relaxed);
                    undo = if Arc::ptr_eq(&b.0, &failed.0) { None } else { b.0.parent.as_ref() };
                }
                let (name, limit, setting) = (node.name.clone(), node.limit, node.setting);
                return Err(BudgetExceeded { name, limit, wanted: bytes, setting });
            }
            at = node.parent.as_ref();
        }
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        let mut at = Some(self);
        while let Some(budget) = at {
            budget.0.used.fetch_sub(bytes, Ordering::Relaxed);
            at = budget.0.parent.as_ref();
        }
    }
}

/// Bytes held under a [`Budget`]; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: u64,
}

impl Reservation {
    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `more` bytes on top.
    ///
    /// # Errors
    /// [`BudgetExceeded`]; what was held stays held.
    pub fn grow(&mut self, more: u64) -> Result<(), BudgetExceeded> {
        self.budget.take(more)?;
        self.bytes += more;
        Ok(())
    }

    /// Gives back up to `less` bytes.
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        self.budget.give_back(less);
        self.bytes -= less;
    }

    /// Moves the bytes of `other`, which must be of the same budget, into this one.
    pub fn absorb(&mut self, mut other: Reservation) {
        assert!(Arc::ptr_eq(&self.budget.0, &other.budget.0), "reservations of two budgets");
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_limit_and_takes_nothing() {
        let root = Budget::root("process", 100);
        let child = root.child("queries", 80);
        let held = child.try_reserve(60).unwrap();
        let refused = child.try_reserve(30).unwrap_err();
        let expected = BudgetExceeded { name: "process/queries".into(), limit: 80, wanted: 30, setting: None };
        assert_eq!(refused, expected);
        let set = root.child_set_by("queries", 80, "--queries").try_reserve(90).unwrap_err().to_string();
        assert!(set.ends_with("90 more bytes were wanted (--queries sets it)"), "{set}");
        let other = root.child("head", 1_000);
        assert_eq!(other.try_reserve(41).unwrap_err().name, "process");
        assert_eq!((root.used(), child.used(), other.used()), (60, 60, 0));
        drop(held);
        assert_eq!((root.used(), child.used()), (0, 0));
    }

    #[test]
    fn reservations_grow_shrink_and_join() {
        let root = Budget::root("process", 100);
        let mut a = root.try_reserve(10).unwrap();
        a.grow(20).unwrap();
        assert!(a.grow(71).is_err());
        a.shrink(5);
        a.absorb(root.try_reserve(5).unwrap());
        assert_eq!((a.bytes(), root.used()), (30, 30));
        drop(a);
        assert_eq!(root.used(), 0);
    }

    #[test]
    fn threads_never_hold_more_than_the_limit_together() {
        let root = Budget::root("process", 1_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Ok(held) = root.try_reserve(300) {
                            assert!(held.bytes() == 300);
                        }
                    }
                });
            }
        });
        assert_eq!(root.used(), 0);
    }
}
