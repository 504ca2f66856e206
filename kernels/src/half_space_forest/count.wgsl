// Scores and masses of the half-space forest: one workgroup for each key and block of trees. Rows of one window are taken side by side,
// because counts only add up and the reference stands still; windows follow each other.
//   units[row] += score of the row's leaf in the reference;  latest mass of its leaf += 1
// All integers, so equal to the twin's: cpu.rs (`count`, `end_window`, `attribute`). Tan, Ting, Liu (2011).
//
// A key with many rows is *near*: masses and scores of its trees lie in workgroup memory for the whole batch, two leaves of 16 bits in a
// word, one of each half of the tree, so that a sum of words is a sum of both. A key with few rows that end no window is *far*: it adds to
// the page, of which it touches little. So are trees that are too deep for workgroup memory.
//
// Roofline: a leaf takes two instructions a level and some eight for each feature of the tree, for 100 trees of depth 12 some 90 a tree
// and row: 100 M rows * trees are 0.3 T instructions of 32 lanes, half a millisecond on 132 multiprocessors at two a cycle. Coordinates
// come from the second-level cache at 25 bytes a tree and row, which takes as long. So a lane takes some rows at the same time, to
// decode the tree once for them and to have several loads under way.
override WORKGROUP_SIZE: u32;
const ROWS_PER_LANE: u32 = 4u;
const UNITS: u32 = 1024u;
const CALIBRATING: u32 = 0u;
const SCORING: u32 = 2u;
const PHASE: u32 = 0u;
const COUNT: u32 = 1u;
const NEAR_DEPTH_MAX: u32 = 12u;         // of trees whose leaves fit into workgroup memory
const HALF_WORDS: u32 = 2048u;           // words of masses, and of scores, in workgroup memory
const OPEN: u32 = 0xffffu;               // no score: the path goes on
const SPLIT_FRESH: u32 = 32u;            // the split is of another feature than the one before it

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
    plans_at: u32,
    block_trees: u32,                    // trees of a workgroup
    far_rows_max: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<u32>;              // [group]
@group(0) @binding(2) var<storage, read> starts: array<u32>;             // [group + 1] first learnt row
// [feature][row] latest and reference coordinate; from `plans_at` on [group] phase and count; then words to read beyond
@group(0) @binding(3) var<storage, read> coordinates: array<u32>;
// [tree]: [level] the feature of each level, then [split] the levels by feature: feature, SPLIT_FRESH, shift << 6, bit << 10, offset << 16
@group(0) @binding(4) var<storage, read> levels: array<u32>;
@group(0) @binding(5) var<storage, read> log_units: array<u32>;          // [mass]
@group(0) @binding(6) var<storage, read_write> page: array<atomic<u32>>;
@group(0) @binding(7) var<storage, read_write> units: array<atomic<u32>>;        // [row]
@group(0) @binding(8) var<storage, read_write> credits: array<atomic<u32>>;      // [feature][row]

// Masses and scores of the block's trees, [tree][leaf of the lower half of the tree], the upper half's in the high bits. They change
// places with each window.
var<workgroup> near: array<atomic<u32>, 4096>;

struct Leaves {
    leaf: vec4<u32>,
    differs: vec4<u32>,                  // whether the reference has another coordinate, in the low half
}

// The leaves of rows `row`, `row + WORKGROUP_SIZE` and so on by 16-bit coordinates, which `shift` brings to the high half.
fn leaves_of(tree: u32, row: u32, shift: u32) -> Leaves {
    var found: Leaves;
    var place = vec4<u32>(0u);
    let first = (2u * tree + 1u) * params.depth;
    for (var i = 0u; i < params.depth; i++) {
        let split = levels[first + i];
        if (split & SPLIT_FRESH) != 0u {
            let at = (split & 31u) * params.row_count + row;
            let word = vec4<u32>(
                coordinates[at],
                coordinates[at + WORKGROUP_SIZE],
                coordinates[at + 2u * WORKGROUP_SIZE],
                coordinates[at + 3u * WORKGROUP_SIZE],
            );
            found.differs |= word ^ (word >> vec4<u32>(16u));
            let coordinate = bitcast<vec4<i32>>(word << vec4<u32>(shift)) >> vec4<u32>(16u);
            place = vec4<u32>(clamp(coordinate + vec4<i32>(i32(split >> 16u)), vec4<i32>(0), vec4<i32>(32767)));
        }
        found.leaf |= (place >> vec4<u32>((split >> 6u) & 15u)) & vec4<u32>(1u << ((split >> 10u) & 15u));
    }
    return found;
}

// Credits the score of a row to the features that are split on its path.
fn credit_path(tree: u32, row: u32, leaf: u32, masses: u32) {
    var above = params.window;
    for (var i = 1u; i <= params.depth; i++) {
        let below = params.depth - i;
        var child = 0u;
        if below == 0u {
            child = atomicLoad(&page[masses + leaf]) >> 16u;
        } else {
            child = atomicLoad(&page[masses + ((1u << i) | (leaf >> below))]) & 0xffffu;
        }
        var credit = log_units[above] - log_units[child];
        let last = child <= params.node_mass_min || below == 0u;
        if last {
            credit += below * UNITS;
        }
        let feature = levels[2u * tree * params.depth + i - 1u];
        atomicAdd(&credits[feature * params.row_count + row], credit);
        if last {
            return;
        }
        above = child;
    }
}

// What a workgroup has to do with its block of trees.
struct Block {
    tree_first: u32,
    tree_count: u32,
    table: u32,                          // word of the page: [tree][leaf] of the block
    masses: u32,                         // [tree][index]
    is_near: bool,
    latest: u32,                         // word of workgroup memory: masses of the latest window
    reference: u32,                      // scores by the reference
}

// What a lane has counted and not yet added to the word that all lanes share. Rows of a dense cell wait for each other at its word, and an
// outlier in the range makes nearly all rows of a key one cell: so a lane keeps the word that it meets most often, by a majority vote
// (Boyer, Moore, 1981), and adds to it once.
struct Counted {
    word: u32,
    sum: u32,
    votes: u32,
}

fn add_mass(block: Block, word: u32, sum: u32) {
    if block.is_near {
        atomicAdd(&near[word], sum);
    } else {
        atomicAdd(&page[word], sum);
    }
}

fn count_row(block: Block, counted: Counted, word: u32, one: u32) -> Counted {
    if counted.votes == 0u {
        if counted.sum != 0u {
            add_mass(block, counted.word, counted.sum);
        }
        return Counted(word, one, 1u);
    }
    if word == counted.word {
        return Counted(word, counted.sum + one, counted.votes + 1u);
    }
    add_mass(block, word, one);
    return Counted(counted.word, counted.sum, counted.votes - 1u);
}

// Scores (if `scores`) and counts rows `begin`..`end` of a window.
fn run_rows(block: Block, lane: u32, begin: u32, end: u32, scores: bool) {
    let half_bits = params.depth - 1u;
    let half_mask = (1u << half_bits) - 1u;
    var counted: Counted;
    for (var row = begin + lane; row < end; row += ROWS_PER_LANE * WORKGROUP_SIZE) {
        let rows = row + vec4<u32>(0u, 1u, 2u, 3u) * WORKGROUP_SIZE;
        var sums = vec4<u32>(0u);
        for (var tree = 0u; tree < block.tree_count; tree++) {
            let found = leaves_of(block.tree_first + tree, row, 16u);
            if scores {
                var read = found.leaf;
                if any((found.differs & vec4<u32>(0xffffu)) != vec4<u32>(0u)) {
                    read = leaves_of(block.tree_first + tree, row, 0u).leaf;
                }
                if block.is_near {
                    let at = (read & vec4<u32>(half_mask)) + vec4<u32>(block.reference + (tree << half_bits));
                    let both = vec4<u32>(
                        atomicLoad(&near[at.x]),
                        atomicLoad(&near[at.y]),
                        atomicLoad(&near[at.z]),
                        atomicLoad(&near[at.w]),
                    );
                    sums += (both >> ((read >> vec4<u32>(half_bits)) << vec4<u32>(4u))) & vec4<u32>(0xffffu);
                } else {
                    let at = read + vec4<u32>(block.table + (tree << params.depth));
                    sums += vec4<u32>(
                        atomicLoad(&page[at.x]),
                        atomicLoad(&page[at.y]),
                        atomicLoad(&page[at.z]),
                        atomicLoad(&page[at.w]),
                    ) >> vec4<u32>(16u);
                }
                if params.attribution != 0u {
                    for (var i = 0u; i < ROWS_PER_LANE && rows[i] < end; i++) {
                        credit_path(block.tree_first + tree, rows[i], read[i], block.masses + (tree << params.depth));
                    }
                }
            }
            var at = found.leaf + vec4<u32>(block.table + (tree << params.depth));
            var one = vec4<u32>(1u);
            if block.is_near {
                at = (found.leaf & vec4<u32>(half_mask)) + vec4<u32>(block.latest + (tree << half_bits));
                one <<= (found.leaf >> vec4<u32>(half_bits)) << vec4<u32>(4u);
            }
            counted = count_row(block, counted, at.x, one.x);
            if rows.y < end { counted = count_row(block, counted, at.y, one.y); }
            if rows.z < end { counted = count_row(block, counted, at.z, one.z); }
            if rows.w < end { counted = count_row(block, counted, at.w, one.w); }
            if block.tree_count > 1u {
                add_mass(block, counted.word, counted.sum);
                counted = Counted();
            }
        }
        if scores {
            atomicAdd(&units[rows.x], sums.x);
            if rows.y < end { atomicAdd(&units[rows.y], sums.y); }
            if rows.z < end { atomicAdd(&units[rows.z], sums.z); }
            if rows.w < end { atomicAdd(&units[rows.w], sums.w); }
        }
    }
    if counted.sum != 0u {
        add_mass(block, counted.word, counted.sum);
    }
}

// The score of all leaves below a node whose ancestors have none, or that the path goes on.
fn score_of(level: u32, mass: u32) -> u32 {
    if mass <= params.node_mass_min || level == params.depth {
        return params.units_max - level * UNITS - log_units[mass];
    }
    return OPEN;
}

// Keeps the reference mass of a node for attributions; `node` counts within the tree as a heap does.
fn keep_mass(masses: u32, level: u32, node: u32, mass: u32) {
    if params.attribution != 0u {
        if level == params.depth {
            atomicOr(&page[masses + node - (1u << level)], mass << 16u);
        } else {
            atomicOr(&page[masses + node], mass);
        }
    }
}

// Makes the latest masses the reference. Sums of masses go up the trees, three levels between two barriers, to where scores of the window
// before were; then each leaf gets the score of the first node on its path that is light enough, where its mass was.
fn end_window(block: Block, lane: u32) {
    let cut = min(params.depth, NEAR_DEPTH_MAX);
    let below = params.depth - cut;
    if params.attribution != 0u || !block.is_near {
        storageBarrier();
    }
    if params.attribution != 0u {
        for (var i = lane; i < block.tree_count << params.depth; i += WORKGROUP_SIZE) {
            atomicStore(&page[block.masses + i], 0u);
        }
        storageBarrier();
        for (var tree = lane; tree < block.tree_count; tree += WORKGROUP_SIZE) {
            keep_mass(block.masses + (tree << params.depth), 0u, 1u, params.window);
        }
    }
    if !block.is_near {
        for (var i = lane; i < block.tree_count << (cut - 1u); i += WORKGROUP_SIZE) {
            let tree = i >> (cut - 1u);
            let first = block.table + (tree << params.depth) + ((i & ((1u << (cut - 1u)) - 1u)) << below);
            var sum = 0u;
            for (var leaf = first; leaf < first + (1u << below); leaf++) {
                sum += atomicLoad(&page[leaf]) & 0xffffu;
                sum += atomicLoad(&page[leaf + (1u << (params.depth - 1u))]) << 16u;
            }
            atomicStore(&near[block.latest + i], sum);
        }
    }
    workgroupBarrier();
    // Word `w` has the nodes of its level with this place in the lower and in the upper half of the tree, words `2 w` and `2 w + 1` their
    // children. The last level's words are in `latest`, the others in `reference`.
    let half = 1u << (cut - 1u);
    for (var top = cut; top > 1u;) {
        let levels_up = min(3u, top - 1u);
        top -= levels_up;
        let first = 1u << (top - 1u);
        for (var i = lane; i < block.tree_count << (top - 1u); i += WORKGROUP_SIZE) {
            let tree = (i >> (top - 1u)) << (cut - 1u);
            let root = first | (i & (first - 1u));
            for (var up = levels_up; up > 0u; up--) {
                let children = select(block.reference, block.latest - half, top + up == cut) + tree;
                for (var word = root << (up - 1u); word < (root + 1u) << (up - 1u); word++) {
                    let sum = atomicLoad(&near[children + 2u * word]) + atomicLoad(&near[children + 2u * word + 1u]);
                    atomicStore(&near[block.reference + tree + word], sum);
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = lane; i < block.tree_count << (cut - 1u); i += WORKGROUP_SIZE) {
        let tree = i >> (cut - 1u);
        let leaf = half | (i & (half - 1u));
        let masses = block.masses + (tree << params.depth);
        var lower = OPEN;
        var upper = OPEN;
        for (var level = 1u; level <= cut && (lower == OPEN || upper == OPEN); level++) {
            let word = leaf >> (cut - level);
            let mass = atomicLoad(&near[select(block.reference + (tree << (cut - 1u)) + word, block.latest + i, level == cut)]);
            // One of the leaves below a node keeps its mass.
            let keeps = (word << (cut - level)) == leaf;
            if lower == OPEN {
                if keeps { keep_mass(masses, level, (1u << (level - 1u)) + word, mass & 0xffffu); }
                lower = score_of(level, mass & 0xffffu);
            }
            if upper == OPEN {
                if keeps { keep_mass(masses, level, (1u << level) + word, mass >> 16u); }
                upper = score_of(level, mass >> 16u);
            }
        }
        atomicStore(&near[block.latest + i], lower | (upper << 16u));
    }
    workgroupBarrier();
    if block.is_near {
        for (var i = lane; i < block.tree_count << (cut - 1u); i += WORKGROUP_SIZE) {
            atomicStore(&near[block.reference + i], 0u);
        }
    } else {
        for (var i = lane; i < block.tree_count << cut; i += WORKGROUP_SIZE) {
            let tree = i >> cut;
            let node = i & ((1u << cut) - 1u);
            let word = block.latest + (tree << (cut - 1u)) + (node & ((1u << (cut - 1u)) - 1u));
            let score = (atomicLoad(&near[word]) >> ((node >> (cut - 1u)) << 4u)) & 0xffffu;
            end_node(block.table + (tree << params.depth), block.masses + (tree << params.depth), cut, node, score);
        }
    }
    workgroupBarrier();
    if params.attribution != 0u || !block.is_near {
        storageBarrier();
    }
}

// Writes the scores of the leaves below a node of level `cut`, which is open or has a score.
fn end_node(table: u32, masses: u32, cut: u32, node: u32, score: u32) {
    let below = params.depth - cut;
    let count = 1u << below;
    let first = table + (node << below);
    if score != OPEN {
        for (var leaf = 0u; leaf < count; leaf++) {
            atomicStore(&page[first + leaf], score << 16u);
        }
        return;
    }
    var of_leaves: array<u32, 8>;
    for (var leaf = 0u; leaf < count; leaf++) {
        of_leaves[leaf] = atomicLoad(&page[first + leaf]) & 0xffffu;
    }
    for (var leaf = 0u; leaf < count; leaf++) {
        var found = OPEN;
        for (var level = cut + 1u; found == OPEN; level++) {
            let size = 1u << (params.depth - level);
            let begin = leaf & ~(size - 1u);
            var mass = 0u;
            for (var i = begin; i < begin + size; i++) {
                mass += of_leaves[i];
            }
            if leaf == begin {
                keep_mass(masses, level, (1u << level) + (((node << below) + leaf) >> (params.depth - level)), mass);
            }
            found = score_of(level, mass);
        }
        atomicStore(&page[first + leaf], found << 16u);
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn count_rows(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    let blocks = (params.trees + params.block_trees - 1u) / params.block_trees;
    let group = params.group_first + index / blocks;
    if group >= params.group_end {
        return;
    }
    var row = starts[group];
    let end_row = starts[group + 1u];
    if row == end_row {
        return;
    }
    let slot = (slots[group] - params.slot_first) * params.slot_words;
    var phase = coordinates[params.plans_at + 2u * group];
    var count = coordinates[params.plans_at + 2u * group + 1u];
    var block: Block;
    block.tree_first = (index % blocks) * params.block_trees;
    block.tree_count = min(params.block_trees, params.trees - block.tree_first);
    block.table = slot + params.table_start + (block.tree_first << params.depth);
    block.masses = slot + params.mass_start + (block.tree_first << params.depth);
    block.latest = 0u;
    block.reference = HALF_WORDS;
    let rows_all = end_row - row;
    let ends_window = phase == CALIBRATING || rows_all >= params.window - count;
    block.is_near = params.depth <= NEAR_DEPTH_MAX && (ends_window || rows_all > params.far_rows_max);
    let half_leaves = 1u << (params.depth - 1u);
    if block.is_near {
        for (var i = lane; i < block.tree_count * half_leaves; i += WORKGROUP_SIZE) {
            let at = block.table + ((i & ~(half_leaves - 1u)) << 1u) + (i & (half_leaves - 1u));
            let lower = atomicLoad(&page[at]);
            let upper = atomicLoad(&page[at + half_leaves]);
            atomicStore(&near[i], (lower & 0xffffu) | (upper << 16u));
            atomicStore(&near[HALF_WORDS + i], (lower >> 16u) | (upper & 0xffff0000u));
        }
        workgroupBarrier();
    }
    while row < end_row {
        let length = select(params.window, params.calibration, phase == CALIBRATING);
        let rows = min(length - count, end_row - row);
        if phase != CALIBRATING {
            run_rows(block, lane, row, row + rows, phase == SCORING);
        }
        row += rows;
        count += rows;
        if count == length {
            count = 0u;
            if phase != CALIBRATING {
                end_window(block, lane);
                if block.is_near {
                    let latest = block.latest;
                    block.latest = block.reference;
                    block.reference = latest;
                }
            }
            phase = min(phase + 1u, SCORING);
        }
    }
    if block.is_near {
        workgroupBarrier();
        for (var i = lane; i < block.tree_count * half_leaves; i += WORKGROUP_SIZE) {
            let at = block.table + ((i & ~(half_leaves - 1u)) << 1u) + (i & (half_leaves - 1u));
            let masses = atomicLoad(&near[block.latest + i]);
            let scores = atomicLoad(&near[block.reference + i]);
            atomicStore(&page[at], (masses & 0xffffu) | (scores << 16u));
            atomicStore(&page[at + half_leaves], (masses >> 16u) | (scores & 0xffff0000u));
        }
    }
    // Nobody reads it any more: other workgroups have it from the plans.
    if index % blocks == 0u && lane == 0u {
        atomicStore(&page[slot + PHASE], phase);
        atomicStore(&page[slot + COUNT], count);
    }
}
