//! What a pipeline keeps in its state folder, by name; and the object there that says what runs ([`JobObject`]): the statements, and the
//! columns that tables without any were found to have.
//!
//! A state folder may hold files of others: a user who gives `--state .` loses nothing to `--fresh`, because only names that eagre makes are
//! removed. Checkpoints go first: what is left after a crash in the middle is never a checkpoint without its files.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{Field, Schema};
use eagre_engine::checkpoint::{self, CheckpointStore, MANIFEST_PREFIX, STATE_PREFIX};
use eagre_engine::log::LOG_PREFIX;
use eagre_sql::catalog::{InferredTable, TableDefinition};
use eagre_sql::error::SqlError;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::MODEL_PREFIX;
use crate::sink::results::RESULTS_PREFIX;
use crate::source::journal::JOURNAL_PREFIX;

/// The object of a state folder that says what runs there.
const JOB_OBJECT: &str = "job.json";
/// What [`JOB_OBJECT`] is about to say, while that is written anew: a crash in between leaves one of the two.
const NEXT_JOB_OBJECT: &str = "job.next.json";
/// The object that gives the pipeline a name of its own, for the files that its sinks write. It outlives `--fresh`: what the forgotten run
/// has left half-written is cleared away by its name.
const PIPELINE_OBJECT: &str = "pipeline";

/// What eagre writes into a state folder, in the order in which it is forgotten. Names go on with numbers of [`NUMBER_DIGITS`] digits.
const PREFIXES: &[&str] = &[MANIFEST_PREFIX, STATE_PREFIX, LOG_PREFIX, RESULTS_PREFIX, JOURNAL_PREFIX, MODEL_PREFIX];
const NUMBER_DIGITS: usize = 20;

/// Whether eagre has made this name.
fn is_own(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.len() >= NUMBER_DIGITS && file.bytes().take(NUMBER_DIGITS).all(|byte| byte.is_ascii_digit())
}

/// Removes all that a pipeline has kept.
pub(crate) fn forget(store: &dyn CheckpointStore) -> Result<()> {
    for prefix in PREFIXES {
        // The newest first: an older checkpoint is whole without it, and never the other way round.
        for name in store.list(prefix)?.iter().rev().filter(|name| is_own(name)) {
            store.delete(name)?;
        }
    }
    store.delete(NEXT_JOB_OBJECT)?;
    Ok(store.delete(JOB_OBJECT)?)
}

/// The name of the pipeline of this state folder: `candidate`, unless it has one.
pub(crate) fn pipeline_name(store: &dyn CheckpointStore, candidate: &str) -> Result<String> {
    if let Some(name) = read_name(store)? {
        return Ok(name);
    }
    store.put_if_absent(PIPELINE_OBJECT, candidate.as_bytes())?;
    // Another process may have been faster.
    let name = read_name(store)?;
    name.ok_or_else(|| Error::usage(format!("`{PIPELINE_OBJECT}` in {} cannot be read back", store.describe())))
}

fn read_name(store: &dyn CheckpointStore) -> Result<Option<String>> {
    let name = store.get(PIPELINE_OBJECT)?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    Ok(name.filter(|name| !name.is_empty()))
}

/// What runs in a state folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JobObject {
    /// The statements.
    pub text: String,
    /// The version of eagre that wrote it first.
    pub version: String,
    /// The columns of the tables that are created without, by lower-case name: those that there were when the pipeline began. The files
    /// that come later may say something else, and those that said it may be gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    columns: BTreeMap<String, TableColumns>,
}

/// The columns of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TableColumns {
    /// The options of the table: with others it reads something else.
    options: BTreeMap<String, String>,
    columns: Vec<TableColumn>,
    partitioned_by: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TableColumn {
    name: String,
    /// Arrow's, as it is written.
    data_type: String,
    nullable: bool,
}

impl TableColumns {
    fn new(options: BTreeMap<String, String>, table: &InferredTable) -> Self {
        let columns = table.schema.fields().iter().map(|field| TableColumn {
            name: field.name().clone(),
            data_type: field.data_type().to_string(),
            nullable: field.is_nullable(),
        });
        Self { options, columns: columns.collect(), partitioned_by: table.partitioned_by.clone() }
    }

    fn table(&self) -> std::result::Result<InferredTable, String> {
        let fields = self.columns.iter().map(|TableColumn { name, data_type, nullable }| {
            let parsed = data_type.parse().map_err(|error| format!("the type `{data_type}` of `{name}`: {error}"))?;
            Ok(Field::new(name, parsed, *nullable))
        });
        let schema = Schema::new(fields.collect::<std::result::Result<Vec<_>, String>>()?);
        Ok(InferredTable { schema: Arc::new(schema), partitioned_by: self.partitioned_by.clone() })
    }
}

impl JobObject {
    /// Of statements, and the columns that their tables were found to have.
    pub(crate) fn new(text: &str, columns: &InferredColumns) -> Self {
        let found = columns.found.lock().unwrap_or_else(PoisonError::into_inner);
        Self { text: text.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), columns: found.clone() }
    }

    pub(crate) fn read(store: &dyn CheckpointStore) -> Result<Option<Self>> {
        let bytes = match store.get(JOB_OBJECT)? {
            Some(bytes) => bytes,
            // It was about to be written anew.
            None => match store.get(NEXT_JOB_OBJECT)? {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
        };
        let damaged = |error| Error::usage(format!("`{JOB_OBJECT}` in {} is damaged: {error}", store.describe()));
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    pub(crate) fn write(&self, store: &dyn CheckpointStore) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self).map_err(eagre_engine::EngineError::bug)?;
        if !store.put_if_absent(JOB_OBJECT, &bytes)? {
            // The pipeline goes on under a text that may have other words for the same plan: the newest one is replayed.
            store.delete(NEXT_JOB_OBJECT)?;
            store.put_if_absent(NEXT_JOB_OBJECT, &bytes)?;
            store.delete(JOB_OBJECT)?;
            store.put_if_absent(JOB_OBJECT, &bytes)?;
        }
        Ok(store.delete(NEXT_JOB_OBJECT)?)
    }
}

/// The columns of tables that are created without: what the data says, or what it said when the pipeline of the state folder began.
pub(crate) struct InferredColumns {
    store: Option<Arc<dyn CheckpointStore>>,
    found: Mutex<BTreeMap<String, TableColumns>>,
}

impl InferredColumns {
    pub(crate) fn new(store: Option<Arc<dyn CheckpointStore>>) -> Self {
        Self { store, found: Mutex::default() }
    }

    /// The columns of one table; `look` asks the data.
    ///
    /// # Errors
    /// The state folder cannot be read; those of `look`.
    pub(crate) fn of(
        &self,
        table: &TableDefinition,
        look: impl FnOnce() -> eagre_sql::error::Result<InferredTable>,
    ) -> eagre_sql::error::Result<InferredTable> {
        let options: BTreeMap<String, String> =
            table.options.iter().map(|option| (option.key.clone(), option.value.clone())).collect();
        let key = table.name.to_lowercase();
        let failed = |error: String| SqlError::plan(format!("table `{}`: {error}", table.name), table.location);
        let kept = self.kept(&key).map_err(|error| failed(error.to_string()))?.filter(|kept| kept.options == options);
        let inferred = match kept {
            Some(kept) => kept.table().map_err(|error| failed(format!("`{JOB_OBJECT}` is damaged: {error}")))?,
            None => look()?,
        };
        let columns = TableColumns::new(options, &inferred);
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(key, columns);
        Ok(inferred)
    }

    /// What a pipeline began with that has a checkpoint.
    fn kept(&self, key: &str) -> Result<Option<TableColumns>> {
        let Some(store) = self.store.as_deref() else { return Ok(None) };
        if checkpoint::list(store)?.is_empty() {
            return Ok(None);
        }
        Ok(JobObject::read(store)?.and_then(|mut job| job.columns.remove(key)))
    }
}

#[cfg(test)]
mod tests {
    use eagre_engine::checkpoint::MemoryStore;

    use arrow::datatypes::{DataType, TimeUnit};

    use super::*;

    /// All that can be inferred, as it is written and read back.
    #[test]
    fn columns_come_back() {
        let text = |name: &str| Field::new(name, DataType::Utf8View, true);
        let list = |item: DataType| DataType::List(Arc::new(Field::new_list_field(item, true)));
        let fields = vec![
            Field::new("a \"b\"", DataType::Int64, false),
            text("Kunde, nr"),
            Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("+02:00".into())), true),
            Field::new("d", DataType::Decimal128(10, 2), true),
            Field::new("l", list(list(DataType::Float64)), true),
            Field::new(
                "s",
                DataType::Struct(vec![text("x y"), Field::new("n", list(DataType::Date32), true)].into()),
                true,
            ),
        ];
        let partitioned_by = vec!["d".to_owned()];
        let table = InferredTable { schema: Arc::new(Schema::new(fields)), partitioned_by };
        let kept = TableColumns::new(BTreeMap::new(), &table);
        let kept: TableColumns = serde_json::from_str(&serde_json::to_string(&kept).expect("text")).expect("columns");
        let back = kept.table().expect("they are read back");
        assert_eq!((back.schema, back.partitioned_by), (table.schema, table.partitioned_by));
    }

    /// `--fresh` on a folder that holds other things too must not remove them.
    #[test]
    fn only_own_objects_are_forgotten() {
        let store = MemoryStore::new();
        let own = [
            "job.json",
            "job.next.json",
            "journal/t/00000000000000000001",
            "log/00000000000000000001-abc.jsonl.zst",
            "manifest/00000000000000000001.json",
            "model/00000000000000000001",
            "model/trained/00000000000000000001.safetensors",
            "results/0f/00000000000000000001-abc",
            "state/0f/00000000000000000001-0000-abc.arrow",
        ];
        let foreign = ["notes.txt", "state/ohio.csv", "log/today.log", "in/00000000000000000001.json"];
        for name in own.iter().chain(&foreign) {
            assert!(store.put_if_absent(name, b"x").expect("in memory"));
        }
        let name = pipeline_name(&store, "one").expect("in memory");
        forget(&store).expect("in memory");
        let mut left = store.list("").expect("in memory");
        left.sort();
        assert_eq!(left, ["in/00000000000000000001.json", "log/today.log", "notes.txt", "pipeline", "state/ohio.csv"]);
        assert_eq!((name.as_str(), pipeline_name(&store, "two").expect("in memory").as_str()), ("one", "one"));
    }
}
