//! The output columns of a `SELECT`: each gets its name, and what is known of its type.

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, ExcludeSelectItem, Expr, Ident, ObjectName, SelectItem, SelectItemQualifiedWildcardKind, Spanned,
    WildcardAdditionalOptions,
};

use super::unnest::{is_unnest, is_unnest_call};
use super::{
    Aliases, Column, Input, Output, Resolver, Scope, find_column, last_ident_mut, object_idents, unknown_column,
    wildcard,
};
use crate::error::{Location, Result, SqlError, nearest};
use crate::parser::written::written;
use crate::planner::{predict, window};

impl Resolver<'_> {
    /// Gives each output column its name and returns them.
    pub(super) fn projection(
        &self,
        items: &mut Vec<SelectItem>,
        written: &[Option<String>],
        scope: &Scope,
    ) -> Result<Output> {
        let mut columns: Vec<Column> = vec![];
        let mut open = false;
        let mut written = written.to_vec();
        predict::number_answers(items, wildcard::all_columns(scope).map(|(_, column)| column.name.as_str()));
        wildcard::spell_out(items, &mut written, scope, &self.outer)?;
        for (item, written) in items.iter_mut().zip(&written) {
            match item {
                SelectItem::Wildcard(options) => {
                    open |= scope.inputs.iter().any(|input| input.open);
                    let all = scope.inputs.iter().flat_map(|input| input.shown_columns().cloned()).collect();
                    columns.extend(self.wildcard(options, all, scope)?);
                    hide(options, scope.inputs.iter().flat_map(|input| &input.hidden));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    let input = self.qualified_input(name, scope)?;
                    open |= input.open;
                    if let Some(qualifier) = &input.qualifier {
                        *name = ObjectName::from(vec![Ident::with_quote('"', qualifier)]);
                    }
                    let shown = input.columns.iter().filter(|column| !input.hidden.contains(&column.name)).cloned();
                    columns.extend(self.wildcard(options, shown.collect(), scope)?);
                    hide(options, input.hidden.iter());
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), _) => {
                    let hint = "it stands behind the name of a table, or of a column of type ROW";
                    return Err(SqlError::unsupported("`.*` after this expression", hint, Location::of(expr.span())));
                }
                SelectItem::ExprWithAliases { expr, .. } => {
                    return Err(SqlError::unsupported("several aliases of one column", "", Location::of(expr.span())));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let data_type = self.typed_expr(expr, scope)?;
                    columns.push(Column { name: alias.value.clone(), data_type });
                }
                SelectItem::UnnamedExpr(expr) => {
                    let one_column = !is_unnest_call(expr) || self.unnests_array(expr, scope)?;
                    let data_type = self.typed_expr(expr, scope)?;
                    if !one_column {
                        open = true;
                        continue;
                    }
                    let mut name = written.clone().unwrap_or_else(|| expr.to_string());
                    let plain = match &*expr {
                        Expr::Identifier(ident) => ident.value == name,
                        Expr::CompoundIdentifier(idents) => {
                            idents.len() == 2 && idents[1].value == name && self.is_qualifier(&idents[0], scope)
                        }
                        _ => false,
                    };
                    let taken = |name: &str| columns.iter().any(|column| column.name == name);
                    let repeated = taken(&name);
                    if repeated {
                        let number = (2..).find(|number| !taken(&format!("{name}_{number}")));
                        name = format!("{name}_{}", number.expect("there are always more numbers"));
                    }
                    if repeated || !plain {
                        let alias = Ident::with_quote('"', &name);
                        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                    }
                    columns.push(Column { name, data_type });
                }
            }
        }
        Ok((columns, open))
    }

    pub(super) fn is_qualifier(&self, ident: &Ident, scope: &Scope) -> bool {
        scope.inputs.iter().any(|input| input.qualifier.as_deref() == Some(&ident.value))
    }

    /// Resolves an expression; the type of the column or field that it is, or of the elements it unnests, where known.
    pub(super) fn typed_expr(&self, expr: &mut Expr, scope: &Scope) -> Result<Option<DataType>> {
        let data_type = self.type_of(expr, scope)?;
        self.expr(expr, scope, Aliases::None)?;
        Ok(data_type)
    }

    pub(super) fn type_of(&self, expr: &Expr, scope: &Scope) -> Result<Option<DataType>> {
        Ok(match expr {
            Expr::Identifier(ident) => self.idents(&mut [ident.clone()], scope, Aliases::None)?,
            Expr::CompoundIdentifier(idents) => self.idents(&mut idents.clone(), scope, Aliases::None)?,
            Expr::Function(function) if is_unnest(function) => match window::only_arg(function) {
                Some(arg) => match self.type_of(arg, scope)? {
                    Some(DataType::List(element)) => Some(element.data_type().clone()),
                    _ => None,
                },
                None => None,
            },
            _ => None,
        })
    }

    /// Whether an `unnest(..)` gives one column, whose name is ours; of a row it gives several, which the planner names.
    pub(super) fn unnests_array(&self, expr: &Expr, scope: &Scope) -> Result<bool> {
        let Expr::Function(function) = expr else {
            return Ok(false);
        };
        let Some(arg) = window::only_arg(function) else {
            return Ok(false);
        };
        Ok(match arg {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                !matches!(self.type_of(arg, scope)?, Some(DataType::Struct(_)))
            }
            _ => true,
        })
    }

    pub(super) fn wildcard(
        &self,
        options: &mut WildcardAdditionalOptions,
        mut columns: Vec<Column>,
        scope: &Scope,
    ) -> Result<Vec<Column>> {
        if options.opt_ilike.is_some() || options.opt_rename.is_some() || options.opt_alias.is_some() {
            let location = Location::of(options.wildcard_token.0.span);
            return Err(SqlError::unsupported("`ILIKE`, `RENAME` and aliases after `*`", "list the columns", location));
        }
        let mut drop = |ident: &mut Ident| -> Result<()> {
            let index = find_column(&columns, ident).ok_or_else(|| unknown_column(ident, scope))?;
            ident.value = columns.remove(index).name;
            Ok(())
        };
        match &mut options.opt_exclude {
            Some(ExcludeSelectItem::Single(name)) => drop(last_ident_mut(name)?)?,
            Some(ExcludeSelectItem::Multiple(names)) => {
                for name in names {
                    drop(last_ident_mut(name)?)?;
                }
            }
            None => {}
        }
        if let Some(except) = &mut options.opt_except {
            drop(&mut except.first_element)?;
            except.additional_elements.iter_mut().try_for_each(&mut drop)?;
        }
        if let Some(replace) = &mut options.opt_replace {
            for item in &mut replace.items {
                self.expr(&mut item.expr, scope, Aliases::None)?;
                let index =
                    find_column(&columns, &item.column_name).ok_or_else(|| unknown_column(&item.column_name, scope))?;
                item.column_name.value = columns[index].name.clone();
                columns[index].data_type = None;
            }
        }
        Ok(columns)
    }

    pub(super) fn qualified_input<'s>(&self, name: &ObjectName, scope: &'s Scope) -> Result<&'s Input> {
        let idents = object_idents(name)?;
        let spelled = idents.iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join(".");
        let exact = scope.inputs.iter().find(|input| input.name.as_deref() == Some(&spelled));
        let folded = spelled.to_lowercase();
        let input = exact.or_else(|| {
            scope.inputs.iter().find(|input| input.name.as_deref().is_some_and(|name| name.to_lowercase() == folded))
        });
        input.ok_or_else(|| SqlError::UnknownTable {
            nearest: nearest(&spelled, scope.inputs.iter().filter_map(|input| input.name.as_deref())),
            name: spelled,
            location: Location::of(name.span()),
        })
    }
}

/// The name that an output column without alias has: as written.
pub(super) fn written_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(ident.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents)) => idents.last().map(|ident| ident.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundFieldAccess { access_chain, .. })
            if let Some(AccessExpr::Dot(Expr::Identifier(field))) = access_chain.last() =>
        {
            Some(field.value.clone())
        }
        SelectItem::UnnamedExpr(expr) => Some(written(expr)),
        _ => None,
    }
}

/// Leaves columns out of a wildcard.
pub(super) fn hide<'h>(options: &mut WildcardAdditionalOptions, hidden: impl Iterator<Item = &'h String>) {
    let mut hidden: Vec<ObjectName> = hidden.map(|name| ObjectName::from(vec![Ident::with_quote('"', name)])).collect();
    if hidden.is_empty() {
        return;
    }
    match options.opt_exclude.take() {
        Some(ExcludeSelectItem::Single(name)) => hidden.push(name),
        Some(ExcludeSelectItem::Multiple(names)) => hidden.extend(names),
        None => {}
    }
    options.opt_exclude = Some(ExcludeSelectItem::Multiple(hidden));
}
