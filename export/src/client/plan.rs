//! The plan that a server of Kymo tells beside a result.

use std::borrow::Cow;
use std::time::Duration;

use kymo_core::query::{NodeCost, PlanNode, QueryError};
use kymo_core::storage::Tier;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::decode;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireCost {
    series: u64,
    samples: u64,
    bytes: u64,
    memory_bytes: u64,
}

impl From<WireCost> for NodeCost {
    fn from(WireCost { series, samples, bytes, memory_bytes }: WireCost) -> NodeCost {
        NodeCost { series, samples, bytes, memory_bytes }
    }
}

#[derive(Deserialize)]
struct WireNode<'a> {
    operation: String,
    span: Option<(u32, u32)>,
    #[serde(borrow)]
    tier: Option<Cow<'a, str>>,
    #[serde(default)]
    steps: u64,
    estimated: WireCost,
    actual: WireCost,
    #[serde(default)]
    seconds: f64,
    #[serde(default, borrow)]
    inputs: Vec<WireNode<'a>>,
}

impl From<WireNode<'_>> for PlanNode {
    fn from(node: WireNode<'_>) -> PlanNode {
        let tiers = [Tier::Raw, Tier::FiveMinutes, Tier::OneHour];
        PlanNode {
            operation: node.operation,
            span: node.span,
            tier: node.tier.and_then(|name| tiers.into_iter().find(|tier| tier.as_str() == name)),
            steps: node.steps,
            estimated: node.estimated.into(),
            actual: node.actual.into(),
            time: Duration::try_from_secs_f64(node.seconds).unwrap_or_default(),
            inputs: node.inputs.into_iter().map(PlanNode::from).collect(),
        }
    }
}

/// Reads a plan. One that is deeper than the JSON reader goes (128 levels) is unreadable; this bounds the recursion here
/// too.
pub(super) fn read(raw: &RawValue) -> Result<PlanNode, QueryError> {
    decode::read::<WireNode<'_>>(raw).map(PlanNode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_with_its_inputs() {
        let text = r#"{"operation":"sum","span":[0,7],"steps":3,"seconds":0.25,
            "estimated":{"series":1,"samples":0,"bytes":0,"memoryBytes":9},
            "actual":{"series":1,"samples":0,"bytes":0,"memoryBytes":8},
            "inputs":[{"operation":"up","tier":"raw","estimated":{"series":2,"samples":6,"bytes":12,"memoryBytes":0},
                       "actual":{"series":2,"samples":5,"bytes":10,"memoryBytes":0}}]}"#;
        let plan = read(&RawValue::from_string(text.to_owned()).unwrap()).unwrap();
        assert_eq!((plan.operation.as_str(), plan.span, plan.time), ("sum", Some((0, 7)), Duration::from_millis(250)));
        assert_eq!((plan.estimated.memory_bytes, plan.actual.memory_bytes), (9, 8));
        let input = &plan.inputs[0];
        assert_eq!((input.tier, input.estimated.samples, input.actual.samples), (Some(Tier::Raw), 6, 5));
    }
}
