//! What the catalog tells of itself: `DESCRIBE`, `SHOW`.

use arrow::datatypes::{FieldRef, SchemaRef};
use eagre_engine::graph::{errors_schema, late_schema};

use super::Catalog;
use super::objects::Relation;
use super::table::ColumnKind;
use crate::error::Result;
use crate::parser::ObjectName;
use crate::planner;
use crate::types::sql_name;

impl Catalog {
    /// The names of all functions, with what kind each is.
    pub fn function_names(&self) -> Vec<(String, &'static str)> {
        let kind = |name: &str| {
            if self.sql_functions.contains_key(name) {
                "sql"
            } else if self.functions.aggregate.contains_key(name) {
                "aggregate"
            } else if self.functions.window.contains_key(name) {
                "window"
            } else {
                "scalar"
            }
        };
        let mut names: Vec<_> = self.functions.names().into_iter().map(|name| (name.to_string(), kind(name))).collect();
        let written = planner::WRITTEN_FUNCTIONS.iter().filter(|(name, _)| !self.functions.contains(name));
        names.extend(written.map(|(name, kind)| ((*name).to_string(), *kind)));
        let macros = planner::macros::names().filter(|name| !self.functions.contains(name));
        names.extend(
            macros.map(|name| (name.to_string(), if name.starts_with("count") { "aggregate" } else { "scalar" })),
        );
        names.sort_unstable();
        names
    }

    /// The columns of a table, view or pseudo-table, as a query sees them.
    ///
    /// # Errors
    /// Where a view no longer plans, because what it reads was dropped.
    pub fn relation_schema(&self, relation: &Relation) -> Result<SchemaRef> {
        Ok(match relation {
            Relation::Table(table) => table.definition.schema(),
            Relation::View(view) => planner::view_schema(self, view)?,
            Relation::Errors(_) | Relation::ViewErrors(_) | Relation::ModelErrors(_) => errors_schema(),
            Relation::ModelDrift(model) => planner::online::drift_schema(model)?,
            Relation::Late(_) => late_schema(),
        })
    }

    /// The rows of `DESCRIBE name`: name, type, nullability, role and comment of each column.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup) and [`relation_schema`](Self::relation_schema).
    pub fn describe(&self, name: &ObjectName) -> Result<Vec<ColumnDescription>> {
        let relation = self.lookup(name)?;
        let plain = |field: &FieldRef| ColumnDescription {
            name: field.name().clone(),
            data_type: sql_name(field.data_type()),
            nullable: field.is_nullable(),
            key: false,
            extra: String::new(),
            comment: None,
        };
        let Relation::Table(table) = &relation else {
            return Ok(self.relation_schema(&relation)?.fields().iter().map(plain).collect());
        };
        let definition = &table.definition;
        Ok(definition
            .columns
            .iter()
            .map(|column| {
                let mut extra = match &column.kind {
                    ColumnKind::Physical => vec![],
                    ColumnKind::Metadata { key, .. } => vec![format!("METADATA FROM '{key}'")],
                    ColumnKind::Computed(expr) => vec![format!("AS {}", expr.text)],
                };
                if let Some(watermark) = definition.watermark.as_ref().filter(|w| w.column == column.name) {
                    let expr = watermark.expr.as_ref().map_or(watermark.column.as_str(), |expr| &expr.text);
                    extra.push(format!("WATERMARK AS {expr}"));
                }
                ColumnDescription {
                    name: column.name.clone(),
                    data_type: column.type_name(),
                    nullable: column.nullable,
                    key: definition.primary_key.contains(&column.name),
                    extra: extra.join(" "),
                    comment: column.comment.clone(),
                }
            })
            .collect())
    }

    /// The text of `SHOW CREATE TABLE name` or `SHOW CREATE VIEW name`.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub fn show_create(&self, name: &ObjectName) -> Result<String> {
        Ok(match self.lookup(name)? {
            Relation::Table(table) | Relation::Errors(table) | Relation::Late(table) => {
                table.definition.create_statement()
            }
            Relation::View(view) | Relation::ViewErrors(view) => view.create_statement(),
            Relation::ModelDrift(model) | Relation::ModelErrors(model) => model.definition.text.clone(),
        })
    }
}

/// One row of `DESCRIBE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDescription {
    /// The column's name.
    pub name: String,
    /// Its type, as SQL writes it.
    pub data_type: String,
    /// Whether it may hold nulls.
    pub nullable: bool,
    /// Whether it is part of the primary key.
    pub key: bool,
    /// Computed, metadata and watermark clauses.
    pub extra: String,
    /// `COMMENT`.
    pub comment: Option<String>,
}
