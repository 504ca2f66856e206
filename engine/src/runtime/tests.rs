//! Simulations: whole pipelines over sources in memory, at any number of shards, cut into any steps, killed after any step.
//!
//! What must hold: the answer is that of the input, not of how it was cut, divided or interrupted.

#![allow(clippy::disallowed_methods, reason = "the macro `json!` unwraps what cannot fail")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::checkpoint::{MemoryStore, read_latest};
use crate::delta::Delta;
use crate::graph::{
    ChangelogMode, Edge, EdgeInfo, Node, NodeKind, OperatorId, Route, SinkNode, SourceNode, WatermarkSpec,
    WatermarkStrategy,
};
use crate::hash::hash_columns;
use crate::log::{Taken, read_log};
use crate::operator::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter, Ticket};
use crate::sink::{Sink, SinkFactory};
use crate::source::{BadRow, PartitionId, Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use crate::time::EventTimeMs;

/// A clock that moves by a millisecond with each look, so that idle timeouts and intervals pass without waiting.
struct TickingClock(std::sync::atomic::AtomicI64);

impl Clock for TickingClock {
    fn now_ms(&self) -> i64 {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed) as u64
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Int64, false),
    ]))
}

type Row = (EventTimeMs, i64, i64);

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2))),
    ];
    RecordBatch::try_new(schema(), columns).expect("three columns of one length")
}

/// Partitions of batches; after batch `i` of a partition stands an unreadable row if `i` is odd.
#[derive(Clone)]
struct Rows {
    partitions: Vec<(PartitionId, Vec<Vec<Row>>)>,
}

impl Source for Rows {
    fn describe(&self) -> String {
        "rows".to_owned()
    }
    fn schema(&self) -> SchemaRef {
        schema()
    }
    fn bounded(&self) -> bool {
        true
    }
    fn replayable(&self) -> bool {
        true
    }
    fn open(&self, projection: &[usize], places: &Places, _stop: StopFlag) -> crate::Result<Box<dyn SourceReader>> {
        assert_eq!(projection, [0, 1, 2]);
        let mut events = vec![SourceEvent::Partitions(self.partitions.iter().map(|(id, _)| Arc::clone(id)).collect())];
        let longest = self.partitions.iter().map(|(_, batches)| batches.len()).max().unwrap_or(0);
        for index in 0..longest {
            for (id, batches) in &self.partitions {
                let resume = places.get(&**id).map_or(0, |place| place.position.as_u64().expect("a number") as usize);
                let Some(rows) = batches.get(index).filter(|_| index >= resume) else { continue };
                let bad = BadRow {
                    before_row: rows.len(),
                    origin: id.to_string(),
                    offset: index as u64,
                    reason: "no number".to_owned(),
                    raw: b"x".to_vec(),
                };
                events.push(SourceEvent::Batch(SourceBatch {
                    partition: Arc::clone(id),
                    start: json!(index),
                    end: json!(index + 1),
                    batch: batch(rows),
                    weights: None,
                    bad_rows: if index % 2 == 1 { vec![bad] } else { Vec::new() },
                }));
                if index + 1 == batches.len() {
                    events.push(SourceEvent::PartitionEnd(Arc::clone(id)));
                }
            }
        }
        events.push(SourceEvent::End);
        events.reverse();
        Ok(Box::new(Reader(events)))
    }
}

struct Reader(Vec<SourceEvent>);

impl SourceReader for Reader {
    fn next(&mut self) -> crate::Result<SourceEvent> {
        Ok(self.0.pop().expect("nothing is asked for after the end"))
    }
}

/// Emits, for each key that came in a step, the sum of all its values so far, and, when time passes a row, that row's time.
struct RunningSum {
    sums: BTreeMap<i64, i64>,
    dirty: BTreeMap<i64, ()>,
    /// Every step first answers "pending" and is redeemed from another thread.
    pending: bool,
    waiting: Option<Vec<Delta>>,
}

struct RunningSumFactory {
    pending: bool,
}

impl OperatorFactory for RunningSumFactory {
    fn name(&self) -> &'static str {
        "RunningSum"
    }
    fn create(&self) -> crate::Result<Box<dyn Operator>> {
        Ok(Box::new(RunningSum { sums: BTreeMap::new(), dirty: BTreeMap::new(), pending: self.pending, waiting: None }))
    }
}

impl Operator for RunningSum {
    fn name(&self) -> &'static str {
        "RunningSum"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> crate::Result<Progress> {
        let deltas = match self.waiting.take() {
            Some(deltas) => deltas,
            None => input.single(),
        };
        if self.pending && !deltas.is_empty() {
            self.pending = false;
            self.waiting = Some(deltas);
            let (redeemer, ticket) = Ticket::new();
            std::thread::spawn(move || redeemer.redeem());
            return Ok(Progress::Pending(ticket));
        }
        let mut touched = BTreeMap::new();
        for delta in deltas {
            let keys = delta.batch.column(1).as_primitive::<Int64Type>();
            let values = delta.batch.column(2).as_primitive::<Int64Type>();
            for (key, value) in keys.values().iter().zip(values.values()) {
                *self.sums.entry(*key).or_default() += value;
                touched.insert(*key, ());
            }
        }
        let rows: Vec<Row> = touched.keys().map(|key| (0, *key, self.sums[key])).collect();
        self.dirty.append(&mut touched);
        out.emit(Delta::insert(batch(&rows)));
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> crate::Result<()> {
        let keys: Vec<i64> = match kind {
            SaveKind::Full => self.sums.keys().copied().collect(),
            SaveKind::Changes => self.dirty.keys().copied().collect(),
        };
        self.dirty.clear();
        state.put("sums", batch(&keys.iter().map(|key| (0, *key, self.sums[key])).collect::<Vec<_>>()));
        Ok(())
    }

    fn restore(&mut self, state: &StateReader<'_>) -> crate::Result<()> {
        let mut hashes = Vec::new();
        for chunk in state.chunks {
            let keys = chunk.rows.column(1).as_primitive::<Int64Type>();
            let sums = chunk.rows.column(2).as_primitive::<Int64Type>();
            hash_columns(&[Arc::clone(chunk.rows.column(1))], chunk.rows.num_rows(), &mut hashes)?;
            for row in (0..keys.len()).filter(|row| state.owned.owns(hashes[*row])) {
                self.sums.insert(keys.value(row), sums.value(row));
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.sums.len() * 16
    }

    fn state_rows(&self) -> usize {
        self.sums.len()
    }
    fn keys(&self) -> usize {
        self.sums.len()
    }
}

/// A row as JSON, and the step that emitted it.
type StepRow = (u64, String);

/// What a committing sink shows, and what it has staged.
#[derive(Clone, Default)]
struct Published {
    staged: Arc<Mutex<Vec<(u64, String)>>>,
    shown: Arc<Mutex<BTreeMap<u64, Vec<StepRow>>>>,
    all: Arc<Mutex<Vec<(u64, String)>>>,
}

impl SinkFactory for Published {
    fn describe(&self) -> String {
        "published".to_owned()
    }
    fn accepts_retractions(&self) -> bool {
        true
    }
    fn exactly_once(&self) -> bool {
        true
    }
    fn create(&self) -> crate::Result<Box<dyn Sink>> {
        Ok(Box::new(self.clone()))
    }
}

impl Sink for Published {
    fn write(&mut self, step: u64, deltas: &[Delta]) -> crate::Result<()> {
        for delta in deltas {
            for row in rows_as_json(&delta.batch)? {
                self.staged.lock().expect("no panic").push((step, row.clone()));
                self.all.lock().expect("no panic").push((step, row));
            }
        }
        Ok(())
    }
    fn prepare(&mut self, step: u64) -> crate::Result<Option<serde_json::Value>> {
        let rows = std::mem::take(&mut *self.staged.lock().expect("no panic"));
        Ok(Some(json!({ "step": step, "rows": rows })))
    }
    fn commit(&mut self, transaction: &serde_json::Value) -> crate::Result<()> {
        let step = transaction["step"].as_u64().expect("a step");
        let rows = serde_json::from_value(transaction["rows"].clone()).expect("rows");
        self.shown.lock().expect("no panic").insert(step, rows);
        Ok(())
    }
    fn recover(&mut self, transaction: Option<&serde_json::Value>) -> crate::Result<()> {
        self.staged.lock().expect("no panic").clear();
        transaction.map_or(Ok(()), |transaction| self.commit(transaction))
    }
    fn finish(&mut self) -> crate::Result<()> {
        Ok(())
    }
}

/// rows -> RunningSum by key -> sink; unreadable rows -> a second sink.
fn graph(source: Rows, sums: &Published, errors: &Published, pending: bool) -> Graph {
    let info = |schema: SchemaRef| EdgeInfo {
        schema,
        changelog: ChangelogMode::AppendOnly,
        key: None,
        time_column: Some(0),
        ordinals: false,
    };
    let node = |id: u64, kind: NodeKind, inputs: Vec<Edge>, schema: SchemaRef| Node {
        id: OperatorId(id),
        kind,
        inputs,
        output: info(schema),
        detail: String::new(),
        state_bound: String::new(),
        statement: "statement 1".to_owned(),
    };
    let column =
        |index: usize| -> crate::expr::ExprRef { Arc::new(Column(index, Arc::new(schema().field(index).clone()))) };
    let source = SourceNode {
        table: "t".to_owned(),
        source: Arc::new(source),
        projection: vec![0, 1, 2],
        columns: (0..3).map(column).collect(),
        watermark: Some(WatermarkSpec {
            time_column: 0,
            strategy: WatermarkStrategy::BoundedOutOfOrderness { delay_ms: 5 },
        }),
        idle_timeout_ms: None,
        ordinals: false,
        positions: false,
        fail_on_bad_rows: false,
    };
    let sink = |published: &Published| {
        NodeKind::Sink(SinkNode { table: "out".to_owned(), factory: Arc::new(published.clone()) })
    };
    Graph {
        nodes: vec![
            node(1, NodeKind::Source(source), vec![], schema()),
            node(
                2,
                NodeKind::Operator(Arc::new(RunningSumFactory { pending })),
                vec![Edge { from: 0, port: 0, route: Route::Hash(vec![1]) }],
                schema(),
            ),
            node(3, sink(sums), vec![Edge { from: 1, port: 0, route: Route::Forward }], schema()),
            node(
                4,
                sink(errors),
                vec![Edge { from: 0, port: 1, route: Route::Forward }],
                crate::graph::errors_schema(),
            ),
        ],
    }
}

#[derive(Debug)]
struct Column(usize, arrow::datatypes::FieldRef);

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.1.name())
    }
}

impl crate::expr::Expr for Column {
    fn evaluate(
        &self,
        batch: &RecordBatch,
        _: &crate::expr::StepContext,
        _: Option<&arrow::array::UInt64Array>,
    ) -> crate::Result<ArrayRef> {
        Ok(Arc::clone(batch.column(self.0)))
    }
    fn field(&self) -> &arrow::datatypes::FieldRef {
        &self.1
    }
    fn as_column(&self) -> Option<usize> {
        Some(self.0)
    }
}

fn start(graph: Graph, config: PipelineConfig, store: Option<&MemoryStore>) -> Start {
    let store: Option<Arc<dyn CheckpointStore>> =
        store.map(|store| Arc::new(store.clone()) as Arc<dyn CheckpointStore>);
    let restore = store.as_ref().and_then(|store| {
        let manifest = read_latest(store.as_ref()).expect("a readable store")?;
        Some((manifest, Arc::clone(store)))
    });
    let clock = Arc::new(TickingClock(std::sync::atomic::AtomicI64::new(1_000)));
    Start { graph, config, clock, store, restore, mode: Mode::Live, observer: None }
}

fn input(seed: u64) -> Rows {
    let mut state = seed;
    let mut next = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let partitions = (0..2).map(|partition| {
        let batches =
            (0..6).map(|_| (0..next(8)).map(|_| (next(100) as i64, next(5) as i64, next(10) as i64)).collect());
        (PartitionId::from(format!("p{partition}")), batches.collect())
    });
    Rows { partitions: partitions.collect() }
}

/// The last sum of each key: what the running sums must come to.
fn expected(rows: &Rows) -> BTreeMap<i64, i64> {
    let mut sums = BTreeMap::new();
    for (_, key, value) in rows.partitions.iter().flat_map(|(_, batches)| batches.iter().flatten()) {
        *sums.entry(*key).or_default() += value;
    }
    sums
}

fn last_sums<'a>(rows: impl Iterator<Item = &'a (u64, String)>) -> BTreeMap<i64, i64> {
    rows.map(|(_, row)| {
        let row: serde_json::Value = serde_json::from_str(row).expect("JSON");
        (row["key"].as_i64().expect("a key"), row["value"].as_i64().expect("a sum"))
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// How rows are cut into steps and divided among shards is an accident: it never shows in the sums, and no unreadable row is lost.
    #[test]
    fn steps_and_shards_do_not_show(seed in any::<u64>(), rows_max in 1usize..20, shards in 1usize..5, pending in any::<bool>()) {
        let source = input(seed);
        let (sums, errors) = (Published::default(), Published::default());
        let config = PipelineConfig { rows_max, shards, ..PipelineConfig::default() };
        let pipeline = Pipeline::start(start(graph(source.clone(), &sums, &errors, pending), config, None)).expect("starts");
        let summary = pipeline.wait().expect("runs");
        prop_assert!(summary.finished);
        prop_assert_eq!(last_sums(sums.all.lock().expect("no panic").iter()), expected(&source));
        prop_assert_eq!(errors.all.lock().expect("no panic").len(), 6);
        prop_assert_eq!(summary.bad_rows, 6);
    }

    /// Killed after any step and started again at another shard count, committed output is that of one undisturbed run: every step's
    /// rows once, none lost, none twice. And the log runs the same steps again.
    #[test]
    fn a_crash_anywhere_changes_nothing(seed in any::<u64>(), rows_max in 1usize..12, kills in prop::collection::vec((1u64..6, 1usize..4), 0..5)) {
        let source = input(seed);
        let store = MemoryStore::new();
        let (sums, errors) = (Published::default(), Published::default());
        let config = |shards| PipelineConfig {
            rows_max, shards, checkpoint_steps: 2, checkpoint_interval_ms: 3, ..PipelineConfig::default()
        };
        for (index, (steps, shards)) in kills.iter().enumerate() {
            let done = read_latest(&store).expect("readable").map_or(0, |manifest| manifest.step);
            let config = PipelineConfig { abort_after_step: Some(done + steps), run: format!("run{index}"), ..config(*shards) };
            let pipeline = Pipeline::start(start(graph(source.clone(), &sums, &errors, false), config, Some(&store)));
            pipeline.expect("starts").wait().expect("vanishes quietly");
            if read_latest(&store).expect("readable").is_some_and(|manifest| manifest.finished) {
                break;
            }
        }
        if !read_latest(&store).expect("readable").is_some_and(|manifest| manifest.finished) {
            let config = PipelineConfig { run: "last".to_owned(), ..config(2) };
            let pipeline = Pipeline::start(start(graph(source.clone(), &sums, &errors, false), config, Some(&store)));
            prop_assert!(pipeline.expect("starts").wait().expect("runs").finished);
        }
        let shown: Vec<_> = sums.shown.lock().expect("no panic").values().flatten().cloned().collect();
        prop_assert_eq!(last_sums(shown.iter()), expected(&source));
        prop_assert_eq!(errors.shown.lock().expect("no panic").values().flatten().count(), 6);

        // The whole log, replayed at the shard count of the last run, shows the same rows of the same steps.
        let manifest = read_latest(&store).expect("readable").expect("there is a checkpoint");
        prop_assert_eq!(manifest.finished, true);
        let records = read_log(&store, manifest.log.clone()).expect("a whole log");
        let steps: Vec<u64> = records.iter().map(|record| record.step).collect();
        prop_assert_eq!(steps, (1..=manifest.step).collect::<Vec<_>>());
        let (again, errors_again) = (Published::default(), Published::default());
        let config = PipelineConfig { shards: manifest.shards, ..PipelineConfig::default() };
        let mut replay = start(graph(source, &again, &errors_again, false), config, None);
        replay.mode = Mode::Replay(records);
        Pipeline::start(replay).expect("starts").wait().expect("replays");
        let sorted = |rows: &mut Vec<(u64, String)>| { rows.sort(); rows.clone() };
        prop_assert_eq!(sorted(&mut again.all.lock().expect("no panic")), sorted(&mut shown.clone()));
    }
}

/// A second process on the same state folder must not publish beside the first.
#[test]
fn two_runs_on_one_store_are_told() {
    let store = MemoryStore::new();
    let run = |name: &str| {
        let config = PipelineConfig { run: name.to_owned(), ..PipelineConfig::default() };
        let (sums, errors) = (Published::default(), Published::default());
        start(graph(input(7), &sums, &errors, false), config, Some(&store))
    };
    // Both read "no checkpoint" before either has written one.
    let (first, second) = (run("first"), run("second"));
    let first = Pipeline::start(first).expect("starts");
    first.wait().expect("runs");
    let outcome = Pipeline::start(Start { restore: None, ..second }).and_then(Pipeline::wait);
    // The second one numbers its checkpoints after those that are there, so it cannot overwrite any.
    let manifests = crate::checkpoint::list(&store).expect("readable");
    assert!(manifests.is_sorted() && !manifests.is_empty());
    drop(outcome);
    let error = store.put_if_absent(&crate::checkpoint::manifest_name(manifests[0]), b"other").expect("a store");
    assert!(!error, "a manifest is written once");
}

/// State of another query must not be taken for this one's.
#[test]
fn a_checkpoint_of_another_query_is_refused() {
    let store = MemoryStore::new();
    let (sums, errors) = (Published::default(), Published::default());
    let first = start(graph(input(3), &sums, &errors, false), PipelineConfig::default(), Some(&store));
    Pipeline::start(first).expect("starts").wait().expect("runs");
    let mut other = graph(input(3), &sums, &errors, false);
    other.nodes[1].id = OperatorId(99);
    let refused =
        Pipeline::start(start(other, PipelineConfig::default(), Some(&store))).err().expect("refused").to_string();
    assert!(
        refused.contains("of another query") && refused.contains("RunningSum") && refused.contains("--fresh"),
        "{refused}"
    );
}

/// One file has ended and another one says nothing: what the first one had in its windows must not wait for ever.
#[test]
fn time_goes_on_when_what_has_not_ended_is_idle() {
    let (sums, errors) = (Published::default(), Published::default());
    let graph = graph(input(1), &sums, &errors, false);
    let NodeKind::Source(node) = &graph.nodes[0].kind else { panic!("a source comes first") };
    let node = SourceNode { idle_timeout_ms: Some(20), ..node.clone() };
    let (_sender, receiver) = crossbeam_channel::unbounded();
    let reading = super::input::Reading { messages: receiver, stop: crate::source::StopFlag::new() };
    let mut source = super::input::Input::new(node, schema(), 0, reading, false, None, 1_000);
    let batch_of = |partition: &str, time: i64| SourceBatch {
        partition: PartitionId::from(partition),
        start: json!(0),
        end: json!(1),
        batch: batch(&[(time, 1, 1)]),
        weights: None,
        bad_rows: Vec::new(),
    };
    let events = [
        SourceEvent::Partitions(vec![PartitionId::from("ends"), PartitionId::from("idles")]),
        SourceEvent::Batch(batch_of("ends", 100)),
        SourceEvent::Batch(batch_of("idles", 40)),
        SourceEvent::PartitionEnd(PartitionId::from("ends")),
    ];
    for event in events {
        source.receive(super::input::ReaderMessage::Event(event), 1_000).expect("received");
    }
    let take = |source: &mut super::input::Input, clock_ms: i64| {
        let context = crate::expr::StepContext { step: 1, clock_ms, seed: 1 };
        let mut stamp = super::input::Stamp { context: &context, next_ordinal: &mut 0 };
        let (mut rows, mut bytes, mut cut) = (10, u64::MAX, super::input::Cut::default());
        source.take(&mut rows, &mut bytes, &mut cut, &mut stamp).expect("taken");
        cut.waited_ms
    };
    assert_eq!(take(&mut source, 1_000), 0);
    let time = |watermark, idle| crate::log::SourceTime { watermark, idle };
    // Five milliseconds behind the latest row of the one that goes on.
    assert_eq!(source.advance_watermark(1_001), time(35, false));
    assert_eq!(source.next_idle_ms(1_001), Some(1_020));
    assert_eq!(source.advance_watermark(1_020), time(95, true));
    // Its next row is an hour late, and time does not go back.
    let event = SourceEvent::Batch(batch_of("idles", 45));
    source.receive(super::input::ReaderMessage::Event(event), 1_030).expect("received");
    // How long a row has waited counts for latency, from when it was handed over.
    assert_eq!(take(&mut source, 1_031), 1);
    assert_eq!(source.advance_watermark(1_031), time(95, false));
}

/// Notes how long rows had waited when they came to it.
#[derive(Clone, Default)]
struct Waits(Arc<Mutex<Vec<u64>>>);

impl OperatorFactory for Waits {
    fn name(&self) -> &'static str {
        "Waits"
    }
    fn create(&self) -> crate::Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Operator for Waits {
    fn name(&self) -> &'static str {
        "Waits"
    }
    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> crate::Result<Progress> {
        if input.single().iter().any(|delta| delta.rows() > 0) {
            self.0.lock().expect("no panic").push(out.wave.oldest_wait_ns());
        }
        Ok(Progress::Done)
    }
    fn save(&mut self, _: SaveKind, _: &mut StateWriter) -> crate::Result<()> {
        Ok(())
    }
    fn restore(&mut self, _: &StateReader<'_>) -> crate::Result<()> {
        Ok(())
    }
    fn state_bytes(&self) -> usize {
        0
    }
    fn state_rows(&self) -> usize {
        0
    }
}

/// A row that waits in a queue while others are taken has used up some of its latency bound, which placement has to know.
#[test]
fn operators_are_told_how_long_rows_have_waited() {
    let rows = (0..5).map(|time| (time, 1, 1)).collect();
    let source = Rows { partitions: vec![(PartitionId::from("one"), vec![rows])] };
    let (sums, errors, waits) = (Published::default(), Published::default(), Waits::default());
    let mut graph = graph(source, &sums, &errors, false);
    graph.nodes[1].kind = NodeKind::Operator(Arc::new(waits.clone()));
    let config = PipelineConfig { rows_max: 1, shards: 1, ..PipelineConfig::default() };
    Pipeline::start(start(graph, config, None)).expect("starts").wait().expect("runs");
    let waits = waits.0.lock().expect("no panic").clone();
    // The clock moves by a millisecond with each look.
    assert!(waits.len() == 5 && waits.is_sorted() && waits[4] >= 4_000_000, "{waits:?}");
}

/// A mistake in an operator.
struct Mistaken;

impl OperatorFactory for Mistaken {
    fn name(&self) -> &'static str {
        "Mistaken"
    }
    fn create(&self) -> crate::Result<Box<dyn Operator>> {
        Ok(Box::new(Mistaken))
    }
}

impl Operator for Mistaken {
    fn name(&self) -> &'static str {
        "Mistaken"
    }
    fn step(&mut self, mut input: Input<'_>, _: &mut Output) -> crate::Result<Progress> {
        assert!(input.single().iter().all(|delta| delta.rows() == 0), "one and one is three");
        Ok(Progress::Done)
    }
    fn save(&mut self, _: SaveKind, _: &mut StateWriter) -> crate::Result<()> {
        Ok(())
    }
    fn restore(&mut self, _: &StateReader<'_>) -> crate::Result<()> {
        Ok(())
    }
    fn state_bytes(&self) -> usize {
        0
    }
    fn state_rows(&self) -> usize {
        0
    }
}

/// A panic is a mistake of ours; it must end the pipeline and say so, not leave who waits for the shard waiting.
#[test]
fn a_panic_ends_the_pipeline_with_an_error() {
    for shards in [1, 3] {
        let rows = (0..500).map(|time| (time, time % 7, 1)).collect();
        let source = Rows { partitions: vec![(PartitionId::from("one"), vec![rows])] };
        let mut graph = graph(source, &Published::default(), &Published::default(), false);
        graph.nodes[1].kind = NodeKind::Operator(Arc::new(Mistaken));
        let config = PipelineConfig { rows_max: 10, shards, ..PipelineConfig::default() };
        let pipeline = Pipeline::start(start(graph, config, None)).expect("starts");
        let (sender, ended) = crossbeam_channel::bounded(1);
        std::thread::spawn(move || sender.send(pipeline.wait()));
        let outcome = ended.recv_timeout(std::time::Duration::from_secs(60)).expect("the pipeline ends");
        let error = outcome.expect_err("an operator has panicked").to_string();
        assert!(error.contains("one and one is three"), "{shards} shards: {error}");
    }
}

/// The rows of each step.
#[derive(Default)]
struct Cuts(Mutex<Vec<u64>>);

impl StepObserver for Cuts {
    fn cut(&self, _: u64, taken: &[Taken]) {
        self.0.lock().expect("no panic").push(taken.iter().map(|taken| taken.rows).sum());
    }
    fn done(&self, _: u64) {}
}

/// A step costs an operator something for each key, so where there are many of them steps grow: no further than they may, and not at all for
/// few keys.
#[test]
fn steps_grow_with_the_keys() {
    let cuts = |keys: i64, rows_max_by_keys: usize| {
        let rows = (0..100).map(|time| (time, time % keys, 1)).collect();
        let source = Rows { partitions: vec![(PartitionId::from("one"), vec![rows])] };
        let graph = graph(source, &Published::default(), &Published::default(), false);
        let config = PipelineConfig { rows_max: 10, rows_max_by_keys, shards: 1, ..PipelineConfig::default() };
        let cuts = Arc::new(Cuts::default());
        let start = Start { observer: Some(Arc::clone(&cuts) as Arc<dyn StepObserver>), ..start(graph, config, None) };
        Pipeline::start(start).expect("starts").wait().expect("runs");
        let cuts = cuts.0.lock().expect("no panic").clone();
        cuts.into_iter().filter(|rows| *rows > 0).collect::<Vec<_>>()
    };
    assert_eq!(cuts(50, 40), [10, 40, 40, 10]);
    assert_eq!(cuts(1, 40), [10; 10]);
    assert_eq!(cuts(3, 40), [10, 24, 24, 24, 18]);
    assert_eq!(cuts(50, 0), [10; 10]);
}
