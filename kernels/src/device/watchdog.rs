//! Wakes who waits for a device that says nothing any more.
//!
//! An operator that waits for a wave is woken by the device thread. Where that thread hangs in the driver nobody would wake it, so a
//! thread of the process does, once for each wave, a while after the device should have given up; the operator then finds that the wave is
//! overdue, and the twin does its work.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Sender, unbounded};

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

/// Has it called at `deadline` at the latest. Deadlines come in about the order of these calls.
pub(crate) fn call_by(deadline: Instant, once: Once) {
    static QUEUE: OnceLock<Option<Sender<(Instant, Once)>>> = OnceLock::new();
    let queue = QUEUE.get_or_init(|| {
        let (sender, receiver) = unbounded::<(Instant, Once)>();
        let watch = move || {
            for (deadline, once) in receiver {
                let waits = || once.lock().unwrap_or_else(PoisonError::into_inner).is_some();
                // Most are done long before they are looked at.
                if waits() {
                    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
                    call(&once);
                }
            }
        };
        // Without it a hanging driver hangs who waits for it, as it would without this module.
        std::thread::Builder::new().name("eagre-watchdog".to_owned()).spawn(watch).is_ok().then_some(sender)
    });
    if let Some(queue) = queue {
        drop(queue.send((deadline, once)));
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
        call(&answered);
        call_by(Instant::now() + Duration::from_millis(5), silent.clone());
        waits.recv_timeout(Duration::from_secs(60)).expect("the silent one is called");
        call(&silent);
        call(&answered);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
