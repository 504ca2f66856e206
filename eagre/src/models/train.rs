//! `CREATE MODEL .. AS SELECT ..`: the rows of a query that ends, and what is learnt from them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use eagre_engine::runtime::Mode;
use eagre_models::train::{Progress, train};
use eagre_sql::catalog::{Catalog, ModelDefinition};
use eagre_sql::error::SqlError;
use eagre_sql::parser::{CreateModel, QueryText, Statement, StatementKind};

use super::{definition, placed};
use crate::error::{Error, Result};
use crate::job::RunningJob;
use crate::session::{Session, table};

/// A training of many epochs is told of about so many times.
const TOLD: usize = 20;

impl Session {
    /// Trains the model of a statement, or finds what it trained on this state folder before; the next model of this name is that one.
    ///
    /// # Errors
    /// A query that does not end or is wrong; rows that nothing can be learnt from.
    pub(crate) fn train(
        &self,
        number: usize,
        statement: &Statement,
        create: &CreateModel,
        query: &QueryText,
        catalog: &Catalog,
    ) -> Result<()> {
        let model = ModelDefinition::of(create, &statement.text);
        let providers = self.providers();
        let models = &providers.models;
        if let Some(bytes) = models.trained_before(&statement.text)? {
            models.put_trained(&model.name, bytes);
            return Ok(());
        }
        let rows = self.rows_at_once(number, statement, query, catalog)?;
        let mut last_told = 0;
        let mut told = |progress: Progress| {
            let part = progress.epoch * TOLD / progress.epochs.max(1);
            if part > last_told || progress.epoch == 1 {
                last_told = part;
                self.tell_progress(&format!(
                    "model {}: epoch {} of {}, loss {:.4}, on held-out rows {:.4}",
                    model.name, progress.epoch, progress.epochs, progress.loss, progress.held_out_loss
                ));
            }
        };
        let trained = train(&definition(&model), &rows, &mut told).map_err(|error| placed(&model, &error))?;
        if let Some(path) = model.option("path") {
            std::fs::write(&path.value, &trained.bytes).map_err(|error| {
                let message = format!("model `{}`: '{}' cannot be written: {error}", model.name, path.value);
                SqlError::plan(message, path.value_location)
            })?;
        }
        models.keep_trained(&statement.text, &trained.bytes)?;
        models.put_trained(&model.name, trained.bytes);
        Ok(())
    }

    /// All rows of a query, beside whatever else runs.
    fn rows_at_once(
        &self,
        number: usize,
        statement: &Statement,
        query: &QueryText,
        catalog: &Catalog,
    ) -> Result<RecordBatch> {
        if let Some(query) = self.over_views(catalog, query)? {
            return self.snapshot()?.answer(&query)?.collect_blocking();
        }
        let kind = StatementKind::Query(Box::new(query.clone()));
        let statement = Statement { kind, text: query.text.clone(), location: statement.location };
        let job = self.plan(&[(number, statement, catalog.clone())])?;
        if !job.bounded() {
            let message = "a model is trained with rows that end, and this query has no last one; read files or tables that end, or query a \
                           materialized view";
            return Err(SqlError::plan(message, query.location).into());
        }
        let mut running = RunningJob::start(self, job, &self.settings(), None, Mode::Live)?;
        let result =
            running.take_results().pop().ok_or_else(|| Error::usage("the query of a model has no rows to give"))?;
        let schema = Arc::clone(result.schema());
        let batches = result.collect_blocking()?;
        running.wait_blocking()?;
        concat_batches(&schema, &batches).map_err(|error| Error::Engine(error.into()))
    }

    /// How good what was trained is: the result of the statement.
    pub(crate) fn training_report(&self, name: &str) -> Result<RecordBatch> {
        let catalog = self.catalog();
        let details = catalog.model(name, false, None)?.slot.current().details();
        let (figures, values): (Vec<String>, Vec<String>) = details.into_iter().unzip();
        table(&[
            ("model", figures.iter().map(|_| Some(name.to_owned())).collect()),
            ("figure", figures.into_iter().map(Some).collect()),
            ("value", values.into_iter().map(Some).collect()),
        ])
    }
}
