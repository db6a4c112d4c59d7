//! A matcher in a configuration file: `job="node"`, `path=~"/api/.*"`, `"k8s.pod" != x`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::matcher::{MatchOp, Matcher, MatcherError};
use crate::text::{UnquoteError, is_legacy_label_name, unquote, unquote_prefix, write_label_name, write_quoted};

/// A matcher written as text. The value may stand without quotes, as Alertmanager allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMatcher(pub Matcher);

/// Why text is not a matcher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigMatcherError {
    /// The label's name is missing or needs quotes.
    #[error("expected a label name at the start of {text:?}")]
    Name {
        /// The whole text.
        text: String,
    },
    /// None of `=`, `!=`, `=~`, `!~` follows the name.
    #[error("expected one of =, !=, =~, !~ after the label name in {text:?}")]
    Operator {
        /// The whole text.
        text: String,
    },
    /// A quoted name or value cannot be read; the offset counts from its opening quote.
    #[error("in {text:?}: {source}")]
    Quoted {
        /// The whole text.
        text: String,
        /// What is wrong with the quoted part.
        source: UnquoteError,
    },
    /// An unquoted value holds a character that needs quotes.
    #[error("the value in {text:?} needs quotes")]
    Value {
        /// The whole text.
        text: String,
    },
    /// The expression does not compile.
    #[error(transparent)]
    Regex(#[from] MatcherError),
}

impl std::str::FromStr for ConfigMatcher {
    type Err = ConfigMatcherError;

    fn from_str(text: &str) -> Result<Self, ConfigMatcherError> {
        let whole = || text.to_owned();
        let quoted = |source| ConfigMatcherError::Quoted { text: whole(), source };
        let trimmed = text.trim();
        let (name, rest) = if trimmed.starts_with('"') {
            let (name, len) = unquote_prefix(trimmed).map_err(quoted)?;
            (name.into_owned(), &trimmed[len..])
        } else {
            let end = trimmed.find(['=', '!', ' ', '\t']).unwrap_or(trimmed.len());
            let name = &trimmed[..end];
            if !is_legacy_label_name(name) {
                return Err(ConfigMatcherError::Name { text: whole() });
            }
            (name.to_owned(), &trimmed[end..])
        };
        if name.is_empty() {
            return Err(ConfigMatcherError::Name { text: whole() });
        }
        let rest = rest.trim_start();
        let op = [MatchOp::Regex, MatchOp::NotRegex, MatchOp::NotEqual, MatchOp::Equal]
            .into_iter()
            .find(|op| rest.starts_with(op.as_str()))
            .ok_or_else(|| ConfigMatcherError::Operator { text: whole() })?;
        let value = rest[op.as_str().len()..].trim_start();
        let value = if value.starts_with(['"', '\'', '`']) {
            unquote(value).map_err(quoted)?.into_owned()
        } else if value.contains(['"', '\'', '`', '{', '}', ',']) {
            return Err(ConfigMatcherError::Value { text: whole() });
        } else {
            value.to_owned()
        };
        Ok(Self(Matcher::new(name, op, value)?))
    }
}

impl fmt::Display for ConfigMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write_label_name(&mut text, self.0.name());
        text.push_str(self.0.op().as_str());
        write_quoted(&mut text, self.0.value());
        f.write_str(&text)
    }
}

impl Serialize for ConfigMatcher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConfigMatcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_matchers_as_alertmanager_does() {
        let rows = [
            (r#"job="node""#, r#"job="node""#),
            ("job = node", r#"job="node""#),
            (r#"path=~"/api/.*""#, r#"path=~"/api/.*""#),
            ("path!~/a|/b", r#"path!~"/a|/b""#),
            (r#""k8s.pod" != x"#, r#""k8s.pod"!="x""#),
            ("empty=", r#"empty="""#),
        ];
        for (text, shown) in rows {
            let matcher: ConfigMatcher = text.parse().unwrap();
            assert_eq!(matcher.to_string(), shown);
            assert_eq!(shown.parse::<ConfigMatcher>().unwrap(), matcher);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |text: &str| text.parse::<ConfigMatcher>().unwrap_err();
        for text in ["", "=x", "a.b=c", r#"""="x""#] {
            assert!(matches!(error(text), ConfigMatcherError::Name { .. }), "{text}");
        }
        for text in ["job", "job ~ x", "job x"] {
            assert!(matches!(error(text), ConfigMatcherError::Operator { .. }), "{text}");
        }
        assert!(matches!(error(r#"job="x"#), ConfigMatcherError::Quoted { .. }));
        assert!(matches!(error(r#"job="x" y"#), ConfigMatcherError::Quoted { .. }));
        assert!(matches!(error("job=a,b"), ConfigMatcherError::Value { .. }));
        assert!(matches!(error("job=~("), ConfigMatcherError::Regex(_)));
    }
}
