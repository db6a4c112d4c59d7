//! A plain HTTP/1.1 client over one kept connection: enough to speak to our own server without a library.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Neither side waits longer than this for the other.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }
}

impl Connection {
    pub(super) fn open(port: u16) -> io::Result<Self> {
        let host = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&host, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host })
    }

    pub(super) fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.request("GET", target, &[], &[])
    }

    pub(super) fn post(&mut self, target: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        self.request("POST", target, headers, body)
    }

    fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.get_mut().write_all(&bytes)?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let status_line = self.line()?;
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| broken("the status line", &status_line))?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let header = self.line()?;
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').ok_or_else(|| broken("a header", &header))?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().map_err(|_| broken("the content length", value))?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                is_chunked = value.eq_ignore_ascii_case("chunked");
            }
        }
        let mut body = Vec::new();
        if is_chunked {
            loop {
                let size = self.line()?;
                let size = size.split(';').next().unwrap_or_default();
                let size = u64::from_str_radix(size.trim(), 16).map_err(|_| broken("a chunk size", size))?;
                self.read_into(&mut body, size)?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.read_into(&mut body, length)?;
        }
        Ok(Answer { status, body })
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

fn broken(part: &str, found: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{part} of the answer is {found:?}"))
}

/// `text` with everything but unreserved characters percent-encoded.
pub(super) fn query_encoded(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn answers_of_known_length_and_in_chunks_are_read_from_one_connection() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 64];
            for answer in [
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
                "HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                "HTTP/1.1 204 No Content\r\n\r\n",
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut",
            ] {
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut connection = Connection::open(port).unwrap();
        for (status, body) in [(200, "hi"), (503, "abcde"), (204, "")] {
            let answer = connection.get("/").unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (status, body));
        }
        assert_eq!(connection.get("/").map(|answer| answer.status).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        server.join().unwrap();
    }

    #[test]
    fn a_query_is_encoded_for_an_address() {
        assert_eq!(query_encoded("a{b=\"c d\"}[5ms]"), "a%7Bb%3D%22c%20d%22%7D%5B5ms%5D");
    }
}
