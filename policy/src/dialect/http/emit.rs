//! Parameters and constraints → request and response plan.

use super::parse::{Request, is_limit, parse, placeholder, text_of};
use crate::{
    Name,
    bundle::{Operation as Template, Service},
    code::{Code, Denial},
    decide::{Constraints, OperationConstraints},
    dialect::{
        Rewrite, names,
        rewrite::CONDITIONAL,
        shared::{body, path, unsupported},
    },
    json::{Map, Value},
    predicate::{CompareOp, Predicate, Resolved, Truth, eval, parse::parse_literal},
    request::{Verb, verb_name},
    transform::{PathStep, Plain, RowShape, RowSite},
    value::{Literal, Value as Typed},
};
use std::sync::Arc;

/// What may be in an error's body, where nothing is hidden from the caller: the members of RFC 9457, and what else is usual.
const ERRORS: [&str; 7] = ["type", "title", "status", "detail", "code", "message", "error"];

/// Re-emits a request with its constraints inside it.
///
/// # Errors
/// `row_denied` or `unsupported`, if a constraint cannot be expressed or the output does not parse back.
pub(super) fn emit(
    service: &Service,
    prefix: &str,
    syntax: &Request,
    constraints: &Constraints,
) -> Result<Rewrite, Denial> {
    let [own] = constraints.operations.as_slice() else {
        return Err(unsupported("The decision does not fit the request."));
    };
    let Some((component, template)) = syntax.find(service) else {
        return Err(unsupported("The operation is not declared any more."));
    };
    let mut constrained = syntax.clone();
    for (name, value) in &own.arguments {
        fix(&mut constrained, template, name, value)?;
    }
    preset(&mut constrained, template, own)?;
    if let Some(rows) = &own.rows {
        limit_rows(&mut constrained, template, rows)?;
    }
    if syntax.verb == Verb::Get
        && !template.single
        && let Some(cap) = own.max_rows
    {
        cap_rows(&mut constrained, template, cap);
    }
    let mut rewrite = write(prefix, &constrained);
    let query_changed = constrained.query != syntax.query;
    prove(service, prefix, template, constrained, &rewrite)?;
    if !component.fields.is_empty() {
        let way = |text: &str| pointer(text).map(|name| PathStep::Member(name.into())).collect::<Vec<_>>();
        let mut path = way(&template.rows_at);
        if !template.single {
            path.push(PathStep::Elements);
        }
        rewrite.response.sites.push(RowSite {
            path,
            shape: RowShape::Object,
            visible: Arc::clone(&own.visible),
            masks: Arc::clone(&own.masks),
            nested: Vec::new(),
            required: true,
        });
        let beside = template.beside.iter().map(|at| RowSite::plain(way(at), Plain::Scalar));
        rewrite.response.sites.extend(beside);
        let error = |name: &str| RowSite::plain(way(&format!("/{name}")), Plain::Scalar);
        rewrite.response.error_sites = ERRORS.map(error).into();
        rewrite.set_headers.push(("accept".to_owned(), "application/json".to_owned()));
        rewrite.response.hide_error_bodies = own.rows.is_some() || !own.sees_all || !own.masks.is_empty();
    }
    if query_changed {
        rewrite.response.remove_headers = vec!["link".into(), "location".into(), "content-location".into()];
    }
    rewrite.remove_headers = CONDITIONAL.map(str::to_owned).into();
    Ok(rewrite)
}

/// Brings every parameter that sets the number of rows down to the cap: which of several the API heeds is not known.
fn cap_rows(request: &mut Request, template: &Template, cap: u32) {
    let limits = || template.parameters.iter().filter(|parameter| is_limit(parameter));
    let mut capped = false;
    for (_, text) in request.query.iter_mut().filter(|(name, _)| limits().any(|limit| limit.name == *name)) {
        capped = true;
        // Zero and less mean "all" to some servers.
        if !text.parse::<u32>().is_ok_and(|asked| (1..=cap).contains(&asked)) {
            *text = cap.to_string();
        }
    }
    if let Some(limit) = limits().next().filter(|_| !capped) {
        request.query.push((limit.name.clone(), cap.to_string()));
    }
}

fn row_denied() -> Denial {
    Denial::new(Code::RowDenied, "The role's rows cannot be selected with the parameters of this operation.")
}

/// The reference tokens of a JSON pointer (RFC 6901).
fn pointer(text: &str) -> impl Iterator<Item = String> {
    text.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~"))
}

/// Sets an argument, whatever the client sent.
fn fix(request: &mut Request, template: &Template, name: &Name, value: &Literal) -> Result<(), Denial> {
    let given = request.values.iter_mut().chain(request.query.iter_mut()).find(|(have, _)| have == name);
    if let Some((_, text)) = given {
        *text = text_of(value);
        return Ok(());
    }
    let Some(parameter) = template.parameters.iter().find(|parameter| parameter.name == *name) else {
        return Err(unsupported("The policy fixes an argument that this operation does not declare."));
    };
    if !parameter.body {
        request.query.push((name.clone(), text_of(value)));
        return Ok(());
    }
    let no_room = || unsupported("The policy fixes an argument at a place that the body has no room for.");
    let mut at = Arc::make_mut(request.body.get_or_insert_with(|| Arc::new(Value::Object(Map::new()))));
    for token in pointer(name) {
        let Value::Object(members) = at else { return Err(no_room()) };
        at = members.member(&token, || Value::Object(Map::new())).ok_or_else(no_room)?;
    }
    *at = body::to_json(value);
    Ok(())
}

/// Puts preset values into the rows of the body.
fn preset(request: &mut Request, template: &Template, own: &OperationConstraints) -> Result<(), Denial> {
    if own.set.is_empty() {
        return Ok(());
    }
    if template.parameters.iter().any(|parameter| parameter.body) {
        return Err(unsupported("The policy presets values, but the body of this operation has no rows."));
    }
    let rows = match request.body.as_mut().map(Arc::make_mut) {
        Some(Value::Array(rows)) => rows.as_mut_slice(),
        Some(row) => std::slice::from_mut(row),
        None => &mut [],
    };
    for row in rows {
        let Value::Object(row) = row else {
            return Err(unsupported("The policy presets values, but the body of this operation has no rows."));
        };
        for (field, value, overrides) in &own.set {
            if *overrides || !row.contains_key(field) {
                row.insert(&**field, body::to_json(value));
            }
        }
    }
    Ok(())
}

/// Makes sure that the parameters select permitted rows only: each conjunct holds for what they say, or is an equality
/// that a filter parameter which was not given is set to.
fn limit_rows(request: &mut Request, template: &Template, rows: &Resolved) -> Result<(), Denial> {
    if holds(request, template, rows) {
        return Ok(());
    }
    let mut conjuncts = Vec::new();
    let mut rest = vec![rows];
    while let Some(predicate) = rest.pop() {
        match predicate {
            Predicate::And(all) => rest.extend(all.iter().rev()),
            other => conjuncts.push(other),
        }
    }
    for conjunct in conjuncts {
        if holds(request, template, conjunct) {
            continue;
        }
        let (field, value) = match conjunct {
            Predicate::Compare { field, op: CompareOp::Eq, value, .. } => (field, value),
            Predicate::In { field, negated: false, values, .. } => match values.as_slice() {
                [value] => (field, value),
                _ => return Err(row_denied()),
            },
            _ => return Err(row_denied()),
        };
        let in_path = |name: &Name| request.values.iter().any(|(have, _)| have == name);
        let parameter = template
            .parameters
            .iter()
            .find(|p| p.filters_field.as_ref() == Some(field) && !p.body && !in_path(&p.name))
            .ok_or_else(row_denied)?;
        let text = text_of(value);
        if request.query.iter().any(|(name, _)| *name == parameter.name) || text.is_empty() {
            return Err(row_denied());
        }
        request.query.push((parameter.name.clone(), text));
        if !holds(request, template, conjunct) {
            return Err(row_denied());
        }
    }
    Ok(())
}

/// True if the predicate holds for every row that the parameters select.
fn holds(request: &Request, template: &Template, predicate: &Resolved) -> bool {
    let value = |field: &str| {
        template.parameters.iter().filter(|parameter| parameter.filters_field.as_deref() == Some(field)).find_map(
            |parameter| {
                if parameter.body {
                    let value = request.body.as_ref()?.pointer(&parameter.name)?;
                    return match body::typed(value, parameter.field_type)?? {
                        // Servers take an empty or null filter for none, and may trim another.
                        Typed::Null => None,
                        Typed::Literal(Literal::String(text)) if !names::arrives(&text) => None,
                        value => Some(value),
                    };
                }
                let mut given = request.values.iter().chain(&request.query);
                let (_, text) = given.find(|(name, _)| *name == parameter.name)?;
                let literal = if names::arrives(text) { parse_literal(text, parameter.field_type) } else { None };
                literal.map(Typed::Literal)
            },
        )
    };
    eval(predicate, &value) == Truth::True
}

fn write(prefix: &str, request: &Request) -> Rewrite {
    let mut target = prefix.to_owned();
    let mut values = request.values.iter();
    let template = request.template.strip_prefix('/').unwrap_or(&request.template);
    for piece in template.split('/') {
        target.push('/');
        match placeholder(piece) {
            Some(_) => path::encode(&mut target, values.next().map(|(_, text)| text.as_str()).unwrap_or_default()),
            None => path::encode(&mut target, piece),
        }
    }
    for (name, text) in &request.query {
        path::push_parameter(&mut target, name, text);
    }
    let mut rewrite = Rewrite { path: Some(target), ..Rewrite::default() };
    if let Some(body) = &request.body {
        let mut text = String::new();
        body.write(&mut text);
        rewrite.body = Some(text.into_bytes());
        rewrite.set_headers.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    rewrite
}

/// Parses what was written: it must be exactly the constrained request.
///
/// The whole body is compared with its tree, value by value. Of its rows, which were read one like the other, only the first
/// is parsed once more, without what is in its lists and objects.
fn prove(
    service: &Service,
    prefix: &str,
    template: &Template,
    mut expected: Request,
    rewrite: &Rewrite,
) -> Result<(), Denial> {
    let wrong = || unsupported("The rewritten request does not say what was decided.");
    let headers = rewrite.headers();
    let mut request = rewrite.request(verb_name(expected.verb), &headers);
    let text;
    if let Some(body) = expected.body.as_mut().filter(|_| !template.parameters.iter().any(|parameter| parameter.body)) {
        if !rewrite.body.as_ref().is_some_and(|bytes| body.is_written_as(bytes)) {
            return Err(wrong());
        }
        let hollow = |row: &Value| match row {
            Value::Object(row) => Value::Object(body::hollow(row)),
            _ => Value::Null,
        };
        *body = Arc::new(match &**body {
            Value::Array(rows) => Value::Array(rows.first().map(hollow).into_iter().collect()),
            row => hollow(row),
        });
        text = body.to_string();
        request.body = Some(text.as_bytes());
    }
    if parse(service, prefix, &request)?.syntax == expected { Ok(()) } else { Err(wrong()) }
}
