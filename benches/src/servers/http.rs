//! A plain HTTP/1.1 client over one kept connection, so that the sender costs little beside what it measures.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Neither side waits longer than this for the other.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A connection that stays open from request to request.
pub struct Connection {
    stream: BufReader<TcpStream>,
    head: Vec<u8>,
    host: SocketAddr,
}

/// What came back.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, read to its end.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Connection {
    /// Connects to this machine.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn open(port: u16) -> io::Result<Connection> {
        let host = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&host, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::with_capacity(1 << 16, stream), head: Vec::new(), host })
    }

    /// # Errors
    /// The connection broke, or the answer is not HTTP.
    pub fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.request("GET", target, &[], &[])
    }

    /// # Errors
    /// As [`get`](Self::get).
    pub fn post(&mut self, target: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        self.request("POST", target, headers, body)
    }

    fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let Connection { stream, head, host } = self;
        head.clear();
        write!(head, "{method} {target} HTTP/1.1\r\nHost: {host}\r\n")?;
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n")?;
        }
        write!(head, "Content-Length: {}\r\n\r\n", body.len())?;
        stream.get_mut().write_all(head)?;
        stream.get_mut().write_all(body)?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| broken(&line))?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let header = self.line()?;
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').ok_or_else(|| broken(&header))?;
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(|_| broken(&header))?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                is_chunked = value.trim().eq_ignore_ascii_case("chunked");
            }
        }
        let mut body = Vec::new();
        if !is_chunked {
            self.read_into(&mut body, length)?;
            return Ok(Answer { status, body });
        }
        loop {
            let size = self.line()?;
            let size = u64::from_str_radix(size.trim(), 16).map_err(|_| broken(&size))?;
            self.read_into(&mut body, size)?;
            self.line()?;
            if size == 0 {
                return Ok(Answer { status, body });
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn read_into(&mut self, body: &mut Vec<u8>, length: u64) -> io::Result<()> {
        let read = self.stream.by_ref().take(length).read_to_end(body)?;
        if read as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn broken(found: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("an answer holds {found:?}"))
}

/// `text` with everything but unreserved characters percent-encoded.
#[must_use]
pub fn query_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
