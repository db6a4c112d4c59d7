//! What servers hold of a million series that came and went: MiB resident, before and minutes after.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Setup;
use crate::load::{self, INTERVAL_MS, request_of, requests};
use crate::report::{Figure, Goal, Report, Row};
use crate::servers::{Binary, Kind, Server, answer, query_encoded};

const SERIES: usize = 1_000_000;
const WAVES: usize = 10;
/// Scrapes of all series of a wave.
const SCRAPES_OF_A_WAVE: usize = 3;
/// What stays has come for so many scrapes before the first wave.
const SCRAPES_BEFORE: usize = 100;
/// From a wave to the next: 25 minutes.
const SCRAPES_BETWEEN: usize = 100;
/// Rounds of what stays alone after the last wave, until none of it is among the active ones.
const ROUNDS_AFTER: usize = 3;
const SERIES_PER_REQUEST: usize = 2_000;
const WITHIN: f64 = 1.1;
/// Caches let go of what nobody asked for in five to ten minutes.
const REST: Duration = Duration::from_mins(12);
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// A server at rest.
struct Rested {
    server: Server,
    /// Series that stay.
    stay: usize,
    before: f64,
    most: f64,
    /// At the end, and when it was within [`WITHIN`] of `before` first.
    after: f64,
    back: Option<Duration>,
}

/// Adds the row. Takes a quarter of an hour.
///
/// # Errors
/// A server does not start or does not acknowledge a request, or ours does not count all series.
pub(super) fn run(setup: &Setup, binaries: &[Binary], report: &mut Report) -> Result<()> {
    let mut rested = binaries.iter().map(|binary| churned(setup, binary)).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    while started.elapsed() < REST {
        thread::sleep(LOOK_EVERY);
        for one in &mut rested {
            one.after = one.server.resident()?.total;
            if one.after <= WITHIN * one.before {
                one.back.get_or_insert(started.elapsed());
            }
        }
    }
    let ours = rested.iter().find(|one| one.server.kind() == Kind::Kymo);
    let figure = ours.map_or(Figure::missing("no binary"), |one| Figure::Of(one.after));
    let mut row = Row::new("resident after a million series born and gone, server", "MiB", figure);
    if let Some(ours) = ours {
        row = row.floor("before them", ours.before).goal(Goal::AtMost(WITHIN * ours.before));
    }
    for peer in rested.iter().filter(|one| one.server.kind() != Kind::Kymo) {
        row = row.peer(peer.server.kind().name(), peer.after);
    }
    report.row(row);
    for one in &rested {
        let resident = one.server.resident()?;
        report.note(format!(
            "{}: {SERIES} series born and gone, {} at once beside {} that stay, all counted at the end: {:.1} MiB resident \
             before, {:.1} at the most, {:.1} after {} minutes of rest, {:.1} of them anonymous; within 10 % {}.",
            one.server.kind().name(),
            SERIES / WAVES,
            one.stay,
            one.before,
            one.most,
            one.after,
            REST.as_secs() / 60,
            resident.anonymous,
            one.back.map_or("never".to_owned(), |after| format!("after {} s", after.as_secs())),
        ));
    }
    Ok(())
}

/// Writes what stays and wave after wave of what goes.
fn churned(setup: &Setup, binary: &Binary) -> Result<Rested> {
    let scrapes = SCRAPES_BEFORE + (WAVES + ROUNDS_AFTER) * SCRAPES_BETWEEN;
    let staying = setup.load(load::SERIES_MEASURED, scrapes)?;
    let server = Server::start(binary, &setup.dir.join(format!("{} and what goes", binary.kind.name())))?;
    let mut http = server.connect()?;
    // A few of the recording's series are in none of these scrapes.
    let mut stay: HashSet<usize> =
        (0..SCRAPES_BEFORE).flat_map(|scrape| staying.scrape(scrape)).map(|of| of.0).collect();
    for request in requests(&staying, 0..SCRAPES_BEFORE)?.iter().flatten() {
        server.send(&mut http, &request.body)?;
    }
    server.compact()?;
    server.settle()?;
    let before = server.resident()?.total;
    for round in 0..WAVES + ROUNDS_AFTER {
        let first = SCRAPES_BEFORE + round * SCRAPES_BETWEEN;
        let scrapes = first..first + SCRAPES_OF_A_WAVE;
        stay.extend(scrapes.clone().flat_map(|scrape| staying.scrape(scrape)).map(|of| of.0));
        for request in requests(&staying, scrapes)?.iter().flatten() {
            server.send(&mut http, &request.body)?;
        }
        if round < WAVES {
            let base_ms = staying.shape().base_ms + INTERVAL_MS * first as i64;
            for scrape in 0..SCRAPES_OF_A_WAVE {
                let time_ms = base_ms + INTERVAL_MS * scrape as i64;
                for part in (0..SERIES / WAVES).step_by(SERIES_PER_REQUEST) {
                    let numbers = round * (SERIES / WAVES) + part..;
                    let names = numbers.take(SERIES_PER_REQUEST).map(going);
                    server.send(&mut http, &request_of(names, time_ms)?.body)?;
                }
            }
        }
        server.compact()?;
    }
    let end_s = staying.shape().base_ms / 1_000 + INTERVAL_MS / 1_000 * scrapes as i64;
    let all = query_encoded(r#"count(last_over_time({__name__=~".+"}[1d]))"#);
    let found = server.ask(&mut http, &format!("/api/v1/query?query={all}&time={end_s}&nocache=1"))?;
    let counted = found.is_success().then(|| String::from_utf8(found.body.clone())).transpose()?;
    let wanted = SERIES + stay.len();
    let is_all = counted.as_ref().is_some_and(|text| text.contains(&format!("\"{wanted}\"")));
    ensure!(is_all || binary.kind != Kind::Kymo, "Kymo does not count {wanted}: {:?}", answer::read(&found.body));
    let resident = server.resident().context("the server is gone")?;
    Ok(Rested { server, stay: stay.len(), before, most: resident.peak, after: resident.total, back: None })
}

/// A series of a job that runs once.
fn going(number: usize) -> [(&'static str, String); 5] {
    [
        ("__name__", format!("batch_{}_total", number % 50)),
        ("instance", format!("pod-{}", number / 50)),
        ("job", "batch".to_owned()),
        ("namespace", format!("team-{}", number / 50 % 9)),
        ("node", format!("host-{}", number / 50 % 40)),
    ]
}
