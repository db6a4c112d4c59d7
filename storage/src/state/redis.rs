//! The store in a Redis server.
//!
//! One deadline holds for a whole operation: looking the server up, connecting, signing in, asking, and every byte of the answer.
//! Commands and their answers are written and read by the `redis` crate; the connection is ours, because a socket's
//! timeouts hold for single reads, and a server that sends a byte now and then would never be late for those.
//!
//! 1. A connection is used by one operation at a time. It goes back only after a whole answer was read from it, so that an answer is
//!    never taken for that of another question.
//! 2. An idle connection is looked at before it is used: what the server has closed since then is not asked. So a server that was
//!    restarted is found again by the next operation, which is never sent twice.
//! 3. Nothing is waited for by more than one operation: there is no lock across I/O.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use kymo_core::config::Secret;
use kymo_core::state::{StateError, StateStore};
use redis::{Cmd, ConnectionAddr, IntoConnectionInfo, Parser, RedisError, Value};

use super::{check_key, check_value, unavailable};

/// Connections kept for the next operation; more are closed after use.
const IDLE_MAX: usize = 4;
/// Keys that a step of a listing looks at.
const SCAN_COUNT: usize = 1_000;

/// Where a Redis is, and how it is asked.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `redis://[user[:password]@]host[:port][/database]`.
    pub url: String,
    /// Wins over the URL's.
    pub password: Option<Secret>,
    /// The longest an operation takes. Default 1 s.
    pub timeout: Duration,
    /// What every key begins with there, so that several programs can share a database. Default `kymo:`.
    pub key_prefix: String,
}

impl RedisOptions {
    /// The defaults with this URL.
    pub fn new(url: impl Into<String>) -> RedisOptions {
        RedisOptions {
            url: url.into(),
            password: None,
            timeout: Duration::from_secs(1),
            key_prefix: "kymo:".to_owned(),
        }
    }
}

/// Why a Redis was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisFault {
    /// The URL is none of a Redis.
    #[error("not a URL of a Redis")]
    Url(#[source] RedisError),
    /// The URL asks for something that is not here.
    #[error("{what} is not supported: give redis://host:port/database")]
    Unsupported {
        /// What it is.
        what: &'static str,
    },
    /// The timeout leaves no time.
    #[error("a timeout of nothing leaves no time to ask")]
    NoTime,
    /// The host's name has no address.
    #[error("{server}: cannot look it up")]
    Lookup {
        /// Host and port.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server cannot be reached.
    #[error("{server}: {doing} failed")]
    Io {
        /// Host and port.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The operation took longer than it may.
    #[error("{server}: no answer within {} ms", timeout.as_millis())]
    Timeout {
        /// Host and port.
        server: String,
        /// How long an operation may take.
        timeout: Duration,
    },
    /// The server refused, or what it sent cannot be read.
    #[error("{server}: {doing} was refused")]
    Refused {
        /// Host and port.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// What the server said.
        source: Box<RedisError>,
    },
    /// The answer is none to the question.
    #[error("{server}: unexpected answer to {doing}")]
    Answer {
        /// Host and port.
        server: String,
        /// What was being done.
        doing: &'static str,
    },
}

/// A [`StateStore`] in a Redis. Connects with the first operation, and again whenever it has to.
///
/// Durability is the server's: to survive its kill it needs `appendonly yes`, and `appendfsync always` for power loss.
/// Listing goes through every key of the database, so give Kymo one of its own where others keep much.
pub struct RedisState {
    server: Server,
    key_prefix: String,
    idle: Mutex<Vec<Connection>>,
}

/// Whom to ask, and as whom.
struct Server {
    host: String,
    port: u16,
    /// Host and port, for messages.
    name: String,
    user: Option<String>,
    password: Option<Secret>,
    database: i64,
    timeout: Duration,
}

impl RedisState {
    /// A store that asks this server; does not connect yet.
    ///
    /// # Errors
    /// The URL, or the timeout, cannot be right.
    pub fn new(options: RedisOptions) -> Result<RedisState, RedisFault> {
        let RedisOptions { url, password, timeout, key_prefix } = options;
        let info = url.as_str().into_connection_info().map_err(RedisFault::Url)?;
        let (host, port) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (host.clone(), *port),
            ConnectionAddr::TcpTls { .. } => return Err(RedisFault::Unsupported { what: "TLS" }),
            _ => return Err(RedisFault::Unsupported { what: "a Unix socket" }),
        };
        if timeout.is_zero() {
            return Err(RedisFault::NoTime);
        }
        let settings = info.redis_settings();
        let name = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let server = Server {
            host,
            port,
            name,
            user: settings.username().map(str::to_owned),
            password: password.or_else(|| settings.password().map(Secret::new)),
            database: settings.db(),
            timeout,
        };
        Ok(RedisState { server, key_prefix, idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something over a connection, within one deadline.
    fn with<T>(&self, work: impl FnOnce(&mut Connection, &Server) -> Result<T, RedisFault>) -> Result<T, StateError> {
        let deadline = Instant::now() + self.server.timeout;
        self.within(deadline, work).map_err(unavailable)
    }

    fn within<T>(
        &self,
        deadline: Instant,
        work: impl FnOnce(&mut Connection, &Server) -> Result<T, RedisFault>,
    ) -> Result<T, RedisFault> {
        let mut connection = loop {
            let Some(mut idle) = self.idle().pop() else { break Connection::open(&self.server, deadline)? };
            if idle.is_quiet() {
                idle.stream.deadline = deadline;
                break idle;
            }
        };
        let done = work(&mut connection, &self.server)?;
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        Ok(done)
    }

    fn name_of(&self, key: &str) -> String {
        format!("{}{key}", self.key_prefix)
    }
}

impl Server {
    fn io(&self, doing: &'static str) -> impl FnOnce(io::Error) -> RedisFault + use<'_> {
        move |source| match source.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => self.late(),
            _ => RedisFault::Io { server: self.name.clone(), doing, source },
        }
    }

    fn late(&self) -> RedisFault {
        RedisFault::Timeout { server: self.name.clone(), timeout: self.timeout }
    }

    /// The addresses of the host, within the deadline: the system looks names up for as long as it likes, so that is done beside.
    fn addresses(&self, deadline: Instant) -> Result<Vec<SocketAddr>, RedisFault> {
        if let Ok(address) = self.host.parse() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let (found, wanted) = mpsc::sync_channel(1);
        let (host, port) = (self.host.clone(), self.port);
        let look_up = move || {
            // Who asked may have given up.
            let _ = found.send((host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
        };
        let failed = |source| RedisFault::Lookup { server: self.name.clone(), source };
        std::thread::Builder::new().name("kymo-lookup".to_owned()).spawn(look_up).map_err(failed)?;
        wanted.recv_timeout(left(deadline).map_err(|_| self.late())?).map_err(|_| self.late())?.map_err(failed)
    }
}

/// What is left until a deadline; nothing is an error.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A socket whose every read and write ends at the deadline.
struct Timed {
    socket: TcpStream,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(left(self.deadline)?))?;
        match self.socket.read(into)? {
            // The parser would take it for the end of a value that has none.
            0 if !into.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(left(self.deadline)?))?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection that is signed in.
struct Connection {
    stream: Timed,
    parser: Parser,
}

impl Connection {
    fn open(server: &Server, deadline: Instant) -> Result<Connection, RedisFault> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in server.addresses(deadline)? {
            let connected = left(deadline).and_then(|left| TcpStream::connect_timeout(&address, left));
            match connected {
                Ok(socket) => {
                    socket.set_nodelay(true).map_err(server.io("connecting"))?;
                    let mut connection = Connection { stream: Timed { socket, deadline }, parser: Parser::new() };
                    connection.sign_in(server)?;
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(server.io("connecting")(last))
    }

    fn sign_in(&mut self, server: &Server) -> Result<(), RedisFault> {
        if let Some(password) = &server.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = &server.user {
                auth.arg(user);
            }
            auth.arg(password.expose());
            self.ask(server, "signing in", &auth)?;
        }
        if server.database != 0 {
            self.ask(server, "choosing the database", redis::cmd("SELECT").arg(server.database))?;
        }
        Ok(())
    }

    /// Whether the server has neither closed it nor said anything unasked.
    fn is_quiet(&self) -> bool {
        let socket = &self.stream.socket;
        let is_quiet = socket.set_nonblocking(true).is_ok()
            && matches!(socket.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        is_quiet && socket.set_nonblocking(false).is_ok()
    }

    fn ask(&mut self, server: &Server, doing: &'static str, command: &Cmd) -> Result<Value, RedisFault> {
        self.stream.write_all(&command.get_packed_command()).map_err(server.io(doing))?;
        let refused = |source| RedisFault::Refused { server: server.name.clone(), doing, source: Box::new(source) };
        match self.parser.parse_value(&mut self.stream) {
            Ok(Value::ServerError(error)) => Err(refused(error.into())),
            Ok(answer) => Ok(answer),
            Err(error) if error.is_timeout() => Err(server.late()),
            Err(error) if error.is_io_error() => {
                let source = io::Error::new(io::ErrorKind::ConnectionAborted, error);
                Err(RedisFault::Io { server: server.name.clone(), doing, source })
            }
            Err(error) => Err(refused(error)),
        }
    }
}

fn unexpected(server: &Server, doing: &'static str) -> RedisFault {
    RedisFault::Answer { server: server.name.clone(), doing }
}

impl StateStore for RedisState {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        check_key(key)?;
        let name = self.name_of(key);
        self.with(|connection, server| match connection.ask(server, "get", redis::cmd("GET").arg(name))? {
            Value::Nil => Ok(None),
            Value::BulkString(value) => Ok(Some(value)),
            _ => Err(unexpected(server, "get")),
        })
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), StateError> {
        check_key(key)?;
        check_value(key, value)?;
        let name = self.name_of(key);
        self.with(|connection, server| match connection.ask(server, "put", redis::cmd("SET").arg(name).arg(value))? {
            Value::Okay => Ok(()),
            _ => Err(unexpected(server, "put")),
        })
    }

    fn delete(&self, key: &str) -> Result<bool, StateError> {
        check_key(key)?;
        let name = self.name_of(key);
        self.with(|connection, server| match connection.ask(server, "delete", redis::cmd("DEL").arg(name))? {
            Value::Int(deleted) => Ok(deleted > 0),
            _ => Err(unexpected(server, "delete")),
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let pattern = format!("{}*", literal(&self.name_of(prefix)));
        let mut keys = self.with(|connection, server| {
            let (mut keys, mut cursor) = (Vec::new(), b"0".to_vec());
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_COUNT);
                let answer = connection.ask(server, "list", &scan)?;
                let Some((next, found)) = scanned(answer) else { return Err(unexpected(server, "list")) };
                // A key that is not text was not written by this program.
                let texts = found.into_iter().filter_map(|name| String::from_utf8(name).ok());
                keys.extend(texts.filter_map(|name| Some(name.strip_prefix(&self.key_prefix)?.to_owned())));
                if next == b"0" {
                    return Ok(keys);
                }
                cursor = next;
            }
        })?;
        // A scan may give a key twice, and in any order.
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }
}

/// Where to go on, and the keys of this step.
fn scanned(answer: Value) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let Value::Array(parts) = answer else { return None };
    let [Value::BulkString(cursor), Value::Array(found)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
    let names = found.into_iter().map(|name| match name {
        Value::BulkString(name) => Some(name),
        _ => None,
    });
    Some((cursor, names.collect::<Option<_>>()?))
}

/// A pattern that matches this text alone.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

impl std::fmt::Debug for RedisState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisState").field("server", &self.server.name).finish_non_exhaustive()
    }
}
