//! Which column a name means: of the inputs, of the output, or of a query around.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, Ident, ObjectName, Spanned, visit_expressions_mut};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::expr::Found;
use super::from::{NAMELESS, NAMELESS_MATCH};
use super::{Aliases, Column, Input, Resolver, Scope};
use crate::error::{Location, Result, SqlError, nearest};
use crate::planner::rows::{self, or};
use crate::planner::window::{self, WINDOW_PLACEHOLDERS};

impl Resolver<'_> {
    /// Writes the catalog's spelling into `a`, `t.a`, `t.a.field`, `a.field`; the type of what they name, where known.
    pub(super) fn idents(&self, idents: &mut [Ident], scope: &Scope, aliases: Aliases) -> Result<Option<DataType>> {
        let first = &idents[0];
        if let Some(part) = WINDOW_PLACEHOLDERS.iter().position(|placeholder| *placeholder == first.value) {
            let names = scope.inputs.iter().find_map(|input| input.window.as_ref());
            let names = names.ok_or_else(|| SqlError::internal("a group window without its window function"))?;
            idents[0].value = names[part].clone();
            return Ok(None);
        }
        let is_alias = |exact: bool| {
            aliases != Aliases::None
                && idents.len() == 1
                && scope.aliases.iter().any(|alias| match exact {
                    true => *alias == idents[0].value,
                    false => idents[0].quote_style.is_none() && alias.to_lowercase() == idents[0].value.to_lowercase(),
                })
        };
        if aliases == Aliases::BeforeColumns && is_alias(true) {
            return Ok(None);
        }
        let is_around = |found: &Found, outer: &[Scope]| {
            let may_be = idents.len() > 1 && found.qualifiers == 0 && found.has_no_fields();
            may_be && self.is_qualified_around(idents, outer)
        };
        let found = match self.column(idents, scope, true) {
            // Of several columns of the name the one that is shown is meant.
            Err(_) if aliases == Aliases::BehindOutput && is_alias(true) => return Ok(None),
            found => found?,
        };
        if let Some(found) = found.filter(|found| !is_around(found, &self.outer)) {
            self.write_out_merged(&found, idents, scope);
            self.tell_from_output(&found, idents, scope, aliases);
            return Ok(found.apply(idents));
        }
        if is_alias(true) {
            return Ok(None);
        }
        if (matches!(aliases, Aliases::AfterColumns | Aliases::BehindOutput) || !is_alias(false))
            && let Some(found) = self.column(idents, scope, false)?.filter(|found| !is_around(found, &self.outer))
        {
            self.write_out_merged(&found, idents, scope);
            self.tell_from_output(&found, idents, scope, aliases);
            return Ok(found.apply(idents));
        }
        if is_alias(false) {
            let folded = idents[0].value.to_lowercase();
            let alias = scope.aliases.iter().find(|alias| alias.to_lowercase() == folded);
            idents[0].value = alias.expect("`is_alias` found it").clone();
            return Ok(None);
        }
        for (around, outer) in self.outer.iter().enumerate().rev() {
            for exact in [true, false] {
                let found = self.column(idents, outer, exact)?;
                if let Some(found) = found.filter(|found| !is_around(found, &self.outer[..around])) {
                    self.read_around.borrow_mut().insert(around);
                    if found.qualifiers + 1 < idents.len() {
                        return Ok(self.field_of_outer(found, idents));
                    }
                    match found.input.value_of(&found.column).filter(|_| found.qualifiers == 0) {
                        Some(value) => drop(self.written_out.replace(Some(value.clone()))),
                        None if found.qualifiers == 0 && idents.len() == 1 => self.qualify(&found, &idents[0]),
                        None => {}
                    }
                    return Ok(found.apply(idents));
                }
            }
        }
        let scopes = || std::iter::once(scope).chain(self.outer.iter().rev());
        if let [ident] = &*idents
            && let Some(row) = scopes().find_map(|scope| whole_row(ident, scope))
        {
            self.written_out.replace(Some(row));
            return Ok(None);
        }
        if scopes().flat_map(|scope| &scope.inputs).any(|input| input.open) {
            return Ok(None);
        }
        Err(unknown_idents(idents, scope))
    }

    /// A field of a row of a query around, as an access to it: the planner knows columns of queries around, and no fields of such. The name is spelled
    /// and written out.
    fn field_of_outer(&self, found: Found, idents: &mut [Ident]) -> Option<DataType> {
        let column = found.qualifiers;
        let qualifier = found.input.qualifier.clone();
        let value = found.input.value_of(&found.column).filter(|_| column == 0).cloned();
        let data_type = found.apply(idents);
        let quoted = |ident: &Ident| Ident::with_quote_and_span('"', ident.span, &ident.value);
        let root = value.unwrap_or_else(|| match qualifier {
            Some(qualifier) => {
                Expr::CompoundIdentifier(vec![Ident::with_quote('"', qualifier), quoted(&idents[column])])
            }
            None => Expr::Identifier(quoted(&idents[column])),
        });
        let fields = idents[column + 1..].iter().map(|field| AccessExpr::Dot(Expr::Identifier(quoted(field))));
        let written =
            Expr::CompoundFieldAccess { root: Box::new(Expr::Nested(Box::new(root))), access_chain: fields.collect() };
        self.written_out.replace(Some(written));
        // All of the name is in what is written out.
        idents[1..].iter_mut().for_each(|ident| ident.value.clear());
        data_type
    }

    /// Whether a query further out has a table and a column of it that a name with a qualifier means, so that a column of the name of the table,
    /// nearer by, is not meant.
    fn is_qualified_around(&self, idents: &[Ident], outer: &[Scope]) -> bool {
        let is_qualified =
            |outer: &Scope, exact| matches!(self.column(idents, outer, exact), Ok(Some(found)) if found.qualifiers > 0);
        let found = outer.iter().any(|outer| is_qualified(outer, true) || is_qualified(outer, false));
        if found {
            self.shadowed.found.borrow_mut().insert(idents[0].value.to_lowercase());
        }
        found
    }

    /// A column that a join made of two is written as what it is. Where that is left to the planner, a column that more than two inputs merge is
    /// ambiguous to it, which knows of pairs only: it gets its qualifier.
    pub(super) fn write_out_merged(&self, found: &Found, idents: &[Ident], scope: &Scope) {
        if found.qualifiers > 0 {
            return;
        }
        if let Some(value) = found.input.value_of(&found.column) {
            self.written_out.replace(Some(value.clone()));
            return;
        }
        let merged = scope.inputs.iter().filter(|input| input.merged.contains(&found.column.name)).count();
        if merged > 1 && idents.len() == 1 {
            self.qualify(found, &idents[0]);
        }
    }

    /// The text of an expression whose names are resolved, the same however its columns are qualified.
    pub(super) fn qualified_text(&self, expr: &Expr, scope: &Scope) -> String {
        if let Expr::Nested(inner) = expr {
            return self.qualified_text(inner, scope);
        }
        let mut expr = expr.clone();
        let _ = visit_expressions_mut(&mut expr, |part| {
            let ident = match part {
                Expr::Identifier(ident) => ident.clone(),
                Expr::CompoundIdentifier(idents) => {
                    idents.iter_mut().for_each(|ident| ident.quote_style = None);
                    return ControlFlow::<()>::Continue(());
                }
                _ => return ControlFlow::Continue(()),
            };
            if let Ok(Some(Found { input: Input { qualifier: Some(qualifier), .. }, column, .. })) =
                self.column(std::slice::from_ref(&ident), scope, true)
            {
                *part = Expr::CompoundIdentifier(vec![Ident::new(qualifier), Ident::new(column.name)]);
            }
            ControlFlow::Continue(())
        });
        expr.to_string()
    }

    /// The planner takes a name without qualifier that an output column has for that one.
    fn tell_from_output(&self, found: &Found, idents: &[Ident], scope: &Scope, aliases: Aliases) {
        if let [ident] = idents
            && aliases == Aliases::BehindOutput
            && scope.computed.contains(&found.column.name)
            && self.written_out.borrow().is_none()
        {
            self.qualify(found, ident);
        }
    }

    pub(super) fn qualify(&self, found: &Found, ident: &Ident) {
        if let Some(qualifier) = &found.input.qualifier {
            let column = Ident::with_quote_and_span('"', ident.span, &found.column.name);
            let written = Expr::CompoundIdentifier(vec![Ident::with_quote('"', qualifier), column]);
            self.written_out.replace(Some(written));
        }
    }

    /// Finds a column, with or without qualifier, exactly or ignoring case.
    pub(super) fn column(&self, idents: &[Ident], scope: &Scope, exact: bool) -> Result<Option<Found>> {
        let same = |ident: &Ident, name: &str| match exact {
            true => ident.value == name,
            false => ident.quote_style.is_none() && ident.value.to_lowercase() == name.to_lowercase(),
        };
        // With a qualifier first: `t.a` is column `a` of `t` also where a column `t` has a field `a`.
        for prefix in 1..idents.len() {
            let spelled = idents[..prefix].iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join(".");
            let folded = spelled.to_lowercase();
            for input in &scope.inputs {
                // A qualifier may differ in case also where the column does not.
                let Some(name) = input.name.as_ref().filter(|name| name.to_lowercase() == folded) else {
                    continue;
                };
                let quoted = idents[..prefix].iter().any(|ident| ident.quote_style.is_some());
                if quoted && *name != spelled {
                    continue;
                }
                if let Some(column) = input.columns.iter().find(|column| same(&idents[prefix], &column.name)) {
                    return Ok(Some(Found { qualifiers: prefix, input: input.clone(), column: column.clone() }));
                }
            }
        }
        let mut found = scope.inputs.iter().flat_map(|input| {
            input.own_columns().filter(|column| same(&idents[0], &column.name)).map(move |column| (input, column))
        });
        let Some((input, column)) = found.next() else {
            return Ok(None);
        };
        if let Some((other_input, other)) = found.next() {
            let place = |input: &Input, column: &Column| match &input.name {
                Some(name) if name.starts_with(NAMELESS) => {
                    format!("that of a subquery, which needs a name: `(SELECT ..) AS q` and `q.{}`", column.name)
                }
                Some(name) if name.starts_with(NAMELESS_MATCH) => {
                    format!(
                        "that of a pattern, which needs a name: `MATCH_RECOGNIZE (..) AS m` and `m.{}`",
                        column.name
                    )
                }
                Some(name) => format!("`{name}.{}`", column.name),
                None => format!("`{}`", column.name),
            };
            let (first, second) = (place(input, column), place(other_input, other));
            // `(SELECT 1 AS k, 2 AS k) AS q`.
            let of_one_query = first == second && first.starts_with('`');
            let which = match of_one_query {
                true => format!("the query gives two columns named {first}; give one of them another name there"),
                false => format!("it may be {first} or {second}"),
            };
            return Err(SqlError::plan(
                format!("column `{}` is ambiguous: {which}", idents[0].value),
                Location::of(idents[0].span),
            ));
        }
        Ok(Some(Found { qualifiers: 0, input: input.clone(), column: column.clone() }))
    }
}

/// The name of a table in the place of a value: its row. Of a function that gives a `value` for each row (`jsonb_array_elements(j) AS x`), that is the value
/// itself.
fn whole_row(ident: &Ident, scope: &Scope) -> Option<Expr> {
    let folded = ident.value.to_lowercase();
    let is_meant = |input: &&Input| match &input.name {
        Some(name) if ident.quote_style.is_some() => *name == ident.value,
        Some(name) => name.to_lowercase() == folded,
        None => false,
    };
    row_of(scope.inputs.iter().find(is_meant)?, ident.span)
}

/// The row of a table, whose columns are written at `span`.
pub(super) fn row_of(input: &Input, span: Span) -> Option<Expr> {
    let values = values_of(input, span)?;
    if let [(name, value)] = values.as_slice()
        && *name == "value"
    {
        return Some(value.clone());
    }
    let fields = values.iter().flat_map(|(name, value)| [window::string(name), value.clone()]);
    let row = window::call("named_struct", fields.collect());
    if !input.filled {
        return Some(row);
    }
    // Where nothing fits there is no row.
    let known = values.into_iter().map(|(_, value)| Expr::IsNotNull(Box::new(value))).reduce(or)?;
    Some(rows::where_known(known, row))
}

/// The columns that a table shows, by name, written at `span`; none where they are not known.
pub(super) fn values_of(input: &Input, span: Span) -> Option<Vec<(&str, Expr)>> {
    if input.open || input.columns.is_empty() || !input.values.is_empty() {
        return None;
    }
    let value = |column: &Column| {
        let name = Ident::with_quote_and_span('"', span, &column.name);
        match input.qualifier.as_ref().filter(|_| !input.bare.contains(&column.name)) {
            Some(qualifier) => Expr::CompoundIdentifier(vec![Ident::with_quote('"', qualifier), name]),
            None => Expr::Identifier(name),
        }
    };
    let shown = input.columns.iter().filter(|column| !input.hidden.contains(&column.name));
    Some(shown.map(|column| (column.name.as_str(), value(column))).collect())
}

pub(super) fn find_column(columns: &[Column], ident: &Ident) -> Option<usize> {
    let exact = columns.iter().position(|column| column.name == ident.value);
    let folded = ident.value.to_lowercase();
    exact.or_else(|| {
        columns.iter().position(|column| ident.quote_style.is_none() && column.name.to_lowercase() == folded)
    })
}

pub(super) fn unknown_column(ident: &Ident, scope: &Scope) -> SqlError {
    unknown_idents(std::slice::from_ref(ident), scope)
}

pub(super) fn unknown_idents(idents: &[Ident], scope: &Scope) -> SqlError {
    let name = idents.iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join(".");
    let columns = || scope.inputs.iter().flat_map(|input| &input.columns).map(|column| column.name.as_str());
    let last = &idents[idents.len() - 1].value;
    let names = columns().chain(scope.aliases.iter().map(String::as_str));
    SqlError::UnknownColumn { nearest: nearest(last, names), name, location: Location::of(idents[0].span) }
}

pub(super) fn object_idents(name: &ObjectName) -> Result<Vec<Ident>> {
    let part = |part: &datafusion::sql::sqlparser::ast::ObjectNamePart| match part.as_ident() {
        Some(ident) => Ok(ident.clone()),
        None => Err(SqlError::unsupported("a computed name", "", Location::of(name.span()))),
    };
    name.0.iter().map(part).collect()
}

pub(super) fn last_ident_mut(name: &mut ObjectName) -> Result<&mut Ident> {
    match name.0.last_mut() {
        Some(datafusion::sql::sqlparser::ast::ObjectNamePart::Identifier(ident)) => Ok(ident),
        _ => Err(SqlError::unsupported("a computed name", "", None)),
    }
}
