//! The materialized views of a session: one pipeline keeps them all, so that they are always of one step.
//!
//! Statements that create, replace or drop views change the list of what the pipeline runs; it goes on as another graph. Queries read the
//! set of views that is current, at its newest published step; a set that is replaced stays whole for those who read it.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use eagre_engine::EngineError;
use eagre_engine::checkpoint::CheckpointStore;
use eagre_engine::graph::Graph;
use eagre_engine::metrics::Metrics;
use eagre_engine::runtime::{Pipeline, Stopper, Summary};
use eagre_engine::thread::start_detached;
use eagre_engine::view::ViewSet;
use eagre_sql::catalog::Catalog;
use eagre_sql::parser::Statement;

use crate::error::{Error, Result};

pub(crate) mod change;
mod prefix;
pub(crate) mod read;
mod rows;
pub(crate) mod start;
pub(crate) mod statements;
mod table;

/// A statement that the pipeline of views runs.
#[derive(Clone)]
pub(crate) struct Kept {
    pub number: usize,
    pub statement: Statement,
    /// What names meant at its place.
    pub catalog: Catalog,
    /// Its view, by lower-case name; none for an `INSERT` or `SELECT` of the same text.
    pub view: Option<String>,
    /// The views that it reads, by lower-case name.
    pub reads: BTreeSet<String>,
}

/// What runs.
#[derive(Clone)]
pub(crate) struct Current {
    pub set: Arc<ViewSet>,
    pub graph: Graph,
    pub metrics: Arc<Metrics>,
    pub stopper: Option<Stopper>,
    /// Where its checkpoints are.
    pub store: Arc<dyn CheckpointStore>,
    /// Whether its input ends.
    pub bounded: bool,
    /// Tells one pipeline from those before it.
    pub generation: u64,
}

/// How the pipeline ended.
enum Ended {
    Done(Summary),
    /// The error, until somebody takes it; and its text.
    Failed(Option<EngineError>, String),
}

/// The pipeline of a session's views.
#[derive(Default)]
pub(crate) struct Views {
    state: Mutex<State>,
    moved: Condvar,
    /// Held by whoever changes the views.
    changing: Mutex<()>,
}

#[derive(Default)]
struct State {
    kept: Vec<Kept>,
    current: Option<Current>,
    ended: Option<Ended>,
    /// Whether statements are changing the views.
    changing: bool,
    /// Until they have: what names meant before, for those who read meanwhile.
    reading: Option<Catalog>,
    /// Grows whenever what queries mean, or what they read, becomes something else.
    epoch: u64,
}

/// A text changes the views; until it has, queries mean what they meant before.
pub(crate) struct Change<'a> {
    views: &'a Views,
    _changing: MutexGuard<'a, ()>,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut state = self.views.state();
        state.changing = false;
        state.reading = None;
        state.epoch += 1;
        if let (Some(current), Some(_)) = (&state.current, &state.ended) {
            current.set.end_subscriptions();
        }
        self.views.moved.notify_all();
    }
}

impl Views {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to change the views; `catalog` is what queries go on to mean.
    pub(crate) fn change(&self, catalog: Catalog) -> Change<'_> {
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        state.changing = true;
        state.reading = Some(catalog);
        state.epoch += 1;
        drop(state);
        Change { views: self, _changing: changing }
    }

    pub(crate) fn kept(&self) -> Vec<Kept> {
        self.state().kept.clone()
    }

    pub(crate) fn current(&self) -> Option<Current> {
        self.state().current.clone()
    }

    /// The views that are current, and what queries over them mean; `catalog` is what the session's statements have come to.
    ///
    /// # Errors
    /// As [`readable`](Self::readable).
    pub(crate) fn to_read(&self, catalog: impl Fn() -> Catalog) -> Result<(Arc<ViewSet>, Catalog)> {
        loop {
            let epoch = self.state().epoch;
            let catalog = catalog();
            let set = self.readable()?;
            let state = self.state();
            if state.epoch == epoch {
                return Ok((set, state.reading.clone().unwrap_or(catalog)));
            }
        }
    }

    /// The views that are current, to be read.
    ///
    /// # Errors
    /// There are none, or their pipeline has failed.
    pub(crate) fn readable(&self) -> Result<Arc<ViewSet>> {
        let state = self.state();
        if let Some(Ended::Failed(_, message)) = &state.ended {
            return Err(Error::usage(format!(
                "the materialized views are no longer kept up to date, because their pipeline has failed: {message}; mend that and create \
                 them in a new session"
            )));
        }
        match &state.current {
            Some(current) => Ok(Arc::clone(&current.set)),
            None => Err(Error::usage(
                "there are no materialized views; `CREATE MATERIALIZED VIEW v AS SELECT ..` makes one",
            )),
        }
    }

    /// A pipeline has been started (or, where all input was read before, its rows were read back).
    pub(crate) fn began(self: &Arc<Self>, kept: Vec<Kept>, current: Current, pipeline: Pipeline) -> Result<()> {
        let generation = current.generation;
        {
            let mut state = self.state();
            state.kept = kept;
            state.current = Some(current);
            state.ended = None;
            state.reading = None;
            state.epoch += 1;
        }
        let views = Arc::clone(self);
        let watch = move || {
            let outcome = pipeline.wait();
            views.end(generation, outcome);
        };
        Ok(start_detached("eagre-views", watch)?)
    }

    fn end(&self, generation: u64, outcome: eagre_engine::Result<Summary>) {
        let mut state = self.state();
        let Some(current) = state.current.as_ref().filter(|current| current.generation == generation) else { return };
        let set = Arc::clone(&current.set);
        // Between two pipelines the subscriptions go on.
        let goes_on = state.changing && outcome.is_ok();
        state.ended = Some(match outcome {
            Ok(summary) => Ended::Done(summary),
            Err(error) => {
                let text = error.to_string();
                Ended::Failed(Some(error), text)
            }
        });
        drop(state);
        if !goes_on {
            set.end_subscriptions();
        }
        self.moved.notify_all();
    }

    /// All input was read before: what has ended has only read the rows back.
    pub(crate) fn were_complete(&self, summary: &Summary) {
        if let Some(Ended::Done(done)) = &mut self.state().ended {
            done.clone_from(summary);
        }
    }

    /// Waits until the pipeline of `generation` has ended.
    pub(crate) fn wait_for(&self, generation: u64) -> Result<Summary> {
        self.wait(|state| state.current.as_ref().is_some_and(|current| current.generation == generation))
    }

    /// Waits until the pipeline has ended for good.
    pub(crate) fn wait_for_end(&self) -> Result<Summary> {
        self.wait(|state| !state.changing)
    }

    fn wait(&self, counts: impl Fn(&State) -> bool) -> Result<Summary> {
        let mut state = self.state();
        loop {
            if state.current.is_none() && !state.changing {
                return Err(Error::usage("no materialized views are running"));
            }
            if counts(&state) {
                match &mut state.ended {
                    Some(Ended::Done(summary)) => return Ok(summary.clone()),
                    Some(Ended::Failed(error, message)) => {
                        return Err(error.take().map_or_else(|| Error::usage(message.clone()), Error::from));
                    }
                    None => {}
                }
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        let state = self.state();
        state.current.is_none() || (state.ended.is_some() && !state.changing)
    }

    /// Has the pipeline come to an orderly end.
    pub(crate) fn stop(&self) {
        if let Some(current) = self.current() {
            current.set.release_subscriptions();
            if let Some(stopper) = &current.stopper {
                stopper.stop();
            }
        }
    }

    pub(crate) fn abort(&self) {
        if let Some(current) = self.current() {
            current.set.release_subscriptions();
            if let Some(stopper) = &current.stopper {
                stopper.abort();
            }
        }
    }
}
