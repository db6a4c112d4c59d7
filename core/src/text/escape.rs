//! The one escaper: quoted strings as Go and PromQL write them, and exposition text.

use std::borrow::Cow;
use std::fmt;

use super::sink::{Relay, TextSink, push_display};

/// Appends `text` in double quotes as Go's `strconv.Quote` does.
///
/// Printable characters of any script stay; control and other invisible characters become `\n`,
/// `\x7f`, `\u200b` or `\U000e0001`.
pub fn write_quoted<S: TextSink + ?Sized>(out: &mut S, text: &str) {
    out.push_str("\"");
    let mut plain_start = 0;
    for (at, c) in text.char_indices() {
        if is_plain(c) {
            continue;
        }
        out.push_str(&text[plain_start..at]);
        plain_start = at + c.len_utf8();
        write_escaped_char(out, c);
    }
    out.push_str(&text[plain_start..]);
    out.push_str("\"");
}

fn is_plain(c: char) -> bool {
    match c {
        '"' | '\\' => false,
        ' '..='~' => true,
        _ => !c.is_ascii() && is_printable(c),
    }
}

fn write_escaped_char<S: TextSink + ?Sized>(out: &mut S, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        _ => {
            let code = u32::from(c);
            match code {
                0..0x80 => push_display(out, format_args!("\\x{code:02x}")),
                0x80..0x1_0000 => push_display(out, format_args!("\\u{code:04x}")),
                _ => push_display(out, format_args!("\\U{code:08x}")),
            }
        }
    }
}

/// Go's `unicode.IsPrint` for a character that is not ASCII.
///
/// The standard library knows the same classes but does not say so directly. `str::escape_debug`
/// escapes exactly the unprintable characters, except that a combining mark at the very start is
/// escaped too; so the question is asked with a letter in front.
fn is_printable(c: char) -> bool {
    let mut bytes = [b'a'; 5];
    let len = 1 + c.encode_utf8(&mut bytes[1..]).len();
    let text = std::str::from_utf8(&bytes[..len]).unwrap_or_default();
    text.escape_debug().nth(1) == Some(c)
}

/// Text that displays in double quotes, as [`write_quoted`] writes it (Go's `%q`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotedText<'a>(pub &'a str);

impl fmt::Display for QuotedText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut relay = Relay::new(f);
        write_quoted(&mut relay, self.0);
        relay.result
    }
}

/// Why a quoted string cannot be read, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct UnquoteError {
    /// Byte offset in the text that was to be read.
    pub offset: usize,
    /// What is wrong there.
    pub reason: UnquoteReason,
}

/// What is wrong with a quoted string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnquoteReason {
    /// The text does not begin with `"`, `'` or a backquote.
    #[error("expected a quoted string")]
    NotQuoted,
    /// The closing quote is missing, or a line ends before it.
    #[error("unterminated quoted string")]
    Unterminated,
    /// A backslash followed by something that is no escape.
    #[error("invalid escape sequence")]
    Escape,
    /// Byte escapes (`\xff`, `\377`) that together are not UTF-8.
    #[error("escaped bytes are not valid UTF-8")]
    Utf8,
    /// Something follows the closing quote.
    #[error("unexpected text after the closing quote")]
    Trailing,
}

/// Reads a whole string literal of PromQL: `"…"`, `'…'` with Go's escapes, or a raw `` `…` ``.
///
/// Borrows when nothing was escaped.
///
/// # Errors
/// [`UnquoteError`].
pub fn unquote(text: &str) -> Result<Cow<'_, str>, UnquoteError> {
    let (value, len) = unquote_prefix(text)?;
    if len < text.len() {
        return Err(UnquoteError { offset: len, reason: UnquoteReason::Trailing });
    }
    Ok(value)
}

/// Reads the string literal that `text` begins with; also returns the bytes it takes, quotes
/// included.
///
/// # Errors
/// [`UnquoteError`], never [`UnquoteReason::Trailing`].
pub fn unquote_prefix(text: &str) -> Result<(Cow<'_, str>, usize), UnquoteError> {
    let error = |offset, reason| UnquoteError { offset, reason };
    let bytes = text.as_bytes();
    let quote = match bytes.first() {
        Some(&quote @ (b'"' | b'\'' | b'`')) => quote,
        _ => return Err(error(0, UnquoteReason::NotQuoted)),
    };
    if quote == b'`' {
        let len = text[1..].find('`').ok_or(error(text.len(), UnquoteReason::Unterminated))?;
        return Ok((Cow::Borrowed(&text[1..=len]), len + 2));
    }
    // Bytes, because `\xe4\xbd\xa0` spells one character in three escapes.
    let mut unescaped: Option<Vec<u8>> = None;
    let mut at = 1;
    loop {
        match bytes.get(at) {
            None | Some(b'\n') => return Err(error(at, UnquoteReason::Unterminated)),
            Some(&byte) if byte == quote => break,
            Some(b'\\') => {
                let out = unescaped.get_or_insert_with(|| bytes[1..at].to_vec());
                at += read_escape(&bytes[at..], quote, out).ok_or(error(at, UnquoteReason::Escape))?;
            }
            Some(&byte) => {
                if let Some(out) = &mut unescaped {
                    out.push(byte);
                }
                at += 1;
            }
        }
    }
    let value = match unescaped {
        None => Cow::Borrowed(&text[1..at]),
        Some(out) => Cow::Owned(String::from_utf8(out).map_err(|_| error(0, UnquoteReason::Utf8))?),
    };
    Ok((value, at + 1))
}

/// Reads one escape, appends what it stands for, returns its length.
fn read_escape(text: &[u8], quote: u8, out: &mut Vec<u8>) -> Option<usize> {
    let simple = match *text.get(1)? {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' => b'\\',
        byte if byte == quote => quote,
        b'x' => {
            out.push(code(text, 2, 2, 16)? as u8);
            return Some(4);
        }
        b'0'..=b'7' => {
            out.push(u8::try_from(code(text, 1, 3, 8)?).ok()?);
            return Some(4);
        }
        kind @ (b'u' | b'U') => {
            let digits = if kind == b'u' { 4 } else { 8 };
            let c = char::from_u32(code(text, 2, digits, 16)?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(2 + digits);
        }
        _ => return None,
    };
    out.push(simple);
    Some(2)
}

fn code(text: &[u8], start: usize, digits: usize, radix: u32) -> Option<u32> {
    text.get(start..start + digits)?
        .iter()
        .try_fold(0_u32, |value, &byte| value.checked_mul(radix)?.checked_add(char::from(byte).to_digit(radix)?))
}

/// Appends a label value as the exposition formats escape it: `\\`, `\n`, `\"`; no quotes around.
pub fn write_escaped_label_value<S: TextSink + ?Sized>(out: &mut S, value: &str) {
    write_replaced(out, value, |byte| match byte {
        b'\\' => Some("\\\\"),
        b'\n' => Some("\\n"),
        b'"' => Some("\\\""),
        _ => None,
    });
}

/// Appends a help text as the Prometheus text format escapes it: `\\` and `\n`.
///
/// OpenMetrics escapes quotes too: there, help is a label value.
pub fn write_escaped_help<S: TextSink + ?Sized>(out: &mut S, help: &str) {
    write_replaced(out, help, |byte| match byte {
        b'\\' => Some("\\\\"),
        b'\n' => Some("\\n"),
        _ => None,
    });
}

fn write_replaced<S: TextSink + ?Sized>(out: &mut S, text: &str, replacement: impl Fn(u8) -> Option<&'static str>) {
    let mut plain_start = 0;
    for (at, byte) in text.bytes().enumerate() {
        if let Some(escaped) = replacement(byte) {
            out.push_str(&text[plain_start..at]);
            out.push_str(escaped);
            plain_start = at + 1;
        }
    }
    out.push_str(&text[plain_start..]);
}

/// Reads an exposition label value or help text, without its quotes.
///
/// A backslash before anything but `\`, `n` and `"` stands for itself, as in Prometheus. Borrows
/// when there is no backslash.
pub fn unescape_label_value(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (c, len) = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => ('\\', 2),
            Some(b'n') => ('\n', 2),
            Some(b'"') => ('"', 2),
            _ => ('\\', 1),
        };
        out.push(c);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quoted(text: &str) -> String {
        QuotedText(text).to_string()
    }

    #[test]
    fn quotes_as_go_does() {
        let rows = [
            ("", r#""""#),
            ("abc", r#""abc""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\u{7}\u{8}\u{c}\n\r\t\u{b}", r#""\a\b\f\n\r\t\v""#),
            ("\0\u{1f}\u{7f}", r#""\x00\x1f\x7f""#),
            ("温度 ☺ é", r#""温度 ☺ é""#),
            ("e\u{301}", "\"e\u{301}\""),
            ("\u{301}", "\"\u{301}\""),
            ("\u{a0}\u{200b}\u{2028}\u{feff}", r#""\u00a0\u200b\u2028\ufeff""#),
            ("\u{10ffff}\u{e0001}", r#""\U0010ffff\U000e0001""#),
            ("\u{fffd}", "\"\u{fffd}\""),
        ];
        for (text, expected) in rows {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn reads_every_kind_of_quote() {
        let rows = [
            (r#""a\"b""#, "a\"b"),
            (r"'a\'b'", "a'b"),
            (r#"'a"b'"#, "a\"b"),
            (r"`a\d\n`", r"a\d\n"),
            (r#""\x41\101\u0041\U00000041""#, "AAAA"),
            (r#""\xe4\xbd\xa0""#, "你"),
            ("\"温度\"", "温度"),
        ];
        for (text, value) in rows {
            assert_eq!(unquote(text).unwrap(), value, "{text}");
        }
        assert!(matches!(unquote("'plain'"), Ok(Cow::Borrowed("plain"))));
        assert_eq!(unquote_prefix(r#""a\n" rest"#), Ok((Cow::Owned("a\n".to_owned()), 5)));
    }

    #[test]
    fn says_where_a_quoted_string_is_wrong() {
        let rows = [
            ("abc", 0, UnquoteReason::NotQuoted),
            ("", 0, UnquoteReason::NotQuoted),
            ("\"abc", 4, UnquoteReason::Unterminated),
            ("`abc", 4, UnquoteReason::Unterminated),
            ("\"a\nb\"", 2, UnquoteReason::Unterminated),
            (r#""a\'""#, 2, UnquoteReason::Escape),
            (r#""\d""#, 1, UnquoteReason::Escape),
            (r#""\xg0""#, 1, UnquoteReason::Escape),
            (r#""\400""#, 1, UnquoteReason::Escape),
            (r#""\ud800""#, 1, UnquoteReason::Escape),
            (r#""\"#, 1, UnquoteReason::Escape),
            (r#""\xff""#, 0, UnquoteReason::Utf8),
            (r#""a"b"#, 3, UnquoteReason::Trailing),
        ];
        for (text, offset, reason) in rows {
            assert_eq!(unquote(text), Err(UnquoteError { offset, reason }), "{text}");
        }
    }

    #[test]
    fn exposition_escapes_are_exactly_three() {
        let mut out = Vec::new();
        write_escaped_label_value(&mut out, "a\\b\n\"c\"\t");
        assert_eq!(out, b"a\\\\b\\n\\\"c\\\"\t");
        let mut help = String::new();
        write_escaped_help(&mut help, "a\\b\n\"c\"");
        assert_eq!(help, "a\\\\b\\n\"c\"");
        assert_eq!(unescape_label_value(r"C:\dir\\x\"), r"C:\dir\x\");
    }

    proptest! {
        #[test]
        fn quoted_text_reads_back(text: String) {
            let literal = quoted(&text);
            prop_assert_eq!(unquote(&literal).unwrap(), text);
        }

        #[test]
        fn escaped_label_values_read_back(text in "[a\\\\n\"\n é]{0,20}") {
            let mut escaped = String::new();
            write_escaped_label_value(&mut escaped, &text);
            prop_assert!(!escaped.contains('\n'));
            prop_assert_eq!(unescape_label_value(&escaped), text);
        }

        #[test]
        fn any_text_is_answered(text in "[\"'`\\\\xuU0-9a-f]{0,16}") {
            if let Ok((_, len)) = unquote_prefix(&text) {
                prop_assert!(len <= text.len());
            }
        }
    }
}
