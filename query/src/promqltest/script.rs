//! Script text to commands.

use kymo_core::Labels;
use kymo_core::matcher::compile_regex;
use kymo_core::query::Grid;
use kymo_core::text::{parse_duration_ms, unquote};
use regex::Regex;

use super::load::{NotationError, SeriesValue, labels, number, parse_series, parse_start_offsets, split_series};

/// A line that is not in the language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}: {text}")]
pub struct ScriptError {
    /// Number of the line, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// What was expected, or what is wrong.
    pub reason: String,
}

/// One command with the lines that belong to it.
#[derive(Debug)]
pub(super) enum Command {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

/// Series to store.
#[derive(Debug)]
pub(super) struct Load {
    /// Number of the command's line, from 1.
    pub(super) line: usize,
    /// Whether classic histograms are stored as native ones too.
    pub(super) with_nhcb: bool,
    pub(super) series: Vec<LoadSeries>,
}

/// One series of a load.
#[derive(Debug)]
pub(super) struct LoadSeries {
    pub(super) labels: Labels,
    pub(super) samples: Vec<LoadSample>,
}

/// One sample of a load.
#[derive(Debug)]
pub(super) struct LoadSample {
    pub(super) time_ms: i64,
    /// 0 = unset.
    pub(super) start_ms: i64,
    pub(super) value: SeriesValue,
}

/// A query and what it must answer.
#[derive(Debug)]
pub(super) struct Eval {
    /// Number of the command's line, from 1.
    pub(super) line: usize,
    pub(super) query: String,
    pub(super) grid: Grid,
    pub(super) ordered: bool,
    /// The query must fail, with an error that matches.
    pub(super) fail: Option<TextMatch>,
    pub(super) warnings: ExpectedNotes,
    pub(super) infos: ExpectedNotes,
    pub(super) expected: Expected,
    /// When the points of a range vector lie.
    pub(super) range_vector: Option<Grid>,
}

/// What a query must answer, but for annotations.
#[derive(Debug)]
pub(super) enum Expected {
    Scalar(f64),
    String(String),
    Series(Vec<ExpectedSeries>),
}

/// One series that must be in the answer.
#[derive(Debug)]
pub(super) struct ExpectedSeries {
    pub(super) labels: Labels,
    pub(super) values: Vec<SeriesValue>,
}

/// Annotations of one kind.
#[derive(Debug)]
pub(super) enum ExpectedNotes {
    /// Not looked at.
    Ignored,
    /// There must be none.
    None,
    /// Each of these must match one, and each one must be matched.
    These(Vec<TextMatch>),
}

/// How a text must read.
#[derive(Debug)]
pub(super) enum TextMatch {
    Any,
    Exactly(String),
    /// Somewhere in the text.
    Regex {
        pattern: String,
        compiled: Regex,
    },
}

impl TextMatch {
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            TextMatch::Any => true,
            TextMatch::Exactly(wanted) => wanted == text,
            TextMatch::Regex { compiled, .. } => compiled.is_match(text),
        }
    }
}

impl std::fmt::Display for TextMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TextMatch::Any => f.write_str("any text"),
            TextMatch::Exactly(wanted) => write!(f, "{wanted:?}"),
            TextMatch::Regex { pattern, .. } => write!(f, "/{pattern}/"),
        }
    }
}

/// Reads a whole script.
pub(super) fn parse_script(text: &str) -> Result<Vec<Command>, ScriptError> {
    let lines = text.lines().map(|line| {
        let line = line.trim();
        if line.starts_with('#') { "" } else { line }
    });
    let mut reader = Reader { lines: lines.collect(), at: 0 };
    let mut commands = Vec::new();
    while reader.at < reader.lines.len() {
        let line = reader.lines[reader.at];
        if line.is_empty() {
            reader.at += 1;
            continue;
        }
        let word = line.split_whitespace().next().unwrap_or_default().to_lowercase();
        commands.push(match word.as_str() {
            "clear" => {
                reader.at += 1;
                Command::Clear
            }
            "load" | "load_with_nhcb" => Command::Load(reader.load()?),
            "eval" | "eval_fail" | "eval_warn" | "eval_info" | "eval_ordered" => {
                Command::Eval(Box::new(reader.eval()?))
            }
            _ => return Err(reader.error("expected clear, load STEP or eval")),
        });
    }
    Ok(commands)
}

struct Reader<'a> {
    /// Trimmed; comment lines are empty.
    lines: Vec<&'a str>,
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, reason: impl Into<String>) -> ScriptError {
        let text = self.lines.get(self.at).copied().unwrap_or_default();
        ScriptError { line: self.at + 1, text: text.to_owned(), reason: reason.into() }
    }

    fn notation(&self, error: NotationError) -> ScriptError {
        self.error(error.to_string())
    }

    /// The next line of the command, if there is one; `at` is then on it.
    fn next(&mut self) -> Option<&'a str> {
        self.at += 1;
        self.lines.get(self.at).copied().filter(|line| !line.is_empty())
    }

    fn time(&self, text: &str) -> Result<i64, ScriptError> {
        if let Ok(ms) = parse_duration_ms(text) {
            return Ok(ms);
        }
        // Plain seconds.
        match text.parse::<f64>() {
            Ok(seconds) if seconds.is_finite() => Ok((seconds * 1000.0).round() as i64),
            _ => Err(self.error(format!("expected a duration such as 50m or seconds instead of {text:?}"))),
        }
    }

    fn step(&self, text: &str) -> Result<i64, ScriptError> {
        let step_ms = self.time(text)?;
        if step_ms > 0 { Ok(step_ms) } else { Err(self.error("expected a step above 0")) }
    }

    fn load(&mut self) -> Result<Load, ScriptError> {
        let (word, step) = self.lines[self.at].split_once([' ', '\t']).unwrap_or((self.lines[self.at], ""));
        let mut load =
            Load { line: self.at + 1, with_nhcb: word.eq_ignore_ascii_case("load_with_nhcb"), series: Vec::new() };
        let step_ms = self.time(step.trim())?;
        let mut default_starts: Vec<Option<i64>> = Vec::new();
        let mut pending: Option<(usize, Labels, Vec<Option<i64>>)> = None;
        while let Some(line) = self.next() {
            let (series, rest) = split_series(line);
            if let Some(named) = series.strip_suffix("@st").or_else(|| (rest.starts_with("@st")).then_some(series)) {
                let offsets = rest.strip_prefix("@st").unwrap_or(rest);
                let starts = parse_start_offsets(offsets).map_err(|e| self.notation(e))?;
                if named.is_empty() {
                    default_starts = starts;
                } else if pending.is_some() {
                    return Err(self.error("expected the series of the @st line before"));
                } else {
                    let labels = labels(named).map_err(|e| self.notation(e))?;
                    pending = Some((self.at, labels, starts));
                }
                continue;
            }
            let (labels, values) = parse_series(line).map_err(|e| self.notation(e))?;
            let starts = match pending.take() {
                None => None,
                Some((_, named, _)) if named != labels => {
                    return Err(self.error(format!("expected series {named}, which the @st line before names")));
                }
                Some((_, _, starts)) if starts.len() != values.len() => {
                    return Err(self.error(format!("expected {} values as the @st line before", starts.len())));
                }
                Some((_, _, starts)) => Some(starts),
            };
            let start = |step: usize| match &starts {
                Some(starts) => starts[step],
                None if default_starts.is_empty() => None,
                None => default_starts[step % default_starts.len()],
            };
            let samples = values.into_iter().enumerate().filter_map(|(step, value)| {
                let time_ms = step_ms.saturating_mul(step as i64);
                let start_ms = start(step).map_or(0, |offset| time_ms.saturating_add(offset));
                (!matches!(value, SeriesValue::Omitted)).then_some(LoadSample { time_ms, start_ms, value })
            });
            let samples = samples.collect();
            // Of a series given twice in one load the later line counts.
            load.series.retain(|known: &LoadSeries| known.labels != labels);
            load.series.push(LoadSeries { labels, samples });
        }
        if let Some((at, ..)) = pending {
            self.at = at;
            return Err(self.error("expected a line of the same series after the @st line"));
        }
        Ok(load)
    }

    fn eval(&mut self) -> Result<Eval, ScriptError> {
        let mut eval = self.eval_line()?;
        let word = self.lines[self.at].split_whitespace().next().unwrap_or_default().to_lowercase();
        match word.as_str() {
            "eval_ordered" => eval.ordered = true,
            "eval_fail" => eval.fail = Some(TextMatch::Any),
            "eval_warn" => eval.warnings = ExpectedNotes::These(vec![TextMatch::Any]),
            "eval_info" => eval.infos = ExpectedNotes::These(vec![TextMatch::Any]),
            _ => {}
        }
        let old_fail = eval.fail.is_some();
        let mut series: Vec<ExpectedSeries> = Vec::new();
        while let Some(line) = self.next() {
            if let (true, Some(message)) = (old_fail, line.strip_prefix("expected_fail_message")) {
                eval.fail = Some(TextMatch::Exactly(message.trim().to_owned()));
                self.at += 1;
                break;
            }
            if let (true, Some(pattern)) = (old_fail, line.strip_prefix("expected_fail_regexp")) {
                eval.fail = Some(self.regex(pattern.trim())?);
                self.at += 1;
                break;
            }
            if let Some(range) = line.strip_prefix("expect range vector") {
                let words: Vec<&str> = range.split_whitespace().collect();
                let ["from", from, "to", to, "step", step] = words[..] else {
                    return Err(self.error("expected from A to B step S"));
                };
                let grid = self.range(from, to, step)?;
                eval.range_vector = Some(grid);
                // The window ends at the evaluation, whatever the first line says.
                eval.grid = Grid::Instant { at_ms: grid.end_ms() };
                continue;
            }
            if let Some(literal) = line.strip_prefix("expect string") {
                let value =
                    unquote(literal.trim_start()).map_err(|_| self.error("expected a quoted string literal"))?;
                eval.expected = Expected::String(value.into_owned());
                continue;
            }
            if line.split_whitespace().next() == Some("expect") {
                self.expect(line, &mut eval)?;
                continue;
            }
            if let Ok(value) = number(line) {
                eval.expected = Expected::Scalar(value);
                self.at += 1;
                break;
            }
            let (labels, values) = parse_series(line).map_err(|e| self.notation(e))?;
            let instant = matches!(eval.grid, Grid::Instant { .. }) && eval.range_vector.is_none();
            if instant && !matches!(values[..], [SeriesValue::Float(_) | SeriesValue::Histogram { .. }]) {
                return Err(self.error("expected one value, or `expect range vector` before"));
            }
            series.retain(|known| known.labels != labels);
            series.push(ExpectedSeries { labels, values });
        }
        if let Expected::Series(expected) = &mut eval.expected {
            *expected = series;
        } else if !series.is_empty() {
            return Err(self.error("expected either series or one number or string"));
        }
        Ok(eval)
    }

    /// The line of the command itself.
    fn eval_line(&self) -> Result<Eval, ScriptError> {
        let line = self.lines[self.at];
        let mut rest = line;
        let mut word = || {
            let trimmed = rest.trim_start();
            let (word, after) = trimmed.split_at(trimmed.find(char::is_whitespace).unwrap_or(trimmed.len()));
            rest = after;
            word
        };
        word();
        let grid = match word() {
            "instant" if word() == "at" => Grid::Instant { at_ms: self.time(word())? },
            "instant" => return Err(self.error("expected at TIME after instant")),
            "range" => {
                let [from, a, to, b, step, s] = std::array::from_fn(|_| word());
                if [from, to, step] != ["from", "to", "step"] {
                    return Err(self.error("expected from START to END step STEP after range"));
                }
                self.range(a, b, s)?
            }
            _ => return Err(self.error("expected instant or range after eval")),
        };
        let query = rest.trim();
        if query.is_empty() {
            return Err(self.error("expected a query"));
        }
        Ok(Eval {
            line: self.at + 1,
            query: query.to_owned(),
            grid,
            ordered: false,
            fail: None,
            warnings: ExpectedNotes::Ignored,
            infos: ExpectedNotes::Ignored,
            expected: Expected::Series(Vec::new()),
            range_vector: None,
        })
    }

    fn range(&self, from: &str, to: &str, step: &str) -> Result<Grid, ScriptError> {
        let grid = Grid::Range { start_ms: self.time(from)?, end_ms: self.time(to)?, step_ms: self.step(step)? };
        if grid.end_ms() < grid.start_ms() {
            return Err(self.error("expected an end that is not before the start"));
        }
        Ok(grid)
    }

    fn regex(&self, pattern: &str) -> Result<TextMatch, ScriptError> {
        // It need not match the whole text, but is in Go's syntax like those of matchers, which must.
        let compiled = compile_regex(&format!("(?:.*)(?:{pattern})(?:.*)"))
            .map_err(|error| self.error(format!("expected a regular expression: {}", error.reason)))?;
        Ok(TextMatch::Regex { pattern: pattern.to_owned(), compiled })
    }

    fn expect(&self, line: &str, eval: &mut Eval) -> Result<(), ScriptError> {
        let rest = line.strip_prefix("expect").unwrap_or(line).trim_start();
        let (kind, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
        let rest = rest.trim_start();
        let wanted = if rest.is_empty() {
            TextMatch::Any
        } else if let Some(message) = rest.strip_prefix("msg:") {
            TextMatch::Exactly(message.trim().to_owned())
        } else if let Some(pattern) = rest.strip_prefix("regex:") {
            self.regex(pattern.trim())?
        } else {
            return Err(self.error("expected msg: or regex: after the kind of expectation"));
        };
        match kind {
            "ordered" => eval.ordered = true,
            "fail" if eval.fail.is_none() => eval.fail = Some(wanted),
            "fail" => return Err(self.error("expected one fail line only")),
            "warn" | "info" => {
                let notes = if kind == "warn" { &mut eval.warnings } else { &mut eval.infos };
                match notes {
                    ExpectedNotes::Ignored => *notes = ExpectedNotes::These(vec![wanted]),
                    ExpectedNotes::These(list) => list.push(wanted),
                    ExpectedNotes::None => return Err(self.error(format!("expected no {kind} beside no_{kind}"))),
                }
            }
            "no_warn" | "no_info" => {
                let notes = if kind == "no_warn" { &mut eval.warnings } else { &mut eval.infos };
                if let ExpectedNotes::These(_) = notes {
                    return Err(self.error(format!("expected no {kind} beside annotations of that kind")));
                }
                *notes = ExpectedNotes::None;
            }
            _ => {
                return Err(self.error(
                    "expected ordered, fail, warn, no_warn, info, no_info, string or range vector after expect",
                ));
            }
        }
        Ok(())
    }
}
