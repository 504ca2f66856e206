//! A store that keeps what it held before each write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use eagre_engine::checkpoint::{CheckpointStore, MemoryStore};

/// A store that keeps what it held before each write, while it is told to: a crash leaves one of these.
#[derive(Clone, Default)]
pub(super) struct Watched {
    pub(super) store: MemoryStore,
    pub(super) recording: Arc<AtomicBool>,
    pub(super) seen: Arc<Mutex<Vec<MemoryStore>>>,
}

impl Watched {
    pub(super) fn copy(&self) -> eagre_engine::Result<MemoryStore> {
        let copy = MemoryStore::new();
        for name in self.store.list("")? {
            if let Some(bytes) = self.store.get(&name)? {
                copy.put_if_absent(&name, &bytes)?;
            }
        }
        Ok(copy)
    }

    pub(super) fn note(&self) -> eagre_engine::Result<()> {
        if self.recording.load(Ordering::SeqCst) {
            let copy = self.copy()?;
            self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(copy);
        }
        Ok(())
    }
}

impl CheckpointStore for Watched {
    fn describe(&self) -> String {
        "watched".to_owned()
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> eagre_engine::Result<bool> {
        self.note()?;
        self.store.put_if_absent(name, bytes)
    }

    fn get(&self, name: &str) -> eagre_engine::Result<Option<Vec<u8>>> {
        self.store.get(name)
    }

    fn list(&self, prefix: &str) -> eagre_engine::Result<Vec<String>> {
        self.store.list(prefix)
    }

    fn delete(&self, name: &str) -> eagre_engine::Result<()> {
        self.note()?;
        self.store.delete(name)
    }
}
