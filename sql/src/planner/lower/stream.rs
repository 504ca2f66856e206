//! Rows on their way from one graph node to the next, and what their columns mean: the event time that a watermark speaks of, the
//! window that they belong to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr as LogicalExpr;
use eagre_engine::graph::{ChangelogMode, EdgeInfo, NodeIndex};
use eagre_engine::operator::chain::Stage;
use eagre_engine::wall_clock::WallClock;

use super::trend::Trend;
use crate::error::{Result, SqlError};
use crate::parser::EmitKind;
use crate::planner::join::Extreme;
use crate::planner::window::{WindowCut, WindowShape};

/// The three columns of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::planner) enum WindowPart {
    Start,
    End,
    Time,
}

impl WindowPart {
    pub(in crate::planner) const ALL: [Self; 3] = [Self::Start, Self::End, Self::Time];
}

/// The window that rows belong to, by function.
#[derive(Debug, Clone)]
pub(in crate::planner) struct WindowInfo {
    pub(in crate::planner) spec: WindowShape,
    /// By whose local time it is cut.
    pub(in crate::planner) clock: WallClock,
    /// The type of `window_time`; the window's start and end are of it without a zone.
    pub(in crate::planner) time_type: DataType,
    /// Whether a watermark speaks of its time.
    pub(in crate::planner) watermark: bool,
    pub(in crate::planner) emit: Option<EmitKind>,
    /// Whether late rows were refused already where the windows were made: nobody behind it judges rows by their window's end.
    pub(in crate::planner) judged: bool,
}

impl WindowInfo {
    /// Whether rows of both are in the same windows, and speak of them when the others do.
    pub(in crate::planner) fn is_as(&self, other: &Self) -> bool {
        self.spec == other.spec
            && self.clock == other.clock
            && self.emit == other.emit
            && self.watermark == other.watermark
    }

    /// From a window's column to the window's end, in milliseconds; `None`: the end does not follow from it. `window_time` is an instant: to
    /// the one at which the window closes.
    pub(in crate::planner) fn to_end_ms(&self, part: WindowPart) -> Option<i64> {
        use eagre_engine::operator::window::WindowKind;
        match (part, self.spec) {
            (WindowPart::End, _) => Some(0),
            (WindowPart::Time, _) => Some(1),
            (WindowPart::Start, WindowShape::Aligned(spec)) => match spec.kind {
                WindowKind::Tumble { size_ms } | WindowKind::Hop { size_ms, .. } => Some(size_ms),
                WindowKind::Cumulate { .. } => None,
            },
            (WindowPart::Start, WindowShape::Session { .. }) => None,
        }
    }

    /// From a window's column, as it is, to the window's last millisecond; `None`: local time is not that of the watermark, or the end does
    /// not follow from it.
    pub(in crate::planner) fn closing_shift_ms(&self, part: WindowPart) -> Option<i64> {
        let is_instant = self.clock.is_utc() || part == WindowPart::Time;
        self.to_end_ms(part).filter(|_| is_instant).map(|to_end_ms| to_end_ms - 1)
    }

    /// How it is cut.
    pub(in crate::planner) fn cut(&self) -> WindowCut {
        WindowCut { spec: self.spec, clock: self.clock.clone() }
    }

    /// Whether rows with the same value in this column are in the same window.
    pub(in crate::planner) fn identified_by(&self, part: WindowPart) -> bool {
        use eagre_engine::operator::window::WindowKind;
        match self.spec {
            // Many windows begin together; and sessions that do need not end together.
            WindowShape::Session { .. } => part == WindowPart::End || part == WindowPart::Time && !self.clock.changes(),
            // All windows that end where the clocks jump have one last instant.
            WindowShape::Aligned(_) if part == WindowPart::Time => !self.clock.changes(),
            WindowShape::Aligned(spec) => {
                !matches!(spec.kind, WindowKind::Cumulate { .. }) || part != WindowPart::Start
            }
        }
    }

    /// The part that identifies the window among the columns of a group, where `place` says which columns are parts: one that is read, if
    /// there is such a one.
    pub(in crate::planner) fn key_part(
        &self,
        place: impl Fn(WindowPart) -> Option<usize>,
        wanted: Option<&BTreeSet<usize>>,
    ) -> WindowPart {
        let parts = [WindowPart::End, WindowPart::Start, WindowPart::Time].into_iter();
        let mut identify = parts.filter(|part| self.identified_by(*part) && place(*part).is_some());
        let is_read =
            |part: &WindowPart| wanted.is_none_or(|wanted| place(*part).is_some_and(|column| wanted.contains(&column)));
        let first = identify.clone().next().unwrap_or(WindowPart::End);
        identify.find(is_read).unwrap_or(first)
    }
}

/// Where a column of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::planner) enum Slot {
    /// In the batches, at this place.
    Physical(usize),
    /// Nowhere yet: of the pending window.
    Window(WindowPart),
}

/// One column of a logical plan's output.
#[derive(Debug, Clone)]
pub(in crate::planner) struct StreamColumn {
    pub(in crate::planner) slot: Slot,
    /// `Some`: the column is this part of the window that the row belongs to.
    pub(in crate::planner) role: Option<(WindowInfo, WindowPart)>,
    /// Whether the stream's watermark speaks of this column.
    pub(in crate::planner) rowtime: bool,
    /// Whether an outer join has filled it with nulls.
    pub(in crate::planner) padded: bool,
    /// Whether rows of one value, within one key, come all in one step of the pipeline, and no other comes later.
    pub(in crate::planner) whole: bool,
    /// `Some`: the column is the greatest or least of the rows of a window.
    pub(in crate::planner) extreme: Option<Extreme>,
    /// `Some`: how the column of a row is replaced, while rows are only replaced.
    pub(in crate::planner) trend: Option<Trend>,
    /// Whether it is never null, whatever its type says.
    pub(in crate::planner) never_null: bool,
}

impl StreamColumn {
    pub(in crate::planner) fn plain(index: usize) -> Self {
        Self {
            slot: Slot::Physical(index),
            role: None,
            rowtime: false,
            padded: false,
            whole: false,
            extreme: None,
            trend: None,
            never_null: false,
        }
    }

    /// How far behind the watermark this column's values in rows to come may be, in milliseconds; `None`: as far as they like. Of the
    /// windows of rows to come, none has ended.
    pub(in crate::planner) fn behind_ms(&self) -> Option<i64> {
        match &self.role {
            _ if self.rowtime => Some(0),
            // Of local times no watermark speaks as it is.
            Some((info, part)) if !info.clock.is_utc() && *part != WindowPart::Time => None,
            Some((info, part)) if info.watermark => info.to_end_ms(*part),
            _ => None,
        }
    }
}

/// A window function whose columns nobody has looked at.
#[derive(Debug, Clone)]
pub(in crate::planner) struct PendingWindow {
    pub(in crate::planner) info: WindowInfo,
    /// The event-time column in the batches.
    pub(in crate::planner) time: usize,
    /// The columns in the batches whose values have sessions of their own.
    pub(in crate::planner) partition: Vec<usize>,
}

/// Rows on their way.
#[derive(Clone)]
pub(in crate::planner) struct Stream {
    /// The node and port that they leave.
    pub(in crate::planner) from: (NodeIndex, u8),
    /// What is done to them after that.
    pub(in crate::planner) stages: Vec<Stage>,
    /// The columns of the batches after the stages.
    pub(in crate::planner) physical: SchemaRef,
    /// The columns of the logical plan's output.
    pub(in crate::planner) columns: Vec<StreamColumn>,
    pub(in crate::planner) pending: Option<PendingWindow>,
    pub(in crate::planner) changelog: ChangelogMode,
    /// Columns of `physical` that identify a row.
    pub(in crate::planner) key: Option<Vec<usize>>,
    /// Whether rows are only ever replaced, in the step that takes them back, by others of the same key: none goes for good.
    pub(in crate::planner) lasting: bool,
    /// Why rows can be taken back, and the way out.
    pub(in crate::planner) retracts_because: Option<String>,
    /// Whether rows are taken back when the watermark has passed their times, though no row of a source is late.
    pub(in crate::planner) retracts_late: bool,
    /// Whether the rows come one by one from sources, and so can have arrival numbers.
    pub(in crate::planner) ordered: bool,
    /// The arrival numbers of rows whose edge has none any more, as a column of `physical`.
    pub(in crate::planner) arrival: Option<usize>,
    /// Whether a stage needs arrival numbers.
    pub(in crate::planner) needs_ordinals: bool,
    /// Whether there are rows that a stage cannot compute.
    pub(in crate::planner) may_fail: bool,
    pub(in crate::planner) bounded: bool,
    /// Whether a step says of each row once what became of it.
    pub(in crate::planner) consolidated: bool,
    pub(in crate::planner) lateness_ms: i64,
    /// The tables that the rows come from, with what their columns mean.
    pub(in crate::planner) tables: BTreeMap<String, String>,
}

impl Stream {
    /// Refuses rows that are taken back where each is to come once.
    ///
    /// # Errors
    /// Some can be.
    pub(in crate::planner) fn check_final(&self, who: &str) -> Result<()> {
        self.refuse_taken_back(|reason| {
            format!(
                "{who} of a stream that does not end is of rows that come once, and these can be taken back{reason}; add `EMIT ON WINDOW CLOSE`"
            )
        })
    }

    /// Refuses rows that are taken back, for what `who` learns from rows and would `instead` do with others.
    ///
    /// # Errors
    /// Some can be.
    pub(in crate::planner) fn check_learnable(&self, who: &str, instead: &str) -> Result<()> {
        self.refuse_taken_back(|reason| {
            format!(
                "{who} learns from rows and cannot unlearn one that is taken back{reason}; {instead} rows that are only inserted, such as those of \
                 windows that have closed (`EMIT ON WINDOW CLOSE`)"
            )
        })
    }

    /// Refuses rows that are taken back, by a message that is told why they are.
    fn refuse_taken_back(&self, message: impl Fn(&str) -> String) -> Result<()> {
        if self.changelog == ChangelogMode::AppendOnly {
            return Ok(());
        }
        let reason = self.retracts_because.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        Err(SqlError::plan(message(&reason), None))
    }

    /// Whether rows are those of its node, as they are.
    pub(in crate::planner) fn is_plain(&self) -> bool {
        self.stages.is_empty()
    }

    /// The place in the batches of each column; columns of a pending window have none.
    pub(in crate::planner) fn mapping(&self) -> Vec<usize> {
        let place = |column: &StreamColumn| match column.slot {
            Slot::Physical(index) => index,
            Slot::Window(_) => usize::MAX,
        };
        self.columns.iter().map(place).collect()
    }

    pub(in crate::planner) fn time_column(&self) -> Option<usize> {
        self.columns.iter().find_map(|column| match (column.rowtime, column.slot) {
            (true, Slot::Physical(index)) => Some(index),
            _ => None,
        })
    }

    /// The node and port that the rows leave.
    pub(in crate::planner) fn from(&self) -> (NodeIndex, u8) {
        self.from
    }

    pub(super) fn edge_info(&self) -> EdgeInfo {
        EdgeInfo {
            schema: Arc::clone(&self.physical),
            changelog: self.changelog,
            key: self.key.clone(),
            time_column: self.time_column(),
            ordinals: false,
        }
    }

    /// [`Self::edge_info`] of an operator that keeps the rows' arrival numbers.
    pub(in crate::planner) fn output_info(&self) -> EdgeInfo {
        EdgeInfo { ordinals: self.needs_ordinals, ..self.edge_info() }
    }

    /// The rows now leave this node and port.
    pub(in crate::planner) fn leave(&mut self, from: (NodeIndex, u8)) {
        self.from = from;
    }

    /// Has the rows carry arrival numbers to the next operator.
    pub(in crate::planner) fn require_ordinals(&mut self) {
        self.needs_ordinals = true;
    }

    /// Whether the pending window is a session, which a row that is left out would change.
    pub(super) fn is_in_sessions(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| matches!(pending.info.spec, WindowShape::Session { .. }))
    }

    /// Whether `expr` looks at a column of the pending window.
    pub(in crate::planner) fn looks_at_window(&self, expr: &LogicalExpr, schema: &DFSchema) -> bool {
        let is_window = |column: &datafusion::common::Column| {
            let index = schema.index_of_column(column);
            index.is_ok_and(|index| matches!(self.columns[index].slot, Slot::Window(_)))
        };
        self.pending.is_some() && expr.column_refs().into_iter().any(is_window)
    }
}
