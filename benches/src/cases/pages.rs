//! `/metrics` of a registry, every value of it changed since the page before.

use std::cell::RefCell;

use anyhow::{Result, ensure};
use kymo_core::Registry;
use kymo_core::registry::{Counter, Histogram};
use kymo_export::exposition::{Exposition, Format};

use super::handles::{BOUNDS, observations};

/// A page again and again, into one buffer.
pub struct Pages<H> {
    exposition: Exposition,
    handles: Vec<H>,
    page: RefCell<Vec<u8>>,
}

impl<H> Pages<H> {
    /// Series with two labels of their own, as a server has them.
    fn new(registry: Registry, handles: Vec<H>) -> Pages<H> {
        Pages { exposition: Exposition::from(registry), handles, page: RefCell::default() }
    }

    /// Makes the page and gives its bytes.
    #[must_use]
    pub fn render(&self) -> usize {
        let mut page = self.page.borrow_mut();
        page.clear();
        self.exposition.render_into(Format::Text004, &mut page);
        page.len()
    }

    /// The last page copied: the least that making one could cost.
    #[must_use]
    pub fn copy(&self, to: &mut Vec<u8>) -> usize {
        to.clear();
        to.extend_from_slice(&self.page.borrow());
        to.len()
    }

    fn check(self, lines: usize) -> Result<Self> {
        let text = self.exposition.render(Format::Text004);
        let found = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#').count();
        ensure!(found == lines, "the page has {found} samples and not {lines}");
        Ok(self)
    }
}

/// The labels of each of so many series.
fn labels(series: usize) -> impl Iterator<Item = [String; 2]> {
    (0..series).map(|n| [["GET", "POST"][n % 2].to_owned(), format!("/api/v1/resource/{}", n / 2)])
}

impl Pages<Counter> {
    /// Counters.
    ///
    /// # Errors
    /// The page does not show them all.
    pub fn counters(series: usize) -> Result<Pages<Counter>> {
        let registry = Registry::new();
        let family = registry.counter("http_requests_total").labels(["method", "path"]).series_max(series).family()?;
        let handles = labels(series).map(|[method, path]| family.with([&method, &path])).collect();
        Pages::new(registry, handles).check(series)
    }

    /// Changes every value.
    pub fn change(&self) {
        for (n, counter) in self.handles.iter().enumerate() {
            counter.add(n as u64 % 977 + 1);
        }
    }
}

impl Pages<Histogram> {
    /// Histograms of twelve buckets and the one above them.
    ///
    /// # Errors
    /// The page does not show them all.
    pub fn histograms(series: usize) -> Result<Pages<Histogram>> {
        let registry = Registry::new();
        let family = registry.histogram("http_request_duration_seconds").buckets(&BOUNDS);
        let family = family.labels(["method", "path"]).series_max(series).family()?;
        let handles = labels(series).map(|[method, path]| family.with([&method, &path])).collect();
        Pages::new(registry, handles).check(series * (BOUNDS.len() + 3))
    }

    /// Changes the sum, the count and a bucket of each, and with them every bucket above it.
    pub fn change(&self) {
        let observations = observations();
        for (n, histogram) in self.handles.iter().enumerate() {
            histogram.record(observations[n % observations.len()]);
        }
    }
}
