//! OAuth 2.0 client credentials: RFC 6749, section 4.4.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use form_urlencoded::{Serializer, byte_serialize};
use kymo_core::config::{HttpClientConfig, OAuth2, ProxyConfig};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{StatusCode, Url};
use tokio::sync::Mutex;

use super::credentials::{Text, basic};
use super::error::{HttpBuildError, HttpSendError};
use super::header_value;

/// A token is renewed this long before it ends, so that it does not end on the way.
const EARLY: Duration = Duration::from_secs(10);
/// Bytes of a refusal that are passed on.
const TEXT_MAX: usize = 200;
/// No token's answer is longer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Fetches tokens and keeps the newest.
#[derive(Debug)]
pub(super) struct TokenSource {
    client: reqwest::Client,
    url: Url,
    id: String,
    secret: Text,
    /// What is asked for, but for id and secret.
    form: Vec<(String, String)>,
    /// The server wants id and secret among the parameters and not in a header, as it turned out. Relaxed, as being
    /// late costs one request.
    in_form: AtomicBool,
    /// Requests wait for each other while one of them fetches.
    newest: Mutex<Option<Token>>,
}

#[derive(Debug)]
struct Token {
    value: String,
    secret: String,
    renew_at: Option<Instant>,
}

#[derive(serde::Deserialize)]
struct Answer {
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    token_type: String,
    /// Seconds; some servers write a text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl TokenSource {
    pub(super) fn new(config: &OAuth2) -> Result<TokenSource, HttpBuildError> {
        let url = Url::parse(&config.token_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or(HttpBuildError::Url { field: "oauth2 token_url" })?;
        let ways = HttpClientConfig {
            tls_config: config.tls_config.clone(),
            proxy: ProxyConfig { proxy_url: config.proxy_url.clone(), ..ProxyConfig::default() },
            ..HttpClientConfig::default()
        };
        if ways.tls_config.as_ref().is_some_and(|tls| !tls.server_name.is_empty()) {
            return Err(HttpBuildError::Unsupported { field: "oauth2 tls_config server_name" });
        }
        let mut form = vec![("grant_type".to_owned(), "client_credentials".to_owned())];
        if !config.scopes.is_empty() {
            form.push(("scope".to_owned(), config.scopes.join(" ")));
        }
        for (name, value) in &config.endpoint_params {
            form.retain(|(known, _)| known != name);
            form.push((name.clone(), value.clone()));
        }
        Ok(TokenSource {
            client: super::client(&ways)?,
            url,
            id: config.client_id.clone(),
            secret: Text::new(config.client_secret.clone(), config.client_secret_file.as_ref()),
            form,
            in_form: AtomicBool::new(false),
            newest: Mutex::new(None),
        })
    }

    /// The value of `Authorization`: the newest token, or a new one if it ends or the secret is another.
    pub(super) async fn token(&self) -> Result<String, HttpSendError> {
        let secret = self.secret.read()?;
        let mut newest = self.newest.lock().await;
        let is_good = |token: &&Token| token.secret == secret && token.renew_at.is_none_or(|at| Instant::now() < at);
        if let Some(token) = newest.as_ref().filter(is_good) {
            return Ok(token.value.clone());
        }
        let token = self.fetch(secret).await?;
        let value = token.value.clone();
        *newest = Some(token);
        Ok(value)
    }

    /// Asks with a header, as the standard prefers, and with parameters where that is refused.
    async fn fetch(&self, secret: String) -> Result<Token, HttpSendError> {
        let in_form = self.in_form.load(Ordering::Relaxed);
        let answer = match self.ask(&secret, in_form).await {
            Err(HttpSendError::TokenRefused { .. }) if !in_form => {
                let answer = self.ask(&secret, true).await?;
                self.in_form.store(true, Ordering::Relaxed);
                answer
            }
            answer => answer?,
        };
        let answer: Answer = serde_json::from_slice(&answer).map_err(|_| HttpSendError::NoToken)?;
        if answer.access_token.is_empty() {
            return Err(HttpSendError::NoToken);
        }
        let scheme = match answer.token_type.to_ascii_lowercase().as_str() {
            "" | "bearer" => "Bearer",
            "mac" => "MAC",
            "basic" => "Basic",
            _ => &answer.token_type,
        };
        let seconds = answer.expires_in.as_u64().or_else(|| answer.expires_in.as_str()?.parse().ok());
        let lasts = seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let renew_at = lasts.and_then(|lasts| Instant::now().checked_add(lasts.saturating_sub(EARLY)));
        Ok(Token { value: format!("{scheme} {}", answer.access_token), secret, renew_at })
    }

    async fn ask(&self, secret: &str, in_form: bool) -> Result<Vec<u8>, HttpSendError> {
        let failed = |source: reqwest::Error| HttpSendError::Token { source: source.without_url() };
        let mut request = self.client.post(self.url.clone());
        if !in_form {
            let escaped = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let value = basic(&escaped(&self.id), &escaped(secret));
            request = request.header(AUTHORIZATION, header_value(AUTHORIZATION.as_str(), &value, true)?);
        }
        let form = self.form(in_form.then_some(secret));
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let mut answer = request.send().await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(HttpSendError::NoToken);
            }
            body.extend_from_slice(&chunk);
        }
        match answer.status() {
            StatusCode::OK => Ok(body),
            status => {
                let text = String::from_utf8_lossy(&body[..body.len().min(TEXT_MAX)]).trim().to_owned();
                Err(HttpSendError::TokenRefused { status, text })
            }
        }
    }

    /// The parameters, with id and secret if they belong there.
    fn form(&self, secret: Option<&str>) -> String {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(&self.form);
        if let Some(secret) = secret {
            form.append_pair("client_id", &self.id).append_pair("client_secret", secret);
        }
        form.finish()
    }
}
