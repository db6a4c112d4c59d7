//! A tree as the JSON object that Prometheus' `/api/v1/parse_query` answers.
//!
//! Keys are sorted, as Go's encoder writes them. Durations that are not a literal have no value before a
//! query runs and read 0, as upstream; so do absent ones.

use super::ast::{
    Ast, At, Cardinality, ExprKind, LabelMatcher, MatrixSelector, NodeId, RangeExtension, Subquery, UnaryOp,
    VectorMatching, VectorSelector,
};
use super::duration::{DurationContext, DurationExpr};
use super::functions::{Function, Variadic};
use super::literal::push_number;

/// What is still to be written; the last pushed is written first.
enum Piece {
    Node(NodeId),
    Bytes(&'static [u8]),
    Owned(Vec<u8>),
}

impl Ast {
    /// Appends the tree as one JSON object; `string` appends a text as a JSON string with its quotes.
    ///
    /// Linear in the tree; nothing recurses on its depth.
    pub fn write_json(&self, out: &mut Vec<u8>, string: impl Fn(&mut Vec<u8>, &str)) {
        let mut pieces = vec![Piece::Node(self.root())];
        while let Some(piece) = pieces.pop() {
            match piece {
                Piece::Bytes(bytes) => out.extend_from_slice(bytes),
                Piece::Owned(bytes) => out.extend_from_slice(&bytes),
                Piece::Node(id) => pieces.extend(self.object(id, &string).into_iter().rev()),
            }
        }
    }

    /// The pieces of one node, first to last.
    fn object(&self, id: NodeId, string: &dyn Fn(&mut Vec<u8>, &str)) -> Vec<Piece> {
        use Piece::{Bytes, Node, Owned};
        match &self.node(id).kind {
            ExprKind::NumberLiteral(literal) => {
                let mut number = String::new();
                push_number(&mut number, literal.value);
                let mut object = Object::new(string);
                object.key("type").text("numberLiteral").key("val").text(&number);
                vec![Owned(object.close())]
            }
            ExprKind::StringLiteral(text) => {
                let mut object = Object::new(string);
                object.key("type").text("stringLiteral").key("val").text(text);
                vec![Owned(object.close())]
            }
            ExprKind::VectorSelector(selector) => {
                vec![Owned(selector_object(string, selector, None))]
            }
            ExprKind::MatrixSelector(matrix) => {
                vec![Owned(selector_object(string, &matrix.selector, Some(matrix)))]
            }
            ExprKind::Subquery(subquery) => {
                let mut object = Object::new(string);
                subquery_rest(&mut object, subquery);
                let mut rest = vec![b','];
                rest.extend_from_slice(&object.close()[1..]);
                vec![Bytes(br#"{"expr":"#), Node(subquery.expr), Owned(rest)]
            }
            ExprKind::Call(call) => {
                let mut pieces = vec![Bytes(br#"{"args":["#)];
                for (at, &arg) in call.args.iter().enumerate() {
                    pieces.extend([Bytes(if at == 0 { b"" } else { b"," }), Node(arg)]);
                }
                pieces.push(Owned(function_rest(call.function)));
                pieces
            }
            ExprKind::Aggregate(aggregate) => {
                let mut middle = Object::new(string);
                middle.key("grouping").texts(&aggregate.grouping).key("op").text(aggregate.op.as_str());
                let mut middle = middle.open();
                middle[0] = b',';
                middle.extend_from_slice(br#","param":"#);
                let param = aggregate.param.map_or(Bytes(b"null"), Node);
                let end: &[u8] = match aggregate.without {
                    true => br#","type":"aggregation","without":true}"#,
                    false => br#","type":"aggregation","without":false}"#,
                };
                vec![Bytes(br#"{"expr":"#), Node(aggregate.expr), Owned(middle), param, Bytes(end)]
            }
            ExprKind::Binary(binary) => {
                let mut begin = Vec::from(&br#"{"bool":"#[..]);
                begin.extend_from_slice(if binary.return_bool { b"true" } else { b"false" });
                begin.extend_from_slice(br#","lhs":"#);
                let mut middle = Object::new(string);
                match &binary.matching {
                    Some(matching) => middle.key("matching").raw(&matching_object(string, matching)),
                    None => middle.key("matching").raw(b"null"),
                };
                middle.key("op").text(binary.op.as_str());
                let mut middle = middle.open();
                middle[0] = b',';
                middle.extend_from_slice(br#","rhs":"#);
                let end = br#","type":"binaryExpr"}"#;
                vec![Owned(begin), Node(binary.lhs), Owned(middle), Node(binary.rhs), Bytes(end)]
            }
            ExprKind::Unary(unary) => {
                let end: &[u8] = match unary.op {
                    UnaryOp::Plus => br#","op":"+","type":"unaryExpr"}"#,
                    UnaryOp::Minus => br#","op":"-","type":"unaryExpr"}"#,
                };
                vec![Bytes(br#"{"expr":"#), Node(unary.expr), Bytes(end)]
            }
            ExprKind::Paren(inner) => {
                vec![Bytes(br#"{"expr":"#), Node(*inner), Bytes(br#","type":"parenExpr"}"#)]
            }
        }
    }
}

/// An object on its way, keys in the order they are given.
struct Object<'s> {
    out: Vec<u8>,
    string: &'s dyn Fn(&mut Vec<u8>, &str),
}

impl<'s> Object<'s> {
    fn new(string: &'s dyn Fn(&mut Vec<u8>, &str)) -> Object<'s> {
        Object { out: vec![b'{'], string }
    }

    fn key(&mut self, name: &str) -> &mut Self {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        (self.string)(&mut self.out, name);
        self.out.push(b':');
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        (self.string)(&mut self.out, text);
        self
    }

    fn texts(&mut self, texts: &[String]) -> &mut Self {
        self.out.push(b'[');
        for (at, text) in texts.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            (self.string)(&mut self.out, text);
        }
        self.out.push(b']');
        self
    }

    fn raw(&mut self, json: &[u8]) -> &mut Self {
        self.out.extend_from_slice(json);
        self
    }

    fn int(&mut self, value: i64) -> &mut Self {
        self.raw(value.to_string().as_bytes())
    }

    fn bool(&mut self, value: bool) -> &mut Self {
        self.raw(if value { b"true" } else { b"false" })
    }

    /// Without its closing brace.
    fn open(self) -> Vec<u8> {
        self.out
    }

    fn close(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

fn selector_object(
    string: &dyn Fn(&mut Vec<u8>, &str),
    selector: &VectorSelector,
    matrix: Option<&MatrixSelector>,
) -> Vec<u8> {
    let mut object = Object::new(string);
    object.key("anchored").bool(selector.extension == RangeExtension::Anchored);
    object.key("matchers").raw(&matchers_list(string, &selector.matchers));
    object.key("name").text(selector.name.as_deref().unwrap_or_default());
    object.key("offset").int(literal_ms(selector.offset.as_ref()));
    if let Some(matrix) = matrix {
        object.key("range").int(literal_ms(Some(&matrix.range)));
    }
    object.key("smoothed").bool(selector.extension == RangeExtension::Smoothed);
    pinned(&mut object, selector.at, None);
    object.key("type").text(if matrix.is_some() { "matrixSelector" } else { "vectorSelector" });
    object.close()
}

/// `startOrEnd` and `timestamp`, and a subquery's `step`, which sorts between them.
fn pinned(object: &mut Object<'_>, at: Option<At>, step_ms: Option<i64>) {
    object.key("startOrEnd");
    match at {
        Some(At::Start) => object.text("start"),
        Some(At::End) => object.text("end"),
        _ => object.raw(b"null"),
    };
    if let Some(step_ms) = step_ms {
        object.key("step").int(step_ms);
    }
    object.key("timestamp");
    match at {
        Some(At::Timestamp(ms)) => object.int(ms),
        _ => object.raw(b"null"),
    };
}

fn matchers_list(string: &dyn Fn(&mut Vec<u8>, &str), matchers: &[LabelMatcher]) -> Vec<u8> {
    let mut out = vec![b'['];
    for (at, matcher) in matchers.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut object = Object::new(string);
        object.key("name").text(&matcher.name);
        object.key("type").text(matcher.op.as_str());
        object.key("value").text(&matcher.value);
        out.extend_from_slice(&object.close());
    }
    out.push(b']');
    out
}

/// What of a subquery's keys comes after `expr`.
fn subquery_rest(object: &mut Object<'_>, subquery: &Subquery) {
    object.key("offset").int(literal_ms(subquery.offset.as_ref()));
    object.key("range").int(literal_ms(Some(&subquery.range)));
    pinned(object, subquery.at, Some(literal_ms(subquery.step.as_ref())));
    object.key("type").text("subquery");
}

fn function_rest(function: &Function) -> Vec<u8> {
    let variadic = match function.variadic {
        Variadic::Fixed => "0".to_owned(),
        Variadic::UpTo(more) => more.to_string(),
        Variadic::Unbounded => "-1".to_owned(),
    };
    // Names and types are words of this crate: nothing to escape.
    let types: Vec<String> = function.arg_types.iter().map(|kind| format!("\"{kind}\"")).collect();
    let Function { name, return_type, .. } = function;
    let types = types.join(",");
    format!(
        r#"],"func":{{"argTypes":[{types}],"name":"{name}","returnType":"{return_type}","variadic":{variadic}}},"type":"call"}}"#
    )
    .into_bytes()
}

fn matching_object(string: &dyn Fn(&mut Vec<u8>, &str), matching: &VectorMatching) -> Vec<u8> {
    let mut object = Object::new(string);
    object.key("card").text(match matching.card {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    });
    let fills = [(&b"{\"lhs\":"[..], matching.fill_left), (&b",\"rhs\":"[..], matching.fill_right)];
    object.key("fillValues");
    for (key, fill) in fills {
        object.raw(key);
        match fill {
            // JSON knows no other numbers.
            Some(value) if value.is_finite() => object.raw(value.to_string().as_bytes()),
            _ => object.raw(b"null"),
        };
    }
    object.raw(b"}");
    object.key("include").texts(&matching.include);
    object.key("labels").texts(&matching.labels);
    object.key("on").bool(matching.on);
    object.close()
}

/// The value of a literal in ms; 0 for what is absent or computed.
fn literal_ms(duration: Option<&DurationExpr>) -> i64 {
    let nothing = DurationContext { step_ms: 0, range_ms: 0 };
    duration
        .filter(|duration| duration.is_literal())
        .and_then(|duration| duration.resolve_ms(nothing).ok())
        .unwrap_or(0)
}
