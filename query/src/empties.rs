//! Why a selector matched nothing: which matcher emptied it, and the nearest names that exist.

use kymo_core::query::Annotations;
use kymo_core::{METRIC_NAME, MatchOp, Matcher, MetricStorage, QueryContext, SelectError, Selector};

/// Names offered.
const OFFERED_MAX: usize = 3;
/// Names compared at most, and the longest text compared.
const COMPARED_MAX: usize = 20_000;
const COMPARED_BYTES_MAX: usize = 128;

/// Says for one selector that matches nothing why that is.
///
/// # Errors
/// The storage's.
pub(crate) fn explain(
    selector: &Selector,
    storage: &dyn MetricStorage,
    ctx: &QueryContext,
    annotations: &mut Annotations,
) -> Result<(), SelectError> {
    let shown = shown(&selector.matchers);
    let any = |matchers: &[Matcher], start_ms: i64, end_ms: i64| -> Result<bool, SelectError> {
        let mut what = selector.clone();
        (what.matchers, what.start_ms, what.end_ms) = (matchers.to_vec(), start_ms, end_ms);
        Ok(!storage.select(&what, ctx)?.is_empty())
    };
    // The name first: of several matchers it is the one people mean by "the metric".
    let mut ordered = selector.matchers.clone();
    ordered.sort_by_key(|matcher| matcher.name() != METRIC_NAME);
    for count in 1..=ordered.len() {
        if any(&ordered[..count], i64::MIN, i64::MAX)? {
            continue;
        }
        let (others, culprit) = (&ordered[..count - 1], &ordered[count - 1]);
        let mut text = format!("kymo: {shown} matches nothing: no series has {culprit}");
        if !others.is_empty() {
            text.push_str(&format!(" of those that match {}", self::shown(others)));
        }
        let what = Selector::new(others.to_vec(), i64::MIN, i64::MAX);
        let names = storage.label_values(culprit.name(), &what, ctx)?;
        let nearest = nearest(culprit, &names);
        if names.is_empty() {
            text.push_str(&format!("; none of them has a label {}", culprit.name()));
        } else if !nearest.is_empty() {
            text.push_str(&format!("; nearest: {}", nearest.join(", ")));
        }
        annotations.info(text);
        return Ok(());
    }
    if !any(&selector.matchers, selector.start_ms, selector.end_ms)? {
        annotations.info(format!("kymo: {shown} matches series, but none has a sample in the time asked for"));
    }
    Ok(())
}

fn shown(matchers: &[Matcher]) -> String {
    let all: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", all.join(", "))
}

/// The values most like what was asked for, quoted, the most alike first. Of an expression, what it says literally.
fn nearest(culprit: &Matcher, names: &[String]) -> Vec<String> {
    if !matches!(culprit.op(), MatchOp::Equal | MatchOp::Regex) || culprit.value().len() > COMPARED_BYTES_MAX {
        return Vec::new();
    }
    let wanted: Vec<char> = culprit.value().chars().collect();
    let mut found: Vec<(usize, &String)> = names
        .iter()
        .take(COMPARED_MAX)
        .filter(|name| name.len() <= COMPARED_BYTES_MAX)
        .map(|name| (distance(&wanted, name), name))
        .filter(|(distance, name)| *distance <= wanted.len().max(name.chars().count()) / 2)
        .collect();
    found.sort();
    found.into_iter().take(OFFERED_MAX).map(|(_, name)| format!("{name:?}")).collect()
}

/// Insertions, deletions and replacements from one text to the other (Levenshtein).
fn distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (at, char_b) in b.chars().enumerate() {
        let mut before = row[0];
        row[0] = at + 1;
        for (place, char_a) in a.iter().enumerate() {
            let replaced = before + usize::from(*char_a != char_b);
            before = row[place + 1];
            row[place + 1] = replaced.min(before + 1).min(row[place] + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use kymo_core::{Labels, MemoryStorage};

    use super::*;

    #[test]
    fn distances_are_the_least_number_of_edits() {
        let of = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!((of("kitten", "sitting"), of("", "abc"), of("same", "same"), of("flaw", "lawn")), (3, 3, 0, 2));
    }

    #[test]
    fn the_matcher_that_emptied_a_selector_is_named_with_the_nearest_values() {
        let storage = MemoryStorage::default();
        for (name, job) in [("requests_total", "api"), ("requests_total", "web"), ("request_seconds", "api")] {
            let labels = Labels::from_pairs([("__name__", name), ("job", job)]);
            storage.store_metric(labels.as_ref(), 60_000, 1.0).unwrap();
        }
        let said = |matchers: Vec<Matcher>, start_ms: i64| {
            let mut annotations = Annotations::default();
            let selector = Selector::new(matchers, start_ms, start_ms + 100_000);
            explain(&selector, &storage, &QueryContext::unlimited(), &mut annotations).unwrap();
            annotations.infos.join("\n")
        };
        let name = |name: &str| Matcher::equal("__name__", name);
        assert_eq!(
            said(vec![name("request_total")], 0),
            r#"kymo: {__name__="request_total"} matches nothing: no series has __name__="request_total"; nearest: "requests_total", "request_seconds""#
        );
        assert_eq!(
            said(vec![Matcher::equal("job", "wep"), name("requests_total")], 0),
            r#"kymo: {job="wep", __name__="requests_total"} matches nothing: no series has job="wep" of those that match {__name__="requests_total"}; nearest: "web""#
        );
        let missing = said(vec![name("requests_total"), Matcher::equal("zone", "a")], 0);
        assert!(missing.ends_with("; none of them has a label zone"), "{missing}");
        let early = said(vec![name("requests_total")], 1_000_000);
        assert!(early.ends_with("but none has a sample in the time asked for"), "{early}");
        assert_eq!(said(vec![name("requests_total")], 0), "");
    }
}
