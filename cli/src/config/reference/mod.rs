//! The page `docs/configuration.md`, and the JSON Schema of a file.
//!
//! Both are made from the structs that read the file: which keys there are, what may be written there, and what their
//! doc comments say. A comment's last sentence may begin with *Default* and names what holds without the key; where the
//! struct itself has a default, that is taken. Prose around the tables is in `page.md`.

use std::fmt::Write as _;

use kymo_core::config::{HttpClientConfig, RelabelFields};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::file::ConfigFile;

/// Marks keys that are read and not acted on.
const NOT_ACTED_ON: &str = "x-not-acted-on";
/// What begins the last sentence of a comment that names a default.
const DEFAULT: &str = " Default ";

/// What a comment says before the name that older files have for a key.
const OLDER: &str = "Older files call it `";

/// One key of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    /// What may be written there, in words.
    pub kind: String,
    /// What holds without it; empty if nothing does.
    pub default: String,
    /// What it does, as the struct's comment says.
    pub meaning: String,
    /// Whether anything is done with it.
    pub is_acted_on: bool,
}

/// The keys of one struct.
#[derive(Debug)]
pub struct Section {
    /// Name of the struct.
    pub name: String,
    /// In alphabetical order.
    pub keys: Vec<Key>,
}

/// The JSON Schema (2020-12) of a file.
pub fn schema() -> Value {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    // Its keys stand in the sections that have it, and have a table of their own on the page.
    generator.subschema_for::<HttpClientConfig>();
    generator.subschema_for::<RelabelFields>();
    let mut schema = generator.into_root_schema_for::<ConfigFile>().to_value();
    with_defaults(&mut schema);
    with_older_names(&mut schema);
    schema
}

/// Adds the names that a comment says older files have for a key.
fn with_older_names(schema: &mut Value) {
    let definitions = schema["$defs"].as_object_mut().into_iter().flat_map(|all| all.values_mut());
    for properties in definitions.filter_map(|definition| definition["properties"].as_object_mut()) {
        let older = properties.values().filter_map(|value| {
            let (_, after) = value["description"].as_str()?.split_once(OLDER)?;
            let mut value = value.clone();
            value["deprecated"] = Value::Bool(true);
            Some((after.split('`').next()?.to_owned(), value))
        });
        let older: Vec<(String, Value)> = older.collect();
        properties.extend(older);
    }
}

/// Moves *Default* sentences from descriptions to `default`, where the struct says none.
fn with_defaults(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(text)) = object.get("description") {
                let text = text.replace('\n', " ");
                let (meaning, default) = match text.rsplit_once(DEFAULT) {
                    Some((meaning, default)) => (meaning.to_owned(), Some(default.trim_end_matches('.').to_owned())),
                    None => (text, None),
                };
                object.insert("description".to_owned(), Value::String(meaning));
                if let Some(default) = default {
                    let literal = default.strip_prefix('`').and_then(|text| text.strip_suffix('`'));
                    match literal {
                        Some(text) => {
                            let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
                            object.insert("default".to_owned(), value);
                        }
                        None => {
                            object.insert("x-default".to_owned(), Value::String(default));
                        }
                    }
                }
            }
            object.values_mut().for_each(with_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(with_defaults),
        _ => {}
    }
}

/// All sections, the file itself first, then by name.
pub fn sections() -> Vec<Section> {
    let schema = schema();
    let none = Map::new();
    let definitions = schema["$defs"].as_object().unwrap_or(&none);
    let root = Section { name: "ConfigFile".to_owned(), keys: keys(&schema) };
    let others = definitions
        .iter()
        .filter(|(_, definition)| definition.get("properties").is_some())
        .map(|(name, definition)| Section { name: name.clone(), keys: keys(definition) });
    std::iter::once(root).chain(others).collect()
}

fn keys(definition: &Value) -> Vec<Key> {
    let none = Map::new();
    let properties = definition["properties"].as_object().unwrap_or(&none);
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let key = |(name, value): (&String, &Value)| Key {
        name: name.clone(),
        kind: kind(value),
        default: match (value.get("x-default"), value.get("default")) {
            (Some(Value::String(words)), _) => words.clone(),
            (_, None | Some(Value::Null)) => String::new(),
            (_, Some(Value::String(text))) => text.clone(),
            // A section, whose keys have defaults of their own.
            (_, Some(Value::Object(_))) if value.get("$ref").is_some() => String::new(),
            (_, Some(other)) => other.to_string(),
        },
        meaning: text(value, "description"),
        is_acted_on: value.get(NOT_ACTED_ON).is_none(),
    };
    properties.iter().map(key).collect()
}

/// What may be written, in words.
fn kind(value: &Value) -> String {
    if let Some(format) = value["format"].as_str().filter(|format| !format.contains("int") && *format != "double") {
        return format.to_owned();
    }
    if let Some(values) = value["enum"].as_array() {
        return alternatives(values.iter().filter_map(Value::as_str));
    }
    if let Some(of) = value["anyOf"].as_array().or(value["oneOf"].as_array()) {
        let constants: Vec<&str> = of.iter().filter_map(|one| one["const"].as_str()).collect();
        if !constants.is_empty() {
            return alternatives(constants);
        }
        return of.iter().find(|one| one["type"] != "null").map(kind).unwrap_or_default();
    }
    if let Some(name) = value["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap_or_default();
        return match name {
            "RelabelFields" => "rule",
            "TargetGroup" => "group",
            _ => "section",
        }
        .to_owned();
    }
    let types: Vec<&str> = match &value["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|one| *one != "null").collect(),
        _ => Vec::new(),
    };
    match types.first().copied() {
        Some("string") => "text".to_owned(),
        Some("integer" | "number") => "number".to_owned(),
        Some("array") => match kind(&value["items"]) {
            text if text == "text" => "list of text".to_owned(),
            words if words.contains(" or ") => format!("list of {}", words.replace(" or ", " and ")),
            one => format!("list of {one}s"),
        },
        Some("object") => format!("{} by name", kind(&value["additionalProperties"])),
        Some(other) => other.to_owned(),
        None => String::new(),
    }
}

fn alternatives<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let values: Vec<&str> = values.into_iter().collect();
    match values.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The page without its head, in Markdown. `{{keys Name}}` in the prose is the table of a struct, `{{keys Name without
/// Other}}` one without the keys of another, and `{{unserved Name}}` names the keys that are not acted on.
pub fn page() -> String {
    let sections = sections();
    let find = |name: &str| sections.iter().find(|section| section.name == name).map_or(&[][..], |found| &found.keys);
    let mut page = String::new();
    let mut rest = include_str!("page.md");
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let Some((asked, after)) = after.split_once("}}") else { break };
        match asked.split(' ').collect::<Vec<_>>()[..] {
            ["keys", name] => page.push_str(table(find(name), &[]).trim_end()),
            ["keys", name, "without", other] => page.push_str(table(find(name), find(other)).trim_end()),
            ["unserved", name] => {
                let unserved = find(name).iter().filter(|key| !key.is_acted_on);
                let names: Vec<String> = unserved.map(|key| format!("`{}`", key.name)).collect();
                page.push_str(&names.join(", "));
            }
            _ => page.push_str(&format!("{{{{{asked}}}}}")),
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

fn table(keys: &[Key], without: &[Key]) -> String {
    let mut text = String::from("| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
    let shown = keys.iter().filter(|key| key.is_acted_on && without.iter().all(|other| other.name != key.name));
    for Key { name, kind, default, meaning, .. } in shown {
        // A value, unless it is told in words.
        let is_value = !default.is_empty() && !default.contains(' ');
        let default = if is_value { format!("`{default}`") } else { default.clone() };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}` | {kind} | {default} | {} |", meaning.replace('|', "\\|"));
    }
    text
}
