//! Memory of one request, reserved in steps before it is allocated.

use kymo_core::{Budget, BudgetExceeded, Reservation};

/// Bytes reserved at a time, so that a row costs a comparison and not a walk up the tree of budgets.
const STEP_BYTES: u64 = 64 << 10;

/// Counts what a request's buffers take. The reservation stays when the buffers stay.
#[derive(Debug)]
pub(super) struct Meter {
    held: Reservation,
    used: u64,
}

impl Meter {
    pub(super) fn new(budget: &Budget) -> Result<Meter, BudgetExceeded> {
        Ok(Meter { held: budget.try_reserve(0)?, used: 0 })
    }

    /// Bytes held, which the buffers may still occupy between requests.
    pub(super) fn held(&self) -> u64 {
        self.held.bytes()
    }

    /// Starts the next request; the buffers and their reservation are used again.
    pub(super) fn restart(&mut self) {
        self.used = 0;
    }

    /// Takes `bytes` more, before they are allocated.
    #[inline]
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        let used = self.used + bytes as u64;
        if used > self.held.bytes() {
            let missing = used - self.held.bytes();
            self.held.grow(missing.next_multiple_of(STEP_BYTES))?;
        }
        self.used = used;
        Ok(())
    }
}
