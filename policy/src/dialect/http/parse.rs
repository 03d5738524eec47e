//! Request → path template, parameters, rows.

use crate::{
    Name,
    bundle::{Component, Operation as Template, Parameter, Service},
    code::Denial,
    dialect::{
        BodyNeed, names,
        rewrite::Parsed,
        shared::{OVERRIDES, announces_body, body, path, shown, unparsable, unsupported},
    },
    json::Value,
    predicate::parse::parse_literal,
    request::{
        Capabilities, Clause, DataRequest, FieldUse, HttpRequest, Operation, Projection, Verb, WriteKind, WrittenRow,
    },
    value::{FieldType, Literal, Value as Typed},
};
use std::sync::Arc;

/// Query parameters that are understood to limit the number of rows.
const LIMITS: [&str; 3] = ["limit", "per_page", "page_size"];
const MAX_ROWS: usize = 1000;

/// Syntax tree of one REST request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub(super) verb: Verb,
    /// Canonical name of the component whose template matched.
    pub(super) component: Name,
    pub(super) template: Name,
    /// Values of the template's placeholders, in its order.
    pub(super) values: Vec<(Name, String)>,
    /// Declared query parameters, in the request's order.
    pub(super) query: Vec<(Name, String)>,
    /// Shared: most requests are sent on with the body that they came with.
    pub(super) body: Option<Arc<Value>>,
}

impl Request {
    /// The component and template that matched.
    pub(super) fn find<'a>(&self, service: &'a Service) -> Option<(&'a Arc<Component>, &'a Template)> {
        let component = service.components.get(&self.component)?;
        let template = component
            .operations
            .iter()
            .find(|operation| operation.template == self.template && operation.verbs.contains(&self.verb))?;
        Some((component, template))
    }
}

/// Bodies are read with every method but `GET` and `DELETE`; where these announce one it is read too, to be refused.
pub(super) fn body_need(request: &HttpRequest<'_>) -> BodyNeed {
    if matches!(request.method, "GET" | "HEAD" | "DELETE") && !announces_body(request) {
        BodyNeed::None
    } else {
        BodyNeed::Whole
    }
}

/// The name in `{name}`.
pub(super) fn placeholder(segment: &str) -> Option<&str> {
    segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'))
}

/// A literal as the text of a parameter.
pub(super) fn text_of(literal: &Literal) -> String {
    match literal {
        Literal::String(text) => text.to_string(),
        Literal::Integer(number) => number.to_string(),
        Literal::Number(number) => number.as_str().to_owned(),
        Literal::Boolean(value) => value.to_string(),
    }
}

/// Parses a request of a REST service.
///
/// # Errors
/// `unparsable`, `unsupported` or `too_large`, if any part of the request is not understood completely.
pub(super) fn parse(service: &Service, prefix: &str, request: &HttpRequest<'_>) -> Result<Parsed<Request>, Denial> {
    let verb = match request.method {
        // `HEAD` asks what `GET` asks, without the body of the answer.
        "GET" | "HEAD" => Verb::Get,
        "POST" => Verb::Post,
        "PUT" => Verb::Put,
        "PATCH" => Verb::Patch,
        "DELETE" => Verb::Delete,
        _ => return Err(unsupported("The method must be GET, HEAD, POST, PUT, PATCH or DELETE.")),
    };
    if OVERRIDES.iter().any(|name| request.may_have_header(name)) {
        return Err(unsupported("Method overrides are not supported: send the method itself."));
    }
    let target = path::split(prefix, request.path)?;
    let (component, template, values) = route(service, verb, &target)?;
    let mut operation = Operation::new(component.name.clone(), verb);
    let values = values
        .into_iter()
        .map(|(name, text)| {
            let parameter = template.parameters.iter().find(|parameter| *parameter.name == *name && !parameter.body);
            let text = argument(&mut operation, parameter, &name, &text, Clause::Key)?;
            Ok((name, text))
        })
        .collect::<Result<Vec<_>, Denial>>()?;
    let mut query: Vec<(Name, String)> = Vec::new();
    for (name, text) in target.query {
        let parameter = template.parameters.iter().find(|p| *p.name == *name && !p.body);
        if parameter.is_none() && names::is_cache_buster(&name, &text) {
            continue;
        }
        let Some(parameter) = parameter.filter(|p| !values.iter().any(|(have, _)| *have == p.name)) else {
            return Err(unparsable(format!("The parameter {} is unknown here.", shown(&name))));
        };
        if query.iter().any(|(have, _)| *have == parameter.name) {
            return Err(unparsable(format!("The parameter {} is given twice.", parameter.name)));
        }
        let text = argument(&mut operation, Some(parameter), &parameter.name, &text, Clause::Filter)?;
        if verb == Verb::Get && is_limit(parameter) {
            operation.limit = text.parse().ok().filter(|limit| *limit > 0);
        }
        query.push((parameter.name.clone(), text));
    }
    let json = body::json(service, request)?;
    if json.is_some() && matches!(verb, Verb::Get | Verb::Delete) {
        return Err(unparsable("Reading and deleting take no body."));
    }
    let has_body_parameters = template.parameters.iter().any(|parameter| parameter.body);
    let body = match json {
        Some(json) if has_body_parameters => {
            body_arguments(&mut operation, template, &json)?;
            Some(json)
        }
        Some(json) => Some(rows(&mut operation, component, json)?),
        None if !has_body_parameters && matches!(verb, Verb::Post | Verb::Put | Verb::Patch) => {
            return Err(unparsable("The request must have a body of one row or a list of rows."));
        }
        None => None,
    };
    for parameter in template.parameters.iter().filter(|parameter| parameter.required) {
        if !operation.arguments.iter().any(|(name, _)| *name == parameter.name) {
            return Err(unparsable(format!("The parameter {} must be given.", parameter.name)));
        }
    }
    finish(&mut operation, component, template, has_body_parameters);
    let syntax = Request {
        verb,
        component: component.name.clone(),
        template: template.template.clone(),
        values,
        query,
        body: body.map(Arc::new),
    };
    Ok(Parsed { request: DataRequest { operations: vec![operation] }, syntax })
}

pub(super) fn is_limit(parameter: &Parameter) -> bool {
    !parameter.body && parameter.field_type == FieldType::Integer && LIMITS.contains(&&*parameter.name)
}

/// What the operation is and what can be enforced on it.
fn finish(operation: &mut Operation, component: &Component, template: &Template, has_body_parameters: bool) {
    operation.write = match operation.verb {
        // A POST with parameters in its body is a query or an action, and has no rows to check.
        Verb::Post if has_body_parameters => WriteKind::None,
        Verb::Post => WriteKind::Create,
        Verb::Patch if !has_body_parameters => WriteKind::Update,
        Verb::Put | Verb::Patch => WriteKind::Replace,
        Verb::Delete => WriteKind::Delete,
        _ => WriteKind::None,
    };
    // Where fields are declared, whatever comes back is filtered as a whole.
    let declared = !component.fields.is_empty();
    operation.projection = if declared { Projection::All } else { Projection::Nothing };
    let reads = matches!(operation.write, WriteKind::None);
    operation.capabilities = Capabilities {
        rows: template.parameters.iter().any(|parameter| parameter.filters_field.is_some()),
        project: declared,
        mask: declared,
        cap: template.single || !reads || operation.verb == Verb::Get && template.parameters.iter().any(is_limit),
        check: !has_body_parameters,
        set: !has_body_parameters,
    };
}

type Routed<'a> = (&'a Arc<Component>, &'a Template, Vec<(Name, String)>);

/// The one template that fits the path and the verb; the one with more literal segments goes first.
fn route<'a>(service: &'a Service, verb: Verb, target: &path::Target) -> Result<Routed<'a>, Denial> {
    let mut best: Option<(usize, Routed<'a>)> = None;
    let mut tie = false;
    for component in service.components.values() {
        for template in component.operations.iter().filter(|template| template.verbs.contains(&verb)) {
            let Some((literals, values)) = fit(&template.template, target) else { continue };
            match best.as_ref().map(|(have, _)| literals.cmp(have)) {
                Some(std::cmp::Ordering::Less) => {}
                Some(std::cmp::Ordering::Equal) => tie = true,
                _ => {
                    tie = false;
                    best = Some((literals, (component, template, values)));
                }
            }
        }
    }
    match best {
        Some((_, routed)) if !tie => Ok(routed),
        Some(_) => Err(unparsable("The path fits two declared templates equally well.")),
        None => Err(unparsable("The path and method are none that this service declares.")),
    }
}

fn fit(template: &str, target: &path::Target) -> Option<(usize, Vec<(Name, String)>)> {
    let rest = template.strip_prefix('/').unwrap_or(template);
    let folder = rest.is_empty() || rest.ends_with('/');
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let pieces: Vec<&str> = if rest.is_empty() { Vec::new() } else { rest.split('/').collect() };
    // The root is the same with and without its slash.
    if pieces.len() != target.segments.len() || (folder != target.folder && !pieces.is_empty()) {
        return None;
    }
    let (mut literals, mut values) = (0, Vec::new());
    for (piece, segment) in pieces.iter().zip(&target.segments) {
        match placeholder(piece) {
            Some(name) => values.push((name.into(), segment.clone())),
            None if piece == segment => literals += 1,
            None => return None,
        }
    }
    Some((literals, values))
}

/// Reads one parameter of the path or query, and gives its canonical text.
fn argument(
    operation: &mut Operation,
    parameter: Option<&Parameter>,
    name: &Name,
    text: &str,
    clause: Clause,
) -> Result<String, Denial> {
    let field_type = parameter.map_or(FieldType::String, |parameter| parameter.field_type);
    let literal = match field_type {
        FieldType::Json | FieldType::Unspecified => Some(Literal::String(text.into())),
        other => parse_literal(text, other),
    };
    let literal = literal.ok_or_else(|| unparsable(format!("The parameter {name} has a value of another type.")))?;
    if matches!(&literal, Literal::Number(number) if !number.is_double()) {
        let what = format!("parameter {name}");
        return Err(body::mistyped(&what, &Value::from(text), field_type));
    }
    let text = text_of(&literal);
    if let Some(parameter) = parameter {
        allowed(parameter, &text)?;
        if let Some(field) = &parameter.filters_field {
            operation.fields.push(FieldUse { field: field.clone(), clause });
        }
    }
    operation.arguments.push((name.clone(), Typed::Literal(literal)));
    Ok(text)
}

fn allowed(parameter: &Parameter, text: &str) -> Result<(), Denial> {
    if parameter.allowed.is_empty() || parameter.allowed.iter().any(|allowed| **allowed == *text) {
        return Ok(());
    }
    Err(unparsable(format!("The parameter {} has a value that is not allowed.", parameter.name)))
}

/// True if the pointer goes on below the other.
fn below(pointer: &str, above: &str) -> bool {
    pointer.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Reads a body of declared parameters; whatever is not one of them is refused.
fn body_arguments(operation: &mut Operation, template: &Template, json: &Value) -> Result<(), Denial> {
    let declared = |pointer: &str| template.parameters.iter().find(|p| p.body && *p.name == *pointer);
    let mut rest = vec![(String::new(), json)];
    while let Some((pointer, value)) = rest.pop() {
        if let Some(parameter) = declared(&pointer) {
            let wrong = || body::mistyped(&format!("parameter {pointer}"), value, parameter.field_type);
            let typed = body::typed(value, parameter.field_type).ok_or_else(wrong)?;
            if let Some(Typed::Literal(literal)) = &typed {
                // What is sent on is what was read: a number in quotes is not taken for a number here.
                if parameter.field_type != FieldType::Json && body::to_json(literal) != *value {
                    return Err(wrong());
                }
                allowed(parameter, &text_of(literal))?;
            } else if !parameter.allowed.is_empty() {
                return Err(wrong());
            }
            if let Some(field) = &parameter.filters_field {
                operation.fields.push(FieldUse { field: field.clone(), clause: Clause::Filter });
            }
            if let Some(typed) = typed {
                operation.arguments.push((parameter.name.clone(), typed));
            }
            continue;
        }
        // Only what leads to a parameter is gone into: the names of anything else could be as long as the body, each.
        let leads = || template.parameters.iter().any(|p| p.body && below(&p.name, &pointer));
        match value {
            Value::Object(members) if members.is_empty() || leads() => {
                for (name, value) in members.iter() {
                    if names::is_credential(name) {
                        return Err(unparsable(format!("The member {} {}.", shown(name), names::CREDENTIAL)));
                    }
                    rest.push((format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")), value));
                }
            }
            _ => return Err(unparsable(format!("The body has a value at {} that is not declared.", shown(&pointer)))),
        }
    }
    Ok(())
}

/// Reads a body of rows, and gives it with values of the fields' types.
fn rows(operation: &mut Operation, component: &Component, mut json: Value) -> Result<Value, Denial> {
    let bare = matches!(json, Value::Object(_));
    let all = match &mut json {
        Value::Array(rows) if !rows.is_empty() && rows.len() <= MAX_ROWS => rows.as_mut_slice(),
        row @ Value::Object(_) => std::slice::from_mut(row),
        _ => return Err(unparsable("The body must be one row, or a list of at most 1,000 rows.")),
    };
    let mut fields = body::Fields::new(Some(component), false);
    for row in all {
        let Value::Object(row) = row else {
            return Err(unparsable("Each row in the body must be an object."));
        };
        let mut written = WrittenRow::default();
        for (name, value) in row.iter_mut() {
            let (field, declared, first) = fields.find(name)?;
            if first && names::is_credential(name) {
                return Err(unparsable(format!("The field {} {}.", shown(name), names::CREDENTIAL)));
            }
            if bare && name == "_method" {
                return Err(unsupported(
                    "Some frameworks take a member _method for another method: it cannot be written.",
                ));
            }
            let field_type = declared.map_or(FieldType::Unspecified, |field| field.field_type);
            let wrong = || body::mistyped(&format!("field {}", shown(name)), value, field_type);
            let typed = body::typed(value, field_type).ok_or_else(wrong)?;
            *value = body::settled(std::mem::take(value), typed.as_ref());
            if first {
                operation.fields.push(FieldUse { field: field.clone(), clause: Clause::Write });
            }
            // Of a text that a server may trim nothing is known to a check.
            let known =
                typed.filter(|typed| !matches!(typed, Typed::Literal(Literal::String(text)) if !names::arrives(text)));
            written.values.push((field, known));
        }
        operation.writes.push(written);
    }
    Ok(json)
}
