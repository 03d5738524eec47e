//! Bundle → [`Tables`]: every index and every number is checked, and what this build does not know is refused.

use super::{
    Map, access,
    bindings::{AsBinding, Outline},
    roles,
    roles::{Grant, Role, View},
    schema::{self, Component, FieldSet, Service},
    spki::subject_public_key_info,
    subjects,
    tables::{Tables, TablesError},
};
use crate::{
    Name,
    key::{KeyMaterial, VerificationKey},
    mask::MaskRule,
    predicate::{Operand, Template, wire},
    request::Verb,
    value::{FieldType, Size},
};
use doorward_proto::v1::{self, verification_key::Material};
use std::sync::Arc;

/// Pairs of grant and component that a bundle may have at most.
const MAX_VIEWS: usize = 1_000_000;
/// DreamFactory's own `df.resources_wrapper`.
const WRAPPER: &str = "resource";

pub(super) type Result<T> = std::result::Result<T, TablesError>;

fn error(code: &'static str, path: &str, message: impl Into<String>) -> TablesError {
    TablesError { path: path.to_owned(), code, message: message.into() }
}
pub(super) fn malformed(path: &str, message: &str) -> TablesError {
    error("malformed", path, message)
}
fn duplicate(path: &str, message: &str) -> TablesError {
    error("duplicate", path, message)
}

/// An enum value that this build knows; 0 (unspecified) counts as unknown.
fn known<E: TryFrom<i32>>(number: i32, path: &str) -> Result<E> {
    E::try_from(number).ok().filter(|_| number != 0).ok_or_else(|| {
        error("unknown", path, format!("the number {number} means nothing to this build; upgrade the proxy first"))
    })
}
/// As [`known`], but 0 means `default`.
fn known_or<E: TryFrom<i32>>(number: i32, default: E, path: &str) -> Result<E> {
    if number == 0 { Ok(default) } else { known(number, path) }
}
fn positive(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}
fn time(seconds: i64) -> Option<i64> {
    (seconds != 0).then_some(seconds)
}
pub(super) fn position(number: usize, path: &str) -> Result<u32> {
    u32::try_from(number).map_err(|_| error("limit", path, "too many entries"))
}

pub(super) fn tables(bundle: &v1::Bundle, digest: [u8; 32], epoch: u64) -> Result<Tables> {
    let strings = bundle.strings.iter().map(|text| Name::from(text.as_str())).collect();
    build(bundle, strings, &bundle.bindings, digest, epoch)
}

/// As [`tables`], from the bundle's bytes. Strings and bindings, which are most of a big policy, are read where they are.
pub(super) fn tables_of(payload: &[u8], digest: [u8; 32], epoch: u64) -> Result<Tables> {
    let outline = Outline::read(payload).ok_or_else(|| malformed("payload", "the bundle does not decode"))?;
    build(&outline.rest, outline.strings, &outline.bindings, digest, epoch)
}

fn build<B: AsBinding>(
    bundle: &v1::Bundle,
    strings: Vec<Name>,
    bindings: &[B],
    digest: [u8; 32],
    epoch: u64,
) -> Result<Tables> {
    if bundle.format != 1 {
        return Err(error("unknown", "format", format!("bundle format {} is not 1", bundle.format)));
    }
    if strings.first().is_none_or(|first| !first.is_empty()) {
        return Err(malformed("strings", "the first string must be empty"));
    }
    let decoder = Decoder { strings };
    let mut tables = Tables { digest, epoch, scope: bundle.scope.clone(), ..Tables::default() };
    tables.claim_paths = decoder.claim_paths(&bundle.claim_paths, "claim_paths")?;
    for (at, service) in bundle.services.iter().enumerate() {
        let path = format!("services[{at}]");
        let decoded = decoder.service(service, &path)?;
        if tables.service_names.insert(decoded.name.clone(), at).is_some() {
            return Err(duplicate(&path, "another service has this name"));
        }
        for each in &service.matches {
            let (host, prefix) = (decoder.text(each.host, &path)?, decoder.text(each.path, &path)?);
            if !tables.router.insert(&host, &prefix, at) {
                return Err(duplicate(&path, "a match is taken by another service, or is no host and path prefix"));
            }
            if decoded.dialect == v1::Dialect::Dreamfactory {
                tables.router.insert_dreamfactory(&host, &prefix);
            }
        }
        tables.services.push(decoded);
    }
    for (at, provider) in bundle.providers.iter().enumerate() {
        let path = format!("providers[{at}]");
        let provider = decoder.provider(provider, &path)?;
        for issuer in std::iter::once(&provider.issuer).chain(&provider.more_issuers) {
            if tables.issuers.insert(issuer.clone(), at).is_some() {
                return Err(duplicate(&path, "another provider has this issuer"));
            }
        }
        tables.providers.push(provider);
    }
    for (at, key) in bundle.keys.iter().enumerate() {
        let path = format!("keys[{at}]");
        let hash = <[u8; 32]>::try_from(key.hash.as_slice());
        let hash = hash.map_err(|_| malformed(&path, "the hash must have 32 bytes"))?;
        if tables.key_hashes.insert(hash, at).is_some() {
            return Err(duplicate(&path, "another key has this hash"));
        }
        tables.keys.push(decoder.key(key, &path)?);
    }
    let mut views = 0;
    for (at, role) in bundle.roles.iter().enumerate() {
        let path = format!("roles[{at}]");
        let role = decoder.role(role, &tables, &mut views, &path)?;
        if tables.role_names.insert(role.name.clone(), at).is_some() {
            return Err(duplicate(&path, "another role has this name"));
        }
        tables.roles.push(role);
    }
    decoder.bindings(bindings, &mut tables)?;
    restrictions(&decoder, bundle, &mut tables)?;
    Ok(tables)
}

fn restrictions(decoder: &Decoder, bundle: &v1::Bundle, tables: &mut Tables) -> Result<()> {
    tables.restricted = subjects::Subjects::new(tables.claim_paths.len());
    for (at, restriction) in bundle.restrictions.iter().enumerate() {
        let path = format!("restrictions[{at}]");
        decoder.subjects(&restriction.subjects, &mut tables.restricted, position(at, &path)?, &path)?;
        tables.restrictions.push(subjects::Restriction {
            name: decoder.name(restriction.name, &path)?,
            period: subjects::Period::new(restriction.from, restriction.until),
            effect: known(restriction.effect, &path)?,
            issued_before: time(restriction.issued_before),
            services: decoder.names(&restriction.services, &path)?,
            verbs: verbs(&restriction.verbs, &path)?,
            max_rows: positive(restriction.max_rows),
            shadow: known_or(restriction.enforcement, v1::Enforcement::Enforce, &path)? == v1::Enforcement::Shadow,
        });
    }
    Ok(())
}

fn verbs(numbers: &[i32], path: &str) -> Result<Vec<Verb>> {
    numbers.iter().map(|number| known(*number, path)).collect()
}

/// Looks up the strings that the parts of a bundle refer to.
pub(super) struct Decoder {
    strings: Vec<Name>,
}

impl Decoder {
    fn string(&self, index: u32) -> Option<Name> {
        self.strings.get(usize::try_from(index).ok()?).cloned()
    }
    /// A string that may be empty.
    pub(super) fn text(&self, index: u32, path: &str) -> Result<Name> {
        self.string(index).ok_or_else(|| malformed(path, "a string index is out of range"))
    }
    /// A string that may not be empty.
    pub(super) fn name(&self, index: u32, path: &str) -> Result<Name> {
        match self.text(index, path)? {
            name if name.is_empty() => Err(malformed(path, "a name is missing")),
            name => Ok(name),
        }
    }
    fn optional(&self, index: u32, path: &str) -> Result<Option<Name>> {
        Ok(Some(self.text(index, path)?).filter(|text| !text.is_empty()))
    }
    fn texts(&self, indices: &[u32], path: &str) -> Result<Vec<Name>> {
        indices.iter().map(|index| self.text(*index, path)).collect()
    }
    pub(super) fn names(&self, indices: &[u32], path: &str) -> Result<Vec<Name>> {
        indices.iter().map(|index| self.name(*index, path)).collect()
    }

    fn claim_paths(&self, paths: &[v1::ClaimPath], path: &str) -> Result<Vec<access::ClaimPath>> {
        let one = |claim: &v1::ClaimPath| match claim.segments.len() {
            1..=16 => self.texts(&claim.segments, path),
            _ => Err(malformed(path, "a claim path must have 1 to 16 segments")),
        };
        paths.iter().map(one).collect()
    }

    /// Attributes sorted by name.
    fn attributes(&self, attributes: &[v1::Attribute], path: &str) -> Result<Vec<(Name, Vec<Name>)>> {
        let one = |each: &v1::Attribute| Ok((self.name(each.name, path)?, self.texts(&each.values, path)?));
        let mut out = attributes.iter().map(one).collect::<Result<Vec<_>>>()?;
        out.sort();
        if out.windows(2).any(|pair| matches!(pair, [left, right] if left.0 == right.0)) {
            return Err(duplicate(path, "an attribute is given twice"));
        }
        Ok(out)
    }

    pub(super) fn subjects(
        &self,
        list: &[v1::Subject],
        into: &mut subjects::Subjects,
        at: u32,
        path: &str,
    ) -> Result<()> {
        for subject in list {
            let kind: v1::SubjectKind = known(subject.kind, path)?;
            let value = match kind {
                v1::SubjectKind::SubjectAnyUser | v1::SubjectKind::SubjectUnidentified => Name::default(),
                _ => self.name(subject.value, path)?,
            };
            let claim = usize::try_from(subject.claim_path).unwrap_or(usize::MAX);
            if !into.insert(kind, &value, claim, at) {
                return Err(malformed(path, "a subject's claim path is out of range"));
            }
        }
        Ok(())
    }

    fn provider(&self, provider: &v1::Provider, path: &str) -> Result<access::Provider> {
        let delegation = provider.delegation.as_ref().map(|delegation| {
            Ok(access::Delegation {
                actor_claim: self.optional(delegation.actor_claim, path)?,
                scope_claim: self.optional(delegation.scope_claim, path)?,
                scope_prefix: self.optional(delegation.scope_prefix, path)?,
            })
        });
        let attribute = |each: &v1::AttributeClaim| {
            Ok(access::AttributeClaim {
                name: self.name(each.name, path)?,
                claims: self.claim_paths(&each.claims, path)?,
            })
        };
        let keys = provider.keys.iter().enumerate();
        Ok(access::Provider {
            name: self.name(provider.name, path)?,
            issuer: self.name(provider.issuer, path)?,
            audiences: self.names(&provider.audiences, path)?,
            algorithms: provider.algorithms.iter().map(|number| known(*number, path)).collect::<Result<_>>()?,
            keys: keys
                .map(|(at, key)| self.verification_key(key, &format!("{path}.keys[{at}]")))
                .collect::<Result<_>>()?,
            max_token_age_seconds: provider.max_token_age_seconds,
            clock_skew_seconds: provider.clock_skew_seconds,
            user_claims: self.claim_paths(&provider.user_claims, path)?,
            role_claims: self.claim_paths(&provider.role_claims, path)?,
            group_claims: self.claim_paths(&provider.group_claims, path)?,
            tenant_claims: self.claim_paths(&provider.tenant_claims, path)?,
            attributes: provider.attributes.iter().map(attribute).collect::<Result<_>>()?,
            delegation: delegation.transpose()?,
            required_claims: self.names(&provider.required_claims, path)?,
            agent_issuers: self.names(&provider.agent_issuers, path)?,
            more_issuers: self.names(&provider.more_issuers, path)?,
            trust_domain: self.optional(provider.trust_domain, path)?,
            audience_claims: self.names(&provider.audience_claims, path)?,
            any_audience: provider.any_audience,
            token_types: self.names(&provider.token_types, path)?,
            required: provider.required.iter().map(|each| self.required(each, path)).collect::<Result<_>>()?,
            introspection: provider.introspection.map(|each| self.introspection(each, path)).transpose()?,
        })
    }

    fn introspection(&self, introspection: v1::Introspection, path: &str) -> Result<access::Introspection> {
        if !(1..=600).contains(&introspection.cache_seconds) {
            return Err(malformed(path, "answers about tokens are kept for no time between 1 s and 600 s"));
        }
        Ok(access::Introspection {
            token_prefix: self.optional(introspection.token_prefix, path)?,
            cache_seconds: introspection.cache_seconds,
            jwts: introspection.jwts,
        })
    }

    fn required(&self, required: &v1::RequiredClaim, path: &str) -> Result<access::RequiredClaim> {
        if required.claims.is_empty() {
            return Err(malformed(path, "a required claim has no name"));
        }
        Ok(access::RequiredClaim {
            claims: self.names(&required.claims, path)?,
            texts: self.texts(&required.texts, path)?,
            numbers: self.names(&required.numbers, path)?,
            yes: required.yes,
            no: required.no,
        })
    }

    fn verification_key(&self, key: &v1::VerificationKey, path: &str) -> Result<VerificationKey> {
        let wrong = || malformed(path, "the key does not have the size of its type");
        let material = match key.material.as_ref().ok_or_else(|| malformed(path, "the key has no known type"))? {
            Material::Rsa(key) => {
                // 2048 to 8192 bits: shorter is unsafe (RFC 7518 section 3.3), longer is slow.
                let fits = (256..=1024).contains(&key.modulus.len()) && (1..=8).contains(&key.exponent.len());
                if !fits || key.modulus.first() == Some(&0) || key.exponent.first() == Some(&0) {
                    return Err(wrong());
                }
                KeyMaterial::Rsa { modulus: key.modulus.clone(), exponent: key.exponent.clone() }
            }
            Material::Ec(key) => match known(key.curve, path)? {
                v1::Curve::P384 => {
                    let x = key.x.as_slice().try_into().map_err(|_| wrong())?;
                    let y = key.y.as_slice().try_into().map_err(|_| wrong())?;
                    KeyMaterial::P384 { x, y }
                }
                _ => {
                    let x = key.x.as_slice().try_into().map_err(|_| wrong())?;
                    let y = key.y.as_slice().try_into().map_err(|_| wrong())?;
                    KeyMaterial::P256 { x, y }
                }
            },
            Material::Ed25519(bytes) => KeyMaterial::Ed25519(bytes.as_slice().try_into().map_err(|_| wrong())?),
            Material::Secret(bytes) if bytes.is_empty() => return Err(wrong()),
            Material::Secret(bytes) => KeyMaterial::Secret(bytes.clone()),
        };
        let algorithm = if key.algorithm == 0 { None } else { Some(known(key.algorithm, path)?) };
        let spki = subject_public_key_info(&material);
        Ok(VerificationKey { kid: self.optional(key.kid, path)?, algorithm, material, spki })
    }

    fn key(&self, key: &v1::Key, path: &str) -> Result<access::Key> {
        let network = |index: &u32| {
            let text = self.text(*index, path)?;
            access::Network::parse(&text).ok_or_else(|| malformed(path, "a network is not in CIDR notation"))
        };
        Ok(access::Key {
            name: self.name(key.name, path)?,
            role: self.name(key.role, path)?,
            tenant: self.optional(key.tenant, path)?,
            not_before: time(key.not_before),
            not_after: time(key.not_after),
            revoked: key.revoked,
            networks: key.networks.iter().map(network).collect::<Result<_>>()?,
            hosts: self.names(&key.hosts, path)?,
            attributes: self.attributes(&key.attributes, path)?,
            agent: self.optional(key.agent, path)?,
        })
    }

    fn service(&self, service: &v1::Service, path: &str) -> Result<Service> {
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

    fn role(&self, role: &v1::Role, tables: &Tables, views: &mut usize, path: &str) -> Result<Role> {
        let mut limits = Vec::new();
        for limit in &role.rate_limits {
            if limit.per_milliseconds == 0 {
                return Err(malformed(path, "a rate limit has no period"));
            }
            limits.push(roles::Limit {
                requests: limit.requests,
                per_milliseconds: limit.per_milliseconds,
                burst: limit.burst,
                by: known(limit.by, path)?,
            });
        }
        let mut grants = Vec::new();
        let mut index: Map<Map<[Option<u32>; 7]>> = Map::default();
        for (at, grant) in role.grants.iter().enumerate() {
            let path = format!("{path}.grants[{at}]");
            let (service, pattern) = (self.name(grant.service, &path)?, self.name(grant.pattern, &path)?);
            let slots = index.entry(service.clone()).or_default().entry(pattern.clone()).or_default();
            for verb in verbs(&grant.verbs, &path)? {
                let slot = usize::try_from(i32::from(verb)).ok().and_then(|verb| slots.get_mut(verb));
                let slot = slot.ok_or_else(|| malformed(&path, "a verb is out of range"))?;
                if slot.replace(position(at, &path)?).is_some() {
                    return Err(duplicate(&path, "another grant of the role covers the same component and verb"));
                }
            }
            let service = tables.service(&service);
            grants.push(self.grant(grant, service, &pattern, views, &path)?);
        }
        Ok(Role {
            name: self.name(role.name, path)?,
            active: role.active,
            shadow: known_or(role.enforcement, v1::Enforcement::Enforce, path)? == v1::Enforcement::Shadow,
            audit_required: known_or(role.audit, v1::AuditMode::AuditAsync, path)? == v1::AuditMode::AuditRequired,
            department: self.optional(role.department, path)?,
            max_rows: positive(role.max_rows),
            lookups: self.attributes(&role.lookups, path)?,
            limits,
            grants,
            index,
        })
    }

    fn predicate(&self, predicate: Option<&v1::Predicate>, path: &str) -> Result<Option<Template>> {
        let decode = |predicate| {
            wire::decode(predicate, &|index| self.string(index)).map_err(|message| malformed(path, message))
        };
        predicate.map(decode).transpose()
    }

    fn operand(&self, operand: &v1::Operand, path: &str) -> Result<Operand> {
        wire::decode_operand(operand, FieldType::Unspecified, &|index| self.string(index))
            .map_err(|message| malformed(path, message))
    }

    fn grant(
        &self,
        grant: &v1::Grant,
        service: Option<&Service>,
        pattern: &str,
        views: &mut usize,
        path: &str,
    ) -> Result<Grant> {
        let rows = self.predicate(grant.rows.as_ref(), &format!("{path}.rows"))?;
        let check = self.predicate(grant.check.as_ref(), &format!("{path}.check"))?.or_else(|| rows.clone());
        let mut set = Vec::new();
        for each in &grant.set {
            let value = each.value.as_ref().ok_or_else(|| malformed(path, "a preset has no value"))?;
            set.push(roles::Preset {
                field: self.name(each.field, path)?,
                value: self.operand(value, path)?,
                overrides: each.r#override,
            });
        }
        let mut arguments = Vec::new();
        for each in &grant.arguments {
            let values = each.values.iter().map(|value| self.operand(value, path)).collect::<Result<Vec<_>>>()?;
            if each.fixed && values.len() != 1 {
                return Err(malformed(path, "a fixed argument must have exactly one value"));
            }
            let name = self.name(each.name, path)?;
            arguments.push(roles::ArgumentRule { name, required: each.required, values, fixed: each.fixed });
        }
        let mut masks = Vec::new();
        for mask in &grant.masks {
            masks.push(MaskRule {
                field: self.name(mask.field, path)?,
                kind: known(mask.kind, path)?,
                fixed: self.text(mask.fixed, path)?,
                length: mask.length,
                filterable: mask.filterable,
            });
        }
        masks.sort_by(|left, right| left.field.cmp(&right.field));
        if masks.windows(2).any(|pair| matches!(pair, [left, right] if left.field == right.field)) {
            return Err(duplicate(path, "a field has two masks"));
        }
        let rules = Rules {
            read: self.rule(grant.read.as_ref(), path)?,
            write: self.rule(grant.write.as_ref(), path)?,
            masks: masks.into(),
        };
        let mut covered: Vec<&Arc<Component>> = Vec::new();
        if let Some(service) = service {
            if pattern.ends_with('*') {
                covered.extend(service.components.values().filter(|each| roles::overlap(pattern, &each.name)));
            } else {
                // One name: itself, or the families that it belongs to.
                roles::each_pattern(pattern, &mut |name| {
                    covered.extend(service.components.get(name));
                    false
                });
            }
        }
        *views = views.saturating_add(covered.len());
        if *views > MAX_VIEWS {
            return Err(error("limit", path, "the roles cover too many components in total"));
        }
        let seen = covered.into_iter().map(|component| (component.name.clone(), rules.view(component))).collect();
        let omit = known_or(grant.on_hidden_field, v1::HiddenField::Unspecified, path)?;
        Ok(Grant {
            rows,
            check,
            set,
            max_rows: positive(grant.max_rows),
            omit_hidden: (omit != v1::HiddenField::Unspecified).then_some(omit == v1::HiddenField::Omit),
            unchecked: grant.unchecked,
            source: grant.source,
            arguments,
            views: seen,
        })
    }

    fn rule(&self, rule: Option<&v1::FieldRule>, path: &str) -> Result<(bool, FieldSet)> {
        // No rule: no field.
        let Some(rule) = rule else { return Ok((false, FieldSet::default())) };
        Ok((rule.hide, FieldSet::new(self.names(&rule.fields, path)?)))
    }
}

/// A grant's rules on fields, before they meet a component.
struct Rules {
    /// Whether the fields are hidden rather than shown, and the fields.
    read: (bool, FieldSet),
    write: (bool, FieldSet),
    masks: Arc<[MaskRule]>,
}

impl Rules {
    /// Undeclared fields are never visible nor writable, whatever a rule lists.
    fn view(&self, component: &Component) -> View {
        let select = |(hide, fields): &(bool, FieldSet)| {
            let keep = |name: &&Name| fields.contains(name) != *hide;
            if component.all_fields.iter().all(|name| keep(&name)) {
                return Arc::clone(&component.all_fields);
            }
            Arc::new(FieldSet::new(component.all_fields.iter().filter(keep).cloned().collect()))
        };
        let visible = select(&self.read);
        let masks = if self.masks.iter().all(|mask| visible.contains(&mask.field)) {
            Arc::clone(&self.masks)
        } else {
            self.masks.iter().filter(|mask| visible.contains(&mask.field)).cloned().collect()
        };
        View { sees_all: visible.len() == component.all_fields.len(), visible, masks, write: select(&self.write) }
    }
}
