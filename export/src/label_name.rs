//! Names where only plain ones can stand (a URL's path, the text format): the `U__` escaping of names that are not `[a-zA-Z_:][a-zA-Z0-9_:]*`.
//!
//! `U__` + the name, where `_` is `__` and any other odd character is `_` + its code point in hex + `_`.

/// The name that `escaped` stands for; text that is not a well-formed escape stands for itself.
#[cfg(feature = "api")]
pub(crate) fn unescape(escaped: &str) -> String {
    escaped.strip_prefix(PREFIX).and_then(unescape_rest).unwrap_or_else(|| escaped.to_owned())
}

/// How an escaped name begins.
pub(crate) const PREFIX: &str = "U__";

/// Hex digits of the largest code point.
#[cfg(feature = "api")]
const DIGITS_MAX: usize = 6;

#[cfg(feature = "api")]
fn unescape_rest(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('_') {
        name.push_str(plain);
        let (code, after) = escape.split_once('_')?;
        match code {
            "" => name.push('_'),
            _ if code.len() > DIGITS_MAX || !code.bytes().all(|b| b.is_ascii_hexdigit()) => return None,
            _ => name.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?),
        }
        rest = after;
    }
    name.push_str(rest);
    Some(name)
}

/// A form of `name` that [`unescape`] reads back; a plain name is its own.
#[cfg(any(feature = "client", feature = "api"))]
pub(crate) fn escape(name: &str) -> std::borrow::Cow<'_, str> {
    if kymo_core::text::is_legacy_metric_name(name) && !name.starts_with(PREFIX) {
        return name.into();
    }
    escaped(name).into()
}

/// The escaped form, whether `name` needs it or not.
pub(crate) fn escaped(name: &str) -> String {
    use std::fmt::Write;
    let mut escaped = String::from(PREFIX);
    for (at, c) in name.char_indices() {
        match c {
            '_' => escaped.push_str("__"),
            ':' | 'a'..='z' | 'A'..='Z' => escaped.push(c),
            '0'..='9' if at > 0 => escaped.push(c),
            // Writing to a String cannot fail.
            _ => drop(write!(escaped, "_{:x}_", u32::from(c))),
        }
    }
    escaped
}

#[cfg(test)]
#[cfg(feature = "api")]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_path_and_malformed_escapes_stand_for_themselves() {
        for name in ["job", "__name__", "a:b", "k8s.pod", "U__x", "0k", "温度", "a b\n", "_", "\u{10FFFF}"] {
            assert_eq!(unescape(&escape(name)), name);
        }
        assert_eq!(escape("http.status_code"), "U__http_2e_status__code");
        assert_eq!(escape("job"), "job");
        for odd in ["U__a_", "U__a_zz_", "U__a_1234567_", "U___d800_", "U__a_2", "job_2e_"] {
            assert_eq!(unescape(odd), odd);
        }
        assert_eq!(unescape("U__a_2E_b"), "a.b");
    }
}
