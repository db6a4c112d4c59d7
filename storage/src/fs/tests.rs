//! One contract, held by the system's disk and by the simulated one alike.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{DirEntry, Fs, FsFile, OpenMode, RealFs, SimFs};

/// A disk with an empty directory to work in.
struct Bench {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    _tempdir: Option<tempfile::TempDir>,
}

impl Bench {
    fn real() -> Self {
        let tempdir = tempfile::tempdir().unwrap();
        Self { fs: Arc::new(RealFs), root: tempdir.path().to_owned(), _tempdir: Some(tempdir) }
    }

    fn simulated() -> Self {
        let fs = Arc::new(SimFs::new(1));
        let root = PathBuf::from("/data");
        fs.create_dir_all(&root).unwrap();
        Self { fs, root, _tempdir: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> Arc<dyn FsFile> {
        let file = self.fs.create_new(&self.path(name)).unwrap();
        file.append_all(content).unwrap();
        file
    }

    fn dir(&self, name: &str) -> PathBuf {
        let dir = self.path(name);
        self.fs.create_dir_all(&dir).unwrap();
        dir
    }

    fn content(&self, name: &str) -> io::Result<Vec<u8>> {
        self.fs.open(&self.path(name), OpenMode::Read).map(|f| read_all(&*f))
    }
}

fn read_all(file: &dyn FsFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The kind of error a call must end with.
#[track_caller]
fn kind<T>(result: io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("the call succeeded"),
        Err(e) => e.kind(),
    }
}

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod real {
            $(#[test] fn $name() { super::$name(&super::Bench::real()); })*
        }
        mod simulated {
            $(#[test] fn $name() { super::$name(&super::Bench::simulated()); })*
        }
    };
}

contract![
    appended_bytes_are_read_back_through_any_handle,
    reading_past_the_end_is_told_apart_from_an_error,
    create_new_refuses_a_name_that_is_taken,
    open_needs_a_file,
    a_mode_refuses_what_it_does_not_allow,
    handles_that_append_never_overwrite_each_other,
    concurrent_appends_stay_whole,
    write_at_overwrites_and_fills_a_gap_with_zeroes,
    set_len_cuts_and_lengthens,
    allocate_changes_neither_length_nor_content,
    rename_replaces_a_file_and_old_handles_stay,
    rename_refuses_what_would_lose_a_directory,
    rename_moves_a_directory_with_what_is_in_it,
    a_hard_link_is_a_name_of_its_own,
    remove_takes_files_and_empty_directories_only,
    an_open_file_outlives_its_name,
    list_is_sorted_and_tells_files_from_directories,
    create_dir_all_is_idempotent_and_stops_at_a_file,
    syncs_succeed_and_need_something_to_sync,
    space_is_within_the_total,
    a_lock_is_exclusive_until_dropped,
];

fn appended_bytes_are_read_back_through_any_handle(bench: &Bench) {
    let file = bench.file("a", b"hello ");
    let other = bench.fs.open(&bench.path("a"), OpenMode::Read).unwrap();
    assert_eq!(file.append(b"world").unwrap(), 5);
    assert_eq!(file.append(b"").unwrap(), 0);
    assert_eq!(read_all(&*other), b"hello world");
    assert_eq!(read_all(&*file), b"hello world");
    assert_eq!(other.len().unwrap(), 11);
}

fn reading_past_the_end_is_told_apart_from_an_error(bench: &Bench) {
    let file = bench.file("a", b"0123456789");
    let mut buf = [0xff; 8];
    assert_eq!(file.read_at(&mut buf, 6).unwrap(), 4);
    assert_eq!(&buf, b"6789\xff\xff\xff\xff");
    assert_eq!(file.read_at(&mut buf, 10).unwrap(), 0);
    assert_eq!(file.read_at(&mut buf, 1 << 40).unwrap(), 0);
    assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
    file.read_exact_at(&mut buf, 2).unwrap();
    assert_eq!(&buf, b"23456789");
    assert_eq!(kind(file.read_exact_at(&mut buf, 3)), ErrorKind::UnexpectedEof);
    file.read_exact_at(&mut [], 99).unwrap();
}

fn create_new_refuses_a_name_that_is_taken(bench: &Bench) {
    bench.file("a", b"kept");
    bench.dir("d");
    for taken in ["a", "d"] {
        let result = bench.fs.create_new(&bench.path(taken));
        assert_eq!(kind(result), ErrorKind::AlreadyExists, "{taken}");
    }
    assert_eq!(bench.content("a").unwrap(), b"kept");
    let nowhere = bench.fs.create_new(&bench.path("none/a"));
    assert_eq!(kind(nowhere), ErrorKind::NotFound);
    let below_a_file = bench.fs.create_new(&bench.path("a/b"));
    assert_eq!(kind(below_a_file), ErrorKind::NotADirectory);
}

fn open_needs_a_file(bench: &Bench) {
    bench.dir("d");
    for mode in [OpenMode::Read, OpenMode::Append, OpenMode::Write] {
        let missing = bench.fs.open(&bench.path("none"), mode);
        assert_eq!(kind(missing), ErrorKind::NotFound, "{mode:?}");
        let directory = bench.fs.open(&bench.path("d"), mode);
        assert_eq!(kind(directory), ErrorKind::IsADirectory, "{mode:?}");
    }
    assert!(bench.content("none").is_err(), "open must not create");
}

fn a_mode_refuses_what_it_does_not_allow(bench: &Bench) {
    bench.file("a", b"content");
    for (mode, append, write_at, resize) in [
        (OpenMode::Read, false, false, false),
        (OpenMode::Append, true, false, true),
        (OpenMode::Write, false, true, true),
    ] {
        let file = bench.fs.open(&bench.path("a"), mode).unwrap();
        for (what, allowed, result) in [
            ("append", append, file.append(b"x").map(drop)),
            ("write_at", write_at, file.write_at(b"y", 0).map(drop)),
            ("set_len", resize, file.set_len(7)),
            ("read_at", true, file.read_at(&mut [0], 0).map(drop)),
            ("sync_data", true, file.sync_data()),
        ] {
            match result {
                Ok(()) => assert!(allowed, "{what} in {mode:?}"),
                Err(e) => {
                    assert!(!allowed, "{what} in {mode:?}: {e}");
                    assert_eq!(e.kind(), ErrorKind::InvalidInput, "{what} in {mode:?}");
                }
            }
        }
        if !resize {
            assert_eq!(kind(file.allocate(0, 1)), ErrorKind::InvalidInput);
        }
    }
    assert_eq!(bench.content("a").unwrap(), b"yontent");
}

fn handles_that_append_never_overwrite_each_other(bench: &Bench) {
    let one = bench.file("a", b"");
    let two = bench.fs.open(&bench.path("a"), OpenMode::Append).unwrap();
    for _ in 0..3 {
        one.append_all(b"1").unwrap();
        two.append_all(b"2").unwrap();
    }
    assert_eq!(bench.content("a").unwrap(), b"121212");
}

fn concurrent_appends_stay_whole(bench: &Bench) {
    const THREADS: u8 = 4;
    const RECORDS: usize = 50;
    const RECORD_BYTES: usize = 100;
    let file = bench.file("a", b"");
    std::thread::scope(|scope| {
        for id in 0..THREADS {
            let file = &file;
            scope.spawn(move || {
                for _ in 0..RECORDS {
                    assert_eq!(file.append(&[id; RECORD_BYTES]).unwrap(), RECORD_BYTES);
                }
            });
        }
    });
    let mut seen = [0; THREADS as usize];
    for record in read_all(&*file).chunks(RECORD_BYTES) {
        assert_eq!(record, [record[0]; RECORD_BYTES]);
        seen[record[0] as usize] += 1;
    }
    assert_eq!(seen, [RECORDS; THREADS as usize]);
}

fn write_at_overwrites_and_fills_a_gap_with_zeroes(bench: &Bench) {
    bench.file("a", b"abc");
    let file = bench.fs.open(&bench.path("a"), OpenMode::Write).unwrap();
    file.write_all_at(b"BCD", 1).unwrap();
    assert_eq!(read_all(&*file), b"aBCD");
    file.write_all_at(b"z", 6).unwrap();
    assert_eq!(read_all(&*file), b"aBCD\0\0z");
}

fn set_len_cuts_and_lengthens(bench: &Bench) {
    let file = bench.file("a", b"0123456789");
    file.set_len(4).unwrap();
    file.append_all(b"x").unwrap();
    assert_eq!(read_all(&*file), b"0123x");
    file.set_len(8).unwrap();
    file.append_all(b"y").unwrap();
    assert_eq!(read_all(&*file), b"0123x\0\0\0y");
    file.set_len(0).unwrap();
    assert_eq!(file.len().unwrap(), 0);
}

fn allocate_changes_neither_length_nor_content(bench: &Bench) {
    let file = bench.file("a", b"abc");
    match file.allocate(0, 1 << 16) {
        Err(e) if e.kind() == ErrorKind::Unsupported => return,
        result => result.unwrap(),
    }
    assert_eq!(read_all(&*file), b"abc");
    file.append_all(b"d").unwrap();
    assert_eq!(read_all(&*file), b"abcd");
    assert_eq!(kind(file.allocate(0, 0)), ErrorKind::InvalidInput);
}

fn rename_replaces_a_file_and_old_handles_stay(bench: &Bench) {
    let new = bench.file("new", b"new");
    let old = bench.file("old", b"old");
    bench.fs.rename(&bench.path("new"), &bench.path("old")).unwrap();
    assert_eq!(bench.content("old").unwrap(), b"new");
    assert_eq!(kind(bench.content("new")), ErrorKind::NotFound);
    new.append_all(b"er").unwrap();
    old.append_all(b"est").unwrap();
    assert_eq!(bench.content("old").unwrap(), b"newer");
    assert_eq!(read_all(&*old), b"oldest");

    let (path, missing) = (bench.path("old"), bench.path("missing"));
    bench.fs.rename(&path, &path).unwrap();
    assert_eq!(kind(bench.fs.rename(&missing, &path)), ErrorKind::NotFound);
    assert_eq!(bench.content("old").unwrap(), b"newer");
}

fn rename_refuses_what_would_lose_a_directory(bench: &Bench) {
    bench.dir("full/inner");
    bench.dir("empty");
    bench.dir("moved");
    bench.file("file", b"f");
    for (from, to, expected) in [
        ("file", "empty", ErrorKind::IsADirectory),
        ("moved", "file", ErrorKind::NotADirectory),
        ("moved", "full", ErrorKind::DirectoryNotEmpty),
        ("full", "full/inner/it", ErrorKind::InvalidInput),
        ("file", "none/file", ErrorKind::NotFound),
    ] {
        let result = bench.fs.rename(&bench.path(from), &bench.path(to));
        assert_eq!(kind(result), expected, "{from} to {to}");
    }
    bench.fs.rename(&bench.path("moved"), &bench.path("empty")).unwrap();
    let left = bench.fs.list(&bench.root).unwrap();
    assert_eq!(names(&left), ["empty", "file", "full"]);
}

fn rename_moves_a_directory_with_what_is_in_it(bench: &Bench) {
    bench.dir("from");
    bench.dir("parent");
    bench.file("from/a", b"1");
    bench.fs.rename(&bench.path("from"), &bench.path("parent/to")).unwrap();
    assert_eq!(bench.content("parent/to/a").unwrap(), b"1");
    assert_eq!(kind(bench.content("from/a")), ErrorKind::NotFound);
}

fn a_hard_link_is_a_name_of_its_own(bench: &Bench) {
    let file = bench.file("a", b"1");
    bench.dir("d");
    let (a, b) = (bench.path("a"), bench.path("b"));
    bench.fs.hard_link(&a, &b).unwrap();
    file.append_all(b"2").unwrap();
    assert_eq!(bench.content("b").unwrap(), b"12");
    assert_eq!(kind(bench.fs.hard_link(&a, &b)), ErrorKind::AlreadyExists, "a taken name");
    let missing = bench.fs.hard_link(&bench.path("none"), &bench.path("c"));
    assert_eq!(kind(missing), ErrorKind::NotFound);
    let directory = bench.fs.hard_link(&bench.path("d"), &bench.path("c"));
    assert_eq!(kind(directory), ErrorKind::PermissionDenied);
    bench.fs.remove(&a).unwrap();
    assert_eq!(bench.content("b").unwrap(), b"12");
    assert_eq!(kind(bench.content("a")), ErrorKind::NotFound);
}

fn remove_takes_files_and_empty_directories_only(bench: &Bench) {
    let dir = bench.dir("d");
    bench.file("d/a", b"1");
    assert_eq!(kind(bench.fs.remove(&dir)), ErrorKind::DirectoryNotEmpty);
    bench.fs.remove(&bench.path("d/a")).unwrap();
    let again = bench.fs.remove(&bench.path("d/a"));
    assert_eq!(kind(again), ErrorKind::NotFound);
    bench.fs.remove(&dir).unwrap();
    assert_eq!(kind(bench.fs.list(&dir)), ErrorKind::NotFound);
}

fn an_open_file_outlives_its_name(bench: &Bench) {
    let file = bench.file("a", b"1");
    bench.fs.remove(&bench.path("a")).unwrap();
    let second = bench.file("a", b"other");
    file.append_all(b"2").unwrap();
    file.sync_data().unwrap();
    assert_eq!(read_all(&*file), b"12");
    assert_eq!(read_all(&*second), b"other");
}

fn list_is_sorted_and_tells_files_from_directories(bench: &Bench) {
    for name in ["b", "a", "a.1", "Z", "ä"] {
        bench.file(name, name.as_bytes());
    }
    bench.dir("c/below");
    let entries = bench.fs.list(&bench.root).unwrap();
    assert_eq!(names(&entries), ["Z", "a", "a.1", "b", "c", "ä"]);
    let facts: Vec<_> = entries.iter().map(|e| (e.len, e.is_dir)).collect();
    let file = |len| (len, false);
    assert_eq!(facts, [file(1), file(1), file(3), file(1), (0, true), file(2)]);
    let missing = bench.fs.list(&bench.path("none"));
    assert_eq!(kind(missing), ErrorKind::NotFound);
    let of_a_file = bench.fs.list(&bench.path("a"));
    assert_eq!(kind(of_a_file), ErrorKind::NotADirectory);
}

fn create_dir_all_is_idempotent_and_stops_at_a_file(bench: &Bench) {
    let deep = bench.dir("a/b/c");
    bench.fs.create_dir_all(&deep).unwrap();
    assert_eq!(bench.fs.list(&deep).unwrap(), []);
    bench.file("a/file", b"");
    let at_a_file = bench.fs.create_dir_all(&bench.path("a/file"));
    assert_eq!(kind(at_a_file), ErrorKind::AlreadyExists);
    let below_a_file = bench.fs.create_dir_all(&bench.path("a/file/d"));
    assert_eq!(kind(below_a_file), ErrorKind::NotADirectory);
}

fn syncs_succeed_and_need_something_to_sync(bench: &Bench) {
    let file = bench.file("a", b"1");
    file.sync_data().unwrap();
    bench.fs.sync_dir(&bench.root).unwrap();
    let reader = bench.fs.open(&bench.path("a"), OpenMode::Read).unwrap();
    reader.sync_data().unwrap();
    let missing = bench.fs.sync_dir(&bench.path("none"));
    assert_eq!(kind(missing), ErrorKind::NotFound);
    let of_a_file = bench.fs.sync_dir(&bench.path("a"));
    assert_eq!(kind(of_a_file), ErrorKind::NotADirectory);
}

fn space_is_within_the_total(bench: &Bench) {
    let space = bench.fs.space(&bench.root).unwrap();
    assert!(0 < space.available && space.available <= space.total, "{space:?}");
    let missing = bench.fs.space(&bench.path("none"));
    assert_eq!(kind(missing), ErrorKind::NotFound);
}

fn a_lock_is_exclusive_until_dropped(bench: &Bench) {
    let path = bench.path("lock");
    bench.file("lock", b"content");
    let held = bench.fs.lock(&path).unwrap();
    assert_eq!(kind(bench.fs.lock(&path)), ErrorKind::WouldBlock);
    let other = bench.fs.lock(&bench.path("other")).unwrap();
    drop(held);
    let again = bench.fs.lock(&path).unwrap();
    assert_eq!(kind(bench.fs.lock(&path)), ErrorKind::WouldBlock);
    drop((other, again));
    assert_eq!(bench.content("lock").unwrap(), b"content");
    assert_eq!(bench.content("other").unwrap(), b"");
    assert_eq!(kind(bench.fs.lock(&bench.root)), ErrorKind::IsADirectory);
}

fn names(entries: &[DirEntry]) -> Vec<&str> {
    entries.iter().map(|e| e.name.to_str().unwrap()).collect()
}

#[test]
fn others_may_not_read_what_is_made() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::real();
    bench.file("a", b"");
    bench.dir("d");
    drop(bench.fs.lock(&bench.path("lock")).unwrap());
    for name in ["a", "d", "lock"] {
        let metadata = std::fs::metadata(bench.path(name)).unwrap();
        let permissions = metadata.permissions().mode() & 0o777;
        assert_eq!(permissions & 0o027, 0, "{name}: {permissions:o}");
        assert_eq!(permissions & 0o600, 0o600, "{name}: {permissions:o}");
    }
}

#[test]
fn the_trait_is_object_safe_and_shared_between_threads() {
    fn shared<T: Send + Sync + ?Sized>() {}
    shared::<dyn Fs>();
    shared::<dyn FsFile>();
    shared::<dyn super::FsLock>();
}

/// One random step; names and handles are picked from a few.
#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    MakeDir(usize),
    Open(usize, OpenMode),
    Append(usize, Vec<u8>),
    WriteAt(usize, Vec<u8>, u64),
    SetLen(usize, u64),
    Allocate(usize, u64, u64),
    Read(usize, usize, u64),
    Rename(usize, usize),
    Link(usize, usize),
    Remove(usize),
    List(usize),
    SyncDir(usize),
    Close(usize),
}

const NAMES: [&str; 7] = ["a", "b", "d", "d/a", "d/e", "d/e/a", "a/x"];
const HANDLES: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let handle = 0..HANDLES;
    let data = || prop::collection::vec(any::<u8>(), 0..700);
    let mode = prop_oneof![Just(OpenMode::Read), Just(OpenMode::Append), Just(OpenMode::Write)];
    prop_oneof![
        3 => name.clone().prop_map(Step::Create),
        2 => name.clone().prop_map(Step::MakeDir),
        3 => (name.clone(), mode).prop_map(|(n, m)| Step::Open(n, m)),
        3 => (handle.clone(), data()).prop_map(|(h, d)| Step::Append(h, d)),
        2 => (handle.clone(), data(), 0..2000u64).prop_map(|(h, d, o)| Step::WriteAt(h, d, o)),
        1 => (handle.clone(), 0..2000u64).prop_map(|(h, l)| Step::SetLen(h, l)),
        1 => (handle.clone(), 0..2000u64, 0..2000u64).prop_map(|(h, o, l)| Step::Allocate(h, o, l)),
        2 => (handle.clone(), 0..900usize, 0..2500u64).prop_map(|(h, l, o)| Step::Read(h, l, o)),
        2 => (name.clone(), name.clone()).prop_map(|(a, b)| Step::Rename(a, b)),
        1 => (name.clone(), name.clone()).prop_map(|(a, b)| Step::Link(a, b)),
        1 => name.clone().prop_map(Step::Remove),
        1 => name.clone().prop_map(Step::List),
        1 => name.prop_map(Step::SyncDir),
        1 => handle.prop_map(Step::Close),
    ]
}

/// What a step answered, in a form two disks can be compared by.
type Answer = Result<String, ErrorKind>;

struct Player<'a> {
    bench: &'a Bench,
    handles: Vec<Option<Arc<dyn FsFile>>>,
    next: usize,
}

impl Player<'_> {
    fn play(&mut self, step: &Step) -> Answer {
        let fs = &self.bench.fs;
        let path = |name: &usize| self.bench.path(NAMES[*name]);
        let done = |result: io::Result<()>| result.map(|()| String::new());
        let result = match step {
            Step::Create(name) => self.keep(fs.create_new(&path(name))),
            Step::Open(name, mode) => self.keep(fs.open(&path(name), *mode)),
            Step::MakeDir(name) => done(fs.create_dir_all(&path(name))),
            Step::Rename(from, to) => done(fs.rename(&path(from), &path(to))),
            Step::Link(from, to) => done(fs.hard_link(&path(from), &path(to))),
            Step::Remove(name) => done(fs.remove(&path(name))),
            Step::List(name) => fs.list(&path(name)).map(|entries| format!("{entries:?}")),
            Step::SyncDir(name) => done(fs.sync_dir(&path(name))),
            Step::Append(h, data) => self.with(*h, |f| f.append(data).map(|n| n.to_string())),
            Step::WriteAt(h, data, at) => self.with(*h, |f| f.write_at(data, *at).map(|n| n.to_string())),
            Step::SetLen(h, len) => self.with(*h, |f| done(f.set_len(*len))),
            Step::Allocate(h, at, len) => self.with(*h, |f| match f.allocate(*at, *len) {
                Err(e) if e.kind() == ErrorKind::Unsupported => Ok(String::new()),
                result => done(result),
            }),
            Step::Read(h, len, at) => self.with(*h, |f| {
                let mut buf = vec![0; *len];
                let n = f.read_at(&mut buf, *at)?;
                Ok(format!("{:?} of {}", &buf[..n], f.len()?))
            }),
            Step::Close(h) => {
                self.handles[*h] = None;
                Ok(String::new())
            }
        };
        result.map_err(|e| e.kind())
    }

    fn keep(&mut self, file: io::Result<Arc<dyn FsFile>>) -> io::Result<String> {
        self.handles[self.next] = Some(file?);
        self.next = (self.next + 1) % HANDLES;
        Ok(String::new())
    }

    fn with(&self, handle: usize, run: impl FnOnce(&dyn FsFile) -> io::Result<String>) -> io::Result<String> {
        match &self.handles[handle] {
            Some(file) => run(&**file),
            None => Ok("closed".into()),
        }
    }
}

fn tree(fs: &dyn Fs, dir: &Path, under: &str, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        let name = format!("{under}/{}", entry.name.to_str().unwrap());
        if entry.is_dir {
            tree(fs, &path, &name, into);
            into.insert(name + "/", Vec::new());
        } else {
            into.insert(name, read_all(&*fs.open(&path, OpenMode::Read).unwrap()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_simulated_disk_answers_as_the_real_one(steps in prop::collection::vec(step(), 1..60)) {
        let benches = [Bench::real(), Bench::simulated()];
        let mut players = benches.each_ref().map(|bench| Player {
            bench,
            handles: vec![None; HANDLES],
            next: 0,
        });
        for (nth, step) in steps.iter().enumerate() {
            let [real, simulated] = players.each_mut().map(|player| player.play(step));
            prop_assert_eq!(real, simulated, "step {}: {:?}", nth, step);
        }
        let [real, simulated] = benches.each_ref().map(|bench| {
            let mut files = BTreeMap::new();
            tree(&*bench.fs, &bench.root, "", &mut files);
            files
        });
        prop_assert_eq!(real, simulated);
    }
}
