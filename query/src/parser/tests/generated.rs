//! Printing, in one line and over several, and parsing undo each other, on queries made up from the grammar.

use proptest::prelude::*;

use super::{ParseOptions, assert_post_order, meaning, parse};

fn one_of(texts: &'static [&'static str]) -> BoxedStrategy<String> {
    prop::sample::select(texts).prop_map(str::to_owned).boxed()
}

fn name() -> BoxedStrategy<String> {
    one_of(&["a", "job:a:rate5m", "sum", "offset", "start", "range", "anchored", "by", "or", "_x9"])
}

fn labels() -> BoxedStrategy<String> {
    let label = one_of(&["x", "on", "\"a.b\"", "'a b'", "`\\`", "le", "bool", "\"é\\n\""]);
    prop::collection::vec(label, 0..3).prop_map(|labels| format!("({})", labels.join(", "))).boxed()
}

fn matcher() -> BoxedStrategy<String> {
    let label = one_of(&["x", "\"a.b\"", "on"]);
    let test = one_of(&["=\"v\"", "!=''", "=~\"a|b.*\"", "!~`\\d+`", "=\"\\t\\\"\\u00e9\\\\\""]);
    (label, test).prop_map(|(label, test)| label + &test).boxed()
}

fn duration() -> BoxedStrategy<String> {
    let leaf = one_of(&["5m", "1h30m", "90d", "300", "0.5", "1e3", "0x10", "step()", "range()", "1ms"]);
    leaf.prop_recursive(3, 12, 2, |inner| {
        let op = one_of(&["+", "-", "*", "^"]);
        prop_oneof![
            inner.clone().prop_map(|a| format!("({a})")),
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (one_of(&["min_of", "max_of"]), inner.clone(), inner).prop_map(|(f, a, b)| format!("{f}({a},{b})")),
        ]
    })
    .boxed()
}

fn modifiers() -> BoxedStrategy<String> {
    let at = one_of(&["", " @ 10", " @ -0.001", " @ start()", " @ end()"]);
    let offset = prop_oneof![
        Just(String::new()),
        // Without a sign, a parenthesis after `offset` takes the operators behind it along.
        (one_of(&["-", "+"]), duration()).prop_map(|(sign, duration)| format!(" offset {sign}{duration}")),
    ];
    (at, offset, any::<bool>()).prop_map(|(at, offset, first)| if first { at + &offset } else { offset + &at }).boxed()
}

fn series() -> BoxedStrategy<String> {
    let matchers = prop::collection::vec(matcher(), 0..3).prop_map(|matchers| match matchers.len() {
        0 => String::new(),
        _ => format!("{{{}}}", matchers.join(",")),
    });
    (name(), matchers).prop_map(|(name, matchers)| name + &matchers).boxed()
}

fn scalar() -> BoxedStrategy<String> {
    one_of(&["1", "-2.5", "Inf", "-NaN", "1e100", "5m", "time()", "(1 + 2)", "(1 < bool 2)", "-(-1)", "step()"])
}

fn matching() -> BoxedStrategy<String> {
    let side = prop_oneof![
        Just(String::new()),
        (one_of(&["group_left", "group_right"]), one_of(&["()", "(y)", "(\"z z\",)"]))
            .prop_map(|(word, labels)| word + &labels),
    ];
    let labels = (one_of(&["on", "ignoring"]), one_of(&["()", "(a)", "(\"a.b\", c)"]), side);
    let labels =
        prop_oneof![Just(String::new()), labels.prop_map(|(word, list, side)| format!("{word} {list} {side}"))];
    let fill = one_of(&["", "fill(0)", "fill_left(-1)", "fill_right(NaN)", "fill_left(1) fill_right(2)"]);
    (one_of(&["+", "-", "*", "/", "%", "^", "atan2", "==", "> bool", "</", ">/"]), labels, fill)
        .prop_map(|(op, labels, fill)| format!("{op} {labels} {fill}"))
        .boxed()
}

fn vector() -> BoxedStrategy<String> {
    let leaf = (series(), modifiers(), one_of(&["", " smoothed"]))
        .prop_map(|(series, modifiers, end)| series + &modifiers + &end);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let range = (series(), duration(), one_of(&["", " anchored"]), modifiers())
            .prop_map(|(series, range, extension, modifiers)| format!("{series}[{range}]{extension}{modifiers}"));
        let subquery = (inner.clone(), duration(), prop_oneof![Just(String::new()), duration()], modifiers())
            .prop_map(|(expr, range, step, modifiers)| format!("({expr})[{range}:{step}]{modifiers}"));
        let matrix = prop_oneof![range, subquery];
        prop_oneof![
            inner.clone().prop_map(|a| format!("({a})")),
            (one_of(&["-", "+", "--"]), inner.clone()).prop_map(|(sign, a)| sign + &a),
            (inner.clone(), matching(), inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (inner.clone(), one_of(&["and", "or on (a)", "unless ignoring ()"]), inner.clone())
                .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (scalar(), one_of(&["+", "^", "<", "!= bool"]), inner.clone())
                .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (one_of(&["rate", "absent_over_time", "mad_over_time"]), matrix).prop_map(|(f, a)| format!("{f}({a})")),
            (inner.clone(), scalar()).prop_map(|(a, b)| format!("round({a}, {b})")),
            inner.clone().prop_map(|a| format!("label_join({a}, \"x\", ',', `\\`)")),
            (one_of(&["sum", "count_values", "topk"]), one_of(&["by", "without", ""]), labels(), inner).prop_map(
                |(op, word, labels, a)| {
                    let param = match op.as_str() {
                        "sum" => "",
                        "topk" => "3, ",
                        _ => "\"l\", ",
                    };
                    let labels = if word.is_empty() { String::new() } else { labels };
                    format!("{op} {word} {labels} ({param}{a})")
                }
            ),
        ]
    })
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_back_as_the_same_tree(query in vector()) {
        let options = ParseOptions::all();
        let ast = match parse(&query, &options) {
            Ok(ast) => ast,
            Err(error) => return Err(TestCaseError::fail(format!("{query}: {error}"))),
        };
        assert_post_order(&ast);
        let printed = ast.to_string();
        let again = match parse(&printed, &options) {
            Ok(again) => again,
            Err(error) => return Err(TestCaseError::fail(format!("{query} as {printed}: {error}"))),
        };
        prop_assert_eq!(meaning(&again), meaning(&ast), "{} as {}", query, printed);
        prop_assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn what_is_laid_out_reads_back_as_the_same_tree(query in vector()) {
        let options = ParseOptions::all();
        let laid_out = match super::format(&query, &options) {
            Ok(text) => text,
            Err(error) => return Err(TestCaseError::fail(format!("{query}: {error}"))),
        };
        let again = match parse(&laid_out, &options) {
            Ok(again) => again,
            Err(error) => return Err(TestCaseError::fail(format!("{query} as {laid_out}: {error}"))),
        };
        prop_assert_eq!(meaning(&again), meaning(&parse(&query, &options).unwrap()), "{} as {}", query, laid_out);
        prop_assert_eq!(super::format(&laid_out, &options).unwrap(), laid_out);
    }

    #[test]
    fn any_text_is_parsed_or_refused_inside_itself(query in "[a-z(){}\\[\\]\"'`=~!<>/+*^%@:,0-9.#\\\\ \né-]{0,40}") {
        match parse(&query, &ParseOptions::all()) {
            Ok(ast) => assert_post_order(&ast),
            Err(error) => prop_assert!(error.span.start as usize <= query.len(), "{error}"),
        }
    }
}
