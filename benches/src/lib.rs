//! Micro-benchmarks of the hot operators: `cargo bench -p eagre-benches`. Whole queries are measured by `eagre bench`; the published
//! figures, with their commands, are in `README.md`.

pub mod cep;
