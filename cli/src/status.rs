//! `kymo status`: what a running program does and what it waits for.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use kymo_context::{Paint, Status};
use kymo_core::config::HttpClientConfig;
use kymo_export::client::{HttpClient, http_client};
use kymo_export::program_status;
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::{output, query};

/// Pause of `--watch`.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest wait for an answer over HTTP.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Clears a terminal and begins at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Show what a running program does and what it waits for
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  kymo status
  kymo status 4711 --watch
  kymo status http://127.0.0.1:9911 --json
  kymo status /run/user/1000/kymo/4711.sock

A program is looked into by its process id when it has opened its socket (kymo_context::attach, kymo serve
--status-socket), and over HTTP when it serves /api/v1/status/contexts, as kymo serve does."
)]
pub(crate) struct StatusArgs {
    /// Whom to ask: a process id, the path of a socket, or the address of a server
    #[arg(env = "KYMO_SERVER", hide_env_values = true, value_name = "PID|SOCKET|URL")]
    #[arg(default_value = "http://127.0.0.1:9911")]
    target: String,
    /// Ask again every second
    #[arg(long, short)]
    watch: bool,
    /// As JSON, one document a line
    #[arg(long)]
    json: bool,
    /// File with the bearer token that the server asks for
    #[arg(long, env = "KYMO_AUTH_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,
}

pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let source = Source::new(args)?;
    let is_screen = args.watch && !args.json && std::io::stdout().is_terminal();
    loop {
        let status = source.ask()?;
        let text = match args.json {
            true => format!("{}\n", status.to_json()),
            // Colours are taken out again where there is no terminal.
            false => status.painted(Paint::Ansi).to_string(),
        };
        output::print(&if is_screen { format!("{CLEAR}{text}") } else { text })?;
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        if !is_screen && !args.json {
            output::print("\n")?;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Who is asked, and how.
enum Source {
    Socket(PathBuf),
    Server { runtime: Runtime, client: HttpClient, url: String },
}

impl Source {
    fn new(args: &StatusArgs) -> Result<Source, Failure> {
        let target = args.target.as_str();
        if target.contains("://") {
            return Source::server(target, args.auth_token_file.as_deref());
        }
        match target.parse::<u32>() {
            Ok(pid) => socket_of(pid).map(Source::Socket),
            Err(_) => Ok(Source::Socket(target.into())),
        }
    }

    fn server(base: &str, token_file: Option<&Path>) -> Result<Source, Failure> {
        let config = HttpClientConfig {
            authorization: token_file.map(query::bearer).transpose()?,
            ..HttpClientConfig::default()
        };
        let client = http_client(&config).map_err(|error| Failure::because("cannot ask the server", &error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::because("cannot start the async threads", &error))?;
        let url = format!("{}{}", base.trim_end_matches('/'), program_status::PATH);
        Ok(Source::Server { runtime, client, url })
    }

    fn ask(&self) -> Result<Status, Failure> {
        match self {
            Source::Socket(path) => of_socket(path),
            Source::Server { runtime, client, url } => {
                let answered = runtime.block_on(async { tokio::time::timeout(TIMEOUT, of_server(client, url)).await });
                answered.unwrap_or_else(|_| Err(Failure::new(format!("{url} has not answered for {TIMEOUT:?}"))))
            }
        }
    }
}

async fn of_server(client: &HttpClient, url: &str) -> Result<Status, Failure> {
    let address = url.parse().map_err(|_| Failure::usage(format!("{url:?} is no address of a server")))?;
    let failed = |error: &dyn std::error::Error| {
        Failure::because(format_args!("cannot ask {url}"), error)
            .hint("is it running? Name another server, a socket or a process id: kymo status TARGET")
    };
    let answer = client.get(address).await.map_err(|error| failed(&error))?;
    let status = answer.status();
    if status == 401 {
        return Err(Failure::new(format!("{url} answers 401")).hint("give a token with --auth-token-file FILE"));
    }
    if !status.is_success() {
        return Err(Failure::new(format!("{url} answers {status}")).hint("does it serve the status of a program?"));
    }
    let body = answer.bytes().await.map_err(|error| failed(&error))?;
    let envelope: Envelope = serde_json::from_slice(&body)
        .map_err(|error| Failure::because(format_args!("what {url} answers is not the status of a program"), &error))?;
    Ok(envelope.data)
}

/// Around an answer of the Prometheus API.
#[derive(serde::Deserialize)]
struct Envelope {
    data: Status,
}

#[cfg(unix)]
pub(crate) fn socket_of(pid: u32) -> Result<PathBuf, Failure> {
    use kymo_context::attach;

    let path = attach::socket_of(pid);
    if path.exists() {
        return Ok(path);
    }
    let others: Vec<String> = attach::sockets().iter().map(|(pid, _)| pid.to_string()).collect();
    let failure = Failure::new(format!("process {pid} has no socket at {}", path.display()));
    Err(match others.is_empty() {
        true => failure.hint("a program opens one when it is told to: kymo serve --status-socket"),
        false => failure.hint(format!("these processes have one: {}", others.join(", "))),
    })
}

#[cfg(unix)]
pub(crate) fn of_socket(path: &Path) -> Result<Status, Failure> {
    kymo_context::attach::read(path).map_err(|error| {
        Failure::because("cannot ask the program", &error).hint("has it ended? Name a process id, a socket or a URL")
    })
}

#[cfg(not(unix))]
pub(crate) fn socket_of(_: u32) -> Result<PathBuf, Failure> {
    Err(Failure::usage("there are no Unix sockets here").hint("name the URL of a server"))
}

#[cfg(not(unix))]
pub(crate) fn of_socket(_: &Path) -> Result<Status, Failure> {
    Err(Failure::usage("there are no Unix sockets here").hint("name the URL of a server"))
}
