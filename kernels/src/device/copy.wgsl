// A plain copy: what memory gives on this device, the yardstick of kernels that are bound by it.
//   target_words[i] = source[i]
const WORKGROUP_SIZE: u32 = 256u; // = calibrate::COPY_WORKGROUP_SIZE

struct Params {
    vector_count: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4<u32>>;             // [vector_count]
@group(0) @binding(2) var<storage, read_write> target_words: array<vec4<u32>>; // [vector_count]

@compute @workgroup_size(WORKGROUP_SIZE)
fn copy(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let i = linear_invocation(workgroup_id, num_workgroups, local_index, WORKGROUP_SIZE);
    if i < params.vector_count {
        target_words[i] = source[i];
    }
}
