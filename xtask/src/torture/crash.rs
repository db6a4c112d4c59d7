//! `torture crash`: the server is killed at random moments while several writers are at it, with floats as they come, late
//! ones and native histograms, and started again on the same data; every fourth start is killed too, at a random moment of its
//! own. Increments are tortured behind that, in a process of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};

use super::http::Connection;
use super::increments;
use super::ledger::{Sent, Shape, Verdict, Writer};
use super::server::Site;
use crate::binary::{Profile, Source};
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often the server is killed
    #[arg(long, default_value_t = 20)]
    cycles: u32,
    /// How many clients write at the same time
    #[arg(long, default_value_t = 4)]
    writers: usize,
    /// Seed of the moments; one is chosen and printed when absent
    #[arg(long)]
    seed: Option<u64>,
}

impl Options {
    /// A few kills, one of them while starting.
    pub(super) fn smoke() -> Self {
        Self { cycles: 4, writers: 4, seed: None }
    }
}

const SHAPE: Shape = Shape { series: 10, samples: 5 };
/// A cycle's writing lasts between these.
const WRITING_MS: (u64, u64) = (50, 1500);
/// A start that is killed lives between these.
const STARTING_MS: (u64, u64) = (1, 60);
/// Pause of a writer that was asked to come back later.
const RETRY: Duration = Duration::from_millis(20);

pub(super) fn run(workspace: &Workspace, options: &Options, source: &Source) -> Result<bool> {
    let kymo = source.kymo(workspace, Profile::Release)?;
    let dir = workspace.target.join("torture/crash");
    let data = dir.join("data");
    let site = Site::empty(kymo, dir)?;
    let mut moments = Moments::new(options.seed)?;
    println!("crash: {} cycles, {} writers, seed {}", options.cycles, options.writers, moments.seed);

    let mut writers: Vec<Writer> =
        (0..options.writers).map(|number| Writer::new(number, SHAPE)).collect::<Result<_>>()?;
    let (mut verdict, mut killed_starts) = (Verdict::default(), 0);
    let (mut worst_ready, mut worst_answer) = (Duration::ZERO, Duration::ZERO);
    for cycle in 1..=options.cycles {
        let server = site.start(&data)?;
        worst_ready = worst_ready.max(server.ready_after);
        worst_answer = worst_answer.max(server.answers_after);
        let found = check(server.port, &writers, Writer::check_totals)?;
        verdict.add(found);
        let (ready_after, answers_after) = (server.ready_after, server.answers_after);
        write_until_killed(&mut writers, server.port, || {
            thread::sleep(moments.between(WRITING_MS));
            server.kill()
        })?;
        println!(
            "crash: cycle {cycle}: ready after {:.0} ms, answers after {:.0}, lost {}, wrong {}, then {} acknowledged",
            ready_after.as_secs_f64() * 1000.0,
            answers_after.as_secs_f64() * 1000.0,
            found.lost,
            found.wrong,
            acknowledged(&writers)
        );
        if cycle % 4 == 0 {
            site.start_and_kill(&data, moments.between(STARTING_MS))?;
            killed_starts += 1;
        }
    }

    let server = site.start(&data)?;
    worst_ready = worst_ready.max(server.ready_after);
    worst_answer = worst_answer.max(server.answers_after);
    verdict.add(check(server.port, &writers, Writer::check_totals)?);
    let each = check(server.port, &writers, Writer::check_each)?;
    server.kill()?;
    println!(
        "crash: {} kills, {killed_starts} of them again while starting; {} samples in {} requests acknowledged, {} refused",
        options.cycles + killed_starts,
        acknowledged(&writers),
        writers.iter().map(|writer| writer.requests).sum::<u64>(),
        writers.iter().map(|writer| writer.refused).sum::<u64>(),
    );
    println!(
        "crash: lost {}, wrong {}; compared one by one at the end: lost {}, wrong {}; worst time to ready {:.0} ms, to an answer {:.0}",
        verdict.lost,
        verdict.wrong,
        each.lost,
        each.wrong,
        worst_ready.as_secs_f64() * 1000.0,
        worst_answer.as_secs_f64() * 1000.0
    );
    increments::run(workspace, options.cycles)?;
    Ok(verdict.is_clean() && each.is_clean())
}

fn acknowledged(writers: &[Writer]) -> u64 {
    writers.iter().map(Writer::acknowledged).sum()
}

fn check(port: u16, writers: &[Writer], how: impl Fn(&Writer, &mut Connection) -> Result<Verdict>) -> Result<Verdict> {
    let mut http = Connection::open(port).context("cannot connect to the server")?;
    let mut verdict = Verdict::default();
    for writer in writers {
        verdict.add(how(writer, &mut http)?);
    }
    Ok(verdict)
}

/// Lets every writer send until the server is gone, which `kill` sees to.
fn write_until_killed(writers: &mut [Writer], port: u16, kill: impl FnOnce() -> Result<()>) -> Result<()> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = writers.iter_mut().map(|writer| scope.spawn(|| write(writer, port, &is_over))).collect();
        let killed = kill();
        // Relaxed: the flag publishes no other memory; a writer that sees it late meets a closed connection.
        is_over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a writer panicked"))??;
        }
        killed
    })
}

fn write(writer: &mut Writer, port: u16, is_over: &AtomicBool) -> Result<()> {
    // The server may be killed before this writer had its turn.
    let Ok(mut http) = Connection::open(port) else { return Ok(()) };
    while !is_over.load(Ordering::Relaxed) {
        match writer.send(&mut http)? {
            Sent::Acknowledged => {}
            Sent::Refused => thread::sleep(RETRY),
            Sent::Unknown => break,
        }
    }
    Ok(())
}

/// Random moments that a seed repeats.
struct Moments {
    seed: u64,
    state: u64,
}

impl Moments {
    fn new(seed: Option<u64>) -> Result<Self> {
        let seed = match seed {
            Some(seed) => seed,
            None => SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs(),
        };
        Ok(Self { seed, state: seed })
    }

    /// A duration between two numbers of milliseconds.
    fn between(&mut self, (low, high): (u64, u64)) -> Duration {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        Duration::from_micros(low * 1000 + bits % ((high - low) * 1000))
    }
}
