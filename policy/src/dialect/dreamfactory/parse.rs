//! Request → syntax tree and `DataRequest`.

use super::{
    body, filter,
    filter::Literal,
    path, tree,
    tree::{Call, Column, File, Order, Related, Rows, Table, Target},
    unparsable, unsupported,
};
use crate::{
    Name,
    bundle::{Component, Service},
    code::Denial,
    dialect::{BodyNeed, Parsed, Syntax},
    request::{
        Capabilities, Clause, DataRequest, FieldUse, HttpRequest, Operation, Projection, Verb, WriteKind, WrittenRow,
    },
    value::{FieldType, Value as Typed},
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Headers that make a `POST` mean another method.
pub(super) const OVERRIDES: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];
const MAX_RECORDS: usize = 1000;
const MAX_LIST: usize = 400;
/// Options that DreamFactory also takes from the body, under their canonical names.
const BODY_OPTIONS: [&str; 11] =
    ["fields", "ids", "filter", "limit", "offset", "order", "group", "count_only", "params", "continue", "rollback"];
const QUERY_OPTIONS: [&str; 19] = [
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
    "include_schema",
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

fn is_alias(name: &str) -> bool {
    ALIASES.iter().any(|(alias, _)| *alias == name)
}

/// DreamFactory takes a body with every method but `GET`; a `GET` that announces one is read too, to be refused.
#[must_use]
pub fn body_need(request: &HttpRequest<'_>) -> BodyNeed {
    let announced = request.has_header("transfer-encoding")
        || request.headers.iter().any(|header| header.name == "content-length" && header.value != b"0");
    if request.method == "GET" && !announced { BodyNeed::None } else { BodyNeed::Whole }
}

/// Parses a request of a DreamFactory service.
///
/// # Errors
/// `unparsable`, `unsupported` or `too_large`, if any part of the request is not understood completely.
pub fn parse(service: &Service, prefix: &str, request: &HttpRequest<'_>) -> Result<Parsed, Denial> {
    let mut target = path::split(prefix, request.path)?;
    let (verb, tunnelled) = verb(request, &mut target.query)?;
    if request.method == "GET" && request.body.is_some_and(|body| !body.is_empty()) {
        return Err(unparsable("A GET must not have a body; send a POST with X-HTTP-Method: GET instead."));
    }
    let (parsed, operations) =
        if service.files { file(service, verb, target, request)? } else { resource(service, verb, target, request)? };
    Ok(Parsed {
        request: DataRequest { operations },
        syntax: Syntax::DreamFactory(tree::Request { verb, tunnelled, target: parsed }),
    })
}

type Understood = (Target, Vec<Operation>);

/// The verb as meant; overrides are taken out of the query.
fn verb(request: &HttpRequest<'_>, query: &mut Vec<(String, String)>) -> Result<(Verb, bool), Denial> {
    let mut overrides = Vec::new();
    for header in request.headers.iter().filter(|header| OVERRIDES.contains(&header.name)) {
        overrides.push(String::from_utf8_lossy(header.value).into_owned());
    }
    query.retain(|(name, value)| {
        let is_override = name == "method" || name == "_method";
        if is_override {
            overrides.push(value.clone());
        }
        !is_override
    });
    let named = |name: &str| {
        Ok(match name {
            "GET" => Verb::Get,
            "POST" => Verb::Post,
            "PUT" => Verb::Put,
            "PATCH" | "MERGE" => Verb::Patch,
            "DELETE" => Verb::Delete,
            _ => return Err(unsupported("The method must be GET, POST, PUT, PATCH, MERGE or DELETE.")),
        })
    };
    match overrides.as_slice() {
        [] if request.method == "MERGE" => Err(unsupported("Send PATCH instead of MERGE.")),
        [] => Ok((named(request.method)?, false)),
        [meant] if request.method == "POST" => {
            let verb = named(meant.to_ascii_uppercase().as_str())?;
            Ok((verb, verb != Verb::Post))
        }
        [_] => Err(unparsable("Only a POST may carry a method override.")),
        _ => Err(unparsable("The request has more than one method override.")),
    }
}

fn resource(
    service: &Service,
    verb: Verb,
    target: path::Target,
    request: &HttpRequest<'_>,
) -> Result<Understood, Denial> {
    if target.folder && !target.segments.is_empty() {
        return Err(unparsable("The path must not end in a slash."));
    }
    let json = body::json(service, request)?;
    let canonical = |name: &str| -> Result<String, Denial> {
        if !path::plain_name(name) || !name.is_ascii() {
            return Err(unparsable("A name in the path has characters that are not allowed there."));
        }
        Ok(if service.case_insensitive { name.to_ascii_lowercase() } else { name.to_owned() })
    };
    let no_rest = |what: Target, component: Name| {
        if verb != Verb::Get || !target.query.is_empty() || json.is_some() {
            return Err(unsupported("Lists of names and schemas can only be read, without parameters."));
        }
        let mut operation = Operation::new(component, verb);
        operation.capabilities = Capabilities { cap: true, ..Capabilities::default() };
        Ok((what, vec![operation]))
    };
    let segments: Vec<&str> = target.segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["_table"] => no_rest(Target::List("_table"), "_table".into()),
        ["_proc"] => no_rest(Target::List("_proc"), "_proc".into()),
        ["_func"] => no_rest(Target::List("_func"), "_func".into()),
        ["_schema"] => no_rest(Target::List("_schema"), "_schema".into()),
        ["_schema", name] => {
            let name = canonical(name)?;
            let (schema, mut operations) =
                no_rest(Target::Schema(name.as_str().into()), format!("_schema/{name}").into())?;
            // A schema shows every field, so whoever reads it must be allowed to read the whole table's fields. Rows
            // and masks do not matter to it.
            let mut table = Operation::new(format!("_table/{name}").into(), Verb::Get);
            table.projection = Projection::All;
            table.capabilities =
                Capabilities { rows: true, project: true, mask: true, cap: true, ..Capabilities::default() };
            table.parent = Some(0);
            operations.push(table);
            Ok((schema, operations))
        }
        ["_table", name] => table(service, verb, canonical(name)?, None, target.query, json),
        ["_table", name, id] => table(service, verb, canonical(name)?, Some(id), target.query, json),
        ["_proc", name] => call(service, verb, "_proc", canonical(name)?, target.query, json),
        ["_func", name] => call(service, verb, "_func", canonical(name)?, target.query, json),
        _ => Err(unparsable("The path is none that this service's data API has.")),
    }
}

fn file(service: &Service, verb: Verb, target: path::Target, request: &HttpRequest<'_>) -> Result<Understood, Denial> {
    if !target.query.is_empty() || ["x-file-name", "x-folder-name"].iter().any(|name| request.has_header(name)) {
        return Err(unsupported("A file request must have neither parameters nor X-File-Name or X-Folder-Name."));
    }
    if target.segments.is_empty() || !target.segments.iter().all(|name| path::plain_name(name)) {
        return Err(unparsable("The path names no file, or has characters that are not allowed there."));
    }
    let has_body = request.body.is_some_and(|body| !body.is_empty());
    let write = match verb {
        Verb::Get => WriteKind::None,
        Verb::Delete => WriteKind::Delete,
        _ => WriteKind::Replace,
    };
    let multipart = request
        .headers
        .iter()
        .any(|header| header.name == "content-type" && header.value.to_ascii_lowercase().starts_with(b"multipart/"));
    match write {
        WriteKind::Replace if target.folder || multipart => {
            return Err(unsupported("Write one file at a time: no folders, no multipart bodies."));
        }
        WriteKind::Delete if target.folder => return Err(unsupported("Folders cannot be deleted.")),
        WriteKind::None | WriteKind::Delete if has_body => {
            return Err(unparsable("Reading and deleting a file takes no body."));
        }
        _ => {}
    }
    let mut component = target.segments.join("/");
    if service.case_insensitive {
        component.make_ascii_lowercase();
    }
    let mut operation = Operation::new(component.into(), verb);
    operation.write = write;
    operation.capabilities = Capabilities { cap: true, ..Capabilities::default() };
    Ok((Target::File(File { segments: target.segments, folder: target.folder }), vec![operation]))
}

fn call(
    service: &Service,
    verb: Verb,
    kind: &'static str,
    name: String,
    query: Vec<(String, String)>,
    json: Option<Value>,
) -> Result<Understood, Denial> {
    if !matches!(verb, Verb::Get | Verb::Post) {
        return Err(unsupported("Procedures and functions are called with GET or POST."));
    }
    let component = service.component(&format!("{kind}/{name}"));
    let mut given: Vec<(String, Value)> = query.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    match json {
        None => {}
        Some(_) if verb == Verb::Get => return Err(unparsable("Arguments of a GET belong in the query.")),
        Some(Value::Object(mut object)) => {
            match object.remove("params") {
                Some(Value::Object(arguments)) => given.extend(arguments),
                Some(Value::Array(all)) => {
                    for argument in all {
                        let Value::Object(mut argument) = argument else {
                            return Err(unsupported("Each entry of params must be an object with name and value."));
                        };
                        match (argument.remove("name"), argument.remove("value")) {
                            (Some(Value::String(name)), Some(value)) if argument.is_empty() => {
                                given.push((name, value))
                            }
                            _ => {
                                return Err(unsupported(
                                    "Each entry of params must have name and value, nothing else.",
                                ));
                            }
                        }
                    }
                }
                None => {}
                Some(_) => return Err(unparsable("params must be an object or a list.")),
            }
            if !object.is_empty() {
                return Err(unsupported("The body of a call may only have params."));
            }
        }
        Some(_) => return Err(unparsable("The body of a call must be an object with params.")),
    }
    let mut operation = Operation::new(format!("{kind}/{name}").into(), verb);
    let mut arguments: Vec<(Name, Value)> = Vec::new();
    for (name, value) in given {
        let parameter = component.and_then(|component| {
            component.parameters.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(&name))
        });
        let Some(parameter) = parameter else {
            return Err(unparsable(format!("The call has a parameter {} that is not declared.", shown(&name))));
        };
        if arguments.iter().any(|(have, _)| *have == parameter.name) {
            return Err(unparsable(format!("The parameter {} is given twice.", parameter.name)));
        }
        if body::has_lookup(&value) {
            return Err(unsupported("An argument has braces, in which DreamFactory would look values up."));
        }
        let Some(Some(typed)) = body::typed(&value, parameter.field_type) else {
            return Err(unparsable(format!("The parameter {} has a value of another type.", parameter.name)));
        };
        if let Typed::Literal(literal) = &typed
            && !parameter.allowed.is_empty()
            && !parameter.allowed.iter().any(|allowed| **allowed == *plain(&body::to_json(literal)))
        {
            return Err(unparsable(format!("The parameter {} has a value that is not allowed.", parameter.name)));
        }
        let value = match &typed {
            Typed::Null => Value::Null,
            Typed::Literal(literal) => body::to_json(literal),
        };
        arguments.push((parameter.name.clone(), value));
        operation.arguments.push((parameter.name.clone(), typed));
    }
    if let Some(missing) = component.and_then(|component| {
        component.parameters.iter().find(|p| p.required && !arguments.iter().any(|(n, _)| *n == p.name))
    }) {
        return Err(unparsable(format!("The parameter {} must be given.", missing.name)));
    }
    let fields = component.is_some_and(|component| !component.fields.is_empty());
    operation.projection = if fields { Projection::All } else { Projection::Nothing };
    operation.capabilities = Capabilities { project: fields, mask: fields, cap: !fields, ..Capabilities::default() };
    Ok((Target::Call(Call { kind, name, arguments }), vec![operation]))
}

/// A scalar as the text of a query parameter.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A name that the caller sent, cut to a length that fits into an answer.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

/// The options of a request under their canonical names, from the query and the body.
#[derive(Default)]
struct Options {
    values: BTreeMap<String, Value>,
    parameters: Vec<(String, Literal)>,
}

impl Options {
    fn add(&mut self, name: String, value: Value) -> Result<(), Denial> {
        let canonical = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name.as_str(), |(_, option)| *option);
        if self.values.insert(canonical.to_owned(), value).is_some() {
            return Err(unparsable(format!("The option {} is given twice, or under two names.", shown(canonical))));
        }
        Ok(())
    }

    fn parameter(&mut self, name: &str, value: Value) -> Result<(), Denial> {
        let name = format!(":{}", name.strip_prefix(':').unwrap_or(name));
        let literal = match value {
            Value::String(text) => Literal::text(&text)?,
            Value::Number(number) if number.is_i64() => Literal::Number(number.to_string()),
            Value::Bool(value) => Literal::Number(u8::from(value).to_string()),
            _ => return Err(unsupported("A value in params must be a string, an integer or a boolean.")),
        };
        if self.parameters.iter().any(|(have, _)| *have == name) || self.parameters.len() >= MAX_LIST {
            return Err(unparsable("params gives a parameter twice, or too many parameters."));
        }
        self.parameters.push((name, literal));
        Ok(())
    }

    fn query(&mut self, query: Vec<(String, String)>) -> Result<(), Denial> {
        for (name, value) in query {
            if let Some(parameter) = name.strip_prefix("params[").and_then(|rest| rest.strip_suffix(']')) {
                self.parameter(parameter, Value::String(value))?;
            } else {
                self.add(name, Value::String(value))?;
            }
        }
        let given = self.values.remove("params");
        if let Some(Value::String(text)) = given {
            let object = serde_json::from_str::<Value>(&text).ok().and_then(|value| value.as_object().cloned());
            self.parameters_object(object)?;
        }
        let nested = |name: &str| {
            name.rsplit_once('.').is_some_and(|(_, option)| matches!(option, "fields" | "limit" | "order"))
        };
        match self.values.keys().find(|name| !QUERY_OPTIONS.contains(&name.as_str()) && !nested(name)) {
            Some(name) => Err(unparsable(format!("The parameter {} is unknown.", shown(name)))),
            None => Ok(()),
        }
    }

    fn parameters_object(&mut self, object: Option<Map<String, Value>>) -> Result<(), Denial> {
        let object = object.ok_or_else(|| unparsable("params must be an object of names and values."))?;
        object.into_iter().try_for_each(|(name, value)| self.parameter(&name, value))
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Denial> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
            Some(_) => Err(unparsable(format!("The option {} must be a string that is not empty.", shown(name)))),
        }
    }

    /// The entries of a comma-separated string or of a list.
    fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Denial> {
        let all: Vec<Value> = match self.take(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.split(',').map(|part| Value::from(part.trim())).collect(),
            Some(Value::Array(all)) => all,
            Some(number @ Value::Number(_)) => vec![number],
            Some(_) => return Err(unparsable(format!("The option {} must be a list.", shown(name)))),
        };
        if all.is_empty() || all.len() > MAX_LIST || all.iter().any(|value| value.as_str() == Some("")) {
            return Err(unparsable(format!("The option {} is empty, too long, or has an empty entry.", shown(name))));
        }
        Ok(Some(all))
    }

    fn names(&mut self, name: &str) -> Result<Option<Vec<String>>, Denial> {
        let Some(all) = self.list(name)? else { return Ok(None) };
        let name_of = |value: Value| match value {
            Value::String(text) => Ok(text),
            _ => Err(unparsable(format!("The option {} must have names only.", shown(name)))),
        };
        all.into_iter().map(name_of).collect::<Result<_, _>>().map(Some)
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, Denial> {
        let number = match self.take(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            Some(Value::Number(number)) => number.as_u64(),
            Some(_) => None,
        };
        let number = number.filter(|number| *number <= u64::from(u32::MAX));
        number.map(Some).ok_or_else(|| unparsable(format!("The option {} must be a whole number.", shown(name))))
    }

    fn flag(&mut self, name: &str) -> Result<bool, Denial> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(value),
            Some(Value::String(text)) if matches!(text.as_str(), "true" | "1") => Ok(true),
            Some(Value::String(text)) if matches!(text.as_str(), "false" | "0") => Ok(false),
            Some(_) => Err(unparsable(format!("The option {} must be true or false.", shown(name)))),
        }
    }
}

fn resolve(component: Option<&Component>, name: &str) -> Result<Name, Denial> {
    if !filter::is_field(name) {
        return Err(unparsable("A field's name has characters that are not allowed there."));
    }
    Ok(match component.and_then(|component| component.field_ignoring_case(name)) {
        Some(field) => field.name.clone(),
        None => name.into(),
    })
}

fn columns(component: Option<&Component>, names: Option<Vec<String>>) -> Result<Option<Vec<Column>>, Denial> {
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

fn orders(component: Option<&Component>, names: Option<Vec<String>>) -> Result<Vec<Order>, Denial> {
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

fn related(service: &Service, component: Option<&Component>, options: &mut Options) -> Result<Vec<Related>, Denial> {
    let mut all: Vec<Related> = Vec::new();
    for name in options.names("related")?.unwrap_or_default() {
        let relation = component.and_then(|component| {
            component.relations.iter().find(|relation| relation.name.eq_ignore_ascii_case(&name))
        });
        let Some(relation) = relation.filter(|relation| filter::is_field(&relation.name)) else {
            return Err(unparsable(format!("The relation {} is not declared.", shown(&name))));
        };
        if all.iter().any(|have| have.name == relation.name) {
            return Err(unparsable("related names a relation twice."));
        }
        let target = service.component(&relation.component).map(AsRef::as_ref);
        let fields = options.names(&format!("{name}.fields"))?;
        let order = options.names(&format!("{name}.order"))?;
        all.push(Related {
            name: relation.name.clone(),
            component: relation.component.clone(),
            fields: columns(target, fields)?,
            order: orders(target, order)?,
            limit: options.number(&format!("{name}.limit"))?.filter(|limit| *limit > 0),
        });
    }
    Ok(all)
}

fn table(
    service: &Service,
    verb: Verb,
    name: String,
    id: Option<&str>,
    query: Vec<(String, String)>,
    json: Option<Value>,
) -> Result<Understood, Denial> {
    let component_name: Name = format!("_table/{name}").into();
    let component = service.component(&component_name).map(AsRef::as_ref);
    let mut options = Options::default();
    options.query(query)?;
    let records = records(component, verb, id, json, &mut options)?;
    for name in ["having", "as_list", "include_schema"] {
        if options.take(name).is_some_and(|value| !matches!(value.as_str(), Some("false" | "0"))) {
            return Err(unsupported(format!("The option {name} is not supported.")));
        }
    }
    let key = component.map(|component| component.key.as_slice()).unwrap_or_default();
    if let Some(given) = options.names("id_field")?
        && !(given.len() == key.len() && given.iter().zip(key).all(|(given, key)| key.eq_ignore_ascii_case(given)))
    {
        return Err(unsupported("id_field must be the declared key."));
    }
    // The key's type is declared too; DreamFactory finds it in the database.
    if let Some(given) = options.text("id_type")?
        && !matches!(given.as_str(), "int" | "integer" | "string")
    {
        return Err(unsupported("id_type must be int, integer or string."));
    }
    let mut table = Table { name, records, ..Table::default() };
    let ids = options.list("ids")?;
    let text = match options.take("filter") {
        None => None,
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => return Err(unsupported("filter must be a string.")),
    };
    table.rows = match (id, ids, text) {
        (None, None, None) => Rows::All,
        (None, None, Some(text)) => Rows::Filter(filter::parse(&text, &options.parameters, component)?),
        (None, Some(ids), None) => {
            let literal = |value: &Value| match value {
                Value::Number(number) if number.is_i64() => Ok(Literal::Number(number.to_string())),
                Value::String(text) => match Literal::text(text)? {
                    Literal::Text(text) if text.parse::<i64>().is_ok_and(|number| number.to_string() == text) => {
                        Ok(Literal::Number(text))
                    }
                    literal => Ok(literal),
                },
                _ => Err(unsupported("ids must be integers or strings.")),
            };
            Rows::Ids(ids.iter().map(literal).collect::<Result<_, _>>()?)
        }
        (Some(id), None, None) => {
            if !path::plain_name(id) || id.contains(',') || !filter::carries(id) {
                return Err(unsupported("The key in the path has characters that are not allowed there."));
            }
            Rows::One(id.to_owned())
        }
        _ => return Err(unsupported("Give one of: a key in the path, ids, filter.")),
    };
    let fields = options.names("fields")?;
    table.fields = columns(component, fields)?;
    let order = options.names("order")?;
    table.order = orders(component, order)?;
    let group = options.names("group")?.unwrap_or_default();
    table.group = group.iter().map(|name| resolve(component, name)).collect::<Result<_, _>>()?;
    table.limit = options.number("limit")?.filter(|limit| *limit > 0);
    table.offset = options.number("offset")?;
    table.include_count = options.flag("include_count")?;
    table.count_only = options.flag("count_only")?;
    table.go_on = options.flag("continue")?;
    table.rollback = options.flag("rollback")?;
    table.force = options.flag("force")?;
    table.related = related(service, component, &mut options)?;
    if let Some(name) = options.values.keys().next() {
        return Err(unparsable(format!("The parameter {} belongs to no relation that is asked for.", shown(name))));
    }
    check(verb, &table, key)?;
    let operations = operations(verb, &table, component_name, component)?;
    Ok((Target::Table(table), operations))
}

/// What makes no sense together, or is not understood the same by every version of DreamFactory.
fn check(verb: Verb, table: &Table, key: &[Name]) -> Result<(), Denial> {
    let list = verb == Verb::Get && !matches!(table.rows, Rows::One(_));
    let aggregates = table.fields.iter().flatten().any(|column| matches!(column, Column::Aggregate(..)));
    if aggregates && table.group.is_empty() {
        return Err(unparsable("Aggregates in fields need group."));
    }
    if table
        .related
        .iter()
        .flat_map(|related| related.fields.iter().flatten())
        .any(|c| matches!(c, Column::Aggregate(..)))
    {
        return Err(unsupported("Aggregates of related rows are not supported."));
    }
    let paging = table.limit.is_some() || table.offset.is_some() || !table.order.is_empty();
    if !list && (paging || !table.group.is_empty() || table.include_count || table.count_only) {
        return Err(unsupported("limit, offset, order, group and counts belong to reading a list."));
    }
    if verb != Verb::Get && !table.related.is_empty() {
        return Err(unsupported("related belongs to reading."));
    }
    if !table.group.is_empty() && !table.related.is_empty() {
        return Err(unsupported("related cannot be combined with group."));
    }
    if matches!(table.rows, Rows::Ids(_)) && (paging || !table.group.is_empty() || table.count_only) {
        return Err(unsupported("ids cannot be combined with paging, group or count_only: use filter."));
    }
    if matches!(table.rows, Rows::One(_) | Rows::Ids(_)) && key.len() != 1 {
        return Err(unsupported("Rows can be named by key only where the component declares a key of one field."));
    }
    match verb {
        Verb::Post if !matches!(table.rows, Rows::All) => Err(unsupported("Creating takes no key, ids or filter.")),
        Verb::Put | Verb::Patch if !matches!(table.rows, Rows::All) && table.records.len() > 1 => {
            Err(unsupported("An update of rows by key, ids or filter takes one record."))
        }
        Verb::Put | Verb::Patch if matches!(table.rows, Rows::All) && key.is_empty() => {
            Err(unsupported("An update by keys in the body needs a declared key."))
        }
        Verb::Post | Verb::Put | Verb::Patch if table.records.is_empty() => Err(unparsable("The body has no record.")),
        Verb::Delete if matches!(table.rows, Rows::All) && !table.force => {
            Err(unsupported("A delete needs a key, ids or a filter; all rows only with force=true."))
        }
        Verb::Get | Verb::Delete if !table.records.is_empty() => Err(unsupported("Name the rows by ids or filter.")),
        _ => Ok(()),
    }
}

/// The rows in a body, under the declared names of their fields and with values of their types. Options beside them go
/// into `options`.
fn records(
    component: Option<&Component>,
    verb: Verb,
    id: Option<&str>,
    json: Option<Value>,
    options: &mut Options,
) -> Result<Vec<Map<String, Value>>, Denial> {
    let mut bare = id.is_some();
    let rows = match json {
        None => return Ok(Vec::new()),
        Some(Value::Array(rows)) if id.is_none() && verb != Verb::Get => rows,
        Some(Value::Object(object)) if id.is_some() && verb != Verb::Get => vec![Value::Object(object)],
        Some(Value::Object(mut object)) if id.is_none() => {
            let rows = object.remove("resource");
            if rows.is_none() && matches!(verb, Verb::Post | Verb::Put | Verb::Patch) && !object.contains_key("ids") {
                bare = true;
                vec![Value::Object(object)]
            } else {
                for (name, value) in object {
                    if !BODY_OPTIONS.contains(&name.as_str()) && !is_alias(&name) {
                        return Err(unparsable(format!("The body has an option {} that is unknown.", shown(&name))));
                    }
                    match (name.as_str(), value) {
                        ("params", Value::Object(parameters)) => options.parameters_object(Some(parameters))?,
                        ("params", _) => options.parameters_object(None)?,
                        (_, value) => options.add(name, value)?,
                    }
                }
                match rows {
                    None => Vec::new(),
                    Some(Value::Array(rows)) => rows,
                    Some(_) => return Err(unparsable("resource in the body must be a list of records.")),
                }
            }
        }
        Some(_) => return Err(unparsable("The body must be an object or a list of records.")),
    };
    if rows.len() > MAX_RECORDS {
        return Err(unsupported("The body has more than 1,000 records."));
    }
    rows.into_iter().map(|row| record(component, row, bare)).collect()
}

fn record(component: Option<&Component>, row: Value, bare: bool) -> Result<Map<String, Value>, Denial> {
    let Value::Object(row) = row else {
        return Err(unsupported("Each record must be an object."));
    };
    let mut record = Map::new();
    for (name, value) in row {
        // DreamFactory reads these as options, or as another method, where the record is the whole body.
        let option = QUERY_OPTIONS.contains(&name.as_str()) || is_alias(&name);
        if bare && (option || matches!(name.as_str(), "_method" | "method" | "resource")) {
            return Err(unsupported(format!(
                "The record has a member {name}, which DreamFactory would take for an option: send {{\"resource\": [record]}}."
            )));
        }
        if value.get("expression").is_some() || body::has_lookup(&value) {
            return Err(unsupported(
                "A record has an expression or a lookup in braces, which DreamFactory would evaluate.",
            ));
        }
        let field = component.and_then(|component| component.field_ignoring_case(&name));
        let relation = component.is_some_and(|c| c.relations.iter().any(|have| have.name.eq_ignore_ascii_case(&name)));
        if relation {
            return Err(unsupported(format!("Related rows cannot be written through {}.", shown(&name))));
        }
        let field_type = field.map_or(FieldType::Unspecified, |field| field.field_type);
        let Some(typed) = body::typed(&value, field_type) else {
            return Err(unparsable(format!("The field {} is given a value of another type.", shown(&name))));
        };
        let value = match &typed {
            Some(Typed::Literal(literal)) => body::to_json(literal),
            Some(Typed::Null) | None => value,
        };
        let name = field.map_or(name, |field| field.name.to_string());
        if record.insert(name, value).is_some() {
            return Err(unparsable("A record gives a field twice, in different case."));
        }
    }
    if record.is_empty() {
        return Err(unparsable("A record is empty."));
    }
    Ok(record)
}

fn operations(
    verb: Verb,
    table: &Table,
    component_name: Name,
    component: Option<&Component>,
) -> Result<Vec<Operation>, Denial> {
    let mut operation = Operation::new(component_name, verb);
    let key = component.map(|component| component.key.as_slice()).unwrap_or_default();
    let mut add = |field: &Name, clause| operation.fields.push(FieldUse { field: field.clone(), clause });
    project(&table.fields, &mut add);
    table.order.iter().for_each(|order| add(&order.field, Clause::Sort));
    table.group.iter().for_each(|field| add(field, Clause::Group));
    let by_body = matches!(verb, Verb::Put | Verb::Patch) && matches!(table.rows, Rows::All);
    match &table.rows {
        Rows::All if by_body => key.iter().for_each(|field| add(field, Clause::Key)),
        Rows::All => {}
        Rows::One(_) | Rows::Ids(_) => key.iter().for_each(|field| add(field, Clause::Key)),
        Rows::Filter(filter) => {
            let mut fields = Vec::new();
            filter.fields(&mut fields);
            fields.iter().for_each(|field| add(field, Clause::Filter));
        }
    }
    for record in &table.records {
        if by_body && !key.iter().all(|key| record.contains_key(&**key)) {
            return Err(unparsable("A record to update has no key."));
        }
        let mut row = WrittenRow::default();
        for (name, value) in record {
            let name: Name = name.as_str().into();
            if by_body && key.contains(&name) {
                continue;
            }
            let field = component.and_then(|component| component.field(&name));
            let typed = body::typed(value, field.map_or(FieldType::Unspecified, |field| field.field_type));
            add(&name, Clause::Write);
            row.values.push((name, typed.flatten()));
        }
        operation.writes.push(row);
    }
    let reads = verb == Verb::Get && !table.count_only;
    operation.projection = match (&table.fields, reads) {
        (Some(_), _) => Projection::Listed,
        (None, true) => Projection::All,
        (None, false) => Projection::Nothing,
    };
    operation.limit = table.limit;
    operation.write = match (verb, &table.rows) {
        (Verb::Post, _) => WriteKind::Create,
        (Verb::Delete, _) => WriteKind::Delete,
        // Where the service allows upserts, an update by key creates what it does not find.
        (Verb::Put | Verb::Patch, Rows::All | Rows::One(_)) => WriteKind::Replace,
        (Verb::Put | Verb::Patch, _) => WriteKind::Update,
        _ => WriteKind::None,
    };
    let rows = match &table.rows {
        Rows::One(_) => false,
        Rows::All => !by_body && verb != Verb::Delete,
        Rows::Ids(_) | Rows::Filter(_) => true,
    };
    // An update by filter answers with every row it touched; without fields these are bare keys.
    let cap =
        matches!(verb, Verb::Get | Verb::Post) || table.fields.is_none() || !matches!(table.rows, Rows::Filter(_));
    operation.capabilities = Capabilities { rows, project: true, mask: true, cap, check: true, set: true };
    let mut operations = vec![operation];
    for related in &table.related {
        let mut nested = Operation::new(related.component.clone(), Verb::Get);
        let mut add = |field: &Name, clause| nested.fields.push(FieldUse { field: field.clone(), clause });
        project(&related.fields, &mut add);
        related.order.iter().for_each(|order| add(&order.field, Clause::Sort));
        nested.projection = if related.fields.is_some() { Projection::Listed } else { Projection::All };
        nested.limit = related.limit;
        // DreamFactory has no filter for related rows.
        nested.capabilities = Capabilities { project: true, mask: true, cap: true, ..Capabilities::default() };
        nested.parent = Some(0);
        operations.push(nested);
    }
    Ok(operations)
}

fn project(fields: &Option<Vec<Column>>, add: &mut impl FnMut(&Name, Clause)) {
    for column in fields.iter().flatten() {
        match column {
            Column::Field(field) => add(field, Clause::Project),
            Column::Aggregate(_, Some(field)) => add(field, Clause::Aggregate),
            Column::Aggregate(_, None) => {}
        }
    }
}
