//! Rows that wait until the watermark has passed their event time, and leave once, in an order that begins with it: `EMIT ON WINDOW CLOSE` of a query
//! in which nothing closes windows, and `ORDER BY <event time>, ..` of a stream that does not end.
//!
//! An `OVER` without functions is that buffer. What is taken back before cancels in it; what comes behind the watermark is late there. So a
//! changelog becomes rows that are only inserted, which holds as long as no row is taken back because of one that comes much later: a
//! ranking does that, and is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use eagre_engine::graph::{ChangelogMode, EdgeInfo, NodeIndex, NodeKind, Route};
use eagre_engine::operator::over::{Finality, OrderKey, OverFactory, OverSpec};

use super::stream::{Slot, Stream, StreamColumn};
use super::windows::ShiftedTime;
use super::{Lowering, engine};
use crate::error::{Location, Result, SqlError};
use crate::parser::EmitKind;

const CLAUSE: &str = "EMIT ON WINDOW CLOSE";

impl Lowering<'_> {
    /// The rows, each once it is final. `keeps_arrival`: they keep their arrival numbers if they have any.
    pub(in crate::planner) fn on_close(
        &mut self,
        mut stream: Stream,
        plan: &LogicalPlan,
        keeps_arrival: bool,
        at: Option<Location>,
    ) -> Result<Stream> {
        if stream.pending.is_some() {
            stream = self.assign_windows(stream, plan)?;
        }
        self.check_not_ranked(&stream, at)?;
        self.narrow(&mut stream);
        let Some((finality, order)) = finality_of(&mut stream) else {
            return Err(SqlError::plan(self.why_never_final(&stream), at));
        };
        if keeps_arrival {
            self.keep_arrival(&mut stream);
        }
        self.settle(stream, plan, finality, order.iter().copied().map(OrderKey::ascending).collect())
    }

    /// The rows of a stream that does not end in an order, whose first key is the event time: those of one time stand by the other keys.
    ///
    /// # Errors
    /// The first key is no event time, ascending, by which rows become final; rows are taken back, and nothing says that they wait.
    pub(in crate::planner) fn in_order_of_time(
        &mut self,
        mut stream: Stream,
        plan: &LogicalPlan,
        order: Vec<OrderKey>,
    ) -> Result<Stream> {
        let first = order.first().filter(|key| !key.options.descending);
        let Some(finality) = first.and_then(|key| finality_by(&mut stream, key.column)) else {
            return Err(SqlError::unsupported(
                "`ORDER BY` over an input that does not end",
                "rows of a stream have a last one only in their time: begin the ORDER BY with the event time, or with `window_end` where windows \
                 close (`ORDER BY window_end, priority DESC`), add a `LIMIT`, order a bounded input, or order a view of the result",
                self.order_at,
            ));
        };
        match self.emit {
            Some(EmitKind::OnWindowClose) => self.check_not_ranked(&stream, self.order_at)?,
            _ => stream.check_final("`ORDER BY`")?,
        }
        // Nothing is left to wait for.
        self.aggregated_window = true;
        self.settle(stream, plan, finality, order)
    }

    /// Refuses rows that may be replaced because of one that comes much later.
    fn check_not_ranked(&self, stream: &Stream, at: Option<Location>) -> Result<()> {
        let Some(ranking) = self.upstream(stream).find(|node| self.graph.nodes[*node].name() == "TopN") else {
            return Ok(());
        };
        let because = &self.graph.nodes[ranking].detail;
        Err(SqlError::plan(
            format!(
                "{CLAUSE}: a row of first rows ({because}) may be replaced for as long as rows come, so it is never final; rank the rows of a \
                 window (`PARTITION BY window_start, window_end, ..`)"
            ),
            at,
        ))
    }

    fn settle(
        &mut self,
        mut stream: Stream,
        plan: &LogicalPlan,
        finality: Finality,
        order: Vec<OrderKey>,
    ) -> Result<Stream> {
        let tie = self.tie(&mut stream);
        let from = self.flush(&mut stream, plan);
        let retracting = stream.changelog != ChangelogMode::AppendOnly;
        let schema = Arc::clone(&stream.physical);
        let spec = OverSpec {
            input: Arc::clone(&schema),
            retracting,
            partition: vec![],
            order: order.clone(),
            tie,
            calls: vec![],
        };
        let factory = OverFactory::settled(spec, finality).map_err(engine)?;
        let name = |key: &OrderKey| {
            let direction = if key.options.descending { " DESC" } else { "" };
            format!("{}{direction}", schema.field(key.column).name())
        };
        let names: Vec<String> = order.iter().map(name).collect();
        let (when, bound) = match finality {
            Finality::Order => ("final by watermark", "rows that wait for the watermark"),
            Finality::Window { .. } => {
                ("final when the window closes", "rows of open windows, until the watermark passes window_end")
            }
        };
        let detail = format!("order=[{}], {when}", names.join(", "));
        let mut columns = stream.columns.clone();
        for column in &mut columns {
            // Rows wait: of other times than that by which they do no watermark speaks any more.
            match finality {
                Finality::Order => {
                    column.rowtime &= order.first().is_some_and(|key| column.slot == Slot::Physical(key.column));
                    column.role = None;
                }
                Finality::Window { .. } => column.rowtime &= column.role.is_some(),
            }
        }
        let output = EdgeInfo {
            schema: factory.output_schema(),
            changelog: ChangelogMode::AppendOnly,
            // Two rows of one key may leave, one after the other.
            key: stream.key.clone().filter(|_| !retracting),
            time_column: None,
            ordinals: false,
        };
        let id = self.id("emit on window close", plan, &stream.tables);
        let node = self.push_operator(id, factory, from, Route::Hash(vec![]), output, detail, bound);
        self.may_refuse(node, &stream.tables);
        let mut settled = self.stream_after(&stream, node, columns);
        self.graph.nodes[node].output.time_column = settled.time_column();
        settled.arrival = stream.arrival;
        settled.retracts_because = None;
        Ok(settled)
    }

    /// The nodes that may be the reason why rows of a stream are taken back.
    fn upstream(&self, stream: &Stream) -> impl Iterator<Item = NodeIndex> + '_ {
        let mut seen = BTreeSet::new();
        let mut nodes = vec![stream.from().0];
        while let Some(node) = nodes.pop() {
            if self.graph.nodes[node].output.changelog != ChangelogMode::AppendOnly && seen.insert(node) {
                nodes.extend(self.graph.nodes[node].inputs.iter().map(|edge| edge.from));
            }
        }
        seen.into_iter()
    }

    /// All that rows of a stream come from.
    pub(super) fn behind(&self, stream: &Stream) -> BTreeSet<NodeIndex> {
        let mut nodes = vec![stream.from().0];
        let mut seen: BTreeSet<NodeIndex> = nodes.iter().copied().collect();
        while let Some(index) = nodes.pop() {
            nodes.extend(self.graph.nodes[index].inputs.iter().map(|edge| edge.from).filter(|from| seen.insert(*from)));
        }
        seen
    }

    /// A table without a watermark among some nodes.
    pub(super) fn without_watermark(&self, nodes: &BTreeSet<NodeIndex>) -> Option<&str> {
        nodes.iter().find_map(|index| match &self.graph.nodes[*index].kind {
            NodeKind::Source(source) if source.watermark.is_none() => Some(&*source.table),
            _ => None,
        })
    }

    /// Why no time of a stream's rows is one that makes them final, and the way out.
    fn why_never_final(&self, stream: &Stream) -> String {
        let is_time = |column: &StreamColumn| column.rowtime;
        let padded = stream.columns.iter().find(|column| is_time(column) && column.padded);
        if let Some(StreamColumn { slot: Slot::Physical(place), .. }) = padded {
            let time = stream.physical.field(*place).name();
            return format!(
                "{CLAUSE}: rows that the outer join shows without a match have no `{time}`, so they are never final; select the event time of \
                 the side that is always there"
            );
        }
        let nodes = self.behind(stream);
        if let Some(table) = self.without_watermark(&nodes) {
            return format!(
                "{CLAUSE} needs a watermark on `{table}`; add `WATERMARK FOR <column> AS <column> - INTERVAL '5' SECOND`"
            );
        }
        let joins = nodes.iter().any(|node| self.graph.nodes[*node].name() == "Join");
        let way_out = match joins {
            true => {
                "a join keeps event times where its condition ties those of both sides together (`a.ts BETWEEN b.ts - INTERVAL '1' HOUR AND \
                 b.ts`): add that, and select one of them"
            }
            false => {
                "select the column of which the watermark speaks, as it is, or aggregate by a window (`.. FROM TABLE(TUMBLE(TABLE t, \
                 DESCRIPTOR(ts), ..)) GROUP BY window_start, window_end`)"
            }
        };
        format!(
            "{CLAUSE}: rows leave when the watermark has passed their event time, and no column of the result is one; {way_out}"
        )
    }
}

/// How rows of a stream become final by the column at a place, if they do: the end of the window that they are in, or their event time.
fn finality_by(stream: &mut Stream, place: usize) -> Option<Finality> {
    let column = stream.columns.iter().find(|column| column.slot == Slot::Physical(place) && !column.padded)?.clone();
    match finality_in_window(stream, &column, place) {
        Some(finality) => Some(finality),
        None => column.rowtime.then_some(Finality::Order),
    }
}

/// How rows become final by a column of their window, if it is one.
fn finality_in_window(stream: &mut Stream, column: &StreamColumn, place: usize) -> Option<Finality> {
    let (info, part) = column.role.as_ref()?;
    let speaks = info.watermark && info.emit != Some(EmitKind::Changes) && info.to_end_ms(*part).is_some();
    let (column, shift_ms) = match info.closing_shift_ms(*part).filter(|_| speaks) {
        Some(shift_ms) => (place, shift_ms),
        None => {
            let closing = ShiftedTime::closing(place, info, *part).filter(|_| speaks)?;
            (stream.add_column(Arc::new(closing)), -1)
        }
    };
    Some(Finality::Window { column, shift_ms })
}

/// What makes the rows of a stream final, and the columns by which they leave: the window that they are in, else the first event time that all
/// of them have.
fn finality_of(stream: &mut Stream) -> Option<(Finality, Vec<usize>)> {
    let place = |column: &StreamColumn| match column.slot {
        Slot::Physical(place) if !column.padded => Some(place),
        _ => None,
    };
    let time = stream.columns.iter().filter(|column| column.rowtime).find_map(place);
    let columns: Vec<StreamColumn> = stream.columns.clone();
    for column in &columns {
        if let Some(window) = place(column)
            && let Some(finality) = finality_in_window(stream, column, window)
        {
            return Some((finality, [window].into_iter().chain(time.filter(|time| *time != window)).collect()));
        }
    }
    time.map(|time| (Finality::Order, vec![time]))
}
