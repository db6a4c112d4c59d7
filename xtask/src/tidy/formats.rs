//! Pages of on-disk formats: each has a worked example, and a test of the engine reads it.

use super::{Finding, Text, folder_of};

const PAGES: &str = "docs/format";
/// The crate whose tests parse the examples.
const PARSERS: &str = "storage";
/// Words in the first line of a fenced block that mark it as the worked example.
const EXAMPLE_MARKS: [&str; 2] = ["worked-example", "hex"];

pub(super) fn check(texts: &[Text]) -> Vec<Finding> {
    let pages = texts.iter().filter(|text| text.is_below(PAGES) && text.has_extension("md"));
    let mut findings = Vec::new();
    for page in pages {
        let name = page.path.file_name().unwrap_or_default().to_string_lossy();
        // The folder's own index describes no format.
        if name == "README.md" && folder_of(&page.path).ends_with("format") {
            continue;
        }
        let has_example = page.content.lines().any(|line| {
            line.trim_start()
                .strip_prefix("```")
                .is_some_and(|info| info.split_whitespace().any(|word| EXAMPLE_MARKS.contains(&word)))
        });
        if !has_example {
            findings.push(Finding::new(
                &page.path,
                1,
                "the format page has no worked example",
                "add one in a block that opens with ```text worked-example, or ```hex",
            ));
        }
        let reference = format!("docs/format/{name}");
        let is_parsed = texts
            .iter()
            .any(|text| text.is_below(PARSERS) && text.has_extension("rs") && includes(&text.content, &reference));
        if !is_parsed {
            findings.push(Finding::new(
                &page.path,
                1,
                "no test parses the format page's example",
                format!("take it into a test below {PARSERS}/ with include_str! of {reference}"),
            ));
        }
    }
    findings
}

/// Whether `source` has an `include_str!` whose path ends in `reference`.
fn includes(source: &str, reference: &str) -> bool {
    source
        .split("include_str!(")
        .skip(1)
        .any(|rest| rest.split(';').next().is_some_and(|argument| argument.contains(&format!("{reference}\""))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_page_needs_an_example_and_a_test_that_reads_it() {
        let text = |path: &str, content: &str| Text { path: path.into(), content: content.to_owned() };
        let texts = [
            text("docs/format/README.md", "index"),
            text("docs/format/wal.md", "```text worked-example\n00\n```"),
            text("docs/format/block.md", "```hex\n00\n```"),
            text("docs/format/head.md", "words"),
            text("storage/src/wal/tests.rs", "include_str!(\"../docs/format/wal.md\")"),
            text("storage/src/head.rs", "//! docs/format/head.md"),
        ];
        let found: Vec<(String, String)> =
            check(&texts).into_iter().map(|finding| (finding.path.display().to_string(), finding.problem)).collect();
        assert_eq!(
            found,
            [
                ("docs/format/block.md".to_owned(), "no test parses the format page's example".to_owned()),
                ("docs/format/head.md".to_owned(), "the format page has no worked example".to_owned()),
                ("docs/format/head.md".to_owned(), "no test parses the format page's example".to_owned()),
            ]
        );
    }
}
