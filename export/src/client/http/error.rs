//! What can go wrong with a client and with a request.

use std::path::PathBuf;

use kymo_core::config::HttpClientError;
use reqwest::StatusCode;

/// Why settings make no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpBuildError {
    /// They contradict each other.
    #[error(transparent)]
    Settings(#[from] HttpClientError),
    /// They ask for something that is not built yet.
    #[error("{field} is not supported")]
    Unsupported {
        /// The field.
        field: &'static str,
    },
    /// A file with a secret or a certificate cannot be read.
    #[error("{path}: cannot read")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A header's name or value is not allowed in HTTP.
    #[error("header {name:?} has a name or value that HTTP does not allow")]
    Header {
        /// The name as given.
        name: String,
    },
    /// A text that has to be a URL is none.
    #[error("{field} is no http or https URL")]
    Url {
        /// The field.
        field: &'static str,
    },
    /// A certificate, key, proxy URL, or the whole.
    #[error("cannot build an HTTP client: bad {what}")]
    Client {
        /// Which part.
        what: &'static str,
        /// What the HTTP library said.
        source: reqwest::Error,
    },
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpSendError {
    /// The credentials of this moment make no request, or no client for its host.
    #[error(transparent)]
    Settings(#[from] HttpBuildError),
    /// The HTTP library's reason, without the URL: whoever asked knows it.
    #[error(transparent)]
    Request(reqwest::Error),
    /// More answers in a row than allowed only pointed elsewhere.
    #[error("stopped after {limit} redirects")]
    Redirects {
        /// How many are followed.
        limit: usize,
    },
    /// The server of tokens could not be asked.
    #[error("cannot fetch a token")]
    Token {
        /// What the HTTP library said.
        source: reqwest::Error,
    },
    /// The server of tokens refused.
    #[error("cannot fetch a token: the server answers {status}: {text}")]
    TokenRefused {
        /// Its answer.
        status: StatusCode,
        /// The beginning of its text.
        text: String,
    },
    /// The server of tokens answered with something else.
    #[error("cannot fetch a token: the answer has no access_token")]
    NoToken,
}

impl HttpSendError {
    /// Whether the time for the request ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Request(source) | Self::Token { source } => source.is_timeout(),
            _ => false,
        }
    }
}

impl From<reqwest::Error> for HttpSendError {
    fn from(error: reqwest::Error) -> Self {
        Self::Request(error.without_url())
    }
}
