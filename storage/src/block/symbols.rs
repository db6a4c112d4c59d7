//! The dictionary: every label name and value once, sorted, front-coded in pages.

use super::directory::{Page, PageWriter, Slice};
use crate::codec::{Read, Reader, put_block, put_varint};

/// Bytes of a page before zstd.
const PAGE_BYTES: usize = 16 << 10;
/// Bytes of text in a page of several symbols: sharing would let a short page unpack to a very long text.
const PAGE_TEXT_BYTES: usize = 1 << 20;

/// The section, its pages, and the texts of their first symbols.
pub(super) type Written = (Vec<u8>, Vec<Page<(u32, Slice)>>, String);

/// Writes sorted, distinct symbols.
pub(super) fn write<'a>(symbols: impl Iterator<Item = &'a str>) -> std::io::Result<Written> {
    let mut writer = PageWriter::new()?;
    let (mut pages, mut firsts) = (Vec::new(), String::new());
    let mut add = |place, (number, text): (u32, &str)| {
        let begin = firsts.len();
        firsts.push_str(text);
        pages.push(Page { place, first: (number, Slice::behind(begin, firsts.len())) });
    };
    let mut raw = Vec::new();
    let mut first: Option<(u32, &str)> = None;
    let (mut before, mut text_bytes) = ("", 0);
    for (number, symbol) in symbols.enumerate() {
        if (raw.len() >= PAGE_BYTES || text_bytes + symbol.len() > PAGE_TEXT_BYTES)
            && let Some(first) = first.take()
        {
            add(writer.add(&raw)?, first);
            raw.clear();
        }
        if first.is_none() {
            first = Some((number as u32, symbol));
            (before, text_bytes) = ("", 0);
        }
        text_bytes += symbol.len();
        let shared = shared_prefix(before, symbol);
        put_varint(&mut raw, shared as u64);
        put_block(&mut raw, &symbol.as_bytes()[shared..]);
        before = symbol;
    }
    if let Some(first) = first {
        add(writer.add(&raw)?, first);
    }
    Ok((writer.bytes, pages, firsts))
}

fn shared_prefix(a: &str, b: &str) -> usize {
    let shared = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    (0..=shared).rev().find(|at| b.is_char_boundary(*at)).unwrap_or(0)
}

/// A page, unpacked.
#[derive(Debug, Default)]
pub(super) struct SymbolPage {
    text: String,
    /// End of each symbol in `text`.
    ends: Vec<u32>,
}

impl SymbolPage {
    /// Reads a page of `count` symbols.
    pub(super) fn decode(bytes: &[u8], count: usize) -> Read<SymbolPage> {
        let mut from = Reader::new(bytes);
        let mut page = SymbolPage::default();
        if count.saturating_mul(2) > bytes.len() {
            return from.bad("page of symbols is cut short");
        }
        page.ends.reserve(count);
        for number in 0..count {
            let shared = usize::try_from(from.varint()?).unwrap_or(usize::MAX);
            let suffix = from.text()?;
            let begin = page.text.len();
            let before = number.checked_sub(1).map_or(0, |last| page.start(last));
            if !page.text.is_char_boundary(before.saturating_add(shared)) || before.saturating_add(shared) > begin {
                return from.bad("symbol shares what is not there");
            }
            if number > 0 && begin + shared + suffix.len() > PAGE_TEXT_BYTES {
                return from.bad("symbols are too long");
            }
            page.text.extend_from_within(before..before + shared);
            page.text.push_str(suffix);
            page.ends.push(page.text.len() as u32);
            if number > 0 && page.get(number - 1) >= page.get(number) {
                return from.bad("symbols are not sorted");
            }
        }
        from.end()?;
        Ok(page)
    }

    fn start(&self, number: usize) -> usize {
        if number == 0 { 0 } else { self.ends[number - 1] as usize }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Symbol `number` of the page.
    pub(super) fn get(&self, number: usize) -> Option<&str> {
        Some(&self.text[self.start(number)..*self.ends.get(number)? as usize])
    }

    /// How many symbols stand before `text`, and whether the next is it.
    pub(super) fn find(&self, text: &str) -> (usize, bool) {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(|symbol| symbol < text) { low = middle + 1 } else { high = middle }
        }
        (low, self.get(low) == Some(text))
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.text.capacity() + self.ends.capacity() * 4 + size_of::<SymbolPage>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::unpack;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn symbols_read_back_and_are_found(texts in proptest::collection::btree_set("[a-cäß]{0,6}", 0..200), asked in "[a-cäß]{0,6}") {
            let texts: Vec<String> = texts.into_iter().collect();
            let (bytes, pages, _) = write(texts.iter().map(String::as_str)).unwrap();
            prop_assert_eq!(pages.len(), usize::from(!texts.is_empty()));
            if let Some(page) = pages.first() {
                let mut raw = Vec::new();
                unpack(&bytes, page.place.raw_len as usize, &mut raw).unwrap();
                let page = SymbolPage::decode(&raw, texts.len()).unwrap();
                for (number, text) in texts.iter().enumerate() {
                    prop_assert_eq!(page.get(number), Some(text.as_str()));
                }
                let (before, is_there) = page.find(&asked);
                prop_assert_eq!(before, texts.iter().filter(|text| **text < asked).count());
                prop_assert_eq!(is_there, texts.contains(&asked));
                for cut in 0..raw.len() {
                    prop_assert!(SymbolPage::decode(&raw[..cut], texts.len()).is_err());
                }
            }
        }

        #[test]
        fn any_bytes_are_no_page_or_a_bounded_one(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0..100usize) {
            if let Ok(page) = SymbolPage::decode(&bytes, count) {
                prop_assert!(page.bytes() < 2 << 20);
            }
        }
    }

    #[test]
    fn many_symbols_take_several_pages() {
        let texts: Vec<String> = (0..20_000).map(|n| format!("symbol-{n:05}-{}", n * 7919 % 10_007)).collect();
        let (_, pages, firsts) = write(texts.iter().map(String::as_str)).unwrap();
        assert!(pages.len() > 5);
        for page in &pages {
            let (number, Slice { begin, end }) = page.first;
            assert_eq!(texts[number as usize], firsts[begin as usize..end as usize]);
        }
    }
}
