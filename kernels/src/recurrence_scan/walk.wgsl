// How a team of `recurrence_scan` walks over its piece, tile by tile: to score rows, or to make a map of the piece.

// Puts a tile's rows where their members find them, eight of a member at once; behind the last one are rows without a value.
fn read_tile(first: u32, end: u32, local: u32) {
    let member = local & (params.team - 1u);
    let lane = local - member;
    let last = max(end, 1u) - 1u;
    for (var row = member; row < params.member_rows * params.team; row += 8u * params.team) {
        let v0 = values[min(first + row, last)];
        let v1 = values[min(first + row + params.team, last)];
        let v2 = values[min(first + row + 2u * params.team, last)];
        let v3 = values[min(first + row + 3u * params.team, last)];
        let v4 = values[min(first + row + 4u * params.team, last)];
        let v5 = values[min(first + row + 5u * params.team, last)];
        let v6 = values[min(first + row + 6u * params.team, last)];
        let v7 = values[min(first + row + 7u * params.team, last)];
        put_row(lane, row, first, end, v0);
        put_row(lane, row + params.team, first, end, v1);
        put_row(lane, row + 2u * params.team, first, end, v2);
        put_row(lane, row + 3u * params.team, first, end, v3);
        put_row(lane, row + 4u * params.team, first, end, v4);
        put_row(lane, row + 5u * params.team, first, end, v5);
        put_row(lane, row + 6u * params.team, first, end, v6);
        put_row(lane, row + 7u * params.team, first, end, v7);
    }
}

fn place_of(lane: u32, row: u32) -> u32 {
    return (lane + (row >> params.member_shift)) * PITCH + (row & (params.member_rows - 1u));
}

fn put_row(lane: u32, row: u32, first: u32, end: u32, value: vec2<f32>) {
    let place = place_of(lane, row);
    row_values[place] = select(quiet_nan(params.zero), value.x, first + row < end);
    row_rests[place] = value.y;
}

fn write_tile(first: u32, end: u32, local: u32) {
    let member = local & (params.team - 1u);
    let lane = local - member;
    let rows = min(end - min(first, end), params.member_rows * params.team);
    for (var row = member; row < rows; row += params.team) {
        scores[first + row] = row_values[place_of(lane, row)];
    }
}

// How many rows with a value are before the member's in the tile, and in the whole tile.
fn counts_before(first: u32, end: u32, local: u32) -> vec2<u32> {
    let member = local & (params.team - 1u);
    let rows = min(end - min(first, end), params.member_rows * params.team);
    if params.has_missing == 0u { return vec2<u32>(min(member * params.member_rows, rows), rows); }
    var count = 0u;
    for (var i = 0u; i < params.member_rows; i++) {
        count += select(1u, 0u, is_nan(row_values[local * PITCH + i]));
    }
    let own = count;
    var turn = 0u;
    scan_counts[local] = count;
    for (var step = 1u; step < params.team; step *= 2u) {
        workgroupBarrier();
        if member >= step { count += scan_counts[turn + local - step]; }
        turn = WORKGROUP_SIZE - turn;
        scan_counts[turn + local] = count;
    }
    workgroupBarrier();
    return vec2<u32>(count - own, scan_counts[turn + local - member + params.team - 1u]);
}

// A row's standardised residual as CUSUM adds it, without the drift.
fn limited(residual: f32, variance: f32) -> f32 {
    let z = residual * inverseSqrt(variance + params.variance_floor);
    return clamp(z, -params.residual_limit, params.residual_limit);
}

fn walk(workgroup: u32, local: u32, purpose: u32) {
    let member = local & (params.team - 1u);
    let own_rows = local * PITCH;
    let teams = WORKGROUP_SIZE / params.team;
    // All teams of the workgroup take as many tiles as the one with the most rows.
    var rows_most = 0u;
    for (var team = 0u; team < teams; team++) {
        let index = workgroup * teams + team;
        if index < params.piece_count {
            let at = (params.piece_first + index) * PIECE_WORDS;
            rows_most = max(rows_most, pieces[at + 2u] - pieces[at + 1u]);
        }
    }
    let index = workgroup * teams + local / params.team;
    let at = (params.piece_first + min(index, params.piece_count - 1u)) * PIECE_WORDS;
    let flags = pieces[at + 3u];
    let part = pieces[at + 7u];
    // Nobody asks what the last piece of a key leads to.
    let is_asked = index < params.piece_count && (purpose == TO_SCORE || (is_cut(flags) && (flags & FLAG_LAST) == 0u));
    var first = pieces[at + 1u];
    let end = select(first, pieces[at + 2u], is_asked);
    var known: Known;
    if is_asked {
        if purpose == TO_MAP {
            known.learnt = more_learnt(state[WORD_LEARNT * params.slots_per_page + pieces[at]], pieces[at + 4u]);
        } else {
            known = before_piece(at);
        }
    }
    var piece_sample = no_sample();
    var piece_affine = no_change();
    var piece_entering = vec2<f32>(0.0);
    var piece_leaving = vec2<f32>(0.0);
    var piece_residuals = no_residuals();

    for (var tile = 0u; tile < rows_most; tile += params.member_rows * params.team) {
        workgroupBarrier();
        read_tile(first, end, local);
        workgroupBarrier();
        let counts = counts_before(first, end, local);
        let learnt_before = more_learnt(known.learnt, counts.x);
        var residuals = no_residuals();
        var variance = 0.0;
        if RECURRENCE == HOLT {
            // The rows' map, in which they become relative to a line through the first of them: a map's digits are not for the trend.
            var centre = vec2<f32>(known.mean, known.mean_rest);
            let slope = select(known.trend, 0.0, purpose == TO_MAP);
            var along = 0.0;
            var level = vec3<f32>(1.0, 0.0, 0.0); // of the level before, of the trend before, constant
            var trend = vec3<f32>(0.0, 1.0, 0.0);
            var learnt = learnt_before;
            var is_first = true;
            for (var i = 0u; i < params.member_rows; i++) {
                let value = vec2<f32>(row_values[own_rows + i], row_rests[own_rows + i]);
                if is_nan(value.x) { continue; }
                if is_first { centre = value; }
                is_first = false;
                let centred = apart(value, centre) - slope * along;
                along += 1.0;
                row_values[own_rows + i] = centred;
                let gains = holt_gains(learnt);
                let residual = vec3<f32>(0.0, 0.0, centred) - (level + trend);
                level = level + trend + gains.x * residual;
                trend = trend + gains.y * residual;
                learnt = more_learnt(learnt, 1u);
            }
            entering[local] = centre;
            leaving[local] = centre;
            if !is_first {
                // The level is one row behind the row that it is compared with.
                entering[local] = two_floats(centre.x, centre.y - slope);
                leaving[local] = two_floats(centre.x, slope * (along - 1.0) + centre.y);
            }
            let own = Affine(vec4<f32>(level.xy, trend.xy), vec2<f32>(level.z, trend.z));
            let results = scan_affine(own, local, params.team);
            let lane = local - member;
            let total = Affine(scan_a[results + params.team - 1u], scan_b[results + params.team - 1u]);
            let tile_entering = entering[lane];
            let tile_leaving = leaving[lane + params.team - 1u];
            if purpose == TO_MAP {
                if tile == 0u {
                    piece_affine = total;
                    piece_entering = tile_entering;
                } else {
                    piece_affine = composed(piece_affine, total, apart(piece_leaving, tile_entering));
                }
                piece_leaving = tile_leaving;
            } else {
                let start = vec2<f32>(apart(vec2<f32>(known.mean, known.mean_rest), tile_entering), (known.trend - slope) + known.trend_rest);
                var before = start;
                if member > 0u {
                    before = applied(Affine(scan_a[results + member - 1u], scan_b[results + member - 1u]), start);
                    before.x += apart(leaving[local - 1u], entering[local]);
                }
                // The residuals, and what they do to the variance.
                learnt = learnt_before;
                for (var i = 0u; i < params.member_rows; i++) {
                    let centred = row_values[own_rows + i];
                    if is_nan(centred) { continue; }
                    let gains = holt_gains(learnt);
                    let residual = (centred - before.x) - before.y;
                    row_values[own_rows + i] = residual;
                    before = vec2<f32>(before.x + (before.y + gains.x * residual), before.y + gains.y * residual);
                    residuals.x *= 1.0 - gains.z;
                    residuals.y += gains.z * (1.0 - residuals.y);
                    residuals.z += gains.z * (square(residual) - residuals.z);
                    learnt = more_learnt(learnt, 1u);
                }
                let after = applied(total, start);
                let level_after = two_floats(tile_leaving.x, after.x + tile_leaving.y);
                let trend_after = two_floats(slope, after.y);
                if counts.y > 0u {
                    known.mean = level_after.x;
                    known.mean_rest = level_after.y;
                    known.trend = trend_after.x;
                    known.trend_rest = trend_after.y;
                }
            }
        } else {
            // The rows as a sample, in which they become relative to the first of them.
            var centre = vec2<f32>(0.0);
            var own = no_sample();
            var mean = 0.0;
            var learnt = learnt_before;
            for (var i = 0u; i < params.member_rows; i++) {
                let value = vec2<f32>(row_values[own_rows + i], row_rests[own_rows + i]);
                if is_nan(value.x) { continue; }
                if own.weight == 0.0 { centre = value; }
                let centred = apart(value, centre);
                row_values[own_rows + i] = centred;
                let gain = gain_of(learnt);
                let residual = centred - mean;
                own.left *= 1.0 - gain;
                own.weight += gain * (1.0 - own.weight);
                own.variance += gain * ((1.0 - gain) * square(residual) - own.variance);
                mean += gain * residual;
                learnt = more_learnt(learnt, 1u);
            }
            if own.weight != 0.0 {
                // Until here it was as if a mean at the centre had been before; that is taken out.
                let offset = mean / own.weight;
                own.mean = two_floats(centre.x, offset + centre.y);
                own.variance = max(own.variance / own.weight - own.left * square(offset), 0.0);
            }
            let results = scan_samples(own, local, params.team);
            let total = sample_at(results + params.team - 1u);
            if purpose == TO_MAP {
                piece_sample = merged(piece_sample, total);
            } else {
                var before = known;
                if member > 0u { before = known_after(known, sample_at(results + member - 1u)); }
                mean = apart(vec2<f32>(before.mean, before.mean_rest), centre);
                variance = before.variance + before.variance_rest;
                learnt = learnt_before;
                for (var i = 0u; i < params.member_rows; i++) {
                    let centred = row_values[own_rows + i];
                    if is_nan(centred) { continue; }
                    let gain = gain_of(learnt);
                    let residual = centred - mean;
                    let is_trained = learnt >= params.min_training;
                    if RECURRENCE == CUSUM {
                        let z = limited(residual, variance);
                        row_values[own_rows + i] = z;
                        if is_trained {
                            let by = vec2<f32>(z, -z) - vec2<f32>(params.drift);
                            residuals = vec4<f32>(max(residuals.xy + by, vec2<f32>(0.0)), residuals.zw + by);
                        }
                    } else {
                        let score = abs(residual) * inverseSqrt(variance + params.variance_floor);
                        row_values[own_rows + i] = select(0.0, score, is_trained);
                    }
                    mean += gain * residual;
                    variance = max(variance + gain * ((1.0 - gain) * square(residual) - variance), 0.0);
                    learnt = more_learnt(learnt, 1u);
                }
                known = known_after(known, total);
            }
        }
        if RECURRENCE != 0u && purpose != TO_MAP {
            let results = scan_residuals(residuals, local, params.team);
            let total = scan_a[results + params.team - 1u];
            if purpose == TO_MAP_RESIDUALS {
                piece_residuals = residuals_composed(piece_residuals, total);
            } else {
                var before = known;
                if member > 0u { before = known_after_residuals(known, scan_a[results + member - 1u]); }
                var sums = vec2<f32>(before.rise, before.fall);
                variance = before.variance + before.variance_rest;
                var learnt = learnt_before;
                for (var i = 0u; i < params.member_rows; i++) {
                    let residual = row_values[own_rows + i];
                    if is_nan(residual) { continue; }
                    var score: f32;
                    let is_trained = learnt >= params.min_training;
                    if RECURRENCE == HOLT {
                        score = abs(residual) * inverseSqrt(variance + params.variance_floor);
                        variance = max(variance + holt_gains(learnt).z * (square(residual) - variance), 0.0);
                    } else {
                        let by = vec2<f32>(residual, -residual) - vec2<f32>(params.drift);
                        if is_trained { sums = max(sums + by, vec2<f32>(0.0)); }
                        score = max(sums.x, sums.y);
                    }
                    row_values[own_rows + i] = select(0.0, score, is_trained);
                    learnt = more_learnt(learnt, 1u);
                }
            }
            known = known_after_residuals(known, total);
        }
        known.learnt = more_learnt(known.learnt, counts.y);
        if purpose == TO_SCORE {
            workgroupBarrier();
            write_tile(first, end, local);
        }
        first += params.member_rows * params.team;
    }

    if !is_asked || member != 0u { return; }
    if purpose == TO_SCORE {
        if (flags & FLAG_LAST) != 0u && (flags & FLAG_LEARNS) != 0u { store(at, known); }
    } else if purpose == TO_MAP_RESIDUALS {
        put_carry4(0u, part, piece_residuals);
    } else if RECURRENCE == HOLT {
        put_carry4(0u, part, piece_affine.matrix);
        put_carry4(4u, part, vec4<f32>(piece_affine.added, piece_entering));
        put_carry2(8u, part, piece_leaving);
    } else {
        put_carry4(0u, part, vec4<f32>(piece_sample.left, piece_sample.weight, piece_sample.mean));
        put_carry2(4u, part, vec2<f32>(piece_sample.variance, 0.0));
    }
}
