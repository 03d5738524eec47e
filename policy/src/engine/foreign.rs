//! Headers by which other proxies and gateways tell a server who is calling.
//!
//! A data API may believe one of them from whoever reaches it: that is how it was meant to be used, behind the proxy that
//! sets it. Here Doorward is that proxy, so what a client sends under such a name never goes on, in any dialect, unless the
//! service's document keeps the name (`upstream.keepHeaders`).

/// Names that begin with a letter, `*` at the end: all that begin so. By first letter, so that a request's header is
/// compared with a few at most.
fn plain(first: u8) -> &'static [&'static str] {
    match first {
        // Kong and Supabase (key-auth).
        b'a' => &["apikey", "api-key"],
        // Cloudflare Access; CAS; RFC 9440.
        b'c' => &["cf-access-*", "cas-*", "client-cert*"],
        // Dapr.
        b'd' => &["dapr-*", "datasette-*"],
        // Elasticsearch; Shibboleth.
        b'e' => &["es-security-runas-user", "es-secondary-*", "eppn"],
        // Kubernetes; IBM WebSEAL.
        b'i' => &["impersonate-*", "iv-*"],
        // Linkerd.
        b'l' => &["l5d-client-id"],
        // mod_auth_mellon.
        b'm' => &["mellon-*"],
        // mod_auth_openidc; OpenSearch and Open Distro; Oracle Access Manager.
        b'o' => &["oidc-*", "opensearch-security-*", "opendistro-security-*", "oam-*", "osso-*"],
        b'p' => &["proxy-authorization"],
        // Authelia, and CGI's name for a verified user.
        b'r' => &["remote-*"],
        // Istio; SiteMinder; Shibboleth; mod_ssl; OpenSearch Dashboards and Search Guard.
        b's' => &[
            "sec-istio-auth-*",
            "sm-*",
            "smuser",
            "shib-*",
            "ssl-client-*",
            "securitytenant",
            "security-tenant",
            "sgtenant",
        ],
        // Tailscale; Teleport.
        b't' => &["tailscale-*", "teleport-*"],
        _ => &[],
    }
}

/// The same for what follows `x-`.
fn experimental(first: u8) -> &'static [&'static str] {
    match first {
        // nginx and others (auth-request), CouchDB, authentik, OpenStack; AWS; Google; Kong; generic names.
        b'a' => &[
            "auth-*",
            "authenticated-*",
            "authentik-*",
            "authorization*",
            "amzn-oidc-*",
            "amzn-request-context",
            "amzn-lambda-context",
            "amzn-mtls-*",
            "apigateway-api-userinfo",
            "anonymous-consumer",
            "access-token",
            "account*",
            "actor*",
            "act-as*",
            "admin*",
            "agent-id",
            "api-key",
            "arr-clientcert",
            "appwrite-key",
            "appwrite-jwt",
            "appwrite-session",
        ],
        // Kong; ClickHouse; Consul; certificates.
        b'c' => &[
            "consumer-*",
            "credential-*",
            "claim*",
            "client-cert*",
            "client-dn",
            "client-verif*",
            "clickhouse-user",
            "clickhouse-key",
            "clickhouse-ssl-certificate-auth",
            "consul-token",
        ],
        // OpenStack.
        b'd' => &["datasette-*", "domain-*"],
        b'e' => &["endpoint-api-*", "email*"],
        // oauth2-proxy, SonarQube, Traefik, Envoy.
        b'f' => &[
            "forwarded-user*",
            "forwarded-email",
            "forwarded-groups",
            "forwarded-group",
            "forwarded-roles",
            "forwarded-preferred-username",
            "forwarded-access-token",
            "forwarded-id-token",
            "forwarded-authorization",
            "forwarded-login",
            "forwarded-name",
            "forwarded-remote-user",
            "forwarded-client-cert*",
            "forwarded-tls-client-cert*",
            "forwarded-tenant*",
        ],
        // Google.
        b'g' => &["goog-iap-*", "goog-authenticated-user-*", "group*", "grafana-id"],
        // Hasura; and names that some frameworks take for the host.
        b'h' => &["hasura-*", "host", "http-host-override"],
        b'i' => &["id-token", "identity*", "impersonat*"],
        b'j' => &["jwt-*"],
        b'l' => &["login*"],
        // Azure: App Service and Static Web Apps, Data API builder.
        b'm' => &["ms-api-role", "ms-client-principal*", "ms-token-*"],
        b'o' => {
            &["on-behalf-of*", "org-*", "organization*", "original-authorization", "original-host", "original-user*"]
        }
        // Pomerium; OpenSearch; Presto; Parse; NiFi; OpenStack.
        b'p' => &[
            "pomerium-*",
            "proxy-user",
            "proxy-roles",
            "proxy-remote-user",
            "proxy-ext-*",
            "principal*",
            "permission*",
            "presto-user",
            "presto-role*",
            "presto-extra-credential*",
            "parse-master-key",
            "parse-maintenance-key",
            "parse-session-token",
            "proxiedentit*",
            "project-*",
        ],
        // Red Hat.
        b'r' => &["remote-*", "role*", "refresh-token", "rh-*"],
        // Cortex, Loki and Mimir; Cloud Run; Nexus; certificates; OpenStack.
        b's' => &[
            "scope*",
            "serverless-authorization",
            "sso-*",
            "ssl-*",
            "subject*",
            "session-token",
            "service-token",
            "service-role*",
        ],
        // Trino; Tyk; caddy-security.
        b't' => &[
            "tenant*",
            "token-*",
            "tyk-*",
            "tls-client-*",
            "trino-user*",
            "trino-role*",
            "trino-original-user",
            "trino-extra-credential*",
        ],
        b'u' => &["user*"],
        // Vouch; Vault.
        b'v' => &["vouch-*", "vault-token", "verified-*"],
        // Grafana and Gitea.
        b'w' => &["webauth-*"],
        _ => &[],
    }
}

/// True if a server may take this (lower-case) header for the identity of the caller, or for a credential of another
/// proxy; also where underscores stand for its dashes.
#[must_use]
pub fn is_foreign_identity(name: &str) -> bool {
    let bytes = name.as_bytes();
    match bytes {
        [b'x', b'-' | b'_', rest @ ..] => rest.first().is_some_and(|first| any(experimental(*first), rest)),
        [first, ..] => any(plain(*first), bytes),
        [] => false,
    }
}

fn any(patterns: &[&str], name: &[u8]) -> bool {
    patterns.iter().any(|pattern| {
        let (pattern, open) = pattern.strip_suffix('*').map_or((*pattern, false), |start| (start, true));
        let same = |(have, want): (&u8, u8)| *have == want || (*have == b'_' && want == b'-');
        (name.len() == pattern.len() || (open && name.len() > pattern.len()))
            && name.iter().zip(pattern.bytes()).all(same)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_proxies_say_of_the_caller_is_known_also_with_underscores() {
        for name in [
            "x-ms-api-role",
            "x-ms-client-principal",
            "x-ms-client-principal-id",
            "x-ms-client-principal-name",
            "x-ms-token-aad-access-token",
            "x-hasura-admin-secret",
            "x-hasura-role",
            "x-hasura-user-id",
            "x-forwarded-user",
            "x-forwarded-email",
            "x-forwarded-groups",
            "x-forwarded-preferred-username",
            "x-forwarded-access-token",
            "x-forwarded-client-cert",
            "x-auth-request-user",
            "x-auth-request-email",
            "x-auth-request-access-token",
            "x-auth-couchdb-roles",
            "x-auth-username",
            "remote-user",
            "remote-groups",
            "x-remote-user",
            "x-remote-group",
            "x-remote-groups",
            "x-remote-extra-scopes",
            "x-authenticated-user",
            "x-authenticated-userid",
            "x-authenticated-scope",
            "x-jwt-payload",
            "x-jwt-assertion",
            "x-user",
            "x-user-id",
            "x-username",
            "x-userinfo",
            "x-webauth-user",
            "x-webauth-role",
            "x-goog-iap-jwt-assertion",
            "x-goog-authenticated-user-email",
            "x-amzn-oidc-identity",
            "x-amzn-oidc-data",
            "cf-access-jwt-assertion",
            "cf-access-authenticated-user-email",
            "x-consumer-id",
            "x-consumer-custom-id",
            "x-consumer-groups",
            "x-credential-identifier",
            "x-anonymous-consumer",
            "x-endpoint-api-userinfo",
            "x-apigateway-api-userinfo",
            "tailscale-user-login",
            "tailscale-user-name",
            "impersonate-user",
            "impersonate-group",
            "impersonate-extra-scopes",
            "x-scope-orgid",
            "x-trino-user",
            "es-security-runas-user",
            "x-proxy-user",
            "opendistro-security-impersonate-as",
            "x-clickhouse-key",
            "x-pomerium-claim-email",
            "sec-istio-auth-userinfo",
            "sm-user",
            "iv-groups",
            "oidc-claim-sub",
            "shib-session-id",
            "x-ssl-client-verify",
            "client-cert",
            "proxy-authorization",
            "x-datasette-user",
            "x-tenant",
            "x-tenant-id",
            "x-role",
            "x-groups",
            "apikey",
            "x-rh-identity",
            "x-proxiedentitieschain",
            "x-project-id",
            "x-domain-name",
            "x-service-token",
            "x-service-roles",
            "x-parse-session-token",
            "x-appwrite-jwt",
        ] {
            assert!(is_foreign_identity(name), "{name}");
            assert!(is_foreign_identity(&name.replace('-', "_")), "{name} with underscores");
            // The last dash alone: what PHP and WSGI give to the application is the same.
            if let Some((start, end)) = name.rsplit_once('-') {
                assert!(is_foreign_identity(&format!("{start}_{end}")), "{name}");
            }
        }
    }

    #[test]
    fn what_clients_send_for_other_reasons_is_left_alone() {
        for name in [
            "",
            "x",
            "x-",
            "accept",
            "accept-encoding",
            "accept-language",
            "authorization",
            "cache-control",
            "connection",
            "content-length",
            "content-type",
            "cookie",
            "host",
            "if-match",
            "origin",
            "prefer",
            "range",
            "referer",
            "sec-fetch-mode",
            "te",
            "traceparent",
            "tracestate",
            "user-agent",
            "via",
            "x-b3-traceid",
            "x-correlation-id",
            "x-csrf-token",
            "x-envoy-expected-rq-timeout-ms",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-http-method-override",
            "x-ms-client-request-id",
            "x-real-ip",
            "x-parse-application-id",
            "x-request-id",
            "x-requested-with",
            "x-rate-limit",
            "x-service-name",
            "x-xsrf-token",
        ] {
            assert!(!is_foreign_identity(name), "{name}");
        }
    }
}
