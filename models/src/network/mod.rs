//! Networks in safetensors files, on candle.
//!
//! Shapes say how large a network is and `'arch'` what it is; nothing else has to be said. Layers are found by their names as PyTorch and candle
//! write them: any `<name>.weight` of two dimensions with its `<name>.bias`, in the order of names with their numbers read as numbers; a gru has
//! `weight_ih_l0`, `weight_hh_l0` and their biases before that. `input.mean` and `input.deviation` standardise what goes in, `output.mean` and
//! `output.deviation` what comes out. Files that were trained here say in their header what they are ([`Card`]).

mod file;
mod layers;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use candle_core::{Device, Tensor};
use eagre_engine::EngineError;
use eagre_engine::model::{Model, Predictions, Refusal};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) use self::file::write;
pub use self::file::{CARD, Card};
pub(crate) use self::layers::Network;
pub use self::layers::{Arch, Hidden};
use crate::answer::{Activation, Answer, Classes};
use crate::block::{BLOCK_ROWS, by_blocks, rows_of, sequences_of};
use crate::error::Result;
use crate::options::Definition;
use crate::signature::{Signature, has_array};

/// A network and what surrounds it.
pub struct NetworkModel {
    network: Network,
    input: SchemaRef,
    answer: Answer,
    hash: u64,
    details: Vec<(String, String)>,
}

impl NetworkModel {
    /// The network of a safetensors file.
    ///
    /// # Errors
    /// A file that is damaged, tensors that make no network of the stated kind, columns or labels that do not fit its shapes.
    pub fn open(definition: &Definition, bytes: &[u8]) -> Result<Self> {
        let file = file::read(definition, bytes)?;
        let card = file.card.clone().unwrap_or_default();
        let arch = match (definition.word("arch", &Arch::ALL)?, card.arch) {
            (Some(arch), _) | (None, Some(arch)) => arch,
            (None, None) => {
                return Err(crate::ModelError::MissingOption {
                    model: definition.name.clone(),
                    option: "arch",
                    meaning: "what the tensors are, 'linear', 'logistic', 'mlp' or 'gru'",
                    example: "mlp",
                });
            }
        };
        let hidden = definition.hidden()?.or(card.activation).unwrap_or(Hidden::Relu);
        let network = Network::build(definition, arch, hidden, file.tensors)?;
        let sequence = card.input.as_ref().is_some_and(|columns| columns.iter().any(|column| column.sequence))
            || definition.input.as_deref().is_some_and(has_array);
        // A gru reads as many numbers as come, in steps of its width.
        let width = match arch {
            Arch::Gru if sequence => None,
            Arch::Gru => {
                let columns = definition.input.as_ref().map(Vec::len).or(card.input.as_ref().map(Vec::len));
                let columns = columns.unwrap_or(network.input_width());
                if !columns.is_multiple_of(network.input_width()) {
                    return Err(definition.shape(format!(
                        "the gru reads {} numbers a step, and `INPUT` names {columns} columns, which is no multiple of that",
                        network.input_width()
                    )));
                }
                Some(columns)
            }
            _ => Some(network.input_width()),
        };
        let input = Signature::input(definition, card.input.as_deref(), width)?;
        let classes = Classes::of(definition, card.labels.as_deref())?;
        let outputs = network.output_width();
        if let Some(classes) = classes.as_ref().filter(|classes| !classes.fits(outputs)) {
            return Err(definition.shape(format!(
                "the last layer gives {outputs} numbers, and there are {} labels; a classifier gives one for each (or one for two labels)",
                classes.labels.len()
            )));
        }
        let activation = match (definition.activation()?, &classes) {
            (Some(activation), _) => activation,
            (None, Some(_)) if outputs > 1 => Activation::Softmax,
            (None, Some(_)) => Activation::Sigmoid,
            (None, None) if arch == Arch::Logistic => Activation::Sigmoid,
            (None, None) => Activation::None,
        };
        let output = match &classes {
            Some(classes) => Signature::classification(definition, classes)?,
            None => Signature::regression(definition, card.output.as_deref(), outputs)?,
        };
        let said = format!("{arch:?} {hidden:?} {activation:?} {input:?} {output:?} {classes:?}");
        let hash = xxh3_64_with_seed(said.as_bytes(), xxh3_64_with_seed(bytes, 0));
        Ok(Self { network, input, hash, answer: Answer { activation, classes, output }, details: card.details() })
    }

    /// The last layer's numbers, for rows of numbers.
    fn forward(&self, numbers: &[f32], width: usize) -> (Vec<f64>, Vec<Refusal>) {
        by_blocks(numbers, width, BLOCK_ROWS, self.network.output_width(), |block| {
            let answer = Tensor::from_slice(block, (BLOCK_ROWS, width), &Device::Cpu)
                .and_then(|block| self.network.forward(&block))
                .and_then(|answer| answer.flatten_all()?.to_vec1::<f32>());
            answer.map_err(|error| error.to_string())
        })
    }

    /// Arrays of one length are a block of rows.
    fn of_sequences(&self, column: &ArrayRef) -> (Vec<f64>, Vec<Refusal>) {
        let (sequences, mut refused) = sequences_of(column, self.input.field(0).name());
        let (step, outputs) = (self.network.input_width(), self.network.output_width());
        let mut by_length: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
        let faulty: std::collections::BTreeSet<u32> = refused.iter().map(|refusal| refusal.row).collect();
        for (row, sequence) in sequences.iter().enumerate().filter(|(row, _)| !faulty.contains(&(*row as u32))) {
            match sequence.len() % step {
                0 => by_length.entry(sequence.len()).or_default().push(row),
                _ => refused.push(Refusal {
                    row: row as u32,
                    reason: format!(
                        "its input `{}` has {} numbers, which is no multiple of {step}",
                        self.input.field(0).name(),
                        sequence.len()
                    ),
                }),
            }
        }
        let mut answers = vec![0.0; sequences.len() * outputs];
        for (length, rows) in by_length {
            let numbers: Vec<f32> = rows.iter().flat_map(|row| sequences[*row].iter().copied()).collect();
            let (values, more) = self.forward(&numbers, length);
            for (row, values) in rows.iter().zip(values.chunks(outputs)) {
                answers[row * outputs..][..outputs].copy_from_slice(values);
            }
            refused
                .extend(more.into_iter().map(|refusal| Refusal { row: rows[refusal.row as usize] as u32, ..refusal }));
        }
        (answers, refused)
    }
}

impl Model for NetworkModel {
    fn describe(&self) -> String {
        format!("safetensors {}", self.network)
    }

    fn input(&self) -> &SchemaRef {
        &self.input
    }

    fn output(&self) -> &SchemaRef {
        &self.answer.output
    }

    fn labels(&self) -> Option<&[String]> {
        self.answer.classes.as_ref().map(|classes| classes.labels.as_slice())
    }

    fn hash(&self) -> u64 {
        self.hash
    }

    fn predict(&self, inputs: &[ArrayRef], rows: usize) -> eagre_engine::Result<Predictions> {
        if inputs.len() != self.input.fields().len() {
            return Err(EngineError::bug(format!("{} is asked about {} columns", self.describe(), inputs.len())));
        }
        let (numbers, refused) = match inputs {
            [column] if column.data_type().is_nested() => self.of_sequences(column),
            _ => {
                let names: Vec<&str> = self.input.fields().iter().map(|field| field.name().as_str()).collect();
                let read = rows_of(inputs, &names, rows);
                let (numbers, more) = self.forward(&read.numbers, read.width);
                (numbers, [read.refused, more].concat())
            }
        };
        Ok(self.answer.columns(numbers, self.network.output_width(), rows, refused))
    }

    fn details(&self) -> Vec<(String, String)> {
        self.details.clone()
    }
}
