//! Any text is parsed or refused; what is parsed prints as a query that prints the same again.

#![no_main]

use kymo_query::parser::{ParseOptions, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| {
    // Refusals must not panic either, whatever is switched off.
    let _ = parse(query, &ParseOptions::default()).map_err(|error| error.to_string());
    let options = ParseOptions::all();
    match parse(query, &options) {
        Ok(ast) => {
            let mut parents = vec![0; ast.nodes().len()];
            for (id, node) in ast.iter() {
                assert!(node.span.start <= node.span.end && node.span.end as usize <= query.len());
                node.for_each_child(|child| {
                    assert!(child < id);
                    parents[child.idx()] += 1;
                });
            }
            assert!(parents.iter().rev().skip(1).all(|&count| count == 1));
            let printed = ast.to_string();
            match parse(&printed, &options) {
                Ok(again) => assert_eq!(again.to_string(), printed, "{query:?}"),
                // Escapes, units and spaces may make a long query longer than the limit.
                Err(error) => assert!(
                    printed.len() > query.len() && error.message.contains("limit"),
                    "{query:?} as {printed:?}: {error}"
                ),
            }
        }
        Err(error) => assert!(error.span.start as usize <= query.len(), "{error}"),
    }
});
