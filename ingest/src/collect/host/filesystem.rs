//! Space on mounted file systems.
//!
//! A file system whose server is away can hold the asking thread for ever, and nothing can call that thread back. So a
//! round asks on a thread of its own, which ends with the round; if an answer does not come in time, that thread is left
//! to its mount point, which is not asked again before it has answered, and another goes on with the rest. There are never
//! more than [`STUCK_MAX`] such threads. (That is why they are started here, unlike all others: they cannot be joined.)

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kymo_core::FamilyType::Gauge;

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

/// Mount points that may hold a thread; with so many, others are told as failing without being asked.
const STUCK_MAX: usize = 8;
/// What the label `device_error` says of a mount point that does not answer, in node_exporter's words.
const TIMEOUT: &str = "mountpoint timeout";

/// Types of file systems that are not told, as node_exporter's default has them.
const TYPES_EXCLUDED: [&str; 25] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "erofs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// Sizes of a file system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Space {
    pub(super) size: f64,
    pub(super) free: f64,
    pub(super) available: f64,
    pub(super) files: f64,
    pub(super) files_free: f64,
    pub(super) is_read_only: bool,
}

type Ask = Arc<dyn Fn(&Path) -> io::Result<Space> + Send + Sync>;

pub(super) struct Filesystem {
    timeout: Duration,
    ask: Ask,
    stuck: Vec<Stuck>,
}

struct Stuck {
    mount_point: String,
    thread: JoinHandle<()>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Mount {
    device: String,
    mount_point: String,
    kind: String,
    major: String,
    minor: String,
}

impl Filesystem {
    pub(super) fn new(timeout: Duration) -> Filesystem {
        Filesystem::asking(timeout, Arc::new(statvfs))
    }

    pub(super) fn asking(timeout: Duration, ask: Ask) -> Filesystem {
        Filesystem { timeout, ask, stuck: Vec::new() }
    }

    pub(super) fn read(&mut self, roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
        // The first process sees the host's mounts, where this one may show it.
        let text = match Text::read_if_there(roots.proc.join("1/mountinfo"))? {
            Some(text) => text,
            None => Text::read(roots.proc.join("self/mountinfo"))?,
        };
        let mut mounts = Vec::new();
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            let mount = parse(line).ok_or_else(|| text.wrong("a mount", line))?;
            let key = (mount.device.clone(), mount.mount_point.clone(), mount.kind.clone());
            if !is_excluded(&mount) && seen.insert(key) {
                mounts.push(mount);
            }
        }
        let paths: Vec<PathBuf> =
            mounts.iter().map(|mount| roots.root.join(mount.mount_point.trim_start_matches('/'))).collect();
        let answers = self.ask_all(&mounts, &paths);
        push(out, &mounts, &answers);
        Ok(())
    }

    /// The space of each mount, or what is wrong with it.
    fn ask_all(&mut self, mounts: &[Mount], paths: &[PathBuf]) -> Vec<Result<Space, String>> {
        self.stuck.retain(|stuck| !stuck.thread.is_finished());
        let mut answers: Vec<Result<Space, String>> = mounts.iter().map(|_| Err(TIMEOUT.to_owned())).collect();
        let is_stuck = |mount: &Mount| self.stuck.iter().any(|stuck| stuck.mount_point == mount.mount_point);
        let mut left: Vec<usize> = (0..mounts.len()).filter(|at| !is_stuck(&mounts[*at])).collect();
        while !left.is_empty() && self.stuck.len() < STUCK_MAX {
            let asked: Vec<(usize, PathBuf)> = left.iter().map(|at| (*at, paths[*at].clone())).collect();
            let (reply, replies) = mpsc::channel();
            let ask = self.ask.clone();
            let thread = thread::Builder::new().name("kymo-statvfs".to_owned()).spawn(move || {
                for (at, path) in asked {
                    // Nobody listens any more once this thread was given up.
                    if reply.send((at, ask(&path))).is_err() {
                        return;
                    }
                }
            });
            let thread = match thread {
                Ok(thread) => thread,
                Err(error) => {
                    left.iter().for_each(|at| answers[*at] = Err(error_text(&error)));
                    return answers;
                }
            };
            let mut answered = 0;
            while let Ok((at, answer)) = replies.recv_timeout(self.timeout) {
                answers[at] = answer.map_err(|error| error_text(&error));
                answered += 1;
            }
            if answered == left.len() {
                // It has nothing left to do, so this waits for nothing.
                let _ = thread.join();
                return answers;
            }
            self.stuck.push(Stuck { mount_point: mounts[left[answered]].mount_point.clone(), thread });
            left.drain(..=answered);
        }
        answers
    }
}

fn push(out: &mut Gathered, mounts: &[Mount], answers: &[Result<Space, String>]) {
    type Metric = (&'static str, &'static str, fn(&Space) -> f64);
    let spaces: [Metric; 5] = [
        ("avail_bytes", "Filesystem space available to non-root users in bytes.", |space| space.available),
        ("files", "Filesystem total file nodes.", |space| space.files),
        ("files_free", "Filesystem total free file nodes.", |space| space.files_free),
        ("free_bytes", "Filesystem free space in bytes.", |space| space.free),
        ("size_bytes", "Filesystem size in bytes.", |space| space.size),
    ];
    for (mount, answer) in mounts.iter().zip(answers) {
        let labels = [
            ("device", mount.device.as_str()),
            ("device_error", answer.as_ref().err().map_or("", String::as_str)),
            ("fstype", &mount.kind),
            ("mountpoint", &mount.mount_point),
        ];
        let flag = |is: bool| f64::from(u8::from(is));
        let help = "Whether an error occurred while getting statistics for the given device.";
        out.family(Gauge, "node_filesystem_device_error", help).push(labels, flag(answer.is_err()));
        out.family(Gauge, "node_filesystem_readonly", "Filesystem read-only status.")
            .push(labels, flag(answer.as_ref().is_ok_and(|space| space.is_read_only)));
        let Ok(space) = answer else { continue };
        for (name, help, value) in spaces {
            out.family(Gauge, &format!("node_filesystem_{name}"), help).push(labels, value(space));
        }
        out.family(Gauge, "node_filesystem_mount_info", "Filesystem mount information.").push(
            [
                ("device", mount.device.as_str()),
                ("major", &mount.major),
                ("minor", &mount.minor),
                ("mountpoint", &mount.mount_point),
            ],
            1.0,
        );
    }
}

fn statvfs(path: &Path) -> io::Result<Space> {
    let space = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks as f64 * space.f_frsize as f64;
    Ok(Space {
        size: bytes(space.f_blocks),
        free: bytes(space.f_bfree),
        available: bytes(space.f_bavail),
        files: space.f_files as f64,
        files_free: space.f_ffree as f64,
        is_read_only: space.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

/// The system's words alone, in small letters, as Go has them.
fn error_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// A line of mountinfo, see proc_pid_mountinfo(5).
fn parse(line: &str) -> Option<Mount> {
    // Between the options and the dash stand any number of tags.
    let (first, second) = line.split_once(" - ")?;
    let (first, second) = (fields(first), fields(second));
    let [_, _, number, _, mount_point, ..] = first.as_slice() else { return None };
    let (kind, device) = (second.first()?, second.get(1)?);
    let (major, minor) = number.split_once(':')?;
    Some(Mount {
        device: unescaped(device),
        mount_point: unescaped(mount_point),
        kind: (*kind).to_owned(),
        major: major.to_owned(),
        minor: minor.to_owned(),
    })
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                out.push(char::from(code));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

/// node_exporter's defaults: the types above, and mount points that match
/// `^/(dev|proc|run|sys|mnt|media|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)`.
fn is_excluded(mount: &Mount) -> bool {
    if TYPES_EXCLUDED.contains(&mount.kind.as_str()) {
        return true;
    }
    let Some(path) = mount.mount_point.strip_prefix('/') else { return false };
    let first = path.split('/').next().unwrap_or_default();
    let is_below = |dir: &str| path.strip_prefix(dir).is_some_and(|rest| !rest.is_empty());
    matches!(first, "dev" | "proc" | "run" | "sys" | "mnt" | "media")
        || is_below("var/lib/docker/")
        || is_below("var/lib/containers/storage/")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn mount(mount_point: &str, kind: &str) -> Mount {
        Mount {
            device: "d".into(),
            mount_point: mount_point.into(),
            kind: kind.into(),
            major: "8".into(),
            minor: "1".into(),
        }
    }

    #[test]
    fn a_line_is_read_with_tags_and_escapes() {
        let line = r"36 35 98:0 /mnt1 /a\040b\134c rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let read = parse(line).unwrap();
        assert_eq!(
            (read.mount_point.as_str(), read.device.as_str(), read.kind.as_str()),
            (r"/a b\c", "/dev/root", "ext3")
        );
        assert_eq!((read.major.as_str(), read.minor.as_str()), ("98", "0"));
        for bad in ["", "1 2 8:1 / / rw ext4 d rw", "1 2 8 / / rw - ext4 d", "1 2 8:1 /", "1 2 8:1 / / rw - ext4"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(unescaped(r"\04x\\9"), r"\04x\\9");
    }

    #[test]
    fn mount_points_and_types_are_left_out_as_node_exporter_does() {
        for (mount_point, kind) in [
            ("/", "overlay"),
            ("/home", "cgroup2"),
            ("/dev", "tmpfs"),
            ("/run/user/0", "tmpfs"),
            ("/mnt/disk", "ext4"),
            ("/var/lib/docker/overlay2/x/merged", "ext4"),
            ("/var/lib/containers/storage/x", "ext4"),
        ] {
            assert!(is_excluded(&mount(mount_point, kind)), "{mount_point} {kind}");
        }
        for (mount_point, kind) in
            [("/", "ext4"), ("/device", "xfs"), ("/var/lib/docker", "ext4"), ("/home/mnt", "nfs"), ("/tmp", "tmpfs")]
        {
            assert!(!is_excluded(&mount(mount_point, kind)), "{mount_point} {kind}");
        }
    }

    #[test]
    fn a_mount_that_does_not_answer_holds_one_thread_and_nobody_else() {
        let space = Space { size: 1.0, free: 1.0, available: 1.0, files: 1.0, files_free: 1.0, is_read_only: true };
        let (release, gate) = mpsc::channel::<()>();
        let (gate, asked) = (Mutex::new(gate), Arc::new(Mutex::new(Vec::new())));
        let log = asked.clone();
        let ask = move |path: &Path| {
            log.lock().unwrap().push(path.to_owned());
            match path.to_str() {
                Some("/stuck") => gate.lock().unwrap().recv().map(|()| space).map_err(io::Error::other),
                Some("/denied") => Err(io::Error::from_raw_os_error(13)),
                _ => Ok(space),
            }
        };
        // Long enough for the others to answer on a busy machine; it is waited out once.
        let mut filesystem = Filesystem::asking(Duration::from_secs(3), Arc::new(ask));
        let mounts = ["/a", "/stuck", "/denied", "/b"].map(|at| mount(at, "nfs"));
        let paths = mounts.clone().map(|mount| PathBuf::from(mount.mount_point));
        let stuck = Err(TIMEOUT.to_owned());
        let wanted = [Ok(space), stuck, Err("permission denied".to_owned()), Ok(space)];
        assert_eq!(filesystem.ask_all(&mounts, &paths), wanted);
        assert_eq!(filesystem.ask_all(&mounts, &paths), wanted);
        let count =
            |path: &str| asked.lock().unwrap().iter().filter(|asked| asked.as_path() == Path::new(path)).count();
        assert_eq!((count("/a"), count("/stuck"), count("/b")), (2, 1, 2));
        assert_eq!(filesystem.stuck.len(), 1);

        // The thread ends when its answer is there, and the mount point is asked again.
        release.send(()).unwrap();
        drop(release);
        while !filesystem.stuck[0].thread.is_finished() {
            thread::yield_now();
        }
        filesystem.ask_all(&mounts, &paths);
        assert_eq!((count("/stuck"), filesystem.stuck.len()), (2, 0));
    }
}
