//! Models that go on learning from a labelled stream while they are asked.
//!
//! What a model has learnt by some event time is a function of the labelled rows before it, learnt one after the other in the order of time. So a row is
//! answered by what was learnt *before its own event time*, and neither the cut of steps, nor the number of shards, nor a restart shows in an answer.
//! For that, learning and asking happen in one place of a pipeline ([`operator::online`](crate::operator::online)), as those of a global aggregate do.
//!
//! A [`Model`](crate::model::Model) that does so says it by [`Model::online`](crate::model::Model::online). Operators each have a [`Learner`] of their own, with
//! its state in the checkpoint; what is learnt by two of them from the same rows is the same.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::Field;

use crate::error::Result;
use crate::model::Predictions;

/// How a model learns.
pub trait Online: Send + Sync {
    /// One that has learnt nothing yet.
    fn learner(&self) -> Box<dyn Learner>;

    /// How many numbers a [`Learner`] answers with.
    fn width(&self) -> usize;

    /// The columns of [`Model::output`](crate::model::Model::output) for `rows` answers of [`width`](Self::width) numbers each.
    fn answers(&self, numbers: Vec<f64>, rows: usize) -> Predictions;

    /// What is to be learnt for each label, as a number; or why nothing can be.
    ///
    /// # Errors
    /// A column of a type that is no label.
    fn targets(&self, labels: &ArrayRef) -> Result<Vec<std::result::Result<f64, Arc<str>>>>;

    /// The columns of a report, behind its time and the count of rows that were learnt by then.
    fn report_fields(&self) -> Vec<Field>;

    /// Reports as columns of [`report_fields`](Self::report_fields).
    ///
    /// # Errors
    /// None, for reports of this model.
    fn reports(&self, reports: &[Report]) -> Result<Vec<ArrayRef>>;
}

/// How well a model did on some rows before it learnt them, and how far these are from the rows that it began with: numbers whose meaning the model knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// How many rows were learnt in all.
    pub rows: u64,
    /// The figures; NaN where there is none.
    pub figures: Vec<f64>,
}

/// A copy of a model, with all that it has learnt. It holds no clock and no chance: the same rows in the same order make the same copy.
pub trait Learner: Send {
    /// Answers for one row of finite numbers: `answer` has [`Online::width`] of them, all finite.
    fn predict(&mut self, features: &[f64], answer: &mut [f64]);

    /// Learns one row of finite numbers. Gives a report when enough rows for one were learnt.
    fn learn(&mut self, features: &[f64], target: f64) -> Option<Report>;

    /// How many rows were learnt.
    fn rows(&self) -> u64;

    /// All that was learnt.
    fn save(&self) -> Vec<u8>;

    /// Goes on from what was [saved](Self::save).
    ///
    /// # Errors
    /// It is of another model or version, or damaged.
    fn restore(&mut self, saved: &[u8]) -> Result<()>;

    /// Lets those who look at the model from outside (`DESCRIBE MODEL`, queries over finished rows) see what was learnt.
    fn publish(&self);

    /// Bytes held, about.
    fn bytes(&self) -> usize;
}
