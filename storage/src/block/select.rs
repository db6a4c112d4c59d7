//! Finding series in a block: matchers over the dictionary, sets of series out of postings.

use std::ops::ControlFlow;
use std::sync::Arc;

use kymo_core::{Labels, METRIC_NAME, Matcher, QueryContext, SelectError, Selector};
use roaring::RoaringBitmap;

use super::postings::PostingsPage;
use super::read::{Block, BoundsCursor, ChunkRef, SymbolCursor};
use super::runs::{Run, Runs, shared};
use super::series::{SERIES_PER_PAGE, SeriesPage};
use crate::listing::{Listing, Order};
use crate::select::VALUES_PER_CHECK;

/// Pages of bounds that are looked at before series are.
const PAGES_MAX: usize = 8;

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
        for number in numbers.iter() {
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

    /// The series that satisfy all matchers. `check` is asked now and then whether to go on.
    pub(crate) fn matching(
        &self,
        matchers: &[Matcher],
        check: &impl Fn() -> Result<(), SelectError>,
    ) -> Result<Runs, SelectError> {
        // What a label must have narrows first, plain values before expressions, and the metric's name, which fewest series share,
        // before all; what it must not have is taken away after.
        let (mut not, mut must): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(|m| m.matches_empty());
        must.sort_by_key(|matcher| (matcher.literals().is_none(), matcher.name() != METRIC_NAME));
        let mut found: Option<Runs> = None;
        for matcher in must {
            // A series has one value of a label, so whatever else is said of that label is asked of the values at hand.
            let also: Vec<&Matcher> = not.extract_if(.., |other| other.name() == matcher.name()).collect();
            let narrowed = self.with(matcher, true, &also, found.as_ref(), check)?;
            if narrowed.is_empty() {
                return Ok(narrowed);
            }
            found = Some(narrowed);
        }
        let mut found = found.unwrap_or_else(|| Runs::below(self.len() as u32));
        for matcher in not {
            if found.is_empty() {
                break;
            }
            found = found.without(&self.with(matcher, false, &[], Some(&found), check)?);
        }
        Ok(found)
    }

    /// Series, among those of `within` if that is given, that have the matcher's label with a value for which
    /// [`Matcher::matches`] gives `wanted`, and which all of `also` accept.
    fn with(
        &self,
        matcher: &Matcher,
        wanted: bool,
        also: &[&Matcher],
        within: Option<&Runs>,
        check: &impl Fn() -> Result<(), SelectError>,
    ) -> Result<Runs, SelectError> {
        let mut sum = Vec::new();
        let mut add = |runs: &[Run]| -> Result<(), SelectError> {
            match within {
                None => {
                    sum.extend_from_slice(runs);
                    Ok(())
                }
                Some(within) => shared(within.runs(), runs, |run| {
                    sum.push(run);
                    Ok(true)
                }),
            }
        };
        if matcher.matches_anything() && !wanted {
            return Ok(Runs::default());
        }
        let (name, true) = self.find_symbol(matcher.name())? else { return Ok(Runs::default()) };
        // The literals of `=`, `!=`, `=~ a|b` and `!~ a|b` are just the values that the positive form accepts.
        if let Some(literals) = matcher.literals().filter(|_| wanted != matcher.is_negative()) {
            for literal in literals.iter().filter(|literal| also.iter().all(|also| also.matches(literal))) {
                let (value, true) = self.find_symbol(literal)? else { continue };
                let after = self.directory.postings.partition_point(|page| page.first <= (name, value));
                let Some(number) = after.checked_sub(1) else { continue };
                let page = self.postings_page(number)?;
                if let Some(entry) = page.find(name, value) {
                    add(page.runs(entry))?;
                }
            }
            return Ok(Runs::of(sum));
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
            if matcher.matches(text) == wanted && also.iter().all(|also| also.matches(text)) {
                add(page.runs(entry))?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Runs::of(sum))
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

    /// Whether every series has a sample in the window because all its chunks begin there. `false` also for a block of too many
    /// columns to look at.
    fn begins_within(&self, what: &Selector) -> Result<bool, SelectError> {
        let footer = self.footer();
        if footer.bare_series > 0 || what.start_ms >= footer.min_time_ms || self.directory.bounds.len() > PAGES_MAX {
            return Ok(false);
        }
        for page in 0..self.directory.bounds.len() {
            if !self.bounds_page(page)?.iter().all(|bounds| bounds.first_ms <= what.end_ms) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds the label names of matching series.
    pub(crate) fn label_names(
        &self,
        what: &Selector,
        ctx: &QueryContext,
        names: &mut Listing,
    ) -> Result<(), SelectError> {
        let Some(mut listed) = Listed::new(self, what, ctx)? else { return Ok(()) };
        names.begin(Order::Rising);
        let mut symbols = SymbolCursor::new(self);
        for &name in &self.directory.names {
            let text = symbols.text(name)?;
            let Some(unlisted) = names.lacks(text) else { continue };
            self.each_value(name, 0, |page, _, entry| {
                if listed.has_one(page.runs(entry))? {
                    names.add_lacking(unlisted);
                    return Ok(ControlFlow::Break(()));
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(())
    }

    /// Adds the values of a label of matching series.
    pub(crate) fn label_values(
        &self,
        name: &str,
        what: &Selector,
        ctx: &QueryContext,
        values: &mut Listing,
    ) -> Result<(), SelectError> {
        let (name, true) = self.find_symbol(name)? else { return Ok(()) };
        let Some(mut listed) = Listed::new(self, what, ctx)? else { return Ok(()) };
        values.begin(Order::Rising);
        let mut symbols = SymbolCursor::new(self);
        self.each_value(name, 0, |page, value, entry| {
            let text = symbols.text(value)?;
            if let Some(unlisted) = values.lacks(text)
                && listed.has_one(page.runs(entry))?
            {
                values.add_lacking(unlisted);
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}

/// The series a listing is about: those that match and have a chunk that reaches into the window. One at a time is looked
/// at, and only until a name or a value has been found with one of them.
struct Listed<'a> {
    block: &'a Block,
    what: &'a Selector,
    ctx: &'a QueryContext,
    /// `None`: all match.
    matching: Option<Runs>,
    /// Whether every series reaches into the window.
    all_reach: bool,
    page: Option<(usize, Arc<SeriesPage>)>,
    bounds: BoundsCursor<'a>,
    /// Series that were found not to.
    out: RoaringBitmap,
}

impl<'a> Listed<'a> {
    /// `None` when there are none.
    fn new(block: &'a Block, what: &'a Selector, ctx: &'a QueryContext) -> Result<Option<Listed<'a>>, SelectError> {
        let footer = block.footer();
        if footer.samples == 0 || what.end_ms < footer.min_time_ms || what.start_ms >= footer.max_time_ms {
            return Ok(None);
        }
        let all = what.matchers.iter().all(Matcher::matches_anything);
        let matching = if all { None } else { Some(block.matching(&what.matchers, &|| ctx.check())?) };
        if matching.as_ref().is_some_and(Runs::is_empty) {
            return Ok(None);
        }
        let all_reach = block.lies_within(what) || block.begins_within(what)?;
        let bounds = BoundsCursor::new(block);
        Ok(Some(Listed { block, what, ctx, matching, all_reach, page: None, bounds, out: RoaringBitmap::new() }))
    }

    /// Whether one of these series is among them.
    fn has_one(&mut self, runs: &[Run]) -> Result<bool, SelectError> {
        let Some(matching) = self.matching.take() else {
            for run in runs {
                if self.has_one_of(*run)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        };
        let mut found = false;
        let outcome = shared(matching.runs(), runs, |run| {
            found = self.has_one_of(run)?;
            Ok(!found)
        });
        self.matching = Some(matching);
        outcome.map(|()| found)
    }

    /// The same of series that match.
    fn has_one_of(&mut self, (begin, end): Run) -> Result<bool, SelectError> {
        if self.all_reach {
            return Ok(true);
        }
        for series in begin..end {
            if !self.out.contains(series) {
                if self.reaches(series as usize)? {
                    return Ok(true);
                }
                self.out.insert(series);
            }
        }
        Ok(false)
    }

    fn reaches(&mut self, series: usize) -> Result<bool, SelectError> {
        let at = series / SERIES_PER_PAGE;
        let page = match &self.page {
            Some((held, page)) if *held == at => page,
            _ => {
                self.ctx.check()?;
                &self.page.insert((at, self.block.series_page(at)?)).1
            }
        };
        for row in page.chunks(series % SERIES_PER_PAGE) {
            if self.bounds.chunk(row)?.reaches(self.what.start_ms, self.what.end_ms) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
