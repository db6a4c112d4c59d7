//! The state of a simulated disk: files, names, room. Its invariants:
//!
//! 1. A node is reached by names in directories, live or durable, or by open handles.
//! 2. `unsynced_names` holds, oldest first, every change to `live` names that is not yet in the
//!    `durable` ones; what one operation changed is one group, which survives power loss as one.
//! 3. Room is taken by files that have a live name or a handle.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::CrashKind;
use super::image::FileImage;
use super::plan::FaultPlan;
use super::rng::Rng;

/// Size of a disk without a capacity: more than a test writes.
pub(super) const UNLIMITED_BYTES: u64 = 1 << 50;

pub(super) type NodeId = u64;

pub(super) const ROOT: NodeId = 0;

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) plan: FaultPlan,
    pub(super) capacity: Option<u64>,
    pub(super) rng: Rng,
    pub(super) crashed: bool,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    next_id: NodeId,
    pub(super) unsynced_names: Vec<Vec<NameChange>>,
    pub(super) locks: BTreeSet<NodeId>,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(File),
    Dir(Dir),
}

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) image: FileImage,
    pub(super) live_names: usize,
    pub(super) handles: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Dir {
    pub(super) live: BTreeMap<OsString, NodeId>,
    pub(super) durable: BTreeMap<OsString, NodeId>,
}

/// From now on `name` in `dir` leads to `to`.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) dir: NodeId,
    pub(super) name: OsString,
    pub(super) to: Option<NodeId>,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            plan: FaultPlan::default(),
            capacity: None,
            rng: Rng::new(seed),
            crashed: false,
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            next_id: ROOT + 1,
            unsynced_names: Vec::new(),
            locks: BTreeSet::new(),
        }
    }

    /// Stops this machine and gives the disk the next one finds.
    pub(super) fn crash(&mut self, kind: CrashKind) -> Self {
        self.crashed = true;
        let mut next = Self {
            plan: FaultPlan::default(),
            capacity: self.capacity,
            rng: Rng::new(self.rng.next()),
            crashed: false,
            nodes: self.nodes.clone(),
            next_id: self.next_id,
            unsynced_names: self.unsynced_names.clone(),
            locks: BTreeSet::new(),
        };
        if kind == CrashKind::PowerLoss {
            next.lose_power();
        }
        next.drop_unreachable();
        next
    }

    fn lose_power(&mut self) {
        let groups = std::mem::take(&mut self.unsynced_names);
        let all = groups.len();
        let fate = self.rng.up_to(3);
        let cut = match fate {
            0 => 0,
            1 => all,
            _ => self.rng.up_to(all),
        };
        for (nth, group) in groups.into_iter().enumerate() {
            // The last fate keeps any subset, the others a beginning.
            let survives = if fate == 3 { self.rng.coin() } else { nth < cut };
            if survives {
                for change in group {
                    if let Some(Node::Dir(dir)) = self.nodes.get_mut(&change.dir) {
                        change.apply(&mut dir.durable);
                    }
                }
            }
        }
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(dir) => dir.live = dir.durable.clone(),
                Node::File(file) => file.image = file.image.after_power_loss(&mut self.rng),
            }
        }
    }

    /// Drops the nodes no name leads to, and counts the names of the others anew.
    fn drop_unreachable(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut live_names: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            let Some(Node::Dir(dir)) = self.nodes.get(&id) else {
                continue;
            };
            for &child in dir.live.values() {
                *live_names.entry(child).or_default() += 1;
            }
            let unsynced = self.unsynced_names.iter().flatten();
            let unsynced = unsynced.filter(|c| c.dir == id).filter_map(|c| c.to);
            let durable = dir.durable.values().copied();
            for child in dir.live.values().copied().chain(durable).chain(unsynced) {
                if reached.insert(child) {
                    open.push(child);
                }
            }
        }
        self.nodes.retain(|id, _| reached.contains(id));
        self.unsynced_names.retain(|group| group.iter().any(|c| reached.contains(&c.dir)));
        for (id, node) in &mut self.nodes {
            if let Node::File(file) = node {
                file.handles = 0;
                file.live_names = live_names.get(id).copied().unwrap_or(0);
            }
        }
    }

    /// What the running system sees of a file; neither counted nor failed.
    pub(super) fn file_bytes(&self, path: &Path) -> io::Result<&[u8]> {
        Ok(self.file(self.find(path)?)?.image.live())
    }

    pub(super) fn corrupt(&mut self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let id = self.find(path)?;
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let flipped = self.file_mut(id)?.image.corrupt(at, mask);
        flipped.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    pub(super) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        self.collect_files(ROOT, Path::new("/"), &mut Vec::new(), &mut files);
        files
    }

    fn collect_files(&self, id: NodeId, path: &Path, above: &mut Vec<NodeId>, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        match &self.nodes[&id] {
            Node::File(file) => {
                files.insert(path.to_owned(), file.image.live().to_vec());
            }
            // Of renames between directories one half may have survived, and put a directory into
            // itself.
            Node::Dir(_) if above.contains(&id) => {}
            Node::Dir(dir) => {
                above.push(id);
                for (name, child) in &dir.live {
                    self.collect_files(*child, &path.join(name), above, files);
                }
                above.pop();
            }
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut at = ROOT;
        for name in names(path)? {
            let child = self.dir(at)?.live.get(name);
            at = *child.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    /// The directory and the name in it that `path` stands for, whether or not the name is taken.
    pub(super) fn place(&self, path: &Path) -> io::Result<(NodeId, OsString)> {
        let Some((name, dirs)) =
            names(path)?.split_last().map(|(name, dirs)| ((*name).to_owned(), dirs.iter().collect::<PathBuf>()))
        else {
            return Err(Errno::INVAL.into());
        };
        let dir = self.find(&dirs)?;
        self.dir(dir)?;
        Ok((dir, name))
    }

    pub(super) fn create(&mut self, dir: NodeId, name: OsString, node: Node) -> io::Result<NodeId> {
        let id = self.next_id;
        self.nodes.insert(id, node);
        match self.add_name(dir, name, id) {
            Ok(()) => {
                self.next_id += 1;
                Ok(id)
            }
            Err(e) => {
                self.nodes.remove(&id);
                Err(e)
            }
        }
    }

    pub(super) fn add_name(&mut self, dir: NodeId, name: OsString, id: NodeId) -> io::Result<()> {
        if self.dir(dir)?.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let to = Some(id);
        self.set_names(vec![NameChange { dir, name, to }]);
        Ok(())
    }

    pub(super) fn set_names(&mut self, group: Vec<NameChange>) {
        for change in &group {
            let Some(Node::Dir(dir)) = self.nodes.get_mut(&change.dir) else {
                continue;
            };
            let lost = change.clone().apply(&mut dir.live);
            if let Some(Node::File(file)) = lost.and_then(|id| self.nodes.get_mut(&id)) {
                file.live_names -= 1;
            }
            if let Some(Node::File(file)) = change.to.and_then(|id| self.nodes.get_mut(&id)) {
                file.live_names += 1;
            }
        }
        self.unsynced_names.push(group);
    }

    /// Drops a file that nothing can lead to any more (invariant 1).
    pub(super) fn forget(&mut self, id: NodeId) {
        let unused = |file: &File| file.live_names == 0 && file.handles == 0;
        if !self.file(id).is_ok_and(unused) {
            return;
        }
        let unsynced = self.unsynced_names.iter().flatten().filter_map(|c| c.to);
        let durable = self.nodes.values().filter_map(|node| match node {
            Node::Dir(dir) => Some(dir.durable.values().copied()),
            Node::File(_) => None,
        });
        if !durable.flatten().chain(unsynced).any(|named| named == id) {
            self.nodes.remove(&id);
        }
    }

    /// Whether `dir` is `above` or lies in it.
    pub(super) fn is_inside(&self, dir: NodeId, above: NodeId) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![above];
        while let Some(id) = open.pop() {
            if id == dir {
                return true;
            }
            if seen.insert(id)
                && let Ok(node) = self.dir(id)
            {
                open.extend(node.live.values());
            }
        }
        false
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&File> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> io::Result<&mut File> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn dir(&self, id: NodeId) -> io::Result<&Dir> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Bytes a write may still take (invariant 3).
    pub(super) fn free(&self) -> u64 {
        let Some(capacity) = self.capacity else {
            return UNLIMITED_BYTES;
        };
        let used = self.nodes.values().map(|node| match node {
            Node::File(file) if file.live_names > 0 || file.handles > 0 => file.image.room().total(),
            _ => 0,
        });
        capacity.saturating_sub(used.sum())
    }
}

impl NameChange {
    /// Makes the change in one image of the directory; the node that lost the name.
    pub(super) fn apply(self, names: &mut BTreeMap<OsString, NodeId>) -> Option<NodeId> {
        match self.to {
            Some(id) => names.insert(self.name, id),
            None => names.remove(&self.name),
        }
    }
}

/// The names of `path` from the root down. A relative path starts at the root as well.
pub(super) fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL.into()),
        }
    }
    Ok(names)
}
