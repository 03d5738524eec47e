//! `DataService` → `Service`.

use super::{
    context::{ComponentFacts, Context, ServiceFacts},
    hosts, names,
    out::Out,
};
use crate::document::{
    DataService, Kind,
    common::{Audit, Enforcement, OnHiddenField, Scalar},
    data_service::{Component, Cors, Dialect, Field, HeaderSource, HeaderValue, Operation, Parameter, Relation},
    suggest,
};
use doorward_policy::{
    dialect::Casts,
    engine::is_foreign_identity,
    predicate::parse::{parse_literal, type_name},
    value::{FieldType, Size},
};
use doorward_proto::v1;
use std::collections::{BTreeMap, BTreeSet};

/// Headers that frame or authenticate a request; identity cannot be put into them.
const RESERVED: [&str; 12] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "authorization",
    "cookie",
    "proxy-authorization",
];

pub(super) fn service(context: &Context<'_>, out: &mut Out<'_>, spec: &DataService) -> (v1::Service, ServiceFacts) {
    let Dialect(dialect) = spec.dialect;
    let rules = dialect.rules();
    // File paths keep their case: files of other case are other files.
    let case_insensitive = rules.folds_components && !spec.files;
    let mut facts = ServiceFacts { case_insensitive, casts: rules.casts, ..ServiceFacts::default() };
    facts.matches = matches(context, out, spec);
    if spec.files && !rules.files {
        out.error(
            "wrong_dialect",
            "spec.files",
            names::only(|rules| rules.files, "has file services", "have file services"),
        );
    }
    let canonical = |name: &str| if case_insensitive { name.to_lowercase() } else { name.to_owned() };
    for (name, component) in &spec.components {
        let path = format!("spec.components.{name}");
        let star = name.strip_suffix("/*").unwrap_or(if name == "*" { "x" } else { name });
        if star.is_empty() || star.contains('*') || star.starts_with('/') || star.ends_with('/') || name.contains("//")
        {
            out.error("invalid_component", &path, "a component is a name without leading or trailing /, prefix/* or *");
        }
        let entry = ComponentFacts {
            fields: component.fields.iter().map(|(name, field)| (name.clone(), field.field_type().into())).collect(),
            sizes: component.fields.iter().map(|(name, field)| (name.clone(), field.size())).collect(),
            parameters: component
                .parameters
                .iter()
                .chain(component.operations.iter().flat_map(|operation| &operation.parameters))
                .map(|(name, parameter)| (name.clone(), parameter.field_type().into()))
                .collect(),
        };
        if facts.components.insert(canonical(name), entry).is_some() {
            out.error("duplicate_component", &path, "another component has this name but for upper and lower case");
        }
    }
    names::check(out, spec);
    let mut components = Vec::new();
    for (name, component) in &spec.components {
        components.push(one(out, spec, &facts, &canonical, name, component));
    }
    components.sort_by_key(|component| component.name);
    let mut matches: Vec<v1::Match> =
        facts.matches.iter().map(|(host, path)| v1::Match { host: out.s(host), path: out.s(path) }).collect();
    matches.sort_by_key(|entry| (entry.host, entry.path));
    matches.dedup();
    let upstream = upstream(context, out, spec);
    let service = v1::Service {
        name: out.s(&out.document.name.clone()),
        dialect: dialect.wire().into(),
        matches,
        on_hidden_field: v1::HiddenField::from(spec.on_hidden_field.unwrap_or(OnHiddenField::Deny)).into(),
        max_rows: spec.max_rows.map_or(0, Into::into),
        audit: v1::AuditMode::from(spec.audit.unwrap_or(Audit::Async)).into(),
        enforcement: v1::Enforcement::from(spec.enforcement.unwrap_or(Enforcement::Enforce)).into(),
        components,
        upstream: Some(upstream),
        max_body_bytes: spec.max_body.map_or(0, Into::into),
        max_body_values: spec.max_body_values.map_or(0, Into::into),
        options: Some(v1::ServiceOptions {
            record_request_text: spec.record_request_text,
            case_insensitive,
            files: spec.files,
            resources_wrapper: out.optional(spec.resources_wrapper.as_deref()),
            preflights: spec.cors == Some(Cors::Pass),
        }),
    };
    (service, facts)
}

fn matches(context: &Context<'_>, out: &mut Out<'_>, spec: &DataService) -> Vec<(String, String)> {
    if spec.matches.is_empty() {
        out.error("invalid_value", "spec.match", "a service without match gets no request");
    }
    let mut all = Vec::new();
    for (at, entry) in spec.matches.iter().enumerate() {
        let at = format!("spec.match[{at}]");
        let path = entry.path.as_deref().unwrap_or("/");
        let sound = path.starts_with('/')
            && path.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '%' | '\\' | '?' | '#' | ';' | '*' | '{'))
            && !path.contains("//")
            && !path.split('/').any(|segment| matches!(segment, "." | ".."));
        if !sound {
            let message = "a path prefix starts with / and has plain segments: no //, dots alone, %, ?, #, ; or *";
            out.error("invalid_match", format!("{at}.path"), message);
        }
        let path = path.trim_end_matches('/').to_owned();
        let given: Vec<&str> =
            if entry.hosts.is_empty() { vec![""] } else { entry.hosts.iter().map(String::as_str).collect() };
        for host in given {
            let lower = match hosts::normal(host) {
                Some(host) => host,
                None if entry.hosts.is_empty() => String::new(),
                None => {
                    out.error(
                        "invalid_match",
                        format!("{at}.hosts"),
                        "a host is a name such as data.example.com or *.example.com, without a port",
                    );
                    host.to_ascii_lowercase()
                }
            };
            let key = (lower, path.clone());
            if !context.checked
                && let Some(other) = context.matches.get(&key)
            {
                let host = if key.0.is_empty() { "any host" } else { &key.0 };
                let message = format!("DataService \"{other}\" already has {host} with path \"{}/\"", key.1);
                out.error("match_overlap", &at, message);
                context.contest(Kind::DataService, other, &out.document.name);
            }
            all.push(key);
        }
    }
    all.sort();
    all.dedup();
    all
}

fn upstream(context: &Context<'_>, out: &mut Out<'_>, spec: &DataService) -> v1::Upstream {
    let spec = spec.upstream.clone().unwrap_or_default();
    let headers = spec.headers.unwrap_or_else(|| {
        [
            ("x-doorward-user", HeaderSource::User),
            ("x-doorward-role", HeaderSource::Role),
            ("x-doorward-tenant", HeaderSource::Tenant),
            ("x-doorward-agent", HeaderSource::Agent),
            ("x-doorward-decision", HeaderSource::Decision),
        ]
        .map(|(name, source)| (name.to_owned(), HeaderValue::Source(source)))
        .into()
    });
    let mut seen = BTreeSet::new();
    let mut mapped = Vec::new();
    for (name, value) in &headers {
        let at = format!("spec.upstream.headers.{name}");
        let lower = name.to_ascii_lowercase();
        let token =
            !lower.is_empty() && lower.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!#$&'*+^`|~".contains(&b));
        if !token || RESERVED.contains(&lower.as_str()) {
            out.error("invalid_header", &at, "identity cannot be put into this header; choose a name of its own");
        }
        if !seen.insert(lower.clone()) {
            out.error("invalid_header", &at, "the header is given twice but for upper and lower case");
        }
        let (source, attribute) = match value {
            HeaderValue::Source(HeaderSource::User) => (v1::HeaderSource::HeaderUser, 0),
            HeaderValue::Source(HeaderSource::Role) => (v1::HeaderSource::HeaderRole, 0),
            HeaderValue::Source(HeaderSource::Tenant) => (v1::HeaderSource::HeaderTenant, 0),
            HeaderValue::Source(HeaderSource::Agent) => (v1::HeaderSource::HeaderAgent, 0),
            HeaderValue::Source(HeaderSource::Decision) => (v1::HeaderSource::HeaderDecision, 0),
            HeaderValue::Source(HeaderSource::Groups) => (v1::HeaderSource::HeaderGroups, 0),
            HeaderValue::Attribute(value) => {
                if !context.maps_attribute(&value.attribute) {
                    let message =
                        format!("no provider maps the attribute \"{}\"; the header stays empty", value.attribute);
                    out.warn("attribute_unmapped", &at, message);
                }
                (v1::HeaderSource::HeaderAttribute, out.name(&at, &value.attribute))
            }
        };
        mapped.push(v1::HeaderMapping { header: out.s(&lower), source: source.into(), attribute });
    }
    mapped.sort_by_key(|mapping| mapping.header);
    let mut keep = BTreeSet::new();
    for (index, name) in spec.keep_headers.iter().enumerate() {
        let at = format!("spec.upstream.keepHeaders[{index}]");
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "cookie" => out.error("invalid_header", &at, "cookies have a setting of their own; say cookies: true"),
            "authorization" => {
                out.error("invalid_header", &at, "tokens have a setting of their own; say forwardToken: true")
            }
            _ if lower.starts_with("x-doorward-") || seen.contains(&lower) => {
                out.error("invalid_header", &at, "the proxy sets this header itself; a client cannot");
            }
            _ if !is_foreign_identity(&lower) => {
                out.warn("never_removed", &at, "no header of this name is removed, so it need not be kept");
            }
            _ => {
                keep.insert(lower);
            }
        }
    }
    v1::Upstream {
        forward_token: spec.forward_token,
        headers: mapped,
        keep_headers: out.sorted(keep.iter().map(String::as_str)),
        cookies: spec.cookies,
    }
}

fn one(
    out: &mut Out<'_>,
    spec: &DataService,
    facts: &ServiceFacts,
    canonical: &dyn Fn(&str) -> String,
    name: &str,
    component: &Component,
) -> v1::Component {
    let at = format!("spec.components.{name}");
    let fields = || component.fields.keys().map(String::as_str);
    let declared = |out: &mut Out<'_>, path: String, field: &str| {
        if !component.fields.contains_key(field) {
            let message = format!("unknown field \"{field}\" of {name}{}", suggest::hint(field, fields()));
            out.error("unknown_field", path, message);
        }
    };
    for (index, field) in component.key.iter().enumerate() {
        declared(out, format!("{at}.key[{index}]"), field);
    }
    let rules = spec.dialect.0.rules();
    let folds = rules.folds_fields && !spec.files;
    let mut folded = BTreeSet::new();
    for field in component.fields.keys() {
        if field.is_empty() || (folds && !folded.insert(field.to_lowercase())) {
            let message = "a field is empty or has the name of another but for upper and lower case";
            out.error("duplicate_field", format!("{at}.fields.{field}"), message);
        }
    }
    let mut relations = Vec::new();
    for (relation, value) in &component.relations {
        let at = format!("{at}.relations.{relation}");
        let target = canonical(value.component());
        let related = facts.components.get(&target);
        if related.is_none() {
            let hint = suggest::hint(&target, facts.components.keys().map(String::as_str));
            out.error("unknown_component", &at, format!("unknown component \"{}\"{hint}", value.component()));
        }
        let (many, local, foreign) = match value {
            Relation::Component(_) => (false, &[][..], &[][..]),
            Relation::Full(full) => (full.many, &full.local[..], &full.foreign[..]),
        };
        for field in local {
            declared(out, format!("{at}.local"), field);
        }
        for field in foreign {
            if related.is_some_and(|related| !related.fields.contains_key(field)) {
                out.error("unknown_field", format!("{at}.foreign"), format!("unknown field \"{field}\" of {target}"));
            }
        }
        if local.len() != foreign.len() {
            out.error("invalid_value", &at, "local and foreign name the same number of fields");
        }
        relations.push(v1::Relation {
            name: out.name(&at, relation),
            component: out.name(&at, &target),
            many,
            local: local.iter().map(|field| out.name(format!("{at}.local"), field)).collect(),
            foreign: foreign.iter().map(|field| out.name(format!("{at}.foreign"), field)).collect(),
        });
    }
    if !rules.operations && !component.operations.is_empty() {
        let message = names::only(|rules| rules.operations, "has operations", "have operations");
        out.error("wrong_dialect", format!("{at}.operations"), message);
    }
    if rules.operations && component.operations.is_empty() {
        out.warn("never_matches", &at, "the component has no operations, so no request can mean it");
    }
    let parameters = parameters(out, &format!("{at}.parameters"), name, component, &component.parameters);
    let mut operations = Vec::new();
    for (index, operation) in component.operations.iter().enumerate() {
        operations.push(operation_of(out, &format!("{at}.operations[{index}]"), name, component, operation));
    }
    operations.sort_by_key(|operation| operation.template);
    let fields = component.fields.iter().map(|(name, field)| {
        let (class, nullable) = match field {
            Field::Type(_) => (None, true),
            Field::Full(full) => (full.class.as_deref(), full.nullable.unwrap_or(true)),
        };
        let field_type = FieldType::from(field.field_type());
        let Size { bits, digits, scale } = sized(out, &format!("{at}.fields.{name}"), field, rules.casts);
        v1::Field {
            name: out.s(name),
            r#type: field_type.into(),
            class: out.optional(class),
            nullable,
            digits,
            scale,
            bits,
        }
    });
    let fields = fields.collect();
    v1::Component {
        name: out.s(&canonical(name)),
        key: component.key.iter().map(|field| out.s(field)).collect(),
        fields,
        relations,
        parameters,
        operations,
    }
}

/// A field's size, which must be one that its type has.
fn sized(out: &mut Out<'_>, at: &str, field: &Field, casts: Option<Casts>) -> Size {
    let (size, field_type) = (field.size(), FieldType::from(field.field_type()));
    let given = |value: Option<u32>| value.is_some();
    let Field::Full(full) = field else { return size };
    if given(full.bits) && (field_type != FieldType::Integer || !matches!(size.bits, 8 | 16 | 32 | 64)) {
        out.error("invalid_value", format!("{at}.bits"), "bits are of an integer, and are 8, 16, 32 or 64");
    }
    let decimal = field_type == FieldType::Decimal && (1..=65).contains(&size.digits) && size.scale <= size.digits;
    if (given(full.digits) || given(full.scale)) && !decimal {
        let message = "digits and scale are of a decimal: 1 to 65 digits in all, and no more of them behind the point";
        out.error("invalid_value", format!("{at}.digits"), message);
    } else if let Some(casts) = casts.filter(|casts| size.scale > casts.places) {
        out.warn("value_cast", format!("{at}.scale"), casts.more_places);
    }
    size
}

fn parameters(
    out: &mut Out<'_>,
    at: &str,
    component: &str,
    of: &Component,
    given: &BTreeMap<String, Parameter>,
) -> Vec<v1::Parameter> {
    let mut all = Vec::new();
    for (name, parameter) in given {
        let field_type = FieldType::from(parameter.field_type());
        let name_of = out.name(format!("{at}.{name}"), name);
        let mut entry = v1::Parameter { name: name_of, r#type: field_type.into(), ..v1::Parameter::default() };
        if let Parameter::Full(full) = parameter {
            for (index, value) in full.allowed.iter().enumerate() {
                if !scalar_fits(value, field_type) {
                    let message = format!("the value is not of type {}", type_name(field_type));
                    out.error("type_mismatch", format!("{at}.{name}.allowed[{index}]"), message);
                }
            }
            let allowed: Vec<String> = full.allowed.iter().map(ToString::to_string).collect();
            entry.allowed = out.sorted(allowed.iter().map(String::as_str));
            entry.required = full.required;
            entry.body = full.body;
            if full.body && !name.starts_with('/') {
                out.error(
                    "invalid_value",
                    format!("{at}.{name}"),
                    "a body parameter is named by a JSON pointer, such as /year",
                );
            }
            if let Some(field) = &full.filters {
                match of.fields.get(field) {
                    None => {
                        let hint = suggest::hint(field, of.fields.keys().map(String::as_str));
                        let message = format!("unknown field \"{field}\" of {component}{hint}");
                        out.error("unknown_field", format!("{at}.{name}.filters"), message);
                    }
                    Some(other) if FieldType::from(other.field_type()) != field_type => {
                        let message = format!("the parameter and field \"{field}\" are of different types");
                        out.error("type_mismatch", format!("{at}.{name}.filters"), message);
                    }
                    Some(_) => entry.filters_field = out.s(field),
                }
            }
        }
        all.push(entry);
    }
    all
}

fn operation_of(
    out: &mut Out<'_>,
    at: &str,
    name: &str,
    component: &Component,
    operation: &Operation,
) -> v1::Operation {
    let braces = operation.path.split('/').all(|segment| {
        let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(segment);
        !inner.contains(['{', '}', '?', '#', '%', '*', ';', '\\']) && !matches!(segment, "{}" | "." | "..")
    });
    if !operation.path.starts_with('/') || operation.path.contains("//") || !braces {
        let message = "a template starts with / and each segment is text or one {parameter}, such as /orders/{id}";
        out.error("invalid_template", format!("{at}.path"), message);
    }
    if operation.verbs.is_empty() {
        out.error("invalid_value", format!("{at}.verbs"), "name at least one verb");
    }
    let rows_at = operation.rows_at.as_deref().unwrap_or("");
    if !rows_at.is_empty() && !rows_at.starts_with('/') {
        out.error("invalid_value", format!("{at}.rowsAt"), "a JSON pointer starts with /");
    }
    let beside = beside(out, at, operation);
    let mut verbs: Vec<u32> =
        operation.verbs.iter().map(|verb| i32::from(v1::Verb::from(*verb)).unsigned_abs()).collect();
    verbs.sort_unstable();
    verbs.dedup();
    v1::Operation {
        template: out.name(format!("{at}.path"), &operation.path),
        verbs,
        parameters: parameters(out, &format!("{at}.parameters"), name, component, &operation.parameters),
        rows_at: out.s(rows_at),
        single: operation.single,
        beside,
    }
}

/// The pointers of what is kept beside the rows. None may be where rows are, lead to them or be inside another.
fn beside(out: &mut Out<'_>, at: &str, operation: &Operation) -> Vec<u32> {
    let rows = operation.rows_at.as_deref().unwrap_or("");
    let mut pointers: Vec<String> = Vec::new();
    for (number, name) in operation.beside.iter().enumerate() {
        let place = format!("{at}.beside[{number}]");
        let pointer = match name.starts_with('/') {
            true => name.clone(),
            false => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
        };
        let inside = |one: &str, other: &str| one == other || one.starts_with(&format!("{other}/"));
        let meets = |other: &str| inside(&pointer, other) || inside(other, &pointer);
        if name.is_empty() || pointer == "/" {
            out.error(
                "invalid_value",
                place,
                "name a member of the response, such as total, or a JSON pointer, such as /meta/total",
            );
        } else if rows.is_empty() {
            out.error(
                "invalid_value",
                place,
                "the whole response is rows, so nothing is beside them: say with rowsAt where the rows are",
            );
        } else if meets(rows) {
            out.error(
                "invalid_value",
                place,
                "this is where the rows are, or on the way to them: only a value beside them can be kept",
            );
        } else if pointers.iter().any(|other| meets(other)) {
            out.error("invalid_value", place, "this place is named twice, or is inside another one that is named");
        } else {
            pointers.push(pointer);
        }
    }
    pointers.sort_unstable();
    pointers.iter().map(|pointer| out.s(pointer)).collect()
}

/// True if a value written in YAML is of this type: text is never taken for a number, nor a number for text.
pub(super) fn scalar_fits(value: &Scalar, field_type: FieldType) -> bool {
    let kind = match value {
        Scalar::Text(_) => matches!(field_type, FieldType::String | FieldType::Timestamp | FieldType::Date),
        Scalar::Integer(_) => matches!(field_type, FieldType::Integer | FieldType::Number | FieldType::Decimal),
        Scalar::Number(_) => matches!(field_type, FieldType::Number | FieldType::Decimal),
        Scalar::Boolean(_) => field_type == FieldType::Boolean,
    };
    kind && parse_literal(&value.to_string(), field_type).is_some()
}
