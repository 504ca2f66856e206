//! A function as a sink: `Session::register_callback` and `WITH ('connector' = 'callback')`.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Int64Array, RecordBatch};
use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::{Delta, Result};

/// What a callback gets: the step, the rows, and their weights where rows can be taken back.
pub type Callback = dyn FnMut(u64, &RecordBatch, Option<&Int64Array>) -> Result<()> + Send;

/// Hands each batch of output to a function, on the sink's thread, in order of steps. After a crash the steps since the last checkpoint
/// come again: the step number tells.
#[derive(Clone)]
pub struct CallbackSink {
    name: String,
    callback: Arc<Mutex<Box<Callback>>>,
}

impl CallbackSink {
    /// A sink that calls `callback`.
    pub fn new(name: impl Into<String>, callback: Box<Callback>) -> Self {
        Self { name: name.into(), callback: Arc::new(Mutex::new(callback)) }
    }
}

impl SinkFactory for CallbackSink {
    fn describe(&self) -> String {
        format!("callback({})", self.name)
    }

    fn accepts_retractions(&self) -> bool {
        true
    }

    fn exactly_once(&self) -> bool {
        false
    }

    fn create(&self) -> Result<Box<dyn Sink>> {
        Ok(Box::new(self.clone()))
    }
}

impl Sink for CallbackSink {
    fn write(&mut self, step: u64, deltas: &[Delta]) -> Result<()> {
        let mut callback = self.callback.lock().unwrap_or_else(PoisonError::into_inner);
        deltas.iter().try_for_each(|delta| callback(step, &delta.batch, delta.weights.as_ref()))
    }

    fn prepare(&mut self, _step: u64) -> Result<Option<serde_json::Value>> {
        Ok(None)
    }

    fn commit(&mut self, _transaction: &serde_json::Value) -> Result<()> {
        Ok(())
    }

    fn recover(&mut self, _transaction: Option<&serde_json::Value>) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
