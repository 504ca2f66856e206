//! Starting the pipeline of views.

use std::collections::BTreeSet;
use std::sync::Arc;

use eagre_engine::EngineError;
use eagre_engine::checkpoint::{self, CheckpointStore, Manifest, MemoryStore};
use eagre_engine::graph::{Graph, NodeKind};
use eagre_engine::runtime::{Mode, Pipeline, PipelineConfig, Start, StepObserver, Summary};
use eagre_engine::settings::{self, Settings};
use eagre_engine::view::ViewSet;
use eagre_sql::planner::Job;

use super::{Current, Kept};
use crate::error::Result;
use crate::job::{QueryResult, attach_results, pipeline_config, publish_again};
use crate::session::Session;
use crate::state::JobObject;

/// Never, in milliseconds; far enough from the end of the integers for sums.
const NEVER_MS: u64 = i64::MAX as u64 / 4;

/// How the pipeline of views begins.
pub(super) struct Begin {
    pub job: Job,
    pub kept: Vec<Kept>,
    pub store: Arc<dyn CheckpointStore>,
    pub restore: Option<Manifest>,
    pub generation: u64,
    /// The views of before, and which of them stay as they are (by lower-case name): subscriptions of those go on.
    pub before: Option<(Arc<ViewSet>, BTreeSet<String>)>,
}

/// Starts views where none are running: from the state folder's checkpoint, if there is one. Gives the results of the queries among the
/// statements; with a summary where all input was read before.
pub(crate) fn start(
    session: &Session,
    job: Job,
    kept: Vec<Kept>,
    text: &str,
) -> Result<(Vec<QueryResult>, Option<Summary>)> {
    let started = try_start(session, job, kept, text);
    if started.is_err() {
        session.give_back_state_folder();
    }
    started
}

/// Views of another text are in the folder: how they can be changed.
fn check_same_views(manifest: &Manifest, graph: &Graph) -> Result<()> {
    manifest.check_same_query(graph).map_err(|error| match error {
        EngineError::Checkpoint { message } => {
            let message = format!(
                "{message}; what runs there goes on with --resume (`Session::resume`), and statements that create, replace or drop \
                 materialized views change it"
            );
            EngineError::Checkpoint { message }.into()
        }
        other => other.into(),
    })
}

fn try_start(
    session: &Session,
    mut job: Job,
    kept: Vec<Kept>,
    text: &str,
) -> Result<(Vec<QueryResult>, Option<Summary>)> {
    let (store, restore): (Arc<dyn CheckpointStore>, _) = match session.take_state_folder()? {
        Some(store) => {
            let manifest = match checkpoint::read_latest(store.as_ref())? {
                Some(newest) => Some(undo_unfinished_change(store.as_ref(), newest, &job.graph, text)?),
                None => None,
            };
            (store, manifest)
        }
        None => (Arc::new(MemoryStore::new()), None),
    };
    let durable = session.inner.store.clone();
    // Views that were all dropped left nothing that could be of another query, or complete.
    let of_query = restore.as_ref().filter(|manifest| !manifest.holds_nothing());
    let finished = of_query.filter(|manifest| manifest.finished).cloned();
    if let Some(manifest) = finished {
        check_same_views(&manifest, &job.graph)?;
        let results = attach_results(&mut job, durable.as_ref(), &session.inner.run);
        publish_again(&job, &manifest)?;
        let summary = Summary {
            steps: manifest.step,
            rows_read: 0,
            bad_rows: 0,
            finished: true,
            checkpoint: Some(manifest.checkpoint),
        };
        // Beyond that only the rows of the views are wanted: nothing is read, written or saved.
        let manifest = Manifest { sinks: Default::default(), ..manifest };
        let (graph, bounded) = (without_sinks(&job.graph), job.bounded());
        let config = config(session, &session.settings(), true);
        job.views.begin(manifest.step, session.settings().bytes(settings::VIEWS_VERSIONS_MAX));
        let pipeline = Pipeline::start(Start {
            graph: graph.clone(),
            config,
            clock: Arc::clone(&session.inner.clock),
            store: None,
            restore: Some((manifest, Arc::clone(&store))),
            mode: Mode::Replay(Vec::new()),
            observer: None,
        })?;
        let metrics = Arc::clone(pipeline.metrics());
        let current =
            Current { set: Arc::clone(&job.views), graph, metrics, stopper: None, store, bounded, generation: 1 };
        session.inner.views.began(kept, current, pipeline)?;
        session.inner.views.wait_for(1)?;
        session.inner.views.were_complete(&summary);
        return Ok((results, Some(summary)));
    }
    if let Some(manifest) = of_query {
        check_same_views(manifest, &job.graph)?;
    }
    if let Some(store) = &durable {
        JobObject::new(text, &session.providers().columns).write(store.as_ref())?;
    }
    let results = attach_results(&mut job, durable.as_ref(), &session.inner.run);
    begin(session, Begin { job, kept, store, restore, generation: 1, before: None })?;
    Ok((results, None))
}

/// The checkpoint to go on from. A change of the views writes the checkpoint of the new graph first and then the text that goes with it; where it
/// was killed between the two, nothing has run under the new graph, and the checkpoint before is as good.
fn undo_unfinished_change(
    store: &dyn CheckpointStore,
    newest: Manifest,
    graph: &Graph,
    text: &str,
) -> Result<Manifest> {
    if newest.check_same_query(graph).is_ok() || newest.log.is_some() {
        return Ok(newest);
    }
    // Another text than the folder's is another query, which is refused.
    if JobObject::read(store)?.is_none_or(|said| said.text != text) {
        return Ok(newest);
    }
    let before = checkpoint::list(store)?.into_iter().filter(|checkpoint| *checkpoint < newest.checkpoint).max();
    let Some(before) = before else { return Ok(newest) };
    let before = checkpoint::read_manifest(store, before)?;
    if before.step != newest.step || before.check_same_query(graph).is_err() {
        return Ok(newest);
    }
    checkpoint::drop_checkpoint(store, newest.checkpoint)?;
    Ok(before)
}

/// Starts a pipeline, from a checkpoint where one is given, and makes its views the current ones.
pub(super) fn begin(session: &Session, begin: Begin) -> Result<()> {
    let Begin { job, kept, store, restore, generation, before } = begin;
    let settings = session.settings();
    let is_private = session.inner.store.is_none();
    let mut config = config(session, &settings, is_private);
    if is_private {
        // Without a state folder a checkpoint only carries the views from one graph to the next. Once there was one, operators note
        // what changes for the next, so there is to be a next.
        config.checkpoint_interval_ms = if restore.is_some() { PRIVATE_INTERVAL_MS } else { NEVER_MS };
        config.checkpoint_steps = 0;
    }
    let bounded = job.bounded();
    let set = Arc::clone(&job.views);
    set.begin(restore.as_ref().map_or(0, |manifest| manifest.step), settings.bytes(settings::VIEWS_VERSIONS_MAX));
    // Before the first step, whose changes are to be told.
    if let Some((before, stays)) = &before {
        before.hand_over(&set, |view| stays.contains(&view.to_lowercase()));
    }
    let pipeline = Pipeline::start(Start {
        graph: job.graph.clone(),
        config,
        clock: Arc::clone(&session.inner.clock),
        store: Some(Arc::clone(&store)),
        restore: restore.map(|manifest| (manifest, Arc::clone(&store))),
        mode: Mode::Live,
        observer: Some(Arc::clone(&set) as Arc<dyn StepObserver>),
    });
    let pipeline = match (pipeline, &before) {
        (Ok(pipeline), _) => pipeline,
        (Err(error), before) => {
            if let Some((before, _)) = before {
                set.hand_over(before, |_| true);
            }
            return Err(error.into());
        }
    };
    // A view has its first rows (the one of `SELECT count(*)`) when a step has run.
    let first = set.published().max(1);
    while set.published() < first && !pipeline.is_finished() {
        std::thread::sleep(FIRST_STEP_LOOK);
    }
    let current = Current {
        set,
        // A sink holds the sender of a result, which is to end with the pipeline.
        graph: without_sinks(&job.graph),
        metrics: Arc::clone(pipeline.metrics()),
        stopper: Some(pipeline.stopper()),
        store,
        bounded,
        generation,
    };
    session.inner.views.began(kept, current, pipeline)?;
    if let Some((before, _)) = before {
        before.end_subscriptions();
    }
    Ok(())
}

/// How often the first step is looked for.
const FIRST_STEP_LOOK: std::time::Duration = std::time::Duration::from_millis(1);
/// How often a pipeline without a state folder saves what changed, once it has saved at all.
const PRIVATE_INTERVAL_MS: u64 = 60_000;

fn config(session: &Session, settings: &Settings, is_private: bool) -> PipelineConfig {
    let inner = &session.inner;
    let abort_after_step = inner.abort_after_step.filter(|_| !is_private);
    PipelineConfig {
        abort_after_step,
        log_steps: !is_private,
        first_step: true,
        ..pipeline_config(settings, &inner.run)
    }
}

/// The graph without what leaves it.
pub(super) fn without_sinks(graph: &Graph) -> Graph {
    let mut moved = vec![0; graph.nodes.len()];
    let mut nodes = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        moved[index] = nodes.len();
        if !matches!(node.kind, NodeKind::Sink(_)) {
            let mut node = node.clone();
            node.inputs.iter_mut().for_each(|edge| edge.from = moved[edge.from]);
            nodes.push(node);
        }
    }
    Graph { nodes }
}
