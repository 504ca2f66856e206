//! Where checkpoints are kept: a flat namespace of immutable objects.

use crate::error::Result;

/// A blocking object store: put-if-absent is all the fencing that checkpoints need. Implemented on `object_store` in `connectors`
/// (a local folder, or any bucket), and in memory here for tests.
pub trait CheckpointStore: Send + Sync {
    /// For messages: the folder or URL.
    fn describe(&self) -> String;
    /// Whether bytes are cheap to write and to read there, as in a folder of this machine: state is then not compressed unless a setting says so.
    fn is_near(&self) -> bool {
        false
    }
    /// Writes an object that must not exist. `Ok(false)`: it exists already, nothing was changed. Durable and whole on return:
    /// a crash leaves either nothing or all of it under the name.
    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<bool>;
    /// Reads an object; `None`: there is none.
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>>;
    /// Names that start with `prefix`, in order.
    fn list(&self, prefix: &str) -> Result<Vec<String>>;
    /// Removes an object; one that is not there is no error.
    fn delete(&self, name: &str) -> Result<()>;
}

/// A store in memory, for tests and simulations. Clones share the objects.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    objects: std::sync::Arc<std::sync::Mutex<std::collections::BTreeMap<String, Vec<u8>>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<String, Vec<u8>>> {
        self.objects.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl CheckpointStore for MemoryStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn is_near(&self) -> bool {
        true
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Ok(false);
        }
        objects.insert(name.to_owned(), bytes.to_vec());
        Ok(true)
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.objects().get(name).cloned())
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.objects().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.objects().remove(name);
        Ok(())
    }
}
