//! `kymo promqltest`.

use std::fs;

use tempfile::TempDir;

use crate::process::run;

const PASSES: &str = "load 1m\n  up 1 1 0\n\neval instant at 1m sum(up)\n  {} 1\n\neval instant at 2m up\n  up 0\n";
const FAILS: &str = "load 1m\n  up 1 1 0\n\neval instant at 1m up\n  up 1\n\neval instant at 2m up\n  up 7\n";

#[test]
fn each_file_has_its_counts_and_each_failing_case_its_place() {
    let folder = TempDir::new().unwrap();
    let (good, bad) = (folder.path().join("good.test"), folder.path().join("bad.test"));
    fs::write(&good, PASSES).unwrap();
    fs::write(&bad, FAILS).unwrap();

    let said = run(["promqltest".as_ref(), good.as_os_str()]);
    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!(said.out, format!("{}: passed 2, failed 0\n", good.display()));

    let said = run(["promqltest".as_ref(), bad.as_os_str(), good.as_os_str()]);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.out.contains(&format!("{}: passed 1, failed 1\n", bad.display())), "{said:?}");
    assert!(said.out.contains(&format!("{}:7", bad.display())), "the failing case is named by its line: {said:?}");
    assert!(said.out.contains(&format!("{}: passed 2, failed 0\n", good.display())), "{said:?}");
}

#[test]
fn a_script_that_cannot_be_read_is_named() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing.test");
    let said = run(["promqltest".as_ref(), missing.as_os_str()]);
    assert!(said.status == 1 && said.err.contains(missing.to_str().unwrap()), "{said:?}");
    let broken = folder.path().join("broken.test");
    fs::write(&broken, "load soon\n").unwrap();
    let said = run(["promqltest".as_ref(), broken.as_os_str()]);
    assert!(said.status == 1 && format!("{}{}", said.out, said.err).contains("broken.test"), "{said:?}");
}
