//! What the data API gets to know: verified identity in headers, and none of the caller's credentials.

use super::foreign::is_foreign_identity;
use crate::{
    Name,
    bundle::{HeaderMapping, Service},
    code::{Code, Denial},
    dialect::{Registered, Rewrite},
    identity::{self, Attribute, Principal, is_exact},
    request::{HttpRequest, header_begins, same_header},
};
use doorward_proto::v1::HeaderSource;

/// Headers that some frameworks take for the path, whatever the request line says.
pub(super) const OTHER_PATHS: [&str; 2] = ["x-original-url", "x-rewrite-url"];
/// True for a header of a client's that is removed from every request: it says who is calling (`x-doorward-` covers the role
/// choice and the default identity headers), or another path than the one that was decided on.
#[must_use]
pub fn is_misleading(name: &str) -> bool {
    header_begins(name, "x-doorward-") || OTHER_PATHS.iter().any(|other| same_header(name, other))
}

/// Who is calling, as far as upstream may know.
pub(super) struct Caller<'a> {
    pub service: &'a Service,
    pub principal: Option<&'a Principal>,
    pub role: Option<&'a str>,
    pub decision_id: &'a str,
    pub settings: &'a identity::Settings,
}

/// Removes credentials and every client-supplied identity header, then sets the verified ones.
///
/// # Errors
/// `attribute_invalid`, if a header that the service maps cannot carry exactly the value that was decided on.
pub(super) fn identity_headers(
    rewrite: &mut Rewrite,
    caller: &Caller<'_>,
    request: &HttpRequest<'_>,
) -> Result<(), Denial> {
    let upstream = &caller.service.upstream;
    let own = Registered::of(caller.service.dialect).map_or(&[][..], Registered::credential_headers);
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
        // Kept by its exact name: an alias is another header.
        let foreign = !token
            && is_foreign_identity(header.name)
            && !upstream.keep_headers.iter().any(|kept| **kept == *header.name);
        let cookie =
            header.name == "cookie" && (!upstream.cookies || holds_credential(header.value, caller.settings, request));
        if mapped
            || key
            || alias
            || foreign
            || cookie
            || (token && !upstream.forward_token)
            || is_misleading(header.name)
        {
            remove(rewrite, header.name);
        }
    }
    for mapping in &upstream.headers {
        if let Some(value) = value(mapping, caller)? {
            // What is not the same text at the other end would be another identity than the one that was decided on.
            if !is_exact(&value) {
                return Err(not_carried(mapping));
            }
            rewrite.set_headers.push((mapping.header.to_string(), value));
        }
    }
    Ok(())
}

/// True if this request's token or API key is in a cookie too: then the cookie would hand on what was removed. Servers undo
/// percent-encoding in cookies.
fn holds_credential(cookie: &[u8], settings: &identity::Settings, request: &HttpRequest<'_>) -> bool {
    let plain: Vec<u8> = percent_encoding::percent_decode(cookie).collect();
    request.headers.iter().any(|header| {
        let name = |name: &str| same_header(header.name, name);
        // `Bearer TOKEN`: what counts is what comes last.
        let secret = header.value.trim_ascii_end().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        !secret.is_empty()
            && settings.credential_headers().any(name)
            && [cookie, &plain].iter().any(|cookie| cookie.windows(secret.len()).any(|part| part == secret))
    })
}

fn remove(rewrite: &mut Rewrite, name: &str) {
    if !rewrite.remove_headers.iter().any(|have| have == name) {
        rewrite.remove_headers.push(name.to_owned());
    }
}

fn not_carried(mapping: &HeaderMapping) -> Denial {
    Denial::new(
        Code::AttributeInvalid,
        format!(
            "The service sends the caller's {} in the header {}, which cannot carry it exactly: white space at its ends, a \
            control character, or a comma in a member of a list.",
            source_name(mapping),
            mapping.header
        ),
    )
}

fn source_name(mapping: &HeaderMapping) -> &str {
    match mapping.source {
        HeaderSource::HeaderUser => "user",
        HeaderSource::HeaderRole => "role",
        HeaderSource::HeaderTenant => "tenant",
        HeaderSource::HeaderAgent => "agents",
        HeaderSource::HeaderDecision => "decision",
        HeaderSource::HeaderGroups => "groups",
        HeaderSource::HeaderAttribute => &mapping.attribute,
        HeaderSource::Unspecified => "identity",
    }
}

/// The text of one header. `None`: there is nothing to say, and then the header is not there.
fn value(mapping: &HeaderMapping, caller: &Caller<'_>) -> Result<Option<String>, Denial> {
    let Some(principal) = caller.principal else { return Ok(None) };
    let one = |name: Option<&str>| Ok(name.map(str::to_owned));
    let list = |names: &mut dyn Iterator<Item = &Name>| {
        let mut joined = String::new();
        for name in names {
            // Whoever splits the list must find the same members in it.
            if name.contains(',') || !is_exact(name) {
                return Err(not_carried(mapping));
            }
            if !joined.is_empty() {
                joined.push(',');
            }
            joined.push_str(name);
        }
        Ok((!joined.is_empty()).then_some(joined))
    };
    match mapping.source {
        HeaderSource::HeaderUser => one(principal.user.as_deref()),
        HeaderSource::HeaderRole => one(caller.role),
        HeaderSource::HeaderTenant => one(principal.tenant.as_deref()),
        HeaderSource::HeaderAgent => list(&mut principal.agents.iter().map(|agent| &agent.name)),
        HeaderSource::HeaderDecision => one(Some(caller.decision_id)),
        HeaderSource::HeaderGroups => list(&mut principal.groups.iter()),
        HeaderSource::HeaderAttribute => {
            match principal.attributes.iter().find(|(name, _)| *name == mapping.attribute) {
                None => Ok(None),
                Some((_, Attribute::One(value))) => one(Some(value)),
                Some((_, Attribute::Many(values))) => list(&mut values.iter()),
            }
        }
        HeaderSource::Unspecified => Ok(None),
    }
}
