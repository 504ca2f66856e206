//! Models of one's own: what `CREATE MODEL` names.
//!
//! A file becomes something that answers for columns ([`eagre_engine::model::Model`]): networks in safetensors files run on candle
//! ([`network`]), ONNX graphs on tract ([`onnx`]); rows of a query become a network ([`train`]), those of a stream a model that goes on learning ([`online`]). What surrounds both is here: which columns go in and come out ([`signature`]), rows in blocks of one
//! size ([`block`]), labels, probabilities and priorities ([`answer`]).
//!
//! A service that is a model is asked over HTTP ([`http`]).
//!
//! What this room lacks: SQL, connectors, files and the environment. Bytes are handed in, so a model may come from wherever the session reads.

mod answer;
mod block;
mod error;
pub mod forecaster;
pub mod http;
pub mod network;
pub mod online;
pub mod onnx;
mod options;
mod signature;
pub mod train;

use std::sync::Arc;

use eagre_engine::model::Model;

pub use self::error::{ModelError, Result};
pub use self::options::{Definition, ModelOption, OPTIONS, check};
pub use self::signature::{Column, Signature};

/// The model of a definition, whose file holds `bytes`.
///
/// # Errors
/// Options that cannot be, a file that is damaged, that asks for operators that are not there, or whose shapes do not fit what is said of it.
pub fn open(definition: &Definition, bytes: &[u8]) -> Result<Arc<dyn Model>> {
    check(definition)?;
    if online::is_online(definition)? {
        return Ok(Arc::new(online::OnlineModel::open(definition)?));
    }
    if definition.is_remote()? {
        return Ok(Arc::new(http::HttpModel::open(definition)?));
    }
    match definition.format()? {
        options::Format::Safetensors => Ok(Arc::new(network::NetworkModel::open(definition, bytes)?)),
        options::Format::Onnx => Ok(Arc::new(onnx::OnnxModel::open(definition, bytes)?)),
    }
}
