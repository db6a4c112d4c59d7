use super::*;

fn open_metrics(body: impl AsRef<[u8]>) -> Vec<String> {
    entries(Format::OpenMetrics, body.as_ref(), HistogramParts::Classic)
}

#[test]
fn a_page_is_read_entry_by_entry() {
    let page = r#"# HELP go_gc_duration_seconds A "summary"\n of \"it\".
# TYPE go_gc_duration_seconds summary
# UNIT go_gc_duration_seconds seconds
go_gc_duration_seconds{quantile="0"} 4.9351e-05
go_gc_duration_seconds{quantile="0.25",a="b"} 7.4e-05 1.001
# HELP nohelp1 
# TYPE hh histogram
hh_bucket{le="+Inf"} 1 # {aa="bb"} 4
hh_bucket{le="10"} 1 1520879607.789 # {aa="bb",} 4 1520879607.123
# TYPE ii info
ii{foo="bar"} 1
# TYPE ss stateset
ss{ss="foo"} 1
ss{A="a"} 0
# TYPE un unknown
un -Inf 1.5e3
# TYPE foo counter
foo_total 17.0 1520879607.789 # {id="counter-test"} 5
foo_created 1520872607.123
{"quoted.name","q"="v"} 1 # {"id.thing"="x",other="hello"} 4
# TYPE g gaugehistogram
g_gcount 0 # {} 1
# EOF
"#;
    assert_eq!(
        open_metrics(page),
        [
            r#"help go_gc_duration_seconds "A \"summary\"\n of \"it\".""#,
            "type go_gc_duration_seconds summary",
            r#"unit go_gc_duration_seconds "seconds""#,
            r#"__name__="go_gc_duration_seconds" quantile="0.0" 4.9351e-5"#,
            // 1.001 × 1000 is just below 1001, and the rest is cut off as Prometheus does.
            r#"__name__="go_gc_duration_seconds" quantile="0.25" a="b" 7.4e-5 @1000"#,
            r#"help nohelp1 """#,
            "type hh histogram",
            r#"__name__="hh_bucket" le="+Inf" 1.0 # aa="bb" 4.0 None"#,
            r#"__name__="hh_bucket" le="10.0" 1.0 @1520879607789 # aa="bb" 4.0 Some(1520879607123)"#,
            "type ii info",
            r#"__name__="ii" foo="bar" 1.0"#,
            "type ss stateset",
            r#"__name__="ss" ss="foo" 1.0"#,
            r#"__name__="ss" A="a" 0.0"#,
            "type un unknown",
            r#"__name__="un" -inf @1500000"#,
            "type foo counter",
            r#"__name__="foo_total" 17.0 @1520879607789 # id="counter-test" 5.0 None"#,
            r#"__name__="foo_created" 1520872607.123"#,
            r#"__name__="quoted.name" q="v" 1.0 # id.thing="x" other="hello" 4.0 None"#,
            "type g gaugehistogram",
            r#"__name__="g_gcount" 0.0 #  1.0 None"#,
        ]
    );
}

#[test]
fn the_end_must_be_said() {
    assert!(open_metrics("# EOF").is_empty() && open_metrics("# EOF\n").is_empty());
    let table = [
        ("", "data does not end with # EOF at line 1 (byte 0)"),
        ("metric 1", "data does not end with # EOF at line 1 (byte 8)"),
        ("metric 1\n", "data does not end with # EOF at line 2 (byte 9)"),
        ("metric_total 1 # {aa=\"bb\"} 4", "data does not end with # EOF at line 1 (byte 28)"),
        ("# EOF\na 1", "unexpected data after # EOF at line 2 (byte 6)"),
        ("# EOF\n\n", "unexpected data after # EOF at line 2 (byte 6)"),
        ("# EOFa 1", "unexpected data after # EOF at line 1 (byte 5)"),
    ];
    for (body, wanted) in table {
        assert_eq!(open_metrics(body).last().unwrap(), &format!("error: {wanted}"), "{body:?}");
    }
}

#[test]
fn what_prometheus_refuses_is_refused() {
    let table: &[(&[u8], Fault)] = &[
        (b"\n", Fault::Start),
        (b"metric", Fault::Value { after: "metric" }),
        (b"a\n#EOF\n", Fault::Value { after: "metric" }),
        (b" a 1\n", Fault::Start),
        (b"9\n", Fault::Start),
        (b"# TYPE u untyped\n", Fault::FamilyType),
        (b"# TYPE c counter \n", Fault::FamilyType),
        (b"# TYPE c  counter\n", Fault::FamilyType),
        (b"#  TYPE c counter\n", Fault::Start),
        (b"#\tTYPE c counter\n", Fault::Start),
        (b"# a comment\n", Fault::Start),
        (b"# TYPE \n", Fault::FamilyName { keyword: "TYPE" }),
        (b"# TYPE m\n", Fault::MetadataText { keyword: "TYPE" }),
        (b"# HELP m\n", Fault::MetadataText { keyword: "HELP" }),
        (b"# HELP m \xff\n", Fault::Utf8 { what: "help text" }),
        (b"# UNIT m\n", Fault::MetadataText { keyword: "UNIT" }),
        (b"# UNIT \n", Fault::FamilyName { keyword: "UNIT" }),
        (b"# UNIT metric suffix\n", Fault::UnitSuffix),
        (b"# UNIT metricsuffix suffix\n", Fault::UnitSuffix),
        (b"# UNIT m suffix\n", Fault::UnitSuffix),
        (b"a\t1\n", Fault::Value { after: "metric" }),
        (b"a {b=\"c\"} 1\n", Fault::Float { source: kymo_core::text::FloatError::Syntax }),
        (b"a{b=\"c\"}1\n", Fault::Value { after: "metric" }),
        (b"a 1\t2\n", Fault::Float { source: kymo_core::text::FloatError::Syntax }),
        (b"a  1\n", Fault::Value { after: "metric" }),
        (b"a 1 2 \n", Fault::AfterTimestamp),
        (b"a 1 2 #\n", Fault::AfterTimestamp),
        (b"a 1 1 1\n", Fault::AfterTimestamp),
        (b"a 1 1z\n", Fault::Float { source: kymo_core::text::FloatError::Syntax }),
        (b"a 1 NaN\n", Fault::Timestamp),
        (b"a 1 -Inf\n", Fault::Timestamp),
        (b"a{b='c'} 1\n", Fault::LabelValue),
        (b"a{ b=\"c\"} 1\n", Fault::LabelName),
        (b"a{,b=\"c\"} 1\n", Fault::LabelName),
        (b"a{b=\"c\"d=\"e\"} 1\n", Fault::LabelEnd),
        (b"a{b=\"c\",,d=\"e\"} 1\n", Fault::LabelName),
        (b"a{b=\n", Fault::LabelValue),
        (b"a{\xff=\"foo\"} 1\n", Fault::LabelName),
        (b"a{b=\"\xff\"} 1\n", Fault::Utf8 { what: "label value" }),
        (b"{\"a\",\"b = \"c\"}\n", Fault::Equal),
        (b"{\"\xff\"} 1\n", Fault::Utf8 { what: "label name" }),
        (b"{b=\"c\",} 1\n", Fault::NameMissing),
        (b"a true\n", Fault::Float { source: kymo_core::text::FloatError::Syntax }),
        (b"m 1 # {aa=bb}\n", Fault::LabelValue),
        (b"m 1 # {aa=\"bb\"}\n", Fault::Value { after: "exemplar labels" }),
        (b"m 1 # {bb}\n", Fault::Equal),
        (b"m 1 # {\"bb\"} 1\n", Fault::LabelName),
        (b"m 1 # {aa=\"bb\",,cc=\"dd\"} 1\n", Fault::LabelName),
        (b"m 1 # {aa=\"bb\"} 1_2\n", Fault::Float { source: kymo_core::text::FloatError::Syntax }),
        (b"m 1 # {aa=\"bb\"} 4 NaN\n", Fault::Timestamp),
        (b"m 1 # {aa=\"bb\"} 4 1 1\n", Fault::AfterExemplar),
    ];
    for (body, wanted) in table {
        let mut parser = OpenMetricsParser::new(body);
        let found = loop {
            match parser.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error.fault),
            }
        };
        assert_eq!(found, Some(*wanted), "{:?}", String::from_utf8_lossy(body));
    }
}
