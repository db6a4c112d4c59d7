//! The real binary, and a server of it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::http;

/// Waiting for another process ends here, as a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// Repeats `ask` until it answers, at most until the deadline.
pub(crate) fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    wait_until(what, DEADLINE, ask)
}

pub(crate) fn wait_until<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < deadline, "waited {} s for {what}", deadline.as_secs());
        thread::sleep(POLL);
    }
}

/// Flags of a server that takes no port that another one has.
pub(crate) const ANY_PORTS: [&str; 6] =
    ["--listen", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0"];

/// A `kymo` command that sees none of the caller's settings.
pub(crate) fn kymo<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kymo"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KYMO_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { status: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// Runs `kymo` to its end.
pub(crate) fn run<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Said {
    kymo(arguments).output().unwrap().into()
}

/// Writes the configuration file of a server that can be administered and reloaded, with more in the section `kymo`.
pub(crate) fn configured(folder: &Path, name: &str, more: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("kymo: {{enable_admin_api: true, enable_lifecycle: true, {more}}}\n")).unwrap();
    path
}

/// A running `kymo serve`. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    folder: PathBuf,
}

impl Server {
    /// Starts on the data below `folder` and waits until it is ready.
    pub(crate) fn start(folder: &TempDir) -> Server {
        Server::start_with(folder.path(), &[])
    }

    pub(crate) fn start_with(folder: &Path, flags: &[&str]) -> Server {
        Server::start_unready(folder, flags).ready()
    }

    /// The same with one more variable in its environment.
    pub(crate) fn start_in(folder: &Path, flags: &[&str], variable: (&str, &Path)) -> Server {
        Server::start_unready_in(folder, flags, Some(variable)).ready()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn ready(self) -> Server {
        let mut server = self;
        wait_for("readiness", || {
            server.must_run();
            http::get(server.port, "/-/ready").is_ok_and(|answer| answer.status == 200).then_some(())
        });
        // Ready is answered first, then the greeting is printed.
        wait_for("the greeting", || server.out().contains("  try ").then_some(()));
        server
    }

    /// Starts and waits only until it listens.
    pub(crate) fn start_unready(folder: &Path, flags: &[&str]) -> Server {
        Server::start_unready_in(folder, flags, None)
    }

    fn start_unready_in(folder: &Path, flags: &[&str], variable: Option<(&str, &Path)>) -> Server {
        let ports = folder.join("ports.json");
        let _ = fs::remove_file(&ports);
        let log = |name: &str| fs::File::create(folder.join(name)).unwrap();
        let child = kymo(["serve"])
            .args(ANY_PORTS)
            // With a configuration file nothing is collected that it does not ask for.
            .args(if flags.contains(&"--config") { &[][..] } else { &["--collect", "none"] })
            .arg("--data-dir")
            .arg(folder.join("data"))
            .arg("--ports-file")
            .arg(&ports)
            .args(flags)
            .envs(variable)
            .stdout(log("out.log"))
            .stderr(log("err.log"))
            .spawn()
            .unwrap();
        let mut server = Server { child, port: 0, folder: folder.to_owned() };
        server.port = wait_for("the ports file", || {
            server.must_run();
            let ports: Value = serde_json::from_str(&fs::read_to_string(&ports).ok()?).ok()?;
            ports["http"].as_u64()?.try_into().ok()
        });
        server
    }

    fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the server ended with {status}\n{}\n{}", self.out(), self.err());
        }
    }

    /// A port of the ports file, by its name there.
    pub(crate) fn port_of(&self, name: &str) -> Option<u16> {
        let ports: Value = serde_json::from_str(&fs::read_to_string(self.folder.join("ports.json")).ok()?).ok()?;
        ports[name].as_u64()?.try_into().ok()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it has printed so far.
    pub(crate) fn out(&self) -> String {
        fs::read_to_string(self.folder.join("out.log")).unwrap()
    }

    /// What it has logged so far.
    pub(crate) fn err(&self) -> String {
        fs::read_to_string(self.folder.join("err.log")).unwrap()
    }

    /// `kymo query` of this server.
    pub(crate) fn query(&self, arguments: &[&str]) -> Said {
        run(["query", "--server", &self.url()].iter().chain(arguments))
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status().unwrap();
        assert!(sent.success(), "cannot send SIG{name}");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the server's end", || self.child.try_wait().unwrap())
    }

    /// Ends it as a supervisor does.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
