//! Programs: WGSL that is part of this crate, made into pipelines once for each set of overrides.
//!
//! A program is the shared prelude followed by its own source. Shapes are `override` constants, and everything else (patterns, models)
//! is data in buffers, so that a new query compiles nothing after the first one of its shape.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::DeviceError;
use super::error::one_line;

/// Put before the source of every program.
pub const PRELUDE: &str = include_str!("prelude.wgsl");
/// The most storage buffers of a program, by the default limits.
pub(super) const STORAGE_MAX: usize = 8;
/// The most workgroups in one direction, by the default limits.
pub(super) const WORKGROUPS_PER_DIMENSION_MAX: u32 = 65_535;

/// How a shader uses a storage binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
}

/// A shader that is part of the crate.
///
/// Binding 0 of group 0 is a `var<uniform>` with the parameters of the dispatch, binding `1 + i` is `storage[i]`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Program {
    /// The name of the kernel, in errors and as label.
    pub name: &'static str,
    /// WGSL, to which the prelude is put in front.
    pub source: &'static str,
    /// The storage bindings, from binding 1 on.
    pub storage: &'static [Access],
}

impl Program {
    /// The whole WGSL.
    pub fn wgsl(&self) -> String {
        format!("{PRELUDE}\n{}", self.source)
    }
}

/// One entry point with its overrides, ready to run.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PipelineKey {
    program: &'static Program,
    entry: &'static str,
    overrides: Vec<(&'static str, u64)>,
}

/// All pipelines made so far.
#[derive(Debug)]
pub(super) struct Pipelines {
    device: wgpu::Device,
    adapter: String,
    checked: bool,
    made: Mutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    pipelines: HashMap<PipelineKey, Arc<Pipeline>>,
    /// The entry points of a program have one layout, so that they can be run with one group of bindings.
    layouts: HashMap<&'static Program, wgpu::BindGroupLayout>,
}

impl Pipelines {
    pub(super) fn new(device: wgpu::Device, adapter: String, checked: bool) -> Self {
        Pipelines { device, adapter, checked, made: Mutex::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).pipelines.len()
    }

    /// The pipeline of an entry point, made now if it is the first time that it is asked for.
    pub(super) fn get(
        &self,
        program: &'static Program,
        entry: &'static str,
        overrides: &[(&'static str, f64)],
    ) -> Result<Arc<Pipeline>, DeviceError> {
        let key = PipelineKey {
            program,
            entry,
            overrides: overrides.iter().map(|&(name, value)| (name, value.to_bits())).collect(),
        };
        // Held while it is made, so that it is made once; others wait for what they need themselves, most often.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = made.pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let layout = made.layouts.entry(program).or_insert_with(|| self.layout(program)).clone();
        let pipeline = Arc::new(self.make(program, entry, overrides, layout)?);
        made.pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn layout(&self, program: &Program) -> wgpu::BindGroupLayout {
        let entries: Vec<wgpu::BindGroupLayoutEntry> = std::iter::once(wgpu::BufferBindingType::Uniform)
            .chain(
                program
                    .storage
                    .iter()
                    .map(|&access| wgpu::BufferBindingType::Storage { read_only: access == Access::Read }),
            )
            .zip(0..)
            .map(|(ty, binding)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
                count: None,
            })
            .collect();
        self.device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(program.name), entries: &entries })
    }

    fn make(
        &self,
        program: &'static Program,
        entry: &'static str,
        overrides: &[(&'static str, f64)],
        layout: wgpu::BindGroupLayout,
    ) -> Result<Pipeline, DeviceError> {
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let module = self.module(program);
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(program.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let raw = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: overrides,
                // WGSL promises zeros, and software drivers happen to give them: a shader that relies on it would pass all tests and
                // fail on a card. The fill costs little beside that.
                zero_initialize_workgroup_memory: true,
            },
            cache: None,
        });
        let internal = pollster::block_on(internal.pop());
        match pollster::block_on(validation.pop()).or(internal) {
            None => Ok(Pipeline { raw, layout }),
            Some(error) => Err(DeviceError::Validation {
                what: format!("the shader `{}.{entry}`", program.name),
                adapter: self.adapter.clone(),
                reason: one_line(&error.to_string()),
            }),
        }
    }

    #[allow(unsafe_code)]
    fn module(&self, program: &'static Program) -> wgpu::ShaderModule {
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(program.name),
            source: wgpu::ShaderSource::Wgsl(program.wgsl().into()),
        };
        if self.checked {
            self.device.create_shader_module(descriptor)
        } else {
            // SAFETY: sources are constants of this crate, never text from a user (`Program` is `'static` and no query makes one). They
            // index within their bindings, end their loops and do not divide by zero: the same tests run them with checks and without,
            // and compare every result with the twin's.
            unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        }
    }
}
