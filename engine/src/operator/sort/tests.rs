use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;

use super::*;
use crate::expr::StepContext;
use crate::hash::HashGroups;
use crate::time::{WATERMARK_MIN, Watermarks};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(["a", "n"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
}

fn operator(options: SortOptions) -> Box<dyn Operator> {
    let order = vec![OrderKey { column: 0, options }, OrderKey::ascending(1)];
    SortFactory::new(schema(), order).expect("integers have an order").create().expect("creates")
}

type Row = (Option<i64>, i64);

fn step(operator: &mut dyn Operator, rows: &[Row], ended: bool) -> Vec<Row> {
    let columns: [ArrayRef; 2] = [
        Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>()),
    ];
    let delta = Delta::insert(RecordBatch::try_new(schema(), columns.to_vec()).expect("a batch"));
    let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
    let watermarks = Watermarks { before: WATERMARK_MIN, after: if ended { WATERMARK_MAX } else { WATERMARK_MIN } };
    let mut out = Output::default();
    operator.step(Input { ports: vec![vec![delta]], context: &context, watermarks }, &mut out).expect("runs");
    let column = |delta: &Delta, column: usize| delta.batch.column(column).as_primitive::<Int64Type>().clone();
    let rows = |delta: &Delta| {
        column(delta, 0).iter().zip(column(delta, 1).values()).map(|(a, n)| (a, *n)).collect::<Vec<_>>()
    };
    out.deltas.iter().flat_map(rows).collect()
}

proptest! {
    /// All rows leave once, in order, at the end and not before, whatever the steps, also where the pipeline was killed.
    #[test]
    fn all_rows_leave_in_order(
        steps in proptest::collection::vec(proptest::collection::vec(proptest::option::of(0i64..9), 0..9), 1..6),
        killed_after in 0usize..6,
        descending in any::<bool>(),
        nulls_first in any::<bool>(),
    ) {
        let options = SortOptions { descending, nulls_first };
        let mut operator = operator(options);
        let (mut chunks, mut metas) = (Vec::new(), Vec::new());
        let mut save = |operator: &mut dyn Operator, kind: SaveKind| {
            let mut state = StateWriter::default();
            operator.save(kind, &mut state).expect("saves");
            if kind == SaveKind::Full {
                chunks.clear();
            }
            chunks.extend(state.saved().expect("rows"));
            metas = vec![state.meta.clone()];
            let mut again = self::operator(options);
            again.restore(&StateReader { chunks: &chunks, metas: &metas, owned: HashGroups::ALL }).expect("restores");
            again
        };
        let mut all: Vec<Row> = Vec::new();
        for (number, values) in steps.iter().enumerate() {
            let rows: Vec<Row> = values.iter().map(|value| { all.push((*value, all.len() as i64)); all[all.len() - 1] }).collect();
            prop_assert_eq!(step(operator.as_mut(), &rows, false), []);
            let again = save(operator.as_mut(), if number == 0 { SaveKind::Full } else { SaveKind::Changes });
            if number == killed_after {
                operator = again;
            }
        }
        let mut expected = all.clone();
        expected.sort_by(|one, other| {
            let by_value = match (one.0, other.0) {
                (Some(one), Some(other)) if descending => other.cmp(&one),
                (Some(one), Some(other)) => one.cmp(&other),
                (one, other) if nulls_first => one.is_some().cmp(&other.is_some()),
                (one, other) => one.is_none().cmp(&other.is_none()),
            };
            by_value.then(one.1.cmp(&other.1))
        });
        prop_assert_eq!(step(operator.as_mut(), &[], true), expected);
        // A checkpoint behind the end knows that they have left.
        let mut again = save(operator.as_mut(), SaveKind::Changes);
        prop_assert_eq!(step(again.as_mut(), &[], true), []);
    }
}
