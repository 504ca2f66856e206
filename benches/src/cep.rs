//! Patterns over a stream of events, planned by hand: what `eagre bench cep` measures, without SQL, so that the operator can be measured and
//! profiled by itself.
//!
//! Events and patterns are those of `benches/cep`, with the numbers of actions for their names.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Datum, Int64Array, RecordBatch, TimestampMillisecondArray, UInt64Array};
use arrow::compute::SortOptions;
use arrow::compute::kernels::{boolean, cmp};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use eagre_engine::aggregate::{BuiltinRequest, builtin};
use eagre_engine::expr::{Expr, ExprRef, PlainColumn, StepContext};
use eagre_engine::operator::match_recognize::{
    Comparison, Condition, MatchEmit, MatchPlaces, MatchSpec, Navigation, OutputColumn, Program, RowCondition,
    RowsPerMatch, Shifted, Slot, SlotExpr, SlotProgram, Within, WordKind,
};
use eagre_engine::operator::over::OrderKey;
use eagre_engine::{Place, Result};
use eagre_patterns::{BadSkip, Overflow, Pattern, Skip, VariableSet};

/// The columns, by their places.
const TS: usize = 0;
const ACTION: usize = 2;
const AMOUNT: usize = 3;
const WIDTH: usize = 4;

/// Actions, by their numbers, and how often of a hundred times.
const SHARES: [u64; 6] = [58, 15, 12, 7, 5, 3];
const LOGIN: i64 = 2;
const CHANGE: i64 = 4;
const TRANSFER: i64 = 5;

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

/// `ts`, `k`, `action` and `amount`.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", time(), false),
        Field::new("k", DataType::Int64, false),
        Field::new("action", DataType::Int64, false),
        Field::new("amount", DataType::Int64, false),
    ]))
}

fn mix(row: u64) -> u64 {
    let mut x = row.wrapping_add(42).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 31)
}

fn unit(bits: u32) -> f64 {
    f64::from(bits) / f64::from(u32::MAX)
}

/// `events` events of `keys` keys in batches of 8,192, 100,000 a second of event time (at most ten of each key), up to half a second out of
/// order; each batch with the greatest event time up to its end.
pub fn batches(keys: u64, events: u64) -> Vec<(RecordBatch, i64)> {
    let mean_us = 1_000_000.0 / (keys * 10).clamp(1, 100_000) as f64;
    let mut time_us = 0.0f64;
    let mut rows: Vec<(u64, i64, u64)> = (0..events)
        .map(|event| {
            let bits = mix(event ^ 0x7469_6d65);
            time_us += 2.0 * mean_us * unit(bits as u32);
            let disorder_us = unit((bits >> 32) as u32) * 500_000.0;
            ((time_us + disorder_us) as u64, time_us as i64 / 1_000, event)
        })
        .collect();
    rows.sort_unstable_by_key(|(comes, _, event)| (*comes, *event));
    let mut newest = i64::MIN;
    let batch = |rows: &[(u64, i64, u64)]| {
        newest = rows.iter().fold(newest, |newest, (_, ms, _)| newest.max(*ms));
        let bits = || rows.iter().map(|(.., event)| mix(*event));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|(_, ms, _)| *ms))),
            Arc::new(Int64Array::from_iter_values(bits().map(|bits| ((bits >> 20) % keys) as i64))),
            Arc::new(Int64Array::from_iter_values(bits().map(|bits| action(bits % 1_024)))),
            Arc::new(Int64Array::from_iter_values(bits().map(|bits| ((bits >> 10) % 1_024 * 1_000 / 1_024) as i64))),
        ];
        (RecordBatch::try_new(schema(), columns).expect("the schema's types"), newest)
    };
    rows.chunks(8_192).map(batch).collect()
}

/// The action of one of 1,024 lots.
fn action(lot: u64) -> i64 {
    let mut below = lot * 100 / 1_024;
    for (number, share) in (0..).zip(SHARES) {
        match below.checked_sub(share) {
            Some(rest) => below = rest,
            None => return number,
        }
    }
    0
}

/// A column beside another one or a constant.
#[derive(Debug)]
struct Compare {
    left: usize,
    by: Comparison,
    right: std::result::Result<usize, i64>,
    field: FieldRef,
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Expr for Compare {
    fn evaluate(&self, batch: &RecordBatch, _: &StepContext, _: Option<&UInt64Array>) -> Result<ArrayRef> {
        let left = batch.column(self.left);
        let constant = self.right.err().map(Int64Array::new_scalar);
        let right: &dyn Datum = match (&self.right, &constant) {
            (Ok(column), _) => batch.column(*column),
            (_, Some(constant)) => constant,
            (Err(_), None) => unreachable!("a constant was made"),
        };
        let holds = match self.by {
            Comparison::Equal => cmp::eq(left, right),
            Comparison::NotEqual => cmp::neq(left, right),
            Comparison::Less => cmp::lt(left, right),
            Comparison::LessOrEqual => cmp::lt_eq(left, right),
            Comparison::Greater => cmp::gt(left, right),
            Comparison::GreaterOrEqual => cmp::gt_eq(left, right),
        };
        Ok(Arc::new(holds?))
    }

    fn field(&self) -> &FieldRef {
        &self.field
    }
}

/// Both.
#[derive(Debug)]
struct Both(ExprRef, ExprRef);

impl fmt::Display for Both {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} AND {}", self.0, self.1)
    }
}

impl Expr for Both {
    fn evaluate(&self, batch: &RecordBatch, context: &StepContext, _: Option<&UInt64Array>) -> Result<ArrayRef> {
        let (left, right) = (self.0.evaluate(batch, context, None)?, self.1.evaluate(batch, context, None)?);
        Ok(Arc::new(boolean::and_kleene(left.as_boolean(), right.as_boolean())?))
    }

    fn field(&self) -> &FieldRef {
        self.0.field()
    }

    fn conjuncts(&self) -> Vec<ExprRef> {
        vec![Arc::clone(&self.0), Arc::clone(&self.1)]
    }
}

fn compare(left: usize, by: Comparison, right: std::result::Result<usize, i64>) -> ExprRef {
    Arc::new(Compare { left, by, right, field: Arc::new(Field::new("holds", DataType::Boolean, true)) })
}

fn column(index: usize) -> ExprRef {
    Arc::new(PlainColumn::new(index, Arc::clone(&schema().fields()[index])))
}

/// A condition on the row alone.
fn row(expr: ExprRef) -> Condition {
    Condition { row: Some(RowCondition { shifted: vec![], schema: schema(), expr }), run: None }
}

/// The amount beside that of the row before.
fn trend(by: Comparison) -> Condition {
    let mut fields: Vec<FieldRef> = schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("before", DataType::Int64, true)));
    let row = RowCondition {
        shifted: vec![Shifted { by: -1, value: column(AMOUNT) }],
        schema: Arc::new(Schema::new(fields)),
        expr: compare(AMOUNT, by, Ok(WIDTH)),
    };
    Condition { row: Some(row), run: None }
}

/// A condition on an aggregate of the amounts of variable 0.
fn aggregate_below(name: &str, result: DataType, bound: Program) -> Condition {
    let kind = WordKind::of(&result).expect("a number");
    let slot = aggregate(name, &[AMOUNT], result.clone(), VariableSet::of(0), true);
    let schema = Arc::new(Schema::new(vec![Field::new("slot", result, true)]));
    let program = Program::Compare(Comparison::Less, kind, Box::new(Program::Slot(0)), Box::new(bound));
    let program = SlotProgram { slots: vec![slot.clone()], program };
    let expr = compare(0, Comparison::Less, Err(0));
    Condition {
        row: None,
        run: Some(SlotExpr { slots: vec![slot], schema, expr, program: Some(program), place: Place::default() }),
    }
}

fn aggregate(name: &str, args: &[usize], result: DataType, variables: VariableSet, running: bool) -> Slot {
    let fields: Vec<FieldRef> = args.iter().map(|place| Arc::clone(&schema().fields()[*place])).collect();
    let return_field = Arc::new(Field::new(name, result, true));
    let request = BuiltinRequest { name, args: &fields, distinct: false, retracting: false, return_field };
    let function = builtin(&request).expect("a function of our own");
    let args = args.iter().map(|place| column(*place)).collect();
    Slot::Aggregate { function, args, filter: None, variables, running, place: Place::default() }
}

fn measure(name: &str, slot: Slot, data_type: DataType) -> (FieldRef, OutputColumn) {
    let field: FieldRef = Arc::new(Field::new(name, data_type, true));
    let schema = Arc::new(Schema::new(vec![Arc::clone(&field)]));
    let expr = Arc::new(PlainColumn::new(0, Arc::clone(&field)));
    (field, OutputColumn::Measure(SlotExpr { slots: vec![slot], schema, expr, program: None, place: Place::default() }))
}

fn at(name: &str, variable: u8, first: bool, value: usize) -> (FieldRef, OutputColumn) {
    let variables = VariableSet::of(variable);
    let row = Navigation { variables, first, offset: 0, shift: 0, running: true, or_beginning: false };
    measure(name, Slot::At { row, value: column(value) }, schema().field(value).data_type().clone())
}

fn count(name: &str, variables: VariableSet) -> (FieldRef, OutputColumn) {
    measure(name, aggregate("count", &[], DataType::Int64, variables, true), DataType::Int64)
}

fn times(variable: u8, min: u32, max: Option<u32>, greedy: bool) -> Pattern {
    Pattern::Repetition { body: Box::new(Pattern::Variable(variable)), min, max, greedy }
}

fn spec(
    pattern: Vec<Pattern>,
    variables: &[&str],
    conditions: Vec<Condition>,
    minutes: Option<i64>,
    measures: Vec<(FieldRef, OutputColumn)>,
) -> MatchSpec {
    let mut output = vec![(Arc::clone(&schema().fields()[1]), OutputColumn::Input(1))];
    output.extend(measures);
    MatchSpec {
        input: schema(),
        retracting: false,
        partition: vec![1],
        order: vec![OrderKey { column: TS, options: SortOptions { descending: false, nulls_first: false } }],
        by_watermark: true,
        whole_partitions: false,
        allowed_lateness_ms: 0,
        emit: MatchEmit::Final,
        pattern: Pattern::Concatenation(pattern),
        variables: variables.iter().map(|name| (*name).to_owned()).collect(),
        conditions,
        skip: Skip::PastLastRow,
        bad_skip: BadSkip::NextRow,
        within: minutes.map(|minutes| Within { column: TS, units: minutes * 60_000 }),
        partial: false,
        max_partial: 1_000_000,
        overflow: Overflow::Error,
        rows: RowsPerMatch::One,
        output,
        places: MatchPlaces::default(),
        placement: Arc::default(),
    }
}

/// The names of the queries.
pub const QUERIES: [&str; 6] = ["v", "fraud", "login", "sum", "avg", "rules"];

/// The patterns of a query; `rules` has `patterns` of them. `None`: there is none of this name.
pub fn query(name: &str, patterns: u64) -> Option<Vec<MatchSpec>> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less};
    let amount = |by, bound| row(compare(AMOUNT, by, Err(bound)));
    let one = |number: u8| Pattern::Variable(number);
    Some(match name {
        "v" => vec![spec(
            vec![one(0), times(1, 1, None, true), times(2, 1, None, true)],
            &["STRT", "DOWN", "UP"],
            vec![Condition::default(), trend(Less), trend(Greater)],
            None,
            vec![
                at("began", 0, false, TS),
                at("turned", 1, false, TS),
                at("ended", 2, false, TS),
                at("first_amount", 0, false, AMOUNT),
                at("lowest", 1, false, AMOUNT),
            ],
        )],
        "fraud" => vec![spec(
            vec![times(0, 3, None, true), one(1)],
            &["SMALL", "BIG"],
            vec![amount(Less, 300), amount(GreaterOrEqual, 950)],
            Some(10),
            vec![
                at("began", 0, true, TS),
                at("ended", 1, false, TS),
                count("probes", VariableSet::of(0)),
                at("taken", 1, false, AMOUNT),
            ],
        )],
        "login" => {
            let does = |action| compare(ACTION, Equal, Err(action));
            let large: ExprRef = Arc::new(Both(does(TRANSFER), compare(AMOUNT, GreaterOrEqual, Err(800))));
            let any = |variable| times(variable, 0, None, false);
            vec![spec(
                vec![one(0), any(1), one(2), any(1), one(3)],
                &["LOGIN", "OTHER", "CHANGE", "TRANSFER"],
                vec![row(does(LOGIN)), Condition::default(), row(does(CHANGE)), row(large)],
                Some(10),
                vec![
                    at("began", 0, false, TS),
                    at("changed", 2, false, TS),
                    at("ended", 3, false, TS),
                    at("taken", 3, false, AMOUNT),
                ],
            )]
        }
        "sum" => vec![spec(
            vec![times(0, 1, None, true), one(1)],
            &["A", "B"],
            vec![aggregate_below("sum", DataType::Int64, Program::Constant(Some(3_000))), Condition::default()],
            None,
            vec![
                at("began", 0, true, TS),
                at("ended", 1, false, TS),
                measure(
                    "total",
                    aggregate("sum", &[AMOUNT], DataType::Int64, VariableSet::of(0), true),
                    DataType::Int64,
                ),
                count("events", VariableSet::of(0)),
            ],
        )],
        "avg" => vec![spec(
            vec![times(0, 1, None, true), one(1)],
            &["A", "B"],
            vec![
                aggregate_below("avg", DataType::Float64, Program::Constant(Some(400f64.to_bits()))),
                amount(GreaterOrEqual, 900),
            ],
            None,
            vec![
                at("began", 0, true, TS),
                at("ended", 1, false, TS),
                measure(
                    "mean",
                    aggregate("avg", &[AMOUNT], DataType::Float64, VariableSet::of(0), true),
                    DataType::Float64,
                ),
                count("events", VariableSet::of(0)),
            ],
        )],
        "rules" => (0..patterns).map(rule).collect(),
        _ => return None,
    })
}

/// A rule of the book: small amounts, done in one way, and then a big one.
fn rule(number: u64) -> MatchSpec {
    let small = compare(AMOUNT, Comparison::Less, Err(200 + (number * 37 % 500) as i64));
    let probe: ExprRef = Arc::new(Both(compare(ACTION, Comparison::Equal, Err((number % 3) as i64)), small));
    spec(
        vec![times(0, 2 + (number / 3 % 3) as u32, None, true), Pattern::Variable(1)],
        &["PROBE", "HIT"],
        vec![row(probe), row(compare(AMOUNT, Comparison::GreaterOrEqual, Err(900 + (number * 7 % 100) as i64)))],
        Some(1 + (number * 11 % 30) as i64),
        vec![at("began", 0, true, TS), at("ended", 1, false, TS), count("probes", VariableSet::of(0))],
    )
}
