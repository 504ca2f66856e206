//! Which part of a condition a row meets by itself, and which only the rows matched so far can tell.
//!
//! In the condition of `B` the row in question is the last row of `B`, and of all rows: `B.price`, `price` and `PREV(B.price)` are values
//! of this row and its neighbours, whatever was matched before. So is `A.price` where the last row of `A` always lies as many rows back.
//! Such conjuncts are evaluated for all rows at once, if no row can make them fail; the others while the pattern is matched.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable, cast};
use eagre_engine::operator::match_recognize as engine;
use eagre_patterns::{Automaton, Distance, VariableSet};

use super::places::WrittenAt;
use super::slots::{SlotExprPlan, SlotPlan, slot_name, slot_schema};
use crate::error::{Result, SqlError};
use crate::parser::match_recognize::{Clause, PatternSyntax};
use crate::planner::fallible::may_fail;
use crate::types::sql_name;

/// The condition of a variable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(in crate::planner) struct ConditionPlan {
    pub(super) row: Option<RowConditionPlan>,
    pub(super) run: Option<SlotExprPlan>,
}

/// What a row says by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::planner) struct RowConditionPlan {
    /// Values of rows at a distance: column `i` is [`shifted_name`]`(i)`.
    pub(super) shifted: Vec<(i64, LogicalExpr, FieldRef)>,
    /// Over the input's columns and these.
    pub(super) expr: LogicalExpr,
}

pub(super) fn shifted_name(index: usize) -> String {
    format!("__shifted_{index}")
}

impl ConditionPlan {
    /// The expressions over the columns of a row.
    pub(super) fn row_exprs(&self) -> impl Iterator<Item = &LogicalExpr> {
        let row = self.row.iter().flat_map(|row| row.shifted.iter().map(|(_, value, _)| value).chain([&row.expr]));
        row.chain(self.run.iter().flat_map(super::slot_values))
    }

    /// Whether rows after the one in question are looked at.
    pub(super) fn looks_ahead(&self) -> bool {
        let row = self.row.iter().any(|row| row.shifted.iter().any(|(by, ..)| *by > 0));
        let ahead = |slot: &SlotPlan| matches!(slot, SlotPlan::At { row, .. } if row.shift > 0);
        row || self.run.iter().any(|run| run.slots.iter().any(|(slot, _)| ahead(slot)))
    }
}

/// Where a value is, seen from the row in question.
enum Place {
    /// So many rows on or, negative, back.
    Shifted(i64),
    /// Nowhere.
    Never,
}

/// Splits the condition of `variable`.
///
/// # Errors
/// It is no condition.
pub(super) fn split(
    variable: u8,
    planned: SlotExprPlan,
    clause: &Clause,
    automaton: &Automaton,
    rows: &DFSchema,
) -> Result<ConditionPlan> {
    let data_type = planned.expr.get_type(&planned.schema()?)?;
    let expr = match data_type {
        DataType::Boolean => planned.expr,
        DataType::Null => cast(planned.expr, DataType::Boolean),
        other => {
            let name = &clause.variables[usize::from(variable)].name;
            return Err(SqlError::plan(
                format!("the condition of `{name}` is {}, not BOOLEAN", sql_name(&other)),
                None,
            ));
        }
    };
    let schema = slot_schema(&planned.slots)?;
    let places = planned.slots.iter().map(|(slot, _)| match slot {
        SlotPlan::At { value, .. } if may_fail(value, rows) => None,
        slot => place_of(slot, variable, &clause.pattern, automaton),
    });
    let places: Vec<Option<Place>> = places.collect();
    let slot_of = |column: &Column| (0..planned.slots.len()).find(|index| slot_name(*index) == column.name);
    let is_true = |part: &LogicalExpr| matches!(part, LogicalExpr::Literal(ScalarValue::Boolean(Some(true)), _));
    let parts = split_conjunction_owned(expr).into_iter().filter(|part| !is_true(part));
    let (row, run): (Vec<_>, Vec<_>) = parts.partition(|part| {
        let by_rows = |column: &Column| slot_of(column).is_some_and(|index| places[index].is_some());
        part.column_refs().into_iter().all(by_rows) && !may_fail(part, &schema)
    });
    let row = match conjunction(row) {
        None => None,
        Some(expr) => {
            let mut shifted: Vec<(i64, LogicalExpr, FieldRef)> = vec![];
            let expr = expr.transform_up(|node| {
                let LogicalExpr::Column(column) = &node else { return Ok(Transformed::no(node)) };
                let Some(index) = slot_of(column) else { return Ok(Transformed::no(node)) };
                let (SlotPlan::At { value, .. }, field) = &planned.slots[index] else {
                    return Ok(Transformed::no(node));
                };
                Ok(Transformed::yes(match places[index] {
                    Some(Place::Shifted(0)) => value.clone(),
                    Some(Place::Shifted(by)) => {
                        let known = shifted.iter().position(|(known, other, _)| *known == by && other == value);
                        let place = known.unwrap_or_else(|| {
                            let name = shifted_name(shifted.len());
                            shifted.push((by, value.clone(), field.as_ref().clone().with_name(name).into()));
                            shifted.len() - 1
                        });
                        LogicalExpr::Column(Column::new_unqualified(shifted_name(place)))
                    }
                    Some(Place::Never) | None => LogicalExpr::Literal(ScalarValue::try_from(field.data_type())?, None),
                }))
            })?;
            Some(RowConditionPlan { shifted, expr: expr.data })
        }
    };
    let run = match conjunction(run) {
        None => None,
        Some(expr) => Some(SlotExprPlan { at: planned.at, ..only_used(&planned.slots, expr)? }),
    };
    Ok(ConditionPlan { row, run })
}

/// An expression with the slots that it reads.
pub(super) fn only_used(slots: &[(SlotPlan, FieldRef)], expr: LogicalExpr) -> Result<SlotExprPlan> {
    let mut used: Vec<(SlotPlan, FieldRef)> = vec![];
    let expr = expr.transform_up(|node| {
        let LogicalExpr::Column(column) = &node else { return Ok(Transformed::no(node)) };
        let Some((slot, field)) = (0..slots.len()).find(|index| slot_name(*index) == column.name).map(|i| &slots[i])
        else {
            return Ok(Transformed::no(node));
        };
        let place = used.iter().position(|(known, _)| known == slot).unwrap_or_else(|| {
            let name = slot_name(used.len());
            used.push((slot.clone(), field.as_ref().clone().with_name(name).into()));
            used.len() - 1
        });
        Ok(Transformed::yes(LogicalExpr::Column(Column::new_unqualified(slot_name(place)))))
    })?;
    Ok(SlotExprPlan { slots: used, expr: expr.data, at: WrittenAt::default() })
}

/// Where the value of a slot is, if that does not depend on what was matched.
fn place_of(slot: &SlotPlan, variable: u8, pattern: &PatternSyntax, automaton: &Automaton) -> Option<Place> {
    let SlotPlan::At { row, value } = slot else { return None };
    // The label of a row at a distance depends on the match, as its number does.
    let is_plain = |column: &&Column| !matches!(column.name.as_str(), engine::CLASSIFIER | engine::MATCH_NUMBER);
    if !value.column_refs().iter().all(is_plain) || row.offset > 0 {
        return None;
    }
    let only = rows_max(pattern, row.variables).is_some_and(|rows| rows <= 1);
    if row.first && !only {
        return None;
    }
    if row.variables.contains(variable) {
        return Some(Place::Shifted(row.shift));
    }
    match automaton.distance(row.variables, variable) {
        Distance::Rows(rows) => Some(Place::Shifted(row.shift - i64::from(rows))),
        Distance::Never => Some(Place::Never),
        Distance::Varies => None,
    }
}

/// How many rows of these variables a match has at most; `None`: there is no bound.
pub(super) fn rows_max(pattern: &PatternSyntax, variables: VariableSet) -> Option<u64> {
    let sum = |parts: &[PatternSyntax]| {
        parts.iter().try_fold(0u64, |sum, part| Some(sum.saturating_add(rows_max(part, variables)?)))
    };
    match pattern {
        PatternSyntax::Variable(variable) => Some(u64::from(variables.contains(*variable))),
        PatternSyntax::Concatenation(parts) | PatternSyntax::Permutation(parts) => sum(parts),
        PatternSyntax::Alternation(parts) => {
            parts.iter().try_fold(0, |max, part| Some(max.max(rows_max(part, variables)?)))
        }
        PatternSyntax::Repetition { body, max, .. } => match (rows_max(body, variables), max) {
            (Some(0), _) => Some(0),
            (Some(rows), Some(max)) => Some(rows.saturating_mul(u64::from(*max))),
            _ => None,
        },
        PatternSyntax::Negation(variable) => (!variables.contains(*variable)).then_some(0),
        PatternSyntax::Exclusion(body) => rows_max(body, variables),
        PatternSyntax::Empty | PatternSyntax::PartitionStart | PatternSyntax::PartitionEnd => Some(0),
    }
}
