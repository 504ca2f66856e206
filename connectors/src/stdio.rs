//! The process's own streams: `stdin` as a source, `stdout` and `print` as sinks, and `blackhole`, which is none.
//!
//! Standard input cannot be read twice, so it is not replayable. It is read by a thread of its own, because a read cannot be
//! interrupted and a reader must look at its stop flag; lines are handed over as they come.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Int64Array, StringArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use eagre_engine::EngineError;
use eagre_engine::delta::{Delta, batch_of};
use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::source::{PartitionId, Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use serde_json::{Value, json};

use crate::error::{ConnectorError, Result, io_reason};
use crate::filesystem::file::csv_layout;
use crate::filesystem::source::check_type;
use crate::format::decode::LineDecoder;
use crate::format::encode::encode_lines;
use crate::format::lines::{Block, BlockReader, Cut};
use crate::format::{CsvHeader, Format};
use crate::table::{Environment, InputFactory, OutputFactory, TableDefinition};

const STOP_CHECK: Duration = Duration::from_millis(50);

/// The formats of streams: those of lines.
fn line_format(table: &TableDefinition, default: &str) -> Result<Format> {
    let options = table.reader();
    let format = Format::of(&options, Some(&format!("stdio.{default}")))?;
    match format.is_lines() {
        true => Ok(format),
        false => Err(options.bad("format", "a stream has lines: use 'json', 'csv' or 'raw'")),
    }
}

/// The source `stdin`.
pub(crate) struct StdinSource {
    table: String,
    schema: SchemaRef,
    format: Format,
    /// Columns of `schema` that are in the rows; the others are the offset.
    in_rows: Vec<bool>,
    input: InputFactory,
}

impl StdinSource {
    pub(crate) fn new(table: &TableDefinition, environment: &Environment) -> Result<Self> {
        table.check_metadata(&["offset"])?;
        let format = line_format(table, "json")?;
        let mut in_rows = Vec::new();
        for (index, field) in table.schema.fields().iter().enumerate() {
            in_rows.push(table.metadata_key(index).is_none());
            check_type(table, field, &format)?;
        }
        Ok(Self {
            table: table.name.clone(),
            schema: Arc::clone(&table.schema),
            format,
            in_rows,
            input: Arc::clone(&environment.stdin),
        })
    }
}

impl Source for StdinSource {
    fn describe(&self) -> String {
        format!("stdin(format={})", self.format.name())
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        true
    }

    fn replayable(&self) -> bool {
        false
    }

    fn open(
        &self,
        projection: &[usize],
        _places: &Places,
        stop: StopFlag,
    ) -> eagre_engine::Result<Box<dyn SourceReader>> {
        let input = (self.input)().map_err(|error| EngineError::Source {
            table: self.table.clone(),
            message: format!("cannot read standard input: {}", io_reason(&error)),
        })?;
        let dialect = match &self.format {
            Format::Csv(csv) => Some(csv.dialect.clone()),
            _ => None,
        };
        let (sender, blocks) = crossbeam_channel::bounded(2);
        let read = move || {
            let mut reader = BlockReader::new(input, 0, dialect, true, true);
            loop {
                let block = match reader.next() {
                    Ok(Cut::Block(block)) => Ok(block),
                    Ok(Cut::End) => break,
                    Err(error) => Err(io_reason(&error)),
                };
                let failed = block.is_err();
                if sender.send(block).is_err() || failed {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("stdin".into()).spawn(read).map_err(EngineError::bug)?;
        let fields = |wanted: &mut dyn Iterator<Item = usize>| -> Vec<Field> {
            wanted.filter(|&index| self.in_rows[index]).map(|index| self.schema.field(index).clone()).collect()
        };
        Ok(Box::new(StdinReader {
            table: self.table.clone(),
            partition: Arc::from("stdin"),
            schema: Arc::new(self.schema.project(projection)?),
            from_rows: projection.iter().map(|&index| self.in_rows[index]).collect(),
            wanted: fields(&mut projection.iter().copied()),
            all: fields(&mut (0..self.schema.fields().len())),
            format: self.format.clone(),
            decoder: None,
            blocks,
            stop,
            state: StdinState::New,
        }))
    }
}

enum StdinState {
    New,
    Reading,
    Ended,
}

struct StdinReader {
    table: String,
    partition: PartitionId,
    schema: SchemaRef,
    from_rows: Vec<bool>,
    wanted: Vec<Field>,
    all: Vec<Field>,
    format: Format,
    decoder: Option<LineDecoder>,
    blocks: Receiver<Result<Block, String>>,
    stop: StopFlag,
    state: StdinState,
}

impl StdinReader {
    fn decode(&mut self, mut block: Block) -> Result<SourceBatch, String> {
        let start = block.start;
        if self.decoder.is_none() {
            let mut layout = None;
            if let Format::Csv(csv) = &self.format {
                let (found, after) = csv_layout(csv, &block.bytes, &self.all, &self.wanted)?;
                layout = Some(Arc::new(found));
                if csv.header != CsvHeader::No {
                    block.bytes.drain(..after as usize);
                    block.start += after;
                }
            }
            self.decoder = Some(LineDecoder::new(self.format.clone(), self.wanted.clone(), layout, Arc::from("stdin")));
        }
        let Some(decoder) = &self.decoder else {
            return Err("a bug in eagre: no decoder".into());
        };
        let decoded = decoder.decode(&block).map_err(|error| error.to_string())?;
        let rows = decoded.offsets.len();
        let offsets: ArrayRef =
            Arc::new(Int64Array::from_iter_values(decoded.offsets.iter().map(|offset| *offset as i64)));
        let mut from_rows = decoded.columns.into_iter();
        let mut columns = Vec::with_capacity(self.from_rows.len());
        for (index, in_rows) in self.from_rows.iter().enumerate() {
            columns.push(match (in_rows, from_rows.as_slice().is_empty()) {
                (true, false) => from_rows.next().unwrap_or_else(|| Arc::clone(&offsets)),
                _ => cast(&offsets, self.schema.field(index).data_type()).map_err(|error| error.to_string())?,
            });
        }
        Ok(SourceBatch {
            partition: Arc::clone(&self.partition),
            start: json!({ "offset": start }),
            end: json!({ "offset": block.end }),
            batch: batch_of(&self.schema, columns, rows).map_err(|error| error.to_string())?,
            weights: None,
            bad_rows: decoded.bad_rows,
        })
    }
}

impl SourceReader for StdinReader {
    fn next(&mut self) -> eagre_engine::Result<SourceEvent> {
        if self.stop.is_stopped() {
            return Ok(SourceEvent::End);
        }
        match self.state {
            StdinState::New => {
                self.state = StdinState::Reading;
                return Ok(SourceEvent::Partitions(vec![Arc::clone(&self.partition)]));
            }
            StdinState::Ended => return Ok(SourceEvent::End),
            StdinState::Reading => {}
        }
        let block = match self.blocks.recv_timeout(STOP_CHECK) {
            Ok(block) => block,
            Err(RecvTimeoutError::Timeout) => return Ok(SourceEvent::Waiting),
            Err(RecvTimeoutError::Disconnected) => {
                self.state = StdinState::Ended;
                return Ok(SourceEvent::PartitionEnd(Arc::clone(&self.partition)));
            }
        };
        let decoded = block.and_then(|block| self.decode(block));
        decoded.map(SourceEvent::Batch).map_err(|reason| EngineError::Source {
            table: self.table.clone(),
            message: format!("standard input: {reason}"),
        })
    }
}

/// How rows are shown on standard output.
enum Shown {
    /// Flink's `print`: `+I[1, a]`, with what stands before it.
    Print { identifier: String },
    /// A line format; with the column `op`, changes can be shown.
    Lines { format: Format, op: bool },
}

/// The sinks `print` and `stdout`.
pub(crate) struct StdoutSinkFactory {
    table: String,
    shown: Arc<Shown>,
    output: OutputFactory,
}

impl StdoutSinkFactory {
    pub(crate) fn print(table: &TableDefinition, environment: &Environment) -> Self {
        let identifier = table.options.get("print-identifier").map_or_else(String::new, |name| format!("{name}> "));
        let output = Arc::clone(&environment.stdout);
        Self { table: table.name.clone(), shown: Arc::new(Shown::Print { identifier }), output }
    }

    pub(crate) fn stdout(table: &TableDefinition, environment: &Environment) -> Result<Self> {
        let format = line_format(table, "json")?;
        for field in table.schema.fields() {
            check_type(table, field, &format)?;
        }
        let op = table.reader().bool("op-column", false)?;
        let output = Arc::clone(&environment.stdout);
        Ok(Self { table: table.name.clone(), shown: Arc::new(Shown::Lines { format, op }), output })
    }
}

impl SinkFactory for StdoutSinkFactory {
    fn describe(&self) -> String {
        match &*self.shown {
            Shown::Print { .. } => "print".to_owned(),
            Shown::Lines { format, .. } => format!("stdout(format={})", format.name()),
        }
    }

    fn accepts_retractions(&self) -> bool {
        match &*self.shown {
            Shown::Print { .. } => true,
            Shown::Lines { op, .. } => *op,
        }
    }

    fn exactly_once(&self) -> bool {
        false
    }

    fn create(&self) -> eagre_engine::Result<Box<dyn Sink>> {
        let output = (self.output)().map_err(|error| EngineError::Sink {
            table: self.table.clone(),
            message: format!("cannot write to standard output: {}", io_reason(&error)),
        })?;
        Ok(Box::new(StdoutSink { table: self.table.clone(), shown: Arc::clone(&self.shown), output, first: true }))
    }
}

struct StdoutSink {
    table: String,
    shown: Arc<Shown>,
    output: Box<dyn Write + Send>,
    first: bool,
}

impl StdoutSink {
    fn encode(&mut self, delta: &Delta, out: &mut Vec<u8>) -> eagre_engine::Result<()> {
        match &*self.shown {
            Shown::Print { identifier } => print_rows(identifier, delta, out),
            Shown::Lines { format, op } => {
                let mut indices = Vec::new();
                let mut ops = Vec::new();
                for row in 0..delta.rows() {
                    let weight = delta.weight(row);
                    if weight < 0 && !op {
                        return Err(EngineError::Sink {
                            table: self.table.clone(),
                            message: "a row is taken back; set 'op-column' = 'true' to show changes, or make the query append-only \
                                      (`EMIT ON WINDOW CLOSE`)"
                                .into(),
                        });
                    }
                    for _ in 0..weight.unsigned_abs() {
                        indices.push(row as u32);
                        ops.push(if weight > 0 { "+I" } else { "-D" });
                    }
                }
                let mut batch = delta.batch.clone();
                if delta.weights.is_some() {
                    batch = arrow::compute::take_record_batch(&batch, &UInt32Array::from(indices))?;
                }
                if *op {
                    let mut fields = vec![Arc::new(Field::new("op", DataType::Utf8, false))];
                    fields.extend(batch.schema_ref().fields().iter().cloned());
                    let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(ops))];
                    columns.extend(batch.columns().iter().cloned());
                    let rows = batch.num_rows();
                    batch = batch_of(&Arc::new(Schema::new(fields)), columns, rows)?;
                }
                encode_lines(format, &batch, self.first, out)?;
                self.first = false;
                Ok(())
            }
        }
    }
}

/// Rows as Flink's `print` shows them.
fn print_rows(identifier: &str, delta: &Delta, out: &mut Vec<u8>) -> eagre_engine::Result<()> {
    let options = FormatOptions::default()
        .with_null("null")
        .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"));
    let columns = delta.batch.columns();
    let formatters =
        columns.iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<Vec<_>, _>>()?;
    let mut text = String::new();
    for row in 0..delta.rows() {
        let weight = delta.weight(row);
        text.clear();
        text.push_str(identifier);
        text.push_str(if weight > 0 { "+I[" } else { "-D[" });
        for (index, (column, formatter)) in columns.iter().zip(&formatters).enumerate() {
            if index > 0 {
                text.push_str(", ");
            }
            match column.is_null(row) {
                true => text.push_str("null"),
                false => formatter.value(row).write(&mut text).map_err(EngineError::bug)?,
            }
        }
        text.push_str("]\n");
        for _ in 0..weight.unsigned_abs() {
            out.extend_from_slice(text.as_bytes());
        }
    }
    Ok(())
}

impl Sink for StdoutSink {
    fn write(&mut self, _step: u64, deltas: &[Delta]) -> eagre_engine::Result<()> {
        let mut out = Vec::new();
        // What is taken back goes first, so that a reader never sees both versions of a row.
        let taken_back =
            |delta: &&Delta| delta.weights.as_ref().is_some_and(|weights| weights.values().iter().any(|w| *w < 0));
        if deltas.iter().any(|delta| taken_back(&delta)) {
            for wanted in [-1, 1] {
                for delta in deltas {
                    let mask = (0..delta.rows()).map(|row| Some(delta.weight(row).signum() == wanted)).collect();
                    let part = delta.filter(&mask)?;
                    if !part.is_empty() {
                        self.encode(&part, &mut out)?;
                    }
                }
            }
        } else {
            for delta in deltas.iter().filter(|delta| !delta.is_empty()) {
                self.encode(delta, &mut out)?;
            }
        }
        self.output.write_all(&out).and_then(|()| self.output.flush()).map_err(|error| EngineError::Sink {
            table: self.table.clone(),
            message: format!("cannot write to standard output: {}", io_reason(&error)),
        })
    }

    fn prepare(&mut self, _step: u64) -> eagre_engine::Result<Option<Value>> {
        Ok(None)
    }

    fn commit(&mut self, _transaction: &Value) -> eagre_engine::Result<()> {
        Ok(())
    }

    fn recover(&mut self, _transaction: Option<&Value>) -> eagre_engine::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> eagre_engine::Result<()> {
        self.output.flush().map_err(|error| {
            let reason = io_reason(&error);
            let (table, path) = (self.table.clone(), "standard output".to_owned());
            ConnectorError::Io { table, action: "write", path, reason }.into_sink_error()
        })
    }
}

/// The sink `blackhole`: takes everything, keeps nothing.
pub(crate) struct BlackholeSinkFactory;

impl SinkFactory for BlackholeSinkFactory {
    fn describe(&self) -> String {
        "blackhole".to_owned()
    }

    fn accepts_retractions(&self) -> bool {
        true
    }

    fn exactly_once(&self) -> bool {
        true
    }

    fn create(&self) -> eagre_engine::Result<Box<dyn Sink>> {
        Ok(Box::new(BlackholeSink))
    }
}

struct BlackholeSink;

impl Sink for BlackholeSink {
    fn write(&mut self, _step: u64, _deltas: &[Delta]) -> eagre_engine::Result<()> {
        Ok(())
    }

    fn prepare(&mut self, _step: u64) -> eagre_engine::Result<Option<Value>> {
        Ok(None)
    }

    fn commit(&mut self, _transaction: &Value) -> eagre_engine::Result<()> {
        Ok(())
    }

    fn recover(&mut self, _transaction: Option<&Value>) -> eagre_engine::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> eagre_engine::Result<()> {
        Ok(())
    }
}
