//! Models of a session: files read, models listed.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use eagre_engine::model::Model;
use eagre_models::{Definition, ModelError, OPTIONS};
use eagre_sql::catalog::{CatalogModel, ModelDefinition};
use eagre_sql::error::{Result, SqlError};
use eagre_sql::types::sql_name;

use crate::session::table;

/// What the room of models is told.
fn definition(model: &ModelDefinition) -> Definition {
    Definition {
        name: model.name.clone(),
        input: model.input.clone(),
        output: model.output.clone(),
        options: model.options.iter().map(|option| (option.key.clone(), option.value.clone())).collect(),
    }
}

/// An error with the place of the option that is at fault.
fn placed(model: &ModelDefinition, error: &ModelError) -> SqlError {
    let option = error.option().and_then(|key| model.option(key));
    SqlError::plan(error.to_string(), option.map(|option| option.key_location).or(model.location))
}

/// Reads the file of a model and makes the model of it.
///
/// # Errors
/// A file that is not there; all that is wrong with the model.
pub(crate) fn open(model: &ModelDefinition) -> Result<Arc<dyn Model>> {
    let definition = definition(model);
    eagre_models::check(&definition).map_err(|error| placed(model, &error))?;
    let path = definition.path().map_err(|error| placed(model, &error))?;
    let bytes = std::fs::read(path).map_err(|error| {
        let location = model.option("path").map(|option| option.value_location);
        SqlError::plan(format!("model `{}`: '{path}' cannot be read: {error}", model.name), location.or(model.location))
    })?;
    eagre_models::open(&definition, &bytes).map_err(|error| placed(model, &error))
}

fn columns(schema: &Schema) -> String {
    let column = |(name, data_type): (&String, &DataType)| format!("{name} {}", sql_name(data_type));
    schema.fields().iter().map(|field| column((field.name(), field.data_type()))).collect::<Vec<_>>().join(", ")
}

/// `SHOW MODELS`.
pub(crate) fn list<'a>(models: impl Iterator<Item = &'a CatalogModel>) -> crate::Result<RecordBatch> {
    let models: Vec<(&CatalogModel, Arc<dyn Model>)> = models.map(|model| (model, model.slot.current())).collect();
    let text = |read: &dyn Fn(&CatalogModel, &dyn Model) -> String| -> Vec<Option<String>> {
        models.iter().map(|(known, model)| Some(read(known, model.as_ref()))).collect()
    };
    table(&[
        ("model", text(&|known, _| known.definition.name.clone())),
        ("kind", text(&|_, model| model.describe())),
        ("input", text(&|_, model| columns(model.input()))),
        ("output", text(&|_, model| columns(model.output()))),
    ])
}

/// `DESCRIBE MODEL m`: a line for each thing that is known of it.
pub(crate) fn describe(known: &CatalogModel) -> crate::Result<RecordBatch> {
    let model = known.slot.current();
    let mut lines: Vec<(String, String, String)> = vec![];
    let mut add = |what: &str, name: &str, value: String| lines.push((what.to_owned(), name.to_owned(), value));
    add("model", &known.definition.name, model.describe());
    for (what, schema) in [("input", model.input()), ("output", model.output())] {
        schema.fields().iter().for_each(|field| add(what, field.name(), sql_name(field.data_type())));
    }
    for label in model.labels().unwrap_or_default() {
        add("label", label, String::new());
    }
    known.definition.options.iter().for_each(|option| add("option", &option.key, option.value.clone()));
    for (name, value) in model.details() {
        add("training", &name, value);
    }
    add("content", "hash", format!("{:016x}", model.hash()));
    if let Some(comment) = &known.definition.comment {
        add("comment", "", comment.clone());
    }
    let column = |read: &dyn Fn(&(String, String, String)) -> String| -> Vec<Option<String>> {
        lines.iter().map(|line| Some(read(line))).collect()
    };
    table(&[
        ("what", column(&|line| line.0.clone())),
        ("name", column(&|line| line.1.clone())),
        ("value", column(&|line| line.2.clone())),
    ])
}

/// `SHOW MODEL OPTIONS`.
pub(crate) fn options() -> crate::Result<RecordBatch> {
    let text = |read: fn(&eagre_models::ModelOption) -> &'static str| -> Vec<Option<String>> {
        OPTIONS.iter().map(|option| Some(read(option).to_owned())).collect()
    };
    table(&[
        ("option", text(|option| option.name)),
        ("values", text(|option| option.values)),
        ("meaning", text(|option| option.meaning)),
    ])
}
