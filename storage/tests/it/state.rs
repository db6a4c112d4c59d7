//! The state stores: one contract for all, the embedded one on a failing disk, the Redis one with a server that comes and
//! goes.

use std::path::Path;
use std::sync::Arc;

use kymo_core::contract;
use kymo_core::metric::MetricType;
use kymo_core::registry::Registry;
use kymo_core::state::{StateError, StateStore};
use kymo_core::{ErrorKind, ManualClock};
use kymo_storage::fs::{CrashKind, Fault, FaultAt, Fs, OpKind, RealFs, SimFs};
use kymo_storage::state::{EmbeddedFault, EmbeddedState, Measured, MemoryState};

const DIR: &str = "/data/state";

/// A disk with a data directory, which is the engine's to make.
fn disk(seed: u64) -> SimFs {
    let disk = SimFs::new(seed);
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn embedded(disk: &SimFs) -> Result<EmbeddedState, EmbeddedFault> {
    EmbeddedState::open(Arc::new(disk.clone()), Path::new(DIR))
}

#[test]
fn the_store_in_memory_keeps_the_contract() {
    contract::state::run(&mut || Arc::new(MemoryState::default()));
}

#[test]
fn the_embedded_store_keeps_the_contract_on_either_disk() {
    let mut seed = 0;
    contract::state::run(&mut || {
        seed += 1;
        Arc::new(embedded(&disk(seed)).unwrap())
    });
    let folder = tempfile::tempdir().unwrap();
    let mut nth = 0;
    contract::state::run(&mut || {
        nth += 1;
        let dir = folder.path().join(format!("{nth}/state"));
        Arc::new(EmbeddedState::open(Arc::new(RealFs), &dir).unwrap())
    });
}

#[test]
fn only_one_has_the_embedded_store_open_and_it_is_there_after_closing() {
    let disk = disk(1);
    let store = embedded(&disk).unwrap();
    store.put("key", b"value").unwrap();
    assert!(matches!(embedded(&disk), Err(EmbeddedFault::Locked { .. })));
    drop(store);
    assert_eq!(embedded(&disk).unwrap().get("key").unwrap().as_deref(), Some(&b"value"[..]));
}

/// What the script did before it stopped: changes that returned, and the one that did not.
#[derive(Default, Debug)]
struct Done {
    model: std::collections::BTreeMap<String, Vec<u8>>,
    under_way: Option<(String, Option<Vec<u8>>)>,
}

/// Puts, replaces and deletes until something fails.
fn script(store: &dyn StateStore, done: &mut Done) -> Result<(), StateError> {
    for n in 0..6u8 {
        let key = format!("key/{}", n % 3);
        let value = vec![n; 1 + 700 * usize::from(n)];
        done.under_way = Some((key.clone(), Some(value.clone())));
        store.put(&key, &value)?;
        done.model.insert(key, value);
        if n % 2 == 1 {
            let gone = format!("key/{}", (n + 1) % 3);
            done.under_way = Some((gone.clone(), None));
            store.delete(&gone)?;
            done.model.remove(&gone);
        }
    }
    done.under_way = None;
    Ok(())
}

fn content(store: &dyn StateStore) -> std::collections::BTreeMap<String, Vec<u8>> {
    let keys = store.list("").unwrap().into_iter();
    keys.map(|key| (key.clone(), store.get(&key).unwrap().unwrap())).collect()
}

impl Done {
    /// What is there is what was acknowledged, with the change under way or without.
    fn check(&self, found: &std::collections::BTreeMap<String, Vec<u8>>, when: &str) {
        let mut with = self.model.clone();
        match self.under_way.clone() {
            Some((key, Some(value))) => drop(with.insert(key, value)),
            Some((key, None)) => drop(with.remove(&key)),
            None => {}
        }
        let lens = |map: &std::collections::BTreeMap<String, Vec<u8>>| -> Vec<(String, usize)> {
            map.iter().map(|(key, value)| (key.clone(), value.len())).collect()
        };
        assert!(
            *found == self.model || *found == with,
            "{when}: {:?} is there, of {:?}",
            lens(found),
            lens(&self.model)
        );
    }
}

#[test]
fn what_was_put_survives_kill_and_power_loss_at_every_change_of_the_disk() {
    let changes = {
        let disk = disk(0);
        script(&embedded(&disk).unwrap(), &mut Done::default()).unwrap();
        disk.op_count()
    };
    assert!(changes > 30, "{changes}");
    for at in 3..=changes {
        let disk = disk(at);
        disk.crash_at(at);
        let mut done = Done::default();
        if let Ok(store) = embedded(&disk) {
            // It may also get to its end, and the disk stops while the file is closed.
            let _ = script(&store, &mut done);
        }
        assert!(disk.has_crashed(), "change {at} was reached");
        for kind in [CrashKind::ProcessKill, CrashKind::PowerLoss, CrashKind::PowerLoss] {
            let after = disk.crash(kind);
            let when = format!("{kind:?} at change {at}");
            let store = embedded(&after).unwrap_or_else(|error| panic!("{when}: {error:?}"));
            done.check(&content(&store), &when);
            store.put("afterwards", b"1").unwrap();
            assert_eq!(store.get("afterwards").unwrap().as_deref(), Some(&b"1"[..]), "{when}");
        }
    }
}

#[test]
fn a_failed_write_or_sync_leaves_the_old_value_and_the_next_call_goes_on() {
    for op in [OpKind::SyncData, OpKind::Write] {
        for nth in 1.. {
            let disk = disk(nth);
            let store = embedded(&disk).unwrap();
            store.put("kept", b"old").unwrap();
            let before = disk.count(op);
            disk.fail(FaultAt { op, nth: before + nth, fault: Fault::Io });
            let failed = store.put("kept", b"new");
            if failed.is_ok() && disk.count(op) < before + nth {
                break;
            }
            let wanted: &[u8] = if failed.is_ok() { b"new" } else { b"old" };
            if let Err(error) = &failed {
                assert!(matches!(error, StateError::Unavailable { .. }), "{error:?}");
            }
            assert_eq!(store.get("kept").unwrap().as_deref(), Some(wanted), "{op:?} {nth}");
            store.put("next", b"1").unwrap();
            // What the failed sync may not have written is in another file by now.
            let after = disk.crash(CrashKind::PowerLoss);
            drop(store);
            let store = embedded(&after).unwrap();
            assert_eq!(store.get("kept").unwrap().as_deref(), Some(wanted), "{op:?} {nth}, after power loss");
            assert_eq!(store.get("next").unwrap().as_deref(), Some(&b"1"[..]), "{op:?} {nth}, after power loss");
        }
    }
}

#[test]
fn a_full_disk_is_a_clean_error_and_over_when_there_is_room() {
    let disk = disk(3);
    let store = embedded(&disk).unwrap();
    store.put("small", b"1").unwrap();
    disk.set_capacity(Some(0));
    let mut refused = 0;
    for n in 0..8 {
        match store.put(&format!("large/{n}"), &vec![1; 900_000]) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::unavailable(), "{error:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "the disk is full");
    disk.set_capacity(None);
    store.put("large", &vec![2; 900_000]).unwrap();
    assert_eq!(store.get("small").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn no_flipped_bit_is_taken_for_a_value() {
    let disk = disk(4);
    let store = embedded(&disk).unwrap();
    let value: Vec<u8> = (0..200u8).collect();
    store.put("key", &value).unwrap();
    drop(store);
    let path = Path::new(DIR).join("state.redb");
    let file = disk.read_file(&path).unwrap();
    let at = file.windows(value.len()).position(|window| window == value).expect("the value is in the file");
    for offset in [at - 4, at, at + 77, at + value.len() - 1] {
        disk.corrupt(&path, offset as u64, 0x10).unwrap();
        let outcome = embedded(&disk).map(|store| store.get("key"));
        match outcome {
            Err(EmbeddedFault::Database { .. })
            | Ok(Err(StateError::Damaged { .. } | StateError::Unavailable { .. })) => {}
            other => panic!("byte {offset}: {other:?}"),
        }
        disk.corrupt(&path, offset as u64, 0x10).unwrap();
    }
    assert_eq!(embedded(&disk).unwrap().get("key").unwrap(), Some(value));
}

#[test]
fn every_operation_is_counted_and_timed_failed_ones_too() {
    let registry = Registry::new();
    let disk = disk(5);
    let store = Arc::new(embedded(&disk).unwrap());
    let store = Measured::new(store, "embedded", &registry, Arc::new(ManualClock::at(0))).unwrap();
    store.put("a", b"1").unwrap();
    store.get("a").unwrap();
    store.list("").unwrap();
    store.delete("a").unwrap();
    store.put("", b"1").unwrap_err();
    disk.fail_next(OpKind::SyncData, Fault::Io);
    store.put("a", b"1").unwrap_err();
    for (operation, result, wanted) in [
        ("get", "ok", 1),
        ("put", "ok", 1),
        ("put", "error", 2),
        ("delete", "ok", 1),
        ("list", "ok", 1),
        ("get", "error", 0),
    ] {
        assert_eq!(measured(&registry, operation, "embedded", result), (wanted, wanted), "{operation} {result}");
    }
}

/// What both metrics counted.
pub(crate) fn measured(registry: &Registry, operation: &str, backend: &str, result: &str) -> (u64, u64) {
    let (mut counted, mut timed) = (0, 0);
    let labels = [("backend", backend), ("operation", operation), ("result", result)];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for family in registry.snapshot() {
        let Some(series) = family.series.into_iter().find(|series| *series.labels == labels) else { continue };
        match (family.name.as_str(), series.value) {
            ("storage_operations_total", MetricType::Counter { value, .. }) => counted = value as u64,
            ("storage_operation_duration_seconds", MetricType::Histogram { buckets, count, .. }) => {
                assert_eq!(buckets.first().map(|bucket| bucket.upper_bound), Some(0.000_01));
                timed = count;
            }
            _ => {}
        }
    }
    (counted, timed)
}
