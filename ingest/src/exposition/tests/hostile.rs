use proptest::prelude::*;

use super::*;

/// Reads a body to its end or first error, and every label on the way.
fn read_all(format: Format, body: &[u8]) -> usize {
    let count = entries(format, body, HistogramParts::NativeAndClassic).len();
    // With wild guesses a body says the same.
    let mut parser = Parser::new(format, body, HistogramParts::NativeAndClassic);
    let (mut guess, mut again) = (Vec::new(), 0);
    loop {
        match parser.next_expecting(&guess) {
            Ok(None) => break,
            Ok(Some(Entry::Sample(sample))) => {
                guess.clear();
                guess.extend_from_slice(sample.series);
                again += 1;
            }
            Ok(Some(_)) => again += 1,
            Err(_) => {
                again += 1;
                break;
            }
        }
    }
    assert_eq!(count, again);
    count
}

/// Pieces that bodies are made of, so that random bodies get far.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&[u8]] = &[
        b"a",
        b"b_total",
        b"{",
        b"}",
        b"\"",
        b"\\",
        b"l=\"v\"",
        b"{l=\"v\\n\"}",
        b",",
        b"=",
        b" ",
        b"\t",
        b"\n",
        b" 1\n",
        b" 1.5e3 17",
        b" # {",
        b"# TYPE a counter\n",
        b"# HELP a x\n",
        b"# UNIT a_s s\n",
        b"# EOF\n",
        b"NaN",
        b"\xff",
        b"\xc3\xa9",
        b"\0",
    ];
    prop::collection::vec(prop::sample::select(PIECES), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
            read_all(format, &body);
        }
    }

    #[test]
    fn no_text_makes_a_parser_panic_and_guesses_change_nothing(body in pieces()) {
        for format in [Format::Text, Format::OpenMetrics] {
            read_all(format, &body);
        }
    }
}

#[test]
fn half_a_page_is_an_error_or_a_shorter_page() {
    let page = b"# TYPE a counter\na{b=\"c\"} 1 2\na{b=\"d\\\\\"} 2.5\nb 1\n";
    for len in 0..page.len() {
        read_all(Format::Text, &page[..len]);
    }
    let page = b"# TYPE a counter\na_total{b=\"c\"} 1 2 # {x=\"y\"} 1 2\n# EOF\n";
    for len in 0..page.len() - 1 {
        let found = entries(Format::OpenMetrics, &page[..len], HistogramParts::Classic);
        assert!(found.last().unwrap().starts_with("error: "), "{len}: {found:?}");
    }
}
