//! Checks of shaders that need no device, for tests.

mod spinning;

use std::collections::BTreeMap;

use naga::valid::{Capabilities, ValidationFlags, Validator};

use crate::device::program::{Access, Program, STORAGE_MAX};
use crate::device::registry::{OverrideSet, PROGRAMS, Registered};

/// The most invocations of a workgroup, and the most bytes of its memory, by the default limits.
const INVOCATIONS_MAX: u32 = 256;
const WORKGROUP_BYTES_MAX: u32 = 16 << 10;

fn parse(program: &Program) -> Result<naga::Module, String> {
    let wgsl = program.wgsl();
    naga::front::wgsl::parse_str(&wgsl).map_err(|error| format!("`{}`: {}", program.name, error.emit_to_string(&wgsl)))
}

/// Parses and validates a program in all its override sets, and compares its bindings and workgroups with what it may have.
pub(crate) fn validate(registered: &Registered) -> Result<(), String> {
    let program = registered.program;
    let module = parse(program)?;
    let failed = |what: &str, error: &dyn std::fmt::Debug| format!("`{}`: {what}: {error:?}", program.name);
    // No capabilities: nothing that is optional (f16, subgroups, 64 bits) slips in.
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    let info = validator.validate(&module).map_err(|error| failed("is not valid", &error.into_inner()))?;
    check_bindings(program, &module)?;
    check_spinning(program, &module, &info)?;

    let mut declared: Vec<&str> = module.entry_points.iter().map(|entry| entry.name.as_str()).collect();
    let mut listed: Vec<&str> = registered.entries.iter().map(|(entry, _)| *entry).collect();
    declared.sort_unstable();
    listed.sort_unstable();
    if declared != listed {
        return Err(format!("`{}` has the entry points {declared:?}, and {listed:?} are registered", program.name));
    }
    for (entry, sets) in registered.entries {
        if sets.is_empty() {
            return Err(format!("`{}.{entry}` is registered without a set of overrides", program.name));
        }
        for set in *sets {
            let mut constants = naga::back::PipelineConstants::default();
            constants.extend(set.iter().map(|&(name, value)| (name.to_owned(), value)));
            let stage = (naga::ShaderStage::Compute, *entry);
            let (resolved, _) =
                naga::back::pipeline_constants::process_overrides(&module, &info, Some(stage), &constants)
                    .map_err(|error| failed(&format!("{entry} with {set:?}"), &error))?;
            check_workgroup(program, entry, set, &resolved)?;
        }
    }
    Ok(())
}

fn check_bindings(program: &Program, module: &naga::Module) -> Result<(), String> {
    let mut found: BTreeMap<u32, naga::AddressSpace> = BTreeMap::new();
    for (_, variable) in module.global_variables.iter() {
        match (&variable.binding, variable.space) {
            (Some(binding), space) if binding.group == 0 => {
                found.insert(binding.binding, space);
            }
            (Some(binding), _) => {
                return Err(format!("`{}` uses group {}, and only 0 is bound", program.name, binding.group));
            }
            (None, _) => {}
        }
    }
    let mut expected: BTreeMap<u32, naga::AddressSpace> = BTreeMap::from([(0, naga::AddressSpace::Uniform)]);
    expected.extend(program.storage.iter().zip(1..).map(|(access, binding)| {
        let access = match access {
            Access::Read => naga::StorageAccess::LOAD,
            Access::ReadWrite => naga::StorageAccess::LOAD | naga::StorageAccess::STORE,
        };
        (binding, naga::AddressSpace::Storage { access })
    }));
    if found != expected {
        return Err(format!("`{}` declares the bindings {found:?}, and its program says {expected:?}", program.name));
    }
    if program.storage.len() > STORAGE_MAX {
        return Err(format!(
            "`{}` has {} storage bindings, at most {STORAGE_MAX} are portable",
            program.name,
            program.storage.len()
        ));
    }
    Ok(())
}

fn check_spinning(program: &Program, module: &naga::Module, info: &naga::valid::ModuleInfo) -> Result<(), String> {
    for (index, entry) in module.entry_points.iter().enumerate() {
        if spinning::waits_for_others(module, info, &entry.function, info.get_entry_point(index)) {
            return Err(format!(
                "`{}.{}` has a loop that only an atomic of a storage buffer ends: workgroups must not wait for each other; use another \
                 dispatch",
                program.name, entry.name
            ));
        }
    }
    Ok(())
}

fn check_workgroup(program: &Program, entry: &str, set: OverrideSet, module: &naga::Module) -> Result<(), String> {
    let point = module
        .entry_points
        .iter()
        .find(|point| point.name == entry)
        .ok_or_else(|| format!("`{}` has no entry point `{entry}`", program.name))?;
    let invocations: u32 = point.workgroup_size.iter().product();
    if invocations == 0 || invocations > INVOCATIONS_MAX || point.workgroup_size[2] > 64 {
        return Err(format!("`{}.{entry}` with {set:?} has a workgroup of {:?}", program.name, point.workgroup_size));
    }
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).map_err(|error| format!("`{}`: {error:?}", program.name))?;
    let bytes: u32 = module
        .global_variables
        .iter()
        .filter(|(_, variable)| variable.space == naga::AddressSpace::WorkGroup)
        .map(|(_, variable)| layouter[variable.ty].size)
        .sum();
    if bytes > WORKGROUP_BYTES_MAX {
        return Err(format!("`{}.{entry}` with {set:?} has {bytes} bytes of workgroup memory", program.name));
    }
    Ok(())
}

/// The `const` values of a program's own source, by name: those of scalars.
pub(crate) fn constants(program: &Program) -> BTreeMap<String, f64> {
    let module = parse(program).expect("the program parses");
    module
        .constants
        .iter()
        .filter_map(|(_, constant)| {
            let naga::Expression::Literal(literal) = module.global_expressions[constant.init] else { return None };
            let value = match literal {
                naga::Literal::F64(value) | naga::Literal::AbstractFloat(value) => value,
                naga::Literal::F32(value) => f64::from(value),
                naga::Literal::U32(value) => f64::from(value),
                naga::Literal::I32(value) => f64::from(value),
                naga::Literal::AbstractInt(value) => value as f64,
                naga::Literal::Bool(value) => f64::from(u8::from(value)),
                _ => return None,
            };
            Some((constant.name.clone()?, value))
        })
        .collect()
}

/// Every scalar `const` of a shader equals the one of that name here, and none is left out: for the tests of kernels.
#[track_caller]
pub(crate) fn assert_constants_agree(program: &Program, rust: &[(&str, f64)]) {
    let expected: BTreeMap<String, f64> = rust.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(constants(program), expected, "constants of `{}.wgsl` and of Rust", program.name);
}

/// The program is among [`PROGRAMS`], so that it is validated: for the tests of kernels.
#[track_caller]
pub(crate) fn assert_registered(program: &'static Program) {
    assert!(
        PROGRAMS.iter().any(|registered| std::ptr::eq(registered.program, program)),
        "`{}` is not in registry::PROGRAMS, so nothing validates it",
        program.name
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::resident;

    /// A shader that does not compile, or that only some devices take, is found on every machine, with or without a GPU.
    #[test]
    fn all_programs_are_valid_in_all_override_sets() {
        for registered in PROGRAMS {
            validate(registered).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn the_shader_that_fills_pages_agrees_with_rust() {
        let (size, words) = (f64::from(resident::FILL_WORKGROUP_SIZE), f64::from(resident::FILL_WORDS));
        assert_constants_agree(&resident::FILL_PAGE, &[("WORKGROUP_SIZE", size), ("WORDS", words)]);
        assert_registered(&resident::FILL_PAGE);
    }

    /// The checks above can fail: each rule is broken once.
    #[test]
    fn what_is_wrong_is_found() {
        const HEAD: &str = "@group(0) @binding(0) var<uniform> params: vec4<u32>;\n";
        fn error(source: &str, storage: &'static [Access], overrides: &'static [OverrideSet]) -> String {
            let source: &'static str = Box::leak(format!("{HEAD}{source}").into_boxed_str());
            let program: &'static Program = Box::leak(Box::new(Program { name: "wrong", source, storage }));
            let entries = Box::leak(Box::new([("main", overrides)]));
            validate(&Registered { program, entries }).expect_err("is wrong")
        }
        const NONE: &[OverrideSet] = &[&[]];
        const BODY: &str = "fn main() { let x = params.x; }";
        assert!(error("fn main( {}", &[], NONE).contains("expected"), "syntax");
        assert!(
            error(&format!("@compute @workgroup_size(64) {BODY}"), &[Access::Read], NONE)
                .contains("declares the bindings")
        );
        let written = "@group(0) @binding(1) var<storage, read_write> a: array<u32>;";
        let read_write = format!("{written} @compute @workgroup_size(64) fn main() {{ a[0] = params.x; }}");
        assert!(error(&read_write, &[Access::Read], NONE).contains("declares the bindings"));
        assert!(error(&format!("@compute @workgroup_size(257) {BODY}"), &[], NONE).contains("[257, 1, 1]"));
        let large = "var<workgroup> m: array<u32, N>; @compute @workgroup_size(64) fn main() { m[0] = params.x; }";
        assert!(error(&format!("const N = 4097u; {large}"), &[], NONE).contains("16388 bytes"));
        let shaped = format!("override N: u32; @compute @workgroup_size(N) {BODY}");
        assert!(error(&shaped, &[], &[&[("N", 64.0)], &[("N", 512.0)]]).contains("[512, 1, 1]"));
        assert!(error(&shaped, &[], NONE).contains("MissingValue"), "an override without a value");
        assert!(
            error(&format!("@compute @workgroup_size(64) {}", BODY.replace("main", "other")), &[], NONE)
                .contains("other")
        );
        let flags = "@group(0) @binding(1) var<storage, read_write> flags: array<atomic<u32>>;";
        let wait = "fn wait(i: u32) -> bool { return atomicLoad(&flags[i]) == 0u; }";
        for spin in ["while atomicLoad(&flags[params.x]) == 0u {}", "loop { if !wait(params.x) { break; } }"] {
            let source = format!("{flags} {wait} @compute @workgroup_size(64) fn main() {{ {spin} }}");
            assert!(
                error(&source, &[Access::ReadWrite], NONE).contains("workgroups must not wait for each other"),
                "{spin}"
            );
        }
        let doubles = "@compute @workgroup_size(64) fn main() { let x = f64(params.x); }";
        assert!(error(doubles, &[], NONE).contains("is not valid"), "64-bit floats are optional");
    }
}
