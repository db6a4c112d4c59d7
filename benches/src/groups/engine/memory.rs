//! What an engine holds in memory, in processes that do nothing else.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kymo_core::{
    Clock, Labels, ManualClock, MetricStorage, QueryContext, SampleBatch, Selector, SeriesRef, SystemClock, heap,
};
use kymo_storage::fs::RealFs;
use kymo_storage::{Engine, Lane, MaintainLimit, Next, Options};
use serde_json::{Value, json};

use super::{folder, hot_points};
use crate::cases::append::open;
use crate::groups::Setup;
use crate::load;
use crate::machine;
use crate::report::{Goal, Report, Row};

/// The seed's shape of a million hot points.
const HOT_SERIES: usize = 3_334;
const HOT_SCRAPES: usize = 300;
/// Series that come after those of the measured set.
const FURTHER_SERIES: usize = 100_000;
/// Series that are born and gone.
const CHURNED_SERIES: usize = 1_000_000;
/// At once alive among those.
const CHURNED_AT_ONCE: usize = 50_000;
const ROWS_PER_BATCH: usize = 2_000;
/// Samples of each further series: it is active, and shares its scrape with others.
const FURTHER_SCRAPES: usize = 4;
/// Flushes after which a series without samples is gone.
const FLUSHES: usize = 6;

/// What is held in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Held {
    /// Points that `hot_points` wrote.
    HotPoints,
    /// Series beyond those of the measured set.
    Further,
    /// A million series born and gone.
    Churn,
}

/// Holds it in an engine below `dir` and says what it takes, as JSON; all figures are bytes.
///
/// # Errors
/// The engine's.
pub fn hold(what: Held, dir: &Path) -> Result<Value> {
    match what {
        Held::HotPoints => hot_points::hold(dir),
        Held::Further => further(dir),
        Held::Churn => churn(dir),
    }
}

fn apart(what: Held, dir: &Path) -> Result<Value> {
    let program = std::env::current_exe().context("this program has no path")?;
    let name = clap::ValueEnum::to_possible_value(&what).context("it has a name")?;
    let mut command = Command::new(program);
    let output = command.arg("--hold").arg(name.get_name()).arg("--dir").arg(dir).output();
    let output = output.context("cannot start a process")?;
    ensure!(output.status.success(), "{what:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn figure(held: &Value, name: &str) -> Result<f64> {
    held[name].as_f64().with_context(|| format!("no {name} in {held}"))
}

/// Adds the rows on a million hot points.
pub(super) fn hot(setup: &Setup, report: &mut Report) -> Result<()> {
    let held = held_hot(setup)?;
    let what = format!("{HOT_SERIES} series × {HOT_SCRAPES} points with index");
    let raw = (HOT_SERIES * HOT_SCRAPES * 16) as f64 / 1e6;
    let resident = Row::new(format!("{what}, resident"), "MB", figure(&held, "resident")? / 1e6);
    report.row(resident.floor("16 B a point, no index", raw).goal(Goal::AtMost(5.0)));
    report.row(Row::new(format!("{what}, as the engine counts"), "MB", figure(&held, "counted")? / 1e6));
    Ok(())
}

fn held_hot(setup: &Setup) -> Result<Value> {
    let dir = folder(setup, "memory")?;
    hot_points::write(&setup.load(HOT_SERIES, HOT_SCRAPES)?, &dir)?;
    apart(Held::HotPoints, &dir)
}

/// Adds the seed's floor on a million hot points.
///
/// # Errors
/// The engine's.
pub fn seed(setup: &Setup, report: &mut Report) -> Result<()> {
    let of_a_million = figure(&held_hot(setup)?, "resident")? / (HOT_SERIES * HOT_SCRAPES) as f64;
    let row = Row::new("seed: memory of 1,000,000 hot points", "MB", of_a_million);
    report.row(row.goal(Goal::AtMost(25.0)));
    Ok(())
}

/// Adds the row on further series.
pub(super) fn series(setup: &Setup, report: &mut Report) -> Result<()> {
    let held = apart(Held::Further, &folder(setup, "further")?)?;
    let (grown, labels) = (figure(&held, "grown")?, figure(&held, "labels")?);
    let per_series = |bytes: f64| bytes / FURTHER_SERIES as f64;
    report.row(
        Row::new("resident per further active series", "B", per_series(grown))
            .floor("its labels, packed", per_series(labels))
            .goal(Goal::AtMost(1_024.0)),
    );
    Ok(())
}

/// Adds the rows on series born and gone.
pub(super) fn churned(setup: &Setup, report: &mut Report) -> Result<()> {
    let held = apart(Held::Churn, &folder(setup, "churn")?)?;
    let (before, after, most) = (figure(&held, "before")?, figure(&held, "after")?, figure(&held, "most")?);
    let (at_once, active) = (figure(&held, "at_once")?, figure(&held, "active")?);
    let (held_before, held) = (figure(&held, "held_before")?, figure(&held, "held")?);
    report.row(
        Row::new("allocated after a million series born and gone", "MiB", held / MIB)
            .floor("before them", held_before / MIB)
            .goal(Goal::AtMost(1.1 * held_before / MIB)),
    );
    report.row(
        Row::new("same, anonymous pages of the system's heap", "MiB", after / MIB)
            .floor("before them", before / MIB)
            .goal(Goal::AtMost(1.1 * before / MIB)),
    );
    report.note(format!(
        "A million series born and gone, {CHURNED_AT_ONCE} at once beside {} that stay, all selected in each wave: {:.1} \
         MiB before, {:.1} at the most, {:.1} once they are gone from the head, {:.1} once nobody has asked for their \
         blocks during the idle time of the block cache, by a clock that was put forward; their blocks are there, and \
         open. Active series then: {}.",
        load::SERIES_MEASURED,
        before / MIB,
        most / MIB,
        at_once / MIB,
        after / MIB,
        active
    ));
    Ok(())
}

const MIB: f64 = 1024.0 * 1024.0;

/// Bytes that the program holds, whatever its allocator keeps besides.
fn allocated() -> f64 {
    crate::heap::bytes() as f64
}

fn anonymous() -> Result<f64> {
    Ok(machine::resident(std::process::id())?.anonymous * MIB)
}

/// One sample of each of some series, 15 s after the one before and with another value; gives their refs.
fn scrape(
    engine: &Engine,
    names: &[Result<SeriesRef, Labels>],
    time_ms: i64,
) -> Result<Vec<Result<SeriesRef, Labels>>> {
    let mut refs = Vec::with_capacity(names.len());
    let mut batch = SampleBatch::new();
    for names in names.chunks(ROWS_PER_BATCH) {
        batch.clear();
        for (number, name) in names.iter().enumerate() {
            let value = (number as i64 + time_ms / load::INTERVAL_MS) as f64;
            match name {
                Ok(series) => batch.push_float(*series, time_ms, value),
                Err(labels) => batch.push_float(labels, time_ms, value),
            }
        }
        let report = engine.append(&batch)?;
        // As a second does, which passes between scrapes: until then the log's frames are held as well.
        engine.sync_now()?;
        let refused = report.rejected.len() + report.unknown_refs.len();
        ensure!(refused == 0, "{refused} of {} rows were not stored", names.len());
        if report.new_refs.is_empty() {
            refs.extend_from_slice(names);
        } else {
            refs.extend(report.new_refs.iter().map(|(_, series)| Ok(*series)));
        }
    }
    Ok(refs)
}

/// Labels as the recording has them, of clones from `first` on; their bytes beside.
fn names(first: usize, count: usize) -> Result<Vec<Result<SeriesRef, Labels>>> {
    let recording = load::recording()?;
    let per_clone = recording.series.len();
    let named = (first..first + count).map(|index| {
        let host = format!("host-{}", index / per_clone);
        let labels = recording.series[index % per_clone].labels.iter().map(|(name, value)| {
            let value = if name == "instance" { &host } else { value };
            (name.as_str(), value.as_str())
        });
        Err(Labels::from_pairs(labels))
    });
    Ok(named.collect())
}

fn further(dir: &Path) -> Result<Value> {
    let (engine, _) = open(&dir.join("data"))?;
    let mut time_ms = load::base_ms_of_now();
    let mut refs = scrape(&engine, &names(0, load::SERIES_MEASURED)?, time_ms)?;
    let more = names(load::SERIES_MEASURED, FURTHER_SERIES)?;
    let packed: usize = more.iter().flat_map(|name| name.as_ref().err()).map(|l| l.as_ref().packed().len()).sum();
    // What waits to be appended is there before and after; what making it has left free is not.
    heap::give_back();
    let before = anonymous()?;
    let mut more_refs = Vec::new();
    for scrapes in 0..FURTHER_SCRAPES {
        time_ms += load::INTERVAL_MS;
        refs = scrape(&engine, &refs, time_ms)?;
        more_refs = scrape(&engine, if scrapes == 0 { &more } else { &more_refs }, time_ms)?;
    }
    heap::give_back();
    let grown = anonymous()? - before;
    ensure!(engine.statistics().active_series as usize == load::SERIES_MEASURED + FURTHER_SERIES, "series are missing");
    Ok(json!({ "grown": grown, "labels": packed, "refs": more_refs.len() }))
}

fn churn(dir: &Path) -> Result<Value> {
    let clock = Arc::new(ManualClock::at(SystemClock::new().now_ms()));
    let options = Options { clock: clock.clone(), ..Options::default() };
    let idle = options.cache_idle;
    let (engine, _) = Engine::open(Arc::new(RealFs), &dir.join("data"), options).context("cannot open the engine")?;
    let mut time_ms = load::base_ms_of_now();
    let mut refs = scrape(&engine, &names(0, load::SERIES_MEASURED)?, time_ms)?;
    let tend = |refs: &mut Vec<_>, time_ms: &mut i64| -> Result<()> {
        *time_ms += load::INTERVAL_MS;
        *refs = scrape(&engine, refs, *time_ms)?;
        super::bytes::settle(&engine)?;
        // As the server has it after a flush.
        heap::give_back();
        Ok(())
    };
    // Makes an order of the series, and reads all labels there are into the cache of blocks.
    let select_all = |time_ms: i64| -> Result<usize> {
        let all = Selector::new(Vec::new(), time_ms - 1, time_ms);
        Ok(engine.select(&all, &QueryContext::unlimited())?.len())
    };
    // Until nobody has asked for anything for a while. Twice: what was asked for at the end of one is not yet idle.
    let rest = || -> Result<()> {
        for _ in 0..2 {
            clock.advance(idle);
            while engine.maintain(Lane::Flush, MaintainLimit::default())? == Next::Now {}
        }
        heap::give_back();
        Ok(())
    };
    for _ in 0..FLUSHES {
        tend(&mut refs, &mut time_ms)?;
    }
    time_ms += load::INTERVAL_MS;
    refs = scrape(&engine, &refs, time_ms)?;
    select_all(time_ms)?;
    tend(&mut refs, &mut time_ms)?;
    rest()?;
    let before = anonymous()?;
    let held_before = allocated();
    let mut most = before;
    for wave in 0..CHURNED_SERIES / CHURNED_AT_ONCE {
        let born = |n: usize| {
            let pod = (wave * CHURNED_AT_ONCE + n).to_string();
            Err(Labels::from_pairs([("__name__", "kube_pod_info"), ("namespace", "batch"), ("pod", pod.as_str())]))
        };
        let names: Vec<_> = (0..CHURNED_AT_ONCE).map(born).collect();
        scrape(&engine, &names, time_ms)?;
        drop(names);
        let selected = select_all(time_ms)?;
        ensure!(selected >= CHURNED_AT_ONCE, "{selected} series were selected");
        most = most.max(anonymous()?);
        tend(&mut refs, &mut time_ms)?;
    }
    for _ in 0..FLUSHES {
        tend(&mut refs, &mut time_ms)?;
    }
    let at_once = anonymous()?;
    rest()?;
    let active = engine.statistics().active_series;
    Ok(json!({
        "before": before, "after": anonymous()?, "at_once": at_once, "most": most, "active": active,
        "held_before": held_before, "held": allocated(),
    }))
}
