//! Rows of an `UNNEST`, which no key of its input tells apart any more.
//!
//! DataFusion 55 hands the functional dependencies of an input on to what `UNNEST` makes of it, as if a group still had one row; and its rules then
//! leave out a `DISTINCT`, a key of `GROUP BY` or a join. They are worked out anew whenever a rule touches the plan, so no schema can be
//! mended once: a node without any stands above such an `UNNEST`, and does nothing else.
//!
//! While names are resolved a `GROUP BY k` already takes the columns in that depend on `k` (`SELECT k, n .. GROUP BY k` over rows that are one for
//! each `k`). So until the plan is made such a node stands above each subquery and view whose rows are unnested there, or in it
//! ([`UnkeyedRelations`]).

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, Result as DataFusionResult};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, SubqueryAlias, Unnest, UserDefinedLogicalNodeCore};
use datafusion::sql::sqlparser::ast::{Query, TableFactor};

use crate::error::SqlError;

/// Rows as they come, of which nothing is unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unkeyed {
    pub(super) input: LogicalPlan,
    schema: DFSchemaRef,
}

impl Unkeyed {
    fn new(input: LogicalPlan) -> DataFusionResult<Self> {
        let fields = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let schema = DFSchema::new_with_metadata(fields.collect(), input.schema().metadata().clone())?;
        Ok(Self { input, schema: Arc::new(schema) })
    }

    fn above(input: LogicalPlan) -> DataFusionResult<LogicalPlan> {
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(Self::new(input)?) }))
    }

    /// What is in the place of a node, if it is one of these.
    pub(super) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

impl Hash for Unkeyed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
    }
}

impl PartialOrd for Unkeyed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for Unkeyed {
    fn name(&self) -> &str {
        "Unkeyed"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Unkeyed")
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        Self::new(inputs.pop().ok_or_else(|| SqlError::internal("an unnest lost its rows"))?)
    }
}

/// Puts a node above each `UNNEST` of rows that have a key.
pub(super) fn mark(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let mut any = false;
    let marked = plan.transform_up_with_subqueries(|plan| {
        match &plan {
            LogicalPlan::Unnest(Unnest { input, .. }) if !input.schema().functional_dependencies().is_empty() => {}
            // It was there already.
            _ => {
                return match Unkeyed::of(&plan).map(|node| node.input.clone()) {
                    Some(inner) if Unkeyed::of(&inner).is_some() => Ok(Transformed::yes(inner)),
                    _ => Ok(Transformed::no(plan)),
                };
            }
        }
        any = true;
        Ok(Transformed::yes(Unkeyed::above(plan)?))
    })?;
    if !any {
        return Ok(marked.data);
    }
    // What stands above took the keys over.
    let known = marked.data.transform_up_with_subqueries(|plan| Ok(Transformed::yes(plan.recompute_schema()?)))?;
    Ok(known.data)
}

/// The plan without these nodes, for whoever goes through it by the kinds of its nodes, and marks it again.
pub(super) fn unmark(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let plain =
        plan.transform_down_with_subqueries(|plan| match Unkeyed::of(&plan).map(|node| node.input.clone()) {
            Some(inner) => Ok(Transformed::yes(inner)),
            None => Ok(Transformed::no(plan)),
        })?;
    Ok(plain.data)
}

/// Plans relations as DataFusion does, and puts a node above those that have a key and are unnested.
#[derive(Debug, Default)]
pub(super) struct UnkeyedRelations {
    /// Whether the query at hand unnests.
    unnests: AtomicBool,
    /// Whether DataFusion is to plan the relation that comes next.
    passes: AtomicBool,
}

impl UnkeyedRelations {
    /// What `plan` makes of `query`, without the nodes that it was planned with.
    pub(super) fn within(
        &self,
        query: Box<Query>,
        plan: impl FnOnce(Box<Query>) -> DataFusionResult<LogicalPlan>,
    ) -> DataFusionResult<LogicalPlan> {
        // The word in a text alone takes keys away that nothing needs.
        let unnests = query.to_string().to_lowercase().contains("unnest");
        // Views are planned while the query that reads them is.
        let around = self.unnests.swap(unnests, Ordering::Relaxed);
        let planned = plan(query);
        self.unnests.store(around, Ordering::Relaxed);
        unmark(planned?)
    }
}

impl RelationPlanner for UnkeyedRelations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        let named = matches!(relation, TableFactor::Table { .. } | TableFactor::Derived { .. });
        if !named || self.passes.swap(false, Ordering::Relaxed) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        self.passes.store(true, Ordering::Relaxed);
        let plan = context.plan(relation)?;
        let keyed = !plan.schema().functional_dependencies().is_empty();
        let plan = match keyed && (self.unnests.load(Ordering::Relaxed) || has_unnest(&plan)?) {
            true => without_keys(plan)?,
            false => plan,
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}

/// The name of a relation stays above all else: a `LATERAL` is known by it.
fn without_keys(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let LogicalPlan::SubqueryAlias(named) = plan else { return Unkeyed::above(plan) };
    let input = Unkeyed::above(Arc::unwrap_or_clone(named.input))?;
    Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), named.alias)?))
}

fn has_unnest(plan: &LogicalPlan) -> DataFusionResult<bool> {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Unnest(_))))
}
