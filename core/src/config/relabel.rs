//! Relabelling: rules that change a label set or drop it.
//!
//! Meaning and refusals are those of Prometheus 3 with UTF-8 names: expressions match the whole
//! text, `.` matches a newline, and templates expand `$1`, `${1}`, `$name`, `${name}` and `$$` as
//! Go's `regexp` does.

use std::fmt;

use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};

use super::md5::md5;
use crate::labels::LabelsBuilder;
use crate::matcher::{MatcherError, compile_regex};

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RelabelAction {
    /// Sets the target label to the expanded replacement if the source matches.
    #[default]
    Replace,
    /// Drops the set unless the source matches.
    Keep,
    /// Drops the set if the source matches.
    Drop,
    /// Drops the set unless the source equals the target label.
    KeepEqual,
    /// Drops the set if the source equals the target label.
    DropEqual,
    /// Sets the target label to a hash of the source, modulo `modulus`.
    HashMod,
    /// Copies labels whose name matches to the expanded replacement.
    LabelMap,
    /// Removes labels whose name matches.
    LabelDrop,
    /// Removes labels whose name does not match.
    LabelKeep,
    /// Sets the target label to the source in lower case.
    Lowercase,
    /// Sets the target label to the source in upper case.
    Uppercase,
}

impl RelabelAction {
    const ALL: [(&'static str, Self); 11] = [
        ("replace", Self::Replace),
        ("keep", Self::Keep),
        ("drop", Self::Drop),
        ("keepequal", Self::KeepEqual),
        ("dropequal", Self::DropEqual),
        ("hashmod", Self::HashMod),
        ("labelmap", Self::LabelMap),
        ("labeldrop", Self::LabelDrop),
        ("labelkeep", Self::LabelKeep),
        ("lowercase", Self::Lowercase),
        ("uppercase", Self::Uppercase),
    ];

    /// As written in a configuration.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, action)| *action == self).map_or("", |(name, _)| name)
    }

    fn from_name(name: &str) -> Option<Self> {
        let lower = name.to_lowercase();
        Self::ALL.iter().find(|(known, _)| *known == lower).map(|(_, action)| *action)
    }
}

impl fmt::Display for RelabelAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a rule makes no sense. Texts are those of Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelabelError {
    /// No action of this name.
    #[error("unknown relabel action {action:?}")]
    Action {
        /// The name given.
        action: String,
    },
    /// The expression does not compile.
    #[error(transparent)]
    Regex(#[from] MatcherError),
    /// `hashmod` without a modulus.
    #[error("relabel configuration for hashmod requires non-zero modulus")]
    Modulus,
    /// The action needs a target label.
    #[error("relabel configuration for {action} action requires 'target_label' value")]
    TargetLabel {
        /// The action.
        action: RelabelAction,
    },
    /// The action takes no replacement.
    #[error("'replacement' can not be set for {action} action")]
    Replacement {
        /// The action.
        action: RelabelAction,
    },
    /// `labelmap` onto an empty name.
    #[error("\"\" is invalid 'replacement' for labelmap action")]
    EmptyReplacement,
    /// The action takes some fields only.
    #[error("{action} action requires only {fields}, and no other fields")]
    OtherFields {
        /// The action.
        action: RelabelAction,
        /// The fields it takes.
        fields: &'static str,
    },
}

const SEPARATOR_DEFAULT: &str = ";";
const REGEX_DEFAULT: &str = "(.*)";
const REPLACEMENT_DEFAULT: &str = "$1";

/// One rule, checked.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "RelabelFields"))]
#[serde(try_from = "RelabelFields", into = "RelabelFields")]
pub struct RelabelRule {
    fields: RelabelFields,
    action: RelabelAction,
    regex: Regex,
}

/// A rule as it stands in a file, not checked; [`RelabelRule::try_from`] checks it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RelabelFields {
    /// Labels whose values, joined, are the source; an absent label is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_labels: Option<Vec<String>>,
    /// Stands between the joined values.
    pub separator: String,
    /// Matched against the whole source, or against label names.
    pub regex: String,
    /// What `hashmod` takes the hash modulo.
    #[serde(skip_serializing_if = "is_zero")]
    pub modulus: u64,
    /// The label that is set; a template for `replace`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_label: String,
    /// Template of the value, or of the name for `labelmap`.
    pub replacement: String,
    /// Name of the action, in any case: `replace`, `keep`, `drop`, `keepequal`, `dropequal`, `hashmod`, `labelmap`,
    /// `labeldrop`, `labelkeep`, `lowercase` or `uppercase`.
    pub action: String,
}

fn is_zero(modulus: &u64) -> bool {
    *modulus == 0
}

impl Default for RelabelFields {
    fn default() -> Self {
        Self {
            source_labels: None,
            separator: SEPARATOR_DEFAULT.to_owned(),
            regex: REGEX_DEFAULT.to_owned(),
            modulus: 0,
            target_label: String::new(),
            replacement: REPLACEMENT_DEFAULT.to_owned(),
            action: "replace".to_owned(),
        }
    }
}

impl TryFrom<RelabelFields> for RelabelRule {
    type Error = RelabelError;

    fn try_from(mut fields: RelabelFields) -> Result<Self, RelabelError> {
        use RelabelAction as Action;

        let action =
            Action::from_name(&fields.action).ok_or_else(|| RelabelError::Action { action: fields.action.clone() })?;
        action.as_str().clone_into(&mut fields.action);
        let default_replacement = fields.replacement == REPLACEMENT_DEFAULT;
        let default_text = fields.separator == SEPARATOR_DEFAULT && default_replacement;
        let needs_target =
            !matches!(action, Action::Keep | Action::Drop | Action::LabelMap | Action::LabelDrop | Action::LabelKeep);
        if action == Action::HashMod && fields.modulus == 0 {
            return Err(RelabelError::Modulus);
        }
        if needs_target && fields.target_label.is_empty() {
            return Err(RelabelError::TargetLabel { action });
        }
        match action {
            Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual if !default_replacement => {
                return Err(RelabelError::Replacement { action });
            }
            Action::LabelMap if fields.replacement.is_empty() => {
                return Err(RelabelError::EmptyReplacement);
            }
            Action::KeepEqual | Action::DropEqual
                if fields.regex != REGEX_DEFAULT || fields.modulus != 0 || !default_text =>
            {
                let fields = "'source_labels' and `target_label`";
                return Err(RelabelError::OtherFields { action, fields });
            }
            Action::LabelDrop | Action::LabelKeep
                if fields.source_labels.is_some()
                    || !fields.target_label.is_empty()
                    || fields.modulus != 0
                    || !default_text =>
            {
                return Err(RelabelError::OtherFields { action, fields: "'regex'" });
            }
            _ => {}
        }
        let regex = compile_regex(&fields.regex)?;
        Ok(Self { fields, action, regex })
    }
}

impl From<RelabelRule> for RelabelFields {
    fn from(rule: RelabelRule) -> Self {
        rule.fields
    }
}

impl PartialEq for RelabelRule {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
}

impl Eq for RelabelRule {}

/// Whether a label set goes on or was dropped by a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Relabelled {
    /// It goes on, changed.
    Kept,
    /// A rule dropped it; its labels are as that rule found them.
    Dropped,
}

/// Applies `rules` in order to the labels in `labels`.
pub fn relabel(rules: &[RelabelRule], labels: &mut LabelsBuilder) -> Relabelled {
    match rules.iter().all(|rule| rule.apply(labels) == Relabelled::Kept) {
        true => Relabelled::Kept,
        false => Relabelled::Dropped,
    }
}

impl RelabelRule {
    /// What the rule does.
    pub fn action(&self) -> RelabelAction {
        self.action
    }

    /// Applies this rule alone.
    pub fn apply(&self, labels: &mut LabelsBuilder) -> Relabelled {
        let source = self.source(labels);
        let fields = &self.fields;
        let target = fields.target_label.as_str();
        let target_value = || labels.get(target).unwrap_or_default();
        let dropped = match self.action {
            RelabelAction::Keep => !self.regex.is_match(&source),
            RelabelAction::Drop => self.regex.is_match(&source),
            RelabelAction::KeepEqual => target_value() != source,
            RelabelAction::DropEqual => target_value() == source,
            RelabelAction::Replace => {
                if let Some(captures) = self.regex.captures(&source) {
                    let target = expand(target, &captures);
                    if !target.is_empty() {
                        labels.set(&target, &expand(&fields.replacement, &captures));
                    }
                }
                false
            }
            RelabelAction::HashMod => {
                let digest = md5(source.as_bytes());
                let low = digest[8..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                labels.set(target, &(low % fields.modulus).to_string());
                false
            }
            RelabelAction::LabelMap => {
                self.map_labels(labels);
                false
            }
            RelabelAction::LabelDrop => {
                labels.retain(|name, _| !self.regex.is_match(name));
                false
            }
            RelabelAction::LabelKeep => {
                labels.retain(|name, _| self.regex.is_match(name));
                false
            }
            RelabelAction::Lowercase => {
                labels.set(target, &lowercase(&source));
                false
            }
            RelabelAction::Uppercase => {
                labels.set(target, &uppercase(&source));
                false
            }
        };
        if dropped { Relabelled::Dropped } else { Relabelled::Kept }
    }

    fn source(&self, labels: &LabelsBuilder) -> String {
        let mut source = String::new();
        for (index, name) in self.fields.source_labels.iter().flatten().enumerate() {
            if index > 0 {
                source.push_str(&self.fields.separator);
            }
            source.push_str(labels.get(name).unwrap_or_default());
        }
        source
    }

    /// Copies as of before the rule: a label that the rule makes is not mapped again.
    fn map_labels(&self, labels: &mut LabelsBuilder) {
        let mut sources: Vec<(&str, &str)> = labels.iter().collect();
        // Several labels may map to one name: the last by its own name wins, as in Prometheus.
        sources.sort_unstable();
        let mut copies: Vec<(String, String)> = Vec::new();
        for (name, value) in sources {
            if let Some(captures) = self.regex.captures(name) {
                copies.push((expand(&self.fields.replacement, &captures), value.to_owned()));
            }
        }
        for (name, value) in copies {
            if !name.is_empty() {
                labels.set(&name, &value);
            }
        }
    }
}

/// Go's `strings.ToUpper`: one character for each, so `ß` stays; Rust would write `SS`.
fn uppercase(text: &str) -> String {
    let simple = |c: char| {
        let mut full = c.to_uppercase();
        match (full.next(), full.next(), u32::from(c)) {
            (Some(upper), None, _) => upper,
            // Greek letters with a subscript iota have an upper case of their own.
            (_, _, code @ (0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7)) => {
                char::from_u32(code + 8).unwrap_or(c)
            }
            (_, _, code @ (0x1fb3 | 0x1fc3 | 0x1ff3)) => char::from_u32(code + 9).unwrap_or(c),
            _ => c,
        }
    };
    text.chars().map(simple).collect()
}

/// Go's `strings.ToLower`: one character for each, whatever stands around it; Rust would end a word
/// in `ς`.
fn lowercase(text: &str) -> String {
    let simple = |c: char| match c {
        'İ' => 'i',
        _ => c.to_lowercase().next().unwrap_or(c),
    };
    text.chars().map(simple).collect()
}

/// Expands a template as Go's `regexp.Expand`: `$name` takes the longest run of letters, digits and
/// underscores, an unknown group is empty, `$$` is `$`, and a `$` that begins nothing stays.
fn expand(template: &str, captures: &Captures<'_>) -> String {
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match rest.strip_prefix('{') {
            Some(braced) => match braced.split_once('}') {
                Some((name, after)) if name.chars().all(is_word) => (name, after),
                _ => ("", rest),
            },
            None => rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len())),
        };
        if name.is_empty() {
            out.push('$');
            continue;
        }
        let group = match name.parse::<usize>() {
            Ok(number) => captures.get(number),
            Err(_) => captures.name(name),
        };
        out.push_str(group.map_or("", |group| group.as_str()));
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Labels;

    fn rule(json: &str) -> RelabelRule {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    /// Applies rules to `a=foo, b=bar, c=baz` and shows what is left.
    fn relabelled(rules: &[&str]) -> Option<String> {
        let rules: Vec<RelabelRule> = rules.iter().map(|json| rule(json)).collect();
        let start = Labels::from_pairs([("a", "foo"), ("b", "bar"), ("c", "baz")]);
        let mut builder = LabelsBuilder::from_labels(start.as_ref());
        (relabel(&rules, &mut builder) == Relabelled::Kept).then(|| {
            let labels = builder.labels();
            let shown = labels.iter().map(|(name, value)| format!("{name}={value}"));
            shown.collect::<Vec<_>>().join(" ")
        })
    }

    #[test]
    fn every_action_does_what_it_says() {
        let rows: &[(&str, Option<&str>)] = &[
            (
                r#"{"source_labels":["a"],"regex":"f(.*)","target_label":"d","replacement":"ch${1}-ch${1}"}"#,
                Some("a=foo b=bar c=baz d=choo-choo"),
            ),
            (
                r#"{"source_labels":["a","b"],"regex":"(.*);(.*)","target_label":"d","replacement":"$2$$$1"}"#,
                Some("a=foo b=bar c=baz d=bar$foo"),
            ),
            (
                r#"{"source_labels":["a"],"regex":"f(?P<rest>.*)","target_label":"${rest}","replacement":"$rest"}"#,
                Some("a=foo b=bar c=baz oo=oo"),
            ),
            (r#"{"source_labels":["a"],"regex":"oo","target_label":"a","replacement":"x"}"#, Some("a=foo b=bar c=baz")),
            (r#"{"source_labels":["a"],"target_label":"a","replacement":""}"#, Some("b=bar c=baz")),
            (r#"{"target_label":"d","replacement":"fixed"}"#, Some("a=foo b=bar c=baz d=fixed")),
            (r#"{"source_labels":["a"],"regex":"foo","action":"keep"}"#, Some("a=foo b=bar c=baz")),
            (r#"{"source_labels":["a"],"regex":"fo","action":"keep"}"#, None),
            (r#"{"source_labels":["a"],"regex":"f.*","action":"DROP"}"#, None),
            (r#"{"source_labels":["none"],"regex":"f.*","action":"drop"}"#, Some("a=foo b=bar c=baz")),
            (r#"{"source_labels":["a"],"target_label":"b","action":"keepequal"}"#, None),
            (r#"{"source_labels":["a"],"target_label":"a","action":"dropequal"}"#, None),
            (r#"{"source_labels":["a"],"target_label":"b","action":"dropequal"}"#, Some("a=foo b=bar c=baz")),
            (
                r#"{"source_labels":["c"],"target_label":"d","action":"hashmod","modulus":1000}"#,
                Some("a=foo b=bar c=baz d=976"),
            ),
            (
                r#"{"regex":"(b.*|c)","replacement":"x_${1}","action":"labelmap"}"#,
                Some("a=foo b=bar c=baz x_b=bar x_c=baz"),
            ),
            (r#"{"regex":"(b|c)","action":"labeldrop"}"#, Some("a=foo")),
            (r#"{"regex":"(b|c)","action":"labelkeep"}"#, Some("b=bar c=baz")),
            (r#"{"source_labels":["a"],"target_label":"d","action":"uppercase"}"#, Some("a=foo b=bar c=baz d=FOO")),
            (r#"{"source_labels":["a"],"target_label":"a","action":"lowercase"}"#, Some("a=foo b=bar c=baz")),
        ];
        for (json, expected) in rows {
            assert_eq!(relabelled(&[json]).as_deref(), *expected, "{json}");
        }
    }

    #[test]
    fn rules_see_what_earlier_rules_left() {
        let found = relabelled(&[
            r#"{"source_labels":["a"],"target_label":"d"}"#,
            r#"{"regex":"a","action":"labeldrop"}"#,
            r#"{"source_labels":["a","d"],"separator":"-","target_label":"e"}"#,
        ]);
        assert_eq!(found.as_deref(), Some("b=bar c=baz d=foo e=-foo"));
    }

    #[test]
    fn senseless_rules_are_refused() {
        let rows = [
            (r#"{"action":"shuffle"}"#, "unknown relabel action \"shuffle\""),
            (
                r#"{"action":"hashmod","target_label":"a"}"#,
                "relabel configuration for hashmod requires non-zero modulus",
            ),
            (r#"{"source_labels":["a"]}"#, "relabel configuration for replace action requires 'target_label' value"),
            (
                r#"{"action":"uppercase","target_label":"a","replacement":"x"}"#,
                "'replacement' can not be set for uppercase action",
            ),
            (r#"{"action":"labelmap","replacement":""}"#, "\"\" is invalid 'replacement' for labelmap action"),
            (
                r#"{"action":"keepequal","target_label":"a","regex":"x"}"#,
                "keepequal action requires only 'source_labels' and `target_label`, and no other fields",
            ),
            (
                r#"{"action":"labeldrop","source_labels":[]}"#,
                "labeldrop action requires only 'regex', and no other fields",
            ),
        ];
        for (json, message) in rows {
            let error = serde_json::from_str::<RelabelRule>(json).unwrap_err().to_string();
            assert!(error.starts_with(message), "{json}: {error}");
        }
        assert!(serde_json::from_str::<RelabelRule>(r#"{"regex":"(","target_label":"a"}"#).is_err());
        assert!(serde_json::from_str::<RelabelRule>(r#"{"target":"a"}"#).is_err());
    }

    #[test]
    fn templates_expand_as_in_go() {
        let regex = Regex::new("(?P<first>.)(?P<second>.)").unwrap();
        let captures = regex.captures("ab").unwrap();
        let rows = [
            ("$1-$2", "a-b"),
            ("$1x", ""),
            ("${1}x", "ax"),
            ("$first$second", "ab"),
            ("${first}_", "a_"),
            ("$0", "ab"),
            ("$9$none", ""),
            ("$", "$"),
            ("$-${a-b}${", "$-${a-b}${"),
            ("$$1", "$1"),
        ];
        for (template, expected) in rows {
            assert_eq!(expand(template, &captures), expected, "{template}");
        }
    }

    #[test]
    fn letters_change_case_one_by_one() {
        let rows = [("straße", "STRAßE"), ("ᾳᾀ", "ᾼᾈ"), ("éa1-ǆ", "ÉA1-Ǆ"), ("ŉ", "ŉ"), ("ﬁ", "ﬁ")];
        for (text, upper) in rows {
            assert_eq!(uppercase(text), upper);
        }
        for (text, lower) in [("ΟΔΟΣ", "οδοσ"), ("İ", "i"), ("ÉA1", "éa1"), ("ẞ", "ß")] {
            assert_eq!(lowercase(text), lower);
        }
    }

    #[test]
    fn last_label_by_name_wins_a_shared_target() {
        let found = relabelled(&[r#"{"regex":"[ab]","replacement":"c","action":"labelmap"}"#]);
        assert_eq!(found.as_deref(), Some("a=foo b=bar c=bar"));
    }

    #[test]
    fn rules_can_be_made_without_a_file() {
        let fields = RelabelFields {
            regex: "up".to_owned(),
            source_labels: Some(vec!["__name__".to_owned()]),
            action: "keep".to_owned(),
            ..RelabelFields::default()
        };
        let rule = RelabelRule::try_from(fields).unwrap();
        let up = Labels::from_pairs([("__name__", "up")]);
        assert_eq!(rule.apply(&mut LabelsBuilder::from_labels(up.as_ref())), Relabelled::Kept);
    }

    #[test]
    fn rules_survive_serialisation() {
        let original = rule(r#"{"source_labels":["a"],"action":"Keep","regex":"x|y"}"#);
        let text = serde_json::to_string(&original).unwrap();
        assert!(text.contains(r#""action":"keep""#), "{text}");
        assert_eq!(rule(&text), original);
    }
}
