//! Room of eagre.
