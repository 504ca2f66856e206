// `window_reduce` over 128-bit integers in two's complement, four words, the lowest first; put before window_reduce.wgsl.
const VALUE_WORDS: u32 = 4u;
const SUM_WORDS: u32 = 5u;
const WORD_RANGE: f32 = 4294967296.0;     // = gpu::WORD_RANGE

alias Value = vec4<u32>;

struct Sum {
    low: vec4<u32>,
    top: u32,
}

// Sums of words, and how often each has overflowed: carries wait until the end. The sign's word is summed with the last of them.
struct LaneSum {
    words: vec4<u32>,
    carries: vec4<u32>,
}

@group(0) @binding(2) var<storage, read> values: array<vec4<u32>>;     // [row]

fn value_of(row: u32) -> Value { return values[row]; }
fn no_value() -> Value { return vec4<u32>(0u); }
fn greatest_value() -> Value { return vec4<u32>(0xffffffffu, 0xffffffffu, 0xffffffffu, 0x7fffffffu); }
fn least_value() -> Value { return vec4<u32>(0u, 0u, 0u, 0x80000000u); }
fn ordered(value: Value) -> Value { return value; }

fn less_u128(a: vec4<u32>, b: vec4<u32>) -> bool {
    return less_u64(a.zw, b.zw) || (all(a.zw == b.zw) && less_u64(a.xy, b.xy));
}

fn less_i128(a: vec4<u32>, b: vec4<u32>) -> bool {
    return less_i64(a.zw, b.zw) || (all(a.zw == b.zw) && less_u64(a.xy, b.xy));
}

fn lesser(a: Value, b: Value) -> Value { return select(a, b, less_i128(b, a)); }
fn greater(a: Value, b: Value) -> Value { return select(a, b, less_i128(a, b)); }

// The square in f32, by the words of the magnitude: in two's complement they would cancel.
fn square_of(value: Value) -> f32 {
    let sign = u32(bitcast<i32>(value.w) >> 31u);
    let magnitude = add128(value ^ vec4<u32>(sign), vec4<u32>(sign & 1u, 0u, 0u, 0u));
    var float = launder(f32(magnitude.w) * WORD_RANGE, params.zero) + f32(magnitude.z);
    float = launder(float * WORD_RANGE, params.zero) + f32(magnitude.y);
    float = launder(float * WORD_RANGE, params.zero) + f32(magnitude.x);
    return launder(float * float, params.zero);
}

fn no_lane_sum() -> LaneSum { return LaneSum(vec4<u32>(0u), vec4<u32>(0u)); }

fn sum_of(a: Sum, b: Sum) -> Sum {
    let low = add128(a.low, b.low);
    return Sum(low, a.top + b.top + select(0u, 1u, less_u128(low, a.low)));
}

fn add_value(sum: LaneSum, value: Value) -> LaneSum {
    let words = sum.words + value;
    var carries = sum.carries + select(vec4<u32>(0u), vec4<u32>(1u), words < value);
    carries.w += u32(bitcast<i32>(value.w) >> 31u);
    return LaneSum(words, carries);
}

fn add_line(sum: LaneSum, a: Value, b: Value, c: Value, d: Value) -> LaneSum {
    return add_value(add_value(add_value(add_value(sum, a), b), c), d);
}

fn whole_sum(sum: LaneSum) -> Sum {
    return sum_of(Sum(sum.words, sum.carries.w), Sum(vec4<u32>(0u, sum.carries.xyz), 0u));
}

fn add_sums(sum: LaneSum, a: Sum, b: Sum, c: Sum, d: Sum) -> LaneSum {
    let whole = sum_of(sum_of(Sum(sum.words, sum.carries.w), sum_of(a, b)), sum_of(c, d));
    return LaneSum(whole.low, vec4<u32>(0u, 0u, 0u, whole.top));
}

fn sum_in_words(at: u32) -> Sum { return Sum(value_in_words(at), words[at + 4u]); }

fn sum_to_words(at: u32, sum: Sum) {
    value_to_words(at, sum.low);
    words[at + 4u] = sum.top;
}

fn value_in_words(at: u32) -> Value {
    return vec4<u32>(words[at], words[at + 1u], words[at + 2u], words[at + 3u]);
}

fn value_to_words(at: u32, value: Value) {
    words[at] = value.x;
    words[at + 1u] = value.y;
    words[at + 2u] = value.z;
    words[at + 3u] = value.w;
}

fn partial_sum(part: u32) -> Sum { return Sum(partial_value(SUM_AT, part), partial_word(SUM_AT + 4u, part)); }

fn partial_value(word: u32, part: u32) -> Value {
    return vec4<u32>(
        partial_word(word, part),
        partial_word(word + 1u, part),
        partial_word(word + 2u, part),
        partial_word(word + 3u, part),
    );
}
