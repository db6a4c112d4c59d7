//! What goes into `Authorization`.

use std::path::PathBuf;

use kymo_core::config::{HttpClientConfig, Secret};
use reqwest::Request;
use reqwest::header::AUTHORIZATION;

use super::error::{HttpBuildError, HttpSendError};
use super::oauth2::TokenSource;
use super::{header_value, read_file};

#[derive(Debug)]
pub(super) enum Credentials {
    None,
    Basic { username: Text, password: Text },
    Scheme { scheme: String, credentials: Text },
    OAuth2(Box<TokenSource>),
}

/// A text, or the file that holds it and is read again for each request, so that it can be rotated.
#[derive(Debug)]
pub(super) enum Text {
    Here(Secret),
    File(PathBuf),
}

impl Text {
    pub(super) fn new(text: Secret, file: Option<&PathBuf>) -> Text {
        file.map_or(Text::Here(text), |path| Text::File(path.clone()))
    }

    pub(super) fn read(&self) -> Result<String, HttpBuildError> {
        match self {
            Text::Here(secret) => Ok(secret.expose().to_owned()),
            Text::File(path) => Ok(String::from_utf8_lossy(&read_file(path)?).trim().to_owned()),
        }
    }
}

impl Credentials {
    pub(super) fn new(config: &HttpClientConfig) -> Result<Credentials, HttpBuildError> {
        if let Some(basic) = &config.basic_auth {
            let username = Text::new(Secret::new(basic.username.clone()), basic.username_file.as_ref());
            let password = Text::new(basic.password.clone(), basic.password_file.as_ref());
            return Ok(Credentials::Basic { username, password });
        }
        if let Some(authorization) = &config.authorization {
            let credentials = Text::new(authorization.credentials.clone(), authorization.credentials_file.as_ref());
            return Ok(Credentials::Scheme { scheme: authorization.scheme.trim().to_owned(), credentials });
        }
        if !config.bearer_token.is_empty() || config.bearer_token_file.is_some() {
            let credentials = Text::new(config.bearer_token.clone(), config.bearer_token_file.as_ref());
            return Ok(Credentials::Scheme { scheme: "Bearer".to_owned(), credentials });
        }
        match &config.oauth2 {
            Some(oauth2) => Ok(Credentials::OAuth2(Box::new(TokenSource::new(oauth2)?))),
            None => Ok(Credentials::None),
        }
    }

    /// Adds them to a request.
    pub(super) async fn sign(&self, request: &mut Request) -> Result<(), HttpSendError> {
        let value = match self {
            Credentials::None => return Ok(()),
            Credentials::Basic { username, password } => basic(&username.read()?, &password.read()?),
            Credentials::Scheme { scheme, credentials } => format!("{scheme} {}", credentials.read()?),
            Credentials::OAuth2(source) => source.token().await?,
        };
        request.headers_mut().insert(AUTHORIZATION, header_value(AUTHORIZATION.as_str(), &value, true)?);
        Ok(())
    }
}

/// RFC 7617, section 2.
pub(super) fn basic(username: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut value = String::from("Basic ");
    for group in format!("{username}:{password}").as_bytes().chunks(3) {
        let bits = (0..3).fold(0u32, |bits, n| bits << 8 | u32::from(group.get(n).copied().unwrap_or(0)));
        for digit in 0..4 {
            let shown = digit <= group.len();
            value.push(if shown { char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]) } else { '=' });
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::basic;

    #[test]
    fn names_and_passwords_are_written_as_the_standard_shows() {
        for (user, password, value) in [
            ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("test", "123\u{a3}", "Basic dGVzdDoxMjPCow=="),
            ("", "", "Basic Og=="),
            ("ab", "", "Basic YWI6"),
            ("a", "b/", "Basic YTpiLw=="),
        ] {
            assert_eq!(basic(user, password), value);
        }
    }
}
