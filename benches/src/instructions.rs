//! Instructions of an operation, by callgrind on this very program.
//!
//! A program that wants its operations counted calls [`serve`] first: started as `program --count NAME TIMES` it makes what
//! the operation needs, does it that often within [`counted`], and ends. Callgrind is told there when to count. What making
//! things takes differs from run to run, by the seeds of hashes and the addresses of the heap, and is not in the figure.

#![allow(unsafe_code, reason = "callgrind is told when to count by instructions that no other program has")]

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::report::Figure;

const FLAG: &str = "--count";
/// How often an operation is done where nothing else is said: calls that allocate now and then do so in proportion.
const TIMES: u64 = 4_096;

/// Does what the command line asks to be counted; `false` when it asks for nothing of the kind.
///
/// # Errors
/// There is no such operation, or `work` fails.
pub fn serve(work: impl FnOnce(&str, u64) -> Result<()>) -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [flag, name, times] if flag == FLAG => {
            work(name, times.parse().context("how often is not a number")?)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Does `work`, the only part of a program that [`of`] counts.
pub fn counted(work: impl FnOnce()) {
    tell_callgrind(Request::Start);
    work();
    tell_callgrind(Request::Stop);
}

/// Instructions of one operation of this program, its loop included; or why they are not known.
#[must_use]
pub fn of(name: &str) -> Figure {
    of_times(name, TIMES)
}

/// The same of an operation that takes long, as the mean of so many.
#[must_use]
pub fn of_times(name: &str, times: u64) -> Figure {
    match count(name, times) {
        Ok(count) => Figure::Of(count as f64 / times as f64),
        Err(error) => Figure::missing(format!("{error:#}")),
    }
}

fn count(name: &str, times: u64) -> Result<u64> {
    if !cfg!(target_arch = "x86_64") {
        bail!("counted on x86-64 only");
    }
    let program = std::env::current_exe().context("this program has no path")?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null"]).arg(program);
    command.args([FLAG, name, &times.to_string()]).stdin(Stdio::null());
    let output = command.output().context("no valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("callgrind failed");
    }
    let collected = text.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    let count: u64 = collected.and_then(|count| count.parse().ok()).context("callgrind told no count")?;
    if count == 0 {
        bail!("nothing was counted");
    }
    Ok(count)
}

/// Numbers of `valgrind/callgrind.h`.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Request {
    Start = 0x4354_0004,
    Stop = 0x4354_0005,
}

/// Does nothing on a bare processor.
fn tell_callgrind(request: Request) {
    #[cfg(target_arch = "x86_64")]
    {
        let arguments = [request as u64, 0, 0, 0, 0, 0];
        // SAFETY: the rotations add up to 128 bits and the exchange is with itself, so no register changes. Valgrind knows the
        // sequence by heart, reads `arguments` through rax and leaves its answer in rdx.
        unsafe {
            std::arch::asm!(
                "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
                in("rax") arguments.as_ptr(),
                inout("rdx") 0u64 => _,
                options(nostack),
            );
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = request;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_is_counted_is_done_once_also_without_callgrind() {
        let mut times = 0;
        counted(|| times += 1);
        assert_eq!(times, 1);
    }
}
