use std::collections::BTreeMap;

use arrow::array::{ArrayRef, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use proptest::prelude::*;

use super::*;
use crate::expr::{Expr, PlainColumn};
use crate::hash::HashGroups;
use crate::operator::StateChunk;
use crate::time::Watermarks;

/// `100 / v`, which no zero has.
#[derive(Debug)]
struct Quotient(FieldRef);

impl fmt::Display for Quotient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("100 / v")
    }
}

impl Expr for Quotient {
    fn evaluate(&self, batch: &RecordBatch, _: &StepContext, _: Option<&UInt64Array>) -> Result<ArrayRef> {
        let divisors = batch.column(1).as_primitive::<Int64Type>().values();
        let quotients: Option<Vec<i64>> = divisors.iter().map(|divisor| 100i64.checked_div(*divisor)).collect();
        match quotients {
            Some(quotients) => Ok(Arc::new(Int64Array::from(quotients))),
            None => Err(EngineError::evaluate("100 / v", "division by zero")),
        }
    }

    fn field(&self) -> &FieldRef {
        &self.0
    }
}

fn schema(names: [&str; 2]) -> SchemaRef {
    Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Int64, false)).to_vec()))
}

fn chain(deferring: bool) -> Box<dyn Operator> {
    let field = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
    let exprs: Vec<ExprRef> = vec![Arc::new(PlainColumn::new(0, field("k"))), Arc::new(Quotient(field("q")))];
    let mut factory = ChainFactory::new(vec![Stage::Project { exprs, schema: schema(["k", "q"]) }]);
    if deferring {
        factory.defer(schema(["k", "v"]), vec![0]).expect("integers are compared");
    }
    factory.create().expect("creates")
}

/// Key, divisor, weight.
type Change = (i64, i64, i64);

fn delta(changes: &[Change]) -> Delta {
    let column = |of: fn(&Change) -> i64| Arc::new(Int64Array::from_iter_values(changes.iter().map(of))) as ArrayRef;
    let batch = RecordBatch::try_new(schema(["k", "v"]), vec![column(|c| c.0), column(|c| c.1)]).expect("a batch");
    Delta::weighted(batch, Int64Array::from_iter_values(changes.iter().map(|change| change.2)))
}

fn step(operator: &mut dyn Operator, deltas: Vec<Delta>, ended: bool) -> Result<Output> {
    let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
    let after = if ended { WATERMARK_MAX } else { WATERMARK_MIN };
    let watermarks = Watermarks { before: WATERMARK_MIN, after };
    let mut out = Output::default();
    operator.step(Input { ports: vec![deltas], context: &context, watermarks }, &mut out)?;
    Ok(out)
}

/// What was saved so far, at one shard or several, as a restore sees it.
fn restored(chunks: &[StateChunk]) -> Box<dyn Operator> {
    let mut operator = chain(true);
    operator.restore(&StateReader { chunks, metas: &[], owned: HashGroups::of_shard(0, 1) }).expect("restores");
    operator
}

proptest! {
    /// What leaves adds up to the quotients of the rows that are there and have one, whatever the steps, also where the pipeline was killed;
    /// the end is an error where there is a zero, and only there. A zero is told when it comes.
    #[test]
    fn only_zeros_of_the_end_are_errors(
        steps in proptest::collection::vec(proptest::collection::vec((0i64..3, 0i64..3), 0..6), 1..8),
        takes_back in any::<u64>(),
        killed_after in 0usize..8,
        heals in any::<bool>(),
    ) {
        let mut there: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        let mut shown: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        let mut operator = chain(true);
        let mut chunks = Vec::new();
        let mut bits = takes_back;
        let mut say = |operator: &mut dyn Operator, changes: &[Change], there: &mut BTreeMap<(i64, i64), i64>, ended: bool| {
            let zeros_before = there.iter().filter(|((_, v), n)| *v == 0 && **n > 0).count();
            changes.iter().for_each(|(k, v, weight)| *there.entry((*k, *v)).or_default() += weight);
            there.retain(|_, weight| *weight != 0);
            let has_zero = there.keys().any(|(_, v)| *v == 0);
            let (first, second) = changes.split_at(changes.len() / 2);
            match step(operator, vec![delta(first), delta(second)], ended) {
                Err(error) => {
                    assert!(ended && has_zero, "{error}");
                    assert_eq!(error.to_string(), "`100 / v`: division by zero");
                }
                Ok(out) => {
                    assert!(!ended || !has_zero, "the end has a zero");
                    let told = out.bad.iter().map(|bad| bad.rows.num_rows()).sum::<usize>();
                    let zeros = there.iter().filter(|((_, v), n)| *v == 0 && **n > 0).count();
                    assert!(told + zeros_before >= zeros && told <= zeros, "{told} of {zeros} were told");
                    for delta in out.deltas {
                        let [k, q] = [0, 1].map(|column| delta.batch.column(column).as_primitive::<Int64Type>().clone());
                        for row in 0..delta.rows() {
                            *shown.entry((k.value(row), q.value(row))).or_default() += delta.weight(row);
                        }
                    }
                    shown.retain(|_, weight| *weight != 0);
                }
            }
            let with_quotients = there.iter().filter(|((_, v), _)| *v != 0).map(|((k, v), n)| ((*k, 100 / v), *n));
            assert_eq!(shown, with_quotients.collect::<BTreeMap<_, _>>());
        };
        for (number, rows) in steps.iter().enumerate() {
            let mut changes: Vec<Change> = Vec::new();
            for (k, v) in rows {
                bits = bits.rotate_left(1);
                let in_step: i64 = changes.iter().filter(|change| (change.0, change.1) == (*k, *v)).map(|change| change.2).sum();
                let is_there = there.get(&(*k, *v)).copied().unwrap_or(0) + in_step > 0;
                changes.push((*k, *v, if bits & 1 == 1 && is_there { -1 } else { 1 }));
            }
            say(operator.as_mut(), &changes, &mut there, false);
            if number % 2 == 0 || number == killed_after {
                let mut state = StateWriter::default();
                let kind = if number == 0 { SaveKind::Full } else { SaveKind::Changes };
                operator.save(kind, &mut state).expect("saves");
                chunks.extend(state.saved().expect("rows"));
            }
            if number == killed_after {
                operator = restored(&chunks);
            }
        }
        if heals {
            let zeros: Vec<Change> = there.iter().filter(|((_, v), _)| *v == 0).map(|((k, v), n)| (*k, *v, -n)).collect();
            say(operator.as_mut(), &zeros, &mut there, false);
            prop_assert_eq!(operator.state_rows(), 0);
        }
        say(operator.as_mut(), &[], &mut there, true);
    }
}

/// What is only inserted has no other end, so it is told at once.
#[test]
fn rows_that_stay_are_an_error_at_once() {
    let error = step(chain(false).as_mut(), vec![delta(&[(1, 5, 1), (2, 0, 1)])], false).expect_err("a zero");
    assert_eq!(error.to_string(), "`100 / v`: division by zero");
}
