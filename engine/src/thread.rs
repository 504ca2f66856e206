//! Starting threads, and letting go of them.
//!
//! A [`JoinHandle`] that is dropped detaches its thread, and that is no safe thing to do with one that may be ending: glibc's
//! `pthread_detach` reads the thread's own block once more after it has given it away, and the block lies on the thread's stack
//! (<https://sourceware.org/bugzilla/show_bug.cgi?id=19951>). A thread that ends in between takes the stack along and the process dies of
//! SIGSEGV. glibc hides that as long as it keeps ended stacks for later, up to 40 MiB of them, which one stack of [`DEEP_STACK_BYTES`] is
//! beyond. So threads are either joined ([`spawn`], [`Threads`]) or detached before they begin ([`start_detached`]).

use std::convert::Infallible;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use crate::error::{EngineError, Result};

/// What a thread may need: expressions of a thousand operators are evaluated one in the other. It is taken from the system as it is used.
pub const DEEP_STACK_BYTES: usize = 64 << 20;

/// Starts a thread with a [deep stack](DEEP_STACK_BYTES). Its handle is to be joined.
///
/// # Errors
/// The system has no thread left.
pub(crate) fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    Builder::new()
        .name(name.to_owned())
        .stack_size(DEEP_STACK_BYTES)
        .spawn(body)
        .map_err(|error| no_thread(name, &error))
}

/// Starts a thread that nobody waits for; its work begins when it has been detached.
///
/// # Errors
/// The system has no thread left; `body` is dropped then.
pub fn start_detached(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    let (starter, detached) = mpsc::channel::<Infallible>();
    let waiting = move || {
        // Nothing is ever sent: the other end is dropped.
        let _ = detached.recv();
        body();
    };
    let thread = Builder::new().name(name.to_owned()).spawn(waiting).map_err(|error| no_thread(name, &error))?;
    drop(thread);
    drop(starter);
    Ok(())
}

fn no_thread(name: &str, error: &std::io::Error) -> EngineError {
    EngineError::limit(format!("no thread could be started for {name}: {error}"))
}

/// The threads of something that may be given up halfway: those that were not [taken](Self::take) are joined by a thread of their own.
#[derive(Default)]
pub(crate) struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    pub(crate) fn push(&mut self, thread: JoinHandle<()>) {
        self.0.push(thread);
    }

    /// All of them, to be joined.
    pub(crate) fn take(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let threads = self.take();
        if !threads.is_empty() {
            // Without a thread for it they are detached as they are.
            let _ = start_detached("eagre-ending", move || {
                for thread in threads {
                    // Whoever panicked has said so.
                    let _ = thread.join();
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_detached_thread_works() {
        let (sender, receiver) = channel();
        let name = || std::thread::current().name().map(str::to_owned);
        start_detached("test", move || sender.send(name()).expect("it is read")).expect("there are threads");
        assert_eq!(receiver.recv().expect("the thread says its name").as_deref(), Some("test"));
    }

    /// Dropping does not wait: a reader of a source may take long to see that it is not wanted any more.
    #[test]
    fn threads_that_are_given_up_are_not_waited_for() {
        let (release, held) = channel::<()>();
        let (sender, ended) = channel();
        let mut threads = Threads::default();
        let body = move || {
            let _ = held.recv();
            sender.send(()).expect("it is read");
        };
        threads.push(spawn("test", body).expect("there are threads"));
        drop(threads);
        assert!(ended.try_recv().is_err());
        drop(release);
        ended.recv().expect("the thread ends");
    }
}
