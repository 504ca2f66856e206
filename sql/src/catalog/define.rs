//! Definitions: what `CREATE` and `DROP` change.

use std::sync::Arc;

use arrow::datatypes::DataType;
use eagre_engine::model::ModelSlot;
use eagre_engine::sink::SinkFactory;
use eagre_engine::source::Source;

use super::objects::{CatalogModel, ModelDefinition, Table, View};
use super::provider::InferredTable;
use super::table::{
    ColumnDefinition, ColumnKind, OPTION_ALLOWED_LATENESS, OPTION_BAD_ROWS, OPTION_CHANGELOG_CHECK,
    OPTION_IDLE_TIMEOUT, TableDefinition, WatermarkDefinition,
};
use super::{Catalog, ObjectKind};
use crate::error::{Location, Result, SqlError, nearest};
use crate::parser::{
    ColumnKind as AstColumnKind, CreateFunction, CreateModel, CreateTable, CreateView, Drop, DropKind, Name,
};
use crate::planner;
use crate::planner::function::SqlFunction;
use crate::planner::online::OnlineQuery;
use crate::types::is_marked;

impl Catalog {
    /// Adds a table whose data comes from code: what is `None` comes from the provider.
    ///
    /// # Errors
    /// Where the name is taken or the definition does not hold.
    pub fn register_table(
        &mut self,
        mut definition: TableDefinition,
        source: Option<Arc<dyn Source>>,
        sink: Option<Arc<dyn SinkFactory>>,
    ) -> Result<()> {
        self.check_free(&definition.name, definition.location)?;
        self.complete(&mut definition)?;
        let key = definition.name.to_lowercase();
        let table = Table { attached: source.is_some() || sink.is_some(), ..Table::new(definition) };
        if let Some(source) = source {
            let _ = table.source.set(source);
        }
        if let Some(sink) = sink {
            let _ = table.sink.set(sink);
        }
        self.tables.insert(key, Arc::new(table));
        Ok(())
    }

    /// `CREATE TABLE`, `CREATE SOURCE`, `CREATE SINK`. Of `CREATE TABLE .. AS` only the table is created.
    ///
    /// # Errors
    /// Names that are taken or unknown, types that do not fit, expressions that do not plan.
    pub fn create_table(&mut self, create: &CreateTable) -> Result<()> {
        let name = self.object_key(&create.name)?;
        if self.exists(&name) {
            if create.if_not_exists {
                return Ok(());
            }
            if !(create.or_replace && self.tables.contains_key(&name.to_lowercase())) {
                self.check_free(&name, Some(create.name.location()))?;
            }
        }
        let written_out = create.like.as_ref().map(|like| self.written_out(create, like)).transpose()?;
        let create = written_out.as_ref().unwrap_or(create);
        let mut definition = TableDefinition {
            name: name.clone(),
            role: create.role,
            columns: vec![],
            watermark: None,
            primary_key: vec![],
            partitioned_by: vec![],
            options: create.options.clone(),
            comment: create.comment.clone(),
            inferred: false,
            location: Some(create.name.location()),
        };
        for column in &create.columns {
            if definition.column_index(&column.name).is_some() {
                return Err(SqlError::AlreadyExists {
                    kind: "column",
                    name: column.name.text.clone(),
                    location: Some(column.name.location),
                });
            }
            let (data_type, nullable, kind) = match &column.kind {
                AstColumnKind::Physical { data_type, not_null } => (data_type.clone(), !not_null, ColumnKind::Physical),
                AstColumnKind::Metadata { data_type, not_null, key, is_virtual } => {
                    let key = key.clone().unwrap_or_else(|| column.name.text.clone());
                    (data_type.clone(), !not_null, ColumnKind::Metadata { key, is_virtual: *is_virtual })
                }
                // Its type is known when all other columns are.
                AstColumnKind::Computed { expr } => {
                    (DataType::Null, true, ColumnKind::Computed(Box::new(expr.clone())))
                }
            };
            let comment = column.comment.clone();
            definition.columns.push(ColumnDefinition {
                name: column.name.text.clone(),
                data_type,
                is_json: column.is_json,
                nullable,
                kind,
                default: column.default.clone().map(Box::new),
                comment,
            });
        }
        let physical = definition.columns.iter().any(|column| matches!(column.kind, ColumnKind::Physical));
        if !physical {
            let inferred = match &create.query {
                Some(query) => InferredTable { schema: planner::query_schema(self, query)?, partitioned_by: vec![] },
                None => self.provider.infer_schema(&definition)?,
            };
            definition.partitioned_by = inferred.partitioned_by;
            let inferred = inferred.schema.fields().iter().map(|field| ColumnDefinition {
                name: field.name().clone(),
                data_type: match field.data_type() {
                    // A table holds what is taken out of a JSON text as a text.
                    DataType::Union(..) => DataType::Utf8View,
                    other => other.clone(),
                },
                is_json: is_marked(field),
                nullable: field.is_nullable(),
                kind: ColumnKind::Physical,
                default: None,
                comment: None,
            });
            definition.columns.splice(0..0, inferred.collect::<Vec<_>>());
            definition.inferred = true;
        }
        definition.primary_key = match &create.primary_key {
            Some(key) => self.own_columns(&definition, &key.columns)?,
            None => vec![],
        };
        if !create.partitioned_by.is_empty() {
            definition.partitioned_by = self.own_columns(&definition, &create.partitioned_by)?;
        }
        if let Some(watermark) = &create.watermark {
            let column = self.own_columns(&definition, std::slice::from_ref(&watermark.column))?.remove(0);
            definition.watermark =
                Some(WatermarkDefinition { column, expr: watermark.expr.clone(), location: Some(watermark.location) });
        }
        self.complete(&mut definition)?;
        self.provider.check(&definition)?;
        self.tables.insert(name.to_lowercase(), Arc::new(Table::new(definition)));
        Ok(())
    }

    /// Has the data behind a table looked up anew by those who read it from now on; clones of this catalog keep what they know.
    pub fn renew(&mut self, table: &Table) {
        if !table.attached {
            let definition = table.definition.clone();
            self.tables.insert(definition.name.to_lowercase(), Arc::new(Table::new(definition)));
        }
    }

    /// Plans what a definition computes: the types of computed columns, and whether the watermark is one.
    fn complete(&self, definition: &mut TableDefinition) -> Result<()> {
        let source_schema = definition.computing_schema();
        for index in 0..definition.columns.len() {
            let ColumnKind::Computed(expr) = &definition.columns[index].kind else {
                continue;
            };
            let field = planner::expr_field(self, expr, &source_schema)?;
            definition.columns[index].data_type = field.data_type().clone();
            definition.columns[index].is_json = is_marked(&field);
            definition.columns[index].nullable = field.is_nullable();
        }
        for column in &definition.columns {
            planner::check_default(self, column, &definition.name)?;
        }
        planner::watermark_spec(self, definition)?;
        definition.duration_option_ms(OPTION_ALLOWED_LATENESS)?;
        definition.duration_option_ms(OPTION_IDLE_TIMEOUT)?;
        if let Some(option) = definition.option(OPTION_CHANGELOG_CHECK)
            && !matches!(option.value.as_str(), "true" | "false")
        {
            return Err(SqlError::InvalidOption {
                owner: format!("`{}`", definition.name),
                option: option.key.clone(),
                value: option.value.clone(),
                message:
                    "it is 'true' (a row that is taken back and was never there goes to `<table>.errors`) or 'false'"
                        .into(),
                location: Some(option.value_location),
            });
        }
        match definition.option(OPTION_BAD_ROWS) {
            Some(option) if !matches!(option.value.as_str(), "collect" | "fail" | "skip") => {
                Err(SqlError::InvalidOption {
                    owner: format!("`{}`", definition.name),
                    option: option.key.clone(),
                    value: option.value.clone(),
                    message: "it is 'collect' (to `<table>.errors`; 'skip' says the same) or 'fail'".into(),
                    location: Some(option.value_location),
                })
            }
            _ => Ok(()),
        }
    }

    fn own_columns(&self, definition: &TableDefinition, names: &[Name]) -> Result<Vec<String>> {
        let find = |name: &Name| match definition.column_index(name) {
            Some(index) => Ok(definition.columns[index].name.clone()),
            None => Err(SqlError::UnknownColumn {
                name: name.text.clone(),
                nearest: nearest(&name.text, definition.columns.iter().map(|column| column.name.as_str())),
                location: Some(name.location),
            }),
        };
        names.iter().map(find).collect()
    }

    /// `CREATE VIEW`. The query is planned once, so that a view that cannot be is an error now.
    ///
    /// # Errors
    /// A name that is taken, a query that does not plan, a number of column names that does not fit.
    pub fn create_view(&mut self, create: &CreateView) -> Result<()> {
        let name = self.object_key(&create.name)?;
        if self.exists(&name) {
            if create.if_not_exists {
                return Ok(());
            }
            if !(create.or_replace && self.views.contains_key(&name.to_lowercase())) {
                self.check_free(&name, Some(create.name.location()))?;
            }
        }
        let schema = planner::query_schema(self, &create.query)?;
        if !create.materialized {
            planner::check_emit_of_view(self, &name, &create.query)?;
        }
        if !create.columns.is_empty() && create.columns.len() != schema.fields().len() {
            return Err(SqlError::plan(
                format!(
                    "view `{name}` names {} columns, but its query has {}",
                    create.columns.len(),
                    schema.fields().len()
                ),
                create.columns[0].location,
            ));
        }
        let view = View {
            name: name.clone(),
            columns: create.columns.iter().map(|column| column.text.clone()).collect(),
            query: create.query.clone(),
            comment: create.comment.clone(),
            materialized: create.materialized,
        };
        self.views.insert(name.to_lowercase(), Arc::new(view));
        Ok(())
    }

    /// `CREATE FUNCTION`.
    ///
    /// # Errors
    /// A name that is taken, a body that does not plan over the arguments or cannot be cast to the stated type.
    pub fn create_function(&mut self, create: &CreateFunction) -> Result<()> {
        let name = self.object_key(&create.name)?;
        let key = name.to_lowercase();
        if self.functions.contains(&key) {
            if create.if_not_exists {
                return Ok(());
            }
            if !(create.or_replace && self.sql_functions.contains_key(&key)) {
                return Err(SqlError::AlreadyExists { kind: "function", name, location: Some(create.name.location()) });
            }
        }
        let function = SqlFunction::plan(self, &key, create)?;
        Arc::make_mut(&mut self.functions).scalar.insert(key.clone(), Arc::new(function.udf()));
        self.sql_functions.insert(key, Arc::new(function));
        Ok(())
    }

    /// `CREATE MODEL` of a file, or with the model that was trained for it. `OR REPLACE` exchanges the model for all who ask it. Gives whether
    /// there is another one now.
    ///
    /// # Errors
    /// A name that is taken; a model that cannot be had; one that cannot take the place of another.
    pub fn create_model(&mut self, mut definition: ModelDefinition, create: &CreateModel) -> Result<bool> {
        let name = self.object_key(&create.name)?;
        let key = name.to_lowercase();
        let known = self.models.get(&key).cloned();
        if !self.creates_model(create)? {
            return Ok(false);
        }
        let online = match &create.query {
            Some(query) if definition.is_online() => Some(OnlineQuery::of(self, &mut definition, query)?),
            _ => None,
        };
        let (model, history) = self.provider.model(&definition)?;
        // Materialized views are begun later than they are made, and go on with what the name means then. One that learns cannot be exchanged,
        // which the slot tells.
        let has_views = self.views.values().any(|view| view.materialized);
        let slot = match known {
            Some(known) if has_views || known.slot.is_asked() || known.slot.current().online().is_some() => {
                known.slot.replace(model).map_err(|error| SqlError::plan(error.to_string(), definition.location))?;
                Arc::clone(&known.slot)
            }
            known => {
                let slot = match known {
                    Some(known) => known.slot.successor(model),
                    None => ModelSlot::new(&name, model),
                };
                Arc::new(match history {
                    Some(history) => slot.with_history(history),
                    None => slot,
                })
            }
        };
        self.models.insert(key, Arc::new(CatalogModel { definition, slot, online }));
        Ok(true)
    }

    /// Whether `CREATE MODEL` makes a model, or leaves the one that there is.
    ///
    /// # Errors
    /// The name is taken.
    pub fn creates_model(&self, create: &CreateModel) -> Result<bool> {
        let name = self.object_key(&create.name)?;
        match self.models.contains_key(&name.to_lowercase()) {
            true if create.if_not_exists => Ok(false),
            true if !create.or_replace => {
                Err(SqlError::AlreadyExists { kind: "model", name, location: Some(create.name.location()) })
            }
            _ => Ok(true),
        }
    }

    /// `DROP ..`. `DROP TABLE` drops sources and sinks too.
    ///
    /// # Errors
    /// A name that does not exist, without `IF EXISTS`, and one of another kind.
    pub fn drop(&mut self, drop: &Drop) -> Result<()> {
        let name = drop.name.plain();
        let key = name.to_lowercase();
        let location = Some(drop.name.location());
        if drop.kind == DropKind::Function {
            if self.sql_functions.remove(&key).is_some() {
                Arc::make_mut(&mut self.functions).scalar.remove(&key);
            } else if !drop.if_exists {
                let nearest = nearest(&name, self.sql_functions.keys().map(String::as_str));
                return Err(SqlError::UnknownFunction { name, nearest, location });
            }
            return Ok(());
        }
        if drop.kind == DropKind::Model {
            // Pipelines that ask it go on with it.
            return match self.models.remove(&key) {
                None if !drop.if_exists => self.model(&name, false, location).map(|_| ()),
                _ => Ok(()),
            };
        }
        let kind = match drop.kind {
            DropKind::Source => ObjectKind::Source,
            DropKind::Sink => ObjectKind::Sink,
            DropKind::View | DropKind::MaterializedView => ObjectKind::View,
            DropKind::Table | DropKind::Function | DropKind::Model => ObjectKind::Table,
        };
        match self.kind_of(&key) {
            Some(found) if found == kind || (kind == ObjectKind::Table && found != ObjectKind::View) => {
                self.tables.remove(&key);
                self.views.remove(&key);
                Ok(())
            }
            Some(found) => {
                let materialized = self.views.get(&key).is_some_and(|view| view.materialized);
                let found = if materialized { "materialized view" } else { found.word() };
                let message = format!(
                    "`{name}` is a {found}: `DROP {}` does not drop it, `DROP {} {name}` does",
                    drop.kind.words(),
                    found.to_uppercase()
                );
                Err(SqlError::plan(message, location))
            }
            None if drop.if_exists => Ok(()),
            None if kind == ObjectKind::Table => {
                Err(SqlError::UnknownTable { nearest: self.nearest_relation(&name), name, location })
            }
            None => {
                let alike = self.tables.keys().chain(self.views.keys()).filter(|key| self.kind_of(key) == Some(kind));
                let nearest = nearest(&name, alike.map(String::as_str));
                Err(SqlError::UnknownObject { kind: kind.word(), name, nearest, location })
            }
        }
    }

    fn check_free(&self, name: &str, location: Option<Location>) -> Result<()> {
        let key = name.to_lowercase();
        let kind = match (self.tables.contains_key(&key), self.views.contains_key(&key)) {
            (true, _) => "table",
            (_, true) => "view",
            _ => return Ok(()),
        };
        Err(SqlError::AlreadyExists { kind, name: name.to_string(), location })
    }
}
