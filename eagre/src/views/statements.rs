//! What statements do to the list of views.

use std::collections::BTreeSet;

use eagre_sql::catalog::{Catalog, Relation};
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

/// `DROP MATERIALIZED VIEW`; `false`: there is none, and that is fine.
pub(crate) fn drop(catalog: &mut Catalog, kept: &mut Vec<Kept>, drop: &Drop) -> Result<bool> {
    let at = drop.name.location();
    let name = drop.name.plain();
    match catalog.lookup(&drop.name) {
        Ok(Relation::View(view)) if view.materialized => {}
        Ok(Relation::View(_)) => {
            let message = format!("`{name}` is a view that is not materialized; write `DROP VIEW {name}`");
            return Err(SqlError::plan(message, at).into());
        }
        Ok(_) => {
            let message = format!("`{name}` is a table and no materialized view; write `DROP TABLE {name}`");
            return Err(SqlError::plan(message, at).into());
        }
        Err(_) if drop.if_exists => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let key = name.to_lowercase();
    let mut gone = dependents(kept, &key);
    let queries = kept
        .iter()
        .find(|kept| kept.view.is_none() && kept.reads.iter().any(|read| *read == key || gone.contains(read)));
    if let Some(query) = queries {
        let message = format!(
            "`{name}` is read by the running statement `{}`; stop that first",
            first_line(&query.statement.text)
        );
        return Err(SqlError::plan(message, at).into());
    }
    if !gone.is_empty() && !drop.cascade {
        let names: Vec<String> = gone.iter().map(|name| format!("`{name}`")).collect();
        let message = format!(
            "`{name}` is read by the materialized view{} {}; drop {} first, or write `DROP MATERIALIZED VIEW {name} CASCADE`",
            if names.len() == 1 { "" } else { "s" },
            names.join(", "),
            if names.len() == 1 { "it" } else { "them" },
        );
        return Err(SqlError::plan(message, at).into());
    }
    gone.insert(key);
    for name in &gone {
        let part = eagre_sql::parser::Name { text: name.clone(), quoted: false, location: at };
        let one =
            Drop { kind: DropKind::MaterializedView, if_exists: true, name: ObjectName(vec![part]), cascade: false };
        catalog.drop(&one)?;
    }
    kept.retain(|kept| kept.view.as_ref().is_none_or(|view| !gone.contains(view)));
    Ok(true)
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
