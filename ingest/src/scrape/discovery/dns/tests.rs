use std::path::Path;
use std::sync::Mutex;

use kymo_core::pool::ThreadPool;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::message::{MessageError, Question};
use super::resolv_conf::ResolvConf;
use super::*;

const CNAME: u16 = 5;

/// How the test's name server answers a question.
#[derive(Clone)]
enum Reply {
    /// Records of a type with their data.
    Records(Vec<(u16, Vec<u8>)>),
    Code(u8),
    Truncated,
    /// An answer to another question first, then these records.
    Forged(Vec<(u16, Vec<u8>)>),
}

/// A question as the server saw it: `udp+edns`, `udp` or `tcp`, and the name.
type Asked = (&'static str, String);

/// A name server of the test at one port of 127.0.0.1, by datagrams and by streams.
struct NameServer {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: tokio::task::JoinSet<()>,
}

impl NameServer {
    async fn start(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> NameServer {
        let (datagrams, streams) = loop {
            let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // Another process may listen there; then another port is tried.
            if let Ok(streams) = TcpListener::bind(datagrams.local_addr().unwrap()).await {
                break (datagrams, streams);
            }
        };
        let (port, asked) = (datagrams.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let log = Arc::clone(&asked);
        let reply = Arc::new(move |query: &[u8], tcp: bool| {
            let edns = query[11] == 1;
            let asked = (
                if tcp {
                    "tcp"
                } else if edns {
                    "udp+edns"
                } else {
                    "udp"
                },
                asked_name(query),
            );
            log.lock().unwrap().push(asked.clone());
            replies(query, &reply(&asked))
        });
        let mut tasks = tokio::task::JoinSet::new();
        let by_stream = Arc::clone(&reply);
        tasks.spawn(async move {
            let mut query = [0; 512];
            loop {
                let (len, from) = datagrams.recv_from(&mut query).await.unwrap();
                for message in reply(&query[..len], false) {
                    datagrams.send_to(&message, from).await.unwrap();
                }
            }
        });
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = streams.accept().await.unwrap();
                let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut query).await.unwrap();
                for message in by_stream(&query, true) {
                    stream.write_u16(message.len() as u16).await.unwrap();
                    stream.write_all(&message).await.unwrap();
                }
            }
        });
        NameServer { port, asked, _tasks: tasks }
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn asked_name(query: &[u8]) -> String {
    let (mut name, mut at) = (String::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        name.push_str(std::str::from_utf8(&query[at + 1..end]).unwrap());
        name.push('.');
        at = end;
    }
    name
}

fn replies(query: &[u8], reply: &Reply) -> Vec<Vec<u8>> {
    match reply {
        Reply::Records(records) => vec![answer(query, 0x80, 0, records)],
        Reply::Code(code) => vec![answer(query, 0x80, *code, &[])],
        Reply::Truncated => vec![answer(query, 0x82, 0, &[])],
        Reply::Forged(records) => {
            let right = answer(query, 0x80, 0, records);
            let mut forged = right.clone();
            forged[0] ^= 1;
            vec![forged, right]
        }
    }
}

/// An answer to `query`, whose question it repeats in capitals, with records at the asked name.
fn answer(query: &[u8], flags: u8, code: u8, records: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let question_end = 12 + asked_name(query).len() + 1 + 4;
    let mut message = query[..question_end].to_ascii_uppercase();
    message[..2].copy_from_slice(&query[..2]);
    (message[2], message[3], message[7], message[11]) = (flags, code, records.len() as u8, 0);
    for (record_type, data) in records {
        message.extend([0xc0, 12]);
        message.extend(record_type.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60]);
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
    }
    message
}

fn name(dotted: &str) -> Vec<u8> {
    let labels = dotted.split('.').filter(|label| !label.is_empty());
    labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).chain([0]).collect()
}

fn srv(port: u16, target: &[u8]) -> (u16, Vec<u8>) {
    (33, [&[0, 1, 0, 2], &port.to_be_bytes()[..], target].concat())
}

fn ns(target: &str) -> (u16, Vec<u8>) {
    (2, name(target))
}

fn pool() -> Arc<dyn BlockingPool> {
    Arc::new(ThreadPool::start("test", 1, 10).unwrap())
}

/// A section at work with the settings of `conf`, which go away with the directory.
fn names(record_type: &str, names: &[&str], conf: &str, port: u16) -> (tempfile::TempDir, Names) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    std::fs::write(&path, conf).unwrap();
    let config = DnsSdConfig {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        record_type: record_type.to_owned(),
        port: Some(9100),
        refresh_interval: None,
    };
    let no_resolve: Resolve = Arc::new(|name| Err(std::io::Error::other(format!("{name} was looked up"))));
    (directory, Names::with_resolver(config, no_resolve, Resolver::new(&path, port)))
}

const LOCAL: &str = "nameserver 127.0.0.1\n";

/// Targets as lines of their labels that are not empty.
fn shown(groups: &[Group]) -> Vec<String> {
    let line = |target: &LabelMap| {
        let labels = target.iter().filter(|(_, value)| !value.is_empty());
        labels.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    groups.iter().flat_map(|group| group.targets.iter().map(line)).collect()
}

fn addresses(groups: &[Group]) -> Vec<String> {
    groups.iter().flat_map(|group| group.targets.iter().map(|target| target["__address__"].clone())).collect()
}

#[tokio::test]
async fn records_become_targets_with_labels_of_their_type() {
    let server = NameServer::start(|(_, asked)| match asked.as_str() {
        "_web._tcp.example." => Reply::Records(vec![
            srv(9200, &name("b.example.")),
            (CNAME, name("other.example.")),
            // The target ends in a pointer to the question's last label.
            srv(9100, &[&[1, b'a'][..], &[0xc0, 12 + 5 + 5]].concat()),
            srv(9200, &name("b.example.")),
        ]),
        "mail.example." => Reply::Records(vec![(15, [&[0, 10][..], &name("mx.example.")].concat())]),
        "zone.example." => Reply::Records(vec![ns("ns.example.")]),
        _ => Reply::Code(3),
    })
    .await;
    let table = [
        (
            "SRV",
            "_web._tcp.example",
            vec![
                "__address__=a.EXAMPLE:9100 __meta_dns_name=_web._tcp.example __meta_dns_srv_record_port=9100 \
                 __meta_dns_srv_record_target=a.EXAMPLE.",
                "__address__=b.example:9200 __meta_dns_name=_web._tcp.example __meta_dns_srv_record_port=9200 \
                 __meta_dns_srv_record_target=b.example.",
            ],
        ),
        (
            "mx",
            "mail.example.",
            vec!["__address__=mx.example:9100 __meta_dns_mx_record_target=mx.example. __meta_dns_name=mail.example."],
        ),
        (
            "NS",
            "zone.example",
            vec!["__address__=ns.example:9100 __meta_dns_name=zone.example __meta_dns_ns_record_target=ns.example."],
        ),
        ("NS", "no.such.name", vec![]),
    ];
    for (record_type, asked, wanted) in table {
        let (_conf, mut names) = names(record_type, &[asked], LOCAL, server.port);
        let groups = names.refresh(&*pool()).await.unwrap();
        assert_eq!(shown(&groups), wanted, "{record_type} {asked}");
        let rooted = format!("{}.", asked.trim_end_matches('.'));
        assert_eq!(server.asked(), [("udp+edns", rooted)]);
        assert!(groups.iter().flat_map(|group| &group.targets).all(|target| target.len() == 6));
    }
}

#[tokio::test]
async fn answers_that_do_not_fit_a_datagram_come_by_stream() {
    let many = (0..500).map(|port| srv(port, &name("h.example"))).collect::<Vec<_>>();
    let server = NameServer::start(move |(by, asked)| match (*by, asked.as_str()) {
        ("tcp", "fits.") => Reply::Records(many[..200].to_vec()),
        _ => Reply::Truncated,
    })
    .await;
    let (_conf, mut fits) = names("SRV", &["fits"], LOCAL, server.port);
    assert_eq!(addresses(&fits.refresh(&*pool()).await.unwrap()).len(), 200);
    assert_eq!(server.asked(), [("udp+edns", "fits.".to_owned()), ("tcp", "fits.".to_owned())]);
    let (_conf, mut never) = names("SRV", &["never"], LOCAL, server.port);
    let error = chain(&never.refresh(&*pool()).await.unwrap_err());
    assert!(error.ends_with("answer truncated even by TCP"), "{error}");
}

#[tokio::test]
async fn servers_without_extensions_are_asked_plainly() {
    let server = NameServer::start(|(by, _)| match *by {
        "udp" => Reply::Records(vec![ns("ns.example")]),
        _ => Reply::Code(1),
    })
    .await;
    let (_conf, mut names) = names("NS", &["zone"], LOCAL, server.port);
    assert_eq!(addresses(&names.refresh(&*pool()).await.unwrap()), ["ns.example:9100"]);
    assert_eq!(server.asked(), [("udp+edns", "zone.".to_owned()), ("udp", "zone.".to_owned())]);
}

#[tokio::test]
async fn answers_to_other_questions_are_passed_over() {
    let server = NameServer::start(|_| Reply::Forged(vec![ns("ns.example")])).await;
    let (_conf, mut names) = names("NS", &["zone"], LOCAL, server.port);
    assert_eq!(addresses(&names.refresh(&*pool()).await.unwrap()), ["ns.example:9100"]);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_of_no_use() {
    let server = NameServer::start(|_| Reply::Records(vec![ns("ns.example")])).await;
    let conf = "nameserver 127.0.0.2\nnameserver 127.0.0.1\n";
    let (_conf, mut names) = names("NS", &["zone"], conf, server.port);
    assert_eq!(addresses(&names.refresh(&*pool()).await.unwrap()), ["ns.example:9100"]);
}

#[tokio::test]
async fn search_domains_are_tried_and_only_sure_answers_end_targets() {
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_broken = Arc::clone(&broken);
    let server = NameServer::start(move |(_, asked)| match asked.as_str() {
        "svc.b.example." if is_broken.load(std::sync::atomic::Ordering::Relaxed) => Reply::Code(2),
        "svc.b.example." => Reply::Records(vec![srv(80, &name("h"))]),
        "steady." => Reply::Records(vec![srv(81, &name("s"))]),
        _ => Reply::Code(3),
    })
    .await;
    let conf = "nameserver 127.0.0.1\nsearch a.example b.example\noptions attempts:2\n";
    let (_conf, mut names) = names("SRV", &["svc", "steady."], conf, server.port);
    assert_eq!(addresses(&names.refresh(&*pool()).await.unwrap()), ["h:80", "s:81"]);
    broken.store(true, std::sync::atomic::Ordering::Relaxed);
    server.asked();
    assert_eq!(addresses(&names.refresh(&*pool()).await.unwrap()), ["h:80", "s:81"]);
    let asked: Vec<String> =
        server.asked().into_iter().map(|(_, name)| name).filter(|name| name != "steady.").collect();
    assert_eq!(asked, ["svc.a.example.", "svc.b.example.", "svc.b.example.", "svc."]);
    names.config.names.truncate(1);
    let error = chain(&names.refresh(&*pool()).await.unwrap_err());
    let wanted =
        format!("svc: cannot look up SRV records: name server 127.0.0.1:{}: answered with code 2", server.port);
    assert_eq!(error, wanted);
}

#[tokio::test]
async fn settings_that_cannot_be_read_fail_the_refresh() {
    let (conf, mut names) = names("SRV", &["a", "b"], LOCAL, 1);
    conf.close().unwrap();
    let error = chain(&names.refresh(&*pool()).await.unwrap_err());
    assert!(error.starts_with("a, b: cannot look up SRV records: ") && error.contains("resolv.conf"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn servers_that_are_silent_are_given_up() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    for (options, wanted) in [("", "no answer in time"), ("options timeout:20 attempts:5", "no answer within 30 s")] {
        let (_conf, mut names) = names("SRV", &["svc"], &format!("{LOCAL}{options}\n"), port);
        let error = chain(&names.refresh(&*pool()).await.unwrap_err());
        assert!(error.ends_with(wanted), "{error}");
    }
}

#[test]
fn settings_have_the_systems_defaults_and_limits() {
    let text = "# comment\n; comment\nnameserver 10.0.0.1\nnameserver ::1\nnameserver host\nnameserver\n\
                nameserver 10.0.0.2\nnameserver 10.0.0.3\ndomain old\nsearch a.example b.example\n\
                options ndots:99 rotate timeout:0 attempts:77 ndots:x\n";
    let conf = ResolvConf::read(text);
    assert_eq!(conf.servers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "::1", "10.0.0.2"]);
    assert_eq!((conf.search, conf.ndots, conf.attempts), (vec!["a.example".to_owned(), "b.example".to_owned()], 15, 5));
    assert_eq!(conf.timeout, Duration::from_secs(1));
    let conf = ResolvConf::read("");
    assert_eq!((conf.servers[0].to_string().as_str(), conf.ndots, conf.attempts), ("127.0.0.1", 1, 2));
    assert_eq!((conf.search.len(), conf.timeout), (0, Duration::from_secs(5)));
    assert_eq!(Resolver::system(), Resolver::new(Path::new("/etc/resolv.conf"), 53));
}

#[test]
fn short_names_are_searched_before_they_are_taken_as_they_are() {
    let conf = ResolvConf::read("search a b.\noptions ndots:2\n");
    let table = [
        ("x", vec!["x.a.", "x.b.", "x."]),
        ("x.y", vec!["x.y.a.", "x.y.b.", "x.y."]),
        ("x.y.z", vec!["x.y.z.", "x.y.z.a.", "x.y.z.b."]),
        ("x.", vec!["x."]),
    ];
    for (name, wanted) in table {
        assert_eq!(conf.names(name), wanted, "{name}");
    }
}

#[test]
fn questions_are_written_as_the_protocol_says() {
    let question = Question::new(0x1234, "a.bc.", RecordType::Srv).unwrap();
    let plain = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x21\x00\x01";
    assert_eq!(question.plain(), plain);
    let with_edns = question.with_edns();
    assert_eq!(with_edns[11], 1);
    assert_eq!(&with_edns[plain.len()..], b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00");
    assert_eq!(Question::new(1, ".", RecordType::Ns).unwrap().plain().len(), 12 + 5);
    let long = "x".repeat(64);
    let longest = vec!["x".repeat(63); 4].join(".");
    for bad in ["a..b", ".a", long.as_str(), longest.as_str()] {
        assert_eq!(Question::new(1, bad, RecordType::Ns), None, "{bad}");
    }
}

/// The answer to an NS question for `a.` with this record data.
fn read_ns(data: &[u8]) -> Result<Vec<Record>, MessageError> {
    let question = Question::new(7, "a", RecordType::Ns).unwrap();
    let message = answer(&question.plain(), 0x80, 0, &[(2, data.to_vec())]);
    question.read_answer(&message).map(|answer| answer.records)
}

#[test]
fn names_in_answers_are_escaped_and_their_pointers_end() {
    // The data begins at byte 31: header 12, question 7, owner 2, type to length 10.
    let table: [(&[u8], Result<&str, MessageError>); 9] = [
        (b"\x03n.s\x01\xff\x00", Ok("n\\.s.\\255.")),
        (b"\x00", Ok(".")),
        (b"\x01b\xc0\x0c", Ok("b.A.")),
        (b"\xc0\x1f", Err(MessageError::Name)),
        (b"\x01b\xc0\x1f", Err(MessageError::Name)),
        (b"\xc0\xff", Err(MessageError::Name)),
        (b"\xc0\x02", Err(MessageError::Name)),
        (b"\x05ab", Err(MessageError::Short)),
        (b"\x01b\x00\x00", Err(MessageError::Length)),
    ];
    for (data, wanted) in table {
        let wanted = wanted.map(|target| vec![Record::Ns { target: target.to_owned() }]);
        assert_eq!(read_ns(data), wanted, "{data:02x?}");
    }
    let long: Vec<u8> = [[63; 64].as_slice(); 4].concat().into_iter().chain([0]).collect();
    assert_eq!(read_ns(&long), Err(MessageError::Name));
}

#[test]
fn hosts_with_colons_are_put_in_brackets() {
    assert_eq!((host_port("h.", 1), host_port("::1", 2)), ("h:1".to_owned(), "[::1]:2".to_owned()));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for record_type in [RecordType::Ns, RecordType::Mx, RecordType::Srv] {
            let question = Question::new(7, "a.example", record_type).unwrap();
            let _ = question.read_answer(&bytes);
            // Behind a header and a question that are right, every byte is one of records.
            let mut message = answer(&question.plain(), 0x80, 0, &[]);
            message[6] = 0xff;
            message.extend_from_slice(&bytes);
            prop_assert!(question.read_answer(&message).is_err());
        }
    }

    #[test]
    fn damaged_answers_are_refused_or_stay_small(at in 0usize..200, byte: u8, cut in 0usize..200) {
        let question = Question::new(7, "a.example", RecordType::Srv).unwrap();
        let records = [srv(1, &name("b.example")), srv(2, &[1, b'c', 0xc0, 12]), (CNAME, name("d"))];
        let whole = answer(&question.plain(), 0x80, 0, &records);
        let mut damaged = whole.clone();
        let at = at % damaged.len();
        damaged[at] = byte;
        if let Ok(answer) = question.read_answer(&damaged) {
            prop_assert!(answer.records.len() <= records.len());
        }
        let cut = cut % whole.len();
        prop_assert!(question.read_answer(&whole[..cut]).is_err());
    }

    #[test]
    fn names_come_back_as_they_were_asked(labels in proptest::collection::vec("[a-z0-9_-]{1,63}", 1..4)) {
        let dotted = format!("{}.", labels.join("."));
        let question = Question::new(7, &dotted, RecordType::Ns).unwrap();
        let message = answer(&question.plain(), 0x80, 0, &[ns(&dotted)]);
        prop_assert_eq!(question.read_answer(&message).unwrap().records, vec![Record::Ns { target: dotted }]);
    }
}
