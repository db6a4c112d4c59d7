//! Type, unit and help of a target's families, and which of them the engine has not been told.
//!
//! What is kept is paid for from the budget. Where that is used up, what a target says of its families is not taken note of:
//! samples are worth more.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use kymo_core::{Budget, BudgetExceeded, FamilyType, Metadata, Reservation, SampleBatch};

use crate::exposition::RawText;

/// Rounds after which a family that is not named any more is forgotten, as in Prometheus.
const ROUNDS_KEPT: u64 = 10;

/// What targets say of their families, sorted by family.
pub(super) type FamilyList = Arc<[(String, Metadata)]>;

/// What a family takes besides its texts, with its share of the table.
const FAMILY_BYTES: usize = 256;

#[derive(Debug)]
pub(super) struct Families {
    /// By the name as it stands in the answer.
    known: HashMap<String, Family, RandomState>,
    round: u64,
    changed: bool,
    held: Reservation,
}

#[derive(Debug)]
struct Family {
    name: String,
    /// The help as it stands in the answer, so that it need not be unescaped to be compared.
    raw_help: Box<str>,
    metadata: Metadata,
    met: u64,
    untold: bool,
}

impl Family {
    /// Bytes it is paid for: the name is kept twice, and so is the help.
    fn bytes(&self, raw_name: &str) -> usize {
        let texts = raw_name.len() + self.name.len() + self.raw_help.len() + self.metadata.help.len();
        FAMILY_BYTES + texts + self.metadata.unit.len()
    }
}

impl Families {
    pub(super) fn new(budget: &Budget) -> Result<Families, BudgetExceeded> {
        Ok(Families { known: HashMap::default(), round: 0, changed: false, held: budget.try_reserve(0)? })
    }

    pub(super) fn set_type(&mut self, family: RawText<'_>, family_type: FamilyType) {
        self.change(
            family,
            0,
            |known| known.metadata.family_type != family_type,
            |known| {
                known.metadata.family_type = family_type;
            },
        );
    }

    pub(super) fn set_help(&mut self, family: RawText<'_>, help: RawText<'_>) {
        self.change(
            family,
            2 * help.raw().len(),
            |known| *known.raw_help != *help.raw(),
            |known| {
                known.raw_help = help.raw().into();
                known.metadata.help = help.text().into_owned();
            },
        );
    }

    pub(super) fn set_unit(&mut self, family: RawText<'_>, unit: RawText<'_>) {
        self.change(
            family,
            unit.raw().len(),
            |known| known.metadata.unit != unit.raw(),
            |known| {
                known.metadata.unit = unit.text().into_owned();
            },
        );
    }

    /// Notes that a family is named, and changes what is kept of it if it differs; `more` bytes are paid for that.
    fn change(
        &mut self,
        family: RawText<'_>,
        more: usize,
        differs: impl Fn(&Family) -> bool,
        change: impl Fn(&mut Family),
    ) {
        let met = self.round;
        if let Some(known) = self.known.get_mut(family.raw()) {
            known.met = met;
            if differs(known) && self.held.grow(more as u64).is_ok() {
                let before = known.bytes(family.raw());
                change(known);
                known.untold = true;
                self.changed = true;
                // What was paid is made what it takes.
                self.held.shrink((before + more - known.bytes(family.raw()).min(before + more)) as u64);
            }
            return;
        }
        let name = family.text().into_owned();
        let mut known = Family { name, raw_help: Box::default(), metadata: Metadata::default(), met, untold: true };
        change(&mut known);
        if self.held.grow(known.bytes(family.raw()) as u64).is_ok() {
            self.known.insert(family.raw().to_owned(), known);
            self.changed = true;
        }
    }

    /// Adds to a batch what the engine has not been told.
    pub(super) fn tell(&self, batch: &mut SampleBatch) {
        if self.changed {
            for (name, metadata) in self.list_of(|family| family.untold) {
                batch.push_metadata(name, metadata);
            }
        }
    }

    /// Ends a round; gives all families if something changed. `told` says whether the engine took them.
    pub(super) fn end(&mut self, told: bool) -> Option<FamilyList> {
        self.round += 1;
        let (round, before) = (self.round, self.known.len());
        let held = &mut self.held;
        self.known.retain(|raw_name, family| {
            let stays = round - family.met <= ROUNDS_KEPT;
            if !stays {
                held.shrink(family.bytes(raw_name) as u64);
            }
            stays
        });
        let changed = self.changed || self.known.len() != before;
        if self.changed && told {
            self.known.values_mut().for_each(|family| family.untold = false);
            self.changed = false;
        }
        changed.then(|| self.list_of(|_| true).into())
    }

    fn list_of(&self, wanted: impl Fn(&Family) -> bool) -> Vec<(String, Metadata)> {
        let wanted = self.known.values().filter(|family| wanted(family));
        let mut list: Vec<(String, Metadata)> =
            wanted.map(|family| (family.name.clone(), family.metadata.clone())).collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Entry, TextParser};

    fn tell(families: &mut Families, page: &str) {
        let mut parser = TextParser::new(page.as_bytes());
        while let Some(entry) = parser.next_entry().unwrap() {
            match entry {
                Entry::Help { family, help } => families.set_help(family, help),
                Entry::Type { family, family_type } => families.set_type(family, family_type),
                Entry::Unit { .. } | Entry::Sample(_) => {}
            }
        }
    }

    #[test]
    fn families_are_forgotten_some_rounds_later_and_their_memory_given_back() {
        let budget = Budget::root("test", 1 << 20);
        let mut families = Families::new(&budget).unwrap();
        tell(&mut families, "# HELP a First.\n# HELP b Other.\n");
        assert_eq!(families.end(true).unwrap().len(), 2);
        let both = budget.used();
        for round in 1..=ROUNDS_KEPT {
            tell(&mut families, "# HELP a First.\n");
            assert_eq!(families.end(true).map(|list| list.len()), (round == ROUNDS_KEPT).then_some(1), "{round}");
        }
        assert_eq!(budget.used(), both / 2);
        tell(&mut families, "# HELP a A longer text than the first one was.\n");
        tell(&mut families, "# HELP a First.\n");
        assert_eq!(budget.used(), both / 2);
    }

    #[test]
    fn what_does_not_fit_is_not_noted() {
        let budget = Budget::root("test", 600);
        let mut families = Families::new(&budget).unwrap();
        tell(&mut families, &format!("# HELP a A.\n# HELP b {}\n# TYPE a gauge\n", "x".repeat(400)));
        let list = families.end(true).unwrap();
        assert_eq!((list.len(), list[0].0.as_str(), list[0].1.family_type), (1, "a", FamilyType::Gauge));
    }
}
