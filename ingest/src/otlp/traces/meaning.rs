//! What the semantic conventions say of a span: whether it failed, what its operation is called, whom it called.
//!
//! HTTP, RPC, databases, messaging and GenAI are known, under their stable names and the ones before. Nothing is
//! guessed: a span of which no convention says that it failed did not fail.
//!
//! **Failed** is a span (1) whose status is `Error`, but not one whose status is `Ok`, which is the last word;
//! (2) with an `error.type`; (3) with a status code of HTTP from 500, of a client from 400; (4) with a status of gRPC
//! or Connect that is not `OK`, of a server only those that are the server's fault; (5) with an error code of JSON-RPC.
//!
//! **Operation**: the first of these that the attributes give, otherwise the span's name.
//!
//! | Convention | Operation |
//! |---|---|
//! | GenAI | `gen_ai.operation.name`, and the model, tool or agent |
//! | database | `db.query.summary`, or `db.operation.name` and `db.collection.name` |
//! | messaging | `messaging.operation.name` and the destination's template or name |
//! | RPC | `rpc.service` and `rpc.method` |
//! | HTTP | `http.request.method` and `http.route`; of a client `url.template` |

use kymo_core::health::OperationKind;

use super::super::error::ExportError;
use super::super::wire::text;
use super::visit::{ATTRIBUTES, Span};
use crate::proto::Cursor;

/// Bytes of an operation's name, or a peer's, that are kept.
const NAME_BYTES_MAX: usize = 200;
/// gRPC's codes that are a fault of the server: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const SERVER_FAULTS: [i64; 6] = [2, 4, 12, 13, 14, 15];
const SERVER_FAULT_NAMES: [&str; 6] =
    ["unknown", "deadline_exceeded", "unimplemented", "internal", "unavailable", "data_loss"];
/// `STATUS_CODE_OK`, `STATUS_CODE_ERROR`
const STATUS_OK: i32 = 1;
const STATUS_ERROR: i32 = 2;

/// What a span does; `SPAN_KIND_UNSPECIFIED` and unknown kinds are internal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

impl From<Kind> for OperationKind {
    fn from(kind: Kind) -> OperationKind {
        match kind {
            Kind::Internal => OperationKind::Internal,
            Kind::Server => OperationKind::Server,
            Kind::Client => OperationKind::Client,
            Kind::Producer => OperationKind::Producer,
            Kind::Consumer => OperationKind::Consumer,
        }
    }
}

impl Kind {
    pub(super) fn of(number: i32) -> Kind {
        match number {
            2 => Kind::Server,
            3 => Kind::Client,
            4 => Kind::Producer,
            5 => Kind::Consumer,
            _ => Kind::Internal,
        }
    }

    /// The value of the label `kind`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Internal => "internal",
            Kind::Server => "server",
            Kind::Client => "client",
            Kind::Producer => "producer",
            Kind::Consumer => "consumer",
        }
    }

    /// Whether it asks another service for something.
    pub(super) fn calls(self) -> bool {
        matches!(self, Kind::Client | Kind::Producer)
    }

    /// Whether another service asked for it.
    pub(super) fn answers(self) -> bool {
        matches!(self, Kind::Server | Kind::Consumer)
    }
}

/// Makes `Key`, the attributes that are looked at, each under its names, the current one first.
macro_rules! keys {
    ($($key:ident = $($name:literal)|+;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        enum Key { $($key),* }

        const KEYS: usize = [$(Key::$key),*].len();

        impl Key {
            /// The key of this name, and whether it is the current one.
            fn of(name: &[u8]) -> Option<(Key, bool)> {
                // Most attributes of a span are none of these, and end at their first byte.
                if !matches!(name.first(), Some(b'd' | b'e' | b'g' | b'h' | b'm' | b'n' | b'p' | b'r' | b's' | b'u')) {
                    return None;
                }
                $(
                    let mut is_current = true;
                    $(
                        if name == $name.as_bytes() {
                            return Some((Key::$key, is_current));
                        }
                        is_current = false;
                    )+
                    let _ = is_current;
                )*
                None
            }

            #[cfg(test)]
            const ALL: &[(Key, &[&str])] = &[$((Key::$key, &[$($name),+])),*];
        }
    };
}

keys! {
    ErrorType = "error.type";
    HttpMethod = "http.request.method" | "http.method";
    HttpStatus = "http.response.status_code" | "http.status_code";
    HttpRoute = "http.route";
    UrlTemplate = "url.template" | "http.url.template";
    RpcSystem = "rpc.system.name" | "rpc.system";
    RpcService = "rpc.service";
    RpcMethod = "rpc.method";
    RpcStatus = "rpc.response.status_code" | "rpc.grpc.status_code";
    ConnectError = "rpc.connect_rpc.error_code";
    JsonRpcError = "rpc.jsonrpc.error_code";
    DbSummary = "db.query.summary";
    DbSystem = "db.system.name" | "db.system";
    DbOperation = "db.operation.name" | "db.operation";
    DbCollection = "db.collection.name" | "db.sql.table" | "db.mongodb.collection" | "db.cassandra.table" | "db.cosmosdb.container";
    MessagingSystem = "messaging.system";
    MessagingOperation = "messaging.operation.name" | "messaging.operation.type" | "messaging.operation";
    MessagingTemplate = "messaging.destination.template";
    MessagingDestination = "messaging.destination.name" | "messaging.destination";
    MessagingTemporary = "messaging.destination.temporary" | "messaging.temp_destination";
    MessagingAnonymous = "messaging.destination.anonymous";
    GenAiOperation = "gen_ai.operation.name";
    GenAiModel = "gen_ai.request.model" | "gen_ai.response.model";
    GenAiTool = "gen_ai.tool.name";
    GenAiAgent = "gen_ai.agent.name";
    PeerService = "service.peer.name" | "peer.service";
    ServerAddress = "server.address" | "net.peer.name" | "net.sock.peer.name" | "network.peer.address" | "net.peer.ip";
}

/// A value of a kind that conventions use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Text(&'a str),
    Number(i64),
    Yes(bool),
}

/// Whom a client's span says that it called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer<'a> {
    /// By name, or a database, which sends no spans of its own.
    Certain(&'a str),
    /// An address or system: the name that holds unless a span of the called service says more.
    Perhaps(&'a str),
    Unsaid,
}

/// The attributes of a span that conventions know.
#[derive(Debug)]
pub(super) struct Meaning<'a> {
    values: [Option<Value<'a>>; KEYS],
    kind: Kind,
    status: i32,
    name: &'a str,
}

impl<'a> Meaning<'a> {
    pub(super) fn of(span: &Span<'a>) -> Result<Meaning<'a>, ExportError> {
        let mut meaning =
            Meaning { values: [None; KEYS], kind: Kind::of(span.kind), status: span.status, name: span.name };
        let mut fields = Cursor::new(span.attributes);
        while let Some(field) = fields.next()? {
            if field.number == ATTRIBUTES {
                meaning.read(field.span()?.of(span.attributes))?;
            }
        }
        Ok(meaning)
    }

    fn read(&mut self, pair: &'a [u8]) -> Result<(), ExportError> {
        let (mut key, mut value) = (&[][..], None);
        let mut fields = Cursor::new(pair);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => key = field.span()?.of(pair),
                2 => value = Some(field.span()?),
                _ => {}
            }
        }
        let (Some((key, is_current)), Some(value)) = (Key::of(key), value) else { return Ok(()) };
        let at = key as usize;
        // Where both are sent, the current name counts; of equal ones the first.
        if self.values[at].is_some() && !is_current {
            return Ok(());
        }
        let mut fields = Cursor::over(pair, value);
        while let Some(field) = fields.next()? {
            self.values[at] = match field.number {
                1 => Some(Value::Text(text(field.span()?.of(pair))?)),
                2 => Some(Value::Yes(field.varint()? != 0)),
                3 => Some(Value::Number(field.int64()?)),
                _ => continue,
            };
        }
        Ok(())
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// A text that is not empty.
    fn text(&self, key: Key) -> Option<&'a str> {
        match self.values[key as usize] {
            Some(Value::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// A number, or a text that is one.
    fn number(&self, key: Key) -> Option<i64> {
        match self.values[key as usize]? {
            Value::Number(number) => Some(number),
            Value::Text(text) => text.parse().ok(),
            Value::Yes(_) => None,
        }
    }

    fn yes(&self, key: Key) -> bool {
        self.values[key as usize] == Some(Value::Yes(true))
    }

    /// Whether the span failed.
    pub(super) fn is_error(&self) -> bool {
        match self.status {
            STATUS_OK => false,
            STATUS_ERROR => true,
            _ => self.text(Key::ErrorType).is_some() || self.is_http_error() || self.is_rpc_error(),
        }
    }

    fn is_http_error(&self) -> bool {
        match (self.kind, self.number(Key::HttpStatus)) {
            (Kind::Server, Some(code)) => code >= 500,
            (Kind::Client, Some(code)) => code >= 400,
            _ => false,
        }
    }

    fn is_rpc_error(&self) -> bool {
        if self.values[Key::JsonRpcError as usize].is_some() {
            return true;
        }
        let is_server = match self.kind {
            Kind::Server => true,
            Kind::Client => false,
            _ => return false,
        };
        let is_named_fault = |name: &str| {
            !name.eq_ignore_ascii_case("ok")
                && (!is_server || SERVER_FAULT_NAMES.iter().any(|fault| fault.eq_ignore_ascii_case(name)))
        };
        if let Some(code) = self.text(Key::ConnectError) {
            return is_named_fault(code);
        }
        match (self.text(Key::RpcSystem), self.values[Key::RpcStatus as usize]) {
            (Some("jsonrpc"), Some(Value::Text(code))) => !code.is_empty() && !code.eq_ignore_ascii_case("ok"),
            (None | Some("grpc" | "connectrpc" | "connect_rpc"), Some(status)) => {
                match (status, self.number(Key::RpcStatus)) {
                    (_, Some(code)) => code != 0 && (!is_server || SERVER_FAULTS.contains(&code)),
                    (Value::Text(name), None) => !name.is_empty() && is_named_fault(name),
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// Writes the operation's name.
    pub(super) fn operation(&self, out: &mut String) {
        let start = out.len();
        let mut write = |first: &str, mark: &str, second: Option<&str>| {
            out.push_str(shortened(first, NAME_BYTES_MAX));
            if let Some(second) = second {
                out.push_str(mark);
                out.push_str(shortened(second, NAME_BYTES_MAX.saturating_sub(out.len() - start)));
            }
        };
        if let Some(operation) = self.text(Key::GenAiOperation) {
            let subject = [Key::GenAiModel, Key::GenAiTool, Key::GenAiAgent].into_iter().find_map(|key| self.text(key));
            return write(operation, " ", subject);
        }
        if let Some(summary) = self.text(Key::DbSummary) {
            return write(summary, "", None);
        }
        if let Some(operation) = self.text(Key::DbOperation) {
            return write(operation, " ", self.text(Key::DbCollection));
        }
        if let Some(operation) = self.text(Key::MessagingOperation) {
            // A name that is made for one use only names nothing.
            let is_passing = self.yes(Key::MessagingTemporary) || self.yes(Key::MessagingAnonymous);
            let name = self.text(Key::MessagingDestination).filter(|_| !is_passing);
            return write(operation, " ", self.text(Key::MessagingTemplate).or(name));
        }
        match (self.text(Key::RpcService), self.text(Key::RpcMethod)) {
            (Some(service), Some(method)) if !method.contains('/') => return write(service, "/", Some(method)),
            (_, Some(method)) => return write(method, "", None),
            (Some(_), None) | (None, None) => {}
        }
        if let Some(method) = self.text(Key::HttpMethod) {
            let template = if self.kind == Kind::Client { Key::UrlTemplate } else { Key::HttpRoute };
            if let Some(route) = self.text(template).or(self.text(Key::HttpRoute)) {
                let method = if method == "_OTHER" { "HTTP" } else { method };
                return write(method, " ", Some(route));
            }
        }
        write(if self.name.is_empty() { "unknown" } else { self.name }, "", None);
    }

    /// Whom it called, if it calls.
    pub(super) fn peer(&self) -> Peer<'a> {
        if !self.kind.calls() {
            return Peer::Unsaid;
        }
        let short = |name: &'a str| shortened(name, NAME_BYTES_MAX);
        let address = self.text(Key::ServerAddress);
        if let Some(name) = self.text(Key::PeerService) {
            return Peer::Certain(short(name));
        }
        if let Some(system) = self.text(Key::DbSystem) {
            return Peer::Certain(short(address.unwrap_or(system)));
        }
        match address.or(self.text(Key::MessagingSystem)) {
            Some(name) => Peer::Perhaps(short(name)),
            None => Peer::Unsaid,
        }
    }
}

/// At most `max` bytes of a text.
fn shortened(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost::encoding::message::encode;

    use super::*;
    use crate::otlp::message::KeyValue;

    /// Attributes are `key=value`; a value of digits is a number, `true` is a boolean, `"…"` always a text.
    fn with<R>(kind: Kind, status: i32, attributes: &[&str], look: impl FnOnce(&Meaning<'_>) -> R) -> R {
        let mut encoded = Vec::new();
        for attribute in attributes {
            let (key, value) = attribute.split_once('=').unwrap();
            let json = match value {
                value if value.parse::<i64>().is_ok() => format!(r#"{{"intValue":{value}}}"#),
                "true" | "false" => format!(r#"{{"boolValue":{value}}}"#),
                value => format!(r#"{{"stringValue":"{}"}}"#, value.trim_matches('"')),
            };
            let pair: KeyValue = serde_json::from_str(&format!(r#"{{"key":"{key}","value":{json}}}"#)).unwrap();
            assert!(pair.encoded_len() > 0);
            encode(ATTRIBUTES, &pair, &mut encoded);
        }
        let span = Span { name: "span name", kind: kind as i32, status, attributes: &encoded, ..Span::default() };
        look(&Meaning::of(&span).unwrap())
    }

    #[test]
    fn what_failed_is_what_the_conventions_say() {
        use Kind::{Client, Consumer, Internal, Producer, Server};
        let table: &[(Kind, i32, &[&str], bool)] = &[
            (Server, 0, &[], false),
            // The status is the last word.
            (Server, 2, &[], true),
            (Internal, 2, &["http.response.status_code=200"], true),
            (Server, 1, &["http.response.status_code=500", "error.type=timeout"], false),
            (Producer, 0, &["error.type=timeout"], true),
            (Server, 0, &["error.type=\"\""], false),
            // HTTP, stable and old.
            (Server, 0, &["http.response.status_code=499"], false),
            (Server, 0, &["http.response.status_code=500"], true),
            (Client, 0, &["http.response.status_code=399"], false),
            (Client, 0, &["http.response.status_code=400"], true),
            (Server, 0, &["http.status_code=404"], false),
            (Server, 0, &["http.status_code=503"], true),
            (Server, 0, &["http.status_code=\"503\""], true),
            (Client, 0, &["http.status_code=404"], true),
            (Internal, 0, &["http.response.status_code=500"], false),
            // Where both are sent, the stable one counts, whichever comes first.
            (Server, 0, &["http.status_code=503", "http.response.status_code=200"], false),
            (Server, 0, &["http.response.status_code=200", "http.status_code=503"], false),
            // gRPC, old: a number.
            (Client, 0, &["rpc.system=grpc", "rpc.grpc.status_code=0"], false),
            (Client, 0, &["rpc.system=grpc", "rpc.grpc.status_code=5"], true),
            (Server, 0, &["rpc.system=grpc", "rpc.grpc.status_code=5"], false),
            (Server, 0, &["rpc.grpc.status_code=1"], false),
            (Server, 0, &["rpc.grpc.status_code=2"], true),
            (Server, 0, &["rpc.grpc.status_code=4"], true),
            (Server, 0, &["rpc.grpc.status_code=8"], false),
            (Server, 0, &["rpc.grpc.status_code=12"], true),
            (Server, 0, &["rpc.grpc.status_code=13"], true),
            (Server, 0, &["rpc.grpc.status_code=14"], true),
            (Server, 0, &["rpc.grpc.status_code=15"], true),
            (Server, 0, &["rpc.grpc.status_code=16"], false),
            // gRPC, current: a name.
            (Client, 0, &["rpc.system.name=grpc", "rpc.response.status_code=OK"], false),
            (Client, 0, &["rpc.system.name=grpc", "rpc.response.status_code=NOT_FOUND"], true),
            (Server, 0, &["rpc.system.name=grpc", "rpc.response.status_code=NOT_FOUND"], false),
            (Server, 0, &["rpc.system.name=grpc", "rpc.response.status_code=DEADLINE_EXCEEDED"], true),
            (Server, 0, &["rpc.system.name=connectrpc", "rpc.response.status_code=unavailable"], true),
            (Server, 0, &["rpc.connect_rpc.error_code=not_found"], false),
            (Client, 0, &["rpc.connect_rpc.error_code=not_found"], true),
            // Of another system nobody says which codes are errors.
            (Client, 0, &["rpc.system.name=dubbo", "rpc.response.status_code=BAD"], false),
            (Server, 0, &["rpc.jsonrpc.error_code=-32602"], true),
            (Server, 0, &["rpc.system.name=jsonrpc", "rpc.response.status_code=\"-32602\""], true),
            // Databases, messaging and GenAI have the status and `error.type` only.
            (Client, 0, &["db.system.name=postgresql", "db.response.status_code=42P01"], false),
            (Client, 0, &["db.system.name=postgresql", "error.type=42P01"], true),
            (Consumer, 0, &["messaging.system=kafka", "error.type=timeout"], true),
            (Client, 0, &["gen_ai.operation.name=chat", "error.type=rate_limit"], true),
            (Client, 0, &["gen_ai.operation.name=chat"], false),
        ];
        for (kind, status, attributes, expected) in table {
            let found = with(*kind, *status, attributes, |meaning| meaning.is_error());
            assert_eq!(found, *expected, "{kind:?} {status} {attributes:?}");
        }
    }

    #[test]
    fn an_operation_has_the_name_that_the_conventions_give_it() {
        use Kind::{Client, Consumer, Internal, Producer, Server};
        let table: &[(Kind, &[&str], &str)] = &[
            (Internal, &[], "span name"),
            (Server, &["http.request.method=GET", "http.route=/items/{id}", "url.path=/items/7"], "GET /items/{id}"),
            (Server, &["http.method=GET", "http.route=/items/{id}"], "GET /items/{id}"),
            (Server, &["http.request.method=_OTHER", "http.route=/x"], "HTTP /x"),
            (Server, &["http.request.method=GET"], "span name"),
            (Client, &["http.request.method=GET", "url.template=/items/{id}"], "GET /items/{id}"),
            (Client, &["http.request.method=GET", "url.full=http://shop/items/7"], "span name"),
            (Client, &["rpc.system=grpc", "rpc.service=shop.Cart", "rpc.method=Add"], "shop.Cart/Add"),
            (Client, &["rpc.system.name=grpc", "rpc.method=shop.Cart/Add"], "shop.Cart/Add"),
            (
                Client,
                &["rpc.service=shop.Cart", "rpc.method=Add", "http.request.method=POST", "http.route=/x"],
                "shop.Cart/Add",
            ),
            (Client, &["db.operation.name=SELECT", "db.collection.name=items"], "SELECT items"),
            (Client, &["db.operation=SELECT", "db.sql.table=items"], "SELECT items"),
            (Client, &["db.operation=find", "db.mongodb.collection=items"], "find items"),
            (Client, &["db.system=redis", "db.operation=GET"], "GET"),
            (Client, &["db.query.summary=SELECT items i", "db.operation.name=SELECT"], "SELECT items i"),
            (Producer, &["messaging.operation.name=send", "messaging.destination.name=orders"], "send orders"),
            (Consumer, &["messaging.operation=process", "messaging.destination=orders"], "process orders"),
            (
                Consumer,
                &[
                    "messaging.operation.type=receive",
                    "messaging.destination.name=amq.gen-7",
                    "messaging.destination.anonymous=true",
                ],
                "receive",
            ),
            (
                Consumer,
                &[
                    "messaging.operation.name=ack",
                    "messaging.destination.name=u.7",
                    "messaging.destination.template=u.{id}",
                ],
                "ack u.{id}",
            ),
            (
                Client,
                &[
                    "gen_ai.operation.name=chat",
                    "gen_ai.request.model=m-1",
                    "http.request.method=POST",
                    "url.template=/v1",
                ],
                "chat m-1",
            ),
            (Internal, &["gen_ai.operation.name=execute_tool", "gen_ai.tool.name=weather"], "execute_tool weather"),
            (Internal, &["gen_ai.operation.name=invoke_agent", "gen_ai.agent.name=planner"], "invoke_agent planner"),
        ];
        for (kind, attributes, expected) in table {
            let mut name = String::from("before ");
            with(*kind, 0, attributes, |meaning| meaning.operation(&mut name));
            assert_eq!(name.strip_prefix("before "), Some(*expected), "{kind:?} {attributes:?}");
        }
        let mut name = String::new();
        let route = format!("http.route=/{}", "é".repeat(300));
        with(Server, 0, &["http.request.method=GET", &route], |meaning| meaning.operation(&mut name));
        assert!(name.len() <= NAME_BYTES_MAX && name.starts_with("GET /é"), "{name}");
    }

    #[test]
    fn a_peer_is_named_by_its_service_or_else_its_address() {
        use Kind::{Client, Producer, Server};
        let table: &[(Kind, &[&str], Peer<'_>)] = &[
            (Client, &[], Peer::Unsaid),
            (Server, &["server.address=shop"], Peer::Unsaid),
            (Client, &["server.address=shop", "service.peer.name=cart"], Peer::Certain("cart")),
            (Client, &["peer.service=cart"], Peer::Certain("cart")),
            (Client, &["server.address=shop"], Peer::Perhaps("shop")),
            (Client, &["net.peer.name=shop"], Peer::Perhaps("shop")),
            (Client, &["db.system=redis", "net.peer.name=cache"], Peer::Certain("cache")),
            (Client, &["db.system.name=redis"], Peer::Certain("redis")),
            (Producer, &["messaging.system=kafka"], Peer::Perhaps("kafka")),
        ];
        for (kind, attributes, expected) in table {
            with(*kind, 0, attributes, |meaning| assert_eq!(meaning.peer(), *expected, "{kind:?} {attributes:?}"));
        }
    }

    #[test]
    fn every_name_of_a_key_is_found_and_only_the_first_is_current() {
        for (key, names) in Key::ALL {
            for (at, name) in names.iter().enumerate() {
                assert_eq!(Key::of(name.as_bytes()), Some((*key, at == 0)), "{name}");
            }
        }
        assert_eq!(Key::of(b"thread.id"), None);
    }
}
