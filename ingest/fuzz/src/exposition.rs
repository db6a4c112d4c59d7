//! What every exposition format holds any input to.

use kymo_core::LabelsBuilder;
use kymo_ingest::exposition::{Entry, ExpositionError, Format, HistogramParts, Parser, push_exemplar_labels, push_labels};

/// Reads a body to its end or first error, twice.
///
/// Whatever it is, nothing panics, what a parser gives as the text of a series can be read as one, and with guesses of what
/// comes next, right or wrong, a body says the same.
pub fn feed(format: Format, body: &[u8]) {
    let (entries, error, series) = read(format, body, &[]);
    let (again, same_error, _) = read(format, body, &series);
    assert_eq!((entries, error), (again, same_error));
}

/// Number of entries, the error, and the texts of all series. `guesses` are told one after the other.
fn read(format: Format, body: &[u8], guesses: &[Vec<u8>]) -> (usize, Option<ExpositionError>, Vec<Vec<u8>>) {
    let mut parser = Parser::new(format, body, HistogramParts::NativeAndClassic);
    let mut builder = LabelsBuilder::new();
    let (mut entries, mut series) = (0, Vec::new());
    loop {
        let guess = guesses.get(series.len()).map_or(&b""[..], |guess| guess);
        match parser.next_expecting(guess) {
            Ok(None) => return (entries, None, series),
            Err(error) => return (entries, Some(error), series),
            Ok(Some(Entry::Sample(sample))) => {
                if let Err(error) = push_labels(sample.series, sample.family_type, &mut builder) {
                    panic!("{:?}: {error}", String::from_utf8_lossy(sample.series));
                }
                for exemplar in sample.exemplars.iter() {
                    if let Err(error) = push_exemplar_labels(exemplar.labels, &mut builder) {
                        panic!("{:?}: {error}", String::from_utf8_lossy(exemplar.labels));
                    }
                }
                series.push(sample.series.to_vec());
            }
            Ok(Some(_)) => {}
        }
        entries += 1;
    }
}
