//! Type, unit and help of a target's families, and which of them the engine has not been told.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use kymo_core::{FamilyType, Metadata, SampleBatch};

use crate::exposition::RawText;

/// Rounds after which a family that is not named any more is forgotten, as in Prometheus.
const ROUNDS_KEPT: u64 = 10;

/// What targets say of their families, sorted by family.
pub(super) type FamilyList = Arc<[(String, Metadata)]>;

#[derive(Debug, Default)]
pub(super) struct Families {
    /// By the name as it stands in the answer.
    known: HashMap<String, Family, RandomState>,
    round: u64,
    changed: bool,
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

impl Families {
    pub(super) fn set_type(&mut self, family: RawText<'_>, family_type: FamilyType) {
        let known = self.meet(family);
        if known.metadata.family_type != family_type {
            known.metadata.family_type = family_type;
            known.untold = true;
            self.changed = true;
        }
    }

    pub(super) fn set_help(&mut self, family: RawText<'_>, help: RawText<'_>) {
        let known = self.meet(family);
        if *known.raw_help != *help.raw() {
            known.raw_help = help.raw().into();
            known.metadata.help = help.text().into_owned();
            known.untold = true;
            self.changed = true;
        }
    }

    pub(super) fn set_unit(&mut self, family: RawText<'_>, unit: RawText<'_>) {
        let known = self.meet(family);
        if known.metadata.unit != unit.raw() {
            known.metadata.unit = unit.text().into_owned();
            known.untold = true;
            self.changed = true;
        }
    }

    fn meet(&mut self, family: RawText<'_>) -> &mut Family {
        let (round, changed) = (self.round, &mut self.changed);
        let known = self.known.entry_ref(family.raw()).or_insert_with(|| {
            *changed = true;
            Family {
                name: family.text().into_owned(),
                raw_help: Box::default(),
                metadata: Metadata::default(),
                met: round,
                untold: true,
            }
        });
        known.met = round;
        known
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
        self.known.retain(|_, family| round - family.met <= ROUNDS_KEPT);
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
