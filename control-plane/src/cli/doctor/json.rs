//! Protobuf messages as JSON, as Envoy and its tools write them.

use serde_json::Value;

/// A member of a message, there or not. Envoy writes names with underscores, other tools in camel case; both are found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Node<'a>(Option<&'a Value>);

impl<'a> Node<'a> {
    /// The whole of a message.
    pub fn new(value: &'a Value) -> Self {
        Self((!value.is_null()).then_some(value))
    }

    /// A member, by its name with underscores.
    pub fn get(self, name: &str) -> Self {
        let members = self.0.and_then(Value::as_object);
        let found = members.and_then(|members| members.get(name).or_else(|| members.get(&camel(name))));
        Self(found.filter(|value| !value.is_null()))
    }

    /// A member of a member of …
    pub fn at(self, names: &[&str]) -> Self {
        names.iter().fold(self, |node, name| node.get(name))
    }

    /// Whether it is there.
    pub fn is_there(self) -> bool {
        self.0.is_some()
    }

    /// The value, if it is there.
    pub fn value(self) -> Option<&'a Value> {
        self.0
    }

    /// Text; "" if there is none.
    pub fn text(self) -> &'a str {
        self.0.and_then(Value::as_str).unwrap_or_default()
    }

    /// Text to keep.
    pub fn owned(self) -> String {
        self.text().to_owned()
    }

    /// A boolean; false if there is none, as in protobuf.
    pub fn flag(self) -> bool {
        self.0.and_then(Value::as_bool).unwrap_or_default()
    }

    /// A number. Protobuf writes those of 64 bits as text.
    pub fn number(self) -> Option<u64> {
        let value = self.0?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }

    /// The elements of a list.
    pub fn items(self) -> impl Iterator<Item = Node<'a>> {
        self.0.and_then(Value::as_array).into_iter().flatten().map(Node::new)
    }

    /// The entries of a map.
    pub fn entries(self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        self.0.and_then(Value::as_object).into_iter().flatten().map(|(name, value)| (name.as_str(), Node::new(value)))
    }

    /// The full name of the type of a packed message (`google.protobuf.Any`), without its address; and the message. A
    /// `TypedStruct` is what it stands for.
    pub fn unpacked(self) -> (&'a str, Node<'a>) {
        let name = last(self.get("@type").text());
        if name.ends_with(".TypedStruct") {
            return (last(self.get("type_url").text()), self.get("value"));
        }
        (name, self)
    }
}

fn last(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(_, name)| name)
}

fn camel(name: &str) -> String {
    let mut raise = false;
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if c == '_' {
            raise = true;
        } else {
            out.push(if raise { c.to_ascii_uppercase() } else { c });
            raise = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_member_is_found_in_both_spellings_and_an_absent_one_has_its_default() {
        let value = json!({"use_remote_address": true, "xffNumTrustedHops": "2", "a": {"b": null}});
        let node = Node::new(&value);
        assert!(node.get("use_remote_address").flag());
        assert_eq!(node.get("xff_num_trusted_hops").number(), Some(2));
        assert!(!node.at(&["a", "b"]).is_there() && !node.at(&["x", "y"]).flag());
    }

    #[test]
    fn a_typed_struct_is_what_it_stands_for() {
        let value = json!({"@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            "type_url": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua", "value": {"a": 1}});
        let (name, body) = Node::new(&value).unpacked();
        assert_eq!(name, "envoy.extensions.filters.http.lua.v3.Lua");
        assert_eq!(body.get("a").number(), Some(1));
    }
}
