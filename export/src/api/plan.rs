//! The plan of a query as JSON: `explain=true` puts it beside the result, as `explain`.

use kymo_core::query::{NodeCost, PlanNode};
use kymo_core::text::{write_float_plain, write_u64};

use super::body::Answer;
use super::write::write_text;
use crate::status::ApiError;

/// Keys and numbers of one node.
const NODE_BYTES_MAX: usize = 1024;

/// What is still to be written; the last pushed comes first.
enum Piece<'a> {
    Node(&'a PlanNode),
    Bytes(&'static [u8]),
}

/// Appends a plan as one object. It is as deep as its query, so nothing here recurses.
pub(super) fn write_plan(out: &mut Answer, root: &PlanNode) -> Result<(), ApiError> {
    let mut pieces = vec![Piece::Node(root)];
    while let Some(piece) = pieces.pop() {
        match piece {
            Piece::Bytes(bytes) => {
                out.reserve(bytes.len())?;
                out.bytes.extend_from_slice(bytes);
            }
            Piece::Node(node) => {
                write_node(out, node)?;
                pieces.push(Piece::Bytes(if node.inputs.is_empty() { b"}" } else { b"]}" }));
                for (number, input) in node.inputs.iter().enumerate().rev() {
                    pieces.push(Piece::Node(input));
                    pieces.push(Piece::Bytes(if number == 0 { br#","inputs":["# } else { b"," }));
                }
            }
        }
    }
    Ok(())
}

/// A node without its inputs and without its last brace.
fn write_node(out: &mut Answer, node: &PlanNode) -> Result<(), ApiError> {
    out.reserve(NODE_BYTES_MAX)?;
    out.bytes.extend_from_slice(br#"{"operation":"#);
    write_text(out, &node.operation)?;
    out.reserve(NODE_BYTES_MAX)?;
    let bytes = &mut out.bytes;
    if let Some((start, end)) = node.span {
        bytes.extend_from_slice(br#","span":["#);
        write_u64(bytes, start.into());
        bytes.push(b',');
        write_u64(bytes, end.into());
        bytes.push(b']');
    }
    if let Some(tier) = node.tier {
        bytes.extend_from_slice(br#","tier":""#);
        bytes.extend_from_slice(tier.as_str().as_bytes());
        bytes.push(b'"');
    }
    bytes.extend_from_slice(br#","steps":"#);
    write_u64(bytes, node.steps);
    write_cost(bytes, br#","estimated":{"#, &node.estimated);
    write_cost(bytes, br#","actual":{"#, &node.actual);
    bytes.extend_from_slice(br#","seconds":"#);
    write_float_plain(bytes, node.time.as_secs_f64());
    Ok(())
}

fn write_cost(bytes: &mut Vec<u8>, start: &[u8], cost: &NodeCost) {
    bytes.extend_from_slice(start);
    let counts =
        [("series", cost.series), ("samples", cost.samples), ("bytes", cost.bytes), ("memoryBytes", cost.memory_bytes)];
    for (number, (key, count)) in counts.into_iter().enumerate() {
        bytes.extend_from_slice(if number == 0 { b"\"" } else { b",\"" });
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(b"\":");
        write_u64(bytes, count);
    }
    bytes.push(b'}');
}

#[cfg(test)]
mod tests {
    use kymo_core::QueryContext;
    use serde_json::{Value, json};

    use super::super::body::AnswerBuffers;
    use super::*;

    #[test]
    fn a_plan_keeps_its_shape() {
        let leaf = |operation: &str| PlanNode { operation: operation.to_owned(), ..PlanNode::default() };
        let root = PlanNode { inputs: vec![leaf("left"), leaf("right")], span: Some((0, 5)), ..leaf("sum") };
        let mut answer = AnswerBuffers::default().answer(&QueryContext::unlimited()).unwrap();
        write_plan(&mut answer, &root).unwrap();
        let shown: Value = serde_json::from_slice(&answer.bytes).unwrap();
        let none = json!({"series": 0, "samples": 0, "bytes": 0, "memoryBytes": 0});
        let node = |name| json!({"operation": name, "steps": 0, "estimated": none, "actual": none, "seconds": 0});
        let mut wanted = node("sum");
        wanted["span"] = json!([0, 5]);
        wanted["inputs"] = json!([node("left"), node("right")]);
        assert_eq!(shown, wanted);
    }
}
