//! Recursion against making all rows anew, until none is new, after each step.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;

use super::{RecursionFactory, RecursionSpec};
use crate::aggregate::testing::show;
use crate::delta::Delta;
use crate::error::{EngineError, Result};
use crate::expr::StepContext;
use crate::graph::{ChangelogMode, Edge, EdgeInfo, Graph, Node, NodeKind, OperatorId, Route, SourceNode};
use crate::hash::HashGroups;
use crate::operator::join::{JoinFactory, JoinKind, JoinSide, JoinSpec};
use crate::operator::{
    Input, Operator, OperatorFactory, Output, PORT_MAIN, SaveKind, StateChunk, StateReader, StateWriter,
};
use crate::source::{Places, Source, SourceReader, StopFlag};
use crate::time::{WATERMARK_MAX, WATERMARK_MIN, Watermarks};

type Pair = (i64, i64);
type Counts = BTreeMap<Pair, i64>;

fn schema() -> SchemaRef {
    let field = |name| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![field("from"), field("to")]))
}

fn delta_of(pairs: &[(Pair, i64)], weighted: bool) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(pairs.iter().map(|((from, _), _)| *from).collect::<Int64Array>()),
        Arc::new(pairs.iter().map(|((_, to), _)| *to).collect::<Int64Array>()),
    ];
    let batch = RecordBatch::try_new(schema(), columns).expect("the schema's types");
    match weighted {
        true => Delta::weighted(batch, pairs.iter().map(|(_, weight)| *weight).collect()),
        false => Delta::insert(batch),
    }
}

/// Never read.
struct Nothing;

impl Source for Nothing {
    fn describe(&self) -> String {
        "nothing".into()
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

    fn open(&self, _: &[usize], _: &Places, _: StopFlag) -> Result<Box<dyn SourceReader>> {
        Err(EngineError::bug("a placeholder was opened"))
    }
}

fn node(kind: NodeKind, inputs: Vec<Edge>) -> Node {
    let output = EdgeInfo {
        schema: schema(),
        changelog: ChangelogMode::AppendOnly,
        key: None,
        time_column: None,
        ordinals: false,
    };
    let (detail, state_bound, statement) = (String::new(), String::new(), String::new());
    Node { id: OperatorId(0), kind, inputs, output, detail, state_bound, statement }
}

fn placeholder() -> Node {
    let source = SourceNode {
        table: "nothing".into(),
        source: Arc::new(Nothing),
        projection: vec![],
        columns: vec![],
        watermark: None,
        idle_timeout_ms: None,
        ordinals: false,
        positions: false,
        fail_on_bad_rows: false,
    };
    node(NodeKind::Source(source), vec![])
}

/// `paths(from, to) AS (start UNION [ALL] SELECT p.from, e.to FROM paths p JOIN edges e ON p.to = e.from)`; with `anti` instead the pairs
/// whose end has no edge, turned round once.
fn factory(distinct: bool, at_end: bool, retracting: bool, iterations_max: u64, rows_max: u64) -> RecursionFactory {
    let side =
        |keys| JoinSide { schema: schema(), keys, retracting: false, expires_at: None, late: None, ttl_ms: None };
    let spec = JoinSpec {
        kind: JoinKind::Inner,
        left: side(vec![1]),
        right: side(vec![0]),
        null_equals_null: false,
        residual: None,
        output: vec![0, 3],
        unmatched_on_expiry: false,
    };
    let join = Arc::new(JoinFactory::new(spec).expect("plans"));
    let edge = |from| Edge { from, port: PORT_MAIN, route: Route::Forward };
    let nodes = vec![placeholder(), placeholder(), node(NodeKind::Operator(join), vec![edge(0), edge(1)])];
    RecursionFactory::new(RecursionSpec {
        name: "paths".into(),
        inputs: vec![schema(), schema()],
        retracting: vec![retracting; 2],
        distinct,
        at_end,
        term: Graph { nodes },
        sources: vec![0, 1],
        result: 2,
        iterations_max,
        rows_max,
    })
    .expect("plans")
}

/// All paths, each as often as it can be gone.
fn naive(start: &[(Pair, i64)], edges: &[(Pair, i64)], distinct: bool) -> Counts {
    let sum = |rows: &[(Pair, i64)]| {
        let mut counts = Counts::new();
        rows.iter().for_each(|(pair, weight)| *counts.entry(*pair).or_default() += weight);
        counts.retain(|_, weight| *weight != 0);
        counts
    };
    let edges = sum(edges);
    let mut all = Counts::new();
    let mut work = sum(start);
    while !work.is_empty() {
        if distinct {
            work.retain(|pair, _| !all.contains_key(pair));
            work.values_mut().for_each(|weight| *weight = 1);
        }
        work.iter().for_each(|(pair, weight)| *all.entry(*pair).or_default() += weight);
        let mut next = Counts::new();
        for ((from, to), weight) in &work {
            for ((at, end), times) in edges.iter().filter(|((at, _), _)| at == to) {
                debug_assert_eq!(at, to);
                *next.entry((*from, *end)).or_default() += weight * times;
            }
        }
        work = next;
    }
    all
}

/// Shards, of which the one that owns hash 0 has everything.
struct Shards<'a> {
    factory: &'a RecursionFactory,
    operators: Vec<Box<dyn Operator>>,
    chunks: Vec<StateChunk>,
    metas: Vec<serde_json::Map<String, serde_json::Value>>,
}

impl<'a> Shards<'a> {
    fn new(factory: &'a RecursionFactory) -> Self {
        let mut shards = Self { factory, operators: vec![], chunks: vec![], metas: vec![] };
        shards.restart(2);
        shards
    }

    fn restart(&mut self, shards: usize) {
        let restored = |shard| {
            let mut operator = self.factory.create().expect("creates");
            let owned = HashGroups::of_shard(shard, shards);
            operator.restore(&StateReader { chunks: &self.chunks, metas: &self.metas, owned }).expect("restores");
            operator
        };
        self.operators = (0..shards).map(restored).collect();
    }

    fn save(&mut self, kind: SaveKind) {
        if kind == SaveKind::Full {
            self.chunks.clear();
        }
        self.metas.clear();
        for operator in &mut self.operators {
            let mut writer = StateWriter::default();
            operator.save(kind, &mut writer).expect("saves");
            self.chunks.extend(writer.saved().expect("gathers"));
            self.metas.push(writer.meta);
        }
    }

    fn step(&mut self, ports: [Delta; 2], ends: bool) -> Result<Vec<(String, i64)>> {
        let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
        let after = if ends { WATERMARK_MAX } else { WATERMARK_MIN };
        let watermarks = Watermarks { before: WATERMARK_MIN, after };
        let mut shown = vec![];
        for (shard, operator) in self.operators.iter_mut().enumerate() {
            let mine = |delta: &Delta| if shard == 0 { vec![delta.clone()] } else { vec![] };
            let mut out = Output::default();
            let input = Input { ports: ports.iter().map(mine).collect(), context: &context, watermarks };
            operator.step(input, &mut out)?;
            shown.extend(show(&out.deltas));
        }
        Ok(shown)
    }
}

fn text(counts: &Counts) -> BTreeMap<String, i64> {
    counts.iter().map(|((from, to), weight)| (format!("{from}|{to}"), *weight)).collect()
}

/// Starts and edges of each step, with what follows it. Edges go up, so that no path goes on for ever.
fn steps() -> impl Strategy<Value = Vec<(Vec<Pair>, Vec<Pair>, u8, usize)>> {
    let up = (0_i64..6, 1_i64..4).prop_map(|(from, up)| (from, from + up));
    let rows = || proptest::collection::vec(up.clone(), 0..4);
    proptest::collection::vec((rows(), rows(), 0_u8..4, 1_usize..4), 1..8)
}

fn once(pairs: &[Pair]) -> Vec<(Pair, i64)> {
    pairs.iter().map(|pair| (*pair, 1)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// After each step there are exactly the rows that the inputs so far make, at any cut, through saves and restarts.
    #[test]
    fn each_step_makes_what_is_new(steps in steps(), distinct in any::<bool>()) {
        let factory = factory(distinct, false, false, 100, 1_000_000);
        let mut shards = Shards::new(&factory);
        let (mut starts, mut edges, mut found) = (vec![], vec![], BTreeMap::new());
        for (start, edge, event, count) in &steps {
            starts.extend(once(start));
            edges.extend(once(edge));
            let ports = [delta_of(&once(start), false), delta_of(&once(edge), false)];
            for (row, weight) in shards.step(ports, false).expect("steps") {
                *found.entry(row).or_insert(0) += weight;
            }
            prop_assert_eq!(&found, &text(&naive(&starts, &edges, distinct)));
            match event {
                1 => shards.save(SaveKind::Changes),
                2 => {
                    shards.save(SaveKind::Changes);
                    shards.restart(*count);
                }
                3 => {
                    shards.save(SaveKind::Full);
                    shards.restart(*count);
                }
                _ => {}
            }
        }
    }

    /// Rows that are taken back until the end make nothing, and the end comes once.
    #[test]
    fn at_the_end_what_is_left_counts(
        steps in steps(),
        back in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..8),
        distinct in any::<bool>(),
    ) {
        let factory = factory(distinct, true, true, 100, 1_000_000);
        let mut shards = Shards::new(&factory);
        let mut all = [vec![], vec![]];
        for (start, edge, event, count) in &steps {
            let ports = [delta_of(&once(start), true), delta_of(&once(edge), true)];
            prop_assert_eq!(shards.step(ports, false).expect("steps"), vec![]);
            all[0].extend(once(start));
            all[1].extend(once(edge));
            if *event > 1 {
                shards.save(if *event == 2 { SaveKind::Changes } else { SaveKind::Full });
                shards.restart(*count);
            }
        }
        let mut gone = [vec![], vec![]];
        for (edges, index) in back {
            let alive = &mut all[usize::from(edges)];
            if !alive.is_empty() {
                let (pair, _) = alive.swap_remove(index.index(alive.len()));
                gone[usize::from(edges)].push((pair, -1));
            }
        }
        let ports = [delta_of(&gone[0], true), delta_of(&gone[1], true)];
        let mut found = BTreeMap::new();
        for (row, weight) in shards.step(ports, true).expect("steps") {
            *found.entry(row).or_insert(0) += weight;
        }
        prop_assert_eq!(found, text(&naive(&all[0], &all[1], distinct)));
        shards.save(SaveKind::Changes);
        shards.restart(1);
        prop_assert_eq!(shards.step([delta_of(&[], true), delta_of(&[], true)], true).expect("steps"), vec![]);
    }
}

/// A circle is no end of `UNION ALL`, and is one of `UNION`; many rows are an end too.
#[test]
fn a_runaway_is_told() {
    let circle = || [delta_of(&once(&[(1, 1)]), false), delta_of(&once(&[(1, 2), (2, 1)]), false)];
    let error =
        |factory: &RecursionFactory| Shards::new(factory).step(circle(), false).expect_err("it runs away").to_string();
    assert_eq!(
        error(&factory(false, false, false, 50, 1_000_000)),
        "the recursive query `paths` was not at its end after 50 iterations in one step; let a condition end it, or write `UNION`, which \
         makes nothing of a row that was there, or raise `eagre.sql.recursion_max`"
    );
    assert!(error(&factory(false, false, false, 1_000, 20)).contains("made 21 rows in one step"));
    let distinct = factory(true, false, false, 50, 1_000_000);
    assert_eq!(Shards::new(&distinct).step(circle(), false).expect("it ends").len(), 2);
}
