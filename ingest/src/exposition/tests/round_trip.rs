use kymo_core::text::{write_escaped_help, write_escaped_label_value, write_float_general};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Made {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
    time: Option<u32>,
    quoted: bool,
}

fn made() -> impl Strategy<Value = Made> {
    let text = "[a-zA-Z0-9_:. \\\\\"\né{},=#\t]{0,8}";
    let legacy = "[a-zA-Z_][a-zA-Z0-9_]{0,6}";
    let labels = prop::collection::vec((legacy, text), 0..4);
    let utf8_labels = prop::collection::vec(("[a-z.\"\\\\é ]{1,5}", text), 0..4);
    prop_oneof![
        (legacy, labels, any::<f64>(), any::<Option<u32>>(), Just(false)),
        ("[a-z. \"\\\\\né]{1,6}", utf8_labels, any::<f64>(), any::<Option<u32>>(), Just(true)),
    ]
    .prop_map(|(name, labels, value, time, quoted)| Made { name, labels, value, time, quoted })
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    write_escaped_label_value(out, text);
    out.push('"');
}

fn render(made: &Made, open_metrics: bool) -> String {
    let mut line = String::new();
    if !made.quoted {
        line += &made.name;
    }
    if made.quoted || !made.labels.is_empty() {
        line.push('{');
        if made.quoted {
            quoted(&mut line, &made.name);
            line.push(',');
        }
        for (name, value) in &made.labels {
            if made.quoted {
                quoted(&mut line, name);
            } else {
                line += name;
            }
            line.push('=');
            quoted(&mut line, value);
            line.push(',');
        }
        line.push('}');
    }
    line.push(' ');
    write_float_general(&mut line, made.value);
    if let Some(time) = made.time {
        line += &if open_metrics { format!(" {time}") } else { format!(" {time}000") };
    }
    line.push('\n');
    line
}

proptest! {
    #[test]
    fn what_is_rendered_is_read_again(samples in prop::collection::vec(made(), 0..8)) {
        for open_metrics in [false, true] {
            let mut page: String = samples.iter().map(|made| render(made, open_metrics)).collect();
            if open_metrics {
                page += "# EOF\n";
            }
            let format = if open_metrics { Format::OpenMetrics } else { Format::Text };
            let mut parser = Parser::new(format, page.as_bytes(), HistogramParts::Classic);
            let mut builder = LabelsBuilder::new();
            for made in &samples {
                let Some(Entry::Sample(sample)) = parser.next_entry().unwrap() else { panic!("{page:?}") };
                prop_assert_eq!(sample.time_ms, made.time.map(|time| i64::from(time) * 1000));
                let SampleValue::Float(value) = sample.value else { panic!("a float") };
                prop_assert!(value.to_bits() == made.value.to_bits() || value.is_nan() && made.value.is_nan());
                push_labels(sample.series, sample.family_type, &mut builder).unwrap();
                let mut pairs = builder.iter();
                prop_assert_eq!(pairs.next(), Some(("__name__", made.name.as_str())));
                let wanted = made.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                prop_assert!(pairs.eq(wanted));
            }
            prop_assert_eq!(parser.next_entry().unwrap(), None);
        }
    }

    #[test]
    fn help_comes_back_whatever_it_says(help in "[ -~\né\\\\\"]{0,20}") {
        let mut text = "# HELP m ".to_owned();
        write_escaped_help(&mut text, &help);
        let mut parser = TextParser::new(text.as_bytes());
        let Some(Entry::Help { help: found, .. }) = parser.next_entry().unwrap() else { panic!("{text:?}") };
        // A help of blanks only is none.
        let wanted = if help.trim_matches(' ').is_empty() { "" } else { help.as_str() };
        prop_assert_eq!(found.text(), wanted);
        let mut text = "# HELP m ".to_owned();
        write_escaped_label_value(&mut text, &help);
        text += "\n# EOF\n";
        let mut parser = OpenMetricsParser::new(text.as_bytes());
        let Some(Entry::Help { help: found, .. }) = parser.next_entry().unwrap() else { panic!("{text:?}") };
        prop_assert_eq!(found.text(), help.as_str());
    }
}
