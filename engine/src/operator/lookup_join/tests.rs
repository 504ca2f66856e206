//! Lookup joins against a twin that asks for each row by itself, while the table outside changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use proptest::prelude::*;

use super::{LookupJoinFactory, LookupJoinSpec};
use crate::aggregate::testing::{Row, delta_of, input_schema, show};
use crate::error::Result;
use crate::expr::{Expr, StepContext};
use crate::hash::{HashGroups, group_of, hash_columns, shard_of};
use crate::lookup::testing::{Contents, TestTable};
use crate::lookup::{LookupCache, LookupTable};
use crate::operator::{
    Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateChunk, StateReader, StateWriter,
};
use crate::time::Watermarks;

const KEY: usize = 1;
const VALUE: usize = 2;

/// `left.value + right.text` is no multiple of three.
#[derive(Debug)]
struct Passes(FieldRef);

impl std::fmt::Display for Passes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("passes")
    }
}

fn passes(value: Option<i64>, text: i64) -> Option<bool> {
    Some((value? + text) % 3 != 0)
}

impl Expr for Passes {
    fn evaluate(
        &self,
        batch: &RecordBatch,
        _: &StepContext,
        _: Option<&arrow::array::UInt64Array>,
    ) -> Result<ArrayRef> {
        let (values, texts) =
            (batch.column(VALUE).as_primitive::<Int64Type>(), batch.column(4).as_primitive::<Int64Type>());
        let passes = values.iter().zip(texts).map(|(value, text)| passes(value, text?));
        Ok(Arc::new(passes.collect::<BooleanArray>()))
    }

    fn field(&self) -> &FieldRef {
        &self.0
    }
}

#[derive(Debug, Clone, Copy)]
struct Setup {
    cache: Option<LookupCache>,
    outer: bool,
    residual: bool,
}

impl Setup {
    fn factory(&self, table: &Arc<TestTable>) -> LookupJoinFactory {
        let residual = || Arc::new(Passes(Arc::new(Field::new("passes", DataType::Boolean, true)))) as _;
        LookupJoinFactory::new(LookupJoinSpec {
            left: input_schema(),
            keys: vec![KEY],
            name: "t".into(),
            table: Arc::clone(table) as Arc<dyn LookupTable>,
            retries: 0,
            cache: self.cache,
            outer: self.outer,
            residual: self.residual.then(residual),
            output: vec![4, KEY, VALUE],
        })
        .expect("plans")
    }
}

/// What was put down of one step.
#[derive(Debug, Clone)]
struct Recorded {
    clock_ms: i64,
    rows: Vec<Row>,
    answers: Vec<RecordBatch>,
    shown: Vec<String>,
}

/// An operator on several shards behind an exchange.
struct Shards<'a> {
    factory: &'a LookupJoinFactory,
    operators: Vec<Box<dyn Operator>>,
    chunks: Vec<StateChunk>,
}

impl<'a> Shards<'a> {
    fn new(factory: &'a LookupJoinFactory, shards: usize, chunks: Vec<StateChunk>) -> Self {
        let mut all = Self { factory, operators: vec![], chunks };
        all.restart(shards);
        all
    }

    fn restart(&mut self, shards: usize) {
        let restored = |shard| {
            let mut operator = self.factory.create().expect("creates");
            let owned = HashGroups::of_shard(shard, shards);
            operator.restore(&StateReader { chunks: &self.chunks, metas: &[], owned }).expect("restores");
            operator
        };
        self.operators = (0..shards).map(restored).collect();
    }

    fn save(&mut self, kind: SaveKind) {
        if kind == SaveKind::Full {
            self.chunks.clear();
        }
        for operator in &mut self.operators {
            let mut writer = StateWriter::default();
            operator.save(kind, &mut writer).expect("saves");
            self.chunks.extend(writer.saved().expect("gathers"));
        }
    }

    /// `recalled`: a replay.
    fn step(&mut self, clock_ms: i64, rows: &[Row], recalled: Option<&[RecordBatch]>) -> Recorded {
        let shards = self.operators.len();
        let context = StepContext { step: 1, clock_ms, seed: 0 };
        let delta = delta_of(rows, false);
        let mut hashes = Vec::new();
        hash_columns(&[ArrayRef::clone(delta.batch.column(KEY))], delta.rows(), &mut hashes).expect("hashes");
        let (mut deltas, mut answers) = (vec![], vec![]);
        for (shard, operator) in self.operators.iter_mut().enumerate() {
            let mine =
                (0..delta.rows() as u32).filter(|row| shard_of(group_of(hashes[*row as usize]), shards) == shard);
            let mut ports = vec![vec![delta.take(&UInt32Array::from_iter_values(mine)).expect("takes")]];
            let mut out = Output { records_answers: true, ..Output::default() };
            if let Some(recalled) = recalled {
                operator.recall(recalled).expect("recalls");
            }
            loop {
                let input =
                    Input { ports: std::mem::take(&mut ports), context: &context, watermarks: Watermarks::NONE };
                match operator.step(input, &mut out).expect("steps") {
                    Progress::Done => break,
                    Progress::Pending(ticket) => {
                        assert!(recalled.is_none(), "a replay asks nobody");
                        let _ = ticket.receiver().recv();
                    }
                }
                ports = vec![vec![]];
            }
            deltas.extend(out.deltas);
            answers.extend(out.answers);
        }
        let mut shown: Vec<String> = show(&deltas).into_iter().map(|(row, _)| row).collect();
        shown.sort();
        Recorded { clock_ms, rows: rows.to_vec(), answers, shown }
    }
}

/// Answers with when they were asked for, in the order in which they were.
struct Twin {
    setup: Setup,
    cache: Vec<(i64, Vec<i64>, i64)>,
}

impl Twin {
    fn step(&mut self, clock_ms: i64, rows: &[Row], contents: &Contents) -> Vec<String> {
        let expire_ms = self.setup.cache.map_or(Some(0), |cache| cache.expire_ms);
        self.cache.retain(|(_, _, asked)| expire_ms.is_none_or(|expire_ms| clock_ms < asked + expire_ms));
        let mut shown = vec![];
        for row in rows {
            let known = row.key.and_then(|key| self.cache.iter().position(|(known, ..)| *known == key));
            let values = match (row.key, known) {
                (None, _) => vec![],
                (Some(_), Some(place)) => self.cache[place].1.clone(),
                (Some(key), None) => {
                    let values = contents.get(&key).cloned().unwrap_or_default();
                    self.cache.push((key, values.clone(), clock_ms));
                    values
                }
            };
            let (key, value) = (
                row.key.map_or(String::new(), |key| key.to_string()),
                row.value.map_or(String::new(), |v| v.to_string()),
            );
            let met = values.iter().filter(|text| !self.setup.residual || passes(row.value, **text) == Some(true));
            let before = shown.len();
            shown.extend(met.map(|text| format!("{text}|{key}|{value}")));
            if self.setup.outer && shown.len() == before {
                shown.push(format!("|{key}|{value}"));
            }
        }
        if let Some(rows_max) = self.setup.cache.and_then(|cache| cache.rows_max) {
            let size =
                |cache: &[(i64, Vec<i64>, i64)]| cache.iter().map(|(_, rows, _)| rows.len().max(1) as u64).sum::<u64>();
            while size(&self.cache) > rows_max {
                self.cache.remove(0);
            }
        }
        shown.sort();
        shown
    }
}

/// One step: the clock, rows, a change of the table, and what is done afterwards: 1: save, 2 and 3: restart.
type Step = (i64, Vec<(Option<i64>, Option<i64>)>, Option<(i64, Vec<i64>)>, u8, usize);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (proptest::option::weighted(0.9, 0_i64..5), proptest::option::weighted(0.9, 0_i64..4));
    let change = proptest::option::of((0_i64..5, proptest::collection::vec(0_i64..9, 0..3)));
    proptest::collection::vec((0_i64..30, proptest::collection::vec(row, 0..8), change, 0_u8..5, 1_usize..4), 1..20)
}

fn rows_of(rows: &[(Option<i64>, Option<i64>)]) -> Vec<Row> {
    rows.iter().map(|(key, value)| Row { ts: 0, key: *key, value: *value, weight: 1, ordinal: 0 }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Each row gets what the table has when its step asks, or what is held of it; a replay gives the same at any number of shards, though
    /// the table has changed since.
    #[test]
    fn answers_are_those_of_the_step(
        steps in steps(),
        outer in any::<bool>(),
        residual in any::<bool>(),
        cache in prop_oneof![
            Just(None),
            Just(Some(LookupCache { rows_max: None, expire_ms: None })),
            (1_i64..60).prop_map(|ms| Some(LookupCache { rows_max: None, expire_ms: Some(ms) })),
        ],
        replay_shards in 1_usize..4,
    ) {
        let setup = Setup { cache, outer, residual };
        let table = Arc::new(TestTable::default());
        let factory = setup.factory(&table);
        let mut shards = Shards::new(&factory, 2, vec![]);
        let mut twin = Twin { setup, cache: vec![] };
        let (mut clock_ms, mut log) = (1_000, vec![]);
        // Where a replay may begin: the steps behind a checkpoint, and its chunks.
        let mut checkpoints = vec![(0, vec![])];
        for (forward, rows, change, event, count) in &steps {
            clock_ms += forward;
            if let Some((key, values)) = change {
                table.contents.lock().expect("no panic").insert(*key, values.clone());
            }
            let rows = rows_of(rows);
            let expected = twin.step(clock_ms, &rows, &table.contents.lock().expect("no panic"));
            let recorded = shards.step(clock_ms, &rows, None);
            prop_assert_eq!(&recorded.shown, &expected);
            log.push(recorded);
            if (1..4).contains(event) {
                shards.save(if *event == 3 { SaveKind::Full } else { SaveKind::Changes });
                checkpoints.push((log.len(), shards.chunks.clone()));
            }
            if (2..4).contains(event) {
                shards.restart(*count);
            }
        }
        table.contents.lock().expect("no panic").clear();
        let asked = table.asked.lock().expect("no panic").len();
        for (first, chunks) in checkpoints {
            let mut shards = Shards::new(&factory, replay_shards, chunks);
            for recorded in &log[first..] {
                let again = shards.step(recorded.clock_ms, &recorded.rows, Some(&recorded.answers));
                prop_assert_eq!(&again.shown, &recorded.shown);
            }
        }
        prop_assert_eq!(table.asked.lock().expect("no panic").len(), asked);
    }

    /// A full cache drops what was asked for first; after a restart it is no larger.
    #[test]
    fn a_cache_has_its_size(steps in steps(), rows_max in 1_u64..8) {
        let setup = Setup { cache: Some(LookupCache { rows_max: Some(rows_max), expire_ms: None }), outer: true, residual: false };
        let table = Arc::new(TestTable::default());
        let factory = setup.factory(&table);
        let mut shards = Shards::new(&factory, 1, vec![]);
        let mut twin = Twin { setup, cache: vec![] };
        let mut clock_ms = 0;
        for (forward, rows, change, event, _) in &steps {
            clock_ms += forward;
            if let Some((key, values)) = change {
                table.contents.lock().expect("no panic").insert(*key, values.clone());
            }
            let rows = rows_of(rows);
            let expected = twin.step(clock_ms, &rows, &table.contents.lock().expect("no panic"));
            prop_assert_eq!(shards.step(clock_ms, &rows, None).shown, expected);
            prop_assert!(shards.operators[0].state_rows() as u64 <= rows_max);
            if *event > 0 {
                shards.save(if *event == 1 { SaveKind::Full } else { SaveKind::Changes });
            }
        }
        shards.restart(1);
        shards.step(clock_ms, &[], None);
        prop_assert!(shards.operators[0].state_rows() as u64 <= rows_max);
    }
}

/// A step asks once, for each key once; with a cache not at all while an answer is held.
#[test]
fn a_step_asks_once() {
    let table = Arc::new(TestTable::default());
    table.contents.lock().expect("no panic").extend(BTreeMap::from([(1, vec![10]), (2, vec![20, 21])]));
    let rows = |keys: &[i64]| rows_of(&keys.iter().map(|key| (Some(*key), Some(0))).collect::<Vec<_>>());
    let asked = |cache: Option<LookupCache>| {
        table.asked.lock().expect("no panic").clear();
        let factory = Setup { cache, outer: false, residual: false }.factory(&table);
        let mut shards = Shards::new(&factory, 1, vec![]);
        shards.step(0, &rows(&[2, 1, 2, 1]), None);
        shards.step(5, &rows(&[1, 3]), None);
        shards.step(10, &rows(&[3, 1]), None);
        shards.step(11, &[], None);
        table.asked.lock().expect("no panic").clone()
    };
    assert_eq!(asked(None), [vec![2, 1], vec![1, 3], vec![3, 1]]);
    let cache = |expire_ms| Some(LookupCache { rows_max: None, expire_ms });
    // A key without rows is an answer too.
    assert_eq!(asked(cache(None)), [vec![2, 1], vec![3]]);
    assert_eq!(asked(cache(Some(10))), [vec![2, 1], vec![3], vec![1]]);
}
