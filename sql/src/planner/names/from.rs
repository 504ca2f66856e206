//! What stands in `FROM`: tables, joins, table functions, and the names that each brings into scope.

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, Ident, Join, JoinConstraint, JoinOperator, ObjectName,
    SelectItem, SetExpr, Spanned, TableAlias, TableFactor, TableWithJoins, WildcardAdditionalOptions,
};

use super::unnest::{
    brings_arrays, is_lateral, is_plain_unnest, keeps_right, names_its_column, repeats_a_name, unnest_laterally,
    unnested_items,
};
use super::{
    Aliases, Column, Input, Resolver, Scope, asof_using, columns_of, find_column, last_ident_mut, merged,
    object_idents, rename, unknown_column,
};
use crate::catalog::Relation;
use crate::error::{Location, Result, SqlError, nearest};
use crate::parser::match_recognize::MATCH_FUNCTION;
use crate::planner::array_subquery::ELEMENTS;
use crate::planner::forecast::ForecastCall;
use crate::planner::nearest::{self as nearest_join, NearestSyntax};
use crate::planner::rows::{ROWS, and};
use crate::planner::window;
use crate::planner::window::WindowCall;

/// `(a JOIN b ON ..) AS c` is a table of all their columns.
fn join_as_query(factor: &mut TableFactor) {
    let TableFactor::NestedJoin { table_with_joins, alias } = factor else { return };
    let alias = alias.take();
    let tables = TableFactor::NestedJoin { table_with_joins: table_with_joins.clone(), alias: None };
    let all = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
    let subquery = Box::new(window::select_query(all, Some(tables), None));
    *factor = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
}

impl Resolver<'_> {
    pub(super) fn from(&mut self, from: &mut Vec<TableWithJoins>) -> Result<Scope> {
        // `FROM t, UNNEST(t.a)` is `FROM t CROSS JOIN UNNEST(t.a)`.
        if from.len() > 1 && from[1..].iter().all(|table| matches!(table.relation, TableFactor::UNNEST { .. })) {
            for table in from.split_off(1) {
                let join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
                from[0].joins.push(Join { relation: table.relation, global: false, join_operator });
                from[0].joins.extend(table.joins);
            }
        }
        // Of `FROM a, b CROSS JOIN UNNEST(..)` the planner shows `b` only to the last one: `FROM a CROSS JOIN b CROSS JOIN UNNEST(..)`.
        let looks_back = |table: &TableWithJoins| table.joins.iter().any(|join| is_lateral(&join.relation));
        if from.iter().skip(1).any(looks_back) && !from.iter().flat_map(|table| &table.joins).any(keeps_right) {
            for table in from.split_off(1) {
                let join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
                from[0].joins.push(Join { relation: table.relation, global: false, join_operator });
                from[0].joins.extend(table.joins);
            }
        }
        let mut inputs = vec![];
        let one_table = from.len() == 1;
        let joined = !one_table || !from[0].joins.is_empty();
        self.name_derived(from, joined);
        for table in from.iter_mut() {
            let stands_alone = one_table && table.joins.iter().all(is_plain_unnest);
            if !stands_alone || !brings_arrays(&table.relation) || names_its_column(&table.relation) {
                unnest_laterally(table, !inputs.is_empty())?;
            }
            self.joined(table, &mut inputs)?;
            // Of columns of one name each has a table of its own.
            if stands_alone && repeats_a_name(table, &inputs) {
                unnest_laterally(table, false)?;
                for join in &mut table.joins {
                    self.factors(&mut join.relation, &mut inputs)?;
                }
            }
        }
        let mut scope = Scope { inputs, ..Scope::default() };
        self.join_unnest(from, &mut scope)?;
        Ok(scope)
    }

    /// Subqueries that are joined and have no name get one in the plan, by which their columns are told from those of others; and so do patterns,
    /// whose columns could be mistaken for those of the queries in a condition. Where something stands in its text is no part of such a name: what
    /// an operator has saved is found by it again.
    fn name_derived(&self, from: &mut [TableWithJoins], joined: bool) {
        let mut number = 0;
        let mut name = |factor: &mut TableFactor| {
            number += 1;
            let (alias, name) = match factor {
                TableFactor::Derived { alias: alias @ None, .. } if joined => (alias, format!("{NAMELESS}{number}")),
                TableFactor::TableFunction { expr: Expr::Function(function), alias: alias @ None }
                    if function.name.to_string() == MATCH_FUNCTION =>
                {
                    // Another one than those of queries inside and around.
                    self.patterns.set(self.patterns.get() + 1);
                    (alias, format!("{NAMELESS_MATCH}{}", self.patterns.get()))
                }
                _ => return,
            };
            let name = Ident::with_quote('"', name);
            *alias = Some(TableAlias { explicit: true, name, columns: vec![], at: None });
        };
        for table in from {
            name(&mut table.relation);
            table.joins.iter_mut().for_each(|join| name(&mut join.relation));
        }
    }

    /// A table and what is joined to it; `inputs` are those before it, which a `LATERAL` sees.
    pub(super) fn joined(&mut self, table: &mut TableWithJoins, inputs: &mut Vec<Input>) -> Result<()> {
        let first = inputs.len();
        self.factors(&mut table.relation, inputs)?;
        let mut nearest = vec![];
        for join in &mut table.joins {
            if matches!(join.relation, TableFactor::UNNEST { .. }) {
                nearest.push(None);
                continue;
            }
            let right = inputs.len();
            let mut time = nearest_join::take_version(&mut join.relation)?;
            self.factors(&mut join.relation, inputs)?;
            let keeps_left = matches!(
                join.join_operator,
                JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::Left(_) | JoinOperator::LeftOuter(_)
            );
            let keeps = merged::Keeps::of(&join.join_operator);
            let mut made = None;
            if let Some(constraint) = constraint_mut(&mut join.join_operator) {
                let by = if join.global { asof_using::take(constraint)? } else { None };
                match keeps {
                    Some(keeps) if merged::is_written_out(constraint, &inputs[first..]) => {
                        made = self.merge_columns(constraint, keeps, &mut inputs[first..], right - first)?;
                    }
                    _ => self.constraint(constraint, inputs, first, right)?,
                }
                if keeps_left && let Some(condition) = merged_again(constraint, &inputs[first..], right - first) {
                    *constraint = JoinConstraint::On(condition);
                }
                match by {
                    Some(asof_using::Nearest::By(mut condition)) => {
                        let scope = Scope { inputs: inputs[first..].to_vec(), ..Scope::default() };
                        self.expr(&mut condition, &scope, Aliases::None)?;
                        if let JoinConstraint::On(keys) = constraint {
                            *keys = and(*condition, keys.clone());
                        }
                    }
                    Some(asof_using::Nearest::LastColumn(column)) => {
                        asof_using::check_last(&column, made.as_ref())?;
                        asof_using::last_as_inequality(constraint);
                    }
                    None => {}
                }
            }
            if let Some(time) = &mut time {
                let scope = Scope { inputs: inputs[first..right].to_vec(), ..Scope::default() };
                self.expr(time, &scope, Aliases::None)?;
            }
            nearest.push(NearestSyntax::take(join, time)?);
            let (fills_left, fills_right) = filled_sides(&join.join_operator);
            inputs[first..right].iter_mut().for_each(|input| input.filled |= fills_left);
            inputs[right..].iter_mut().for_each(|input| input.filled |= fills_right);
            // Nobody sees the other side of these.
            match join.join_operator {
                JoinOperator::LeftSemi(_) | JoinOperator::LeftAnti(_) => inputs.truncate(right),
                JoinOperator::RightSemi(_) | JoinOperator::RightAnti(_) => {
                    inputs.drain(first..right);
                    inputs[first..].iter_mut().for_each(|input| input.merged.clear());
                }
                _ => inputs.splice(first..first, made).for_each(drop),
            }
        }
        nearest_join::fold(table, nearest);
        Ok(())
    }

    pub(super) fn factors(&mut self, factor: &mut TableFactor, inputs: &mut Vec<Input>) -> Result<()> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.joined(table_with_joins, inputs),
            TableFactor::NestedJoin { alias: Some(_), .. } => {
                join_as_query(factor);
                self.factors(factor, inputs)
            }
            TableFactor::Derived { subquery, alias, lateral: true, .. } => {
                let scope = Scope { inputs: inputs.clone(), lateral: true, ..Scope::default() };
                let (columns, open) = self.subquery(subquery, &scope)?;
                let mut input = derived_input(columns, open, alias.as_mut())?;
                self.rename_shadowed(&mut input, alias);
                inputs.push(input);
                Ok(())
            }
            other => {
                match WindowCall::of(other)? {
                    Some(call) if matches!(call.data, window::WindowData::From(_)) => {
                        *other = self.windows_of_from(call, inputs)?;
                    }
                    _ => inputs.push(self.factor(other)?),
                }
                Ok(())
            }
        }
    }

    /// `FROM a JOIN b .. GROUP BY TUMBLE(a.ts, ..)`: the tables keep their names, and the columns of the window are beside them.
    fn windows_of_from(&mut self, mut call: WindowCall, inputs: &mut Vec<Input>) -> Result<TableFactor> {
        let window::WindowData::From(query) = &mut call.data else {
            return Err(SqlError::internal("a window over tables without them"));
        };
        let SetExpr::Select(select) = query.body.as_mut() else {
            return Err(SqlError::internal("a FROM without a SELECT"));
        };
        let scope = self.from(&mut select.from)?;
        let mut idents: Vec<Ident> = call.time_table.take().into_iter().chain([call.time.clone()]).collect();
        let time_type = window_type(self.idents(&mut idents, &scope, Aliases::None)?);
        if let Some(time) = idents.pop() {
            call.time = time;
        }
        call.time_table = idents.pop();
        let columns = scope.inputs.iter().flat_map(|input| &input.columns);
        let names = window::window_column_names(columns.map(|column| column.name.as_str()));
        inputs.extend(scope.inputs.into_iter().map(|input| Input { window: None, ..input }));
        inputs.push(Input {
            columns: names.iter().map(|name| Column { name: name.clone(), data_type: time_type.clone() }).collect(),
            bare: names.to_vec(),
            window: Some(names),
            ..Input::default()
        });
        Ok(call.into_factor(self.emit))
    }

    /// Writes the catalog's names into what a join says of its columns; the inputs from `right` on are joined to those from `first` on.
    pub(super) fn constraint(
        &self,
        constraint: &mut JoinConstraint,
        inputs: &mut [Input],
        first: usize,
        right: usize,
    ) -> Result<()> {
        let mut merged: Vec<String> = vec![];
        match constraint {
            JoinConstraint::On(condition) => {
                let scope = Scope { inputs: inputs.to_vec(), ..Scope::default() };
                self.expr(condition, &scope, Aliases::None)?;
            }
            JoinConstraint::Using(names) => {
                for name in names {
                    let ident = last_ident_mut(name)?;
                    let mut spelled = vec![];
                    for part in [first..right, right..inputs.len()] {
                        let part = Scope { inputs: inputs[part].to_vec(), ..Scope::default() };
                        let mut idents = [ident.clone()];
                        self.idents(&mut idents, &part, Aliases::None)?;
                        spelled.push(idents[0].value.clone());
                    }
                    if spelled[0] != spelled[1] {
                        return Err(SqlError::plan(
                            format!(
                                "`USING ({})`: the column is `{}` on the left and `{}` on the right; write `ON`",
                                ident.value, spelled[0], spelled[1]
                            ),
                            Location::of(ident.span),
                        ));
                    }
                    *ident = Ident::with_quote_and_span('"', ident.span, &spelled[0]);
                    merged.push(spelled.swap_remove(0));
                }
            }
            JoinConstraint::Natural => {
                let (left, right) = (&inputs[first..right], &inputs[right..]);
                let names = left.iter().flat_map(|input| input.shown_columns()).map(|column| column.name.clone());
                let on_right = |name: &String| right.iter().any(|input| input.columns.iter().any(|c| c.name == *name));
                merged = names.filter(on_right).collect();
            }
            JoinConstraint::None => {}
        }
        for input in &mut inputs[right..] {
            let own = input.columns.iter().map(|column| column.name.clone());
            let more: Vec<String> = own.filter(|name| merged.contains(name)).collect();
            input.merged.extend(more);
        }
        Ok(())
    }

    /// `FROM t CROSS JOIN UNNEST(t.a) AS u(x)` becomes `FROM (SELECT *, unnest(a) AS x FROM t) AS t`: each row brings its own rows, so
    /// nothing is joined.
    pub(super) fn join_unnest(&self, from: &mut [TableWithJoins], scope: &mut Scope) -> Result<()> {
        let [table] = from else { return Ok(()) };
        if table.joins.is_empty() || !table.joins.iter().all(|j| matches!(j.relation, TableFactor::UNNEST { .. })) {
            return Ok(());
        }
        for join in std::mem::take(&mut table.joins) {
            let TableFactor::UNNEST { alias, mut array_exprs, .. } = join.relation else {
                continue;
            };
            let mut array = array_exprs.remove(0);
            let element = match self.typed_expr(&mut array, scope)? {
                Some(DataType::List(element)) => Some(element.data_type().clone()),
                _ => None,
            };
            let input_name = scope.inputs[0].qualifier.clone().unwrap_or_else(|| "__unnested".into());
            let alias_name = alias.as_ref().map(|alias| alias.name.value.clone());
            let columns = alias.map(|alias| alias.columns).unwrap_or_default();
            let mut columns: Vec<String> = columns.into_iter().map(|column| column.name.value).collect();
            if columns.is_empty() {
                columns.push(alias_name.clone().unwrap_or_else(|| "unnest".into()));
            }
            // Inside the derived table the input has its own qualifier still.
            let mut inner = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
            inner.extend(unnested_items(&array, &columns));
            let element = element.filter(|_| columns.len() == 1);
            let relation = table.relation.clone();
            table.relation = window::derived(inner, Some(relation), &input_name);
            for input in &mut scope.inputs {
                input.qualifier = Some(input_name.clone());
            }
            scope.inputs.push(Input {
                name: alias_name,
                qualifier: Some(input_name),
                columns: columns.into_iter().map(|name| Column { name, data_type: element.clone() }).collect(),
                ..Input::default()
            });
        }
        Ok(())
    }

    pub(super) fn factor(&mut self, factor: &mut TableFactor) -> Result<Input> {
        self.write_out_pivot(factor)?;
        self.write_out_rows(factor)?;
        if let Some(mut call) = WindowCall::of(factor)? {
            let mut input = self.table_argument(&mut call.data)?;
            let names = window::window_column_names(input.columns.iter().map(|column| column.name.as_str()));
            let time = find_column(&input.columns, &call.time);
            match time {
                Some(index) => call.time.value = input.columns[index].name.clone(),
                None if input.open => {}
                None => {
                    let scope = Scope { inputs: vec![input], ..Scope::default() };
                    return Err(unknown_column(&call.time, &scope));
                }
            }
            for key in &mut call.partition {
                match find_column(&input.columns, key) {
                    Some(index) => key.value = input.columns[index].name.clone(),
                    None if input.open => {}
                    None => {
                        let scope = Scope { inputs: vec![input], ..Scope::default() };
                        return Err(unknown_column(key, &scope));
                    }
                }
            }
            let time_type = window_type(time.and_then(|index| input.columns[index].data_type.clone()));
            input.columns.extend(names.iter().map(|name| Column { name: name.clone(), data_type: time_type.clone() }));
            match &mut call.alias {
                Some(alias) => {
                    rename(&mut input.columns, input.open, alias);
                    input.name = Some(alias.name.value.clone());
                    input.qualifier = input.name.clone();
                }
                None => input.bare = names.to_vec(),
            }
            input.window = Some(names);
            *factor = call.into_factor(self.emit);
            return Ok(input);
        }
        if let Some(call) = ForecastCall::of(factor)? {
            return self.forecast(factor, call);
        }
        match factor {
            TableFactor::Table { version: Some(_), .. } => {
                Err(nearest_join::other_version(Location::of(factor.span())))
            }
            TableFactor::Table { name, alias, args: None, .. } => {
                let mut input = self.named(name, alias.as_mut())?;
                self.rename_shadowed(&mut input, alias);
                Ok(input)
            }
            TableFactor::Derived { subquery, alias, lateral: false, .. } => {
                let (columns, open) = self.query(subquery)?;
                let mut input = derived_input(columns, open, alias.as_mut())?;
                self.rename_shadowed(&mut input, alias);
                Ok(input)
            }
            TableFactor::TableFunction { expr: Expr::Function(function), alias }
                if function.name.to_string() == MATCH_FUNCTION =>
            {
                self.match_input(function, alias.as_mut())
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality: false, .. } => {
                for expr in array_exprs {
                    self.expr(expr, &Scope::default(), Aliases::None)?;
                }
                let mut input = Input { open: true, ..Input::default() };
                if let Some(alias) = alias {
                    input.name = Some(alias.name.value.clone());
                    input.qualifier = input.name.clone();
                    if !alias.columns.is_empty() {
                        let columns = alias.columns.iter();
                        input.columns = columns.map(|column| Column::untyped(&column.name.value)).collect();
                        input.open = false;
                    }
                }
                Ok(input)
            }
            other => {
                let name = match other {
                    TableFactor::Table { name, .. } => Some(name.to_string()),
                    TableFactor::TableFunction { expr: Expr::Function(function), .. } => {
                        Some(function.name.to_string())
                    }
                    // `LATERAL TABLE(f(..))` comes as a function of that name.
                    TableFactor::Function { name, args, .. } => match args.as_slice() {
                        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(function)))]
                            if name.to_string().eq_ignore_ascii_case("table") =>
                        {
                            Some(function.name.to_string())
                        }
                        _ => Some(name.to_string()),
                    },
                    _ => None,
                };
                let location = Location::of(other.span());
                Err(match name {
                    Some(name) => SqlError::unsupported(
                        format!("the table function `{name}`"),
                        format!("of a function that gives an array write `CROSS JOIN UNNEST({name}(..)) AS u(x)`"),
                        location,
                    ),
                    None => SqlError::unsupported("this form of a table", "", location),
                })
            }
        }
    }

    /// Gives a table whose name is that of a column of a subquery another one in the plan.
    fn rename_shadowed(&self, input: &mut Input, alias: &mut Option<TableAlias>) {
        let Some(name) = input.name.as_ref().and_then(|name| self.shadowed.other_name(name)) else { return };
        let ident = Ident::with_quote('"', &name);
        match alias {
            Some(alias) => alias.name = ident,
            None => *alias = Some(TableAlias { explicit: true, name: ident, columns: vec![], at: None }),
        }
        input.qualifier = Some(name);
    }

    /// The columns of a forecast: its keys, then its own.
    pub(super) fn forecast(&mut self, factor: &mut TableFactor, mut call: ForecastCall) -> Result<Input> {
        let rows = self.table_argument(&mut call.data)?;
        let mut columns = vec![];
        for (index, ident) in call.keys.iter_mut().chain([&mut call.ts, &mut call.value]).enumerate() {
            match find_column(&rows.columns, ident) {
                Some(found) => {
                    ident.value = rows.columns[found].name.clone();
                    columns.push((index, rows.columns[found].clone()));
                }
                None if rows.open => columns.push((index, Column::untyped(&ident.value))),
                None => {
                    return Err(unknown_column(ident, &Scope { inputs: vec![rows], ..Scope::default() }));
                }
            }
        }
        columns.retain(|(index, _)| *index < call.keys.len());
        let mut columns: Vec<Column> = columns.into_iter().map(|(_, column)| column).collect();
        let own = call.own_columns();
        if let Some(key) = columns.iter().find(|column| own.contains(&column.name)) {
            return Err(call.name_is_taken(&key.name));
        }
        columns.extend(own.into_iter().map(Column::untyped));
        let mut input = Input { columns, ..Input::default() };
        match &mut call.alias {
            Some(alias) => {
                rename(&mut input.columns, false, alias);
                input.name = Some(alias.name.value.clone());
                input.qualifier = input.name.clone();
            }
            None => input.bare = input.columns.iter().map(|column| column.name.clone()).collect(),
        }
        *factor = call.into_factor();
        Ok(input)
    }

    /// The input of a table function: a table by name, or a subquery.
    pub(super) fn table_argument(&mut self, data: &mut window::WindowData) -> Result<Input> {
        match data {
            window::WindowData::Table(name) => self.named(name, None),
            window::WindowData::Query(query) => {
                let (columns, open) = self.query(query)?;
                Ok(Input { columns, open, ..Input::default() })
            }
            window::WindowData::From(_) => Err(SqlError::internal("a FROM in the place of a table")),
        }
    }

    /// A table, view or CTE by its name, which is rewritten to the one that the planner finds it by.
    pub(super) fn named(&self, name: &mut ObjectName, alias: Option<&mut TableAlias>) -> Result<Input> {
        let idents = object_idents(name)?;
        let location = Location::of(name.span());
        let cte = match idents.as_slice() {
            [ident] => {
                let exact = self.ctes.iter().rev().find(|cte| cte.name == ident.value);
                let folded = ident.value.to_lowercase();
                let quoted = ident.quote_style.is_some();
                exact.or_else(|| self.ctes.iter().rev().find(|cte| !quoted && cte.name.to_lowercase() == folded))
            }
            _ => None,
        };
        let (visible, plan_name, mut columns, open) = match cte {
            Some(cte) => (cte.name.clone(), cte.plan_name.clone(), cte.columns.clone(), cte.open),
            None => {
                let parts: Vec<_> =
                    idents.iter().map(|ident| (ident.value.as_str(), ident.quote_style.is_some())).collect();
                let relation = self.catalog.relation(&parts, location);
                let relation = relation.map_err(|error| self.with_cte_names(error))?;
                let schema = match &relation {
                    Relation::View(view) => self.views.view_schema(view)?,
                    other => self.catalog.relation_schema(other)?,
                };
                (relation.name(), relation.name(), columns_of(&schema), false)
            }
        };
        let span = idents[0].span;
        *name = ObjectName::from(vec![Ident::with_quote_and_span('"', span, &plan_name)]);
        let (mut name, mut qualifier) = (visible, plan_name);
        if let Some(alias) = alias {
            rename(&mut columns, open, alias);
            name = alias.name.value.clone();
            qualifier = name.clone();
        }
        Ok(Input { name: Some(name), qualifier: Some(qualifier), columns, open, ..Input::default() })
    }

    pub(super) fn with_cte_names(&self, error: SqlError) -> SqlError {
        match error {
            SqlError::UnknownTable { name, nearest: None, location } => SqlError::UnknownTable {
                nearest: nearest(&name, self.ctes.iter().map(|cte| cte.name.as_str())),
                name,
                location,
            },
            other => other,
        }
    }
}

/// What the names begin with that subqueries without one have in the plan.
pub(super) const NAMELESS: &str = "__rows_";
/// The same of patterns.
pub(super) const NAMELESS_MATCH: &str = "__matches_";

/// A subquery in `FROM`.
pub(super) fn derived_input(mut columns: Vec<Column>, open: bool, alias: Option<&mut TableAlias>) -> Result<Input> {
    let mut name = None;
    if let Some(alias) = alias {
        let (values, given) = (alias.columns.len(), columns.len());
        if alias.name.value == ROWS && !open && values != given {
            return Err(SqlError::plan(
                format!(
                    "the left side of `IN`, `ANY` or `ALL` has {values} {} and the subquery gives {given} {}; both need as many",
                    if values == 1 { "value" } else { "values" },
                    if given == 1 { "column" } else { "columns" },
                ),
                Location::of(alias.name.span),
            ));
        }
        if alias.name.value == ELEMENTS && !open && values != given {
            return Err(SqlError::plan(
                format!(
                    "`ARRAY(SELECT ..)` needs a subquery of one column, and this one gives {}; make them one: `ROW(a, b)`",
                    given + 1 - values.min(given)
                ),
                Location::of(alias.name.span),
            ));
        }
        rename(&mut columns, open, alias);
        name = Some(alias.name.value.clone());
    }
    Ok(Input { qualifier: name.clone(), name, columns, open, ..Input::default() })
}

pub(super) fn constraint_mut(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => Some(constraint),
        _ => None,
    }
}

/// The type of the ends of windows over a column.
fn window_type(time_type: Option<DataType>) -> Option<DataType> {
    time_type.map(|time_type| if time_type == DataType::Date32 { window::MIDNIGHT_TYPE } else { time_type })
}

/// Whether a join fills the columns of its left and of its right side with NULLs where nothing fits.
fn filled_sides(operator: &JoinOperator) -> (bool, bool) {
    match operator {
        JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => (false, true),
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => (true, false),
        JoinOperator::FullOuter(_) => (true, true),
        _ => (false, false),
    }
}

/// The condition of a join that merges columns once more, in full: the planner knows of pairs only. Nothing where it can tell.
pub(super) fn merged_again(constraint: &JoinConstraint, inputs: &[Input], right: usize) -> Option<Expr> {
    if !matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural) {
        return None;
    }
    let (left, right) = inputs.split_at(right);
    let names: Vec<&String> = right.iter().flat_map(|input| &input.merged).collect();
    if !left.iter().any(|input| names.iter().any(|name| input.merged.contains(name))) {
        return None;
    }
    let of = |inputs: &[Input], name: &String, own: bool| -> Option<Expr> {
        let has = |input: &&Input| match own {
            true => input.own_columns().any(|column| column.name == *name),
            false => input.columns.iter().any(|column| column.name == *name),
        };
        let qualifier = inputs.iter().find(has)?.qualifier.clone()?;
        Some(Expr::CompoundIdentifier(vec![Ident::with_quote('"', qualifier), Ident::with_quote('"', name)]))
    };
    let mut condition: Option<Expr> = None;
    for name in names {
        let same = Expr::BinaryOp {
            left: Box::new(of(left, name, true)?),
            op: BinaryOperator::Eq,
            right: Box::new(of(right, name, false)?),
        };
        condition = Some(match condition {
            None => same,
            Some(others) => Expr::BinaryOp { left: Box::new(others), op: BinaryOperator::And, right: Box::new(same) },
        });
    }
    condition
}
