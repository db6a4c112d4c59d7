//! A store in memory, for tests and for programs that keep nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kymo_core::state::{StateError, StateStore};

use super::{check_key, check_value};

/// A [`StateStore`] whose content ends with it.
#[derive(Debug, Default)]
pub struct MemoryState {
    /// No call can leave it half changed.
    values: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MemoryState {
    fn values(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryState {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        check_key(key)?;
        Ok(self.values().get(key).cloned())
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), StateError> {
        check_key(key)?;
        check_value(key, value)?;
        self.values().insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<bool, StateError> {
        check_key(key)?;
        Ok(self.values().remove(key).is_some())
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let values = self.values();
        let from = values.range(prefix.to_owned()..).map(|(key, _)| key);
        Ok(from.take_while(|key| key.starts_with(prefix)).cloned().collect())
    }
}
