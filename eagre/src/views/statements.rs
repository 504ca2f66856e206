//! What statements do to the list of views.

use std::collections::BTreeSet;

use eagre_sql::catalog::{Catalog, Dependent, Relation};
use eagre_sql::error::SqlError;
use eagre_sql::parser::{CreateView, Drop, DropKind, ObjectName, Statement, StatementKind};
use eagre_sql::planner;

use super::Kept;
use crate::error::Result;

/// `CREATE [OR REPLACE] MATERIALIZED VIEW`; `false`: it is there already, and that is fine.
pub(crate) fn create(
    catalog: &mut Catalog,
    kept: &mut Vec<Kept>,
    number: usize,
    statement: &Statement,
    create: &CreateView,
) -> Result<bool> {
    let at = create.name.location();
    let name = create.name.plain();
    let key = name.to_lowercase();
    if let Some(option) = create.options.first() {
        let message = format!("materialized view `{name}` takes no options; leave out `WITH ('{}' = ..)`", option.key);
        return Err(SqlError::plan(message, option.key_location).into());
    }
    let existing = catalog.lookup(&create.name).ok();
    match &existing {
        Some(Relation::View(view)) if view.materialized && create.if_not_exists => return Ok(false),
        Some(Relation::View(view)) if !view.materialized && create.or_replace => {
            let message = format!("`{name}` is a view that is not materialized; `DROP VIEW {name}` first");
            return Err(SqlError::plan(message, at).into());
        }
        _ => {}
    }
    let reads: BTreeSet<String> =
        planner::views_read(catalog, &create.query)?.into_iter().map(|name| name.to_lowercase()).collect();
    let mut circle = dependents(kept, &key);
    circle.insert(key.clone());
    if let Some(through) = reads.iter().find(|read| circle.contains(*read)) {
        let message = match *through == key {
            true => format!("materialized view `{name}` would read itself"),
            false => format!("materialized view `{name}` would read itself through `{through}`, which reads it"),
        };
        return Err(SqlError::plan(message, at).into());
    }
    catalog.create_view(create)?;
    let new = Kept { number, statement: statement.clone(), catalog: catalog.clone(), view: Some(key.clone()), reads };
    kept.retain(|kept| kept.view.as_deref() != Some(&key));
    kept.push(new);
    *kept = in_order(std::mem::take(kept));
    Ok(true)
}

/// Refuses `DROP MATERIALIZED VIEW` of anything else.
pub(crate) fn check_materialized(catalog: &Catalog, name: &ObjectName) -> Result<()> {
    let message = match catalog.lookup(name) {
        Ok(Relation::View(view)) if !view.materialized => {
            format!("`{0}` is a view that is not materialized; write `DROP VIEW {0}`", name.plain())
        }
        Ok(Relation::Table(_)) => {
            format!("`{0}` is a table and no materialized view; write `DROP TABLE {0}`", name.plain())
        }
        // It is one, or not there, which dropping it tells.
        _ => return Ok(()),
    };
    Err(SqlError::plan(message, name.location()).into())
}

/// Refuses a `DROP` of what others need, which are given, unless they go too, and of views that a running statement reads.
pub(crate) fn check_drop(kept: &[Kept], drop: &Drop, dependents: &[Dependent]) -> Result<()> {
    let at = drop.name.location();
    let name = drop.name.plain();
    if !drop.cascade && !dependents.is_empty() {
        let message = format!(
            "`{name}` is read by {}; drop {} first, or write `DROP {} {name} CASCADE`",
            told(dependents),
            if dependents.len() == 1 { "it" } else { "them" },
            drop.kind.words(),
        );
        return Err(SqlError::plan(message, at).into());
    }
    let views =
        dependents.iter().filter(|one| one.kind == DropKind::MaterializedView).map(|one| one.name.to_lowercase());
    let own = (drop.kind == DropKind::MaterializedView).then(|| name.to_lowercase());
    let mut gone: BTreeSet<String> = views.chain(own).collect();
    gone.extend(gone.clone().iter().flat_map(|view| self::dependents(kept, view)));
    let query = kept.iter().find(|kept| kept.view.is_none() && !kept.reads.is_disjoint(&gone));
    if let Some(query) = query {
        let message = format!(
            "`{name}` is read by the running statement `{}`; stop that first",
            first_line(&query.statement.text)
        );
        return Err(SqlError::plan(message, at).into());
    }
    Ok(())
}

/// Objects, by kind.
fn told(dependents: &[Dependent]) -> String {
    let kinds =
        [(DropKind::View, "view"), (DropKind::MaterializedView, "materialized view"), (DropKind::Model, "model")];
    let told = kinds.into_iter().filter_map(|(kind, word)| {
        let names: Vec<String> =
            dependents.iter().filter(|one| one.kind == kind).map(|one| format!("`{}`", one.name)).collect();
        let plural = if names.len() == 1 { "" } else { "s" };
        (!names.is_empty()).then(|| format!("the {word}{plural} {}", names.join(", ")))
    });
    told.collect::<Vec<_>>().join(" and ")
}

/// `DROP MATERIALIZED VIEW` of a view that is there, with those that run over it.
pub(crate) fn drop(catalog: &mut Catalog, kept: &mut Vec<Kept>, drop: &Drop) -> Result<()> {
    let key = drop.name.plain().to_lowercase();
    let mut gone = dependents(kept, &key);
    gone.insert(key);
    for name in &gone {
        let part = eagre_sql::parser::Name { text: name.clone(), quoted: false, location: drop.name.location() };
        let one =
            Drop { kind: DropKind::MaterializedView, if_exists: true, name: ObjectName(vec![part]), cascade: false };
        catalog.drop(&one)?;
    }
    kept.retain(|kept| kept.view.as_ref().is_none_or(|view| !gone.contains(view)));
    Ok(())
}

/// An `INSERT` or `SELECT` that runs beside the views of its text.
pub(crate) fn query(number: usize, statement: Statement, catalog: Catalog) -> Result<Kept> {
    let query = match &statement.kind {
        StatementKind::Insert(insert) => Some(&insert.query),
        StatementKind::Query(query) => Some(query.as_ref()),
        _ => None,
    };
    let mut reads = BTreeSet::new();
    if let Some(query) = query {
        reads = planner::views_read(&catalog, query)?.into_iter().map(|name| name.to_lowercase()).collect();
    }
    if let StatementKind::StatementSet(statements) = &statement.kind {
        for statement in statements {
            reads.extend(self::query(number, statement.clone(), catalog.clone())?.reads);
        }
    }
    Ok(Kept { number, statement, catalog, view: None, reads })
}

/// Refuses to drop or replace what running views read.
pub(crate) fn check_unread(kept: &[Kept], catalog: &Catalog, name: &ObjectName) -> Result<()> {
    let Ok(Relation::Table(table)) = catalog.lookup(name) else { return Ok(()) };
    for kept in kept {
        let Some(query) = query_of(&kept.statement) else { continue };
        if planner::tables_read(&kept.catalog, query)?.contains(&table.definition.name) {
            let message = format!(
                "table `{}` is read by the materialized view `{}`; `DROP MATERIALIZED VIEW {1}` first",
                table.definition.name,
                kept.view.as_deref().unwrap_or_default()
            );
            return Err(SqlError::plan(message, name.location()).into());
        }
    }
    Ok(())
}

fn query_of(statement: &Statement) -> Option<&eagre_sql::parser::QueryText> {
    match &statement.kind {
        StatementKind::CreateView(create) => Some(&create.query),
        _ => None,
    }
}

/// The views that read a view, also through others.
fn dependents(kept: &[Kept], view: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut todo = vec![view.to_owned()];
    while let Some(name) = todo.pop() {
        for kept in kept.iter().filter(|kept| kept.reads.contains(&name)) {
            if let Some(view) = &kept.view
                && found.insert(view.clone())
            {
                todo.push(view.clone());
            }
        }
    }
    found
}

/// Each view behind those that it reads, queries behind all views; else in the order given.
pub(super) fn in_order(kept: Vec<Kept>) -> Vec<Kept> {
    let names: BTreeSet<String> = kept.iter().filter_map(|kept| kept.view.clone()).collect();
    let (mut waiting, mut ordered): (Vec<Kept>, Vec<Kept>) = (kept, Vec::new());
    let mut done: BTreeSet<String> = BTreeSet::new();
    while !waiting.is_empty() {
        let ready = |kept: &Kept, done: &BTreeSet<String>| {
            let views_done = done.len() == names.len();
            let reads_done = kept.reads.iter().all(|read| done.contains(read) || !names.contains(read));
            if kept.view.is_none() { views_done } else { reads_done }
        };
        let Some(next) = waiting.iter().position(|kept| ready(kept, &done)) else {
            // A circle, which planning tells.
            ordered.append(&mut waiting);
            break;
        };
        let next = waiting.remove(next);
        done.extend(next.view.clone());
        ordered.push(next);
    }
    ordered
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
