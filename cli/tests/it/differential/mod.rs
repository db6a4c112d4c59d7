//! The same data and the same questions for a real Prometheus and for Kymo; the answers must be the same.
//!
//! Both get generated data by remote write, then thousands of expressions drawn from a seed, each at an
//! instant and over a range. Numbers agree to 1e-9, labels, errors, annotations and defined orders exactly.
//! What 3.14 answers otherwise than the reference at hand (3.5) is listed in `known`.
//!
//! Needs the servers that `cargo xtask peers` unpacks, named by `KYMO_PEERS`. `KYMO_DIFFERENTIAL_CASES` sets how
//! many expressions are drawn, `KYMO_DIFFERENTIAL_SEED` from which seed, `KYMO_DIFFERENTIAL_REPORT` a file that
//! gets every difference.

mod compare;
mod corpus;
mod data;
mod known;
mod send;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kymo_core::random::SeededRandom;
use serde_json::Value;
use tempfile::TempDir;

use self::compare::{Difference, Order, compare};
use self::corpus::{Case, Moments, draw, moments};
use crate::http;
use crate::peers::{Peers, Running, free_port, log, skip};
use crate::process::{Server, run, wait_for};

/// Expressions of an everyday run: about half a minute.
const CASES: usize = 2_500;
const SEED: u64 = 20_231_114;
/// Differences that are printed.
const SHOWN: usize = 40;

const NAME: &str = "prometheus_and_kymo_answer_alike";

#[test]
fn prometheus_and_kymo_answer_alike() {
    let peers = match Peers::find() {
        Ok(peers) => peers,
        Err(reason) => return skip(NAME, &reason),
    };
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
    };
    let seed = number("KYMO_DIFFERENTIAL_SEED", SEED);
    let count = number("KYMO_DIFFERENTIAL_CASES", CASES as u64) as usize;

    let folder = TempDir::new().unwrap();
    let prometheus = Prometheus::start(&peers.prometheus, folder.path());
    let features = "promql-experimental-functions";
    let kymo = Server::start_with(folder.path(), &["--retention", "0", "--enable-feature", features]);
    let series = data::make(seed);
    let sent = [prometheus.port, kymo.port].map(|port| send::send(port, &series));
    println!("seed {seed}: {} series, {} samples", series.len(), sent[0]);

    let mut tally = Tally::default();
    let random = SeededRandom::new(seed ^ 1);
    for case in draw(seed, count) {
        let when = moments(&random);
        for question in [Question::instant(&case, &when), Question::range(&case, &when)] {
            let mut theirs = question.ask(prometheus.port);
            let mut ours = question.ask(kymo.port);
            known::reword(&mut theirs, &question);
            known::reword(&mut ours, &question);
            tally.book(&question, compare(&ours, &theirs, question.order));
        }
    }
    tally.print();
    if let Ok(file) = std::env::var("KYMO_DIFFERENTIAL_REPORT") {
        fs::write(file, tally.unexplained.join("\n")).unwrap();
    }
    assert!(tally.unexplained.is_empty(), "{} of {} answers differ", tally.unexplained.len(), tally.asked);
}

/// Questions asked about data that moved over.
const MOVED_CASES: usize = 200;
const MOVED: &str = "a_prometheus_data_directory_moves_over_with_one_command";

/// Everything the reference has in its log, in a block of one of its snapshots, and, by that same snapshot once more, in a
/// running server.
#[test]
fn a_prometheus_data_directory_moves_over_with_one_command() {
    let peers = match Peers::find() {
        Ok(peers) => peers,
        Err(reason) => return skip(MOVED, &reason),
    };
    let folder = TempDir::new().unwrap();
    let prometheus = Prometheus::start(&peers.prometheus, folder.path());
    let series = data::make(SEED);
    let sent = send::send(prometheus.port, &series);
    let random = SeededRandom::new(SEED ^ 2);
    let cases: Vec<(Case, Moments)> =
        draw(SEED, MOVED_CASES).into_iter().map(|case| (case, moments(&random))).collect();
    let questions: Vec<Question<'_>> =
        cases.iter().flat_map(|(case, when)| [Question::instant(case, when), Question::range(case, when)]).collect();
    let reworded = |question: &Question<'_>, port: u16| {
        let mut answer = question.ask(port);
        known::reword(&mut answer, question);
        answer
    };
    let theirs: Vec<Value> = questions.iter().map(|question| reworded(question, prometheus.port)).collect();
    let taken = http::send(prometheus.port, "POST", "/api/v1/admin/tsdb/snapshot", &[], b"").unwrap().json();
    let snapshot = folder.path().join("tsdb/snapshots").join(taken["data"]["name"].as_str().unwrap());
    drop(prometheus);

    let features = ["--retention", "0", "--enable-feature", "promql-experimental-functions"];
    let ask = |kymo: &Server, what: &str| {
        let mut tally = Tally::default();
        for (question, theirs) in questions.iter().zip(&theirs) {
            tally.book(question, compare(&reworded(question, kymo.port), theirs, question.order));
        }
        tally.print();
        assert!(tally.unexplained.is_empty(), "{what}: {} of {} answers differ", tally.unexplained.len(), tally.asked);
    };
    for (from, what) in [(folder.path().join("tsdb"), "log"), (snapshot.clone(), "block")] {
        let home = folder.path().join(what);
        fs::create_dir(&home).unwrap();
        let data = home.join("data");
        let import = || {
            let said = run([
                "import".as_ref(),
                "prometheus".as_ref(),
                from.as_os_str(),
                "--data-dir".as_ref(),
                data.as_os_str(),
            ]);
            assert_eq!(said.status, 0, "{what}: {said:?}");
            println!("{what}: {}", said.out);
            said.out
        };
        let said = import();
        // Beside what was sent there is a marker per series.
        let all = sent + series.len();
        assert!(said.contains(&format!("imported {all} samples")), "{what}: {said}");
        let said = import();
        assert!(said.contains(" 0 stored") && said.contains(" 0 replaced"), "{what}: {said}");
        ask(&Server::start_with(&home, &features), what);
    }
    let home = folder.path().join("server");
    fs::create_dir(&home).unwrap();
    let kymo = Server::start_with(&home, &features);
    let said =
        run(["import".as_ref(), "prometheus".as_ref(), snapshot.as_os_str(), "--server".as_ref(), kymo.url().as_ref()]);
    assert_eq!(said.status, 0, "{said:?}");
    ask(&kymo, "server");
}

/// One request, the same for both.
struct Question<'c> {
    case: &'c Case,
    path: &'static str,
    parameters: String,
    order: Order,
}

impl<'c> Question<'c> {
    fn instant(case: &'c Case, when: &Moments) -> Question<'c> {
        let order = match case.about.as_str() {
            "sort" | "sort_desc" => Order::ByValue,
            "topk" | "bottomk" if !case.text.contains(" by ") && !case.text.contains(" without ") => Order::ByValue,
            _ if case.text.starts_with("sort_by_label") => Order::Exact,
            _ => Order::Free,
        };
        Question { case, path: "/api/v1/query", parameters: format!("time={}", when.instant), order }
    }

    fn range(case: &'c Case, when: &Moments) -> Question<'c> {
        let Moments { start, end, step, .. } = when;
        let parameters = format!("start={start}&end={end}&step={step}");
        Question { case, path: "/api/v1/query_range", parameters, order: Order::Exact }
    }

    fn text(&self) -> &str {
        &self.case.text
    }

    fn is_range(&self) -> bool {
        self.path.ends_with("query_range")
    }

    /// Made of other expressions, by chance.
    fn is_composed(&self) -> bool {
        self.case.about == corpus::COMPOSITION
    }

    fn ask(&self, port: u16) -> Value {
        let body = format!("query={}&{}", http::encoded(&self.case.text), self.parameters);
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = http::send(port, "POST", self.path, &headers, body.as_bytes());
        answer.unwrap_or_else(|error| panic!("{}: {error}", self.case.text)).json()
    }
}

/// What came of it all.
#[derive(Default)]
struct Tally {
    asked: usize,
    /// Questions by what they are about, and how many of those differ without a reason.
    about: BTreeMap<String, (usize, usize)>,
    /// How often each known change showed.
    explained: BTreeMap<&'static str, usize>,
    unexplained: Vec<String>,
}

impl Tally {
    fn book(&mut self, question: &Question<'_>, differences: Vec<Difference>) {
        self.asked += 1;
        let text = &question.case.text;
        let counts = self.about.entry(question.case.about.clone()).or_default();
        counts.0 += 1;
        let mut unexplained = String::new();
        for difference in differences {
            match known::CHANGES.iter().find(|change| (change.explains)(question, &difference)) {
                Some(change) => *self.explained.entry(change.reason).or_default() += 1,
                None => {
                    let _ = write!(unexplained, "\n  {difference}");
                }
            }
        }
        if !unexplained.is_empty() {
            counts.1 += 1;
            self.unexplained.push(format!("{} {} {text}{unexplained}", question.path, question.parameters));
        }
    }

    fn print(&self) {
        println!("{} questions, {} differ", self.asked, self.unexplained.len());
        for (about, (asked, differ)) in self.about.iter().filter(|(_, (_, differ))| *differ > 0) {
            println!("  {about}: {differ} of {asked} differ");
        }
        for (reason, times) in &self.explained {
            println!("  {times} times: {reason}");
        }
        for unexplained in self.unexplained.iter().take(SHOWN) {
            println!("{unexplained}");
        }
    }
}

/// The reference.
struct Prometheus {
    port: u16,
    _running: Running,
}

impl Prometheus {
    fn start(program: &PathBuf, folder: &Path) -> Prometheus {
        let config = folder.join("prometheus.yml");
        fs::write(&config, "global: {}\n").unwrap();
        let port = free_port();
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--enable-feature=promql-experimental-functions,promql-duration-expr,native-histograms")
            .arg("--web.enable-remote-write-receiver")
            .arg("--web.enable-admin-api")
            .arg("--storage.tsdb.retention.time=100y")
            .stdout(Stdio::null())
            .stderr(log(folder, "prometheus.log"))
            .spawn()
            .unwrap();
        let running = Running(child);
        wait_for("Prometheus", || http::get(port, "/-/ready").is_ok_and(|answer| answer.status == 200).then_some(()));
        Prometheus { port, _running: running }
    }
}
