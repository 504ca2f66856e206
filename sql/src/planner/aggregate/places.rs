//! Where the columns of a group are in the rows that leave an aggregation.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use eagre_engine::expr::{ExprRef, PlainColumn};

use crate::planner::lower::{Lowering, ShiftedTime, Slot, Stream, WindowPart, window_field};

/// Where an operator puts the columns of the group.
pub(in crate::planner) struct GroupPlaces {
    pub(in crate::planner) first_key: usize,
    pub(in crate::planner) start: usize,
    pub(in crate::planner) end: usize,
    pub(in crate::planner) time: Option<usize>,
}

impl GroupPlaces {
    pub(super) fn keys_only() -> Self {
        Self { first_key: 0, start: 0, end: 0, time: None }
    }

    pub(super) fn of(&self, part: WindowPart) -> usize {
        match part {
            WindowPart::Start => self.start,
            WindowPart::End => self.end,
            WindowPart::Time => self.time.unwrap_or(usize::MAX),
        }
    }
}

impl Lowering<'_> {
    /// `window_time`, which the keyed table does not hold, computed from `window_end`.
    pub(super) fn append_window_time(&mut self, stream: &mut Stream, column: usize, end: usize) {
        let watermark = stream.columns[column].rowtime;
        let Some((info, _)) = &stream.columns[column].role else {
            return;
        };
        let field = window_field(WindowPart::Time, &info.time_type, watermark);
        let time = ShiftedTime::window_time(end, info, Arc::clone(&field));
        let mut fields: Vec<FieldRef> = stream.physical.fields().iter().cloned().collect();
        let mut exprs: Vec<ExprRef> = vec![];
        for (index, field) in fields.iter().enumerate() {
            exprs.push(Arc::new(PlainColumn::new(index, Arc::clone(field))));
        }
        exprs.push(Arc::new(time));
        fields.push(field);
        let place = fields.len() - 1;
        let (columns, key) = (std::mem::take(&mut stream.columns), stream.key.take());
        self.project_physical(stream, exprs, Arc::new(Schema::new(fields)));
        stream.columns = columns;
        stream.columns[column].slot = Slot::Physical(place);
        // Where the window's end is not a column of the query, its time identifies it as well.
        let shows_end = stream.columns.iter().any(|column| column.slot == Slot::Physical(end));
        stream.key =
            key.map(|key| key.into_iter().map(|key| if key == end && !shows_end { place } else { key }).collect());
    }
}
