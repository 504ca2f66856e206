//! What other engines reach, from `peers.json` in the benchmark's folder: measured elsewhere and before, on a machine of the kind that the
//! file names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Of Nexmark.
pub(super) const NEXMARK: &str = include_str!("../../../../benches/nexmark/peers.json");

/// All stored figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Peers {
    /// Of all figures.
    pub unit: String,
    /// What they were measured on.
    pub machine: String,
    pub peers: Vec<Peer>,
}

/// One engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Peer {
    pub name: String,
    pub version: String,
    /// What was measured.
    pub what: String,
    /// By query (of patterns: query and keys, `v/1k`), in thousand events per CPU second.
    pub figures: BTreeMap<String, f64>,
}

impl Peers {
    /// Those of one of these files.
    pub(super) fn stored(file: &str) -> Result<Self> {
        Ok(serde_json::from_str(file).map_err(eagre_engine::EngineError::bug)?)
    }

    /// How many times each peer's figure this one is.
    pub(super) fn times(&self, query: &str, events_per_cpu_s: f64) -> BTreeMap<String, f64> {
        let times = |peer: &Peer| Some((peer.name.clone(), events_per_cpu_s / (peer.figures.get(query)? * 1e3)));
        self.peers.iter().filter_map(times).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ratio would be a thousand times off, or a query's figure missing.
    #[test]
    fn stored_figures_are_read_and_compared() {
        let peers = Peers::stored(NEXMARK).expect("the file is well-formed");
        let names: Vec<&str> = peers.peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["Flink", "DBSP", "best batch"]);
        let times = peers.times("q4", 3_820_000.0);
        assert!((times["Flink"] - 20.0).abs() < 1e-9, "{times:?}");
        assert_eq!(peers.times("q6", 1.0).keys().collect::<Vec<_>>(), ["DBSP"]);
        let known = |query: &String| super::super::query::QUERIES.iter().any(|known| known.name == query);
        assert!(peers.peers.iter().flat_map(|peer| peer.figures.keys()).all(known));
    }
}
