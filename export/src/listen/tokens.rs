//! Bearer tokens.
#![cfg_attr(not(feature = "server"), allow(unreachable_pub, reason = "only the server shows them to its users"))]

use std::sync::Arc;

use http::{HeaderMap, header};
use subtle::{Choice, ConstantTimeEq};

/// Tokens that open the server; none leaves it open to all. Never printed.
#[derive(Clone, Default)]
pub struct BearerTokens(Arc<[Box<[u8]>]>);

impl BearerTokens {
    /// Any of `tokens` will do. Empty ones are dropped: a header without a token must not match.
    pub fn new<T: AsRef<str>>(tokens: impl IntoIterator<Item = T>) -> BearerTokens {
        let token = |t: T| Some(t.as_ref().trim().as_bytes()).filter(|t| !t.is_empty()).map(Box::from);
        BearerTokens(tokens.into_iter().filter_map(token).collect())
    }

    /// Whether everyone may ask.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares with every token in full, so that time says nothing but lengths.
    pub(crate) fn accept(&self, headers: &HeaderMap) -> bool {
        let Some(given) = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes())) else {
            return false;
        };
        self.0.iter().fold(Choice::from(0), |any, token| any | token.ct_eq(given)).into()
    }
}

impl std::fmt::Debug for BearerTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BearerTokens({})", self.0.len())
    }
}

/// The token after the scheme, whose name has no case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}
