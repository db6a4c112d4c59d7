//! The head's index: which series carry which label.

use std::hash::BuildHasher;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use foldhash::HashMap;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use kymo_core::{Labels, Matcher};
use roaring::RoaringBitmap;

use crate::select::VALUES_PER_CHECK;

/// About what a value takes beside its text: the counts before it, and an entry of the table.
const BYTES_PER_VALUE: usize = 80;
/// About what a bitmap takes beside its numbers: its first containers.
const BYTES_PER_BITMAP: usize = 176;

/// So many values of a label are listed in order. More would keep writers waiting while they are sorted.
const SORTED_MAX: usize = 1 << 13;

/// So many numbers that follow each other are added as a range, which a bitmap may then keep as first and last: with fewer that
/// would take more than the numbers do.
const RANGE_MIN: usize = 64;

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
    numbers: HashTable<(Arc<str>, Carriers)>,
    hasher: RandomState,
    /// All in order, from when they are first listed until there is one more or less.
    sorted: OnceLock<Box<[Arc<str>]>>,
}

/// The series that have a value of a label: of an id or an address mostly one, which needs no bitmap.
#[derive(Debug)]
pub(crate) enum Carriers {
    One(u32),
    Many(RoaringBitmap),
}

const _: () = assert!(size_of::<Carriers>() == size_of::<RoaringBitmap>());

impl Carriers {
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let (one, many) = match self {
            Carriers::One(number) => (Some(*number), None),
            Carriers::Many(numbers) => (None, Some(numbers)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn len(&self) -> u64 {
        match self {
            Carriers::One(_) => 1,
            Carriers::Many(numbers) => numbers.len(),
        }
    }

    fn to_bitmap(&self) -> RoaringBitmap {
        match self {
            Carriers::One(number) => RoaringBitmap::from_iter([*number]),
            Carriers::Many(numbers) => numbers.clone(),
        }
    }

    fn add_to(&self, sum: &mut RoaringBitmap) {
        match self {
            Carriers::One(number) => {
                sum.insert(*number);
            }
            Carriers::Many(numbers) => *sum |= numbers,
        }
    }

    /// Adds numbers, at least one, that are not there, or the only one that is; gives by how much what it takes grows.
    fn add(&mut self, added: RangeInclusive<u32>) -> usize {
        let (first, last) = (*added.start(), *added.end());
        match self {
            Carriers::One(only) if first == last && first == *only => 0,
            Carriers::One(_) => {
                *self = Carriers::Many(self.to_bitmap());
                self.add(added);
                self.bytes()
            }
            Carriers::Many(numbers) => {
                let count = (last - first) as usize + 1;
                if count >= RANGE_MIN {
                    numbers.insert_range(added);
                } else {
                    for number in added {
                        // Mostly it is the highest so far.
                        if numbers.try_push(number).is_err() {
                            numbers.insert(number);
                        }
                    }
                }
                count * NUMBER_BYTES
            }
        }
    }

    fn keep_of(&self, found: &mut RoaringBitmap) {
        match self {
            Carriers::One(number) => {
                let is_found = found.contains(*number);
                found.clear();
                found.extend(is_found.then_some(*number));
            }
            Carriers::Many(numbers) => *found &= numbers,
        }
    }

    /// What it takes beside the entry of its value.
    fn bytes(&self) -> usize {
        match self {
            Carriers::One(_) => 0,
            Carriers::Many(numbers) => BYTES_PER_BITMAP + numbers.len() as usize * NUMBER_BYTES,
        }
    }
}

impl Values {
    fn sorted(&self) -> &[Arc<str>] {
        self.sorted.get_or_init(|| {
            let mut sorted: Box<[Arc<str>]> = self.numbers.iter().map(|(value, _)| Arc::clone(value)).collect();
            sorted.sort_unstable();
            sorted
        })
    }

    fn get(&self, value: &str) -> Option<&Carriers> {
        let entry = self.numbers.find(self.hasher.hash_one(value), |entry| &*entry.0 == value);
        entry.map(|(_, carriers)| carriers)
    }

    /// Adds numbers, at least one, which the value has not; gives by how much what is held grows.
    fn add(&mut self, value: &str, added: RangeInclusive<u32>) -> usize {
        let Values { numbers, hasher, sorted } = self;
        let hash = hasher.hash_one(value);
        match numbers.entry(hash, |entry| &*entry.0 == value, |entry| hasher.hash_one(&*entry.0)) {
            Entry::Occupied(found) => found.into_mut().1.add(added),
            Entry::Vacant(place) => {
                sorted.take();
                let mut carriers = Carriers::One(*added.start());
                let bytes = carriers.add(added);
                place.insert((Arc::from(value), carriers));
                BYTES_PER_VALUE + value.len() + bytes
            }
        }
    }

    /// Takes a number out; gives by how much what is held shrinks.
    fn remove(&mut self, value: &str, number: u32) -> usize {
        let Values { numbers, hasher, sorted } = self;
        let Ok(mut found) = numbers.find_entry(hasher.hash_one(value), |entry| &*entry.0 == value) else { return 0 };
        let carriers = &mut found.get_mut().1;
        let before = carriers.bytes();
        let is_last = match carriers {
            Carriers::One(only) => *only == number,
            Carriers::Many(numbers) => {
                numbers.remove(number);
                numbers.is_empty()
            }
        };
        if !is_last {
            return before - carriers.bytes();
        }
        sorted.take();
        found.remove();
        if numbers.len() < numbers.capacity() / 4 {
            numbers.shrink_to_fit(|entry| hasher.hash_one(&*entry.0));
        }
        before + BYTES_PER_VALUE + value.len()
    }
}

impl Postings {
    /// Adds a series, which is not there.
    pub(crate) fn add(&mut self, number: u32, labels: &Labels) {
        self.all.insert(number);
        self.bytes += NUMBER_BYTES;
        labels.into_iter().for_each(|(name, value)| self.add_label(name, value, number..=number));
    }

    /// Adds series that are not there. Those with following numbers mostly have most labels alike, which are looked for once.
    pub(crate) fn add_all(&mut self, series: &[(u32, Labels)]) {
        // Where in `following` the label at each place began to be what it is.
        let mut since: Vec<usize> = Vec::new();
        for following in series.chunk_by(|(number, _), (next, _)| number.checked_add(1) == Some(*next)) {
            let [(first, labels), ..] = following else { continue };
            self.all.insert_range(*first..=first + (following.len() - 1) as u32);
            self.bytes += NUMBER_BYTES * following.len();
            since.clear();
            since.resize(labels.as_ref().iter().count(), 0);
            let mut before = labels;
            for (at, (number, labels)) in following.iter().enumerate().skip(1) {
                let (mut old, mut new) = (before.into_iter(), labels.into_iter());
                let mut place = 0;
                loop {
                    let (was, is) = (old.next(), new.next());
                    if was.is_none() && is.is_none() {
                        break;
                    }
                    if was != is {
                        if let Some((name, value)) = was {
                            self.add_label(name, value, first + since[place] as u32..=number - 1);
                        }
                        match since.get_mut(place) {
                            Some(since) => *since = at,
                            None => since.push(at),
                        }
                    }
                    place += 1;
                }
                before = labels;
            }
            let last = first + (following.len() - 1) as u32;
            for ((name, value), since) in before.into_iter().zip(&since) {
                self.add_label(name, value, first + *since as u32..=last);
            }
        }
    }

    fn add_label(&mut self, name: &str, value: &str, numbers: RangeInclusive<u32>) {
        let values = match self.names.get_mut(name) {
            Some(values) => values,
            None => self.names.entry(Arc::from(name)).or_default(),
        };
        self.bytes += values.add(value, numbers);
    }

    /// Removes a series, which is there with these labels.
    pub(crate) fn remove(&mut self, number: u32, labels: &Labels) {
        self.all.remove(number);
        self.bytes -= NUMBER_BYTES;
        for (name, value) in labels {
            let Some(values) = self.names.get_mut(name) else { continue };
            self.bytes -= values.remove(value, number);
            if values.numbers.is_empty() {
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
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = (&str, &Carriers)> {
        let values = self.names.get(name).into_iter().flat_map(|values| &values.numbers);
        values.map(|(value, carriers)| (&**value, carriers))
    }

    /// All values of a label in order, where they are not too many to sort while writers wait.
    pub(crate) fn sorted_values(&self, name: &str) -> Option<&[Arc<str>]> {
        match self.names.get(name) {
            Some(values) => (values.numbers.len() <= SORTED_MAX).then(|| values.sorted()),
            None => Some(&[]),
        }
    }

    /// The series that have this value of a label.
    pub(crate) fn carriers(&self, name: &str, value: &str) -> Option<&Carriers> {
        self.names.get(name)?.get(value)
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
                    let Some(carriers) = self.carriers(matcher.name(), literal) else {
                        return Ok(RoaringBitmap::new());
                    };
                    plain.push(carriers);
                }
                _ => sought.push(matcher),
            }
        }
        plain.sort_by_key(|carriers| carriers.len());
        let mut found: Option<RoaringBitmap> = None;
        for carriers in plain {
            match &mut found {
                Some(found) => carriers.keep_of(found),
                None => found = Some(carriers.to_bitmap()),
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
        let Some(values) = self.names.get(matcher.name()) else { return Ok(sum) };
        // The literals of `=`, `!=`, `=~ a|b` and `!~ a|b` are just the values that the positive form accepts.
        if let Some(literals) = matcher.literals().filter(|_| wanted != matcher.is_negative()) {
            let accepted = literals.iter().filter(|literal| also.iter().all(|also| also.matches(literal)));
            accepted.filter_map(|literal| values.get(literal)).for_each(|carriers| carriers.add_to(&mut sum));
            return Ok(sum);
        }
        for (at, (value, carriers)) in values.numbers.iter().enumerate() {
            if at.is_multiple_of(VALUES_PER_CHECK) {
                check()?;
            }
            if matcher.matches(value) == wanted && also.iter().all(|also| also.matches(value)) {
                carriers.add_to(&mut sum);
            }
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use kymo_core::MatchOp;
    use proptest::prelude::*;

    use super::*;

    /// Values of a label that most series share, some share, and one has alone.
    fn labels() -> impl Strategy<Value = Labels> {
        (0..2u8, 0..6u8, 0..40u8).prop_map(|(job, host, id)| {
            let host = if host == 0 { String::new() } else { format!("host-{host}") };
            Labels::from_pairs([("job", format!("job-{job}")), ("host", host), ("id", id.to_string())])
        })
    }

    fn matchers() -> impl Strategy<Value = Vec<Matcher>> {
        let op = prop::sample::select(vec![MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex]);
        let texts = ["", "job-1", "host-3", "7", "17", "host-[1-3]", "1|2|3", ".*1", ".+"];
        let matcher =
            (prop::sample::select(vec!["job", "host", "id", "none"]), op, prop::sample::select(texts.to_vec()));
        prop::collection::vec(matcher.prop_map(|(name, op, text)| Matcher::new(name, op, text).unwrap()), 1..4)
    }

    #[test]
    fn many_that_follow_each_other_are_added_as_one_by_one() {
        // Runs of one, of some, and of more than stand in one container of a bitmap.
        let labels = |n: u32| {
            let host = if n < 70_000 { 0 } else { n / 50 };
            Labels::from_pairs([("job", "node".to_owned()), ("host", host.to_string()), ("id", (n % 7).to_string())])
        };
        let series: Vec<(u32, Labels)> = (0..71_000).chain(80_000..80_300).map(|n| (n, labels(n))).collect();
        let (mut at_once, mut one_by_one) = (Postings::default(), Postings::default());
        series.chunks(1_024).for_each(|few| at_once.add_all(few));
        series.iter().for_each(|(number, labels)| one_by_one.add(*number, labels));
        assert_eq!((at_once.bytes(), &at_once.all), (one_by_one.bytes(), &one_by_one.all));
        for name in ["job", "host", "id"] {
            let of = |postings: &Postings| -> BTreeMap<String, RoaringBitmap> {
                postings.values(name).map(|(value, carriers)| (value.to_owned(), carriers.to_bitmap())).collect()
            };
            assert_eq!(of(&at_once), of(&one_by_one), "{name}");
        }
        series.iter().for_each(|(number, labels)| at_once.remove(*number, labels));
        assert_eq!((at_once.bytes(), at_once.names().count()), (0, 0));
    }

    proptest! {
        #[test]
        fn the_index_finds_what_looking_at_each_series_does(
            steps in prop::collection::vec((labels(), any::<prop::sample::Index>(), 0..3u8), 1..120),
            asked in prop::collection::vec(matchers(), 8),
        ) {
            let (mut postings, mut model, mut waiting) = (Postings::default(), BTreeMap::new(), Vec::new());
            for (number, (labels, which, kind)) in steps.into_iter().enumerate() {
                // Made now, so that every later change must show in it.
                postings.sorted_values("id");
                if kind == 0 && !model.is_empty() {
                    postings.add_all(&std::mem::take(&mut waiting));
                    let gone = *which.get(&model.keys().copied().collect::<Vec<u32>>());
                    postings.remove(gone, &model.remove(&gone).unwrap());
                } else {
                    match kind {
                        1 => postings.add(number as u32, &labels),
                        _ => waiting.push((number as u32, labels.clone())),
                    }
                    model.insert(number as u32, labels);
                }
            }
            postings.add_all(&waiting);
            for matchers in asked {
                let found = postings.select(&matchers, &|| Ok::<(), Infallible>(())).unwrap();
                let is_met = |labels: &Labels| matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")));
                let wanted = model.iter().filter(|(_, labels)| is_met(labels)).map(|(number, _)| *number);
                prop_assert_eq!(found.into_iter().collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "{:?}", matchers);
            }
            for name in ["job", "host", "id", "none"] {
                let mut wanted: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
                for (number, labels) in &model {
                    if let Some(value) = labels.get(name) {
                        wanted.entry(value).or_default().push(*number);
                    }
                }
                prop_assert_eq!(postings.names().any(|other| other == name), !wanted.is_empty());
                let listed = postings.sorted_values(name).unwrap().iter().map(|value| &**value);
                prop_assert_eq!(listed.collect::<Vec<_>>(), wanted.keys().copied().collect::<Vec<_>>());
                let carriers = postings.values(name).map(|(value, carriers)| (value, carriers.iter().collect()));
                prop_assert_eq!(carriers.collect::<BTreeMap<_, Vec<u32>>>(), wanted);
            }
            for (number, labels) in &model {
                postings.remove(*number, labels);
            }
            prop_assert_eq!((postings.bytes(), postings.names().count()), (0, 0));
        }
    }
}
