//! Where Kymo, which answers as Prometheus 3.14, differs from 3.5 on purpose.
//!
//! `docs/promql.md` lists the same for people, which a test at the end holds to. A change of wording is undone on both sides before answers are
//! compared; any other change explains a difference of given respects for given expressions.

use serde_json::Value;

use super::Question;
use super::compare::{Difference, Respect};

/// One change that shows in answers.
pub(super) struct Change {
    /// Since which version, and what changed: the words of the table in `docs/promql.md`.
    pub(super) reason: &'static str,
    /// Whether it explains a difference.
    pub(super) explains: fn(&Question<'_>, &Difference) -> bool,
}

/// Changes of answers.
pub(super) const CHANGES: &[Change] = &[
    Change {
        reason: "3.8: histograms of different custom buckets are reconciled, with an info, instead of refused with a warning",
        explains: |question, difference| {
            let said = ["incompatible custom buckets", "mismatched custom buckets", "incompatible bucket layout"];
            touches(question, &["nhcb", "nh.*", "__name__"])
                && match difference.respect {
                    Respect::Warnings | Respect::Infos => said.iter().any(|said| difference.what.contains(said)),
                    _ => true,
                }
        },
    },
    Change {
        reason: "3.7: the rate of a native histogram is not carried back beyond zero observations, as that of a float is not",
        explains: |question, difference| {
            let rates = ["rate(", "increase("].iter().any(|function| question.text().contains(function));
            rates && touches(question, HISTOGRAMS) && matches!(difference.respect, Respect::Values | Respect::Labels)
        },
    },
    Change {
        reason: "3.9: `rate`, `increase` and `delta` of native histograms give gauges, in which nothing is a reset",
        explains: |question, difference| {
            question.text().contains(':')
                && touches(question, HISTOGRAMS)
                && difference.what.contains("native histogram metric is not a")
        },
    },
    Change {
        reason: "3.10: `info` finds what describes a series at every step of a range query; 3.5 finds it at some",
        explains: |question, difference| {
            question.is_range()
                && question.text().contains("info(")
                && matches!(difference.respect, Respect::Values | Respect::Labels)
        },
    },
    Change {
        reason: "3.6: `NaN` as the parameter of `topk`, `bottomk`, `limitk`, `limit_ratio` is refused as `Parameter value is NaN`, and also where no series is",
        explains: |_, difference| {
            matches!(difference.respect, Respect::ErrorText | Respect::Outcome)
                && difference.what.contains("Parameter value is NaN")
        },
    },
];

/// Changes of wording, as [`reword`] undoes them.
const WORDINGS: &[&str] = &[
    "3.6: an annotation leaves out a metric name that is empty",
    "3.12: sorting in a range query has a warning",
    "3.12: of a match group with too many series, two are named in the order of their labels",
    "3.13: the info on buckets that were made to rise tells which, by how much and when",
];

/// Families with native histograms.
const HISTOGRAMS: &[&str] = &["nh", "mixed", "__name__"];

fn touches(question: &Question<'_>, families: &[&str]) -> bool {
    families.iter().any(|family| question.text().contains(family))
}

/// Undoes changes of wording, in the answer of either.
pub(super) fn reword(answer: &mut Value, question: &Question<'_>) {
    if let Some(error) = answer["error"].as_str() {
        let error = match error.split_once("found duplicate series for the match group") {
            // What is made of functions has no order in the reference: which match group is met first is chance.
            Some((before, _)) if question.is_composed() => format!("{before}found duplicate series"),
            _ => sorted_pair(error),
        };
        answer["error"] = Value::String(error);
    }
    for key in ["warnings", "infos"] {
        let Some(texts) = answer[key].as_array_mut() else { continue };
        // 3.12 says of sorting in a range query that it is in vain.
        texts.retain(|text| !text.as_str().is_some_and(|text| text.contains("sort is ineffective for range queries")));
        for text in texts {
            let Some(said) = text.as_str() else { continue };
            // 3.6 leaves out a name that is empty.
            let mut said = said.replace(" for metric name \"\"", "");
            // 3.13 tells which buckets needed to be fixed, by how much and when.
            if let (Some(from), Some(to)) = (said.find(", from buckets"), said.rfind(" (")) {
                said.replace_range(from..to, "");
            }
            *text = Value::String(said);
        }
    }
}

/// Since 3.12 the two series that a match group has too many of are named in the order of their labels.
fn sorted_pair(error: &str) -> String {
    let parts = error.split_once(": [").and_then(|(before, rest)| Some((before, rest.split_once("];")?)));
    let Some((before, (pair, after))) = parts else { return error.to_owned() };
    let Some((one, other)) = pair.split_once("}, {") else { return error.to_owned() };
    let (one, other) = (format!("{one}}}"), format!("{{{other}"));
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    format!("{before}: [{first}, {second}];{after}")
}

#[test]
fn the_page_lists_the_changes_that_are_let_pass() {
    let page = include_str!("../../../../docs/promql.md");
    let (_, from) = page.split_once("## From 3.5 to 3.14").unwrap();
    let (table, _) = from.split_once("\n## ").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| 3."));
    let mut listed: Vec<String> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            format!("3.{}: {}", cells[0], cells[1])
        })
        .collect();
    let mut known: Vec<&str> = CHANGES.iter().map(|change| change.reason).chain(WORDINGS.iter().copied()).collect();
    listed.sort_unstable();
    known.sort_unstable();
    assert_eq!(listed, known);
}
