//! The constraints into the syntax tree, and the tree into a request.

use super::{
    body, cast,
    filter::Filter,
    lookup::has_lookup,
    plan::{error_sites, hides, site, sites},
    tree::{Column, Part, Request, Rows, Table, Target},
    unsupported,
    write::{prove, write},
};
use crate::{
    bundle::{Component, Service},
    code::{Code, Denial},
    decide::{Constraints, OperationConstraints},
    dialect::{Rewrite, names, rewrite::CONDITIONAL, shared::OVERRIDES},
    request::{DataRequest, Verb},
    transform::{PathStep, ResponsePlan},
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
    let value = cast::literal(super::literal::Literal::key(id)?, key_type)?;
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
