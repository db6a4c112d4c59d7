//! The server that is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kymo_core::config::{Authorization, Secret};
use kymo_core::query::{QueryError, QueryRequest, QueryResult};
use kymo_core::text::parse_duration_ms;
use kymo_core::{Clock, ErrorKind, QueryBackend, QueryContext, SystemClock};
use kymo_export::client::{ClientError, ClientOptions, PrometheusClient};
use tokio::runtime::{Handle, Runtime};

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct RemoteArgs {
    /// Address of the server
    #[arg(
        long,
        env = "KYMO_SERVER",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:9911"
    )]
    server: String,
    /// File with the bearer token that the server asks for
    #[arg(long, env = "KYMO_AUTH_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,
    /// How long to wait for the answer, as a Prometheus duration
    #[arg(long, env = "KYMO_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "2m")]
    #[arg(value_parser = timeout)]
    timeout: Duration,
}

fn timeout(text: &str) -> Result<Duration, String> {
    match parse_duration_ms(text).map(u64::try_from) {
        Ok(Ok(ms)) if ms > 0 => Ok(Duration::from_millis(ms)),
        Ok(_) => Err("a timeout is longer than nothing".to_owned()),
        Err(error) => Err(format!("{error}; expected a duration like 30s or 2m")),
    }
}

impl RemoteArgs {
    /// What to send to be let in.
    fn authorization(&self) -> Result<Option<Authorization>, Failure> {
        self.auth_token_file.as_deref().map(bearer).transpose()
    }
}

/// The token to send: the first line of the file.
pub(crate) fn bearer(file: &Path) -> Result<Authorization, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::because(format_args!("cannot read the token file {}", file.display()), &error))?;
    match text.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(token) => Ok(Authorization {
            scheme: "Bearer".to_owned(),
            credentials: Secret::new(token.to_owned()),
            credentials_file: None,
        }),
        None => Err(Failure::new(format!("the token file {} holds no token", file.display()))),
    }
}

/// A server with a Prometheus API, and how long it may take.
pub(super) struct Remote {
    /// Drives the client's connections.
    runtime: Runtime,
    backend: PrometheusClient,
    ctx: QueryContext,
}

impl Remote {
    pub(super) fn new(args: &RemoteArgs) -> Result<Remote, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failure::because("cannot start the async threads", &error))?;
        let backend = connect(args, runtime.handle())?;
        let clock = SystemClock::new();
        let ctx = QueryContext {
            deadline: Some(clock.monotonic() + args.timeout),
            clock: Arc::new(clock),
            ..QueryContext::unlimited()
        };
        Ok(Remote { runtime, backend, ctx })
    }

    pub(super) fn query(&self, request: &QueryRequest) -> Result<QueryResult, QueryError> {
        self.backend.query(request, &self.ctx)
    }

    pub(super) fn runtime(&self) -> &Handle {
        self.runtime.handle()
    }
}

fn connect(args: &RemoteArgs, runtime: &Handle) -> Result<PrometheusClient, Failure> {
    let mut options = ClientOptions::new(&*args.server);
    options.timeout = args.timeout;
    options.http.authorization = args.authorization()?;
    PrometheusClient::new(options, runtime.clone()).map_err(|error| match &error {
        ClientError::Url { .. } => {
            Failure::usage(error.to_string()).hint("give --server a URL like http://127.0.0.1:9911")
        }
        _ => Failure::because("cannot ask the server", &error),
    })
}

/// What to do about an error that is not the expression's.
pub(super) fn hint(error: &QueryError) -> Option<&'static str> {
    match error.kind {
        ErrorKind::Unavailable { .. } => Some("is it running? Name another server with --server URL"),
        ErrorKind::Timeout => Some("give it more time with --timeout DURATION, or ask for less"),
        // The API has no error type of its own for this.
        _ if error.message.contains("answered 401") => Some("give a token with --auth-token-file FILE"),
        _ => None,
    }
}
