//! Services and components of a bundle.

use super::reader::{Decoder, Result, duplicate, known, known_or, positive};
use crate::{
    bundle::schema::{self, Component, FieldSet, Service},
    value::Size,
};
use doorward_proto::v1;
use std::sync::Arc;

/// DreamFactory's own `df.resources_wrapper`.
const WRAPPER: &str = "resource";

impl Decoder {
    pub(super) fn service(&self, service: &v1::Service, path: &str) -> Result<Service> {
        let options = service.options.unwrap_or_default();
        let mut components = hashbrown::HashMap::default();
        for (at, component) in service.components.iter().enumerate() {
            let path = format!("{path}.components[{at}]");
            let component = Arc::new(self.component(component, &path)?);
            if components.insert(component.name.clone(), component).is_some() {
                return Err(duplicate(&path, "another component has this name"));
            }
        }
        let mut upstream = schema::Upstream::default();
        if let Some(from) = &service.upstream {
            upstream.forward_token = from.forward_token;
            upstream.keep_headers = self.names(&from.keep_headers, path)?;
            upstream.cookies = from.cookies;
            for each in &from.headers {
                upstream.headers.push(schema::HeaderMapping {
                    header: self.name(each.header, path)?,
                    source: known(each.source, path)?,
                    attribute: self.text(each.attribute, path)?,
                });
            }
        }
        Ok(Service {
            name: self.name(service.name, path)?,
            dialect: known(service.dialect, path)?,
            on_hidden_field: known_or(service.on_hidden_field, v1::HiddenField::Deny, path)?,
            max_rows: positive(service.max_rows),
            audit: known_or(service.audit, v1::AuditMode::AuditAsync, path)?,
            enforcement: known_or(service.enforcement, v1::Enforcement::Enforce, path)?,
            components,
            upstream,
            max_body_bytes: positive(service.max_body_bytes),
            max_body_values: positive(service.max_body_values),
            record_request_text: options.record_request_text,
            case_insensitive: options.case_insensitive,
            files: options.files,
            resources_wrapper: self.optional(options.resources_wrapper, path)?.unwrap_or_else(|| WRAPPER.into()),
            preflights: options.preflights,
        })
    }

    fn parameter(&self, each: &v1::Parameter, path: &str) -> Result<schema::Parameter> {
        Ok(schema::Parameter {
            name: self.name(each.name, path)?,
            field_type: known(each.r#type, path)?,
            required: each.required,
            allowed: self.texts(&each.allowed, path)?,
            filters_field: self.optional(each.filters_field, path)?,
            body: each.body,
        })
    }

    fn parameters(&self, list: &[v1::Parameter], path: &str) -> Result<Vec<schema::Parameter>> {
        let mut out = list.iter().map(|each| self.parameter(each, path)).collect::<Result<Vec<_>>>()?;
        out.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(out)
    }

    fn component(&self, component: &v1::Component, path: &str) -> Result<Component> {
        let mut fields = Vec::with_capacity(component.fields.len());
        for each in &component.fields {
            fields.push(schema::Field {
                name: self.name(each.name, path)?,
                field_type: known(each.r#type, path)?,
                size: Size { bits: each.bits, digits: each.digits, scale: each.scale },
                class: self.text(each.class, path)?,
            });
        }
        fields.sort_by(|left, right| left.name.cmp(&right.name));
        if fields.windows(2).any(|pair| matches!(pair, [left, right] if left.name == right.name)) {
            return Err(duplicate(path, "a field is declared twice"));
        }
        let mut relations = Vec::with_capacity(component.relations.len());
        for each in &component.relations {
            let (name, component) = (self.name(each.name, path)?, self.name(each.component, path)?);
            let fields = |list: &[u32]| list.iter().map(|field| self.name(*field, path)).collect::<Result<_>>();
            let (local, foreign) = (fields(&each.local)?, fields(&each.foreign)?);
            relations.push(schema::Relation { name, component, local, foreign });
        }
        relations.sort_by(|left, right| left.name.cmp(&right.name));
        let mut operations = Vec::with_capacity(component.operations.len());
        for each in &component.operations {
            operations.push(schema::Operation {
                template: self.name(each.template, path)?,
                verbs: each
                    .verbs
                    .iter()
                    .map(|number| known(i32::try_from(*number).unwrap_or(-1), path))
                    .collect::<Result<_>>()?,
                parameters: self.parameters(&each.parameters, path)?,
                rows_at: self.text(each.rows_at, path)?,
                single: each.single,
                beside: self.names(&each.beside, path)?,
            });
        }
        Ok(Component {
            name: self.name(component.name, path)?,
            key: self.names(&component.key, path)?,
            all_fields: Arc::new(FieldSet::new(fields.iter().map(|field| field.name.clone()).collect())),
            fields,
            relations,
            parameters: self.parameters(&component.parameters, path)?,
            operations,
        })
    }
}
