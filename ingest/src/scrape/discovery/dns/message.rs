//! DNS messages (RFC 1035 §4): questions that are asked and answers that are believed.
//!
//! Invariants of the reader, which sees bytes from anywhere:
//! 1. Every byte is taken through [`Reader::take`], which checks bounds.
//! 2. A compressed name's pointers lead strictly backwards, so following them ends; its length has the protocol's limit.
//! 3. Memory is taken only for records that are there.

use std::fmt::Write as _;

/// Bytes of a header: id, flags and four counts.
const HEADER_LEN: usize = 12;
/// Bytes of a name, with its length octets (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// Bytes of one label of a name; larger length octets are pointers.
const LABEL_BYTES_MAX: usize = 63;
const CLASS_INTERNET: u16 = 1;
/// Offered datagram size, which fits the smallest IPv6 link unfragmented (DNS flag day 2020). Larger answers come by TCP.
const DATAGRAM_BYTES: u16 = 1232;
const TYPE_OPT: u16 = 41;
const FLAG_ANSWER: u16 = 0x8000;
const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const RCODE_MASK: u16 = 0x000f;

pub(super) const RCODE_OK: u8 = 0;
pub(super) const RCODE_FORMAT: u8 = 1;
pub(super) const RCODE_NO_SUCH_NAME: u8 = 3;

/// What is asked for, with its number in RFC 1035 and RFC 2782.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(in crate::scrape) enum RecordType {
    Ns = 2,
    Mx = 15,
    Srv = 33,
}

impl std::fmt::Display for RecordType {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            RecordType::Ns => "NS",
            RecordType::Mx => "MX",
            RecordType::Srv => "SRV",
        })
    }
}

/// An answer's record. Hosts are rooted and escaped as in zone files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Ns { target: String },
    Mx { target: String },
    Srv { target: String, port: u16 },
}

/// What a name server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) rcode: u8,
    /// The answer did not fit; its records are left out.
    pub(super) truncated: bool,
    /// Records of the type asked for; others, such as aliases passed on the way, are left out.
    pub(super) records: Vec<Record>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::scrape) enum MessageError {
    #[error("message ends within a field")]
    Short,
    #[error("name with an endless or forward pointer, or too long")]
    Name,
    #[error("record's data has another length than its fields")]
    Length,
    #[error("answer to another question")]
    OtherQuestion,
}

/// A question in wire form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    id: u16,
    record_type: RecordType,
    /// Name, type and class.
    section: Vec<u8>,
}

impl Question {
    /// `None` if `name` cannot be one: an empty or too long label, or too long as a whole.
    pub(super) fn new(id: u16, name: &str, record_type: RecordType) -> Option<Question> {
        let mut section = Vec::with_capacity(name.len() + 6);
        let name = name.strip_suffix('.').unwrap_or(name);
        for label in name.split('.').filter(|_| !name.is_empty()) {
            let len =
                u8::try_from(label.len()).ok().filter(|len| (1..=LABEL_BYTES_MAX).contains(&usize::from(*len)))?;
            section.push(len);
            section.extend_from_slice(label.as_bytes());
        }
        section.push(0);
        if section.len() > NAME_BYTES_MAX {
            return None;
        }
        section.extend_from_slice(&(record_type as u16).to_be_bytes());
        section.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
        Some(Question { id, record_type, section })
    }

    /// The message that asks, by itself.
    pub(super) fn plain(&self) -> Vec<u8> {
        self.message(0)
    }

    /// The message that asks and offers room for larger datagrams (EDNS, RFC 6891).
    pub(super) fn with_edns(&self) -> Vec<u8> {
        let mut message = self.message(1);
        message.push(0);
        message.extend([TYPE_OPT, DATAGRAM_BYTES, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes));
        message
    }

    fn message(&self, additional: u16) -> Vec<u8> {
        let header = [self.id, FLAG_RECURSION_DESIRED, 1, 0, 0, additional];
        let mut message: Vec<u8> = header.into_iter().flat_map(u16::to_be_bytes).collect();
        message.extend_from_slice(&self.section);
        message
    }

    /// Reads the answer to this question.
    ///
    /// Refuses an answer to another one, which is how late and forged answers look. Servers that understood nothing need
    /// not repeat the question.
    pub(super) fn read_answer(&self, message: &[u8]) -> Result<Answer, MessageError> {
        let mut reader = Reader { message, at: 0 };
        let (id, flags, questions, answers) = (reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?);
        reader.take(4)?;
        if id != self.id || flags & FLAG_ANSWER == 0 {
            return Err(MessageError::OtherQuestion);
        }
        let rcode = (flags & RCODE_MASK) as u8;
        match questions {
            1 if reader.take(self.section.len())?.eq_ignore_ascii_case(&self.section) => {}
            0 if rcode != RCODE_OK && rcode != RCODE_NO_SUCH_NAME => {}
            _ => return Err(MessageError::OtherQuestion),
        }
        let mut answer = Answer { rcode, truncated: flags & FLAG_TRUNCATED != 0, records: Vec::new() };
        if rcode == RCODE_OK && !answer.truncated {
            for _ in 0..answers {
                answer.records.extend(reader.record(self.record_type)?);
            }
        }
        Ok(answer)
    }
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], MessageError> {
        let end = self.at.checked_add(count).ok_or(MessageError::Short)?;
        let taken = self.message.get(self.at..end).ok_or(MessageError::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, MessageError> {
        self.take(1)?.first().copied().ok_or(MessageError::Short)
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// The next record, if it is of the wanted type.
    fn record(&mut self, wanted: RecordType) -> Result<Option<Record>, MessageError> {
        self.name()?;
        let (record_type, class) = (self.u16()?, self.u16()?);
        self.take(4)?;
        let len = usize::from(self.u16()?);
        let start = self.at;
        self.take(len)?;
        if (record_type, class) != (wanted as u16, CLASS_INTERNET) {
            return Ok(None);
        }
        // Names in it may point before it, so it is read from within the message.
        let mut data = Reader { message: self.message.get(..self.at).ok_or(MessageError::Short)?, at: start };
        let record = match wanted {
            RecordType::Ns => Record::Ns { target: data.name()? },
            RecordType::Mx => {
                data.take(2)?;
                Record::Mx { target: data.name()? }
            }
            RecordType::Srv => {
                data.take(4)?;
                let port = data.u16()?;
                Record::Srv { port, target: data.name()? }
            }
        };
        if data.at == self.at { Ok(Some(record)) } else { Err(MessageError::Length) }
    }

    /// A name that may continue elsewhere; the reader goes on behind its first part.
    fn name(&mut self) -> Result<String, MessageError> {
        let mut name = String::new();
        let mut bytes = 1;
        let mut part = Reader { message: self.message, at: self.at };
        let mut part_start = self.at;
        let mut behind = None;
        loop {
            let len = part.u8()?;
            match len >> 6 {
                0 if len == 0 => break,
                0 => {
                    bytes += 1 + usize::from(len);
                    if bytes > NAME_BYTES_MAX {
                        return Err(MessageError::Name);
                    }
                    push_escaped(&mut name, part.take(usize::from(len))?);
                    name.push('.');
                }
                3 => {
                    let to = usize::from(u16::from_be_bytes([len & 0x3f, part.u8()?]));
                    behind = behind.or(Some(part.at));
                    if to >= part_start || to < HEADER_LEN {
                        return Err(MessageError::Name);
                    }
                    (part.at, part_start) = (to, to);
                }
                // Reserved kinds of labels, which nobody uses (RFC 6891 §5).
                _ => return Err(MessageError::Name),
            }
        }
        self.at = behind.unwrap_or(part.at);
        if name.is_empty() {
            name.push('.');
        }
        Ok(name)
    }
}

/// Bytes that would end a label or a field of a zone file get a backslash, others that are not printed their number.
fn push_escaped(out: &mut String, label: &[u8]) {
    for &byte in label {
        match byte {
            b'.' | b' ' | b'\'' | b'@' | b';' | b'(' | b')' | b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b'!'..=b'~' => out.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(out, "\\{byte:03}")),
        }
    }
}
