//! `SHOW MODELS`, `DESCRIBE MODEL`, `SHOW MODEL OPTIONS`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use eagre_engine::model::Model;
use eagre_models::OPTIONS;
use eagre_models::http::without_password;
use eagre_sql::catalog::CatalogModel;
use eagre_sql::parser::TableOption;
use eagre_sql::types::sql_name;

use crate::session::table;

/// What is shown of a model's learning in a list: version, rows, and how good it is.
const LEARNT_SHOWN: usize = 3;

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
        ("kind", text(&|_, model| kind(model))),
        ("input", text(&|_, model| columns(model.input()))),
        ("output", text(&|_, model| columns(model.output()))),
    ])
}

/// What a model is and, if it goes on learning, how far it is.
fn kind(model: &dyn Model) -> String {
    let mut kind = model.describe();
    if model.online().is_some() {
        for (name, value) in model.details().into_iter().take(LEARNT_SHOWN) {
            kind.push_str(&format!(", {name}: {value}"));
        }
    }
    kind
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
    let shown = |option: &TableOption| match option.key.to_lowercase().as_str() {
        "api-key" => "***".to_owned(),
        "url" => without_password(&option.value),
        _ => option.value.clone(),
    };
    known.definition.options.iter().for_each(|option| add("option", &option.key, shown(option)));
    for (name, value) in model.details() {
        add(if model.online().is_some() { "learning" } else { "training" }, &name, value);
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
