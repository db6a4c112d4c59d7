//! `kymo state`: the small facts that a server keeps of itself, read and changed; and the store they are in, for the server.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use kymo::config::{self, KymoSection, RedisSection, StateBackend, StateSection};
use kymo_core::config::Secret;
use kymo_core::state::{StateError, StateStore};
use kymo_export::api::{StateValue, hex};
use kymo_storage::fs::RealFs;
use kymo_storage::state::{EmbeddedFault, EmbeddedState, RedisOptions, RedisState};
use serde_json::json;

use crate::administer::Administered;
use crate::failure::{FAILED, Failure, chain};
use crate::output::{self, Form};

/// Where the embedded store is, below the data directory.
const FOLDER: &str = "state";

/// Look at, or change, the small facts that a server keeps of itself
///
/// A server keeps its identity and what became of its runs there; keys beginning with user/ are never touched by Kymo.
/// A server that runs is asked over HTTP and must have been started with --enable-admin-api; the store of one that does not run,
/// and a Redis in any case, are opened with --data-dir or --config.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo state list
  kymo state get server/id --data-dir /var/lib/kymo
  kymo state put user/owner 'team storage' --server http://127.0.0.1:9911
  kymo state list server/ --config kymo.yml --output json

Exit status: 0 when it was done, 1 when it was not, or when the key has no value.")]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Debug, clap::Subcommand)]
enum StateCommand {
    /// Print the value of a key, byte for byte
    #[command(after_help = "Examples:\n  kymo state get server/id\n  kymo state get server/run --output json")]
    Get {
        /// The key
        key: String,
        /// Form of the value
        #[arg(long, short, env = "KYMO_OUTPUT", hide_env_values = true, value_enum, default_value_t = Form::Table)]
        output: Form,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Set the value of a key
    #[command(after_help = "Examples:\n  kymo state put user/owner storage\n  kymo state put user/note - < note.txt")]
    Put {
        /// The key
        key: String,
        /// The value; - for standard input
        value: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Take the value of a key away
    #[command(after_help = "Examples:\n  kymo state delete user/owner")]
    Delete {
        /// The key
        key: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// List the keys
    #[command(after_help = "Examples:\n  kymo state list\n  kymo state list server/ --output json")]
    List {
        /// What the keys begin with
        #[arg(default_value = "")]
        prefix: String,
        /// Form of the list
        #[arg(long, short, env = "KYMO_OUTPUT", hide_env_values = true, value_enum, default_value_t = Form::Table)]
        output: Form,
        #[command(flatten)]
        place: PlaceArgs,
    },
}

#[derive(Debug, clap::Args)]
struct PlaceArgs {
    /// Address of the server
    #[arg(
        long,
        env = "KYMO_SERVER",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:9911",
        conflicts_with_all = ["data_dir", "config"]
    )]
    server: String,
    /// File with the bearer token that the server asks for
    #[arg(long, env = "KYMO_AUTH_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,
    /// The store in this data directory, which no server has open
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The store that this configuration file says
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: &StateArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        StateCommand::Get { key, output, place } => {
            let Some(value) = Place::of(place)?.get(key)? else {
                anstream::eprintln!("{key} has no value");
                return Ok(ExitCode::from(FAILED));
            };
            print_value(key, &value, *output)?;
        }
        StateCommand::Put { key, value, place } => {
            let value = if value == "-" { standard_input()? } else { value.as_bytes().to_vec() };
            Place::of(place)?.put(key, &value)?;
        }
        StateCommand::Delete { key, place } => {
            if !Place::of(place)?.delete(key)? {
                anstream::eprintln!("{key} has no value");
                return Ok(ExitCode::from(FAILED));
            }
        }
        StateCommand::List { prefix, output, place } => {
            let keys = Place::of(place)?.list(prefix)?;
            let text = match output {
                Form::Json => format!("{}\n", json!(keys)),
                Form::Csv => lines(std::iter::once("key").chain(keys.iter().map(String::as_str))),
                Form::Table => lines(keys.iter().map(String::as_str)),
            };
            output::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn print_value(key: &str, value: &[u8], form: Form) -> Result<(), Failure> {
    let text = || String::from_utf8(value.to_vec()).ok();
    match form {
        Form::Json => output::print(&format!("{}\n", json!({"key": key, "value": text(), "hex": hex(value)}))),
        Form::Csv => output::print(&format!("key,hex\n\"{}\",{}\n", key.replace('"', "\"\""), hex(value))),
        Form::Table => output::print_bytes(value),
    }
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut value);
    read.map_err(|error| Failure::because("cannot read standard input", &error))?;
    Ok(value)
}

/// Who is asked.
enum Place {
    Server(Box<Administered>),
    Store(Arc<dyn StateStore>),
}

impl Place {
    fn of(args: &PlaceArgs) -> Result<Place, Failure> {
        let file = args.config.as_deref().map(config::load).transpose().map_err(|faults| Failure::faults(&faults))?;
        let file: Option<KymoSection> = file.map(|file| file.kymo);
        if file.is_none() && args.data_dir.is_none() {
            return Administered::new(&args.server, args.auth_token_file.as_deref())
                .map(|server| Place::Server(Box::new(server)));
        }
        let file = file.unwrap_or_default();
        let data_dir = args.data_dir.clone().or(file.data_dir).unwrap_or_else(|| "./kymo-data".into());
        if file.state.backend == StateBackend::Embedded && !data_dir.join(FOLDER).is_dir() {
            return Err(Failure::new(format!("{} has no state store", data_dir.display()))
                .hint("name a directory that kymo serve has written with --data-dir"));
        }
        open(&file.state, &data_dir).map(Place::Store)
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Place::Store(store) => store.get(key).map_err(|error| failed(&error)),
            Place::Server(server) => {
                let params = [("key", key.to_owned())];
                let keys: Vec<String> = server.ask("list its state", |client, ctx| {
                    client.administer_state("list", &[("prefix", key.to_owned())], ctx)
                })?;
                if !keys.iter().any(|known| known == key) {
                    return Ok(None);
                }
                let value: StateValue =
                    server.ask("tell its state", |client, ctx| client.administer_state("get", &params, ctx))?;
                let malformed = || Failure::new("the server's answer has no bytes in it");
                value.bytes().map(Some).ok_or_else(malformed)
            }
        }
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), Failure> {
        match self {
            Place::Store(store) => store.put(key, value).map_err(|error| failed(&error)),
            Place::Server(server) => {
                let params = [("key", key.to_owned()), ("hex", hex(value))];
                let done: serde_json::Value =
                    server.ask("change its state", |client, ctx| client.administer_state("put", &params, ctx))?;
                drop(done);
                Ok(())
            }
        }
    }

    fn delete(&self, key: &str) -> Result<bool, Failure> {
        match self {
            Place::Store(store) => store.delete(key).map_err(|error| failed(&error)),
            Place::Server(server) => {
                let params = [("key", key.to_owned())];
                let done: serde_json::Value =
                    server.ask("change its state", |client, ctx| client.administer_state("delete", &params, ctx))?;
                Ok(done["deleted"].as_bool().unwrap_or_default())
            }
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        match self {
            Place::Store(store) => store.list(prefix).map_err(|error| failed(&error)),
            Place::Server(server) => {
                let params = [("prefix", prefix.to_owned())];
                server.ask("list its state", |client, ctx| client.administer_state("list", &params, ctx))
            }
        }
    }
}

fn failed(error: &StateError) -> Failure {
    Failure::new(chain(error))
}

/// The name of a backend in metrics.
pub(crate) fn backend_label(backend: StateBackend) -> &'static str {
    match backend {
        StateBackend::Embedded => "local",
        StateBackend::Redis => "redis",
    }
}

/// Opens the store that a file says. A Redis is not asked yet.
pub(crate) fn open(section: &StateSection, data_dir: &Path) -> Result<Arc<dyn StateStore>, Failure> {
    match (section.backend, &section.redis) {
        (StateBackend::Redis, Some(redis)) => {
            let store = RedisState::new(redis_options(redis)?)
                .map_err(|error| Failure::because("the state store in a Redis cannot be used", &error))?;
            Ok(Arc::new(store))
        }
        (StateBackend::Redis, None) => Err(Failure::new("the state store is to be a Redis, and none is named")),
        (StateBackend::Embedded, _) => embedded(data_dir),
    }
}

fn embedded(data_dir: &Path) -> Result<Arc<dyn StateStore>, Failure> {
    let folder = data_dir.join(FOLDER);
    let store = EmbeddedState::open(Arc::new(RealFs), &folder).map_err(|error| {
        let failure = Failure::because(format_args!("cannot open the state store {}", folder.display()), &error);
        match error {
            EmbeddedFault::Locked { .. } => failure.hint("a server uses it: ask that one with --server"),
            EmbeddedFault::Database { .. } => failure.hint(
                "nothing was removed: restore the folder from a copy, or move it away to begin with an empty one; samples are elsewhere",
            ),
            _ => failure,
        }
    })?;
    Ok(Arc::new(store))
}

fn redis_options(section: &RedisSection) -> Result<RedisOptions, Failure> {
    let mut options = RedisOptions::new(&section.url);
    if let Some(file) = &section.password_file {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Failure::because(format_args!("cannot read the password file {}", file.display()), &error)
        })?;
        options.password = Some(Secret::new(text.lines().next().unwrap_or_default()));
    }
    if let Some(timeout) = section.timeout {
        options.timeout = timeout.as_duration();
    }
    if let Some(prefix) = &section.key_prefix {
        options.key_prefix.clone_from(prefix);
    }
    Ok(options)
}
