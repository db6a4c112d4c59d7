//! Reads the worked example of a page in `docs/format/`, so that page and code cannot drift apart.

/// The bytes of the page's ```` ```hex ```` block; what follows `#` on a line is a remark.
pub(crate) fn example(page: &str) -> Vec<u8> {
    let block =
        page.split("```hex\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the page has a hex block");
    let digits = |line: &str| line.split('#').next().unwrap_or_default().to_owned();
    let hex: String = block.lines().map(digits).collect::<String>().split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits")).collect()
}

/// Bytes as a page shows them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n")
}
