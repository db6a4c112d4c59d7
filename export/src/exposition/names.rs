//! Names as a format can write them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kymo_core::text::{is_legacy_label_name, is_legacy_metric_name};

use super::format::Escaping;
use crate::label_name;

/// Names of one kind that stand beside each other, no two written alike.
///
/// Where a scheme makes two names one, the one that needs no change keeps its own, and of others the first gets what the
/// scheme says; the rest are written as `U__…`, which says what they were.
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
        let mut found = Names { escaping, is_legacy, taken: BTreeSet::new() };
        if !names.clone().all(|name| found.stays(name)) {
            let stay: Vec<&str> = names.filter(|name| found.stays(name)).collect();
            found.taken.extend(stay.into_iter().map(str::to_owned));
        }
        found
    }

    /// Whether a name is written as it is.
    fn stays(&self, name: &str) -> bool {
        match self.escaping {
            Escaping::AllowUtf8 => true,
            Escaping::Underscores | Escaping::Values => (self.is_legacy)(name),
            Escaping::Dots => (self.is_legacy)(name) && !name.contains('_'),
        }
    }

    /// How `name` is written, quotes apart. To be asked once for each name.
    pub(super) fn written<'a>(&mut self, name: &'a str) -> Cow<'a, str> {
        if self.stays(name) {
            return name.into();
        }
        let by_scheme = match self.escaping {
            Escaping::Values => self.undoable(name),
            escaping => self.replaced(name, escaping),
        };
        for mut given in [by_scheme, self.undoable(name)] {
            // No name written by itself looks like the `U__` form of another, unless somebody means it to.
            while given.starts_with(label_name::PREFIX) && self.taken.contains(&given) {
                given.push('_');
            }
            if self.taken.insert(given.clone()) {
                return given.into();
            }
        }
        name.into()
    }

    /// A digit may stand anywhere but first.
    fn is_plain(&self, at: usize, c: char) -> bool {
        let mut utf8 = [0; 4];
        (self.is_legacy)(c.encode_utf8(&mut utf8)) || (at > 0 && c.is_ascii_digit())
    }

    fn replaced(&self, name: &str, escaping: Escaping) -> String {
        let mut written = String::with_capacity(name.len() + 8);
        for (at, c) in name.char_indices() {
            match (escaping, c) {
                (Escaping::Dots, '_') => written.push_str("__"),
                (Escaping::Dots, '.') => written.push_str("_dot_"),
                (_, c) if self.is_plain(at, c) => written.push(c),
                (Escaping::Dots, _) => written.push_str("__"),
                (_, _) => written.push('_'),
            }
        }
        written
    }

    fn undoable(&self, name: &str) -> String {
        let written = label_name::escaped(name);
        // A colon is plain in a metric's name and odd in a label's.
        if (self.is_legacy)(":") { written } else { written.replace(':', "_3a_") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(escaping: Escaping, names: &[&str]) -> Vec<String> {
        let mut all = Names::of_metrics(escaping, names.iter().copied());
        names.iter().map(|name| all.written(name).into_owned()).collect()
    }

    #[test]
    fn each_scheme_writes_names_as_prometheus_does() {
        // Names and results as in prometheus/common, model/metric_test.go.
        for (name, underscores, dots, values) in [
            ("no:escaping_required", "no:escaping_required", "no:escaping__required", "no:escaping_required"),
            (
                "mysystem.prod.west.cpu.load",
                "mysystem_prod_west_cpu_load",
                "mysystem_dot_prod_dot_west_dot_cpu_dot_load",
                "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load",
            ),
            (
                "mysystem.prod.west.cpu.load_total",
                "mysystem_prod_west_cpu_load_total",
                "mysystem_dot_prod_dot_west_dot_cpu_dot_load__total",
                "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load__total",
            ),
            ("http.status:sum", "http_status:sum", "http_dot_status:sum", "U__http_2e_status:sum"),
            ("label with 😱", "label_with__", "label__with____", "U__label_20_with_20__1f631_"),
            ("0abc", "_abc", "__abc", "U___30_abc"),
        ] {
            assert_eq!(metrics(Escaping::Underscores, &[name]), [underscores]);
            assert_eq!(metrics(Escaping::Dots, &[name]), [dots]);
            assert_eq!(metrics(Escaping::Values, &[name]), [values]);
            assert_eq!(metrics(Escaping::AllowUtf8, &[name]), [name]);
        }
        let mut labels = Names::of_labels(Escaping::Values, ["a:b", "c"].into_iter());
        assert_eq!((labels.written("a:b"), labels.written("c")), ("U__a_3a_b".into(), "c".into()));
    }

    #[test]
    fn no_two_names_are_written_alike_under_any_scheme() {
        let names = ["a.b", "a-b", "a_b", "a__b", "a_dot_b", "U__a_2e_b", "U__a_2d_b", "U__a_2e_b_", "a\u{e9}b"];
        for escaping in [Escaping::Underscores, Escaping::Dots, Escaping::Values, Escaping::AllowUtf8] {
            let written = metrics(escaping, &names);
            let distinct: BTreeSet<&String> = written.iter().collect();
            assert_eq!(distinct.len(), names.len(), "{escaping:?}: {written:?}");
            let plain = |name: &String| escaping == Escaping::AllowUtf8 || is_legacy_metric_name(name);
            assert!(written.iter().all(plain), "{escaping:?}: {written:?}");
        }
    }
}
