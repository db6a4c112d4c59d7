//! `5m`, `step() * 2` and `max_of(1m, 3 * step())`, between brackets and after `offset`.
//!
//! An operator-precedence parser with its own stack, like the one for expressions.

use super::ast::{BinaryOp, Span};
use super::duration::{DurationExpr, DurationNode, DurationOp, SECONDS_MAX};
use super::error::Fault;
use super::literal;
use super::parse::Parser;
use super::token::{QueryWord, Token, TokenKind};

/// Where a duration stands, for the error text: what upstream calls the place and expects there.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) context: &'static str,
    pub(super) expected: &'static str,
}

const ANY_DURATION: &str = "number, duration, step(), or range()";

const RANGE: Place = Place { context: "subquery or range selector", expected: ANY_DURATION };
const STEP: Place = Place { context: "subquery selector", expected: "number, duration, step(), range(), or \"]\"" };
const OFFSET: Place = Place { context: "offset", expected: ANY_DURATION };

/// An operator or opening waiting for what follows.
enum Pending {
    Sign { negative: bool, span: Span },
    Binary { op: DurationOp, precedence: u8, lhs: u32, span: Span },
    Paren { start: u32 },
    Extreme { op: DurationOp, start: u32, lhs: Option<u32> },
}

/// What was read so far; nodes and their spans run in parallel.
struct Work {
    nodes: Vec<DurationNode>,
    spans: Vec<Span>,
    pending: Vec<Pending>,
    /// How many of `pending` wait for a closing parenthesis.
    open: usize,
    /// End after the first complete operand: `offset 5m + x` adds to the selector.
    only_operand: bool,
    place: Place,
}

impl Parser<'_> {
    /// The range after `[`.
    pub(super) fn range_duration(&mut self) -> Result<DurationExpr, Fault> {
        self.positive_duration(RANGE)
    }

    /// The step after `:`.
    pub(super) fn step_duration(&mut self) -> Result<DurationExpr, Fault> {
        self.positive_duration(STEP)
    }

    fn positive_duration(&mut self, place: Place) -> Result<DurationExpr, Fault> {
        let duration = self.duration(Vec::new(), false, place)?;
        match duration.nodes() {
            [DurationNode::Literal { seconds, .. }] if *seconds <= 0.0 => {
                Err(Fault::new(duration.span(), "duration must be greater than 0"))
            }
            _ => Ok(duration),
        }
    }

    /// The duration after `offset`, which may be negative.
    ///
    /// Arithmetic continues it only where it started with a parenthesis or a second sign; this is
    /// where upstream's grammar ends up.
    pub(super) fn offset_duration(&mut self) -> Result<DurationExpr, Fault> {
        let first = self.peek()?;
        let negative = match first.kind {
            TokenKind::LeftParen => return self.duration(Vec::new(), false, OFFSET),
            TokenKind::Operator(BinaryOp::Sub) => true,
            TokenKind::Operator(BinaryOp::Add) => false,
            _ => return self.duration(Vec::new(), true, OFFSET),
        };
        self.take();
        let sign = Pending::Sign { negative, span: first.span };
        let two_signs = matches!(self.peek()?.kind, TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub));
        self.duration(vec![sign], !two_signs, OFFSET)
    }

    fn duration(&mut self, pending: Vec<Pending>, only_operand: bool, place: Place) -> Result<DurationExpr, Fault> {
        let mut work = Work { nodes: Vec::new(), spans: Vec::new(), pending, open: 0, only_operand, place };
        loop {
            self.duration_operand(&mut work)?;
            if self.duration_continues(&mut work)? {
                continue;
            }
            // The root was completed last, so it is the last node.
            let span = work.spans.last().copied().unwrap_or_default();
            return Ok(match work.nodes[..] {
                [DurationNode::Literal { seconds, .. }] => DurationExpr::literal(seconds, span),
                _ => DurationExpr::from_nodes(work.nodes, span),
            });
        }
    }

    /// Reads signs and openings up to and including one complete operand.
    fn duration_operand(&mut self, work: &mut Work) -> Result<(), Fault> {
        loop {
            let token = self.peek()?;
            match token.kind {
                TokenKind::Number | TokenKind::Duration => {
                    self.take();
                    return self.duration_literal(work, token);
                }
                TokenKind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                    self.take();
                    let negative = op == BinaryOp::Sub;
                    let span = token.span;
                    self.duration_push(work, Pending::Sign { negative, span })?;
                }
                TokenKind::LeftParen => {
                    self.take();
                    let start = token.span.start;
                    work.open += 1;
                    self.duration_push(work, Pending::Paren { start })?;
                }
                TokenKind::Query(word @ (QueryWord::Step | QueryWord::Range)) => {
                    self.take();
                    self.duration_expect(work, TokenKind::LeftParen)?;
                    let close = self.duration_expect(work, TokenKind::RightParen)?;
                    let span = token.span.to(close.span);
                    self.require_duration_expressions(span)?;
                    let node = if word == QueryWord::Step { DurationNode::Step } else { DurationNode::Range };
                    self.duration_node(work, node, span)?;
                    return Ok(());
                }
                TokenKind::Query(word @ (QueryWord::MinOf | QueryWord::MaxOf)) => {
                    self.take();
                    self.duration_expect(work, TokenKind::LeftParen)?;
                    let op = if word == QueryWord::MinOf { DurationOp::MinOf } else { DurationOp::MaxOf };
                    let start = token.span.start;
                    let lhs = None;
                    work.open += 1;
                    self.duration_push(work, Pending::Extreme { op, start, lhs })?;
                }
                _ => return Err(self.duration_fault(work)),
            }
        }
    }

    /// After an operand: takes closings, then an operator, and tells whether an operand must follow.
    fn duration_continues(&mut self, work: &mut Work) -> Result<bool, Fault> {
        loop {
            let is_inside = work.open > 0;
            if !is_inside && work.only_operand {
                self.duration_reduce(work, 0)?;
                return Ok(false);
            }
            let token = self.peek()?;
            if let Some((op, precedence)) = operator(token) {
                self.take();
                let right = op == DurationOp::Pow;
                self.duration_reduce(work, if right { precedence + 1 } else { precedence })?;
                let lhs = last(work);
                let span = token.span;
                self.duration_push(work, Pending::Binary { op, precedence, lhs, span })?;
                return Ok(true);
            }
            if !is_inside {
                self.duration_reduce(work, 0)?;
                return Ok(false);
            }
            match token.kind {
                TokenKind::RightParen => {
                    self.duration_reduce(work, 0)?;
                    self.duration_close(work, token)?;
                }
                TokenKind::Comma => {
                    self.duration_reduce(work, 0)?;
                    let operand = last(work);
                    match work.pending.last_mut() {
                        Some(Pending::Extreme { lhs, .. }) if lhs.is_none() => {
                            *lhs = Some(operand);
                        }
                        _ => return Err(self.duration_fault(work)),
                    }
                    self.take();
                    return Ok(true);
                }
                _ => return Err(self.duration_fault(work)),
            }
        }
    }

    fn duration_close(&mut self, work: &mut Work, close: Token) -> Result<(), Fault> {
        let operand = last(work);
        work.open -= 1;
        match work.pending.pop() {
            Some(Pending::Paren { start }) => {
                self.take();
                self.require_duration_expressions(work.spans[operand as usize])?;
                let span = Span::new(start, close.span.end);
                self.duration_node(work, DurationNode::Paren(operand), span)?;
                Ok(())
            }
            Some(Pending::Extreme { op, start, lhs: Some(lhs) }) => {
                self.take();
                let span = Span::new(start, close.span.end);
                self.require_duration_expressions(span)?;
                self.duration_node(work, DurationNode::Binary(op, lhs, operand), span)?;
                Ok(())
            }
            _ => Err(self.duration_fault(work)),
        }
    }

    /// Completes waiting signs and operators that bind at least as tightly as `precedence`.
    fn duration_reduce(&mut self, work: &mut Work, precedence: u8) -> Result<(), Fault> {
        loop {
            let rhs = last(work);
            match work.pending.last() {
                Some(&Pending::Sign { negative, span }) if precedence <= SIGN_PRECEDENCE => {
                    work.pending.pop();
                    let whole = span.to(work.spans[rhs as usize]);
                    match (&mut work.nodes[rhs as usize], negative) {
                        (DurationNode::Literal { seconds, .. }, true) => *seconds = -*seconds,
                        (_, true) => {
                            self.duration_node(work, DurationNode::Negate(rhs), whole)?;
                        }
                        (_, false) => {}
                    }
                    let root = last(work) as usize;
                    work.spans[root] = whole;
                }
                Some(&Pending::Binary { op, precedence: waiting, lhs, span }) if precedence <= waiting => {
                    work.pending.pop();
                    self.require_duration_expressions(work.spans[lhs as usize])?;
                    let is_zero = matches!(
                        work.nodes[rhs as usize],
                        DurationNode::Literal { seconds, .. } if seconds == 0.0
                    );
                    match op {
                        DurationOp::Div if is_zero => {
                            return Err(Fault::new(span, "division by zero"));
                        }
                        DurationOp::Mod if is_zero => {
                            return Err(Fault::new(span, "modulo by zero"));
                        }
                        _ => {}
                    }
                    let whole = work.spans[lhs as usize].to(work.spans[rhs as usize]);
                    self.duration_node(work, DurationNode::Binary(op, lhs, rhs), whole)?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn duration_literal(&mut self, work: &mut Work, token: Token) -> Result<(), Fault> {
        let is_duration = token.kind == TokenKind::Duration;
        let seconds = self.literal_value(token)?;
        if !(-SECONDS_MAX..=SECONDS_MAX).contains(&seconds) {
            // After `offset -`, upstream points at the sign.
            let span = match work.pending[..] {
                [Pending::Sign { span, .. }] if work.only_operand => span,
                _ => token.span,
            };
            return Err(Fault::new(span, "duration out of range"));
        }
        let node = DurationNode::Literal { seconds, is_duration };
        self.duration_node(work, node, token.span)
    }

    /// The value of a number token, or the seconds of a duration token.
    pub(super) fn literal_value(&self, token: Token) -> Result<f64, Fault> {
        let text = token.text(self.query());
        let value =
            if token.kind == TokenKind::Duration { literal::parse_duration(text) } else { literal::parse_number(text) };
        value.map_err(|message| Fault::new(token.span, message))
    }

    fn duration_node(&mut self, work: &mut Work, node: DurationNode, span: Span) -> Result<(), Fault> {
        self.count_node(span)?;
        work.nodes.push(node);
        work.spans.push(span);
        Ok(())
    }

    fn duration_push(&mut self, work: &mut Work, pending: Pending) -> Result<(), Fault> {
        self.check_depth(work.pending.len())?;
        work.pending.push(pending);
        Ok(())
    }

    fn duration_expect(&mut self, work: &Work, kind: TokenKind) -> Result<Token, Fault> {
        let token = self.peek()?;
        if token.kind != kind {
            return Err(self.duration_fault(work));
        }
        self.take();
        Ok(token)
    }

    fn duration_fault(&mut self, work: &Work) -> Fault {
        self.unexpected(work.place.context, work.place.expected)
    }

    fn require_duration_expressions(&self, span: Span) -> Result<(), Fault> {
        if self.options().duration_expressions {
            return Ok(());
        }
        let message = "experimental duration expression is not enabled";
        Err(Fault::new(span, message))
    }
}

/// A sign binds like `*`, so that `-2 ^ 2` is `-(2 ^ 2)`.
const SIGN_PRECEDENCE: u8 = 5;

fn operator(token: Token) -> Option<(DurationOp, u8)> {
    let TokenKind::Operator(op) = token.kind else {
        return None;
    };
    let duration_op = match op {
        BinaryOp::Add => DurationOp::Add,
        BinaryOp::Sub => DurationOp::Sub,
        BinaryOp::Mul => DurationOp::Mul,
        BinaryOp::Div => DurationOp::Div,
        BinaryOp::Mod => DurationOp::Mod,
        BinaryOp::Pow => DurationOp::Pow,
        _ => return None,
    };
    Some((duration_op, op.precedence()))
}

/// The operand completed last. Only called once there is one.
fn last(work: &Work) -> u32 {
    (work.nodes.len() - 1) as u32
}
