//! Names of metrics, units and labels, as Prometheus' `otlptranslator` 1.0 makes them.

use super::config::TranslationStrategy;

/// Words for units of the Unified Code for Units of Measure.
const UNITS: [(&str, &str); 25] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
];

/// Words for what a unit is divided by.
const PER_UNITS: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

/// What decides on a metric's suffix beside its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    /// A monotonic sum: `_total`.
    Counter,
    /// With unit `1`: `_ratio`.
    Gauge,
    Other,
}

/// A name of which nothing, or nothing but underscores, is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unnameable;

/// The name of a metric's series, or the stem of its names.
pub(super) fn metric_name(
    name: &str,
    unit: &str,
    kind: NameKind,
    strategy: TranslationStrategy,
) -> Result<String, Unnameable> {
    let built = match (strategy.escapes(), strategy.adds_suffixes()) {
        (true, true) => escaped_with_suffixes(name, unit, kind),
        (true, false) => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            let parts: Vec<&str> = name.split(|c| !allowed(c)).filter(|part| !part.is_empty()).collect();
            not_from_a_digit(parts.join("_"))
        }
        (false, true) => as_is_with_suffixes(name, unit, kind),
        (false, false) => name.to_owned(),
    };
    let only_underscores = strategy.escapes() && built != name && built.bytes().all(|byte| byte == b'_');
    if built.is_empty() || only_underscores { Err(Unnameable) } else { Ok(built) }
}

/// The word for a unit, as metadata has it.
pub(super) fn unit_name(unit: &str, strategy: TranslationStrategy) -> String {
    let (main, per) = unit_words(unit);
    let (main, per) = if strategy.escapes() { (clean_unit(&main), clean_unit(&per)) } else { (main, per) };
    let joined = if main.is_empty() || per.is_empty() { main + &per } else { format!("{main}_{per}") };
    let from = joined.strip_prefix('_').unwrap_or(&joined);
    from.strip_suffix('_').unwrap_or(from).to_owned()
}

/// The name of an attribute's label.
pub(super) fn label_name(
    key: &str,
    escape: bool,
    sanitize_underscore: bool,
    preserve_underscores: bool,
) -> Result<String, Unnameable> {
    let mut name = if escape { escaped_label(key, preserve_underscores) } else { key.to_owned() };
    if escape {
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            name.insert_str(0, "key_");
        } else if sanitize_underscore && name.starts_with('_') && !name.starts_with("__") {
            name.insert_str(0, "key");
        }
    }
    // An empty name has nothing but underscores too.
    if name.bytes().all(|byte| byte == b'_') { Err(Unnameable) } else { Ok(name) }
}

fn escaped_label(key: &str, preserve_underscores: bool) -> String {
    let replace = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    if preserve_underscores {
        return key.chars().map(replace).collect();
    }
    // Reserved names keep the underscores that make them so.
    let reserved = key.len() > 4 && key.starts_with("__") && key.ends_with("__");
    let inner = if reserved { &key[2..key.len() - 2] } else { key };
    let inner = one_underscore(inner.chars().map(replace));
    if reserved { format!("__{inner}__") } else { inner }
}

fn escaped_with_suffixes(name: &str, unit: &str, kind: NameKind) -> String {
    let mut tokens: Vec<&str> = name.split(|c: char| !is_name_char(c)).filter(|token| !token.is_empty()).collect();
    let (main, per) = unit_words(unit);
    let (main, per) = (clean_unit(&main), clean_unit(&per));
    let mut main = if tokens.contains(&main.as_str()) { "" } else { main.as_str() };
    let mut per = if per == "per_" { "" } else { per.strip_suffix('_').unwrap_or(&per) };
    if tokens.contains(&per) {
        per = "";
    }
    if !per.is_empty() {
        main = main.strip_suffix('_').unwrap_or(main);
    }
    tokens.extend([main, per].into_iter().filter(|token| !token.is_empty()));
    let mut move_to_end = |suffix: &'static str| {
        tokens.retain(|token| *token != suffix);
        tokens.push(suffix);
    };
    match kind {
        NameKind::Counter => move_to_end("total"),
        NameKind::Gauge if unit == "1" => move_to_end("ratio"),
        NameKind::Gauge | NameKind::Other => {}
    }
    not_from_a_digit(tokens.join("_"))
}

fn as_is_with_suffixes(name: &str, unit: &str, kind: NameKind) -> String {
    let (main, per) = unit_words(unit);
    let mut built = name;
    if kind == NameKind::Gauge && unit == "1" {
        built = without_suffix(built, "ratio");
    }
    if kind == NameKind::Counter {
        built = without_suffix(built, "total");
    }
    if !per.is_empty() {
        built = without_suffix(built, &per);
    }
    let main = if built.ends_with(&main) { "" } else { main.as_str() };
    let mut built = built.to_owned();
    let mut append = |suffix: &str| {
        built.push('_');
        built.push_str(suffix);
    };
    if !main.is_empty() {
        append(main);
    }
    if !per.is_empty() {
        append(&per);
    }
    match kind {
        NameKind::Counter => append("total"),
        NameKind::Gauge if unit == "1" => append("ratio"),
        NameKind::Gauge | NameKind::Other => {}
    }
    built
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

fn not_from_a_digit(mut name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// `name` without `suffix` and the character before it, if something is left then.
///
/// Upstream takes one byte as the delimiter, which may leave half a character; here it is one character.
fn without_suffix<'n>(name: &'n str, suffix: &str) -> &'n str {
    let Some(rest) = name.strip_suffix(suffix) else { return name };
    let mut chars = rest.chars();
    chars.next_back();
    if chars.as_str().is_empty() { name } else { chars.as_str() }
}

/// The words of a unit before and after its first `/`; the latter begins with `per_`. Annotations in braces have none.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |part: &str, words: &[(&str, &str)]| {
        let part = part.trim();
        if part.is_empty() || part.contains(['{', '}']) {
            return String::new();
        }
        words.iter().find(|(symbol, _)| *symbol == part).map_or(part, |(_, word)| word).to_owned()
    };
    let main = if main.trim() == "1" { String::new() } else { word(main, &UNITS) };
    let per = word(per, &PER_UNITS);
    (main, if per.is_empty() { per } else { format!("per_{per}") })
}

fn clean_unit(unit: &str) -> String {
    let clean = one_underscore(unit.chars().map(|c| if is_name_char(c) { c } else { '_' }));
    clean.strip_prefix('_').map_or(clean.clone(), str::to_owned)
}

/// Makes neighbouring underscores one.
fn one_underscore(chars: impl Iterator<Item = char>) -> String {
    let mut text = String::new();
    for c in chars {
        if c != '_' || !text.ends_with('_') {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::NameKind::{Counter, Gauge, Other};
    use super::TranslationStrategy::{
        NoTranslation, NoUTF8EscapingWithSuffixes as Utf8, UnderscoreEscapingWithSuffixes as Full,
        UnderscoreEscapingWithoutSuffixes as Plain,
    };
    use super::*;

    #[test]
    fn metric_names_take_suffixes_of_unit_and_type() {
        let table = [
            (Full, "requests", "", Counter, "requests_total"),
            (Full, "requests_total", "", Counter, "requests_total"),
            (Full, "total.requests", "", Counter, "requests_total"),
            (Full, "items", "1", Counter, "items_total"),
            (Full, "cpu_usage", "1", Gauge, "cpu_usage_ratio"),
            (Full, "cpu_usage_ratio", "1", Gauge, "cpu_usage_ratio"),
            (Full, "cpu_usage", "1", Other, "cpu_usage"),
            (Full, "http.server.request.duration", "s", Other, "http_server_request_duration_seconds"),
            (Full, "response_time_seconds", "s", Gauge, "response_time_seconds"),
            (Full, "seconds.in.front", "s", Gauge, "seconds_in_front"),
            (Full, "memory_usage", "By", Gauge, "memory_usage_bytes"),
            (Full, "cpu.time", "s", Counter, "cpu_time_seconds_total"),
            (Full, "requests", "1/s", Gauge, "requests_per_second"),
            (Full, "throughput", "By/s", Gauge, "throughput_bytes_per_second"),
            (Full, "m", "By/{packet}", Gauge, "m_bytes"),
            (Full, "m", "{packet}", Gauge, "m"),
            (Full, "m", "{packet}/s", Gauge, "m_per_second"),
            (Full, "m", " ms / m ", Gauge, "m_milliseconds_per_minute"),
            (Full, "m", "unit@with#special/chars", Gauge, "m_unit_with_special_per_chars"),
            (Full, "metric__with__many", "unit__many", Gauge, "metric_with_many_unit_many"),
            (Full, "m", "°F", Gauge, "m_F"),
            (Full, "m", "custom_unit", Gauge, "m_custom_unit"),
            (Full, "m", "%", Gauge, "m_percent"),
            (Full, "_private.m_", "", Gauge, "private_m"),
            (Full, "123.m", "", Gauge, "_123_m"),
            (Full, "a:b", "", Gauge, "a:b"),
            (Full, "温度.m", "Cel", Gauge, "m_celsius"),
            (Plain, "http.requests", "s", Counter, "http_requests"),
            (Plain, "metric@@##$$name", "", Gauge, "metric_name"),
            (Plain, "a__b", "", Gauge, "a__b"),
            (Plain, "123m", "", Gauge, "_123m"),
            (Utf8, "http.requests", "", Counter, "http.requests_total"),
            (Utf8, "http.requests.total", "", Counter, "http.requests_total"),
            (Utf8, "cpu_seconds_total", "s", Counter, "cpu_seconds_total"),
            (Utf8, "respønse_time", "ms", Gauge, "respønse_time_milliseconds"),
            (Utf8, "requêsts", "1/s", Counter, "requêsts_per_second_total"),
            (Utf8, "cpu_usagé", "1", Gauge, "cpu_usagé_ratio"),
            (Utf8, "@#$%", "", Counter, "@#$%_total"),
            (Utf8, "atotal", "", Counter, "atotal_total"),
            (Utf8, "aétotal", "", Counter, "a_total"),
            (NoTranslation, "http.requests", "s", Counter, "http.requests"),
        ];
        for (strategy, name, unit, kind, expected) in table {
            let built = metric_name(name, unit, kind, strategy);
            assert_eq!(built.as_deref(), Ok(expected), "{name:?} in {unit:?}, {kind:?}, {strategy:?}");
        }
    }

    #[test]
    fn a_name_of_which_nothing_is_left_is_refused() {
        for (strategy, name) in [(Full, "@#$%"), (Full, "_"), (Full, ""), (Plain, "温度"), (NoTranslation, "")] {
            assert_eq!(metric_name(name, "", Gauge, strategy), Err(Unnameable), "{name:?} {strategy:?}");
        }
    }

    #[test]
    fn units_are_spelled_out_in_metadata() {
        for (unit, full, utf8) in [
            ("s", "seconds", "seconds"),
            ("By/s", "bytes_per_second", "bytes_per_second"),
            ("1", "", ""),
            ("1/s", "per_second", "per_second"),
            ("{x}", "", ""),
            ("°F", "F", "°F"),
            ("a b", "a_b", "a b"),
        ] {
            assert_eq!((unit_name(unit, Full).as_str(), unit_name(unit, Utf8).as_str()), (full, utf8), "{unit:?}");
        }
    }

    #[test]
    fn label_names_are_escaped_as_prometheus_does() {
        let table = [
            ("http.method", Ok("http_method"), Ok("http_method")),
            ("label:with:colons", Ok("label_with_colons"), Ok("label_with_colons")),
            ("0k", Ok("key_0k"), Ok("key_0k")),
            ("_private", Ok("key_private"), Ok("key_private")),
            ("__reserved__", Ok("__reserved__"), Ok("__reserved__")),
            ("__a..b__", Ok("__a__b__"), Ok("__a_b__")),
            ("a..b", Ok("a__b"), Ok("a_b")),
            (".a", Ok("key_a"), Ok("key_a")),
            ("foreign_字符", Ok("foreign___"), Ok("foreign_")),
            ("ようこそ", Err(Unnameable), Ok("key_")),
            ("__", Err(Unnameable), Ok("key_")),
            ("", Err(Unnameable), Err(Unnameable)),
        ];
        for (key, preserved, collapsed) in table {
            assert_eq!(label_name(key, true, true, true).as_deref(), preserved.as_ref().map(|n| *n), "{key:?}");
            assert_eq!(label_name(key, true, true, false).as_deref(), collapsed.as_ref().map(|n| *n), "{key:?}");
        }
        assert_eq!(label_name("_private", true, false, true).as_deref(), Ok("_private"));
        assert_eq!(label_name("ようこそ.0", false, true, true).as_deref(), Ok("ようこそ.0"));
        assert_eq!(label_name("__", false, true, true), Err(Unnameable));
    }
}
