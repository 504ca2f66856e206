//! What is behind a table, as the crate `eagre` hands it in.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use eagre_engine::graph::ChangelogMode;
use eagre_engine::model::ModelAndHistory;
use eagre_engine::sink::SinkFactory;
use eagre_engine::source::Source;

use super::objects::ModelDefinition;
use super::table::TableDefinition;
use crate::error::{Result, SqlError};

/// Gives the data behind tables. Implemented by the crate `eagre` on the connectors.
pub trait TableProviderFactory: Send + Sync {
    /// Opens nothing yet: describes how to read the table. Its schema has the columns of [`TableDefinition::source_schema`].
    ///
    /// # Errors
    /// Options that the connector does not know or that do not fit, with their place.
    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>>;

    /// Describes how to write the table: rows have the columns of [`TableDefinition::sink_schema`].
    ///
    /// # Errors
    /// As [`source`](Self::source), and where the connector cannot write.
    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn SinkFactory>>;

    /// Checks what a definition says of the data behind it, without looking at the data: for `CREATE TABLE`.
    ///
    /// # Errors
    /// A connector or an option that is not known, with its place.
    fn check(&self, _table: &TableDefinition) -> Result<()> {
        Ok(())
    }

    /// The columns of a table that was created without any.
    ///
    /// # Errors
    /// Where the data has no schema of its own or cannot be looked at.
    fn infer_schema(&self, table: &TableDefinition) -> Result<InferredTable>;

    /// Whether rows of the source can be taken back, and how: [`ChangelogMode::Retract`] has weights on full rows;
    /// [`ChangelogMode::Upsert`] has a positive weight on a row that stands in the place of its key's, and a negative one where the row of
    /// a key goes. A table of the latter kind has a primary key.
    fn changelog(&self, _table: &TableDefinition) -> ChangelogMode {
        ChangelogMode::AppendOnly
    }

    /// The model of a definition, and what finds others that its name has meant.
    ///
    /// # Errors
    /// Options that cannot be, a file that is no such model, with their place.
    fn model(&self, model: &ModelDefinition) -> Result<ModelAndHistory> {
        Err(SqlError::plan(format!("model `{}` cannot be had: nothing here runs models", model.name), model.location))
    }
}

/// What the data says of a table that is created without columns.
#[derive(Debug, Clone)]
pub struct InferredTable {
    /// All columns.
    pub schema: SchemaRef,
    /// Those of them by which the data is partitioned.
    pub partitioned_by: Vec<String>,
}

/// Knows no connector: for checks and tests that only plan.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoProviders;

impl NoProviders {
    fn refuse<T>(table: &TableDefinition) -> Result<T> {
        Err(SqlError::plan(format!("table `{}` has no data behind it", table.name), table.location))
    }
}

impl TableProviderFactory for NoProviders {
    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>> {
        Self::refuse(table)
    }

    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn SinkFactory>> {
        Self::refuse(table)
    }

    fn infer_schema(&self, table: &TableDefinition) -> Result<InferredTable> {
        Self::refuse(table)
    }
}
