// What an adapter does with loops, integers, NaN, floats and barriers. The host compares; see evaluate.rs for what each is about.
const WORKGROUP_SIZE: u32 = 256u;   // = probe::WORKGROUP_SIZE
const INTEGER_WORDS: u32 = 11u;     // = probe::INTEGER_WORDS
const FLOAT_WORDS: u32 = 6u;        // = probe::FLOAT_WORDS

struct Params {
    count: u32,
    inner: u32,
    zero: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<u32>;
@group(0) @binding(2) var<storage, read_write> output: array<u32>;

fn mix(x: u32) -> u32 {
    return x * 1664525u + 1013904223u;
}

// One loop of `count`, then `inner` loops of `inner`: how many iterations ran, and a hash that no closed form gives.
@compute @workgroup_size(1)
fn loops() {
    var hash = params.zero;
    var single = 0u;
    for (var i = 0u; i < params.count; i++) {
        hash = mix(hash ^ i);
        single++;
    }
    var nested = 0u;
    for (var i = 0u; i < params.inner; i++) {
        for (var j = 0u; j < params.inner; j++) {
            hash = mix(hash ^ j);
            nested++;
        }
    }
    output[0] = single;
    output[1] = nested;
    output[2] = hash;
}

// 64 and 128 bits out of 32, from two pairs of words each.
@compute @workgroup_size(WORKGROUP_SIZE)
fn integers(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.count {
        return;
    }
    let a = vec2<u32>(input[id.x * 4u], input[id.x * 4u + 1u]);
    let b = vec2<u32>(input[id.x * 4u + 2u], input[id.x * 4u + 3u]);
    let at = id.x * INTEGER_WORDS;
    let sum = add64(a, b);
    let difference = sub64(a, b);
    let product = mul32(a.x, b.x);
    let wide = add128(vec4<u32>(a, b), vec4<u32>(b, a));
    output[at] = sum.x;
    output[at + 1u] = sum.y;
    output[at + 2u] = difference.x;
    output[at + 3u] = difference.y;
    output[at + 4u] = product.x;
    output[at + 5u] = product.y;
    output[at + 6u] = wide.x;
    output[at + 7u] = wide.y;
    output[at + 8u] = wide.z;
    output[at + 9u] = wide.w;
    output[at + 10u] = select(0u, 1u, less_u64(a, b)) | select(0u, 2u, less_i64(a, b));
}

// Bit 0: NaN by its bits; bit 1: unequal to itself; bit 2: finite.
@compute @workgroup_size(WORKGROUP_SIZE)
fn nans(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.count {
        return;
    }
    let x = bitcast<f32>(input[id.x]);
    output[id.x] = select(0u, 1u, bits_are_nan(input[id.x])) | select(0u, 2u, x != x) | select(0u, 4u, is_finite(x));
}

// Each (a, b, c): the error of a + b written plainly, and with `launder`; a * b + c plainly, with `launder`, and by `fma`; a * 1.
@compute @workgroup_size(WORKGROUP_SIZE)
fn floats(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.count {
        return;
    }
    let a = bitcast<f32>(input[id.x * 3u]);
    let b = bitcast<f32>(input[id.x * 3u + 1u]);
    let c = bitcast<f32>(input[id.x * 3u + 2u]);
    let at = id.x * FLOAT_WORDS;
    let s = a + b;
    let bb = s - a;
    output[at] = bitcast<u32>((a - (s - bb)) + (b - bb));
    output[at + 1u] = bitcast<u32>(two_sum(a, b, params.zero).y);
    output[at + 2u] = bitcast<u32>(a * b + c);
    output[at + 3u] = bitcast<u32>(launder(a * b, params.zero) + c);
    output[at + 4u] = bitcast<u32>(fma(a, b, c));
    output[at + 5u] = bitcast<u32>(a * bitcast<f32>(0x3f800000u ^ params.zero));
}

var<workgroup> words: array<u32, WORKGROUP_SIZE>;
var<workgroup> values: array<f32, WORKGROUP_SIZE>;
var<workgroup> counter: atomic<u32>;

// Each workgroup: the sum of its words and the sum of its floats by halving, through barriers, and a count by atomics.
@compute @workgroup_size(WORKGROUP_SIZE)
fn reductions(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = workgroup.x * WORKGROUP_SIZE + lane;
    if lane == 0u {
        atomicStore(&counter, 0u);
    }
    words[lane] = input[at];
    values[lane] = bitcast<f32>((input[at] & 0x007fffffu) | 0x3f800000u);
    workgroupBarrier();
    atomicAdd(&counter, input[at] & 0xffu);
    for (var half = WORKGROUP_SIZE / 2u; half > 0u; half /= 2u) {
        if lane < half {
            words[lane] += words[lane + half];
            values[lane] += values[lane + half];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        output[workgroup.x * 3u] = words[0];
        output[workgroup.x * 3u + 1u] = bitcast<u32>(values[0]);
        output[workgroup.x * 3u + 2u] = atomicLoad(&counter);
    }
}

// Each invocation: the sum of `inner` floats in their order.
@compute @workgroup_size(WORKGROUP_SIZE)
fn sequences(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.count {
        return;
    }
    var sum = 0.0;
    for (var i = 0u; i < params.inner; i++) {
        sum += bitcast<f32>((input[id.x * params.inner + i] & 0x007fffffu) | 0x3f800000u);
    }
    output[id.x] = bitcast<u32>(sum);
}
