//! Label sets: what names a series.
//!
//! A [`Labels`] is one allocation: the pairs back to back, each string behind its length, sorted by
//! name. Equality and hashing are over those bytes, ordering is by pairs. [`LabelsRef`] is the same
//! form borrowed, so a decoder can hand out label sets of its own buffer.
//!
//! Invariants: (1) names are strictly rising, so there are no duplicates; (2) no value is empty (an
//! empty value is an absent label); (3) no name is empty; (4) every string is UTF-8.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::text::SeriesText;

/// The label that carries the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// Why a list of pairs is not a label set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// A label has no name.
    #[error("a label has an empty name (its value is {value:?})")]
    EmptyName {
        /// The value that came with it.
        value: String,
    },
    /// A name stands twice.
    #[error("label name {name:?} is not unique")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A name or value is not UTF-8.
    #[error("a label is not valid UTF-8: {lossy:?}")]
    NotUtf8 {
        /// The text, with replacement characters.
        lossy: String,
    },
    /// The packed form is cut short or breaks an invariant of the module.
    #[error("packed label set is damaged at byte {offset}")]
    Damaged {
        /// Where in the packed bytes.
        offset: usize,
    },
}

/// An owned, immutable label set. Cloning is a reference count.
#[derive(Clone)]
pub struct Labels(Arc<[u8]>);

/// A borrowed label set, in the packed form of [`Labels`].
#[derive(Clone, Copy)]
pub struct LabelsRef<'a>(&'a [u8]);

impl Labels {
    /// The set without labels.
    #[must_use]
    pub fn empty() -> Labels {
        Labels(Arc::from([] as [u8; 0]))
    }

    /// Builds from pairs in any order; an empty value drops its pair, of two equal names the last
    /// wins, pairs without a name are dropped. For input from outside use [`LabelsBuilder::build`].
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels {
        let mut builder = LabelsBuilder::new();
        for (name, value) in pairs {
            if !name.as_ref().is_empty() {
                builder.set(name.as_ref(), value.as_ref());
            }
        }
        builder.labels()
    }

    /// The borrowed form.
    #[must_use]
    pub fn as_ref(&self) -> LabelsRef<'_> {
        LabelsRef(&self.0)
    }

    /// The pairs in rising order of names.
    pub fn iter(&self) -> LabelsIter<'_> {
        self.as_ref().iter()
    }

    /// The value of `name`, if the label is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.as_ref().get(name)
    }

    /// The metric's name, if there is one.
    #[must_use]
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// Number of labels. O(n).
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no label at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> LabelsRef<'a> {
    /// Takes packed bytes after checking every invariant of the module.
    ///
    /// # Errors
    /// [`LabelError::Damaged`] or [`LabelError::NotUtf8`].
    pub fn from_packed(packed: &'a [u8]) -> Result<LabelsRef<'a>, LabelError> {
        let mut at = 0;
        let mut previous: Option<&[u8]> = None;
        // Looked at once for all strings, as a log has millions of label sets. The length of one of 128 bytes is not ASCII:
        // then each is looked at by itself.
        let is_ascii = packed.is_ascii();
        while at < packed.len() {
            let start = at;
            let damaged = LabelError::Damaged { offset: start };
            let name = take_checked(packed, &mut at).ok_or_else(|| damaged.clone())?;
            let value = take_checked(packed, &mut at).ok_or(damaged)?;
            if !is_ascii {
                check_utf8(name)?;
                check_utf8(value)?;
            }
            // Bytes of UTF-8 are in the order of its characters.
            if name.is_empty() || value.is_empty() || previous.is_some_and(|p| p >= name) {
                return Err(LabelError::Damaged { offset: start });
            }
            previous = Some(name);
        }
        Ok(LabelsRef(packed))
    }

    /// Packed bytes that came out of a label set, and are therefore sound.
    pub(crate) fn trusted(packed: &'a [u8]) -> LabelsRef<'a> {
        LabelsRef(packed)
    }

    /// The packed bytes: per label `len name len value`, lengths as LEB128 varints.
    #[must_use]
    pub fn packed(self) -> &'a [u8] {
        self.0
    }

    /// The pairs in rising order of names.
    pub fn iter(self) -> LabelsIter<'a> {
        LabelsIter { rest: self.0 }
    }

    /// The value of `name`, if the label is there.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a str> {
        for (n, v) in self.iter() {
            match n.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(v),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The set of those labels whose names are to be kept, packed into `packed`. Allocates only when that grows.
    pub fn filter_into<'b>(self, packed: &'b mut Vec<u8>, mut keep: impl FnMut(&str) -> bool) -> LabelsRef<'b> {
        packed.clear();
        let mut rest = self.0;
        while !rest.is_empty() {
            let whole = rest;
            let (Some(name), Some(_)) = (take(&mut rest), take(&mut rest)) else { break };
            if keep(name) {
                packed.extend_from_slice(&whole[..whole.len() - rest.len()]);
            }
        }
        LabelsRef(packed)
    }

    /// The metric's name, if there is one.
    #[must_use]
    pub fn metric_name(self) -> Option<&'a str> {
        self.get(METRIC_NAME)
    }

    /// An owned copy.
    #[must_use]
    pub fn to_labels(self) -> Labels {
        Labels(Arc::from(self.0))
    }
}

impl<'a> From<&'a Labels> for LabelsRef<'a> {
    fn from(labels: &'a Labels) -> LabelsRef<'a> {
        labels.as_ref()
    }
}

/// Iterator over the pairs of a label set.
#[derive(Clone)]
pub struct LabelsIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let name = take(&mut self.rest)?;
        let value = take(&mut self.rest)?;
        Some((name, value))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;
    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

/// Collects pairs into a label set; reusable, so a decoder allocates nothing per series.
#[derive(Debug, Default, Clone)]
pub struct LabelsBuilder {
    text: String,
    /// (name start, value start, value end) into `text`.
    pairs: Vec<(u32, u32, u32)>,
    packed: Vec<u8>,
}

impl LabelsBuilder {
    /// An empty builder.
    #[must_use]
    pub fn new() -> LabelsBuilder {
        LabelsBuilder::default()
    }

    /// A builder that starts with the pairs of `labels`.
    #[must_use]
    pub fn from_labels(labels: LabelsRef<'_>) -> LabelsBuilder {
        let mut builder = LabelsBuilder::new();
        for (name, value) in labels.iter() {
            builder.push(name, value);
        }
        builder
    }

    /// Forgets all pairs and keeps the buffers.
    pub fn clear(&mut self) {
        self.text.clear();
        self.pairs.clear();
    }

    /// Adds a pair without looking for an earlier one of that name ([`build`](Self::build) finds duplicates).
    pub fn push(&mut self, name: &str, value: &str) {
        let name_at = self.text.len() as u32;
        self.text.push_str(name);
        let value_at = self.text.len() as u32;
        self.text.push_str(value);
        self.pairs.push((name_at, value_at, self.text.len() as u32));
    }

    /// Sets `name` to `value`, replacing what was there; an empty value removes the label.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.remove(name);
        if !value.is_empty() {
            self.push(name, value);
        }
        self
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        let text = &self.text;
        self.pairs.retain(|&p| name_of(text, p) != name);
        self
    }

    /// Keeps only the labels for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        let text = &self.text;
        self.pairs.retain(|&p| keep(name_of(text, p), value_of(text, p)));
        self
    }

    /// The value of `name`, if set (the first one pushed).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// The pairs in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|&p| (name_of(&self.text, p), value_of(&self.text, p)))
    }

    /// Sorts, drops empty values, checks, and lends the packed set from this builder's buffer.
    ///
    /// # Errors
    /// [`LabelError::EmptyName`] and [`LabelError::Duplicate`]; duplicates count also when one is empty.
    pub fn build(&mut self) -> Result<LabelsRef<'_>, LabelError> {
        let text = &self.text;
        self.pairs.sort_by(|&a, &b| name_of(text, a).cmp(name_of(text, b)));
        for (i, &pair) in self.pairs.iter().enumerate() {
            let name = name_of(text, pair);
            if name.is_empty() {
                return Err(LabelError::EmptyName { value: value_of(text, pair).to_owned() });
            }
            if i > 0 && name_of(text, self.pairs[i - 1]) == name {
                return Err(LabelError::Duplicate { name: name.to_owned() });
            }
        }
        Ok(self.pack())
    }

    /// The label set of a builder filled by [`set`](Self::set), which cannot fail.
    #[must_use]
    pub fn labels(&mut self) -> Labels {
        let text = &self.text;
        self.pairs.sort_by(|&a, &b| name_of(text, a).cmp(name_of(text, b)));
        self.pairs.dedup_by(|a, b| name_of(text, *a) == name_of(text, *b));
        self.pairs.retain(|&p| !name_of(text, p).is_empty());
        self.pack().to_labels()
    }

    fn pack(&mut self) -> LabelsRef<'_> {
        self.packed.clear();
        for &pair in &self.pairs {
            let value = value_of(&self.text, pair);
            if !value.is_empty() {
                put(&mut self.packed, name_of(&self.text, pair));
                put(&mut self.packed, value);
            }
        }
        LabelsRef(&self.packed)
    }
}

fn name_of(text: &str, pair: (u32, u32, u32)) -> &str {
    &text[pair.0 as usize..pair.1 as usize]
}

fn value_of(text: &str, pair: (u32, u32, u32)) -> &str {
    &text[pair.1 as usize..pair.2 as usize]
}

fn put(out: &mut Vec<u8>, text: &str) {
    let mut len = text.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(text.as_bytes());
}

/// One string off the front of a packed set that is known to be sound.
#[expect(unsafe_code, reason = "checking UTF-8 again took a sixth of a query over many series")]
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let bytes = take_bytes(rest)?;
    debug_assert!(std::str::from_utf8(bytes).is_ok());
    // SAFETY: a packed set is made of `&str` by the builder, checked whole by `from_packed`, or comes out of a set
    // (`trusted`, `filter_into`): invariant (4). `rest` lies at the begin of a string, where the last call left it.
    Some(unsafe { std::str::from_utf8_unchecked(bytes) })
}

/// Bytes that both begin with.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    const WORD: usize = 8;
    let words = a.chunks_exact(WORD).zip(b.chunks_exact(WORD)).take_while(|(a, b)| a == b).count() * WORD;
    words + a[words..].iter().zip(&b[words..]).take_while(|(a, b)| a == b).count()
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut at = 0;
    let bytes = take_checked(rest, &mut at)?;
    *rest = &rest[at..];
    Some(bytes)
}

fn take_checked<'a>(packed: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let mut len = 0usize;
    for shift in [0u32, 7, 14, 21, 28] {
        let byte = *packed.get(*at)?;
        *at += 1;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let bytes = packed.get(*at..at.checked_add(len)?)?;
            *at += len;
            return Some(bytes);
        }
    }
    None
}

fn check_utf8(bytes: &[u8]) -> Result<(), LabelError> {
    if bytes.is_ascii() {
        return Ok(());
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(_) => Err(LabelError::NotUtf8 { lossy: String::from_utf8_lossy(bytes).into_owned() }),
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Labels) -> bool {
        self.0 == other.0
    }
}
impl Eq for Labels {}
impl PartialEq for LabelsRef<'_> {
    fn eq(&self, other: &LabelsRef<'_>) -> bool {
        self.0 == other.0
    }
}
impl Eq for LabelsRef<'_> {}
impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl Hash for LabelsRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
/// Lets a map keyed by [`Labels`] be probed with packed bytes; both hash the same bytes.
impl Borrow<[u8]> for Labels {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}
impl Ord for LabelsRef<'_> {
    fn cmp(&self, other: &LabelsRef<'_>) -> Ordering {
        // Names and values alternate, so pairs compare as their strings do one after another. Those that end in what is
        // the same at the beginning of both are.
        let same = common_prefix(self.0, other.0);
        let (mut rest, mut skipped) = (self.0, 0);
        while take_bytes(&mut rest).is_some() && self.0.len() - rest.len() <= same {
            skipped = self.0.len() - rest.len();
        }
        let (mut a, mut b) = (&self.0[skipped..], &other.0[skipped..]);
        loop {
            match (take_bytes(&mut a), take_bytes(&mut b)) {
                (Some(x), Some(y)) if x == y => {}
                (x, y) => return x.cmp(&y),
            }
        }
    }
}
impl PartialOrd for LabelsRef<'_> {
    fn partial_cmp(&self, other: &LabelsRef<'_>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> Ordering {
        self.as_ref().cmp(&other.as_ref())
    }
}
impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Default for Labels {
    fn default() -> Labels {
        Labels::empty()
    }
}
/// As Prometheus writes a series: `name{label="value", …}`, quoted where a name is not a legacy one.
impl fmt::Display for LabelsRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SeriesText(self.iter()).fmt(f)
    }
}
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}
impl fmt::Debug for LabelsRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_set_is_sorted_and_an_empty_value_is_absent() {
        let labels = Labels::from_pairs([("z", "1"), ("a", "2"), ("gone", ""), ("z", "3")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "2"), ("z", "3")]);
        assert_eq!(labels.get("gone"), None);
        assert_eq!(labels.to_string(), r#"{a="2", z="3"}"#);
    }

    #[test]
    fn build_names_the_fault() {
        let mut builder = LabelsBuilder::new();
        builder.push("a", "1");
        builder.push("a", "");
        assert_eq!(builder.build(), Err(LabelError::Duplicate { name: "a".into() }));
        builder.clear();
        builder.push("", "x");
        assert_eq!(builder.build(), Err(LabelError::EmptyName { value: "x".into() }));
    }

    #[test]
    fn packed_bytes_from_outside_are_checked() {
        let good = Labels::from_pairs([("a", "1"), ("b", "2")]);
        assert!(LabelsRef::from_packed(good.as_ref().packed()).is_ok());
        for bad in [&[1, b'a'][..], &[0, 1, b'x'], &[1, b'a', 0], &[1, b'b', 1, b'x', 1, b'a', 1, b'x'], &[0xff; 6]] {
            assert!(LabelsRef::from_packed(bad).is_err(), "{bad:?}");
        }
        assert!(matches!(LabelsRef::from_packed(&[1, 0xff, 1, b'x']), Err(LabelError::NotUtf8 { .. })));
        // UTF-8 as a whole, but the name ends in the middle of a character: the length of the value is the rest of it.
        let mut split = vec![2, b'a', 0xc3, 0xa9, 1];
        split.resize(5 + 169, b'x');
        assert!(std::str::from_utf8(&split).is_ok());
        assert!(matches!(LabelsRef::from_packed(&split), Err(LabelError::NotUtf8 { .. })));
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_pairs(a in pairs(), b in pairs()) {
            let (x, y) = (Labels::from_pairs(a), Labels::from_pairs(b));
            let wanted = x.iter().collect::<Vec<_>>().cmp(&y.iter().collect::<Vec<_>>());
            prop_assert_eq!(x.cmp(&y), wanted);
            prop_assert_eq!(x == y, wanted == Ordering::Equal);
        }

        #[test]
        fn order_is_that_of_the_pairs_where_much_is_the_same(
            parts in proptest::collection::vec(("[ab]{1,2}", "[ab]{1,2}", 0..150usize, 0..3u8), 0..6),
        ) {
            // As long as a length of two bytes, and different only at the end.
            let value = |n: usize, end: &str| "v".repeat(n) + end;
            let left = parts.iter().map(|(name, end, n, _)| (name.clone(), value(*n, end)));
            let right = parts.iter().filter(|part| part.3 > 0).map(|(name, end, n, change)| {
                (name.clone(), value(n + usize::from(*change == 2), end))
            });
            let (x, y) = (Labels::from_pairs(left), Labels::from_pairs(right));
            let wanted = x.iter().collect::<Vec<_>>().cmp(&y.iter().collect::<Vec<_>>());
            prop_assert_eq!(x.cmp(&y), wanted);
            prop_assert_eq!(y.cmp(&x), wanted.reverse());
        }

        #[test]
        fn any_bytes_are_refused_or_sound(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(labels) = LabelsRef::from_packed(&bytes) {
                let again = Labels::from_pairs(labels.iter());
                prop_assert!(again.iter().eq(labels.iter()));
            }
        }
    }

    /// What [`LabelsRef::from_packed`] says, string for string.
    fn is_sound(packed: &[u8]) -> bool {
        let (mut at, mut before) = (0, String::new());
        while at < packed.len() {
            let mut text = || String::from_utf8(take_checked(packed, &mut at)?.to_vec()).ok();
            let (Some(name), Some(value)) = (text(), text()) else { return false };
            if name <= before || value.is_empty() {
                return false;
            }
            before = name;
        }
        true
    }

    proptest! {
        #[test]
        fn sets_that_were_changed_are_refused_or_sound(
            pairs in proptest::collection::vec(("[a-z\u{e9}\u{20ac}]{1,9}", "[ -~]{1,200}|\\PC{1,9}"), 0..5),
            change in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
        ) {
            let mut packed = Labels::from_pairs(pairs).as_ref().packed().to_vec();
            prop_assert!(LabelsRef::from_packed(&packed).is_ok());
            if let Some((at, byte)) = change.filter(|_| !packed.is_empty()) {
                let at = at.index(packed.len());
                packed[at] = byte;
            }
            prop_assert_eq!(LabelsRef::from_packed(&packed).is_ok(), is_sound(&packed), "{:?}", packed);
        }
    }

    fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
        proptest::collection::vec(("[a-c]{0,2}", "[a-c\u{e9}]{0,3}"), 0..4)
    }
}
