//! Requests of tables: which rows, what of them, and what is written.

use super::{
    body, cast, grammar,
    literal::{Literal, carries},
    lookup::has_lookup,
    options::{BODY_OPTIONS, Options, QUERY_OPTIONS, columns, is_alias, orders, resolve},
    path,
    token::is_field,
    tree::{Column, Related, Rows, Table, Target, Understood},
    unparsable, unsupported,
};
use crate::{
    Name,
    bundle::{Component, Relation, Service},
    code::Denial,
    dialect::{names, shared::shown},
    json::{Map, Value},
    request::{Capabilities, Clause, FieldUse, Operation, Projection, Verb, WriteKind, WrittenRow},
    value::{self, FieldType, Value as Typed},
};
use std::sync::Arc;

const MAX_RECORDS: usize = 1000;

fn related(service: &Service, component: Option<&Component>, options: &mut Options) -> Result<Vec<Related>, Denial> {
    let mut all: Vec<Related> = Vec::new();
    for name in options.names("related")?.unwrap_or_default() {
        if name == "*" {
            return Err(unsupported("related cannot be *, which depends on the server: name each relation."));
        }
        let relation = component.and_then(|component| {
            component.relations.iter().find(|relation| relation.name.eq_ignore_ascii_case(&name))
        });
        let Some(relation) = relation.filter(|relation| is_field(&relation.name)) else {
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
    let mut records = records(service, component, verb, id, json, &mut options)?;
    if options.take("having").is_some_and(|value| !matches!(value.as_str(), Some("" | "false" | "0"))) {
        return Err(unsupported(
            "DreamFactory does not apply having to a table, so that groups would come which it excludes: limit rows by filter, and groups in the client.",
        ));
    }
    for name in ["limit", "offset", "order", "group", "related"] {
        options.drop_empty(name);
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
    let mut ids = options.list("ids")?;
    if matches!(verb, Verb::Get | Verb::Delete) && !records.is_empty() {
        if ids.is_some() || id.is_some() {
            return Err(unsupported(ONE_OF));
        }
        ids = Some(keys(key, std::mem::take(&mut records))?);
    }
    let wrapper = service.resources_wrapper.clone();
    let mut table = Table { name, wrapper, records: Arc::new(records), ..Table::default() };
    let text = match options.take("filter") {
        None => None,
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => Some(text.to_string()),
        Some(_) => return Err(unsupported("filter must be a string.")),
    };
    table.rows = match (id, ids, text) {
        (None, None, None) => Rows::All,
        (None, None, Some(text)) => Rows::Filter(grammar::parse(&text, &options.parameters, component)?),
        (None, Some(ids), None) => {
            let literal = |value: &Value| match value {
                Value::Number(number) if number.as_i64().is_some() => Ok(Literal::Number(number.to_string())),
                Value::String(text) => Literal::key(text),
                _ => Err(unsupported("ids must be integers or strings.")),
            };
            let field_type =
                |key: &Name| component.and_then(|component| component.field(key)).map(|key| key.field_type);
            let key_type = key.first().and_then(field_type).unwrap_or(FieldType::Unspecified);
            let typed = |value: &Value| cast::literal(literal(value)?, key_type);
            Rows::Ids(ids.iter().map(typed).collect::<Result<_, _>>()?)
        }
        (Some(id), None, None) => {
            if !path::plain_name(id) || id.contains(',') || !carries(id) {
                return Err(unsupported("The key in the path has characters that are not allowed there."));
            }
            Rows::One(id.to_owned())
        }
        _ => return Err(unsupported(ONE_OF)),
    };
    // Without a name in it, `fields` means the key: what a write answers with anyhow.
    let only_key = options.values.iter().any(|(name, value)| name == "fields" && value.as_str() == Some(""));
    options.drop_empty("fields");
    let fields = options.names("fields")?;
    table.fields = columns(component, fields)?;
    if only_key && verb == Verb::Get {
        if key.is_empty() {
            return Err(unsupported(
                "An empty fields means the key, and the component declares none: name the fields.",
            ));
        }
        table.fields = Some(key.iter().cloned().map(Column::Field).collect());
    }
    if options.flag("as_list")? {
        table.as_list = Some(listed(verb, &mut table.fields, key)?);
    }
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

const ONE_OF: &str = "Give one of: a key in the path, ids, filter, records with their keys in the body.";

/// The field that a list of keys shows: the key, which is then all that is asked for. DreamFactory takes the column that
/// `id_field` names, and its default is a column `name`.
fn listed(verb: Verb, fields: &mut Option<Vec<Column>>, key: &[Name]) -> Result<Name, Denial> {
    let [key] = key else {
        return Err(unsupported("as_list needs a declared key of one field."));
    };
    let of_key = |columns: &Vec<Column>| matches!(columns.as_slice(), [Column::Field(field)] if field == key);
    if verb != Verb::Get || !fields.as_ref().is_none_or(of_key) {
        return Err(unsupported("as_list belongs to reading, and gives the key: leave it out to read other fields."));
    }
    *fields = Some(vec![Column::Field(key.clone())]);
    Ok(key.clone())
}

/// The keys of records that name rows to read or delete. DreamFactory looks at nothing but the key in them, so that a record
/// with more would say what is not done.
fn keys(key: &[Name], records: Vec<Map>) -> Result<Vec<Value>, Denial> {
    let [key] = key else {
        return Err(unsupported("Records in the body can name rows only by a declared key of one field: use filter."));
    };
    let only = |mut record: Map| match record.remove(key) {
        Some(value) if record.is_empty() && matches!(value, Value::String(_) | Value::Number(_)) => Ok(value),
        _ => Err(unsupported(
            "Records that name rows have the key alone, and a value in it: for other fields use filter.",
        )),
    };
    records.into_iter().map(only).collect()
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
    if table.as_list.is_some() && (!list || table.count_only || !table.group.is_empty() || !table.related.is_empty()) {
        return Err(unsupported("as_list belongs to reading a list, without group, related and count_only."));
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
        _ => Ok(()),
    }
}

/// The rows in a body, under the declared names of their fields and with values of their types. Options beside them go
/// into `options`.
fn records(
    service: &Service,
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
            let rows = object.remove(&service.resources_wrapper);
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
                    // One record; it is sent in a list.
                    Some(row @ Value::Object(_)) => vec![row],
                    Some(_) => {
                        let wrapper = &service.resources_wrapper;
                        return Err(unparsable(format!("{wrapper} in the body must be a list of records.")));
                    }
                }
            }
        }
        Some(_) => return Err(unparsable("The body must be an object or a list of records.")),
    };
    if rows.len() > MAX_RECORDS {
        return Err(unsupported("The body has more than 1,000 records."));
    }
    let bare = bare.then_some(&*service.resources_wrapper);
    let mut fields = body::Fields::new(component, true);
    rows.into_iter().map(|row| record(&mut fields, row, bare)).collect()
}

/// Members of a body's root that DreamFactory, or the framework below it, reads for itself: the method, the form of the
/// answer, a token.
const OF_ROOT: [&str; 8] = ["_method", "method", "resource", "wrap", "file", "token", "jwt", "_token"];

/// `bare`: the record is the whole body; this is what it could be wrapped in.
fn record(fields: &mut body::Fields<'_>, row: Value, bare: Option<&str>) -> Result<Map, Denial> {
    let Value::Object(row) = row else {
        return Err(unsupported("Each record must be an object."));
    };
    let mut record = Map::new();
    for (name, value) in row {
        // DreamFactory reads these as options, or as another method, where the record is the whole body.
        if let Some(wrapper) = bare
            && (QUERY_OPTIONS.contains(&name.as_str())
                || is_alias(&name)
                || name == wrapper
                || OF_ROOT.contains(&name.as_str()))
        {
            return Err(unsupported(format!(
                "The record has a member {name}, which DreamFactory would take for an option: send {{\"{wrapper}\": [record]}}."
            )));
        }
        if value.get("expression").is_some() || has_lookup(&value) {
            return Err(unsupported(
                "A record has an expression or a lookup in braces, which DreamFactory would evaluate.",
            ));
        }
        let (declared, field, first) = fields.find(&name)?;
        let relation =
            || fields.component.is_some_and(|c| c.relations.iter().any(|have| have.name.eq_ignore_ascii_case(&name)));
        if first && names::is_credential(&name) {
            return Err(unsupported(format!("The field {} {}.", shown(&name), names::CREDENTIAL)));
        }
        if first && relation() {
            return Err(unsupported(format!("Related rows cannot be written through {}.", shown(&name))));
        }
        let field_type = field.map_or(FieldType::Unspecified, |field| field.field_type);
        let value = if body::is_text(&value, field_type) {
            value
        } else {
            let Some(typed) = body::typed(&value, field_type) else {
                return Err(match field_type {
                    FieldType::Binary => unsupported(format!(
                        "The binary field {} takes base64 only: DreamFactory would fetch what a URL names.",
                        shown(&name)
                    )),
                    _ => body::mistyped(&format!("field {}", shown(&name)), &value, field_type),
                });
            };
            let size = field.map(|field| field.size).unwrap_or_default();
            if let Some(Typed::Literal(literal)) = &typed
                && let cast::Stored::Other(why) = cast::stored(literal, field_type, size)
            {
                let name = shown(&name);
                return Err(unsupported(format!(
                    "Another value than this would be stored in the field {name}: {why}."
                )));
            }
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
        if by_body && !key.iter().all(|key| record.contains_key(key)) {
            return Err(unparsable("A record to update has no key."));
        }
        let mut row = WrittenRow::default();
        for (name, value) in record.iter() {
            let (name, field, first) = written.find(name)?;
            if by_body && key.contains(&name) {
                continue;
            }
            let field_type = field.map_or(FieldType::Unspecified, |field| field.field_type);
            let size = field.map(|field| field.size).unwrap_or_default();
            if first {
                add(&name, Clause::Write);
            }
            // Of a value that is stored otherwise than it is sent, rounded or trimmed, nothing is known to a check.
            let known = body::typed(value, field_type).flatten().filter(|typed| match typed {
                Typed::Literal(value::Literal::String(text)) if !names::arrives(text) => false,
                Typed::Literal(literal) => cast::stored(literal, field_type, size) == cast::Stored::Same,
                Typed::Null => true,
            });
            row.values.push((name, known));
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
        // Read, it is asked for by a filter.
        Rows::One(_) => verb == Verb::Get,
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
