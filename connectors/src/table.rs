//! What a connector is told of a table, and what it is handed of the world.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use object_store::ObjectStore;

use crate::error::{ConnectorError, Result};
use crate::options::{OptionReader, TableOptions};

/// A table as `CREATE TABLE` describes it, less what the planner keeps to itself (computed columns, the watermark).
#[derive(Debug, Clone)]
pub struct TableDefinition {
    /// The table's name, for messages.
    pub name: String,
    /// The physical and the metadata columns, in order.
    pub schema: SchemaRef,
    /// Columns that come from around the row and not from it: (index into `schema`, key), for example `(3, "file.path")`.
    pub metadata_columns: Vec<(usize, String)>,
    /// `PARTITIONED BY`: columns that are in the path (`day=2024-01-31/`) and not in the files.
    pub partitioned_by: Vec<String>,
    /// `PRIMARY KEY .. NOT ENFORCED`.
    pub primary_key: Vec<String>,
    /// `WITH (..)`.
    pub options: TableOptions,
}

impl TableDefinition {
    /// A table with columns and options, and nothing else.
    pub fn new(name: impl Into<String>, schema: SchemaRef, options: TableOptions) -> Self {
        Self {
            name: name.into(),
            schema,
            metadata_columns: Vec::new(),
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            options,
        }
    }

    pub(crate) fn reader(&self) -> OptionReader<'_> {
        OptionReader::new(&self.name, &self.options)
    }

    pub(crate) fn metadata_key(&self, column: usize) -> Option<&str> {
        self.metadata_columns.iter().find(|(index, _)| *index == column).map(|(_, key)| key.as_str())
    }

    pub(crate) fn is_partition_column(&self, field: &Field) -> bool {
        self.partitioned_by.iter().any(|name| name == field.name())
    }

    pub(crate) fn unsupported(&self, message: impl Into<String>) -> ConnectorError {
        ConnectorError::Unsupported { table: self.name.clone(), message: message.into() }
    }

    pub(crate) fn schema_error(&self, message: impl Into<String>) -> ConnectorError {
        ConnectorError::Schema { table: self.name.clone(), message: message.into() }
    }

    /// Checks the metadata keys against what the connector has.
    pub(crate) fn check_metadata(&self, known: &[&str]) -> Result<()> {
        for (index, key) in &self.metadata_columns {
            if !known.contains(&key.as_str()) {
                let column = self.schema.field(*index).name();
                let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(self.schema_error(format!(
                    "metadata column `{column}`: this connector has no metadata `{key}`; it has {list}"
                )));
            }
        }
        Ok(())
    }
}

/// What the data says of a table that is created without columns.
#[derive(Debug, Clone)]
pub struct InferredTable {
    /// All columns.
    pub schema: SchemaRef,
    /// Those of them that are in the path and not in the files.
    pub partitioned_by: Vec<String>,
}

/// Opens something to read from, anew each time.
pub type InputFactory = Arc<dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync>;
/// Opens something to write to, anew each time.
pub type OutputFactory = Arc<dyn Fn() -> io::Result<Box<dyn Write + Send>> + Send + Sync>;
/// Milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What is handed in: connectors read no environment variables and own no runtime.
#[derive(Clone)]
pub struct Environment {
    /// Names the pipeline in the names of files that it writes; the same after a restart, and no other pipeline's that writes to the
    /// same folder.
    pub pipeline_id: String,
    /// Tells several writers of one pipeline to the same folder apart (an operator's id); the same after a restart.
    pub writer_id: String,
    /// Whether there are checkpoints: without them, sinks publish when the pipeline ends.
    pub state_enabled: bool,
    /// How many threads decode a source's files.
    pub decode_threads: usize,
    /// Runs requests to object stores. Not needed for local files.
    pub runtime: Option<tokio::runtime::Handle>,
    /// Settings of object stores, such as `aws_region`, as their clients call them.
    pub object_store_options: Vec<(String, String)>,
    /// Stores that are there already, by the URL that they serve, for example `memory://bucket`.
    pub object_stores: BTreeMap<String, Arc<dyn ObjectStore>>,
    /// Standard input.
    pub stdin: InputFactory,
    /// Standard output.
    pub stdout: OutputFactory,
    /// The clock, for generated times and file policies.
    pub clock: Clock,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("pipeline_id", &self.pipeline_id)
            .field("writer_id", &self.writer_id)
            .field("state_enabled", &self.state_enabled)
            .field("decode_threads", &self.decode_threads)
            .finish_non_exhaustive()
    }
}

impl Environment {
    /// The process's own streams and clock, no runtime, no checkpoints.
    pub fn new(pipeline_id: impl Into<String>) -> Self {
        let now = || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.map_or(0, |since| since.as_millis() as i64)
        };
        Self {
            pipeline_id: pipeline_id.into(),
            writer_id: "0".into(),
            state_enabled: false,
            decode_threads: std::thread::available_parallelism().map_or(1, usize::from),
            runtime: None,
            object_store_options: Vec::new(),
            object_stores: BTreeMap::new(),
            stdin: Arc::new(|| Ok(Box::new(io::stdin()))),
            stdout: Arc::new(|| Ok(Box::new(io::stdout()))),
            clock: Arc::new(now),
        }
    }
}
