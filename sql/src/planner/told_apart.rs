//! Calls and keys of one `SELECT` that the planner would give one name, told apart.
//!
//! DataFusion names what is aggregated by what it is made of, and leaves out of the name what a `CAST` casts to and what a subquery asks: `SUM(v)` and
//! `SUM(CAST(v AS DOUBLE))` are both `sum(v)`, and are refused as one column that comes twice. Where that happens, casts and subqueries of the `SELECT` are put
//! into a function that names them ([`NAMED`]), in whose place the plan has aliases ([`restore`]).

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result as DataFusionResult;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, Expr as LogicalExpr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, Value, VisitMut, VisitorMut,
    visit_expressions,
};

use super::window;
use crate::error::SqlError;

/// `NAMED(value, name)` is the value.
const NAMED: &str = "__eagre_named";

/// Puts names where two calls or keys of a `SELECT` would have the same one.
pub(super) fn rewrite(query: &mut Query, is_aggregate: &dyn Fn(&str) -> bool) {
    let _ = query.visit(&mut Queries { is_aggregate });
}

struct Queries<'a> {
    is_aggregate: &'a dyn Fn(&str) -> bool,
}

impl VisitorMut for Queries<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let keys = match query.order_by.as_mut().map(|order| &mut order.kind) {
            Some(OrderByKind::Expressions(keys)) => keys.iter_mut().map(|key| &mut key.expr).collect(),
            _ => vec![],
        };
        self.body(&mut query.body, keys);
        ControlFlow::Continue(())
    }
}

impl Queries<'_> {
    fn body(&self, body: &mut SetExpr, keys: Vec<&mut Expr>) {
        match body {
            SetExpr::Select(select) if self.has_one_name_twice(select, &keys) => {
                for expr in parts_mut(select).into_iter().chain(keys) {
                    let _ = expr.visit(&mut Namer { depth: 0 });
                }
            }
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left, vec![]);
                self.body(right, vec![]);
            }
            _ => {}
        }
    }

    /// Whether two different keys, or two different calls of a whole group or window, are written alike but for what names leave out.
    fn has_one_name_twice(&self, select: &Select, keys: &[&mut Expr]) -> bool {
        let mut written: HashMap<String, String> = HashMap::new();
        let mut is_other = |expr: &Expr| {
            let text = expr.to_string();
            *written.entry(without_nameless(expr)).or_insert_with(|| text.clone()) != text
        };
        let of_groups = group_keys(select).into_iter().any(&mut is_other);
        let mut is_call_twice = |expr: &Expr| {
            let found = visit_expressions(expr, |part| match part {
                Expr::Function(function)
                    if (function.over.is_some() || (self.is_aggregate)(&function.name.to_string()))
                        && is_other(part) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            });
            found.is_break()
        };
        of_groups || parts(select).into_iter().any(&mut is_call_twice) || keys.iter().any(|key| is_call_twice(key))
    }
}

/// The expressions that stand beside the groups.
fn parts(select: &Select) -> Vec<&Expr> {
    let items = select.projection.iter().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    items.chain(&select.having).chain(&select.qualify).collect()
}

/// The keys of groups; those that name a column of the result, by its place or alias, as what that column is.
fn group_keys(select: &Select) -> Vec<&Expr> {
    let GroupByExpr::Expressions(groups, _) = &select.group_by else { return vec![] };
    let keys = groups.iter().flat_map(|group| match group {
        Expr::GroupingSets(sets) | Expr::Rollup(sets) | Expr::Cube(sets) => sets.iter().flatten().collect(),
        other => vec![other],
    });
    let column = |key: &Expr| match key {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => {
                let place = number.to_string().parse::<usize>().ok()?.checked_sub(1)?;
                parts(select).get(place).copied()
            }
            _ => None,
        },
        Expr::Identifier(ident) => select.projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if alias.value == ident.value => Some(expr),
            _ => None,
        }),
        _ => None,
    };
    keys.map(|key| column(key).unwrap_or(key)).collect()
}

fn parts_mut(select: &mut Select) -> Vec<&mut Expr> {
    let items = select.projection.iter_mut().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    let groups = match &mut select.group_by {
        GroupByExpr::Expressions(groups, _) => groups.iter_mut().collect(),
        GroupByExpr::All(_) => vec![],
    };
    let distinct = match &mut select.distinct {
        Some(Distinct::On(exprs)) => exprs.iter_mut().collect(),
        _ => vec![],
    };
    items.chain(groups).chain(distinct).chain(&mut select.having).chain(&mut select.qualify).collect()
}

fn is_nameless(expr: &Expr) -> bool {
    matches!(expr, Expr::Cast { .. } | Expr::Exists { .. } | Expr::InSubquery { .. } | Expr::Subquery(_))
}

/// The text of an expression without what DataFusion's names leave out.
fn without_nameless(expr: &Expr) -> String {
    struct Strip;
    impl VisitorMut for Strip {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            match expr {
                Expr::Cast { expr: inner, .. } => *expr = (**inner).clone(),
                Expr::Nested(inner) => *expr = (**inner).clone(),
                Expr::Exists { .. } => *expr = Expr::Identifier(Ident::new("EXISTS")),
                Expr::InSubquery { .. } => *expr = Expr::Identifier(Ident::new("IN")),
                Expr::Subquery(_) => *expr = Expr::Identifier(Ident::new("SELECT")),
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut stripped = expr.clone();
    let _ = stripped.visit(&mut Strip);
    stripped.to_string()
}

/// Names the outermost casts and subqueries of an expression.
struct Namer {
    depth: usize,
}

impl VisitorMut for Namer {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.depth += usize::from(is_nameless(expr));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if is_nameless(expr) {
            self.depth -= 1;
            if self.depth == 0 {
                *expr = window::call(NAMED, vec![expr.clone(), window::string(&expr.to_string())]);
            }
        }
        ControlFlow::Continue(())
    }
}

// ---------------------------------------------------------------- in the plan

/// [`NAMED`], by its name.
pub(super) fn function(name: &str) -> Option<Arc<ScalarUDF>> {
    static FUNCTION: OnceLock<Arc<ScalarUDF>> = OnceLock::new();
    let make = || Arc::new(ScalarUDF::new_from_impl(Named { signature: Signature::any(2, Volatility::Immutable) }));
    (name == NAMED).then(|| Arc::clone(FUNCTION.get_or_init(make)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Named {
    signature: Signature,
}

impl ScalarUDFImpl for Named {
    fn name(&self) -> &str {
        NAMED
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[LogicalExpr]) -> DataFusionResult<String> {
        Ok(name_of(args))
    }

    fn display_name(&self, args: &[LogicalExpr]) -> DataFusionResult<String> {
        Ok(name_of(args))
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DataFusionResult<FieldRef> {
        Ok(Arc::clone(&args.arg_fields[0]))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        Err(SqlError::internal("a named value was not made an alias").into())
    }
}

fn name_of(args: &[LogicalExpr]) -> String {
    match args {
        [_, LogicalExpr::Literal(name, _)] => name.try_as_str().flatten().unwrap_or_default().to_string(),
        _ => NAMED.to_string(),
    }
}

/// The values in the place of [`NAMED`], with aliases for what would have another name without it.
pub(super) fn restore(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let restored = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| match expr {
            // Of grouping sets each key is a column.
            LogicalExpr::GroupingSet(_) => expr.map_children(|key| named(key, &NamePreserver::new_for_projection())),
            expr => named(expr, &names),
        })
    })?;
    Ok(restored.data)
}

fn named(expr: LogicalExpr, names: &NamePreserver) -> DataFusionResult<Transformed<LogicalExpr>> {
    let name = names.save(&expr);
    let expr = expr.transform_up(|expr| match expr {
        LogicalExpr::ScalarFunction(function) if function.func.name() == NAMED => {
            let value = function.args.into_iter().next();
            Ok(Transformed::yes(value.ok_or_else(|| SqlError::internal("a named value without it"))?))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(if expr.transformed { expr.update_data(|expr| name.restore(expr)) } else { expr })
}
