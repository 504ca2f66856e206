//! A checkpoint for another graph: what the graphs have in common keeps its state.
//!
//! An operator's id is the hash of what it computes, so the operators of a changed pipeline find their state by it. Those that are new
//! are given the state of another checkpoint, of a pipeline that has run them over the same rows; without one they begin empty.

use std::collections::BTreeMap;

use super::{CheckpointStore, FORMAT_VERSION, Manifest, OperatorState, SourceState, manifest_name};
use crate::error::{EngineError, Result};
use crate::graph::{Graph, NodeKind};
use crate::time::{EventTimeMs, WATERMARK_MIN};

/// A checkpoint that new operators take their state from.
pub struct Filled<'a> {
    /// What it consists of.
    pub manifest: &'a Manifest,
    /// Where its files are.
    pub store: &'a dyn CheckpointStore,
}

/// Writes a checkpoint of `graph` after `old`, in the same store; gives it. `run` names the files that are written.
///
/// # Errors
/// The store fails, a file is missing, or another process has written this checkpoint.
pub fn migrate(
    store: &dyn CheckpointStore,
    old: &Manifest,
    graph: &Graph,
    filled: Option<&Filled<'_>>,
    run: &str,
) -> Result<Manifest> {
    let checkpoint = old.checkpoint + 1;
    let mut operators: BTreeMap<String, OperatorState> = BTreeMap::new();
    let mut sources: BTreeMap<String, SourceState> = BTreeMap::new();
    let mut sinks = BTreeMap::new();
    let mut watermarks: BTreeMap<String, EventTimeMs> = BTreeMap::new();
    for node in &graph.nodes {
        let id = node.id.to_string();
        match &node.kind {
            NodeKind::Operator(factory) => {
                let state = match (old.operators.get(&id), filled) {
                    (Some(state), _) => state.clone(),
                    (None, Some(filled)) => match filled.manifest.operators.get(&id) {
                        Some(state) => copy(store, state, filled, &id, checkpoint, run)?,
                        None => OperatorState { name: factory.name().to_owned(), ..Default::default() },
                    },
                    (None, None) => OperatorState { name: factory.name().to_owned(), ..Default::default() },
                };
                operators.insert(id.clone(), state);
            }
            NodeKind::Source(source) => {
                let fresh = || SourceState { table: source.table.clone(), ..Default::default() };
                sources.insert(id.clone(), old.sources.get(&id).cloned().unwrap_or_else(fresh));
            }
            NodeKind::Sink(_) => {
                sinks.insert(id.clone(), old.sinks.get(&id).cloned().unwrap_or_default());
            }
            NodeKind::Union => {}
        }
        let known = old.watermarks.get(&id).or_else(|| filled?.manifest.watermarks.get(&id));
        let watermark = known.copied().unwrap_or_else(|| {
            let before = node.inputs.iter().map(|edge| watermarks[&graph.nodes[edge.from].id.to_string()]);
            before.min().unwrap_or(WATERMARK_MIN)
        });
        watermarks.insert(id, watermark);
    }
    let next_ordinal = old.next_ordinal.max(filled.map_or(0, |filled| filled.manifest.next_ordinal));
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        checkpoint,
        next_ordinal,
        finished: false,
        // The steps before are those of another graph.
        log: None,
        sources,
        watermarks,
        operators,
        sinks,
        ..old.clone()
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(EngineError::bug)?;
    put(store, &manifest_name(checkpoint), &text)?;
    Ok(manifest)
}

/// Copies an operator's files.
fn copy(
    store: &dyn CheckpointStore,
    state: &OperatorState,
    filled: &Filled<'_>,
    id: &str,
    checkpoint: u64,
    run: &str,
) -> Result<OperatorState> {
    let mut copied = state.clone();
    for (index, file) in copied.files.iter_mut().enumerate() {
        let missing = || EngineError::Checkpoint {
            message: format!("state file `{}` in {} is missing", file.name, filled.store.describe()),
        };
        let bytes = filled.store.get(&file.name)?.ok_or_else(missing)?;
        file.name = format!("{}{id}/{checkpoint:020}-{index:04}-{run}-filled.arrow", super::STATE_PREFIX);
        put(store, &file.name, &bytes)?;
    }
    Ok(copied)
}

fn put(store: &dyn CheckpointStore, name: &str, bytes: &[u8]) -> Result<()> {
    if store.put_if_absent(name, bytes)? {
        return Ok(());
    }
    Err(EngineError::Checkpoint {
        message: format!("`{name}` in {} was written by another process; stop one of them", store.describe()),
    })
}
