//! The series of the head, by number and by labels.

use hashbrown::HashTable;
use kymo_core::{Labels, LabelsRef};

use super::indexer::Indexer;
use super::postings::Postings;
use super::series::HeadSeries;
use super::store::spread;

/// With so many series a thread for their index pays.
const BESIDE_MIN: usize = 1_024;

/// Series per page. A page whose series are all gone is freed, and costs 8 bytes from then on.
const PAGE: usize = 64;

type Page = Box<[Option<HeadSeries>; PAGE]>;

/// See the module. Numbers are never used again.
#[derive(Debug, Default)]
pub(super) struct Table {
    pages: Vec<Option<Page>>,
    live_in_page: Vec<u8>,
    next: u32,
    live: usize,
    live_pages: usize,
    label_bytes: usize,
    /// Half of the hash of the labels, and the number.
    by_labels: HashTable<(u32, u32)>,
    /// Empty while an indexer has it.
    pub(super) postings: Postings,
    indexer: Option<Indexer>,
    may_index_beside: bool,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// The number that the next series gets: all others are below.
    pub(super) fn numbers_end(&self) -> u32 {
        self.next
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&HeadSeries> {
        let number = number as usize;
        self.pages.get(number / PAGE)?.as_ref()?[number % PAGE].as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut HeadSeries> {
        let number = number as usize;
        self.pages.get_mut(number / PAGE)?.as_mut()?[number % PAGE].as_mut()
    }

    pub(super) fn find(&self, hash: u64, labels: LabelsRef<'_>) -> Option<u32> {
        let half = hash as u32;
        let same = |entry: &(u32, u32)| {
            entry.0 == half && self.get(entry.1).is_some_and(|series| series.labels.as_ref() == labels)
        };
        self.by_labels.find(spread(half), same).map(|entry| entry.1)
    }

    /// A number that depends on all that a look-up for the hash begins with.
    pub(super) fn touch(&self, hash: u64) -> u32 {
        let half = hash as u32;
        self.by_labels.find(spread(half), |entry| entry.0 == half).map_or(0, |entry| entry.1)
    }

    /// Adds a series that is not there; `None` when the numbers are used up.
    pub(super) fn insert(&mut self, hash: u64, labels: Labels) -> Option<u32> {
        let number = self.next;
        if number == u32::MAX {
            return None;
        }
        self.next += 1;
        let page = number as usize / PAGE;
        if self.pages.len() <= page {
            self.pages.push(Some(Box::new([const { None }; PAGE])));
            self.live_in_page.push(0);
            self.live_pages += 1;
        }
        self.label_bytes += label_bytes(&labels);
        self.index(number, &labels);
        self.pages[page].as_mut()?[number as usize % PAGE] = Some(HeadSeries::new(labels));
        self.live_in_page[page] += 1;
        self.live += 1;
        let half = hash as u32;
        self.by_labels.insert_unique(spread(half), (half, number), |entry| spread(entry.0));
        Some(number)
    }

    fn index(&mut self, number: u32, labels: &Labels) {
        if self.may_index_beside && self.indexer.is_none() && self.live >= BESIDE_MIN {
            self.indexer = Indexer::start(std::mem::take(&mut self.postings));
            if self.indexer.is_none() {
                self.may_index_beside = false;
                self.index_anew();
            }
        }
        match &mut self.indexer {
            Some(indexer) => indexer.add(number, labels.clone()),
            None => self.postings.add(number, labels),
        }
    }

    /// Lets another thread make the index of series that are added, until [`index_here`](Self::index_here): nobody may look
    /// into it, nor remove series.
    pub(super) fn index_beside(&mut self) {
        self.may_index_beside = true;
    }

    /// Has the index complete again.
    pub(super) fn index_here(&mut self) {
        self.may_index_beside = false;
        if let Some(indexer) = self.indexer.take() {
            match indexer.end() {
                Some(postings) => self.postings = postings,
                None => self.index_anew(),
            }
        }
    }

    fn index_anew(&mut self) {
        let mut postings = Postings::default();
        self.iter().for_each(|(number, series)| postings.add(number, &series.labels));
        self.postings = postings;
    }

    /// Frees the series for which `gone` holds; gives how many.
    pub(super) fn remove_if(
        &mut self,
        mut gone: impl FnMut(u32, &HeadSeries) -> bool,
        hash_of: impl Fn(LabelsRef<'_>) -> u64,
    ) -> usize {
        let mut removed = 0;
        for page_number in 0..self.pages.len() {
            let Some(page) = &mut self.pages[page_number] else { continue };
            for (slot, entry) in page.iter_mut().enumerate() {
                let number = (page_number * PAGE + slot) as u32;
                let Some(series) = entry.take_if(|series| gone(number, series)) else { continue };
                self.postings.remove(number, &series.labels);
                self.label_bytes -= label_bytes(&series.labels);
                let half = hash_of(series.labels.as_ref()) as u32;
                if let Ok(found) = self.by_labels.find_entry(spread(half), |e| e.1 == number) {
                    found.remove();
                }
                self.live_in_page[page_number] -= 1;
                removed += 1;
            }
            let is_full = (page_number + 1) * PAGE <= self.next as usize;
            if self.live_in_page[page_number] == 0 && is_full {
                self.pages[page_number] = None;
                self.live_pages -= 1;
            }
        }
        self.live -= removed;
        if removed > 0 {
            self.postings.shrink();
            self.by_labels.shrink_to_fit(|entry| spread(entry.0));
        }
        removed
    }

    /// All live series with their numbers, rising.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &HeadSeries)> {
        let pages = self.pages.iter().enumerate().filter_map(|(n, page)| Some((n, page.as_ref()?)));
        pages.flat_map(|(n, page)| {
            let slots = page.iter().enumerate();
            slots.filter_map(move |(slot, series)| Some(((n * PAGE + slot) as u32, series.as_ref()?)))
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut HeadSeries> {
        self.pages.iter_mut().flatten().flat_map(|page| page.iter_mut().flatten())
    }

    /// Bytes held, labels and index with them.
    pub(super) fn bytes(&self) -> usize {
        let pages = self.live_pages * size_of::<[Option<HeadSeries>; PAGE]>();
        let lists = self.pages.capacity() * size_of::<Option<Page>>() + self.live_in_page.capacity();
        let table = self.by_labels.capacity() * (size_of::<(u32, u32)>() + 1) * 8 / 7;
        let index = self.postings.bytes() + self.indexer.as_ref().map_or(0, |_| self.live * BYTES_INDEXED);
        pages + lists + table + self.label_bytes + index
    }
}

/// About what a series takes in the index while that is not there to say it, and in what waits for it.
const BYTES_INDEXED: usize = 192;

/// What a label set takes beside its pointer.
fn label_bytes(labels: &Labels) -> usize {
    labels.as_ref().packed().len() + 2 * size_of::<usize>()
}
