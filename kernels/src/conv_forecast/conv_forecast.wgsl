// Quantiles of the next values of a window by a small causal convolutional network, one window per workgroup. See mod.rs for the network:
//   tokens = embed(window); four times tokens = own + contract(relu(expand([own, before]))); head of the tokens of the future.
// Rows of a layer are tokens; four of them are one vec4, so that a weight is read once for all, and tokens lie by channel:
//   tokens[channel][token / 4]. A block after the first keeps the last two of each four tokens, which look back to the first two.
// Twin: cpu.rs. It sums in the same order; the device may fuse and has its own exponential and logarithm.
const WORKGROUP_SIZE: u32 = 128u;    // = HIDDEN: an invocation has one hidden unit of all tokens
const TOKENS: u32 = 16u;
const PATCH: u32 = 16u;
const FEATURES: u32 = 52u;
const WIDTH: u32 = 64u;
const HIDDEN: u32 = 128u;
const STEPS: u32 = 32u;
const QUANTILES: u32 = 9u;
const CANDIDATES: u32 = 8u;
const OUTPUTS: u32 = 17u;
const MEDIAN: u32 = 4u;

struct Params { window_count: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<f32>;              // [layer]([inputs][outputs], [outputs])
@group(0) @binding(2) var<storage, read> numbers: array<f32>;              // [window][TOKENS][FEATURES]
@group(0) @binding(3) var<storage, read> candidates: array<f32>;           // [window][STEPS][CANDIDATES]
@group(0) @binding(4) var<storage, read_write> quantiles: array<f32>;      // [window][STEPS][QUANTILES]

const QUADS: u32 = 4u;               // of all tokens

var<workgroup> tokens: array<vec4<f32>, 256>;      // [WIDTH][QUADS]
var<workgroup> hidden: array<vec4<f32>, 512>;      // [HIDDEN][QUADS]; at first [FEATURES][QUADS], the window
var<workgroup> outputs: array<vec2<f32>, 272>;     // [PATCH][OUTPUTS], both tokens of the future

// What the tokens that are kept have in a channel, and what those have that they look back to: quad `quad` of them.
fn own(block: u32, channel: u32, quad: u32) -> vec4<f32> {
    if block == 0u {
        return tokens[channel * QUADS + quad];
    }
    let at = channel * QUADS + 2u * quad;
    return vec4<f32>(tokens[at].zw, tokens[at + 1u].zw);
}

fn before(block: u32, channel: u32, quad: u32) -> vec4<f32> {
    let first = channel * QUADS;
    if block == 0u {
        var last = 0.0;
        if quad > 0u {
            last = tokens[first + quad - 1u].w;
        }
        return vec4<f32>(last, tokens[first + quad].xyz);
    }
    let at = first + 2u * quad;
    return vec4<f32>(tokens[at].xy, tokens[at + 1u].xy);
}

// Hidden unit `unit` of the kept tokens. `quads` is how many quads there are; the last may be half empty.
fn expand(block: u32, layer: u32, unit: u32, quads: u32) {
    let bias = weights[layer + 2u * WIDTH * HIDDEN + unit];
    var sum_0 = vec4<f32>(bias);
    var sum_1 = vec4<f32>(bias);
    var sum_2 = vec4<f32>(bias);
    var sum_3 = vec4<f32>(bias);
    for (var half = 0u; half < 2u; half++) {
        for (var channel = 0u; channel < WIDTH; channel++) {
            let weight = weights[layer + (half * WIDTH + channel) * HIDDEN + unit];
            if half == 0u {
                sum_0 += weight * own(block, channel, 0u);
            } else {
                sum_0 += weight * before(block, channel, 0u);
            }
            if quads > 1u {
                if half == 0u {
                    sum_1 += weight * own(block, channel, 1u);
                } else {
                    sum_1 += weight * before(block, channel, 1u);
                }
            }
            if quads > 2u {
                if half == 0u {
                    sum_2 += weight * own(block, channel, 2u);
                    sum_3 += weight * own(block, channel, 3u);
                } else {
                    sum_2 += weight * before(block, channel, 2u);
                    sum_3 += weight * before(block, channel, 3u);
                }
            }
        }
    }
    let zero = vec4<f32>(0.0);
    hidden[unit * QUADS] = max(sum_0, zero);
    hidden[unit * QUADS + 1u] = max(sum_1, zero);
    hidden[unit * QUADS + 2u] = max(sum_2, zero);
    hidden[unit * QUADS + 3u] = max(sum_3, zero);
}

// A linear layer of what is in `hidden`: channel `channel` of quad `quad`.
fn linear(layer: u32, inputs: u32, channel: u32, quad: u32) -> vec4<f32> {
    var sum = vec4<f32>(weights[layer + inputs * WIDTH + channel]);
    for (var input = 0u; input < inputs; input++) {
        sum += weights[layer + input * WIDTH + channel] * hidden[input * QUADS + quad];
    }
    return sum;
}

// ln(1 + e^x)
fn softplus(x: f32) -> f32 {
    return max(x, 0.0) + log(1.0 + exp(-abs(x)));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn conv_forecast(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let window = linear_workgroup(workgroup_id, num_workgroups);
    if window >= params.window_count {
        return;
    }
    for (var at = lane; at < FEATURES * QUADS; at += WORKGROUP_SIZE) {
        let feature = at / QUADS;
        let number = window * TOKENS * FEATURES + (at % QUADS) * 4u * FEATURES + feature;
        hidden[at] = vec4<f32>(
            numbers[number],
            numbers[number + FEATURES],
            numbers[number + 2u * FEATURES],
            numbers[number + 3u * FEATURES],
        );
    }
    workgroupBarrier();
    // An invocation has one channel of two quads.
    let channel = lane % WIDTH;
    let side = lane / WIDTH;
    tokens[channel * QUADS + 2u * side] = linear(0u, FEATURES, channel, 2u * side);
    tokens[channel * QUADS + 2u * side + 1u] = linear(0u, FEATURES, channel, 2u * side + 1u);
    workgroupBarrier();
    var layer = (FEATURES + 1u) * WIDTH;
    var quads = QUADS;
    for (var block = 0u; block < 4u; block++) {
        if block > 0u {
            quads = (quads + 1u) / 2u;
        }
        expand(block, layer, lane, quads);
        layer += (2u * WIDTH + 1u) * HIDDEN;
        workgroupBarrier();
        // Tokens move to the front: all are read before one is written.
        let first = select(side, 2u * side, quads == QUADS);
        var sum_0 = vec4<f32>(0.0);
        var sum_1 = vec4<f32>(0.0);
        if first < quads {
            sum_0 = own(block, channel, first) + linear(layer, HIDDEN, channel, first);
            if quads == QUADS {
                sum_1 = own(block, channel, first + 1u) + linear(layer, HIDDEN, channel, first + 1u);
            }
        }
        layer += (HIDDEN + 1u) * WIDTH;
        workgroupBarrier();
        if first < quads {
            tokens[channel * QUADS + first] = sum_0;
            if quads == QUADS {
                tokens[channel * QUADS + first + 1u] = sum_1;
            }
        }
        workgroupBarrier();
    }
    // The tokens of the future are the first two now.
    var unit = vec2<f32>(weights[layer + WIDTH * HIDDEN + lane]);
    for (var input = 0u; input < WIDTH; input++) {
        unit += weights[layer + input * HIDDEN + lane] * tokens[input * QUADS].xy;
    }
    hidden[lane * QUADS] = vec4<f32>(max(unit, vec2<f32>(0.0)), 0.0, 0.0);
    layer += (WIDTH + 1u) * HIDDEN;
    workgroupBarrier();
    for (var output = lane; output < PATCH * OUTPUTS; output += WORKGROUP_SIZE) {
        var sum = vec2<f32>(weights[layer + HIDDEN * PATCH * OUTPUTS + output]);
        for (var input = 0u; input < HIDDEN; input++) {
            sum += weights[layer + input * PATCH * OUTPUTS + output] * hidden[input * QUADS].xy;
        }
        outputs[output] = sum;
    }
    workgroupBarrier();
    if lane < STEPS {
        let future = lane / PATCH;
        let first = (lane % PATCH) * OUTPUTS;
        let candidate = (window * STEPS + lane) * CANDIDATES;
        var greatest = outputs[first + QUANTILES][future];
        for (var at = 1u; at < CANDIDATES; at++) {
            greatest = max(greatest, outputs[first + QUANTILES + at][future]);
        }
        var sum = 0.0;
        var weighted = 0.0;
        for (var at = 0u; at < CANDIDATES; at++) {
            let belief = exp(outputs[first + QUANTILES + at][future] - greatest);
            sum += belief;
            weighted += belief * candidates[candidate + at];
        }
        let out = (window * STEPS + lane) * QUANTILES;
        let median = weighted / sum + outputs[first + MEDIAN][future];
        quantiles[out + MEDIAN] = median;
        var quantile = median;
        for (var level = MEDIAN + 1u; level < QUANTILES; level++) {
            quantile += softplus(outputs[first + level][future]);
            quantiles[out + level] = quantile;
        }
        quantile = median;
        for (var down = 1u; down <= MEDIAN; down++) {
            quantile -= softplus(outputs[first + MEDIAN - down][future]);
            quantiles[out + MEDIAN - down] = quantile;
        }
    }
}
