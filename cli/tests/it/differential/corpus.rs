//! The expressions: every function, aggregation and operator over every family of series with every modifier,
//! and compositions of those, drawn from a seed.

use std::collections::BTreeMap;

use kymo_core::random::{Random, SeededRandom};

use super::data::{LENGTH_MS, START_MS};

/// A time within the data, in seconds, for `@`.
const PINNED: i64 = START_MS / 1000 + 2_917;

/// Families of float series.
const FLOATS: [&str; 13] = [
    "requests_total",
    "errors_total",
    "temperature",
    "level",
    "limits",
    "churn",
    "sparse",
    "latency_seconds_bucket",
    "moment",
    "extreme",
    "target_info",
    "{\"odd.name\"}",
    "requests_total{code=~\"2..|500\",instance!=\"i1\"}",
];
/// Families with histograms.
const HISTOGRAMS: [&str; 7] =
    ["nh", "nhcb", "nh_float", "nh_gauge", "mixed", "nh{job!~\"d.*\"}", "{__name__=~\"nh.*|level\",job=\"api\"}"];

const MODIFIERS: [&str; 7] = ["", "", " offset 4m", " offset -75s", " @ PIN", " @ start()", " @ end() offset 2m"];

const OVER_TIME: [&str; 22] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "sum_over_time",
    "avg_over_time",
    "count_over_time",
    "min_over_time",
    "max_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "last_over_time",
    "present_over_time",
    "absent_over_time",
    "mad_over_time",
    "ts_of_min_over_time",
    "ts_of_max_over_time",
    "ts_of_last_over_time",
];
const OF_VECTORS: [&str; 44] = [
    "abs",
    "absent",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "deg",
    "exp",
    "floor",
    "histogram_avg",
    "histogram_count",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "hour",
    "info",
    "ln",
    "log10",
    "log2",
    "minute",
    "month",
    "rad",
    "round",
    "sgn",
    "sin",
    "sinh",
    "sort",
    "sort_desc",
    "sqrt",
    "tan",
    "tanh",
    "timestamp",
    "year",
    "-",
    "+",
];
const AGGREGATIONS: [&str; 8] = ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"];
const PARAMETERS: [(&str, &[&str]); 6] = [
    ("topk", &["0", "1", "3", "100", "-1", "2.7", "scalar(limits{job=\"db\"}) + 6"]),
    ("bottomk", &["0", "1", "3", "100", "2.7"]),
    ("quantile", &["0", "0.5", "0.99", "1", "-0.5", "1.5", "NaN"]),
    ("count_values", &["\"value\"", "\"job\""]),
    ("limitk", &["0", "1", "2", "50"]),
    ("limit_ratio", &["0", "0.5", "-0.3", "1", "1.5", "-1.5"]),
];
const GROUPINGS: [&str; 7] = [
    "",
    " by (job)",
    " by (job, instance)",
    " without (instance)",
    " by (nothing)",
    " without (job, le)",
    " by (__name__)",
];
const ARITHMETIC: [&str; 7] = ["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: [&str; 12] =
    ["==", "!=", ">", "<", ">=", "<=", "== bool", "!= bool", "> bool", "< bool", ">= bool", "<= bool"];
const SETS: [&str; 3] = ["and", "or", "unless"];
/// Two sides and how they match, with `OP` between.
const PAIRS: [&str; 26] = [
    "requests_total OP requests_total offset 1m",
    "errors_total OP ignoring (code) requests_total{code=\"500\"}",
    "requests_total OP ignoring (code) group_left errors_total",
    "errors_total OP ignoring (code) group_right requests_total",
    "requests_total OP on (job) group_left (team) owner",
    "owner OP on (job) group_right (team) temperature",
    "temperature{room=\"a\"} OP ignoring (room) temperature{room=\"b\"}",
    "temperature OP on (job, instance) group_left level",
    "level OP on (job, instance) level offset 3m",
    "level OP limits",
    "level OP on (job) group_left () limits",
    "sum by (job) (level) OP on (job) limits",
    "churn OP on (job) group_left () limits",
    "nh OP nh offset 2m",
    "nh OP on (job, instance) nhcb",
    "nhcb OP on (job) group_left () nh_float",
    "nhcb{instance=\"i0\"} OP ignoring (instance) nhcb{instance=\"i1\"}",
    "nh OP on (job, instance) level",
    "level OP on (job, instance) nh",
    "mixed OP mixed offset 10m",
    "nh OP 2",
    "2 OP nh",
    "extreme OP 0.5",
    "-1 OP extreme",
    "temperature OP scalar(limits{job=\"api\"})",
    "requests_total OP on (job) errors_total",
];
/// Whole expressions that no pattern makes.
const SINGLES: [&str; 77] = [
    "time()",
    "pi()",
    "vector(1)",
    "vector(time())",
    "scalar(limits)",
    "scalar(limits{job=\"db\"})",
    "1 + 2 * 3 ^ 2 % 5",
    "1 / 0",
    "-(0 / 0)",
    "2 ^ 3 ^ 2",
    "-2 ^ 2",
    "1 == bool 1",
    "5m",
    "1h30m / 60",
    "\"a string\"",
    "minute()",
    "hour()",
    "day_of_week()",
    "day_of_year()",
    "days_in_month()",
    "month()",
    "year()",
    "absent(nothing)",
    "absent(nothing{job=\"x\",a!=\"b\",c=~\"d\"})",
    "absent(nothing{job=\"x\",job=\"y\"})",
    "absent(sum(nothing{job=\"x\"}))",
    "absent_over_time(nothing{job=\"x\"}[5m])",
    "absent_over_time(rate(nothing[5m])[5m:])",
    "label_replace(level, \"to\", \"$1-$2\", \"job\", \"(.)(.*)\")",
    "label_replace(level, \"job\", \"\", \"job\", \"api\")",
    "label_replace(level, \"to\", \"${a}x\", \"instance\", \"(?P<a>i.)\")",
    "label_replace(level, \"__name__\", \"renamed\", \"job\", \".*\")",
    "label_replace(level, \"job\", \"same\", \"job\", \".*\")",
    "label_replace(level, \"to\", \"$1\", \"job\", \"(\")",
    "label_replace(level, \"\", \"$1\", \"job\", \".*\")",
    "label_replace(level, \"dotted.name\", \"$0\", \"job\", \".*\")",
    "label_join(level, \"to\", \"-\", \"job\", \"instance\", \"none\")",
    "label_join(level, \"job\", \"\", \"none\")",
    "label_join(level, \"to\", \",\")",
    "sort_by_label(requests_total, \"instance\", \"code\")",
    "sort_by_label_desc(requests_total, \"job\", \"code\")",
    "sort_by_label(churn, \"pod\")",
    "sort_by_label_desc(churn, \"pod\")",
    "info(level)",
    "info(level, {version=\"1.0\"})",
    "info(level, {data=~\".+\"})",
    "info(rate(requests_total[5m]), {version=~\".*\"})",
    "info(level, {__name__=\"owner\"})",
    "info(nh, {data=\"x\",version!=\"1.1\"})",
    "info(level, {__name__=\"nh\"})",
    "info(level offset 4m)",
    "info(rate(requests_total[5m] @ PIN offset -1m))",
    "count({__name__=~\".+\"})",
    "count by (__name__) ({__name__!=\"\"})",
    "{job=\"api\",instance=\"i0\"}",
    "{\"odd.name\",\"dotted.label\"=~\"é.*\"}",
    "sum by (\"dotted.label\") ({\"odd.name\"})",
    "predict_linear(temperature{room=\"a\"}[10m], 600)",
    "predict_linear(level[10m], -60)",
    "predict_linear(mixed[20m], 60)",
    "double_exponential_smoothing(temperature[10m], 0.3, 0.7)",
    "double_exponential_smoothing(temperature[10m], 2, 0.7)",
    "double_exponential_smoothing(level[10m], 0.3, 0)",
    "timestamp(level offset 3m)",
    "timestamp(timestamp(level))",
    "timestamp(level @ PIN)",
    "rate(requests_total[5m] offset 1m) / rate(requests_total[5m])",
    "sum(rate(requests_total[5m])) by (job) > 2",
    "max_over_time(rate(requests_total[2m])[10m:30s])",
    "avg_over_time(sum by (job) (level)[10m:1m])",
    "min_over_time((level > 0)[10m:37s] @ PIN offset 1m)",
    "sum_over_time(time()[5m:1m])",
    "last_over_time(vector(time())[5m:1m] offset 2m)",
    "level[2m]",
    "nh[1m]",
    "requests_total[3m:1m]",
    "rate(requests_total[5m])[3m:1m] offset 1m",
];
/// What must be refused, and how.
const REFUSED: [&str; 44] = [
    "",
    "sum(",
    "sum(level))",
    "level{job=\"api\"",
    "level{job=api}",
    "level{job=~\"(\"}",
    "{}",
    "{job=~\".*\"}",
    "rate(level)",
    "rate(level[5m], 1)",
    "rate()",
    "abs(1)",
    "sum(1)",
    "topk(level, level)",
    "count_values(1, level)",
    "nothing_known(level)",
    "level[5m]",
    "\"text\"",
    "1 == 1",
    "1 and 2",
    "level + bool level",
    "level and on (job) group_left () limits",
    "level + on (job) group_left (job) limits",
    "level[0s]",
    "level[-1m]",
    "level[5m:0s]",
    "level offset",
    "level @ \"x\"",
    "level[5m][5m]",
    "level[5m] + 1",
    "-\"x\"",
    "sum by (1) (level)",
    "sum(level) by job",
    "1 + ",
    "level{job=\"a\" instance=\"b\"}",
    "level{__name__=\"level\"}",
    "2 ** 3",
    "level !~ 3",
    "'unclosed",
    "0x",
    "1e999",
    "foo bar",
    "histogram_quantile(level)",
    "label_join(level)",
];

/// What cases are about that were composed of others.
pub(super) const COMPOSITION: &str = "composition";

/// An expression, and what it is an example of.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) about: String,
    pub(super) text: String,
}

/// Draws `count` cases: equally many about everything there is, a third of them compositions.
pub(super) fn draw(seed: u64, count: usize) -> Vec<Case> {
    let random = SeededRandom::new(seed);
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in catalogue() {
        kinds.entry(case.about).or_default().push(case.text);
    }
    for texts in kinds.values_mut() {
        shuffle(&random, texts);
    }
    let systematic = count * 2 / 3;
    let mut cases: Vec<Case> = Vec::with_capacity(count);
    while cases.len() < systematic {
        let before = cases.len();
        for (about, texts) in &mut kinds {
            if let Some(text) = texts.pop() {
                cases.push(Case { about: about.clone(), text });
            }
        }
        if cases.len() == before {
            break;
        }
    }
    let composer = Composer { random };
    while cases.len() < count {
        cases.push(Case { about: COMPOSITION.to_owned(), text: composer.vector(4) });
    }
    for case in &mut cases {
        case.text = case.text.replace("PIN", &PINNED.to_string());
    }
    cases
}

fn shuffle(random: &SeededRandom, texts: &mut [String]) {
    for at in (1..texts.len()).rev() {
        texts.swap(at, random.below(at as u64 + 1) as usize);
    }
}

/// When a case is evaluated.
pub(super) struct Moments {
    /// Seconds.
    pub(super) instant: f64,
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) step: f64,
}

pub(super) fn moments(random: &SeededRandom) -> Moments {
    let within = |from: i64, to: i64| START_MS + from + random.below((to - from) as u64) as i64;
    // Mostly whole seconds, sometimes milliseconds.
    let rounded = |ms: i64| if random.below(4) == 0 { ms as f64 / 1000.0 } else { (ms / 1000) as f64 };
    let start = rounded(within(0, LENGTH_MS / 2));
    let length = 600 + random.below(2_400) as i64;
    let step = [15.0, 30.0, 60.0, 97.0, 300.0, 33.333][random.below(6) as usize];
    Moments { instant: rounded(within(300_000, LENGTH_MS + 300_000)), start, end: start + length as f64, step }
}

fn catalogue() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |about: &str, text: String| cases.push(Case { about: about.to_owned(), text });
    let families: Vec<&str> = FLOATS.into_iter().chain(HISTOGRAMS).collect();
    for family in &families {
        for modifier in MODIFIERS {
            let selector = format!("{family}{modifier}");
            add("selector", selector.clone());
            for function in OF_VECTORS {
                match function {
                    "-" | "+" => add("sign", format!("{function}{selector}")),
                    _ => add(function, format!("{function}({selector})")),
                }
            }
            add("round", format!("round({selector}, 5)"));
            add("clamp", format!("clamp({selector}, 0, 2.5)"));
            add("clamp", format!("clamp({selector}, 3, -3)"));
            add("clamp", format!("clamp({selector}, -Inf, NaN)"));
            add("clamp_min", format!("clamp_min({selector}, 1)"));
            add("clamp_min", format!("clamp_min({selector}, +Inf)"));
            add("clamp_max", format!("clamp_max({selector}, 1)"));
            add("clamp_max", format!("clamp_max({selector}, -Inf)"));
            add("scalar", format!("scalar({selector})"));
            for grouping in GROUPINGS {
                for aggregation in AGGREGATIONS {
                    add(aggregation, format!("{aggregation}{grouping} ({selector})"));
                }
                for (aggregation, parameters) in PARAMETERS {
                    for parameter in parameters {
                        add(aggregation, format!("{aggregation}{grouping} ({parameter}, {selector})"));
                    }
                }
            }
            for range in ["1m", "5m", "22m", "90s", "10s"] {
                let ranges = [
                    format!("{family}[{range}]{modifier}"),
                    format!("{family}[{range}:40s]{modifier}"),
                    format!("rate({family}[2m])[{range}:]{modifier}"),
                ];
                for range in ranges {
                    for function in OVER_TIME {
                        add(function, format!("{function}({range})"));
                    }
                    for q in ["0", "0.5", "0.9", "1", "-1", "2", "NaN"] {
                        add("quantile_over_time", format!("quantile_over_time({q}, {range})"));
                    }
                    add("predict_linear", format!("predict_linear({range}, 300)"));
                    add("double_exponential_smoothing", format!("double_exponential_smoothing({range}, 0.5, 0.1)"));
                }
            }
        }
    }
    for pair in PAIRS {
        for op in ARITHMETIC {
            add(op, pair.replace("OP", op));
        }
        for op in COMPARISONS {
            add(op, pair.replace("OP", op));
        }
        for op in SETS {
            // Set operators know no grouping.
            let plain =
                pair.replace("group_left", "").replace("group_right", "").replace("(team)", "").replace(" ()", "");
            add(op, plain.replace("OP", op));
        }
    }
    let buckets = [
        "latency_seconds_bucket",
        "rate(latency_seconds_bucket[5m])",
        "sum by (le) (rate(latency_seconds_bucket[5m]))",
        "broken_bucket",
        "nh",
        "nhcb",
        "nh_float",
        "nh_gauge",
        "mixed",
        "rate(nh[5m])",
        "sum(rate(nhcb[3m]))",
        "sum by (job) (nh)",
        "{__name__=~\"latency_seconds_bucket|nh\"}",
    ];
    for vector in buckets {
        for q in ["0", "0.5", "0.9", "0.99", "1", "-1", "1.1", "NaN", "scalar(limits{job=\"api\"}) / 200"] {
            add("histogram_quantile", format!("histogram_quantile({q}, {vector})"));
        }
        for (lower, upper) in [("0", "1"), ("-Inf", "+Inf"), ("0.3", "0.7"), ("2", "1"), ("NaN", "1"), ("-2", "3")] {
            add("histogram_fraction", format!("histogram_fraction({lower}, {upper}, {vector})"));
        }
    }
    for single in SINGLES {
        add("single", single.to_owned());
    }
    for refused in REFUSED {
        add("refused", refused.to_owned());
    }
    cases
}

/// Makes expressions of expressions.
struct Composer {
    random: SeededRandom,
}

impl Composer {
    fn pick<'a>(&self, list: &[&'a str]) -> &'a str {
        list[self.random.below(list.len() as u64) as usize]
    }

    fn selector(&self) -> String {
        let family = if self.random.below(3) == 0 { self.pick(&HISTOGRAMS) } else { self.pick(&FLOATS) };
        format!("{family}{}", self.pick(&MODIFIERS))
    }

    fn range(&self, depth: usize) -> String {
        let length = self.pick(&["1m", "4m", "10m", "17m"]);
        let family = if self.random.below(3) == 0 { self.pick(&HISTOGRAMS) } else { self.pick(&FLOATS) };
        match self.random.below(3) {
            0 if depth > 0 => {
                let step = self.pick(&["", "45s", "2m"]);
                format!("({})[{length}:{step}]{}", self.vector(depth - 1), self.pick(&MODIFIERS))
            }
            _ => format!("{family}[{length}]{}", self.pick(&MODIFIERS)),
        }
    }

    fn scalar(&self, depth: usize) -> String {
        match self.random.below(6) {
            0 if depth > 0 => format!("scalar({})", self.vector(depth - 1)),
            1 if depth > 0 => {
                format!("({} {} {})", self.scalar(depth - 1), self.pick(&ARITHMETIC), self.scalar(depth - 1))
            }
            2 => "time()".to_owned(),
            _ => self.pick(&["0", "1", "2.5", "-3", "1e3", "0.1"]).to_owned(),
        }
    }

    fn vector(&self, depth: usize) -> String {
        if depth == 0 {
            return self.selector();
        }
        let inner = |composer: &Composer| composer.vector(depth - 1);
        match self.random.below(12) {
            0 | 1 => format!("{}({})", self.pick(&OVER_TIME), self.range(depth - 1)),
            2 => {
                let function = self.pick(&OF_VECTORS);
                format!("{function}({})", inner(self))
            }
            3 | 4 => format!("{}{} ({})", self.pick(&AGGREGATIONS), self.pick(&GROUPINGS), inner(self)),
            5 => {
                let (aggregation, parameters) = PARAMETERS[self.random.below(4) as usize];
                let parameter = self.pick(parameters);
                format!("{aggregation}{} ({parameter}, {})", self.pick(&GROUPINGS), inner(self))
            }
            6 => format!("({} {} {})", inner(self), self.pick(&ARITHMETIC), self.scalar(depth - 1)),
            7 => format!("({} {} {})", self.scalar(depth - 1), self.pick(&COMPARISONS), inner(self)),
            8 => {
                let matching = self.pick(&["", " on (job)", " on (job, instance)", " ignoring (code)"]);
                let op = if self.random.below(2) == 0 { self.pick(&ARITHMETIC) } else { self.pick(&COMPARISONS) };
                let grouping = self.pick(&["", "", " group_left ()", " group_right ()"]);
                let grouping = if matching.is_empty() { "" } else { grouping };
                let by = self.pick(&[" by (job)", " by (job, instance)"]);
                format!("(sum{by} ({}) {op}{matching}{grouping} {})", inner(self), inner(self))
            }
            9 => {
                let matching = self.pick(&["", " on (job)", " ignoring (room, code)"]);
                format!("({} {}{matching} {})", inner(self), self.pick(&SETS), inner(self))
            }
            10 => format!("histogram_quantile({}, {})", self.pick(&["0.5", "0.9", "0"]), inner(self)),
            _ => format!("clamp_max({}, {})", inner(self), self.scalar(depth - 1)),
        }
    }
}
