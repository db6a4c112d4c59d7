//! Lookups of records that the system's resolver does not give.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kymo_core::BlockingPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::super::blocking;
use super::message::{Answer, MessageError, Question, RCODE_FORMAT, RCODE_NO_SUCH_NAME, RCODE_OK, Record, RecordType};
use super::resolv_conf::ResolvConf;
use crate::scrape::error::StoreError;

/// How long one name may take with all its search domains, servers and attempts. The default interval of a refresh: a
/// lookup that takes longer holds up the next one.
const LOOKUP_MAX: Duration = Duration::from_secs(30);
/// The largest message, by either transport.
const MESSAGE_BYTES_MAX: usize = u16::MAX as usize;

/// Asks the name servers that a `resolv.conf` names; it is read at each refresh, so that changes take effect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolver {
    conf: PathBuf,
    port: u16,
}

/// Why a name could not be looked up. That it does not exist is an answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::scrape) enum LookupError {
    #[error("{}: cannot read name servers", path.display())]
    Settings { path: PathBuf, source: std::io::Error },
    #[error("not a domain name")]
    Name,
    #[error("name server {server}")]
    Server { server: SocketAddr, source: ExchangeError },
    #[error("no answer within {} s", LOOKUP_MAX.as_secs())]
    Slow,
    #[error(transparent)]
    Pool(#[from] StoreError),
}

/// Why a name server is of no use.
#[derive(Debug, thiserror::Error)]
pub(in crate::scrape) enum ExchangeError {
    #[error("cannot exchange messages")]
    Io(#[from] std::io::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("unreadable answer")]
    Message(#[from] MessageError),
    #[error("answer truncated even by TCP")]
    Truncated,
    #[error("answered with code {0}")]
    Code(u8),
}

impl Resolver {
    pub(super) fn system() -> Resolver {
        Resolver::new(Path::new("/etc/resolv.conf"), 53)
    }

    /// Reads servers from `conf` and asks them at `port`, which the file cannot say.
    pub(super) fn new(conf: &Path, port: u16) -> Resolver {
        Resolver { conf: conf.to_owned(), port }
    }

    /// Reads which servers to ask.
    pub(super) async fn servers(&self, pool: &dyn BlockingPool) -> Result<Servers, LookupError> {
        let path = self.conf.clone();
        let text = blocking(pool, move || std::fs::read_to_string(path)).await?;
        let text = text.map_err(|source| LookupError::Settings { path: self.conf.clone(), source })?;
        Ok(Servers { conf: ResolvConf::read(&text), port: self.port })
    }
}

/// Name servers and how to ask them.
#[derive(Debug)]
pub(super) struct Servers {
    conf: ResolvConf,
    port: u16,
}

impl Servers {
    /// The records of the first name that exists among those that `name` may stand for.
    ///
    /// None if no such name exists: that is certain only if some server said so of each; else the lookup fails, as
    /// Prometheus' does.
    pub(super) async fn lookup(&self, name: &str, record_type: RecordType) -> Result<Vec<Record>, LookupError> {
        let search = async {
            let mut failed = None;
            for name in self.conf.names(name) {
                match self.ask_any(&name, record_type).await {
                    Ok(answer) if answer.rcode == RCODE_OK => return Ok(answer.records),
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                }
            }
            failed.map_or_else(|| Ok(Vec::new()), Err)
        };
        tokio::time::timeout(LOOKUP_MAX, search).await.unwrap_or(Err(LookupError::Slow))
    }

    /// The first answer that says whether `name` exists.
    async fn ask_any(&self, name: &str, record_type: RecordType) -> Result<Answer, LookupError> {
        // Settings have at least one server and one attempt, so another failure takes its place.
        let mut failed = LookupError::Slow;
        for _ in 0..self.conf.attempts {
            for server in &self.conf.servers {
                // The id and the port that the system picks are what a forged answer has to guess.
                let id = RandomState::new().hash_one(name) as u16;
                let question = Question::new(id, name, record_type).ok_or(LookupError::Name)?;
                let server = SocketAddr::new(*server, self.port);
                let answer = tokio::time::timeout(self.conf.timeout, ask(server, &question)).await;
                let source = match answer.unwrap_or(Err(ExchangeError::Timeout)) {
                    Ok(answer) if matches!(answer.rcode, RCODE_OK | RCODE_NO_SUCH_NAME) => return Ok(answer),
                    Ok(answer) => ExchangeError::Code(answer.rcode),
                    Err(error) => error,
                };
                failed = LookupError::Server { server, source };
            }
        }
        Err(failed)
    }
}

/// Asks by datagram, without extensions if the server does not know them, and by TCP if the answer did not fit.
async fn ask(server: SocketAddr, question: &Question) -> Result<Answer, ExchangeError> {
    let mut answer = by_datagram(server, question, &question.with_edns()).await?;
    if answer.rcode == RCODE_FORMAT {
        answer = by_datagram(server, question, &question.plain()).await?;
    }
    if !answer.truncated {
        return Ok(answer);
    }
    let answer = by_stream(server, question).await?;
    if answer.truncated { Err(ExchangeError::Truncated) } else { Ok(answer) }
}

async fn by_datagram(server: SocketAddr, question: &Question, message: &[u8]) -> Result<Answer, ExchangeError> {
    let any: IpAddr = if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // A connected socket hears this server only.
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let len = socket.recv(&mut buffer).await?;
        match question.read_answer(buffer.get(..len).unwrap_or_default()) {
            // Late or forged: the right one may still come.
            Err(MessageError::OtherQuestion) => {}
            read => return Ok(read?),
        }
    }
}

async fn by_stream(server: SocketAddr, question: &Question) -> Result<Answer, ExchangeError> {
    let mut stream = TcpStream::connect(server).await?;
    let message = question.plain();
    // A name has at most 255 bytes, so a question's length fits its two bytes.
    let mut framed = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    framed.extend_from_slice(&message);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(question.read_answer(&answer)?)
}
