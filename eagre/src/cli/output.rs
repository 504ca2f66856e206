//! Standard output, where several results may stream at once, and where whoever reads it may have stopped reading.

use std::io::{Result, StdoutLock, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Standard output, locked for each write. Clones say the same of it.
#[derive(Clone, Default)]
pub(super) struct Output {
    /// When the write at hand began.
    writing: Arc<Mutex<Option<Instant>>>,
}

impl Output {
    /// Whether a write has waited for its reader for so long.
    pub(super) fn is_unread_for(&self, time: Duration) -> bool {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|begun| begun.elapsed() >= time)
    }

    fn timed<T>(&self, write: impl FnOnce(&mut StdoutLock<'_>) -> Result<T>) -> Result<T> {
        let set = |writing| *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = writing;
        let mut out = std::io::stdout().lock();
        set(Some(Instant::now()));
        let written = write(&mut out);
        set(None);
        written
    }
}

impl Write for Output {
    /// All of it: the rows of two results do not mix.
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.timed(|out| out.write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.timed(|out| out.flush())
    }
}
