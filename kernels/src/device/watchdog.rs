//! Wakes who waits for a device that says nothing any more.
//!
//! An operator that waits for a wave is woken by the device thread. Where that thread hangs in the driver nobody would wake it, so a
//! thread of the process does, once for each wave, a while after the device should have given up; the operator then finds that the wave is
//! overdue, and the twin does its work.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

/// What is called once: by whoever comes first.
pub(crate) type Once = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Calls it, unless that was done before.
pub(crate) fn call(once: &Once) {
    // It is there or not, whatever happened to the thread that held the lock.
    let call = once.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(call) = call {
        call();
    }
}

/// Has it called at `deadline`, if nobody did so before.
pub(crate) fn call_by(deadline: Instant, once: Once) {
    static QUEUE: OnceLock<Option<Sender<Watched>>> = OnceLock::new();
    let queue = QUEUE.get_or_init(|| {
        let (sender, receiver) = unbounded();
        // Without it a hanging driver hangs who waits for it, as it would without this module.
        std::thread::Builder::new()
            .name("eagre-watchdog".to_owned())
            .spawn(move || watch(&receiver))
            .is_ok()
            .then_some(sender)
    });
    if let Some(queue) = queue {
        drop(queue.send(Watched { deadline, once }));
    }
}

/// What is to be called, the earliest first.
struct Watched {
    deadline: Instant,
    once: Once,
}

impl Watched {
    fn waits(&self) -> bool {
        self.once.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Ord for Watched {
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.cmp(&self.deadline)
    }
}

impl PartialOrd for Watched {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Watched {}

/// Calls each at its deadline. A later one is never waited for while an earlier one is due, whatever order they come in.
fn watch(queue: &Receiver<Watched>) {
    let mut watched: BinaryHeap<Watched> = BinaryHeap::new();
    loop {
        // Most are done long before they are looked at.
        while let Some(first) = watched.peek_mut()
            && (first.deadline <= Instant::now() || !first.waits())
        {
            call(&PeekMut::pop(first).once);
        }
        let next = match watched.peek() {
            Some(Watched { deadline, .. }) => queue.recv_deadline(*deadline),
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(next) => watched.push(next),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// A driver that hangs must not hang a pipeline, and one that answers must not wake anybody twice.
    #[test]
    fn who_was_not_called_in_time_is_called_once() {
        let calls = Arc::new(AtomicUsize::new(0));
        let (done, waits) = crossbeam_channel::bounded(1);
        let once = |done: Option<Sender<()>>| -> Once {
            let calls = calls.clone();
            let call = move || {
                calls.fetch_add(1, Ordering::Relaxed);
                done.into_iter().for_each(|done| _ = done.send(()));
            };
            Arc::new(Mutex::new(Some(Box::new(call))))
        };
        let (answered, silent) = (once(None), once(Some(done)));
        call_by(Instant::now() + Duration::from_secs(3600), answered.clone());
        // The thread has the one of an hour now, and must not wait for it alone.
        std::thread::sleep(Duration::from_millis(50));
        call_by(Instant::now() + Duration::from_millis(5), silent.clone());
        waits.recv_timeout(Duration::from_secs(60)).expect("the silent one is called");
        call(&answered);
        call(&silent);
        call(&answered);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
