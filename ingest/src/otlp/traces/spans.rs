//! From a body of spans to increments in an engine.
//!
//! One request goes through four steps: its body is walked whole ([`Gathered`]); under the lock its spans are held to
//! what was counted before, told apart by subject and added up ([`State::take`]); without the lock the rows are
//! appended; under the lock again the outcome is noted ([`State::end`]). A request that fails leaves the state as it was.
//!
//! **Time.** Rows stand at the time they are counted, not at that of their spans, which come late and in any order; so
//! a total never changes backwards. Every request has an interval of a millisecond that no other request of its
//! writer has. Requests of one millisecond have different writers, of which there are [`WRITERS`]; with more the time
//! runs ahead. After a start time goes on behind the newest row there is, so that a clock that was set back
//! repeats no interval.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use foldhash::fast::RandomState;
use kymo_core::health::{Request, ServiceHealth};
use kymo_core::increments::TURNS;
use kymo_core::labels::{LabelsBuilder, METRIC_NAME};
use kymo_core::storage::{AppendReport, Columns, QueryContext, Selector};
use kymo_core::{Budget, Matcher, MetricStorage, Reservation, SampleBatch};

use super::super::Encoding;
use super::super::error::{ExportError, Reason};
use super::super::outcome::add;
use super::gather::{Callee, Fact, Gathered, Gathering, SpanNumber};
use super::links::{Call, Links, Side, WAIT_MS};
use super::outcome::SpanOutcome;
use super::seen::{Known, Seen};
use super::subject::{SERIES, Sort, Subject, Subjects};
use super::tally::{Moment, Observed, Rows, Tally, declare, seconds};
use super::{messages as json, wire};

/// Requests of one millisecond that are told apart.
const WRITERS: u64 = 4;
/// Buffers kept between requests.
const KEPT_BUFFERS_MAX: usize = 8;

/// Counts spans into an engine. Shared by all requests.
pub(in super::super) struct Spans {
    storage: Arc<dyn MetricStorage>,
    /// Is told of every span and call that is counted.
    health: Option<Arc<ServiceHealth>>,
    budget: Budget,
    hasher: RandomState,
    /// Never held while rows are appended.
    state: Mutex<State>,
    /// Buffers between requests; never held while one is used.
    scratch: Mutex<Vec<Scratch>>,
}

/// What is remembered between requests.
struct State {
    subjects: Subjects,
    seen: Seen,
    links: Links,
    /// Calls that nobody answered, and that are in no batch yet.
    settled: Vec<Call>,
    clock: Option<LastMoment>,
    requests: u64,
    is_declared: bool,
    /// For what `seen` and `links` hold.
    held: Reservation,
}

#[derive(Debug, Clone, Copy)]
struct LastMoment {
    end_ms: i64,
    used: u64,
}

/// The buffers of one request.
#[derive(Default)]
struct Scratch {
    gathered: Gathered,
    work: Work,
    batch: SampleBatch,
    builder: LabelsBuilder,
    report: AppendReport,
}

/// What a request did to the state, and has for the engine.
#[derive(Default)]
struct Work {
    request: u64,
    tallies: Vec<Tally>,
    used: usize,
    /// Numbers of spans that count, in order.
    brought: Vec<SpanNumber>,
    /// Calls that count, by the place of their subject.
    calls: Vec<(u32, Observed)>,
    identical: u64,
    overflow: u64,
    /// What was taken out of the links, to be put back if the request fails: sides that were met, and calls that were not.
    met: Vec<(SpanNumber, Side)>,
    settled: Vec<Call>,
    /// What was put there.
    put: Vec<SpanNumber>,
}

impl Work {
    fn clear(&mut self) {
        self.used = 0;
        self.brought.clear();
        self.calls.clear();
        (self.identical, self.overflow) = (0, 0);
        self.met.clear();
        self.settled.clear();
        self.put.clear();
    }

    fn tallies(&self) -> &[Tally] {
        &self.tallies[..self.used]
    }
}

impl Spans {
    pub(in super::super) fn new(storage: Arc<dyn MetricStorage>, budget: &Budget) -> Spans {
        let held = budget.try_reserve(0).expect("nothing is within every limit");
        let state = State {
            subjects: Subjects::new(budget),
            seen: Seen::default(),
            links: Links::default(),
            settled: Vec::new(),
            clock: None,
            requests: 0,
            is_declared: false,
            held,
        };
        let scratch = Mutex::default();
        let (health, hasher) = (None, RandomState::default());
        Spans { storage, health, budget: budget.clone(), hasher, state: Mutex::new(state), scratch }
    }

    pub(in super::super) fn set_health(&mut self, health: Arc<ServiceHealth>) {
        self.health = Some(health);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes reserved for what is remembered between requests.
    pub(in super::super) fn bytes(&self) -> u64 {
        let state = self.state();
        state.subjects.bytes() + state.held.bytes()
    }

    /// Whether a call waited long enough for its other side, as of `now_ms`.
    pub(in super::super) fn has_waited(&self, now_ms: i64) -> bool {
        let state = self.state();
        !state.settled.is_empty() || state.links.has_waited(now_ms)
    }

    /// Counts the spans of a body.
    pub(in super::super) fn export(
        &self,
        encoding: Encoding,
        body: &Bytes,
        held: &mut Reservation,
        now_ms: i64,
    ) -> Result<SpanOutcome, ExportError> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let result = self.export_with(&mut scratch, encoding, body, held, now_ms);
        scratch.batch.clear();
        scratch.work.clear();
        let mut kept = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if scratch.gathered.clear() && kept.len() < KEPT_BUFFERS_MAX {
            kept.push(scratch);
        }
        result
    }

    fn export_with(
        &self,
        scratch: &mut Scratch,
        encoding: Encoding,
        body: &Bytes,
        held: &mut Reservation,
        now_ms: i64,
    ) -> Result<SpanOutcome, ExportError> {
        let Scratch { gathered, work, batch, builder, report } = scratch;
        let mut gathering = Gathering::new(gathered, &self.hasher, self.budget.try_reserve(0)?);
        match encoding {
            Encoding::Protobuf => wire::drive(body, held, &mut gathering)?,
            Encoding::Json => json::drive_json(body, held, &mut gathering)?,
        }
        drop(gathering);
        let moment = {
            let mut state = self.state();
            let moment = state.moment(&*self.storage, now_ms)?;
            if let Err(error) = state.take(gathered, work, now_ms) {
                state.undo(work, now_ms);
                return Err(error);
            }
            if !state.is_declared && work.used > 0 {
                declare(batch);
            }
            let mut rows = Rows { batch, builder, moment };
            work.tallies().iter().for_each(|tally| rows.push(tally, state.subjects.get(tally.subject), None));
            moment
        };
        report.clear();
        let appended = if batch.is_empty() { Ok(()) } else { self.append(work, batch, builder, moment, report) };
        if let (Ok(()), Some(health)) = (&appended, &self.health) {
            tell(health, gathered, work);
        }
        let mut state = self.state();
        match appended {
            Ok(()) => Ok(state.end(gathered, work, report, self.health.as_deref())),
            Err(error) => {
                state.undo(work, now_ms);
                Err(error)
            }
        }
    }

    /// Appends the rows, and those again with labels whose refs the engine has forgotten.
    fn append(
        &self,
        work: &Work,
        batch: &mut SampleBatch,
        builder: &mut LabelsBuilder,
        moment: Moment,
        report: &mut AppendReport,
    ) -> Result<(), ExportError> {
        let failed = |source| ExportError::Append { source };
        self.storage.append_into(batch, report).map_err(failed)?;
        if report.unknown_refs.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut report.unknown_refs);
        batch.clear();
        {
            let state = self.state();
            let mut again = Rows { batch, builder, moment };
            for (at, tally) in work.tallies().iter().enumerate() {
                let wanted = std::array::from_fn(|series| rows.binary_search(&(at * SERIES + series)).is_ok());
                again.push(tally, state.subjects.get(tally.subject), Some(wanted));
            }
        }
        let again = self.storage.append(batch).map_err(failed)?;
        report.stored += again.stored;
        report.identical += again.identical;
        report.rejected.extend(again.rejected.iter().map(|(row, reason)| (rows[*row], *reason)));
        report.rejected.sort_unstable_by_key(|(row, _)| *row);
        report.new_refs.extend(again.new_refs.iter().map(|(row, series)| (rows[*row], *series)));
        Ok(())
    }
}

impl State {
    /// The moment of the next request.
    fn moment(&mut self, storage: &dyn MetricStorage, now_ms: i64) -> Result<Moment, ExportError> {
        let last = match self.clock {
            Some(last) => last,
            None => LastMoment { end_ms: newest(storage, now_ms)?, used: WRITERS },
        };
        let next = if now_ms > last.end_ms {
            LastMoment { end_ms: now_ms, used: 1 }
        } else if last.used < WRITERS {
            LastMoment { used: last.used + 1, ..last }
        } else {
            LastMoment { end_ms: last.end_ms + 1, used: 1 }
        };
        self.clock = Some(next);
        Ok(Moment { writer: TURNS.start + next.used, end_ms: next.end_ms })
    }

    /// Adds the spans of a request up. On an error [`undo`](State::undo) puts back what was done.
    fn take(&mut self, gathered: &Gathered, work: &mut Work, now_ms: i64) -> Result<(), ExportError> {
        self.requests += 1;
        work.request = self.requests;
        self.seen.turn(now_ms);
        self.pay(gathered.facts.len())?;
        for fact in &gathered.facts {
            match self.seen.bring(fact.number, work.request) {
                Known::Counted => {
                    work.identical += 1;
                    continue;
                }
                Known::UnderWay => return Err(ExportError::UnderWay),
                Known::New => work.brought.push(fact.number),
            }
            self.count(gathered, fact, work, now_ms)?;
        }
        let waited = std::iter::from_fn(|| self.links.pop_settled(now_ms));
        let calls = waited.filter_map(|side| if let Side::Caller(call) = side { Some(call) } else { None });
        work.settled = std::mem::take(&mut self.settled);
        work.settled.extend(calls.filter(|call| !call.callee.is_empty()));
        let settled = std::mem::take(&mut work.settled);
        let counted =
            settled.iter().try_for_each(|call| self.edge(&call.caller, &call.callee, call.observed, work, now_ms));
        work.settled = settled;
        counted
    }

    /// Adds a span to its operation, and to the call that it is a side of.
    fn count(&mut self, gathered: &Gathered, fact: &Fact, work: &mut Work, now_ms: i64) -> Result<(), ExportError> {
        let observed =
            Observed { ids: fact.ids, duration_ns: fact.duration_ns, end_ms: fact.end_ms, is_error: fact.is_error };
        let (service, operation) = (gathered.text(fact.service), gathered.text(fact.operation));
        let at = self.add(Sort::Operation(fact.kind), (service, operation), observed, work, now_ms)?;
        let service = Arc::clone(&self.subjects.get(at).first);
        if fact.kind.calls() {
            let callee = match fact.callee {
                Callee::Certain(name) => return self.edge(&service, gathered.text(name), observed, work, now_ms),
                Callee::Perhaps(name) => gathered.text(name),
                Callee::Unsaid => "",
            };
            if let Some(answering) = self.links.take_callee(fact.number) {
                work.met.push((fact.number, Side::Callee(Arc::clone(&answering))));
                return self.edge(&service, &answering, observed, work, now_ms);
            }
            let call = Call { caller: service, callee: callee.into(), observed };
            self.wait(fact.number, Side::Caller(call), work, now_ms);
        } else if fact.kind.answers() && fact.parent != 0 {
            if let Some(call) = self.links.take_caller(fact.parent) {
                work.met.push((fact.parent, Side::Caller(call.clone())));
                return self.edge(&call.caller, &service, call.observed, work, now_ms);
            }
            self.wait(fact.parent, Side::Callee(service), work, now_ms);
        }
        Ok(())
    }

    fn wait(&mut self, number: SpanNumber, side: Side, work: &mut Work, now_ms: i64) {
        if self.links.put(number, now_ms.saturating_add(WAIT_MS), side) {
            work.put.push(number);
        }
    }

    fn edge(
        &mut self,
        caller: &str,
        callee: &str,
        observed: Observed,
        work: &mut Work,
        now_ms: i64,
    ) -> Result<(), ExportError> {
        let at = self.add(Sort::Edge, (caller, callee), observed, work, now_ms)?;
        work.calls.push((at, observed));
        Ok(())
    }

    /// Adds to the tally of a subject; gives its place.
    fn add(
        &mut self,
        sort: Sort,
        (first, second): (&str, &str),
        observed: Observed,
        work: &mut Work,
        now_ms: i64,
    ) -> Result<u32, ExportError> {
        let (at, is_overflow) = self.subjects.of(sort, first, second, now_ms)?;
        work.overflow += u64::from(is_overflow && sort != Sort::Edge);
        let subject = self.subjects.get_mut(at);
        if subject.tally.0 != work.request {
            subject.tally = (work.request, work.used as u32);
            if work.used == work.tallies.len() {
                work.tallies.push(Tally::default());
            }
            work.tallies[work.used].begin(at);
            work.used += 1;
        }
        work.tallies[subject.tally.1 as usize].add(observed);
        Ok(at)
    }

    /// Pays for what `seen` and `links` hold when `more` spans are added.
    fn pay(&mut self, more: usize) -> Result<(), ExportError> {
        // Tables are between half and seven eighths full; a waiting call has two texts.
        let spans = 40 * (self.seen.len() + more);
        let calls = (2 * size_of::<Call>() + 160) * (self.links.len() + more);
        let missing = ((spans + calls) as u64).saturating_sub(self.held.bytes());
        Ok(self.held.grow(missing.next_multiple_of(64 << 10))?)
    }

    /// Puts back what a request did that failed.
    fn undo(&mut self, work: &mut Work, now_ms: i64) {
        for (number, side) in work.met.drain(..) {
            self.links.put(number, now_ms.saturating_add(WAIT_MS), side);
        }
        work.put.drain(..).for_each(|number| self.links.forget(number));
        self.settled.append(&mut work.settled);
        work.brought.drain(..).for_each(|number| self.seen.end(number, false));
    }

    /// Notes that the rows of a request are in the engine.
    fn end(
        &mut self,
        gathered: &mut Gathered,
        work: &Work,
        report: &AppendReport,
        health: Option<&ServiceHealth>,
    ) -> SpanOutcome {
        if let Some(health) = health {
            for (at, observed) in &work.calls {
                let Subject { first, second, .. } = self.subjects.get(*at);
                health.record_edge(
                    first,
                    second,
                    seconds(observed.duration_ns.into()),
                    observed.is_error,
                    observed.end_ms,
                );
            }
        }
        work.brought.iter().for_each(|number| self.seen.end(*number, true));
        self.is_declared |= work.used > 0;
        for &(row, series) in &report.new_refs {
            let tally = &work.tallies()[row / SERIES];
            self.subjects.get_mut(tally.subject).refs[row % SERIES] = Some(series);
        }
        let mut outcome = SpanOutcome {
            identical: work.identical,
            overflow: work.overflow,
            exemplars_refused: report.rejected_exemplars.len() as u64,
            refusals: std::mem::take(&mut gathered.refusals),
            ..SpanOutcome::default()
        };
        // An interval that was there already would be another's: nothing of it counts.
        outcome.rows_refused += report.identical.samples();
        let mut refused = 0;
        for &(row, reason) in &report.rejected {
            let tally = &work.tallies()[row / SERIES];
            let subject = self.subjects.get(tally.subject);
            match (row % SERIES, subject.sort) {
                (0, Sort::Operation(_)) => {
                    refused += tally.requests;
                    add(&mut outcome.refusals, Reason::Row(reason), tally.requests, "operation", &subject.second);
                }
                // Of a span that is counted something else is missing.
                _ => outcome.rows_refused += 1,
            }
        }
        outcome.counted = work.brought.len() as u64 - refused;
        outcome
    }
}

/// Tells of spans that were counted.
fn tell(health: &ServiceHealth, gathered: &Gathered, work: &Work) {
    let mut brought = work.brought.iter().peekable();
    for fact in &gathered.facts {
        // Numbers of spans that were counted before are left out, the others are in the same order.
        if brought.next_if(|number| **number == fact.number).is_none() {
            continue;
        }
        health.record(&Request {
            service: gathered.text(fact.service),
            operation: gathered.text(fact.operation),
            kind: fact.kind.into(),
            duration_seconds: seconds(fact.duration_ns.into()),
            is_error: fact.is_error,
            end_ms: fact.end_ms,
            weight: 1,
        });
    }
}

/// The time of the newest row there is behind `now_ms`; what is counted from now on is behind that.
fn newest(storage: &dyn MetricStorage, now_ms: i64) -> Result<i64, ExportError> {
    let name = Matcher::equal(METRIC_NAME, "kymo_service_requests_total");
    let read = || {
        let set = storage.select(&Selector::new(vec![name], now_ms - 1, i64::MAX), &QueryContext::unlimited())?;
        let (mut newest, mut columns) = (now_ms - 1, Columns::default());
        for at in 0..set.len() {
            set.read(at, &mut columns)?;
            newest = columns.times.last().copied().unwrap_or(newest).max(newest);
        }
        Ok(newest)
    };
    read().map_err(|source| ExportError::Newest { source })
}
