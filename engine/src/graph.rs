//! The description of a pipeline: what `sql` (or a program) builds and the runtime executes, once for each shard.
//!
//! Nodes are in topological order: an edge always comes from a lower index. The description holds all that `EXPLAIN` shows.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};

use crate::expr::ExprRef;
use crate::operator::OperatorFactoryRef;
use crate::sink::SinkFactory;
use crate::source::Source;

/// Index of a node in [`Graph::nodes`].
pub type NodeIndex = usize;

/// The hash of a node's canonical logical subplan: state is found by it, so a changed query finds the state of what did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperatorId(pub u64);

impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A whole pipeline.
#[derive(Default, Clone)]
pub struct Graph {
    /// In topological order.
    pub nodes: Vec<Node>,
}

/// One operator, source or sink.
#[derive(Clone)]
pub struct Node {
    /// Identity of its state across restarts; unique in the graph.
    pub id: OperatorId,
    /// What it is.
    pub kind: NodeKind,
    /// One edge for each input port.
    pub inputs: Vec<Edge>,
    /// What leaves on the main port.
    pub output: EdgeInfo,
    /// For EXPLAIN, for example `keys=[card], aggregates=[sum(amount)], window=hop(10 s, 2 s)`.
    pub detail: String,
    /// For EXPLAIN: what is kept and until when, for example `until the watermark passes window_end`; empty: stateless.
    pub state_bound: String,
    /// Which statement this belongs to, for late rows and messages, for example `statement 2 (INSERT INTO out)`.
    pub statement: String,
}

/// The kinds of nodes.
#[derive(Clone)]
pub enum NodeKind {
    /// Reads a table. Output port 1 carries its unreadable rows (see [`errors_schema`]).
    Source(SourceNode),
    /// Transforms. Output port 1 carries the rows that it refused as late (see [`late_schema`]).
    Operator(OperatorFactoryRef),
    /// Concatenates its inputs, which have one schema.
    Union,
    /// Leaves the pipeline. Has one input and no output.
    Sink(SinkNode),
}

/// A table that is read, once, whatever the number of consumers.
#[derive(Clone)]
pub struct SourceNode {
    /// The table's name.
    pub table: String,
    /// Its data.
    pub source: Arc<dyn Source>,
    /// The source columns that some consumer or computed column needs, ascending.
    pub projection: Vec<usize>,
    /// What leaves the node: computed from the projected source columns (plain columns cost nothing). A row on which an
    /// expression fails goes to the errors port.
    pub columns: Vec<ExprRef>,
    /// `Some`: column of the *output* that is the event time, and how the watermark follows from it.
    pub watermark: Option<WatermarkSpec>,
    /// A partition without rows for this long (processing time) leaves the watermark's minimum.
    pub idle_timeout_ms: Option<u64>,
    /// Whether consumers need arrival numbers.
    pub ordinals: bool,
    /// Whether consumers need to know where rows are in the source: then the node's output has two more columns than `columns`, the
    /// last ones ([`position_fields`]).
    pub positions: bool,
    /// `'bad-rows' = 'fail'`: an unreadable row ends the pipeline.
    pub fail_on_bad_rows: bool,
}

/// The column that names the partition of its source that a row came from ([`PartitionId`](crate::source::PartitionId)).
pub const PARTITION: &str = "__eagre_partition";
/// The column that numbers the rows of each partition from 0, in the order in which the source has them; unreadable rows have numbers, too.
/// The same row has the same number whenever it is read.
pub const OFFSET: &str = "__eagre_offset";

/// Where a row is in its source: [`PARTITION`] and [`OFFSET`]. The offset is null where a checkpoint of an older version does not say
/// how many rows came before.
pub fn position_fields() -> [FieldRef; 2] {
    [Arc::new(Field::new(PARTITION, DataType::Utf8, false)), Arc::new(Field::new(OFFSET, DataType::Int64, true))]
}

/// How a table's watermark is made.
#[derive(Clone, Debug)]
pub struct WatermarkSpec {
    /// Event-time column in the source node's output.
    pub time_column: usize,
    /// The watermark after a row.
    pub strategy: WatermarkStrategy,
}

/// The two forms of `WATERMARK FOR`.
#[derive(Clone, Debug)]
pub enum WatermarkStrategy {
    /// `ts - INTERVAL d`: the greatest event time less a delay.
    BoundedOutOfOrderness {
        /// `d` in milliseconds, not negative.
        delay_ms: i64,
    },
    /// Any other expression over the source node's output; the greatest value counts, nulls do not.
    Expression(ExprRef),
}

/// A sink.
#[derive(Clone)]
pub struct SinkNode {
    /// The table's name, or `results` for a top-level SELECT.
    pub table: String,
    /// Makes it.
    pub factory: Arc<dyn SinkFactory>,
}

/// Where the rows of an input port come from.
#[derive(Clone, Debug)]
pub struct Edge {
    /// The producing node.
    pub from: NodeIndex,
    /// Its output port: [`PORT_MAIN`](crate::operator::PORT_MAIN) or [`PORT_SIDE`](crate::operator::PORT_SIDE).
    pub port: u8,
    /// How rows move between shards.
    pub route: Route,
}

/// How rows move between shards on an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// They stay.
    Forward,
    /// To the shard that owns the hash of these columns of the producer's output. No columns: all to the shard of the first hash
    /// group (global aggregates).
    Hash(Vec<usize>),
}

/// What is known of the rows that leave a node.
#[derive(Clone, Debug)]
pub struct EdgeInfo {
    /// The columns.
    pub schema: SchemaRef,
    /// Whether rows can be taken back.
    pub changelog: ChangelogMode,
    /// Columns that identify a row, where known.
    pub key: Option<Vec<usize>>,
    /// Column that is the event time, where one is.
    pub time_column: Option<usize>,
    /// Whether rows carry arrival numbers.
    pub ordinals: bool,
}

/// Whether, and how, rows of an edge are taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangelogMode {
    /// Rows are only inserted.
    AppendOnly,
    /// A row may be retracted and replaced; [`EdgeInfo::key`] identifies it.
    Upsert,
    /// Any row may be retracted.
    Retract,
}

impl fmt::Display for ChangelogMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AppendOnly => "append-only",
            Self::Upsert => "upsert",
            Self::Retract => "retract",
        })
    }
}

impl Node {
    /// The name shown in EXPLAIN, metrics and errors.
    pub fn name(&self) -> &str {
        match &self.kind {
            NodeKind::Source(_) => "Source",
            NodeKind::Operator(factory) => factory.name(),
            NodeKind::Union => "Union",
            NodeKind::Sink(_) => "Sink",
        }
    }
}

/// The columns of `<table>.errors`: where the row was, why it could not be read, its bytes.
pub fn errors_schema() -> SchemaRef {
    use arrow::datatypes::Schema;
    Arc::new(Schema::new(vec![
        Field::new("origin", DataType::Utf8, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("raw", DataType::Binary, false),
    ]))
}

/// How the name of an operator of two inputs ends in `<table>.late`, where it refused a row of one of them (0: the left one).
pub fn late_input(input: usize) -> &'static str {
    if input == 0 { ", left input" } else { ", right input" }
}

/// The columns of `<table>.late`: which operator of which statement refused the row (and of two inputs [which it came from](late_input)), by
/// which watermark, the row as the operator saw it, as JSON text, and whether it was to be taken back.
pub fn late_schema() -> SchemaRef {
    use arrow::datatypes::{Schema, TimeUnit};
    let time = || DataType::Timestamp(TimeUnit::Millisecond, None);
    Arc::new(Schema::new(vec![
        Field::new("statement", DataType::Utf8, false),
        Field::new("operator", DataType::Utf8, false),
        Field::new("event_time", time(), true),
        Field::new("watermark", time(), true),
        Field::new("windows_missed", DataType::UInt32, false),
        Field::new("row", DataType::Utf8, false),
        Field::new("retracted", DataType::Boolean, false),
    ]))
}
