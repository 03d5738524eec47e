//! The syntax tree of one request for a table or a row, read from its address and printed again.

use super::{
    sql::{self, Sql, resolve},
    url::{decode_query, decode_tilde, encode_query, encode_tilde},
};
use crate::{
    Name,
    bundle::Component,
    code::Denial,
    dialect::{
        names,
        shared::{unparsable, unsupported},
    },
    request::{Clause, FieldUse},
};
use std::collections::BTreeSet;

/// Longest address that is read, and that is written.
const MAX_PATH: usize = 16 * 1024;
const MAX_PARAMETERS: usize = 256;
/// Datasette's default `max_returned_rows`.
pub(super) const MAX_SIZE: u32 = 1000;

/// A parsed request: a table with its parameters, or a row page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Decoded table name; Datasette compares it exactly.
    pub(super) table: String,
    /// The request names one row in its path; its key is in `filters`.
    pub(super) row: bool,
    pub(super) columns: Vec<Name>,
    pub(super) without: Vec<Name>,
    pub(super) filters: Vec<Filter>,
    pub(super) wheres: Vec<Sql>,
    /// Column, and whether the order is descending.
    pub(super) sort: Option<(Name, bool)>,
    pub(super) next: Option<Cursor>,
    pub(super) size: Option<Size>,
    pub(super) shape: Shape,
    pub(super) facets: Vec<Name>,
    pub(super) facet_size: Option<Size>,
    pub(super) json: Vec<Name>,
    pub(super) no_count: bool,
    pub(super) no_facet: bool,
    pub(super) no_suggest: bool,
}

/// `column__lookup=value`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter {
    pub(super) column: Name,
    pub(super) lookup: &'static str,
    pub(super) value: String,
}

/// `_next`
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cursor {
    /// Of a view.
    Offset(u32),
    /// Of a table: the last row's value of the sort column (`None`: NULL), if there is one, and its key.
    After { sort: Option<Option<String>>, key: Vec<String> },
}

/// `_size`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Rows(u32),
    Max,
}

/// `_shape`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    #[default]
    Arrays,
    Objects,
    Array,
    Object,
    ArrayFirst,
}

const SHAPES: [(&str, Shape); 5] = [
    ("arrays", Shape::Arrays),
    ("objects", Shape::Objects),
    ("array", Shape::Array),
    ("object", Shape::Object),
    ("arrayfirst", Shape::ArrayFirst),
];

/// Lookups, and whether they take a value. `arraycontains` is not among them: it reads the column as JSON, which fails
/// on rows that the caller may not see.
const LOOKUPS: [(&str, bool); 19] = [
    ("exact", true),
    ("not", true),
    ("contains", true),
    ("endswith", true),
    ("startswith", true),
    ("gt", true),
    ("gte", true),
    ("lt", true),
    ("lte", true),
    ("like", true),
    ("notlike", true),
    ("glob", true),
    ("in", true),
    ("notin", true),
    ("date", true),
    ("isnull", false),
    ("notnull", false),
    ("isblank", false),
    ("notblank", false),
];

/// Beginnings of parameters that Datasette gives a meaning of its own, also with `__` inside.
const RESERVED: [&str; 6] = ["_search", "_facet", "_filter", "_fts", "_where", "_through"];

/// What the path names: the table, and the row's key if it is a row page.
pub(super) struct Target {
    pub(super) table: String,
    pub(super) key: Option<Vec<String>>,
}

/// Splits an address into its target and its query.
///
/// # Errors
/// `unparsable` or `unsupported`, if it is not `/table.json` or `/table/key.json` below the prefix.
pub(super) fn target<'a>(path: &'a str, prefix: &str) -> Result<(Target, Option<&'a str>), Denial> {
    if path.len() > MAX_PATH {
        return Err(unparsable("The address is longer than 16 KiB."));
    }
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let rest = path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).ok_or_else(|| {
        unsupported("Only `/{table}.json` and `/{table}/{key}.json` of this database can be requested.")
    })?;
    let rest = rest
        .strip_suffix(".json")
        .ok_or_else(|| unsupported("Only JSON can be requested: the path of a table or a row must end in `.json`."))?;
    let segment = |text: &str| match decode_tilde(text) {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(unparsable("The path is not in Datasette's tilde encoding.")),
    };
    let (table, key) = match rest.split_once('/') {
        None => (rest, None),
        Some((table, key)) => {
            (table, Some(key.split(',').take(MAX_PARAMETERS).map(segment).collect::<Result<_, _>>()?))
        }
    };
    if table == "-" || table.starts_with("-/") {
        return Err(unsupported("Datasette's own pages cannot be requested."));
    }
    Ok((Target { table: segment(table)?, key }, query))
}

fn flag(name: &str, value: &str) -> Result<bool, Denial> {
    match value {
        "1" | "on" | "true" => Ok(true),
        _ => Err(unparsable(format!("`{name}` takes the value 1 only."))),
    }
}

fn rows(name: &str, value: &str) -> Result<Size, Denial> {
    if value == "max" {
        return Ok(Size::Max);
    }
    let digits = value.len() <= 7 && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(rows) if digits => Ok(Size::Rows(rows)),
        _ => Err(unparsable(format!("`{name}` takes a number or `max`."))),
    }
}

impl Request {
    /// Reads the query. `guard`: the text is this module's own output, whose last `_where` must be that guard, and whose
    /// other conditions may have the forms of a policy's filter.
    pub(super) fn parse(
        target: Target,
        query: Option<&str>,
        component: Option<&Component>,
        guard: Option<&str>,
    ) -> Result<Request, Denial> {
        let key = component.map_or(&[][..], |component| &component.key);
        let mut request = Request { table: target.table, ..Request::default() };
        let (mut seen, mut cursor, mut guarded) = (BTreeSet::new(), None, false);
        for (at, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
            let (name, value) = pair.split_once('=').ok_or_else(|| unparsable("A parameter has no `=`."))?;
            let (Some(name), Some(value)) = (decode_query(name), decode_query(value)) else {
                return Err(unparsable("A parameter is not well encoded."));
            };
            if at >= MAX_PARAMETERS {
                return Err(unparsable("The address has more than 256 parameters."));
            }
            if names::is_cache_buster(&name, &value) {
                continue;
            }
            if target.key.is_some() && !matches!(name.as_str(), "_shape" | "_json") {
                return Err(unparsable(format!("A row page has no parameter `{name}`.")));
            }
            let repeatable = matches!(name.as_str(), "_where" | "_col" | "_nocol" | "_facet" | "_json");
            if name.starts_with('_') && !name.contains("__") && !repeatable && !seen.insert(name.clone()) {
                return Err(unparsable(format!("`{name}` is given twice.")));
            }
            match name.as_str() {
                "_where" if guard == Some(value.as_str()) && !guarded => guarded = true,
                "_where" if !guarded => request.wheres.push(sql::parse(&value, component, guard.is_some())?),
                "_col" => request.columns.push(resolve(component, &value)),
                "_nocol" => {
                    let column = resolve(component, &value);
                    if key.contains(&column) {
                        return Err(unparsable("The primary key cannot be left out with `_nocol`."));
                    }
                    request.without.push(column);
                }
                "_sort" | "_sort_desc" if request.sort.is_some() => {
                    return Err(unparsable("`_sort` and `_sort_desc` exclude each other."));
                }
                "_sort" => request.sort = Some((resolve(component, &value), false)),
                "_sort_desc" => request.sort = Some((resolve(component, &value), true)),
                "_next" => cursor = Some(value),
                "_size" => request.size = Some(rows(&name, &value)?),
                "_facet_size" => request.facet_size = Some(rows(&name, &value)?),
                // A value that starts with a brace is a facet's configuration.
                "_facet" if value.starts_with('{') => return Err(unsupported("`_facet` takes a column only.")),
                "_facet" => request.facets.push(resolve(component, &value)),
                "_json" => request.json.push(resolve(component, &value)),
                "_shape" => {
                    let shape = SHAPES.iter().find(|(name, _)| *name == value).map(|(_, shape)| *shape);
                    request.shape = shape.ok_or_else(|| unparsable("`_shape` has no such value."))?;
                }
                "_nocount" => request.no_count = flag(&name, &value)?,
                "_nofacet" => request.no_facet = flag(&name, &value)?,
                "_nosuggest" => request.no_suggest = flag(&name, &value)?,
                _ if name.starts_with("_search") || name.starts_with("_fts") => {
                    return Err(unsupported("Full-text search reads every indexed column and cannot be authorised."));
                }
                "_labels" | "_label" | "_through" => {
                    return Err(unsupported(format!("`{name}` reads other tables and cannot be authorised.")));
                }
                _ if RESERVED.iter().any(|reserved| name.starts_with(reserved))
                    || matches!(
                        name.as_str(),
                        "_trace" | "_nl" | "_ttl" | "_timelimit" | "_extra" | "_extras" | "_json_infinity"
                    ) =>
                {
                    return Err(unsupported(format!("`{name}` is not supported.")));
                }
                "sql" if component.is_none_or(|component| component.field("sql").is_none()) => {
                    return Err(unsupported("SQL cannot be sent to this service."));
                }
                _ if name.starts_with('_') && !name.contains("__") => {
                    return Err(unparsable(format!("`{name}` is not a parameter of a table.")));
                }
                _ => request.filters.push(filter(&name, value, component)?),
            }
        }
        if guard.is_some() && !guarded {
            return Err(unsupported("The rewritten request lost its guard."));
        }
        if let Some(text) = cursor {
            request.next = Some(Cursor::parse(&text, key, request.sort.is_some())?);
        }
        if let Some(values) = target.key {
            if key.is_empty() || values.len() != key.len() {
                return Err(unparsable("The path does not have one value for each field of the primary key."));
            }
            request.row = true;
            for (column, value) in key.iter().zip(values) {
                request.filters.push(Filter { column: column.clone(), lookup: "exact", value });
            }
        }
        Ok(request)
    }

    /// Every field that the request names, with its clause.
    pub(super) fn fields(&self, key: &[Name]) -> Vec<FieldUse> {
        let mut uses = Vec::new();
        let mut push = |field: &Name, clause| uses.push(FieldUse { field: field.clone(), clause });
        let clause = if self.row { Clause::Key } else { Clause::Filter };
        self.filters.iter().for_each(|filter| push(&filter.column, clause));
        self.wheres.iter().for_each(|sql| sql.fields(&mut |field| push(field, Clause::Filter)));
        self.facets.iter().for_each(|field| push(field, Clause::Group));
        self.columns.iter().chain(&self.without).chain(&self.json).for_each(|field| push(field, Clause::Project));
        if let Some((field, _)) = &self.sort {
            push(field, Clause::Sort);
        }
        if self.next.is_some() {
            key.iter().chain(self.sort.as_ref().map(|(field, _)| field)).for_each(|field| push(field, Clause::Cursor));
        }
        uses
    }

    /// Prints the address of the table form, with the guard as its last condition.
    pub(super) fn print(&self, prefix: &str, guard: &str) -> Result<String, Denial> {
        let mut out = format!("{prefix}/");
        encode_tilde(&self.table, &mut out);
        out.push_str(".json");
        let mut glue = '?';
        let mut push = |name: &str, value: &str| {
            out.push(glue);
            glue = '&';
            encode_query(name, &mut out);
            out.push('=');
            encode_query(value, &mut out);
        };
        for filter in &self.filters {
            // A plugin may take a credential from a parameter of such a name; with the lookup after it, it is another name.
            let plain = filter.lookup == "exact"
                && !filter.column.contains("__")
                && !filter.column.starts_with('_')
                && !names::is_credential(&filter.column);
            if plain {
                push(&filter.column, &filter.value);
            } else {
                push(&format!("{}__{}", filter.column, filter.lookup), &filter.value);
            }
        }
        for field in &self.columns {
            push("_col", field);
        }
        for field in &self.facets {
            push("_facet", field);
        }
        for field in &self.json {
            push("_json", field);
        }
        if let Some((field, descending)) = &self.sort {
            push(if *descending { "_sort_desc" } else { "_sort" }, field);
        }
        if let Some(cursor) = &self.next {
            push("_next", &cursor.print());
        }
        for (name, size) in [("_size", self.size), ("_facet_size", self.facet_size)] {
            match size {
                Some(Size::Max) => push(name, "max"),
                Some(Size::Rows(rows)) => push(name, &rows.to_string()),
                None => {}
            }
        }
        if self.shape != Shape::Arrays {
            push("_shape", SHAPES.iter().find(|(_, shape)| *shape == self.shape).map_or("arrays", |(name, _)| name));
        }
        for (name, set) in [("_nocount", self.no_count), ("_nofacet", self.no_facet), ("_nosuggest", self.no_suggest)] {
            if set {
                push(name, "1");
            }
        }
        let mut text = String::new();
        for sql in &self.wheres {
            text.clear();
            sql.print(&mut text);
            push("_where", &text);
        }
        push("_where", guard);
        if out.len() > MAX_PATH {
            return Err(unsupported("The request with its row filter is longer than 16 KiB."));
        }
        Ok(out)
    }
}

fn filter(name: &str, value: String, component: Option<&Component>) -> Result<Filter, Denial> {
    // Datasette splits at the last `__`.
    let (column, lookup) = name.rsplit_once("__").unwrap_or((name, "exact"));
    let (lookup, takes_value) = LOOKUPS
        .into_iter()
        .find(|(known, _)| *known == lookup)
        .ok_or_else(|| unsupported(format!("The filter `{name}` is not supported.")))?;
    let column = resolve(component, column);
    Ok(Filter { column, lookup, value: if takes_value { value } else { "1".to_owned() } })
}

impl Cursor {
    fn parse(text: &str, key: &[Name], sorted: bool) -> Result<Cursor, Denial> {
        let bad = || unparsable("`_next` is not a cursor of this table in this order.");
        if key.is_empty() {
            let digits = text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
            return text.parse().ok().filter(|_| digits).map(Cursor::Offset).ok_or_else(bad);
        }
        let mut parts = Vec::new();
        for part in text.split(',').take(MAX_PARAMETERS) {
            // `$null` is not a tilde-encoded text: that would be `~24null`.
            parts.push(if part == "$null" && parts.is_empty() {
                None
            } else {
                Some(decode_tilde(part).ok_or_else(bad)?)
            });
        }
        let extra = parts.len().checked_sub(key.len()).ok_or_else(bad)?;
        let sort = match (extra, sorted) {
            (0, false) => None,
            (1, true) => Some(parts.remove(0)),
            // Requests without an order are sorted by the key, so their cursors begin with its first value twice.
            (1, false) if parts.first() == parts.get(1) => {
                parts.remove(0);
                None
            }
            _ => return Err(bad()),
        };
        let key = parts.into_iter().collect::<Option<Vec<_>>>().ok_or_else(bad)?;
        Ok(Cursor::After { sort, key })
    }

    fn print(&self) -> String {
        let mut out = String::new();
        match self {
            Cursor::Offset(rows) => out.push_str(&rows.to_string()),
            Cursor::After { sort, key } => {
                match sort {
                    None => {}
                    Some(None) => out.push_str("$null,"),
                    Some(Some(value)) => {
                        encode_tilde(value, &mut out);
                        out.push(',');
                    }
                }
                for (at, value) in key.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    encode_tilde(value, &mut out);
                }
            }
        }
        out
    }
}
