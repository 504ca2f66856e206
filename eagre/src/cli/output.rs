//! Standard output, where several results may stream at once, and where whoever reads it may have stopped reading.

use std::io::{Result, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many bytes are written at once: of more, a slow reader would be taken for none.
const PART: usize = 64 << 10;

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

    fn timed<T>(&self, write: impl FnOnce() -> Result<T>) -> Result<T> {
        let set = |writing| *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = writing;
        set(Some(Instant::now()));
        let written = write();
        set(None);
        written
    }
}

impl Write for Output {
    /// All of it: the rows of two results do not mix.
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut out = std::io::stdout().lock();
        for part in bytes.chunks(PART) {
            self.timed(|| out.write_all(part))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        self.timed(|| out.flush())
    }
}
