//! Words to a tree: an operator-precedence parser with its own stack.
//!
//! Nothing here recurses. What waits for a right side, an argument or a closing parenthesis is a
//! [`Pending`] on a stack; what is complete is a node in the arena. Every word is looked at a
//! bounded number of times, so parsing is linear in the text.

use super::ast::{
    Aggregate, Ast, Binary, BinaryOp, Call, Cardinality, Expr, ExprKind, NodeId, NumberLiteral, Span, Unary, UnaryOp,
    ValueType, VectorMatching,
};
use super::check;
use super::error::{Fault, ParseError};
use super::functions::{AggregateOp, Function};
use super::lexer::Lexer;
use super::options::ParseOptions;
use super::quote::{quoted, unquote};
use super::token::{Keyword, QueryWord, Token, TokenKind};

/// Parses and type-checks an expression.
///
/// Takes time linear in the length of `query`, and bounded stack.
///
/// # Errors
/// The first fault, worded and placed as Prometheus does, or a limit of `options` that `query`
/// is over.
pub fn parse(query: &str, options: &ParseOptions) -> Result<Ast, ParseError> {
    parse_expression(query, options).map_err(|fault| ParseError::new(query, fault.span, fault.message))
}

fn parse_expression(query: &str, options: &ParseOptions) -> Result<Ast, Fault> {
    let mut parser = Parser::new(query, options)?;
    parser.expression()?;
    let may_be_unselective = std::mem::take(&mut parser.unselective);
    let mut nodes = parser.nodes;
    check::check(query, &mut nodes, &may_be_unselective)?;
    Ok(Ast::from_nodes(nodes))
}

/// Something begun and not yet complete.
enum Pending {
    Sign { op: UnaryOp, start: u32 },
    Binary { lhs: NodeId, op: BinaryOp, return_bool: bool, matching: Option<Box<VectorMatching>> },
    Paren { start: u32 },
    Call { name: Span, args: Vec<NodeId> },
    Aggregate(Box<PendingAggregate>),
}

struct PendingAggregate {
    op: AggregateOp,
    start: u32,
    /// The labels of `by` (`false`) or `without` (`true`), if they came before the arguments.
    grouping: Option<(Vec<String>, bool)>,
    args: Vec<NodeId>,
}

pub(super) struct Parser<'a> {
    query: &'a str,
    options: &'a ParseOptions,
    lexer: Lexer<'a>,
    peeked: Option<Token>,
    /// End of the word taken last.
    taken_end: u32,
    nodes: Vec<Expr>,
    /// Nodes of expressions and durations.
    node_count: usize,
    pending: Vec<Pending>,
    /// How many of `pending` are aggregations: an error inside one is said to be in it.
    aggregates_open: usize,
    /// Selectors without a name whose matchers all match the empty string, by rising id.
    pub(super) unselective: Vec<NodeId>,
    regex_count: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(query: &'a str, options: &'a ParseOptions) -> Result<Self, Fault> {
        let bytes_max = options.bytes_max.min(u32::MAX as usize);
        if query.len() > bytes_max {
            let message =
                format!("query is {} bytes long, over the limit of {bytes_max} bytes, which is fixed", query.len());
            return Err(Fault::new(Span::default(), message));
        }
        Ok(Self {
            query,
            options,
            lexer: Lexer::new(query),
            peeked: None,
            taken_end: 0,
            nodes: Vec::new(),
            node_count: 0,
            pending: Vec::new(),
            aggregates_open: 0,
            unselective: Vec::new(),
            regex_count: 0,
        })
    }

    pub(super) fn query(&self) -> &'a str {
        self.query
    }

    pub(super) fn options(&self) -> &'a ParseOptions {
        self.options
    }

    /// The next word, which stays next.
    pub(super) fn peek(&mut self) -> Result<Token, Fault> {
        match self.peeked {
            Some(token) => Ok(token),
            None => {
                let token = self.lexer.next_token()?;
                self.peeked = Some(token);
                Ok(token)
            }
        }
    }

    /// Passes over the word peeked at.
    pub(super) fn take(&mut self) {
        if let Some(token) = self.peeked.take() {
            self.taken_end = token.span.end;
        }
    }

    /// End of the word taken last.
    pub(super) fn taken_end(&self) -> u32 {
        self.taken_end
    }

    /// The complaint about the next word, or about its not being a word.
    pub(super) fn unexpected(&mut self, context: &str, expected: &str) -> Fault {
        let token = match self.peek() {
            Ok(token) => token,
            Err(fault) => return fault,
        };
        let mut message = format!("unexpected {}", token.describe(self.query));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        Fault::new(token.span, message)
    }

    fn unexpected_here(&mut self) -> Fault {
        let inside = self.aggregates_open > 0;
        self.unexpected(if inside { "aggregation" } else { "" }, "")
    }

    pub(super) fn check_depth(&self, depth: usize) -> Result<(), Fault> {
        let depth_max = self.options.depth_max;
        if depth < depth_max {
            return Ok(());
        }
        let span = self.peeked.map_or_else(Span::default, |token| token.span);
        let message =
            format!("expression nests deeper than the limit of {depth_max} levels, which is fixed; ask in parts");
        Err(Fault::new(span, message))
    }

    pub(super) fn count_node(&mut self, span: Span) -> Result<(), Fault> {
        let nodes_max = self.options.nodes_max;
        if self.node_count >= nodes_max {
            let message = format!(
                "expression has more operators and operands than the limit of {nodes_max}, which is fixed; ask in parts"
            );
            return Err(Fault::new(span, message));
        }
        self.node_count += 1;
        Ok(())
    }

    pub(super) fn count_regex(&mut self, span: Span) -> Result<(), Fault> {
        let regexes_max = self.options.regexes_max;
        if self.regex_count >= regexes_max {
            let message = format!(
                "expression has more regular expressions than the limit of {regexes_max}, which is fixed; ask in parts"
            );
            return Err(Fault::new(span, message));
        }
        self.regex_count += 1;
        Ok(())
    }

    pub(super) fn push_node(&mut self, kind: ExprKind, span: Span, value_type: ValueType) -> Result<NodeId, Fault> {
        self.count_node(span)?;
        self.nodes.push(Expr { kind, span, value_type });
        Ok(self.last())
    }

    /// The node completed last: the operand on the left of whatever comes next.
    pub(super) fn last(&self) -> NodeId {
        NodeId(self.nodes.len().saturating_sub(1) as u32)
    }

    pub(super) fn last_mut(&mut self) -> &mut Expr {
        let idx = self.nodes.len() - 1;
        &mut self.nodes[idx]
    }

    fn node(&self, id: NodeId) -> &Expr {
        &self.nodes[id.idx()]
    }

    fn push_pending(&mut self, pending: Pending) -> Result<(), Fault> {
        self.check_depth(self.pending.len())?;
        if matches!(pending, Pending::Aggregate(_)) {
            self.aggregates_open += 1;
        }
        self.pending.push(pending);
        Ok(())
    }

    fn expression(&mut self) -> Result<(), Fault> {
        if self.peek()?.kind == TokenKind::Eof {
            let start = Span::default();
            return Err(Fault::new(start, "no expression found in input"));
        }
        loop {
            self.operand()?;
            if !self.continuation()? {
                return Ok(());
            }
        }
    }

    /// Reads signs and openings up to and including one complete operand.
    fn operand(&mut self) -> Result<(), Fault> {
        loop {
            let token = self.peek()?;
            match token.kind {
                TokenKind::Number | TokenKind::Duration => {
                    self.take();
                    let literal = NumberLiteral {
                        value: self.literal_value(token)?,
                        is_duration: token.kind == TokenKind::Duration,
                    };
                    let kind = ExprKind::NumberLiteral(literal);
                    self.push_node(kind, token.span, ValueType::Scalar)?;
                    return Ok(());
                }
                TokenKind::String => {
                    self.take();
                    let text = unquote(token.text(self.query)).into_boxed_str();
                    let kind = ExprKind::StringLiteral(text);
                    self.push_node(kind, token.span, ValueType::String)?;
                    return Ok(());
                }
                TokenKind::LeftParen => {
                    self.take();
                    let start = token.span.start;
                    self.push_pending(Pending::Paren { start })?;
                }
                TokenKind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                    self.take();
                    let op = if op == BinaryOp::Sub { UnaryOp::Minus } else { UnaryOp::Plus };
                    let start = token.span.start;
                    self.push_pending(Pending::Sign { op, start })?;
                }
                TokenKind::LeftBrace => return self.selector(None),
                TokenKind::Aggregate(op) => {
                    self.take();
                    if !self.aggregate_or_name(op, token)? {
                        return Ok(());
                    }
                }
                TokenKind::Identifier | TokenKind::Query(_) => {
                    self.take();
                    if self.peek()?.kind != TokenKind::LeftParen {
                        return self.selector(Some(token));
                    }
                    self.take();
                    let name = token.span;
                    let args = Vec::new();
                    self.push_pending(Pending::Call { name, args })?;
                    if self.close_empty()? {
                        return Ok(());
                    }
                }
                _ if token.can_name_metric() => {
                    self.take();
                    return self.selector(Some(token));
                }
                _ => return Err(self.unexpected_here()),
            }
        }
    }

    /// After an aggregation operator's name. `false` if that was a complete operand: a metric of
    /// that name, or a call without arguments, which is an error.
    fn aggregate_or_name(&mut self, op: AggregateOp, token: Token) -> Result<bool, Fault> {
        let grouping = match self.peek()?.kind {
            TokenKind::LeftParen => None,
            TokenKind::Keyword(keyword @ (Keyword::By | Keyword::Without)) => {
                self.take();
                let labels = self.grouping()?;
                Some((labels, keyword == Keyword::Without))
            }
            _ => {
                self.selector(Some(token))?;
                return Ok(false);
            }
        };
        if self.peek()?.kind != TokenKind::LeftParen {
            return Err(self.unexpected("aggregation", ""));
        }
        self.take();
        self.push_pending(Pending::Aggregate(Box::new(PendingAggregate {
            op,
            start: token.span.start,
            grouping,
            args: Vec::new(),
        })))?;
        Ok(!self.close_empty()?)
    }

    /// Right after the `(` of a call: whether it is closed at once.
    fn close_empty(&mut self) -> Result<bool, Fault> {
        if self.peek()?.kind != TokenKind::RightParen {
            return Ok(false);
        }
        self.close()?;
        Ok(true)
    }

    /// After an operand: takes modifiers and closings, then an operator or comma, and tells
    /// whether an operand must follow.
    fn continuation(&mut self) -> Result<bool, Fault> {
        loop {
            let token = self.peek()?;
            match token.kind {
                TokenKind::LeftBracket => self.bracket()?,
                TokenKind::At => self.at()?,
                TokenKind::Keyword(Keyword::Offset) => self.offset()?,
                TokenKind::Keyword(keyword @ (Keyword::Anchored | Keyword::Smoothed)) => {
                    self.range_extension(keyword)?;
                }
                TokenKind::Operator(op) => {
                    self.take();
                    let (return_bool, matching) = self.modifiers()?;
                    // `^` groups to the right, all others to the left.
                    let right = op == BinaryOp::Pow;
                    self.reduce(op.precedence() + u8::from(right))?;
                    let lhs = self.last();
                    self.push_pending(Pending::Binary { lhs, op, return_bool, matching })?;
                    return Ok(true);
                }
                TokenKind::RightParen => {
                    self.reduce(0)?;
                    self.close()?;
                }
                TokenKind::Comma => {
                    self.reduce(0)?;
                    self.comma(token)?;
                    return Ok(true);
                }
                TokenKind::Eof => {
                    self.reduce(0)?;
                    return if self.pending.is_empty() { Ok(false) } else { Err(self.unexpected_here()) };
                }
                _ => return Err(self.unexpected_here()),
            }
        }
    }

    /// Completes waiting signs and operators that bind at least as tightly as `precedence`.
    fn reduce(&mut self, precedence: u8) -> Result<(), Fault> {
        while let Some(top) = self.pending.last() {
            let waiting = match top {
                Pending::Sign { .. } => SIGN_PRECEDENCE,
                Pending::Binary { op, .. } => op.precedence(),
                _ => return Ok(()),
            };
            if waiting < precedence {
                return Ok(());
            }
            match self.pending.pop() {
                Some(Pending::Sign { op, start }) => self.sign(op, start)?,
                Some(Pending::Binary { lhs, op, return_bool, matching }) => {
                    self.binary(lhs, op, return_bool, matching)?
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn sign(&mut self, op: UnaryOp, start: u32) -> Result<(), Fault> {
        let expr = self.last();
        let operand = self.last_mut();
        let span = Span::new(start, operand.span.end);
        if let ExprKind::NumberLiteral(literal) = &mut operand.kind {
            if op == UnaryOp::Minus {
                literal.value = -literal.value;
            }
            operand.span = span;
            return Ok(());
        }
        let value_type = operand.value_type;
        self.push_node(ExprKind::Unary(Unary { op, expr }), span, value_type)?;
        Ok(())
    }

    fn binary(
        &mut self,
        lhs: NodeId,
        op: BinaryOp,
        return_bool: bool,
        matching: Option<Box<VectorMatching>>,
    ) -> Result<(), Fault> {
        let rhs = self.last();
        let span = self.node(lhs).span.to(self.node(rhs).span);
        let is_filling = matching.as_ref().is_some_and(|matching| matching.fill_left.or(matching.fill_right).is_some());
        if is_filling && !self.options.fill_modifiers {
            let message = "binop fill modifiers are experimental and not enabled";
            return Err(Fault::new(span, message));
        }
        let scalars = [lhs, rhs].map(|id| self.node(id).value_type == ValueType::Scalar);
        let value_type = if scalars == [true, true] { ValueType::Scalar } else { ValueType::Vector };
        let kind = ExprKind::Binary(Binary { op, lhs, rhs, return_bool, matching });
        self.push_node(kind, span, value_type)?;
        Ok(())
    }

    /// `bool`, `on`, `group_left`, `fill` and their like, after an operator.
    fn modifiers(&mut self) -> Result<(bool, Option<Box<VectorMatching>>), Fault> {
        let mut return_bool = false;
        let mut matching = VectorMatching::default();
        let mut is_given = false;
        if self.take_keyword(Keyword::Bool)? {
            return_bool = true;
        }
        if let TokenKind::Keyword(keyword @ (Keyword::On | Keyword::Ignoring)) = self.peek()?.kind {
            self.take();
            is_given = true;
            matching.on = keyword == Keyword::On;
            matching.labels = self.grouping()?;
            if let TokenKind::Keyword(side @ (Keyword::GroupLeft | Keyword::GroupRight)) = self.peek()?.kind {
                self.take();
                matching.card =
                    if side == Keyword::GroupLeft { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if self.peek()?.kind == TokenKind::LeftParen {
                    matching.include = self.grouping()?;
                }
            }
        }
        if self.take_keyword(Keyword::Fill)? {
            let value = Some(self.fill_value()?);
            (matching.fill_left, matching.fill_right) = (value, value);
        } else if self.take_keyword(Keyword::FillLeft)? {
            matching.fill_left = Some(self.fill_value()?);
            if self.take_keyword(Keyword::FillRight)? {
                matching.fill_right = Some(self.fill_value()?);
            }
        } else if self.take_keyword(Keyword::FillRight)? {
            matching.fill_right = Some(self.fill_value()?);
            if self.take_keyword(Keyword::FillLeft)? {
                matching.fill_left = Some(self.fill_value()?);
            }
        }
        is_given |= matching.fill_left.or(matching.fill_right).is_some();
        Ok((return_bool, is_given.then(|| Box::new(matching))))
    }

    fn take_keyword(&mut self, keyword: Keyword) -> Result<bool, Fault> {
        let found = self.peek()?.kind == TokenKind::Keyword(keyword);
        if found {
            self.take();
        }
        Ok(found)
    }

    fn fill_value(&mut self) -> Result<f64, Fault> {
        self.expect(TokenKind::LeftParen)?;
        let value = match self.signed_number()? {
            Some(value) => value,
            None => return Err(self.unexpected_here()),
        };
        self.expect(TokenKind::RightParen)?;
        Ok(value)
    }

    /// A number or duration with at most one sign; `None` if something else comes.
    pub(super) fn signed_number(&mut self) -> Result<Option<f64>, Fault> {
        let mut token = self.peek()?;
        let mut is_negative = false;
        if let TokenKind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) = token.kind {
            self.take();
            is_negative = op == BinaryOp::Sub;
            token = self.peek()?;
        }
        if !matches!(token.kind, TokenKind::Number | TokenKind::Duration) {
            return Ok(None);
        }
        self.take();
        let value = self.literal_value(token)?;
        Ok(Some(if is_negative { -value } else { value }))
    }

    fn expect(&mut self, kind: TokenKind) -> Result<(), Fault> {
        if self.peek()?.kind != kind {
            return Err(self.unexpected_here());
        }
        self.take();
        Ok(())
    }

    /// At a comma between arguments.
    fn comma(&mut self, comma: Token) -> Result<(), Fault> {
        let arg = self.last();
        match self.pending.last_mut() {
            Some(Pending::Call { args, .. }) => args.push(arg),
            Some(Pending::Aggregate(aggregate)) => aggregate.args.push(arg),
            _ => return Err(self.unexpected_here()),
        }
        self.take();
        let next = self.peek()?;
        let starts_operand = matches!(
            next.kind,
            TokenKind::Number
                | TokenKind::Duration
                | TokenKind::String
                | TokenKind::LeftParen
                | TokenKind::LeftBrace
                | TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub)
        );
        if starts_operand || next.can_name_metric() {
            return Ok(());
        }
        let message = "trailing commas not allowed in function call args";
        Err(Fault::new(comma.span, message))
    }

    /// At a closing parenthesis: completes what it closes. The operand before it, if any, is the
    /// last node.
    fn close(&mut self) -> Result<(), Fault> {
        let close = self.peek()?;
        let inner = self.last();
        // Right after `(` there is no operand. Parentheses cannot be empty, so it is a call.
        let is_empty = self.taken_end_is_open();
        match self.pending.pop() {
            Some(Pending::Paren { start }) => {
                self.take();
                let value_type = self.node(inner).value_type;
                let span = Span::new(start, close.span.end);
                self.push_node(ExprKind::Paren(inner), span, value_type)?;
            }
            Some(Pending::Call { name, mut args }) => {
                self.take();
                if !is_empty {
                    args.push(inner);
                }
                self.call(name, args, close.span)?;
            }
            Some(Pending::Aggregate(mut aggregate)) => {
                self.take();
                self.aggregates_open -= 1;
                if !is_empty {
                    aggregate.args.push(inner);
                }
                self.aggregate(*aggregate)?;
            }
            _ => return Err(self.unexpected_here()),
        }
        Ok(())
    }

    /// Whether the word taken last is an opening parenthesis.
    fn taken_end_is_open(&self) -> bool {
        self.query.as_bytes().get(self.taken_end as usize - 1) == Some(&b'(')
    }

    fn call(&mut self, name: Span, args: Vec<NodeId>, close: Span) -> Result<(), Fault> {
        let text = &self.query[name.start as usize..name.end as usize];
        let Some(function) = Function::find(text) else {
            let message = format!("unknown function with name {}", quoted(text));
            return Err(Fault::new(name, message));
        };
        if function.experimental && !self.options.experimental_functions {
            let message = format!("function {} is not enabled", quoted(text));
            return Err(Fault::new(name, message));
        }
        let kind = ExprKind::Call(Call { function, args: args.into_boxed_slice() });
        self.push_node(kind, name.to(close), function.return_type)?;
        Ok(())
    }

    fn aggregate(&mut self, pending: PendingAggregate) -> Result<(), Fault> {
        let PendingAggregate { op, start, mut grouping, args } = pending;
        if grouping.is_none()
            && let TokenKind::Keyword(keyword @ (Keyword::By | Keyword::Without)) = self.peek()?.kind
        {
            self.take();
            grouping = Some((self.grouping()?, keyword == Keyword::Without));
        }
        let span = Span::new(start, self.taken_end);
        let (grouping, without) = grouping.unwrap_or_default();
        if args.is_empty() {
            let message = "no arguments for aggregate expression provided";
            return Err(Fault::new(span, message));
        }
        if op.is_experimental() && !self.options.experimental_functions {
            let message = format!(
                "{op}() is experimental and must be enabled with --enable-feature=promql-experimental-functions"
            );
            return Err(Fault::new(span, message));
        }
        let (param, expr) = match (op.param_type().is_some(), &args[..]) {
            (false, &[expr]) => (None, expr),
            (true, &[param, expr]) => (Some(param), expr),
            (has_param, _) => {
                let message = format!(
                    "wrong number of arguments for aggregate expression provided, expected {}, got {}",
                    1 + usize::from(has_param),
                    args.len()
                );
                return Err(Fault::new(span, message));
            }
        };
        let kind = ExprKind::Aggregate(Box::new(Aggregate { op, expr, param, grouping, without }));
        self.push_node(kind, span, ValueType::Vector)?;
        Ok(())
    }
}

/// A sign binds like `*`, so that `-2 ^ 2` is `-(2 ^ 2)`.
const SIGN_PRECEDENCE: u8 = 5;

/// `start` or `end`, after `@`.
pub(super) fn is_query_bound(token: Token) -> bool {
    matches!(token.kind, TokenKind::Query(QueryWord::Start | QueryWord::End))
}
