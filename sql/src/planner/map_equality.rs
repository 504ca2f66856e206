//! Maps are equal that have the same entries, in whatever order these were written.
//!
//! Arrow compares the entries one by one. Groups, joins and `DISTINCT` go by the engine's keys, whose entries are in order; here the sides of a comparison
//! get that order too.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};

use crate::functions::in_key_form;

/// Puts the entries of compared maps in order.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        let rewritten = plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let rewritten = expr.transform_up(|expr| compared(expr, &schema))?;
            Ok(rewritten.update_data(|expr| name.restore(expr)))
        })?;
        match rewritten.transformed {
            true => rewritten.map_data(LogicalPlan::recompute_schema),
            false => Ok(rewritten),
        }
    })?;
    Ok(rewritten.data)
}

fn compared(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    use Operator::{Eq, IsDistinctFrom, IsNotDistinctFrom, NotEq};
    let of_maps = |expr: &Expr| expr.get_type(schema).is_ok_and(|data_type| has_map(&data_type));
    match expr {
        Expr::BinaryExpr(mut binary)
            if matches!(binary.op, Eq | NotEq | IsDistinctFrom | IsNotDistinctFrom) && of_maps(&binary.left) =>
        {
            binary.left = Box::new(in_key_form(*binary.left));
            binary.right = Box::new(in_key_form(*binary.right));
            Ok(Transformed::yes(Expr::BinaryExpr(binary)))
        }
        Expr::InList(mut list) if of_maps(&list.expr) => {
            list.expr = Box::new(in_key_form(*list.expr));
            list.list = list.list.into_iter().map(in_key_form).collect();
            Ok(Transformed::yes(Expr::InList(list)))
        }
        expr => Ok(Transformed::no(expr)),
    }
}

fn has_map(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(..) => true,
        DataType::List(item) => has_map(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_map(field.data_type())),
        _ => false,
    }
}
