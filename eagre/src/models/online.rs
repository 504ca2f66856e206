//! `CREATE MODEL .. WITH ('learn' = 'online', ..) AS SELECT ..`: nothing runs yet, but what could never run is told now.

use eagre_sql::parser::{self, CreateModel, Statement};

use crate::error::Result;
use crate::session::Session;

impl Session {
    /// Plans what the model would learn from.
    ///
    /// # Errors
    /// Rows that can be taken back, or of whose time no watermark speaks.
    pub(crate) fn check_online(&self, number: usize, statement: &Statement, create: &CreateModel) -> Result<()> {
        let catalog = self.catalog();
        let name = create.name.plain().replace('"', "\"\"");
        let drift = parser::parse(&format!("SELECT * FROM \"{name}\".drift"))?;
        let drift = drift.into_iter().map(|drift| Statement { location: statement.location, ..drift });
        self.plan(&drift.map(|drift| (number, drift, catalog.clone())).collect::<Vec<_>>()).map(drop)
    }
}
