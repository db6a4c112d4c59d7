//! `torture disk-full`: the server's disk is filled under it and freed again.
//!
//! The disk is a small `tmpfs` in a mount namespace of this run only, gone when it ends. Where the machine allows no
//! such namespace the job says so; the simulated disk of the storage tests covers the same promises.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::http::Connection;
use super::ledger::{Sent, Shape, Verdict, Writer};
use super::server::{Server, Site};
use crate::binary::{Profile, Source};
use crate::process;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Size of the disk
    #[arg(long, default_value_t = SIZE_MIB)]
    size_mib: u64,
    /// Already inside the mount namespace
    #[arg(long, hide = true)]
    inside: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { size_mib: SIZE_MIB, inside: false }
    }
}

const SIZE_MIB: u64 = 32;
const MIB: u64 = 1 << 20;
/// What the ballast leaves of the disk.
const ROOM_BYTES: u64 = 4 * MIB;
const SHAPE: Shape = Shape { series: 20, samples: 50 };
/// How long it may take until a write is refused, or taken again.
const DEADLINE: Duration = Duration::from_secs(60);
/// Refusals after the first that the server has to live through.
const REFUSALS: u64 = 50;
/// Requests that have to be taken after space was freed, within the room that was freed.
const REQUESTS_AFTERWARDS: u64 = 50;
const RETRY: Duration = Duration::from_millis(20);

pub(super) fn run(workspace: &Workspace, options: &Options, source: &Source) -> Result<bool> {
    if options.inside {
        return run_inside(workspace, source.kymo(workspace, Profile::Release)?, options.size_mib);
    }
    let mut unshare = unshare();
    if let Err(error) = process::stdout(unshare.arg("true")) {
        println!("disk-full: skipped: no mount namespace here ({error:#})");
        println!("disk-full: the simulated disk of the storage tests covers it: cargo test -p kymo-storage");
        return Ok(true);
    }
    let kymo = source.kymo(workspace, Profile::Release)?;
    let mut command = self::unshare();
    command.arg(env::current_exe().context("cannot find this program")?);
    command.args(["torture", "disk-full", "--inside", "--size-mib", &options.size_mib.to_string(), "--kymo"]);
    command.arg(kymo);
    let status = command.status().context("cannot start unshare")?;
    Ok(status.success())
}

/// A command in a mount namespace of its own; other users than root get theirs with a user namespace.
fn unshare() -> Command {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !is_root {
        command.arg("--map-root-user");
    }
    command.arg("--");
    command
}

fn run_inside(workspace: &Workspace, kymo: PathBuf, size_mib: u64) -> Result<bool> {
    let dir = workspace.target.join("torture/disk-full");
    let disk = dir.join("disk");
    let site = Site::empty(kymo, dir)?;
    fs::create_dir(&disk).with_context(|| format!("cannot create {}", disk.display()))?;
    process::run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size_mib}m"), "tmpfs"]).arg(&disk))?;
    let data = disk.join("data");
    let mut server = site.start(&data)?;
    let mut http = Connection::open(server.port).context("cannot connect to the server")?;
    let mut writer = Writer::new(0, SHAPE)?;

    let ballast = disk.join("ballast");
    let filled = fill(&disk, &ballast)?;
    println!("disk-full: a disk of {size_mib} MiB, {} MiB of it ballast", filled / MIB);
    send_until(&mut server, &mut writer, &mut http, |_, sent| matches!(sent, Sent::Refused))
        .context("the disk was never full")?;
    println!("disk-full: first write refused after {} samples", writer.acknowledged());
    let enough = writer.refused + REFUSALS;
    send_until(&mut server, &mut writer, &mut http, |writer, _| writer.refused >= enough)
        .context("writes to a full disk are not refused")?;
    let while_full = checked(&writer, &mut http).context("cannot read while the disk is full")?;
    println!("disk-full: reading while full: lost {}, wrong {}", while_full.lost, while_full.wrong);

    fs::remove_file(&ballast).context("cannot remove the ballast")?;
    let freed = Instant::now();
    send_until(&mut server, &mut writer, &mut http, |_, sent| matches!(sent, Sent::Acknowledged))
        .context("writes are still refused although space was freed")?;
    println!("disk-full: writes taken again {:.0} ms after space was freed", freed.elapsed().as_secs_f64() * 1000.0);
    let enough = writer.requests + REQUESTS_AFTERWARDS;
    send_until(&mut server, &mut writer, &mut http, |writer, _| writer.requests >= enough)
        .context("writes are refused again")?;
    let mut verdict = while_full;
    verdict.add(checked(&writer, &mut http)?);
    server.kill()?;

    let server = site.start(&data)?;
    let mut http = Connection::open(server.port).context("cannot connect to the server")?;
    let reopened = checked(&writer, &mut http)?;
    verdict.add(reopened);
    server.kill()?;
    println!(
        "disk-full: {} samples acknowledged, {} requests refused; lost {}, wrong {}; no restart was needed, and after a kill \
         all was there: {}",
        writer.acknowledged(),
        writer.refused,
        verdict.lost,
        verdict.wrong,
        if reopened.is_clean() { "yes" } else { "no" }
    );
    Ok(verdict.is_clean())
}

fn checked(writer: &Writer, http: &mut Connection) -> Result<Verdict> {
    let mut verdict = writer.check_totals(http)?;
    verdict.add(writer.check_each(http)?);
    Ok(verdict)
}

/// Sends until `is_done` says so; a server that ended, or that takes too long, is an error.
fn send_until(
    server: &mut Server,
    writer: &mut Writer,
    http: &mut Connection,
    is_done: impl Fn(&Writer, &Sent) -> bool,
) -> Result<()> {
    let started = Instant::now();
    loop {
        let sent = writer.send(http)?;
        if is_done(writer, &sent) {
            return Ok(());
        }
        match sent {
            Sent::Acknowledged => {}
            Sent::Refused => thread::sleep(RETRY),
            Sent::Unknown => {
                if !server.is_running()? {
                    bail!("the server ended");
                }
                *http = Connection::open(server.port).context("cannot connect to the server again")?;
            }
        }
        if started.elapsed() > DEADLINE {
            bail!("not within {} s", DEADLINE.as_secs());
        }
    }
}

/// Writes a file that leaves [`ROOM_BYTES`] of the disk, and gives back its size.
fn fill(disk: &Path, ballast: &Path) -> Result<u64> {
    let free = process::stdout(Command::new("df").args(["--output=avail", "--block-size=1"]).arg(disk))?;
    let free: u64 =
        free.lines().nth(1).and_then(|bytes| bytes.trim().parse().ok()).context("df says nothing of free space")?;
    let size = free.checked_sub(ROOM_BYTES).context("the disk is too small: choose a larger --size-mib")?;
    let mut file = File::create(ballast).with_context(|| format!("cannot create {}", ballast.display()))?;
    io::copy(&mut io::Read::take(io::repeat(0x5a), size), &mut file).context("cannot write the ballast")?;
    file.flush()?;
    Ok(size)
}
