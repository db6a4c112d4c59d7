//! Regular expressions that do not compile, in the words of Go's `regexp`.

use kymo_core::matcher::MatcherError;

/// The text upstream answers for the common faults, and our engine's own reason for others.
pub(super) fn go_message(error: &MatcherError) -> String {
    let expression = &error.expression;
    let fault = match error.reason.as_str() {
        "unclosed group" => format!("missing closing ): `{expression}`"),
        "unopened group" => format!("unexpected ): `{expression}`"),
        "unclosed character class" => {
            let class = expression.find('[').map_or("", |idx| &expression[idx..]);
            format!("missing closing ]: `{class}`")
        }
        "repetition operator missing expression" => {
            let operator = expression
                .char_indices()
                .find(|&(idx, c)| "*+?".contains(c) && (idx == 0 || "(|".contains(&expression[idx - 1..idx])))
                .map_or("", |(idx, c)| &expression[idx..idx + c.len_utf8()]);
            format!("missing argument to repetition operator: `{operator}`")
        }
        reason => reason.to_owned(),
    };
    format!("error parsing regexp: {fault}")
}
