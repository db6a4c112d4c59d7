//! What the parser accepts and how much of it.

/// Feature switches and limits.
///
/// `default()` is what a Prometheus server accepts without `--enable-feature`; [`ParseOptions::all`]
/// switches everything on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseOptions {
    /// Functions marked experimental, `limitk` and `limit_ratio`.
    pub experimental_functions: bool,
    /// Arithmetic, `step()`, `range()`, `min_of` and `max_of` in ranges, steps and offsets.
    pub duration_expressions: bool,
    /// `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `fill`, `fill_left` and `fill_right`.
    pub fill_modifiers: bool,
    /// Longest query text, in bytes.
    pub bytes_max: usize,
    /// Most nodes of a tree, those of durations and matchers included.
    pub nodes_max: usize,
    /// Most regular expressions among the matchers.
    pub regexes_max: usize,
    /// Most open parentheses, calls and operators waiting for their right side.
    pub depth_max: usize,
}

impl ParseOptions {
    /// Ten times the 100 KB that generated dashboards with long `=~` alternations reach.
    pub const BYTES_MAX: usize = 1 << 20;

    /// Each node may hold a vector of results, so this bounds an evaluation's bookkeeping. Ten
    /// thousand chained operators take 20 001 nodes.
    pub const NODES_MAX: usize = 1 << 16;

    /// Each may take a millisecond to compile, and megabytes while it does.
    pub const REGEXES_MAX: usize = 1 << 10;

    /// Each level holds a frame of some 100 bytes while parsing, and in an evaluator that keeps
    /// intermediate results one of those per level. Ten thousand chained `^`, which group to the
    /// right, wait for each other.
    pub const DEPTH_MAX: usize = 1 << 14;

    /// Every feature on, with the default limits.
    pub fn all() -> Self {
        Self {
            experimental_functions: true,
            duration_expressions: true,
            extended_range_selectors: true,
            fill_modifiers: true,
            ..Self::default()
        }
    }
}

impl Default for ParseOptions {
    fn default() -> Self {
        Self {
            experimental_functions: false,
            duration_expressions: true,
            extended_range_selectors: false,
            fill_modifiers: false,
            bytes_max: Self::BYTES_MAX,
            nodes_max: Self::NODES_MAX,
            regexes_max: Self::REGEXES_MAX,
            depth_max: Self::DEPTH_MAX,
        }
    }
}
