// How wide a subgroup is. Only compiled where the adapter has subgroups.
struct Params {
    count: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;

@compute @workgroup_size(64)
fn subgroup(@builtin(local_invocation_index) lane: u32, @builtin(subgroup_size) size: u32) {
    if lane < params.count {
        output[lane] = size;
    }
}
