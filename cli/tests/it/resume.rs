//! An import or an export that broke off, by a fault or by a kill, goes on where it was, and comes to what it would have been.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::import::{export, import};
use crate::peers::{Peers, skip};
use crate::process::{Server, kymo, wait_for};
use crate::remote_write::now_ms;

const SERIES: usize = 40;
const SAMPLES: usize = 4_000;

/// Samples of the last hours as a table.
fn table() -> String {
    let from = now_ms() - 4 * 3_600_000;
    let mut text = "__name__,n,timestamp,value\n".to_owned();
    for n in 0..SERIES {
        for m in 0..SAMPLES {
            text.push_str(&format!("many,{n},{},{}.5\n", from + 1_000 * m as i64, n * m % 997));
        }
    }
    text
}

/// Writes a file as if it had not changed since.
fn write_unseen(path: &Path, text: &str) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, text).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
}

/// What is in a data directory, as a file next to it.
fn everything(data: &Path) -> Vec<u8> {
    let file = data.with_extension("jsonl");
    let said = export(data, &file, &[]);
    assert_eq!(said.status, 0, "{said:?}");
    let text = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    text
}

/// The number in front of a word that was said.
fn number_before(text: &str, word: &str) -> usize {
    let before = text.split(word).next().and_then(|before| before.split_whitespace().last());
    before.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number before {word:?} in {text}"))
}

#[test]
fn an_import_goes_on_behind_what_was_stored_and_begins_anew_when_its_file_has_changed() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (file, whole, data) = (at("many.csv"), at("whole"), at("data"));
    let sound = table();
    fs::write(&file, &sound).unwrap();
    let said = import("csv", &file, &["--data-dir", whole.to_str().unwrap()]);
    assert!(said.status == 0 && said.out.contains("160000 stored"), "{said:?}");
    assert!(!whole.join("IMPORTING").exists(), "an import that ended leaves nothing");

    // Breaks off far behind the middle, at a line that is mended then.
    let broken = format!("many,{},", SERIES - 10);
    let at_line = sound.find(&broken).unwrap();
    let line_end = at_line + sound[at_line..].find('\n').unwrap();
    let mut faulty = sound.clone();
    faulty.replace_range(line_end - 1..line_end, "x");
    fs::write(&file, &faulty).unwrap();
    let into = ["--data-dir", data.to_str().unwrap()];
    let said = import("csv", &file, &into);
    assert!(said.status == 1 && said.err.contains(&format!("line {}", 2 + (SERIES - 10) * SAMPLES)), "{said:?}");
    write_unseen(&file, &sound);
    let said = import("csv", &file, &into);
    assert!(said.status == 0 && said.err.contains("going on with"), "{said:?}");
    let read = number_before(&said.out, " samples");
    assert!(read < SERIES * SAMPLES / 2 && said.out.contains(" 0 replaced"), "{said:?}");
    assert!(everything(&data) == everything(&whole), "it is what one whole import would be");
    assert!(!data.join("IMPORTING").exists(), "an import that ended leaves nothing");

    // The same again with a file that did change, and with one that did not, from its beginning.
    for (flag, reason) in [(None, "has changed since"), (Some("--restart"), "")] {
        fs::remove_dir_all(&data).unwrap();
        fs::write(&file, &faulty).unwrap();
        assert_eq!(import("csv", &file, &into).status, 1);
        if flag.is_some() {
            write_unseen(&file, &sound);
        } else {
            fs::write(&file, sound.replace("many,0,", "many,00,")).unwrap();
            fs::write(&file, &sound).unwrap();
            let later = fs::metadata(&file).unwrap().modified().unwrap() + std::time::Duration::from_secs(5);
            File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        }
        let said = import("csv", &file, &into.iter().copied().chain(flag).collect::<Vec<_>>());
        assert!(said.status == 0 && said.err.contains(reason) && !said.err.contains("going on"), "{said:?}");
        assert_eq!(number_before(&said.out, " samples"), SERIES * SAMPLES, "{said:?}");
        assert!(everything(&data) == everything(&whole), "and the same comes of it");
    }
}

/// Bytes of the files in a folder.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    entries.iter().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

fn start(arguments: &[&str]) -> Child {
    kymo(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills a command once `is_time` says so, if it lives that long; whether it did.
fn kill_when(child: &mut Child, what: &str, mut is_time: impl FnMut() -> bool) -> bool {
    let is_alive = wait_for(what, || match child.try_wait().unwrap() {
        Some(_) => Some(false),
        None => is_time().then_some(true),
    });
    // One that ends meanwhile is dead as well.
    child.kill().unwrap();
    child.wait().unwrap();
    is_alive
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[test]
fn an_import_that_is_killed_again_and_again_stores_the_same() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (file, whole, data) = (at("many.csv"), at("whole"), at("data"));
    fs::write(&file, table()).unwrap();
    let arguments = |data: &PathBuf| {
        ["import", "csv", file.to_str().unwrap(), "--data-dir", data.to_str().unwrap()].map(str::to_owned)
    };
    assert_eq!(import("csv", &file, &["--data-dir", whole.to_str().unwrap()]).status, 0);
    let mut kills = 0;
    for _ in 0..4 {
        let mut child = start(&arguments(&data).each_ref().map(String::as_str));
        let before = bytes_in(&data.join("wal"));
        kills += usize::from(kill_when(&mut child, "some of it in the log", || {
            bytes_in(&data.join("wal")) > before + 20_000 && data.join("IMPORTING").exists()
        }));
    }
    assert!(kills > 0, "the first one at least does not end before it has begun");
    let said = import("csv", &file, &["--data-dir", data.to_str().unwrap()]);
    assert!(said.status == 0 && said.out.contains(" 0 replaced"), "{said:?}");
    assert!(everything(&data) == everything(&whole), "it is what one whole import would be");
    assert!(!data.join("IMPORTING").exists(), "an import that ended leaves nothing");
}

#[test]
fn an_export_that_is_killed_again_and_again_becomes_the_same_file() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (file, data) = (at("many.csv"), at("data"));
    fs::write(&file, table()).unwrap();
    assert_eq!(import("csv", &file, &["--data-dir", data.to_str().unwrap()]).status, 0);
    assert_eq!(export(&data, &at("whole.jsonl"), &["--start", "-1d"]).status, 0);

    let (out, checkpoint) = (at("parts.jsonl"), at("parts.jsonl.checkpoint"));
    let arguments =
        ["export", out.to_str().unwrap(), "--data-dir", data.to_str().unwrap(), "--start", "-1d"].map(str::to_owned);
    let bytes = || json(&checkpoint).and_then(|kept| kept["place"]["bytes"].as_u64());
    // Killed before anything is whole, and, where it takes that long, when some is.
    let mut child = start(&arguments.each_ref().map(String::as_str));
    let mut is_broken_off = kill_when(&mut child, "a checkpoint", || bytes().is_some());
    if is_broken_off && !out.exists() {
        let mut child = start(&arguments.each_ref().map(String::as_str));
        is_broken_off = kill_when(&mut child, "a checkpoint of some bytes", || bytes().is_some_and(|bytes| bytes > 0));
    }
    if is_broken_off && !out.exists() {
        // What another export left unfinished is not gone on with, and what it was made from goes.
        assert_eq!(fs::read_dir(data.join("snapshots")).unwrap().count(), 1, "the copy waits for the next run");
        let said = export(&data, &out, &["--start", "-1d"]);
        assert!(said.status == 0 && said.err.contains("going on with"), "{said:?}");
    }
    assert!(fs::read(&out).unwrap() == fs::read(at("whole.jsonl")).unwrap(), "it is the same file, byte by byte");
    assert!(!checkpoint.exists() && !at("parts.jsonl.part").exists(), "nothing is left beside it");
    assert!(!data.join("snapshots").read_dir().unwrap().any(|_| true), "the copies are gone");

    // One of something else begins anew.
    fs::remove_file(&out).unwrap();
    let mut child = start(&arguments.each_ref().map(String::as_str));
    if kill_when(&mut child, "a checkpoint", || bytes().is_some()) && !out.exists() {
        let said = export(&data, &out, &["--format", "csv"]);
        assert!(said.status == 0 && said.err.contains("begins at its beginning"), "{said:?}");
        assert!(fs::read_to_string(&out).unwrap().starts_with("series,timestamp,value"));
        assert!(!data.join("snapshots").read_dir().unwrap().any(|_| true), "the copies are gone");
    }
}

/// Changes a byte of a file, as if it had not changed since.
fn flip_unseen(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0xff;
    let before = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
}

/// What a server acknowledged before it synced is sent again, what it synced is not; here that is all but the last batch.
#[test]
fn an_import_into_a_server_goes_on_behind_what_the_server_has_synced() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (file, whole) = (at("many.csv"), at("whole"));
    let sound = table();
    fs::write(&file, &sound).unwrap();
    assert_eq!(import("csv", &file, &["--data-dir", whole.to_str().unwrap()]).status, 0);

    // Breaks off at a line far behind the middle.
    let broken = sound.find(&format!("many,{},", SERIES - 10)).unwrap();
    let line_end = broken + sound[broken..].find('\n').unwrap();
    let mut faulty = sound.clone();
    faulty.replace_range(line_end - 1..line_end, "x");
    fs::write(&file, &faulty).unwrap();
    let server = Server::start_with(folder.path(), &["--sync", "always"]);
    let url = server.url();
    let checkpoint = at("many.csv.importing");
    let place = || json(&checkpoint).unwrap()["place"]["place"]["items"].as_u64().unwrap() as usize;
    // Nothing is known to be synced before five seconds are over: an import that ends before would begin anew.
    let said = import("csv", &file, &["--server", &url, "--synced-after", "1h"]);
    assert!(said.status == 1 && place() == 0, "{said:?}");
    for _ in 0..2 {
        let said = import("csv", &file, &["--server", &url, "--synced-after", "0s"]);
        assert_eq!(said.status, 1, "{said:?}");
        let behind = (SERIES - 10) * SAMPLES - place();
        assert!((1..3 * 20_000).contains(&behind), "two batches at most are sent again: {behind} samples");
    }
    write_unseen(&file, &sound);
    let lines = place();
    let said = import("csv", &file, &["--server", &url]);
    assert!(said.status == 0 && said.err.contains(&format!("at line {}", lines + 1)), "{said:?}");
    assert_eq!(number_before(&said.out, " samples"), SERIES * SAMPLES + 1 - lines, "{said:?}");
    assert!(!checkpoint.exists(), "an import that ended leaves nothing");
    assert!(everything(&at("data")) == everything(&whole), "it is what one whole import would be");
}

/// Blocks that promtool makes of samples of two days.
fn blocks_of_promtool(promtool: &Path, folder: &Path) -> PathBuf {
    let from = (now_ms() / 86_400_000 - 3) * 86_400;
    let mut text = "# TYPE many gauge\n".to_owned();
    for n in 0..SERIES {
        for m in 0..SAMPLES {
            text.push_str(&format!("many{{n=\"{n:02}\"}} {}.5 {}\n", n * m % 997, from + 30 * m as i64));
        }
    }
    text.push_str("# EOF\n");
    let (file, blocks) = (folder.join("many.om"), folder.join("blocks"));
    fs::write(&file, text).unwrap();
    let made = Command::new(promtool)
        .args([
            "tsdb".as_ref(),
            "create-blocks-from".as_ref(),
            "openmetrics".as_ref(),
            file.as_os_str(),
            blocks.as_os_str(),
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    blocks
}

const INSIDE: &str = "an_import_of_a_prometheus_goes_on_inside_a_block";

/// Into a directory, and from the same place into a server.
#[test]
fn an_import_of_a_prometheus_goes_on_inside_a_block() {
    let peers = match Peers::find() {
        Ok(peers) => peers,
        Err(reason) => return skip(INSIDE, &reason),
    };
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let blocks = blocks_of_promtool(&peers.promtool, folder.path());
    let (whole, data) = (at("whole"), at("data"));
    let into = |data: &Path| ["--data-dir".to_owned(), data.to_str().unwrap().to_owned()];
    let import = |more: &[String]| import("prometheus", &blocks, &more.iter().map(String::as_str).collect::<Vec<_>>());
    let said = import(&into(&whole));
    let all = SERIES * SAMPLES;
    assert!(said.status == 0 && said.out.contains(&format!("{all} stored")), "{said:?}");

    // The last byte of the chunks of the last block but one is of its last series.
    let mut names: Vec<PathBuf> = fs::read_dir(&blocks).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.join("index").is_file());
    names.sort_unstable();
    assert!(names.len() >= 3, "two days are several blocks: {names:?}");
    let chunks = names[names.len() - 2].join("chunks/000001");
    let last = fs::metadata(&chunks).unwrap().len() as usize - 5;
    flip_unseen(&chunks, last);
    let said = import(&into(&data));
    assert!(said.status == 1 && said.err.contains("chunks/000001"), "{said:?}");
    let kept = json(&data.join("IMPORTING")).unwrap();
    let place = &kept["place"]["place"];
    let block = place["of"]["Block"].as_str().unwrap_or_else(|| panic!("{kept}"));
    // Between two series of it; what came behind was in no batch yet.
    assert!(place["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{kept}");

    // A server that it broke off at, too, which kept the same place.
    let home = at("other");
    fs::create_dir(&home).unwrap();
    let server = Server::start_with(&home, &[]);
    let checkpoint = at("sent");
    let to_server =
        ["--server".to_owned(), server.url(), "--checkpoint".to_owned(), checkpoint.to_str().unwrap().to_owned()];
    let said = import(&to_server);
    assert!(said.status == 1 && said.err.contains("chunks/000001"), "{said:?}");
    let mut sent = json(&checkpoint).unwrap();
    sent["place"] = kept["place"].clone();
    fs::write(&checkpoint, sent.to_string()).unwrap();

    flip_unseen(&chunks, last);
    for more in [&into(&data)[..], &to_server] {
        let said = import(more);
        assert!(said.status == 0 && said.err.contains(&format!("of the index of block {block}")), "{said:?}");
        let read = number_before(&said.out, " samples");
        assert!(read > 0 && read < all / 2 && said.out.contains(" 0 replaced"), "{said:?}");
    }
    assert!(!checkpoint.exists() && !data.join("IMPORTING").exists(), "an import that ended leaves nothing");
    let wanted = everything(&whole);
    assert!(everything(&data) == wanted, "it is what one whole import would be");
    assert!(everything(&home.join("data")) == wanted, "of the server, too");
}
