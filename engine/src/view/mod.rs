//! The rows of materialized views: written by the shards of a pipeline, read by anyone, each reader at one step.
//!
//! Every row version knows the step in which it came and the one in which it went, so the view as it was after step *n* is the rows
//! with `came <= n < went`. A writer only ever notes steps that no reader can be at, so readers take no lock while they read, and steps go on
//! meanwhile. A step is *published* for all views at once, when all shards have run it: so two views read together are those of one step.
//! A reader pins the newest published step; what went before the oldest pin (the *horizon*) is merged away by the writer.
//!
//! The rows lie where the operator that keeps them lies ([`crate::operator::materialize`]): one [`Part`] a shard, divided by the hash
//! of the view's key, so a checkpoint holds them as it holds any keyed state, and a lookup by key asks one part only. A copy
//! of the rows behind a sink was refused: it doubles the memory, and has to be brought to one step across views afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, SortField};

use crate::error::{EngineError, Result};
use crate::graph::ChangelogMode;
use crate::hash::{HashGroups, hash_columns};
use crate::log::Taken;
use crate::runtime::StepObserver;

mod chunk;
mod part;
mod subscription;
#[cfg(test)]
mod tests;

pub use self::chunk::Chunk;
pub(crate) use self::part::Part;
pub use self::subscription::{Subscription, ViewDelta};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The materialized views of one pipeline, published together.
#[derive(Debug, Default)]
pub struct ViewSet {
    views: Mutex<Vec<Arc<ViewStore>>>,
    steps: Mutex<Steps>,
    /// The oldest step that anyone reads or will read. Never behind a pin.
    horizon: AtomicU64,
    /// Bytes of row versions that went and are kept for readers.
    version_bytes: AtomicU64,
    /// The most of them; 0: no bound.
    version_bytes_max: AtomicU64,
    subscriptions: subscription::Subscriptions,
}

#[derive(Debug, Default)]
struct Steps {
    published: u64,
    /// By step, how many readers are there.
    pins: BTreeMap<u64, usize>,
    /// Pins at this step and before were given up.
    given_up: Option<u64>,
}

/// One materialized view.
#[derive(Debug)]
pub struct ViewStore {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// Columns that identify a row, where the planner knows some.
    pub key: Option<Vec<usize>>,
    /// The columns by whose hash the parts divide the rows.
    pub route: Vec<usize>,
    /// Whether rows are found by the hash of [`route`](Self::route).
    indexed: bool,
    set: std::sync::Weak<ViewSet>,
    parts: Mutex<Vec<Arc<Part>>>,
}

/// The step that is published where nobody reads.
const UNREAD: u64 = u64::MAX / 2;

impl ViewSet {
    /// No views yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a view before the pipeline starts.
    ///
    /// # Errors
    /// Rows that can be taken back and cannot be compared (a `MAP`).
    pub fn add(
        self: &Arc<Self>,
        name: &str,
        schema: &SchemaRef,
        key: Option<Vec<usize>>,
        changelog: ChangelogMode,
    ) -> Result<Arc<ViewStore>> {
        let fields: Vec<_> = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        if changelog != ChangelogMode::AppendOnly && !RowConverter::supports_fields(&fields) {
            let message = format!(
                "materialized view `{name}` takes rows back, and rows with a column of type MAP cannot be compared; leave the MAP out, \
                 or turn it into a list: `map_entries(..)`"
            );
            return Err(EngineError::Plan { message });
        }
        let plain = |column: &usize| !schema.field(*column).data_type().is_nested();
        let key = key.filter(|key| !key.is_empty() && key.iter().all(plain));
        let route = match &key {
            Some(key) => key.clone(),
            None => (0..schema.fields().len()).filter(plain).collect(),
        };
        let view = Arc::new(ViewStore {
            name: name.to_owned(),
            schema: Arc::clone(schema),
            indexed: key.is_some() || changelog != ChangelogMode::AppendOnly,
            key,
            route,
            set: Arc::downgrade(self),
            parts: Mutex::default(),
        });
        lock(&self.views).push(Arc::clone(&view));
        Ok(view)
    }

    /// All views, in the order in which they were added.
    pub fn views(&self) -> Vec<Arc<ViewStore>> {
        lock(&self.views).clone()
    }

    /// The view of this name, ignoring case.
    pub fn view(&self, name: &str) -> Option<Arc<ViewStore>> {
        lock(&self.views).iter().find(|view| view.name.to_lowercase() == name.to_lowercase()).cloned()
    }

    /// Says from which step the pipeline goes on, and the most bytes of versions that are kept for readers (0: no bound).
    pub fn begin(&self, step: u64, version_bytes_max: u64) {
        self.version_bytes_max.store(version_bytes_max, Ordering::Relaxed);
        // What a pipeline before kept is gone with it.
        self.version_bytes.store(0, Ordering::Relaxed);
        let mut steps = lock(&self.steps);
        steps.published = step;
        self.move_horizon(&steps);
    }

    /// Says that a pipeline fills or replays the views, and nobody reads them meanwhile: no version is kept, no change noted.
    pub fn begin_unread(&self) {
        self.begin(UNREAD, 0);
    }

    /// The newest step that all shards have finished.
    pub fn published(&self) -> u64 {
        lock(&self.steps).published
    }

    /// Bytes of row versions that went and are kept for readers.
    pub fn version_bytes(&self) -> u64 {
        self.version_bytes.load(Ordering::Relaxed)
    }

    /// Has all views stay readable as they are after the newest published step, while the pin lives.
    pub fn pin(self: &Arc<Self>) -> Pin {
        let mut steps = lock(&self.steps);
        let step = steps.published;
        *steps.pins.entry(step).or_default() += 1;
        self.move_horizon(&steps);
        Pin { set: Arc::clone(self), step }
    }

    /// The changes of a view: all its rows as they are after the newest published step, then what each step after it changes.
    ///
    /// # Errors
    /// None of its own; see [`ViewSnapshot::batches`].
    pub fn subscribe(self: &Arc<Self>, view: &Arc<ViewStore>) -> Result<Subscription> {
        // Under the lock of the steps: what is published now is in the snapshot, what is published later is not.
        let mut steps = lock(&self.steps);
        let step = steps.published;
        *steps.pins.entry(step).or_default() += 1;
        self.move_horizon(&steps);
        let queue = self.subscriptions.open(&view.name);
        drop(steps);
        let pin = Pin { set: Arc::clone(self), step };
        Ok(Subscription::new(view.snapshot(&pin)?, queue, pin))
    }

    /// Subscriptions no longer hold the steps back: the pipeline is to stop.
    pub fn release_subscriptions(&self) {
        self.subscriptions.release();
    }

    /// No changes come any more.
    pub fn end_subscriptions(&self) {
        self.subscriptions.end();
    }

    /// Moves the subscriptions of views that stay as they are over to `next`, which has published no step after that of this set.
    pub fn hand_over(&self, next: &Self, stays: impl Fn(&str) -> bool) {
        self.subscriptions.hand_over(&next.subscriptions, stays);
    }

    pub(crate) fn horizon(&self) -> u64 {
        self.horizon.load(Ordering::Acquire)
    }

    fn move_horizon(&self, steps: &Steps) {
        let oldest = steps.pins.keys().next().copied().unwrap_or(steps.published);
        self.horizon.store(oldest.min(steps.published), Ordering::Release);
    }

    /// Whether more versions are kept than there may be.
    pub(crate) fn is_over_budget(&self) -> bool {
        let max = self.version_bytes_max.load(Ordering::Relaxed);
        max > 0 && self.version_bytes() > max
    }

    /// Notes that so many bytes of versions are kept now, and were before; gives up the oldest pin where they are too many.
    pub(crate) fn count_versions(&self, before: u64, now: u64) {
        self.version_bytes.fetch_add(now, Ordering::Relaxed);
        let held = self.version_bytes.fetch_sub(before, Ordering::Relaxed) - before;
        let max = self.version_bytes_max.load(Ordering::Relaxed);
        if max == 0 || held <= max {
            return;
        }
        let mut steps = lock(&self.steps);
        let published = steps.published;
        if let Some(oldest) = steps.pins.keys().next().copied().filter(|oldest| *oldest < published) {
            steps.pins.remove(&oldest);
            steps.given_up = Some(oldest);
            self.move_horizon(&steps);
        }
    }

    fn publish(&self, step: u64) {
        let views = self.views();
        let mut steps = lock(&self.steps);
        steps.published = steps.published.max(step);
        self.move_horizon(&steps);
        let changes: Vec<_> = views.iter().map(|view| (view.name.as_str(), view.take_changes(step))).collect();
        let told = self.subscriptions.prepare(step, changes);
        drop(steps);
        // May wait for a subscriber: who reads too slowly holds the steps back.
        self.subscriptions.tell(told);
    }
}

impl StepObserver for ViewSet {
    fn cut(&self, _step: u64, _taken: &[Taken]) {}

    fn done(&self, step: u64) {
        self.publish(step);
    }
}

/// Keeps one step readable.
#[derive(Debug)]
pub struct Pin {
    set: Arc<ViewSet>,
    step: u64,
}

impl Pin {
    /// The step.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The views.
    pub fn set(&self) -> &Arc<ViewSet> {
        &self.set
    }

    /// Whether the step can still be read.
    ///
    /// # Errors
    /// It was given up, because the versions kept for it became too many.
    pub fn check(&self) -> Result<()> {
        if lock(&self.set.steps).given_up.is_none_or(|given_up| self.step > given_up) {
            return Ok(());
        }
        let max = self.set.version_bytes_max.load(Ordering::Relaxed);
        let message = format!(
            "step {} of the views can no longer be read: the rows that changed since then take more than `eagre.views.versions_max` = {max} \
             bytes; read faster, or raise it",
            self.step
        );
        Err(EngineError::limit(message))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut steps = lock(&self.set.steps);
        if let Some(count) = steps.pins.get_mut(&self.step) {
            *count -= 1;
            if *count == 0 {
                steps.pins.remove(&self.step);
            }
        }
        self.set.move_horizon(&steps);
    }
}

impl ViewStore {
    /// A part for one more shard.
    pub(crate) fn new_part(&self) -> Result<Arc<Part>> {
        let part = Arc::new(Part::new(Arc::clone(&self.schema), self.route.clone(), self.indexed)?);
        lock(&self.parts).push(Arc::clone(&part));
        Ok(part)
    }

    /// Parts that were made for a pipeline that did not come to run.
    pub fn forget_parts(&self) {
        lock(&self.parts).clear();
    }

    pub(crate) fn set(&self) -> Option<Arc<ViewSet>> {
        self.set.upgrade()
    }

    fn parts(&self) -> Vec<Arc<Part>> {
        lock(&self.parts).clone()
    }

    /// How many rows there are now.
    pub fn rows(&self) -> usize {
        self.parts().iter().map(|part| part.live_rows()).sum()
    }

    /// The view as it is after the pinned step.
    ///
    /// # Errors
    /// The step was given up.
    pub fn snapshot(&self, pin: &Pin) -> Result<ViewSnapshot> {
        pin.check()?;
        let parts = self.parts().iter().map(|part| part.chunks()).collect();
        Ok(ViewSnapshot { step: pin.step, parts })
    }

    /// How many parts there are.
    pub fn part_count(&self) -> usize {
        lock(&self.parts).len()
    }

    /// The rows, after the pinned step, whose key has the hash of one of the `rows` rows of `keys` (columns of [`key`](Self::key)). A hash
    /// may have other keys too: the caller compares. Gives the rows, and how many parts were asked.
    ///
    /// # Errors
    /// The step was given up; keys that cannot be hashed.
    pub fn lookup(&self, pin: &Pin, keys: &[ArrayRef], rows: usize) -> Result<(Vec<RecordBatch>, usize)> {
        pin.check()?;
        let mut hashes = Vec::new();
        hash_columns(keys, rows, &mut hashes)?;
        hashes.sort_unstable();
        hashes.dedup();
        let (mut found, mut asked) = (Vec::new(), 0);
        for part in self.parts() {
            let own: Vec<u64> = hashes.iter().copied().filter(|hash| part.owned().owns(*hash)).collect();
            if own.is_empty() {
                continue;
            }
            asked += 1;
            found.extend(part.lookup(&own, pin.step)?);
        }
        Ok((found, asked))
    }

    /// What all parts have noted of the steps up to `step`.
    fn take_changes(&self, step: u64) -> Vec<(u64, crate::delta::Delta)> {
        self.parts().iter().flat_map(|part| part.take_changes(step)).collect()
    }
}

/// The chunks of a view that hold its rows after one step.
#[derive(Debug, Clone)]
pub struct ViewSnapshot {
    step: u64,
    parts: Vec<Vec<Arc<Chunk>>>,
}

impl ViewSnapshot {
    /// The step.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The chunks of one part.
    pub fn part(&self, part: usize) -> &[Arc<Chunk>] {
        self.parts.get(part).map_or(&[], Vec::as_slice)
    }

    /// All rows, chunk by chunk.
    pub fn batches(&self) -> impl Iterator<Item = Result<RecordBatch>> + '_ {
        self.parts.iter().flatten().filter_map(|chunk| chunk.at(self.step).transpose())
    }
}

/// All hash groups, until a shard says which are its own.
static ALL_GROUPS: HashGroups = HashGroups::ALL;

type Owned = OnceLock<HashGroups>;

fn owned_or_all(owned: &Owned) -> &HashGroups {
    owned.get().unwrap_or(&ALL_GROUPS)
}
