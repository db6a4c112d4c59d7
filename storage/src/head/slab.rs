//! Values kept in pages: growing moves nothing and leaves no slack beyond one page.

/// Values of a page: small enough for a small head, large enough that pages are few.
const PAGE: usize = 256;

/// A list that only grows.
#[derive(Debug)]
pub(super) struct Slab<T> {
    pages: Vec<Vec<T>>,
    len: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { pages: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value and gives its number. The last number stands for none and is never given.
    pub(super) fn push(&mut self, value: T) -> u32 {
        assert!(self.len < u32::MAX - 1, "a flush comes long before");
        let number = self.len;
        let page = number as usize / PAGE;
        if page == self.pages.len() {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        self.pages[page].push(value);
        self.len += 1;
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.pages.get(number as usize / PAGE)?.get(number as usize % PAGE)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.pages.get_mut(number as usize / PAGE)?.get_mut(number as usize % PAGE)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.pages.len() * PAGE * size_of::<T>() + self.pages.capacity() * size_of::<Vec<T>>()
    }
}
