//! Checkpoints: the state of all operators, the places of all sources and the transactions of all sinks after one step.
//!
//! A checkpoint is a set of immutable files and one manifest that lists them, put if absent: whoever writes a manifest of that number
//! first owns it, and a second process on the same folder is told so; fencing needs no other service. Files are written per operator
//! and shard and stay listed as long as they hold live rows: an operator hands over only what changed, and is asked for everything
//! when the files listed for it hold more than twice its rows. Steps go on while files are written.
//!
//! The format has a version; so has the hash that assigns keys to groups.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result};
use crate::graph::{Graph, NodeKind};
use crate::hash::HASH_VERSION;
use crate::operator::{SaveKind, StateChunk, StateWriter};
use crate::source::Place;
use crate::time::EventTimeMs;

mod codec;
mod migrate;
pub mod store;
pub(crate) mod writer;

pub use codec::{Compression, decode_chunks, encode_chunks};
pub use migrate::{Filled, migrate};
pub use store::{CheckpointStore, MemoryStore};

/// Changes whenever an older reader could not read a checkpoint. Version 2 has the distinct values of an aggregate together for all calls
/// over them, and of a group those that changed; checkpoints of version 1 are read unless they hold such values.
pub const FORMAT_VERSION: u32 = 2;

/// Manifests start with this; the rest is the checkpoint's number.
pub const MANIFEST_PREFIX: &str = "manifest/";
/// State files start with this.
pub const STATE_PREFIX: &str = "state/";

/// A map of small values.
pub type Meta = serde_json::Map<String, serde_json::Value>;

/// What one checkpoint consists of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// [`HASH_VERSION`] of the writer.
    pub hash_version: u32,
    /// Number of the checkpoint, from 1.
    pub checkpoint: u64,
    /// The step after which it was taken.
    pub step: u64,
    /// Processing time of that step.
    pub clock_ms: i64,
    /// The seed of the run.
    pub seed: u64,
    /// The next arrival number.
    pub next_ordinal: u64,
    /// How many shards wrote it.
    pub shards: usize,
    /// Whether the pipeline had read all its input.
    pub finished: bool,
    /// The newest segment of the step log; each names the one before it.
    pub log: Option<String>,
    /// By operator id of the source node.
    pub sources: BTreeMap<String, SourceState>,
    /// By operator id: how far event time had come at each node.
    pub watermarks: BTreeMap<String, EventTimeMs>,
    /// By operator id.
    pub operators: BTreeMap<String, OperatorState>,
    /// By operator id of the sink node: what to publish; null where a sink has nothing to publish. Read by
    /// [`sink_transaction`](Self::sink_transaction).
    pub sinks: BTreeMap<String, serde_json::Value>,
}

/// How far a source was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceState {
    /// The table, for messages.
    pub table: String,
    /// By partition.
    pub partitions: BTreeMap<String, PartitionState>,
    /// The source's watermark.
    pub watermark: Option<EventTimeMs>,
    /// Whether all partitions had ended.
    pub ended: bool,
}

/// How far a partition was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionState {
    /// The next row; `None`: at its beginning.
    pub place: Option<Place>,
    /// The partition's own watermark.
    pub watermark: Option<EventTimeMs>,
    /// Whether it had ended.
    pub ended: bool,
    /// Rows and unreadable rows that were read of it so far; `None`: the writer did not count.
    #[serde(default)]
    pub records: Option<u64>,
}

/// The files that hold an operator's state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OperatorState {
    /// The operator's name, for messages.
    pub name: String,
    /// Oldest first.
    pub files: Vec<StateFile>,
    /// Small values, one map a shard.
    pub metas: Vec<Meta>,
    /// Rows that a full save would have written.
    pub live_rows: u64,
}

/// One immutable file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateFile {
    /// Its name in the store.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Rows in it, and those entries of lists that count as such.
    pub rows: u64,
    /// XXH3 of its bytes, as hexadecimal text.
    pub checksum: String,
}

/// The name of a manifest.
pub fn manifest_name(checkpoint: u64) -> String {
    format!("{MANIFEST_PREFIX}{checkpoint:020}.json")
}

pub(crate) fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(bytes))
}

/// All checkpoints in a store, oldest first.
pub fn list(store: &dyn CheckpointStore) -> Result<Vec<u64>> {
    Ok(store
        .list(MANIFEST_PREFIX)?
        .iter()
        .filter_map(|name| name.strip_prefix(MANIFEST_PREFIX)?.strip_suffix(".json")?.parse().ok())
        .collect())
}

/// Reads one manifest.
///
/// # Errors
/// No such checkpoint, damaged, or written by a version that this one cannot read.
pub fn read_manifest(store: &dyn CheckpointStore, checkpoint: u64) -> Result<Manifest> {
    let name = manifest_name(checkpoint);
    let fail =
        |reason: String| EngineError::Checkpoint { message: format!("`{name}` in {}: {reason}", store.describe()) };
    let bytes = store.get(&name)?.ok_or_else(|| fail("there is no such checkpoint".to_owned()))?;
    // The versions first: a manifest of another version may not even have the same fields.
    #[derive(Deserialize)]
    struct Versions {
        format_version: u32,
        hash_version: u32,
    }
    let damaged = |error: serde_json::Error| {
        fail(format!(
            "the manifest is damaged ({error}); an older one can be used after `eagre checkpoint drop --state DIR {checkpoint}`"
        ))
    };
    let versions: Versions = serde_json::from_slice(&bytes).map_err(damaged)?;
    if versions.format_version > FORMAT_VERSION || versions.hash_version != HASH_VERSION {
        return Err(fail(format!(
            "it was written with format version {} and hash version {}, this eagre reads format versions up to {FORMAT_VERSION} and \
             hash version {HASH_VERSION}; use the version that wrote it, or start over with --fresh",
            versions.format_version, versions.hash_version
        )));
    }
    serde_json::from_slice(&bytes).map_err(damaged)
}

/// The newest checkpoint, if there is any.
pub fn read_latest(store: &dyn CheckpointStore) -> Result<Option<Manifest>> {
    match list(store)?.last() {
        Some(checkpoint) => read_manifest(store, *checkpoint).map(Some),
        None => Ok(None),
    }
}

/// Reads all chunks of one operator, oldest first.
///
/// # Errors
/// A file is missing or damaged: the message names it and the way out.
pub fn read_chunks(store: &dyn CheckpointStore, manifest: &Manifest, state: &OperatorState) -> Result<Vec<StateChunk>> {
    let mut chunks = Vec::new();
    for file in &state.files {
        let fail = |reason: String| EngineError::Checkpoint {
            message: format!(
                "state file `{}` of operator {} in {}: {reason}; an older checkpoint can be used after `eagre checkpoint drop --state \
                 DIR {}`, or start over with --fresh",
                file.name,
                state.name,
                store.describe(),
                manifest.checkpoint
            ),
        };
        let bytes = store.get(&file.name)?.ok_or_else(|| fail("it is missing".to_owned()))?;
        if checksum(&bytes) != file.checksum {
            return Err(fail(format!("it is damaged (its checksum is {}, not {})", checksum(&bytes), file.checksum)));
        }
        chunks.extend(decode_chunks(&bytes).map_err(|error| fail(error.to_string()))?);
    }
    Ok(chunks)
}

/// Deletes a checkpoint: its manifest first, then the files that no other manifest lists.
pub fn drop_checkpoint(store: &dyn CheckpointStore, checkpoint: u64) -> Result<()> {
    let names = |id: u64| -> BTreeSet<String> {
        // A damaged manifest lists nothing; its files are removed when a later checkpoint's files no longer include them.
        read_manifest(store, id).map_or_else(|_| BTreeSet::new(), |manifest| manifest.file_names())
    };
    let all = list(store)?;
    if !all.contains(&checkpoint) {
        return Err(EngineError::Checkpoint {
            message: format!(
                "there is no checkpoint {checkpoint} in {}; `eagre checkpoint list` shows those there are",
                store.describe()
            ),
        });
    }
    let mut orphans = names(checkpoint);
    for other in all.into_iter().filter(|id| *id != checkpoint) {
        for name in names(other) {
            orphans.remove(&name);
        }
    }
    store.delete(&manifest_name(checkpoint))?;
    orphans.iter().try_for_each(|name| store.delete(name))
}

impl Manifest {
    /// What a sink has to publish.
    pub fn sink_transaction(&self, id: &str) -> Option<&serde_json::Value> {
        self.sinks.get(id).filter(|transaction| !transaction.is_null())
    }

    /// Whether it is of a pipeline without operators, that of views which were all dropped.
    pub fn holds_nothing(&self) -> bool {
        self.sources.is_empty() && self.operators.is_empty() && self.sinks.is_empty()
    }

    /// Whether this checkpoint is of the pipeline that `graph` says: one of another query would silently start with other state.
    ///
    /// # Errors
    /// It is not; the message says what differs.
    pub fn check_same_query(&self, graph: &Graph) -> Result<()> {
        let ids = |wanted: fn(&NodeKind) -> bool| -> Vec<String> {
            graph.nodes.iter().filter(|node| wanted(&node.kind)).map(|node| node.id.to_string()).collect()
        };
        let operators = ids(|kind| matches!(kind, NodeKind::Operator(_)));
        let sources = ids(|kind| matches!(kind, NodeKind::Source(_)));
        let sinks = ids(|kind| matches!(kind, NodeKind::Sink(_)));
        let unknown_operator =
            self.operators.iter().find(|(id, _)| !operators.contains(id)).map(|(_, state)| state.name.clone());
        let unknown_source =
            self.sources.iter().find(|(id, _)| !sources.contains(id)).map(|(_, state)| state.table.clone());
        let unknown_sink = self.sinks.keys().any(|id| !sinks.contains(id));
        let missing = operators.iter().any(|id| !self.operators.contains_key(id))
            || sources.iter().any(|id| !self.sources.contains_key(id));
        let missing_sink = sinks.iter().any(|id| !self.sinks.contains_key(id));
        let what = match (unknown_source, unknown_operator) {
            (Some(table), _) => format!("it read table `{table}` in another way, or another table of that name"),
            (_, Some(operator)) => format!(
                "its operator {operator} is not in this query (where an 'eagre.state.ttl' was set or is set now, the operators \
                 that keep it are others)"
            ),
            _ if missing => "this query has operators that it knows nothing of".to_owned(),
            _ if unknown_sink || missing_sink => "it wrote its rows elsewhere, or other columns of them".to_owned(),
            _ => return Ok(()),
        };
        Err(EngineError::Checkpoint {
            message: format!(
                "checkpoint {} is of another query: {what}; give this query its own --state, or start over with --fresh",
                self.checkpoint
            ),
        })
    }

    /// The state files that this checkpoint needs.
    pub fn file_names(&self) -> BTreeSet<String> {
        self.operators.values().flat_map(|operator| operator.files.iter().map(|file| file.name.clone())).collect()
    }

    /// Bytes of all its files.
    pub fn state_bytes(&self) -> u64 {
        self.operators.values().flat_map(|operator| &operator.files).map(|file| file.bytes).sum()
    }
}

/// What a shard hands over for one operator.
pub(crate) struct SavedOperator {
    pub node: usize,
    pub kind: SaveKind,
    pub state: StateWriter,
    pub live_rows: u64,
}
