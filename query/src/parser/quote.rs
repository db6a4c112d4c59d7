//! Strings as Go writes and reads them, for error texts, printing and string literals.

use std::fmt::Write;

/// `%q` of a string: double quotes, Go escapes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// Appends `%q` of a string.
pub(super) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        push_escaped(out, c, '"');
    }
    out.push('"');
}

/// `%q` of a rune; the end of input has none and prints as the replacement character.
pub(super) fn quoted_char(c: Option<char>) -> String {
    let mut out = String::from("'");
    match c {
        Some(c) => push_escaped(&mut out, c, '\''),
        None => out.push(char::REPLACEMENT_CHARACTER),
    }
    out.push('\'');
    out
}

/// `%#U` of a rune: `U+0064 'd'`.
pub(super) fn code_point(c: char) -> String {
    let mut out = format!("U+{:04X}", c as u32);
    if is_print(c) {
        out.push_str(" '");
        out.push(c);
        out.push('\'');
    }
    out
}

fn push_escaped(out: &mut String, c: char, quote: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        _ if c == quote => {
            out.push('\\');
            out.push(c);
        }
        _ if is_print(c) => out.push(c),
        // Writing to a String cannot fail.
        _ if c < '\u{80}' => drop(write!(out, "\\x{:02x}", c as u32)),
        _ if c < '\u{10000}' => drop(write!(out, "\\u{:04x}", c as u32)),
        _ => drop(write!(out, "\\U{:08x}", c as u32)),
    }
}

/// Go's `unicode.IsPrint`, by the tables behind `escape_debug`: those differ only for marks, which
/// Go prints and this escapes, and that reads back as the same string. U+FFFD is escaped because a
/// query may not hold it as it is.
fn is_print(c: char) -> bool {
    !c.is_control() && c != char::REPLACEMENT_CHARACTER && (c.is_ascii() || c.escape_debug().len() == 1)
}

/// The value of a string literal as it stands in the query, quotes included.
///
/// Bytes that an escape such as `\xff` makes and that are not UTF-8 become U+FFFD: labels are
/// UTF-8 throughout, and a JSON answer of Prometheus shows the same.
pub(super) fn unquote(literal: &str) -> String {
    String::from_utf8(string_literal_bytes(literal))
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The bytes of a string literal as it stands in the query, quotes included.
///
/// The tree holds text, in which `\xff` became U+FFFD. Where it matters that a string is not UTF-8,
/// as for a label name, this tells from the literal's span.
pub fn string_literal_bytes(literal: &str) -> Vec<u8> {
    let mut chars = literal.chars();
    let quote = chars.next();
    chars.next_back();
    let body = chars.as_str();
    if quote == Some('`') || !body.contains('\\') {
        return body.as_bytes().to_vec();
    }
    let mut out: Vec<u8> = Vec::with_capacity(body.len());
    let mut rest = body.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            push_char(&mut out, c);
            continue;
        }
        match rest.next() {
            Some('a') => out.push(0x07),
            Some('b') => out.push(0x08),
            Some('f') => out.push(0x0c),
            Some('n') => out.push(b'\n'),
            Some('r') => out.push(b'\r'),
            Some('t') => out.push(b'\t'),
            Some('v') => out.push(0x0b),
            Some('x') => out.push(take_digits(&mut rest, 2, 16) as u8),
            Some('u') => push_code(&mut out, take_digits(&mut rest, 4, 16)),
            Some('U') => push_code(&mut out, take_digits(&mut rest, 8, 16)),
            Some(first @ '0'..='7') => {
                let high = first as u32 - '0' as u32;
                out.push((high * 64 + take_digits(&mut rest, 2, 8)) as u8);
            }
            Some(other) => push_char(&mut out, other),
            None => {}
        }
    }
    out
}

fn take_digits(chars: &mut std::str::Chars<'_>, count: usize, radix: u32) -> u32 {
    chars
        .by_ref()
        .take(count)
        .filter_map(|c| c.to_digit(radix))
        .fold(0, |value: u32, digit| value.wrapping_mul(radix).wrapping_add(digit))
}

fn push_code(out: &mut Vec<u8>, code: u32) {
    push_char(out, char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
