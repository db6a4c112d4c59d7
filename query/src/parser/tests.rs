mod accepted;
mod generated;
mod laid_out;
mod refused;

use super::*;

#[derive(Clone, Copy)]
enum Switch {
    Functions,
    Durations,
    Ranges,
    Fill,
}

/// Nothing but what every server accepts. Prometheus has duration expressions on by default since 3.14.
fn without_switches() -> ParseOptions {
    ParseOptions { duration_expressions: false, ..ParseOptions::default() }
}

fn with(switch: Switch) -> ParseOptions {
    let mut options = without_switches();
    match switch {
        Switch::Functions => options.experimental_functions = true,
        Switch::Durations => options.duration_expressions = true,
        Switch::Ranges => options.extended_range_selectors = true,
        Switch::Fill => options.fill_modifiers = true,
    }
    options
}

fn parse_all(query: &str) -> Result<Ast, ParseError> {
    parse(query, &ParseOptions::all())
}

fn refusal(query: &str, options: &ParseOptions) -> String {
    match parse(query, options) {
        Ok(ast) => format!("accepted as {ast}"),
        Err(error) => {
            let at = format!("{}:{}", error.line, error.column);
            assert_eq!(error.to_string(), format!("{at}: parse error: {}", error.message));
            format!("{at} {}", error.message)
        }
    }
}

/// The tree without what printing does not keep: positions, the order of matchers, zero offsets.
fn meaning(ast: &Ast) -> Ast {
    let mut ast = ast.clone();
    for node in &mut ast.nodes {
        node.span = Span::default();
        let (selector, offset) = match &mut node.kind {
            ExprKind::VectorSelector(selector) => (Some(&mut selector.matchers), &mut selector.offset),
            ExprKind::MatrixSelector(matrix) => (Some(&mut matrix.selector.matchers), &mut matrix.selector.offset),
            ExprKind::Subquery(subquery) => (None, &mut subquery.offset),
            _ => continue,
        };
        let is_zero = |offset: &DurationExpr| matches!(offset.nodes(), [DurationNode::Literal { seconds, .. }] if *seconds == 0.0);
        if offset.as_ref().is_some_and(is_zero) {
            *offset = None;
        }
        if let Some(matchers) = selector {
            matchers.iter_mut().for_each(|matcher| matcher.span = Span::default());
            matchers.sort_by(|a, b| (&a.name, a.op.as_str(), &a.value).cmp(&(&b.name, b.op.as_str(), &b.value)));
        }
    }
    ast
}

fn assert_post_order(ast: &Ast) {
    let mut parents = vec![0; ast.nodes().len()];
    for (id, node) in ast.iter() {
        node.for_each_child(|child| {
            assert!(child < id, "{ast}");
            parents[child.idx()] += 1;
        });
    }
    assert_eq!(parents.pop(), Some(0), "the root has no parent: {ast}");
    assert!(parents.iter().all(|&count| count == 1), "{ast}");
}

#[test]
fn accepted_queries_print_as_prometheus_prints_them_and_read_back_alike() {
    let stable = accepted::STABLE
        .iter()
        .chain(accepted::REGEXES)
        .map(|row| (row, ParseOptions { experimental_functions: true, ..ParseOptions::default() }));
    let newer = accepted::NEWER.iter().map(|row| (row, ParseOptions::all()));
    for (&(query, printed), options) in stable.chain(newer) {
        let ast = parse(query, &options).unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(ast.to_string(), printed, "{query}");
        let again = parse(printed, &options).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(meaning(&again), meaning(&ast), "{query} as {printed}");
        assert_post_order(&ast);
    }
}

#[test]
fn refused_queries_are_refused_in_prometheus_words_at_its_position() {
    let stable = refused::STABLE.iter().chain(refused::REGEXES).map(|row| (row, with(Switch::Functions)));
    let newer = refused::NEWER.iter().map(|row| (row, ParseOptions::all()));
    for (&(query, wanted), options) in stable.chain(newer) {
        assert_eq!(refusal(query, &options), wanted, "{query}");
    }
}

#[test]
fn each_switch_admits_its_syntax_and_no_other() {
    for &(query, wanted, switch) in refused::SWITCHED {
        assert_eq!(refusal(query, &without_switches()), wanted);
        assert!(parse(query, &with(switch)).is_ok(), "{query}");
    }
}

#[test]
fn arithmetic_in_an_offset_is_printed_so_that_it_goes_on() {
    let rows = [
        ("x offset --5m-1m", "x offset ++5m - 1m"),
        ("x offset +-5m-1m", "x offset +-5m - 1m"),
        ("x offset ++5m*2", "x offset ++5m * 2"),
        ("x offset +-5m^2", "x offset +-5m ^ 2"),
        ("x offset --0m-0m", "x offset ++0s - 0s"),
        ("x offset ++min_of(1m, 2m)-1m", "x offset ++min_of(1m, 2m) - 1m"),
        ("x offset (5m)-1m", "x offset (5m) - 1m"),
        ("x offset 5m - 1m", "x offset 5m - 1m"),
    ];
    for (query, printed) in rows {
        let ast = parse_all(query).unwrap();
        assert_eq!(ast.to_string(), printed, "{query}");
        assert_eq!(meaning(&parse_all(printed).unwrap()), meaning(&ast), "{query}");
    }
}

#[test]
fn an_empty_query_has_no_position() {
    let error = parse_all("").unwrap_err();
    assert_eq!(error.to_string(), "unknown position: parse error: no expression found in input");
    assert_eq!(refusal(" \n", &ParseOptions::all()), "1:1 no expression found in input");
}

#[test]
fn spans_name_the_text_of_each_node() {
    let query = "sum by (job) (rate(a{b=\"c\"}[5m] offset 1m)) / -(2 * x) > bool 1";
    let ast = parse_all(query).unwrap();
    let texts: Vec<&str> =
        ast.nodes().iter().map(|node| &query[node.span.start as usize..node.span.end as usize]).collect();
    assert_eq!(
        texts,
        [
            "a{b=\"c\"}[5m] offset 1m",
            "rate(a{b=\"c\"}[5m] offset 1m)",
            "sum by (job) (rate(a{b=\"c\"}[5m] offset 1m))",
            "2",
            "x",
            "2 * x",
            "(2 * x)",
            "-(2 * x)",
            "sum by (job) (rate(a{b=\"c\"}[5m] offset 1m)) / -(2 * x)",
            "1",
            query,
        ]
    );
}

#[test]
fn modifiers_reach_the_tree() {
    let ast = parse_all("a * on (x) group_right (y) fill_left (3) b").unwrap();
    let ExprKind::Binary(binary) = &ast[ast.root()].kind else { panic!("{ast:?}") };
    let wanted = VectorMatching {
        card: Cardinality::OneToMany,
        labels: vec!["x".to_owned()],
        on: true,
        include: vec!["y".to_owned()],
        fill_left: Some(3.0),
        fill_right: None,
    };
    assert_eq!(binary.matching.as_deref(), Some(&wanted));

    let ast = parse_all("a unless b").unwrap();
    let ExprKind::Binary(binary) = &ast[ast.root()].kind else { panic!("{ast:?}") };
    assert_eq!(binary.matching.as_ref().map(|matching| matching.card), Some(Cardinality::ManyToMany));

    let ast = parse_all("a + 1").unwrap();
    let ExprKind::Binary(binary) = &ast[ast.root()].kind else { panic!("{ast:?}") };
    assert_eq!(binary.matching, None);

    let ast = parse_all("a[5m] smoothed @ end() offset -1m").unwrap();
    let ExprKind::MatrixSelector(matrix) = &ast[ast.root()].kind else { panic!("{ast:?}") };
    let context = DurationContext { step_ms: 0, range_ms: 0 };
    assert_eq!(matrix.selector.extension, RangeExtension::Smoothed);
    assert_eq!(matrix.selector.at, Some(At::End));
    assert_eq!(matrix.selector.offset.as_ref().map(|offset| offset.resolve_ms(context)), Some(Ok(-60_000)));
    assert_eq!(matrix.range.resolve_positive_ms(context), Ok(300_000));
}

#[test]
fn durations_resolve_against_the_query() {
    let context = DurationContext { step_ms: 15_000, range_ms: 3_600_000 };
    for (duration, wanted) in [
        ("1h30m", Ok(5_400_000)),
        ("1.1", Ok(1_100)),
        ("0.0005", Ok(0)),
        ("step()", Ok(15_000)),
        ("range() / 2", Ok(1_800_000)),
        ("5m + 30s", Ok(330_000)),
        ("2m * (10 + 5)", Ok(1_800_000)),
        ("2 ^ 3 ^ 2", Ok(512_000)),
        ("-2 ^ 2 + 10", Ok(6_000)),
        ("7 % 4", Ok(3_000)),
        ("10 - 4 - 3", Ok(3_000)),
        ("max_of(step(), 1m)", Ok(60_000)),
        ("min_of(step(), 1m)", Ok(15_000)),
        ("step() - 1m", Err(DurationError::NotPositive)),
        ("1 / (step() - 15)", Err(DurationError::DivisionByZero)),
        ("1 % (step() - 15)", Err(DurationError::ModuloByZero)),
        ("10 ^ 300", Err(DurationError::OutOfRange)),
    ] {
        let ast = parse_all(&format!("a[{duration}]")).unwrap();
        let ExprKind::MatrixSelector(matrix) = &ast[ast.root()].kind else { panic!("{ast:?}") };
        assert_eq!(matrix.range.resolve_positive_ms(context), wanted, "{duration}");
        if let Some(constant) = matrix.range.constant_ms() {
            assert_eq!(Ok(constant), wanted, "{duration}");
        } else {
            assert!(matrix.range.depends_on_query() || wanted.is_err(), "{duration}");
        }
    }
}

#[test]
fn every_function_and_aggregation_is_found_by_its_name() {
    let names: Vec<&str> = Function::all().iter().map(|function| function.name).collect();
    assert!(names.is_sorted_by(|a, b| a < b));
    for name in names {
        assert_eq!(Function::find(name).map(|function| function.name), Some(name));
    }
    assert_eq!(Function::find("holt_winters"), None);
    for op in AggregateOp::ALL {
        let param = match op.param_type() {
            None => "",
            Some(ValueType::String) => "\"l\", ",
            Some(_) => "1, ",
        };
        let query = format!("{op}({param}x)");
        assert_eq!(parse_all(&query).unwrap().to_string(), query);
    }
}

#[test]
fn a_selector_alone_may_match_everything_but_must_be_a_selector() {
    let options = ParseOptions::default();
    let names = |query: &str| {
        let matchers = parse_metric_selector(query, &options).unwrap();
        matchers
            .into_iter()
            .map(|matcher| format!("{}{}{}", matcher.name, matcher.op.as_str(), matcher.value))
            .collect::<Vec<_>>()
    };
    assert_eq!(names("up{a!~\"b\"}"), ["a!~b", "__name__=up"]);
    assert_eq!(names("{}"), Vec::<String>::new());
    for (query, wanted) in [
        ("up[5m]", "1:3: parse error: unexpected \"[\""),
        ("1", "1:1: parse error: unexpected number \"1\""),
        ("up{", "1:4: parse error: unexpected end of input inside braces"),
    ] {
        assert_eq!(parse_metric_selector(query, &options).unwrap_err().to_string(), wanted);
    }
}

#[test]
fn strings_keep_bytes_that_are_not_text_for_those_who_ask() {
    let query = r#""a\xffz""#;
    let ast = parse_all(query).unwrap();
    assert_eq!(ast[ast.root()].kind, ExprKind::StringLiteral("a\u{fffd}z".into()));
    assert_eq!(string_literal_bytes(query), b"a\xffz");
    assert_eq!(meaning(&parse_all(&ast.to_string()).unwrap()), meaning(&ast));
}

#[test]
fn ten_thousand_operators_are_taken_and_a_hundred_thousand_refused() {
    for operator in ["+", "^", " and ", "==bool "] {
        let chain = |count: usize| vec!["a"; count + 1].join(operator);
        let ast = parse_all(&chain(10_000)).unwrap_or_else(|error| panic!("{operator}: {error}"));
        assert_eq!(ast.nodes().len(), 20_001);
        let error = parse_all(&chain(100_000)).unwrap_err();
        assert!(error.message.contains("limit of 65536") || error.message.contains("limit of 16384"), "{error}");
    }
    let regexes = format!("{{{}}}", "a=~\"x.*\",".repeat(ParseOptions::REGEXES_MAX + 1));
    assert_eq!(
        parse_all(&regexes).unwrap_err().message,
        "expression has more regular expressions than the limit of 1024, which is fixed; ask in parts"
    );
    let long = " ".repeat(ParseOptions::BYTES_MAX + 1);
    let wanted = "query is 1048577 bytes long, over the limit of 1048576 bytes, which is fixed";
    assert_eq!(parse_all(&long).unwrap_err().message, wanted);
    assert!(parse_all(&"(".repeat(100_000)).unwrap_err().message.contains("limit of 16384 levels"));
}

/// With the limits out of the way nothing recurses: a thread with little stack does it all.
#[test]
fn depth_costs_no_stack() {
    let depth = 100_000;
    let options = ParseOptions { nodes_max: usize::MAX, depth_max: usize::MAX, ..ParseOptions::all() };
    let nested = |open: &str, inner: &str, close: &str| open.repeat(depth) + inner + &close.repeat(depth);
    let queries = [
        nested("(", "a", ")"),
        nested("-", "a", ""),
        nested("abs(", "a", ")"),
        nested("sum(", "a", ")"),
        nested("1^", "a", ""),
        nested("", "a", "+a"),
        nested("", "a", "[1m:]"),
        format!("a[{}]", nested("(", "1", ")")),
        format!("a[{}]", nested("-", "step()", "")),
        format!("a[{}]", nested("1^", "1", "")),
        format!("a[{}]", nested("", "1", "+1")),
        nested("(", "a", ""),
        nested("sum(", "a a", ""),
    ];
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
        let mut parsed = 0;
        for query in queries {
            let Ok(ast) = parse(&query, &options) else { continue };
            let printed = ast.to_string();
            assert_eq!(parse(&printed, &options).map(|again| again.to_string()), Ok(printed));
            parsed += 1;
        }
        parsed
    });
    // A subquery of a subquery is not well typed, and the last two are not closed.
    assert_eq!(thread.unwrap().join().unwrap(), 10);
}
