//! The state store in a real Redis that is started, frozen and stopped by the test.
//!
//! Needs the server that `cargo xtask peers` unpacks, named by `KYMO_PEERS`; says so and does nothing where it is absent.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kymo_core::config::Secret;
use kymo_core::registry::Registry;
use kymo_core::state::{StateError, StateStore};
use kymo_core::{ErrorKind, SystemClock, contract};
use kymo_storage::state::{Measured, RedisFault, RedisOptions, RedisState};
use tempfile::TempDir;

use crate::state::measured;

/// Waiting for another process ends here, as a failure.
const DEADLINE: Duration = Duration::from_secs(60);
/// Longer than a healthy server ever takes, on a machine with other work too.
const PATIENT: Duration = Duration::from_secs(60);
const PASSWORD: &str = "a secret";

fn program(test: &str) -> Option<PathBuf> {
    let found = || {
        let table =
            std::env::var_os("KYMO_PEERS").ok_or("KYMO_PEERS is not set; cargo xtask peers unpacks the servers")?;
        let table = fs::read_to_string(table).map_err(|_| "the table of KYMO_PEERS cannot be read")?;
        let table: serde_json::Value =
            serde_json::from_str(&table).map_err(|_| "the table of KYMO_PEERS is no JSON")?;
        table["redis-server"]["path"].as_str().map(PathBuf::from).ok_or("there is no redis-server")
    };
    let reason: &str = match found() {
        Ok(program) => return Some(program),
        Err(reason) => reason,
    };
    println!("SKIPPED {test}: {reason}");
    if let Ok(log) = std::env::var("KYMO_SKIP_LOG") {
        let mut log = OpenOptions::new().create(true).append(true).open(log).unwrap();
        writeln!(log, "{test}: {reason}").unwrap();
    }
    None
}

/// A Redis that writes each change to disk, on a port that was free. Killed when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(program: &PathBuf, folder: &TempDir) -> Server {
        // Somebody else may take the port before the server does: then another one.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(server) = Server::start_at(program, folder, port) {
                return server;
            }
        }
        panic!("no port for the server");
    }

    fn start_at(program: &PathBuf, folder: &TempDir, port: u16) -> Option<Server> {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "always", "--requirepass", PASSWORD, "--dir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Server { child, port };
        let began = Instant::now();
        loop {
            if server.child.try_wait().unwrap().is_some() {
                return None;
            }
            if server.store(PATIENT).get("ready").is_ok() {
                return Some(server);
            }
            let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < DEADLINE, "the server does not answer: {}", log());
            std::thread::yield_now();
        }
    }

    fn options(&self, timeout: Duration) -> RedisOptions {
        let password = Some(Secret::new(PASSWORD));
        RedisOptions { password, timeout, ..RedisOptions::new(format!("redis://127.0.0.1:{}/2", self.port)) }
    }

    fn store(&self, timeout: Duration) -> RedisState {
        RedisState::new(self.options(timeout)).unwrap()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status().unwrap();
        assert!(sent.success(), "cannot send SIG{name}");
    }

    fn stop(mut self) -> u16 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fault(error: StateError) -> RedisFault {
    match error {
        StateError::Unavailable { source } => *source.downcast::<RedisFault>().expect("a fault of Redis"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_redis_keeps_the_contract() {
    let Some(program) = program("a_redis_keeps_the_contract") else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&program, &folder);
    // Others' keys in the same database are none of ours.
    let other = RedisState::new(RedisOptions { key_prefix: "other:".to_owned(), ..server.options(PATIENT) }).unwrap();
    other.put("theirs", b"1").unwrap();
    let mut nth = 0;
    contract::state::run(&mut || {
        nth += 1;
        let options = RedisOptions { key_prefix: format!("[k*]{nth}:"), ..server.options(PATIENT) };
        Arc::new(RedisState::new(options).unwrap())
    });
    assert_eq!(other.list("").unwrap(), ["theirs"]);
}

#[test]
fn a_redis_that_goes_away_is_an_error_and_found_again_when_it_comes_back() {
    let Some(program) = program("a_redis_that_goes_away_is_an_error_and_found_again_when_it_comes_back") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&program, &folder);
    let registry = Registry::new();
    let store = Arc::new(server.store(PATIENT));
    let store = Measured::new(store, "redis", &registry, Arc::new(SystemClock::new())).unwrap();
    store.put("kept", b"1").unwrap();

    let port = server.stop();
    let errors = [
        store.get("kept").unwrap_err(),
        store.put("kept", b"2").unwrap_err(),
        store.delete("kept").unwrap_err(),
        store.list("").unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::unavailable(), "{error:?}");
        assert!(matches!(fault(error), RedisFault::Io { .. }));
    }

    let Some(_server) = Server::start_at(&program, &folder, port) else {
        // Somebody took the port meanwhile: that the errors are clean was seen.
        return;
    };
    // The same store, untouched: it connects anew by itself, and what was acknowledged is there.
    assert_eq!(store.get("kept").unwrap().as_deref(), Some(&b"1"[..]));
    store.put("kept", b"3").unwrap();
    for (operation, ok, error) in [("get", 1, 1), ("put", 2, 1), ("delete", 0, 1), ("list", 0, 1)] {
        assert_eq!(measured(&registry, operation, "redis", "ok"), (ok, ok), "{operation}");
        assert_eq!(measured(&registry, operation, "redis", "error"), (error, error), "{operation}");
    }
}

#[test]
fn a_redis_that_was_restarted_between_two_operations_is_not_noticed() {
    let Some(program) = program("a_redis_that_was_restarted_between_two_operations_is_not_noticed") else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&program, &folder);
    let store = server.store(PATIENT);
    store.put("kept", b"1").unwrap();
    let port = server.stop();
    let Some(_server) = Server::start_at(&program, &folder, port) else { return };
    // The idle connection is dead; it is looked at before it is used, also for what must not be sent twice.
    assert!(store.delete("kept").unwrap());
}

#[test]
fn a_redis_that_does_not_answer_is_given_up_at_the_deadline() {
    let Some(program) = program("a_redis_that_does_not_answer_is_given_up_at_the_deadline") else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&program, &folder);
    let store = server.store(Duration::from_millis(300));
    server.signal("STOP");
    // The kernel still takes connections and requests for it; only the answer never comes.
    for _ in 0..2 {
        let error = fault(store.get("key").unwrap_err());
        assert!(matches!(error, RedisFault::Timeout { .. }), "{error:?}");
    }
    server.signal("CONT");
    let patient = server.store(PATIENT);
    patient.put("key", b"1").unwrap();
    // The late answers belong to connections that are closed: none is taken for an answer to this.
    let began = Instant::now();
    let value = loop {
        match store.get("key") {
            Ok(value) => break value,
            Err(error) => assert!(began.elapsed() < DEADLINE, "{error:?}"),
        }
    };
    assert_eq!(value.as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_wrong_password_is_told() {
    let Some(program) = program("a_wrong_password_is_told") else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&program, &folder);
    let options = RedisOptions { password: Some(Secret::new("another")), ..server.options(PATIENT) };
    let error = fault(RedisState::new(options).unwrap().get("key").unwrap_err());
    let RedisFault::Refused { doing, source, .. } = error else { panic!("{error:?}") };
    assert!(doing == "signing in" && source.to_string().contains("WRONGPASS"), "{doing}: {source}");
}

/// A server that takes a connection, reads what comes, and says `answer` a byte at a time, for as long as it is listened to.
fn dripping(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let drip = move |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 1_000]);
        let bytes = answer.iter().cycle();
        for byte in bytes {
            if stream.write_all(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    std::thread::spawn(move || listener.incoming().flatten().for_each(drip));
    port
}

#[test]
fn a_server_that_drips_its_answer_is_late_as_a_whole() {
    // The start of a string of a thousand million bytes, which never ends; and something else altogether.
    for answer in [&b"$1000000000\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let url = format!("redis://localhost:{}", dripping(answer));
        let options = RedisOptions { timeout: Duration::from_millis(200), ..RedisOptions::new(url) };
        let error = fault(RedisState::new(options).unwrap().get("key").unwrap_err());
        assert!(matches!(error, RedisFault::Timeout { .. } | RedisFault::Refused { .. }), "{error:?}");
    }
}

#[test]
fn urls_are_checked_before_anything_is_asked() {
    let refused = |url: &str| RedisState::new(RedisOptions::new(url)).unwrap_err();
    assert!(matches!(refused("http://127.0.0.1"), RedisFault::Url(_)));
    assert!(matches!(refused("rediss://127.0.0.1"), RedisFault::Url(_) | RedisFault::Unsupported { what: "TLS" }));
    assert!(matches!(refused("unix:///run/redis.sock"), RedisFault::Unsupported { what: "a Unix socket" }));
    let options = RedisOptions { timeout: Duration::ZERO, ..RedisOptions::new("redis://127.0.0.1") };
    assert!(matches!(RedisState::new(options), Err(RedisFault::NoTime)));
    let shown = format!("{:?}", RedisState::new(RedisOptions::new("redis://user:hidden@127.0.0.1")).unwrap());
    assert!(!shown.contains("hidden"), "{shown}");
}
