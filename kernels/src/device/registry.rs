//! All programs of the crate with the overrides that they are run with, so that a test without any device checks each of them.

use super::program::Program;
use super::{calibrate, resident, self_test};
use crate::{
    conv_forecast, half_space_forest, pattern_starts, pattern_step, recurrence_scan, subspace_score, window_distance,
    window_reduce,
};

/// Values of the `override` constants of an entry point, by name.
pub type OverrideSet = &'static [(&'static str, f64)];

/// A program and how it is run.
#[derive(Debug)]
pub struct Registered {
    /// The program.
    pub program: &'static Program,
    /// Each entry point with the sets of overrides that bound those it is dispatched with: the smallest and the largest shape at least.
    pub entries: &'static [(&'static str, &'static [OverrideSet])],
}

/// All programs. A kernel that is not here is not checked, so its folder's tests look for it.
pub const PROGRAMS: &[Registered] = &[
    Registered { program: &resident::FILL_PAGE, entries: &[("fill_page", &[&[]])] },
    Registered { program: &calibrate::COPY, entries: &[("copy", &[&[]])] },
    Registered {
        program: &self_test::SELF_TEST,
        entries: &[
            ("loops", &[&[]]),
            ("integers", &[&[]]),
            ("nans", &[&[]]),
            ("floats", &[&[]]),
            ("reductions", &[&[]]),
            ("sequences", &[&[]]),
        ],
    },
    Registered {
        program: &pattern_step::gpu::PATTERN_STEP,
        entries: &[
            ("step", &[&[]]),
            ("step_within", &[&[]]),
            ("settle", &[&[]]),
            ("compose", &[&[]]),
            ("carry", &[&[]]),
        ],
    },
    Registered { program: &pattern_starts::gpu::PATTERN_STARTS, entries: &[("pattern_starts", &[&[]])] },
    Registered { program: &conv_forecast::gpu::CONV_FORECAST, entries: &[("conv_forecast", &[&[]])] },
    Registered { program: &half_space_forest::gpu::TRACK, entries: &[("track", half_space_forest::gpu::OVERRIDES)] },
    Registered {
        program: &half_space_forest::gpu::COUNT_ROWS,
        entries: &[("count_rows", half_space_forest::gpu::OVERRIDES)],
    },
    Registered {
        program: &window_distance::gpu::PREPARE,
        entries: &[("unroll", &[&[]]), ("shape", &[&[]]), ("mark", &[&[]]), ("finish", &[&[]]), ("settle", &[&[]])],
    },
    Registered { program: &window_distance::gpu::COMPARE, entries: &[("compare", &[&[]])] },
    Registered { program: &subspace_score::gpu::SUBSPACE_SCORE, entries: &[("subspace_score", SUBSPACES)] },
    Registered {
        program: &recurrence_scan::gpu::RECURRENCE_SCAN,
        entries: &[
            ("score", RECURRENCES),
            ("summarise", RECURRENCES),
            ("carry", RECURRENCES),
            ("summarise_residuals", RECURRENCES),
            ("carry_residuals", RECURRENCES),
        ],
    },
    Registered { program: &window_reduce::gpu::INT64, entries: &[("reduce", TEAMS), ("combine", TEAMS)] },
    Registered { program: &window_reduce::gpu::DECIMAL128, entries: &[("reduce", TEAMS), ("combine", TEAMS)] },
    Registered { program: &window_reduce::gpu::FLOAT32, entries: &[("reduce", TEAMS), ("combine", TEAMS)] },
];

const RECURRENCES: &[OverrideSet] = &[&[("RECURRENCE", 0.0)], &[("RECURRENCE", 1.0)], &[("RECURRENCE", 2.0)]];
const SUBSPACES: &[OverrideSet] = &[
    &[("STRIDE", 16.0), ("CENTROIDS", 0.0), ("COMPONENTS", 16.0)],
    &[("STRIDE", 16.0), ("CENTROIDS", 1.0), ("COMPONENTS", 16.0)],
    &[("STRIDE", 16.0), ("CENTROIDS", 0.0), ("COMPONENTS", 1.0)],
    &[("STRIDE", 64.0), ("CENTROIDS", 1.0), ("COMPONENTS", 16.0)],
    &[("STRIDE", 512.0), ("CENTROIDS", 0.0), ("COMPONENTS", 16.0)],
    &[("STRIDE", 512.0), ("CENTROIDS", 1.0), ("COMPONENTS", 16.0)],
];
const TEAMS: &[OverrideSet] = &[&[("TEAM", 16.0)], &[("TEAM", 64.0)]];
