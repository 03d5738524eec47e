//! Presets of identity providers: documents that fill in what others leave out.

use super::{
    IdentityProvider,
    common::{ClaimPath, Duration, OneOrMany, Scalar},
    identity_provider::{Audiences, Claims, Delegation, Introspection, Jwks, Preset, RequiredClaim, RequiredClaims},
    yaml,
};
use serde_json::{Map, Value, json};

impl Preset {
    /// Every preset, in the order of the reference.
    pub const ALL: [Preset; 11] = [
        Preset::Entra,
        Preset::EntraV1,
        Preset::Okta,
        Preset::Keycloak,
        Preset::Auth0,
        Preset::Cognito,
        Preset::Google,
        Preset::Kubernetes,
        Preset::GithubActions,
        Preset::Dreamfactory,
        Preset::Spiffe,
    ];

    /// Its name in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Preset::Entra => "entra",
            Preset::EntraV1 => "entra-v1",
            Preset::Okta => "okta",
            Preset::Keycloak => "keycloak",
            Preset::Auth0 => "auth0",
            Preset::Cognito => "cognito",
            Preset::Google => "google",
            Preset::Kubernetes => "kubernetes",
            Preset::GithubActions => "github-actions",
            Preset::Dreamfactory => "dreamfactory",
            Preset::Spiffe => "spiffe",
        }
    }

    /// What it fills in, as YAML of a `spec`.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Preset::Entra => include_str!("presets/entra.yaml"),
            Preset::EntraV1 => include_str!("presets/entra-v1.yaml"),
            Preset::Okta => include_str!("presets/okta.yaml"),
            Preset::Keycloak => include_str!("presets/keycloak.yaml"),
            Preset::Auth0 => include_str!("presets/auth0.yaml"),
            Preset::Cognito => include_str!("presets/cognito.yaml"),
            Preset::Google => include_str!("presets/google.yaml"),
            Preset::Kubernetes => include_str!("presets/kubernetes.yaml"),
            Preset::GithubActions => include_str!("presets/github-actions.yaml"),
            Preset::Dreamfactory => include_str!("presets/dreamfactory.yaml"),
            Preset::Spiffe => include_str!("presets/spiffe.yaml"),
        }
    }

    /// As a document; `None` never, because a test reads them all. Without it nothing would be filled in, and the compiler
    /// would miss the fields.
    fn read(self) -> Option<IdentityProvider> {
        let node = yaml::read(self.text()).into_iter().next()?.ok()?;
        serde_json::from_value(node.value).ok()
    }
}

impl IdentityProvider {
    /// Fills in what the preset knows and the document does not say. Claims that are demanded are joined by name: allowed
    /// values in the document take the place of the preset's demand on the same claim, and so does a stricter demand; all
    /// others stay. So a name that somebody adds to a list cannot take back what the preset allows of its values.
    pub(super) fn fill(&mut self) {
        let Some(base) = self.preset.and_then(Preset::read) else { return };
        // Keys belong to the issuer: another issuer than the preset's has keys of its own.
        if self.issuer.is_none()
            && let Some(known) = base.jwks
        {
            let own = self.jwks.get_or_insert_with(Jwks::default);
            if own.uri.is_none() && own.inline.is_none() && own.file.is_none() && own.secret_ref.is_none() {
                own.uri = known.uri;
            }
        }
        or(&mut self.issuer, base.issuer);
        or(&mut self.audiences, base.audiences);
        // Where none is demanded, no claim holds one.
        if self.audiences != Some(Audiences::Any) {
            or(&mut self.audience_claim, base.audience_claim);
        }
        or(&mut self.max_token_age, base.max_token_age);
        or(&mut self.clock_skew, base.clock_skew);
        or(&mut self.token_types, base.token_types);
        if self.algorithms.is_empty() {
            self.algorithms = base.algorithms;
        }
        let Claims { user, roles, groups, tenant, attributes } = base.claims;
        or(&mut self.claims.user, user);
        or(&mut self.claims.roles, roles);
        or(&mut self.claims.groups, groups);
        or(&mut self.claims.tenant, tenant);
        for (name, paths) in attributes {
            self.claims.attributes.entry(name).or_insert(paths);
        }
        if let Some(Delegation { actor, scope, scope_prefix }) = base.delegation {
            let own = self.delegation.get_or_insert_with(Delegation::default);
            or(&mut own.actor, actor);
            or(&mut own.scope, scope);
            or(&mut own.scope_prefix, scope_prefix);
        }
        let RequiredClaims(mut demands) = base.required_claims;
        demands.retain(|demand| {
            let known = |name: &String| demand.names.contains(name);
            let stricter = |own: &RequiredClaim| demand.values.is_empty() && own.names.iter().all(known);
            let instead =
                |own: &RequiredClaim| own.names.iter().any(known) && (!own.values.is_empty() || stricter(own));
            !self.required_claims.0.iter().any(instead)
        });
        demands.append(&mut self.required_claims.0);
        self.required_claims = RequiredClaims(demands);
    }

    /// The spec as it stands after its preset. Keys given inline are left out, because they may be secrets.
    #[must_use]
    pub fn shown(&self) -> Value {
        let mut out = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value.filter(|value| !matches!(value, Value::Array(items) if items.is_empty())) {
                out.insert(name.to_owned(), value);
            }
        };
        put("preset", self.preset.map(|preset| preset.as_str().into()));
        put("issuer", self.issuer.as_ref().map(|issuer| one_or_many(issuer, |text| text.clone().into())));
        put("tenants", Some(self.tenants.clone().into()));
        put("trustDomain", self.trust_domain.clone().map(Value::from));
        put(
            "audiences",
            self.audiences.as_ref().map(|audiences| match audiences {
                Audiences::Any => "any".into(),
                Audiences::Of(list) => list.clone().into(),
            }),
        );
        put("audienceClaim", self.audience_claim.as_ref().map(|names| one_or_many(names, |name| name.clone().into())));
        put("algorithms", Some(self.algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect()));
        put("jwks", self.jwks.as_ref().map(jwks));
        put("introspection", self.introspection.as_ref().map(introspection));
        put("maxTokenAge", self.max_token_age.as_ref().map(duration));
        put("clockSkew", self.clock_skew.as_ref().map(duration));
        put("tokenTypes", self.token_types.clone().map(Value::from));
        put("claims", Some(claims(&self.claims)));
        put(
            "delegation",
            self.delegation.as_ref().map(|delegation| {
                let Delegation { actor, scope, scope_prefix } = delegation;
                object([
                    ("actor", actor.clone().map(Value::from)),
                    ("scope", scope.clone().map(Value::from)),
                    ("scopePrefix", scope_prefix.clone().map(Value::from)),
                ])
            }),
        );
        put("requiredClaims", Some(required(&self.required_claims)));
        Value::Object(out)
    }
}

fn or<T>(own: &mut Option<T>, base: Option<T>) {
    if own.is_none() {
        *own = base;
    }
}

fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(members.collect())
}

fn one_or_many<T>(values: &OneOrMany<T>, show: impl Fn(&T) -> Value) -> Value {
    match values {
        OneOrMany::One(one) => show(one),
        OneOrMany::Many(many) => many.iter().map(show).collect(),
    }
}

fn jwks(jwks: &Jwks) -> Value {
    object([
        ("uri", jwks.uri.clone().map(Value::from)),
        ("refresh", jwks.refresh.as_ref().map(duration)),
        ("keepLastGood", jwks.keep_last_good.as_ref().map(duration)),
        ("inline", jwks.inline.as_ref().map(|_| "(not shown)".into())),
        ("file", jwks.file.clone().map(Value::from)),
        ("secretRef", jwks.secret_ref.as_ref().map(|secret| json!({"name": secret.name, "key": secret.key}))),
    ])
}

fn introspection(introspection: &Introspection) -> Value {
    let Introspection { url, client_id, client_secret, token_prefix, cache_for, timeout } = introspection;
    let secret =
        [("file", client_secret.file.clone().map(Value::from)), ("env", client_secret.env.clone().map(Value::from))];
    object([
        ("url", Some(url.clone().into())),
        ("clientId", Some(client_id.clone().into())),
        ("clientSecret", Some(object(secret))),
        ("tokenPrefix", token_prefix.clone().map(Value::from)),
        ("cacheFor", cache_for.as_ref().map(duration)),
        ("timeout", timeout.as_ref().map(duration)),
    ])
}

fn claims(claims: &Claims) -> Value {
    let path = |paths: &OneOrMany<ClaimPath>| one_or_many(paths, |path| path.text().into());
    let attributes: Map<String, Value> =
        claims.attributes.iter().map(|(name, paths)| (name.clone(), path(paths))).collect();
    object([
        ("user", claims.user.as_ref().map(path)),
        ("roles", claims.roles.as_ref().map(path)),
        ("groups", claims.groups.as_ref().map(path)),
        ("tenant", claims.tenant.as_ref().map(path)),
        ("attributes", (!attributes.is_empty()).then_some(Value::Object(attributes))),
    ])
}

fn required(required: &RequiredClaims) -> Value {
    let show = |value: &Scalar| match value {
        Scalar::Boolean(value) => json!(value),
        Scalar::Integer(value) => json!(value),
        Scalar::Number(value) => json!(value),
        Scalar::Text(value) => json!(value),
    };
    let one = |values: Vec<Value>| if let [value] = values.as_slice() { value.clone() } else { Value::Array(values) };
    required
        .0
        .iter()
        .map(|demand| {
            let names = one(demand.names.iter().cloned().map(Value::from).collect());
            match &names {
                Value::String(name) if !demand.values.is_empty() => {
                    object([(name, Some(one(demand.values.iter().map(show).collect())))])
                }
                _ => names,
            }
        })
        .collect()
}

/// In the largest unit that gives a whole number.
fn duration(duration: &Duration) -> Value {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let unit = units.into_iter().find(|(_, factor)| duration.0.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => format!("{}{name}", duration.0 / factor).into(),
        None => format!("{}ms", duration.0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Spec, parse_file};

    fn read(spec: &str) -> IdentityProvider {
        let text =
            format!("apiVersion: doorward.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {{name: i}}\nspec: {spec}\n");
        let parsed = parse_file("p.yaml", &text);
        assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
        match &parsed.documents[0].spec {
            Spec::IdentityProvider(spec) => spec.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_preset_can_be_read_and_what_is_shown_of_it_reads_as_the_same() {
        for preset in Preset::ALL {
            let name = preset.as_str();
            assert!(preset.read().is_some(), "{name}");
            let filled = read(&format!("{{preset: {name}}}"));
            assert_eq!(filled.preset, Some(preset));
            assert!(!filled.algorithms.is_empty() && filled.claims.user.is_some(), "{name}");
            assert!(filled.max_token_age.is_some() && filled.token_types.is_some(), "{name}");
            let mut shown = filled.shown();
            assert_eq!(read(&shown.to_string()), filled, "{shown}");
            // The same without the preset: everything is in what is shown.
            shown.as_object_mut().unwrap().shift_remove("preset");
            let bare = IdentityProvider { preset: None, ..filled };
            assert_eq!(read(&shown.to_string()), bare, "{shown}");
        }
    }

    #[test]
    fn what_the_document_says_counts_and_demands_are_joined_by_name() {
        let own = read(
            "{preset: google, issuer: https://accounts.example, maxTokenAge: 5m, claims: {user: email, attributes: {hd: hd}}, \
             requiredClaims: [{hd: example.com}]}",
        );
        assert_eq!(
            own.shown(),
            json!({
                "preset": "google", "issuer": "https://accounts.example", "algorithms": ["RS256"], "maxTokenAge": "5m",
                "tokenTypes": ["JWT"],
                "claims": {"user": "email", "tenant": "hd", "attributes": {"email": "email", "hd": "hd"}},
                "requiredClaims": [{"email_verified": true}, {"hd": "example.com"}],
            }),
            "keys of Google's issuer are not those of another"
        );
        let own = read("{preset: google, requiredClaims: {email_verified: [true, 'true']}, jwks: {keepLastGood: 2h}}");
        assert_eq!(own.shown()["requiredClaims"], json!([{"email_verified": [true, "true"]}]));
        assert_eq!(
            own.shown()["jwks"],
            json!({"uri": "https://www.googleapis.com/oauth2/v3/certs", "keepLastGood": "2h"})
        );
        let own = read("{preset: auth0, requiredClaims: [client_id]}");
        assert_eq!(own.shown()["requiredClaims"], json!(["client_id"]));
    }

    #[test]
    fn a_demand_of_the_document_weakens_none_of_the_preset_unless_it_says_which_values_are_allowed() {
        let cases = [
            ("google", "[email_verified, hd]", json!([{"email_verified": true}, "email_verified", "hd"])),
            ("cognito", "[token_use]", json!([{"token_use": "access"}, "token_use"])),
            ("entra", "[[azp, sub]]", json!(["oid", "tid", "azp", {"ver": "2.0"}, ["azp", "sub"]])),
            ("keycloak", "[[typ, groups]]", json!(["azp", {"typ": "Bearer"}, ["typ", "groups"]])),
            ("auth0", "[[azp, client_id, sub]]", json!([["azp", "client_id"], ["azp", "client_id", "sub"]])),
            // Stricter ones, and values, take its place.
            ("auth0", "[azp]", json!(["azp"])),
            ("auth0", "{azp: mine}", json!([{"azp": "mine"}])),
            ("keycloak", "{typ: [Bearer, DPoP]}", json!(["azp", {"typ": ["Bearer", "DPoP"]}])),
        ];
        for (preset, own, expected) in cases {
            let filled = read(&format!("{{preset: {preset}, requiredClaims: {own}}}"));
            assert_eq!(filled.shown()["requiredClaims"], expected, "{preset} {own}");
        }
    }

    #[test]
    fn who_demands_no_audience_gets_no_audience_claim_of_the_preset() {
        let own = read("{preset: cognito, audiences: any}");
        assert_eq!(own.shown().get("audienceClaim"), None);
        let own = read("{preset: cognito, audiences: [app]}");
        assert_eq!(own.shown()["audienceClaim"], "client_id");
    }

    #[test]
    fn keys_given_inline_are_not_shown() {
        let own = read("{preset: dreamfactory, jwks: {inline: {keys: [{kty: oct, k: c2VjcmV0}]}}}");
        assert!(!own.shown().to_string().contains("c2VjcmV0"));
    }
}
