//! What a `DROP` takes away from others.

use super::Catalog;
use crate::error::Result;
use crate::parser::{Drop, DropKind};
use crate::planner;

/// An object whose query needs another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependent {
    /// What it is.
    pub kind: DropKind,
    /// Its name, as it was created.
    pub name: String,
}

impl Catalog {
    /// The views, and the models that go on learning from a query, which plan now and would not behind a `DROP`; also those that need one of
    /// these.
    ///
    /// # Errors
    /// Those of [`drop`](Self::drop).
    pub fn dependents(&self, drop: &Drop) -> Result<Vec<Dependent>> {
        let mut rest = self.clone();
        rest.drop(drop)?;
        let mut found = Vec::new();
        loop {
            let known = found.len();
            for (key, view) in &self.views {
                let fails = |catalog: &Self| planner::query_schema(catalog, &view.query).is_err();
                if rest.views.contains_key(key) && fails(&rest) && !fails(self) {
                    rest.views.remove(key);
                    let kind = if view.materialized { DropKind::MaterializedView } else { DropKind::View };
                    found.push(Dependent { kind, name: view.name.clone() });
                }
            }
            for (key, model) in &self.models {
                let Some(online) = model.online.as_ref().filter(|_| rest.models.contains_key(key)) else {
                    continue;
                };
                let fails = |catalog: &Self| planner::query_schema(catalog, &online.view.query).is_err();
                if fails(&rest) && !fails(self) {
                    rest.models.remove(key);
                    found.push(Dependent { kind: DropKind::Model, name: model.definition.name.clone() });
                }
            }
            if found.len() == known {
                return Ok(found);
            }
        }
    }
}
