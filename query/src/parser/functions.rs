//! The tables of PromQL functions and aggregation operators.
//!
//! One long file because it is one table. Signatures follow Prometheus 3.14.

use std::fmt;

use super::ast::ValueType::{self, Matrix, Scalar, String, Vector};

/// How many arguments a function takes beyond the fixed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variadic {
    /// Exactly [`Function::arg_types`].
    Fixed,
    /// The last argument type may be absent, or repeat up to this often in all.
    UpTo(usize),
    /// The last argument type may be absent or repeat without end.
    Unbounded,
}

/// The signature of a PromQL function.
#[derive(Debug)]
pub struct Function {
    /// Name as written in a query.
    pub name: &'static str,
    /// Types of the arguments in order.
    pub arg_types: &'static [ValueType],
    /// Whether the last argument is optional or repeats.
    pub variadic: Variadic,
    /// Type of the result.
    pub return_type: ValueType,
    /// Refused unless experimental functions are enabled.
    pub experimental: bool,
}

impl PartialEq for Function {
    /// By name: the table holds each name once.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Function {
    /// The function of that name.
    pub fn find(name: &str) -> Option<&'static Function> {
        FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|idx| &FUNCTIONS[idx])
    }

    /// Every function, sorted by name.
    pub fn all() -> &'static [Function] {
        FUNCTIONS
    }

    const fn new(name: &'static str, arg_types: &'static [ValueType], return_type: ValueType) -> Self {
        Self { name, arg_types, variadic: Variadic::Fixed, return_type, experimental: false }
    }

    const fn variadic(mut self, variadic: Variadic) -> Self {
        self.variadic = variadic;
        self
    }

    const fn experimental(mut self) -> Self {
        self.experimental = true;
        self
    }
}

const fn function(name: &'static str, arg_types: &'static [ValueType], return_type: ValueType) -> Function {
    Function::new(name, arg_types, return_type)
}

const OPTIONAL: Variadic = Variadic::UpTo(1);

/// Sorted by name; `Function::find` searches it by halves.
static FUNCTIONS: &[Function] = &[
    function("abs", &[Vector], Vector),
    function("absent", &[Vector], Vector),
    function("absent_over_time", &[Matrix], Vector),
    function("acos", &[Vector], Vector),
    function("acosh", &[Vector], Vector),
    function("asin", &[Vector], Vector),
    function("asinh", &[Vector], Vector),
    function("atan", &[Vector], Vector),
    function("atanh", &[Vector], Vector),
    function("avg_over_time", &[Matrix], Vector),
    function("ceil", &[Vector], Vector),
    function("changes", &[Matrix], Vector),
    function("clamp", &[Vector, Scalar, Scalar], Vector),
    function("clamp_max", &[Vector, Scalar], Vector),
    function("clamp_min", &[Vector, Scalar], Vector),
    function("cos", &[Vector], Vector),
    function("cosh", &[Vector], Vector),
    function("count_over_time", &[Matrix], Vector),
    function("day_of_month", &[Vector], Vector).variadic(OPTIONAL),
    function("day_of_week", &[Vector], Vector).variadic(OPTIONAL),
    function("day_of_year", &[Vector], Vector).variadic(OPTIONAL),
    function("days_in_month", &[Vector], Vector).variadic(OPTIONAL),
    function("deg", &[Vector], Vector),
    function("delta", &[Matrix], Vector),
    function("deriv", &[Matrix], Vector),
    function("double_exponential_smoothing", &[Matrix, Scalar, Scalar], Vector).experimental(),
    function("end", &[], Scalar).experimental(),
    function("exp", &[Vector], Vector),
    function("first_over_time", &[Matrix], Vector),
    function("floor", &[Vector], Vector),
    function("histogram_avg", &[Vector], Vector),
    function("histogram_count", &[Vector], Vector),
    function("histogram_fraction", &[Scalar, Scalar, Vector], Vector),
    function("histogram_quantile", &[Scalar, Vector], Vector),
    function("histogram_quantiles", &[Vector, String, Scalar, Scalar], Vector)
        .variadic(Variadic::UpTo(9))
        .experimental(),
    function("histogram_stddev", &[Vector], Vector),
    function("histogram_stdvar", &[Vector], Vector),
    function("histogram_sum", &[Vector], Vector),
    function("hour", &[Vector], Vector).variadic(OPTIONAL),
    function("idelta", &[Matrix], Vector),
    function("increase", &[Matrix], Vector),
    function("info", &[Vector, Vector], Vector).variadic(OPTIONAL).experimental(),
    function("irate", &[Matrix], Vector),
    function("label_join", &[Vector, String, String, String], Vector).variadic(Variadic::Unbounded),
    function("label_replace", &[Vector, String, String, String, String], Vector),
    function("last_over_time", &[Matrix], Vector),
    function("ln", &[Vector], Vector),
    function("log10", &[Vector], Vector),
    function("log2", &[Vector], Vector),
    function("mad_over_time", &[Matrix], Vector).experimental(),
    function("max_of", &[Scalar, Scalar], Scalar).experimental(),
    function("max_over_time", &[Matrix], Vector),
    function("min_of", &[Scalar, Scalar], Scalar).experimental(),
    function("min_over_time", &[Matrix], Vector),
    function("minute", &[Vector], Vector).variadic(OPTIONAL),
    function("month", &[Vector], Vector).variadic(OPTIONAL),
    function("pi", &[], Scalar),
    function("predict_linear", &[Matrix, Scalar], Vector),
    function("present_over_time", &[Matrix], Vector),
    function("quantile_over_time", &[Scalar, Matrix], Vector),
    function("rad", &[Vector], Vector),
    function("range", &[], Scalar).experimental(),
    function("rate", &[Matrix], Vector),
    function("resets", &[Matrix], Vector),
    function("round", &[Vector, Scalar], Vector).variadic(OPTIONAL),
    function("scalar", &[Vector], Scalar),
    function("sgn", &[Vector], Vector),
    function("sin", &[Vector], Vector),
    function("sinh", &[Vector], Vector),
    function("sort", &[Vector], Vector),
    function("sort_by_label", &[Vector, String], Vector).variadic(Variadic::Unbounded).experimental(),
    function("sort_by_label_desc", &[Vector, String], Vector).variadic(Variadic::Unbounded).experimental(),
    function("sort_desc", &[Vector], Vector),
    function("sqrt", &[Vector], Vector),
    function("start", &[], Scalar).experimental(),
    function("start_timestamp", &[Vector], Vector).experimental(),
    function("stddev_over_time", &[Matrix], Vector),
    function("stdvar_over_time", &[Matrix], Vector),
    function("step", &[], Scalar).experimental(),
    function("sum_over_time", &[Matrix], Vector),
    function("tan", &[Vector], Vector),
    function("tanh", &[Vector], Vector),
    function("time", &[], Scalar),
    function("timestamp", &[Vector], Vector),
    function("ts_of_first_over_time", &[Matrix], Vector).experimental(),
    function("ts_of_last_over_time", &[Matrix], Vector).experimental(),
    function("ts_of_max_over_time", &[Matrix], Vector).experimental(),
    function("ts_of_min_over_time", &[Matrix], Vector).experimental(),
    function("vector", &[Scalar], Vector),
    function("year", &[Vector], Vector).variadic(OPTIONAL),
];

/// An aggregation operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is named for the operator it stands for")]
pub enum AggregateOp {
    Avg,
    Bottomk,
    Count,
    CountValues,
    Group,
    LimitRatio,
    Limitk,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    Topk,
}

impl AggregateOp {
    /// Every operator, sorted by name.
    pub const ALL: [Self; 14] = [
        Self::Avg,
        Self::Bottomk,
        Self::Count,
        Self::CountValues,
        Self::Group,
        Self::LimitRatio,
        Self::Limitk,
        Self::Max,
        Self::Min,
        Self::Quantile,
        Self::Stddev,
        Self::Stdvar,
        Self::Sum,
        Self::Topk,
    ];

    /// Name as written in a query.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::Bottomk => "bottomk",
            Self::Count => "count",
            Self::CountValues => "count_values",
            Self::Group => "group",
            Self::LimitRatio => "limit_ratio",
            Self::Limitk => "limitk",
            Self::Max => "max",
            Self::Min => "min",
            Self::Quantile => "quantile",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Sum => "sum",
            Self::Topk => "topk",
        }
    }

    /// Type of the argument before the vector, for the operators that take one.
    pub fn param_type(self) -> Option<ValueType> {
        match self {
            Self::Bottomk | Self::LimitRatio | Self::Limitk | Self::Quantile | Self::Topk => Some(Scalar),
            Self::CountValues => Some(String),
            _ => None,
        }
    }

    /// Refused unless experimental functions are enabled.
    pub fn is_experimental(self) -> bool {
        matches!(self, Self::LimitRatio | Self::Limitk)
    }
}

impl fmt::Display for AggregateOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
