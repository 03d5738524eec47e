//! One question to the policy, as `explain` and `test` ask it: who, what, and what came of it.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use doorward_policy::{
    Name, authority,
    bundle::Tables,
    code::{Code, Denial},
    decide::{self, Trace},
    dialect::{self, BodyNeed, Rewrite},
    engine::{self, Outcome, Settings, Verdict},
    host::Host,
    identity::{self, Agent, Attribute, Principal, TokenCache, TokenInfo},
    request::{Header, HttpRequest},
};
use doorward_policy_compiler::document::policy_test::TestIdentity;

/// A request with its own memory.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Upper-case method.
    pub method: String,
    /// Host, with a port if it has one.
    pub authority: String,
    /// Path with query.
    pub path: String,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Option<Vec<u8>>,
    /// Address of the peer.
    pub source: String,
}

impl Request {
    /// Takes authority and path from a URL.
    pub fn set_url(&mut self, url: &str) -> anyhow::Result<()> {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let Some(rest) = rest else {
            bail!(
                "the URL must start with http:// or https://, e.g. https://data.example.com/api/v2/crm/_table/orders"
            );
        };
        let rest = rest.split('#').next().unwrap_or("");
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority::parse(authority).is_none() {
            bail!(
                "the URL must name a host, with at most a port and without user and password; send credentials in a header"
            );
        }
        self.authority = authority.to_owned();
        self.path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(())
    }

    /// Adds a header unless there is one of this name.
    pub fn default_header(&mut self, name: &str, value: &str) {
        if !self.headers.iter().any(|(have, _)| have == name) {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Headers that a client sends with a body.
    pub fn describe_body(&mut self) {
        if let Some(length) = self.body.as_ref().map(Vec::len) {
            self.default_header("content-type", "application/json");
            self.default_header("content-length", &length.to_string());
        }
    }
}

/// Who asks.
#[derive(Debug)]
pub enum Asker {
    /// Whoever the credentials in the request say: really verified.
    Credentials,
    /// This identity, as if its credentials had been verified.
    As(Box<TestIdentity>),
}

/// What came of a request.
#[derive(Debug)]
pub struct Answer {
    /// Who asked, where that is known.
    pub principal: Option<Arc<Principal>>,
    /// The verdict.
    pub verdict: Verdict,
    /// The way there.
    pub trace: Trace,
}

impl Answer {
    /// `allow`, `rewrite` or `deny`.
    pub fn outcome(&self) -> &str {
        self.verdict.record.decision.as_ref().map_or("", |decision| &decision.outcome)
    }
    /// The denial.
    pub fn denial(&self) -> Option<&Denial> {
        if let Outcome::Deny(denial) = &self.verdict.outcome { Some(denial) } else { None }
    }
    /// The changes.
    pub fn rewrite(&self) -> Option<&Rewrite> {
        if let Outcome::Allow(rewrite) = &self.verdict.outcome { Some(rewrite) } else { None }
    }
    /// Path that goes upstream.
    pub fn path<'a>(&'a self, request: &'a Request) -> &'a str {
        self.rewrite().and_then(|rewrite| rewrite.path.as_deref()).unwrap_or(&request.path)
    }
    /// Body that goes upstream.
    pub fn body<'a>(&'a self, request: &'a Request) -> Option<&'a [u8]> {
        self.rewrite().and_then(|rewrite| rewrite.body.as_deref()).or(request.body.as_deref())
    }
}

/// Asks.
pub fn ask(
    tables: &Tables,
    host: &dyn Host,
    settings: &Settings,
    asker: &Asker,
    asked: &Request,
) -> anyhow::Result<Answer> {
    let headers: Vec<Header<'_>> =
        asked.headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
    let mut request = HttpRequest {
        method: &asked.method,
        authority: &asked.authority,
        path: &asked.path,
        headers: &headers,
        body: None,
        source_address: &asked.source,
    };
    // As in the filter: a dialect that does not ask for the body never sees it.
    let service = tables.route(request.authority, request.path).map(|(service, _)| service);
    if service.is_some_and(|service| dialect::body_need(service, &request) == BodyNeed::Whole) {
        request.body = asked.body.as_deref();
    }
    let denied = |denial: Denial| Answer {
        principal: None,
        verdict: engine::unavailable(host, &request, denial),
        trace: Trace::default(),
    };
    let principal = match asker {
        Asker::Credentials if service.is_none() => Arc::default(),
        Asker::Credentials => {
            match identity::authenticate(tables, host, &settings.identity, &mut TokenCache::default(), &request) {
                Ok(principal) => principal,
                Err(refused) => return Ok(denied(refused.denial)),
            }
        }
        Asker::As(identity) => {
            let now = i64::try_from(host.now_millis() / 1000).unwrap_or(i64::MAX);
            let principal = Arc::new(principal(tables, identity, now)?);
            let refused = key_refused(tables, &principal, now).or_else(|| decide::revoked(tables, &principal, now));
            if let Some(denial) = refused {
                return Ok(denied(denial));
            }
            principal
        }
    };
    let mut trace = Trace::default();
    let limit = service
        .and_then(|service| service.max_body_bytes)
        .map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if request.body.is_some_and(|body| body.len() > limit.min(settings.max_body_bytes)) {
        return Ok(denied(Denial::new(Code::TooLarge, "The request body is larger than this service allows.")));
    }
    let verdict = engine::explain(tables, host, settings, &principal, &request, &mut trace);
    Ok(Answer { principal: Some(principal), verdict, trace })
}

/// The locks of an API key that do not depend on where the request comes from.
fn key_refused(tables: &Tables, principal: &Principal, now: i64) -> Option<Denial> {
    let key = tables.keys().get(principal.key?)?;
    if key.revoked {
        Some(Denial::new(Code::CredentialRevoked, "The API key was revoked."))
    } else if key.not_before.is_some_and(|from| now < from) {
        Some(Denial::new(Code::CredentialExpired, "The API key is not valid yet."))
    } else if key.not_after.is_some_and(|until| now >= until) {
        Some(Denial::new(Code::CredentialExpired, "The API key has expired."))
    } else if key.tenant.is_some() && key.tenant != principal.tenant {
        Some(Denial::new(Code::CredentialLocked, "The API key belongs to another tenant than the token."))
    } else {
        None
    }
}

/// The principal of an identity that is taken for verified.
fn principal(tables: &Tables, identity: &TestIdentity, now: i64) -> anyhow::Result<Principal> {
    let name = |text: &String| Name::from(text.as_str());
    let names = |list: &[String]| list.iter().map(name).collect::<Vec<_>>();
    let agent = |name: Name| Agent { name };
    let mut principal = Principal {
        user: identity.user.as_ref().map(name),
        provider: identity.provider.as_ref().map(name),
        groups: names(&identity.groups),
        tenant: identity.tenant.as_ref().map(name),
        agents: names(&identity.agents).into_iter().map(agent).collect(),
        delegated_roles: identity.delegated_roles.as_deref().map(names),
        mesh: identity.mesh.as_ref().map(name),
        ..Principal::default()
    };
    principal.groups.sort_unstable();
    principal.groups.dedup();
    if let Some(roles) = &mut principal.delegated_roles {
        roles.sort_unstable();
        roles.dedup();
    }
    for (attribute, values) in &identity.attributes {
        let values: Vec<Name> = values.as_slice().iter().map(|value| Name::from(value.to_string())).collect();
        let value = match values.as_slice() {
            [one] => Attribute::One(one.clone()),
            _ => Attribute::Many(values),
        };
        principal.attributes.push((name(attribute), value));
    }
    let values = principal.attributes.iter().flat_map(|(_, value)| match value {
        Attribute::One(value) => std::slice::from_ref(value),
        Attribute::Many(values) => values,
    });
    let names = principal.user.iter().chain(&principal.tenant).chain(&principal.groups).chain(&principal.mesh);
    let agents = principal.agents.iter().map(|agent| &agent.name);
    if let Some(name) = names.chain(agents).chain(values).find(|name| !identity::is_exact(name)) {
        bail!(
            "{name:?} begins or ends with white space, or has control or invisible characters: a credential with it is refused"
        );
    }
    for (index, path) in (0_u32..).zip(tables.claim_paths()) {
        if let Some(values) = identity.claims.get(&path.join(".")) {
            principal.claims.extend(values.as_slice().iter().map(|value| (index, Name::from(value.to_string()))));
        }
    }
    if let Some(wanted) = &identity.key {
        let index = tables.keys().iter().position(|key| *key.name == **wanted);
        let index =
            index.with_context(|| format!("there is no AccessKey \"{wanted}\" in the policy; check the name"))?;
        principal.key = Some(index);
        let key = tables.keys().get(index);
        principal.tenant = principal.tenant.or_else(|| key.and_then(|key| key.tenant.clone()));
        principal.agents.extend(key.and_then(|key| key.agent.clone()).map(agent));
    }
    if identity.token.is_some() {
        principal.token = Some(TokenInfo {
            id: identity.token.as_ref().map(name),
            sha256: Name::from(""),
            issued_at: now,
            expires_at: now.saturating_add(60),
            methods: Vec::new(),
            context_class: None,
        });
    }
    Ok(principal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_authority_and_path() {
        let mut request = Request::default();
        request.set_url("https://h.example:8443/a/b?c=d#e").unwrap();
        assert_eq!((request.authority.as_str(), request.path.as_str()), ("h.example:8443", "/a/b?c=d"));
        request.set_url("http://h?x=1").unwrap();
        assert_eq!((request.authority.as_str(), request.path.as_str()), ("h", "/?x=1"));
        for wrong in ["h/a", "ftp://h/", "http://", "http://u:p@h/", "http://h:443@i/", "http://h:x/", "http://h,i/"] {
            assert!(request.set_url(wrong).is_err(), "{wrong}");
        }
    }
}
