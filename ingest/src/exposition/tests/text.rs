use super::*;

fn text(body: impl AsRef<[u8]>) -> Vec<String> {
    entries(Format::Text, body.as_ref(), HistogramParts::Classic)
}

#[test]
fn a_page_is_read_entry_by_entry() {
    let page = r#"# HELP go_gc_duration_seconds A summary.
# 	TYPE go_gc_duration_seconds summary
go_gc_duration_seconds{quantile="0"} 4.9351e-05
go_gc_duration_seconds{quantile="0.25",} 7.424100000000001e-05
go_gc_duration_seconds{quantile="1e0", a="b"} 8.3835e-05
# HELP nohelp1
# HELP nohelp2 	
# HELP help3 two  blanks, a \\ and a\nline, a \" and a \x
# TYPE h histogram
h_bucket { le = "1" } 1 1395066363000
  h_sum	2.5
h_count-1
# a comment
#another
# HELPFUL comment
# TYPE wind_speed gauge
wind_speed{A="2",c="3"} 12345

testmetric{_label1="foo"  l2="bar"} NaN
testmetric{b="a\"\\\n\x{}"} +Inf
null{a="x"#
        .to_owned()
        + "\0\"} 1";
    assert_eq!(
        text(page),
        [
            r#"help go_gc_duration_seconds "A summary.""#,
            "type go_gc_duration_seconds summary",
            r#"__name__="go_gc_duration_seconds" quantile="0.0" 4.9351e-5"#,
            r#"__name__="go_gc_duration_seconds" quantile="0.25" 7.424100000000001e-5"#,
            r#"__name__="go_gc_duration_seconds" quantile="1.0" a="b" 8.3835e-5"#,
            r#"help nohelp1 """#,
            r#"help nohelp2 """#,
            r#"help help3 "two  blanks, a \\ and a\nline, a \\\" and a \\x""#,
            "type h histogram",
            r#"__name__="h_bucket" le="1.0" 1.0 @1395066363000"#,
            r#"__name__="h_sum" 2.5"#,
            r#"__name__="h_count" -1.0"#,
            "type wind_speed gauge",
            r#"__name__="wind_speed" A="2" c="3" 12345.0"#,
            r#"__name__="testmetric" _label1="foo" l2="bar" NaN"#,
            r#"__name__="testmetric" b="a\"\\\n\\x{}" inf"#,
            r#"__name__="null" a="x\0" 1.0"#,
        ]
    );
}

#[test]
fn names_in_quotes_are_read_wherever_they_stand() {
    let page = r#"# HELP "go.gc" Quoted.
# TYPE "go.gc" summary
{"go.gc",quantile="0"} 1
{q="0.9","http.status",a="b"} 2
{"Heiz \"x\" {a\nb}","strange\n'q' \"n\""="6"} 3
{"go.gc_sum"} 4
"#;
    assert_eq!(
        text(page),
        [
            r#"help go.gc "Quoted.""#,
            "type go.gc summary",
            r#"__name__="go.gc" quantile="0.0" 1.0"#,
            r#"q="0.9" __name__="http.status" a="b" 2.0"#,
            r#"__name__="Heiz \"x\" {a\nb}" strange
'q' "n"="6" 3.0"#,
            r#"__name__="go.gc_sum" 4.0"#,
        ]
    );
}

#[test]
fn a_value_may_hold_a_newline_only_in_this_format() {
    assert_eq!(text("a{b=\"x\ny\"} 1\n"), [r#"__name__="a" b="x\ny" 1.0"#]);
    let open = entries(Format::OpenMetrics, b"a{b=\"x\ny\"} 1\n# EOF\n", HistogramParts::Classic);
    assert_eq!(open, ["error: expected label value at line 1 (byte 4)"]);
}

#[test]
fn every_fault_is_named_with_its_place() {
    let table: &[(&[u8], &str)] = &[
        (b"a", "expected value after metric at line 1 (byte 1)"),
        (b"a{b='c'} 1\n", "expected label value at line 1 (byte 4)"),
        (b"a{b=\n", "expected label value at line 1 (byte 4)"),
        (b"ok 1\na{\xff=\"foo\"} 1\n", "expected label name at line 2 (byte 7)"),
        (b"a{b=\"\xff\"} 1\n", "invalid UTF-8 in label value at line 1 (byte 7)"),
        (b"a true\n", "not a number: invalid syntax at line 1 (byte 2)"),
        (b"something_weird{problem=\"", "expected label value at line 1 (byte 24)"),
        (b"empty_label_name{=\"\"} 0", "expected label name at line 1 (byte 17)"),
        (b"foo 1_2\n", "not a number: invalid syntax at line 1 (byte 4)"),
        (b"foo 0x1p-3\n", "not a number: invalid syntax at line 1 (byte 4)"),
        (b"foo 1e999\n", "not a number: value out of range at line 1 (byte 4)"),
        (b"foo 0 1_2\n", "expected next entry after timestamp at line 1 (byte 7)"),
        (b"foo 0 -1\n", "expected timestamp or new record at line 1 (byte 6)"),
        (b"foo 0 99999999999999999999\n", "invalid timestamp at line 1 (byte 24)"),
        (b"{a=\"ok\"} 1", "metric name not set at line 1 (byte 8)"),
        (b"{\"a\",\"b\"} 1", "metric name already set at line 1 (byte 8)"),
        (b"a{\"b\"} 1", "metric name already set at line 1 (byte 5)"),
        (b"a{b} 1", "expected equal at line 1 (byte 3)"),
        (b"a{,b=\"c\"} 1", "expected label name at line 1 (byte 2)"),
        (b"a{b=\"c\",,} 1", "expected label name at line 1 (byte 8)"),
        (b"a{b=\"c\\\n\"} 1", "expected label value at line 1 (byte 4)"),
        (b"a{b=\"c\"}{} 1", "expected value after metric at line 1 (byte 8)"),
        (b"# TYPE\n# TYPE c\n", "invalid metric type at line 2 (byte 15)"),
        (b"# TYPE c  counter\n", "invalid metric type at line 1 (byte 17)"),
        (b"# TYPE c counter \n", "invalid metric type at line 1 (byte 17)"),
        (b"# TYPE 9 counter\n", "expected metric name after TYPE at line 1 (byte 7)"),
        (b"# HELP \n", "expected metric name after HELP at line 1 (byte 7)"),
        (b"# HELP a \xff\n", "invalid UTF-8 in help text at line 1 (byte 10)"),
        (b"9 1\n", "expected a valid start token at line 1 (byte 0)"),
        (b"\0\n", "expected a valid start token at line 1 (byte 0)"),
        (b"a\0{b=\"c\"} 1", "not a number: invalid syntax at line 1 (byte 1)"),
    ];
    for (body, wanted) in table {
        let found = text(body);
        assert_eq!(found.last().unwrap(), &format!("error: {wanted}"), "{:?}", String::from_utf8_lossy(body));
    }
}

#[test]
fn bytes_that_are_no_text_are_no_fault_in_a_comment() {
    assert_eq!(text(b"# \xff\nup 1\n"), [r#"__name__="up" 1.0"#]);
}

#[test]
fn a_guess_is_taken_only_where_it_is_the_whole_series() {
    let body = b"a 1\na {b=\"c\"} 2\na{b=\"c\"} 3\nab 4\na\t5\n";
    let mut parser = TextParser::new(body);
    let mut found = Vec::new();
    while let Some(Entry::Sample(sample)) = parser.next_expecting(b"a").unwrap() {
        found.push(String::from_utf8_lossy(sample.series).into_owned());
    }
    assert_eq!(found, ["a", "a {b=\"c\"}", "a{b=\"c\"}", "ab", "a"]);
}
