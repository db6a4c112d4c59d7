use kymo_core::pool::ThreadPool;

use super::*;
use crate::scrape::tests::support::{Answer, TestTarget, clients, page};

fn pool() -> Arc<dyn BlockingPool> {
    Arc::new(ThreadPool::start("test", 1, 10).unwrap())
}

fn discovery(config: DiscoveryConfig, resolve: Resolve) -> Discovery {
    let client = clients()(&Default::default()).unwrap();
    Discovery::new(&config, Some(client), pool(), &resolve)
}

fn no_resolver() -> Resolve {
    Arc::new(|name| Err(std::io::Error::other(format!("{name} was looked up"))))
}

/// Addresses with one label of the group.
fn shown(groups: &[Group], label: &str) -> Vec<String> {
    let of = |group: &Group| -> Vec<String> {
        let value = group.labels.get(label).map_or("", String::as_str).to_owned();
        group.targets.iter().map(|target| format!("{} {value}", target["__address__"])).collect()
    };
    groups.iter().flat_map(of).collect()
}

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let config = FileSdConfig { files: vec![path("t*.json"), path("one.yml")], refresh_interval: None };
    let mut files = discovery(DiscoveryConfig::Files(config), no_resolver());
    assert_eq!(files.refresh().await.unwrap(), Some(vec![]));
    assert_eq!(files.refresh().await.unwrap(), None);
    std::fs::write(path("t2.json"), r#"[{"targets":["h:2"],"labels":{"a":"2"}}]"#).unwrap();
    std::fs::write(path("t1.json"), r#"[{"targets":["h:1"],"labels":{"a":"1"}}]"#).unwrap();
    std::fs::write(path("other.json"), r#"[{"targets":["h:9"]}]"#).unwrap();
    std::fs::write(path("one.yml"), "- targets: ['h:3', 'h:4']\n  labels: {a: three}\n- labels: {a: b}\n").unwrap();
    let groups = files.refresh().await.unwrap().unwrap();
    assert_eq!(shown(&groups, "a"), ["h:3 three", "h:4 three", "h:1 1", "h:2 2"]);
    assert_eq!(groups.last().unwrap().labels["__meta_filepath"], path("t2.json"));
    assert_eq!(files.refresh().await.unwrap(), None);
    // A file that cannot be read keeps its targets, and says so once.
    std::fs::write(path("t1.json"), "[{").unwrap();
    let error = files.refresh().await.unwrap_err().to_string();
    assert!(error.starts_with(&path("t1.json")), "{error}");
    assert_eq!(files.refresh().await.unwrap(), None);
    std::fs::remove_file(path("one.yml")).unwrap();
    assert_eq!(shown(&files.refresh().await.unwrap().unwrap(), "a"), ["h:1 1", "h:2 2"]);
    std::fs::write(path("t1.json"), r#"[{"targets":["h:5"]}]"#).unwrap();
    assert_eq!(shown(&files.refresh().await.unwrap().unwrap(), "a"), ["h:5 ", "h:2 2"]);
}

#[test]
fn stars_stand_for_any_text_in_the_last_part() {
    let table = [
        ("*.json", "a.json", true),
        ("*.json", "json", false),
        ("a*b*c", "abc", true),
        ("a*b*c", "axxbyyc", true),
        ("a*b*c", "acb", false),
        ("a*a", "a", false),
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("*", "", true),
    ];
    for (pattern, name, wanted) in table {
        assert_eq!(file::matches_star(pattern, name), wanted, "{pattern} {name}");
    }
    for (pattern, wanted) in
        [("a/b.json", true), ("a/*.yml", true), ("*/b.yml", false), ("a.txt", false), ("json", false)]
    {
        assert_eq!(file::is_pattern(pattern), wanted, "{pattern}");
    }
}

#[tokio::test]
async fn endpoints_are_asked_for_their_list_and_believed_only_as_json() {
    let target =
        TestTarget::start(page("application/json; charset=utf-8", r#"[{"targets":["h:1"],"labels":{"a":"1"}}]"#)).await;
    let url = format!("http://{}/targets", target.address);
    let config = HttpSdConfig { url: url.clone(), ..HttpSdConfig::default() };
    let mut endpoint = discovery(DiscoveryConfig::Http(Box::new(config)), no_resolver());
    let groups = endpoint.refresh().await.unwrap().unwrap();
    assert_eq!(
        (shown(&groups, "a"), groups[0].labels["__meta_url"].as_str()),
        (vec!["h:1 1".to_owned()], url.as_str())
    );
    let request = target.requests().remove(0).to_ascii_lowercase();
    assert!(request.contains("\r\nx-prometheus-refresh-interval-seconds: 60\r\n"), "{request}");
    let not_found = Answer::Bytes(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec());
    let table = [
        (page("text/plain", "[]"), "unsupported content type \"text/plain\""),
        (page("application/json", "[{"), "error unmarshalling targets: EOF"),
        (page("application/json", r#"[{"target":[]}]"#), "error unmarshalling targets: unknown field"),
        (not_found, "server returned HTTP status 404 Not Found"),
        (Answer::Reset, "cannot fetch targets"),
    ];
    for (answer, wanted) in table {
        target.answers(answer);
        let error = endpoint.refresh().await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{url}: {wanted}")), "{error}");
    }
}

#[tokio::test]
async fn names_become_addresses_of_the_wanted_kind() {
    let resolve: Resolve = Arc::new(|name| match name {
        "svc" => Ok(vec!["10.0.0.2:0".parse().unwrap(), "10.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]),
        other => Err(std::io::Error::other(other.to_owned())),
    });
    let config = |names: &[&str], record_type: &str| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        DiscoveryConfig::Dns(DnsSdConfig {
            names,
            record_type: record_type.to_owned(),
            port: Some(9100),
            refresh_interval: None,
        })
    };
    let v4 = discovery(config(&["svc"], "a"), resolve.clone()).refresh().await.unwrap().unwrap();
    assert_eq!(shown(&v4, ""), ["10.0.0.1:9100 ", "10.0.0.2:9100 "]);
    assert_eq!(v4[0].targets[0]["__meta_dns_name"], "svc");
    let v6 = discovery(config(&["svc"], "AAAA"), resolve.clone()).refresh().await.unwrap().unwrap();
    assert_eq!(shown(&v6, ""), ["[::1]:9100 "]);
    let error = discovery(config(&["gone"], "A"), resolve).refresh().await.unwrap_err();
    assert_eq!(error.to_string(), "gone: cannot resolve");
}

#[tokio::test]
async fn names_that_cannot_be_looked_up_keep_their_targets() {
    let answers = Arc::new(std::sync::Mutex::new(BTreeMap::from([("a", "10.0.0.1:0"), ("b", "10.0.0.2:0")])));
    let known = Arc::clone(&answers);
    let resolve: Resolve = Arc::new(move |name| match known.lock().unwrap().get(name) {
        Some(address) => Ok(vec![address.parse().unwrap()]),
        None => Err(std::io::Error::other("nobody answers")),
    });
    let names = ["a", "b", "never"].map(str::to_owned).to_vec();
    let config = DnsSdConfig { names, record_type: "A".to_owned(), port: Some(1), refresh_interval: None };
    let mut names = discovery(DiscoveryConfig::Dns(config), resolve);
    assert_eq!(shown(&names.refresh().await.unwrap().unwrap(), ""), ["10.0.0.1:1 ", "10.0.0.2:1 "]);
    *answers.lock().unwrap() = BTreeMap::from([("b", "10.0.0.3:0")]);
    assert_eq!(shown(&names.refresh().await.unwrap().unwrap(), ""), ["10.0.0.1:1 ", "10.0.0.3:1 "]);
    answers.lock().unwrap().clear();
    let error = names.refresh().await.unwrap_err().to_string();
    assert!(error.ends_with(": cannot resolve"), "{error}");
}
