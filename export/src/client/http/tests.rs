//! Clients against servers made on the spot.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use kymo_core::config::{HttpClientConfig, OAuth2, ProxyConfig, Secret, TlsConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What a server was asked.
#[derive(Debug, Clone, Default)]
struct Asked {
    /// The name in the TLS handshake.
    sni: Option<String>,
    /// `GET /path HTTP/1.1`
    line: String,
    /// By name in small letters.
    headers: BTreeMap<String, String>,
    body: String,
}

type Said = (u16, Vec<(&'static str, String)>, String);

fn said(status: u16, body: &str) -> Said {
    (status, Vec::new(), body.to_owned())
}

/// A server on an address of this machine that answers what `answer` says, one request a connection.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    async fn plain(answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Server {
        Server::start(Ipv4Addr::LOCALHOST, 0, None, answer).await
    }

    async fn start(
        ip: Ipv4Addr,
        port: u16,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Asked) -> Said + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind((IpAddr::V4(ip), port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A handshake that fails is the client's to tell.
                let _ = match &tls {
                    None => exchange(stream, None, &log, &answer).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => {
                            let sni = stream.get_ref().1.server_name().map(str::to_owned);
                            exchange(stream, sni, &log, &answer).await
                        }
                        Err(_) => Ok(()),
                    },
                };
            }
        });
        Server { port, asked }
    }

    fn url(&self, path: &str) -> Url {
        format!("http://127.0.0.1:{}{path}", self.port).parse().unwrap()
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn exchange(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    sni: Option<String>,
    log: &Mutex<Vec<Asked>>,
    answer: &impl Fn(&Asked) -> Said,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut asked = Asked { sni, ..Asked::default() };
    stream.read_line(&mut asked.line).await?;
    asked.line.truncate(asked.line.trim_end().len());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => drop(asked.headers.insert(name.to_ascii_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let length = asked.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    asked.body = String::from_utf8(body).unwrap();
    log.lock().unwrap().push(asked.clone());
    let (status, headers, body) = answer(&asked);
    let mut text = format!("HTTP/1.1 {status} Said\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).await?;
    stream.flush().await
}

/// An authority and a server's certificate for `name`.
fn certificate(name: &str) -> (String, TlsAcceptor) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    (authority.pem(), TlsAcceptor::from(Arc::new(config)))
}

fn named(ca: &str, server_name: &str) -> HttpClientConfig {
    let tls = TlsConfig { ca: ca.to_owned(), server_name: server_name.to_owned(), ..TlsConfig::default() };
    HttpClientConfig { tls_config: Some(tls), ..HttpClientConfig::default() }
}

async fn text(client: &HttpClient, url: &str) -> String {
    let answer = client.get(url.parse().unwrap()).await;
    answer.unwrap_or_else(|error| panic!("{url}: {error:?}")).text().await.unwrap()
}

#[tokio::test]
async fn a_server_is_asked_for_and_verified_by_the_name_given() {
    let (ca, tls) = certificate("node.internal");
    let server = Server::start(Ipv4Addr::LOCALHOST, 0, Some(tls), |_| said(200, "here")).await;
    let url = format!("https://127.0.0.1:{}/metrics?a=b", server.port);
    let client = http_client(&named(&ca, "Node.internal")).unwrap();
    assert_eq!(text(&client, &url).await, "here");
    let asked = server.asked();
    assert_eq!(asked[0].sni.as_deref(), Some("node.internal"));
    assert_eq!(asked[0].line, "GET /metrics?a=b HTTP/1.1");
    assert_eq!(asked[0].headers["host"], format!("127.0.0.1:{}", server.port));
    for other in ["", "other.internal"] {
        let client = http_client(&named(&ca, other)).unwrap();
        let error = client.get(url.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, HttpSendError::Request(_)), "{other:?}: {error:?}");
    }
    assert_eq!(server.asked().len(), 1, "a server with another name must not see the request");
    // What is not TLS has no use for the name.
    let plain = Server::plain(|_| said(200, "plain")).await;
    assert_eq!(text(&client, plain.url("/").as_str()).await, "plain");
}

#[tokio::test]
async fn hosts_under_one_name_are_not_taken_for_each_other_and_redirects_are_followed() {
    let (ca, tls) = certificate("node.internal");
    let one = Server::start(Ipv4Addr::LOCALHOST, 0, Some(tls.clone()), |_| said(200, "one")).await;
    let port = one.port;
    let two =
        Server::start(Ipv4Addr::new(127, 0, 0, 2), port, Some(tls), move |asked| match asked.line.split(' ').nth(1) {
            Some("/to-one") => (302, vec![("Location", format!("https://127.0.0.1:{port}/x"))], String::new()),
            Some("/here") => (307, vec![("Location", "there".to_owned())], String::new()),
            Some("/round") => (302, vec![("Location", "/round".to_owned())], String::new()),
            path => said(200, path.unwrap_or_default()),
        })
        .await;
    let mut config = named(&ca, "node.internal");
    config.bearer_token = Secret::new("token");
    let client = http_client(&config).unwrap();
    let at_two = |path: &str| format!("https://127.0.0.2:{port}{path}");
    assert_eq!(text(&client, &format!("https://127.0.0.1:{port}/")).await, "one");
    assert_eq!(text(&client, &at_two("/here")).await, "/there");
    assert_eq!(two.asked()[1].headers["authorization"], "Bearer token");
    assert_eq!(text(&client, &at_two("/to-one")).await, "one");
    let last = one.asked().pop().unwrap();
    assert_eq!((last.line.as_str(), last.headers["host"].clone()), ("GET /x HTTP/1.1", format!("127.0.0.1:{port}")));
    assert!(!last.headers.contains_key("authorization"), "credentials went to another host");
    let error = client.get(at_two("/round").parse().unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "stopped after 10 redirects");
    let stays = http_client(&HttpClientConfig { follow_redirects: false, ..config }).unwrap();
    assert_eq!(stays.get(at_two("/here").parse().unwrap()).await.unwrap().status(), 307);
}

fn oauth2(token_url: Url, secret_file: &Path) -> HttpClientConfig {
    let oauth2 = OAuth2 {
        client_id: "us er".to_owned(),
        client_secret_file: Some(secret_file.to_owned()),
        scopes: vec!["a".to_owned(), "b".to_owned()],
        token_url: token_url.into(),
        endpoint_params: BTreeMap::from([("audience".to_owned(), "x&y".to_owned())]),
        ..OAuth2::default()
    };
    HttpClientConfig { oauth2: Some(oauth2), ..HttpClientConfig::default() }
}

#[tokio::test]
async fn tokens_are_fetched_kept_and_renewed() {
    let folder = tempfile::TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "one:1\n").unwrap();
    let count = Arc::new(Mutex::new(0));
    let counted = count.clone();
    let tokens = Server::plain(move |_| {
        let mut count = counted.lock().unwrap();
        *count += 1;
        // The second ends at once, the third says its end as a text, the fourth never.
        let ends = ["3600", "5", "\"3600\"", "null"][(*count - 1).min(3)];
        said(200, &format!(r#"{{"access_token":"t{count}","token_type":"bearer","expires_in":{ends}}}"#))
    })
    .await;
    let target = Server::plain(|_| said(200, "")).await;
    let client = http_client(&oauth2(tokens.url("/token"), &secret)).unwrap();
    let ask = async || {
        text(&client, target.url("/").as_str()).await;
        target.asked().pop().unwrap().headers["authorization"].clone()
    };
    assert_eq!((ask().await, ask().await), ("Bearer t1".to_owned(), "Bearer t1".to_owned()));
    let first = tokens.asked().remove(0);
    assert_eq!(first.line, "POST /token HTTP/1.1");
    assert_eq!(first.body, "grant_type=client_credentials&scope=a+b&audience=x%26y");
    assert_eq!(first.headers["content-type"], "application/x-www-form-urlencoded");
    // us+er:one%3A1
    assert_eq!(first.headers["authorization"], "Basic dXMrZXI6b25lJTNBMQ==");
    fs::write(&secret, "two").unwrap();
    assert_eq!(ask().await, "Bearer t2", "a secret that was rotated asks anew");
    assert_eq!(ask().await, "Bearer t3", "so does a token that ends");
    assert_eq!((ask().await, *count.lock().unwrap()), ("Bearer t3".to_owned(), 3));
}

#[tokio::test]
async fn a_server_of_tokens_may_want_parameters_and_may_refuse() {
    let folder = tempfile::TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "s").unwrap();
    let tokens = Server::plain(|asked| match asked.body.contains("client_id=us+er&client_secret=s") {
        true => said(200, r#"{"access_token":"t","expires_in":1}"#),
        false => said(401, r#"{"error":"invalid_client"}"#),
    })
    .await;
    let target = Server::plain(|_| said(200, "")).await;
    let client = http_client(&oauth2(tokens.url("/"), &secret)).unwrap();
    text(&client, target.url("/").as_str()).await;
    text(&client, target.url("/").as_str()).await;
    assert_eq!(tokens.asked().len(), 3, "the way that worked is taken first");
    assert_eq!(target.asked()[1].headers["authorization"], "Bearer t");

    fs::write(&secret, "wrong").unwrap();
    let error = client.get(target.url("/")).await.unwrap_err();
    let text = "cannot fetch a token: the server answers 401 Unauthorized: {\"error\":\"invalid_client\"}";
    assert_eq!(error.to_string(), text);
    let empty = Server::plain(|_| said(200, "{}")).await;
    let client = http_client(&oauth2(empty.url("/"), &secret)).unwrap();
    assert!(matches!(client.get(target.url("/")).await.unwrap_err(), HttpSendError::NoToken));
    assert_eq!(target.asked().len(), 2, "nothing is sent without a token");
    for url in ["x", "ftp://x/"] {
        let mut config = oauth2(empty.url("/"), &secret);
        config.oauth2.as_mut().unwrap().token_url = url.to_owned();
        assert_eq!(http_client(&config).unwrap_err().to_string(), "oauth2 token_url is no http or https URL");
    }
}

#[tokio::test]
async fn a_proxy_is_told_the_headers_for_it() {
    let proxy = Server::plain(|_| said(502, "")).await;
    let headers = BTreeMap::from([("X-Tenant".to_owned(), vec![Secret::new("a"), Secret::new("b")])]);
    let proxied =
        ProxyConfig { proxy_url: Some(proxy.url("/").into()), proxy_connect_header: headers, ..ProxyConfig::default() };
    let config = HttpClientConfig { proxy: proxied, ..HttpClientConfig::default() };
    let client = http_client(&config).unwrap();
    client.get("https://target.test/metrics".parse().unwrap()).await.unwrap_err();
    let asked = proxy.asked().remove(0);
    assert_eq!(asked.line, "CONNECT target.test:443 HTTP/1.1");
    assert_eq!(asked.headers["x-tenant"], "b", "the last of both");
}
