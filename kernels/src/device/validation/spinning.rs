//! Finds loops in which a workgroup waits for another one.
//!
//! A driver need not run all workgroups of a dispatch at the same time, so one that waits for a flag of another may wait for ever; some
//! drivers then cut the loop and go on with wrong data, without any error. Such a loop ends only when an atomic of a storage buffer says
//! so. One that reads atomics and also ends by itself, after so many keys or levels, waits for nobody.

use std::collections::HashSet;

use naga::{Block, Expression, Handle, Statement};

/// A variable that values are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Variable {
    Local(Handle<naga::LocalVariable>),
    Global(Handle<naga::GlobalVariable>),
}

/// What of a function depends on atomics of storage buffers that a loop of it reads. What was read before the loop stays as it is, so
/// nobody waits for it.
struct Depends<'a> {
    module: &'a naga::Module,
    function: &'a naga::Function,
    types: &'a naga::valid::FunctionInfo,
    /// The statements of the loop, and what they load.
    statements: Vec<&'a Statement>,
    loads: HashSet<Handle<Expression>>,
    /// By expression, in the order of the arena, in which operands come before what is made of them.
    expressions: Vec<bool>,
    variables: HashSet<Variable>,
    /// Results of statements: atomics, calls, uniform loads.
    results: HashSet<Handle<Expression>>,
}

/// Whether an entry point, or what it calls, has a loop that only an atomic of a storage buffer ends.
pub(super) fn waits_for_others(
    module: &naga::Module,
    info: &naga::valid::ModuleInfo,
    function: &naga::Function,
    types: &naga::valid::FunctionInfo,
) -> bool {
    let mut loops = Vec::new();
    statements(&function.body, &mut |statement| {
        if let Statement::Loop { body, continuing, break_if } = statement {
            loops.push((body, continuing, *break_if));
        }
    });
    let waits = loops.into_iter().any(|(body, continuing, break_if)| {
        let mut depends = Depends::new(module, function, types, [body, continuing]);
        while depends.learn() {}
        depends.decides_on_all_exits(body, continuing, break_if)
    });
    waits
        || called(&function.body)
            .into_iter()
            .any(|callee| waits_for_others(module, info, &module.functions[callee], &info[callee]))
}

/// All statements, those of inner blocks too.
fn statements<'a>(block: &'a Block, visit: &mut dyn FnMut(&'a Statement)) {
    for statement in block {
        visit(statement);
        match statement {
            Statement::Block(block) => statements(block, visit),
            Statement::If { accept, reject, .. } => {
                statements(accept, visit);
                statements(reject, visit);
            }
            Statement::Switch { cases, .. } => cases.iter().for_each(|case| statements(&case.body, visit)),
            Statement::Loop { body, continuing, .. } => {
                statements(body, visit);
                statements(continuing, visit);
            }
            _ => {}
        }
    }
}

fn called(block: &Block) -> HashSet<Handle<naga::Function>> {
    let mut functions = HashSet::new();
    statements(block, &mut |statement| {
        if let Statement::Call { function, .. } = statement {
            functions.insert(*function);
        }
    });
    functions
}

impl<'a> Depends<'a> {
    fn new(
        module: &'a naga::Module,
        function: &'a naga::Function,
        types: &'a naga::valid::FunctionInfo,
        blocks: [&'a Block; 2],
    ) -> Self {
        let mut found = Vec::new();
        blocks.into_iter().for_each(|block| statements(block, &mut |statement| found.push(statement)));
        let loads = found.iter().flat_map(|statement| match statement {
            Statement::Emit(range) => range.clone().collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        Depends {
            module,
            function,
            types,
            loads: loads.collect(),
            statements: found,
            expressions: vec![false; function.expressions.len()],
            variables: HashSet::new(),
            results: HashSet::new(),
        }
    }

    /// One pass over everything; true while something new is found.
    fn learn(&mut self) -> bool {
        let before =
            (self.expressions.iter().filter(|known| **known).count(), self.variables.len(), self.results.len());
        for (handle, expression) in self.function.expressions.iter() {
            let depends = self.results.contains(&handle) || (self.loads.contains(&handle) && self.of(expression));
            self.expressions[handle.index()] |= depends;
        }
        for statement in self.statements.clone() {
            match statement {
                Statement::Store { pointer, value } if self.is_known(*value) => self.keep(*pointer),
                Statement::Atomic { pointer, value, result, .. } => {
                    if self.is_known(*value) {
                        self.keep(*pointer);
                    }
                    if let (Some(result), true) = (result, self.is_read_from(*pointer)) {
                        self.results.insert(*result);
                    }
                }
                Statement::WorkGroupUniformLoad { pointer, result } if self.is_read_from(*pointer) => {
                    self.results.insert(*result);
                }
                Statement::Call { function, result: Some(result), .. } if self.uses_storage_atomics(*function) => {
                    self.results.insert(*result);
                }
                _ => {}
            }
        }
        before != (self.expressions.iter().filter(|known| **known).count(), self.variables.len(), self.results.len())
    }

    fn is_known(&self, handle: Handle<Expression>) -> bool {
        self.expressions[handle.index()]
    }

    fn of(&self, expression: &Expression) -> bool {
        let known = |handle: &Handle<Expression>| self.is_known(*handle);
        match expression {
            Expression::Load { pointer } => self.is_read_from(*pointer),
            Expression::Compose { components, .. } => components.iter().any(known),
            Expression::Access { base, index } => known(base) || known(index),
            Expression::AccessIndex { base, .. } => known(base),
            Expression::Splat { value, .. } => known(value),
            Expression::Swizzle { vector, .. } => known(vector),
            Expression::Unary { expr, .. } | Expression::As { expr, .. } => known(expr),
            Expression::Binary { left, right, .. } => known(left) || known(right),
            Expression::Select { condition, accept, reject } => known(condition) || known(accept) || known(reject),
            Expression::Relational { argument, .. } => known(argument),
            Expression::Math { arg, arg1, arg2, arg3, .. } => {
                known(arg) || [arg1, arg2, arg3].into_iter().flatten().any(known)
            }
            _ => false,
        }
    }

    /// The variable that a pointer points into.
    fn variable(&self, pointer: Handle<Expression>) -> Option<Variable> {
        match self.function.expressions[pointer] {
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.variable(base),
            Expression::LocalVariable(variable) => Some(Variable::Local(variable)),
            Expression::GlobalVariable(variable) => Some(Variable::Global(variable)),
            _ => None,
        }
    }

    /// What is kept in local and workgroup variables is followed; other storage is not waited for without atomics.
    fn keep(&mut self, pointer: Handle<Expression>) {
        if let Some(variable) = self.variable(pointer) {
            self.variables.insert(variable);
        }
    }

    /// The pointer is to an atomic of a storage buffer, or into a variable that has something of one.
    fn is_read_from(&self, pointer: Handle<Expression>) -> bool {
        let atomic = match *self.types[pointer].ty.inner_with(&self.module.types) {
            naga::TypeInner::Pointer { base, space: naga::AddressSpace::Storage { .. } } => {
                matches!(self.module.types[base].inner, naga::TypeInner::Atomic(_))
            }
            _ => false,
        };
        atomic || self.variable(pointer).is_some_and(|variable| self.variables.contains(&variable))
    }

    fn uses_storage_atomics(&self, function: Handle<naga::Function>) -> bool {
        let function = &self.module.functions[function];
        let is_atomic = |variable: &naga::GlobalVariable| {
            let inner = &self.module.types[variable.ty].inner;
            let element = match *inner {
                naga::TypeInner::Array { base, .. } => &self.module.types[base].inner,
                _ => inner,
            };
            matches!(variable.space, naga::AddressSpace::Storage { .. })
                && matches!(element, naga::TypeInner::Atomic(_))
        };
        let mine = function.expressions.iter().any(|(_, expression)| match expression {
            Expression::GlobalVariable(variable) => is_atomic(&self.module.global_variables[*variable]),
            _ => false,
        });
        mine || called(&function.body).into_iter().any(|callee| self.uses_storage_atomics(callee))
    }

    /// The loop ends only when an atomic says so. One that never ends is none of this; it does not pass any test.
    fn decides_on_all_exits(&self, body: &Block, continuing: &Block, break_if: Option<Handle<Expression>>) -> bool {
        let mut exits = Vec::new();
        self.exits(body, false, true, &mut exits);
        self.exits(continuing, false, true, &mut exits);
        exits.extend(break_if.map(|condition| self.is_known(condition)));
        !exits.is_empty() && exits.iter().all(|guarded| *guarded)
    }

    /// Each way out of a loop: whether an atomic decides on it. `breaks` is false where `break` leaves something inside of the loop.
    fn exits(&self, block: &Block, mut guarded: bool, breaks: bool, exits: &mut Vec<bool>) {
        for statement in block {
            match statement {
                Statement::Break if breaks => exits.push(guarded),
                Statement::Return { .. } => exits.push(guarded),
                Statement::Block(block) => self.exits(block, guarded, breaks, exits),
                Statement::If { condition, accept, reject } => {
                    let decided = guarded || self.is_known(*condition);
                    self.exits(accept, decided, breaks, exits);
                    self.exits(reject, decided, breaks, exits);
                    // What comes after is reached only if it does not go round again.
                    let mut goes_on = false;
                    for branch in [accept, reject] {
                        statements(branch, &mut |inner| goes_on |= matches!(inner, Statement::Continue));
                    }
                    guarded |= decided && goes_on;
                }
                Statement::Switch { selector, cases } => {
                    let decided = guarded || self.is_known(*selector);
                    cases.iter().for_each(|case| self.exits(&case.body, decided, false, exits));
                }
                Statement::Loop { body, continuing, .. } => {
                    self.exits(body, guarded, false, exits);
                    self.exits(continuing, guarded, false, exits);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use naga::valid::{Capabilities, ValidationFlags, Validator};

    use super::*;

    fn waits(body: &str) -> bool {
        let source = format!(
            "@group(0) @binding(0) var<storage, read_write> flags: array<atomic<u32>>;
            var<workgroup> seen: u32;
            var<workgroup> own: atomic<u32>;
            fn flag(i: u32) -> u32 {{ return atomicAdd(&flags[i], 0u); }}
            fn wait(i: u32) {{ while atomicLoad(&flags[i]) == 0u {{}} }}
            @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {{ {body} }}"
        );
        let module = naga::front::wgsl::parse_str(&source).expect("parses");
        let info = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module).expect("is valid");
        waits_for_others(&module, &info, &module.entry_points[0].function, info.get_entry_point(0))
    }

    /// Ways in which a workgroup can wait for another one, as look-back scans and locks do.
    #[test]
    fn waiting_is_found() {
        for body in [
            "while atomicLoad(&flags[1]) == 0u {}",
            "loop { let x = atomicLoad(&flags[lane]); if x != 0u { break; } }",
            "loop { if flag(3u) == 1u { return; } }",
            "loop { if atomicLoad(&flags[0]) == 0u { continue; } break; }",
            "var done = false; while !done { done = (atomicLoad(&flags[0]) & 3u) == 2u; }",
            "loop { if lane == 0u { seen = atomicLoad(&flags[0]); } if workgroupUniformLoad(&seen) != 0u { break; } }",
            "while !atomicCompareExchangeWeak(&flags[0], 0u, 1u).exchanged {}",
            "loop { continuing { break if atomicLoad(&flags[0]) == 1u; } }",
            "for (var i = 0u; i < 4u; i++) { while flag(i) == 0u {} }",
            "if lane == 0u { wait(2u); }",
        ] {
            assert!(waits(body), "{body}");
        }
    }

    /// Loops that read atomics and end by themselves.
    #[test]
    fn reading_is_not_waiting() {
        for body in [
            "var sum = 0u; for (var i = 0u; i < 100u; i++) { sum += atomicLoad(&flags[i]); } atomicAdd(&flags[0], sum);",
            "for (var i = 0u; i < 100u; i++) { if atomicLoad(&flags[i]) > 3u { return; } }",
            "for (var i = 0u; i < 100u; i++) { if flag(i) > 3u { break; } atomicAdd(&flags[i], 1u); }",
            "for (var half = 32u; half > 0u; half /= 2u) { atomicMax(&own, atomicLoad(&flags[half])); workgroupBarrier(); }",
            "let end = atomicLoad(&flags[0]); var i = 0u; while i < end { i += 2u; atomicAdd(&flags[i], 1u); }",
            "if lane == 0u { seen = atomicLoad(&flags[0]); } var i = workgroupUniformLoad(&seen); while i < 9u { atomicAdd(&flags[i], 1u); i += 1u; }",
            "while atomicLoad(&own) == 0u { if lane == 0u { atomicStore(&own, 1u); } }",
        ] {
            assert!(!waits(body), "{body}");
        }
    }
}
