//! ONNX graphs, on tract.
//!
//! A graph reads one tensor of all columns, `[rows, columns]`, or one for each column or group of columns, as exporters write them. The count of rows
//! is settled when the model is made (see [`crate::block`]), so that tract can optimise for it and answers do not depend on batches. Which
//! operators are missing is looked up before anything else, because tract would tell the first only, and late.
//!
//! A graph is somebody else's file: where tract would panic on one, that is an error of the file, and at run time of the rows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use eagre_engine::model::{Model, Predictions};
use tract_onnx::pb::{self, tensor_shape_proto::dimension::Value as Dim, type_proto};
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, IntoTValue, TValue, Tensor,
    TypedRunnableModel, tvec,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::answer::{Activation, Answer, Classes};
use crate::block::{BLOCK_ROWS, by_blocks, rows_of};
use crate::error::{ModelError, Result};
use crate::options::Definition;
use crate::signature::{Column, Signature, has_array};

const FORMAT: &str = "onnx";

/// A graph and what surrounds it.
pub struct OnnxModel {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<Port>,
    /// Which of the graph's outputs are the answer.
    outputs: Vec<usize>,
    block_rows: usize,
    width: usize,
    output_width: usize,
    input: SchemaRef,
    answer: Answer,
    hash: u64,
    text: String,
}

/// An input of a graph.
struct Port {
    datum_type: DatumType,
    /// How many columns it takes; `None`: one, as a vector.
    columns: Option<usize>,
}

impl Port {
    /// Whether it takes whole numbers only.
    fn is_whole(&self) -> bool {
        matches!(self.datum_type, DatumType::I64 | DatumType::I32)
    }
}

/// What is said of a tensor in the file: its type, and its dimensions where they are numbers.
fn shape_of(value: &pb::ValueInfoProto) -> Option<(i32, Option<Vec<Option<usize>>>)> {
    let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    let dims = tensor.shape.as_ref().map(|shape| {
        let size = |dim: &pb::tensor_shape_proto::Dimension| match &dim.value {
            Some(Dim::DimValue(size)) if *size > 0 => usize::try_from(*size).ok(),
            _ => None,
        };
        shape.dim.iter().map(size).collect()
    });
    Some((tensor.elem_type, dims))
}

/// A panic inside of tract, as text.
fn guarded<T>(work: impl FnOnce() -> std::result::Result<T, String>) -> std::result::Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("the ONNX runtime gave up on it".into()))
}

/// An error and its causes, in one line.
fn chain(error: impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Stack backtrace"));
    lines.filter(|line| !line.is_empty() && *line != "Caused by:").collect::<Vec<_>>().join("; ")
}

impl OnnxModel {
    /// The model of an ONNX file.
    ///
    /// # Errors
    /// A file that is damaged or asks for operators that are not there; columns or labels that do not fit its shapes.
    pub fn open(definition: &Definition, bytes: &[u8]) -> Result<Self> {
        let damaged = |reason: String| definition.damaged(FORMAT, reason);
        let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        let proto = guarded(|| onnx.proto_model_for_read(&mut &bytes[..]).map_err(chain)).map_err(damaged)?;
        let graph = proto.graph.as_ref().filter(|graph| !graph.node.is_empty());
        let graph = graph.ok_or_else(|| damaged("it has no graph".into()))?;
        let mut missing: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
        missing.retain(|operator| !onnx.op_register.0.contains_key(*operator));
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            return Err(ModelError::MissingOperators {
                model: definition.name.clone(),
                path: definition.option("path").unwrap_or_default().to_owned(),
                operators: missing.join(", "),
            });
        }
        let constants: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let given: Vec<&pb::ValueInfoProto> =
            graph.input.iter().filter(|input| !constants.contains(&input.name.as_str())).collect();
        let mut ports = Vec::new();
        let mut columns = Vec::new();
        let mut block_rows = BLOCK_ROWS;
        for value in &given {
            let (element, dims) =
                shape_of(value).ok_or_else(|| definition.shape(format!("its input `{}` is no tensor", value.name)))?;
            let datum_type = match pb::tensor_proto::DataType::try_from(element) {
                Ok(pb::tensor_proto::DataType::Float) => DatumType::F32,
                Ok(pb::tensor_proto::DataType::Double) => DatumType::F64,
                Ok(pb::tensor_proto::DataType::Int64) => DatumType::I64,
                Ok(pb::tensor_proto::DataType::Int32) => DatumType::I32,
                _ => return Err(definition.shape(format!("its input `{}` is no tensor of numbers", value.name))),
            };
            let dims = dims.unwrap_or_default();
            let width = match dims.as_slice() {
                [_] => None,
                [_, Some(width)] => Some(*width),
                // Where the file does not say, `INPUT (..)` does.
                [] | [_, None] => match definition.input.as_ref().filter(|columns| !has_array(columns)) {
                    Some(columns) if given.len() == 1 => Some(columns.len()),
                    Some(_) => Some(1),
                    None => {
                        return Err(definition.shape(format!(
                            "the file does not say how many columns its input `{}` has; write them, each by itself: `INPUT (a DOUBLE, b DOUBLE, ..)`",
                            value.name
                        )));
                    }
                },
                other => {
                    return Err(definition.shape(format!(
                        "its input `{}` has {} dimensions, and rows have two: [rows, columns]",
                        value.name,
                        other.len()
                    )));
                }
            };
            // A file may be for one count of rows only.
            if let Some(Some(rows)) = dims.first() {
                block_rows = *rows;
            }
            match width {
                Some(1) | None => columns.push(Column { name: value.name.clone(), sequence: false }),
                Some(width) if given.len() == 1 => {
                    columns.extend((1..=width).map(|number| Column { name: format!("x{number}"), sequence: false }));
                }
                Some(width) => {
                    columns.extend(
                        (1..=width).map(|number| Column { name: format!("{}_{number}", value.name), sequence: false }),
                    );
                }
            }
            ports.push(Port { datum_type, columns: width });
        }
        let width = columns.len();
        let input = Signature::input(definition, Some(&columns), Some(width))?;
        let plan = guarded(|| {
            let mut model = onnx.model_for_proto_model(&proto).map_err(chain)?;
            for (place, port) in ports.iter().enumerate() {
                let shape = match port.columns {
                    Some(columns) => tvec![block_rows, columns],
                    None => tvec![block_rows],
                };
                model = tract_onnx::tract_hir::prelude::Graph::with_input_fact(
                    model,
                    place,
                    InferenceFact::dt_shape(port.datum_type, shape),
                )
                .map_err(chain)?;
            }
            model.into_optimized().and_then(IntoRunnable::into_runnable).map_err(chain)
        });
        let plan = plan.map_err(damaged)?;
        let outputs =
            match definition.option("output.name") {
                None => (0..graph.output.len()).collect(),
                Some(name) => {
                    let place = graph.output.iter().position(|output| output.name == name);
                    let names =
                        graph.output.iter().map(|output| format!("'{}'", output.name)).collect::<Vec<_>>().join(", ");
                    vec![place.ok_or_else(|| {
                        definition.bad("output.name", name, &format!("the graph's outputs are {names}"))
                    })?]
                }
            };
        let mut model = Self {
            plan,
            inputs: ports,
            outputs,
            block_rows,
            width,
            output_width: 0,
            input,
            answer: Answer {
                activation: Activation::None,
                classes: None,
                output: Arc::new(arrow::datatypes::Schema::empty()),
            },
            hash: 0,
            text: match graph.node.len() {
                1 => "onnx graph of 1 node".to_owned(),
                nodes => format!("onnx graph of {nodes} nodes"),
            },
        };
        model.settle(definition, graph, bytes)?;
        Ok(model)
    }

    /// Finds out what comes out by asking once.
    fn settle(&mut self, definition: &Definition, graph: &pb::GraphProto, bytes: &[u8]) -> Result<()> {
        let trial = vec![0.0; self.block_rows * self.width];
        let tensors = guarded(|| self.run(&trial)).map_err(|reason| definition.damaged(FORMAT, reason))?;
        let classes = Classes::of(definition, None)?;
        let mut widths = Vec::new();
        for place in &self.outputs {
            let name = graph.output.get(*place).map(|output| output.name.as_str()).unwrap_or_default();
            let tensor = &tensors[*place];
            let width = match tensor.shape() {
                [rows] if *rows == self.block_rows => 1,
                [rows, width] if *rows == self.block_rows => *width,
                other => {
                    return Err(definition.shape(format!(
                        "its output `{name}` has the shape {other:?} for {} rows, and rows have one answer each: [rows, numbers]; name another \
                         output with 'output.name'",
                        self.block_rows
                    )));
                }
            };
            widths.push((*place, width));
        }
        // A classifier often gives its label beside the probabilities of all of them.
        if let (Some(classes), [_, _, ..]) = (&classes, widths.as_slice()) {
            widths.retain(|(_, width)| *width == classes.labels.len());
            if widths.len() != 1 {
                return Err(definition.shape(format!(
                    "of its {} outputs, {} have a number for each of the {} labels; say which with 'output.name'",
                    self.outputs.len(),
                    widths.len(),
                    classes.labels.len()
                )));
            }
        }
        self.outputs = widths.iter().map(|(place, _)| *place).collect();
        self.output_width = widths.iter().map(|(_, width)| width).sum();
        if let Some(classes) = classes.as_ref().filter(|classes| !classes.fits(self.output_width)) {
            return Err(definition.shape(format!(
                "the graph gives {} numbers a row, and there are {} labels; a classifier gives one for each (or one for two labels)",
                self.output_width,
                classes.labels.len()
            )));
        }
        if let Some(place) = self.mixing_output(&widths) {
            let name = graph.output.get(place).map(|output| output.name.as_str()).unwrap_or_default();
            return Err(definition.shape(format!(
                "what its output `{name}` says of a row depends on the rows beside it, and which those are is chance; a graph has to answer each row                  by itself (one that normalises over its batch has to be exported for inference)"
            )));
        }
        let activation = definition.activation()?.unwrap_or(Activation::None);
        let output = match &classes {
            Some(classes) => Signature::classification(definition, classes)?,
            None => Signature::regression(definition, None, self.output_width)?,
        };
        let said = format!("{activation:?} {:?} {output:?} {classes:?} {:?}", self.input, self.outputs);
        self.hash = xxh3_64_with_seed(said.as_bytes(), xxh3_64_with_seed(bytes, 1));
        self.answer = Answer { activation, classes, output };
        Ok(())
    }

    /// The first of these outputs (place and width) that says something else of a row where others are beside it than alone, or elsewhere in the
    /// block. A graph that cannot answer what it is tried with, as it is for other numbers, says nothing.
    fn mixing_output(&self, widths: &[(usize, usize)]) -> Option<usize> {
        const TOLERANCE: f32 = 1e-3;
        let last = self.block_rows.checked_sub(1).filter(|last| *last > 0)?;
        let whole: Vec<bool> =
            self.inputs.iter().flat_map(|port| vec![port.is_whole(); port.columns.unwrap_or(1)]).collect();
        // Small, and of either sign where they may be; whole numbers are often the number of something.
        let number = |row: usize, column: usize| match whole[column] {
            true => ((row + column) % 2) as f32,
            false => ((row * 37 + column * 61) % 17) as f32 / 4.0 - 1.9,
        };
        let block = |rows: &dyn Fn(usize) -> Option<usize>| {
            let cell = |place: usize| {
                let (row, column) = (place / self.width, place % self.width);
                rows(row).map_or(0.0, |shown| number(shown, column))
            };
            let block: Vec<f32> = (0..self.block_rows * self.width).map(cell).collect();
            self.forward(&block).ok().filter(|answer| answer.len() == self.block_rows * self.output_width)
        };
        let alone = block(&|row| (row == 0).then_some(1))?;
        let elsewhere = block(&|row| (row == last).then_some(1))?;
        let first_of_many = block(&|row| Some(row + 1))?;
        let last_of_many = block(&|row| Some(if row == last { 1 } else { row + 2 }))?;
        let differs = |column: usize| {
            let said = |answer: &[f32], row: usize| answer[row * self.output_width + column];
            let expected = said(&alone, 0);
            let others = [said(&elsewhere, last), said(&first_of_many, 0), said(&last_of_many, last)];
            let tolerance = TOLERANCE * expected.abs().max(1.0);
            others.iter().any(|other| other.is_finite() && expected.is_finite() && (other - expected).abs() > tolerance)
        };
        let column = (0..self.output_width).find(|column| differs(*column))?;
        let ends = widths.iter().scan(0, |end, (place, width)| {
            *end += width;
            Some((*place, *end))
        });
        ends.into_iter().find(|(_, end)| column < *end).map(|(place, _)| place)
    }

    /// All outputs for a block of rows.
    fn run(&self, block: &[f32]) -> std::result::Result<Vec<TValue>, String> {
        let mut first = 0;
        let mut inputs = tvec![];
        for port in &self.inputs {
            let columns = port.columns.unwrap_or(1);
            let values = (0..self.block_rows).flat_map(|row| &block[row * self.width + first..][..columns]).copied();
            let values: Vec<f32> = values.collect();
            first += columns;
            let shape: &[usize] = match port.columns {
                Some(columns) => &[self.block_rows, columns],
                None => &[self.block_rows],
            };
            let tensor = Tensor::from_shape(shape, &values).map_err(chain)?;
            inputs.push(tensor.cast_to_dt(port.datum_type).map_err(chain)?.into_owned().into_tvalue());
        }
        Ok(self.plan.run(inputs).map_err(chain)?.into_iter().collect())
    }

    fn forward(&self, block: &[f32]) -> std::result::Result<Vec<f32>, String> {
        let tensors = guarded(|| self.run(block))?;
        let mut parts: Vec<(Vec<f32>, usize)> = Vec::new();
        for place in &self.outputs {
            let tensor = tensors.get(*place).ok_or("an output is missing")?.cast_to::<f32>().map_err(chain)?;
            let view = tensor.try_as_plain_ram().map_err(chain)?;
            let values = view.as_slice::<f32>().map_err(chain)?.to_vec();
            let width = values.len() / self.block_rows;
            parts.push((values, width));
        }
        let row = |row: usize| parts.iter().flat_map(move |(values, width)| &values[row * width..][..*width]).copied();
        Ok((0..self.block_rows).flat_map(row).collect())
    }
}

impl Model for OnnxModel {
    fn describe(&self) -> String {
        self.text.clone()
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
        let names: Vec<&str> = self.input.fields().iter().map(|field| field.name().as_str()).collect();
        let mut read = rows_of(inputs, &names, rows);
        let mut column = 0;
        for port in &self.inputs {
            let columns = port.columns.unwrap_or(1);
            if port.is_whole() {
                read.refuse_fractions(inputs, &names, column..column + columns);
            }
            column += columns;
        }
        let (numbers, more) =
            by_blocks(&read.numbers, read.width, self.block_rows, self.output_width, |block| self.forward(block));
        Ok(self.answer.columns(numbers, self.output_width, rows, [read.refused, more].concat()))
    }
}
