//! Datasette's table API: `/{table}.json` and `/{table}/{key}.json` below the database's path.
//!
//! Datasette joins its clauses with `and` as bare text, adds the primary key to every projection, to its order and to its
//! cursors, and echoes the query in several keys and headers of the response. Hence:
//!
//! - Every condition is printed from its tree in parentheses; the policy's is one more of them.
//! - The visible columns are always listed (`_col`): the table may have columns that were never declared.
//! - The order is always given (`_sort`): the table's metadata may name a hidden column otherwise.
//! - The primary key must be readable and declared as it is; a guard inside the query refuses the table otherwise.
//! - A row page takes no filter, so it is asked as a table query for its key: a row that is out of reach looks as one
//!   that does not exist.
//!
//! Not seen from here: a canned query with the name of a declared table takes the table's place in Datasette.

mod query;
mod sql;
#[cfg(test)]
mod tests;
mod url;

use crate::{
    Name,
    bundle::{Component, FieldSet, Service},
    code::{Code, Denial},
    decide::{Constraints, OperationConstraints},
    dialect::{
        BodyNeed, Dialect, Rewrite, Rules, as_it_is,
        rewrite::Parsed,
        shared::{member, unparsable, unsupported},
    },
    request::{Capabilities, DataRequest, HttpRequest, Operation, Projection, Verb},
    transform::{PathStep, Plain, ResponsePlan, RowShape, RowSite},
};
pub use query::Request;
use query::{Cursor, MAX_SIZE, Shape, Size};
use std::sync::Arc;

/// Datasette's default page.
const PAGE_SIZE: u32 = 100;
/// Values that Datasette shows in a facet by default.
const FACET_SIZE: u32 = 30;

/// Datasette's table API.
#[derive(Clone, Copy, Debug)]
pub struct Datasette;

impl Dialect for Datasette {
    const NAME: &'static str = "datasette";
    const CREDENTIAL_HEADERS: &'static [&'static str] = &[];
    const ANSWERS_ANY_VERSION: bool = false;
    const RULES: Rules = Rules {
        about: "Datasette's table API.",
        folds_components: false,
        // SQLite compares column names without case.
        folds_fields: true,
        files: false,
        wrapper: None,
        operations: false,
        writes: false,
        casts: None,
        renames: as_it_is,
        takes: as_it_is,
    };

    type Syntax = Request;

    /// Datasette's table API has no bodies.
    fn body_need(_: &HttpRequest<'_>) -> BodyNeed {
        BodyNeed::None
    }

    fn parse(service: &Service, prefix: &str, request: &HttpRequest<'_>) -> Result<Parsed<Request>, Denial> {
        parse(service, prefix, request)
    }

    fn emit(
        service: &Service,
        prefix: &str,
        syntax: &Request,
        _: &DataRequest,
        constraints: &Constraints,
    ) -> Result<Rewrite, Denial> {
        emit(service, prefix, syntax, constraints)
    }
}

/// Parses a request for a table or a row.
///
/// # Errors
/// `unparsable` or `unsupported`, if any part of it is not understood completely.
fn parse(service: &Service, prefix: &str, request: &HttpRequest<'_>) -> Result<Parsed<Request>, Denial> {
    if !matches!(request.method, "GET" | "HEAD") {
        return Err(unsupported("Datasette's tables can only be read, with GET or HEAD."));
    }
    let length = request.single_header("content-length");
    if request.body.is_some_and(|body| !body.is_empty())
        || !matches!(length, Ok(None | Some(b"0")))
        || request.has_header("transfer-encoding")
    {
        return Err(unparsable("A read of a table has no body."));
    }
    let (target, query) = query::target(request.path, prefix)?;
    let component = service.component(&target.table).map(Arc::as_ref);
    let syntax = Request::parse(target, query, component, None)?;
    let key = component.map_or(&[][..], |component| &component.key);
    let mut operation = Operation::new(syntax.table.as_str().into(), Verb::Get);
    operation.fields = syntax.fields(key).into();
    operation.projection = if syntax.columns.is_empty() { Projection::All } else { Projection::Listed };
    operation.limit = match (syntax.row, syntax.size) {
        (true, _) => Some(1),
        (false, Some(Size::Rows(rows))) => Some(u64::from(rows)),
        (false, _) => None,
    };
    operation.capabilities =
        Capabilities { rows: true, project: true, mask: true, cap: true, check: false, set: false };
    Ok(Parsed { request: DataRequest { operations: vec![operation] }, syntax })
}

/// Re-emits the request as a table query with the constraints inside it.
///
/// # Errors
/// `field_denied` or `unsupported`, if a constraint cannot be expressed or the output does not parse to the expected tree.
fn emit(service: &Service, prefix: &str, syntax: &Request, constraints: &Constraints) -> Result<Rewrite, Denial> {
    let component = service.component(&syntax.table).ok_or_else(|| unsupported("The table is not declared."))?;
    let [limits] = constraints.operations.as_slice() else {
        return Err(unsupported("The decision does not fit the request."));
    };
    let key = component.key.as_slice();
    let masked = |field: &Name| limits.masks.iter().any(|mask| mask.field == *field);
    if !key.iter().all(|field| limits.visible.contains(field) && !masked(field)) {
        return Err(unsupported(
            "Datasette shows, orders and pages by the primary key of a table: it must be readable and unmasked.",
        ));
    }
    for used in syntax.fields(key) {
        if !limits.visible.contains(&used.field) && !limits.omitted.contains(&used.field) {
            return Err(Denial::new(Code::FieldDenied, format!("`{}` cannot be read.", used.field)));
        }
    }
    if let Some(field) = syntax.facets.iter().chain(&syntax.json).find(|field| masked(field)) {
        return Err(Denial::new(Code::FieldDenied, format!("`{field}` is masked and cannot be grouped or unpacked.")));
    }

    let (expected, columns) = constrain(component, syntax, limits)?;
    let guard = sql::guard(&syntax.table, key);
    let path = expected.print(prefix, &guard)?;
    let (target, query) = query::target(&path, prefix)?;
    if Request::parse(target, query, Some(component), Some(&guard)).as_ref() != Ok(&expected) {
        return Err(unsupported("The rewritten request does not read back as it was meant."));
    }
    Ok(Rewrite {
        path: Some(path),
        remove_headers: ["if-none-match", "if-modified-since", "range"].map(str::to_owned).into(),
        response: plan(component, syntax, &expected, columns, limits),
        ..Rewrite::default()
    })
}

/// The constrained tree, and the columns of its rows in Datasette's order.
fn constrain(
    component: &Component,
    syntax: &Request,
    limits: &OperationConstraints,
) -> Result<(Request, Vec<Name>), Denial> {
    let key = component.key.as_slice();
    let rowid = matches!(key, [only] if only.as_ref() == "rowid");
    let shown = |field: &&Name| {
        limits.visible.contains(field)
            && component.all_fields.contains(field)
            && !limits.omitted.contains(field)
            && !syntax.without.contains(field)
            && !(rowid && key.contains(field))
    };
    let mut columns: Vec<Name> = Vec::new();
    if syntax.columns.is_empty() {
        columns.extend(limits.visible.iter().filter(shown).filter(|field| !key.contains(field)).cloned());
    } else {
        for field in syntax.columns.iter().filter(shown) {
            if !columns.contains(field) {
                columns.push(field.clone());
            }
        }
    }
    if columns.is_empty() {
        // Without any `_col` Datasette would show everything.
        let first = key.first().filter(|_| !rowid);
        columns.push(first.ok_or_else(|| unsupported("No column of this table is left to show."))?.clone());
    }

    let mut expected = syntax.clone();
    expected.row = false;
    expected.without.clear();
    expected.json.retain(|field| columns.contains(field) || key.contains(field));
    if syntax.shape == Shape::Object && (key.is_empty() || rowid) {
        return Err(unsupported("`_shape=object` needs a table with a primary key."));
    }
    if syntax.no_facet || !matches!(syntax.shape, Shape::Arrays | Shape::Objects) {
        expected.facets.clear();
    }
    expected.no_facet = expected.facets.is_empty();
    expected.no_suggest = true;
    if let Some(cap) = limits.max_rows {
        let asked = match syntax.size {
            Some(Size::Rows(rows)) => rows,
            Some(Size::Max) => MAX_SIZE,
            None => PAGE_SIZE,
        };
        expected.size = Some(Size::Rows(asked.min(cap)));
        if !expected.facets.is_empty() {
            // A facet lists values, so it is a way around the cap.
            let asked = match syntax.facet_size {
                Some(Size::Rows(values)) => values,
                Some(Size::Max) => MAX_SIZE,
                None => FACET_SIZE,
            };
            expected.facet_size = Some(Size::Rows(asked.min(cap)));
        }
    }
    order(key, &columns, limits, &mut expected)?;
    if let Some(rows) = &limits.rows {
        expected.wheres.push(sql::encode(rows, false)?);
    }
    expected.columns.clone_from(&columns);
    Ok((expected, key.iter().chain(&columns).cloned().collect()))
}

/// Gives the request an order that names visible columns only.
fn order(key: &[Name], columns: &[Name], limits: &OperationConstraints, expected: &mut Request) -> Result<(), Denial> {
    if expected.sort.is_some() {
        return Ok(());
    }
    let Some(first) = key.first() else {
        // A view has an order of its own, perhaps by a hidden column.
        if !limits.sees_all || !limits.masks.is_empty() {
            let open = columns.iter().find(|field| limits.masks.iter().all(|mask| mask.field != **field));
            let open = open.ok_or_else(|| unsupported("No column of this view is left to sort by."))?;
            expected.sort = Some((open.clone(), false));
        }
        return Ok(());
    };
    expected.sort = Some((first.clone(), false));
    match &mut expected.next {
        Some(Cursor::After { sort, key }) => *sort = Some(key.first().cloned()),
        // Datasette breaks ties by the rest of the key only when it continues from a cursor. This one is before the first
        // row: every row whose key is not NULL comes after it.
        None if key.len() > 1 => {
            expected.next = Some(Cursor::After { sort: Some(None), key: vec![String::new(); key.len()] });
        }
        _ => {}
    }
    Ok(())
}

/// What goes on of the response: the rows, and what is known of a table's page beside them. All else goes: what echoes the
/// query, what comes from other tables or tells of undeclared columns, how long it took, and whatever another version adds.
fn plan(
    component: &Component,
    syntax: &Request,
    expected: &Request,
    columns: Vec<Name>,
    limits: &OperationConstraints,
) -> ResponsePlan {
    let visible = Arc::new(FieldSet::new(columns.clone()));
    let names = Arc::clone(&visible);
    let (path, shape) = match expected.shape {
        Shape::Arrays => (vec![member("rows"), PathStep::Elements], RowShape::Array(columns)),
        Shape::Objects => (vec![member("rows"), PathStep::Elements], RowShape::Object),
        Shape::Array => (vec![PathStep::Elements], RowShape::Object),
        Shape::Object => (vec![PathStep::AnyMember], RowShape::Object),
        Shape::ArrayFirst => {
            (vec![PathStep::Elements], columns.into_iter().next().map_or(RowShape::Object, RowShape::Scalar))
        }
    };
    let rows = RowSite { path, shape, visible, masks: limits.masks.clone(), nested: Vec::new(), required: true };
    let mut plan = ResponsePlan {
        sites: vec![rows],
        hide_error_bodies: true,
        remove_headers: vec!["link".into(), "location".into()],
        ..ResponsePlan::default()
    };
    if !matches!(expected.shape, Shape::Arrays | Shape::Objects) {
        return plan;
    }
    let key = Arc::new(FieldSet::new(component.key.clone()));
    let mut plain = |path: Vec<PathStep>, form| plan.sites.push(RowSite::plain(path, form));
    for name in ["database", "table"] {
        plain(vec![member(name)], Plain::Scalar);
    }
    plain(vec![member("columns"), PathStep::Elements], Plain::OneOf(names));
    plain(vec![member("primary_keys"), PathStep::Elements], Plain::OneOf(key));
    if syntax.row {
        return plan;
    }
    for name in ["is_view", "truncated"] {
        plain(vec![member(name)], Plain::Boolean);
    }
    plain(vec![member("filtered_table_rows_count")], Plain::Number);
    let by_mask = expected.sort.as_ref().is_some_and(|(field, _)| limits.masks.iter().any(|mask| mask.field == *field));
    if !by_mask {
        // Else the cursor would show the value that the mask hides.
        plain(vec![member("next")], Plain::Scalar);
    }
    // The table's metadata may add facets of its own; links repeat the query, labels come from other tables.
    let site = |path: Vec<PathStep>, visible: &[&str], nested: Vec<Name>| RowSite {
        path,
        shape: RowShape::Object,
        visible: Arc::new(FieldSet::new(visible.iter().map(|name| Name::from(*name)).collect())),
        masks: Arc::default(),
        nested,
        required: false,
    };
    let facets = || vec![member("facet_results")];
    plan.sites.push(site(facets(), &[], expected.facets.clone()));
    if !expected.facets.is_empty() {
        let mut path = facets();
        path.push(PathStep::AnyMember);
        let facet = |name: &str| [path.clone(), vec![member(name)]].concat();
        for name in ["name", "type"] {
            plan.sites.push(RowSite::plain(facet(name), Plain::Scalar));
        }
        for name in ["hideable", "truncated"] {
            plan.sites.push(RowSite::plain(facet(name), Plain::Boolean));
        }
        let parts = ["name", "type", "hideable", "truncated", "results"].map(Name::from);
        plan.sites.push(site(path.clone(), &[], parts.into()));
        path.extend([member("results"), PathStep::Elements]);
        plan.sites.push(site(path, &["value", "count", "selected"], Vec::new()));
    }
    plan
}
