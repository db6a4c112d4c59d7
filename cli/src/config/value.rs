//! Values that flags and the configuration file write in the same way.

use std::borrow::Cow;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;
use std::{fmt, io};

use kymo_core::text::{DurationText, parse_duration_ms, parse_size, write_size};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Where a listener listens, as written: `ADDRESS:PORT` or `NAME:PORT`. What a name stands for is asked when the listener
/// is opened, so that reading a file needs no network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An IP address.
    Ip(SocketAddr),
    /// A host's name.
    Name { host: String, port: u16 },
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if let Ok(address) = text.parse() {
            return Ok(Address::Ip(address));
        }
        let named = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match named {
            Some((host, port)) if !host.is_empty() && !host.contains([':', '/', '[', ']', ' ']) => {
                Ok(Address::Name { host: host.to_owned(), port })
            }
            _ => Err("expected an address and a port, like 127.0.0.1:9911, [::1]:9911 or localhost:9911".to_owned()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Address {
    /// The first address that a name stands for. Asks the system's resolver, and waits for it.
    ///
    /// # Errors
    /// The resolver's, or that it knows no address.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        match self {
            Address::Ip(address) => Ok(*address),
            Address::Name { host, port } => (host.as_str(), *port)
                .to_socket_addrs()?
                .next()
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        }
    }
}

/// Where a listener that can be switched off listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressOrOff {
    At(Address),
    Off,
}

impl FromStr for AddressOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<AddressOrOff, String> {
        match text {
            "off" => Ok(AddressOrOff::Off),
            _ => text.parse().map(AddressOrOff::At).map_err(|reason| format!("{reason}, or off")),
        }
    }
}

impl AddressOrOff {
    pub fn address(self) -> Option<Address> {
        match self {
            AddressOrOff::At(address) => Some(address),
            AddressOrOff::Off => None,
        }
    }
}

impl fmt::Display for AddressOrOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressOrOff::At(address) => address.fmt(f),
            AddressOrOff::Off => f.write_str("off"),
        }
    }
}

macro_rules! schema_of_text {
    ($($type:ident: $format:literal,)*) => {
        $(
            impl JsonSchema for $type {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($type).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({ "type": "string", "format": $format })
                }
            }
        )*
    };
}

schema_of_text! {
    Address: "address",
    AddressOrOff: "address or off",
}

/// What the server watches without being told where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collect {
    pub host: bool,
    pub itself: bool,
}

impl FromStr for Collect {
    type Err = String;

    fn from_str(text: &str) -> Result<Collect, String> {
        let mut collect = Collect::default();
        if text == "none" {
            return Ok(collect);
        }
        for name in text.split(',') {
            match name {
                "host" => collect.host = true,
                "self" => collect.itself = true,
                _ => {
                    return Err(format!("unknown collector {name:?}: expected host, self, both with a comma, or none"));
                }
            }
        }
        Ok(collect)
    }
}

impl Collect {
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [("host", self.host), ("self", self.itself)].into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name)
    }
}

impl fmt::Display for Collect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names().collect();
        f.write_str(if names.is_empty() { "none".to_owned() } else { names.join(",") }.as_str())
    }
}

/// How long samples are kept; `None` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention(pub Option<Duration>);

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Retention, String> {
        let ms =
            parse_duration_ms(text).map_err(|error| format!("{error}; expected a duration like 30d, 12h or 1y"))?;
        Ok(Retention(u64::try_from(ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis)))
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        DurationText(ms).fmt(f)
    }
}

/// Less would refuse the first requests of a single Prometheus.
const MEMORY_LIMIT_MIN: u64 = 64 << 20;
/// Less would not hold two hours of a single large Prometheus.
const BLOCK_BYTES_MIN: u64 = 64 << 20;

/// Most bytes of blocks; `None` for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockBytes(pub Option<u64>);

impl FromStr for BlockBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<BlockBytes, String> {
        match parse_size(text) {
            Ok(0) => Ok(BlockBytes(None)),
            Ok(bytes) if bytes < BLOCK_BYTES_MIN => Err("at least 64MiB are needed, or 0 for any number".to_owned()),
            Ok(bytes) => Ok(BlockBytes(Some(bytes))),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl fmt::Display for BlockBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write_size(&mut text, self.0.unwrap_or(0));
        f.write_str(&text)
    }
}

/// Memory for everything together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBytes(pub u64);

impl FromStr for MemoryBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<MemoryBytes, String> {
        match parse_size(text) {
            Ok(bytes) if bytes < MEMORY_LIMIT_MIN => Err("at least 64MiB are needed".to_owned()),
            Ok(bytes) => Ok(MemoryBytes(bytes)),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl fmt::Display for MemoryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write_size(&mut text, self.0);
        f.write_str(&text)
    }
}
