//! Syntax tree and constraints → request and response plan.

use super::{
    body, cast,
    filter::Filter,
    lookup::has_lookup,
    parse::{parse, plain},
    path,
    tree::{Column, Order, Part, Request, Rows, Table, Target},
    unsupported,
};
use crate::{
    Name,
    bundle::{Component, FieldSet, Service},
    code::{Code, Denial},
    decide::{Constraints, OperationConstraints},
    dialect::{
        CONDITIONAL, Rewrite, names,
        shared::{OVERRIDES, member},
    },
    json::{Map, Value},
    request::{DataRequest, Verb, verb_name},
    transform::{PathStep, Plain, ResponsePlan, RowShape, RowSite},
    value::{FieldType, Literal},
};
use std::sync::Arc;

/// The request header by which callers choose whether a list of rows comes in its wrapper.
const WRAP: &str = "wrap";

/// Re-emits a request with its constraints inside it.
///
/// # Errors
/// `row_denied`, `field_denied` or `unsupported`, if a constraint cannot be expressed or the output does not parse back.
pub(super) fn emit(
    service: &Service,
    prefix: &str,
    syntax: &Request,
    request: &DataRequest,
    constraints: &Constraints,
) -> Result<Rewrite, Denial> {
    if constraints.operations.len() != request.operations.len() {
        return Err(unsupported("The decision does not fit the request."));
    }
    let Some(first) = constraints.operations.first() else {
        return Err(unsupported("The decision is empty."));
    };
    let mut constrained = syntax.clone();
    let mut response = ResponsePlan::default();
    match &mut constrained.target {
        Target::List(_) | Target::File(_) => no_rows(first)?,
        Target::Schema(schema) => {
            no_rows(first)?;
            let open = |table: &OperationConstraints| match &schema.part {
                Part::Field(field) => {
                    table.visible.contains(field) && !table.masks.iter().any(|mask| mask.field == *field)
                }
                Part::All | Part::Every(_) | Part::Relation(_) => table.sees_all && table.masks.is_empty(),
            };
            if !constraints.operations.get(1).is_some_and(open) {
                return Err(Denial::new(Code::FieldDenied, "The schema shows fields that the role may not see."));
            }
        }
        Target::Call(call) => {
            no_rows(first)?;
            for (name, value) in &first.arguments {
                arrives(value)?;
                let value = body::to_json(value);
                match call.arguments.iter_mut().find(|(have, _)| have == name) {
                    Some((_, have)) => *have = value,
                    None => call.arguments.push((name.clone(), value)),
                }
            }
            if call.arguments.iter().any(|(_, value)| has_lookup(value)) {
                return Err(unsupported("An argument has braces, in which DreamFactory would look values up."));
            }
            let declared =
                service.component(&format!("{}/{}", call.kind, call.name)).is_some_and(|c| !c.fields.is_empty());
            if declared {
                response.sites.push(site(vec![PathStep::Elements], first, &[], Vec::new()).required());
                response.hide_error_bodies = hides(first);
                response.error_sites = error_sites();
            }
        }
        Target::Table(table) => {
            let component = service.component(&["_table/", &table.name].concat()).map(AsRef::as_ref);
            response.one_row = one_as_filter(syntax.verb, table, component, first)?;
            if response.one_row && syntax.head {
                return Err(unsupported(
                    "Where the role limits rows, HEAD cannot tell whether a record is there: send GET.",
                ));
            }
            constrain(syntax.verb, table, component, constraints)?;
            sites(syntax.verb, table, component, constraints, &mut response);
            response.hide_error_bodies = constraints.operations.iter().any(hides);
            response.error_sites = error_sites();
        }
    }
    let mut rewrite = write(prefix, &constrained)?;
    prove(service, prefix, constrained, &rewrite)?;
    rewrite.response = response;
    // `wrap` chooses the form of the answer in newer versions of DreamFactory.
    for name in OVERRIDES.iter().chain(&CONDITIONAL).chain(&[WRAP]) {
        if !rewrite.set_headers.iter().any(|(have, _)| have == name) {
            rewrite.remove_headers.push((*name).to_owned());
        }
    }
    Ok(rewrite)
}

/// True if an error text of the data API could show what the caller may not see.
fn hides(constraints: &OperationConstraints) -> bool {
    constraints.rows.is_some() || !constraints.sees_all || !constraints.masks.is_empty()
}

/// A value of the policy's is sent only if it is what arrives.
fn arrives(value: &Literal) -> Result<(), Denial> {
    match value {
        Literal::String(text) if !names::arrives(text) => Err(unsupported(
            "A preset value or argument is empty, or begins or ends with white space, which DreamFactory's framework takes away.",
        )),
        _ => Ok(()),
    }
}

fn no_rows(constraints: &OperationConstraints) -> Result<(), Denial> {
    if constraints.rows.is_some() {
        return Err(row_denied("The rows of this kind of request cannot be limited."));
    }
    Ok(())
}

fn row_denied(detail: &'static str) -> Denial {
    Denial::new(Code::RowDenied, detail)
}

/// A row that is read by its key cannot be limited as such. So where the role limits rows, it is asked for as a list of
/// the rows with this key, and true is given: the answer is to be the one row of it. A key that is none would bring a
/// second row.
fn one_as_filter(
    verb: Verb,
    table: &mut Table,
    component: Option<&Component>,
    own: &OperationConstraints,
) -> Result<bool, Denial> {
    let Rows::One(id) = &table.rows else { return Ok(false) };
    if verb != Verb::Get || own.rows.is_none() {
        return Ok(false);
    }
    let key = match component.map(|component| component.key.as_slice()) {
        Some([key]) => key.clone(),
        _ => return Err(unsupported("Rows can be named by key only where the component declares a key of one field.")),
    };
    let key_type =
        component.and_then(|component| component.field(&key)).map_or(FieldType::Unspecified, |key| key.field_type);
    let value = cast::literal(super::filter::Literal::key(id)?, key_type)?;
    let test = super::filter::Test::In { negated: false, values: vec![value] };
    table.rows = Rows::Filter(Filter::of(key, test));
    table.limit = Some(2);
    Ok(true)
}

/// Puts the constraints into the tree.
fn constrain(
    verb: Verb,
    table: &mut Table,
    component: Option<&Component>,
    constraints: &Constraints,
) -> Result<(), Denial> {
    let Some((own, nested)) = constraints.operations.split_first() else {
        return Err(unsupported("The decision is empty."));
    };
    let cap = own.max_rows.map(u64::from);
    let list = verb == Verb::Get && !table.count_only;
    if verb != Verb::Post {
        // Updates and deletes by ids become filters, because by ids they may create.
        let too_many = |ids: usize| cap.is_some_and(|cap| u64::try_from(ids).unwrap_or(u64::MAX) > cap);
        if let Rows::Ids(ids) = &table.rows
            && (own.rows.is_some() || verb != Verb::Get || too_many(ids.len()))
        {
            let key = component.and_then(|component| component.key.first());
            let key = key.ok_or_else(|| unsupported("ids need a declared key of one field."))?;
            let test = super::filter::Test::In { negated: false, values: ids.clone() };
            table.rows = Rows::Filter(Filter::of(key.clone(), test));
        }
        if let Some(rows) = &own.rows {
            let any = component.and_then(|component| component.fields.first()).map(|field| &field.name);
            if let Some(policy) = Filter::from_policy(rows, any)? {
                table.rows = match std::mem::take(&mut table.rows) {
                    Rows::Filter(client) => Rows::Filter(client.and(policy)),
                    Rows::All if verb == Verb::Get => Rows::Filter(policy),
                    _ => {
                        return Err(row_denied(
                            "Rows named by key cannot be limited by the role's row filter: name them by ids or filter.",
                        ));
                    }
                };
            }
        }
        if list && matches!(table.rows, Rows::All | Rows::Filter(_)) {
            table.limit = match (table.limit, cap) {
                (Some(asked), Some(cap)) => Some(asked.min(cap)),
                (asked, cap) => asked.or(cap),
            };
        }
    }
    if !own.set.is_empty() {
        for record in Arc::make_mut(&mut table.records) {
            for (field, value, overrides) in &own.set {
                arrives(value)?;
                if *overrides || !record.contains_key(field) {
                    let declared = component.and_then(|component| component.field(field));
                    if let Some(declared) = declared
                        && cast::stored(value, declared.field_type, declared.size) != cast::Stored::Same
                    {
                        return Err(Denial::new(
                            Code::AttributeInvalid,
                            format!("A preset value of {field} has more digits than DreamFactory would store."),
                        ));
                    }
                    let value = body::to_json(value);
                    if has_lookup(&value) {
                        return Err(unsupported(
                            "A preset value has braces, in which DreamFactory would look values up.",
                        ));
                    }
                    record.insert(&**field, value);
                }
            }
        }
    }
    if list || table.fields.is_some() {
        table.fields = Some(narrow(table.fields.take(), own)?);
    }
    if nested.len() != table.related.len() {
        return Err(unsupported("The decision does not fit the request."));
    }
    for (related, constraints) in table.related.iter_mut().zip(nested) {
        if constraints.rows.is_some() {
            return Err(row_denied("DreamFactory cannot filter related rows, and the role limits the related rows."));
        }
        related.fields = Some(narrow(related.fields.take(), constraints)?);
        if let Some(cap) = constraints.max_rows.map(u64::from) {
            related.limit = Some(related.limit.map_or(cap, |asked| asked.min(cap)));
        }
    }
    Ok(())
}

/// The columns to ask for: those asked for less the omitted ones, or all that are visible.
fn narrow(asked: Option<Vec<Column>>, constraints: &OperationConstraints) -> Result<Vec<Column>, Denial> {
    let columns: Vec<Column> = match asked {
        None => constraints.visible.iter().cloned().map(Column::Field).collect(),
        Some(mut columns) => {
            columns.retain(|column| !matches!(column, Column::Field(field) if constraints.omitted.contains(field)));
            columns
        }
    };
    let hidden = |column: &Column| match column {
        Column::Field(field) | Column::Aggregate(_, Some(field)) => !constraints.visible.contains(field),
        Column::Aggregate(_, None) => false,
    };
    if columns.is_empty() || columns.iter().any(hidden) {
        return Err(Denial::new(
            Code::FieldDenied,
            "None of the fields asked for may be seen, or the component declares no fields.",
        ));
    }
    Ok(columns)
}

/// Second net: where rows are in the response, and what may be in them.
fn sites(verb: Verb, table: &Table, component: Option<&Component>, constraints: &Constraints, plan: &mut ResponsePlan) {
    let Some((own, nested)) = constraints.operations.split_first() else { return };
    if table.count_only {
        plan.sites.push(RowSite::plain(Vec::new(), Plain::Number).required());
        return;
    }
    if verb == Verb::Delete && matches!(table.rows, Rows::All) {
        // The table is emptied as a whole, and no row comes back.
        plan.sites.push(RowSite::plain(vec![member("success")], Plain::Boolean).required());
        return;
    }
    let aliases: Vec<Name> = table
        .fields
        .iter()
        .flatten()
        .filter_map(|column| match column {
            Column::Field(_) => None,
            Column::Aggregate(function, Some(field)) => Some(format!("{function}_{field}").into()),
            Column::Aggregate(function, None) => Some(format!("{function}_ALL").into()),
        })
        .collect();
    let mut root = Vec::new();
    if !matches!(table.rows, Rows::One(_)) {
        root.push(PathStep::Member(table.wrapper.clone()));
        root.push(PathStep::Elements);
    }
    let names = table.related.iter().map(|related| related.name.clone()).collect();
    let mut rows = site(root.clone(), own, &aliases, names).required();
    if let Some(key) = &table.as_list {
        rows.shape = RowShape::Scalar(key.clone());
    }
    plan.sites.push(rows);
    if verb == Verb::Get {
        for (related, constraints) in table.related.iter().zip(nested) {
            let mut path = root.clone();
            path.push(PathStep::Member(related.name.clone()));
            // DreamFactory names relations TABLE_by_FIELD. With a field of this table there is one related row, else there
            // is a list; a response of the other form is refused.
            let own_field = related.name.rsplit_once("_by_").is_some_and(|(_, field)| {
                component.is_some_and(|component| component.field_ignoring_case(field).is_some())
            });
            if !own_field {
                path.push(PathStep::Elements);
            }
            plan.sites.push(site(path, constraints, &[], Vec::new()));
        }
    }
    if !root.is_empty() && !plan.one_row {
        for name in ["count", "next"] {
            plan.sites.push(RowSite::plain(vec![member("meta"), member(name)], Plain::Number));
        }
    }
}

fn site(path: Vec<PathStep>, constraints: &OperationConstraints, aliases: &[Name], nested: Vec<Name>) -> RowSite {
    let visible = if aliases.is_empty() {
        Arc::clone(&constraints.visible)
    } else {
        Arc::new(FieldSet::new(constraints.visible.iter().chain(aliases).cloned().collect()))
    };
    RowSite { path, shape: RowShape::Object, visible, masks: Arc::clone(&constraints.masks), nested, required: false }
}

/// DreamFactory's errors; `context`, which goes, holds the rows of a batch and what became of each.
fn error_sites() -> Vec<RowSite> {
    let part = |name: &str| RowSite::plain(vec![member("error"), member(name)], Plain::Scalar);
    ["code", "status_code", "message"].map(part).into()
}

/// Writes the tree.
fn write(prefix: &str, request: &Request) -> Result<Rewrite, Denial> {
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
            let text = |literal: &super::filter::Literal| match literal {
                super::filter::Literal::Text(text)
                | super::filter::Literal::Number(text)
                | super::filter::Literal::Exact(text) => text.clone(),
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
fn prove(service: &Service, prefix: &str, mut expected: Request, rewrite: &Rewrite) -> Result<(), Denial> {
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
