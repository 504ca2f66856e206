//! Frames of polars as Arrow's record batches and back.
//!
//! polars has its own implementation of Arrow: the same buffers in memory, behind other types. The C data interface, which both libraries
//! speak, hands a column over by the addresses of its buffers, so nothing is copied where both mean the same by a type. This crate knows
//! both libraries and nothing else; what a table or a result is, others know.
//!
//! SQL has fewer types than either library ([`types`]): a column of another type is brought to the nearest one, which copies offsets or
//! values of this column alone, or it is refused with what to do. Text is the same on both sides (views of shared buffers).
//!
//! polars is here without readers of files, and with few of its operations: a program that makes frames names `polars` among its own
//! dependencies, with the features that it needs, and cargo makes one library of both.
//!
//! ```
//! use eagre_frames::polars::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let frame = df!("machine" => ["a", "b"], "celsius" => [20.5, 21.0])?;
//! let batches = eagre_frames::batches(&frame, 8_192)?;
//! assert_eq!(batches[0].num_rows(), 2);
//! let back = eagre_frames::frame(batches[0].schema_ref(), &batches)?;
//! assert!(back.equals(&frame));
//! # Ok(())
//! # }
//! ```

mod batches;
mod column;
mod error;
mod ffi;
mod frame;
#[cfg(test)]
mod tests;
pub mod types;

pub use self::batches::{batches, schema};
pub use self::error::FrameError;
pub use self::frame::{Frame, frame};
pub use polars;
