//! Finding series in a block: matchers over the dictionary, sets of series out of postings.

use std::ops::ControlFlow;

use kymo_core::{Labels, Matcher, QueryContext, SelectError, Selector};
use roaring::RoaringBitmap;

use super::postings::PostingsPage;
use super::read::{Block, BoundsCursor, ChunkRef, SymbolCursor};
use super::series::SERIES_PER_PAGE;
use crate::select::VALUES_PER_CHECK;

impl Block {
    /// Shows series that satisfy the matchers and have a chunk that reaches into the window: number, labels, and those
    /// chunks. In order of their labels.
    pub(crate) fn select(
        &self,
        what: &Selector,
        ctx: &QueryContext,
        mut found: impl FnMut(usize, &Labels, &[ChunkRef]) -> Result<(), SelectError>,
    ) -> Result<(), SelectError> {
        let footer = self.footer();
        if footer.samples == 0 || what.end_ms < footer.min_time_ms || what.start_ms >= footer.max_time_ms {
            return Ok(());
        }
        let numbers = self.matching(&what.matchers, &|| ctx.check())?;
        let mut page = None;
        let mut bounds = BoundsCursor::new(self);
        let mut chunks = Vec::new();
        for number in numbers {
            let number = number as usize;
            let (_, decoded, labels) = match &page {
                Some(held @ (at, _, _)) if *at == number / SERIES_PER_PAGE => held,
                _ => {
                    let at = number / SERIES_PER_PAGE;
                    let decoded = self.series_page(at)?;
                    let labels = self.page_labels(&decoded)?;
                    page.insert((at, decoded, labels))
                }
            };
            chunks.clear();
            for row in decoded.chunks(number % SERIES_PER_PAGE) {
                let chunk = bounds.chunk(row)?;
                if chunk.reaches(what.start_ms, what.end_ms) {
                    chunks.push(chunk);
                }
            }
            if !chunks.is_empty() {
                found(number, &labels[number % SERIES_PER_PAGE], &chunks)?;
            }
        }
        Ok(())
    }

    /// Numbers of the series that satisfy all matchers. `check` is asked now and then whether to go on.
    pub(crate) fn matching(
        &self,
        matchers: &[Matcher],
        check: &impl Fn() -> Result<(), SelectError>,
    ) -> Result<RoaringBitmap, SelectError> {
        let mut found: Option<RoaringBitmap> = None;
        // What a label must have narrows first; what it must not have is taken away after.
        for matcher in matchers.iter().filter(|m| !m.matches_empty()) {
            let with = self.with(matcher, true, check)?;
            let narrowed = match found {
                Some(found) => found & with,
                None => with,
            };
            if narrowed.is_empty() {
                return Ok(narrowed);
            }
            found = Some(narrowed);
        }
        let mut found = found.unwrap_or_else(|| RoaringBitmap::from_iter(0..self.len() as u32));
        for matcher in matchers.iter().filter(|m| m.matches_empty()) {
            if found.is_empty() {
                break;
            }
            found -= self.with(matcher, false, check)?;
        }
        Ok(found)
    }

    /// Series that have the matcher's label with a value for which [`Matcher::matches`] gives `wanted`.
    fn with(
        &self,
        matcher: &Matcher,
        wanted: bool,
        check: &impl Fn() -> Result<(), SelectError>,
    ) -> Result<RoaringBitmap, SelectError> {
        let mut sum = RoaringBitmap::new();
        if matcher.matches_anything() && !wanted {
            return Ok(sum);
        }
        let (name, true) = self.find_symbol(matcher.name())? else { return Ok(sum) };
        // The literals of `=`, `!=`, `=~ a|b` and `!~ a|b` are just the values that the positive form accepts.
        if let Some(literals) = matcher.literals().filter(|_| wanted != matcher.is_negative()) {
            for literal in literals {
                let (value, true) = self.find_symbol(literal)? else { continue };
                let after = self.directory.postings.partition_point(|page| page.first <= (name, value));
                let Some(number) = after.checked_sub(1) else { continue };
                let page = self.postings_page(number)?;
                if let Some(entry) = page.find(name, value) {
                    page.add_to(entry, &mut sum);
                }
            }
            return Ok(sum);
        }
        // Values that begin otherwise than the expression demands are passed over: the positive form refuses them.
        let prefix = matcher.prefix().filter(|_| wanted != matcher.is_negative()).unwrap_or_default();
        let first = if prefix.is_empty() { 0 } else { self.find_symbol(prefix)?.0 };
        let mut symbols = SymbolCursor::new(self);
        let mut values = 0usize;
        self.each_value(name, first, |page, value, entry| {
            if values.is_multiple_of(VALUES_PER_CHECK) {
                check()?;
            }
            values += 1;
            let text = symbols.text(value)?;
            if !text.starts_with(prefix) {
                return Ok(ControlFlow::Break(()));
            }
            if matcher.matches(text) == wanted {
                page.add_to(entry, &mut sum);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(sum)
    }

    /// Shows the values of a label from symbol `first` on, rising, with their postings.
    fn each_value(
        &self,
        name: u32,
        first: u32,
        mut show: impl FnMut(&PostingsPage, u32, usize) -> Result<ControlFlow<()>, SelectError>,
    ) -> Result<(), SelectError> {
        let pages = &self.directory.postings;
        let begin = pages.partition_point(|page| page.first <= (name, first)).saturating_sub(1);
        let reaching = pages[begin..].iter().take_while(|page| page.first.0 <= name).count();
        for number in begin..begin + reaching {
            let page = self.postings_page(number)?;
            for (value, entry) in page.of_name(name).filter(|(value, _)| *value >= first) {
                if show(&page, value, entry)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether every series has a sample in the window, so that the catalogue needs no look at them.
    fn lies_within(&self, what: &Selector) -> bool {
        let footer = self.footer();
        footer.bare_series == 0 && what.start_ms < footer.min_time_ms && footer.max_time_ms <= what.end_ms
    }

    /// The series a listing is about; `None` for all.
    fn listed(&self, what: &Selector, ctx: &QueryContext) -> Result<Option<RoaringBitmap>, SelectError> {
        if self.lies_within(what) {
            let all = what.matchers.iter().all(Matcher::matches_anything);
            return if all { Ok(None) } else { self.matching(&what.matchers, &|| ctx.check()).map(Some) };
        }
        let mut listed = RoaringBitmap::new();
        self.select(what, ctx, |number, _, _| {
            listed.insert(number as u32);
            Ok(())
        })?;
        Ok(Some(listed))
    }

    /// Shows the label names of matching series.
    pub(crate) fn label_names(
        &self,
        what: &Selector,
        ctx: &QueryContext,
        mut show: impl FnMut(&str),
    ) -> Result<(), SelectError> {
        let listed = self.listed(what, ctx)?;
        if listed.as_ref().is_some_and(RoaringBitmap::is_empty) {
            return Ok(());
        }
        let mut symbols = SymbolCursor::new(self);
        for &name in &self.directory.names {
            let mut occurs = listed.is_none();
            if let Some(listed) = &listed {
                self.each_value(name, 0, |page, _, entry| {
                    occurs = page.meets(entry, listed);
                    Ok(if occurs { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
                })?;
            }
            if occurs {
                show(symbols.text(name)?);
            }
        }
        Ok(())
    }

    /// Shows the values of a label of matching series.
    pub(crate) fn label_values(
        &self,
        name: &str,
        what: &Selector,
        ctx: &QueryContext,
        mut show: impl FnMut(&str),
    ) -> Result<(), SelectError> {
        let (name, true) = self.find_symbol(name)? else { return Ok(()) };
        let listed = self.listed(what, ctx)?;
        if listed.as_ref().is_some_and(RoaringBitmap::is_empty) {
            return Ok(());
        }
        let mut symbols = SymbolCursor::new(self);
        self.each_value(name, 0, |page, value, entry| {
            if listed.as_ref().is_none_or(|listed| page.meets(entry, listed)) {
                show(symbols.text(value)?);
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}
