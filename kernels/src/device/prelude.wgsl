// Shared by all programs; put before their source.
//
// Dispatches of more than 65,535 workgroups are spread over x and y, so the grid may have a few workgroups more than were asked for:
// compare the linear id with the count in the parameters, and return first of all.

// Numbers the workgroups from 0, whatever the grid.
fn linear_workgroup(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>) -> u32 {
    return workgroup_id.y * num_workgroups.x + workgroup_id.x;
}

// Numbers the invocations from 0, whatever the grid; `local_index` is `local_invocation_index`.
fn linear_invocation(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>, local_index: u32, workgroup_size: u32) -> u32 {
    return linear_workgroup(workgroup_id, num_workgroups) * workgroup_size + local_index;
}

// `x != x` is false for NaN on some drivers, so its bits are looked at.
fn bits_are_nan(bits: u32) -> bool {
    return (bits & 0x7fffffffu) > 0x7f800000u;
}

fn is_nan(x: f32) -> bool {
    return bits_are_nan(bitcast<u32>(x));
}

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// NaN cannot be written as a constant; `zero` is a 0 that the compiler does not know (a field of the parameters).
fn quiet_nan(zero: u32) -> f32 {
    return bitcast<f32>(0x7fc00000u ^ zero);
}

// Bit `index` of a bitmap's word.
fn bit_of(word: u32, index: u32) -> bool {
    return ((word >> (index & 31u)) & 1u) != 0u;
}

// The lowest `count` bits, for 0..=32.
fn low_bits(count: u32) -> u32 {
    return select((1u << (count & 31u)) - 1u, 0xffffffffu, count >= 32u);
}

// The value, of which the compiler does not know any more how it came about: it cannot reassociate across it, nor fuse a
// multiplication with an addition. `zero` is a 0 that the compiler does not know (a field of the parameters).
fn launder(x: f32, zero: u32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ zero);
}

// a + b as (rounded sum, its error), exactly. Knuth (1969), "The Art of Computer Programming", volume 2, 4.2.2.
fn two_sum(a: f32, b: f32, zero: u32) -> vec2<f32> {
    let s = launder(a + b, zero);
    let bb = launder(s - a, zero);
    let aa = launder(s - bb, zero);
    let db = launder(b - bb, zero);
    let da = launder(a - aa, zero);
    return vec2<f32>(s, launder(da + db, zero));
}

// 64-bit integers are (low, high); signed ones in two's complement.
fn add64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn neg64(a: vec2<u32>) -> vec2<u32> {
    return add64(~a, vec2<u32>(1u, 0u));
}

fn sub64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn less_u64(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn less_i64(a: vec2<u32>, b: vec2<u32>) -> bool {
    return less_u64(vec2<u32>(a.x, a.y ^ 0x80000000u), vec2<u32>(b.x, b.y ^ 0x80000000u));
}

// The whole product of two 32-bit integers.
fn mul32(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let first = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let second = (a & 0xffffu) * (b >> 16u) + (first & 0xffffu);
    return vec2<u32>((second << 16u) | (low & 0xffffu), (a >> 16u) * (b >> 16u) + (first >> 16u) + (second >> 16u));
}

// 128-bit integers are four words, the lowest first.
fn add128(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    let low = add64(a.xy, b.xy);
    let high = add64(a.zw, b.zw);
    return vec4<u32>(low, add64(high, vec2<u32>(select(0u, 1u, less_u64(low, a.xy)), 0u)));
}
