//! Names as a format can write them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kymo_core::text::{is_legacy_label_name, is_legacy_metric_name};

use super::format::Escaping;
use crate::label_name;

/// Names of one kind that stand beside each other, no two written alike.
pub(super) struct Names {
    escaping: Escaping,
    is_legacy: fn(&str) -> bool,
    /// Taken: every name that needs no change, and every changed one given out. Empty while nothing needs a change.
    taken: BTreeSet<String>,
}

impl Names {
    /// All families of a page.
    pub(super) fn of_metrics<'a>(escaping: Escaping, names: impl Iterator<Item = &'a str> + Clone) -> Names {
        Names::new(escaping, is_legacy_metric_name, names)
    }

    /// All labels of a series.
    pub(super) fn of_labels<'a>(escaping: Escaping, names: impl Iterator<Item = &'a str> + Clone) -> Names {
        Names::new(escaping, is_legacy_label_name, names)
    }

    fn new<'a>(escaping: Escaping, is_legacy: fn(&str) -> bool, names: impl Iterator<Item = &'a str> + Clone) -> Names {
        let mut taken = BTreeSet::new();
        if escaping == Escaping::Underscores && !names.clone().all(is_legacy) {
            taken.extend(names.filter(|name| is_legacy(name)).map(str::to_owned));
        }
        Names { escaping, is_legacy, taken }
    }

    /// How `name` is written, quotes apart. To be asked once for each name.
    pub(super) fn written<'a>(&mut self, name: &'a str) -> Cow<'a, str> {
        if self.escaping == Escaping::AllowUtf8 || (self.is_legacy)(name) {
            return name.into();
        }
        let plain = |(at, c): (usize, char)| {
            // A digit may stand anywhere but first.
            let mut utf8 = [0; 4];
            let text = c.encode_utf8(&mut utf8);
            match c {
                '0'..='9' if at > 0 => c,
                _ if (self.is_legacy)(text) => c,
                _ => '_',
            }
        };
        let underscored: String = name.char_indices().map(plain).collect();
        let given = if self.taken.insert(underscored.clone()) {
            underscored
        } else {
            let kept = label_name::escape(name).replace(':', "_3a_");
            self.taken.insert(kept.clone());
            kept
        };
        given.into()
    }
}
