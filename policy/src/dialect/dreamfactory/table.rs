//! Requests of tables: which rows, what of them, and what is written.

use super::{
    body, filter,
    filter::Literal,
    options::{BODY_OPTIONS, Options, QUERY_OPTIONS, columns, is_alias, orders, resolve, shown},
    parse::Understood,
    path,
    tree::{Column, Related, Rows, Table, Target},
    unparsable, unsupported,
};
use crate::{
    Name,
    bundle::{Component, Relation, Service},
    code::Denial,
    json::{Map, Value},
    request::{Capabilities, Clause, FieldUse, Operation, Projection, Verb, WriteKind, WrittenRow},
    value::FieldType,
};
use std::sync::Arc;

const MAX_RECORDS: usize = 1000;

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
        let (local, foreign) = joined(component, relation, target)?;
        let fields = options.names(&format!("{name}.fields"))?;
        let order = options.names(&format!("{name}.order"))?;
        all.push(Related {
            name: relation.name.clone(),
            component: relation.component.clone(),
            fields: columns(target, fields)?,
            order: orders(target, order)?,
            limit: options.number(&format!("{name}.limit"))?.filter(|limit| *limit > 0),
            local,
            foreign,
        });
    }
    Ok(all)
}

/// The fields by which a relation joins, of the table and of the related one: as declared, or by DreamFactory's own name
/// for it, `TABLE_by_FIELD`, where FIELD is a field of the table or else of the related one.
fn joined(
    component: Option<&Component>,
    relation: &Relation,
    target: Option<&Component>,
) -> Result<(Vec<Name>, Vec<Name>), Denial> {
    if !relation.local.is_empty() {
        return Ok((relation.local.clone(), relation.foreign.clone()));
    }
    let Some((_, field)) = relation.name.rsplit_once("_by_") else {
        return Err(unsupported(
            "The relation cannot be authorised: its declaration must say by which fields it joins (local, foreign).",
        ));
    };
    let own = component.and_then(|component| component.field_ignoring_case(field));
    Ok(match own {
        Some(field) => (vec![field.name.clone()], Vec::new()),
        None => (Vec::new(), vec![resolve(target, field)?]),
    })
}

/// Parses a request of `_table/NAME`.
pub(super) fn table(
    service: &Service,
    verb: Verb,
    name: String,
    id: Option<&str>,
    query: Vec<(String, String)>,
    json: Option<Value>,
) -> Result<Understood, Denial> {
    let component_name: Name = ["_table/", &name].concat().into();
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
    let mut table = Table { name, records: Arc::new(records), ..Table::default() };
    let ids = options.list("ids")?;
    let text = match options.take("filter") {
        None => None,
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => Some(text.to_string()),
        Some(_) => return Err(unsupported("filter must be a string.")),
    };
    table.rows = match (id, ids, text) {
        (None, None, None) => Rows::All,
        (None, None, Some(text)) => Rows::Filter(filter::parse(&text, &options.parameters, component)?),
        (None, Some(ids), None) => {
            let literal = |value: &Value| match value {
                Value::Number(number) if number.as_i64().is_some() => Ok(Literal::Number(number.to_string())),
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
    if let Some(name) = options.values.first().map(|(name, _)| name) {
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
) -> Result<Vec<Map>, Denial> {
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
                        (_, value) => options.add(name.into(), value)?,
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
    let mut fields = body::Fields::new(component, true);
    rows.into_iter().map(|row| record(&mut fields, row, bare)).collect()
}

fn record(fields: &mut body::Fields<'_>, row: Value, bare: bool) -> Result<Map, Denial> {
    let Value::Object(row) = row else {
        return Err(unsupported("Each record must be an object."));
    };
    let mut record = Map::new();
    for (name, value) in row {
        // DreamFactory reads these as options, or as another method, where the record is the whole body.
        let option = || QUERY_OPTIONS.contains(&name.as_str()) || is_alias(&name);
        if bare && (option() || matches!(name.as_str(), "_method" | "method" | "resource")) {
            return Err(unsupported(format!(
                "The record has a member {name}, which DreamFactory would take for an option: send {{\"resource\": [record]}}."
            )));
        }
        if value.get("expression").is_some() || body::has_lookup(&value) {
            return Err(unsupported(
                "A record has an expression or a lookup in braces, which DreamFactory would evaluate.",
            ));
        }
        let (declared, field, first) = fields.find(&name)?;
        let relation =
            || fields.component.is_some_and(|c| c.relations.iter().any(|have| have.name.eq_ignore_ascii_case(&name)));
        if first && relation() {
            return Err(unsupported(format!("Related rows cannot be written through {}.", shown(&name))));
        }
        let field_type = field.map_or(FieldType::Unspecified, |field| field.field_type);
        let value = if body::is_text(&value, field_type) {
            value
        } else {
            let Some(typed) = body::typed(&value, field_type) else {
                return Err(body::mistyped(&format!("field {}", shown(&name)), &value, field_type));
            };
            body::settled(value, typed.as_ref())
        };
        record.push(&*declared, value);
    }
    if !record.is_distinct() {
        return Err(unparsable("A record gives a field twice, in different case."));
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
    let mut written = body::Fields::new(component, false);
    for record in table.records.iter() {
        if by_body && !key.iter().all(|key| record.contains_key(&**key)) {
            return Err(unparsable("A record to update has no key."));
        }
        let mut row = WrittenRow::default();
        for (name, value) in record.iter() {
            let (name, field, first) = written.find(name)?;
            if by_body && key.contains(&name) {
                continue;
            }
            let typed = body::typed(value, field.map_or(FieldType::Unspecified, |field| field.field_type));
            if first {
                add(&name, Clause::Write);
            }
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
    for field in table.related.iter().flat_map(|related| &related.local) {
        operation.fields.push(FieldUse { field: field.clone(), clause: Clause::Join });
    }
    let mut operations = vec![operation];
    for related in &table.related {
        let mut nested = Operation::new(related.component.clone(), Verb::Get);
        let mut add = |field: &Name, clause| nested.fields.push(FieldUse { field: field.clone(), clause });
        project(&related.fields, &mut add);
        related.order.iter().for_each(|order| add(&order.field, Clause::Sort));
        related.foreign.iter().for_each(|field| add(field, Clause::Join));
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
