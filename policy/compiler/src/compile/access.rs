//! `AccessBinding`, `AccessKey` and `AccessRestriction` → their bundle entries; checks of `PolicyTest`.

use super::{context::Context, out::Out, roles};
use crate::document::{
    AccessBinding, AccessKey, AccessRestriction, Kind, PolicyTest,
    access_binding::Subject,
    access_restriction::Effect,
    common::{Enforcement, Timestamp},
    namespace::{bare, namespace},
    policy_test::ExpectedDecision,
    suggest,
};
use doorward_policy::{authority, code::Code, identity::is_exact};
use doorward_proto::v1::{self, SubjectKind};

/// No caller has such a name: a credential with it is refused.
const NOT_EXACT: &str =
    "the value begins or ends with white space, or has control or invisible characters; write it without";

pub(super) fn binding(context: &Context<'_>, out: &mut Out<'_>, spec: &AccessBinding) -> v1::Binding {
    known_role(context, out, &spec.role);
    if spec.tenants.is_empty() && context.maps_tenant() {
        out.warn(
            "binding_without_tenants",
            "spec",
            "the role is held in every tenant; name the tenants if that is not meant",
        );
    }
    if spec.tenants.iter().any(String::is_empty) {
        out.error("invalid_value", "spec.tenants", "a tenant is empty");
    } else if spec.tenants.iter().any(|tenant| !is_exact(tenant)) {
        out.error("invalid_value", "spec.tenants", NOT_EXACT);
    }
    period(out, spec.from.as_ref(), spec.until.as_ref(), "spec.until");
    if bare(&spec.role).starts_with("admin-") {
        for (index, subject) in spec.subjects.iter().enumerate() {
            let agent = subject.agent.is_some()
                || context.keys.iter().any(|(name, key)| Some(*name) == subject.key.as_deref() && key.agent.is_some());
            if agent {
                let message = "an admin- role is bound to an agent; give the agent an ai- role of its own";
                out.warn("admin_role_for_agent", format!("spec.subjects[{index}]"), message);
            }
        }
    }
    for (index, provider) in spec.providers.iter().enumerate() {
        if !context.providers.contains_key(provider.as_str()) {
            let path = format!("spec.providers[{index}]");
            context.missing(out, "unknown_provider", &path, Kind::IdentityProvider, provider);
        }
    }
    let believed = if spec.providers.is_empty() { spec.vouchers.as_ref() } else { Some(&spec.providers) };
    if believed.is_some_and(Vec::is_empty) && spec.subjects.iter().any(is_vouched_for) {
        let message = "there is no IdentityProvider in this namespace or the control plane's, so nobody is believed to be a \
                       subject; name those to believe in providers";
        out.warn("never_matches", "spec.subjects", message);
    }
    v1::Binding {
        providers_only: believed.is_some(),
        providers: out.sorted(believed.into_iter().flatten().map(String::as_str)),
        name: out.s(&out.document.name.clone()),
        role: out.name("spec.role", &spec.role),
        priority: spec.priority,
        subjects: subjects(context, out, &spec.subjects, false),
        tenants: out.sorted(spec.tenants.iter().map(String::as_str)),
        from: seconds(spec.from.as_ref()),
        until: seconds(spec.until.as_ref()),
    }
}

pub(super) fn key(context: &Context<'_>, out: &mut Out<'_>, spec: &AccessKey) -> v1::Key {
    known_role(context, out, &spec.role);
    if !context.checked
        && let Some(other) = context.hashes.get(&spec.hash.0)
    {
        out.error(
            "duplicate_hash",
            "spec.hash",
            format!("AccessKey \"{other}\" has the same hash; every tool has a key of its own"),
        );
        context.contest(Kind::AccessKey, other, &out.document.name);
    }
    period(out, spec.not_before.as_ref(), spec.not_after.as_ref(), "spec.notAfter");
    if spec.agent.is_some() && bare(&spec.role).starts_with("admin-") {
        out.warn(
            "admin_role_for_agent",
            "spec.role",
            "an admin- role is bound to an agent; give the agent an ai- role of its own",
        );
    }
    for (path, value) in [("spec.tenant", &spec.tenant), ("spec.agent", &spec.agent)] {
        if value.as_deref() == Some("") {
            out.error("invalid_value", path, "the value is empty; leave it out instead");
        } else if value.as_deref().is_some_and(|value| !is_exact(value)) {
            out.error("invalid_value", path, NOT_EXACT);
        }
    }
    for (name, values) in &spec.attributes {
        if values.as_slice().iter().any(|value| !is_exact(&value.to_string())) {
            out.error("invalid_value", format!("spec.attributes.{name}"), NOT_EXACT);
        }
    }
    // As the host of a request is read: in lower case, without trailing dot, addresses in one form.
    let hosts: Vec<String> = spec
        .hosts
        .iter()
        .filter_map(|host| {
            let found = authority::parse(host)?;
            Some(found.port.map_or_else(|| found.host.to_string(), |port| format!("{}:{port}", found.host)))
        })
        .collect();
    if hosts.len() < spec.hosts.len() {
        out.error(
            "invalid_value",
            "spec.hosts",
            "a host is an exact authority, such as data.example.com or data.example.com:8443",
        );
    }
    v1::Key {
        hash: spec.hash.0.to_vec(),
        name: out.s(&out.document.name.clone()),
        role: out.name("spec.role", &spec.role),
        tenant: out.optional(spec.tenant.as_deref()),
        not_before: seconds(spec.not_before.as_ref()),
        not_after: seconds(spec.not_after.as_ref()),
        revoked: spec.revoked,
        networks: out.sorted(spec.networks.iter().map(|network| network.0.as_str())),
        hosts: out.sorted(hosts.iter().map(String::as_str)),
        attributes: roles::attributes(out, &spec.attributes, "spec.attributes"),
        agent: out.optional(spec.agent.as_deref()),
    }
}

pub(super) fn restriction(context: &Context<'_>, out: &mut Out<'_>, spec: &AccessRestriction) -> v1::Restriction {
    period(out, spec.from.as_ref(), spec.until.as_ref(), "spec.until");
    for (index, service) in spec.services.iter().enumerate() {
        if !context.services.contains_key(service.as_str()) {
            let path = format!("spec.services[{index}]");
            if foreign(out, service) {
                out.warn(
                    "unknown_service",
                    path,
                    format!("there is no DataService \"{service}\" in its namespace at present"),
                );
            } else {
                context.missing(out, "unknown_service", &path, Kind::DataService, service);
            }
        }
    }
    // A field that an effect does not look at would be a promise that nobody keeps.
    let allow_only = spec.effect == Effect::AllowOnly;
    let misplaced = [
        (!spec.verbs.is_empty() && !allow_only, "spec.verbs", "verbs belong to the effect allowOnly"),
        (spec.max_rows.is_some() && !allow_only, "spec.maxRows", "maxRows belongs to the effect allowOnly"),
        (
            spec.issued_before.is_some() && spec.effect != Effect::RevokeTokens,
            "spec.issuedBefore",
            "issuedBefore belongs to the effect revokeTokens",
        ),
        (
            !spec.services.is_empty() && spec.effect == Effect::RevokeTokens,
            "spec.services",
            "a token is revoked for every service; use the effect deny for some",
        ),
        (
            allow_only && spec.services.is_empty() && spec.verbs.is_empty() && spec.max_rows.is_none(),
            "spec.effect",
            "allowOnly needs services, verbs or maxRows, or it restricts nothing",
        ),
    ];
    for (wrong, path, message) in misplaced {
        if wrong {
            out.error("effect_mismatch", path, message);
        }
    }
    let mut verbs: Vec<i32> = spec.verbs.iter().map(|verb| v1::Verb::from(*verb).into()).collect();
    verbs.sort_unstable();
    verbs.dedup();
    v1::Restriction {
        confined: spec.within.is_some(),
        within: out.sorted(spec.within.iter().flatten().map(String::as_str)),
        name: out.s(&out.document.name.clone()),
        subjects: subjects(context, out, &spec.subjects, true),
        from: seconds(spec.from.as_ref()),
        until: seconds(spec.until.as_ref()),
        effect: v1::RestrictionEffect::from(spec.effect).into(),
        issued_before: seconds(spec.issued_before.as_ref()),
        services: out.names("spec.services", spec.services.iter().map(String::as_str)),
        verbs,
        max_rows: spec.max_rows.map_or(0, Into::into),
        enforcement: v1::Enforcement::from(spec.enforcement.unwrap_or(Enforcement::Enforce)).into(),
    }
}

pub(super) fn test(context: &Context<'_>, out: &mut Out<'_>, spec: &PolicyTest) {
    for (index, case) in spec.tests.iter().enumerate() {
        let at = format!("spec.tests[{index}]");
        if case.request.url.is_some() == case.request.path.is_some() {
            out.error("invalid_request", format!("{at}.request"), "give url, or authority and path");
        }
        if let Some(code) = &case.expect.code {
            if Code::from_name(code).is_none() {
                let hint = suggest::hint(code, Code::ALL.iter().map(|code| code.as_str()));
                out.error("unknown_code", format!("{at}.expect.code"), format!("unknown code \"{code}\"{hint}"));
            }
            if case.expect.decision != ExpectedDecision::Deny {
                out.error("unknown_code", format!("{at}.expect.code"), "only a denial has a code");
            }
        }
        if let Some(key) = &case.identity.key
            && !context.keys.iter().any(|(name, _)| name == key)
        {
            context.missing(out, "unknown_key", &format!("{at}.as.key"), Kind::AccessKey, key);
        }
        if let Some(provider) = &case.identity.provider
            && !context.providers.contains_key(provider.as_str())
        {
            context.missing(out, "unknown_provider", &format!("{at}.as.provider"), Kind::IdentityProvider, provider);
        }
    }
}

/// Whether a provider says that somebody is this subject.
fn is_vouched_for(subject: &Subject) -> bool {
    subject.user.is_some() || subject.group.is_some() || subject.claim.is_some() || subject.any_user.is_some()
}

/// Whether this is a name of another namespace, whose people may delete what has it: a restriction stays in force all the same.
fn foreign(out: &Out<'_>, name: &str) -> bool {
    namespace(name) != namespace(&out.document.name)
}

fn known_role(context: &Context<'_>, out: &mut Out<'_>, role: &str) {
    if !context.roles.contains_key(role) {
        context.missing(out, "unknown_role", "spec.role", Kind::AccessRole, role);
    }
}

fn seconds(moment: Option<&Timestamp>) -> i64 {
    moment.map_or(0, |moment| moment.0)
}

fn period(out: &mut Out<'_>, from: Option<&Timestamp>, until: Option<&Timestamp>, path: &str) {
    if let (Some(from), Some(until)) = (from, until)
        && until.0 <= from.0
    {
        out.error("time_range", path, "the end is not after the beginning");
    }
}

fn subjects(context: &Context<'_>, out: &mut Out<'_>, given: &[Subject], restriction: bool) -> Vec<v1::Subject> {
    if given.is_empty() {
        out.warn("never_matches", "spec.subjects", "without subjects the document applies to nobody");
    }
    let mut all = Vec::new();
    for (index, subject) in given.iter().enumerate() {
        let at = format!("spec.subjects[{index}]");
        let mut found: Vec<(SubjectKind, &str, u32)> = Vec::new();
        let texts = [
            (SubjectKind::SubjectUser, &subject.user),
            (SubjectKind::SubjectGroup, &subject.group),
            (SubjectKind::SubjectAgent, &subject.agent),
            (SubjectKind::SubjectKey, &subject.key),
            (SubjectKind::SubjectToken, &subject.token),
        ];
        found.extend(texts.into_iter().filter_map(|(kind, value)| Some((kind, value.as_deref()?, 0))));
        if let Some(claim) = &subject.claim {
            found.push((SubjectKind::SubjectClaim, &claim.equals, out.path(&claim.path.0)));
        }
        let flags =
            [(SubjectKind::SubjectAnyUser, subject.any_user), (SubjectKind::SubjectUnidentified, subject.unidentified)];
        let off = flags.iter().any(|(_, flag)| *flag == Some(false));
        found.extend(flags.into_iter().filter_map(|(kind, flag)| flag.map(|_| (kind, "", 0))));
        let (kind, value, claim_path) = match found[..] {
            [one] if !off => one,
            _ => {
                let message = "a subject has exactly one of user, group, claim, agent, key, anyUser: true, unidentified: true and token";
                out.error("invalid_subject", at, message);
                continue;
            }
        };
        let flag = matches!(kind, SubjectKind::SubjectAnyUser | SubjectKind::SubjectUnidentified);
        if value.is_empty() && !flag {
            out.error("invalid_subject", &at, "the subject is empty");
        } else if !flag && !is_exact(value) {
            out.error("invalid_subject", &at, NOT_EXACT);
        }
        if kind == SubjectKind::SubjectToken && !restriction {
            out.error("invalid_subject", &at, "a token is a subject of restrictions only");
        }
        if kind == SubjectKind::SubjectKey && !context.keys.iter().any(|(name, _)| *name == value) {
            if restriction && foreign(out, value) {
                out.warn("unknown_key", &at, format!("there is no AccessKey \"{value}\" in its namespace at present"));
            } else {
                context.missing(out, "unknown_key", &at, Kind::AccessKey, value);
            }
        }
        all.push(v1::Subject { kind: kind.into(), value: out.s(value), claim_path });
    }
    all.sort_by_key(|subject| (subject.kind, subject.value, subject.claim_path));
    all.dedup();
    all
}
