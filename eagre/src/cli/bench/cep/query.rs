//! The queries, as they lie in `benches/cep`.

use super::events::Stream;
use super::rules;

/// A query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    /// One pattern: its name and text.
    Pattern { name: &'static str, text: &'static str },
    /// So many rules at once.
    Rules(u64),
}

macro_rules! patterns {
    ($($name:literal)*) => {
        &[$(Query::Pattern { name: $name, text: include_str!(concat!("../../../../../benches/cep/", $name, ".sql")) }),*]
    };
}

static PATTERNS: &[Query] = patterns!["v" "fraud" "login" "funnel2" "funnel3" "sessionize" "streak" "sum" "avg"];
const RULES: &str = "rules";

/// All names.
pub(super) static NAMES: &[&str] =
    &["v", "fraud", "login", "funnel2", "funnel3", "sessionize", "streak", "sum", "avg", RULES];

/// The queries of this name; empty: there is none.
pub(super) fn named(name: &str, patterns: &[u64]) -> Vec<Query> {
    let rules = patterns.iter().map(|patterns| Query::Rules(*patterns));
    match name {
        "all" => PATTERNS.iter().copied().chain(rules).collect(),
        RULES => rules.collect(),
        name => PATTERNS.iter().copied().filter(|query| query.name() == name).collect(),
    }
}

impl Query {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Pattern { name, .. } => name,
            Self::Rules(_) => RULES,
        }
    }

    /// How many patterns it looks for.
    pub(super) fn patterns(&self) -> u64 {
        match self {
            Self::Pattern { .. } => 1,
            Self::Rules(patterns) => *patterns,
        }
    }

    /// What is run over the stream.
    pub(super) fn text(&self, stream: &Stream) -> String {
        match self {
            Self::Pattern { text, .. } => text.replace("{gap}", &stream.session_gap_ms().to_string()),
            Self::Rules(patterns) => rules::text(*patterns),
        }
    }
}
