//! JSON Schema of the values that are written in a form of their own. It is the `format` that says which.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{ByteSize, ConfigDuration, Secret};

macro_rules! text_in_a_form {
    ($($type:ident: $format:literal,)*) => {
        $(
            impl JsonSchema for $type {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> std::borrow::Cow<'static, str> {
                    stringify!($type).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({ "type": "string", "format": $format })
                }
            }
        )*
    };
}

text_in_a_form! {
    ConfigDuration: "duration",
    Secret: "secret",
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": "size" })
    }
}
