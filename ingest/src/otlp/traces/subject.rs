//! What is counted: operations of services, and calls between services; each has three series.
//!
//! Names come from outside, so there is a limit to everything: where one is reached, what is new is counted under the
//! name [`OVERFLOW`]. What was silent for an hour gives its place back.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use kymo_core::labels::{LabelsBuilder, LabelsRef, METRIC_NAME};
use kymo_core::{Budget, BudgetExceeded, Reservation, SeriesRef};

use super::meaning::Kind;

/// The name under which everything beyond a limit is counted.
pub(super) const OVERFLOW: &str = kymo_core::health::OVERFLOW;
/// Services and callers whose operations and calls are counted by name.
pub const SERVICES_MAX: usize = 5_000;
/// Operations of one service, each with its kind, that are counted by name; and services it calls.
pub const OPERATIONS_PER_SERVICE_MAX: usize = 200;
/// Operations and calls counted by name in all: at three series each they are the third part of the writers that an engine
/// remembers.
pub const SUBJECTS_MAX: usize = 10_000;
/// After so long a silence a place is given to others.
const IDLE_MS: i64 = 3_600_000;
/// Looked for no more often than this.
const SWEEP_MS: i64 = 60_000;
/// Bytes of a subject beside its names: itself, its places in tables that may double, allocations.
const SUBJECT_BYTES: u64 = 2 * size_of::<Subject>() as u64 + 96;

/// Which of a subject's series.
pub(super) const SERIES: usize = 3;

/// What sort of subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sort {
    /// Of a service, an operation.
    Operation(Kind),
    /// Of a caller, a callee.
    Edge,
}

#[derive(Debug)]
pub(super) struct Subject {
    pub(super) sort: Sort,
    /// Service, or caller.
    pub(super) first: Arc<str>,
    /// Operation, or callee.
    pub(super) second: Arc<str>,
    /// Of requests, errors, durations.
    pub(super) refs: [Option<SeriesRef>; SERIES],
    /// When it was last counted.
    last_ms: i64,
    /// The request at hand, and where its tally stands.
    pub(super) tally: (u64, u32),
}

impl Subject {
    /// The labels of one of its series.
    pub(super) fn labels<'b>(&self, series: usize, builder: &'b mut LabelsBuilder) -> LabelsRef<'b> {
        builder.clear();
        match self.sort {
            Sort::Operation(kind) => {
                let name =
                    ["kymo_service_requests_total", "kymo_service_errors_total", "kymo_service_duration_seconds"];
                builder.set(METRIC_NAME, name[series]);
                builder.set("service", &self.first).set("operation", &self.second).set("kind", kind.as_str());
            }
            Sort::Edge => {
                let name = [
                    "kymo_service_edge_requests_total",
                    "kymo_service_edge_errors_total",
                    "kymo_service_edge_duration_seconds",
                ];
                builder.set(METRIC_NAME, name[series]);
                builder.set("caller", &self.first).set("callee", &self.second);
            }
        }
        builder.build().expect("names are set, so none stands twice, and none is empty")
    }

    fn is_overflow(&self) -> bool {
        &*self.second == OVERFLOW
    }
}

/// All subjects. A place is given to another only after an hour of silence, so that a request may remember it.
#[derive(Debug)]
pub(super) struct Subjects {
    hasher: RandomState,
    index: HashTable<u32>,
    places: Vec<Option<Subject>>,
    free: Vec<u32>,
    /// By sort and first name: how many subjects, and the name itself.
    owners: HashMap<(bool, Arc<str>), usize, RandomState>,
    swept_ms: i64,
    held: Reservation,
}

impl Subjects {
    pub(super) fn new(budget: &Budget) -> Subjects {
        Subjects {
            hasher: RandomState::default(),
            index: HashTable::new(),
            places: Vec::new(),
            free: Vec::new(),
            owners: HashMap::default(),
            swept_ms: 0,
            held: budget.try_reserve(0).expect("nothing is within every limit"),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.held.bytes()
    }

    pub(super) fn get(&self, at: u32) -> &Subject {
        self.places[at as usize].as_ref().expect("a place in use stays in use for an hour")
    }

    pub(super) fn get_mut(&mut self, at: u32) -> &mut Subject {
        self.places[at as usize].as_mut().expect("a place in use stays in use for an hour")
    }

    /// The place of a subject, which may be the one of everything that is too many; whether it is that.
    pub(super) fn of(
        &mut self,
        sort: Sort,
        first: &str,
        second: &str,
        now_ms: i64,
    ) -> Result<(u32, bool), BudgetExceeded> {
        if let Some(at) = self.find(sort, first, second) {
            self.get_mut(at).last_ms = now_ms;
            return Ok((at, self.get(at).is_overflow()));
        }
        let is_edge = sort == Sort::Edge;
        let full = |this: &Subjects| {
            let owned = this.owners.get(&(is_edge, Arc::from(first))).copied();
            let has_no_place = owned.is_none() && this.owners.len() >= SERVICES_MAX;
            let is_full = owned.is_some_and(|owned| owned >= OPERATIONS_PER_SERVICE_MAX) || this.len() >= SUBJECTS_MAX;
            (has_no_place, is_full)
        };
        if full(self) != (false, false) && now_ms.saturating_sub(self.swept_ms) >= SWEEP_MS {
            self.sweep(now_ms);
        }
        let (first, second) = match full(self) {
            (true, _) => (OVERFLOW, OVERFLOW),
            (false, true) if self.len() >= SUBJECTS_MAX + SERVICES_MAX => (OVERFLOW, OVERFLOW),
            (false, true) => (first, OVERFLOW),
            (false, false) => (first, second),
        };
        let at = match self.find(sort, first, second) {
            Some(at) => at,
            None => self.insert(sort, first, second)?,
        };
        self.get_mut(at).last_ms = now_ms;
        Ok((at, second == OVERFLOW))
    }

    fn hash(&self, sort: Sort, first: &str, second: &str) -> u64 {
        self.hasher.hash_one((sort, first, second))
    }

    fn find(&self, sort: Sort, first: &str, second: &str) -> Option<u32> {
        let is_it = |at: &u32| {
            self.places[*at as usize]
                .as_ref()
                .is_some_and(|it| it.sort == sort && *it.first == *first && *it.second == *second)
        };
        self.index.find(self.hash(sort, first, second), is_it).copied()
    }

    fn insert(&mut self, sort: Sort, first: &str, second: &str) -> Result<u32, BudgetExceeded> {
        self.held.grow(SUBJECT_BYTES + 2 * (first.len() + second.len()) as u64)?;
        let (is_edge, first) = (sort == Sort::Edge, Arc::from(first));
        let (first, owned) = match self.owners.get_key_value(&(is_edge, Arc::clone(&first))) {
            Some(((_, name), owned)) => (Arc::clone(name), *owned),
            None => (first, 0),
        };
        self.owners.insert((is_edge, Arc::clone(&first)), owned + 1);
        let hash = self.hash(sort, &first, second);
        let subject =
            Subject { sort, first, second: Arc::from(second), refs: [None; SERIES], last_ms: 0, tally: (0, 0) };
        let at = match self.free.pop() {
            Some(at) => {
                self.places[at as usize] = Some(subject);
                at
            }
            None => {
                self.places.push(Some(subject));
                (self.places.len() - 1) as u32
            }
        };
        let (places, hasher) = (&self.places, &self.hasher);
        self.index.insert_unique(hash, at, |&at| match &places[at as usize] {
            Some(it) => hasher.hash_one((it.sort, &*it.first, &*it.second)),
            None => 0,
        });
        Ok(at)
    }

    fn sweep(&mut self, now_ms: i64) {
        self.swept_ms = now_ms;
        for at in 0..self.places.len() {
            let Some(subject) = self.places[at].take_if(|it| now_ms.saturating_sub(it.last_ms) > IDLE_MS) else {
                continue;
            };
            let hash = self.hash(subject.sort, &subject.first, &subject.second);
            if let Ok(found) = self.index.find_entry(hash, |&other| other as usize == at) {
                found.remove();
            }
            self.free.push(at as u32);
            self.held.shrink(SUBJECT_BYTES + 2 * (subject.first.len() + subject.second.len()) as u64);
            let owner = (subject.sort == Sort::Edge, subject.first);
            if let Some(owned) = self.owners.get_mut(&owner) {
                *owned -= 1;
                if *owned == 0 {
                    self.owners.remove(&owner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects() -> Subjects {
        Subjects::new(&Budget::unlimited())
    }

    fn name(subjects: &mut Subjects, first: &str, second: &str, now_ms: i64) -> (String, String) {
        let (at, is_overflow) = subjects.of(Sort::Operation(Kind::Server), first, second, now_ms).unwrap();
        let it = subjects.get(at);
        assert_eq!(is_overflow, &*it.second == OVERFLOW);
        (it.first.to_string(), it.second.to_string())
    }

    #[test]
    fn operations_beyond_the_limit_are_counted_together_and_other_services_are_not_touched() {
        let mut subjects = subjects();
        for n in 0..OPERATIONS_PER_SERVICE_MAX {
            assert_eq!(name(&mut subjects, "a", &format!("op {n}"), 0).1, format!("op {n}"));
        }
        assert_eq!(name(&mut subjects, "a", "one more", 0), ("a".into(), OVERFLOW.into()));
        assert_eq!(name(&mut subjects, "a", "op 0", 0).1, "op 0");
        assert_eq!(name(&mut subjects, "b", "one more", 0), ("b".into(), "one more".into()));
        // Callees are counted apart from operations.
        let (at, is_overflow) = subjects.of(Sort::Edge, "a", "b", 0).unwrap();
        assert!(!is_overflow && &*subjects.get(at).second == "b");
        // Those that were silent for an hour give their places back.
        assert_eq!(name(&mut subjects, "a", "op 1", IDLE_MS).1, "op 1");
        assert_eq!(name(&mut subjects, "a", "later", IDLE_MS + SWEEP_MS + 1).1, "later");
        assert_eq!(name(&mut subjects, "a", "op 1", IDLE_MS + SWEEP_MS + 1).1, "op 1");
        assert_eq!(subjects.len(), 3 - 1 + 1 - 1);
    }

    #[test]
    fn services_and_all_of_them_together_have_a_limit_too() {
        let mut subjects = subjects();
        for n in 0..SERVICES_MAX {
            assert_eq!(name(&mut subjects, &format!("service {n}"), "op", 0).1, "op");
        }
        assert_eq!(name(&mut subjects, "one more", "op", 0), (OVERFLOW.into(), OVERFLOW.into()));
        assert_eq!(name(&mut subjects, "service 7", "op 2", 0), ("service 7".into(), "op 2".into()));
        let mut n = 0;
        while subjects.len() < SUBJECTS_MAX {
            n += 1;
            name(&mut subjects, &format!("service {}", n % 1_000), &format!("op {n}"), 0);
        }
        assert_eq!(name(&mut subjects, "service 1", "another", 0), ("service 1".into(), OVERFLOW.into()));
        assert_eq!(name(&mut subjects, "service 1", "op", 0), ("service 1".into(), "op".into()));
    }

    #[test]
    fn what_it_holds_is_paid_for() {
        let root = Budget::root("process", 4 * (SUBJECT_BYTES + 10));
        let mut subjects = Subjects::new(&root);
        let taken = (0..10).take_while(|n| subjects.of(Sort::Edge, "a", &format!("b{n}"), 0).is_ok()).count();
        assert_eq!(taken, 4);
        assert_eq!(root.used(), subjects.bytes());
    }
}
