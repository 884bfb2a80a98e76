//! YAML and JSON as values that know their lines. Only looked into: what is applied is the text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value and the line it begins on.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    /// Any scalar, as text.
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// The documents of a text; the error says line and reason.
pub(super) fn read(text: &str) -> Result<Vec<Node>, (usize, String)> {
    crate::yaml::read_all(text).map_err(|error| {
        let line = error.location().map_or(1, |place| place.line());
        let message = error.to_string();
        let first = message.lines().next().unwrap_or_default().to_owned();
        (usize::try_from(line).unwrap_or(1), first)
    })
}

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(fields) => fields.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let fields: &[(String, Node)] = match &self.value {
            Value::Map(fields) => fields,
            _ => &[],
        };
        fields.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list; nothing of anything else.
    pub(super) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The items of the list under `key`.
    pub(super) fn list(&self, key: &str) -> &[Node] {
        self.get(key).map(Node::items).unwrap_or_default()
    }

    /// The text under `key`.
    pub(super) fn word(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    /// Calls `found` with every text at or below this one but the keys.
    pub(super) fn each_text(&self, found: &mut impl FnMut(&str)) {
        match &self.value {
            Value::Null => {}
            Value::Text(text) => found(text),
            Value::List(items) => items.iter().for_each(|item| item.each_text(found)),
            Value::Map(fields) => fields.iter().for_each(|(_, node)| node.each_text(found)),
        }
    }

    /// Calls `found` with every map at or below this one, in the order of the text.
    pub(super) fn each_map<'n>(&'n self, found: &mut impl FnMut(&'n Node)) {
        match &self.value {
            Value::Map(fields) => {
                found(self);
                for (_, node) in fields {
                    node.each_map(found);
                }
            }
            Value::List(items) => items.iter().for_each(|node| node.each_map(found)),
            Value::Null | Value::Text(_) => {}
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read: Spanned<Value> = Spanned::deserialize(deserializer)?;
        let line = usize::try_from(read.referenced.line()).unwrap_or(0);
        Ok(Self { line: line.max(1), value: read.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key::<Value>()? {
            // `{{ .Values.x }}` is a map whose key is a map; no manifest means that.
            let Value::Text(key) = key else {
                return Err(A::Error::custom("a key that is no text, as of a template"));
            };
            fields.push((key, map.next_value()?));
        }
        Ok(Value::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_lines() {
        let text = "# first\na: 1\nb:\n  - c: x\n    d: true\n  - ~\n---\n{\"e\": [\"f\"]}\n";
        let documents = read(text).unwrap();
        let [first, second] = &documents[..] else { panic!("{documents:?}") };
        assert_eq!(first.get("a").map(|a| (a.text(), a.line)), Some((Some("1"), 2)));
        let [c, none] = first.list("b") else { panic!("{first:?}") };
        assert_eq!(c.get("d").map(|d| (d.text(), d.line)), Some((Some("true"), 5)));
        assert!(none.text().is_none());
        assert_eq!(second.list("e")[0].line, 8);
        let mut maps = 0;
        for document in &documents {
            document.each_map(&mut |_| maps += 1);
        }
        assert_eq!(maps, 3);
    }

    #[test]
    fn what_is_no_yaml_says_where() {
        let (line, message) = read("a: 1\nb: {{ .Values.x }}\n").unwrap_err();
        assert_eq!(line, 2, "{message}");
        assert!(read("").unwrap().is_empty());
        assert!(read("# nothing\n---\n").is_ok());
    }
}
