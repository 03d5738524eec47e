//! Documents → one [`Bundle`]: validated across documents, interned, in canonical order.
//!
//! A document with an error is left out, and so is what refers to it, each with a diagnostic of its own; compilation as a
//! whole never fails. The same documents give the same bytes, in whatever order they come.
//!
//! Every kind is lowered by one function that both checks and encodes, and it runs twice. The first time it checks, and
//! collects the document's strings. The second time it runs over the accepted documents alone, with the final indexes.
//! Once is not enough: indexes follow the order of the strings, so that sorting by index is sorting by name, and the order
//! of all strings is not known before the last document was checked.

mod access;
mod context;
mod grants;
pub mod hosts;
mod identity;
mod introspection;
mod issuers;
mod jwk;
mod key_source;
mod names;
pub mod namespaces;
mod out;
mod roles;
mod services;

use crate::document::{Diagnostic, Document, Kind, Severity, Spec};
use context::Context;
use doorward_proto::v1::{self, Bundle};
use namespaces::Boundary;
use out::{Interner, Out};
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

pub use jwk::has_usable_key;
pub use key_source::{KeyLocation, KeySource, NoKeys};

/// Version of the bundle's format.
pub const FORMAT: u32 = 1;
/// Version of a bundle in which bindings believe some providers only, or restrictions hold on some services only: a proxy that
/// does not know that would grant more, and refuses it.
pub const CONFINED_FORMAT: u32 = 2;

/// A document by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
}

/// What came of compilation.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The bundle.
    pub bundle: Bundle,
    /// SHA-256 of `bytes`.
    pub digest: [u8; 32],
    /// The bundle's canonical bytes.
    pub bytes: Vec<u8>,
    /// Everything found, by file and line.
    pub diagnostics: Vec<Diagnostic>,
    /// Documents that are part of the policy (tests too, although no bundle holds them), sorted.
    pub accepted: Vec<DocumentId>,
}

/// Compiles the documents of one scope.
#[must_use]
pub fn compile(documents: &[Document], keys: &dyn KeySource, scope: &str) -> Compiled {
    compile_within(documents, keys, scope, &Boundary::default())
}

/// The same with the namespace that is trusted.
#[must_use]
pub fn compile_within(documents: &[Document], keys: &dyn KeySource, scope: &str, boundary: &Boundary) -> Compiled {
    let mut sorted: Vec<&Document> = documents.iter().collect();
    sorted.sort_by(|a, b| (a.kind, &a.name, &a.file, a.line).cmp(&(b.kind, &b.name, &b.file, b.line)));
    let mut diagnostics = Vec::new();
    let mut unique: Vec<&Document> = Vec::new();
    for document in sorted {
        match unique.last() {
            Some(first) if first.kind == document.kind && first.name == document.name => {
                let message =
                    format!("the name is already taken by {}:{}; this document is left out", first.file, first.line);
                let error = Severity::Error;
                diagnostics.push(Diagnostic::of(document, error, "duplicate_name", "metadata.name", message));
            }
            _ => unique.push(document),
        }
    }

    // Names are resolved once, for all that follows.
    let confined = namespaces::confine(&unique, boundary);
    if let Some(confined) = &confined {
        diagnostics.extend(confined.diagnostics.iter().cloned());
        unique = confined.documents.iter().collect();
    }
    let Checked { context, accepted, strings } = check(&unique, keys, boundary, &mut diagnostics);
    let bundle = encode(&context, &accepted, strings, scope);
    let bytes = bundle.encode_to_vec();
    diagnostics.extend(contested(&context, &unique));
    diagnostics.sort();
    diagnostics.dedup();
    let accepted =
        accepted.iter().map(|document| DocumentId { kind: document.kind, name: document.name.clone() }).collect();
    Compiled { digest: Sha256::digest(&bytes).into(), bundle, bytes, diagnostics, accepted }
}

/// Tells whoever has what others claim as well.
fn contested(context: &Context<'_>, documents: &[&Document]) -> Vec<Diagnostic> {
    let contested = context.contested.borrow();
    let one = |(kind, owner, other): &(Kind, String, String)| {
        let document = documents.iter().find(|document| document.kind == *kind && document.name == *owner)?;
        let message = format!("{kind} \"{other}\" claims the same; it is left out, because this one was there before");
        Some(Diagnostic::of(document, Severity::Warning, "contested", "spec", message))
    };
    contested.iter().filter_map(one).collect()
}

/// What the checks leave to encode.
struct Checked<'a> {
    context: Context<'a>,
    /// Documents without an error, by kind and name.
    accepted: Vec<&'a Document>,
    /// All strings that the bundle of these documents has.
    strings: Interner,
}

/// Checks documents that are sorted by kind and name, each once.
fn check<'a>(
    unique: &[&'a Document],
    keys: &dyn KeySource,
    boundary: &Boundary,
    diagnostics: &mut Vec<Diagnostic>,
) -> Checked<'a> {
    let refused: BTreeSet<(Option<Kind>, String)> = diagnostics
        .iter()
        .filter(|found| found.is_error() && found.code != "duplicate_name")
        .map(|found| (found.kind, found.name.clone()))
        .collect();
    let mut context = Context::new(unique, &refused);
    let mut accepted: Vec<&Document> = Vec::new();
    let mut strings = Interner::collecting();
    // In the order of the kinds: what others refer to comes first. Of one kind the older come first: what they claim is theirs.
    let mut by_age = unique.to_vec();
    by_age.sort_by_key(|document| (document.kind, boundary.age(document)));
    for document in by_age {
        if refused.contains(&(Some(document.kind), document.name.clone())) {
            continue;
        }
        let mut out = Out::new(document);
        match &document.spec {
            Spec::IdentityProvider(spec) => {
                let keys = jwk::load(&mut out, spec, keys);
                identity::provider(&context, &mut out, spec, &keys);
                if out.is_clean() {
                    context.accept_provider(&document.name, spec, keys);
                }
            }
            Spec::DataService(spec) => {
                let (_, facts) = services::service(&context, &mut out, spec);
                if out.is_clean() {
                    context.accept_service(&document.name, spec, facts);
                }
            }
            Spec::AccessRole(spec) => {
                roles::role(&context, &mut out, spec);
                if out.is_clean() {
                    context.roles.insert(&document.name, spec);
                }
            }
            Spec::AccessBinding(spec) => {
                access::binding(&context, &mut out, spec);
            }
            Spec::AccessKey(spec) => {
                access::key(&context, &mut out, spec);
                if out.is_clean() {
                    context.hashes.insert(spec.hash.0, &document.name);
                }
            }
            Spec::AccessRestriction(spec) => {
                access::restriction(&context, &mut out, spec);
            }
            Spec::PolicyTest(spec) => access::test(&context, &mut out, spec),
        }
        if out.is_clean() {
            accepted.push(document);
            strings.absorb(&mut out);
        }
        diagnostics.append(&mut out.diagnostics);
    }
    context.checked = true;
    accepted.sort_by_key(|document| (document.kind, &document.name));
    Checked { context, accepted, strings }
}

/// Encodes accepted documents. Their strings are known from the checks. Should one be missing all the same, they are
/// collected anew: without an index of its own it would stand for the empty string.
fn encode(context: &Context<'_>, documents: &[&Document], strings: Interner, scope: &str) -> Bundle {
    let mut strings = strings.finished();
    let bundle = lower(context, documents, &mut strings, scope);
    if !strings.lacks_some() {
        return bundle;
    }
    let mut strings = Interner::collecting();
    lower(context, documents, &mut strings, scope);
    lower(context, documents, &mut strings.finished(), scope)
}

/// Encodes accepted documents with the indexes that the interner gives.
fn lower(context: &Context<'_>, documents: &[&Document], strings: &mut Interner, scope: &str) -> Bundle {
    let mut bundle = Bundle { format: FORMAT, scope: scope.to_owned(), ..Bundle::default() };
    for document in documents {
        let mut out = Out::with(document, std::mem::take(strings));
        match &document.spec {
            Spec::IdentityProvider(spec) => {
                let keys = context.keys_of(&document.name);
                bundle.providers.push(identity::provider(context, &mut out, spec, keys));
            }
            Spec::DataService(spec) => bundle.services.push(services::service(context, &mut out, spec).0),
            Spec::AccessRole(spec) => bundle.roles.push(roles::role(context, &mut out, spec)),
            Spec::AccessBinding(spec) => bundle.bindings.push(access::binding(context, &mut out, spec)),
            Spec::AccessKey(spec) => bundle.keys.push(access::key(context, &mut out, spec)),
            Spec::AccessRestriction(spec) => bundle.restrictions.push(access::restriction(context, &mut out, spec)),
            Spec::PolicyTest(_) => {}
        }
        *strings = out.into_strings();
    }
    let confined = bundle.bindings.iter().any(|binding| binding.providers_only)
        || bundle.restrictions.iter().any(|restriction| restriction.confined);
    if confined {
        bundle.format = CONFINED_FORMAT;
    }
    bundle.providers.sort_by_key(|provider| (provider.issuer, provider.name));
    bundle.services.sort_by_key(|service| service.name);
    bundle.roles.sort_by_key(|role| role.name);
    bundle.bindings.sort_by_key(|binding| (std::cmp::Reverse(binding.priority), binding.role, binding.name));
    bundle.keys.sort_by(|a, b| a.hash.cmp(&b.hash));
    bundle.restrictions.sort_by_key(|restriction| restriction.name);
    bundle.claim_paths =
        strings.claim_paths().iter().map(|path| strings.encode_path(path)).collect::<Vec<v1::ClaimPath>>();
    bundle.strings = strings.strings();
    bundle
}

#[cfg(test)]
mod dialect_tests;
#[cfg(test)]
mod tests;
