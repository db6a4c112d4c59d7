//! A door for `kymo status`: a Unix socket that gives the status to whoever may open it.
//!
//! Off unless asked for. The socket is `<process id>.sock` in a folder of the user that nobody else can enter (0700), and
//! can be opened by the user only (0600). Who connects is sent the status with the last finished contexts as one JSON
//! document, and the connection is closed; nothing is read from it, so there is nothing to attack.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::context::Context;
use crate::status::Status;

/// Longest that a reader may keep the door's one thread, and that a program may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer that is read: a tree of a million contexts.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// A folder or file cannot be made or looked at.
    #[error("cannot use {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than the user can enter the folder, or it is not the user's.
    #[error("{path} can be entered by others, so no socket is opened in it")]
    Open {
        /// The folder.
        path: PathBuf,
    },
    /// The system refuses a thread.
    #[error("cannot start the thread of the socket")]
    Thread(#[source] io::Error),
}

/// Why a status cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Nobody answers there.
    #[error("cannot read the status at {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What answers is not a status.
    #[error("what answers at {path} is not the status of a program")]
    Answer {
        /// The socket.
        path: PathBuf,
        /// Where it went wrong.
        source: serde_json::Error,
    },
}

/// The folder of the sockets: `kymo` in `$XDG_RUNTIME_DIR`, or `kymo-<user id>` where temporary files are.
#[must_use]
pub fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if !folder.is_empty() => Path::new(&folder).join("kymo"),
        _ => {
            let user = fs::metadata("/proc/self").map(|own| own.uid().to_string());
            let user = user.or_else(|_| std::env::var("USER")).unwrap_or_default();
            std::env::temp_dir().join(format!("kymo-{user}"))
        }
    }
}

/// Where the process with this id answers, if it does.
#[must_use]
pub fn socket_of(pid: u32) -> PathBuf {
    folder().join(format!("{pid}.sock"))
}

/// The processes that have a socket, whether they still answer or not, by id.
#[must_use]
pub fn sockets() -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(folder()).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.strip_suffix(".sock")?.parse().ok()?;
            Some((pid, entry.path()))
        })
        .collect();
    found.sort_unstable();
    found
}

/// Reads the status of the program whose socket this is.
///
/// # Errors
/// [`ReadError`].
pub fn read(path: &Path) -> Result<Status, ReadError> {
    let failed = |source| ReadError::Io { path: path.to_owned(), source };
    let mut answer = Vec::new();
    let stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(failed)?;
    serde_json::from_slice(&answer).map_err(|source| ReadError::Answer { path: path.to_owned(), source })
}

/// An open door; dropping it closes it and removes the socket.
#[must_use = "a door that is dropped at once is closed at once"]
pub struct Attach {
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Attach {
    /// Opens the door of this process to the tree of `context`, with a thread of its own behind it.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn open(context: &Context) -> Result<Attach, AttachError> {
        let folder = folder();
        let failed = |source| AttachError::Io { path: folder.clone(), source };
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&folder).map_err(failed)?;
        Attach::open_at(context, &socket_of(std::process::id()))
    }

    /// The same at a path of choice, in a folder that only the user can enter.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn open_at(context: &Context, path: &Path) -> Result<Attach, AttachError> {
        let failed = |source| AttachError::Io { path: path.to_owned(), source };
        let folder = path.parent().unwrap_or(Path::new(""));
        let of_folder = fs::metadata(folder).map_err(failed)?;
        // A socket that nobody listens at is left from a process that had this id before.
        if UnixStream::connect(path).is_err() {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let attach_of = |thread| Attach { path: path.to_owned(), stopping: Arc::default(), thread };
        // From here on the socket is removed whatever happens.
        let mut attach = attach_of(None);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let of_socket = fs::metadata(path).map_err(failed)?;
        if of_folder.mode() & 0o077 != 0 || of_folder.uid() != of_socket.uid() {
            return Err(AttachError::Open { path: folder.to_owned() });
        }
        let root = Arc::downgrade(&context.root().own());
        let stopping = attach.stopping.clone();
        let serve = move || {
            for stream in listener.incoming() {
                // Acquire: pairs with the Release of `drop`.
                if stopping.load(Ordering::Acquire) {
                    return;
                }
                let Some(root) = root.upgrade() else { return };
                // Who reads may go away, which is no trouble of ours.
                let _ = stream.and_then(|stream| answer(&stream, &root));
            }
        };
        let thread =
            std::thread::Builder::new().name("kymo-attach".into()).spawn(serve).map_err(AttachError::Thread)?;
        attach.thread = Some(thread);
        Ok(attach)
    }

    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn answer(mut stream: &UnixStream, root: &Context) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let json = serde_json::to_vec(&root.status_with_latest())?;
    stream.write_all(&json)
}

impl Drop for Attach {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread, which waits for somebody to connect.
        let is_awake = UnixStream::connect(&self.path).is_ok();
        let _ = fs::remove_file(&self.path);
        if let Some(thread) = self.thread.take() {
            if is_awake {
                let _ = thread.join();
            }
        }
    }
}
