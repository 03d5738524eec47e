//! What the data API gets to know: verified identity in headers, and none of the caller's credentials.

use crate::{
    bundle::{HeaderMapping, Service},
    dialect::Rewrite,
    identity::{self, Attribute, Principal},
    request::{HttpRequest, header_begins, same_header},
};
use doorward_proto::v1::{Dialect, HeaderSource};

/// Headers that some frameworks take for the path, whatever the request line says.
const OTHER_PATHS: [&str; 2] = ["x-original-url", "x-rewrite-url"];
/// Credentials of DreamFactory itself.
const DREAMFACTORY: [&str; 3] =
    ["x-dreamfactory-api-key", "x-dreamfactory-session-token", "x-dreamfactory-script-token"];

/// Who is calling, as far as upstream may know.
pub(super) struct Caller<'a> {
    pub service: &'a Service,
    pub principal: Option<&'a Principal>,
    pub role: Option<&'a str>,
    pub decision_id: &'a str,
    pub settings: &'a identity::Settings,
}

/// Removes credentials and every client-supplied identity header, then sets the verified ones.
pub(super) fn identity_headers(rewrite: &mut Rewrite, caller: &Caller<'_>, request: &HttpRequest<'_>) {
    let upstream = &caller.service.upstream;
    let own: &[&str] = if caller.service.dialect == Dialect::Dreamfactory { &DREAMFACTORY } else { &[] };
    for header in request.headers {
        let is = |name: &str| same_header(header.name, name);
        let mapped = upstream.headers.iter().any(|mapping| is(&mapping.header));
        let key = caller.settings.key_headers.iter().any(|name| is(name));
        let token = !key && caller.settings.credential_headers().chain(own.iter().copied()).any(is);
        // The alias of a header that was removed, set or counted on here must not stand beside it.
        let alias = header.name.contains('_') && {
            let set = rewrite.set_headers.iter().map(|(name, _)| name);
            rewrite.remove_headers.iter().chain(set).any(|name| is(name))
        };
        // `x-doorward-` covers the role choice and the default identity headers.
        if mapped
            || key
            || alias
            || (token && !upstream.forward_token)
            || OTHER_PATHS.iter().any(|name| is(name))
            || header_begins(header.name, "x-doorward-")
        {
            remove(rewrite, header.name);
        }
    }
    for mapping in &upstream.headers {
        if let Some(value) = value(mapping, caller) {
            // A value that cannot be one header line is left out: a header that is not there grants nothing.
            if value.bytes().all(|byte| byte >= b' ' && byte != 0x7f) {
                rewrite.set_headers.push((mapping.header.to_string(), value));
            }
        }
    }
}

fn remove(rewrite: &mut Rewrite, name: &str) {
    if !rewrite.remove_headers.iter().any(|have| have == name) {
        rewrite.remove_headers.push(name.to_owned());
    }
}

fn value(mapping: &HeaderMapping, caller: &Caller<'_>) -> Option<String> {
    let principal = caller.principal?;
    let list = |names: &mut dyn Iterator<Item = &crate::Name>| {
        let joined: Vec<&str> = names.map(AsRef::as_ref).filter(|name: &&str| !name.contains(',')).collect();
        (!joined.is_empty()).then(|| joined.join(","))
    };
    match mapping.source {
        HeaderSource::HeaderUser => principal.user.as_deref().map(str::to_owned),
        HeaderSource::HeaderRole => caller.role.map(str::to_owned),
        HeaderSource::HeaderTenant => principal.tenant.as_deref().map(str::to_owned),
        HeaderSource::HeaderAgent => list(&mut principal.agents.iter().map(|agent| &agent.name)),
        HeaderSource::HeaderDecision => Some(caller.decision_id.to_owned()),
        HeaderSource::HeaderGroups => list(&mut principal.groups.iter()),
        HeaderSource::HeaderAttribute => {
            let (_, attribute) = principal.attributes.iter().find(|(name, _)| *name == mapping.attribute)?;
            match attribute {
                Attribute::One(value) => Some(value.to_string()),
                Attribute::Many(values) => list(&mut values.iter()),
            }
        }
        HeaderSource::Unspecified => None,
    }
}
