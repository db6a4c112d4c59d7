//! Text to words.
//!
//! PromQL's words depend on where they stand: inside braces there are no keywords, inside brackets
//! no identifiers. The lexer therefore keeps track of what is open, and is asked for one word at a
//! time so that an error further on does not hide one the parser would find first.

use super::ast::{BinaryOp, Span};
use super::error::Fault;
use super::quote::{code_point, quoted, quoted_char};
use super::token::{Keyword, Token, TokenKind, reserved};

/// Where in `[range:step]` the lexer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bracket {
    Closed,
    /// Nothing but signs, parentheses and query words so far.
    Opened,
    /// A number was read. Upstream then words its complaints differently.
    AfterNumber,
}

pub(super) struct Lexer<'a> {
    query: &'a str,
    pos: usize,
    parens: usize,
    in_braces: bool,
    bracket: Bracket,
    got_duration: bool,
    got_colon: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(query: &'a str) -> Self {
        Self {
            query,
            pos: 0,
            parens: 0,
            in_braces: false,
            bracket: Bracket::Closed,
            got_duration: false,
            got_colon: false,
        }
    }

    /// The next word; [`TokenKind::Eof`] again and again at the end.
    pub(super) fn next_token(&mut self) -> Result<Token, Fault> {
        loop {
            self.skip(is_space);
            // Upstream has no comments between `[` and the first number.
            let comments = self.in_braces || self.bracket != Bracket::Opened;
            if !comments || self.peek() != Some('#') {
                break;
            }
            self.skip(|c| c != '\n' && c != '\r');
        }
        let start = self.pos;
        let kind = if self.in_braces {
            self.in_braces(start)?
        } else if self.bracket == Bracket::Opened {
            self.in_bracket(start)?
        } else {
            self.in_statement(start)?
        };
        Ok(Token { kind, span: Span::new(start as u32, self.pos as u32) })
    }

    fn in_statement(&mut self, start: usize) -> Result<TokenKind, Fault> {
        let Some(c) = self.bump() else {
            return if self.parens != 0 {
                Err(self.fault(start, "unclosed left parenthesis"))
            } else if self.bracket != Bracket::Closed {
                Err(self.fault(start, "unclosed left bracket"))
            } else {
                Ok(TokenKind::Eof)
            };
        };
        Ok(match c {
            ',' => TokenKind::Comma,
            '*' => TokenKind::Operator(BinaryOp::Mul),
            '/' => TokenKind::Operator(BinaryOp::Div),
            '%' => TokenKind::Operator(BinaryOp::Mod),
            '+' => TokenKind::Operator(BinaryOp::Add),
            '-' => TokenKind::Operator(BinaryOp::Sub),
            '^' => TokenKind::Operator(BinaryOp::Pow),
            '@' => TokenKind::At,
            '=' if self.eat('=') => TokenKind::Operator(BinaryOp::Equal),
            '=' if self.peek() == Some('~') => {
                return Err(self.fault(start, "unexpected character after '=': '~'"));
            }
            '=' => TokenKind::Assign,
            '!' if self.eat('=') => TokenKind::Operator(BinaryOp::NotEqual),
            '!' => {
                let next = quoted_char(self.peek());
                return Err(self.fault(start, format!("unexpected character after '!': {next}")));
            }
            '<' if self.eat('=') => TokenKind::Operator(BinaryOp::LessOrEqual),
            '<' if self.eat('/') => TokenKind::Operator(BinaryOp::TrimUpper),
            '<' => TokenKind::Operator(BinaryOp::Less),
            '>' if self.eat('=') => TokenKind::Operator(BinaryOp::GreaterOrEqual),
            '>' if self.eat('/') => TokenKind::Operator(BinaryOp::TrimLower),
            '>' => TokenKind::Operator(BinaryOp::Greater),
            '(' => self.left_paren(),
            ')' => self.right_paren()?,
            '{' => {
                self.in_braces = true;
                TokenKind::LeftBrace
            }
            '[' if self.bracket == Bracket::Closed => {
                self.bracket = Bracket::Opened;
                self.got_duration = false;
                self.got_colon = false;
                TokenKind::LeftBracket
            }
            '[' => return Err(self.fault(start, "unexpected left bracket '['")),
            ']' if self.bracket == Bracket::Closed => {
                return Err(self.fault(start, "unexpected right bracket ']'"));
            }
            ']' => self.right_bracket(),
            '"' | '\'' | '`' => self.string(start, c)?,
            _ if is_digit(c) || (c == '.' && self.peek().is_some_and(is_digit)) => {
                self.pos = start;
                self.number_or_duration(start)?
            }
            _ if is_alpha(c) || c == ':' => {
                if self.bracket == Bracket::Closed {
                    return Ok(self.word(start));
                }
                if c == ':' {
                    if self.got_colon {
                        return Err(self.fault(start, "unexpected colon ':'"));
                    }
                    self.got_colon = true;
                    return Ok(TokenKind::Colon);
                }
                let message = || {
                    let c = quoted_char(Some(c));
                    format!("unexpected character: {c}, expected ':'")
                };
                self.query_word(start, message)?
            }
            _ => {
                let c = quoted_char(Some(c));
                return Err(self.fault(start, format!("unexpected character: {c}")));
            }
        })
    }

    fn in_bracket(&mut self, start: usize) -> Result<TokenKind, Fault> {
        let Some(c) = self.bump() else {
            return Err(self.fault(start, "unexpected end of input in duration expression"));
        };
        let unexpected = || {
            let c = quoted_char(Some(c));
            format!("unexpected character in duration expression: {c}")
        };
        Ok(match c {
            ']' => self.right_bracket(),
            ':' if !self.got_duration => {
                let message = "unexpected colon before duration in duration expression";
                return Err(self.fault(self.pos, message));
            }
            ':' if self.got_colon => {
                let message = "unexpected repeated colon in duration expression";
                return Err(self.fault(self.pos, message));
            }
            ':' => {
                self.got_colon = true;
                TokenKind::Colon
            }
            '(' => self.left_paren(),
            ')' => self.right_paren()?,
            '+' => TokenKind::Operator(BinaryOp::Add),
            '-' => TokenKind::Operator(BinaryOp::Sub),
            '*' => TokenKind::Operator(BinaryOp::Mul),
            '/' => TokenKind::Operator(BinaryOp::Div),
            '%' => TokenKind::Operator(BinaryOp::Mod),
            '^' => TokenKind::Operator(BinaryOp::Pow),
            ',' => TokenKind::Comma,
            _ if is_digit(c) || (c == '.' && self.peek().is_some_and(is_digit)) => {
                self.pos = start;
                self.got_duration = true;
                self.bracket = Bracket::AfterNumber;
                self.number_or_duration(start)?
            }
            _ if is_alpha(c) => self.query_word(start, unexpected)?,
            _ => return Err(self.fault(start, unexpected())),
        })
    }

    fn in_braces(&mut self, start: usize) -> Result<TokenKind, Fault> {
        let Some(c) = self.bump() else {
            return Err(self.fault(start, "unexpected end of input inside braces"));
        };
        Ok(match c {
            ',' => TokenKind::Comma,
            '"' | '\'' | '`' => self.string(start, c)?,
            '=' if self.eat('~') => TokenKind::MatchRegex,
            '=' => TokenKind::Assign,
            '!' if self.eat('~') => TokenKind::MatchNotRegex,
            '!' if self.eat('=') => TokenKind::Operator(BinaryOp::NotEqual),
            '!' => {
                let next = quoted_char(self.peek());
                let message = format!("unexpected character after '!' inside braces: {next}");
                return Err(self.fault(start, message));
            }
            '{' => return Err(self.fault(start, "unexpected left brace '{'")),
            '}' => {
                self.in_braces = false;
                TokenKind::RightBrace
            }
            _ if is_alpha(c) => {
                self.skip(is_alphanumeric);
                TokenKind::Identifier
            }
            _ => {
                let message = format!("unexpected character inside braces: {}", quoted_char(Some(c)));
                return Err(self.fault(start, message));
            }
        })
    }

    fn left_paren(&mut self) -> TokenKind {
        self.parens += 1;
        TokenKind::LeftParen
    }

    fn right_paren(&mut self) -> Result<TokenKind, Fault> {
        if self.parens == 0 {
            // Upstream notices once it has passed the parenthesis.
            return Err(self.fault(self.pos, "unexpected right parenthesis ')'"));
        }
        self.parens -= 1;
        Ok(TokenKind::RightParen)
    }

    fn right_bracket(&mut self) -> TokenKind {
        self.bracket = Bracket::Closed;
        TokenKind::RightBracket
    }

    /// An identifier or keyword; its first character was read.
    fn word(&mut self, start: usize) -> TokenKind {
        self.skip(|c| is_alphanumeric(c) || c == ':');
        let word = &self.query[start..self.pos];
        match reserved(word) {
            // `fill` became a keyword late, and stays a metric name unless a value follows.
            Some(TokenKind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.query[self.pos..].trim_start_matches(is_space).starts_with('(') =>
            {
                TokenKind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => TokenKind::MetricIdentifier,
            None => TokenKind::Identifier,
        }
    }

    /// The words that brackets know; the first character was read.
    fn query_word(&mut self, start: usize, unexpected: impl FnOnce() -> String) -> Result<TokenKind, Fault> {
        self.skip(is_alpha);
        use super::token::QueryWord::{MaxOf, MinOf, Range, Step};
        match reserved(&self.query[start..self.pos]) {
            Some(kind @ TokenKind::Query(Step | Range | MinOf | MaxOf)) => {
                self.got_duration = true;
                Ok(kind)
            }
            _ => Err(self.fault(start, unexpected())),
        }
    }

    /// A quoted string; its first quote was read.
    fn string(&mut self, start: usize, quote: char) -> Result<TokenKind, Fault> {
        let raw = quote == '`';
        loop {
            match self.bump() {
                Some(c) if c == quote => return Ok(TokenKind::String),
                Some('\\') if !raw => self.escape(start, quote)?,
                Some(char::REPLACEMENT_CHARACTER) => {
                    return Err(self.fault(start, "invalid UTF-8 rune"));
                }
                None if raw => return Err(self.fault(start, "unterminated raw string")),
                None => return Err(self.fault(start, "unterminated quoted string")),
                Some('\n') if !raw => {
                    return Err(self.fault(start, "unterminated quoted string"));
                }
                Some(_) => {}
            }
        }
    }

    /// Checks an escape sequence; its backslash was read.
    fn escape(&mut self, start: usize, quote: char) -> Result<(), Fault> {
        let (digits, radix, max) = match self.bump() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(c) if c == quote => return Ok(()),
            Some('0'..='7') => {
                self.pos -= 1;
                (3, 8, 255)
            }
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, char::MAX as u32),
            Some('U') => (8, 16, char::MAX as u32),
            None => return Err(self.fault(start, "escape sequence not terminated")),
            Some(c) => {
                let message = format!("unknown escape sequence {}", code_point(c));
                return Err(self.fault(start, message));
            }
        };
        let mut value: u64 = 0;
        for _ in 0..digits {
            let Some(c) = self.bump() else {
                return Err(self.fault(start, "escape sequence not terminated"));
            };
            let Some(digit) = c.to_digit(radix) else {
                let message = format!("illegal character {} in escape sequence", code_point(c));
                return Err(self.fault(start, message));
            };
            value = value * u64::from(radix) + u64::from(digit);
        }
        if value > u64::from(max) || (0xd800..0xe000).contains(&value) {
            let message = "escape sequence is an invalid Unicode code point";
            return Err(self.fault(start, message));
        }
        Ok(())
    }

    fn number_or_duration(&mut self, start: usize) -> Result<TokenKind, Fault> {
        if self.scan_number() {
            return Ok(TokenKind::Number);
        }
        if self.scan_duration_rest() {
            return Ok(TokenKind::Duration);
        }
        let text = quoted(&self.query[start..self.pos]);
        Err(self.fault(start, format!("bad number or duration syntax: {text}")))
    }

    /// Passes over what looks like a number. The quirks (one `e` among the digits of `0x…`, no `_`
    /// after `.`) are upstream's.
    fn scan_number(&mut self) -> bool {
        let mut is_number_digit: fn(char) -> bool = is_digit;
        let mut is_hex = false;
        if self.eat('0') && (self.eat('x') || self.eat('X')) {
            self.eat('_');
            is_number_digit = |c| c.is_ascii_hexdigit();
            is_hex = true;
        }
        self.eat('.');
        self.eat_if(is_number_digit);
        let (mut got_dot, mut got_exponent) = (false, false);
        while let Some(c) = self.peek() {
            match c {
                '.' => {
                    self.pos += 1;
                    if got_dot || self.eat_if(|c| c == '_' || c == '.') || is_hex {
                        return false;
                    }
                    got_dot = true;
                }
                'e' | 'E' => {
                    self.pos += 1;
                    if got_exponent {
                        return false;
                    }
                    got_exponent = true;
                    self.eat_if(|c| c == '+' || c == '-');
                    if self.eat_if(|c| "._eE".contains(c)) || self.peek().is_none() {
                        return false;
                    }
                }
                '_' => {
                    self.pos += 1;
                    if self.eat_if(|c| "._eE".contains(c)) || self.peek().is_none() {
                        return false;
                    }
                }
                c if is_number_digit(c) => self.skip(is_number_digit),
                _ => break,
            }
        }
        !self.peek().is_some_and(is_alphanumeric)
    }

    /// Passes over units and further numbers; the first number was read.
    fn scan_duration_rest(&mut self) -> bool {
        if !self.eat_if(|c| "smhdwy".contains(c)) {
            return false;
        }
        self.eat('s');
        while self.eat_if(is_digit) {
            self.skip(is_digit);
            if !self.eat_if(|c| "smhdw".contains(c)) {
                return false;
            }
            self.eat('s');
        }
        if self.peek().is_some_and(is_alphanumeric) {
            self.bump();
            return false;
        }
        true
    }

    fn fault(&self, start: usize, message: impl Into<String>) -> Fault {
        Fault::new(Span::new(start as u32, self.query.len() as u32), message.into())
    }

    fn peek(&self) -> Option<char> {
        self.query[self.pos..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.eat_if(|c| c == wanted)
    }

    fn eat_if(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        let found = self.peek().filter(|&c| wanted(c));
        self.pos += found.map_or(0, char::len_utf8);
        found.is_some()
    }

    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        let rest = &self.query[self.pos..];
        self.pos = self.query.len() - rest.trim_start_matches(wanted).len();
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn is_alpha(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || is_digit(c)
}
