//! The embedded store: a redb file in a directory of its own.
//!
//! What redb does and does not promise. A commit writes new pages beside the old ones and a root with checksums into one of two
//! slots of its header, and syncs; the slot of the commit before stays. So after a kill or a power loss at any moment the
//! last commit that returned is there, and of one under way all or nothing: the tests see it with the simulated disk
//! under it, stopped at every change. Checksums of pages are looked at when the file is opened after a crash; in a file that was
//! closed in order redb trusts what it reads. So each value carries a checksum of its own here, and a flipped bit in it is
//! [`StateError::Damaged`], never a wrong value.
//!
//! 1. The file is made under another name, and renamed when redb has laid it out and it is synced: a start that was cut
//!    short leaves no half file under the name that counts.
//! 2. After a failure the file is not written any more, because of a failed sync nobody knows what reached the disk: the next call copies what
//!    can be read into a new file that takes its place, with the key of the failed change as it was before.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kymo_core::state::{StateError, StateStore};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition};

use super::pages::Pages;
use super::{check_key, check_value, unavailable};
use crate::fs::{Fs, FsLock, OpenMode};

/// Key to a CRC-32 of key and value, and the value.
const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("state");
const FILE: &str = "state.redb";
/// A file that is being laid out.
const NEW_FILE: &str = "state.redb.new";
const LOCK: &str = "LOCK";
/// Memory for pages. What is kept is small.
const CACHE_BYTES: usize = 1 << 20;

/// Why the embedded store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedFault {
    /// Another process has it open.
    #[error("{}: in use by another process", dir.display())]
    Locked {
        /// The store's directory.
        dir: PathBuf,
    },
    /// The disk failed.
    #[error("{}: {doing} failed", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the disk said.
        source: io::Error,
    },
    /// The database failed.
    #[error("{}", path.display())]
    Database {
        /// Its file.
        path: PathBuf,
        /// What it said.
        source: Box<redb::Error>,
    },
    /// The value's checksum does not fit it.
    #[error("{}: checksum {found:#010x} of the value, {wanted:#010x} stored beside it", path.display())]
    Checksum {
        /// The database's file.
        path: PathBuf,
        /// What is stored.
        wanted: u32,
        /// What the bytes give.
        found: u32,
    },
}

/// A [`StateStore`] in one file; each change is synced before it returns, which costs some milliseconds of a disk.
pub struct EmbeddedState {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// Held across I/O on purpose: calls take turns.
    held: Mutex<Held>,
    _lock: Box<dyn FsLock>,
}

#[derive(Default)]
struct Held {
    /// `None` after a failure, until the next call has renewed the file.
    database: Option<Database>,
    /// The key of a change that failed, and its value before.
    undo: Option<(String, Option<Vec<u8>>)>,
}

impl EmbeddedState {
    /// Opens the store in `dir`, made when missing; only one process can.
    ///
    /// # Errors
    /// [`EmbeddedFault`]; nothing was removed.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path) -> Result<EmbeddedState, EmbeddedFault> {
        fs.create_dir_all(dir).map_err(io_fault(dir, "making it"))?;
        if let Some(parent) = dir.parent() {
            fs.sync_dir(parent).map_err(io_fault(parent, "syncing it"))?;
        }
        let lock_path = dir.join(LOCK);
        let lock = fs.lock(&lock_path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => EmbeddedFault::Locked { dir: dir.to_owned() },
            _ => io_fault(&lock_path, "locking it")(error),
        })?;
        let database = open(&*fs, dir)?;
        let held = Mutex::new(Held { database: Some(database), undo: None });
        Ok(EmbeddedState { fs, dir: dir.to_owned(), held, _lock: lock })
    }

    /// Reads from the database, which is given up if that fails.
    fn read<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StateError> {
        self.with(|database, _| work(database))
    }

    /// Changes the value of a key: `change` gives the value before, and whether there is anything to commit.
    fn change(
        &self,
        key: &str,
        change: impl FnOnce(&mut Table<'_, &'static str, &'static [u8]>) -> Result<(Option<Vec<u8>>, bool), redb::Error>,
    ) -> Result<bool, StateError> {
        self.with(|database, undo| {
            let transaction = database.begin_write()?;
            let (before, has_changed) = change(&mut transaction.open_table(TABLE)?)?;
            let was_there = before.is_some();
            if has_changed {
                *undo = Some((key.to_owned(), before));
                transaction.commit()?;
                *undo = None;
            } else {
                transaction.abort()?;
            }
            Ok(was_there)
        })
    }

    /// Invariant 2.
    fn with<T>(
        &self,
        work: impl FnOnce(&Database, &mut Option<(String, Option<Vec<u8>>)>) -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match held.database.take() {
            Some(database) => database,
            None => {
                let renewed = renew(&*self.fs, &self.dir, held.undo.as_ref()).map_err(unavailable)?;
                held.undo = None;
                renewed
            }
        };
        match work(&database, &mut held.undo) {
            Ok(done) => {
                held.database = Some(database);
                Ok(done)
            }
            Err(error) => Err(unavailable(database_fault(self.dir.join(FILE), error))),
        }
    }
}

fn io_fault(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> EmbeddedFault {
    let path = path.to_owned();
    move |source| EmbeddedFault::Io { path, doing, source }
}

fn database_fault(path: PathBuf, source: redb::Error) -> EmbeddedFault {
    EmbeddedFault::Database { path, source: Box::new(source) }
}

fn open(fs: &dyn Fs, dir: &Path) -> Result<Database, EmbeddedFault> {
    let path = dir.join(FILE);
    let file = match fs.open(&path, OpenMode::Write) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            lay_out(fs, dir, &BTreeMap::new())?;
            fs.open(&path, OpenMode::Write).map_err(io_fault(&path, "opening it"))?
        }
        Err(error) => return Err(io_fault(&path, "opening it")(error)),
    };
    database(Pages(file), path)
}

/// What is stored, checksums included, by key.
type Content = BTreeMap<String, Vec<u8>>;

/// Copies what can be read into a new file, and opens that; invariant 2.
fn renew(fs: &dyn Fs, dir: &Path, undo: Option<&(String, Option<Vec<u8>>)>) -> Result<Database, EmbeddedFault> {
    let mut content = {
        let old = open(fs, dir)?;
        content(&old).map_err(|error| database_fault(dir.join(FILE), error))?
    };
    if let Some((key, before)) = undo {
        match before {
            Some(before) => drop(content.insert(key.clone(), before.clone())),
            None => drop(content.remove(key)),
        }
    }
    lay_out(fs, dir, &content)?;
    open(fs, dir)
}

fn content(database: &Database) -> Result<Content, redb::Error> {
    let table = database.begin_read()?.open_table(TABLE)?;
    let entries = table.iter()?.map(|entry| {
        let (key, stored) = entry?;
        Ok((key.value().to_owned(), stored.value().to_vec()))
    });
    entries.collect()
}

/// Makes the file; invariant 1.
fn lay_out(fs: &dyn Fs, dir: &Path, content: &Content) -> Result<(), EmbeddedFault> {
    let (new, path) = (dir.join(NEW_FILE), dir.join(FILE));
    match fs.remove(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_fault(&new, "removing it")(error)),
        _ => {}
    }
    fs.create_new(&new).map_err(io_fault(&new, "making it"))?;
    let file = fs.open(&new, OpenMode::Write).map_err(io_fault(&new, "opening it"))?;
    let made = database(Pages(file.clone()), new.clone())?;
    let filled = || -> Result<(), redb::Error> {
        let transaction = made.begin_write()?;
        let mut table = transaction.open_table(TABLE)?;
        for (key, stored) in content {
            table.insert(key.as_str(), stored.as_slice())?;
        }
        drop(table);
        Ok(transaction.commit()?)
    };
    filled().map_err(|error| database_fault(new.clone(), error))?;
    drop(made);
    file.sync_data().map_err(io_fault(&new, "syncing it"))?;
    fs.rename(&new, &path).map_err(io_fault(&path, "renaming it"))?;
    fs.sync_dir(dir).map_err(io_fault(dir, "syncing it"))
}

fn database(pages: Pages, path: PathBuf) -> Result<Database, EmbeddedFault> {
    let opened = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(pages);
    opened.map_err(|error: DatabaseError| database_fault(path, error.into()))
}

fn checksum(key: &str, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key.as_bytes());
    hasher.update(value);
    hasher.finalize()
}

impl StateStore for EmbeddedState {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        check_key(key)?;
        let stored = self.read(|database| {
            let table = database.begin_read()?.open_table(TABLE)?;
            Ok(table.get(key)?.map(|stored| stored.value().to_vec()))
        })?;
        let Some(mut stored) = stored else { return Ok(None) };
        let damaged = |wanted, found| {
            let source = EmbeddedFault::Checksum { path: self.dir.join(FILE), wanted, found };
            StateError::Damaged { key: key.to_owned(), source: Box::new(source) }
        };
        let Some((wanted, value)) = stored.split_first_chunk::<4>() else { return Err(damaged(0, 0)) };
        let (wanted, found) = (u32::from_le_bytes(*wanted), checksum(key, value));
        if wanted != found {
            return Err(damaged(wanted, found));
        }
        stored.drain(..4);
        Ok(Some(stored))
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), StateError> {
        check_key(key)?;
        check_value(key, value)?;
        let mut stored = Vec::with_capacity(4 + value.len());
        stored.extend_from_slice(&checksum(key, value).to_le_bytes());
        stored.extend_from_slice(value);
        let put = |table: &mut Table<'_, &'static str, &'static [u8]>| {
            let before = table.insert(key, &*stored)?.map(|before| before.value().to_vec());
            Ok((before, true))
        };
        self.change(key, put).map(drop)
    }

    fn delete(&self, key: &str) -> Result<bool, StateError> {
        check_key(key)?;
        self.change(key, |table| {
            let before = table.remove(key)?.map(|before| before.value().to_vec());
            let was_there = before.is_some();
            Ok((before, was_there))
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        self.read(|database| {
            let table = database.begin_read()?.open_table(TABLE)?;
            let mut keys = Vec::new();
            for entry in table.range(prefix..)? {
                let (key, _) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                keys.push(key.value().to_owned());
            }
            Ok(keys)
        })
    }
}

impl std::fmt::Debug for EmbeddedState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedState").field("dir", &self.dir).finish_non_exhaustive()
    }
}
