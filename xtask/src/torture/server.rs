//! A real `kymo serve` process.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::http::Connection;

/// A start that takes longer has failed.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How often a starting server is asked; also the resolution of the time to ready.
const POLL: Duration = Duration::from_millis(2);

/// Where a server keeps its things, and which binary it is.
pub(super) struct Site {
    kymo: PathBuf,
    dir: PathBuf,
}

impl Site {
    /// An empty place below `dir`, whatever was there before.
    pub(super) fn empty(kymo: PathBuf, dir: PathBuf) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self { kymo, dir })
    }

    /// Puts the data elsewhere than below the folder of logs.
    fn spawn(&self, data: &Path) -> Result<Process> {
        let ports = self.dir.join("ports.json");
        if ports.exists() {
            fs::remove_file(&ports)?;
        }
        let log = self.log()?;
        let child = Command::new(&self.kymo)
            .args(["serve", "--listen", "127.0.0.1:0", "--otlp-grpc", "off", "--otlp-http", "off"])
            .args(["--collect", "none", "--sync", "interval", "--data-dir"])
            .arg(data)
            .arg("--ports-file")
            .arg(&ports)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.kymo.display()))?;
        Ok(Process { child, ports, started: Instant::now() })
    }

    /// Starts the server on `data` and waits until it says that it is ready.
    pub(super) fn start(&self, data: &Path) -> Result<Server> {
        let mut process = self.spawn(data)?;
        let begun = process.wait_until_ready().and_then(|port| {
            let ready_after = process.started.elapsed();
            // Whoever asks while the log is read waits.
            let answer = Connection::open(port)?.get("/api/v1/query?query=vector(1)")?;
            ensure!(answer.is_success(), "the server is ready and does not answer");
            Ok((port, ready_after, process.started.elapsed()))
        });
        match begun {
            Ok((port, ready_after, answers_after)) => Ok(Server { ready_after, answers_after, port, process }),
            Err(error) => Err(error.context(format!("see {}", self.log_path().display()))),
        }
    }

    /// Starts the server on `data` and kills it `after` that, ready or not.
    pub(super) fn start_and_kill(&self, data: &Path, after: Duration) -> Result<()> {
        let mut process = self.spawn(data)?;
        thread::sleep(after);
        process.kill()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    fn log(&self) -> Result<File> {
        let path = self.log_path();
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

struct Process {
    child: Child,
    ports: PathBuf,
    started: Instant,
}

impl Process {
    fn wait_until_ready(&mut self) -> Result<u16> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status} before it was ready");
            }
            if let Some(port) = self.port()
                && Connection::open(port)
                    .and_then(|mut http| http.get("/-/ready"))
                    .is_ok_and(|answer| answer.is_success())
            {
                return Ok(port);
            }
            if self.started.elapsed() > READY_DEADLINE {
                bail!("the server was not ready after {} s", READY_DEADLINE.as_secs());
            }
            thread::sleep(POLL);
        }
    }

    /// The HTTP port, once the server has written it.
    fn port(&self) -> Option<u16> {
        let ports: Value = serde_json::from_str(&fs::read_to_string(&self.ports).ok()?).ok()?;
        ports["http"].as_u64()?.try_into().ok()
    }

    /// `kill -9`; an end of its own accord before that is an error.
    fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill the server")?;
        let status = self.child.wait().context("cannot wait for the server")?;
        if !was_killed(status) {
            bail!("the server ended by itself, with {status}");
        }
        Ok(())
    }
}

fn was_killed(status: ExitStatus) -> bool {
    const SIGKILL: i32 = 9;
    status.signal() == Some(SIGKILL)
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the process has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that was ready.
pub(super) struct Server {
    process: Process,
    pub(super) port: u16,
    /// From the start of the process until it said so.
    pub(super) ready_after: Duration,
    /// From the start to the answer to a question that was put then.
    pub(super) answers_after: Duration,
}

impl Server {
    /// `kill -9`; an end of its own accord before that is an error.
    pub(super) fn kill(mut self) -> Result<()> {
        self.process.kill()
    }

    pub(super) fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.child.try_wait().context("cannot look at the server")?.is_none())
    }
}
