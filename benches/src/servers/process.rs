//! One running server, on a core of its own.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Answer, Binary, Connection, Kind};
use crate::cases::append::bytes_below;
use crate::load::RequestFile;
use crate::machine::{self, Resident};

const WRITE_PATH: &str = "/api/v1/write";
const WRITE_HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];
/// Connections that requests are spread over. A series stays on one, so its samples keep their order.
const CONNECTIONS: usize = 4;
/// A start that takes longer has failed.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How often a starting server is asked; also the resolution of the time to ready.
const POLL: Duration = Duration::from_millis(2);
/// A server that used at most this much CPU over `QUIET_TIME` has settled.
const QUIET_CPU: Duration = Duration::from_millis(20);
const QUIET_TIME: Duration = Duration::from_secs(2);
const SETTLE_DEADLINE: Duration = Duration::from_secs(25);

/// A server that answers.
pub struct Server {
    binary: Binary,
    dir: PathBuf,
    child: Child,
    port: u16,
    ready_after: Duration,
    answers_after: Duration,
}

/// What writing requests took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// Samples acknowledged.
    pub samples: u64,
    /// From the first request to the last acknowledgement.
    pub wall: Duration,
    /// CPU time of the server's process meanwhile.
    pub cpu: Duration,
}

impl Server {
    /// Starts a server on `dir` and waits until it says that it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready in time.
    pub fn start(binary: &Binary, dir: &Path) -> Result<Server> {
        Server::start_with(binary, dir, None)
    }

    /// The same, scraping the target on this port each second.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_scraping(binary: &Binary, dir: &Path, target: u16) -> Result<Server> {
        Server::start_with(binary, dir, Some(target))
    }

    fn start_with(binary: &Binary, dir: &Path, target: Option<u16>) -> Result<Server> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let log_path = dir.join("server.log");
        let log = OpenOptions::new().create(true).append(true).open(&log_path)?;
        let ports = dir.join("ports.json");
        let _ = fs::remove_file(&ports);
        let free_port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = command(binary, dir, free_port, &ports, target, log)?;
        let started = Instant::now();
        let core = machine::two_cores().map(|[first, _]| first);
        let child = machine::on_core(core, || command.spawn());
        let child = child.with_context(|| format!("cannot start {}", binary.path.display()))?;
        let mut server = Server {
            binary: binary.clone(),
            dir: dir.to_owned(),
            child,
            port: free_port,
            ready_after: Duration::ZERO,
            answers_after: Duration::ZERO,
        };
        server.wait_until_ready(started, &ports).with_context(|| format!("see {}", log_path.display()))?;
        server.ready_after = started.elapsed();
        let answer = server.ask(&mut server.connect()?, "/api/v1/query?query=vector(1)")?;
        ensure!(answer.is_success(), "{} does not answer: see {}", binary.kind.name(), log_path.display());
        server.answers_after = started.elapsed();
        Ok(server)
    }

    fn wait_until_ready(&mut self, started: Instant, ports: &Path) -> Result<()> {
        let path = if self.binary.kind == Kind::VictoriaMetrics { "/health" } else { "/-/ready" };
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before it was ready", self.binary.kind.name());
            }
            let port = match self.binary.kind {
                Kind::Kymo => port_of(ports, "http"),
                Kind::VictoriaMetrics | Kind::Prometheus => Some(self.port),
            };
            let is_ready = |port| Connection::open(port).and_then(|mut http| http.get(path));
            if let Some(port) = port
                && is_ready(port).is_ok_and(|answer| answer.is_success())
            {
                self.port = port;
                return Ok(());
            }
            if started.elapsed() > READY_DEADLINE {
                bail!("{} was not ready after {} s", self.binary.kind.name(), READY_DEADLINE.as_secs());
            }
            thread::sleep(POLL);
        }
    }

    /// What it answers without doing anything.
    #[must_use]
    pub fn health_path(&self) -> &'static str {
        if self.binary.kind == Kind::VictoriaMetrics { "/health" } else { "/-/healthy" }
    }

    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.binary.kind
    }

    /// Where it takes OTLP over gRPC; only ours does.
    #[must_use]
    pub fn grpc_port(&self) -> Option<u16> {
        port_of(&self.dir.join("ports.json"), "otlp_grpc")
    }

    /// From its start to its first word that it is ready.
    #[must_use]
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// From its start to its answer to a question that was put when it said so.
    #[must_use]
    pub fn answers_after(&self) -> Duration {
        self.answers_after
    }

    /// CPU time used so far.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu(&self) -> Result<Duration> {
        machine::process_cpu(self.child.id())
    }

    /// Resident memory now.
    ///
    /// # Errors
    /// The process is gone.
    pub fn resident(&self) -> Result<Resident> {
        machine::resident(self.child.id())
    }

    /// Sends the requests of some scrapes over several connections from one core, scrape after scrape, and waits for
    /// every answer.
    ///
    /// # Errors
    /// A request was not acknowledged.
    pub fn write(&self, requests: &RequestFile, scrapes: Range<usize>) -> Result<Written> {
        let scrapes = &requests.scrapes[scrapes];
        let cpu = self.cpu()?;
        let started = Instant::now();
        let core = machine::two_cores().map(|[_, second]| second);
        let samples = thread::scope(|scope| {
            let senders: Vec<_> = (0..CONNECTIONS)
                .map(|number| {
                    scope.spawn(move || {
                        core.into_iter().for_each(machine::pin_thread);
                        let mut http = self.connect()?;
                        let (mut samples, mut body) = (0, Vec::new());
                        for scrape in scrapes {
                            for placed in scrape.iter().skip(number).step_by(CONNECTIONS) {
                                requests.read(placed, &mut body)?;
                                self.send(&mut http, &body)?;
                                samples += placed.samples;
                            }
                        }
                        Ok(samples)
                    })
                })
                .collect();
            let join = |sender: thread::ScopedJoinHandle<'_, Result<u64>>| match sender.join() {
                Ok(samples) => samples,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            senders.into_iter().map(join).sum::<Result<u64>>()
        })?;
        Ok(Written { samples, wall: started.elapsed(), cpu: self.cpu()?.saturating_sub(cpu) })
    }

    /// Sends the body of one request.
    ///
    /// # Errors
    /// It was not acknowledged.
    pub fn send(&self, http: &mut Connection, body: &[u8]) -> Result<()> {
        let answer = http.post(WRITE_PATH, &WRITE_HEADERS, body)?;
        if !answer.is_success() {
            let text = String::from_utf8_lossy(&answer.body);
            bail!("{} answers {} to a write: {}", self.kind().name(), answer.status, text.trim());
        }
        Ok(())
    }

    /// A connection of its own.
    ///
    /// # Errors
    /// It does not listen any more.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(self.port).with_context(|| format!("cannot reach {}", self.kind().name()))
    }

    /// Asks something and gives the answer whatever its status.
    ///
    /// # Errors
    /// The connection broke.
    pub fn ask(&self, http: &mut Connection, target: &str) -> Result<Answer> {
        http.get(target).with_context(|| format!("{} does not answer {target}", self.kind().name()))
    }

    /// Waits until its background work is done, or for a bounded time.
    ///
    /// # Errors
    /// The process is gone.
    pub fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + SETTLE_DEADLINE;
        let mut before = self.cpu()?;
        while Instant::now() < deadline {
            thread::sleep(QUIET_TIME);
            let now = self.cpu()?;
            if now.saturating_sub(before) <= QUIET_CPU {
                return Ok(());
            }
            before = now;
        }
        Ok(())
    }

    /// Finishes flushing and merging as far as the server can be asked to, and gives the bytes of the files that then
    /// hold samples and index, the log apart; `None` where it cannot be asked.
    ///
    /// # Errors
    /// The server's.
    pub fn compact(&self) -> Result<Option<u64>> {
        let mut http = self.connect()?;
        let data = self.dir.join("data");
        match self.kind() {
            Kind::Kymo => {
                let answer = http.post("/api/v1/admin/tsdb/compact?wait=true", &[], &[])?;
                if !answer.is_success() {
                    return Ok(None);
                }
                self.settle()?;
                bytes_below(&data.join("blocks")).map(Some)
            }
            Kind::VictoriaMetrics => {
                for target in ["/internal/force_flush", "/internal/force_merge"] {
                    let answer = self.ask(&mut http, target)?;
                    ensure!(answer.is_success(), "{target} answers {}", answer.status);
                }
                self.settle()?;
                // Newer versions keep the index below `data`, too.
                let index = data.join("indexdb");
                let index_bytes = if index.is_dir() { bytes_below(&index)? } else { 0 };
                Ok(Some(bytes_below(&data.join("data"))? + index_bytes))
            }
            Kind::Prometheus => {
                // What blocks of all samples, the head's too, would take.
                let answer = http.post("/api/v1/admin/tsdb/snapshot", &[], &[])?;
                ensure!(answer.is_success(), "a snapshot is answered with {}", answer.status);
                bytes_below(&data.join("snapshots")).map(Some)
            }
        }
    }

    /// `kill -9`, then a start on the same data.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn kill_and_restart(mut self) -> Result<Server> {
        self.child.kill()?;
        self.child.wait()?;
        Server::start(&self.binary.clone(), &self.dir.clone())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(binary: &Binary, dir: &Path, port: u16, ports: &Path, target: Option<u16>, log: File) -> Result<Command> {
    let mut command = Command::new(&binary.path);
    let data = dir.join("data");
    let config = dir.join("prometheus.yml");
    let jobs = target.map(|port| {
        let job = format!("job_name: page, scrape_interval: 1s, static_configs: [{{targets: ['127.0.0.1:{port}']}}]");
        format!("scrape_configs: [{{{job}}}]\n")
    });
    let mut text = jobs.clone().unwrap_or_else(|| "global: {}\n".to_owned());
    if binary.kind == Kind::Prometheus {
        // The others take late samples as they are.
        text.push_str("storage: {tsdb: {out_of_order_time_window: 1h}}\n");
    }
    fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    match binary.kind {
        Kind::Kymo => {
            command.args(["serve", "--listen", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0", "--otlp-http", "off"]);
            command.args(["--collect", "none", "--log-level", "warn", "--enable-admin-api", "--data-dir"]).arg(&data);
            command.arg("--ports-file").arg(ports);
            if jobs.is_some() {
                command.arg("--config").arg(&config);
            }
        }
        Kind::VictoriaMetrics => {
            command.arg(format!("-storageDataPath={}", data.display()));
            command.arg(format!("-httpListenAddr=127.0.0.1:{port}"));
        }
        Kind::Prometheus => {
            command.arg(format!("--config.file={}", config.display()));
            command.arg(format!("--storage.tsdb.path={}", data.display()));
            command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
            command.args(["--web.enable-remote-write-receiver", "--web.enable-admin-api", "--log.level=warn"]);
        }
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

/// The port of a listener, once the server has written it.
fn port_of(ports: &Path, listener: &str) -> Option<u16> {
    let ports: Value = serde_json::from_str(&fs::read_to_string(ports).ok()?).ok()?;
    ports[listener].as_u64()?.try_into().ok()
}
