// Scores and masses of the half-space forest: one workgroup for each key and tree. Rows of one window are taken side by side, because
// counts only add up and the reference stands still; windows follow each other.
//   units[row] += score of the row's leaf in the reference;  latest mass of its leaf += 1
// All integers, so equal to the twin's: cpu.rs (`count`, `end_window`, `attribute`). Tan, Ting, Liu (2011).
const WORKGROUP_SIZE: u32 = 64u;
const DEPTH_MAX: u32 = 15u;
const UNITS: u32 = 1024u;
const CALIBRATING: u32 = 0u;
const SCORING: u32 = 2u;
const PHASE: u32 = 0u;
const COUNT: u32 = 1u;

struct Params {
    group_first: u32,
    group_end: u32,
    slot_first: u32,                     // of the page
    slot_words: u32,
    trees: u32,
    depth: u32,
    row_count: u32,
    window: u32,
    calibration: u32,
    node_mass_min: u32,
    units_max: u32,
    table_start: u32,                    // words of a slot: [tree][leaf] latest mass, score in the high half
    mass_start: u32,                     // [tree][index] reference mass of the inner node, of the leaf in the high half
    attribution: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<u32>;              // [group]
@group(0) @binding(2) var<storage, read> starts: array<u32>;             // [group + 1] first learnt row
@group(0) @binding(3) var<storage, read> coordinates: array<u32>;        // [feature][row]
@group(0) @binding(4) var<storage, read> levels: array<u32>;             // [tree][level] feature, shift << 8, offset << 16
@group(0) @binding(5) var<storage, read> log_units: array<u32>;          // [mass]
@group(0) @binding(6) var<storage, read_write> page: array<atomic<u32>>;
@group(0) @binding(7) var<storage, read_write> units: array<atomic<u32>>;        // [row]
@group(0) @binding(8) var<storage, read_write> credits: array<atomic<u32>>;      // [feature][row]

var<workgroup> head: vec2<u32>;
var<workgroup> open: array<vec2<u32>, 16>;                               // node and level
var<workgroup> open_count: u32;
var<workgroup> mass: atomic<u32>;

// The leaf of a row by 16-bit coordinates, which `shift` brings to the high half.
fn leaf_of(tree: u32, row: u32, shift: u32) -> u32 {
    var leaf = 0u;
    for (var i = 0u; i < params.depth; i++) {
        let level = levels[tree * params.depth + i];
        let units = bitcast<i32>(coordinates[(level & 0xffu) * params.row_count + row] << shift) >> 16u;
        let place = u32(clamp(units + i32(level >> 16u), 0, 32767));
        leaf = (leaf << 1u) | ((place >> ((level >> 8u) & 0xffu)) & 1u);
    }
    return leaf;
}

// A word of state that other lanes add to.
fn mass_word(word: u32) -> u32 {
    return atomicAdd(&page[word], 0u);
}

// Credits the score of a row to the features that are split on its path.
fn credit_path(tree: u32, row: u32, leaf: u32, masses: u32) {
    var above = params.window;
    for (var i = 1u; i <= params.depth; i++) {
        let below = params.depth - i;
        var child = 0u;
        if below == 0u {
            child = mass_word(masses + leaf) >> 16u;
        } else {
            child = mass_word(masses + ((1u << i) | (leaf >> below))) & 0xffffu;
        }
        var credit = log_units[above] - log_units[child];
        let last = child <= params.node_mass_min || below == 0u;
        if last {
            credit += below * UNITS;
        }
        let feature = levels[tree * params.depth + i - 1u] & 0xffu;
        atomicAdd(&credits[feature * params.row_count + row], credit);
        if last {
            return;
        }
        above = child;
    }
}

// Makes the latest masses of a tree the reference. Nodes above the least mass are few: they are opened one after the other, their masses
// summed by all lanes.
fn end_window(lane: u32, table: u32, masses: u32) {
    let leaf_count = 1u << params.depth;
    if params.attribution != 0u {
        for (var i = lane; i < leaf_count; i += WORKGROUP_SIZE) {
            atomicStore(&page[masses + i], 0u);
        }
    }
    if lane == 0u {
        open[0] = vec2<u32>(1u, 0u);
        open_count = 1u;
        atomicStore(&mass, 0u);
    }
    storageBarrier();
    loop {
        let opened = workgroupUniformLoad(&open_count);
        if opened == 0u {
            break;
        }
        let node = open[opened - 1u].x;
        let level = open[opened - 1u].y;
        let below = params.depth - level;
        let first = (node << below) - leaf_count;
        var mine = 0u;
        for (var i = lane; i < (1u << below); i += WORKGROUP_SIZE) {
            mine += mass_word(table + first + i) & 0xffffu;
        }
        atomicAdd(&mass, mine);
        workgroupBarrier();
        let node_mass = atomicAdd(&mass, 0u);
        workgroupBarrier();
        let ends = node_mass <= params.node_mass_min || below == 0u;
        if ends {
            let score = params.units_max - level * UNITS - log_units[node_mass];
            for (var i = lane; i < (1u << below); i += WORKGROUP_SIZE) {
                atomicStore(&page[table + first + i], score << 16u);
            }
        }
        if lane == 0u {
            atomicStore(&mass, 0u);
            open_count = opened - 1u;
            if !ends {
                open[opened - 1u] = vec2<u32>(2u * node, level + 1u);
                open[opened] = vec2<u32>(2u * node + 1u, level + 1u);
                open_count = opened + 1u;
            }
            if params.attribution != 0u {
                if below == 0u {
                    atomicOr(&page[masses + first], node_mass << 16u);
                } else {
                    atomicOr(&page[masses + node], node_mass);
                }
            }
        }
    }
    storageBarrier();
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn count_rows(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    let group = params.group_first + index / params.trees;
    let tree = index % params.trees;
    if group >= params.group_end {
        return;
    }
    var row = starts[group];
    let end_row = starts[group + 1u];
    let slot = (slots[group] - params.slot_first) * params.slot_words;
    let table = slot + params.table_start + (tree << params.depth);
    let masses = slot + params.mass_start + (tree << params.depth);
    if lane == 0u {
        head = vec2<u32>(atomicLoad(&page[slot + PHASE]), atomicLoad(&page[slot + COUNT]));
    }
    let start = workgroupUniformLoad(&head);
    var phase = start.x;
    var count = start.y;
    while row < end_row {
        let length = select(params.window, params.calibration, phase == CALIBRATING);
        let rows = min(length - count, end_row - row);
        if phase != CALIBRATING {
            for (var i = row + lane; i < row + rows; i += WORKGROUP_SIZE) {
                let leaf = leaf_of(tree, i, 16u);
                if phase == SCORING {
                    let reference = leaf_of(tree, i, 0u);
                    atomicAdd(&units[i], mass_word(table + reference) >> 16u);
                    if params.attribution != 0u {
                        credit_path(tree, i, reference, masses);
                    }
                }
                atomicAdd(&page[table + leaf], 1u);
            }
        }
        row += rows;
        count += rows;
        if count == length {
            count = 0u;
            if phase != CALIBRATING {
                storageBarrier();
                end_window(lane, table, masses);
            }
            phase = min(phase + 1u, SCORING);
        }
    }
}
