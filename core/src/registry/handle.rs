//! What handles have in common, and how a looked-up series is held.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

use super::family::FamilyCore;
use crate::metric::MetricKind;

#[cfg(not(kymo_portable))]
use super::node::Node;
#[cfg(not(kymo_portable))]
use crate::epoch::Pin;

/// What the registry's handles have in common. Only they implement it.
pub trait Handle: sealed::Sealed {
    /// Kind under which the family is shown.
    const KIND: MetricKind;
}

pub(super) mod sealed {
    use std::fmt::Debug;
    use std::sync::Arc;

    use crate::clock::Clock;
    use crate::registry::node::Node;
    use crate::registry::options::Options;
    use crate::registry::view::Recorded;

    /// How the registry makes a handle of a series.
    pub trait Sealed: Clone + Debug + Send + Sync + 'static {
        /// What is recorded in a series of this type.
        type Value: Recorded;
        /// Distinguishes handle types of one kind.
        const TYPE_NAME: &'static str;
        /// The label that the exposition adds to series of this type.
        const OWN_LABEL: Option<&'static str> = None;

        /// How values are kept unless the builder says otherwise.
        fn default_options(clock: &Arc<dyn Clock>) -> Options {
            let _ = clock;
            Options::Plain
        }
        fn of(node: Arc<Node<Self::Value>>) -> Self;
        fn node(&self) -> &Arc<Node<Self::Value>>;
    }
}

/// A handle borrowed for one use: what [`Family::at`](super::Family::at) finds.
///
/// It keeps the series in memory without counting itself as a holder, so that looking one up writes to nothing that another
/// thread uses. Clone the handle in it to keep it.
pub struct Borrowed<'a, M: Handle> {
    /// Without a count of its own when there is a pin.
    handle: ManuallyDrop<M>,
    #[cfg(not(kymo_portable))]
    pin: Option<Pin>,
    family: PhantomData<&'a M>,
}

impl<M: Handle> Borrowed<'_, M> {
    /// A handle that counts.
    pub(super) fn owned(handle: M) -> Self {
        Self {
            handle: ManuallyDrop::new(handle),
            #[cfg(not(kymo_portable))]
            pin: None,
            family: PhantomData,
        }
    }

    /// A handle that the pin keeps alive.
    #[cfg(not(kymo_portable))]
    #[inline]
    #[expect(unsafe_code, reason = "makes an `Arc` without a count, which is never dropped")]
    pub(super) fn pinned(node: *const Node<M::Value>, pin: Pin) -> Self {
        // SAFETY: `node` was found in a table under `pin`, so it is an `Arc`'s and lives until the pin ends. The pin is
        // dropped with `self`, after which nobody can reach the handle, and `ManuallyDrop` keeps it from giving up a count
        // that it does not have.
        let node = unsafe { Arc::from_raw(node) };
        Self { handle: ManuallyDrop::new(M::of(node)), pin: Some(pin), family: PhantomData }
    }
}

impl<M: Handle> Deref for Borrowed<'_, M> {
    type Target = M;

    #[inline]
    fn deref(&self) -> &M {
        &self.handle
    }
}

impl<M: Handle> Drop for Borrowed<'_, M> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(not(kymo_portable))]
        if self.pin.is_some() {
            return;
        }
        drop_owned(&mut self.handle);
    }
}

#[cold]
#[allow(unsafe_code, reason = "gives up the count of a handle that has one")]
fn drop_owned<M>(handle: &mut ManuallyDrop<M>) {
    // SAFETY: called once, when the `Borrowed` around it is dropped.
    unsafe { ManuallyDrop::drop(handle) }
}

impl<M: Handle> fmt::Debug for Borrowed<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A handle whose series goes with it: what [`Family::scoped`](super::Family::scoped) gives.
///
/// When the last scoped handle of a series is dropped, the series leaves its family, and a collector that has stored it ends
/// it with a staleness marker.
#[derive(Debug)]
pub struct Scoped<M: Handle> {
    handle: M,
    family: Arc<FamilyCore<M::Value>>,
}

impl<M: Handle> Scoped<M> {
    pub(super) fn new(handle: M, family: Arc<FamilyCore<M::Value>>) -> Self {
        Self { handle, family }
    }
}

impl<M: Handle> Deref for Scoped<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.handle
    }
}

impl<M: Handle> Drop for Scoped<M> {
    fn drop(&mut self) {
        self.family.leave(self.handle.node());
    }
}
