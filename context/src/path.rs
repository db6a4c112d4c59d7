//! Names and paths: how any names make one path, and how the path gives them back.
//!
//! A path is the names from the root down, joined by dots. In a name a dot is written `\.`, a backslash `\\`, and a
//! control character `\u{hex}`, so that a path is one line; everything else stands for itself: `@`, spaces, any letter
//! of any script. An empty name is an empty piece between two dots. Siblings of one name have one path, and are counted
//! together under it.

/// Bytes of a name. A longer one is cut at a character and ends in `…`, so that nothing a peer chose fills the memory.
pub const NAME_BYTES_MAX: usize = 256;

/// Appends `name` as a piece of a path.
pub fn write_name(out: &mut String, name: &str) {
    for letter in name.chars() {
        match letter {
            '.' => out.push_str("\\."),
            '\\' => out.push_str("\\\\"),
            control if control.is_control() => {
                out.push_str("\\u{");
                out.push_str(&format!("{:x}", u32::from(control)));
                out.push('}');
            }
            other => out.push(other),
        }
    }
}

/// The path of these names, from the root down.
#[must_use]
pub fn join<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut path = String::new();
    for (depth, name) in names.into_iter().enumerate() {
        if depth > 0 {
            path.push('.');
        }
        write_name(&mut path, name);
    }
    path
}

/// The names of a path, from the root down; `None` for text that is no path.
///
/// ```
/// use kymo_context::path::{join, split};
///
/// let names = ["global", "p2p", "alice@bv478gen", "v1.2"];
/// assert_eq!(join(names), r"global.p2p.alice@bv478gen.v1\.2");
/// assert_eq!(split(&join(names)).as_deref(), Some(&names.map(String::from)[..]));
/// ```
#[must_use]
pub fn split(path: &str) -> Option<Vec<String>> {
    let mut names = vec![String::new()];
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        let name = names.last_mut()?;
        match letter {
            '.' => names.push(String::new()),
            '\\' => match letters.next()? {
                escaped @ ('.' | '\\') => name.push(escaped),
                'u' => {
                    let hex = letters.as_str().strip_prefix('{')?;
                    let (hex, after) = hex.split_once('}')?;
                    name.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
                    letters = after.chars();
                }
                _ => return None,
            },
            other => name.push(other),
        }
    }
    Some(names)
}

/// `name`, cut to [`NAME_BYTES_MAX`].
pub(crate) fn bounded(name: &str) -> Box<str> {
    const MARK: &str = "…";
    if name.len() <= NAME_BYTES_MAX {
        return name.into();
    }
    let mut end = NAME_BYTES_MAX - MARK.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &name[..end]).into()
}

/// Bytes of a name that is kept without an allocation; most are shorter.
const SHORT_MAX: usize = 22;

/// A name, cut to [`NAME_BYTES_MAX`]. As large as a `String`, and a short one is all in it.
#[derive(Debug, Clone)]
pub(crate) enum Name {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<str>),
}

impl Name {
    pub(crate) fn new(name: &str) -> Name {
        if name.len() > SHORT_MAX {
            return Name::Long(bounded(name));
        }
        let mut bytes = [0; SHORT_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Name::Short { len: name.len() as u8, bytes }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            // What came from a whole string is one.
            Name::Short { len, bytes } => std::str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default(),
            Name::Long(name) => name,
        }
    }
}

impl Default for Name {
    fn default() -> Name {
        Name::new("")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_of_name_has_a_path_of_its_own() {
        for (names, path) in [
            (vec!["global"], "global"),
            (vec!["global", "alice@bv478gen"], "global.alice@bv478gen"),
            (vec!["global", "a.b"], r"global.a\.b"),
            (vec!["global", "a", "b"], "global.a.b"),
            (vec!["global", r"a\", "b"], r"global.a\\.b"),
            (vec!["global", ""], "global."),
            (vec!["", "", ""], ".."),
            (vec![""], ""),
            (vec!["größe 大きさ", "two words"], "größe 大きさ.two words"),
            (vec!["line\nbreak"], r"line\u{a}break"),
        ] {
            assert_eq!(join(names.iter().copied()), path);
            assert_eq!(split(path).unwrap(), names);
        }
    }

    #[test]
    fn what_no_names_give_is_no_path() {
        for text in ["a\\", r"a\x", r"a\u{}", r"a\u{110000}", r"a\u41"] {
            assert_eq!(split(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_without_end_is_cut_between_characters() {
        let name = bounded(&"ß".repeat(1_000));
        assert!(name.len() <= NAME_BYTES_MAX && name.ends_with("ß…"), "{name}");
        assert_eq!(&*bounded("short"), "short");
        for name in ["", "short", &"x".repeat(22), &"x".repeat(23), &"ß".repeat(11), &"ß".repeat(12)] {
            assert_eq!(Name::new(name).as_str(), name);
        }
        assert_eq!(size_of::<Name>(), size_of::<String>());
    }

    proptest! {
        #[test]
        fn names_come_back(names in prop::collection::vec(any::<String>(), 1..6)) {
            let path = join(names.iter().map(String::as_str));
            prop_assert!(!path.contains(char::is_control));
            prop_assert_eq!(split(&path), Some(names));
        }
    }
}
