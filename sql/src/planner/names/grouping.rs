//! `GROUP BY` in forms that the planner knows: `CUBE`, `ROLLUP` and sets that it does not take are written out as the grouping sets that they are,
//! and `GROUP_ID()` as the `GROUPING_ID` that it is.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, ObjectName, Select, Spanned,
    VisitMut, visit_expressions_mut,
};

/// So many parts of a `CUBE` are written out at most: they are two to the power of that many sets.
const CUBE_PARTS_MAX: usize = 12;

/// Writes out what the planner does not take: an expression that is named twice, several as one part (`ROLLUP ((a, b), c)`), a `ROLLUP` or `CUBE` as one of
/// several sets (`GROUPING SETS (ROLLUP (a, b), c)`).
pub(super) fn spell_out(group: &mut Expr) {
    let written = match group {
        Expr::Cube(parts) if is_unusual(parts) => sets_of(parts, true),
        Expr::Rollup(parts) if is_unusual(parts) => sets_of(parts, false),
        Expr::GroupingSets(sets) if sets.iter().any(|set| nested(set).is_some()) => {
            let written = sets.iter().map(|set| match nested(set) {
                Some((parts, is_cube)) => sets_of(&parts, is_cube),
                None => Some(vec![set.clone()]),
            });
            written.collect::<Option<Vec<_>>>().map(|sets| sets.into_iter().flatten().collect())
        }
        _ => return,
    };
    if let Some(sets) = written {
        *group = Expr::GroupingSets(sets);
    }
}

fn is_unusual(parts: &[Vec<Expr>]) -> bool {
    let mut seen = HashSet::new();
    parts.iter().any(|part| part.len() != 1) || !parts.iter().flatten().all(|expr| seen.insert(expr.to_string()))
}

/// The sets of a `CUBE` or a `ROLLUP`; none if they are too many.
fn sets_of(parts: &[Vec<Expr>], is_cube: bool) -> Option<Vec<Vec<Expr>>> {
    if parts.len() > CUBE_PARTS_MAX {
        return None;
    }
    let subsets: Vec<Vec<usize>> = match is_cube {
        true => {
            (0..1usize << parts.len()).map(|mask| (0..parts.len()).filter(|i| mask >> i & 1 == 1).collect()).collect()
        }
        false => (0..=parts.len()).map(|count| (0..count).collect()).collect(),
    };
    let set_of = |subset: Vec<usize>| {
        let mut set: Vec<Expr> = vec![];
        for expr in subset.into_iter().flat_map(|index| &parts[index]) {
            if !set.contains(expr) {
                set.push(expr.clone());
            }
        }
        set
    };
    Some(subsets.into_iter().map(set_of).collect())
}

/// The parts of a `ROLLUP` or `CUBE` that stands in the place of a set, where the parser takes it for a call, and whether it is a `CUBE`.
fn nested(set: &[Expr]) -> Option<(Vec<Vec<Expr>>, bool)> {
    let [Expr::Function(function)] = set else { return None };
    let name = function.name.to_string();
    let is_cube = name.eq_ignore_ascii_case("cube");
    if !is_cube && !name.eq_ignore_ascii_case("rollup") {
        return None;
    }
    let parts = arguments(function)?.into_iter().map(|part| match part {
        Expr::Tuple(exprs) => exprs,
        expr => vec![expr],
    });
    Some((parts.collect(), is_cube))
}

fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    plain.collect()
}

/// Gives each `GROUP_ID()`, which is Flink's, the keys that it tells of: all of the `GROUP BY`, in their order.
pub(super) fn write_group_ids(select: &mut Select, order_exprs: &mut [&mut Expr]) {
    let GroupByExpr::Expressions(groups, _) = &select.group_by else { return };
    let mut keys: Vec<Expr> = vec![];
    for key in groups.iter().flat_map(keys_of) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return;
    }
    let arguments = keys.into_iter().map(|key| FunctionArg::Unnamed(FunctionArgExpr::Expr(key)));
    let arguments = arguments.collect::<Vec<_>>();
    write(&mut select.projection, &arguments);
    write(&mut select.having, &arguments);
    write(&mut select.qualify, &arguments);
    order_exprs.iter_mut().for_each(|expr| write(*expr, &arguments));
}

fn write(part: &mut impl VisitMut, keys: &[FunctionArg]) {
    let _ = visit_expressions_mut(part, |expr| {
        if let Expr::Function(function) = expr
            && function.name.to_string().eq_ignore_ascii_case("group_id")
            && let FunctionArguments::List(list) = &mut function.args
            && list.args.is_empty()
        {
            let span = function.name.span();
            function.name = ObjectName::from(vec![Ident::with_span(span, "grouping_id")]);
            list.args = keys.to_vec();
        }
        ControlFlow::<()>::Continue(())
    });
}

/// What one part of a `GROUP BY` groups by.
fn keys_of(group: &Expr) -> Vec<Expr> {
    match group {
        Expr::Cube(parts) | Expr::Rollup(parts) => parts.iter().flatten().flat_map(keys_of).collect(),
        Expr::GroupingSets(sets) => {
            let of_set = |set: &Vec<Expr>| match nested(set) {
                Some((parts, _)) => parts.into_iter().flatten().collect(),
                None => set.iter().flat_map(keys_of).collect::<Vec<_>>(),
            };
            sets.iter().flat_map(of_set).collect()
        }
        Expr::Tuple(exprs) => exprs.iter().flat_map(keys_of).collect(),
        Expr::Nested(expr) => keys_of(expr),
        key => vec![key.clone()],
    }
}
