//! The queries, as they lie in `benches/nexmark`, and what they need besides the three tables.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// A query of the benchmark.
#[derive(Debug)]
pub(super) struct Query {
    /// `q5`.
    pub name: &'static str,
    /// One `SELECT`, perhaps after a view that it reads.
    pub text: &'static str,
}

macro_rules! queries {
    ($($name:literal)*) => {
        &[$(Query { name: $name, text: include_str!(concat!("../../../../benches/nexmark/", $name, ".sql")) }),*]
    };
}

/// All of them, Nexmark's first.
#[rustfmt::skip]
pub(super) static QUERIES: &[Query] = queries![
    "q0" "q1" "q2" "q3" "q4" "q5" "q6" "q7" "q8" "q9" "q10" "q11" "q12" "q13" "q14" "q15" "q16" "q17" "q18" "q19" "q20" "q21" "q22"
    "q5win" "q7win" "tumble10k" "hop10k" "group10k"
];

/// Functions that the queries call.
pub(super) const FUNCTIONS: &str = include_str!("../../../../benches/nexmark/functions.sql");

/// q13's table outside: a number below 10,000 and a text.
pub(super) const SIDE_INPUT: &str = include_str!("../../../../benches/nexmark/side_input.csv");

impl Query {
    /// Whether it is no query of Nexmark but a part of one, or windows over keys of its own.
    pub(super) fn is_extra(&self) -> bool {
        self.name[1..].parse::<u8>().is_err()
    }

    /// Whether it reads [`keyed`](super::keyed) rows and not Nexmark's tables.
    pub(super) fn is_keyed(&self) -> bool {
        self.text.contains("keyed")
    }

    /// Whether its output goes to files.
    pub(super) fn writes_files(&self) -> bool {
        self.name == "q10"
    }

    /// The text to run when time is taken.
    pub(super) fn measured_text(&self, folder: &Folder) -> String {
        if !self.writes_files() {
            return self.text.to_owned();
        }
        format!(
            "CREATE TABLE nexmark_q10 (auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP(3), extra STRING, dt STRING, hm STRING)
             PARTITIONED BY (dt, hm) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');
             INSERT INTO nexmark_q10 {}",
            folder.quoted("q10"),
            self.text
        )
    }
}

/// A folder for what queries read and write outside; gone when this is dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A fresh one with the side input in it.
    pub(super) fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("eagre-bench-{}", std::process::id()));
        let failed = |error| Error::File { path: path.display().to_string(), error };
        std::fs::create_dir_all(&path).map_err(failed)?;
        std::fs::write(path.join("side_input.csv"), SIDE_INPUT).map_err(failed)?;
        Ok(Self(path))
    }

    /// A path in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A path in it, for a text in single quotes.
    fn quoted(&self, name: &str) -> String {
        self.path(name).display().to_string().replace('\'', "''")
    }

    /// Removes what a query wrote.
    pub(super) fn clear(&self, name: &str) {
        // What was not written need not be removed.
        let _ = std::fs::remove_dir_all(self.0.join(name));
    }

    /// The statement that makes the side input a table.
    pub(super) fn side_input(&self) -> String {
        format!(
            "CREATE TABLE side_input (key BIGINT, `value` STRING) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv')",
            self.quoted("side_input.csv")
        )
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is in the system's folder for what need not stay.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
