//! When what readers without locks may still look at can be freed.
//!
//! A thread that looks up a series is *pinned* while it holds what it found: its own [`Pin`] says in which epoch it began.
//! Who unlinks something retires it with the epoch of that moment and moves the epoch on; it is freed once no thread is
//! pinned in that epoch or an earlier one. Nobody waits for anybody, and a look-up writes to nothing that another thread
//! writes to: `grace` is the protocol and argues for it.
//!
//! A pin held for long only delays the freeing of what others remove meanwhile.

mod barrier;
mod grace;
#[cfg(test)]
mod model;
mod sync;

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Mutex;

use grace::{Grace, Mark};

static GRACE: Grace<Box<dyn Any + Send>> = Grace::from_parts(Mutex::new(grace::no_marks()), sync::Epoch::new(1));

thread_local! {
    static MARK: Cell<Option<&'static Mark>> = const { Cell::new(None) };
    /// Touched only when the thread takes a mark, as it has a destructor.
    static END: End = const { End };
}

struct End;

impl Drop for End {
    fn drop(&mut self) {
        if let Some(mark) = MARK.with(Cell::take) {
            GRACE.hand_over(mark);
        }
    }
}

/// While it lives, nothing that this thread can find is freed.
#[derive(Debug)]
pub(crate) struct Pin {
    mark: &'static Mark,
    /// Unpins the thread it was made on.
    not_send: PhantomData<*const ()>,
}

impl Pin {
    /// Pins this thread; `None` while it ends.
    #[inline]
    pub(crate) fn new() -> Option<Self> {
        let mark = match MARK.with(Cell::get) {
            Some(mark) => mark,
            None => take_mark()?,
        };
        GRACE.pin(mark);
        Some(Self { mark, not_send: PhantomData })
    }
}

impl Drop for Pin {
    #[inline]
    fn drop(&mut self) {
        self.mark.unpin();
    }
}

#[cold]
fn take_mark() -> Option<&'static Mark> {
    END.try_with(|_| ()).ok()?;
    let mark = GRACE.take_mark();
    MARK.with(|own| own.set(Some(mark)));
    Some(mark)
}

/// Frees `garbage`, which nobody can find any more, once no pin is left from before.
#[cold]
pub(crate) fn retire(garbage: impl Any + Send) {
    drop(GRACE.retire(Box::new(garbage)));
}

/// Frees what can be freed by now.
pub(crate) fn collect() {
    drop(GRACE.collect());
}

/// How many retired things wait for a pin.
#[cfg(test)]
pub(crate) fn waiting() -> usize {
    GRACE.waiting()
}
