//! Which files a checkpoint lists, when an operator is asked for everything, and what becomes of files that are no longer listed.

use arrow::array::{ArrayRef, Int64Array};

use super::*;
use crate::checkpoint::{MemoryStore, read_chunks, read_manifest};
use crate::operator::StateWriter;

const ID: OperatorId = OperatorId(7);

fn checkpointer(store: &MemoryStore, retain: usize) -> Checkpointer {
    Checkpointer {
        store: Arc::new(store.clone()),
        shards: 1,
        seed: 1,
        run: "run".to_owned(),
        retain,
        operators: BTreeMap::from([(0, (ID, "Operator".to_owned()))]),
        sinks: Vec::new(),
        last: None,
        metrics: Metrics::new(Vec::new(), 1),
        compression: Compression::None,
        buffer: Vec::new(),
    }
}

/// What one shard handed over: `rows`, with so many `entries` of lists in them, of `live_rows` in all.
fn gathered(checkpoint: u64, kind: SaveKind, rows: i64, entries: u64, live_rows: u64) -> Gathering {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row + checkpoint as i64 * 1_000)));
    let mut state = StateWriter { entries, ..StateWriter::default() };
    state.put("rows", RecordBatch::try_from_iter([("v", column)]).expect("one column"));
    let begin = Begin {
        checkpoint,
        step: checkpoint,
        clock_ms: 0,
        next_ordinal: 0,
        finished: false,
        sources: BTreeMap::new(),
        watermarks: BTreeMap::new(),
        records: Vec::new(),
    };
    let saved = SavedOperator { node: 0, kind, state, live_rows };
    Gathering { begin: Some(Box::new(begin)), shards: vec![(0, vec![saved])], ..Gathering::default() }
}

/// Where groups have many distinct values and each checkpoint a few of them, no checkpoint asks for all of them again until what is listed
/// is mostly old; and every checkpoint that is kept can be read, whatever was saved in full after it.
#[test]
fn files_stay_as_long_as_some_checkpoint_needs_them() {
    let store = MemoryStore::new();
    let mut checkpointer = checkpointer(&store, 2);
    let mut retained = VecDeque::new();
    let mut write = |checkpoint, kind, rows, entries, live| {
        let written = checkpointer.write(checkpoint, gathered(checkpoint, kind, rows, entries, live), &mut retained);
        written.expect("writes").full_next
    };
    // Ten groups with 10,000 values, then all groups change by a thousand values each time.
    assert_eq!(write(1, SaveKind::Changes, 10, 10_000, 10_010), [0; 0]);
    for checkpoint in 2..=11 {
        assert_eq!(write(checkpoint, SaveKind::Changes, 10, 1_000, 10_010), [0; 0], "checkpoint {checkpoint}");
    }
    // More than twice what is there, and some.
    assert_eq!(write(12, SaveKind::Changes, 10, 2_000, 10_010), [0]);
    let chunks_of = |checkpoint: u64| {
        let manifest = read_manifest(&store, checkpoint).expect("is kept");
        let state = &manifest.operators[&ID.to_string()];
        (state.files.len(), read_chunks(&store, &manifest, state).expect("all its files are there").len())
    };
    assert_eq!(chunks_of(12), (12, 12));
    assert_eq!(write(13, SaveKind::Full, 10, 10_000, 10_010), [0; 0]);
    assert_eq!((chunks_of(12), chunks_of(13)), ((12, 12), (1, 1)));
    assert_eq!(write(14, SaveKind::Changes, 10, 5, 10_010), [0; 0]);
    // Nobody lists the old ones any more.
    assert_eq!(chunks_of(14), (2, 2));
    assert_eq!(store.list(super::super::STATE_PREFIX).expect("lists").len(), 2);
}
