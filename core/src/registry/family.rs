//! A family: series by label values, with a limit and, if asked for, a time to live.
//!
//! Looking a series up takes no lock while it is there ([`Table`]); adding and removing one takes the family's.
//!
//! A family with a time to live is the exception: its look-ups take the lock too. A series may only leave when nobody can
//! be about to record in it, and that is known of handles that are counted, under the lock that gives them out.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::builder::RegisterError;
use super::handle::{Borrowed, Handle, Scoped};
use super::node::{self, Mark, Node};
use super::options::Options;
use super::table::Table;
use super::view::{FamilyView, RUN, Recorded, Scratch, SeriesLabels, SeriesView, Visit, labels_of};
use super::{Host, OVERFLOW_LABEL, Overflow};
use crate::metric::MetricKind;
use crate::random::{OsRandom, Random};
use crate::short;

#[cfg(not(kymo_portable))]
use crate::epoch::{self, Pin};

/// A family of series that differ in `N` label values.
#[derive(Debug, Clone)]
pub struct Family<M: Handle, const N: usize> {
    core: Arc<FamilyCore<M::Value>>,
    fixed: Arc<[(String, String)]>,
    /// Where the value of each of the family's labels comes from, in their order; empty when values are given in just that
    /// order.
    sources: Arc<[Source]>,
    handle: PhantomData<fn() -> M>,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Fixed(usize),
    Given(usize),
}

impl<M: Handle, const N: usize> Family<M, N> {
    /// `labels` and the names in `fixed` are those of the family's shape.
    pub(super) fn new(core: Arc<FamilyCore<M::Value>>, fixed: Vec<(String, String)>, labels: &[String; N]) -> Self {
        let is_plain = fixed.is_empty() && labels.is_sorted();
        let source = |name: &String| match fixed.iter().position(|(fixed, _)| fixed == name) {
            Some(index) => Source::Fixed(index),
            None => Source::Given(labels.iter().position(|label| label == name).unwrap_or(0)),
        };
        let sources = if is_plain { Arc::default() } else { core.shape.label_names.iter().map(source).collect() };
        Self { core, fixed: fixed.into(), sources, handle: PhantomData }
    }

    /// The handle of these label values, in the order in which the labels were named, to keep.
    ///
    /// A new series is made if the family has room, else this is the handle of its overflow series. Costs a look-up and the
    /// count of a holder, which threads share: keep the handle where it is used often, and use [`at`](Self::at) for one
    /// use.
    pub fn with(&self, values: [&str; N]) -> M {
        match self.find(&values) {
            Some(found) => (*found).clone(),
            None => M::of(self.node(&values)),
        }
    }

    /// The handle of these label values for one use: `family.at(["GET", path]).inc()`.
    ///
    /// As [`with`](Self::with), but a series that is there is found without a lock and without writing to anything that
    /// other threads use; it is held by this thread until the answer is dropped, which should be soon: what is removed
    /// meanwhile, anywhere in the process, is freed only then.
    #[inline]
    pub fn at(&self, values: [&str; N]) -> Borrowed<'_, M> {
        match self.find(&values) {
            Some(found) => found,
            None => Borrowed::owned(M::of(self.node(&values))),
        }
    }

    /// A handle whose series leaves the family when the last such handle is dropped: for what exists for a while, such as a
    /// connection. Handles of the same series that are not scoped go on but are no longer shown then.
    pub fn scoped(&self, values: [&str; N]) -> Scoped<M> {
        let node =
            self.core.enter(self.hash(&values), |node| self.is_it(node, &values), || self.encode(&values), &self.fixed);
        Scoped::new(M::of(node), Arc::clone(&self.core))
    }

    /// Takes a series out of the family. Handles to it go on but are no longer shown.
    ///
    /// Says whether there was one.
    pub fn remove(&self, values: [&str; N]) -> bool {
        self.core.remove(self.hash(&values), |node| self.is_it(node, &values))
    }

    #[cfg(not(kymo_portable))]
    #[inline(always)]
    fn find(&self, values: &[&str; N]) -> Option<Borrowed<'_, M>> {
        let (node, pin) = self.find_pinned(values)?;
        Some(Borrowed::pinned(node, pin))
    }

    /// A node and the pin that keeps it: two words, which come back in registers where this is a call. A whole handle would
    /// come back through memory and be read in other pieces than it was written, which takes as long as a look-up.
    #[cfg(not(kymo_portable))]
    #[inline]
    fn find_pinned(&self, values: &[&str; N]) -> Option<(*const Node<M::Value>, Pin)> {
        if self.core.ttl.is_some() {
            return None;
        }
        let pin = Pin::new()?;
        let node: *const Node<M::Value> = match &*self.sources {
            [] => self.core.table.find(&pin, self.core.hash(values), |node| is_of(node, values))?,
            _ => self.find_in_order(&pin, values)?,
        };
        Some((node, pin))
    }

    /// Finds a series whose values were not given in the order of the family's labels.
    #[cfg(not(kymo_portable))]
    #[inline(never)]
    fn find_in_order<'a>(&self, pin: &'a Pin, values: &[&str; N]) -> Option<&'a Node<M::Value>> {
        self.core.table.find(pin, self.hash(values), |node| self.is_it(node, values))
    }

    #[cfg(kymo_portable)]
    fn find(&self, _: &[&str; N]) -> Option<Borrowed<'_, M>> {
        None
    }

    #[cold]
    fn node(&self, values: &[&str; N]) -> Arc<Node<M::Value>> {
        self.core.node(self.hash(values), |node| self.is_it(node, values), || self.encode(values), &self.fixed)
    }

    /// The value of the family's label from there.
    fn value<'a>(&'a self, values: &[&'a str; N], source: Source) -> &'a str {
        match source {
            Source::Fixed(index) => &self.fixed[index].1,
            Source::Given(index) => values[index],
        }
    }

    fn hash(&self, values: &[&str; N]) -> u64 {
        match &*self.sources {
            [] => self.core.hash(values),
            sources => short::hash(sources.iter().map(|source| self.value(values, *source)), &self.core.seeds),
        }
    }

    fn is_it(&self, node: &Node<M::Value>, values: &[&str; N]) -> bool {
        let mut encoded = node.labels();
        match &*self.sources {
            [] => is_of(node, values),
            sources => sources.iter().all(|source| node::take_equal(&mut encoded, self.value(values, *source))),
        }
    }

    fn encode(&self, values: &[&str; N]) -> Vec<u8> {
        let mut encoded = Vec::new();
        match &*self.sources {
            [] => values.iter().for_each(|value| node::encode(&mut encoded, value)),
            sources => sources.iter().for_each(|source| node::encode(&mut encoded, self.value(values, *source))),
        }
        encoded
    }
}

/// Whether a node has these values, given in the order of the family's labels.
#[inline(always)]
fn is_of<V, const N: usize>(node: &Node<V>, values: &[&str; N]) -> bool {
    let mut encoded = node.labels();
    // A loop and not `all`, which compilers with the whole program before them have left a call: a third more instructions.
    for value in values {
        if !node::take_equal(&mut encoded, value) {
            return false;
        }
    }
    true
}

/// What a family is. Two builders meet in one family only if they say the same.
#[derive(Debug)]
pub(super) struct FamilyShape {
    pub(super) name: String,
    pub(super) kind: MetricKind,
    pub(super) unit: String,
    pub(super) help: String,
    /// Sorted.
    pub(super) label_names: Vec<String>,
    /// Each series has labels of its own, as the `metrics` facade lets them have; `label_names` is empty then.
    pub(super) is_open: bool,
    pub(super) handle_type: &'static str,
    pub(super) options: Arc<Options>,
}

impl FamilyShape {
    fn check_same(&self, wanted: &Self) -> Result<(), RegisterError> {
        let what = if self.handle_type != wanted.handle_type {
            "type"
        } else if self.label_names != wanted.label_names || self.is_open != wanted.is_open {
            "set of labels"
        } else if self.unit != wanted.unit {
            "unit"
        } else if self.help != wanted.help {
            "help text"
        } else if !self.options.is_same(&wanted.options) {
            "set of buckets or quantiles"
        } else {
            return Ok(());
        };
        Err(RegisterError::Differs { family: self.name.clone(), what })
    }
}

/// A family without its handle type.
pub(super) struct FamilyCore<V: Recorded> {
    shape: FamilyShape,
    series_max: usize,
    ttl: Option<Duration>,
    /// Of hashes.
    seeds: [u64; 2],
    /// Changed only under `members`.
    table: Table<V>,
    /// Guards which series exist, not their values. Of other locks only that of the cells and that of retired things are
    /// taken under it.
    members: Mutex<Members<V>>,
    host: Arc<Host>,
    /// Unit and help of a family that was made before they were known.
    described: OnceLock<(&'static str, String)>,
}

impl<V: Recorded> fmt::Debug for FamilyCore<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FamilyCore").field("shape", &self.shape).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Members<V> {
    /// Series in the table.
    len: usize,
    /// Beyond `series_max`, by their encoded labels; not counted against it.
    overflow: BTreeMap<Box<[u8]>, Arc<Node<V>>>,
    /// Which label had the most distinct values when the limit was met.
    overflow_label: Option<String>,
    /// All series in their order, until one comes or goes.
    sorted: Option<Arc<[Arc<Node<V>>]>>,
    /// How often they were put in order: which order it is.
    order: u64,
    /// Scoped handles by address of their series.
    scoped: BTreeMap<usize, usize>,
    /// When series were last seen in use, by address; only with a time to live.
    seen: BTreeMap<usize, Duration>,
}

/// A family whatever is recorded in it.
pub(super) trait AnyFamily: fmt::Debug + Send + Sync {
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn shape(&self) -> &FamilyShape;
    fn visit(&self, scratch: &mut Scratch, visitor: &mut dyn Visit);
    /// Says unit and help of a family that has none; the first to say so is heard.
    #[cfg(feature = "metrics")]
    fn describe(&self, unit: &'static str, help: &str);
}

/// The known family if it is what is wanted.
pub(super) fn same<V: Recorded>(
    known: &Arc<dyn AnyFamily>,
    wanted: &FamilyCore<V>,
) -> Result<Arc<FamilyCore<V>>, RegisterError> {
    known.shape().check_same(&wanted.shape)?;
    // One handle type has one type of values, so this is always the right one.
    let family = Arc::clone(known).into_any().downcast();
    family.map_err(|_| RegisterError::Differs { family: wanted.shape.name.clone(), what: "type" })
}

impl<V: Recorded> AnyFamily for FamilyCore<V> {
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn shape(&self) -> &FamilyShape {
        &self.shape
    }

    #[cfg(feature = "metrics")]
    fn describe(&self, unit: &'static str, help: &str) {
        if self.shape.help.is_empty() && self.shape.unit.is_empty() {
            self.described.get_or_init(|| (unit, help.to_owned()));
        }
    }

    fn visit(&self, scratch: &mut Scratch, visitor: &mut dyn Visit) {
        let (series, order) = self.series();
        let (unit, help) = match self.described.get() {
            Some((unit, help)) => (*unit, help.as_str()),
            None => (self.shape.unit.as_str(), self.shape.help.as_str()),
        };
        visitor.family(&FamilyView {
            name: &self.shape.name,
            kind: self.shape.kind,
            unit,
            help,
            labels: &self.shape.label_names,
            len: series.len(),
            order,
        });
        for run in series.chunks(RUN) {
            V::read_run(run, scratch);
            if V::totals(scratch).is_some_and(|totals| visitor.totals(totals)) {
                continue;
            }
            for (index, node) in run.iter().enumerate() {
                visitor.series(&SeriesView {
                    names: &self.shape.label_names,
                    encoded: node.labels(),
                    names_itself: node.names_itself(),
                    created_ms: node.born_ms(),
                    exemplars: node.marks.has(Mark::HasExemplars).then(|| node.address()),
                    reading: node.value.reading(index, scratch),
                });
            }
        }
    }
}

impl<V: Recorded> FamilyCore<V> {
    pub(super) fn new(shape: FamilyShape, series_max: usize, ttl: Option<Duration>, host: Arc<Host>) -> Self {
        let members = Members {
            len: 0,
            overflow: BTreeMap::new(),
            overflow_label: None,
            sorted: None,
            order: 0,
            scoped: BTreeMap::new(),
            seen: BTreeMap::new(),
        };
        Self {
            shape,
            series_max,
            ttl,
            seeds: [OsRandom::new().next_u64(), OsRandom::new().next_u64()],
            table: Table::new(),
            members: Mutex::new(members),
            host,
            described: OnceLock::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.shape.name
    }

    fn members(&self) -> MutexGuard<'_, Members<V>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The series of an open family with these labels: sorted by name, each name once, no value empty. Found without a
    /// lock, as by [`Family::at`], but counted.
    #[cfg(feature = "metrics")]
    pub(super) fn open<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Arc<Node<V>> {
        let texts = || labels.clone().flat_map(|(name, value)| [name, value]);
        let hash = short::hash(texts(), &self.seeds);
        let is_it = |node: &Node<V>| {
            let mut encoded = node.labels();
            texts().all(|text| node::take_equal(&mut encoded, text)) && encoded.is_empty()
        };
        #[cfg(not(kymo_portable))]
        if let Some(pin) = Pin::new() {
            if let Some(node) = self.table.find(&pin, hash, is_it) {
                return Table::counted(node, &pin);
            }
        }
        let encode = || {
            let mut encoded = Vec::new();
            texts().for_each(|text| node::encode(&mut encoded, text));
            encoded
        };
        self.node(hash, is_it, encode, &[])
    }

    /// Of values in the order of the family's labels.
    #[inline(always)]
    fn hash<const N: usize>(&self, values: &[&str; N]) -> u64 {
        short::hash(values.iter().copied(), &self.seeds)
    }

    /// The hash of the values it has.
    fn hash_of(&self, node: &Node<V>) -> u64 {
        let mut encoded = node.labels();
        short::hash(std::iter::from_fn(|| node::decode(&mut encoded)), &self.seeds)
    }

    /// Finds a series or makes it.
    fn node(
        &self,
        hash: u64,
        is_it: impl Fn(&Node<V>) -> bool,
        encode: impl FnOnce() -> Vec<u8>,
        fixed: &[(String, String)],
    ) -> Arc<Node<V>> {
        let (node, overflow) = self.node_in(&mut self.members(), hash, is_it, encode, fixed);
        self.tell(overflow);
        node
    }

    /// The same for one more scoped handle.
    fn enter(
        &self,
        hash: u64,
        is_it: impl Fn(&Node<V>) -> bool,
        encode: impl FnOnce() -> Vec<u8>,
        fixed: &[(String, String)],
    ) -> Arc<Node<V>> {
        let (node, overflow) = {
            let mut members = self.members();
            let found = self.node_in(&mut members, hash, is_it, encode, fixed);
            *members.scoped.entry(found.0.address()).or_default() += 1;
            found
        };
        self.tell(overflow);
        node
    }

    /// One scoped handle less.
    pub(super) fn leave(&self, node: &Arc<Node<V>>) {
        let mut members = self.members();
        let address = node.address();
        let Some(count) = members.scoped.get_mut(&address) else { return };
        *count -= 1;
        if *count == 0 {
            members.scoped.remove(&address);
            if members.overflow.get(node.labels()).is_none_or(|other| other.address() != address) {
                self.remove_in(&mut members, self.hash_of(node), |other| other.address() == address);
            }
        }
    }

    fn node_in(
        &self,
        members: &mut Members<V>,
        hash: u64,
        is_it: impl Fn(&Node<V>) -> bool,
        encode: impl FnOnce() -> Vec<u8>,
        fixed: &[(String, String)],
    ) -> (Arc<Node<V>>, Option<Overflow>) {
        if let Some(node) = self.table.find_locked(hash, is_it) {
            if self.ttl.is_some() {
                node.marks.set(Mark::LookedUp);
            }
            return (node, None);
        }
        if members.len >= self.series_max {
            self.expire(members);
        }
        let now_ms = self.host.clock.now_ms();
        let encoded = encode();
        if members.len < self.series_max {
            let node = Node::new(encoded.into_boxed_slice(), self.shape.is_open, now_ms, V::new(&self.shape.options));
            node.marks.set(Mark::LookedUp);
            self.table.insert(hash, Arc::clone(&node), members.len, |node| self.hash_of(node));
            members.len += 1;
            members.sorted = None;
            return (node, None);
        }
        let mut told = None;
        let label = match &members.overflow_label {
            Some(label) => label.clone(),
            None => {
                let label = self.most_varied_label(&encoded);
                members.overflow_label = Some(label.clone());
                told = Some(Overflow {
                    family: self.shape.name.clone(),
                    label: label.clone(),
                    series_max: self.series_max,
                });
                label
            }
        };
        let mut labels: Vec<(&str, &str)> = fixed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        labels.push((OVERFLOW_LABEL, &label));
        labels.sort_unstable();
        let mut key = Vec::new();
        labels.iter().for_each(|(name, value)| [name, value].iter().for_each(|text| node::encode(&mut key, text)));
        let key = key.into_boxed_slice();
        if let Some(node) = members.overflow.get(&key) {
            return (Arc::clone(node), told);
        }
        let node = Node::new(key.clone(), true, now_ms, V::new(&self.shape.options));
        members.overflow.insert(key, Arc::clone(&node));
        members.sorted = None;
        (node, told)
    }

    /// Tells the registry's owner of the first overflow, with no lock held.
    fn tell(&self, overflow: Option<Overflow>) {
        if let Some(overflow) = overflow {
            self.host.tell(&overflow);
        }
    }

    fn remove(&self, hash: u64, is_it: impl Fn(&Node<V>) -> bool) -> bool {
        self.remove_in(&mut self.members(), hash, is_it)
    }

    fn remove_in(&self, members: &mut Members<V>, hash: u64, is_it: impl Fn(&Node<V>) -> bool) -> bool {
        let Some(node) = self.table.remove(hash, is_it) else { return false };
        members.len -= 1;
        members.sorted = None;
        members.seen.remove(&node.address());
        retire(node);
        true
    }

    /// Removes the series that nobody holds and nobody has looked up for the time to live.
    fn expire(&self, members: &mut Members<V>) {
        let Some(ttl) = self.ttl else { return };
        let now = self.host.clock.monotonic();
        // The list of all series holds each of them.
        members.sorted = None;
        for node in self.table.nodes() {
            let address = node.address();
            let is_used = node.marks.take(Mark::LookedUp) || Table::holders(&node) > 0;
            let seen = members.seen.entry(address).or_insert(now);
            if is_used {
                *seen = now;
            } else if now.saturating_sub(*seen) >= ttl {
                self.remove_in(members, self.hash_of(&node), |other| other.address() == address);
            }
        }
    }

    /// All series in the order in which they are shown, and a number that no other order of them has.
    fn series(&self) -> (Arc<[Arc<Node<V>>]>, u64) {
        collect();
        let mut members = self.members();
        self.expire(&mut members);
        if let Some(sorted) = &members.sorted {
            return (Arc::clone(sorted), members.order);
        }
        let mut all = self.table.nodes();
        all.extend(members.overflow.values().cloned());
        let names = &self.shape.label_names;
        all.sort_by(|a, b| labels_of(names, a).cmp(labels_of(names, b)));
        let sorted: Arc<[_]> = all.into();
        members.sorted = Some(Arc::clone(&sorted));
        members.order += 1;
        (sorted, members.order)
    }

    /// The label with the most distinct values among all series and one more, the first by name among equals.
    fn most_varied_label(&self, encoded: &[u8]) -> String {
        let nodes = self.table.nodes();
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let given = SeriesLabels::new(&self.shape.label_names, encoded, self.shape.is_open);
        for (name, value) in nodes.iter().flat_map(|node| labels_of(&self.shape.label_names, node)).chain(given) {
            values.entry(name).or_default().insert(value);
        }
        let most = values.iter().rev().max_by_key(|(_, distinct)| distinct.len());
        most.map(|(name, _)| (*name).to_owned()).unwrap_or_default()
    }
}

/// Frees a node that nobody can find any more once no look-up can hold it.
fn retire<V: Recorded>(node: Arc<Node<V>>) {
    #[cfg(not(kymo_portable))]
    epoch::retire(node);
    #[cfg(kymo_portable)]
    drop(node);
}

/// Frees what was retired earlier.
fn collect() {
    #[cfg(not(kymo_portable))]
    epoch::collect();
}
