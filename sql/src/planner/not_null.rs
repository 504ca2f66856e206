//! `NOT NULL` columns of tables that are written: a null is told before the sink gets it.
//!
//! The planner knows of most expressions only that they may be null, so this is asked of the rows. It is asked at the sink and not by an
//! expression of its own, which would hide from the planner that a column is part of a key.

use std::sync::Arc;

use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::{Delta, EngineError, Result};
use serde_json::Value;

use crate::catalog::TableDefinition;

/// `factory`, with a check that none of these columns is null in a row that comes.
pub(super) fn checked(
    factory: Arc<dyn SinkFactory>,
    definition: &TableDefinition,
    columns: Vec<usize>,
) -> Arc<dyn SinkFactory> {
    match columns.is_empty() {
        true => factory,
        false => {
            let (table, key) = (definition.name.clone(), definition.primary_key.clone().into());
            Arc::new(Checked { inner: factory, table, key, columns })
        }
    }
}

struct Checked {
    inner: Arc<dyn SinkFactory>,
    table: String,
    /// The names of the primary key, no part of which is null.
    key: Arc<[String]>,
    columns: Vec<usize>,
}

impl SinkFactory for Checked {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn accepts_retractions(&self) -> bool {
        self.inner.accepts_retractions()
    }

    fn replaces_by(&self) -> Option<&[usize]> {
        self.inner.replaces_by()
    }

    fn keyed_by(&self, key: &[usize]) -> Option<Arc<dyn SinkFactory>> {
        let inner = self.inner.keyed_by(key)?;
        Some(Arc::new(Self {
            inner,
            table: self.table.clone(),
            key: Arc::clone(&self.key),
            columns: self.columns.clone(),
        }))
    }

    fn exactly_once(&self) -> bool {
        self.inner.exactly_once()
    }

    fn create(&self) -> Result<Box<dyn Sink>> {
        let (table, key, columns) = (self.table.clone(), Arc::clone(&self.key), self.columns.clone());
        Ok(Box::new(CheckedSink { inner: self.inner.create()?, table, key, columns }))
    }
}

struct CheckedSink {
    inner: Box<dyn Sink>,
    table: String,
    key: Arc<[String]>,
    columns: Vec<usize>,
}

impl Sink for CheckedSink {
    fn write(&mut self, step: u64, deltas: &[Delta]) -> Result<()> {
        for delta in deltas {
            let null = self.columns.iter().find(|column| delta.batch.column(**column).null_count() > 0);
            if let Some(column) = null {
                let name = delta.batch.schema().field(*column).name().clone();
                let (is, without) = match self.key.contains(&name) {
                    true => ("part of the PRIMARY KEY and so NOT NULL", "this key"),
                    false => ("NOT NULL", "NOT NULL"),
                };
                return Err(EngineError::Sink {
                    table: self.table.clone(),
                    message: format!(
                        "column `{name}` is {is}, and a row gives NULL for it; leave such rows out (`WHERE .. IS NOT NULL`), give \
                         them a value (`COALESCE(.., 0)`), or create the table without {without}"
                    ),
                });
            }
        }
        self.inner.write(step, deltas)
    }

    fn prepare(&mut self, step: u64) -> Result<Option<Value>> {
        self.inner.prepare(step)
    }

    fn commit(&mut self, transaction: &Value) -> Result<()> {
        self.inner.commit(transaction)
    }

    fn recover(&mut self, transaction: Option<&Value>) -> Result<()> {
        self.inner.recover(transaction)
    }

    fn finish(&mut self) -> Result<()> {
        self.inner.finish()
    }
}
