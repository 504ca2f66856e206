// `window_reduce` over 64-bit integers in two's complement, (low, high); put before window_reduce.wgsl.
const VALUE_WORDS: u32 = 2u;
const SUM_WORDS: u32 = 3u;
const WORD_RANGE: f32 = 4294967296.0;     // = gpu::WORD_RANGE

alias Value = vec2<u32>;
alias Sum = vec3<u32>;
// Three words whose lowest carry waits: the fourth says how many times the first one has overflowed. Two additions less for each row.
alias LaneSum = vec4<u32>;

@group(0) @binding(2) var<storage, read> values: array<vec2<u32>>;     // [row]

fn value_of(row: u32) -> Value { return values[row]; }
fn no_value() -> Value { return vec2<u32>(0u, 0u); }
fn greatest_value() -> Value { return vec2<u32>(0xffffffffu, 0x7fffffffu); }
fn least_value() -> Value { return vec2<u32>(0u, 0x80000000u); }
fn ordered(value: Value) -> Value { return value; }

fn lesser(a: Value, b: Value) -> Value {
    let high = bitcast<i32>(b.y);
    let own = bitcast<i32>(a.y);
    return select(a, b, high < own || (high == own && b.x < a.x));
}

fn greater(a: Value, b: Value) -> Value {
    let high = bitcast<i32>(b.y);
    let own = bitcast<i32>(a.y);
    return select(a, b, own < high || (high == own && a.x < b.x));
}

// The square in f32, by the words of the magnitude: in two's complement they would cancel.
fn square_of(value: Value) -> f32 {
    let sign = u32(bitcast<i32>(value.y) >> 31u);
    let magnitude = sub64(value ^ vec2<u32>(sign), vec2<u32>(sign));
    let float = launder(f32(magnitude.y) * WORD_RANGE, params.zero) + f32(magnitude.x);
    return launder(float * float, params.zero);
}

fn no_lane_sum() -> LaneSum { return vec4<u32>(0u); }

fn add_value(sum: LaneSum, value: Value) -> LaneSum {
    let low = sum.x + value.x;
    let high = sum.y + value.y;
    let top = sum.z + u32(bitcast<i32>(value.y) >> 31u) + select(0u, 1u, high < value.y);
    return vec4<u32>(low, high, top, sum.w + select(0u, 1u, low < value.x));
}

fn add_line(sum: LaneSum, a: Value, b: Value, c: Value, d: Value) -> LaneSum {
    return add_value(add_value(add_value(add_value(sum, a), b), c), d);
}

fn whole_sum(sum: LaneSum) -> Sum {
    let high = sum.y + sum.w;
    return vec3<u32>(sum.x, high, sum.z + select(0u, 1u, high < sum.w));
}

fn sum_of(a: Sum, b: Sum) -> Sum {
    let low = add64(a.xy, b.xy);
    return vec3<u32>(low, a.z + b.z + select(0u, 1u, less_u64(low, a.xy)));
}

fn add_sums(sum: LaneSum, a: Sum, b: Sum, c: Sum, d: Sum) -> LaneSum {
    return vec4<u32>(sum_of(sum.xyz, sum_of(sum_of(a, b), sum_of(c, d))), sum.w);
}

fn sum_in_words(at: u32) -> Sum { return vec3<u32>(words[at], words[at + 1u], words[at + 2u]); }

fn sum_to_words(at: u32, sum: Sum) {
    words[at] = sum.x;
    words[at + 1u] = sum.y;
    words[at + 2u] = sum.z;
}

fn value_in_words(at: u32) -> Value { return vec2<u32>(words[at], words[at + 1u]); }

fn value_to_words(at: u32, value: Value) {
    words[at] = value.x;
    words[at + 1u] = value.y;
}

fn partial_sum(part: u32) -> Sum {
    return vec3<u32>(partial_word(SUM_AT, part), partial_word(SUM_AT + 1u, part), partial_word(SUM_AT + 2u, part));
}

fn partial_value(word: u32, part: u32) -> Value {
    return vec2<u32>(partial_word(word, part), partial_word(word + 1u, part));
}
