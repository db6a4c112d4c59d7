//! How long what is kept, as a file says it: one duration, or a list in which the first entry that matches a series holds.

use std::fmt;

use kymo_core::Matcher;
use kymo_query::parser::{ParseOptions, parse_metric_selector};
use kymo_storage::RetentionRule;
use schemars::JsonSchema;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Retention;

/// Durations for series that match, and one for all others.
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionSection {
    entries: Vec<Entry>,
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    /// The selector as written, and what it says; `None` for all series.
    matches: Option<(String, Vec<Matcher>)>,
    keep: Retention,
}

/// What a schema says of an entry.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetentionEntry {
    /// Series that are meant, as a selector like `{job="debug"}`. Without it all that no entry above matches; then it is the
    /// last one.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    matches: Option<String>,
    /// How long their samples are kept, `0` for ever.
    keep: String,
}

impl From<Retention> for RetentionSection {
    fn from(keep: Retention) -> RetentionSection {
        RetentionSection { entries: vec![Entry { matches: None, keep }] }
    }
}

impl RetentionSection {
    /// How long series are kept that no rule is about; `None` if it is not said.
    #[must_use]
    pub fn of_others(&self) -> Option<Retention> {
        self.entries.iter().find(|entry| entry.matches.is_none()).map(|entry| entry.keep)
    }

    /// The rules, in their order.
    pub fn rules(&self) -> impl Iterator<Item = RetentionRule> {
        let with = self.entries.iter().filter_map(|entry| Some((entry.matches.as_ref()?, entry.keep)));
        with.map(|((_, matchers), keep)| RetentionRule { matchers: matchers.clone(), keep: keep.0 })
    }

    /// The selectors of the rules, as written.
    pub fn selectors(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| Some(entry.matches.as_ref()?.0.as_str()))
    }
}

impl Entry {
    fn read(written: RetentionEntry) -> Result<Entry, String> {
        let keep: Retention = written.keep.parse()?;
        let matches = written.matches.map(|text| selector(&text).map(|matchers| (text, matchers))).transpose()?;
        Ok(Entry { matches, keep })
    }
}

/// The matchers of a selector.
///
/// # Errors
/// Why it selects nothing, in words.
pub fn selector(text: &str) -> Result<Vec<Matcher>, String> {
    let wrong = |reason: &dyn fmt::Display| format!("{text:?} selects no series: {reason}");
    let written = parse_metric_selector(text, &ParseOptions::default()).map_err(|error| wrong(&error))?;
    let matchers = written.into_iter().map(|m| Matcher::new(m.name, m.op, m.value));
    let matchers: Vec<Matcher> = matchers.collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
    if matchers.iter().all(Matcher::matches_empty) {
        return Err(wrong(&"one matcher at least must not match the empty value"));
    }
    Ok(matchers)
}

impl<'de> Deserialize<'de> for RetentionSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RetentionSection, D::Error> {
        struct Durations;

        impl<'de> Visitor<'de> for Durations {
            type Value = RetentionSection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration, or a list of entries with match and keep")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RetentionSection, E> {
                text.parse::<Retention>().map(RetentionSection::from).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<RetentionSection, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RetentionSection, A::Error> {
                let mut entries: Vec<Entry> = Vec::new();
                while let Some(written) = list.next_element::<RetentionEntry>()? {
                    if entries.last().is_some_and(|last| last.matches.is_none()) {
                        return Err(A::Error::custom("an entry behind one without match is never reached"));
                    }
                    entries.push(Entry::read(written).map_err(A::Error::custom)?);
                }
                Ok(RetentionSection { entries })
            }
        }

        deserializer.deserialize_any(Durations)
    }
}

impl Serialize for RetentionSection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.entries.as_slice() {
            [Entry { matches: None, keep }] => serializer.collect_str(keep),
            entries => serializer.collect_seq(entries.iter().map(|entry| RetentionEntry {
                matches: entry.matches.as_ref().map(|(text, _)| text.clone()),
                keep: entry.keep.to_string(),
            })),
        }
    }
}

/// A share of a disk, from 0 to 1, written as a percentage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskShare(pub f64);

impl std::str::FromStr for DiskShare {
    type Err = String;

    fn from_str(text: &str) -> Result<DiskShare, String> {
        let percent = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<f64>().ok());
        match percent {
            Some(percent) if percent > 0.0 && percent <= 100.0 => Ok(DiskShare(percent / 100.0)),
            _ => Err("expected a percentage above 0 and up to 100, like 80%".to_owned()),
        }
    }
}

impl fmt::Display for DiskShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}
