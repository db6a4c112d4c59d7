//! What one round found: values with their names, before anybody knows the engine's refs.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use kymo_core::histogram::NativeHistogram;
use kymo_core::{FamilyType, METRIC_NAME, Metadata};

/// The samples of one round, all of one moment. Reused, so a round of known series allocates next to nothing.
///
/// A sample's *key* is its name and its labels as they were pushed, each behind its length: whoever pushes always pushes
/// the labels of a family in one order, so equal keys are equal series, and no label set is built for a known one.
#[derive(Debug, Default)]
pub struct Gathered {
    families: Vec<Family>,
    by_name: HashMap<String, usize, RandomState>,
    samples: Vec<Sample>,
    keys: Vec<u8>,
}

#[derive(Debug)]
struct Family {
    name: String,
    metadata: Metadata,
    /// The engine has its metadata.
    is_told: bool,
}

#[derive(Debug)]
struct Sample {
    /// Where its key ends; it begins where the one before ends.
    key_end: usize,
    value: Value,
}

/// What a sample says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Float(f64),
    /// A total counted since `start_ms` (ms since the Unix epoch, 0 = unknown).
    Total {
        value: f64,
        start_ms: i64,
    },
    /// Observations in exponential buckets, counted since `start_ms` (ms since the Unix epoch, 0 = unknown).
    Histogram {
        histogram: Box<NativeHistogram>,
        start_ms: i64,
    },
}

impl Gathered {
    /// Forgets the samples; families stay known.
    pub(super) fn clear(&mut self) {
        self.samples.clear();
        self.keys.clear();
    }

    /// The family of this name, to push samples of; its type and help are those given first.
    pub fn family(&mut self, family_type: FamilyType, name: &str, help: &str) -> FamilyWriter<'_> {
        self.family_with_unit(family_type, name, "", help)
    }

    /// As [`family`](Self::family), with a unit.
    pub fn family_with_unit(
        &mut self,
        family_type: FamilyType,
        name: &str,
        unit: &str,
        help: &str,
    ) -> FamilyWriter<'_> {
        let family = match self.by_name.get(name) {
            Some(family) => *family,
            None => {
                let metadata = Metadata { family_type, unit: unit.to_owned(), help: help.to_owned() };
                self.families.push(Family { name: name.to_owned(), metadata, is_told: false });
                self.by_name.insert(name.to_owned(), self.families.len() - 1);
                self.families.len() - 1
            }
        };
        FamilyWriter { gathered: self, family }
    }

    /// One gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(FamilyType::Gauge, name, help).push([], value);
    }

    /// One counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.family(FamilyType::Counter, name, help).push([], value);
    }

    /// A sample without labels and without a family: `up`.
    pub(super) fn bare(&mut self, name: &str, value: f64) {
        self.string(name);
        self.end_key(Value::Float(value));
    }

    /// All samples with their keys, in the order pushed.
    pub(super) fn samples(&self) -> impl Iterator<Item = (&[u8], &Value)> {
        let mut start = 0;
        self.samples.iter().map(move |sample| {
            let key = &self.keys[start..sample.key_end];
            start = sample.key_end;
            (key, &sample.value)
        })
    }

    /// Appends all samples as of `time_ms`, for tests that want them in a storage.
    #[cfg(test)]
    pub(crate) fn store_all(&self, storage: &dyn kymo_core::MetricStorage, time_ms: i64) {
        let mut batch = kymo_core::SampleBatch::new();
        for (key, value) in self.samples() {
            let labels = kymo_core::Labels::from_pairs(pairs_of_key(key));
            match value {
                Value::Float(value) | Value::Total { value, .. } => batch.push_float(&labels, time_ms, *value),
                Value::Histogram { histogram, .. } => {
                    batch.push_histogram(&labels, time_ms, NativeHistogram::clone(histogram));
                }
            }
        }
        assert!(storage.append(&batch).is_ok_and(|report| report.rejected.is_empty()), "the storage takes it");
    }

    /// Samples that are floats, for tests of sources that have no others.
    #[cfg(test)]
    pub(super) fn floats(&self) -> impl Iterator<Item = (&[u8], f64)> {
        self.samples().filter_map(|(key, value)| match value {
            Value::Float(value) | Value::Total { value, .. } => Some((key, *value)),
            Value::Histogram { .. } => None,
        })
    }

    /// Metadata that the engine does not have.
    pub(super) fn untold(&self) -> impl Iterator<Item = (&str, &Metadata)> {
        self.families.iter().filter(|family| !family.is_told).map(|family| (family.name.as_str(), &family.metadata))
    }

    /// The engine has all metadata now.
    pub(super) fn told(&mut self) {
        self.families.iter_mut().for_each(|family| family.is_told = true);
    }

    fn string(&mut self, text: &str) {
        self.string_of([text, ""]);
    }

    /// Adds one string of two parts.
    fn string_of(&mut self, parts: [&str; 2]) {
        // Nothing here is near 4 GiB; a longer text would only be cut short in the key's eyes.
        let len = u32::try_from(parts[0].len() + parts[1].len()).unwrap_or(u32::MAX);
        self.keys.extend_from_slice(&len.to_le_bytes());
        parts.iter().for_each(|part| self.keys.extend_from_slice(part.as_bytes()));
    }

    fn end_key(&mut self, value: Value) {
        self.samples.push(Sample { key_end: self.keys.len(), value });
    }
}

/// The pairs of a key, `__name__` first.
pub(super) fn pairs_of_key(key: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = key;
    let mut string = move || {
        let (len, behind) = rest.split_first_chunk::<4>()?;
        let (text, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        rest = behind;
        std::str::from_utf8(text).ok()
    };
    let mut is_first = true;
    std::iter::from_fn(move || {
        let name = if std::mem::take(&mut is_first) { METRIC_NAME } else { string()? };
        Some((name, string()?))
    })
}

/// Pushes samples of one family.
#[derive(Debug)]
pub struct FamilyWriter<'a> {
    gathered: &'a mut Gathered,
    family: usize,
}

impl FamilyWriter<'_> {
    /// Adds the sample of these labels.
    pub fn push<'l>(&mut self, labels: impl IntoIterator<Item = (&'l str, &'l str)>, value: f64) {
        self.push_part("", labels, value);
    }

    /// Adds a sample whose name is the family's and `suffix` (`_bucket`, `_sum`, …).
    pub fn push_part<'l>(&mut self, suffix: &str, labels: impl IntoIterator<Item = (&'l str, &'l str)>, value: f64) {
        self.sample(suffix, labels, Value::Float(value));
    }

    /// Adds a total, or a part of one: what was counted since `start_ms` (ms since the Unix epoch, 0 = unknown).
    pub fn push_total<'l>(
        &mut self,
        suffix: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        value: f64,
        start_ms: i64,
    ) {
        self.sample(suffix, labels, Value::Total { value, start_ms });
    }

    /// Adds a native histogram that counts since `start_ms` (ms since the Unix epoch, 0 = unknown).
    pub fn push_histogram<'l>(
        &mut self,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        histogram: NativeHistogram,
        start_ms: i64,
    ) {
        self.sample("", labels, Value::Histogram { histogram: Box::new(histogram), start_ms });
    }

    fn sample<'l>(&mut self, suffix: &str, labels: impl IntoIterator<Item = (&'l str, &'l str)>, value: Value) {
        let name = std::mem::take(&mut self.gathered.families[self.family].name);
        self.gathered.string_of([&name, suffix]);
        self.gathered.families[self.family].name = name;
        for (name, value) in labels {
            self.gathered.string(name);
            self.gathered.string(value);
        }
        self.gathered.end_key(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_give_back_what_was_pushed() {
        let mut gathered = Gathered::default();
        gathered.bare("up", 1.0);
        gathered.family(FamilyType::Histogram, "h", "Help.").push_part("_bucket", [("a", "x"), ("le", "")], 2.0);
        gathered.family(FamilyType::Counter, "h", "Another help is not taken.").push([], 3.0);
        let samples: Vec<(Vec<(&str, &str)>, Value)> =
            gathered.samples().map(|(key, value)| (pairs_of_key(key).collect(), value.clone())).collect();
        assert_eq!(
            samples,
            [
                (vec![("__name__", "up")], Value::Float(1.0)),
                (vec![("__name__", "h_bucket"), ("a", "x"), ("le", "")], Value::Float(2.0)),
                (vec![("__name__", "h")], Value::Float(3.0))
            ]
        );
        let untold: Vec<_> = gathered.untold().map(|(name, metadata)| (name.to_owned(), metadata.clone())).collect();
        let metadata = Metadata { family_type: FamilyType::Histogram, unit: String::new(), help: "Help.".into() };
        assert_eq!(untold, [("h".to_owned(), metadata)]);
        gathered.told();
        gathered.clear();
        assert_eq!((gathered.untold().count(), gathered.samples().count()), (0, 0));
    }
}
