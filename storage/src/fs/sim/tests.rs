//! What the simulated disk itself promises: it keeps what the contract keeps, loses what the
//! contract does not, and does both the same way for the same seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::{CrashKind, Fault, FaultAt, Fs, FsFile, OpKind, OpenMode, SECTOR_BYTES, SimFs, is_sim_crash};

const SEEDS: u64 = 300;

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// A file whose name is already durable.
fn named(disk: &SimFs, name: &str) -> Arc<dyn FsFile> {
    let file = disk.create_new(path(name)).unwrap();
    disk.sync_dir(path("/")).unwrap();
    file
}

/// The names and contents left after power loss, each with how many seeds led there.
fn outcomes(run: impl Fn(&SimFs)) -> BTreeMap<BTreeMap<String, String>, u64> {
    let mut outcomes = BTreeMap::new();
    for seed in 0..SEEDS {
        let disk = SimFs::new(seed);
        run(&disk);
        let after = disk.crash(CrashKind::PowerLoss);
        *outcomes.entry(texts(&after)).or_default() += 1;
    }
    outcomes
}

fn texts(disk: &SimFs) -> BTreeMap<String, String> {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let files = disk.files().into_iter();
    files.map(|(path, bytes)| (path.to_str().unwrap().to_owned(), text(bytes))).collect()
}

/// The set of file trees that the outcomes may be, each `"name=content name=content"`.
#[track_caller]
fn assert_outcomes(seen: &BTreeMap<BTreeMap<String, String>, u64>, expected: &[&str]) {
    let seen: BTreeSet<String> = seen
        .keys()
        .map(|files| {
            let files = files.iter().map(|(name, text)| format!("{name}={text}"));
            files.collect::<Vec<_>>().join(" ")
        })
        .collect();
    let expected: BTreeSet<String> = expected.iter().map(|&e| e.to_owned()).collect();
    assert_eq!(seen, expected);
}

// Power loss: bytes.

#[test]
fn synced_bytes_and_names_survive_power_loss() {
    for seed in 0..SEEDS {
        let disk = SimFs::new(seed);
        let file = named(&disk, "a");
        let mut content = Vec::new();
        let mut synced = 0;
        for nth in 0..20u8 {
            let record = vec![nth + 1; 37 * (1 + nth as usize)];
            file.append_all(&record).unwrap();
            content.extend(record);
            if (seed + u64::from(nth)) % 7 == 0 {
                file.sync_data().unwrap();
                synced = content.len();
            }
        }
        let after = disk.crash(CrashKind::PowerLoss);
        let left = after.read_file(path("a")).unwrap();
        assert!(synced <= left.len() && left.len() <= content.len());
        assert_eq!(left[..synced], content[..synced], "seed {seed}");
        // Beyond, each byte is what was written or never arrived.
        for (at, byte) in left.iter().enumerate().skip(synced) {
            assert!(*byte == content[at] || *byte == 0, "seed {seed}, byte {at}: {byte}");
        }
    }
}

#[test]
fn unsynced_bytes_may_survive_whole_torn_with_holes_or_not_at_all() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimFs::new(seed);
        let file = named(&disk, "a");
        file.append_all(&[1; 4 * SECTOR_BYTES]).unwrap();
        file.append_all(&[2; 4 * SECTOR_BYTES]).unwrap();
        let left = disk.crash(CrashKind::PowerLoss).read_file(path("a")).unwrap();
        let hole = left.iter().position(|b| *b == 0);
        let after_hole = hole.is_some_and(|at| left[at..].iter().any(|b| *b != 0));
        seen.insert(match (left.len(), hole) {
            (0, _) => "nothing",
            (_, Some(_)) if after_hole => "a hole",
            (_, Some(_)) => "a length without its bytes",
            (len, None) if len == 8 * SECTOR_BYTES => "everything",
            (_, None) => "a beginning",
        });
    }
    let all = ["a beginning", "a hole", "a length without its bytes", "everything", "nothing"];
    assert_eq!(seen, BTreeSet::from(all));
}

#[test]
fn a_sector_is_never_torn_and_never_older_than_the_sync() {
    let mut mixed = 0;
    for seed in 0..SEEDS {
        let disk = SimFs::new(seed);
        named(&disk, "a");
        let file = disk.open(path("a"), OpenMode::Write).unwrap();
        for generation in 1..=2 {
            file.write_all_at(&[generation; 6 * SECTOR_BYTES], 0).unwrap();
        }
        file.sync_data().unwrap();
        for generation in 3..=5 {
            file.write_all_at(&[generation; 6 * SECTOR_BYTES], 0).unwrap();
        }
        let left = disk.crash(CrashKind::PowerLoss).read_file(path("a")).unwrap();
        assert_eq!(left.len(), 6 * SECTOR_BYTES, "seed {seed}");
        for sector in left.chunks(SECTOR_BYTES) {
            assert!((2..=5).contains(&sector[0]), "seed {seed}: {}", sector[0]);
            assert_eq!(sector, [sector[0]; SECTOR_BYTES], "seed {seed}");
        }
        mixed += u64::from(left.iter().any(|b| *b != left[0]));
    }
    assert!(mixed > SEEDS / 10, "only {mixed} seeds mixed generations");
}

#[test]
fn an_unsynced_cut_may_be_undone_and_what_follows_it_with_it() {
    let seen = outcomes(|disk| {
        let file = named(disk, "a");
        file.append_all(b"old tail").unwrap();
        file.sync_data().unwrap();
        file.set_len(4).unwrap();
        file.append_all(b"new").unwrap();
    });
    assert_outcomes(
        &seen,
        &[
            "/a=old tail",
            "/a=old ",
            "/a=old new",
            "/a=old \0\0\0", // the length arrived, the sector did not
        ],
    );
}

#[test]
fn a_synced_cut_stays() {
    let seen = outcomes(|disk| {
        let file = named(disk, "a");
        file.append_all(b"whole torn").unwrap();
        file.sync_data().unwrap();
        file.set_len(5).unwrap();
        file.sync_data().unwrap();
    });
    assert_outcomes(&seen, &["/a=whole"]);
}

// Power loss: names.

#[test]
fn a_name_needs_its_directory_synced() {
    let synced_file_only = outcomes(|disk| {
        let file = disk.create_new(path("a")).unwrap();
        file.append_all(b"1").unwrap();
        file.sync_data().unwrap();
    });
    assert_outcomes(&synced_file_only, &["", "/a=1"]);

    let synced_name_only = outcomes(|disk| {
        let file = named(disk, "a");
        file.append_all(b"1").unwrap();
    });
    assert_outcomes(&synced_name_only, &["/a=", "/a=1", "/a=\0"]);
}

#[test]
fn a_directory_needs_the_one_above_it_synced() {
    let in_unsynced = outcomes(|disk| {
        disk.create_dir_all(path("d/e")).unwrap();
        disk.create_new(path("d/e/a")).unwrap();
        disk.sync_dir(path("d/e")).unwrap();
        disk.sync_dir(path("/")).unwrap();
    });
    assert_outcomes(&in_unsynced, &["", "/d/e/a="]);

    let in_synced = outcomes(|disk| {
        disk.create_dir_all(path("d/e")).unwrap();
        disk.create_new(path("d/e/a")).unwrap();
        for dir in ["d/e", "d", "/"] {
            disk.sync_dir(path(dir)).unwrap();
        }
    });
    assert_outcomes(&in_synced, &["/d/e/a="]);
}

/// A directory with synced files `old` and `new`, holding their own names.
fn two_files(disk: &SimFs) {
    for name in ["old", "new"] {
        let file = named(disk, name);
        file.append_all(name.as_bytes()).unwrap();
        file.sync_data().unwrap();
    }
}

#[test]
fn an_unsynced_rename_happened_or_not_but_never_half() {
    let unsynced = outcomes(|disk| {
        two_files(disk);
        disk.rename(path("new"), path("old")).unwrap();
    });
    assert_outcomes(&unsynced, &["/new=new /old=old", "/old=new"]);

    let synced = outcomes(|disk| {
        two_files(disk);
        disk.rename(path("new"), path("old")).unwrap();
        disk.sync_dir(path("/")).unwrap();
    });
    assert_outcomes(&synced, &["/old=new"]);
}

#[test]
fn unsynced_links_and_removals_may_be_lost_in_any_order() {
    let seen = outcomes(|disk| {
        two_files(disk);
        disk.hard_link(path("old"), path("link")).unwrap();
        disk.remove(path("new")).unwrap();
    });
    assert_outcomes(&seen, &["/link=old /new=new /old=old", "/link=old /old=old", "/new=new /old=old", "/old=old"]);
}

#[test]
fn a_rename_between_directories_needs_the_new_one_synced_first() {
    let run = |first: &'static str| {
        outcomes(move |disk| {
            two_files(disk);
            disk.create_dir_all(path("d")).unwrap();
            disk.sync_dir(path("/")).unwrap();
            disk.rename(path("new"), path("d/new")).unwrap();
            disk.sync_dir(path(first)).unwrap();
        })
    };
    assert_outcomes(&run("d"), &["/d/new=new /new=new /old=old", "/d/new=new /old=old"]);
    assert_outcomes(&run("/"), &["/old=old", "/d/new=new /old=old"]);
}

#[test]
fn half_a_rename_may_leave_a_directory_at_two_places_or_in_itself() {
    let twice = outcomes(|disk| {
        disk.create_dir_all(path("d")).unwrap();
        disk.create_dir_all(path("e")).unwrap();
        disk.create_new(path("d/a")).unwrap();
        disk.sync_dir(path("d")).unwrap();
        disk.sync_dir(path("/")).unwrap();
        disk.rename(path("d"), path("e/d")).unwrap();
        disk.sync_dir(path("e")).unwrap();
    });
    assert_outcomes(&twice, &["/d/a= /e/d/a=", "/e/d/a="]);

    let in_itself = outcomes(|disk| {
        disk.create_dir_all(path("d")).unwrap();
        disk.create_dir_all(path("e")).unwrap();
        disk.create_new(path("d/a")).unwrap();
        disk.sync_dir(path("/")).unwrap();
        disk.rename(path("d"), path("e/d")).unwrap();
        disk.sync_dir(path("e")).unwrap();
        disk.rename(path("e/d"), path("c")).unwrap();
        disk.rename(path("e"), path("c/e")).unwrap();
        disk.sync_dir(path("c")).unwrap();
    });
    // `d` holds `e`, durably; whether `e` still holds `d`, and which of them the root knows, is
    // open. A way that leads to `a` is found, and none is walked in circles.
    let expected = ["/c/a", "/c/e/d/a", "/d/a", "/e/d/a"];
    let seen: BTreeSet<&str> = in_itself.keys().flat_map(|files| files.keys().map(String::as_str)).collect();
    assert!(seen.contains("/e/d/a") && seen.iter().all(|f| expected.contains(f)), "{seen:?}");
}

#[test]
fn files_come_and_gone_leave_nothing_behind() {
    let disk = SimFs::new(1);
    for nth in 0..100 {
        let file = disk.create_new(path("tmp")).unwrap();
        file.append_all(&[1; 100]).unwrap();
        disk.rename(path("tmp"), path("a")).unwrap();
        if nth % 3 == 0 {
            disk.sync_dir(path("/")).unwrap();
        }
    }
    disk.remove(path("a")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    let state = disk.disk();
    assert_eq!(state.nodes.len(), 1, "only the root is left");
    assert!(state.unsynced_names.is_empty());
}

#[test]
fn publishing_by_rename_is_all_or_nothing_at_every_crash() {
    let publish = |disk: &SimFs, content: &[u8]| -> io::Result<()> {
        let file = disk.create_new(path("tmp"))?;
        file.append_all(content)?;
        file.sync_data()?;
        disk.rename(path("tmp"), path("a"))?;
        disk.sync_dir(path("/"))
    };
    let old = vec![1; 3 * SECTOR_BYTES];
    let new = vec![2; 5 * SECTOR_BYTES];
    let mut runs = 0;
    for kind in [CrashKind::ProcessKill, CrashKind::PowerLoss] {
        for seed in 0..50 {
            for crash_at in 1.. {
                let disk = SimFs::new(seed);
                publish(&disk, &old).unwrap();
                disk.crash_at(disk.op_count() + crash_at);
                let result = publish(&disk, &new);
                let left = disk.crash(kind).read_file(path("a")).unwrap();
                assert!(left == old || left == new, "seed {seed}, at {crash_at}");
                runs += 1;
                if result.is_ok() {
                    assert_eq!(left, new, "seed {seed}: acknowledged");
                    break;
                }
            }
        }
    }
    assert_eq!(runs, 2 * 50 * 6, "five operations, and none of them");
}

// A process kill, and the machine that stops in the middle.

#[test]
fn a_process_kill_keeps_every_completed_operation() {
    for seed in 0..SEEDS {
        let disk = SimFs::new(seed);
        let file = disk.create_new(path("a")).unwrap();
        file.append_all(&[1; 2000]).unwrap();
        disk.hard_link(path("a"), path("b")).unwrap();
        disk.create_dir_all(path("d")).unwrap();
        disk.rename(path("a"), path("d/a")).unwrap();
        file.set_len(1000).unwrap();
        file.append_all(&[2; 5]).unwrap();
        let before = disk.files();
        let after = disk.crash(CrashKind::ProcessKill);
        assert_eq!(after.files(), before, "seed {seed}");
        assert_eq!(before.len(), 2);
    }
}

#[test]
fn what_a_killed_process_left_unsynced_is_still_at_risk() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let disk = SimFs::new(seed);
        named(&disk, "a").append_all(b"1").unwrap();
        let next = disk.crash(CrashKind::ProcessKill);
        let file = next.open(path("a"), OpenMode::Append).unwrap();
        if seed % 2 == 0 {
            file.sync_data().unwrap();
        }
        let left = next.crash(CrashKind::PowerLoss).read_file(path("a")).unwrap();
        if seed % 2 == 0 {
            assert_eq!(left, b"1", "seed {seed}");
        } else {
            lost += u64::from(left != b"1");
        }
    }
    assert!(lost > 0, "the kill must not have synced");
}

#[test]
fn the_write_a_crash_interrupts_leaves_a_prefix() {
    let mut lengths = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimFs::new(seed);
        let file = named(&disk, "a");
        file.append_all(b"before").unwrap();
        disk.crash_at(disk.op_count() + 1);
        let error = file.append(b"0123456789").unwrap_err();
        assert!(is_sim_crash(&error), "{error}");
        let left = disk.crash(CrashKind::ProcessKill).read_file(path("a")).unwrap();
        assert!(b"before0123456789".starts_with(&left), "{left:?}");
        assert!(left.len() >= 6, "a completed write is kept");
        lengths.insert(left.len() - 6);
    }
    assert_eq!(lengths, (0..=10).collect());
}

#[test]
fn any_other_change_a_crash_interrupts_happens_or_not() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimFs::new(seed);
        two_files(&disk);
        disk.crash_at(disk.op_count() + 1);
        let error = disk.rename(path("new"), path("old")).unwrap_err();
        assert!(is_sim_crash(&error), "{error}");
        seen.insert(texts(&disk.crash(CrashKind::ProcessKill)).len());
    }
    assert_eq!(seen, BTreeSet::from([1, 2]));
}

#[test]
fn after_a_crash_every_operation_on_the_old_mount_fails() {
    let disk = SimFs::new(1);
    let file = named(&disk, "a");
    let writer = disk.open(path("a"), OpenMode::Write).unwrap();
    disk.crash_at(disk.op_count() + 1);
    assert!(!disk.has_crashed());
    file.append(b"x").unwrap_err();
    assert!(disk.has_crashed());
    let (a, b) = (path("a"), path("b"));
    let results = [
        file.read_at(&mut [0], 0).map(drop),
        file.append(b"x").map(drop),
        file.append_all(b"x").map_err(io::Error::from),
        writer.write_at(b"x", 0).map(drop),
        file.set_len(0),
        file.allocate(0, 1),
        file.sync_data(),
        file.len().map(drop),
        disk.open(a, OpenMode::Read).map(drop),
        disk.create_new(b).map(drop),
        disk.create_dir_all(b),
        disk.rename(a, b),
        disk.hard_link(a, b),
        disk.remove(a),
        disk.list(path("/")).map(drop),
        disk.sync_dir(path("/")),
        disk.space(path("/")).map(drop),
        disk.lock(b).map(drop),
    ];
    for (nth, result) in results.into_iter().enumerate() {
        let error = result.expect_err("the machine has stopped");
        assert!(is_sim_crash(&error), "operation {nth}: {error}");
    }
    let full = io::Error::from(ErrorKind::StorageFull);
    assert!(!is_sim_crash(&full));
}

#[test]
fn a_crash_releases_locks_and_old_guards_do_not_touch_the_new_mount() {
    let disk = SimFs::new(1);
    let old = disk.lock(path("lock")).unwrap();
    let file = disk.create_new(path("a")).unwrap();
    let after = disk.crash(CrashKind::ProcessKill);
    let new = after.lock(path("lock")).unwrap();
    drop((old, file));
    let held = after.lock(path("lock")).unwrap_err();
    assert_eq!(held.kind(), ErrorKind::WouldBlock);
    drop(new);
    after.lock(path("lock")).unwrap();
}

// A full disk.

#[test]
fn the_write_that_fills_the_disk_is_short_and_room_given_back_is_used() {
    let disk = SimFs::new(1);
    disk.set_capacity(Some(1000));
    let file = disk.create_new(path("a")).unwrap();
    file.append_all(&[1; 900]).unwrap();
    let partial = file.append_all(&[2; 300]).unwrap_err();
    assert_eq!(partial.written, 100);
    assert_eq!(partial.source.kind(), ErrorKind::StorageFull);
    assert_eq!(io::Error::from(partial).kind(), ErrorKind::StorageFull);
    assert_eq!(disk.space(path("/")).unwrap().available, 0);
    let mut buf = [0; 1000];
    file.read_exact_at(&mut buf, 0).unwrap();

    // What has room can be overwritten; what was cut off can be written again.
    let writer = disk.open(path("a"), OpenMode::Write).unwrap();
    writer.write_all_at(&[3; 1000], 0).unwrap();
    file.set_len(950).unwrap();
    assert_eq!(disk.space(path("/")).unwrap().available, 50);
    assert_eq!(file.append(&[4; 80]).unwrap(), 50);
    let full = file.append(&[4; 80]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);

    disk.set_capacity(Some(1100));
    file.append_all(&[5; 100]).unwrap();
    assert_eq!(file.len().unwrap(), 1100);
    let space = disk.space(path("/")).unwrap();
    assert_eq!((space.total, space.available), (1100, 0));
}

#[test]
fn a_removed_file_gives_its_room_back_with_its_last_handle_and_name() {
    let disk = SimFs::new(1);
    disk.set_capacity(Some(1000));
    let file = disk.create_new(path("a")).unwrap();
    file.append_all(&[1; 700]).unwrap();
    disk.hard_link(path("a"), path("b")).unwrap();
    let free = || disk.space(path("/")).unwrap().available;
    disk.remove(path("a")).unwrap();
    assert_eq!(free(), 300, "a name is left");
    disk.remove(path("b")).unwrap();
    assert_eq!(free(), 300, "a handle is left");
    drop(file);
    assert_eq!(free(), 1000);
}

#[test]
fn lengthening_takes_no_room_and_allocating_does() {
    let disk = SimFs::new(1);
    disk.set_capacity(Some(1000));
    let file = disk.create_new(path("log")).unwrap();
    file.set_len(5000).unwrap();
    file.set_len(0).unwrap();
    file.allocate(0, 600).unwrap();
    let other = disk.create_new(path("other")).unwrap();
    assert_eq!(other.append(&[1; 600]).unwrap(), 400);
    assert_eq!(file.allocate(600, 1).unwrap_err().kind(), ErrorKind::StorageFull);
    file.append_all(&[2; 600]).unwrap();
    let past = file.append(b"x").unwrap_err();
    assert_eq!(past.kind(), ErrorKind::StorageFull);
}

#[test]
fn a_synced_reserve_is_still_there_after_power_loss() {
    for seed in 0..20 {
        let disk = SimFs::new(seed);
        disk.set_capacity(Some(1000));
        let reserve = named(&disk, "reserve");
        reserve.allocate(0, 300).unwrap();
        reserve.sync_data().unwrap();
        let after = disk.crash(CrashKind::PowerLoss);
        assert_eq!(after.space(path("/")).unwrap().available, 700);
        after.remove(path("reserve")).unwrap();
        assert_eq!(after.space(path("/")).unwrap().available, 1000);
    }
}

// Planned faults.

#[test]
fn a_failed_sync_never_makes_data_durable_and_neither_does_a_later_one() {
    for fault in [Fault::Io, Fault::NoSpace] {
        for seed in 0..SEEDS {
            let disk = SimFs::new(seed);
            let file = named(&disk, "a");
            file.append_all(b"kept").unwrap();
            file.sync_data().unwrap();
            file.append_all(b"lost").unwrap();
            disk.fail_next(OpKind::SyncData, fault);
            file.sync_data().unwrap_err();
            file.sync_data().unwrap();
            assert_eq!(disk.read_file(path("a")).unwrap(), b"keptlost");
            file.append_all(b"more").unwrap();
            file.sync_data().unwrap();
            let left = disk.crash(CrashKind::PowerLoss).read_file(path("a")).unwrap();
            assert_eq!(left, b"kept\0\0\0\0more", "seed {seed}");
        }
    }
}

#[test]
fn a_failed_sync_spares_other_files_and_a_process_kill() {
    let disk = SimFs::new(1);
    let (bad, good) = (named(&disk, "bad"), named(&disk, "good"));
    bad.append_all(b"1").unwrap();
    good.append_all(b"2").unwrap();
    disk.fail_next(OpKind::SyncData, Fault::Io);
    assert_eq!(bad.sync_data().unwrap_err().raw_os_error(), Some(5));
    good.sync_data().unwrap();
    let killed = disk.crash(CrashKind::ProcessKill);
    assert_eq!(killed.read_file(path("bad")).unwrap(), b"1");
    let after = disk.crash(CrashKind::PowerLoss);
    assert_eq!(after.read_file(path("bad")).unwrap(), b"");
    assert_eq!(after.read_file(path("good")).unwrap(), b"2");
}

#[test]
fn a_failed_directory_sync_makes_no_name_durable() {
    let seen = outcomes(|disk| {
        disk.create_new(path("a")).unwrap();
        disk.fail_next(OpKind::SyncDir, Fault::Io);
        disk.sync_dir(path("/")).unwrap_err();
    });
    assert_outcomes(&seen, &["", "/a="]);
}

#[test]
fn a_failed_operation_does_nothing_and_the_next_succeeds() {
    let disk = SimFs::new(1);
    let file = named(&disk, "a");
    file.append_all(b"content").unwrap();
    let before = disk.files();
    let (a, b) = (path("a"), path("b"));
    type Run<'a> = &'a dyn Fn() -> io::Result<()>;
    let cases: [(OpKind, Run<'_>, Run<'_>); 9] = [
        (OpKind::Read, &|| file.read_exact_at(&mut [0; 7], 0), &|| Ok(())),
        (OpKind::Open, &|| disk.open(a, OpenMode::Read).map(drop), &|| Ok(())),
        (OpKind::List, &|| disk.list(path("/")).map(drop), &|| Ok(())),
        (OpKind::Write, &|| file.append(b"!").map(drop), &|| file.set_len(7)),
        (OpKind::SetLen, &|| file.set_len(3), &|| {
            file.set_len(0)?;
            Ok(file.append_all(b"content")?)
        }),
        (OpKind::Create, &|| disk.create_new(b).map(drop), &|| disk.remove(b)),
        (OpKind::Rename, &|| disk.rename(a, b), &|| disk.rename(b, a)),
        (OpKind::Link, &|| disk.hard_link(a, b), &|| disk.remove(b)),
        (OpKind::Remove, &|| disk.remove(a), &|| Ok(())),
    ];
    for (op, run, undo) in cases {
        for (fault, code) in [(Fault::Io, 5), (Fault::NoSpace, 28)] {
            disk.fail_next(op, fault);
            let error = run().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(code), "{op:?}");
            assert_eq!(disk.files(), before, "{op:?} did something");
        }
        run().unwrap_or_else(|e| panic!("{op:?} after its faults: {e}"));
        undo().unwrap_or_else(|e| panic!("undo of {op:?}: {e}"));
    }
    assert!(disk.files().is_empty(), "the last case removes the file");
}

#[test]
fn faults_hit_the_operation_they_were_planned_for() {
    let disk = SimFs::new(1);
    let file = named(&disk, "a");
    let at = |nth| FaultAt { op: OpKind::Write, nth, fault: Fault::Io };
    disk.fail(at(2));
    disk.fail_from(at(5));
    let results: Vec<bool> = (0..8).map(|_| file.append(b"x").is_ok()).collect();
    let expected = [true, false, true, true, false, false, false, false];
    assert_eq!(results, expected);
    disk.clear_faults();
    file.append_all(b"x").unwrap();
    assert_eq!(file.len().unwrap(), 4);
    assert_eq!(disk.count(OpKind::Write), 9);
    assert_eq!(disk.op_count(), 11, "one creation, one sync, nine writes");
}

#[test]
fn short_reads_and_writes_are_carried_on_by_the_whole_ones() {
    let disk = SimFs::new(1);
    let file = named(&disk, "a");
    let short = Fault::Short { bytes: 3 };
    disk.fail_next(OpKind::Write, short);
    assert_eq!(file.append(b"0123456789").unwrap(), 3);
    disk.fail_next(OpKind::Write, short);
    file.append_all(b"3456789").unwrap();
    assert_eq!(disk.count(OpKind::Write), 3);
    let mut buf = [0; 10];
    disk.fail_next(OpKind::Read, short);
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 3);
    disk.fail_next(OpKind::Read, short);
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"0123456789");

    let after_short = disk.count(OpKind::Write) + 2;
    disk.fail_next(OpKind::Write, short);
    disk.fail(FaultAt { op: OpKind::Write, nth: after_short, fault: Fault::Io });
    let partial = file.append_all(b"abcdef").unwrap_err();
    assert_eq!(partial.written, 3);
    assert_eq!(disk.read_file(path("a")).unwrap(), b"0123456789abc");
}

#[test]
#[should_panic(expected = "is over")]
fn a_fault_that_cannot_happen_any_more_is_refused() {
    let disk = SimFs::new(1);
    named(&disk, "a");
    disk.fail(FaultAt { op: OpKind::Create, nth: 1, fault: Fault::Io });
}

#[test]
#[should_panic(expected = "no short read or write")]
fn a_short_rename_is_refused() {
    SimFs::new(1).fail_next(OpKind::Rename, Fault::Short { bytes: 1 });
}

#[test]
#[should_panic(expected = "is over")]
fn a_crash_that_cannot_happen_any_more_is_refused() {
    let disk = SimFs::new(1);
    named(&disk, "a");
    disk.crash_at(2);
}

#[test]
fn corruption_stays_through_sync_kill_and_power_loss() {
    for (synced, kind) in
        [(true, CrashKind::PowerLoss), (false, CrashKind::ProcessKill), (true, CrashKind::ProcessKill)]
    {
        let disk = SimFs::new(1);
        let file = named(&disk, "a");
        file.append_all(b"abc").unwrap();
        if synced {
            file.sync_data().unwrap();
        }
        disk.corrupt(path("a"), 1, 0x01).unwrap();
        file.sync_data().unwrap();
        let past = disk.corrupt(path("a"), 3, 1).unwrap_err();
        assert_eq!(past.kind(), ErrorKind::UnexpectedEof);
        let left = disk.crash(kind).read_file(path("a")).unwrap();
        assert_eq!(left, b"acc", "synced {synced}, {kind:?}");
    }
}

#[test]
fn a_wild_offset_or_path_is_an_error() {
    let disk = SimFs::new(1);
    named(&disk, "a");
    let file = disk.open(path("a"), OpenMode::Write).unwrap();
    for result in [file.write_at(b"x", u64::MAX).map(drop), file.set_len(u64::MAX), file.allocate(1, u64::MAX)] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::FileTooLarge);
    }
    let above = disk.open(path("d/../a"), OpenMode::Read).unwrap_err();
    assert_eq!(above.kind(), ErrorKind::InvalidInput);
}

// Determinism.

/// Churns a few files; what the disk looks like after a kill and a power loss.
fn churn(seed: u64) -> Vec<BTreeMap<std::path::PathBuf, Vec<u8>>> {
    let mut disk = SimFs::new(seed);
    let mut seen = Vec::new();
    for round in 0..6u8 {
        let name = format!("f{}", round % 4);
        let file = match disk.open(path(&name), OpenMode::Append) {
            Ok(file) => file,
            Err(_) => disk.create_new(path(&name)).unwrap(),
        };
        for nth in 0..8u8 {
            file.append_all(&vec![round * 16 + nth + 1; 300]).unwrap();
            if nth == round {
                file.sync_data().unwrap();
            }
        }
        if round % 3 == 0 {
            disk.sync_dir(path("/")).unwrap();
        }
        let kind = if round % 2 == 0 { CrashKind::ProcessKill } else { CrashKind::PowerLoss };
        disk.crash_at(disk.op_count() + 1);
        file.append(&[0xee; 100]).unwrap_err();
        disk = disk.crash(kind);
        seen.push(disk.files());
    }
    seen
}

#[test]
fn the_same_seed_gives_the_same_outcome() {
    for seed in 0..20 {
        assert_eq!(churn(seed), churn(seed), "seed {seed}");
    }
    let different: BTreeSet<_> = (0..20).map(churn).collect();
    assert!(different.len() > 15, "{} of 20 differ", different.len());
}

#[test]
fn one_crash_can_be_looked_at_again_with_another_outcome() {
    let disk = SimFs::new(1);
    let file = named(&disk, "a");
    file.append_all(&[1; 8 * SECTOR_BYTES]).unwrap();
    let again = || disk.crash(CrashKind::PowerLoss).files();
    let seen: BTreeSet<_> = (0..50).map(|_| again()).collect();
    assert!(seen.len() > 5, "{} outcomes", seen.len());
}
