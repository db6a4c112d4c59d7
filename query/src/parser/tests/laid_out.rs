//! Layout over lines and JSON, word for word as Prometheus answers `format_query` and `parse_query`.

use super::*;

const LONG: &str = "foo_with_a_rather_long_name_that_fills_a_line_by_itself_or_nearly_so";

#[test]
fn a_long_query_is_divided_where_prometheus_divides_it() {
    let rows = [
        ("1  +2", "1 + 2"),
        ("sum(x)by(a)", "sum by (a) (x)"),
        (
            "topk(3, rate(LONG{instance=\"a\"}[5m])) by (job) > bool on(job) group_left() -LONG",
            "  topk by (job) (\n    3,\n    rate(LONG{instance=\"a\"}[5m])\n  )\n> bool on (job) group_left ()\n  -LONG",
        ),
        (
            "histogram_quantile(0.9, sum by (le) (rate(LONG{a=\"b\",c=\"d\"}[5m])))",
            "histogram_quantile(\n  0.9,\n  sum by (le) (\n    rate(LONG{a=\"b\",c=\"d\"}[5m])\n  )\n)",
        ),
        ("(LONG + LONG)", "(\n    LONG\n  +\n    LONG\n)"),
        ("-(LONG + LONG)", "-(\n    LONG\n  +\n    LONG\n)"),
        (
            "max_over_time(rate(LONG{a=\"b\",c=\"d\"}[5m])[1h:1m] offset 5m)",
            "max_over_time(\n  rate(LONG{a=\"b\",c=\"d\"}[5m])[1h:1m] offset 5m\n)",
        ),
        (
            "max_over_time((rate(LONG{a=\"b\",c=\"d\"}[5m]) + LONG)[1h:1m] offset 5m)",
            "max_over_time(\n  (\n      rate(LONG{a=\"b\",c=\"d\"}[5m])\n    +\n      LONG\n  )[1h:1m] offset 5m\n)",
        ),
        (
            "label_replace(LONG, \"dst\", \"$1\", \"src\", \"(.*)\") and (x or up offset 1h30m @ 12.5)",
            "  label_replace(\n    LONG,\n    \"dst\",\n    \"$1\",\n    \"src\",\n    \"(.*)\"\n  )\nand\n  \
             (x or up @ 12.500 offset 1h30m)",
        ),
        // A subquery on one line is not indented.
        (
            "label_join(max_over_time(x[5m:]), \"LONG\", \"LONG\")",
            "label_join(\n  max_over_time(x[5m:]),\n  \"LONG\",\n  \"LONG\"\n)",
        ),
    ];
    for (query, laid_out) in rows {
        let (query, laid_out) = (query.replace("LONG", LONG), laid_out.replace("LONG", LONG));
        assert_eq!(format(&query, &ParseOptions::all()).unwrap(), laid_out);
    }
    assert_eq!(
        format("sum(", &ParseOptions::all()).unwrap_err().to_string(),
        "1:5: parse error: unclosed left parenthesis"
    );
}

#[test]
fn a_layout_beyond_its_limit_is_refused() {
    let sum = vec![LONG; 4000].join(" + ");
    let error = format(&sum, &ParseOptions::all()).unwrap_err();
    assert_eq!(error.message, "formatted query would be longer than 10485760 bytes");
}

fn json(query: &str) -> String {
    let mut out = Vec::new();
    let string = |out: &mut Vec<u8>, text: &str| out.extend_from_slice(format!("{text:?}").as_bytes());
    parse_all(query).unwrap().write_json(&mut out, string);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_tree_is_the_object_of_parse_query() {
    let a = r#"{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"}"#;
    let rows = [
        ("a", "A"),
        ("\"s\"", r#"{"type":"stringLiteral","val":"s"}"#),
        ("5m", r#"{"type":"numberLiteral","val":"300"}"#),
        ("-Inf", r#"{"type":"numberLiteral","val":"-Inf"}"#),
        ("(-a)", r#"{"expr":{"expr":A,"op":"-","type":"unaryExpr"},"type":"parenExpr"}"#),
        ("pi()", r#"{"args":[],"func":{"argTypes":[],"name":"pi","returnType":"scalar","variadic":0},"type":"call"}"#),
        (
            "label_join(a,\"b\",\"c\",\"d\")",
            concat!(
                r#"{"args":[A,{"type":"stringLiteral","val":"b"},{"type":"stringLiteral","val":"c"},"#,
                r#"{"type":"stringLiteral","val":"d"}],"func":{"argTypes":["vector","string","string","string"],"#,
                r#""name":"label_join","returnType":"vector","variadic":-1},"type":"call"}"#
            ),
        ),
        (
            "1 == bool 2",
            concat!(
                r#"{"bool":true,"lhs":{"type":"numberLiteral","val":"1"},"matching":null,"op":"==","#,
                r#""rhs":{"type":"numberLiteral","val":"2"},"type":"binaryExpr"}"#
            ),
        ),
        (
            "a / on(x) group_left(z) fill_right(0.5) a",
            concat!(
                r#"{"bool":false,"lhs":A,"matching":{"card":"many-to-one","fillValues":{"lhs":null,"rhs":0.5},"#,
                r#""include":["z"],"labels":["x"],"on":true},"op":"/","rhs":A,"type":"binaryExpr"}"#
            ),
        ),
        (
            "a and a",
            concat!(
                r#"{"bool":false,"lhs":A,"matching":{"card":"many-to-many","fillValues":{"lhs":null,"rhs":null},"#,
                r#""include":[],"labels":[],"on":false},"op":"and","rhs":A,"type":"binaryExpr"}"#
            ),
        ),
        (
            "topk without (x) (2, a)",
            concat!(
                r#"{"expr":A,"grouping":["x"],"op":"topk","param":{"type":"numberLiteral","val":"2"},"#,
                r#""type":"aggregation","without":true}"#
            ),
        ),
        ("sum(a)", r#"{"expr":A,"grouping":[],"op":"sum","param":null,"type":"aggregation","without":false}"#),
        (
            "rate({x=\"<\"}[5m] anchored offset -1m @ start())",
            concat!(
                r#"{"args":[{"anchored":true,"matchers":[{"name":"x","type":"=","value":"<"}],"name":"","offset":-60000,"#,
                r#""range":300000,"smoothed":false,"startOrEnd":"start","timestamp":null,"type":"matrixSelector"}],"#,
                r#""func":{"argTypes":["matrix"],"name":"rate","returnType":"vector","variadic":0},"type":"call"}"#
            ),
        ),
        (
            "a[1h:5m] @ 3 offset (1m + 1m)",
            r#"{"expr":A,"offset":0,"range":3600000,"startOrEnd":null,"step":300000,"timestamp":3000,"type":"subquery"}"#,
        ),
    ];
    for (query, object) in rows {
        assert_eq!(json(query), object.replace("A", a), "{query}");
    }
}
