//! Models of a session: where their bytes come from, and where they are kept.
//!
//! A model is read from its file, or was trained just now ([`train`]). With a state folder its bytes are kept there too, under the hash of its content: a replay
//! asks the models that the pipeline asked then, whatever lies under their paths by now, and what was trained once is not trained again when a pipeline
//! goes on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use eagre_engine::EngineError;
use eagre_engine::checkpoint::CheckpointStore;
use eagre_engine::model::{Model, ModelAndHistory};
use eagre_models::{Definition, ModelError};
use eagre_sql::catalog::ModelDefinition;
use eagre_sql::error::{Result, SqlError};
use eagre_sql::parser::{self, StatementKind};
use xxhash_rust::xxh3::xxh3_64;

mod list;
mod online;
pub(crate) mod train;

pub(crate) use self::list::{describe, list, options};

/// Before the names of models in a state folder.
pub(crate) const MODEL_PREFIX: &str = "model/";

/// Gives the models of a session.
pub(crate) struct Models {
    store: Option<Arc<dyn CheckpointStore>>,
    /// Whether what is new is kept: not in a replay.
    keeps: bool,
    /// Files that were trained and have no model yet, by lower-case name.
    trained: Mutex<HashMap<String, Vec<u8>>>,
}

impl Models {
    pub(crate) fn new(store: Option<Arc<dyn CheckpointStore>>, keeps: bool) -> Self {
        Self { store, keeps, trained: Mutex::default() }
    }

    /// The next model of this name is made of these bytes.
    pub(crate) fn put_trained(&self, name: &str, bytes: Vec<u8>) {
        self.trained.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_lowercase(), bytes);
    }

    /// The model of a definition, and what finds others that its name has meant.
    ///
    /// # Errors
    /// A file that is not there; all that is wrong with the model.
    pub(crate) fn open(&self, model: &ModelDefinition) -> Result<ModelAndHistory> {
        if model.is_online() {
            // All that it has learnt is in the checkpoints of who asks it.
            return Ok((open(model, &[])?, None));
        }
        let trained = self.trained.lock().unwrap_or_else(PoisonError::into_inner).remove(&model.name.to_lowercase());
        let bytes = match trained {
            Some(bytes) => bytes,
            None => read(model)?,
        };
        let opened = open(model, &bytes)?;
        let Some(store) = &self.store else { return Ok((opened, None)) };
        if self.keeps {
            let kept = store.put_if_absent(&object_of(opened.hash()), &packed(&model.text, &bytes));
            kept.map_err(|error| SqlError::plan(error.to_string(), model.location))?;
        }
        let (store, name) = (Arc::clone(store), model.name.clone());
        Ok((opened, Some(Box::new(move |hash| kept(store.as_ref(), &name, hash)))))
    }

    /// What a statement has trained when it ran before, on the same state folder.
    pub(crate) fn trained_before(&self, statement: &str) -> crate::Result<Option<Vec<u8>>> {
        match &self.store {
            Some(store) => Ok(store.get(&trained_object(statement))?),
            None => Ok(None),
        }
    }

    /// Keeps what a statement has trained.
    pub(crate) fn keep_trained(&self, statement: &str, bytes: &[u8]) -> crate::Result<()> {
        if let Some(store) = self.store.as_ref().filter(|_| self.keeps) {
            store.put_if_absent(&trained_object(statement), bytes)?;
        }
        Ok(())
    }
}

fn object_of(hash: u64) -> String {
    format!("{MODEL_PREFIX}{hash:020}")
}

fn trained_object(statement: &str) -> String {
    format!("{MODEL_PREFIX}trained/{:020}.safetensors", xxh3_64(statement.as_bytes()))
}

/// A statement and the bytes of its file: all that makes a model.
fn packed(statement: &str, bytes: &[u8]) -> Vec<u8> {
    [&(statement.len() as u64).to_le_bytes(), statement.as_bytes(), bytes].concat()
}

fn unpacked(object: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = object.split_first_chunk::<8>()?;
    let (text, bytes) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some((std::str::from_utf8(text).ok()?, bytes))
}

/// A model that a pipeline on this state folder has asked once.
fn kept(store: &dyn CheckpointStore, name: &str, hash: u64) -> eagre_engine::Result<Arc<dyn Model>> {
    let failed = |why: String| EngineError::Checkpoint {
        message: format!("model `{name}` was another one then ({hash:016x}), and {}: {why}", object_of(hash)),
    };
    let object = store.get(&object_of(hash))?.ok_or_else(|| failed(format!("it is not in {}", store.describe())))?;
    let (text, bytes) = unpacked(&object).ok_or_else(|| failed("the object is damaged".into()))?;
    let statements = parser::parse(text).map_err(|error| failed(error.to_string()))?;
    let create = statements.iter().find_map(|statement| match &statement.kind {
        StatementKind::CreateModel(create) => Some(create),
        _ => None,
    });
    let create = create.ok_or_else(|| failed("the object has no statement".into()))?;
    open(&ModelDefinition::of(create, text), bytes).map_err(|error| failed(error.to_string()))
}

/// What the room of models is told.
fn definition(model: &ModelDefinition) -> Definition {
    Definition {
        name: model.name.clone(),
        input: model.input.clone(),
        output: model.output.clone(),
        options: model.options.iter().map(|option| (option.key.clone(), option.value.clone())).collect(),
        label: model.label.clone(),
    }
}

/// An error with the place of the option that is at fault.
fn placed(model: &ModelDefinition, error: &ModelError) -> SqlError {
    let option = error.option().and_then(|key| model.option(key));
    SqlError::plan(error.to_string(), option.map(|option| option.key_location).or(model.location))
}

fn read(model: &ModelDefinition) -> Result<Vec<u8>> {
    let definition = definition(model);
    eagre_models::check(&definition).map_err(|error| placed(model, &error))?;
    if definition.is_remote().map_err(|error| placed(model, &error))? {
        return Ok(Vec::new());
    }
    if let Some(option) = model.option("task") {
        let message = format!(
            "model `{}`: 'task' trains it, and there are no rows to learn from: `CREATE MODEL .. AS SELECT ..`",
            model.name
        );
        return Err(SqlError::plan(message, option.key_location));
    }
    let path = definition.path().map_err(|error| placed(model, &error))?;
    std::fs::read(path).map_err(|error| {
        let location = model.option("path").map(|option| option.value_location);
        SqlError::plan(format!("model `{}`: '{path}' cannot be read: {error}", model.name), location.or(model.location))
    })
}

fn open(model: &ModelDefinition, bytes: &[u8]) -> Result<Arc<dyn Model>> {
    let mut definition = definition(model);
    if let Some(option) = model.option("api-key.file") {
        if model.option("api-key").is_some() {
            let message =
                format!("model `{}`: 'api-key' and 'api-key.file' both say what the key is; keep one", model.name);
            return Err(SqlError::plan(message, option.key_location));
        }
        let key = std::fs::read_to_string(&option.value).map_err(|error| {
            let message = format!("model `{}`: the key in '{}' cannot be read: {error}", model.name, option.value);
            SqlError::plan(message, option.value_location)
        })?;
        definition.options.push(("api-key".into(), key.trim().to_owned()));
    }
    // What was trained is such a file, and need not lie anywhere.
    if definition.option("task").is_some() && !model.is_online() {
        definition.options.retain(|(key, _)| !key.eq_ignore_ascii_case("format"));
        definition.options.push(("format".into(), "safetensors".into()));
        if definition.option("path").is_none() {
            definition.options.push(("path".into(), "what was trained".into()));
        }
    }
    eagre_models::open(&definition, bytes).map_err(|error| placed(model, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept for replays comes back whole; what is damaged is no model.
    #[test]
    fn kept_models_come_back() {
        assert_eq!(unpacked(&packed("CREATE MODEL m", b"bytes")), Some(("CREATE MODEL m", &b"bytes"[..])));
        assert_eq!(unpacked(&packed("", b"")), Some(("", &b""[..])));
        assert_eq!(unpacked(b"\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(unpacked(b"short"), None);
    }
}
