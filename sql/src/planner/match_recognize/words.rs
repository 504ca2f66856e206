//! Conditions on the match as programs carry them: over words.
//!
//! What a part of a condition says of one row alone (`LAST(A.ts) + INTERVAL '5' MINUTE`, `ABS(A.price) > 3`) is a value of that row, computed
//! for whole columns. Texts of two rows are compared by two words each, of a hash of 128 bits: that different ones have the same is less
//! likely than that the machine errs.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::{BinaryExpr, Expr as LogicalExpr, ExprSchemable, Operator, binary_expr};
use eagre_engine::operator::match_recognize::{self as engine, Navigation, Program, WordKind};
use eagre_patterns::VariableSet;

use super::conditions::only_used;
use super::slots::{SlotExprPlan, SlotPlan, slot_name, slot_schema};
use crate::error::Result;
use crate::functions::text_words;
use crate::planner::expr::{Compiler, strip_alias};
use crate::planner::fallible::{may_divide_by_zero, may_fail};

/// The condition of `variable` with what one row says as slots of its own, and the program over these; `None`: there is none, or it may
/// divide by zero, or a value may fail at rows that are never asked, or is not known before there is a match. `rows`: the columns of a row,
/// its label and the number of the match.
pub(super) fn program(
    plan: &SlotExprPlan,
    variable: u8,
    rows: &DFSchema,
    config: &Arc<ConfigOptions>,
) -> Result<Option<(SlotExprPlan, Program)>> {
    let compiler = Compiler::over(&plain_schema(&plan.slots), config)?;
    let schema = slot_schema(&plan.slots)?;
    let mut splitting = Splitting { variable, rows, schema, compiler, slots: plan.slots.clone() };
    let expr = splitting.split(plan.expr.clone())?;
    let words = only_used(&splitting.slots, expr)?;
    // Such an error shows the condition as it is written.
    if may_divide_by_zero(&words.expr, &slot_schema(&words.slots)?) {
        return Ok(None);
    }
    let known = |value: &LogicalExpr| is_of_row(value, rows) && !may_fail(value, rows);
    if !words.slots.iter().all(|(slot, _)| values_of(slot).all(known)) {
        return Ok(None);
    }
    let program = Compiler::over(&plain_schema(&words.slots), config)?.program(&words.expr);
    Ok(program.map(|program| (words, program)))
}

/// Slots as columns.
pub(super) fn plain_schema(slots: &[(SlotPlan, FieldRef)]) -> SchemaRef {
    Arc::new(Schema::new(slots.iter().map(|(_, field)| Arc::clone(field)).collect::<Vec<_>>()))
}

/// What a slot computes of rows.
pub(super) fn values_of(slot: &SlotPlan) -> impl Iterator<Item = &LogicalExpr> {
    let (value, params) = match slot {
        SlotPlan::At { value, .. } => (Some(value), None),
        SlotPlan::Aggregate { call, .. } => match strip_alias(call) {
            LogicalExpr::AggregateFunction(function) => (None, Some(&function.params)),
            _ => (None, None),
        },
        SlotPlan::MatchNumber | SlotPlan::Status => (None, None),
    };
    let arguments = params.into_iter().flat_map(|params| params.args.iter().chain(params.filter.as_deref()));
    value.into_iter().chain(arguments).map(strip_alias)
}

/// Whether a row has the value by itself.
fn is_of_row(value: &LogicalExpr, rows: &DFSchema) -> bool {
    let of_match = |name: &str| matches!(name, engine::CLASSIFIER | engine::MATCH_NUMBER);
    value.column_refs().into_iter().all(|column| rows.has_column(column) && !of_match(&column.name))
}

struct Splitting<'a> {
    variable: u8,
    rows: &'a DFSchema,
    schema: DFSchema,
    compiler: Compiler,
    /// The plan's, and behind them new ones.
    slots: Vec<(SlotPlan, FieldRef)>,
}

impl Splitting<'_> {
    fn split(&mut self, expr: LogicalExpr) -> Result<LogicalExpr> {
        if self.compiler.program(&expr).is_some() {
            return Ok(expr);
        }
        if let Some(slot) = self.of_one_row(&expr)? {
            return Ok(slot);
        }
        if let Some(words) = self.compared_by_words(&expr)? {
            return self.split(words);
        }
        let children = expr.map_children(|child| {
            self.split(child).map(Transformed::yes).map_err(|error| DataFusionError::External(Box::new(error)))
        });
        Ok(children?.data)
    }

    /// What an expression says of one row alone, as a slot.
    fn of_one_row(&mut self, expr: &LogicalExpr) -> Result<Option<LogicalExpr>> {
        if matches!(expr, LogicalExpr::Column(_) | LogicalExpr::Literal(..) | LogicalExpr::Alias(_)) {
            return Ok(None);
        }
        let mut row: Option<Navigation> = None;
        for column in expr.column_refs() {
            let Some((SlotPlan::At { row: of, value }, _)) = self.slot(&column.name) else { return Ok(None) };
            let of = self.same_row(*of);
            if *row.get_or_insert(of) != of || !is_of_row(value, self.rows) {
                return Ok(None);
            }
        }
        let Some(row) = row else { return Ok(None) };
        let data_type = expr.get_type(&self.schema)?;
        // A row that is not there has no values, so nothing may be made of these.
        if WordKind::of(&data_type).is_none() || may_fail(expr, &self.schema) || !self.compiler.is_null_of_nulls(expr) {
            return Ok(None);
        }
        let value = expr.clone().transform_up(|node| {
            Ok(match &node {
                LogicalExpr::Column(column) => match self.slot(&column.name) {
                    Some((SlotPlan::At { value, .. }, _)) => Transformed::yes(value.clone()),
                    _ => Transformed::no(node),
                },
                _ => Transformed::no(node),
            })
        })?;
        let slot = SlotPlan::At { row, value: value.data };
        let name = slot_name(self.slots.len());
        self.slots.push((slot, Arc::new(Field::new(&name, data_type, true))));
        Ok(Some(datafusion::prelude::ident(name)))
    }

    fn slot(&self, name: &str) -> Option<&(SlotPlan, FieldRef)> {
        self.slots.iter().zip(0..).find(|(_, index)| slot_name(*index) == name).map(|(slot, _)| slot)
    }

    /// Rows that are the same in this condition are called the same.
    fn same_row(&self, row: Navigation) -> Navigation {
        let is_current = !row.first && row.offset == 0 && row.variables.contains(self.variable);
        if is_current { Navigation { variables: VariableSet::ALL, ..row } } else { row }
    }

    /// A comparison of two texts as one of their words.
    fn compared_by_words(&self, expr: &LogicalExpr) -> Result<Option<LogicalExpr>> {
        let LogicalExpr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return Ok(None) };
        let both = match op {
            Operator::Eq | Operator::IsNotDistinctFrom => Operator::And,
            Operator::NotEq | Operator::IsDistinctFrom => Operator::Or,
            _ => return Ok(None),
        };
        for side in [left, right] {
            let is_text =
                matches!(side.get_type(&self.schema)?, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
            if !is_text || side.column_refs().is_empty() {
                return Ok(None);
            }
        }
        let [left, right] = [left, right].map(|side| text_words::of((**side).clone()));
        let mut words = left.into_iter().zip(right).map(|(left, right)| binary_expr(left, *op, right));
        Ok(words.next().zip(words.next()).map(|(first, second)| binary_expr(first, both, second)))
    }
}
