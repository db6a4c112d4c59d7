//! Reading one target's page: every label, or only what tells a known series from another.

use anyhow::{Result, ensure};
use kymo_core::labels::LabelsBuilder;
use kymo_core::text::{write_float_general, write_series_text};
use kymo_ingest::exposition::{Entry, ExpositionError, Format, HistogramParts, Parser, Sample, push_labels};

use crate::load::Load;

/// A page and the texts of its series, in order.
pub struct Page {
    body: Vec<u8>,
    series: Vec<Vec<u8>>,
    labels: std::cell::RefCell<LabelsBuilder>,
}

impl Page {
    /// The page of the first target of `load`, as its first scrape found it.
    ///
    /// # Errors
    /// The parser finds other samples than were written.
    pub fn new(load: &Load) -> Result<Page> {
        let mut body = Vec::new();
        let mut series = Vec::new();
        for (index, _, value) in load.scrape(0).take_while(|(index, ..)| load.is_one_target(0, *index)) {
            let mut text = Vec::new();
            write_series_text(&mut text, load.labels(index));
            body.extend_from_slice(&text);
            body.push(b' ');
            write_float_general(&mut body, value);
            body.push(b'\n');
            series.push(text);
        }
        let page = Page { body, series, labels: Default::default() };
        let wanted = page.samples();
        let found = [page.parsed(), page.first_sight(), page.repeated()];
        ensure!(found == [wanted; 3], "of {wanted} samples written the parser finds {found:?}");
        Ok(page)
    }

    /// Bytes of the page.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.body.len() as u64
    }

    /// Samples on it.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.series.len() as u64
    }

    /// Lines found, as the least that a parser does.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.body.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// Parses every sample, its labels checked and skipped; gives the samples.
    #[must_use]
    pub fn parsed(&self) -> u64 {
        self.walk(|parser| parser.next_entry(), |sample| !sample.series.is_empty())
    }

    /// Parses every sample and builds its label set, as at first sight; gives the samples.
    #[must_use]
    pub fn first_sight(&self) -> u64 {
        let mut labels = self.labels.borrow_mut();
        self.walk(
            |parser| parser.next_entry(),
            |sample| push_labels(sample.series, sample.family_type, &mut labels).is_ok() && labels.build().is_ok(),
        )
    }

    /// Compares each sample with the series that stood there last time; gives those that are the same.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        let next = std::cell::Cell::new(0);
        let expected = || self.series.get(next.get()).map_or(&[][..], Vec::as_slice);
        self.walk(
            |parser| parser.next_expecting(expected()),
            |sample| {
                let same = sample.series == expected();
                next.set(next.get() + 1);
                same
            },
        )
    }

    fn walk<'p>(
        &'p self,
        mut next: impl for<'a> FnMut(&'a mut Parser<'p>) -> Result<Option<Entry<'a>>, ExpositionError>,
        mut count: impl FnMut(&Sample<'_>) -> bool,
    ) -> u64 {
        let mut parser = Parser::new(Format::Text, &self.body, HistogramParts::Classic);
        let mut samples = 0;
        while let Ok(Some(entry)) = next(&mut parser) {
            if let Entry::Sample(sample) = entry {
                samples += u64::from(count(&sample));
            }
        }
        samples
    }
}
