//! Options of a request, from the query and the body, under their canonical names; lists of fields and orders.

use super::{
    literal::Literal,
    token::is_field,
    tree::{Column, Order},
    unparsable, unsupported,
};
use crate::{
    Name,
    bundle::Component,
    code::Denial,
    dialect::{names, shared::shown},
    json::{Limits, Map, Value},
};

const MAX_LIST: usize = 400;
/// Options that DreamFactory also takes from the body, under their canonical names.
pub(super) const BODY_OPTIONS: [&str; 11] =
    ["fields", "ids", "filter", "limit", "offset", "order", "group", "count_only", "params", "continue", "rollback"];
pub(super) const QUERY_OPTIONS: [&str; 18] = [
    "fields",
    "ids",
    "filter",
    "limit",
    "offset",
    "order",
    "group",
    "count_only",
    "params",
    "continue",
    "rollback",
    "id_field",
    "id_type",
    "related",
    "include_count",
    "force",
    "having",
    "as_list",
];

const ALIASES: [(&str, &str); 7] = [
    ("select", "fields"),
    ("where", "filter"),
    ("top", "limit"),
    ("skip", "offset"),
    ("sort", "order"),
    ("order_by", "order"),
    ("group_by", "group"),
];

/// Options and parameters that cannot be carried out soundly, and what to do instead.
const REFUSED: [(&str, &str); 9] = [
    ("accept", "answers are JSON, the only form that can be filtered"),
    ("allow_related_delete", "related rows are not written"),
    ("as_access_list", "list the names without it"),
    ("file", "a download in another form cannot be filtered: leave it out and save the answer, which is JSON"),
    ("include_access", "what may be accessed is the proxy's to say"),
    ("include_schema", "read _schema/NAME"),
    ("refresh", "what DreamFactory keeps of schemas is refreshed by who runs it"),
    ("schema", "name the table with its schema"),
    ("wrap", "lists of records always come wrapped"),
];

/// A flag as DreamFactory reads one (its `to_bool`). `None`: it is none, so it would be false.
pub(super) fn boolean(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    match () {
        () if is(&["true", "1", "yes", "y", "on", "t"]) => Some(true),
        () if is(&["", "false", "0", "no", "n", "off", "f"]) => Some(false),
        () => None,
    }
}

pub(super) fn is_alias(name: &str) -> bool {
    ALIASES.iter().any(|(alias, _)| *alias == name)
}

/// The options of a request under their canonical names, from the query and the body.
#[derive(Default)]
pub(super) struct Options {
    /// In the order of the request. A request has few options, so that a search costs less than a tree.
    pub(super) values: Vec<(String, Value)>,
    pub(super) parameters: Vec<(String, Literal)>,
}

impl Options {
    pub(super) fn add(&mut self, name: String, value: Value) -> Result<(), Denial> {
        let canonical = match ALIASES.iter().find(|(alias, _)| *alias == name) {
            Some((_, option)) => (*option).to_owned(),
            None => name,
        };
        if self.values.iter().any(|(have, _)| *have == canonical) {
            return Err(unparsable(format!("The option {} is given twice, or under two names.", shown(&canonical))));
        }
        self.values.push((canonical, value));
        Ok(())
    }

    pub(super) fn parameter(&mut self, name: &str, value: Value) -> Result<(), Denial> {
        let name = [":", name.strip_prefix(':').unwrap_or(name)].concat();
        let literal = match value {
            Value::String(text) => Literal::text(&text)?,
            Value::Number(number) if number.as_i64().is_some() => Literal::Number(number.to_string()),
            Value::Bool(value) => Literal::Number(u8::from(value).to_string()),
            _ => return Err(unsupported("A value in params must be a string, an integer or a boolean.")),
        };
        if self.parameters.iter().any(|(have, _)| *have == name) || self.parameters.len() >= MAX_LIST {
            return Err(unparsable("params gives a parameter twice, or too many parameters."));
        }
        self.parameters.push((name, literal));
        Ok(())
    }

    pub(super) fn query(&mut self, query: Vec<(String, String)>) -> Result<(), Denial> {
        let nested = |name: &str| {
            name.rsplit_once('.').is_some_and(|(_, option)| matches!(option, "fields" | "limit" | "order"))
        };
        for (name, value) in query {
            let inner = name.strip_prefix("params[").and_then(|rest| rest.strip_suffix(']'));
            if let Some(parameter) = inner.filter(|inner| !inner.contains(['[', ']'])) {
                self.parameter(parameter, Value::from(value))?;
            } else if !names::php_keeps(&name) && !nested(&name) {
                return Err(unparsable(format!(
                    "DreamFactory reads the parameter {} under another name, or as a list: write names plainly, and lists with commas.",
                    shown(&name)
                )));
            } else {
                self.add(name, Value::from(value))?;
            }
        }
        for (name, instead) in REFUSED {
            match self.take(name) {
                None => {}
                // Asked for is what comes anyhow.
                Some(Value::String(text)) if name != "accept" && boolean(&text) == Some(name == "wrap") => {}
                Some(_) => return Err(unsupported(format!("The option {name} is not supported: {instead}."))),
            }
        }
        let given = self.take("params");
        if let Some(Value::String(text)) = given {
            let limits = Limits { values: MAX_LIST + 1, depth: 1 };
            let object = match Value::parse(text.as_bytes(), limits) {
                Ok(Value::Object(object)) => Some(object),
                _ => None,
            };
            self.parameters_object(object)?;
        }
        match self
            .values
            .iter()
            .map(|(name, _)| name)
            .find(|name| !QUERY_OPTIONS.contains(&name.as_str()) && !nested(name))
        {
            Some(name) if name == "_" => Err(unparsable("The parameter _, a way around caches, takes digits only.")),
            Some(name) => Err(unparsable(format!("The parameter {} is unknown.", shown(name)))),
            None => Ok(()),
        }
    }

    pub(super) fn parameters_object(&mut self, object: Option<Map>) -> Result<(), Denial> {
        let object = object.ok_or_else(|| unparsable("params must be an object of names and values."))?;
        object.into_iter().try_for_each(|(name, value)| self.parameter(&name, value))
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.values.iter().position(|(have, _)| have == name)?;
        Some(self.values.swap_remove(at).1)
    }

    /// Forgets an option that is given empty, as forms send it: to DreamFactory it says nothing.
    pub(super) fn drop_empty(&mut self, name: &str) {
        if self.values.iter().any(|(have, value)| have == name && value.as_str() == Some("")) {
            self.take(name);
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Denial> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
            Some(_) => Err(unparsable(format!("The option {} must be a string that is not empty.", shown(name)))),
        }
    }

    /// The entries of a comma-separated string or of a list.
    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Denial> {
        let all: Vec<Value> = match self.take(name) {
            None => return Ok(None),
            Some(Value::String(text)) => {
                text.split(',').take(MAX_LIST + 1).map(|part| Value::from(part.trim())).collect()
            }
            Some(Value::Array(all)) => all,
            Some(number @ Value::Number(_)) => vec![number],
            Some(_) => return Err(unparsable(format!("The option {} must be a list.", shown(name)))),
        };
        if all.is_empty() || all.len() > MAX_LIST || all.iter().any(|value| value.as_str() == Some("")) {
            return Err(unparsable(format!("The option {} is empty, too long, or has an empty entry.", shown(name))));
        }
        Ok(Some(all))
    }

    pub(super) fn names(&mut self, name: &str) -> Result<Option<Vec<String>>, Denial> {
        if let Some((_, Value::String(text))) = self.values.iter().find(|(have, _)| have == name) {
            let all: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
            if all.len() <= MAX_LIST && !all.iter().any(String::is_empty) {
                self.take(name);
                return Ok(Some(all));
            }
        }
        let Some(all) = self.list(name)? else { return Ok(None) };
        let name_of = |value: Value| match value {
            Value::String(text) => Ok(text.into()),
            _ => Err(unparsable(format!("The option {} must have names only.", shown(name)))),
        };
        all.into_iter().map(name_of).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, Denial> {
        let number = match self.take(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            Some(Value::Number(number)) => number.as_u64(),
            Some(_) => None,
        };
        let number = number.filter(|number| *number <= u64::from(u32::MAX));
        number.map(Some).ok_or_else(|| unparsable(format!("The option {} must be a whole number.", shown(name))))
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Denial> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(value),
            Some(Value::String(text)) if boolean(&text).is_some() => Ok(boolean(&text) == Some(true)),
            Some(_) => Err(unparsable(format!("The option {} must be true or false.", shown(name)))),
        }
    }
}

pub(super) fn resolve(component: Option<&Component>, name: &str) -> Result<Name, Denial> {
    if !is_field(name) {
        return Err(unparsable("A field's name has characters that are not allowed there."));
    }
    Ok(match component.and_then(|component| component.field_ignoring_case(name)) {
        Some(field) => field.name.clone(),
        None => name.into(),
    })
}

pub(super) fn columns(
    component: Option<&Component>,
    names: Option<Vec<String>>,
) -> Result<Option<Vec<Column>>, Denial> {
    let Some(names) = names else { return Ok(None) };
    if matches!(names.as_slice(), [all] if all == "*") {
        return Ok(None);
    }
    let column = |name: &String| {
        let Some((function, rest)) = name.split_once('(') else {
            return resolve(component, name).map(Column::Field);
        };
        let known = ["SUM", "COUNT", "AVG", "MIN", "MAX"];
        let function = known.into_iter().find(|known| known.eq_ignore_ascii_case(function.trim()));
        let (Some(function), Some(inner)) = (function, rest.strip_suffix(')')) else {
            return Err(unsupported("fields may have plain names, and SUM, COUNT, AVG, MIN and MAX of one field."));
        };
        match inner.trim() {
            "*" if function == "COUNT" => Ok(Column::Aggregate(function, None)),
            inner => Ok(Column::Aggregate(function, Some(resolve(component, inner)?))),
        }
    };
    names.iter().map(column).collect::<Result<Vec<_>, _>>().map(Some)
}

pub(super) fn orders(component: Option<&Component>, names: Option<Vec<String>>) -> Result<Vec<Order>, Denial> {
    let order = |text: &String| {
        let words: Vec<String> = text.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (descending, nulls_first) = match words.get(1..).unwrap_or_default() {
            [] | ["asc"] => (false, None),
            ["desc"] => (true, None),
            ["asc", "nulls", "first"] => (false, Some(true)),
            ["asc", "nulls", "last"] => (false, Some(false)),
            ["desc", "nulls", "first"] => (true, Some(true)),
            ["desc", "nulls", "last"] => (true, Some(false)),
            _ => return Err(unparsable("order must be a list of: field [asc|desc [nulls first|last]].")),
        };
        let field = resolve(component, text.split_ascii_whitespace().next().unwrap_or_default())?;
        Ok(Order { field, descending, nulls_first })
    };
    names.unwrap_or_default().iter().map(order).collect()
}
