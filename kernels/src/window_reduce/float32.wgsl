// `window_reduce` over 32-bit floats, as their bits; put before window_reduce.wgsl. They are compared by a word that is ordered as they
// are, and added lane by lane.
const VALUE_WORDS: u32 = 1u;
const SUM_WORDS: u32 = 1u;

alias Value = u32;
alias Sum = f32;
alias LaneSum = vec4<f32>;                // of the member's lanes

@group(0) @binding(2) var<storage, read> values: array<u32>;           // [row]

fn value_of(row: u32) -> Value { return values[row]; }
fn no_value() -> Value { return 0u; }
fn greatest_value() -> Value { return 0xffffffffu; }
fn least_value() -> Value { return 0u; }
fn ordered(value: Value) -> Value { return value ^ (u32(bitcast<i32>(value) >> 31u) | 0x80000000u); }
fn lesser(a: Value, b: Value) -> Value { return min(a, b); }
fn greater(a: Value, b: Value) -> Value { return max(a, b); }

fn square_of(value: Value) -> f32 {
    let float = bitcast<f32>(value);
    return launder(float * float, params.zero);
}

fn no_lane_sum() -> LaneSum { return vec4<f32>(0.0); }

fn add_line(sum: LaneSum, a: Value, b: Value, c: Value, d: Value) -> LaneSum {
    return with_four(sum, bitcast<vec4<f32>>(vec4<u32>(a, b, c, d)));
}

fn add_sums(sum: LaneSum, a: Sum, b: Sum, c: Sum, d: Sum) -> LaneSum { return with_four(sum, vec4<f32>(a, b, c, d)); }
fn whole_sum(sum: LaneSum) -> Sum { return halved(sum); }
fn sum_of(a: Sum, b: Sum) -> Sum { return launder(a + b, params.zero); }
fn sum_in_words(at: u32) -> Sum { return bitcast<f32>(words[at]); }
fn sum_to_words(at: u32, sum: Sum) { words[at] = bitcast<u32>(sum); }
fn value_in_words(at: u32) -> Value { return words[at]; }
fn value_to_words(at: u32, value: Value) { words[at] = value; }
fn partial_sum(part: u32) -> Sum { return bitcast<f32>(partial_word(SUM_AT, part)); }
fn partial_value(word: u32, part: u32) -> Value { return partial_word(word, part); }
