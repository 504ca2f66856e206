//! Which adapters there are, and which one is taken.

use std::sync::OnceLock;

use super::DeviceError;

/// One adapter: a graphics card, an integrated one, or a driver that computes on the CPU.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct AdapterDescription {
    /// Its name, as the driver gives it.
    pub name: String,
    /// The driver's name and version.
    pub driver: String,
    /// `vulkan`, `metal` or `dx12`; `gl` only where the environment asks for it.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub device_type: String,
    /// It computes on the CPU: right for tests, never quicker than the twins.
    pub software: bool,
    /// How many bytes the device has, where it tells.
    pub memory_bytes: Option<u64>,
    /// The most bytes that a shader can bind at once.
    pub storage_binding_bytes_max: u64,
    /// The most bytes of one buffer.
    pub buffer_bytes_max: u64,
    /// The most storage buffers of one shader.
    pub storage_buffers_max: u32,
    /// The most invocations of a workgroup.
    pub workgroup_invocations_max: u32,
    /// The most bytes of a workgroup's memory.
    pub workgroup_bytes_max: u32,
    /// The least and the greatest width of a subgroup.
    pub subgroup_sizes: (u32, u32),
    /// Which optional features it has, of those that matter to kernels.
    pub features: Vec<String>,
}

impl AdapterDescription {
    fn new(adapter: &wgpu::Adapter) -> Self {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let named = [
            (wgpu::Features::TIMESTAMP_QUERY, "timestamps"),
            (wgpu::Features::SUBGROUP, "subgroups"),
            (wgpu::Features::SHADER_F64, "f64"),
            (wgpu::Features::SHADER_INT64, "i64"),
            (wgpu::Features::SHADER_F16, "f16"),
            (wgpu::Features::MAPPABLE_PRIMARY_BUFFERS, "mappable memory"),
        ];
        let name = info.name.to_lowercase();
        let software = info.device_type == wgpu::DeviceType::Cpu
            || ["llvmpipe", "swiftshader", "softpipe", "basic render"].iter().any(|part| name.contains(part));
        AdapterDescription {
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            backend: info.backend.to_str().to_owned(),
            device_type: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => "discrete",
                wgpu::DeviceType::IntegratedGpu => "integrated",
                wgpu::DeviceType::VirtualGpu => "virtual",
                wgpu::DeviceType::Cpu => "cpu",
                wgpu::DeviceType::Other => "other",
            }
            .to_owned(),
            software,
            memory_bytes: vulkan_device_memory(adapter),
            storage_binding_bytes_max: limits.max_storage_buffer_binding_size,
            buffer_bytes_max: limits.max_buffer_size,
            storage_buffers_max: limits.max_storage_buffers_per_shader_stage,
            workgroup_invocations_max: limits.max_compute_invocations_per_workgroup,
            workgroup_bytes_max: limits.max_compute_workgroup_storage_size,
            subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
            features: named
                .iter()
                .filter(|(feature, _)| features.contains(*feature))
                .map(|(_, name)| (*name).to_owned())
                .collect(),
            name: info.name,
        }
    }

    /// Which of two adapters is taken first: cards before software, direct drivers before OpenGL.
    fn rank(&self) -> (bool, u8, bool) {
        let device_type = match self.device_type.as_str() {
            "discrete" => 0,
            "integrated" => 1,
            "virtual" => 2,
            "other" => 3,
            _ => 4,
        };
        (self.software, device_type, self.backend == "gl")
    }

    fn matches(&self, filter: &str) -> bool {
        self.name.to_lowercase().contains(&filter.to_lowercase())
    }
}

/// How many bytes a Vulkan device has of its own: the largest heap that is local to it. wgpu does not tell.
#[cfg(not(target_vendor = "apple"))]
#[allow(unsafe_code)]
fn vulkan_device_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the handle is only asked for its properties while the adapter lives, and nothing is destroyed through it.
    let properties = unsafe {
        let vulkan = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = vulkan.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(vulkan.raw_physical_device())
    };
    const DEVICE_LOCAL: u32 = 1;
    properties
        .memory_heaps_as_slice()
        .iter()
        .filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0)
        .map(|heap| heap.size)
        .max()
}

#[cfg(target_vendor = "apple")]
fn vulkan_device_memory(_: &wgpu::Adapter) -> Option<u64> {
    None
}

/// One for the process, because it takes long to load all drivers and a lost device is opened again.
fn instance() -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let descriptor = wgpu::InstanceDescriptor {
            // Not OpenGL: its waits do not come back on some drivers, and where there is a card there is Vulkan, Metal or DirectX too.
            backends: wgpu::Backends::PRIMARY,
            // Debug layers slow every command down and print to the terminal; who wants them sets WGPU_VALIDATION and WGPU_DEBUG.
            flags: wgpu::InstanceFlags::empty(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        };
        wgpu::Instance::new(descriptor.with_env())
    })
}

fn enumerate() -> Vec<(wgpu::Adapter, AdapterDescription)> {
    let adapters = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()));
    let mut described: Vec<_> = adapters
        .into_iter()
        .map(|adapter| {
            let description = AdapterDescription::new(&adapter);
            (adapter, description)
        })
        .collect();
    described.sort_by_key(|(_, description)| description.rank());
    described
}

/// All adapters of this machine, the best first.
pub(super) fn adapters() -> Vec<AdapterDescription> {
    enumerate().into_iter().map(|(_, description)| description).collect()
}

/// The best adapter whose name has `filter` in it, by the rule on software.
pub(super) fn choose(
    filter: Option<&str>,
    allow_software: bool,
) -> Result<(wgpu::Adapter, AdapterDescription), DeviceError> {
    let adapters = enumerate();
    let found = match adapters
        .iter()
        .map(|(_, one)| format!("`{}` ({}, {})", one.name, one.device_type, one.backend))
        .collect::<Vec<_>>()
    {
        names if names.is_empty() => "none".to_owned(),
        names => names.join(", "),
    };
    adapters
        .into_iter()
        .find(|(_, one)| (allow_software || !one.software) && filter.is_none_or(|filter| one.matches(filter)))
        .ok_or_else(|| DeviceError::NoAdapter {
            asked: match (filter, allow_software) {
                (Some(filter), true) => format!("has `{filter}` in its name"),
                (Some(filter), false) => format!("that is not software has `{filter}` in its name"),
                (None, true) => "is there".to_owned(),
                (None, false) => "is there that is not software".to_owned(),
            },
            found,
        })
}
