//! Events to stream: seeded generators, and small real data with its origin and licence.
//!
//! A benchmark or a test of a stream engine needs input that can be had again: at any offset after a crash, on any number of
//! threads, on any machine. So every event here is a *pure function of (seed, event number)*. There is no generator state to
//! save: a checkpoint keeps one event number, a shard takes a range of them, and any cut of a range into batches gives the same
//! rows. The functions use integers and correctly rounded float arithmetic only (no `sin` or `pow` of the platform), so the
//! bytes do not depend on the machine either.
//!
//! Events are made column by column, straight into Arrow arrays; text is mostly cut as views from pools shared by all batches.
//! A projection makes only the columns that it names, with the same values.
//!
//! - [`nexmark`]: the auction benchmark, after the official generator: tables `person`, `auction`, `bid`.
//! - [`payments`]: card payments with planted fraud episodes and their labels.
//! - [`telemetry`]: machine sensors with planted faults and their labels.
//! - [`webshop`]: clicks in a shop, with carts that are left and what became of them.
//! - [`anomalies`]: series of one value with planted anomalies of many kinds and their labels, and series without any.
//! - [`mixtures`]: random mixtures of trend, seasons, walks, shifts, spikes and noise, to learn forecasting from.
//! - [`real`]: real series with labelled anomalies, embedded in the binary.
//!
//! [`catalog()`] lists the generated tables and [`open`] makes one by name, as a connector does:
//!
//! ```
//! let options = serde_json::json!({ "seed": 7, "event-count": "1000" });
//! let bids = eagre_datasets::open("nexmark", "bid", options.as_object().expect("an object"))?;
//! let batch = bids.batch(0..1_000, None)?;
//! assert_eq!(batch.num_rows(), 920); // 46 of 50 events are bids
//! # Ok::<(), eagre_datasets::DatasetError>(())
//! ```

pub mod anomalies;
mod catalog;
mod columns;
mod config;
mod error;
mod generator;
mod math;
pub mod mixtures;
pub mod nexmark;
mod order;
pub mod payments;
mod random;
pub mod real;
pub mod telemetry;
mod text;
pub mod webshop;

pub use catalog::{Dataset, DatasetTable, catalog, open};
pub use error::{DatasetError, Result};
pub use generator::{EVENT_COUNT_MAX, Generator};
