//! Label matchers: `=`, `!=`, `=~`, `!~`.
//!
//! An absent label matches as the empty string. Expressions match the whole value and `.` matches a
//! newline, as in Prometheus 3.

use std::fmt;

use regex::Regex;

/// Bytes a compiled expression may take: guards against `a{1000}{1000}`.
const REGEX_BYTES_MAX: usize = 4 << 20;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// As written in PromQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// The expression of a matcher does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression {expression:?}: {reason}")]
pub struct MatcherError {
    /// The expression as given.
    pub expression: String,
    /// What the expression engine says of it.
    pub reason: String,
}

/// One condition on one label.
#[derive(Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    test: Test,
}

/// What is run per value; literals are taken out of expressions once, here.
#[derive(Clone)]
enum Test {
    /// Equals the matcher's value (also for an expression without operators).
    Literal,
    /// Equals one of these; from an expression like `a|b|c`. Sorted.
    OneOf(Vec<String>),
    /// Any value at all: `.*`.
    Anything,
    /// Any value but the empty one: `.+`.
    NotEmpty,
    /// A literal with anything around it, as in `abc.*`, `.*abc` and `.*abc.*`.
    Around(Around),
    /// An expression, and the literal that everything it accepts begins with.
    Regex(Regex, String),
}

/// A literal and what may stand before and behind it.
#[derive(Debug, Clone)]
struct Around {
    literal: String,
    before: Any,
    behind: Any,
}

/// What may stand in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Any {
    Nothing,
    /// `.*`
    Text,
    /// `.+`
    SomeText,
}

impl Any {
    /// What `expression` begins with, or ends in, by `strip`; and the rest.
    fn strip<'a>(expression: &'a str, strip: impl Fn(&'a str, &str) -> Option<&'a str>) -> (Any, &'a str) {
        match (strip(expression, ".*"), strip(expression, ".+")) {
            (Some(rest), _) => (Any::Text, rest),
            (_, Some(rest)) => (Any::SomeText, rest),
            (None, None) => (Any::Nothing, expression),
        }
    }
}

impl Around {
    fn matches(&self, value: &str) -> bool {
        // At least one character: the room that `.+` needs is taken off first.
        let inner = match self.before {
            Any::SomeText => value.char_indices().nth(1).map_or("", |(at, _)| &value[at..]),
            Any::Nothing | Any::Text => value,
        };
        if self.before == Any::SomeText && value.is_empty() {
            return false;
        }
        let inner = match self.behind {
            Any::SomeText => match inner.char_indices().next_back() {
                Some((at, _)) => &inner[..at],
                None => return false,
            },
            Any::Nothing | Any::Text => inner,
        };
        match (self.before, self.behind) {
            (Any::Nothing, Any::Nothing) => inner == self.literal,
            (Any::Nothing, _) => inner.starts_with(&self.literal),
            (_, Any::Nothing) => inner.ends_with(&self.literal),
            _ => inner.contains(&self.literal),
        }
    }
}

impl Matcher {
    /// A matcher; expressions are compiled here.
    ///
    /// # Errors
    /// [`MatcherError`] when an expression does not compile or compiles to more than 4 MiB.
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Matcher, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let test = match op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Literal,
            MatchOp::Regex | MatchOp::NotRegex => compile(&value)?,
        };
        Ok(Matcher { name, op, value, test })
    }

    /// `name="value"`, which cannot fail.
    #[must_use]
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher { name: name.into(), op: MatchOp::Equal, value: value.into(), test: Test::Literal }
    }

    /// The label it looks at.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    #[must_use]
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or expression as given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label with this value (empty if absent) satisfies the matcher.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        let hit = match &self.test {
            Test::Literal => value == self.value,
            Test::OneOf(values) => values.binary_search_by(|v| v.as_str().cmp(value)).is_ok(),
            Test::Anything => true,
            Test::NotEmpty => !value.is_empty(),
            Test::Around(around) => around.matches(value),
            Test::Regex(regex, _) => regex.is_match(value),
        };
        hit != self.is_negative()
    }

    /// Whether a series without the label satisfies it.
    #[must_use]
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// Whether it is `!=` or `!~`.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        matches!(self.op, MatchOp::NotEqual | MatchOp::NotRegex)
    }

    /// The finite set of values the positive form accepts, sorted, if that is known without trying:
    /// an index looks these up instead of testing every value.
    #[must_use]
    pub fn literals(&self) -> Option<&[String]> {
        match &self.test {
            Test::Literal => Some(std::slice::from_ref(&self.value)),
            Test::OneOf(values) => Some(values),
            Test::Anything | Test::NotEmpty | Test::Around(_) | Test::Regex(..) => None,
        }
    }

    /// Text that every value the positive form accepts begins with, if there is some: an index need look at no
    /// other values.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        let prefix = match &self.test {
            Test::Around(Around { literal, before: Any::Nothing, .. }) => literal,
            Test::Regex(_, prefix) => prefix,
            Test::Literal | Test::OneOf(_) | Test::Anything | Test::NotEmpty | Test::Around(_) => "",
        };
        (!prefix.is_empty()).then_some(prefix)
    }

    /// Whether every value satisfies it, present or not: `=~".*"`.
    #[must_use]
    pub fn matches_anything(&self) -> bool {
        matches!(self.test, Test::Anything) && !self.is_negative()
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}
impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.name, self.op, &self.value).hash(state);
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn compile(expression: &str) -> Result<Test, MatcherError> {
    match expression {
        ".*" => return Ok(Test::Anything),
        ".+" => return Ok(Test::NotEmpty),
        _ => {}
    }
    if !expression.contains(|c: char| is_operator(c) && c != '|') {
        let mut values: Vec<String> = expression.split('|').map(str::to_owned).collect();
        values.sort_unstable();
        values.dedup();
        return Ok(Test::OneOf(values));
    }
    let (before, rest) = Any::strip(expression, |text, any| text.strip_prefix(any));
    let (behind, literal) = Any::strip(rest, |text, any| text.strip_suffix(any));
    if !literal.is_empty() && !literal.contains(is_operator) {
        return Ok(Test::Around(Around { literal: literal.to_owned(), before, behind }));
    }
    compile_regex(expression).map(|regex| Test::Regex(regex, literal_prefix(expression).to_owned()))
}

/// What every text that the expression accepts begins with, as far as that is plain to see.
fn literal_prefix(expression: &str) -> &str {
    // Brackets and quotes may hide a parenthesis: then no alternative is taken for one inside a group.
    if expression.contains('|') && (expression.contains('[') || expression.contains("\\Q")) {
        return "";
    }
    // An alternative at the top makes every beginning optional; one inside a group ends the literal anyway.
    let mut depth = 0usize;
    let mut chars = expression.char_indices();
    while let Some((_, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return "",
            _ => {}
        }
    }
    let end = expression.find(is_operator).unwrap_or(expression.len());
    let behind = expression[end..].chars().next();
    // These make the character before them optional, or the beginning of something repeated.
    match behind {
        Some('*' | '?' | '{') => expression[..end].char_indices().next_back().map_or("", |(at, _)| &expression[..at]),
        // Whatever stands behind a bracket that was not opened, or behind an anchor, is left to the expression.
        _ => &expression[..end],
    }
}

/// Compiles a whole-value expression in Go's syntax; a brace that starts no repetition is literal.
///
/// # Errors
/// [`MatcherError`] as for [`Matcher::new`].
pub fn compile_regex(expression: &str) -> Result<Regex, MatcherError> {
    let refused = |reason: String| MatcherError { expression: expression.to_owned(), reason };
    let translated = go_syntax(expression).ok_or_else(|| refused("unexpected )".to_owned()))?;
    regex::RegexBuilder::new(&format!("^(?s:{translated})$")).size_limit(REGEX_BYTES_MAX).build().map_err(|e| match e {
        regex::Error::Syntax(text) => {
            refused(text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
        }
        regex::Error::CompiledTooBig(limit) => refused(format!("compiles to more than {limit} bytes")),
        other => refused(other.to_string()),
    })
}

fn is_operator(c: char) -> bool {
    matches!(c, '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '\\' | '|')
}

/// The expression in the `regex` crate's syntax, where Go's differs: a brace that starts no repetition and a
/// bracket inside a class are literal, `\Q…\E` quotes, and `\d`, `\w`, `\s` are ASCII.
///
/// `None` if a parenthesis closes what none opened: it would close the group around the whole expression.
fn go_syntax(expression: &str) -> Option<String> {
    let mut out = String::with_capacity(expression.len() + 8);
    let mut rest = expression;
    let mut open_groups = 0usize;
    let mut open_braces = 0usize;
    // Inside a class: where it began in `rest`'s coordinates does not matter, only whether it may close.
    let mut class: Option<bool> = None;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let is_in_class = class.is_some();
        if c == '\\' {
            if let Some(quoted) = after.strip_prefix('Q').filter(|_| !is_in_class) {
                let (literal, behind) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                out.push_str(&regex::escape(literal));
                rest = behind;
                continue;
            }
            let Some(escaped) = after.chars().next() else {
                out.push('\\');
                break;
            };
            let behind = &after[escaped.len_utf8()..];
            rest = behind;
            match (escaped, is_in_class) {
                ('d', false) => out.push_str("[0-9]"),
                ('d', true) => out.push_str("0-9"),
                ('D', _) => out.push_str("[^0-9]"),
                ('w', false) => out.push_str("[0-9A-Za-z_]"),
                ('w', true) => out.push_str("0-9A-Za-z_"),
                ('W', _) => out.push_str("[^0-9A-Za-z_]"),
                ('s', false) => out.push_str(r"[\t\n\f\r ]"),
                ('s', true) => out.push_str(r"\t\n\f\r "),
                ('S', _) => out.push_str(r"[^\t\n\f\r ]"),
                ('p' | 'P' | 'x', _) if behind.starts_with('{') => {
                    let end = behind.find('}').map_or(behind.len(), |at| at + 1);
                    out.push('\\');
                    out.push(escaped);
                    out.push_str(&behind[..end]);
                    rest = &behind[end..];
                }
                _ => {
                    out.push('\\');
                    out.push(escaped);
                }
            }
            class = class.map(|_| true);
            continue;
        }
        rest = after;
        match (c, class) {
            ('[', None) => {
                class = Some(false);
                out.push('[');
                if let Some(behind) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = behind;
                }
                continue;
            }
            ('[', Some(_)) if rest.starts_with(':') => {
                let end = rest.find(":]").map_or(rest.len(), |at| at + 2);
                out.push('[');
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            ('[', Some(_)) => out.push_str("\\["),
            (']', Some(true)) => {
                out.push(']');
                class = None;
                continue;
            }
            // The first bracket of a class is one of its members.
            (']', Some(false)) => out.push_str("\\]"),
            ('&' | '~', Some(_)) => {
                out.push('\\');
                out.push(c);
            }
            ('(', None) => {
                open_groups += 1;
                out.push('(');
            }
            (')', None) => {
                open_groups = open_groups.checked_sub(1)?;
                out.push(')');
            }
            ('{', None) if !is_repetition(rest) => {
                open_braces += 1;
                out.push_str("\\{");
            }
            ('}', None) if open_braces > 0 => {
                open_braces -= 1;
                out.push_str("\\}");
            }
            _ => out.push(c),
        }
        class = class.map(|_| true);
    }
    Some(out)
}

/// Whether a brace followed by `rest` begins `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(rest: &str) -> bool {
    let Some((inner, _)) = rest.split_once('}') else { return false };
    let (low, high) = inner.split_once(',').unwrap_or((inner, ""));
    !low.is_empty() && low.bytes().chain(high.bytes()).all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(value: &str) -> Matcher {
        Matcher::new("l", MatchOp::Regex, value).unwrap()
    }

    #[test]
    fn expressions_match_the_whole_value_and_dots_match_newlines() {
        for (expression, value, hit) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a|b", "b", true),
            ("a|", "", true),
            ("a|bc", "abc", false),
            ("a.c", "a\nc", true),
            (".*", "", true),
            (".+", "", false),
            (".+", "x\ny", true),
            ("{{x}}", "{{x}}", true),
            ("a{2}", "aa", true),
            (r"\p{Greek}", "\u{3b1}", true),
            (r"\d+", "12", true),
            ("[{}]", "}", true),
            ("[a[b]", "[", true),
            ("[]a]+", "]a", true),
            ("[^]a]", "b", true),
            ("[[:alpha:]]+", "ab", true),
            (r"\Qa.b\E+", "a.bb", true),
            (r"\Qa.b", "axb", false),
            (r"\d", "\u{0661}", false),
            (r"[\d\s]+", "1 2", true),
            (r"\x{61}\p{L}", "ab", true),
            (r"\{\}", "{}", true),
            ("a{,2}", "a{,2}", true),
            ("(?i)A", "a", true),
        ] {
            assert_eq!(regex(expression).matches(value), hit, "{expression:?} on {value:?}");
        }
    }

    #[test]
    fn literals_with_anything_around_them_match_as_their_expressions_do() {
        let values = ["", "a", "ab", "abc", "xabc", "abcx", "xabcx", "abcabc", "äabcä", "ab\ncabc", "xx", "x"];
        for literal in ["abc", "a", "x"] {
            for (before, behind) in
                [("", ".*"), (".*", ""), (".*", ".*"), ("", ".+"), (".+", ""), (".+", ".+"), (".+", ".*")]
            {
                let expression = format!("{before}{literal}{behind}");
                let (quick, slow) = (regex(&expression), compile_regex(&expression).unwrap());
                assert!(matches!(quick.test, Test::Around(_)));
                for value in values {
                    assert_eq!(quick.matches(value), slow.is_match(value), "{expression:?} on {value:?}");
                }
            }
        }
    }

    #[test]
    fn a_prefix_is_what_every_accepted_value_begins_with() {
        for (expression, prefix) in [
            ("node_.*", "node_"),
            ("node_(cpu|memory)_.+", "node_"),
            ("node_cpu?", "node_cp"),
            ("ab{2}", "a"),
            ("ab+", "ab"),
            (".*_total", ""),
            ("abc|abd.*", ""),
            ("foo[(]|x", ""),
            (r"foo\Q(\E|x", ""),
            (r"a\|b.", "a"),
            ("(?i)abc", ""),
            ("a|b", ""),
            ("plain", ""),
        ] {
            assert_eq!(regex(expression).prefix().unwrap_or_default(), prefix, "{expression:?}");
        }
        assert!(regex(".*").matches_anything() && !regex(".+").matches_anything());
        assert!(!Matcher::new("l", MatchOp::NotRegex, ".*").unwrap().matches_anything());
    }

    #[test]
    fn negative_matchers_accept_an_absent_label() {
        assert!(Matcher::new("l", MatchOp::NotEqual, "x").unwrap().matches_empty());
        assert!(!Matcher::new("l", MatchOp::NotRegex, "x|").unwrap().matches_empty());
        assert!(Matcher::equal("l", "").matches_empty());
    }

    #[test]
    fn a_bad_or_huge_expression_is_refused_by_name() {
        let bad = Matcher::new("l", MatchOp::Regex, "a(").unwrap_err();
        assert_eq!(bad.expression, "a(");
        assert!(bad.reason.contains("unclosed group"), "{bad}");
        let unbalanced = Matcher::new("l", MatchOp::Regex, "x)|(y").unwrap_err();
        assert_eq!(unbalanced.reason, "unexpected )");
        let huge = Matcher::new("l", MatchOp::Regex, "((a{100}){100}){100}").unwrap_err();
        assert!(huge.reason.contains("more than"), "{huge}");
    }

    #[test]
    fn literals_are_known_without_trying() {
        assert_eq!(regex("b|a").literals().unwrap(), ["a", "b"]);
        assert!(regex("a.*").literals().is_none());
        assert_eq!(Matcher::equal("l", "v").literals().unwrap(), ["v"]);
    }
}
