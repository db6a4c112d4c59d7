//! One series: its label values, when it began, and what is recorded in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::exemplar;
use crate::short;

/// A series of a family. Handles, and the family's table, share it. A counter's is 32 bytes; the table needs three bits of
/// its address.
#[derive(Debug)]
#[repr(align(8))]
pub struct Node<V> {
    /// Label values as [`encode`] writes them, in the order of the family's label names; of a series that names its labels
    /// itself names and values in turn.
    labels: Box<[u8]>,
    /// When it was made: seconds since the Unix epoch (to the year 2106) and milliseconds in that second.
    born_s: u32,
    born_ms: u16,
    names_itself: bool,
    pub(super) marks: Marks,
    pub(super) value: V,
}

/// Small facts that others write, a bit each. Relaxed: they order nothing.
#[derive(Debug, Default)]
pub(super) struct Marks(AtomicU8);

#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Mark {
    /// Looked up since the family was last searched for idle series. Kept only in families with a time to live.
    LookedUp = 1,
    /// There are exemplars of it.
    HasExemplars = 2,
}

impl Marks {
    pub(super) fn set(&self, mark: Mark) {
        self.0.fetch_or(mark as u8, Relaxed);
    }

    /// Whether it was set; it is not any more.
    pub(super) fn take(&self, mark: Mark) -> bool {
        self.0.fetch_and(!(mark as u8), Relaxed) & mark as u8 != 0
    }

    pub(super) fn has(&self, mark: Mark) -> bool {
        self.0.load(Relaxed) & mark as u8 != 0
    }
}

impl<V> Node<V> {
    pub(super) fn new(labels: Box<[u8]>, names_itself: bool, now_ms: i64, value: V) -> Arc<Self> {
        let born_s = u32::try_from(now_ms.div_euclid(1_000)).unwrap_or(0);
        let born_ms = now_ms.rem_euclid(1_000) as u16;
        Arc::new(Self { labels, born_s, born_ms, names_itself, marks: Marks::default(), value })
    }

    pub(super) fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Milliseconds since the Unix epoch.
    pub(super) fn born_ms(&self) -> i64 {
        i64::from(self.born_s) * 1_000 + i64::from(self.born_ms)
    }

    /// Whether its labels are names and values: overflow series, and those of open families.
    pub(super) fn names_itself(&self) -> bool {
        self.names_itself
    }

    /// By what its exemplars are found.
    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<V> Drop for Node<V> {
    fn drop(&mut self) {
        if self.marks.has(Mark::HasExemplars) {
            exemplar::forget(self.address());
        }
    }
}

/// Appends one value: its length in bytes, seven bits a byte and the lowest first, and its bytes.
pub(super) fn encode(out: &mut Vec<u8>, value: &str) {
    let mut len = value.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(value.as_bytes());
}

/// Cuts the first value off.
pub(super) fn decode<'a>(encoded: &mut &'a [u8]) -> Option<&'a str> {
    let len = decode_len(encoded)?;
    let (value, rest) = encoded.split_at_checked(len)?;
    *encoded = rest;
    std::str::from_utf8(value).ok()
}

#[inline]
fn decode_len(encoded: &mut &[u8]) -> Option<usize> {
    let (&first, rest) = encoded.split_first()?;
    *encoded = rest;
    if first < 0x80 {
        return Some(usize::from(first));
    }
    let mut len = usize::from(first & 0x7f);
    for shift in (7..usize::BITS).step_by(7) {
        let (&byte, rest) = encoded.split_first()?;
        *encoded = rest;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(len);
        }
    }
    None
}

/// Whether the first value is this one, which is then cut off.
#[inline(always)]
pub(super) fn take_equal(encoded: &mut &[u8], value: &str) -> bool {
    let value = value.as_bytes();
    let (len, rest) = match encoded.split_first() {
        Some((&len, rest)) if len < 0x80 => (usize::from(len), rest),
        _ => match decode_len(encoded) {
            Some(len) => (len, *encoded),
            None => return false,
        },
    };
    if len != value.len() {
        return false;
    }
    match rest.split_at_checked(len) {
        Some((found, rest)) => {
            *encoded = rest;
            short::equal(found, value)
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_are_read_back_and_told_apart(values in prop::collection::vec(".{0,40}", 0..5), other in ".{0,40}") {
            let mut encoded = Vec::new();
            values.iter().for_each(|value| encode(&mut encoded, value));
            let mut rest = encoded.as_slice();
            for value in &values {
                let mut same = rest;
                prop_assert!(take_equal(&mut same, value));
                let mut different = rest;
                prop_assert_eq!(take_equal(&mut different, &other), *value == other);
                prop_assert_eq!(decode(&mut rest), Some(value.as_str()));
                prop_assert_eq!(rest, same);
            }
            prop_assert_eq!(decode(&mut rest), None);
        }
    }

    #[test]
    fn long_values_and_every_length_compare_right() {
        for len in (0..70).chain([127, 128, 300, 20_000]) {
            let value = "ab€x".repeat(len)[..].chars().take(len).collect::<String>();
            let mut encoded = Vec::new();
            encode(&mut encoded, &value);
            assert!(take_equal(&mut encoded.as_slice(), &value), "{len}");
            for at in (0..value.len()).filter(|at| value.is_char_boundary(*at) && value.is_char_boundary(at + 1)) {
                let mut changed = value.clone();
                changed.replace_range(at..=at, "#");
                assert!(!take_equal(&mut encoded.as_slice(), &changed), "{len} at {at}");
            }
        }
    }

    #[test]
    fn times_keep_their_milliseconds() {
        for ms in [0, 1_700_000_000_123, 4_294_967_295_999] {
            assert_eq!(Node::new(Box::default(), false, ms, ()).born_ms(), ms);
        }
    }
}
