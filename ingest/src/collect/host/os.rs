//! `os-release`: which system this is.

use std::collections::BTreeMap;

use kymo_core::FamilyType;

use super::file::{ReadError, Text};
use super::{Gathered, Roots};

/// Labels, each from the field of the same name in capitals.
const LABELS: [&str; 12] = [
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
];

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let text = match Text::read_if_there(roots.root.join("etc/os-release"))? {
        Some(text) => text,
        None => Text::read(roots.root.join("usr/lib/os-release"))?,
    };
    let known: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), unquoted(value.trim())))
        .collect();
    let of = |name: &str| known.get(name).map_or("", String::as_str);
    let help = "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, image_version, name, \
                pretty_name, variant, variant_id, version, version_codename, version_id.";
    out.family(FamilyType::Gauge, "node_os_info", help).push(LABELS.map(|label| (label, of(label))), 1.0);
    if let Some(version) = major_minor(of("version_id")) {
        let help = "Metric containing the major.minor part of the OS version.";
        let labels = ["id", "id_like", "name"].map(|label| (label, of(label)));
        out.family(FamilyType::Gauge, "node_os_version", help).push(labels, version);
    }
    Ok(())
}

/// A value as a shell reads it, as far as such files use it: quotes of either kind, and a backslash before a character.
fn unquoted(value: &str) -> String {
    let quoted = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(plain) = quoted('\'') {
        return plain.to_owned();
    }
    let mut out = String::new();
    let mut characters = quoted('"').unwrap_or(value).chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => out.extend(characters.next()),
            _ => out.push(c),
        }
    }
    out
}

/// `22.04` of `22.04.3`.
fn major_minor(version: &str) -> Option<f64> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(version);
    let minor = version[whole..].strip_prefix('.').map_or(0, digits);
    let end = if minor > 0 { whole + 1 + minor } else { whole };
    version[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_a_shell_does() {
        for (value, wanted) in [("debian", "debian"), (r#""a \"b\"""#, r#"a "b""#), ("'a \\b'", "a \\b"), ("\"\"", "")]
        {
            assert_eq!(unquoted(value), wanted);
        }
        for (version, wanted) in
            [("12", Some(12.0)), ("22.04.3", Some(22.04)), ("", None), ("rolling", None), ("7.", Some(7.0))]
        {
            assert_eq!(major_minor(version), wanted, "{version}");
        }
    }
}
