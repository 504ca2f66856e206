//! `CREATE MODEL .. AS SELECT ..`: the rows of a query that ends, and what is learnt from them.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use eagre_engine::runtime::Mode;
use eagre_models::train::{Progress, Sample, check_training, train_sample};
use eagre_sql::catalog::{Catalog, ModelDefinition};
use eagre_sql::error::SqlError;
use eagre_sql::parser::{CreateModel, QueryText, Statement, StatementKind, TableOption};

use super::{definition, placed};
use crate::error::{Error, Result};
use crate::job::RunningJob;
use crate::session::{Session, table};

/// A training of many epochs is told of about so many times.
const TOLD: usize = 20;

/// Whether a file could be written, which it is not: what is there stays as it is, and what is not there is not made.
fn check_writable(path: &Path) -> std::io::Result<()> {
    let there = OpenOptions::new().write(true).open(path);
    if !there.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return there.map(drop);
    }
    OpenOptions::new().write(true).create_new(true).open(path)?;
    std::fs::remove_file(path)
}

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
        let unwritable = |path: &TableOption, error: std::io::Error| {
            let message = format!("model `{}`: '{}' cannot be written: {error}", model.name, path.value);
            SqlError::plan(message, path.value_location)
        };
        // Before hours of training, not after them.
        check_training(&definition(&model)).map_err(|error| placed(&model, &error))?;
        if let Some(path) = model.option("path") {
            check_writable(Path::new(&path.value)).map_err(|error| unwritable(path, error))?;
        }
        let rows = self.rows_at_once(&model, number, statement, query, catalog)?;
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
        let trained = train_sample(&definition(&model), rows, &mut told).map_err(|error| placed(&model, &error))?;
        if let Some(path) = model.option("path") {
            std::fs::write(&path.value, &trained.bytes).map_err(|error| unwritable(path, error))?;
        }
        models.keep_trained(&statement.text, &trained.bytes)?;
        models.put_trained(&model.name, trained.bytes);
        Ok(())
    }

    /// The rows of a query, or an even sample of them where they are many, beside whatever else runs.
    fn rows_at_once(
        &self,
        model: &ModelDefinition,
        number: usize,
        statement: &Statement,
        query: &QueryText,
        catalog: &Catalog,
    ) -> Result<Sample> {
        let sample =
            |schema: &SchemaRef| Sample::new(&definition(model), schema).map_err(|error| placed(model, &error));
        // Views that this text makes have no rows yet: what they read is read here.
        let run = |views: &BTreeSet<String>| {
            self.inner.views.current().is_some_and(|current| views.iter().all(|view| current.set.view(view).is_some()))
        };
        if let Some(query) = self.over_views(catalog, query)?.filter(|query| run(&query.views)) {
            let mut rows = self.snapshot()?.answer(&query)?;
            let mut kept = sample(rows.schema())?;
            while let Some(batch) = rows.blocking_next()? {
                kept.push(&batch)?;
            }
            return Ok(kept);
        }
        let kind = StatementKind::Query(Box::new(query.clone()));
        let statement = Statement { kind, text: query.text.clone(), location: statement.location };
        let job = self.plan(&[(number, statement, catalog.clone())])?;
        if !job.bounded() {
            let message = "a model is trained with rows that end, and this query has no last one; read files or tables that end, or query a \
                           materialized view that runs, in a text behind the one that makes it";
            return Err(SqlError::plan(message, query.location).into());
        }
        let mut running = RunningJob::start(self, job, &self.settings(), None, Mode::Live)?;
        let mut result =
            running.take_results().pop().ok_or_else(|| Error::usage("the query of a model has no rows to give"))?;
        let mut kept = sample(result.schema())?;
        if result.info().only_grows() {
            while let Some(change) = result.blocking_next() {
                kept.push(&change.batch)?;
            }
        } else {
            // What is taken back, and a limit, can only be told from all rows.
            for batch in result.collect_blocking()? {
                kept.push(&batch)?;
            }
        }
        running.wait_blocking()?;
        Ok(kept)
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
