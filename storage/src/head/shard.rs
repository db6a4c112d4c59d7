//! A shard of the head: its series, found by number and by labels, and their index.

use hashbrown::HashTable;
use kymo_core::{Labels, LabelsRef};

use super::postings::Postings;
use super::series::HeadSeries;

/// Series per page. A page whose series are all gone is freed, and costs 8 bytes from then on.
const PAGE: usize = 256;

type Page = Box<[Option<Box<HeadSeries>>]>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// By number; numbers are never used again.
    pages: Vec<Option<Page>>,
    live_in_page: Vec<u16>,
    next: u64,
    by_labels: HashTable<(u64, u32)>,
    pub(crate) postings: Postings,
}

impl Shard {
    pub(crate) fn get(&self, number: u64) -> Option<&HeadSeries> {
        let number = usize::try_from(number).ok()?;
        self.pages.get(number / PAGE)?.as_ref()?[number % PAGE].as_deref()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut HeadSeries> {
        let number = usize::try_from(number).ok()?;
        self.pages.get_mut(number / PAGE)?.as_mut()?[number % PAGE].as_deref_mut()
    }

    pub(crate) fn find(&self, hash: u64, labels: LabelsRef<'_>) -> Option<u64> {
        let same = |entry: &(u64, u32)| {
            entry.0 == hash && self.get(u64::from(entry.1)).is_some_and(|s| s.labels.as_ref() == labels)
        };
        self.by_labels.find(hash, same).map(|entry| u64::from(entry.1))
    }

    /// Adds a series that is not there; `None` when the numbers are used up.
    pub(crate) fn insert(&mut self, hash: u64, labels: Labels) -> Option<u64> {
        let number = u32::try_from(self.next).ok()?;
        self.next += 1;
        let page = number as usize / PAGE;
        if self.pages.len() <= page {
            self.pages.push(Some(std::iter::repeat_with(|| None).take(PAGE).collect()));
            self.live_in_page.push(0);
        }
        self.postings.add(number, &labels);
        self.pages[page].as_mut()?[number as usize % PAGE] = Some(Box::new(HeadSeries::new(labels)));
        self.live_in_page[page] += 1;
        self.by_labels.insert_unique(hash, (hash, number), |entry| entry.0);
        Some(u64::from(number))
    }

    /// Frees the series for which `gone` holds; gives how many.
    pub(crate) fn remove_if(
        &mut self,
        mut gone: impl FnMut(&HeadSeries) -> bool,
        hash_of: impl Fn(LabelsRef<'_>) -> u64,
    ) -> usize {
        let mut removed = 0;
        for page_number in 0..self.pages.len() {
            let Some(page) = &mut self.pages[page_number] else { continue };
            for (slot, entry) in page.iter_mut().enumerate() {
                let Some(series) = entry.take_if(|series| gone(series)) else { continue };
                let number = (page_number * PAGE + slot) as u32;
                self.postings.remove(number, &series.labels);
                let hash = hash_of(series.labels.as_ref());
                if let Ok(found) = self.by_labels.find_entry(hash, |e| e.1 == number) {
                    found.remove();
                }
                self.live_in_page[page_number] -= 1;
                removed += 1;
            }
            let is_full = (page_number + 1) * PAGE <= self.next as usize;
            if self.live_in_page[page_number] == 0 && is_full {
                self.pages[page_number] = None;
            }
        }
        if removed > 0 {
            self.postings.shrink();
            self.by_labels.shrink_to_fit(|entry| entry.0);
        }
        removed
    }

    /// All live series with their numbers, rising.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &HeadSeries)> {
        let pages = self.pages.iter().enumerate().filter_map(|(n, page)| Some((n, page.as_ref()?)));
        pages.flat_map(|(n, page)| {
            let slots = page.iter().enumerate();
            slots.filter_map(move |(slot, series)| Some(((n * PAGE + slot) as u64, series.as_deref()?)))
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut HeadSeries> {
        self.pages.iter_mut().flatten().flat_map(|page| page.iter_mut().flatten()).map(|series| &mut **series)
    }
}
