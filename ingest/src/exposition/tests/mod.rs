mod hostile;
mod open_metrics;
mod protobuf;
mod round_trip;
mod text;

use kymo_core::LabelsBuilder;

use super::*;

/// Everything a body says, one line for each entry; the error's text last, if there is one.
fn entries(format: Format, body: &[u8], parts: HistogramParts) -> Vec<String> {
    let mut parser = Parser::new(format, body, parts);
    let mut lines = Vec::new();
    let mut builder = LabelsBuilder::new();
    loop {
        match parser.next_entry() {
            Ok(None) => return lines,
            Ok(Some(entry)) => lines.push(shown(&entry, &mut builder)),
            Err(error) => {
                lines.push(format!("error: {error}"));
                return lines;
            }
        }
    }
}

fn shown(entry: &Entry<'_>, builder: &mut LabelsBuilder) -> String {
    let sample = match entry {
        Entry::Help { family, help } => return format!("help {} {:?}", family.text(), help.text()),
        Entry::Type { family, family_type } => return format!("type {} {}", family.text(), family_type.as_str()),
        Entry::Unit { family, unit } => return format!("unit {} {:?}", family.text(), unit.text()),
        Entry::Sample(sample) => sample,
    };
    push_labels(sample.series, sample.family_type, builder).expect("a parser's own text");
    let mut line = String::new();
    for (name, value) in builder.iter() {
        line += &format!("{name}={value:?} ");
    }
    line += &match &sample.value {
        SampleValue::Float(value) => format!("{value:?}"),
        SampleValue::Histogram(histogram) => {
            let (count, sum) = (histogram.count(), histogram.sum);
            format!("histogram schema={} count={count} sum={sum} {:?}", histogram.schema, histogram.hint)
        }
    };
    if let Some(time_ms) = sample.time_ms {
        line += &format!(" @{time_ms}");
    }
    if sample.start_ms != 0 {
        line += &format!(" since {}", sample.start_ms);
    }
    for exemplar in sample.exemplars.iter() {
        push_exemplar_labels(exemplar.labels, builder).expect("a parser's own text");
        let labels: Vec<String> = builder.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        line += &format!(" # {} {:?} {:?}", labels.join(" "), exemplar.value, exemplar.time_ms);
    }
    line
}
