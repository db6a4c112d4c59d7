//! What is counted under a path, for longer than its contexts live.
//!
//! 1. A count is kept once, at the path where it happened; what a path shows is its own counts and those of all paths
//!    below, summed when read. So no order of events can make a path differ from the sum below it.
//! 2. There are at most `paths_max` paths. When a new one finds no room, the idlest leaves that no live context refers
//!    to are folded into their parents: their counts, windows included, become the parent's own. Where that frees
//!    nothing, the new path is not made and its nearest ancestor counts for it. Both are counted.
//! 3. A leaf is folded only while nothing but the tree refers to it, which is checked under the tree's lock: whoever wants
//!    a path gets it under that lock, so nobody adds to counts that were folded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use kymo_core::window::{WindowCounter, WindowCounts};

/// Names from the root down under which something is counted. What is deeper counts here for its ancestor.
pub(crate) const DEPTH_MAX: usize = 32;
/// Names of counters under one path; further ones share the name [`OVERFLOW`].
pub(crate) const NAMES_MAX: usize = 64;
/// Stands for all names beyond [`NAMES_MAX`].
pub(crate) const OVERFLOW: &str = "kymo_overflow";
/// Part of all paths that is folded at once, so that a stream of new paths looks for the idlest only now and then.
const FOLDED_AT_ONCE: usize = 16;

/// A counter of the user under one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) total: u64,
    pub(crate) live: u64,
}

/// The own counts of one path.
#[derive(Default)]
pub(crate) struct PathCounts {
    /// Made by the first request, because many paths never have one.
    requests: OnceLock<Box<WindowCounter>>,
    /// A leaf.
    tallies: Mutex<BTreeMap<Box<str>, Tally>>,
    /// When it was last counted here, nanoseconds of the monotonic clock.
    used: AtomicU64,
}

impl PathCounts {
    /// Counts one request. Allocates the first time only.
    pub(crate) fn count_request(&self, now: Duration) {
        self.use_at(now);
        self.requests.get_or_init(Box::default).add(1, now);
    }

    /// Changes the tally of `name`.
    pub(crate) fn tally(&self, name: &str, now: Duration, change: impl FnOnce(&mut Tally)) {
        self.use_at(now);
        let mut tallies = self.tallies();
        if let Some(tally) = tallies.get_mut(name) {
            return change(tally);
        }
        let name = if tallies.len() < NAMES_MAX { name } else { OVERFLOW };
        change(tallies.entry(name.into()).or_default());
    }

    fn read(&self, now: Duration) -> WindowCounts {
        self.requests.get().map(|requests| requests.read(now)).unwrap_or_default()
    }

    /// Relaxed: a stamp that is a little late only makes a leaf look idler.
    fn use_at(&self, now: Duration) {
        self.used.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn absorb(&self, other: PathCounts) {
        if let Some(theirs) = other.requests.into_inner() {
            self.requests.get_or_init(Box::default).absorb(*theirs);
        }
        let mut ours = self.tallies();
        for (name, theirs) in other.tallies.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let name = if ours.contains_key(&name) || ours.len() < NAMES_MAX { name } else { OVERFLOW.into() };
            let tally = ours.entry(name).or_default();
            tally.total += theirs.total;
            tally.live += theirs.live;
        }
        self.used.fetch_max(other.used.into_inner(), Ordering::Relaxed);
    }

    fn tallies(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A path with those below it.
#[derive(Default)]
struct Node {
    own: Arc<PathCounts>,
    below: BTreeMap<Box<str>, Node>,
}

/// All paths of a tree of contexts.
pub(crate) struct Paths {
    root_name: Box<str>,
    paths_max: usize,
    /// Guards which paths exist. Counts have locks of their own, taken inside.
    root: RwLock<Root>,
    folded: AtomicU64,
    refused: AtomicU64,
}

struct Root {
    node: Node,
    count: usize,
}

/// A path and everything counted under it, itself included.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PathSum {
    /// From the root down.
    pub(crate) path: String,
    pub(crate) requests: WindowCounts,
    pub(crate) tallies: BTreeMap<Box<str>, Tally>,
}

/// How full the paths are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathUse {
    pub(crate) counted: usize,
    pub(crate) folded: u64,
    pub(crate) refused: u64,
}

impl Paths {
    pub(crate) fn new(root_name: &str, paths_max: usize) -> Self {
        let root = Root { node: Node::default(), count: 1 };
        Self {
            root_name: root_name.into(),
            paths_max: paths_max.max(1),
            root: RwLock::new(root),
            folded: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// The counts of the path with these names below the root, made if there is room.
    pub(crate) fn counts(&self, names: &[&str]) -> Arc<PathCounts> {
        let names = &names[..names.len().min(DEPTH_MAX - 1)];
        if let Some(node) = find(&self.read().node, names) {
            return node.own.clone();
        }
        let mut root = self.write();
        let Root { node, count } = &mut *root;
        let missing = names.len() - found_depth(node, names);
        if *count + missing > self.paths_max {
            // What is idle on the way down is kept from being folded by a reference of ours.
            let _way = way(node, names);
            let wanted = missing.max(self.paths_max / FOLDED_AT_ONCE);
            let folded = fold_idlest(node, wanted);
            *count -= folded;
            self.folded.fetch_add(folded as u64, Ordering::Relaxed);
        }
        let mut here = node;
        for name in names {
            if !here.below.contains_key(*name) {
                if *count >= self.paths_max {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                *count += 1;
            }
            here = here.below.entry((*name).into()).or_default();
        }
        here.own.clone()
    }

    /// What is counted under the path with these names, the root's included; `None` for a path that is not counted.
    pub(crate) fn requests(&self, names: &[impl AsRef<str>], now: Duration) -> Option<WindowCounts> {
        self.under(names, |node| {
            let mut sum = WindowCounts::default();
            visit(node, &mut |counts| sum += counts.read(now));
            sum
        })
    }

    /// The tally of `name` under the path with these names, the root's included.
    pub(crate) fn tally(&self, names: &[impl AsRef<str>], name: &str) -> Tally {
        let sum = self.under(names, |node| {
            let mut sum = Tally::default();
            visit(node, &mut |counts| {
                if let Some(tally) = counts.tallies().get(name) {
                    sum.total += tally.total;
                    sum.live += tally.live;
                }
            });
            sum
        });
        sum.unwrap_or_default()
    }

    fn under<T>(&self, names: &[impl AsRef<str>], read: impl FnOnce(&Node) -> T) -> Option<T> {
        let (first, rest) = names.split_first()?;
        if first.as_ref() != &*self.root_name {
            return None;
        }
        let rest: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
        find(&self.read().node, &rest).map(read)
    }

    /// Every path with its sums, all read in one pass and at one moment; sorted by names, parents before children.
    pub(crate) fn sums(&self, now: Duration) -> Vec<PathSum> {
        let root = self.read();
        let mut sums = Vec::with_capacity(root.count);
        let mut path = String::new();
        crate::path::write_name(&mut path, &self.root_name);
        sum_into(&root.node, &mut path, now, &mut sums);
        sums
    }

    pub(crate) fn usage(&self) -> PathUse {
        PathUse {
            counted: self.read().count,
            folded: self.folded.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Root> {
        self.root.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Root> {
        self.root.write().unwrap_or_else(PoisonError::into_inner)
    }
}

// The recursions below are as deep as paths are: at most `DEPTH_MAX`.

fn find<'a>(node: &'a Node, names: &[&str]) -> Option<&'a Node> {
    names.iter().try_fold(node, |node, name| node.below.get(*name))
}

fn found_depth(node: &Node, names: &[&str]) -> usize {
    way(node, names).len() - 1
}

/// The counts of `node` and of as many of `names` below it as exist.
fn way(mut node: &Node, names: &[&str]) -> Vec<Arc<PathCounts>> {
    let mut found = vec![node.own.clone()];
    for name in names {
        match node.below.get(*name) {
            Some(next) => node = next,
            None => break,
        }
        found.push(node.own.clone());
    }
    found
}

fn visit(node: &Node, each: &mut impl FnMut(&PathCounts)) {
    each(&node.own);
    // Ordered by name, so that nothing depends on when paths were made.
    node.below.values().for_each(|below| visit(below, each));
}

/// Pushes the sums of `node` and all below, and gives back the index of its own.
fn sum_into(node: &Node, path: &mut String, now: Duration, sums: &mut Vec<PathSum>) -> usize {
    let at = sums.len();
    let tallies = node.own.tallies().clone();
    sums.push(PathSum { path: path.clone(), requests: node.own.read(now), tallies });
    for (name, below) in &node.below {
        let len = path.len();
        path.push('.');
        crate::path::write_name(path, name);
        let child = sum_into(below, path, now, sums);
        path.truncate(len);
        let (requests, tallies) = (sums[child].requests, sums[child].tallies.clone());
        sums[at].requests += requests;
        for (name, tally) in tallies {
            let sum = sums[at].tallies.entry(name).or_default();
            sum.total += tally.total;
            sum.live += tally.live;
        }
    }
    at
}

/// Folds at least `wanted` leaves if there are as many that nobody refers to, the idlest first; says how many.
fn fold_idlest(root: &mut Node, wanted: usize) -> usize {
    let mut idle = Vec::new();
    collect_idle(root, &mut idle);
    if idle.is_empty() {
        return 0;
    }
    let nth = wanted.min(idle.len()) - 1;
    let (_, newest_folded, _) = idle.select_nth_unstable(nth);
    let newest_folded = *newest_folded;
    let mut left = wanted;
    fold_until(root, newest_folded, &mut left);
    wanted - left
}

fn is_idle_leaf(node: &mut Node) -> bool {
    node.below.is_empty() && Arc::get_mut(&mut node.own).is_some()
}

fn collect_idle(node: &mut Node, idle: &mut Vec<u64>) {
    for below in node.below.values_mut() {
        if is_idle_leaf(below) {
            idle.push(below.own.used.load(Ordering::Relaxed));
        } else {
            collect_idle(below, idle);
        }
    }
}

fn fold_until(node: &mut Node, newest: u64, left: &mut usize) {
    let Node { own, below } = node;
    below.retain(|_, leaf| {
        if *left == 0 || leaf.own.used.load(Ordering::Relaxed) > newest || !is_idle_leaf(leaf) {
            if !leaf.below.is_empty() {
                fold_until(leaf, newest, left);
            }
            return true;
        }
        match Arc::try_unwrap(std::mem::take(&mut leaf.own)) {
            Ok(counts) => {
                own.absorb(counts);
                *left -= 1;
                false
            }
            // `is_idle_leaf` has just seen that nobody else refers to it, and nobody can begin to.
            Err(counts) => {
                leaf.own = counts;
                true
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn total(paths: &Paths, names: &[&str]) -> Option<u64> {
        paths.requests(names, NOW).map(|counts| counts.since_start)
    }

    #[test]
    fn a_path_shows_itself_and_all_below() {
        let paths = Paths::new("global", 100);
        paths.counts(&["p2p", "alice"]).count_request(NOW);
        paths.counts(&["p2p", "bob"]).count_request(NOW);
        paths.counts(&["http"]).count_request(NOW);
        assert_eq!(total(&paths, &["global", "p2p", "alice"]), Some(1));
        assert_eq!(total(&paths, &["global", "p2p"]), Some(2));
        assert_eq!(total(&paths, &["global"]), Some(3));
        assert_eq!(total(&paths, &["global", "ftp"]), None);
        assert_eq!(total(&paths, &["other"]), None);
        let sums: Vec<_> = paths.sums(NOW).into_iter().map(|sum| (sum.path, sum.requests.last_hour)).collect();
        let expected =
            [("global", 3), ("global.http", 1), ("global.p2p", 2), ("global.p2p.alice", 1), ("global.p2p.bob", 1)];
        assert_eq!(sums, expected.map(|(path, count)| (path.to_owned(), count)));
    }

    #[test]
    fn the_idlest_leaves_are_folded_and_nothing_is_lost() {
        let paths = Paths::new("global", 33);
        let held = paths.counts(&["p2p", "peer-0"]);
        for peer in 0..1_000_u64 {
            let now = Duration::from_secs(peer);
            let name = format!("peer-{peer}");
            let counts = paths.counts(&["p2p", &name]);
            counts.count_request(now);
            counts.tally("bytes", now, |tally| tally.total += 10);
            assert!(paths.usage().counted <= 33, "{:?}", paths.usage());
        }
        held.count_request(NOW);
        assert_eq!(total(&paths, &["global", "p2p", "peer-0"]), Some(2), "what a context refers to stays");
        assert_eq!(total(&paths, &["global", "p2p", "peer-1"]), None, "the idlest went");
        assert_eq!(total(&paths, &["global", "p2p", "peer-999"]), Some(1), "the newest stays");
        assert_eq!(total(&paths, &["global", "p2p"]), Some(1_001));
        assert_eq!(paths.tally(&["global"], "bytes").total, 10_000);
        let usage = paths.usage();
        assert!(usage.folded >= 1_000 - 33 && usage.refused == 0, "{usage:?}");
    }

    #[test]
    fn without_an_idle_leaf_the_nearest_ancestor_counts() {
        let paths = Paths::new("global", 3);
        let held = [paths.counts(&["p2p", "alice"]), paths.counts(&["p2p", "bob"])];
        held.iter().for_each(|counts| counts.count_request(NOW));
        assert_eq!(total(&paths, &["global", "p2p", "alice"]), Some(1));
        assert_eq!(total(&paths, &["global", "p2p", "bob"]), None);
        assert_eq!(total(&paths, &["global", "p2p"]), Some(2));
        assert_eq!(paths.usage(), PathUse { counted: 3, folded: 0, refused: 1 });
    }

    #[test]
    fn depth_and_names_have_an_end() {
        let paths = Paths::new("global", 1_000);
        let deep: Vec<String> = (0..100).map(|depth| depth.to_string()).collect();
        let deep: Vec<&str> = deep.iter().map(String::as_str).collect();
        let counts = paths.counts(&deep);
        assert_eq!(paths.usage().counted, DEPTH_MAX);
        for n in 0..200 {
            counts.tally(&n.to_string(), NOW, |tally| tally.total += 1);
        }
        let root = &paths.sums(NOW)[0];
        assert_eq!(root.tallies.len(), NAMES_MAX + 1);
        assert_eq!(root.tallies[OVERFLOW].total, 200 - NAMES_MAX as u64);
    }
}
