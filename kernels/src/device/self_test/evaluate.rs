//! What follows from a self-test: a pure function of what the adapter was seen to do, so that tests can hand in what broken drivers do.

use crate::kernel::{Exactness, Kernel};

/// What an adapter was seen to do. "Mismatches" are counted against the CPU, on the same input.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Observed {
    /// How many iterations one loop was asked for, and how many ran.
    pub loop_iterations: (u32, u32),
    /// The same of nested loops.
    pub nested_iterations: (u32, u32),
    /// The hash that these loops compute is right.
    pub loop_hash_is_right: bool,
    /// Of sums, differences, products and comparisons of 64 and 128 bits.
    pub integer_mismatches: u32,
    /// Of NaN and finite values told by their bits.
    pub nan_mismatches: u32,
    /// `x != x` is true for NaN. Kernels do not rely on it.
    pub nan_is_unequal_to_itself: bool,
    /// Of integer sums within workgroups, through barriers.
    pub barrier_mismatches: u32,
    /// Of counts by atomics.
    pub atomic_mismatches: u32,
    /// Of float sums by halving.
    pub tree_sum_mismatches: u32,
    /// Of float sums in the order that is written.
    pub sequential_sum_mismatches: u32,
    /// Float operations are reassociated where that is not prevented: the error term of a sum came out wrong.
    pub reassociates: bool,
    /// The same, with `launder` between.
    pub reassociates_laundered: bool,
    /// `a * b + c` is rounded once, where that is not prevented.
    pub contracts: bool,
    /// The same, with `launder` between.
    pub contracts_laundered: bool,
    /// `fma` is rounded once. Kernels do not rely on it.
    pub fma_is_fused: bool,
    /// Denormal floats are kept, not taken as 0.
    pub keeps_denormals: bool,
    /// How wide subgroups are, where the adapter has them. Kernels do not rely on it.
    pub subgroup_size: Option<u32>,
}

/// What kernels may need of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Need {
    /// Integers, bits, barriers and NaN: every kernel needs these.
    Basics,
    /// Float operations in the order that they are written: for sums that are equal to the bit.
    FloatOrder,
    /// Loops of any length in one invocation.
    LongLoops,
}

impl Need {
    /// All needs.
    pub const ALL: [Need; 3] = [Need::Basics, Need::FloatOrder, Need::LongLoops];

    /// As it is shown to users.
    pub fn name(self) -> &'static str {
        match self {
            Need::Basics => "all kernels",
            Need::FloatOrder => "float sums equal to the bit",
            Need::LongLoops => "kernels with long loops",
        }
    }
}

/// A self-test with what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SelfTest {
    /// What was seen.
    pub observed: Observed,
    /// What the adapter is refused for, and why.
    pub refused: Vec<(Need, String)>,
}

impl SelfTest {
    /// Judges what was seen.
    pub fn evaluate(observed: Observed) -> Self {
        let mut refused = Vec::new();
        let mut refuse_if = |is_wrong: bool, need, reason: &dyn Fn() -> String| {
            if is_wrong {
                refused.push((need, reason()));
            }
        };
        let Observed { integer_mismatches, nan_mismatches, barrier_mismatches, atomic_mismatches, .. } = observed;
        refuse_if(integer_mismatches > 0, Need::Basics, &|| {
            format!("{integer_mismatches} results of 64-bit arithmetic out of 32-bit words are wrong")
        });
        refuse_if(nan_mismatches > 0, Need::Basics, &|| {
            format!("{nan_mismatches} values are wrongly told to be NaN, or not")
        });
        refuse_if(barrier_mismatches > 0, Need::Basics, &|| {
            format!("{barrier_mismatches} sums through workgroup barriers are wrong")
        });
        refuse_if(atomic_mismatches > 0, Need::Basics, &|| format!("{atomic_mismatches} counts by atomics are wrong"));

        for (what, (asked, ran)) in [("a loop", observed.loop_iterations), ("nested loops", observed.nested_iterations)]
        {
            refuse_if(asked != ran, Need::LongLoops, &|| {
                format!(
                    "{what} of {asked} iterations ended after {ran}, without an error (Mesa before 23 does that at 65,535)"
                )
            });
        }
        refuse_if(!observed.loop_hash_is_right, Need::LongLoops, &|| "long loops compute something else".to_owned());

        let Observed { tree_sum_mismatches, sequential_sum_mismatches, .. } = observed;
        refuse_if(tree_sum_mismatches > 0, Need::FloatOrder, &|| {
            format!("{tree_sum_mismatches} float sums by halving differ from those of the CPU")
        });
        refuse_if(sequential_sum_mismatches > 0, Need::FloatOrder, &|| {
            format!("{sequential_sum_mismatches} float sums in order differ from those of the CPU")
        });
        refuse_if(observed.reassociates_laundered, Need::FloatOrder, &|| {
            "float operations are reassociated even where the compiler cannot know their values".to_owned()
        });
        refuse_if(observed.contracts_laundered, Need::FloatOrder, &|| {
            "products and sums are contracted even where the compiler cannot know their values".to_owned()
        });
        SelfTest { observed, refused }
    }

    /// Whether the adapter may run what needs this.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn allows(&self, need: Need) -> Result<(), &str> {
        match self.refused.iter().find(|(refused, _)| *refused == need) {
            Some((_, reason)) => Err(reason),
            None => Ok(()),
        }
    }

    /// Whether the adapter may run a kernel. Float sums that are only tolerably equal are no reason against it: see
    /// [`agreement`](Self::agreement).
    ///
    /// # Errors
    /// What it is refused for, and why.
    pub fn allows_kernel<K: Kernel>(&self, kernel: &K) -> Result<(), (Need, &str)> {
        let needs = if kernel.long_loops() { &[Need::Basics, Need::LongLoops][..] } else { &[Need::Basics] };
        needs.iter().try_for_each(|&need| self.allows(need).map_err(|reason| (need, reason)))
    }

    /// How device and twin agree on this adapter for a kernel that is as exact as this.
    pub fn agreement(&self, exactness: Exactness) -> Exactness {
        match exactness {
            // A tree of any depth that a page allows, in units of the last place.
            Exactness::SameTree if self.allows(Need::FloatOrder).is_err() => {
                Exactness::Tolerance { relative: 1e-5, absolute: 1e-6 }
            }
            other => other,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a right adapter does.
    pub(in super::super) fn right() -> Observed {
        Observed {
            loop_iterations: (200_000, 200_000),
            nested_iterations: (1_000_000, 1_000_000),
            loop_hash_is_right: true,
            integer_mismatches: 0,
            nan_mismatches: 0,
            nan_is_unequal_to_itself: true,
            barrier_mismatches: 0,
            atomic_mismatches: 0,
            tree_sum_mismatches: 0,
            sequential_sum_mismatches: 0,
            reassociates: false,
            reassociates_laundered: false,
            contracts: false,
            contracts_laundered: false,
            fma_is_fused: true,
            keeps_denormals: true,
            subgroup_size: Some(32),
        }
    }

    #[track_caller]
    fn refused_for(observed: Observed, need: Need, reason: &str) {
        let test = SelfTest::evaluate(observed);
        for other in Need::ALL {
            assert_eq!(test.allows(other).is_err(), other == need, "{other:?}: {test:?}");
        }
        let said = test.allows(need).expect_err("is refused");
        assert!(said.contains(reason), "{said}");
    }

    #[test]
    fn a_right_adapter_runs_everything() {
        let test = SelfTest::evaluate(right());
        assert_eq!(test.refused, []);
        assert_eq!(test.agreement(Exactness::SameTree), Exactness::SameTree);
    }

    /// What drivers are known to do wrong, each with the values that they give.
    #[test]
    fn each_known_trap_is_found() {
        // Mesa 22.3's lavapipe and llvmpipe: loops are cut at 65,535 iterations in total, nested ones at 65,405, without any error.
        let cut = Observed { loop_iterations: (200_000, 65_535), loop_hash_is_right: false, ..right() };
        refused_for(cut, Need::LongLoops, "a loop of 200000 iterations ended after 65535");
        let cut = Observed { nested_iterations: (1_000_000, 65_405), loop_hash_is_right: false, ..right() };
        refused_for(cut, Need::LongLoops, "nested loops of 1000000 iterations ended after 65405");
        refused_for(Observed { loop_hash_is_right: false, ..right() }, Need::LongLoops, "something else");
        // A fast-math compiler that folds (bits == bits) for NaN, one that loses a carry, one whose barrier does not hold.
        refused_for(Observed { nan_mismatches: 4, ..right() }, Need::Basics, "4 values");
        refused_for(Observed { integer_mismatches: 1, ..right() }, Need::Basics, "1 results of 64-bit arithmetic");
        refused_for(Observed { barrier_mismatches: 64, ..right() }, Need::Basics, "64 sums through workgroup barriers");
        refused_for(Observed { atomic_mismatches: 2, ..right() }, Need::Basics, "2 counts");
        // A driver that vectorises sums, and one that fuses through the launder.
        refused_for(Observed { sequential_sum_mismatches: 9, ..right() }, Need::FloatOrder, "9 float sums in order");
        refused_for(Observed { tree_sum_mismatches: 9, ..right() }, Need::FloatOrder, "9 float sums by halving");
        refused_for(Observed { contracts_laundered: true, ..right() }, Need::FloatOrder, "contracted");
        refused_for(Observed { reassociates_laundered: true, ..right() }, Need::FloatOrder, "reassociated");
    }

    /// What kernels are written around is no reason to refuse an adapter: Mesa folds the error of a plain sum, `fma` is two operations
    /// on software drivers, `x != x` is false for NaN on Vulkan, SwiftShader flushes denormals, and OpenGL has no subgroups.
    #[test]
    fn what_kernels_are_written_around_is_allowed() {
        let test = SelfTest::evaluate(Observed {
            reassociates: true,
            contracts: true,
            fma_is_fused: false,
            nan_is_unequal_to_itself: false,
            keeps_denormals: false,
            subgroup_size: None,
            ..right()
        });
        assert_eq!(test.refused, []);
    }

    /// Where float sums are not kept in order, a kernel runs all the same, and promises less.
    #[test]
    fn a_kernel_of_the_same_tree_becomes_tolerable() {
        let test = SelfTest::evaluate(Observed { tree_sum_mismatches: 1, ..right() });
        assert!(matches!(test.agreement(Exactness::SameTree), Exactness::Tolerance { .. }));
        assert_eq!(test.agreement(Exactness::Exact), Exactness::Exact);
    }
}
