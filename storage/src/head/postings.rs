//! The head's index: which series carry which label.

use std::sync::{Arc, OnceLock};

use foldhash::HashMap;
use kymo_core::{Labels, Matcher};
use roaring::RoaringBitmap;

use crate::select::VALUES_PER_CHECK;

/// About what a value takes beside its text and its numbers: entries of maps, a bitmap and its first container.
const BYTES_PER_VALUE: usize = 144;

/// So many values of a label are listed in order. More would keep writers waiting while they are sorted.
const SORTED_MAX: usize = 1 << 13;

/// What a number takes in a bitmap that holds many.
const NUMBER_BYTES: usize = 2;

/// Label name → value → series numbers.
#[derive(Debug, Default)]
pub(crate) struct Postings {
    all: RoaringBitmap,
    names: HashMap<Arc<str>, Values>,
    /// About what the maps hold.
    bytes: usize,
}

/// The values of a label.
#[derive(Debug, Default)]
struct Values {
    numbers: HashMap<Arc<str>, RoaringBitmap>,
    /// All in order, from when they are first listed until there is one more or less.
    sorted: OnceLock<Box<[Arc<str>]>>,
}

impl Values {
    fn sorted(&self) -> &[Arc<str>] {
        self.sorted.get_or_init(|| {
            let mut sorted: Box<[Arc<str>]> = self.numbers.keys().cloned().collect();
            sorted.sort_unstable();
            sorted
        })
    }
}

impl Postings {
    pub(crate) fn add(&mut self, number: u32, labels: &Labels) {
        self.all.insert(number);
        self.bytes += NUMBER_BYTES;
        for (name, value) in labels {
            self.bytes += NUMBER_BYTES;
            let values = match self.names.get_mut(name) {
                Some(values) => values,
                None => self.names.entry(Arc::from(name)).or_default(),
            };
            match values.numbers.get_mut(value) {
                Some(numbers) => {
                    numbers.insert(number);
                }
                None => {
                    self.bytes += BYTES_PER_VALUE + value.len();
                    values.sorted.take();
                    values.numbers.insert(Arc::from(value), RoaringBitmap::from_iter([number]));
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, number: u32, labels: &Labels) {
        self.all.remove(number);
        self.bytes -= NUMBER_BYTES;
        for (name, value) in labels {
            self.bytes -= NUMBER_BYTES;
            let Some(Values { numbers: values, sorted }) = self.names.get_mut(name) else { continue };
            if let Some(numbers) = values.get_mut(value) {
                numbers.remove(number);
                if numbers.is_empty() {
                    self.bytes -= BYTES_PER_VALUE + value.len();
                    sorted.take();
                    values.remove(value);
                    if values.len() < values.capacity() / 4 {
                        values.shrink_to_fit();
                    }
                }
            }
            if values.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// About how many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back memory that removals left behind.
    pub(crate) fn shrink(&mut self) {
        self.names.shrink_to_fit();
    }

    /// All label names, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    /// All values of a label with the series that have them, in no order.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = (&str, &RoaringBitmap)> {
        self.names.get(name).into_iter().flat_map(|values| &values.numbers).map(|(value, numbers)| (&**value, numbers))
    }

    /// All values of a label in order, where they are not too many to sort while writers wait.
    pub(crate) fn sorted_values(&self, name: &str) -> Option<&[Arc<str>]> {
        match self.names.get(name) {
            Some(values) => (values.numbers.len() <= SORTED_MAX).then(|| values.sorted()),
            None => Some(&[]),
        }
    }

    /// The series that have this value of a label.
    pub(crate) fn carriers(&self, name: &str, value: &str) -> Option<&RoaringBitmap> {
        self.names.get(name)?.numbers.get(value)
    }

    /// Numbers of the series that satisfy all matchers. Fails only when `check` does, which is asked now and then.
    pub(crate) fn select<E>(
        &self,
        matchers: &[Matcher],
        check: &impl Fn() -> Result<(), E>,
    ) -> Result<RoaringBitmap, E> {
        // What a label must have narrows first: sets that are there as they are, the smallest before the others, then
        // expressions. What it must not have is taken away after.
        let (mut not, must): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(|m| m.matches_empty());
        let mut plain = Vec::with_capacity(must.len());
        let mut sought = Vec::new();
        for matcher in must {
            match matcher.literals() {
                Some([literal]) if !matcher.is_negative() => {
                    let numbers =
                        self.names.get(matcher.name()).and_then(|values| values.numbers.get(literal.as_str()));
                    let Some(numbers) = numbers else { return Ok(RoaringBitmap::new()) };
                    plain.push(numbers);
                }
                _ => sought.push(matcher),
            }
        }
        plain.sort_by_key(|numbers| numbers.len());
        let mut found: Option<RoaringBitmap> = None;
        for numbers in plain {
            match &mut found {
                Some(found) => *found &= numbers,
                None => found = Some(numbers.clone()),
            }
        }
        for matcher in sought {
            if found.as_ref().is_some_and(RoaringBitmap::is_empty) {
                break;
            }
            // A series has one value of a label, so whatever else is said of that label is asked of the values at hand.
            let also: Vec<&Matcher> = not.extract_if(.., |other| other.name() == matcher.name()).collect();
            let with = self.with(matcher, true, &also, check)?;
            found = Some(match found {
                Some(found) => found & with,
                None => with,
            });
        }
        let mut found = found.unwrap_or_else(|| self.all.clone());
        for matcher in not {
            if found.is_empty() {
                break;
            }
            found -= self.with(matcher, false, &[], check)?;
        }
        Ok(found)
    }

    /// Series that have the matcher's label with a value for which [`Matcher::matches`] gives `wanted`, and which all of `also`
    /// accept.
    fn with<E>(
        &self,
        matcher: &Matcher,
        wanted: bool,
        also: &[&Matcher],
        check: &impl Fn() -> Result<(), E>,
    ) -> Result<RoaringBitmap, E> {
        let mut sum = RoaringBitmap::new();
        let Some(Values { numbers: values, .. }) = self.names.get(matcher.name()) else { return Ok(sum) };
        // The literals of `=`, `!=`, `=~ a|b` and `!~ a|b` are just the values that the positive form accepts.
        if let Some(literals) = matcher.literals().filter(|_| wanted != matcher.is_negative()) {
            let accepted = literals.iter().filter(|literal| also.iter().all(|also| also.matches(literal)));
            accepted.filter_map(|literal| values.get(literal.as_str())).for_each(|numbers| sum |= numbers);
            return Ok(sum);
        }
        for (at, (value, numbers)) in values.iter().enumerate() {
            if at.is_multiple_of(VALUES_PER_CHECK) {
                check()?;
            }
            if matcher.matches(value) == wanted && also.iter().all(|also| also.matches(value)) {
                sum |= numbers;
            }
        }
        Ok(sum)
    }
}
