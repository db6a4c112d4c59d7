//! Values that flags and the configuration file write in the same way.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use kymo_core::text::{DurationText, parse_duration_ms, parse_size, write_size};

/// Where a listener that can be switched off listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressOrOff {
    At(SocketAddr),
    Off,
}

impl FromStr for AddressOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<AddressOrOff, String> {
        match text {
            "off" => Ok(AddressOrOff::Off),
            _ => address(text).map(AddressOrOff::At).map_err(|reason| format!("{reason}, or off")),
        }
    }
}

impl AddressOrOff {
    pub fn address(self) -> Option<SocketAddr> {
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

/// Reads `ADDRESS:PORT`; a name (`localhost:9911`) stands for its first address.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    const EXPECTED: &str = "expected an address and a port, like 127.0.0.1:9911, [::1]:9911 or localhost:9911";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let is_named = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let found = if is_named { text.to_socket_addrs().ok().and_then(|mut found| found.next()) } else { None };
    found.ok_or_else(|| EXPECTED.to_owned())
}
