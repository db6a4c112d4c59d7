//! Timing of cases in turn, so that whatever else the machine does falls on all of them.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine;

/// One batch of a case takes about this long: long beside the clock, short beside a scheduler's slice.
const BATCH: Duration = Duration::from_millis(1);
/// A thread that had the CPU for less of its time was disturbed.
const CPU_SHARE_MIN: f64 = 0.95;

/// Something that can be done any number of times.
pub struct Case<'a> {
    name: &'static str,
    run: Box<dyn FnMut(u64) + 'a>,
}

impl<'a> Case<'a> {
    /// `run` does the work as often as it is told.
    pub fn new(name: &'static str, run: impl FnMut(u64) + 'a) -> Case<'a> {
        Case { name, run: Box::new(run) }
    }

    /// `pass` is one time.
    pub fn passes<T>(name: &'static str, mut pass: impl FnMut() -> T + 'a) -> Case<'a> {
        Case::new(name, move |times| {
            for _ in 0..times {
                black_box(pass());
            }
        })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// Nanoseconds of one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The best round.
    pub min: f64,
    /// The middle round.
    pub median: f64,
}

impl Spread {
    /// Of measured values; `None` without any.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        Some(Spread { min: *values.first()?, median: values[values.len() / 2] })
    }

    /// The same per each of `parts`.
    #[must_use]
    pub fn per(self, parts: u64) -> Spread {
        Spread { min: self.min / parts as f64, median: self.median / parts as f64 }
    }
}

/// CPU time of this thread per time of each case, in the order of `cases`.
///
/// Each round does a batch of every case.
pub fn in_turn(cases: &mut [Case<'_>], rounds: usize) -> Vec<Spread> {
    let times: Vec<u64> = cases.iter_mut().map(calibrate).collect();
    let mut found = vec![Vec::with_capacity(rounds); cases.len()];
    for _ in 0..rounds {
        for ((case, times), found) in cases.iter_mut().zip(&times).zip(&mut found) {
            let before = machine::thread_cpu();
            (case.run)(*times);
            let took = machine::thread_cpu().saturating_sub(before);
            found.push(took.as_nanos() as f64 / *times as f64);
        }
    }
    found.into_iter().map(|values| Spread::of(values).unwrap_or(Spread { min: f64::NAN, median: f64::NAN })).collect()
}

/// How much more CPU time of this thread each case takes than the first, in percent.
///
/// Every case is done as often as the first, in turn, and each round compares what was done next to each other: a
/// difference far below a machine's noise still moves the middle of many such pairs. Every second round goes backwards, so
/// that what a round does to the one that comes later falls on both sides.
pub fn beyond_first<const N: usize>(cases: &mut [Case<'_>; N], rounds: usize) -> [Spread; N] {
    let times = cases.iter_mut().map(calibrate).min().unwrap_or(1);
    let mut found: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for round in 0..rounds {
        let mut took = [0.0; N];
        for step in 0..N {
            let index = if round % 2 == 0 { step } else { N - 1 - step };
            let before = machine::thread_cpu();
            (cases[index].run)(times);
            took[index] = machine::thread_cpu().saturating_sub(before).as_nanos() as f64;
        }
        for (found, took_of) in found.iter_mut().zip(&took) {
            found.push((took_of / took[0] - 1.0) * 100.0);
        }
    }
    found.map(|values| Spread::of(values).unwrap_or(Spread { min: f64::NAN, median: f64::NAN }))
}

/// How often a case fits into a batch; also its warm-up.
fn calibrate(case: &mut Case<'_>) -> u64 {
    let mut times = 1;
    loop {
        let before = machine::thread_cpu();
        (case.run)(times);
        let took = machine::thread_cpu().saturating_sub(before);
        if took >= BATCH / 2 || times >= 1 << 40 {
            return times;
        }
        times *= if took < BATCH / 32 { 16 } else { 2 };
    }
}

/// Wall time per time and thread while two threads, each on a core of its own, do the same at once.
///
/// Only trials in which neither was disturbed count; `None` when there was no such trial, or there is one core.
pub fn on_two_cores(work: &(dyn Fn(u64) + Sync), trials: usize) -> Option<Spread> {
    let [first, second] = machine::two_cores()?;
    let mut once = Case::new("", work);
    let times = calibrate(&mut once);
    let mut found = Vec::new();
    for _ in 0..trials {
        let barrier = Barrier::new(2);
        let run = |core: usize| {
            machine::pin_thread(core);
            barrier.wait();
            let (wall, cpu) = (Instant::now(), machine::thread_cpu());
            work(times);
            (wall.elapsed(), machine::thread_cpu().saturating_sub(cpu))
        };
        let results = thread::scope(|scope| {
            let threads = [scope.spawn(|| run(first)), scope.spawn(|| run(second))];
            threads.map(|thread| thread.join().unwrap_or_default())
        });
        let is_clean = |(wall, cpu): &(Duration, Duration)| cpu.as_secs_f64() >= CPU_SHARE_MIN * wall.as_secs_f64();
        if results.iter().all(is_clean) {
            let slower = results[0].0.max(results[1].0);
            found.push(slower.as_nanos() as f64 / times as f64);
        }
    }
    Spread::of(found)
}

/// CPU time per time of the slower of two threads, each on a core of its own, that do the same at once while a third reads
/// without pause. `None` when there is one core.
///
/// CPU time, as three threads share two cores: what the reader takes away is not theirs, but every cache line that it makes
/// them fetch again is.
pub fn beside_a_reader(work: &(dyn Fn(u64) + Sync), read: &(dyn Fn() + Sync), trials: usize) -> Option<Spread> {
    let [first, second] = machine::two_cores()?;
    let times = calibrate(&mut Case::new("", work)) * 8;
    let is_over = AtomicBool::new(false);
    let found = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                read();
            }
        });
        let trial = |_| {
            let barrier = Barrier::new(2);
            let run = |core: usize| {
                machine::pin_thread(core);
                barrier.wait();
                let before = machine::thread_cpu();
                work(times);
                machine::thread_cpu().saturating_sub(before)
            };
            thread::scope(|scope| {
                let threads = [scope.spawn(|| run(first)), scope.spawn(|| run(second))];
                let took = threads.map(|thread| thread.join().unwrap_or(Duration::MAX));
                took[0].max(took[1]).as_nanos() as f64 / times as f64
            })
        };
        let found = (0..trials).map(trial).collect();
        is_over.store(true, Ordering::Relaxed);
        found
    });
    Spread::of(found)
}
