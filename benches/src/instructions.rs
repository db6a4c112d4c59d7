//! Instructions of an operation, by callgrind on this very program.
//!
//! A program that wants its operations counted calls [`serve`] first: started as `program --count NAME TIMES` it does the
//! operation that often and ends. Two runs of different length take the start-up off.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::report::Figure;

const FLAG: &str = "--count";
const TIMES: u64 = 16_384;

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

/// Instructions of one operation of this program, its loop included; or why they are not known.
#[must_use]
pub fn of(name: &str) -> Figure {
    of_times(name, TIMES)
}

/// The same of an operation that takes long, as the mean of so many.
#[must_use]
pub fn of_times(name: &str, times: u64) -> Figure {
    match count(name, times).and_then(|few| Ok((few, count(name, 2 * times)?))) {
        Ok((few, many)) => Figure::Of(many.saturating_sub(few) as f64 / times as f64),
        Err(error) => Figure::missing(format!("{error:#}")),
    }
}

fn count(name: &str, times: u64) -> Result<u64> {
    let program = std::env::current_exe().context("this program has no path")?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    command.args([FLAG, name, &times.to_string()]).stdin(Stdio::null());
    let output = command.output().context("no valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("callgrind failed");
    }
    let collected = text.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    collected.and_then(|count| count.parse().ok()).context("callgrind told no count")
}
