//! What Go's `regexp` refuses, in its words.
//!
//! The expression engine compiles a matcher; this reads it first as Go does. It refuses what Go
//! refuses and our engine would take (`a**`, `x{1001}`, a parenthesis that closes our own wrapping),
//! and gives the faults both know the text that clients of Prometheus see.

use std::ops::Range;

/// Go's limit on `{n,m}`.
const REPEAT_MAX: u32 = 1000;

/// Reads through `expression`; the error is Go's text without its `error parsing regexp: `.
pub(crate) fn check(expression: &str) -> Result<(), String> {
    let mut reader = Reader { text: expression, pos: 0 };
    let mut groups_open = 0_usize;
    // Whether what precedes can be repeated, and where the operator began that already does.
    let mut is_atom = false;
    let mut repeated_from = None;
    while let Some(c) = reader.peek() {
        let start = reader.pos;
        let repeated_before = repeated_from.take();
        reader.pos += c.len_utf8();
        match c {
            '(' => {
                groups_open += usize::from(reader.group(start)?);
                is_atom = false;
            }
            ')' if groups_open == 0 => return Err(format!("unexpected ): `{expression}`")),
            ')' => {
                groups_open -= 1;
                is_atom = true;
            }
            '|' => is_atom = false,
            '[' => {
                reader.class(start)?;
                is_atom = true;
            }
            '*' | '+' | '?' => {
                reader.repetition(start, is_atom, repeated_before)?;
                repeated_from = Some(repeated_before.unwrap_or(start));
            }
            '{' if reader.counts(start)? => {
                reader.repetition(start, is_atom, repeated_before)?;
                repeated_from = Some(repeated_before.unwrap_or(start));
            }
            '\\' => {
                reader.escape(start)?;
                is_atom = true;
            }
            _ => is_atom = true,
        }
    }
    if groups_open > 0 {
        return Err(format!("missing closing ): `{expression}`"));
    }
    Ok(())
}

struct Reader<'a> {
    text: &'a str,
    pos: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.pos..].chars().next()
    }

    fn eat(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        let found = self.peek().filter(|&c| wanted(c));
        self.pos += found.map_or(0, char::len_utf8);
        found.is_some()
    }

    fn shown(&self, range: Range<usize>) -> &str {
        &self.text[range]
    }

    /// After `(`: takes `?flags:` or `?P<name>`. `false` for `(?flags)`, which opens no group.
    fn group(&mut self, start: usize) -> Result<bool, String> {
        if !self.eat(|c| c == '?') {
            return Ok(true);
        }
        let rest = &self.text[self.pos..];
        let name = rest.strip_prefix("P<").or_else(|| rest.strip_prefix('<'));
        if let Some(name) = name {
            let Some(len) = name.find('>') else {
                return Err(format!("invalid named capture: `{}`", &self.text[start..]));
            };
            self.pos = self.text.len() - name.len() + len + 1;
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if len == 0 || !name[..len].chars().all(is_word) {
                return Err(format!("invalid named capture: `{}`", self.shown(start..self.pos)));
            }
            return Ok(true);
        }
        while let Some(c) = self.peek() {
            self.pos += c.len_utf8();
            match c {
                'i' | 'm' | 's' | 'U' | '-' => {}
                ':' => return Ok(true),
                ')' => return Ok(false),
                _ => return Err(format!("invalid or unsupported Perl syntax: `{}`", self.shown(start..self.pos))),
            }
        }
        Err(format!("invalid or unsupported Perl syntax: `{}`", &self.text[start..]))
    }

    /// After `[`: takes the class up to and including its `]`.
    fn class(&mut self, start: usize) -> Result<(), String> {
        self.eat(|c| c == '^');
        let mut is_first = true;
        while let Some(c) = self.peek() {
            let at = self.pos;
            self.pos += c.len_utf8();
            match c {
                ']' if !is_first => return Ok(()),
                '[' if self.peek() == Some(':') => {
                    if let Some(len) = self.text[self.pos..].find(":]") {
                        self.pos += len + 2;
                    }
                }
                '\\' => self.escape(at)?,
                _ => {}
            }
            is_first = false;
        }
        Err(format!("missing closing ]: `{}`", &self.text[start..]))
    }

    /// After `{`: takes `n}`, `n,}` or `n,m}` and tells whether that is what came; if not, the brace
    /// means itself.
    fn counts(&mut self, start: usize) -> Result<bool, String> {
        let Some(len) = self.text[self.pos..].find('}') else { return Ok(false) };
        let inner = &self.text[self.pos..self.pos + len];
        let (low, high) = inner.split_once(',').unwrap_or((inner, inner));
        let is_count = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'))
        };
        if !is_count(low) || !(high.is_empty() || is_count(high)) {
            return Ok(false);
        }
        self.pos += len + 1;
        // What is too long for a number is over the limit as well.
        let count = |text: &str| text.parse().unwrap_or(u32::MAX);
        let (low, high) = (count(low), if high.is_empty() { REPEAT_MAX } else { count(high) });
        if low > REPEAT_MAX || high > REPEAT_MAX || low > high {
            return Err(format!("invalid repeat count: `{}`", self.shown(start..self.pos)));
        }
        Ok(true)
    }

    /// After a repetition operator: takes the `?` that makes it lazy, and checks what it repeats.
    fn repetition(&mut self, start: usize, is_atom: bool, repeated_from: Option<usize>) -> Result<(), String> {
        self.eat(|c| c == '?');
        if let Some(from) = repeated_from {
            return Err(format!("invalid nested repetition operator: `{}`", self.shown(from..self.pos)));
        }
        if !is_atom {
            return Err(format!("missing argument to repetition operator: `{}`", self.shown(start..self.pos)));
        }
        Ok(())
    }

    /// After `\`: takes the escape.
    fn escape(&mut self, start: usize) -> Result<(), String> {
        let Some(c) = self.peek() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        self.pos += c.len_utf8();
        let is_octal = |c: char| ('0'..='7').contains(&c);
        match c {
            'Q' => {
                let rest = &self.text[self.pos..];
                self.pos += rest.find("\\E").map_or(rest.len(), |len| len + 2);
            }
            '1'..='7' if !self.peek().is_some_and(is_octal) => return Err(self.bad_escape(start)),
            '0'..='7' => {
                self.eat(is_octal);
                self.eat(is_octal);
            }
            'p' | 'P' | 'x' if self.peek() == Some('{') => {
                let Some(len) = self.text[self.pos..].find('}') else {
                    return Err(self.bad_escape(start));
                };
                self.pos += len + 1;
            }
            'A' | 'B' | 'D' | 'P' | 'S' | 'W' | 'a' | 'b' | 'd' | 'f' | 'n' | 'p' | 'r' | 's' | 't' | 'v' | 'w'
            | 'x' | 'z' => {}
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() => {}
            _ => return Err(self.bad_escape(start)),
        }
        Ok(())
    }

    fn bad_escape(&self, start: usize) -> String {
        format!("invalid escape sequence: `{}`", self.shown(start..self.pos))
    }
}
