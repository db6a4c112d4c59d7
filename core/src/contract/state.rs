//! The contract of [`StateStore`] as a test that every implementation runs.

#![expect(clippy::unwrap_used, reason = "a suite of tests panics where the contract does not hold")]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::error::ErrorKind;
use crate::state::{KEY_BYTES_MAX, StateError, StateStore, VALUE_BYTES_MAX};

/// Runs every test of the suite; `open` gives an empty store each time.
///
/// # Panics
/// Where the contract does not hold, with what was seen.
pub fn run(open: &mut dyn FnMut() -> Arc<dyn StateStore>) {
    type Test = fn(Arc<dyn StateStore>);
    let tests: [(&str, Test); 5] = [
        ("what_was_put_is_there_until_it_is_deleted", what_was_put_is_there_until_it_is_deleted),
        ("limits_are_told_and_nothing_changes", limits_are_told_and_nothing_changes),
        ("lists_are_sorted_and_by_prefix", lists_are_sorted_and_by_prefix),
        ("threads_see_whole_values", threads_see_whole_values),
        ("agrees_with_a_map_model", agrees_with_a_map_model),
    ];
    for (name, test) in tests {
        println!("contract: {name}");
        test(open());
    }
}

fn what_was_put_is_there_until_it_is_deleted(store: Arc<dyn StateStore>) {
    assert_eq!(store.get("a").unwrap(), None);
    assert!(!store.delete("a").unwrap(), "nothing to delete");
    let every_byte: Vec<u8> = (0..=255).collect();
    for value in [&b""[..], b"1", &every_byte] {
        store.put("a", value).unwrap();
        assert_eq!(store.get("a").unwrap().as_deref(), Some(value));
    }
    assert_eq!(store.get("A").unwrap(), None, "keys are compared by bytes");
    assert!(store.delete("a").unwrap());
    assert_eq!((store.get("a").unwrap(), store.delete("a").unwrap()), (None, false));
}

fn limits_are_told_and_nothing_changes(store: Arc<dyn StateStore>) {
    let (longest, too_long) = ("k".repeat(KEY_BYTES_MAX), "k".repeat(KEY_BYTES_MAX + 1));
    let largest = vec![7; VALUE_BYTES_MAX];
    store.put(&longest, &largest).unwrap();
    assert!(store.get(&longest).unwrap().is_some_and(|value| value == largest), "the largest of both is kept");
    for key in ["", &too_long] {
        let errors = [store.get(key).unwrap_err(), store.put(key, b"").unwrap_err(), store.delete(key).unwrap_err()];
        for error in errors {
            assert!(matches!(&error, StateError::KeyLength { len, .. } if *len == key.len()), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
    let error = store.put(&longest, &vec![8; VALUE_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error:?}");
    assert!(store.get(&longest).unwrap().is_some_and(|value| value == largest), "the old value stands");
    assert_eq!(store.list("").unwrap(), [longest]);
}

fn lists_are_sorted_and_by_prefix(store: Arc<dyn StateStore>) {
    assert_eq!(store.list("").unwrap(), Vec::<String>::new());
    let keys = ["a", "a/1", "a/10", "a/2", "a*b", "a?", "[a]", "a\\", "b", "é", "éa", "z\u{10ffff}", "a b\r\n$1"];
    for key in keys {
        store.put(key, b"x").unwrap();
    }
    for prefix in ["", "a", "a/", "a/1", "a*", "a?", "[", "a\\", "é", "z\u{10ffff}", "none", "a "] {
        let mut wanted: Vec<&str> = keys.into_iter().filter(|key| key.starts_with(prefix)).collect();
        wanted.sort_unstable();
        assert_eq!(store.list(prefix).unwrap(), wanted, "prefix {prefix:?}");
    }
}

fn threads_see_whole_values(store: Arc<dyn StateStore>) {
    let values: Vec<Vec<u8>> = (0..4u8).map(|n| vec![n; 4_096 + usize::from(n)]).collect();
    store.put("shared", &values[0]).unwrap();
    std::thread::scope(|scope| {
        for value in &values {
            let (store, values) = (&store, &values);
            scope.spawn(move || {
                for _ in 0..8 {
                    store.put("shared", value).unwrap();
                    let found = store.get("shared").unwrap().unwrap();
                    assert!(values.contains(&found), "a value that nobody wrote, of {} bytes", found.len());
                }
            });
        }
    });
}

#[derive(Debug, Clone)]
enum Step {
    Put(String, Vec<u8>),
    Get(String),
    Delete(String),
    List(String),
}

fn step() -> impl Strategy<Value = Step> {
    let key = "[ab/*]{1,3}";
    prop_oneof![
        (key, prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(key, value)| Step::Put(key, value)),
        key.prop_map(Step::Get),
        key.prop_map(Step::Delete),
        "[ab/*]{0,2}".prop_map(Step::List),
    ]
}

fn agrees_with_a_map_model(store: Arc<dyn StateStore>) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let config = Config { cases: 12, failure_persistence: None, ..Config::default() };
    let steps = prop::collection::vec(step(), 1..20);
    let outcome = TestRunner::new_with_rng(config, rng).run(&steps, |steps| {
        for key in store.list("").unwrap() {
            store.delete(&key).unwrap();
        }
        let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    store.put(&key, &value).unwrap();
                    model.insert(key, value);
                }
                Step::Get(key) => prop_assert_eq!(store.get(&key).unwrap(), model.get(&key).cloned()),
                Step::Delete(key) => prop_assert_eq!(store.delete(&key).unwrap(), model.remove(&key).is_some()),
                Step::List(prefix) => {
                    let wanted: Vec<String> = model.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
                    prop_assert_eq!(store.list(&prefix).unwrap(), wanted);
                }
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
