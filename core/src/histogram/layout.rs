//! From spans and counts to numbered buckets and back.

use std::iter::FusedIterator;

use super::BucketSpan;

/// The numbers of the buckets that spans name, from either end.
///
/// Numbers beyond an `i32` (only unchecked spans name such) saturate.
#[derive(Debug, Clone)]
pub(super) struct Indices<'a> {
    spans: &'a [BucketSpan],
    /// Number of the next bucket from the front, and how many are left in its span.
    front: i64,
    front_left: u32,
    /// One past the next bucket from the back, how many are left in its span, and that span's gap.
    back_end: i64,
    back_left: u32,
    back_offset: i32,
    left: u64,
}

impl<'a> Indices<'a> {
    pub(super) fn new(spans: &'a [BucketSpan]) -> Indices<'a> {
        let back_end = spans.iter().map(|s| i64::from(s.offset) + i64::from(s.len)).sum();
        let left = spans.iter().map(|s| u64::from(s.len)).sum();
        Indices { spans, front: 0, front_left: 0, back_end, back_left: 0, back_offset: 0, left }
    }

    /// Ends after `len` numbers, so that spans which name more buckets than there are counts cost nothing.
    pub(super) fn at_most(mut self, len: usize) -> Indices<'a> {
        self.left = self.left.min(len as u64);
        self
    }
}

fn number(index: i64) -> i32 {
    index.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

impl Iterator for Indices<'_> {
    type Item = i32;

    fn next(&mut self) -> Option<i32> {
        self.left = self.left.checked_sub(1)?;
        while self.front_left == 0 {
            let Some((first, rest)) = self.spans.split_first() else {
                // What is left belongs to the span the back is in.
                let index = self.back_end - i64::from(self.back_left);
                self.back_left -= 1;
                return Some(number(index));
            };
            self.spans = rest;
            self.front += i64::from(first.offset);
            self.front_left = first.len;
        }
        self.front_left -= 1;
        self.front += 1;
        Some(number(self.front - 1))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl DoubleEndedIterator for Indices<'_> {
    fn next_back(&mut self) -> Option<i32> {
        self.left = self.left.checked_sub(1)?;
        while self.back_left == 0 {
            self.back_end -= i64::from(self.back_offset);
            self.back_offset = 0;
            let Some((last, rest)) = self.spans.split_last() else {
                // What is left belongs to the span the front is in.
                self.front_left -= 1;
                return Some(number(self.front + i64::from(self.front_left)));
            };
            self.spans = rest;
            self.back_left = last.len;
            self.back_offset = last.offset;
        }
        self.back_left -= 1;
        self.back_end -= 1;
        Some(number(self.back_end))
    }
}

impl FusedIterator for Indices<'_> {}

/// Numbered buckets in rising order. Ends with the shorter of the two.
pub(super) fn entries<'a, T: Copy>(spans: &'a [BucketSpan], counts: &'a [T]) -> impl Iterator<Item = (i32, T)> + 'a {
    Indices::new(spans).zip(counts.iter().copied())
}

/// Spans and counts of buckets given in strictly rising order; neighbours share a span.
pub(super) fn from_entries<T>(entries: impl IntoIterator<Item = (i32, T)>) -> (Vec<BucketSpan>, Vec<T>) {
    let (mut spans, mut counts): (Vec<BucketSpan>, Vec<T>) = (Vec::new(), Vec::new());
    let mut end = 0i64;
    for (index, count) in entries {
        counts.push(count);
        let index = i64::from(index);
        match spans.last_mut() {
            Some(span) if index == end => span.len += 1,
            // The gap of two i32 may exceed one; such histograms are not valid and stay so.
            _ => spans.push(BucketSpan { offset: number(index - end), len: 1 }),
        }
        end = index + 1;
    }
    (spans, counts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans() -> impl Strategy<Value = Vec<BucketSpan>> {
        let later = prop::collection::vec((0i32..4, 0u32..4), 0..5);
        (-8i32..8, 0u32..4, later).prop_map(|(offset, len, later)| {
            let rest = later.into_iter().map(|(offset, len)| BucketSpan { offset, len });
            std::iter::once(BucketSpan { offset, len }).chain(rest).collect()
        })
    }

    proptest! {
        #[test]
        fn both_ends_meet_wherever_they_are_pulled(spans in spans(), from_back in prop::collection::vec(any::<bool>(), 40)) {
            let forward: Vec<i32> = Indices::new(&spans).collect();
            let mut backward: Vec<i32> = Indices::new(&spans).rev().collect();
            backward.reverse();
            prop_assert_eq!(&forward, &backward);
            let (mut front, mut back) = (Vec::new(), Vec::new());
            let mut both = Indices::new(&spans);
            for from_back in from_back {
                let Some(index) = (if from_back { both.next_back() } else { both.next() }) else { break };
                if from_back { back.push(index) } else { front.push(index) }
            }
            front.extend(both);
            front.extend(back.into_iter().rev());
            prop_assert_eq!(forward, front);
        }

        #[test]
        fn entries_and_spans_are_inverse(spans in spans()) {
            let numbered: Vec<(i32, u32)> = Indices::new(&spans).zip(0..).collect();
            let (normal, counts) = from_entries(numbered.iter().copied());
            prop_assert_eq!(entries(&normal, &counts).collect::<Vec<_>>(), numbered);
            prop_assert!(normal.iter().skip(1).all(|s| s.offset > 0) && normal.iter().all(|s| s.len > 0));
        }
    }
}
