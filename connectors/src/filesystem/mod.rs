//! The connector `filesystem`: files on local disk or in an object store, as input and as exactly-once output.
//!
//! - [`columns`]: the columns of tables that are created without.
//! - [`location`]: paths, folders, patterns and URLs become files that can be read in ranges.
//! - [`durable_file`]: files that are on the disk on return, around the page cache where that is cheaper.
//! - [`file`]: one file becomes a sequence of blocks (or batches) with positions to start from again.
//! - [`source`]: many files, read a few at a time, decoded on a pool of threads, handed over in order.
//! - [`sink`]: rows become parts that are staged out of sight, and shown when a checkpoint says so.
//! - [`staging`]: where parts wait, and how they are published.

pub(crate) mod columns;
pub(crate) mod durable_file;
pub(crate) mod file;
pub(crate) mod location;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod staging;
