//! What DataFusion and arrow say, in the words of whoever wrote the query.
//!
//! Their messages name phases of a planner, types of Arrow and structs of Rust. Those that a wrong query can meet are told anew here,
//! each with the way out; of any other the phases go and the types get the names that SQL has for them. A message that names a function
//! or a column also says where to look for it in the text ([`Subject`]), because most of DataFusion's errors have no place.

use std::borrow::Cow;

/// What DataFusion puts before its messages, at every level through which they came.
const PHASES: &[&str] = &[
    "Error during planning: ",
    "This feature is not implemented: ",
    "Execution error: ",
    "Internal error: ",
    "Arrow error: ",
    "External error: ",
    "Schema error: ",
    "Optimizer rule 'simplify_expressions' failed",
    "Invalid argument error: ",
    "Compute error: ",
    "Parser error: ",
    "Cast error: ",
    "type_coercion\ncaused by\n",
    "\ncaused by\n",
];

/// Arrow's names of types and SQL's; longer names before those that they begin with.
const TYPES: &[(&str, &str)] = &[
    ("Timestamp(s)", "TIMESTAMP(0)"),
    ("Timestamp(ms)", "TIMESTAMP(3)"),
    ("Timestamp(µs)", "TIMESTAMP(6)"),
    ("Timestamp(ns)", "TIMESTAMP(9)"),
    ("Timestamp(ms, \"UTC\")", "TIMESTAMP_LTZ(3)"),
    ("Timestamp(µs, \"UTC\")", "TIMESTAMP_LTZ(6)"),
    ("Timestamp(ns, \"UTC\")", "TIMESTAMP_LTZ(9)"),
    ("Time32(ms)", "TIME(3)"),
    ("Time64(µs)", "TIME(6)"),
    ("Time64(ns)", "TIME(9)"),
    ("Interval(MonthDayNano)", "INTERVAL"),
    ("Interval(DayTime)", "INTERVAL"),
    ("Interval(YearMonth)", "INTERVAL"),
    ("Duration(ms)", "INTERVAL"),
    ("LargeUtf8", "STRING"),
    ("Utf8View", "STRING"),
    ("Utf8", "STRING"),
    ("Boolean", "BOOLEAN"),
    ("UInt64", "BIGINT UNSIGNED"),
    ("UInt32", "INT UNSIGNED"),
    ("UInt16", "SMALLINT UNSIGNED"),
    ("UInt8", "TINYINT UNSIGNED"),
    ("Int64", "BIGINT"),
    ("Int32", "INT"),
    ("Int16", "SMALLINT"),
    ("Int8", "TINYINT"),
    ("Float64", "DOUBLE"),
    ("Float32", "FLOAT"),
    ("Decimal128", "DECIMAL"),
    ("Date32", "DATE"),
    ("LargeBinary", "BYTES"),
    ("BinaryView", "BYTES"),
    ("Binary", "BYTES"),
    ("LargeList(", "ARRAY("),
    ("List(", "ARRAY("),
    ("Struct(", "ROW("),
    ("Map(", "MAP("),
];

/// What a message speaks of, to be found in the text of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A function, by its name in the catalog.
    Function(String),
    /// A column, perhaps with its qualifier.
    Column(String),
    /// A text constant.
    Text(String),
}

/// A message in our words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) message: String,
    pub(crate) subject: Option<Subject>,
}

impl Told {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), subject: None }
    }

    fn of_function(name: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), subject: Some(Subject::Function(name.to_lowercase())) }
    }

    fn of_text(text: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), subject: Some(Subject::Text(text.to_string())) }
    }

    fn of_column(name: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), subject: Some(Subject::Column(name.to_string())) }
    }
}

/// Tells a message of DataFusion or arrow anew.
pub(crate) fn tell(message: &str) -> Told {
    let (message, unknown) = match message.split_once("\nThis issue was likely caused by a bug in DataFusion's code") {
        // What a call does not fit is said after it.
        Some((before, after)) => {
            let call = after.find("No function matches").map_or("", |at| &after[at..]);
            (Cow::Owned(format!("{} {call}", before.trim_end_matches('.'))), true)
        }
        None => (Cow::Borrowed(message), false),
    };
    if let Some(told) = call(&message) {
        return told;
    }
    let was_unsupported = message.contains("This feature is not implemented: ");
    let plain = PHASES.iter().fold(message.into_owned(), |text, phase| text.replace(phase, ""));
    let plain = in_sql_types(&plain_literals(&plain));
    let plain = plain.trim().trim_end_matches('.');
    if let Some(told) = known(plain) {
        return told;
    }
    let one_line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let one_line = without_struct(&one_line);
    let ended = was_unsupported && !one_line.contains("not ") && !one_line.to_lowercase().contains("unsupported");
    Told::new(match (ended, unknown) {
        (true, _) => format!("{one_line} is not supported"),
        (false, true) => format!("this cannot be run: {one_line}"),
        (false, false) => one_line,
    })
}

/// An aggregate is called over the value of an `OVER`.
pub(crate) const AGGREGATE_OF_WINDOW: &str = "an aggregate of groups takes no value of an `OVER`; compute that in a query of its own: `SELECT SUM(x) FROM (SELECT .. OVER (..) AS x \
     FROM t)`";

/// The text up to a struct of Rust, `Name { ..`, which says nothing to a user.
fn without_struct(text: &str) -> String {
    let names =
        text.match_indices(" { ").map(|(at, _)| text[..at].rfind([' ', ':', '(']).map_or(0, |before| before + 1));
    let is_type = |start: &usize| text[*start..].starts_with(|c: char| c.is_ascii_uppercase());
    match names.into_iter().find(is_type) {
        Some(start) => text[..start].trim_end_matches([' ', ':', '(']).to_string(),
        None => text.to_string(),
    }
}

/// [`tell`], without the subject.
pub(crate) fn own_words(message: &str) -> String {
    tell(message).message
}

/// A call whose arguments no form of the function takes.
fn call(message: &str) -> Option<Told> {
    const MARK: &str = "No function matches the given name and argument types '";
    let (before, after) = message.split_once(MARK)?;
    let (signature, rest) = after.split_once("'. You might need")?;
    let (name, given) = signature.split_once('(')?;
    let given = in_sql_types(given.strip_suffix(')').unwrap_or(given));
    // Our functions say themselves what they take.
    const OURS: &str = "user-defined coercion failed with: ";
    if let Some((_, own)) = before.split_once(OURS) {
        let own = PHASES.iter().fold(own.to_string(), |text, phase| text.replace(phase, ""));
        let own = in_sql_types(own.trim().trim_end_matches('.'));
        if own.starts_with("min/max was called with") {
            return Some(Told::new(
                "`MIN` and `MAX` take one value; of several values in a row there are `LEAST` and `GREATEST`",
            ));
        }
        if let Some(types) = own.strip_prefix("Failed to unify argument types of make_array: ") {
            return Some(Told::new(format!(
                "the elements of an ARRAY have one type, and these are {types}; cast them"
            )));
        }
        if name == "coalesce" || own.contains("Fail to find the coerced type") {
            let message = format!("the arguments of `{name}` have one type, and these are {given}; cast them");
            return Some(Told::of_function(name, message));
        }
        let rounds = [("floor_to", "FLOOR"), ("ceil_to", "CEIL")].into_iter().find(|(function, _)| *function == name);
        if let Some((_, written)) = rounds {
            let given = given.split_once(", ").map_or(given.as_str(), |(_, time)| time);
            return Some(Told::new(format!(
                "`{written}(.. TO unit)` takes a TIMESTAMP, a DATE or a TIME, not {}",
                a(given)
            )));
        }
        return Some(Told::of_function(name, own));
    }
    let forms = rest.lines().skip(1).map(str::trim).filter(|line| !line.is_empty());
    let mut takes: Vec<String> = vec![];
    for form in forms.filter_map(|form| arguments(form, name)) {
        if !takes.contains(&form) {
            takes.push(form);
        }
    }
    let of_json = given.split(", ").any(|given| given == "JSON");
    let given = if given.is_empty() { "no argument".to_string() } else { given };
    let takes = match takes.as_slice() {
        [] => "`SHOW FUNCTIONS` lists what there is; cast the arguments".to_string(),
        takes => format!("it takes {}", takes.join(" or ")),
    };
    let takes = match of_json {
        true => {
            format!("{takes}; take the value as one type first: `json_get_float(j, 'a')`, `CAST(j ->> 'a' AS DOUBLE)`")
        }
        false => takes,
    };
    Some(Told::of_function(name, format!("`{name}` is called with {given}; {takes}")))
}

/// The arguments of one form of a function, `upper(String)`, as users know them; none where it says nothing.
fn arguments(form: &str, name: &str) -> Option<String> {
    let inside = form.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
    match inside {
        "UserDefined" | "Any" | "VariadicAny" => return None,
        "NullAry()" | "" => return Some("no argument".into()),
        _ if inside.contains("Null") => return None,
        _ => {}
    }
    let inside = in_sql_types(inside);
    let words = [
        ("Numeric(1)", "a number"),
        ("String(1)", "STRING"),
        ("Comparable(1)", "a value that can be compared"),
        ("String", "STRING"),
        ("Integer", "BIGINT"),
        ("Decimal", "DECIMAL"),
        ("Numeric", "a number"),
        ("Duration", "INTERVAL"),
        ("Interval", "INTERVAL"),
        ("Timestamp", "TIMESTAMP"),
        ("Native(BIGINT)", "BIGINT"),
        ("UBIGINT", "BIGINT UNSIGNED"),
    ];
    let inside = words.iter().fold(inside, |text, (from, to)| replace_words(&text, from, to));
    Some(if inside.contains(',') { format!("({inside})") } else { inside })
}

/// Messages that have a better text here.
fn known(plain: &str) -> Option<Told> {
    let between = |start: &str, end: &str| -> Option<&str> {
        let (_, after) = plain.split_once(start)?;
        Some(after.split_once(end)?.0)
    };
    let after = |start: &str| plain.strip_prefix(start);
    let unqualified = |name: &str| name.rsplit('.').next().unwrap_or(name).trim_matches('"').to_string();
    if plain.contains("is ambiguous") || plain.contains("Ambiguous reference") {
        return None;
    }
    if plain.starts_with("Substring without for/from is not valid") {
        return Some(Told::new(
            "`SUBSTRING` needs a place to start from: `SUBSTRING(text FROM 2)`, or `substr(text, 2)`",
        ));
    }
    if plain.starts_with("Unnest should be rewritten") {
        let message = "`UNNEST` gives a row for each element: it stands in the SELECT list or in FROM (`CROSS JOIN UNNEST(a) AS u(x)`), \
                       not in a condition or a measure; of one value ask `a[1]`, `array_has(a, x)` or `x = ANY(a)`";
        return Some(Told { subject: Some(Subject::Function("unnest".into())), ..Told::new(message) });
    }
    if let Some(node) = after("Unsupported ast node in sqltorel: ") {
        let kind = node.split([' ', '(', '{']).next().unwrap_or(node);
        return Some(Told::new(format!("an expression of the kind `{kind}` is not supported")));
    }
    if let Some((from, to)) = after("Unsupported CAST from ").and_then(|rest| rest.rsplit_once(" to ")) {
        return Some(Told::new(format!("{} cannot be cast to {to}", a(from))));
    }
    if let Some((text, to)) = after("Cannot cast string '").and_then(|rest| rest.rsplit_once("' to value of ")) {
        let to = to.trim_end_matches(" type");
        return Some(Told::of_text(
            text,
            format!("Cannot cast string '{text}' to {to}; `TRY_CAST(.. AS {to})` gives NULL there"),
        ));
    }
    if let Some((value, to)) = after("Can't cast value ").and_then(|rest| rest.rsplit_once(" to type ")) {
        return Some(Told::new(format!("{value} is out of range for {to}; `TRY_CAST(.. AS {to})` gives NULL there")));
    }
    if let Some((text, why)) = after("Error parsing timestamp from '").and_then(|rest| rest.rsplit_once("': ")) {
        return Some(Told::of_text(text, format!("'{text}' is no TIMESTAMP such as '2026-01-31 12:00:00': {why}")));
    }
    if let Some(text) = after("Invalid input syntax for type interval: ") {
        let text = text.trim_matches('"');
        return Some(Told::of_text(
            text,
            format!("'{text}' is no INTERVAL; write `INTERVAL '10' SECOND` or `INTERVAL '1 day 2 hours'`"),
        ));
    }
    if plain == "Divide by zero error" {
        return Some(Told::new("division by zero; `NULLIF(divisor, 0)` gives NULL there"));
    }
    if let Some((value, max)) = plain.split_once(" is too large to store in a DECIMAL of precision ") {
        return Some(Told::new(format!("{value} has too many digits for its DECIMAL, of precision {max}")));
    }
    if let Some(column) = between("While expanding wildcard, column \"", "\" must appear") {
        let name = unqualified(column);
        return Some(Told::of_column(
            column,
            format!("column `{name}` must be in the GROUP BY, or in an aggregate function such as `MAX({name})`"),
        ));
    }
    if let Some(condition) = between("HAVING clause references: ", " must appear in the GROUP BY") {
        return Some(Told::new(format!(
            "`HAVING` is asked of whole groups, and `{condition}` speaks of single rows; put it into the GROUP BY, aggregate it, or \
             write `WHERE`"
        )));
    }
    if let Some(name) = after("Schema contains duplicate qualified field name ") {
        let table = name.split('.').next().unwrap_or(name);
        return Some(Told::new(format!(
            "`{table}` stands twice in FROM; give each a name: `FROM {table} AS a, {table} AS b`"
        )));
    }
    if let Some((left, right)) = after("Projections require unique expression names but the expression \"")
        .and_then(|rest| rest.split_once("\" at position "))
    {
        let _ = right;
        let name = left.rsplit(" AS ").next().unwrap_or(left);
        return Some(Told::new(two_columns_named(name)));
    }
    if let Some((name, errors)) =
        after("Function '").and_then(|rest| rest.split_once("' failed to match any signature, errors: "))
        && let Some(given) = errors.split_once("(DataType: ").and_then(|(_, rest)| rest.split_once(')'))
    {
        return Some(Told::of_function(name, format!("`{name}` does not take {}; cast it", a(given.0))));
    }
    if let Some((name, reason)) =
        after("Function '").and_then(|rest| rest.split_once("' user-defined coercion failed with: "))
    {
        return Some(known(reason).unwrap_or_else(|| Told::of_function(name, reason)));
    }
    if plain.starts_with("Aggregate function calls cannot contain window function calls") {
        return Some(Told::new(AGGREGATE_OF_WINDOW));
    }
    if let Some(operation) = between("Cannot coerce arithmetic expression ", " to valid types") {
        return Some(Told::new(format!("there is no {operation}; cast one side")));
    }
    if let Some(operation) = after("Cannot get result type for temporal operation ") {
        let operation = operation.split(": ").next().unwrap_or(operation);
        return Some(Told::new(format!("there is no {operation}; add an INTERVAL, or take the difference")));
    }
    if let Some(operation) = after("Cannot infer common argument type for comparison operation ") {
        if let Some(data_type) = operation.strip_suffix(" IS DISTINCT FROM BOOLEAN") {
            return Some(Told::new(format!("a condition is asked for, such as `v > 0`, and this one is {data_type}")));
        }
        return Some(Told::new(format!("{operation} cannot be compared; cast one side")));
    }
    if let Some(operation) = after("Cannot infer common argument type for operation ") {
        return Some(Told::new(format!("there is no {operation}; cast one side")));
    }
    if let Some(operation) = after("Cannot infer common argument type for logical boolean operation ") {
        return Some(Told::new(format!("AND and OR take BOOLEAN on both sides, not {operation}")));
    }
    if let Some((from, to)) = after("Cannot automatically convert ").and_then(|rest| rest.split_once(" to ")) {
        return Some(Told::new(format!("{} cannot stand for {}; cast it", a(from), a(to))));
    }
    if let Some((condition, data_type)) =
        after("Cannot create filter with non-boolean predicate '").and_then(|rest| rest.split_once("' returning "))
    {
        let condition = unqualified(condition);
        return Some(Told::of_column(
            &condition,
            format!("the condition `{condition}` is {data_type} and not BOOLEAN; compare it with something"),
        ));
    }
    if let Some(data_type) = after("Join condition must be boolean type, but got ") {
        return Some(Told::new(format!(
            "the condition of a join is BOOLEAN, and this one is {data_type}; write `ON a.k = b.k`"
        )));
    }
    if plain == "join condition should not be empty" {
        return Some(Told::new("an outer join needs a condition: `ON a.k = b.k`, or `ON TRUE` for all pairs"));
    }
    if let Some((then, otherwise)) = between("Failed to coerce then (", ") to common types in CASE")
        .and_then(|types| types.split_once(") and else ("))
    {
        return Some(Told::new(format!(
            "the branches of a CASE have one type, and these are {then} and {otherwise}; cast them"
        )));
    }
    if let Some(types) = between("There isn't a common type to coerce ", " in LIKE expression") {
        return Some(Told::new(format!(
            "LIKE compares STRINGs, not {}; cast to STRING",
            types.replace(" and ", " with ")
        )));
    }
    if plain.starts_with("Failed to coerce arguments to satisfy a call to '") {
        let name = between("a call to '", "' function")?;
        return Some(Told::of_function(name, format!("the arguments of `{name}` do not fit it; cast them")));
    }
    if let Some(counts) = after("Inconsistent data length across values list: got ") {
        let (got, rest) = counts.split_once(" values in row ")?;
        let (row, expected) = rest.split_once(" but expected ")?;
        let row: usize = row.parse().ok()?;
        return Some(Told::new(format!("row {} of `VALUES` has {got} values, and the first has {expected}", row + 1)));
    }
    if let Some(counts) = after("Source table contains ") {
        let (columns, rest) = counts.split_once(" columns but only ")?;
        let names = rest.split(' ').next().unwrap_or(rest);
        return Some(Told::new(format!("{names} names are given to a table of {columns} columns; give one to each")));
    }
    if plain == "UNION queries have different number of columns" {
        return Some(Told::new("the parts of a UNION have different numbers of columns; give each the same ones"));
    }
    if let Some(types) = after("Incompatible inputs for Union: Previous inputs were of type ") {
        let (first, rest) = types.split_once(", but got incompatible type ")?;
        let (second, column) = rest.rsplit_once(" on column '")?;
        return Some(Told::new(format!(
            "column `{}` of a UNION is {first} in one part and {second} in another; cast one",
            column.trim_end_matches('\'')
        )));
    }
    if plain.starts_with("Physical plan does not support logical expression WindowFunction") {
        return Some(Told::new(
            "a function with `OVER` cannot stand here: filter by it with `QUALIFY`, or in a query around this one",
        ));
    }
    if let Some(name) = between("Invalid function '", "'") {
        return Some(Told::of_function(name, format!("function `{name}` needs a window: `{name}(..) OVER (..)`")));
    }
    if let Some(name) = between("Placeholder '", "' was not provided a value") {
        return Some(Told::new(format!("the parameter `{name}` has no value here; write the value itself")));
    }
    if let Some(rest) = after("regex parse error:") {
        let lines: Vec<&str> = rest.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let why = lines.iter().find_map(|line| line.strip_prefix("error: ")).unwrap_or("it does not compile");
        return Some(Told::new(format!("`{}` is no regular expression: {why}", lines.first().unwrap_or(&""))));
    }
    if let Some(pattern) = after("Regular expression did not compile: ") {
        return Some(Told::new(format!("`{pattern}` is no regular expression")));
    }
    if let Some(rest) = after("Argument ") {
        let (column, _) = rest.split_once(" to grouping function is not in grouping columns")?;
        return Some(Told::of_function(
            "grouping",
            format!("`GROUPING({})` needs its column in the GROUP BY", unqualified(column)),
        ));
    }
    if let Some(position) = between("Cannot find column with position ", " in SELECT") {
        return Some(Told::new(format!("`GROUP BY {position}`: the query has no column {position}")));
    }
    if let Some(positions) = after("Order by column out of bounds, specified: ") {
        let position = positions.split(',').next().unwrap_or(positions);
        return Some(Told::new(format!("`ORDER BY {position}`: the query has no column {position}")));
    }
    if let Some(columns) = after("Too many columns! The subquery should only return one column: ") {
        return Some(Told::new(format!(
            "a subquery in the place of a value gives one column, and this one gives {columns}"
        )));
    }
    if let Some(operation) = after("Invalid comparison operation: ") {
        return Some(Told::new(format!("{operation} cannot be compared; cast one side")));
    }
    if let Some(type_name) = after("Min/Max accumulator not implemented for type ") {
        return Some(Told::new(match type_name.split('(').next().unwrap_or(type_name) {
            "JSON" => {
                "JSON values have no order; take numbers or texts out of them: `CAST(j -> 'a' AS BIGINT)`, `j ->> 'a'`"
                    .into()
            }
            name => format!("{} has no order; take a value out of it", a(name)),
        }));
    }
    if let Some(field) = between("Field ", " not found in struct") {
        return Some(Told::new(format!("the ROW has no field `{field}`; `DESCRIBE <table>` lists the fields")));
    }
    if let Some(data_type) = between("Cannot access field at argument 1: type ", " is not Struct, Map, or Null") {
        return Some(Told::new(format!(
            "{} has no fields; a ROW and a MAP have, and JSON, which a text becomes by a cast: `(t::JSONB)['a']`, or `t -> 'a'`",
            a(data_type)
        )));
    }
    if plain.contains(" operator '") && plain.ends_with("' is not supported in the physical expr") {
        return Some(Told::new(
            "this operator is not there for values of these types; `@>` and `<@` take two arrays, or two JSON values",
        ));
    }
    if plain == "unnest() can only be applied to array, struct and null" {
        return Some(Told::of_function(
            "unnest",
            "`UNNEST` takes an ARRAY; split a text by `string_to_array(text, ',')`",
        ));
    }
    if let Some(unit) = between("Unsupported date_trunc granularity: '", "'") {
        return Some(Told::of_function(
            "date_trunc",
            format!(
                "there is no unit '{unit}'; the units are microsecond, millisecond, second, minute, hour, day, week, month, quarter, year"
            ),
        ));
    }
    if let Some(part) = between("Date part '", "' not supported") {
        return Some(Told::new(format!(
            "there is no part '{part}' of a time; the parts are second, minute, hour, day, week, month, quarter, year, dow, doy, epoch"
        )));
    }
    if let Some(name) = between("WITH query name \"", "\" specified more than once") {
        return Some(Told::new(format!("`WITH` names two queries `{name}`; give one another name")));
    }
    let of_window = "There is only support Literal types for field at idx";
    if plain.contains(of_window) || plain.starts_with("Expected a signed integer literal for the second argument") {
        return Some(Told::new(
            "how far `LAG` and `LEAD` look, and the place of `NTH_VALUE`, is a constant; number the rows by `ROW_NUMBER() OVER (..)` and join \
             them by their numbers",
        ));
    }
    if let Some(name) = between("The window ", " is not defined") {
        return Some(Told::new(format!("the window `{name}` is not defined; write `WINDOW {name} AS (..)`")));
    }
    None
}

/// What is wrong with a query that gives two columns of one name.
pub(crate) fn two_columns_named(name: &str) -> String {
    let is_plain = name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    let other = if is_plain { format!("{name}_2") } else { "x".to_owned() };
    format!("the query gives two columns named `{name}`; give one of them another name: `.. AS {other}`")
}

/// Literals as they are written: `Int64(1)` is `1`, `Utf8("a")` is `'a'`.
pub(crate) fn plain_literals(text: &str) -> String {
    const TEXTS: &[&str] = &["Utf8View(\"", "LargeUtf8(\"", "Utf8(\""];
    const NUMBERS: &[&str] =
        &["UInt64(", "UInt32(", "Int64(", "Int32(", "Int16(", "Int8(", "Float64(", "Float32(", "Boolean("];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    'outer: while let Some(first) = rest.chars().next() {
        for name in TEXTS {
            if let Some((value, after)) = rest.strip_prefix(name).and_then(|after| after.split_once("\")")) {
                out.push_str(&format!("'{value}'"));
                rest = after;
                continue 'outer;
            }
        }
        for name in NUMBERS {
            if let Some((value, after)) = rest.strip_prefix(name).and_then(|after| after.split_once(')'))
                && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'))
            {
                out.push_str(value);
                rest = after;
                continue 'outer;
            }
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// An expression as errors show it.
pub(crate) fn own_text(expr: &str) -> String {
    in_sql_types(&plain_literals(expr))
}

/// Types under the names that whoever wrote the query knows.
fn in_sql_types(text: &str) -> String {
    let named = TYPES.iter().fold(without_unions(text), |text, (arrow, sql)| replace_words(&text, arrow, sql));
    ["ARRAY(", "ROW("].iter().fold(named, |text, opening| in_brackets(&text, opening))
}

/// `Union(Sparse, 0: (..), ..)`, the type of a value taken out of JSON, by its name.
fn without_unions(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some(at) = rest.find("Union(") {
        let (before, inside) = (&rest[..at], &rest[at + "Union(".len()..]);
        let mut depth = 1;
        let end = inside.find(|c| {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        });
        let Some(end) = end.filter(|_| inside.starts_with("Sparse") || inside.starts_with("Dense")) else { break };
        out.push_str(before);
        out.push_str("JSON");
        rest = &inside[end + 1..];
    }
    out + rest
}

/// `ARRAY(INT)` as `ARRAY<INT>`, `ROW("x": INT)` as `ROW<x INT>`.
fn in_brackets(text: &str, opening: &str) -> String {
    let Some(at) = text.find(opening) else { return text.to_string() };
    let (before, inside) = (&text[..at], &text[at + opening.len()..]);
    let mut depth = 1;
    let end = inside.find(|c| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    });
    let Some(end) = end else { return text.to_string() };
    let (inside, after) = (in_brackets(&inside[..end], opening), in_brackets(&inside[end + 1..], opening));
    let inside = inside.replace("\": non-null ", " ").replace("\": ", " ").replace('"', "");
    format!("{before}{}<{inside}>{after}", opening.trim_end_matches('('))
}

/// A type with its article.
pub(crate) fn a(data_type: &str) -> String {
    let article = if data_type.starts_with(['A', 'E', 'I', 'O']) { "an" } else { "a" };
    format!("{article} {data_type}")
}

/// Replaces `word` where it is one, and no part of another.
fn replace_words(text: &str, word: &str, by: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let joined = |c: char| c.is_alphanumeric() || c == '_';
        let is_word = !before.chars().next_back().is_some_and(joined)
            && (word.ends_with(['(', ')']) || !after.chars().next().is_some_and(joined));
        out.push_str(before);
        out.push_str(if is_word { by } else { word });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A user reads SQL's types and literals, and no word of the planner that found the mistake.
    #[test]
    fn foreign_words_are_told_anew() {
        for (said, told) in [
            (
                "Error during planning: Failed to coerce. No function matches the given name and argument types 'upper(Int64)'. You \
                 might need to add explicit type casts.\n\tCandidate functions:\n\tupper(String)",
                "`upper` is called with BIGINT; it takes STRING",
            ),
            (
                "Execution error: Function 'if' user-defined coercion failed with: Error during planning: the condition of IF is a \
                 BIGINT; it must be a BOOLEAN. No function matches the given name and argument types 'if(Int64, Int64)'. You might \
                 need to add explicit type casts.\n\tCandidate functions:\n\tif(UserDefined)",
                "the condition of IF is a BIGINT; it must be a BOOLEAN",
            ),
            ("This feature is not implemented: TOP", "TOP is not supported"),
            (
                "Unnest should be rewritten to LogicalPlan::Unnest before type coercion is not supported",
                "`UNNEST` gives a row for each element: it stands in the SELECT list or in FROM (`CROSS JOIN UNNEST(a) AS u(x)`), \
                 not in a condition or a measure; of one value ask `a[1]`, `array_has(a, x)` or `x = ANY(a)`",
            ),
            (
                "Internal error: Min/Max accumulator not implemented for type Union(Sparse, 0: (\"null\": Null), 2: (\"int\": non-null \
                 Int64))",
                "JSON values have no order; take numbers or texts out of them: `CAST(j -> 'a' AS BIGINT)`, `j ->> 'a'`",
            ),
            (
                "Error during planning: Failed to coerce. No function matches the given name and argument types 'sum(Union(Sparse, 0: \
                 (\"null\": Null)))'. You might need to add explicit type casts.\n\tCandidate functions:\n\tsum(Float64)",
                "`sum` is called with JSON; it takes DOUBLE; take the value as one type first: `json_get_float(j, 'a')`, `CAST(j ->> 'a' \
                 AS DOUBLE)`",
            ),
            (
                "This feature is not implemented: Unsupported ast node in sqltorel: RLike { negated: false }",
                "an expression of the kind `RLike` is not supported",
            ),
            (
                "Arrow error: Cast error: Can't cast value 300 to type Int8",
                "300 is out of range for TINYINT; `TRY_CAST(.. AS TINYINT)` gives NULL there",
            ),
            ("Arrow error: Divide by zero error", "division by zero; `NULLIF(divisor, 0)` gives NULL there"),
            (
                "Error during planning: HAVING clause references: t.v > Int64(1) must appear in the GROUP BY clause or be used in an \
                 aggregate function",
                "`HAVING` is asked of whole groups, and `t.v > 1` speaks of single rows; put it into the GROUP BY, aggregate it, or \
                 write `WHERE`",
            ),
            (
                "External error: regex parse error:\n    (\n    ^\nerror: unclosed group",
                "`(` is no regular expression: unclosed group",
            ),
        ] {
            assert_eq!(own_words(said), told);
        }
    }

    /// The place of a mistake is found by the name that the message speaks of.
    #[test]
    fn the_subject_is_named() {
        let said = "Error during planning: Column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, \
                    column \"t.k\" must appear in the GROUP BY clause";
        assert_eq!(tell(said).subject, Some(Subject::Column("t.k".into())));
    }

    #[test]
    fn types_are_whole_words() {
        assert_eq!(in_sql_types("Int64 and MyInt64, List(Utf8View)"), "BIGINT and MyInt64, ARRAY<STRING>");
        assert_eq!(
            in_sql_types("Struct(\"x\": Int32, \"y\": List(Utf8)) and Timestamp(ms)"),
            "ROW<x INT, y ARRAY<STRING>> and TIMESTAMP(3)"
        );
        assert_eq!(plain_literals("f(Utf8(\"a\"), Int64(-1), Boolean(NULL))"), "f('a', -1, NULL)");
    }
}
