//! What a pipeline keeps in its state folder, by name.
//!
//! A state folder may hold files of others: a user who gives `--state .` loses nothing to `--fresh`, because only names that eagre makes are
//! removed. Checkpoints go first: what is left after a crash in the middle is never a checkpoint without its files.

use eagre_engine::checkpoint::{CheckpointStore, MANIFEST_PREFIX, STATE_PREFIX};
use eagre_engine::log::LOG_PREFIX;

use crate::error::{Error, Result};
use crate::models::MODEL_PREFIX;
use crate::sink::results::RESULTS_PREFIX;
use crate::source::journal::JOURNAL_PREFIX;

/// The object of a state folder that says what runs there.
pub(crate) const JOB_OBJECT: &str = "job.json";
/// What [`JOB_OBJECT`] is about to say, while that is written anew: a crash in between leaves one of the two.
pub(crate) const NEXT_JOB_OBJECT: &str = "job.next.json";
/// The object that gives the pipeline a name of its own, for the files that its sinks write. It outlives `--fresh`: what the forgotten run
/// has left half-written is cleared away by its name.
const PIPELINE_OBJECT: &str = "pipeline";

/// What eagre writes into a state folder, in the order in which it is forgotten. Names go on with numbers of [`NUMBER_DIGITS`] digits.
const PREFIXES: &[&str] = &[MANIFEST_PREFIX, STATE_PREFIX, LOG_PREFIX, RESULTS_PREFIX, JOURNAL_PREFIX, MODEL_PREFIX];
const NUMBER_DIGITS: usize = 20;

/// Whether eagre has made this name.
fn is_own(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.len() >= NUMBER_DIGITS && file.bytes().take(NUMBER_DIGITS).all(|byte| byte.is_ascii_digit())
}

/// Removes all that a pipeline has kept.
pub(crate) fn forget(store: &dyn CheckpointStore) -> Result<()> {
    for prefix in PREFIXES {
        // The newest first: an older checkpoint is whole without it, and never the other way round.
        for name in store.list(prefix)?.iter().rev().filter(|name| is_own(name)) {
            store.delete(name)?;
        }
    }
    store.delete(NEXT_JOB_OBJECT)?;
    Ok(store.delete(JOB_OBJECT)?)
}

/// The name of the pipeline of this state folder: `candidate`, unless it has one.
pub(crate) fn pipeline_name(store: &dyn CheckpointStore, candidate: &str) -> Result<String> {
    if let Some(name) = read_name(store)? {
        return Ok(name);
    }
    store.put_if_absent(PIPELINE_OBJECT, candidate.as_bytes())?;
    // Another process may have been faster.
    let name = read_name(store)?;
    name.ok_or_else(|| Error::usage(format!("`{PIPELINE_OBJECT}` in {} cannot be read back", store.describe())))
}

fn read_name(store: &dyn CheckpointStore) -> Result<Option<String>> {
    let name = store.get(PIPELINE_OBJECT)?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    Ok(name.filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use eagre_engine::checkpoint::MemoryStore;

    use super::*;

    /// `--fresh` on a folder that holds other things too must not remove them.
    #[test]
    fn only_own_objects_are_forgotten() {
        let store = MemoryStore::new();
        let own = [
            "job.json",
            "job.next.json",
            "journal/t/00000000000000000001",
            "log/00000000000000000001-abc.jsonl.zst",
            "manifest/00000000000000000001.json",
            "model/00000000000000000001",
            "model/trained/00000000000000000001.safetensors",
            "results/0f/00000000000000000001-abc",
            "state/0f/00000000000000000001-0000-abc.arrow",
        ];
        let foreign = ["notes.txt", "state/ohio.csv", "log/today.log", "in/00000000000000000001.json"];
        for name in own.iter().chain(&foreign) {
            assert!(store.put_if_absent(name, b"x").expect("in memory"));
        }
        let name = pipeline_name(&store, "one").expect("in memory");
        forget(&store).expect("in memory");
        let mut left = store.list("").expect("in memory");
        left.sort();
        assert_eq!(left, ["in/00000000000000000001.json", "log/today.log", "notes.txt", "pipeline", "state/ohio.csv"]);
        assert_eq!((name.as_str(), pipeline_name(&store, "two").expect("in memory").as_str()), ("one", "one"));
    }
}
