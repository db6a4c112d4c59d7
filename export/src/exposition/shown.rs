//! Under which names families stand on a page.
//!
//! Every name on a page belongs to one family: those of families, and those of samples, which suffixes make of them. A
//! family that would take another's name is shown under a form of its own name that says so; nothing is left out and
//! nothing is mixed.

use std::collections::BTreeSet;

use kymo_core::metric::MetricKind;

use super::format::Format;
use super::names::Names;
use crate::label_name;

const TOTAL: &str = "_total";
const CREATED: &str = "_created";

/// What a page must know of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) kind: MetricKind,
    pub(super) unit: String,
    pub(super) help: String,
}

/// How a family is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// The family's name, to which its samples' suffixes are added.
    pub(super) base: String,
    /// The word of its `TYPE` line.
    pub(super) kind: &'static str,
    /// Of a counter's sample.
    pub(super) suffix: &'static str,
}

/// Decides for all families of a page, which come sorted by name; the answers are in their order.
pub(super) fn decide(format: Format, families: &[Described]) -> Vec<Shown> {
    let mut names = Names::of_metrics(format.escaping(), families.iter().map(|family| family.name.as_str()));
    let written: Vec<String> = families.iter().map(|family| names.written(&family.name).into_owned()).collect();
    let all: BTreeSet<&str> = written.iter().map(String::as_str).collect();
    let mut taken = BTreeSet::new();
    let mut shown: Vec<Option<Shown>> = vec![None; families.len()];
    // Those whose name needed no change come first: they keep it.
    for wants_change in [false, true] {
        for (at, family) in families.iter().enumerate() {
            if (written[at] != family.name) == wants_change {
                shown[at] = Some(choose(format, family, &written[at], &all, &mut taken));
            }
        }
    }
    shown.into_iter().flatten().collect()
}

fn choose(
    format: Format,
    family: &Described,
    written: &str,
    all: &BTreeSet<&str>,
    taken: &mut BTreeSet<String>,
) -> Shown {
    let of = |base: &str, kind, suffix| Shown { base: base.to_owned(), kind, suffix };
    let mut choices = Vec::new();
    if format.is_open_metrics() && family.kind == MetricKind::Counter {
        // A counter's family is called without `_total`, its sample with it. Where another family has either name, two
        // families would be one to a reader; such counters are shown under their own name as `unknown`.
        let (base, other) = match written.strip_suffix(TOTAL).filter(|base| !base.is_empty()) {
            Some(base) => (base, base.to_owned()),
            None => (written, format!("{written}{TOTAL}")),
        };
        if !all.contains(other.as_str()) {
            choices.push(of(base, family.kind.as_str(), TOTAL));
        }
        choices.push(of(written, "unknown", ""));
    } else {
        choices.push(of(written, family.kind.as_str(), ""));
    }
    let mut escaped = label_name::escaped(&family.name);
    loop {
        for choice in choices.drain(..) {
            let claims = claims(format, family.kind, &choice);
            if claims.iter().all(|claim| !taken.contains(claim)) {
                taken.extend(claims);
                return choice;
            }
        }
        let kind = if format.is_open_metrics() && family.kind == MetricKind::Counter {
            "unknown"
        } else {
            family.kind.as_str()
        };
        choices.push(of(&escaped, kind, ""));
        escaped.push('_');
    }
}

/// All names that a family takes.
fn claims(format: Format, kind: MetricKind, shown: &Shown) -> Vec<String> {
    let suffixes: &[&str] = match kind {
        MetricKind::Counter if shown.suffix == TOTAL => &["", TOTAL, CREATED],
        MetricKind::Counter | MetricKind::Gauge => &[""],
        MetricKind::Histogram => &["", "_bucket", "_sum", "_count", CREATED],
        MetricKind::Summary => &["", "_sum", "_count", CREATED],
    };
    let is_claimed = |suffix: &&&str| format.is_open_metrics() || **suffix != CREATED;
    suffixes.iter().filter(is_claimed).map(|suffix| format!("{}{suffix}", shown.base)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::Escaping;

    fn bases(format: Format, families: &[(&str, MetricKind)]) -> Vec<String> {
        let described = |&(name, kind): &(&str, MetricKind)| Described {
            name: name.to_owned(),
            kind,
            unit: String::new(),
            help: String::new(),
        };
        let all: Vec<Described> = families.iter().map(described).collect();
        decide(format, &all).into_iter().map(|shown| format!("{}{} {}", shown.base, shown.suffix, shown.kind)).collect()
    }

    #[test]
    fn a_family_called_like_anothers_sample_is_shown_as_what_it_is() {
        use MetricKind::{Counter, Gauge, Histogram, Summary};
        let families = [("h", Histogram), ("h_count", Counter), ("h_sum", Gauge), ("s", Summary), ("s_bucket", Gauge)];
        let wanted = ["h histogram", "U__h__count counter", "U__h__sum gauge", "s summary", "s_bucket gauge"];
        assert_eq!(bases(Format::Text004, &families), wanted);
        let open_metrics = Format::OpenMetrics100(Escaping::Underscores);
        let wanted = ["c_total counter", "U__c__created gauge"];
        assert_eq!(bases(open_metrics, &[("c", Counter), ("c_created", Gauge)]), wanted);
        assert_eq!(bases(Format::Text004, &[("c", Counter), ("c_created", Gauge)]), ["c counter", "c_created gauge"]);
    }

    #[test]
    fn names_that_are_plain_keep_theirs_before_others_are_made_plain() {
        use MetricKind::{Counter, Histogram};
        let families = [("a.b", Histogram), ("a_b", Histogram), ("a_b_sum", Counter)];
        let wanted = ["U__a_2e_b histogram", "a_b histogram", "U__a__b__sum counter"];
        assert_eq!(bases(Format::Text004, &families), wanted);
    }
}
