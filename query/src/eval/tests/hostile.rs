//! Regular expressions made to cost more than they say: refused by their size, or matched in one pass.

use std::sync::Arc;

use kymo_core::query::{Grid, QueryError};
use kymo_core::{ErrorKind, Labels, MemoryStorage, MetricStorage};

use super::{ask, engine, options, shown};
use crate::Engine;

const AT: Grid = Grid::Instant { at_ms: 1_000 };

/// One series, whose label an expression that goes back over what it matched would try in 2^1000 ways.
fn long() -> Engine {
    let storage = MemoryStorage::default();
    let mut batch = kymo_core::SampleBatch::new();
    let value = format!("{}!", "a".repeat(1_000));
    batch.push_float(&Labels::from_pairs([("__name__", "x"), ("v", value.as_str())]), 1_000, 1.0);
    assert_eq!(storage.append(&batch).unwrap().rejected, []);
    engine(Arc::new(storage), options(false))
}

fn refusal(engine: &Engine, text: &str) -> QueryError {
    ask(engine, text, AT).map(|found| shown(&found.value)).expect_err(&text[..text.len().min(80)])
}

#[test]
fn nested_repetitions_are_matched_in_one_pass() {
    let engine = long();
    let rows = [
        ("(a+)+b", false),
        ("(a|aa)+b", false),
        ("((a*)*)*b", false),
        ("(a|a)*(a|a)*(a|a)*b", false),
        ("(.*)(.*)(.*)(.*)(.*)(.*)[0-9]", false),
        ("(a?){50}a{50}b", false),
        ("((a{1,100}){1,10})+b", false),
        ("(a+)+!", true),
        ("((a*)*)*!", true),
    ];
    for (expression, matches) in rows {
        let count = |op: &str| {
            shown(&ask(&engine, &format!("count(x{{v{op}\"{expression}\"}}) or vector(0)"), AT).unwrap().value)
        };
        assert_eq!(count("=~"), [if matches { "{} 1" } else { "{} 0" }], "{expression}");
        assert_eq!(count("!~"), [if matches { "{} 0" } else { "{} 1" }], "{expression}");
        let replaced = format!("count by (d) (label_replace(x, \"d\", \"new\", \"v\", \"{expression}\"))");
        let wanted = if matches { "{d=\"new\"} 1" } else { "{} 1" };
        assert_eq!(shown(&ask(&engine, &replaced, AT).unwrap().value), [wanted], "{expression}");
    }
}

#[test]
fn expressions_that_compile_to_too_much_are_refused_by_name() {
    let engine = long();
    let words: String = (0..60_000).map(|n| format!("{n:06}x|")).collect();
    let rows = [
        "((a{100}){100}){100}".to_owned(),
        "a{1001}".to_owned(),
        "((((a{9}){9}){9}){9}){9}".repeat(60),
        format!("{}a{}", "(".repeat(3_000), ")".repeat(3_000)),
        format!("({words}y)+"),
        "\\\\pL{1000}\\\\pN{1000}\\\\pL{1000}".to_owned(),
    ];
    for expression in &rows {
        let start = &expression[..expression.len().min(40)];
        for op in ["=~", "!~"] {
            let error = refusal(&engine, &format!("x{{v{op}\"{expression}\"}}"));
            assert_eq!(
                error.kind,
                ErrorKind::Invalid,
                "{start}: {}",
                &error.message[error.message.len().saturating_sub(200)..]
            );
        }
        let error = refusal(&engine, &format!("label_replace(x, \"d\", \"$1\", \"v\", \"{expression}\")"));
        assert!(error.message.starts_with("invalid regular expression in label_replace(): "), "{start}");
    }
    // The engine is as it was.
    assert_eq!(shown(&ask(&engine, "count(x)", AT).unwrap().value), ["{} 1"]);
}
