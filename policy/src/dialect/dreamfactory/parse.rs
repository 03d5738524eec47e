//! Request → syntax tree and `DataRequest`.

use super::{
    body,
    lookup::has_lookup,
    options, path,
    table::table,
    token::is_field,
    tree,
    tree::{Call, File, Target, Understood},
    unparsable, unsupported,
};
use crate::{
    Name,
    bundle::Service,
    code::Denial,
    dialect::{
        BodyNeed, names,
        rewrite::Parsed,
        shared::{OVERRIDES, announces_body, shown},
    },
    json::Value,
    request::{
        Capabilities, Clause, DataRequest, FieldUse, HttpRequest, Operation, Projection, Verb, WriteKind, same_header,
    },
    value::Value as Typed,
};

/// Headers that name another file than the path does.
const FILE_HEADERS: [&str; 2] = ["x-file-name", "x-folder-name"];

/// `HEAD` asks what `GET` asks, without the body of the answer.
fn reads(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

/// DreamFactory takes a body with every method but `GET`; a `GET` that announces one is read too, to be refused.
pub(super) fn body_need(request: &HttpRequest<'_>) -> BodyNeed {
    if reads(request.method) && !announces_body(request) { BodyNeed::None } else { BodyNeed::Whole }
}

/// Parses a request of a DreamFactory service.
///
/// # Errors
/// `unparsable`, `unsupported` or `too_large`, if any part of the request is not understood completely.
pub(super) fn parse(
    service: &Service,
    prefix: &str,
    request: &HttpRequest<'_>,
) -> Result<Parsed<tree::Request>, Denial> {
    let mut target = path::split(prefix, request.path)?;
    target.query.retain(|(name, value)| !names::is_cache_buster(name, value));
    let (verb, tunnelled) = verb(request, &mut target.query)?;
    if reads(request.method) && request.body.is_some_and(|body| !body.is_empty()) {
        return Err(unparsable("A GET must not have a body; send a POST with X-HTTP-Method: GET instead."));
    }
    let (parsed, operations) =
        if service.files { file(service, verb, target, request)? } else { resource(service, verb, target, request)? };
    Ok(Parsed {
        request: DataRequest { operations },
        syntax: tree::Request { verb, tunnelled, head: request.method == "HEAD", target: parsed },
    })
}

/// The verb as meant; overrides are taken out of the query.
fn verb(request: &HttpRequest<'_>, query: &mut Vec<(String, String)>) -> Result<(Verb, bool), Denial> {
    let mut overrides = Vec::new();
    for header in request.headers.iter().filter(|header| OVERRIDES.iter().any(|name| same_header(header.name, name))) {
        if header.name.contains('_') {
            return Err(unparsable("A method override must be spelled with dashes, not with underscores."));
        }
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
            _ => return Err(unsupported("The method must be GET, HEAD, POST, PUT, PATCH or DELETE.")),
        })
    };
    match overrides.as_slice() {
        [] if request.method == "MERGE" => Err(unsupported("Send PATCH instead of MERGE.")),
        [] if request.method == "HEAD" => Ok((Verb::Get, false)),
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
    let only_read = |ok: bool| {
        if verb == Verb::Get && ok && json.is_none() {
            return Ok(());
        }
        Err(unsupported("Lists of names (but for as_list) and schemas can only be read, without parameters."))
    };
    let list = |kind: &'static str| {
        let as_list = match target.query.as_slice() {
            [] => Some(false),
            [(name, value)] if name == "as_list" => options::boolean(value),
            _ => None,
        };
        only_read(as_list.is_some())?;
        let operation = alone(kind.into(), verb);
        Ok((Target::List(tree::List { kind, as_list: as_list.unwrap_or_default() }), vec![operation]))
    };
    let segments: Vec<&str> = target.segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["_table"] => list("_table"),
        ["_proc"] => list("_proc"),
        ["_func"] => list("_func"),
        ["_schema"] => list("_schema"),
        ["_schema", name, part @ ..] => {
            only_read(target.query.is_empty())?;
            schema(service, verb, canonical(name)?, part)
        }
        ["_table", name] => table(service, verb, canonical(name)?, None, target.query, json),
        ["_table", name, id] => table(service, verb, canonical(name)?, Some(id), target.query, json),
        ["_proc", name] => call(service, verb, "_proc", canonical(name)?, target.query, json),
        ["_func", name] => call(service, verb, "_func", canonical(name)?, target.query, json),
        ["_spec"] => {
            Err(unsupported("The service's description shows all of its tables and fields: it does not pass."))
        }
        _ => Err(unparsable("The path is none that this service's data API has.")),
    }
}

/// An operation on something that has neither rows nor fields.
fn alone(component: Name, verb: Verb) -> Operation {
    let mut operation = Operation::new(component, verb);
    operation.capabilities = Capabilities { cap: true, ..Capabilities::default() };
    operation
}

/// Whoever reads a schema must be allowed to read what it shows: every field of the table, or the one that is asked for.
/// Rows do not matter to it.
fn schema(service: &Service, verb: Verb, name: String, part: &[&str]) -> Result<Understood, Denial> {
    let component: Name = format!("_table/{name}").into();
    let field = |name: &str| options::resolve(service.component(&component).map(AsRef::as_ref), name);
    let part = match part {
        [] => tree::Part::All,
        ["_field"] => tree::Part::Every("_field"),
        ["_related"] => tree::Part::Every("_related"),
        // The second is DreamFactory's older form of the first.
        ["_field", name] => tree::Part::Field(field(name)?),
        [name] => tree::Part::Field(field(name)?),
        ["_related", name] if is_field(name) => tree::Part::Relation((*name).to_owned()),
        _ => return Err(unparsable("The path is none that a table's schema has.")),
    };
    let mut table = Operation::new(component.clone(), Verb::Get);
    table.capabilities = Capabilities { rows: true, project: true, mask: true, cap: true, ..Capabilities::default() };
    table.parent = Some(0);
    match &part {
        tree::Part::Field(field) => {
            table.projection = Projection::Listed;
            table.fields.push(FieldUse { field: field.clone(), clause: Clause::Project });
        }
        _ => table.projection = Projection::All,
    }
    let own = alone(format!("_schema/{name}").into(), verb);
    Ok((Target::Schema(tree::Schema { name: name.into(), part }), vec![own, table]))
}

fn file(service: &Service, verb: Verb, target: path::Target, request: &HttpRequest<'_>) -> Result<Understood, Denial> {
    if !target.query.is_empty() || FILE_HEADERS.iter().any(|name| request.may_have_header(name)) {
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
    if verb == Verb::Get
        && let Some((name, _)) = query.iter().find(|(name, _)| !is_argument(name))
    {
        return Err(unsupported(format!(
            "DreamFactory reads the parameter {} for itself, or under another name: send the arguments in a POST, as params.",
            shown(name)
        )));
    }
    let mut given: Vec<(String, Value)> = query.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
    match json {
        None => {}
        Some(_) if verb == Verb::Get => return Err(unparsable("Arguments of a GET belong in the query.")),
        Some(Value::Object(mut object)) => {
            match object.remove("params") {
                Some(Value::Object(arguments)) => {
                    given.extend(arguments.into_iter().map(|(name, value)| (name.into(), value)))
                }
                Some(Value::Array(all)) => {
                    for argument in all {
                        let Value::Object(mut argument) = argument else {
                            return Err(unsupported("Each entry of params must be an object with name and value."));
                        };
                        match (argument.remove("name"), argument.remove("value")) {
                            (Some(Value::String(name)), Some(value)) if argument.is_empty() => {
                                given.push((name.into(), value))
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
        let Some(parameter) = parameter.filter(|_| !names::is_credential(&name)) else {
            return Err(unparsable(format!("The call has a parameter {} that is not declared.", shown(&name))));
        };
        if arguments.iter().any(|(have, _)| *have == parameter.name) {
            return Err(unparsable(format!("The parameter {} is given twice.", parameter.name)));
        }
        if has_lookup(&value) {
            return Err(unsupported("An argument has braces, in which DreamFactory would look values up."));
        }
        let Some(Some(typed)) = body::typed(&value, parameter.field_type) else {
            return Err(body::mistyped(&format!("parameter {}", parameter.name), &value, parameter.field_type));
        };
        let listed = |literal| parameter.allowed.iter().any(|allowed| **allowed == *plain(&body::to_json(literal)));
        // A null is none of the values either: to many procedures it means all.
        if !parameter.allowed.is_empty() && !matches!(&typed, Typed::Literal(literal) if listed(literal)) {
            return Err(unparsable(format!("The parameter {} has a value that is not allowed.", parameter.name)));
        }
        let value = body::settled(value, Some(&typed));
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

/// True if DreamFactory takes a parameter of this name in the query of a call for an argument, under this name.
fn is_argument(name: &str) -> bool {
    const OWN: [&str; 6] = ["accept", "file", "returns", "schema", "wrap", "wrapper"];
    names::php_keeps(name) && !names::is_credential(name) && !OWN.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// A scalar as the text of a query parameter.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        other => other.to_string(),
    }
}
