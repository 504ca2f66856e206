//! The connectors as the engine sees them: tables with options in, batches, bad rows and files out.

mod bad_rows;
mod changelog;
mod checkpoint_store;
mod file_sink;
mod formats;
mod generated;
mod options;
mod resume;
mod streams;
mod support;
mod watched;
