//! Keys that DataFusion's executor tells apart and the engine does not, in queries that are answered at once: both zeros, NaNs of several
//! bits, and maps whose entries stand in another order, also within rows and arrays.
//!
//! Where rows are told apart by such values, or put in order, it is by the form in which the engine's keys compare.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as DataFusionResult};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, SortExpr};
use eagre_engine::keys::has_other_forms;

use super::map_equality;
use super::one_way::{OneWay, Place};
use crate::error::Result;
use crate::functions::in_key_form;

/// Has rows told apart and put in order as the engine does it, and joined where that is by keys already (`INTERSECT`, `EXCEPT`).
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let keys = OneWay { key: has_other_forms, written: in_key_form, order: in_order, check: |_, _| Ok(()) };
    let joined = keys.rewrite(map_equality::rewrite(plan)?)?.transform_up(|plan| match plan {
        LogicalPlan::Join(mut join) => {
            let mut changed = false;
            for (left, right) in &mut join.on {
                if has_forms(left, join.left.schema()) || has_forms(right, join.right.schema()) {
                    *left = in_key_form(std::mem::take(left));
                    *right = in_key_form(std::mem::take(right));
                    changed = true;
                }
            }
            Ok(Transformed::new_transformed(LogicalPlan::Join(join), changed))
        }
        plan => Ok(Transformed::no(plan)),
    })?;
    Ok(joined.data)
}

fn has_forms(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| has_other_forms(&data_type))
}

fn in_order(by: &mut SortExpr, _: Place, schema: &DFSchema) -> DataFusionResult<bool> {
    let has_forms = has_forms(&by.expr, schema);
    if has_forms {
        by.expr = in_key_form(by.expr.clone());
    }
    Ok(has_forms)
}
