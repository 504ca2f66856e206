//! Where the parts of a clause stand in the text of the statements: for what goes wrong while rows are matched.

use std::hash::{Hash, Hasher};

use datafusion::logical_expr::LogicalPlan;
use eagre_engine::Place;
use std::sync::Arc;

use super::MatchRecognize;
use crate::error::Location;

/// Where something was written. Things that differ in nothing else are equal.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::planner) struct WrittenAt(pub(in crate::planner) Option<Location>);

impl PartialEq for WrittenAt {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for WrittenAt {}

impl Hash for WrittenAt {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What may reach a bound, or lead nowhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct RulesAt {
    pub(super) pattern: WrittenAt,
    pub(super) skip: WrittenAt,
}

/// A place, as the engine tells it.
pub(super) fn place(line_and_column: Option<(u64, u64)>) -> Place {
    Place { location: line_and_column, ..Place::default() }
}

impl WrittenAt {
    pub(super) fn line_and_column(self) -> Option<(u64, u64)> {
        self.0.map(|at| (at.line, at.column))
    }
}

/// A plan whose clauses, if it is one, have no places: see [`without_locations`](crate::planner::expr::without_locations).
pub(in crate::planner) fn without_places(mut plan: LogicalPlan) -> LogicalPlan {
    if let LogicalPlan::Extension(extension) = &mut plan
        && let Some(node) = extension.node.as_any().downcast_ref::<MatchRecognize>()
    {
        // What is lowered of a clause that stands nowhere has no places.
        extension.node = Arc::new(MatchRecognize { location: None, ..node.clone() });
    }
    plan
}
