//! Which series carry which label: per name and value the numbers of the series, as runs, in compressed pages.

use super::directory::{Page, PageWriter, number};
use super::runs::Run;
use crate::codec::{Read, Reader, put_varint};

/// Takes the number of a series, and its names and values.
pub(super) type Take<'a> = dyn FnMut(u32, &[(u32, u32)]) + 'a;

/// Bytes of a page before zstd. One posting is never cut.
const PAGE_BYTES: usize = 32 << 10;

/// The section, its pages with their first name and value, and the names that occur.
pub(super) type Written = (Vec<u8>, Vec<Page<(u32, u32)>>, Vec<u32>);

/// Writes postings; `rows` are names and values of all series, in order. Gives the section's bytes, its pages,
/// and the names that occur.
pub(super) fn write(names: u32, rows: impl Fn(&mut Take<'_>)) -> std::io::Result<Written> {
    let mut writer = PageWriter::new()?;
    let mut pages = Vec::new();
    let mut raw = Vec::new();
    let mut first: Option<(u32, u32)> = None;
    let mut last = (0u32, 0u32);
    // Sorted by name by counting, then each name's carriers by value.
    let mut ends = vec![0usize; names as usize];
    rows(&mut |_, pairs| pairs.iter().for_each(|pair| ends[pair.0 as usize] += 1));
    let mut total = 0;
    for end in &mut ends {
        total += *end;
        *end = total - *end;
    }
    let mut all = vec![(0u32, 0u32); total];
    rows(&mut |series, pairs| {
        for &(name, value) in pairs {
            all[ends[name as usize]] = (value, series);
            ends[name as usize] += 1;
        }
    });
    let mut used = Vec::new();
    let mut begin = 0;
    for (name, &end) in ends.iter().enumerate() {
        let carriers = &mut all[std::mem::replace(&mut begin, end)..end];
        if carriers.is_empty() {
            continue;
        }
        let name = name as u32;
        used.push(name);
        carriers.sort_unstable();
        for posting in carriers.chunk_by(|a, b| a.0 == b.0) {
            let value = posting[0].0;
            if raw.len() >= PAGE_BYTES
                && let Some(first) = first.take()
            {
                pages.push(Page { place: writer.add(&raw)?, first });
                raw.clear();
            }
            if first.is_none() {
                first = Some((name, value));
                last = (0, 0);
            }
            put_varint(&mut raw, u64::from(name - last.0));
            put_varint(&mut raw, u64::from(if name == last.0 { value - last.1 } else { value }));
            last = (name, value);
            let runs = || posting.chunk_by(|a, b| a.1 + 1 == b.1);
            put_varint(&mut raw, runs().count() as u64);
            let mut next = 0;
            for run in runs() {
                put_varint(&mut raw, u64::from(run[0].1 - next));
                put_varint(&mut raw, run.len() as u64 - 1);
                next = run[0].1 + run.len() as u32;
            }
        }
    }
    if let Some(first) = first {
        pages.push(Page { place: writer.add(&raw)?, first });
    }
    Ok((writer.bytes, pages, used))
}

/// A page, unpacked.
#[derive(Debug, Default)]
pub(super) struct PostingsPage {
    /// Name, value, and the end of its runs; rising.
    entries: Vec<(u32, u32, u32)>,
    runs: Vec<Run>,
}

impl PostingsPage {
    /// Reads a page of a block with so many symbols and series.
    pub(super) fn decode(bytes: &[u8], symbols: u32, series: u64) -> Read<PostingsPage> {
        let from = &mut Reader::new(bytes);
        let mut page = PostingsPage::default();
        let mut last = (0u32, 0u32);
        while from.left() > 0 {
            let (step, value) = (number(from)?, number(from)?);
            let key = if step == 0 {
                last.1.checked_add(value).map(|value| (last.0, value))
            } else {
                last.0.checked_add(step).map(|name| (name, value))
            };
            let is_first = page.entries.is_empty();
            let key = key.filter(|key| key.0 < symbols && key.1 < symbols && (is_first || *key > last));
            let Some(key) = key else { return from.bad("postings are not sorted") };
            last = key;
            let mut next = 0u64;
            for _ in 0..from.count(2)? {
                let (gap, len) = (u64::from(number(from)?), u64::from(number(from)?) + 1);
                let begin = next + gap;
                next = begin + len;
                if next > series {
                    return from.bad("posting of an unknown series");
                }
                page.runs.push((begin as u32, next as u32));
            }
            page.entries.push((key.0, key.1, page.runs.len() as u32));
        }
        Ok(page)
    }

    /// Values of `name` that stand in this page, with the number of their entry.
    pub(super) fn of_name(&self, name: u32) -> impl Iterator<Item = (u32, usize)> {
        let low = self.entries.partition_point(|entry| entry.0 < name);
        let high = self.entries.partition_point(|entry| entry.0 <= name);
        (low..high).map(|entry| (self.entries[entry].1, entry))
    }

    /// Every name and value, with the runs of series that carry it.
    pub(super) fn all(&self) -> impl Iterator<Item = ((u32, u32), &[Run])> {
        (0..self.entries.len()).map(|entry| ((self.entries[entry].0, self.entries[entry].1), self.runs(entry)))
    }

    /// The entry of a name and value.
    pub(super) fn find(&self, name: u32, value: u32) -> Option<usize> {
        self.entries.binary_search_by_key(&(name, value), |entry| (entry.0, entry.1)).ok()
    }

    /// The series of an entry, rising.
    pub(super) fn runs(&self, entry: usize) -> &[Run] {
        let start = if entry == 0 { 0 } else { self.entries[entry - 1].2 };
        &self.runs[start as usize..self.entries[entry].2 as usize]
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.entries.len() * 12 + self.runs.len() * 8 + size_of::<PostingsPage>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::unpack;

    #[test]
    fn postings_read_back_and_cuts_are_errors() {
        // Name 1 has values 10 and 11, name 2 one value per series.
        let rows = |take: &mut Take<'_>| {
            (0..30_000u32).for_each(|n| take(n, &[(1, 10 + n / 1_000 % 2), (2, 100 + n)]));
        };
        let (bytes, pages, names) = write(3, rows).unwrap();
        assert_eq!(names, [1, 2]);
        assert!(pages.len() > 2);
        let (mut begin, mut raw, mut found) = (0, Vec::new(), Vec::new());
        for page in &pages {
            let end = begin + page.place.len as usize;
            unpack(&bytes[begin..end], page.place.raw_len as usize, &mut raw).unwrap();
            begin = end;
            let decoded = PostingsPage::decode(&raw, 40_000, 30_000).unwrap();
            assert!(PostingsPage::decode(&raw, 40_000, 900).is_err());
            assert!(decoded.find(page.first.0, page.first.1).is_some());
            found.push(decoded);
        }
        let entry = found[0].find(1, 11).unwrap();
        let runs: Vec<Run> = (0..15).map(|n| (1_000 + 2_000 * n, 2_000 + 2_000 * n)).collect();
        assert_eq!(found[0].runs(entry), runs);
        assert_eq!(found.iter().map(|page| page.of_name(2).count()).sum::<usize>(), 30_000);
        assert!(PostingsPage::decode(&raw[..raw.len() - 1], 40_000, 30_000).is_err());
    }
}
