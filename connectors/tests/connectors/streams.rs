//! Standard input and output, injected.

use std::io::{Cursor, Write};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::DataType;
use eagre_connectors::{Environment, TableDefinition, sink};
use eagre_engine::Delta;
use eagre_engine::source::Places;

use crate::support::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hands over a few bytes at a time, as a terminal does.
struct Dribble(Cursor<&'static str>);

impl std::io::Read for Dribble {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = buffer.len().min(5);
        self.0.read(&mut buffer[..bytes])
    }
}

#[test]
fn standard_input_is_read_line_by_line() {
    let columns = schema(&[("a", DataType::Int64), ("b", DataType::Utf8View)]);
    for (format, text) in [("json", "{\"a\":1,\"b\":\"x\"}\nbroken\n{\"a\":2}"), ("csv", "b,a\nx,1\nx\n,2")] {
        let environment =
            Environment { stdin: Arc::new(move || Ok(Box::new(Dribble(Cursor::new(text))))), ..environment() };
        let table =
            TableDefinition::new("t", Arc::clone(&columns), options(&[("connector", "stdin"), ("format", format)]));
        let read = read_in(&table, &[0, 1], &Places::new(), &environment).expect("read");
        assert_eq!(
            table_text(&read.rows()),
            "+---+---+\n| a | b |\n+---+---+\n| 1 | x |\n| 2 |   |\n+---+---+",
            "{format}"
        );
        assert_eq!(read.bad_rows().len(), 1, "{format}");
        assert_eq!(read.ended, ["stdin"]);
        assert!(!eagre_connectors::source(&table, &environment).expect("a source").replayable());
    }
}

fn printed(entries: &[(&str, &str)], delta: &Delta) -> Result<String, String> {
    let output = Captured::default();
    let shared = output.clone();
    let environment = Environment { stdout: Arc::new(move || Ok(Box::new(shared.clone()))), ..environment() };
    let table = TableDefinition::new("t", delta.batch.schema(), options(entries));
    let mut sink = sink(&table, &environment).expect("a sink").create().expect("a sink");
    sink.write(1, std::slice::from_ref(delta)).map_err(|error| error.to_string())?;
    sink.finish().map_err(|error| error.to_string())?;
    let bytes = output.0.lock().expect("no panic").clone();
    Ok(String::from_utf8(bytes).expect("UTF-8"))
}

#[test]
fn rows_are_printed() {
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(StringViewArray::from(vec![Some("x"), None]))];
    let batch =
        RecordBatch::try_new(schema(&[("a", DataType::Int64), ("b", DataType::Utf8View)]), columns).expect("a batch");
    let inserts = Delta::insert(batch.clone());
    let changes = Delta::weighted(batch, vec![2, -1].into());
    assert_eq!(printed(&[("connector", "print")], &inserts).expect("printed"), "+I[1, x]\n+I[2, null]\n");
    let named = [("connector", "print"), ("print-identifier", "out")];
    assert_eq!(printed(&named, &changes).expect("printed"), "out> -D[2, null]\nout> +I[1, x]\nout> +I[1, x]\n");
    let stdout = [("connector", "stdout")];
    assert_eq!(printed(&stdout, &inserts).expect("printed"), "{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":null}\n");
    assert!(printed(&stdout, &changes).expect_err("changes").contains("set 'op-column' = 'true'"));
    let csv = [("connector", "stdout"), ("format", "csv"), ("op-column", "true")];
    assert_eq!(printed(&csv, &changes).expect("printed"), "op,a,b\n-D,2,\n+I,1,x\n+I,1,x\n");
    assert_eq!(printed(&[("connector", "blackhole")], &changes).expect("nothing"), "");
}
