//! `GROUP BY` in forms that the planner knows: `CUBE`, `ROLLUP` and sets that it does not take are written out as the grouping sets that they are,
//! positions in them as the expressions that they mean, and `GROUP_ID()` as the 0 that it is.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Query, Select, SelectItem, Spanned,
    Value, VisitMut, VisitorMut,
};

use crate::error::{Location, Result, SqlError};
use crate::parser::grouping::DISTINCT;

/// So many parts of a `CUBE` are written out at most: they are two to the power of that many sets.
const CUBE_PARTS_MAX: usize = 12;

/// Writes out what the planner does not take: an expression that is named twice, several as one part (`ROLLUP ((a, b), c)`), a `ROLLUP` or `CUBE` as one of
/// several sets (`GROUPING SETS (ROLLUP (a, b), c)`).
pub(super) fn spell_out(group: &mut Expr) {
    let written = match group {
        Expr::Prefixed { prefix, value } if prefix.value == DISTINCT => {
            if let Expr::Tuple(parts) = value.as_mut() {
                parts.iter_mut().for_each(spell_out);
            }
            return;
        }
        Expr::Cube(parts) if is_unusual(parts) => sets_of(parts, true),
        Expr::Rollup(parts) if is_unusual(parts) => sets_of(parts, false),
        Expr::GroupingSets(sets) => all_sets(sets),
        _ => return,
    };
    if let Some(sets) = written {
        *group = Expr::GroupingSets(sets);
    }
}

/// The sets of `GROUPING SETS`, with those that are sets themselves in their place; none if they are too many.
fn all_sets(sets: &[Vec<Expr>]) -> Option<Vec<Vec<Expr>>> {
    let written = sets.iter().map(|set| match set.as_slice() {
        [Expr::GroupingSets(inner)] => all_sets(inner),
        [Expr::Rollup(parts)] => sets_of(parts, false),
        [Expr::Cube(parts)] => sets_of(parts, true),
        _ => match nested(set) {
            Some((parts, is_cube)) => sets_of(&parts, is_cube),
            None => Some(vec![set.clone()]),
        },
    });
    written.collect::<Option<Vec<_>>>().map(|sets| sets.into_iter().flatten().collect())
}

/// `GROUP BY DISTINCT`: the sets of all its parts together, each once. `name_of` gives equal expressions one text.
///
/// # Errors
/// They are too many.
pub(super) fn write_distinct(groups: &mut Vec<Expr>, name_of: &dyn Fn(&Expr) -> String) -> Result<()> {
    let [Expr::Prefixed { prefix, value }] = groups.as_slice() else { return Ok(()) };
    let Expr::Tuple(parts) = value.as_ref() else { return Ok(()) };
    let location = Location::of(prefix.span);
    let mut sets: Vec<Vec<Expr>> = vec![vec![]];
    for part in parts {
        let of_part = match part {
            Expr::Rollup(parts) => sets_of(parts, false),
            Expr::Cube(parts) => sets_of(parts, true),
            Expr::GroupingSets(sets) => all_sets(sets),
            Expr::Tuple(exprs) => Some(vec![united(&[], exprs, name_of)]),
            expr => Some(vec![vec![expr.clone()]]),
        };
        let of_part = of_part.filter(|of_part| sets.len() * of_part.len() <= 1 << CUBE_PARTS_MAX);
        let of_part = of_part.ok_or_else(|| {
            SqlError::unsupported(
                "a `GROUP BY` of so many sets",
                "name those that are meant in `GROUPING SETS (..)`",
                location,
            )
        })?;
        sets = sets.iter().flat_map(|set| of_part.iter().map(|more| united(set, more, name_of))).collect();
    }
    let mut seen = HashSet::new();
    sets.retain(|set| {
        let mut keys: Vec<String> = set.iter().map(name_of).collect();
        keys.sort_unstable();
        seen.insert(keys)
    });
    *groups = match <[Vec<Expr>; 1]>::try_from(sets) {
        Ok([set]) if !set.is_empty() => set,
        Ok(sets) => vec![Expr::GroupingSets(sets.into())],
        Err(sets) => vec![Expr::GroupingSets(sets)],
    };
    Ok(())
}

fn united(set: &[Expr], more: &[Expr], name_of: &dyn Fn(&Expr) -> String) -> Vec<Expr> {
    let mut names: HashSet<String> = set.iter().map(name_of).collect();
    set.iter().chain(more.iter().filter(|expr| names.insert(name_of(expr)))).cloned().collect()
}

/// Positions in the `SELECT` list inside of sets become the expressions that stand there; others are the planner's.
///
/// # Errors
/// There is no such position.
pub(super) fn write_positions(groups: &mut [Expr], items: &[SelectItem]) -> Result<()> {
    groups.iter_mut().try_for_each(|group| match group {
        Expr::Value(_) => Ok(()),
        group => write_position(group, items),
    })
}

/// The positions of `DISTINCT ON (1)`, as those of `ORDER BY`.
///
/// # Errors
/// There is no such position.
pub(super) fn write_distinct_on(keys: &mut [Expr], items: &[SelectItem]) -> Result<()> {
    keys.iter_mut().filter(|key| matches!(key, Expr::Value(_))).try_for_each(|key| write_position(key, items))
}

fn write_position(group: &mut Expr, items: &[SelectItem]) -> Result<()> {
    match group {
        Expr::Cube(sets) | Expr::Rollup(sets) | Expr::GroupingSets(sets) => {
            sets.iter_mut().flatten().try_for_each(|expr| write_position(expr, items))
        }
        Expr::Tuple(exprs) => exprs.iter_mut().try_for_each(|expr| write_position(expr, items)),
        Expr::Nested(expr) => write_position(expr, items),
        Expr::Prefixed { prefix, value } if prefix.value == DISTINCT => write_position(value, items),
        Expr::Function(function) if is_rollup_or_cube(function) => {
            let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
            list.args.iter_mut().try_for_each(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => write_position(expr, items),
                _ => Ok(()),
            })
        }
        Expr::Value(value) => {
            let Value::Number(digits, _) = &value.value else { return Ok(()) };
            let Ok(position) = digits.parse::<usize>() else { return Ok(()) };
            let location = Location::of(value.span);
            let item =
                position.checked_sub(1).and_then(|index| items.get(..=index)).and_then(|items| items.split_last());
            let (item, before) = item.ok_or_else(|| {
                let count = items.len();
                SqlError::plan(
                    format!("there is no position {position} in the SELECT list, which has {count}"),
                    location,
                )
            })?;
            let is_one =
                |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
            match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } if before.iter().all(is_one) => {
                    *group = Expr::Nested(Box::new(expr.clone()));
                    Ok(())
                }
                _ => Err(SqlError::unsupported("a position behind `*`", "name the column", location)),
            }
        }
        _ => Ok(()),
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
    if !is_rollup_or_cube(function) {
        return None;
    }
    let is_cube = function.name.to_string().eq_ignore_ascii_case("cube");
    let parts = arguments(function)?.into_iter().map(|part| match part {
        Expr::Tuple(exprs) => exprs,
        expr => vec![expr],
    });
    Some((parts.collect(), is_cube))
}

fn is_rollup_or_cube(function: &Function) -> bool {
    let name = function.name.to_string();
    name.eq_ignore_ascii_case("cube") || name.eq_ignore_ascii_case("rollup")
}

fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    plain.collect()
}

/// `GROUP_ID()` tells equal grouping sets apart, as in Oracle, Calcite and Flink: it is 0 where there are none.
///
/// # Errors
/// Two sets are equal.
pub(super) fn write_group_ids(select: &mut Select, order_exprs: &mut [&mut Expr]) -> Result<()> {
    let GroupByExpr::Expressions(groups, _) = &select.group_by else { return Ok(()) };
    if groups.is_empty() {
        return Ok(());
    }
    let mut ids = GroupIds { has_equal_sets: has_equal_sets(groups), depth: 0 };
    let mut write = || {
        select.projection.visit(&mut ids)?;
        select.having.visit(&mut ids)?;
        select.qualify.visit(&mut ids)?;
        order_exprs.iter_mut().try_for_each(|expr| expr.visit(&mut ids))
    };
    match write() {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct GroupIds {
    has_equal_sets: bool,
    /// How many subqueries are around, which have groups of their own.
    depth: usize,
}

impl VisitorMut for GroupIds {
    type Break = SqlError;

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<SqlError> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<SqlError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        let FunctionArguments::List(list) = &function.args else { return ControlFlow::Continue(()) };
        if !function.name.to_string().eq_ignore_ascii_case("group_id") || !list.args.is_empty() {
            return ControlFlow::Continue(());
        }
        let span = function.name.span();
        if self.has_equal_sets {
            let what = "`GROUP_ID()` of grouping sets that are equal";
            let hint = "name each set once, or unite queries that say which they are by a constant";
            return ControlFlow::Break(SqlError::unsupported(what, hint, Location::of(span)));
        }
        *expr = Expr::Value(Value::Number("0".into(), false).with_span(span));
        ControlFlow::Continue(())
    }
}

/// Whether two sets of a `GROUP BY` are equal, as far as they are not too many to be written out.
fn has_equal_sets(groups: &[Expr]) -> bool {
    let mut sets: Vec<BTreeSet<String>> = vec![BTreeSet::new()];
    for group in groups {
        let of_group = match group {
            Expr::Rollup(parts) => sets_of(parts, false),
            Expr::Cube(parts) => sets_of(parts, true),
            Expr::GroupingSets(sets) => all_sets(sets),
            Expr::Prefixed { .. } => return false,
            group => Some(vec![vec![group.clone()]]),
        };
        let Some(of_group) = of_group.filter(|more| sets.len() * more.len() <= 1 << CUBE_PARTS_MAX) else {
            return false;
        };
        let names = |set: &Vec<Expr>| set.iter().map(ToString::to_string).collect::<BTreeSet<String>>();
        let of_group: Vec<BTreeSet<String>> = of_group.iter().map(names).collect();
        sets = sets.iter().flat_map(|set| of_group.iter().map(move |more| set | more)).collect();
    }
    let count = sets.len();
    sets.into_iter().collect::<BTreeSet<_>>().len() < count
}
