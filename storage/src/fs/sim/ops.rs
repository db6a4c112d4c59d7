//! The operations of a simulated disk.
//!
//! Each is counted once, by `ask`, `change` or `write`, before anything else is looked at.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::SimCrashed;
use super::disk::{Dir, Disk, File, NameChange, Node, NodeId, ROOT, UNLIMITED_BYTES, names};
use super::plan::{Fault, OpKind, Verdict};
use crate::fs::{DirEntry, SpaceInfo};

/// Longest file, so that a wild offset is an error and not all of the test's memory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Where a write goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    End,
    At(u64),
}

impl Disk {
    /// Counts an operation that changes nothing; `Some` when it is to be short.
    pub(super) fn ask(&mut self, op: OpKind) -> io::Result<Option<usize>> {
        self.alive()?;
        match self.plan.admit(op) {
            Verdict::Go => Ok(None),
            Verdict::Fault(Fault::Short { bytes }) => Ok(Some(bytes)),
            Verdict::Fault(fault) => Err(fault.error()),
            Verdict::Crash => Err(self.stop()),
        }
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.crashed {
            return Err(io::Error::other(SimCrashed));
        }
        Ok(())
    }

    /// Counts and makes a change that happens whole or not at all.
    fn change<T>(&mut self, op: OpKind, make: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        self.alive()?;
        match self.plan.admit(op) {
            Verdict::Go => make(self),
            Verdict::Fault(fault) => Err(fault.error()),
            Verdict::Crash => {
                if self.rng.coin() {
                    // Nobody is left to hear how it went.
                    let _ = make(self);
                }
                Err(self.stop())
            }
        }
    }

    fn stop(&mut self) -> io::Error {
        self.crashed = true;
        io::Error::other(SimCrashed)
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<NodeId> {
        self.ask(OpKind::Open)?;
        let id = self.find(path)?;
        self.file_mut(id)?.handles += 1;
        Ok(id)
    }

    pub(super) fn close(&mut self, id: NodeId) {
        if let Ok(file) = self.file_mut(id) {
            file.handles -= 1;
        }
        self.forget(id);
    }

    pub(super) fn create_new(&mut self, path: &Path) -> io::Result<NodeId> {
        self.change(OpKind::Create, |disk| {
            let (dir, name) = disk.place(path)?;
            let id = disk.create(dir, name, Node::File(File::default()))?;
            disk.file_mut(id)?.handles += 1;
            Ok(id)
        })
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        self.alive()?;
        let mut at = ROOT;
        for name in names(path)? {
            at = match self.dir(at)?.live.get(name).copied() {
                Some(child) => child,
                None => {
                    self.change(OpKind::Create, |disk| disk.create(at, name.to_owned(), Node::Dir(Dir::default())))?
                }
            };
        }
        // Also when nothing was missing, the last name may be a file's.
        match self.dir(at) {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno::EXIST.into()),
        }
    }

    pub(super) fn read(&mut self, id: NodeId, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes_max = self.ask(OpKind::Read)?.unwrap_or(usize::MAX);
        let live = self.file(id)?.image.live();
        let start = usize::try_from(offset).map_or(live.len(), |o| o.min(live.len()));
        let bytes = buf.len().min(live.len() - start).min(bytes_max);
        buf[..bytes].copy_from_slice(&live[start..start + bytes]);
        Ok(bytes)
    }

    /// Writes as many bytes as the plan and the room on the disk allow.
    pub(super) fn write(&mut self, id: NodeId, place: Place, data: &[u8]) -> io::Result<usize> {
        self.alive()?;
        let (bytes_max, crash) = match self.plan.admit(OpKind::Write) {
            Verdict::Go => (data.len(), false),
            Verdict::Fault(Fault::Short { bytes }) => (bytes.min(data.len()), false),
            Verdict::Fault(fault) => return Err(fault.error()),
            // Here the machine stops between two bytes; what of them survives power loss is
            // decided then, by sectors.
            Verdict::Crash => (self.rng.up_to(data.len()), true),
        };
        let free = self.free();
        let image = &mut self.file_mut(id)?.image;
        let start = match place {
            Place::End => image.live().len() as u64,
            Place::At(offset) => offset,
        };
        let result = within_limit(start, bytes_max as u64).and_then(|end| {
            let fitting = (image.room().fitting_end(&(start..end), free) - start) as usize;
            if fitting == 0 && bytes_max > 0 {
                return Err(Errno::NOSPC.into());
            }
            image.write(start as usize, &data[..fitting]);
            Ok(fitting)
        });
        if crash {
            return Err(self.stop());
        }
        result
    }

    pub(super) fn set_len(&mut self, id: NodeId, len: u64) -> io::Result<()> {
        self.change(OpKind::SetLen, |disk| {
            within_limit(0, len)?;
            disk.file_mut(id)?.image.set_len(len as usize);
            Ok(())
        })
    }

    pub(super) fn allocate(&mut self, id: NodeId, offset: u64, len: u64) -> io::Result<()> {
        self.change(OpKind::Allocate, |disk| {
            if len == 0 {
                return Err(Errno::INVAL.into());
            }
            let end = within_limit(offset, len)?;
            let free = disk.free();
            let image = &mut disk.file_mut(id)?.image;
            if image.room().missing(&(offset..end)) > free {
                return Err(Errno::NOSPC.into());
            }
            image.take_room(offset, len);
            Ok(())
        })
    }

    pub(super) fn sync_data(&mut self, id: NodeId) -> io::Result<()> {
        let result = self.change(OpKind::SyncData, |disk| {
            disk.file_mut(id)?.image.sync();
            Ok(())
        });
        if result.is_err() && !self.crashed {
            self.file_mut(id)?.image.lose_unsynced_writes();
        }
        result
    }

    pub(super) fn len(&self, id: NodeId) -> io::Result<u64> {
        self.alive()?;
        Ok(self.file(id)?.image.live().len() as u64)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(OpKind::Rename, |disk| {
            let (from_dir, from_name) = disk.place(from)?;
            let (to_dir, to_name) = disk.place(to)?;
            let id = disk.find(from)?;
            let replaced = disk.dir(to_dir)?.live.get(&to_name).copied();
            if replaced == Some(id) {
                return Ok(());
            }
            let moved_is_dir = disk.dir(id).is_ok();
            if moved_is_dir && disk.is_inside(to_dir, id) {
                return Err(Errno::INVAL.into());
            }
            if let Some(replaced) = replaced {
                if disk.is_inside(from_dir, replaced) {
                    return Err(Errno::NOTEMPTY.into());
                }
                match (moved_is_dir, disk.dir(replaced)) {
                    (true, Err(_)) => return Err(Errno::NOTDIR.into()),
                    (true, Ok(dir)) if !dir.live.is_empty() => return Err(Errno::NOTEMPTY.into()),
                    (false, Ok(_)) => return Err(Errno::ISDIR.into()),
                    _ => {}
                }
            }
            disk.set_names(vec![
                NameChange { dir: from_dir, name: from_name, to: None },
                NameChange { dir: to_dir, name: to_name, to: Some(id) },
            ]);
            Ok(())
        })
    }

    pub(super) fn hard_link(&mut self, original: &Path, link: &Path) -> io::Result<()> {
        self.change(OpKind::Link, |disk| {
            let id = disk.find(original)?;
            let (dir, name) = disk.place(link)?;
            let taken = disk.dir(dir)?.live.contains_key(&name);
            if !taken && disk.dir(id).is_ok() {
                return Err(Errno::PERM.into());
            }
            disk.add_name(dir, name, id)
        })
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.change(OpKind::Remove, |disk| {
            let id = disk.find(path)?;
            let (dir, name) = disk.place(path)?;
            if disk.dir(id).is_ok_and(|d| !d.live.is_empty()) {
                return Err(Errno::NOTEMPTY.into());
            }
            disk.set_names(vec![NameChange { dir, name, to: None }]);
            Ok(())
        })
    }

    pub(super) fn list(&mut self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.ask(OpKind::List)?;
        let dir = self.dir(self.find(path)?)?;
        let entries = dir.live.iter().map(|(name, id)| {
            let file = self.file(*id).ok();
            DirEntry {
                name: name.clone(),
                len: file.map_or(0, |f| f.image.live().len() as u64),
                is_dir: file.is_none(),
            }
        });
        Ok(entries.collect())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.change(OpKind::SyncDir, |disk| {
            let id = disk.find(path)?;
            disk.dir(id)?;
            let mut overwritten = Vec::new();
            for group in &mut disk.unsynced_names {
                let Some(Node::Dir(dir)) = disk.nodes.get_mut(&id) else {
                    break;
                };
                for change in group.extract_if(.., |c| c.dir == id) {
                    overwritten.extend(change.apply(&mut dir.durable));
                }
            }
            disk.unsynced_names.retain(|group| !group.is_empty());
            for id in overwritten {
                disk.forget(id);
            }
            Ok(())
        })
    }

    pub(super) fn space(&self, path: &Path) -> io::Result<SpaceInfo> {
        self.alive()?;
        self.find(path)?;
        Ok(SpaceInfo { total: self.capacity.unwrap_or(UNLIMITED_BYTES), available: self.free() })
    }

    pub(super) fn lock(&mut self, path: &Path) -> io::Result<NodeId> {
        self.alive()?;
        let id = match self.find(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let id = self.create_new(path)?;
                self.close(id);
                id
            }
            found => found?,
        };
        self.file(id)?;
        if !self.locks.insert(id) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(id)
    }

    pub(super) fn unlock(&mut self, id: NodeId) {
        self.locks.remove(&id);
    }
}

/// The end of a range, if a file may be that long.
fn within_limit(start: u64, len: u64) -> io::Result<u64> {
    match start.checked_add(len) {
        Some(end) if end <= FILE_BYTES_MAX => Ok(end),
        _ => Err(Errno::FBIG.into()),
    }
}
