//! How long what is kept, as a file says it: one duration, or one for samples and for rollups each, or a list in which the
//! first entry that matches a series holds.

use std::fmt;
use std::time::Duration;

use kymo_core::Matcher;
use kymo_query::parser::{ParseOptions, parse_metric_selector};
use kymo_storage::{RetentionPolicy, RetentionRule};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Retention;

/// Durations for series that match, and one for all others.
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionSection {
    entries: Vec<Entry>,
    /// Rollups of all others; `None` for none.
    five_minutes: Option<Retention>,
    one_hour: Option<Retention>,
}

/// Samples that rollups are made of are kept so long at least: a rollup is made hours after its samples.
const RAW_MIN: Duration = Duration::from_secs(4 * 3_600);

/// What a schema says of durations for each tier.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetentionTiers {
    /// How long samples are kept, `0` for ever. Default `30d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    /// How long rollups of five minutes are kept, `0` for ever. Without it none are made.
    #[serde(rename = "5m", skip_serializing_if = "Option::is_none")]
    five_minutes: Option<String>,
    /// The same of an hour.
    #[serde(rename = "1h", skip_serializing_if = "Option::is_none")]
    one_hour: Option<String>,
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
    /// How long their samples, and rollups of them, are kept, `0` for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<String>,
    /// In the place of `keep` of the last entry: how long samples are kept, `0` for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    /// Beside `raw`: how long rollups of five minutes are kept, `0` for ever. Without it none are made.
    #[serde(rename = "5m", skip_serializing_if = "Option::is_none")]
    five_minutes: Option<String>,
    /// The same of an hour.
    #[serde(rename = "1h", skip_serializing_if = "Option::is_none")]
    one_hour: Option<String>,
}

impl From<Retention> for RetentionSection {
    fn from(keep: Retention) -> RetentionSection {
        RetentionSection { entries: vec![Entry { matches: None, keep }], five_minutes: None, one_hour: None }
    }
}

impl TryFrom<RetentionTiers> for RetentionSection {
    type Error = String;

    fn try_from(written: RetentionTiers) -> Result<RetentionSection, String> {
        let read = |text: Option<String>| text.map(|text| text.parse::<Retention>()).transpose();
        let raw = read(written.raw)?.unwrap_or(Retention(RetentionPolicy::default().raw));
        let section = RetentionSection::from(raw);
        let section = RetentionSection {
            five_minutes: read(written.five_minutes)?,
            one_hour: read(written.one_hour)?,
            ..section
        };
        let has_rollups = section.five_minutes.is_some() || section.one_hour.is_some();
        if has_rollups && raw.0.is_some_and(|raw| raw < RAW_MIN) {
            return Err("samples that rollups are made of are kept 4h at least".to_owned());
        }
        Ok(section)
    }
}

impl RetentionSection {
    /// How long series are kept that no rule is about; `None` if it is not said.
    #[must_use]
    pub fn of_others(&self) -> Option<Retention> {
        self.entries.iter().find(|entry| entry.matches.is_none()).map(|entry| entry.keep)
    }

    /// How long rollups are kept of series that no rule is about, of five minutes and of an hour; `None` for none.
    #[must_use]
    pub fn of_rollups(&self) -> [Option<Retention>; 2] {
        [self.five_minutes, self.one_hour]
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

impl RetentionEntry {
    /// What it says of tiers, if that is what it says.
    fn tiers(&self) -> Option<RetentionTiers> {
        let (raw, five_minutes, one_hour) = (self.raw.clone(), self.five_minutes.clone(), self.one_hour.clone());
        let any = raw.is_some() || five_minutes.is_some() || one_hour.is_some();
        any.then_some(RetentionTiers { raw, five_minutes, one_hour })
    }
}

impl Entry {
    fn read(written: RetentionEntry) -> Result<Entry, String> {
        let keep: Retention = written.keep.ok_or("missing field `keep`")?.parse()?;
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
                f.write_str("a duration, durations as raw, 5m and 1h, or a list of entries with match and keep")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RetentionSection, A::Error> {
                let written = RetentionTiers::deserialize(MapAccessDeserializer::new(map))?;
                RetentionSection::try_from(written).map_err(A::Error::custom)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RetentionSection, E> {
                text.parse::<Retention>().map(RetentionSection::from).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<RetentionSection, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RetentionSection, A::Error> {
                let mut entries: Vec<Entry> = Vec::new();
                let (mut five_minutes, mut one_hour) = (None, None);
                while let Some(written) = list.next_element::<RetentionEntry>()? {
                    if entries.last().is_some_and(|last| last.matches.is_none()) {
                        return Err(A::Error::custom("an entry behind one without match is never reached"));
                    }
                    if let Some(tiers) = written.tiers() {
                        if written.matches.is_some() || written.keep.is_some() {
                            let text = "raw, 5m and 1h stand alone: an entry with match has keep for all of them";
                            return Err(A::Error::custom(text));
                        }
                        let mut of_others = RetentionSection::try_from(tiers).map_err(A::Error::custom)?;
                        (five_minutes, one_hour) = (of_others.five_minutes, of_others.one_hour);
                        entries.append(&mut of_others.entries);
                        continue;
                    }
                    entries.push(Entry::read(written).map_err(A::Error::custom)?);
                }
                Ok(RetentionSection { entries, five_minutes, one_hour })
            }
        }

        deserializer.deserialize_any(Durations)
    }
}

impl Serialize for RetentionSection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |keep: &Option<Retention>| keep.as_ref().map(Retention::to_string);
        let (five_minutes, one_hour) = (text(&self.five_minutes), text(&self.one_hour));
        let has_rollups = five_minutes.is_some() || one_hour.is_some();
        match self.entries.as_slice() {
            [Entry { matches: None, keep }] if !has_rollups => serializer.collect_str(keep),
            [Entry { matches: None, keep }] => {
                RetentionTiers { raw: Some(keep.to_string()), five_minutes, one_hour }.serialize(serializer)
            }
            entries => serializer.collect_seq(entries.iter().map(|entry| {
                let is_last = has_rollups && entry.matches.is_none();
                let keep = Some(entry.keep.to_string());
                let (keep, raw) = if is_last { (None, keep) } else { (keep, None) };
                RetentionEntry {
                    matches: entry.matches.as_ref().map(|(text, _)| text.clone()),
                    keep,
                    raw,
                    five_minutes: five_minutes.clone().filter(|_| is_last),
                    one_hour: one_hour.clone().filter(|_| is_last),
                }
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
