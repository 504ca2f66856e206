//! `ORDER BY` and `LIMIT` of a bounded top-level `SELECT`: done once, on the whole result.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection, Sort};
use eagre_engine::keys::canonical_values;
use eagre_engine::operator::over::OrderKey;

use super::expr::strip_alias;
use super::lower::{Lowering, Stream};
use super::rank::numbers;
use crate::error::{Result, SqlError};
use crate::functions::order_key::{self, is_nested};

/// What is done with the whole result before it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalSort {
    /// The columns of the sink to order by, first the most significant.
    pub keys: Vec<SortKey>,
    /// How many rows are left out at the beginning.
    pub skip: usize,
    /// How many rows are shown at most.
    pub fetch: Option<usize>,
    /// The columns that are shown; further ones are there to order by.
    pub visible: usize,
}

/// One key of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortKey {
    /// The column.
    pub column: usize,
    /// From the greatest down.
    pub descending: bool,
    /// Nulls before all others.
    pub nulls_first: bool,
}

impl FinalSort {
    /// Whether rows are left out.
    pub fn limits(&self) -> bool {
        self.skip > 0 || self.fetch.is_some()
    }

    /// The keys, as an operator has them.
    pub(super) fn order_keys(&self) -> Vec<OrderKey> {
        let key = |key: &SortKey| OrderKey {
            column: key.column,
            options: SortOptions { descending: key.descending, nulls_first: key.nulls_first },
        };
        self.keys.iter().map(key).collect()
    }

    /// The same with a last key for rows that the others do not tell apart, which is added to the stream: they stand as they arrived or, behind an
    /// operator, by what is in them, so that steps and shards do not show in the result.
    pub(super) fn with_tie(mut self, lowering: &Lowering<'_>, stream: &mut Stream) -> Self {
        lowering.keep_arrival(stream);
        let column = stream.arrival.unwrap_or_else(|| lowering.add_contents(stream));
        self.keys.push(SortKey { column, descending: false, nulls_first: false });
        self
    }

    /// The columns that are shown, of those that the sink gets.
    pub fn visible_schema(&self, schema: &Schema) -> SchemaRef {
        schema.project(&(0..self.visible).collect::<Vec<_>>()).map(Into::into).unwrap_or_else(|_| schema.clone().into())
    }

    /// Orders, cuts and projects the result. Rows that the keys do not tell apart keep their order.
    ///
    /// # Errors
    /// A key of a type that has no order.
    pub fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let failed = |error: arrow::error::ArrowError| SqlError::plan(format!("ORDER BY: {error}"), None);
        let mut sort = Vec::with_capacity(self.keys.len() + 1);
        for key in &self.keys {
            let values = rows.column(key.column);
            // Where nulls are is said of arrays and rows, and not of what is in them.
            let values =
                if is_nested(values.data_type()) { order_key::keys(values)? } else { canonical_values(values) };
            let options = Some(SortOptions { descending: key.descending, nulls_first: key.nulls_first });
            sort.push(SortColumn { values, options });
        }
        let position = UInt32Array::from_iter_values(0..rows.num_rows() as u32);
        sort.push(SortColumn { values: Arc::new(position.clone()), options: None });
        let indices = match self.keys.is_empty() {
            true => position,
            false => lexsort_to_indices(&sort, None).map_err(failed)?,
        };
        let skip = self.skip.min(indices.len());
        let count = self.fetch.unwrap_or(usize::MAX).min(indices.len() - skip);
        let visible = rows.project(&(0..self.visible).collect::<Vec<_>>()).map_err(failed)?;
        take_record_batch(&visible, &indices.slice(skip, count)).map_err(failed)
    }
}

/// Takes the final order and limit off a plan; what they order by and is not shown comes after the columns that are.
pub(super) fn take(plan: LogicalPlan) -> Result<(LogicalPlan, Option<FinalSort>)> {
    let visible: Vec<Column> = plan.schema().columns();
    let mut taken = Taken::default();
    let inner = descend(&plan, &mut taken)?;
    if taken.keys.is_empty() && taken.skip == 0 && taken.fetch.is_none() {
        return Ok((if taken.sorted { inner } else { plan }, None));
    }
    let outputs: Vec<Expr> = match taken.outputs {
        Some(outputs) => outputs,
        None => inner.schema().columns().into_iter().map(Expr::Column).collect(),
    };
    let schema = inner.schema().clone();
    let mut exprs = outputs.clone();
    let mut keys = vec![];
    for sort in taken.keys {
        let wanted = strip_alias(&sort.expr);
        let same = |expr: &Expr| match (strip_alias(expr), wanted) {
            (Expr::Column(a), Expr::Column(b)) => schema.index_of_column(a).ok() == schema.index_of_column(b).ok(),
            (a, b) => a == b,
        };
        let column = match exprs.iter().position(same) {
            Some(column) => column,
            None => {
                exprs.push(wanted.clone().alias(format!("__sort_{}", exprs.len())));
                exprs.len() - 1
            }
        };
        keys.push(SortKey { column, descending: !sort.asc, nulls_first: sort.nulls_first });
    }
    let sort = FinalSort { keys, skip: taken.skip, fetch: taken.fetch, visible: visible.len() };
    let plain = exprs.len() == schema.fields().len()
        && exprs.iter().enumerate().all(|(index, expr)| match expr {
            Expr::Column(column) => schema.index_of_column(column).ok() == Some(index),
            _ => false,
        });
    let plan = match plain {
        true => inner,
        false => LogicalPlanBuilder::from(inner).project(exprs)?.build()?,
    };
    Ok((plan, Some(sort)))
}

#[derive(Default)]
struct Taken {
    keys: Vec<datafusion::logical_expr::SortExpr>,
    skip: usize,
    fetch: Option<usize>,
    sorted: bool,
    /// The columns that a projection above the order keeps, over the columns below it.
    outputs: Option<Vec<Expr>>,
}

fn descend(plan: &LogicalPlan, taken: &mut Taken) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Limit(limit)
            if taken.keys.is_empty() && !taken.sorted && taken.fetch.is_none() && taken.skip == 0 =>
        {
            let (skip, fetch) = numbers(limit)?;
            (taken.skip, taken.fetch) = (skip, fetch);
            descend(&limit.input, taken)
        }
        LogicalPlan::Sort(Sort { expr, input, fetch }) if !taken.sorted => {
            taken.sorted = true;
            taken.keys = expr.clone();
            taken.fetch = match (taken.fetch, fetch) {
                (Some(a), Some(b)) => Some(a.min(*b)),
                (a, b) => a.or(*b),
            };
            Ok(input.as_ref().clone())
        }
        // `ORDER BY` a column that is not shown: the planner adds it below and takes it off above.
        LogicalPlan::Projection(Projection { expr, input, .. })
            if matches!(input.as_ref(), LogicalPlan::Sort(_)) && taken.outputs.is_none() =>
        {
            taken.outputs = Some(expr.clone());
            descend(input, taken)
        }
        other => Ok(other.clone()),
    }
}
