//! Namespaces as a boundary: what one may say about another's documents, and about who is who.
//!
//! A document called `NAMESPACE/NAME` belongs to that namespace; whoever may write there is trusted with that namespace alone. So:
//!
//! * A name without a namespace means one's own. A name of another namespace grants something only where the document of that
//!   name has this namespace among its `allowedNamespaces`, in the spirit of Gateway API's ReferenceGrant.
//! * A binding believes only providers of its own namespace, of the trusted one, or that it names: who can write a provider can
//!   make a token for any user. An agent that a key names is an agent of the key's namespace.
//! * A restriction holds on services of its own namespace, or it could close others'.
//! * Hosts and issuers belong to whoever claimed them first, and to the trusted namespace before all others.
//! * Files of the control plane are named by the trusted namespace alone.
//!
//! The trusted namespace is the control plane's own: who may write there, may write policy for everybody. Documents without a
//! namespace, as files of a directory are, are bound by nothing of this among themselves.

mod boundary;
mod hosts;

pub use boundary::Boundary;

use std::collections::{BTreeMap, BTreeSet};

use crate::document::{
    AccessBinding, AccessRestriction, AccessRole, Diagnostic, Document, Kind, Severity, Spec,
    access_binding::Subject,
    access_restriction::Effect,
    namespace::{namespace, resolve},
};

/// Documents whose names are resolved, and what is not permitted.
pub(super) struct Confined {
    pub documents: Vec<Document>,
    pub diagnostics: Vec<Diagnostic>,
}

/// What the documents of all namespaces say about each other.
struct World<'a> {
    boundary: &'a Boundary,
    /// Whom each document that can be referred to allows to do so.
    allowed: BTreeMap<(Kind, &'a str), &'a [String]>,
    providers: BTreeMap<&'a str, Vec<&'a str>>,
    /// Namespaces with services.
    services: BTreeSet<&'a str>,
}

/// Resolves every name, and confines each document to what its namespace may say. `None`: no document has a namespace.
pub(super) fn confine(documents: &[&Document], boundary: &Boundary) -> Option<Confined> {
    if documents.iter().all(|document| namespace(&document.name).is_empty()) {
        return None;
    }
    let mut world = World { boundary, allowed: BTreeMap::new(), providers: BTreeMap::new(), services: BTreeSet::new() };
    for document in documents {
        let at = (document.kind, document.name.as_str());
        match &document.spec {
            Spec::DataService(spec) => {
                world.allowed.insert(at, &spec.allowed_namespaces);
                world.services.insert(namespace(at.1));
            }
            Spec::AccessRole(spec) => {
                world.allowed.insert(at, &spec.allowed_namespaces);
            }
            Spec::IdentityProvider(_) => world.providers.entry(namespace(at.1)).or_default().push(at.1),
            _ => {}
        }
    }
    let mut confined = Confined { documents: Vec::new(), diagnostics: hosts::claims(documents, boundary) };
    for document in documents {
        let mut document = (*document).clone();
        let own = namespace(&document.name).to_owned();
        let mut found = Found { document: &document.clone(), diagnostics: &mut confined.diagnostics };
        world.confine(&own, &mut document, &mut found);
        confined.documents.push(document);
    }
    Some(confined)
}

/// Where a finding goes.
struct Found<'a> {
    document: &'a Document,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Found<'_> {
    fn refuse(&mut self, path: impl Into<String>, message: String) {
        self.diagnostics.push(Diagnostic::of(self.document, Severity::Error, "not_permitted", path, message));
    }
}

impl World<'_> {
    fn confine(&self, own: &str, document: &mut Document, found: &mut Found<'_>) {
        match &mut document.spec {
            Spec::IdentityProvider(spec) => {
                if own.is_empty() || self.boundary.trusts(own) {
                    return;
                }
                let secret = spec.introspection.as_ref().map(|asked| &asked.client_secret);
                let files = [
                    ("spec.jwks.file", spec.jwks.as_ref().is_some_and(|jwks| jwks.file.is_some())),
                    ("spec.introspection.clientSecret.file", secret.is_some_and(|secret| secret.file.is_some())),
                    ("spec.introspection.clientSecret.env", secret.is_some_and(|secret| secret.env.is_some())),
                ];
                let plain = |address: Option<&str>| address.is_some_and(|address| !address.starts_with("https://"));
                let asked = spec.introspection.as_ref().map(|asked| asked.url.as_str());
                for (path, address) in [
                    ("spec.jwks.uri", spec.jwks.as_ref().and_then(|jwks| jwks.uri.as_deref())),
                    ("spec.introspection.url", asked),
                ] {
                    if plain(address) {
                        found.refuse(path, format!("documents of {own} name addresses over https only"));
                    }
                }
                let sourced = spec.jwks.as_ref().is_some_and(|jwks| {
                    jwks.uri.is_some() || jwks.inline.is_some() || jwks.file.is_some() || jwks.secret_ref.is_some()
                });
                // Its keys are discovered there.
                if !sourced && spec.issuers().iter().any(|issuer| issuer.starts_with("http://")) {
                    found.refuse("spec.issuer", format!("documents of {own} name addresses over https only"));
                }
                for (path, named) in files {
                    if named {
                        let message = format!(
                            "a file or variable of the control plane is named by documents of its own namespace only, not of {own}"
                        );
                        found.refuse(path, message);
                    }
                }
            }
            Spec::DataService(_) => {}
            Spec::AccessRole(spec) => self.role(own, spec, found),
            Spec::AccessBinding(spec) => self.binding(own, spec, found),
            Spec::AccessKey(spec) => {
                spec.role = self.refer(own, Kind::AccessRole, &spec.role, "spec.role", found);
                if let Some(agent) = spec.agent.as_mut().filter(|_| !own.is_empty()) {
                    *agent = format!("{own}/{agent}");
                }
            }
            Spec::AccessRestriction(spec) => self.restriction(own, spec, found),
            Spec::PolicyTest(spec) => {
                for case in &mut spec.tests {
                    let names = [
                        &mut case.identity.provider,
                        &mut case.identity.key,
                        &mut case.request.role,
                        &mut case.expect.role,
                    ];
                    for name in names.into_iter().flatten() {
                        *name = resolve(own, name);
                    }
                    for role in case.identity.delegated_roles.iter_mut().flatten() {
                        *role = resolve(own, role);
                    }
                }
            }
        }
    }

    /// What a name means; another namespace's must allow it.
    fn refer(&self, own: &str, kind: Kind, name: &str, path: &str, found: &mut Found<'_>) -> String {
        let name = resolve(own, name);
        let other = namespace(&name);
        if other != own {
            let allowed = self.allowed.get(&(kind, name.as_str())).copied().unwrap_or_default();
            if !allowed.iter().any(|allowed| allowed == own || allowed == "*") {
                let message = format!(
                    "{kind} \"{name}\" of another namespace does not allow this one: its allowedNamespaces must name {}",
                    if own.is_empty() { "*" } else { own }
                );
                found.refuse(path, message);
            }
        }
        name
    }

    fn role(&self, own: &str, spec: &mut AccessRole, found: &mut Found<'_>) {
        for (index, grant) in spec.grants.iter_mut().enumerate() {
            let path = format!("spec.grants[{index}].service");
            grant.service = self.refer(own, Kind::DataService, &grant.service, &path, found);
        }
    }

    fn binding(&self, own: &str, spec: &mut AccessBinding, found: &mut Found<'_>) {
        spec.role = self.refer(own, Kind::AccessRole, &spec.role, "spec.role", found);
        subjects(own, &mut spec.subjects);
        for provider in &mut spec.providers {
            *provider = resolve(own, provider);
        }
        if !own.is_empty() && spec.providers.is_empty() {
            let trusted = self.boundary.trusted.as_deref();
            let own_ones = self.providers.get(own).into_iter().flatten();
            let trusted = trusted.and_then(|trusted| self.providers.get(trusted)).into_iter().flatten();
            let all: BTreeSet<String> = own_ones.chain(trusted).map(|name| (*name).to_owned()).collect();
            spec.vouchers = Some(all.into_iter().collect());
        }
    }

    fn restriction(&self, own: &str, spec: &mut AccessRestriction, found: &mut Found<'_>) {
        subjects(own, &mut spec.subjects);
        if own.is_empty() || self.boundary.trusts(own) {
            for service in &mut spec.services {
                *service = resolve(own, service);
            }
            return;
        }
        for (index, service) in spec.services.iter_mut().enumerate() {
            *service = self.refer(own, Kind::DataService, service, &format!("spec.services[{index}]"), found);
        }
        for (index, subject) in spec.subjects.iter().enumerate() {
            if subject.claim.is_some() {
                let message =
                    "only the control plane's own namespace restricts by a claim, because every token is read for it";
                found.refuse(format!("spec.subjects[{index}]"), message.to_owned());
            }
        }
        if spec.effect == Effect::RevokeTokens {
            let message = "a revoked token is refused in every namespace, so only the control plane's own namespace revokes; \
                           use the effect deny";
            found.refuse("spec.effect", message.to_owned());
        }
        // Its namespace stands for all services in it.
        let foreign = spec.services.iter().filter(|service| namespace(service) != own);
        let within: BTreeSet<String> = foreign.cloned().chain([own.to_owned()]).collect();
        if within.len() == 1 && !self.services.contains(own) {
            let message = "its namespace has no services, so there is nothing to cut back";
            let warning = Diagnostic::of(found.document, Severity::Warning, "never_matches", "spec", message);
            found.diagnostics.push(warning);
        }
        spec.within = Some(within.into_iter().collect());
    }
}

/// Keys are of the own namespace. An agent is one that a token or the mesh names, or one that a key of this namespace does.
fn subjects(own: &str, subjects: &mut Vec<Subject>) {
    if own.is_empty() {
        return;
    }
    for subject in subjects.iter_mut() {
        if let Some(key) = &mut subject.key {
            *key = resolve(own, key);
        }
    }
    let agents = subjects.iter().filter_map(|subject| subject.agent.as_ref()).map(|agent| format!("{own}/{agent}"));
    let agents: Vec<Subject> = agents.map(|agent| Subject { agent: Some(agent), ..Subject::default() }).collect();
    subjects.extend(agents);
}
