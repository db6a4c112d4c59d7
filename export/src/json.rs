//! JSON strings as Go's encoder writes them: clients of the API compare bytes.

/// How a byte is written inside a JSON string.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    /// Control characters, quote, backslash, and the three that HTML minds.
    Escaped,
    /// May begin U+2028 or U+2029, which JavaScript minds.
    Separator,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Plain; 256];
    let mut byte = 0;
    while byte < 0x20 {
        classes[byte] = Class::Escaped;
        byte += 1;
    }
    classes[b'"' as usize] = Class::Escaped;
    classes[b'\\' as usize] = Class::Escaped;
    classes[b'<' as usize] = Class::Escaped;
    classes[b'>' as usize] = Class::Escaped;
    classes[b'&' as usize] = Class::Escaped;
    classes[0xe2] = Class::Separator;
    classes
};

/// Most bytes that one byte of text becomes (`\u0001`).
#[cfg(feature = "api")]
pub(crate) const ESCAPED_BYTES_MAX: usize = 6;

/// Appends `text` as a JSON string, quotes included.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    let mut at = 0;
    while at < bytes.len() {
        match CLASSES[usize::from(bytes[at])] {
            Class::Plain => at += 1,
            Class::Escaped => {
                out.extend_from_slice(&bytes[written..at]);
                write_escape(out, bytes[at]);
                at += 1;
                written = at;
            }
            Class::Separator => {
                if let [0x80, last @ (0xa8 | 0xa9)] = bytes[at + 1..at + 3] {
                    out.extend_from_slice(&bytes[written..at]);
                    out.extend_from_slice(if last == 0xa8 { br"\u2028" } else { br"\u2029" });
                    written = at + 3;
                }
                // 0xe2 begins a character of three bytes.
                at += 3;
            }
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.extend_from_slice(br#"\""#),
        b'\\' => out.extend_from_slice(br"\\"),
        b'\n' => out.extend_from_slice(br"\n"),
        b'\r' => out.extend_from_slice(br"\r"),
        b'\t' => out.extend_from_slice(br"\t"),
        _ => {
            out.extend_from_slice(br"\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_does() {
        let rows = [
            ("", r#""""#),
            ("up", r#""up""#),
            ("a\"b\\c\n\r\t", r#""a\"b\\c\n\r\t""#),
            ("\u{1}\u{1f}\u{7f}", "\"\\u0001\\u001f\u{7f}\""),
            ("<a&b>", r#""\u003ca\u0026b\u003e""#),
            ("x\u{2028}y\u{2029}", r#""x\u2028y\u2029""#),
            ("€ 温度 \u{2027}…\u{1f600}", "\"€ 温度 \u{2027}…\u{1f600}\""),
        ];
        for (text, json) in rows {
            let mut out = Vec::new();
            write_string(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), json);
        }
    }
}
