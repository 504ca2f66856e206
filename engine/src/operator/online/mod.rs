//! A model that learns while it is asked: labelled rows in, what is known of others out.
//!
//! Labelled rows come as [`LabelledFactory`] makes them: numbers, the bad ones told and left out. [`OnlinePredictFactory`] has two inputs, the rows that ask and the
//! labelled rows; both wait until the watermark of the two has passed them. Then they are one sequence in the order of event time, in which a row that asks
//! comes before the labelled rows of its time: what it says of a payment must not depend on the verdict on that payment. Labelled rows of one millisecond are learnt in
//! an order that is drawn from their content, so the order of arrival does not show. [`OnlineReportFactory`] learns the same and tells how well that goes.
//!
//! Both live on the shard of the first hash group, as a global aggregate does: a sequence has one place. Each has a copy of the model, because that costs
//! less than shipping the weights of each millisecond to where they are asked for.

mod labelled;
mod lessons;
mod predict;
mod questions;
mod report;
#[cfg(test)]
mod tests;

pub use labelled::LabelledFactory;
pub use predict::{OnlineCall, OnlinePredictFactory, Question};
pub use questions::QuestionsFactory;
pub use report::OnlineReportFactory;

/// About as many rows are looked at at once.
const CHUNK_ROWS: usize = 65_536;
const WATERMARK: &str = "watermark";
