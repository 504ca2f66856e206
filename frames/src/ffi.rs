//! A column from one library to the other by the C data interface.
//!
//! Each library declares the two structs of the interface for itself, with the layout that the specification fixes, and takes only its
//! own: so they change their type here. What a struct owns goes with it: whoever has it last
//! calls its `release`, which lets the buffers of the library that made it go.
//! After <https://arrow.apache.org/docs/format/CDataInterface.html>.
#![allow(unsafe_code, reason = "the C data interface is a struct of addresses, which neither library can check")]

use std::mem::{align_of, size_of, transmute};

use arrow::array::{Array, ArrayRef, make_array};
use arrow::datatypes::Field;
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi, to_ffi};
use polars::error::PolarsError;
use polars_arrow::datatypes::Field as PolarsField;
use polars_arrow::ffi::{ArrowArray, ArrowSchema, export_array_to_c, export_field_to_c};
use polars_arrow::ffi::{import_array_from_c, import_field_from_c};

/// A column in the memory of polars.
pub(crate) type PolarsArray = Box<dyn polars_arrow::array::Array>;

const _: () = {
    assert!(size_of::<ArrowArray>() == size_of::<FFI_ArrowArray>());
    assert!(align_of::<ArrowArray>() == align_of::<FFI_ArrowArray>());
    assert!(size_of::<ArrowSchema>() == size_of::<FFI_ArrowSchema>());
    assert!(align_of::<ArrowSchema>() == align_of::<FFI_ArrowSchema>());
};

/// The name and type of a column, as arrow has them.
///
/// # Errors
/// arrow has no such type.
pub(crate) fn field_of_polars(field: &PolarsField) -> Result<Field, ArrowError> {
    let schema = schema_of_polars(field);
    Field::try_from(&schema)
}

fn schema_of_polars(field: &PolarsField) -> FFI_ArrowSchema {
    let schema = export_field_to_c(field);
    // SAFETY: both are `#[repr(C)]` with the fields of the specification's `ArrowSchema`, in its order, and mean the same by them. The
    // value moves, so `release` is called once, by the new owner.
    unsafe { transmute::<ArrowSchema, FFI_ArrowSchema>(schema) }
}

/// The same column for arrow: its buffers stay where they are, and live as long as the result does.
///
/// # Errors
/// arrow has no such type.
pub(crate) fn array_of_polars(array: PolarsArray) -> Result<ArrayRef, ArrowError> {
    let schema = schema_of_polars(&PolarsField::new(Default::default(), array.dtype().clone(), true));
    let array = export_array_to_c(array);
    // SAFETY: as for the schema, with the specification's `ArrowArray`.
    let array = unsafe { transmute::<ArrowArray, FFI_ArrowArray>(array) };
    // SAFETY: the array and its schema were made from one array of polars, whose invariants (lengths, offsets, valid UTF-8) are those of
    // Arrow. What the array owns is shared and never written while it is.
    let data = unsafe { from_ffi(array, &schema) }?;
    Ok(make_array(data))
}

/// The same column for polars: its buffers stay where they are, and live as long as the result does.
///
/// # Errors
/// polars has no such type.
pub(crate) fn array_of_arrow(array: &dyn Array) -> Result<PolarsArray, FfiError> {
    let (array, schema) = to_ffi(&array.to_data())?;
    // SAFETY: both are `#[repr(C)]` with the fields of the specification's structs, in its order, and mean the same by them. The values
    // move, so `release` of each is called once, by the new owner.
    let (array, schema) =
        unsafe { (transmute::<FFI_ArrowArray, ArrowArray>(array), transmute::<FFI_ArrowSchema, ArrowSchema>(schema)) };
    // SAFETY: arrow made it of a type of its own.
    let field = unsafe { import_field_from_c(&schema) }?;
    // SAFETY: the array and its type were made from one array of arrow, which has checked its lengths, offsets and UTF-8. Nobody writes
    // its buffers while they are shared.
    Ok(unsafe { import_array_from_c(array, field.dtype) }?)
}

/// What either library says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FfiError {
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error(transparent)]
    Polars(#[from] PolarsError),
}

impl From<FfiError> for crate::FrameError {
    fn from(error: FfiError) -> Self {
        match error {
            FfiError::Arrow(error) => Self::Arrow(error),
            FfiError::Polars(error) => Self::Polars(error),
        }
    }
}
