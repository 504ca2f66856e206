//! Subscriptions: a view's rows after one step, then what each later step changes, without a gap and nothing twice.
//!
//! Changes wait in a queue of bounded length. A full one holds the steps back, as an unread result does, but never an orderly end: when
//! the pipeline is to stop, what is left of its steps goes beyond the bound.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, UInt32Array};
use arrow::compute::concat_batches;

use super::{Chunk, Pin, ViewSnapshot, lock};
use crate::delta::{Delta, take_batch};
use crate::error::{EngineError, Result};

/// How many changes may wait for a subscriber.
const QUEUE_CHANGES: usize = 64;
/// How often a full queue is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Rows of a view that changed in one step. A step may come in several.
#[derive(Debug, Clone)]
pub struct ViewDelta {
    /// The step.
    pub step: u64,
    /// The rows.
    pub batch: RecordBatch,
    /// One weight a row: positive came, negative went; `None`: all came once.
    pub weights: Option<Int64Array>,
}

/// The changes of one view.
#[derive(Debug)]
pub struct Subscription {
    step: u64,
    snapshot: VecDeque<Arc<Chunk>>,
    /// Held until the snapshot is read.
    pin: Option<Pin>,
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Queue {
    view: String,
    state: Mutex<QueueState>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    changes: VecDeque<ViewDelta>,
    ended: bool,
    /// The reader is gone.
    closed: bool,
    /// Whom the reader has wait; it is one.
    waker: Option<std::task::Waker>,
}

impl Subscription {
    pub(super) fn new(snapshot: ViewSnapshot, queue: QueueHandle, pin: Pin) -> Self {
        Self {
            step: snapshot.step,
            snapshot: snapshot.parts.into_iter().flatten().collect(),
            pin: Some(pin),
            queue: queue.0,
        }
    }

    /// The step of the snapshot.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Whether the snapshot was handed out whole.
    pub fn is_past_snapshot(&self) -> bool {
        self.pin.is_none()
    }

    /// The next change: those of the snapshot first; waits for one. `None`: the view is gone, or its pipeline has ended.
    ///
    /// # Errors
    /// The step of the snapshot was given up before it was read whole.
    pub fn blocking_next(&mut self) -> Result<Option<ViewDelta>> {
        if let Some(delta) = self.next_of_snapshot()? {
            return Ok(Some(delta));
        }
        let mut state = lock(&self.queue.state);
        loop {
            if let Some(delta) = state.changes.pop_front() {
                self.queue.moved.notify_all();
                return Ok(Some(delta));
            }
            if state.ended {
                return Ok(None);
            }
            state = self.queue.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`blocking_next`](Self::blocking_next), for tasks.
    ///
    /// # Errors
    /// As [`blocking_next`](Self::blocking_next).
    pub fn poll_next(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<Option<ViewDelta>>> {
        use std::task::Poll;
        match self.next_of_snapshot() {
            Ok(None) => {}
            found => return Poll::Ready(found),
        }
        let mut state = lock(&self.queue.state);
        if let Some(delta) = state.changes.pop_front() {
            self.queue.moved.notify_all();
            return Poll::Ready(Ok(Some(delta)));
        }
        if state.ended {
            return Poll::Ready(Ok(None));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn next_of_snapshot(&mut self) -> Result<Option<ViewDelta>> {
        while let Some(pin) = &self.pin {
            pin.check()?;
            let Some(chunk) = self.snapshot.pop_front() else {
                self.pin = None;
                break;
            };
            if let Some(batch) = chunk.at(self.step)? {
                return Ok(Some(ViewDelta { step: self.step, batch, weights: None }));
            }
        }
        Ok(None)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = lock(&self.queue.state);
        state.closed = true;
        state.changes.clear();
        self.queue.moved.notify_all();
    }
}

/// A new queue, for a subscription that is about to be made.
pub(super) struct QueueHandle(Arc<Queue>);

/// All subscriptions of a set of views.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    queues: Mutex<Vec<Weak<Queue>>>,
    released: AtomicBool,
    ended: AtomicBool,
}

/// Changes on their way to their queues.
pub(super) struct Told(Vec<(Arc<Queue>, Vec<ViewDelta>)>);

impl Subscriptions {
    pub(super) fn open(&self, view: &str) -> QueueHandle {
        let ended = self.ended.load(Ordering::Relaxed);
        let state = Mutex::new(QueueState { ended, ..QueueState::default() });
        let queue = Arc::new(Queue { view: view.to_owned(), state, moved: Condvar::new() });
        lock(&self.queues).push(Arc::downgrade(&queue));
        QueueHandle(queue)
    }

    /// Pairs what the views changed up to `step` with who wants to know.
    pub(super) fn prepare(&self, step: u64, changes: Vec<(&str, Vec<(u64, Delta)>)>) -> Told {
        let mut queues = lock(&self.queues);
        queues.retain(|queue| queue.strong_count() > 0);
        let told = queues.iter().filter_map(Weak::upgrade).filter_map(|queue| {
            let (_, deltas) = changes.iter().find(|(view, _)| *view == queue.view)?;
            debug_assert!(deltas.iter().all(|(at, _)| *at <= step), "changes of a step that is not published");
            let mut deltas: Vec<&(u64, Delta)> = deltas.iter().collect();
            deltas.sort_by_key(|(step, _)| *step);
            let deltas: Vec<_> = deltas.chunk_by(|(a, _), (b, _)| a == b).flat_map(of_step).collect();
            (!deltas.is_empty()).then_some((queue, deltas))
        });
        Told(told.collect())
    }

    pub(super) fn tell(&self, told: Told) {
        for (queue, deltas) in told.0 {
            let mut state = lock(&queue.state);
            while state.changes.len() >= QUEUE_CHANGES && !state.closed && !self.is_released() {
                state =
                    queue.moved.wait_timeout(state, LOOK_AGAIN).map_or_else(|e| e.into_inner().0, |(state, _)| state);
            }
            if state.closed {
                continue;
            }
            state.changes.extend(deltas);
            wake(&queue, &mut state);
        }
    }

    fn is_released(&self) -> bool {
        self.released.load(Ordering::Relaxed)
    }

    pub(super) fn release(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        for queue in std::mem::take(&mut *lock(&self.queues)).iter().filter_map(Weak::upgrade) {
            end(&queue);
        }
    }

    /// Queues of views that stay go on with `next`.
    pub(super) fn hand_over(&self, next: &Self, stays: impl Fn(&str) -> bool) {
        let mut queues = lock(&self.queues);
        let (moved, left) = std::mem::take(&mut *queues)
            .into_iter()
            .partition(|queue: &Weak<Queue>| queue.upgrade().is_some_and(|queue| stays(&queue.view)));
        *queues = left;
        lock(&next.queues).extend::<Vec<_>>(moved);
    }
}

fn end(queue: &Arc<Queue>) {
    let mut state = lock(&queue.state);
    state.ended = true;
    wake(queue, &mut state);
}

/// What one step changed: what went before what came, because it may have taken its place, in whatever shard.
fn of_step(deltas: &[&(u64, Delta)]) -> Vec<ViewDelta> {
    let as_they_are = || {
        let one = |(step, delta): &&(u64, Delta)| ViewDelta {
            step: *step,
            batch: delta.batch.clone(),
            weights: delta.weights.clone(),
        };
        deltas.iter().map(one).collect()
    };
    if deltas.iter().all(|(_, delta)| delta.weights.is_none()) {
        return as_they_are();
    }
    let (step, first) = deltas[0];
    let weights = deltas.iter().flat_map(|(_, delta)| match &delta.weights {
        Some(weights) => weights.values().to_vec(),
        None => vec![1; delta.rows()],
    });
    let weights: Vec<i64> = weights.collect();
    let mut order: Vec<u32> = (0..weights.len() as u32).collect();
    order.sort_by_key(|row| weights[*row as usize] > 0);
    let batches = deltas.iter().map(|(_, delta)| &delta.batch);
    let rows = concat_batches(first.batch.schema_ref(), batches)
        .map_err(EngineError::from)
        .and_then(|rows| take_batch(&rows, &UInt32Array::from(order.clone())));
    let Ok(batch) = rows else {
        // Rows of one view have one schema; only texts of more than 2 GiB do not fit one column.
        return as_they_are();
    };
    let weights = order.iter().map(|row| weights[*row as usize]).collect::<Vec<_>>().into();
    vec![ViewDelta { step: *step, batch, weights: Some(weights) }]
}

fn wake(queue: &Queue, state: &mut QueueState) {
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
    queue.moved.notify_all();
}
