//! The times of a run as a column: the least difference, and what each difference is above it in 0, 1, 2, 4 or 8
//! bytes. The times of a steady scrape take a few bytes; with jitter below a quarter of a second one more each.

use crate::codec::{Read, Reader, put_varint};
use crate::sample::RUN_SAMPLES;

/// Appends all times but the first, which the reader is told; gives the width.
pub(crate) fn encode(times: &[i64], out: &mut Vec<u8>) -> u8 {
    let differences = || times.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]) as u64);
    let Some(least) = differences().min() else { return 0 };
    let most = differences().max().unwrap_or(least) - least;
    let width = match 8 - most.leading_zeros() / 8 {
        wide @ 0..=2 => wide as u8,
        3..=4 => 4,
        _ => 8,
    };
    put_varint(out, least);
    for difference in differences() {
        out.extend_from_slice(&(difference - least).to_le_bytes()[..usize::from(width)]);
    }
    width
}

/// Fills `times` from a first one and what [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8], first: i64, width: u8, times: &mut [i64]) -> Read<()> {
    let from = &mut Reader::new(bytes);
    let Some((head, rest)) = times.split_first_mut() else { return from.end() };
    *head = first;
    if rest.is_empty() {
        return from.end();
    }
    let least = from.varint()?;
    let above = from.bytes(rest.len() * usize::from(width))?;
    from.end()?;
    let mut last = first;
    let mut next = |above: u64| {
        let time = last.wrapping_add(least.wrapping_add(above) as i64);
        let rises = time > last;
        last = time;
        rises.then_some(time)
    };
    let mut fill = |above: &mut dyn Iterator<Item = u64>| {
        rest.iter_mut().zip(above).all(|(time, above)| next(above).inspect(|next| *time = *next).is_some())
    };
    let rises = match width {
        0 => fill(&mut std::iter::repeat_n(0, RUN_SAMPLES)),
        1 => fill(&mut above.iter().map(|byte| u64::from(*byte))),
        2 => fill(&mut above.as_chunks::<2>().0.iter().map(|b| u64::from(u16::from_le_bytes(*b)))),
        4 => fill(&mut above.as_chunks::<4>().0.iter().map(|b| u64::from(u32::from_le_bytes(*b)))),
        8 => fill(&mut above.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b))),
        _ => return from.bad("unknown width of times"),
    };
    if rises { Ok(()) } else { from.bad("times do not rise") }
}
