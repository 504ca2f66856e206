//! Building syntax: calls, literals, subqueries.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident,
    ObjectName, Query, Select, SelectFlavor, SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, Value,
};

/// A plain call.
pub(in crate::planner) fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

pub(in crate::planner) fn string(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_string()).into())
}

pub(super) fn arg_expr(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. } => Some(expr),
        _ => None,
    }
}

/// The argument of a call with one argument.
pub(in crate::planner) fn only_arg(function: &Function) -> Option<&Expr> {
    match &function.args {
        FunctionArguments::List(list) => match list.args.as_slice() {
            [arg] => arg_expr(arg),
            _ => None,
        },
        _ => None,
    }
}

/// `(SELECT items FROM relation) AS name`.
pub(in crate::planner) fn derived(items: Vec<SelectItem>, relation: Option<TableFactor>, name: &str) -> TableFactor {
    TableFactor::Derived {
        lateral: false,
        subquery: Box::new(select_query(items, relation, None)),
        alias: Some(TableAlias { explicit: true, name: Ident::with_quote('"', name), columns: vec![], at: None }),
        sample: None,
    }
}

/// `SELECT items FROM relation WHERE selection`.
pub(in crate::planner) fn select_query(
    items: Vec<SelectItem>,
    relation: Option<TableFactor>,
    selection: Option<Expr>,
) -> Query {
    let select = Select {
        select_token: datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: items,
        exclude: None,
        into: None,
        from: relation.into_iter().map(|relation| TableWithJoins { relation, joins: vec![] }).collect(),
        lateral_views: vec![],
        prewhere: None,
        selection,
        connect_by: vec![],
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    query_of(SetExpr::Select(Box::new(select)))
}

pub(in crate::planner) fn query_of(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}
