//! A shop that nobody runs: its services, what is asked of them, and what is wrong with one.
//!
//! A visit is one request and all that it asks of others, as spans: each operation has a server's span, and each call a client's
//! around it. So a service is as slow as those it waits for; after a while it goes on without their answer.

use kymo_core::random::{Random, SeededRandom};

/// Callers before those whom they call.
pub(super) const SERVICES: [&str; 4] = ["gateway", "catalog", "checkout", "payments"];

/// What a service can be asked.
pub(super) struct Operation {
    pub(super) service: &'static str,
    pub(super) method: &'static str,
    pub(super) route: &'static str,
    /// What it does itself takes so long, seconds; half of all requests take less.
    median: f64,
    /// Share of requests that fail.
    failing: f64,
    /// What it asks of others, one after the other.
    calls: &'static [usize],
    /// What the trouble does to it: how many times slower it is, and what fails instead.
    trouble: Option<(f64, f64)>,
}

const fn operation(
    service: &'static str,
    method: &'static str,
    route: &'static str,
    median: f64,
    calls: &'static [usize],
) -> Operation {
    Operation { service, method, route, median, failing: 0.0003, calls, trouble: None }
}

/// By number. The payments wait for their bank.
pub(super) const OPERATIONS: [Operation; 10] = [
    operation("gateway", "GET", "/", 0.006, &[4]),
    operation("gateway", "GET", "/products/{id}", 0.008, &[5]),
    operation("gateway", "POST", "/checkout", 0.05, &[6]),
    operation("gateway", "GET", "/orders/{id}", 0.007, &[7]),
    operation("catalog", "GET", "/products", 0.004, &[]),
    operation("catalog", "GET", "/products/{id}", 0.003, &[]),
    operation("checkout", "POST", "/orders", 0.02, &[5, 8]),
    operation("checkout", "GET", "/orders/{id}", 0.012, &[]),
    Operation { trouble: Some((6.0, 0.02)), ..operation("payments", "POST", "/charge", 0.065, &[]) },
    operation("payments", "POST", "/refund", 0.08, &[]),
];

/// What is asked from outside, and how often each second.
const VISITS: [(usize, f64); 5] = [(0, 3.0), (1, 2.5), (2, 2.0), (3, 1.0), (9, 0.3)];
/// Nobody waits longer for another service.
const PATIENCE_NS: i64 = 750_000_000;
/// One way between two services.
const HOP_NS: i64 = 300_000;
/// The trouble goes on for so long, and begins again so long after its beginning.
const TROUBLE_MS: i64 = 25 * 60_000;
const CYCLE_MS: i64 = 45 * 60_000;

/// Which side of a call a span tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The operation itself.
    Server,
    /// A call of it, by this operation.
    Client(usize),
}

/// How a request or a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Well,
    Failed,
    /// Nobody waited for its end.
    GivenUp,
}

/// One side of a request. Times are in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) trace: u128,
    pub(super) id: u64,
    /// 0 for none.
    pub(super) parent: u64,
    pub(super) side: Side,
    /// What was asked for.
    pub(super) operation: usize,
    pub(super) start_ns: i64,
    pub(super) end_ns: i64,
    pub(super) ended: Ended,
}

/// Makes visits up, always the same ones.
pub(super) struct Shop {
    random: SeededRandom,
    /// When the trouble begins for the first time.
    trouble_ms: i64,
}

impl Shop {
    /// One whose payments are slow from `trouble_ms` on.
    pub(super) fn new(trouble_ms: i64) -> Shop {
        Shop { random: SeededRandom::new(7), trouble_ms }
    }

    pub(super) fn slow_from(&mut self, trouble_ms: i64) {
        self.trouble_ms = trouble_ms;
    }

    fn is_in_trouble(&self, time_ms: i64) -> bool {
        time_ms >= self.trouble_ms && (time_ms - self.trouble_ms) % CYCLE_MS < TROUBLE_MS
    }

    /// Adds the spans of all visits that ended in the `step_ms` before `until_ms`.
    pub(super) fn open(&self, until_ms: i64, step_ms: i64, spans: &mut Vec<Span>) {
        // A slow wave, as visitors come and go.
        let wave = 1.0 + 0.25 * (until_ms as f64 / 1_500_000.0 * std::f64::consts::TAU).sin();
        for (operation, rate) in VISITS {
            let expected = rate * wave * step_ms as f64 / 1e3;
            // The fraction is a chance, so that rare visits come too.
            let count = (expected * (0.9 + 0.2 * self.random.next_f64()) + self.random.next_f64()) as usize;
            for _ in 0..count {
                let first = spans.len();
                let trace = u128::from(self.id()) << 64 | u128::from(self.id());
                let into = (self.is_in_trouble(until_ms), trace, &mut *spans);
                self.ask(operation, 0, 0, into);
                let visit = &mut spans[first..];
                // Times are from the visit's beginning on, and known now: it ends somewhere in the step.
                let took_ns = visit.iter().map(|span| span.end_ns).max().unwrap_or_default();
                let ended_ns = until_ms * 1_000_000 - (self.random.next_f64() * step_ms as f64 * 1e6) as i64;
                for span in visit {
                    span.start_ns += ended_ns - took_ns;
                    span.end_ns += ended_ns - took_ns;
                }
            }
        }
    }

    /// Goes through one request that begins at `start_ns`, and all that it asks; gives its end, and how it ended.
    fn ask(
        &self,
        operation: usize,
        parent: u64,
        start_ns: i64,
        (in_trouble, trace, spans): (bool, u128, &mut Vec<Span>),
    ) -> (i64, Ended) {
        let Operation { median, failing, calls, trouble, .. } = OPERATIONS[operation];
        let (slower, failing) = trouble.filter(|_| in_trouble).unwrap_or((1.0, failing));
        // The sum of some uniform numbers is near enough to a bell, and its power to latencies.
        let bell: f64 = (0..6).map(|_| self.random.next_f64()).sum::<f64>() - 3.0;
        // Slow ones are frequent enough that the p99 of a single minute is one of them.
        let tail = if self.random.next_f64() < 0.08 { 2.5 } else { 1.0 };
        let own_ns = (median * slower * tail * (bell * 0.4).exp() * 1e9) as i64;
        let mut ended = if self.random.next_f64() < failing { Ended::Failed } else { Ended::Well };
        let id = self.id();
        let place = spans.len();
        let span = Span { trace, id, parent, side: Side::Server, operation, start_ns, end_ns: 0, ended };
        spans.push(span);
        let mut at_ns = start_ns + own_ns / 2;
        for &callee in calls {
            let (asked, call_id) = (spans.len(), self.id());
            let side = Side::Client(operation);
            spans.push(Span { id: call_id, parent: id, side, operation: callee, start_ns: at_ns, ..span });
            let (end_ns, how) = self.ask(callee, call_id, at_ns + HOP_NS, (in_trouble, trace, &mut *spans));
            let answered_ns = end_ns + HOP_NS;
            let call = &mut spans[asked];
            (call.end_ns, call.ended) = (answered_ns, how);
            if answered_ns > at_ns + PATIENCE_NS {
                (call.end_ns, call.ended) = (at_ns + PATIENCE_NS, Ended::GivenUp);
            }
            at_ns = call.end_ns;
            if call.ended == Ended::Failed {
                ended = Ended::Failed;
            }
        }
        let end_ns = at_ns + own_ns / 2;
        (spans[place].end_ns, spans[place].ended) = (end_ns, ended);
        (end_ns, ended)
    }

    /// Never 0.
    fn id(&self) -> u64 {
        self.random.next_u64().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_hold_their_calls_and_only_the_trouble_makes_payments_slow() {
        let shop = Shop::new(600_000);
        let (mut before, mut within) = (Vec::new(), Vec::new());
        (1..60).for_each(|minute| shop.open(minute * 10_000, 100_000, &mut before));
        (61..120).for_each(|minute| shop.open(minute * 10_000, 100_000, &mut within));
        let p99 = |spans: &[Span], service: &str| {
            let asked =
                spans.iter().filter(|span| span.side == Side::Server && OPERATIONS[span.operation].service == service);
            let mut took: Vec<i64> = asked.map(|span| span.end_ns - span.start_ns).collect();
            took.sort_unstable();
            took[took.len() * 99 / 100] as f64
        };
        // Four times as slow as before is unhealthy, twice is degraded: those who wait for them are only that, by a margin.
        let slower = |service| p99(&within, service) / p99(&before, service);
        let all = SERVICES.map(|service| (service, slower(service)));
        let [(_, gateway), (_, catalog), (_, checkout), (_, payments)] = all;
        assert!(payments > 4.2 && catalog < 1.5, "{all:?}");
        assert!((2.3..3.6).contains(&gateway) && (2.3..3.6).contains(&checkout), "{all:?}");
        // Whichever minute is looked at: its payments are slow enough to be told.
        let usual = p99(&before, "payments");
        let minutes = (0..60).map(|minute| {
            let mut spans = Vec::new();
            let start_ms = 600_000 + minute * 20_000;
            (1..=12).for_each(|step| shop.open(start_ms + step * 1_000, 5_000, &mut spans));
            p99(&spans, "payments") / usual
        });
        let slow: Vec<f64> = minutes.collect();
        let told = slow.iter().filter(|slower| **slower > 4.0).count();
        assert!(told >= 55, "{told} of 60 minutes: {slow:?}");
        for span in before.iter().chain(&within) {
            assert!(span.id != 0 && span.trace != 0 && span.end_ns > span.start_ns, "{span:?}");
            match span.side {
                Side::Client(by) => assert!(OPERATIONS[by].calls.contains(&span.operation) && span.parent != 0),
                Side::Server => {}
            }
        }
        // Every call is answered by a span that has it for its parent.
        let calls: Vec<u64> = within.iter().filter(|span| span.side != Side::Server).map(|span| span.id).collect();
        let answers: std::collections::HashSet<u64> =
            within.iter().filter(|span| span.side == Side::Server).map(|span| span.parent).collect();
        assert!(calls.iter().all(|call| answers.contains(call)) && calls.len() > 1_000);
    }
}
