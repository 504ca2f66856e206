// A new page of state: every slot holds the initial words of its kernel.
//   page[i] = initial[(i / divisor) % modulus]
// Twin: state::StatePages::fill.
const WORKGROUP_SIZE: u32 = 256u; // = resident::FILL_WORKGROUP_SIZE
const WORDS: u32 = 16u;           // = resident::FILL_WORDS

struct Params {
    page_words: u32,
    divisor: u32,
    modulus: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> initial: array<u32>;     // [words of a slot]
@group(0) @binding(2) var<storage, read_write> page: array<u32>;  // [page_words]

@compute @workgroup_size(WORKGROUP_SIZE)
fn fill_page(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    // Neighbouring invocations write neighbouring words.
    let first = linear_workgroup(workgroup_id, num_workgroups) * WORKGROUP_SIZE * WORDS + local_index;
    for (var step = 0u; step < WORDS; step++) {
        let i = first + step * WORKGROUP_SIZE;
        if i < params.page_words {
            page[i] = initial[(i / params.divisor) % params.modulus];
        }
    }
}
