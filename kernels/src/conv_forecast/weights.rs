//! The network's numbers, from a safetensors file.

use std::sync::LazyLock;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use super::{DILATIONS, FEATURES, HIDDEN, NAME, OUTPUTS, PATCH, WIDTH};
use crate::kernel::KernelError;

/// A linear layer: its name in the file and how many numbers go in and come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// In the file `<name>.weight`, `[outputs, inputs]`, and `<name>.bias`, `[outputs]`.
    pub name: &'static str,
    /// Numbers in.
    pub inputs: usize,
    /// Numbers out.
    pub outputs: usize,
}

impl Layer {
    /// Weights and biases.
    pub const fn numbers(&self) -> usize {
        (self.inputs + 1) * self.outputs
    }
}

/// All layers in their order.
pub const LAYERS: [Layer; 3 + 2 * DILATIONS.len()] = [
    Layer { name: "embed", inputs: FEATURES, outputs: WIDTH },
    Layer { name: "blocks.0.expand", inputs: 2 * WIDTH, outputs: HIDDEN },
    Layer { name: "blocks.0.contract", inputs: HIDDEN, outputs: WIDTH },
    Layer { name: "blocks.1.expand", inputs: 2 * WIDTH, outputs: HIDDEN },
    Layer { name: "blocks.1.contract", inputs: HIDDEN, outputs: WIDTH },
    Layer { name: "blocks.2.expand", inputs: 2 * WIDTH, outputs: HIDDEN },
    Layer { name: "blocks.2.contract", inputs: HIDDEN, outputs: WIDTH },
    Layer { name: "blocks.3.expand", inputs: 2 * WIDTH, outputs: HIDDEN },
    Layer { name: "blocks.3.contract", inputs: HIDDEN, outputs: WIDTH },
    Layer { name: "head.hidden", inputs: WIDTH, outputs: HIDDEN },
    Layer { name: "head.output", inputs: HIDDEN, outputs: PATCH * OUTPUTS },
];

/// Where each layer begins in [`Weights::numbers`], and where the last one ends.
pub(super) const STARTS: [usize; LAYERS.len() + 1] = {
    let mut starts = [0; LAYERS.len() + 1];
    let mut layer = 0;
    while layer < LAYERS.len() {
        starts[layer + 1] = starts[layer] + LAYERS[layer].numbers();
        layer += 1;
    }
    starts
};

/// What `eagre train forecaster` has written, see the folder's README.
pub const BUILTIN_FILE: &[u8] = include_bytes!("trained/forecaster.safetensors");

/// The weights of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Of each layer: `[inputs][outputs]`, so that neighbouring outputs lie together, then the biases.
    numbers: Vec<f32>,
}

impl Weights {
    /// How many there are.
    pub const COUNT: usize = STARTS[LAYERS.len()];

    /// Those of the repository.
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Weights> =
            LazyLock::new(|| Weights::read(BUILTIN_FILE).expect("a test reads the file of the repository"));
        &BUILTIN
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// A file that is none, tensors that are missing, have another shape or type, or are not finite.
    pub fn read(bytes: &[u8]) -> Result<Self, KernelError> {
        let refuse = |expected: String, given: String| KernelError::Parameter {
            kernel: NAME,
            parameter: "weights",
            expected,
            given,
        };
        let file = SafeTensors::deserialize(bytes).map_err(|error| {
            refuse("a safetensors file".into(), format!("{} bytes that are none: {error}", bytes.len()))
        })?;
        let tensor = |name: String, shape: &[usize]| {
            let expected = || format!("a file with a tensor `{name}` of finite F32 and shape {shape:?}");
            let view = file.tensor(&name).map_err(|error| refuse(expected(), format!("one without: {error}")))?;
            if view.dtype() != Dtype::F32 || view.shape() != shape {
                return Err(refuse(expected(), format!("of {:?} and shape {:?}", view.dtype(), view.shape())));
            }
            let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
            let numbers: Vec<f32> = view.data().chunks_exact(4).map(number).collect();
            match numbers.iter().find(|number| !number.is_finite()) {
                Some(number) => Err(refuse(expected(), format!("one with {number}"))),
                None => Ok(numbers),
            }
        };
        let mut numbers = Vec::with_capacity(Self::COUNT);
        for Layer { name, inputs, outputs } in LAYERS {
            let weight = tensor(format!("{name}.weight"), &[outputs, inputs])?;
            for input in 0..inputs {
                numbers.extend((0..outputs).map(|output| weight[output * inputs + input]));
            }
            numbers.extend(tensor(format!("{name}.bias"), &[outputs])?);
        }
        Ok(Weights { numbers })
    }

    /// Weights `[inputs][outputs]` and biases of a layer, by its place in [`LAYERS`].
    pub(super) fn layer(&self, layer: usize) -> (&[f32], &[f32]) {
        let Layer { inputs, outputs, .. } = LAYERS[layer];
        self.numbers[STARTS[layer]..STARTS[layer + 1]].split_at(inputs * outputs)
    }

    /// All numbers, as the shader has them.
    pub fn numbers(&self) -> &[f32] {
        &self.numbers
    }
}
