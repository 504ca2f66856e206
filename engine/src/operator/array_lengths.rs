//! Tells of arrays that have another length than a model reads.
//!
//! A score of an array has a place for each of its numbers, so a row whose array has more or fewer has no score. It stays where it is,
//! as one without a value does, and is a bad row besides: a sensor that sends fewer numbers than it did is a fault that somebody wants to know of.
//! Rows that can be taken back do not come here, as no score can be unlearnt.

use std::sync::Arc;

use super::{BadRows, Input, Operator, OperatorFactory, Output, Progress};
use crate::arrays::{misfits, of_numbers};
use crate::delta::Delta;
use crate::error::Result;

/// What the operator is called in `EXPLAIN` and in metrics.
pub const NAME: &str = "ArrayLengths";

/// A column of arrays, and how many numbers each is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayLength {
    /// The place of the column.
    pub column: usize,
    /// How many numbers.
    pub width: usize,
    /// Who reads it, as the user wrote it: the `origin` of `<view>.errors`.
    pub reader: String,
}

/// Makes operators that hand on what comes, and tell which arrays are of another length.
pub struct ArrayLengthsFactory {
    lengths: Arc<[ArrayLength]>,
}

impl ArrayLengthsFactory {
    /// Over columns of arrays of numbers.
    pub fn new(lengths: Vec<ArrayLength>) -> Self {
        Self { lengths: lengths.into() }
    }
}

impl OperatorFactory for ArrayLengthsFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(ArrayLengths { lengths: Arc::clone(&self.lengths) }))
    }

    fn refuses_as_bad(&self) -> bool {
        true
    }
}

/// See the [module](self).
struct ArrayLengths {
    lengths: Arc<[ArrayLength]>,
}

impl ArrayLengths {
    fn tell(&self, delta: &Delta, out: &mut Output) -> Result<()> {
        for ArrayLength { column, width, reader } in self.lengths.iter() {
            let name = delta.batch.schema_ref().field(*column).name();
            for (length, rows) in misfits(delta.batch.column(*column), *width)? {
                let reason = format!("`{name}` is an ARRAY of {}, and this one has {length}", of_numbers(*width));
                out.bad(BadRows::of(delta, rows, reason, reader.clone())?);
            }
        }
        Ok(())
    }
}

impl Operator for ArrayLengths {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        for delta in input.single().iter().filter(|delta| !delta.is_empty()) {
            self.tell(delta, out)?;
            out.emit(delta.clone());
        }
        Ok(Progress::Done)
    }

    keeps_nothing!();
}
