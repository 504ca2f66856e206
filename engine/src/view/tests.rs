use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use proptest::prelude::*;

use super::*;
use crate::delta::Delta;
use crate::expr::StepContext;
use crate::hash::{group_of, shard_of};
use crate::operator::materialize::MaterializeFactory;
use crate::operator::{Input, Operator, OperatorFactory, Output, SaveKind, StateChunk, StateReader, StateWriter};
use crate::time::{WATERMARK_MIN, Watermarks};

type Model = BTreeMap<(i64, String), i64>;

fn schema() -> SchemaRef {
    let fields = vec![Field::new("key", DataType::Int64, false), Field::new("value", DataType::Utf8, true)];
    Arc::new(Schema::new(fields))
}

fn batch(rows: &[(i64, String)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(key, _)| *key))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, value)| value))),
    ];
    RecordBatch::try_new(schema(), columns).expect("two columns of one length")
}

fn add(model: &mut Model, rows: &RecordBatch, weights: Option<&Int64Array>) {
    for row in 0..rows.num_rows() {
        let key = rows.column(0).as_primitive::<Int64Type>().value(row);
        let value = rows.column(1).as_string::<i32>().value(row).to_owned();
        *model.entry((key, value)).or_default() += weights.map_or(1, |weights| weights.value(row));
    }
    model.retain(|_, count| *count != 0);
}

fn at(view: &ViewStore, pin: &Pin) -> Model {
    let mut model = Model::new();
    for rows in view.snapshot(pin).expect("not given up").batches() {
        add(&mut model, &rows.expect("a batch"), None);
    }
    model
}

/// A view with its shards.
struct Shards {
    set: Arc<ViewSet>,
    view: Arc<ViewStore>,
    operators: Vec<Box<dyn Operator>>,
    step: u64,
    chunks: Vec<StateChunk>,
}

impl Shards {
    fn new(keyed: bool, count: usize, step: u64, chunks: Vec<StateChunk>, versions_max: u64) -> Self {
        let set = ViewSet::new();
        let key = keyed.then(|| vec![0]);
        let view = set.add("v", &schema(), key, ChangelogMode::Retract).expect("no MAP");
        let factory = MaterializeFactory::new(Arc::clone(&view));
        let mut operators = Vec::new();
        for shard in 0..count {
            let mut operator = factory.create().expect("it is made");
            let owned = HashGroups::of_shard(shard, count);
            operator.restore(&StateReader { chunks: &chunks, metas: &[], owned }).expect("its own state");
            operators.push(operator);
        }
        set.begin(step, versions_max);
        Self { set, view, operators, step, chunks }
    }

    fn step(&mut self, rows: &[(i64, String)], weights: &[i64]) {
        self.step += 1;
        let all = batch(rows);
        let route: Vec<ArrayRef> = self.view.route.iter().map(|column| Arc::clone(all.column(*column))).collect();
        let mut hashes = Vec::new();
        hash_columns(&route, all.num_rows(), &mut hashes).expect("plain columns");
        let context = StepContext { step: self.step, clock_ms: 0, seed: 0 };
        let delta = Delta::weighted(all, Int64Array::from(weights.to_vec()));
        let count = self.operators.len();
        for (shard, operator) in self.operators.iter_mut().enumerate() {
            let own = (0..hashes.len()).filter(|row| shard_of(group_of(hashes[*row]), count) == shard);
            let own = UInt32Array::from_iter_values(own.map(|row| row as u32));
            let ports = vec![vec![delta.take(&own).expect("rows of the batch")]];
            let watermarks = Watermarks { before: WATERMARK_MIN, after: WATERMARK_MIN };
            operator.step(Input { ports, context: &context, watermarks }, &mut Output::default()).expect("a step");
        }
        self.set.done(self.step);
    }

    fn save(&mut self, kind: SaveKind) {
        let mut fresh = Vec::new();
        for operator in &mut self.operators {
            let mut state = StateWriter::default();
            operator.save(kind, &mut state).expect("a save");
            fresh.extend(state.saved().expect("gathers"));
        }
        if kind == SaveKind::Full {
            self.chunks.clear();
        }
        self.chunks.extend(fresh);
    }

    fn restart(&mut self, keyed: bool, count: usize) {
        *self = Self::new(keyed, count, self.step, std::mem::take(&mut self.chunks), 0);
    }
}

/// Changes that never take back what is not there.
fn changes(model: &Model, wishes: &[(i64, u8, i64)]) -> (Vec<(i64, String)>, Vec<i64>) {
    let mut held = model.clone();
    let (mut rows, mut weights) = (Vec::new(), Vec::new());
    for (key, value, weight) in wishes {
        let row = (*key, "x".repeat(usize::from(*value)));
        let count = held.entry(row.clone()).or_default();
        let weight = (*weight).max(-*count);
        if weight != 0 {
            *count += weight;
            rows.push(row);
            weights.push(weight);
        }
    }
    // What comes together is in no order.
    rows.reverse();
    weights.reverse();
    (rows, weights)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A reader sees the rows of its own step for as long as it holds it, whatever the writer does meanwhile; a lookup sees those of
    /// the scan; a subscription adds up to the view; a restart at another shard count finds the rows again.
    #[test]
    fn every_reader_sees_its_own_step(
        steps in proptest::collection::vec(
            (proptest::collection::vec((0_i64..6, 0_u8..3, -2_i64..3), 0..12), 0_u8..6, 1_usize..4),
            1..60,
        ),
        keyed in any::<bool>(),
    ) {
        let mut shards = Shards::new(keyed, 2, 0, Vec::new(), 0);
        let mut model = Model::new();
        let mut pins: Vec<(Pin, Model)> = Vec::new();
        let (mut subscription, mut seen) = (None, Model::new());
        for (wishes, event, count) in &steps {
            let (rows, weights) = changes(&model, wishes);
            shards.step(&rows, &weights);
            if !rows.is_empty() {
                add(&mut model, &batch(&rows), Some(&Int64Array::from(weights)));
            }
            match event {
                0 => pins.push((shards.set.pin(), model.clone())),
                1 if !pins.is_empty() => drop(pins.remove(0)),
                2 => shards.save(SaveKind::Changes),
                3 => {
                    shards.save(if *count == 1 { SaveKind::Full } else { SaveKind::Changes });
                    pins.clear();
                    subscription = None;
                    shards.restart(keyed, *count);
                }
                4 if subscription.is_none() => {
                    seen.clear();
                    subscription = Some(shards.set.subscribe(&shards.view).expect("a snapshot"));
                }
                _ => {}
            }
            let now = shards.set.pin();
            prop_assert_eq!(&at(&shards.view, &now), &model);
            let held: i64 = model.values().sum();
            prop_assert_eq!(shards.view.rows() as i64, held);
            for (pin, then) in &pins {
                prop_assert_eq!(&at(&shards.view, pin), then);
            }
            if keyed {
                for (pin, then) in pins.iter().map(|(pin, then)| (pin, then)).chain([(&now, &model)]) {
                    let keys: ArrayRef = Arc::new(Int64Array::from(vec![2, 4]));
                    let (found, asked) = shards.view.lookup(pin, &[keys], 2).expect("an index");
                    prop_assert!(asked <= 2);
                    let mut rows = Model::new();
                    found.iter().for_each(|batch| add(&mut rows, batch, None));
                    let wanted = then.iter().filter(|((key, _), _)| [2, 4].contains(key));
                    let wanted: Model = wanted.map(|(row, count)| (row.clone(), *count)).collect();
                    prop_assert_eq!(rows, wanted);
                }
            }
            if let Some(subscription) = &mut subscription {
                let waker = std::task::Waker::noop();
                let mut context = std::task::Context::from_waker(waker);
                while let std::task::Poll::Ready(delta) = subscription.poll_next(&mut context) {
                    let delta = delta.expect("not given up").expect("it goes on");
                    add(&mut seen, &delta.batch, delta.weights.as_ref());
                }
                prop_assert_eq!(&seen, &model);
            }
        }
    }
}

/// Versions that nobody reads must not pile up; those that somebody reads do, and go when he is done.
#[test]
fn versions_are_merged_away_when_nobody_reads_them() {
    let mut shards = Shards::new(true, 1, 0, Vec::new(), 0);
    let row = |n: usize| (n as i64 % 8, format!("{:0>100}", n));
    shards.step(&(0..8).map(row).collect::<Vec<_>>(), &[1; 8]);
    let replace = |shards: &mut Shards, from: usize| {
        for n in from..from + 4_000 {
            shards.step(&[row(n), row(n + 8)], &[-1, 1]);
        }
    };
    replace(&mut shards, 0);
    let free = shards.operators[0].state_bytes();
    let pin = shards.set.pin();
    let then = at(&shards.view, &pin);
    replace(&mut shards, 4_000);
    let pinned = shards.operators[0].state_bytes();
    assert!(pinned > free + 2_000 * 100, "{pinned} bytes while pinned, {free} before");
    assert_eq!(at(&shards.view, &pin), then);
    drop(pin);
    replace(&mut shards, 8_000);
    let after = shards.operators[0].state_bytes();
    assert!(after < 2 * free, "{after} bytes after, {free} before");
    assert_eq!(shards.view.rows(), 8);
}

/// A reader that never comes to its end must not take all the memory.
#[test]
fn the_oldest_reader_is_given_up_when_versions_are_too_many() {
    let mut shards = Shards::new(true, 1, 0, Vec::new(), 50_000);
    let row = |n: i64| (0, format!("{n:0>100}"));
    shards.step(&[row(0)], &[1]);
    let pin = shards.set.pin();
    for n in 0..2_000 {
        shards.step(&[row(n), row(n + 1)], &[-1, 1]);
    }
    let error = shards.view.snapshot(&pin).expect_err("given up").to_string();
    assert!(error.contains("step 1 of the views") && error.contains("`eagre.views.versions_max` = 50000"), "{error}");
    assert!(shards.set.version_bytes() < 60_000, "{} bytes", shards.set.version_bytes());
    assert_eq!(at(&shards.view, &shards.set.pin()), Model::from([(row(2_000), 1)]));
}

/// What an operator before takes back by mistake is told, and not kept as a row of weight -1.
#[test]
fn a_row_that_is_not_there_cannot_go() {
    let set = ViewSet::new();
    let view = set.add("v", &schema(), None, ChangelogMode::Retract).expect("no MAP");
    let part = view.new_part().expect("a part");
    let delta = Delta::weighted(batch(&[(1, "a".to_owned())]), Int64Array::from(vec![-1]));
    let error = part.apply(1, &[delta], 0, false, "v").expect_err("not there").to_string();
    assert!(error.contains("view `v`: a row is taken back that is not there"), "{error}");
}
