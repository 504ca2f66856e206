//! A clause in words, for `EXPLAIN` and for the identity of its operator: all that decides its answer is in it.

use std::fmt::Write as _;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Expr as LogicalExpr;
use eagre_engine::operator::match_recognize as engine;
use eagre_patterns::VariableSet;

use super::conditions::{ConditionPlan, RowConditionPlan, shifted_name};
use super::slots::{SlotExprPlan, SlotPlan, slot_name};
use super::{MatchRules, is_all};
use crate::parser::match_recognize::{RowsSyntax, SkipSyntax};
use crate::planner::expr::{Written, location_of, short_text};
use crate::planner::state_ttl::duration;

impl MatchRules {
    /// All of it but the measures.
    pub(super) fn text(&self) -> String {
        let mut text = self.head();
        let _ = write!(text, ", define=[{}]", self.conditions_text().join(", "));
        text.push_str(match self.rows {
            RowsSyntax::One => ", one row per match",
            RowsSyntax::All { show_empty: true, unmatched: false } => ", all rows per match",
            RowsSyntax::All { show_empty: false, .. } => ", all rows per match without empty ones",
            RowsSyntax::All { unmatched: true, .. } => ", all rows with unmatched ones",
            RowsSyntax::Window => ", each row as in a window",
        });
        let subsets: Vec<String> =
            self.labels[self.variables.len()..].iter().map(|(name, set)| format!("{name}={set:x}")).collect();
        if !subsets.is_empty() {
            let _ = write!(text, ", subsets=[{}]", subsets.join(", "));
        }
        if self.partial {
            text.push_str(", partial on timeout");
        }
        if self.changes {
            text.push_str(", changes");
        }
        if let Some(explain) = &self.explain {
            text.push_str(", explained");
            if let Some(told) = &explain.told {
                let _ = write!(text, " where {}", short_text(told));
            }
        }
        text
    }

    /// Partition, order, pattern, and how matches follow each other.
    pub(super) fn head(&self) -> String {
        let names = self.partition.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        let order = self.order.iter().map(|key| {
            let direction = if key.descending { " DESC" } else { "" };
            let nulls = match (key.descending, key.nulls_first) {
                (true, false) => " NULLS LAST",
                (false, true) => " NULLS FIRST",
                _ => "",
            };
            format!("{}{direction}{nulls}", key.column.name)
        });
        let order = order.collect::<Vec<_>>().join(", ");
        let mut text =
            format!("partition=[{names}], order=[{order}], pattern=({})", self.pattern.text(&self.variables));
        match &self.skip {
            SkipSyntax::PastLastRow => {}
            SkipSyntax::ToNextRow => text.push_str(", skip to next row"),
            SkipSyntax::To { first, name, .. } => {
                let _ = write!(text, ", skip to {} {name}", if *first { "first" } else { "last" });
            }
        }
        if let Some(within) = self.within {
            let _ = write!(text, ", within {}", duration(within.ms));
        }
        text
    }

    /// `A AS price > 10`, and what of it the match decides.
    fn conditions_text(&self) -> Vec<String> {
        let defined = self.variables.iter().zip(&self.conditions).filter(|(_, condition)| !condition.is_none());
        defined
            .map(|(name, condition)| {
                let row = condition.row.as_ref().map(|row| short_text(&row.written().expr));
                let run = condition.run.as_ref().map(|run| self.slot_expr_text(run));
                match (row, run) {
                    (Some(row), Some(run)) => format!("{name} AS {row} AND match {run}"),
                    (Some(row), None) => format!("{name} AS {row}"),
                    (None, run) => format!("{name} AS match {}", run.unwrap_or_default()),
                }
            })
            .collect()
    }

    /// Which conditions rows meet by themselves, and for which the match is asked.
    pub(super) fn classes(&self) -> String {
        let of = |is: &dyn Fn(&ConditionPlan) -> bool| {
            let found = self.variables.iter().zip(&self.conditions).filter(|(_, condition)| is(condition));
            found.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let mut parts = vec![];
        for (what, names) in [
            ("columns", of(&|condition| condition.row.is_some() && condition.run.is_none())),
            ("columns and match", of(&|condition| condition.row.is_some() && condition.run.is_some())),
            ("match", of(&|condition| condition.row.is_none() && condition.run.is_some())),
        ] {
            if !names.is_empty() {
                parts.push(format!("{what}: {names}"));
            }
        }
        parts.join("; ")
    }

    /// An expression over slots with these written out.
    pub(super) fn slot_expr_text(&self, expr: &SlotExprPlan) -> String {
        short_text(&self.written(expr).expr)
    }

    /// An expression over slots as it stands in the clause.
    pub(super) fn written(&self, expr: &SlotExprPlan) -> Written {
        let name = |column: &Column| {
            (0..expr.slots.len())
                .find(|index| slot_name(*index) == column.name)
                .map(|i| self.slot_text(&expr.slots[i].0))
        };
        let values = expr.slots.iter().filter_map(|(slot, _)| match slot {
            SlotPlan::At { value, .. } => Some(value),
            SlotPlan::Aggregate { call, .. } => Some(call),
            SlotPlan::MatchNumber | SlotPlan::Status => None,
        });
        let location = values.filter_map(location_of).min();
        Written { expr: renamed(&expr.expr, &name), location: location.or(expr.at.line_and_column()) }
    }

    pub(super) fn slot_text(&self, slot: &SlotPlan) -> String {
        match slot {
            SlotPlan::At { row, value } => {
                let value = self.value_text(value, row.variables);
                let semantics = if row.running { "" } else { "FINAL " };
                let mut text = match (row.first, row.offset) {
                    (false, 0) => format!("{semantics}LAST({value})"),
                    (true, 0) => format!("{semantics}FIRST({value})"),
                    (false, offset) => format!("{semantics}LAST({value}, {offset})"),
                    (true, offset) => format!("{semantics}FIRST({value}, {offset})"),
                };
                if row.shift != 0 {
                    let function = if row.shift < 0 { "PREV" } else { "NEXT" };
                    text = format!("{function}({text}, {})", row.shift.unsigned_abs());
                }
                text
            }
            SlotPlan::Aggregate { call, variables, running } => {
                let semantics = if *running { "" } else { "FINAL " };
                let of = if is_all(*variables) { String::new() } else { format!(" OF {}", self.label(*variables)) };
                format!("{semantics}{}{of}", self.value_text(call, VariableSet::ALL))
            }
            SlotPlan::MatchNumber => "MATCH_NUMBER()".into(),
            SlotPlan::Status => "match_status()".into(),
        }
    }

    fn value_text(&self, value: &LogicalExpr, variables: VariableSet) -> String {
        let label = if is_all(variables) { None } else { Some(self.label(variables)) };
        let name = |column: &Column| {
            Some(match column.name.as_str() {
                engine::CLASSIFIER => format!("CLASSIFIER({})", label.clone().unwrap_or_default()),
                engine::MATCH_NUMBER => "MATCH_NUMBER()".into(),
                name => match &label {
                    Some(label) => format!("{label}.{name}"),
                    None => name.to_string(),
                },
            })
        };
        short_text(&renamed(value, &name))
    }

    fn label(&self, variables: VariableSet) -> String {
        let known = self.labels.iter().find(|(_, set)| *set == variables.0);
        known.map_or_else(|| format!("{:x}", variables.0), |(name, _)| name.clone())
    }
}

impl ConditionPlan {
    /// Whether each row meets it.
    pub(super) fn is_none(&self) -> bool {
        self.row.is_none() && self.run.is_none()
    }
}

impl RowConditionPlan {
    /// The condition as it stands in the clause.
    pub(super) fn written(&self) -> Written {
        let name = |column: &Column| {
            let index = (0..self.shifted.len()).find(|index| shifted_name(*index) == column.name)?;
            let (by, value, _) = &self.shifted[index];
            let function = if *by < 0 { "PREV" } else { "NEXT" };
            Some(format!("{function}({}, {})", short_text(value), by.unsigned_abs()))
        };
        let values = self.shifted.iter().map(|(_, value, _)| value).chain([&self.expr]);
        Written { expr: renamed(&self.expr, &name), location: values.filter_map(location_of).min() }
    }
}

/// An expression whose columns have other names.
fn renamed(expr: &LogicalExpr, name: &dyn Fn(&Column) -> Option<String>) -> LogicalExpr {
    let renamed = expr.clone().transform_up(|expr| match &expr {
        LogicalExpr::Column(column) => match name(column) {
            Some(name) => Ok(Transformed::yes(LogicalExpr::Column(Column::new_unqualified(name)))),
            None => Ok(Transformed::no(expr)),
        },
        _ => Ok(Transformed::no(expr)),
    });
    renamed.map_or_else(|_| expr.clone(), |renamed| renamed.data)
}
