//! Tree → request, and the proof that it says what was decided.

use super::{
    body,
    parse::{parse, plain},
    path,
    tree::{Column, Order, Part, Request, Rows, Table, Target},
    unsupported,
};
use crate::{
    Name,
    bundle::Service,
    code::Denial,
    dialect::Rewrite,
    json::{Map, Value},
    request::{Verb, verb_name},
};
use std::sync::Arc;

/// Writes the tree.
pub(super) fn write(prefix: &str, request: &Request) -> Result<Rewrite, Denial> {
    let mut rewrite = Rewrite::default();
    let mut target = String::with_capacity(prefix.len() + 512);
    target.push_str(prefix);
    let segment = |target: &mut String, text: &str| {
        target.push('/');
        path::encode(target, text);
    };
    let mut body = None;
    match &request.target {
        Target::List(list) => {
            segment(&mut target, list.kind);
            if list.as_list {
                path::push_parameter(&mut target, "as_list", "true");
            }
        }
        Target::Schema(schema) => {
            segment(&mut target, "_schema");
            segment(&mut target, &schema.name);
            let (part, name) = match &schema.part {
                Part::All => (None, None),
                Part::Every(part) => (Some(*part), None),
                Part::Field(name) => (Some("_field"), Some(&**name)),
                Part::Relation(name) => (Some("_related"), Some(name.as_str())),
            };
            part.into_iter().chain(name).for_each(|text| segment(&mut target, text));
        }
        Target::File(file) => {
            file.segments.iter().for_each(|name| segment(&mut target, name));
            if file.folder {
                target.push('/');
            }
        }
        Target::Call(call) => {
            segment(&mut target, call.kind);
            segment(&mut target, &call.name);
            if request.verb == Verb::Get {
                for (name, value) in &call.arguments {
                    path::push_parameter(&mut target, name, &plain(value));
                }
            } else {
                let argument = |(name, value): &(Name, Value)| {
                    Value::Object(Map::from_iter([("name", Value::from(&**name)), ("value", value.clone())]))
                };
                let all = call.arguments.iter().map(argument).collect();
                body = Some(Value::Object(Map::from_iter([("params", Value::Array(all))])).to_string());
            }
        }
        Target::Table(table) => {
            segment(&mut target, "_table");
            segment(&mut target, &table.name);
            if let Rows::One(id) = &table.rows {
                segment(&mut target, id);
            }
            query(&mut target, table)?;
            if !table.records.is_empty() {
                let wrong = || unsupported("The rewritten body does not say what was decided.");
                body = Some(table.body().ok_or_else(wrong)?);
            }
            // Lists come wrapped also where `df.always_wrap_resources` is off.
            rewrite.set_headers.push(("wrap".to_owned(), "true".to_owned()));
        }
    }
    if target.len() > path::MAX_TARGET {
        return Err(unsupported("The request, with the policy's part, is too long for a request target."));
    }
    rewrite.path = Some(target);
    if !matches!(request.target, Target::File(_)) {
        if let Some(body) = body {
            rewrite.body = Some(body.into_bytes());
            rewrite.set_headers.push(("content-type".to_owned(), "application/json".to_owned()));
        } else if request.verb != Verb::Get || request.tunnelled {
            // Whatever the body said is in the query now.
            rewrite.body = Some(Vec::new());
        }
        rewrite.set_headers.push(("accept".to_owned(), "application/json".to_owned()));
    } else if matches!(request.verb, Verb::Post | Verb::Put | Verb::Patch) {
        // DreamFactory's framework reads a form, or JSON, also as parameters, and takes `_method` among them for the method
        // that is meant. As bare bytes the content is nothing but content.
        rewrite.set_headers.push(("content-type".to_owned(), "application/octet-stream".to_owned()));
    }
    if request.tunnelled {
        rewrite.set_headers.push(("x-http-method".to_owned(), verb_name(request.verb).to_owned()));
    }
    Ok(rewrite)
}

fn query(target: &mut String, table: &Table) -> Result<(), Denial> {
    let columns = |columns: &[Column]| {
        let text = |column: &Column| match column {
            Column::Field(field) => field.to_string(),
            Column::Aggregate(function, field) => format!("{function}({})", field.as_deref().unwrap_or("*")),
        };
        columns.iter().map(text).collect::<Vec<_>>().join(",")
    };
    let orders = |orders: &[Order]| {
        let text = |order: &Order| {
            let direction = if order.descending { " desc" } else { " asc" };
            let nulls = match order.nulls_first {
                None => "",
                Some(true) => " nulls first",
                Some(false) => " nulls last",
            };
            format!("{}{direction}{nulls}", order.field)
        };
        orders.iter().map(text).collect::<Vec<_>>().join(",")
    };
    let mut push = |name: &str, value: &str| path::push_parameter(target, name, value);
    match &table.rows {
        Rows::All | Rows::One(_) => {}
        Rows::Ids(ids) => {
            let text = |literal: &super::literal::Literal| match literal {
                super::literal::Literal::Text(text)
                | super::literal::Literal::Number(text)
                | super::literal::Literal::Exact(text) => text.clone(),
            };
            push("ids", &ids.iter().map(text).collect::<Vec<_>>().join(","));
        }
        Rows::Filter(filter) => {
            let (text, parameters) = filter.write()?;
            push("filter", &text);
            for (index, value) in parameters.iter().enumerate() {
                // PHP reads this as the member `:pN` of the list `params`. JSON text in its place would not be decoded, and
                // DreamFactory would compare with the parameter's name.
                push(&format!("params[:p{index}]"), value);
            }
        }
    }
    if let Some(fields) = &table.fields {
        push("fields", &columns(fields));
    }
    if !table.group.is_empty() {
        push("group", &table.group.join(","));
    }
    if !table.order.is_empty() {
        push("order", &orders(&table.order));
    }
    for (name, value) in [("limit", table.limit), ("offset", table.offset)] {
        if let Some(value) = value {
            push(name, &value.to_string());
        }
    }
    let flags = [
        ("include_count", table.include_count),
        ("count_only", table.count_only),
        ("continue", table.go_on),
        ("rollback", table.rollback),
        ("force", table.force),
    ];
    for (name, _) in flags.into_iter().filter(|(_, set)| *set) {
        push(name, "true");
    }
    if let Some(key) = &table.as_list {
        push("as_list", "true");
        push("id_field", key);
    }
    if !table.related.is_empty() {
        push("related", &table.related.iter().map(|related| &*related.name).collect::<Vec<_>>().join(","));
    }
    for related in &table.related {
        if let Some(fields) = &related.fields {
            push(&format!("{}.fields", related.name), &columns(fields));
        }
        if !related.order.is_empty() {
            push(&format!("{}.order", related.name), &orders(&related.order));
        }
        if let Some(limit) = related.limit {
            push(&format!("{}.limit", related.name), &limit.to_string());
        }
    }
    Ok(())
}

/// Parses what was written: it must be exactly the constrained tree.
///
/// The text of the records was compared with their trees, value by value, when it was written. Of these, which were read one
/// like the other, only the first is parsed once more, without what is in its lists and objects.
pub(super) fn prove(service: &Service, prefix: &str, mut expected: Request, rewrite: &Rewrite) -> Result<(), Denial> {
    let method = match expected.head {
        true => "HEAD",
        false if expected.tunnelled => "POST",
        false => verb_name(expected.verb),
    };
    let headers = rewrite.headers();
    let mut request = rewrite.request(method, &headers);
    let body;
    if let Target::Table(table) = &mut expected.target
        && let Some(first) = table.records.first()
    {
        table.records = Arc::new(vec![body::hollow(first)]);
        body = table.body().unwrap_or_default();
        request.body = Some(body.as_bytes());
    }
    if parse(service, prefix, &request)?.syntax == expected {
        Ok(())
    } else {
        Err(unsupported("The rewritten request does not say what was decided."))
    }
}
