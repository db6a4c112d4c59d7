//! pco chunks cut into pages that can be read one by one, under one table of bins.
//!
//! Form: varint length of every page but the last, then pco's chunk metadata, then the pages ("wrapped" form of
//! the pco format, version 4.1, without its header).

use pco::wrapped::{ChunkCompressor, FileDecompressor};

use crate::codec::{Malformed, Read, Reader, put_varint};

/// Samples of a page at the most: what a query over an hour decodes in vain is at most two of them.
pub(super) const PAGE_SAMPLES_MAX: usize = 240;
/// Beyond 8, pco takes twice the time for one part in a thousand.
pub(super) const PCO_LEVEL: usize = 8;
/// Major and minor version of the pco format that the chunks are in.
const HEADER: [u8; 2] = [4, 1];

/// Lengths of the pages of `count` samples: as few as can be, as equal as can be, the longer ones first.
pub(super) fn page_lens(count: usize) -> Vec<usize> {
    let pages = count.div_ceil(PAGE_SAMPLES_MAX).max(1);
    let (low, longer) = (count / pages, count % pages);
    (0..pages).map(|page| low + usize::from(page < longer)).collect()
}

/// Appends all of a chunk.
pub(super) fn write(mut chunk: ChunkCompressor, out: &mut Vec<u8>) {
    let mut bodies = Vec::new();
    let pages = chunk.n_per_page().len();
    // Writing into memory cannot fail.
    let _ = chunk.write_meta(&mut bodies);
    let mut ends = Vec::with_capacity(pages);
    let mut before = bodies.len();
    for page in 0..pages {
        let _ = chunk.write_page(page, &mut bodies);
        ends.push(bodies.len() - before);
        before = bodies.len();
    }
    ends[..pages.saturating_sub(1)].iter().for_each(|len| put_varint(out, *len as u64));
    out.extend_from_slice(&bodies);
}

/// The decoder for the version of the format that is written here.
pub(super) fn file() -> Read<FileDecompressor> {
    let file = FileDecompressor::new(&HEADER[..]);
    file.map(|(file, _)| file).map_err(|_| Malformed { what: "unknown version of packed numbers", offset: 0 })
}

/// Metadata and pages, with what is known of their lengths.
pub(super) struct Layout<'a> {
    /// Chunk metadata, then the pages.
    pub(super) bytes: &'a [u8],
    lens: Vec<usize>,
}

/// Reads the lengths of `pages` pages; the rest of the input is theirs.
pub(super) fn read_layout<'a>(from: &mut Reader<'a>, pages: usize) -> Read<Layout<'a>> {
    let lens = (1..pages).map(|_| from.count(1)).collect::<Read<Vec<usize>>>()?;
    let bytes = from.bytes(from.left())?;
    Ok(Layout { bytes, lens })
}

impl<'a> Layout<'a> {
    /// The pages, out of what stands behind the metadata.
    pub(super) fn pages(&self, mut rest: &'a [u8]) -> Read<Vec<&'a [u8]>> {
        let mut pages = Vec::with_capacity(self.lens.len() + 1);
        for &len in &self.lens {
            let Some((page, behind)) = rest.split_at_checked(len) else {
                return Err(Malformed { what: "pages are longer than the chunk", offset: 0 });
            };
            pages.push(page);
            rest = behind;
        }
        pages.push(rest);
        Ok(pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_on_the_page_is_the_one_that_is_written() {
        let mut header = Vec::new();
        pco::wrapped::FileCompressor::default().write_header(&mut header).unwrap();
        assert_eq!(header, HEADER);
    }

    #[test]
    fn pages_are_as_pco_cuts_them() {
        for count in [1, 2, 239, 240, 241, 480, 481, 959, 960, 961, 4_096] {
            let wanted = pco::PagingSpec::EqualPagesUpTo(PAGE_SAMPLES_MAX).n_per_page(count).unwrap();
            assert_eq!(page_lens(count), wanted);
        }
    }
}
