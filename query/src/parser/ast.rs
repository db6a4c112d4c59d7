//! The parsed form of a PromQL expression.
//!
//! Nodes live in one vector, the arena of an [`Ast`], and name each other by [`NodeId`]. A query
//! comes from outside and may be ten thousand operators deep, so nothing that touches a tree may
//! recurse on it. An arena makes that the natural way to write it: dropping is dropping a vector,
//! and visiting children before parents is a loop over the vector in order.
//!
//! Invariants:
//! 1. Every child's id is smaller than its parent's, so index order is a post-order.
//! 2. Every node but the root is the child of exactly one node; the root is the last node.
//! 3. A parsed tree is well typed: a consumer may rely on the argument types of
//!    [`Function::arg_types`] and on [`Binary::matching`] being set exactly when both sides are
//!    instant vectors.

use std::fmt;
use std::ops::Index;

pub use kymo_core::MatchOp;

use super::duration::DurationExpr;
use super::functions::{AggregateOp, Function};

/// A half-open range of bytes of the query text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

impl Span {
    /// The range `[start, end)`.
    pub fn new(start: u32, end: u32) -> Self {
        Self { start, end }
    }

    /// From the start of `self` to the end of `last`.
    pub fn to(self, last: Span) -> Self {
        Self::new(self.start, last.end)
    }
}

/// Names a node of one [`Ast`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// Position of the node in [`Ast::nodes`].
    pub fn idx(self) -> usize {
        self.0 as usize
    }
}

/// The type an expression evaluates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number per step.
    Scalar,
    /// Series with at most one sample per step.
    Vector,
    /// Series with a window of samples per step.
    Matrix,
    /// A string literal.
    String,
}

impl ValueType {
    /// The name the HTTP API gives the type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }

    /// The name the PromQL documentation and its type errors give the type.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One node of an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What the node is.
    pub kind: ExprKind,
    /// The text the node was parsed from, modifiers included.
    pub span: Span,
    /// What the node evaluates to.
    pub value_type: ValueType,
}

/// The kinds of node. Large payloads are boxed so that chains of operators stay compact.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `1.5`, `0x1f`, `Inf`, `5m` (seconds).
    NumberLiteral(NumberLiteral),
    /// `"text"`.
    StringLiteral(Box<str>),
    /// `http_requests_total{job="api"} offset 5m`.
    VectorSelector(Box<VectorSelector>),
    /// `http_requests_total[5m]`.
    MatrixSelector(Box<MatrixSelector>),
    /// `rate(x[5m])[1h:1m]`.
    Subquery(Box<Subquery>),
    /// `rate(x[5m])`.
    Call(Call),
    /// `sum by (job) (x)`.
    Aggregate(Box<Aggregate>),
    /// `a + on (job) b`.
    Binary(Binary),
    /// `-x`.
    Unary(Unary),
    /// `(x)`.
    Paren(NodeId),
}

/// A number, or a duration standing for its seconds.
#[derive(Clone, Copy, Debug)]
pub struct NumberLiteral {
    /// The value; durations in seconds.
    pub value: f64,
    /// Written with units (`5m`), and printed so again.
    pub is_duration: bool,
}

impl PartialEq for NumberLiteral {
    fn eq(&self, other: &Self) -> bool {
        same_number(self.value, other.value) && self.is_duration == other.is_duration
    }
}

/// The point in time that `@` pins a selector to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// `@ 1609746000`; ms since the Unix epoch.
    Timestamp(i64),
    /// `@ start()`: the first step of the query.
    Start,
    /// `@ end()`: the last step of the query.
    End,
}

/// One condition on a label. A regular expression is known to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMatcher {
    /// Label name, `__name__` for the metric name.
    pub name: String,
    /// The comparison.
    pub op: MatchOp,
    /// The value or regular expression, unquoted.
    pub value: String,
    /// The text it was parsed from.
    pub span: Span,
}

/// Samples past the edges of a range that an extended range selector takes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RangeExtension {
    /// Only samples inside the range.
    #[default]
    None,
    /// `anchored`: the last sample before the range counts as its first.
    Anchored,
    /// `smoothed`: values at both edges are interpolated.
    Smoothed,
}

/// Selects one sample per series and step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VectorSelector {
    /// The metric name if it was written before the braces.
    pub name: Option<String>,
    /// All conditions; the one that [`VectorSelector::name`] stands for is included and last.
    pub matchers: Vec<LabelMatcher>,
    /// `offset`; `None` if not written.
    pub offset: Option<DurationExpr>,
    /// `@`; `None` if not written.
    pub at: Option<At>,
    /// `anchored` or `smoothed`.
    pub extension: RangeExtension,
    /// Second argument of `info`: its matchers may all match the empty string.
    pub may_match_empty: bool,
}

/// Selects a window of samples per series and step.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// The series, with the modifiers written after the range.
    pub selector: VectorSelector,
    /// The window's length.
    pub range: DurationExpr,
}

/// Evaluates an expression over a grid of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// The expression, an instant vector.
    pub expr: NodeId,
    /// The window's length.
    pub range: DurationExpr,
    /// The grid's step; `None` means the engine's default evaluation interval.
    pub step: Option<DurationExpr>,
    /// `offset`; `None` if not written.
    pub offset: Option<DurationExpr>,
    /// `@`; `None` if not written.
    pub at: Option<At>,
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function.
    pub function: &'static Function,
    /// Arguments in order; optional ones may be missing.
    pub args: Box<[NodeId]>,
}

/// An aggregation over an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// The vector.
    pub expr: NodeId,
    /// The first argument of `topk`, `quantile`, `count_values` and their like.
    pub param: Option<NodeId>,
    /// Labels named by `by` or `without`, in the order written.
    pub grouping: Vec<String>,
    /// `grouping` names the labels to drop rather than those to keep.
    pub without: bool,
}

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is named for the operator it stands for")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    And,
    Or,
    Unless,
    /// `</`: keeps the observations of a native histogram below a bound.
    TrimUpper,
    /// `>/`: keeps the observations of a native histogram above a bound.
    TrimLower,
}

impl BinaryOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    /// `==`, `!=`, `>`, `>=`, `<`, `<=`.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal | Self::NotEqual | Self::Greater | Self::GreaterOrEqual | Self::Less | Self::LessOrEqual
        )
    }

    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// How tightly it binds: from 1 (`or`) to 6 (`^`).
    pub(super) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Equal
            | Self::NotEqual
            | Self::Greater
            | Self::GreaterOrEqual
            | Self::Less
            | Self::LessOrEqual
            | Self::TrimUpper
            | Self::TrimLower => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
        }
    }
}

impl fmt::Display for BinaryOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An operation between two expressions.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left side.
    pub lhs: NodeId,
    /// Right side.
    pub rhs: NodeId,
    /// `bool`: a comparison answers 0 or 1 rather than filtering.
    pub return_bool: bool,
    /// How series of both sides find each other; set exactly when both sides are instant vectors.
    pub matching: Option<Box<VectorMatching>>,
}

/// How many series of one side may meet one of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cardinality {
    /// Each series meets at most one.
    #[default]
    OneToOne,
    /// `group_left`: many series of the left side per series of the right.
    ManyToOne,
    /// `group_right`: many series of the right side per series of the left.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How the series of two instant vectors find each other.
#[derive(Clone, Debug, Default)]
pub struct VectorMatching {
    /// How many may meet.
    pub card: Cardinality,
    /// Labels named by `on` or `ignoring`, in the order written.
    pub labels: Vec<String>,
    /// `labels` are those to match by, rather than those to leave out.
    pub on: bool,
    /// Labels of the "one" side that the result takes over.
    pub include: Vec<String>,
    /// Value for a series missing on the left side.
    pub fill_left: Option<f64>,
    /// Value for a series missing on the right side.
    pub fill_right: Option<f64>,
}

impl PartialEq for VectorMatching {
    fn eq(&self, other: &Self) -> bool {
        let same_fill = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => same_number(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        self.card == other.card
            && self.labels == other.labels
            && self.on == other.on
            && self.include == other.include
            && same_fill(self.fill_left, other.fill_left)
            && same_fill(self.fill_right, other.fill_right)
    }
}

/// Whether two literals are written alike: by bits, except that there is one way to write `NaN`.
pub(super) fn same_number(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// A sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `+x`, which changes nothing.
    Plus,
    /// `-x`.
    Minus,
}

/// A sign before an expression. Signs before number literals are part of the literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unary {
    /// The sign.
    pub op: UnaryOp,
    /// The expression, a scalar or an instant vector.
    pub expr: NodeId,
}

/// A parsed and type-checked expression.
///
/// `Display` prints its canonical text, which parses to an equal tree (up to spans).
#[derive(Clone, Debug, PartialEq)]
pub struct Ast {
    pub(super) nodes: Vec<Expr>,
}

impl Ast {
    /// Takes nodes that satisfy the module's invariants; the last is the root.
    pub(super) fn from_nodes(nodes: Vec<Expr>) -> Self {
        assert!(!nodes.is_empty(), "an expression has at least one node");
        Self { nodes }
    }

    /// The outermost node.
    pub fn root(&self) -> NodeId {
        NodeId((self.nodes.len() - 1) as u32)
    }

    /// The node of an id of this tree.
    pub fn node(&self, id: NodeId) -> &Expr {
        &self.nodes[id.idx()]
    }

    /// Every node, children before parents; the last is the root.
    pub fn nodes(&self) -> &[Expr] {
        &self.nodes
    }

    /// Every id with its node, children before parents.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Expr)> + ExactSizeIterator {
        self.nodes.iter().enumerate().map(|(idx, node)| (NodeId(idx as u32), node))
    }

    /// What the whole expression evaluates to.
    pub fn value_type(&self) -> ValueType {
        self.node(self.root()).value_type
    }

    /// Strips any parentheses around a node.
    pub fn unwrap_parens(&self, mut id: NodeId) -> NodeId {
        while let ExprKind::Paren(inner) = self.node(id).kind {
            id = inner;
        }
        id
    }
}

impl Index<NodeId> for Ast {
    type Output = Expr;

    fn index(&self, id: NodeId) -> &Expr {
        self.node(id)
    }
}

impl Expr {
    /// Calls `visit` with each child, in the order written.
    pub fn for_each_child(&self, mut visit: impl FnMut(NodeId)) {
        match &self.kind {
            ExprKind::NumberLiteral(_)
            | ExprKind::StringLiteral(_)
            | ExprKind::VectorSelector(_)
            | ExprKind::MatrixSelector(_) => {}
            ExprKind::Subquery(subquery) => visit(subquery.expr),
            ExprKind::Call(call) => call.args.iter().copied().for_each(visit),
            ExprKind::Aggregate(aggregate) => {
                aggregate.param.into_iter().for_each(&mut visit);
                visit(aggregate.expr);
            }
            ExprKind::Binary(binary) => {
                visit(binary.lhs);
                visit(binary.rhs);
            }
            ExprKind::Unary(unary) => visit(unary.expr),
            ExprKind::Paren(inner) => visit(*inner),
        }
    }
}
