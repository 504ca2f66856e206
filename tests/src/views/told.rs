//! What subscribers are told.

use std::collections::BTreeMap;

use eagre::Session;

use super::{lines, text};

/// What a subscription has told so far.
#[derive(Default)]
pub(super) struct Told {
    pub(super) rows: BTreeMap<String, i64>,
    pub(super) steps: Vec<u64>,
}

impl Told {
    pub(super) fn take(&mut self, change: &eagre::Change) {
        self.steps.push(change.step);
        for row in 0..change.batch.num_rows() {
            let weight = change.weights.as_ref().map_or(1, |weights| weights.value(row));
            let line = lines(&[change.batch.slice(row, 1)]).remove(0);
            *self.rows.entry(line).or_default() += weight;
        }
        self.rows.retain(|_, count| *count != 0);
    }
}

/// The changes of a view, read beside, until it ends.
pub(super) fn follow(session: &Session, view: &str) -> Result<std::thread::JoinHandle<Result<Told, String>>, String> {
    let mut changes = session.subscribe(view).map_err(text)?;
    Ok(std::thread::spawn(move || {
        let mut told = Told::default();
        while let Some(change) = changes.blocking_next().map_err(text)? {
            told.take(&change);
        }
        Ok(told)
    }))
}
