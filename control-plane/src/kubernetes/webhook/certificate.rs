//! The certificate of the webhook: made and renewed by the control plane itself.
//!
//! It stands in a Secret, so that all replicas show the same one. Its authority signs nothing else, and its key is forgotten at
//! once. The API server learns of a new authority before a certificate of it is shown, and knows the one before it until that ends.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{ValidatingWebhookConfiguration, WebhookClientConfig},
        core::v1::Secret,
    },
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;

use super::super::{client::told, place::Place};
use crate::{
    certificate::{self, Name, Names},
    clock::{self, now_seconds},
};

/// The Secret with the certificate, in the namespace of the control plane.
const SECRET: &str = "doorward-webhook";
const LIFETIME_DAYS: i64 = 365;
/// It is renewed when this much is left.
const RENEW_AT: Duration = Duration::from_secs(120 * 86_400);
const LOOK: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(5);
/// Authorities that the API server knows: the newest, and those before it.
const AUTHORITIES: usize = 3;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The API server does not answer, or does not permit it.
    #[error("{}", told(.0))]
    Api(#[from] kube::Error),
    /// It cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// What the Secret holds is none.
    #[error("the Secret {SECRET} holds no certificate that can be used; delete it, and a new one is made")]
    Unusable,
    /// Nobody would ask.
    #[error(
        "the ValidatingWebhookConfiguration {0} names neither a service nor a URL; apply deploy/kubernetes/webhook.yaml"
    )]
    Nameless(String),
}

/// Shows the newest certificate.
#[derive(Debug, Default)]
struct Shown(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The certificate, and who renews it.
pub struct Certificates {
    secrets: Api<Secret>,
    configurations: Api<ValidatingWebhookConfiguration>,
    configuration: String,
    shown: Arc<Shown>,
}

impl Certificates {
    /// For the webhook in this configuration.
    pub fn new(client: Client, place: &Place, configuration: &str) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &place.namespace),
            configurations: Api::all(client),
            configuration: configuration.to_owned(),
            shown: Arc::default(),
        }
    }

    /// TLS with whatever certificate is the newest.
    pub fn tls(&self) -> Arc<ServerConfig> {
        let shown = Arc::clone(&self.shown);
        Arc::new(ServerConfig::builder().with_no_client_auth().with_cert_resolver(shown))
    }

    /// Renews it until the process ends.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut said = String::new();
        loop {
            let wait = match self.look().await {
                Ok(()) => {
                    if !std::mem::take(&mut said).is_empty() {
                        tracing::info!("the webhook has its certificate");
                    }
                    LOOK
                }
                Err(problem) => {
                    let problem = problem.to_string();
                    if said != problem {
                        tracing::warn!(problem, "the certificate of the webhook cannot be looked after");
                        said = problem;
                    }
                    AGAIN
                }
            };
            tokio::select! {
                () = clock::ended(&mut shutdown) => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Makes a certificate if there is none that will do, tells the API server whom to trust, and shows it.
    async fn look(&self) -> Result<(), Problem> {
        let mut configuration = self.configurations.get(&self.configuration).await?;
        let webhooks = configuration.webhooks.iter().flatten();
        let names: BTreeSet<String> = webhooks.filter_map(|webhook| name(&webhook.client_config)).collect();
        if names.is_empty() {
            return Err(Problem::Nameless(self.configuration.clone()));
        }
        let there = self.secrets.get_opt(SECRET).await?;
        let held = there.as_ref().and_then(Held::of);
        let held = match held.filter(|held| held.will_do(&names)) {
            Some(held) => held,
            None => self.make(there, &names).await?,
        };
        let mut differs = false;
        for webhook in configuration.webhooks.iter_mut().flatten() {
            let bundle = ByteString(held.authorities.clone());
            if webhook.client_config.ca_bundle.as_ref() != Some(&bundle) {
                webhook.client_config.ca_bundle = Some(bundle);
                differs = true;
            }
        }
        if differs {
            self.configurations.replace(&self.configuration, &PostParams::default(), &configuration).await?;
        }
        let key = held.key().ok_or(Problem::Unusable)?;
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
        Ok(())
    }

    /// A new one in the Secret. If another replica was quicker, the next look finds its.
    async fn make(&self, there: Option<Secret>, names: &BTreeSet<String>) -> Result<Held, Problem> {
        let before = there.as_ref().and_then(Held::of).map(|held| held.authorities).unwrap_or_default();
        let held = Held::make(names, &before)?;
        let version = there.and_then(|secret| secret.metadata.resource_version);
        let new = version.is_none();
        let metadata = ObjectMeta { name: Some(SECRET.to_owned()), resource_version: version, ..ObjectMeta::default() };
        let text = |text: &[u8]| ByteString(text.to_vec());
        let secret = Secret {
            metadata,
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(
                [
                    ("tls.crt".to_owned(), text(&held.certificate)),
                    ("tls.key".to_owned(), text(&held.private)),
                    ("ca.crt".to_owned(), text(&held.authorities)),
                ]
                .into(),
            ),
            ..Secret::default()
        };
        if new {
            self.secrets.create(&PostParams::default(), &secret).await?;
        } else {
            self.secrets.replace(SECRET, &PostParams::default(), &secret).await?;
        }
        tracing::info!(days = LIFETIME_DAYS, "a certificate was made for the webhook");
        Ok(held)
    }
}

/// By what name the API server reaches the webhook.
fn name(config: &WebhookClientConfig) -> Option<String> {
    if let Some(service) = &config.service {
        return Some(format!("{}.{}.svc", service.name, service.namespace));
    }
    let url = reqwest::Url::parse(config.url.as_deref()?).ok()?;
    Some(url.host_str()?.trim_matches(['[', ']']).to_owned())
}

/// What the Secret holds, as PEM.
struct Held {
    certificate: Vec<u8>,
    private: Vec<u8>,
    authorities: Vec<u8>,
}

impl Held {
    fn of(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |name: &str| data.get(name).map(|text| text.0.clone());
        Some(Self { certificate: text("tls.crt")?, private: text("tls.key")?, authorities: text("ca.crt")? })
    }

    fn chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<_, _>>().ok()?;
        (!chain.is_empty()).then_some(chain)
    }

    fn key(&self) -> Option<CertifiedKey> {
        let private = PrivateKeyDer::from_pem_slice(&self.private).ok()?;
        let private = rustls::crypto::ring::sign::any_supported_type(&private).ok()?;
        Some(CertifiedKey::new(self.chain()?, private))
    }

    /// Whether it is for these names, and for long enough.
    fn will_do(&self, names: &BTreeSet<String>) -> bool {
        let Some(leaf) = self.chain().and_then(|chain| chain.into_iter().next()) else { return false };
        let left = certificate::not_after(&leaf).unwrap_or(0).saturating_sub(now_seconds());
        // Addresses are no names; a certificate for one has a host name that stands for it.
        let has = |name: &String| {
            let name = label(name);
            Names::of(&leaf).is_ok_and(|names| names.all().contains(&Name::Dns(name)))
        };
        left > i64::try_from(RENEW_AT.as_secs()).unwrap_or(i64::MAX) && names.iter().all(has) && self.key().is_some()
    }

    fn make(names: &BTreeSet<String>, before: &[u8]) -> Result<Self, rcgen::Error> {
        let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        let day = |days: i64| {
            let date = now.saturating_add(jiff::Span::new().days(days));
            rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
        };
        let (from, until) = (day(-1), day(LIFETIME_DAYS));
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority.distinguished_name.push(DnType::CommonName, "doorward webhook");
        (authority.not_before, authority.not_after) = (from, until);
        let authority_key = KeyPair::generate()?;
        let authority_certificate = authority.self_signed(&authority_key)?;
        let mut all: Vec<String> = names.iter().cloned().collect();
        // See `will_do`.
        all.extend(names.iter().map(|name| label(name)).filter(|label| !names.contains(label)));
        let mut leaf = CertificateParams::new(all)?;
        leaf.distinguished_name.push(DnType::CommonName, "doorward webhook");
        (leaf.not_before, leaf.not_after) = (from, until);
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?;
        let mut authorities = vec![authority_certificate.pem()];
        let still = CertificateDer::pem_slice_iter(before).filter_map(Result::ok);
        let still = still.filter(|old| certificate::not_after(old).is_some_and(|end| end > now_seconds()));
        authorities.extend(still.take(AUTHORITIES - 1).map(|old| pem(&old)));
        Ok(Self {
            certificate: certificate.pem().into_bytes(),
            private: key.serialize_pem().into_bytes(),
            authorities: authorities.concat().into_bytes(),
        })
    }
}

/// A host name for a name that may be an address.
fn label(name: &str) -> String {
    if name.parse::<std::net::IpAddr>().is_ok() {
        format!("ip-{}.doorward.internal", name.replace([':', '.'], "-"))
    } else {
        name.to_ascii_lowercase()
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(certificate);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_all_names_and_the_authority_before_it_stays_known() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let names: BTreeSet<String> = ["doorward-webhook.doorward.svc".to_owned(), "127.0.0.1".to_owned()].into();
        let first = Held::make(&names, b"").unwrap();
        assert!(first.will_do(&names));
        assert!(!first.will_do(&["other.svc".to_owned()].into()));
        let count = |held: &Held| CertificateDer::pem_slice_iter(&held.authorities).count();
        let mut held = first;
        for known in [2, 3, 3] {
            let next = Held::make(&names, &held.authorities).unwrap();
            assert_eq!(count(&next), known);
            // Both certificates are of an authority that the newer bundle has.
            for one in [&held, &next] {
                let leaf = one.chain().unwrap().remove(0);
                let leaf = webpki::EndEntityCert::try_from(&leaf).unwrap();
                let authorities: Vec<_> =
                    CertificateDer::pem_slice_iter(&next.authorities).map(|authority| authority.unwrap()).collect();
                let anchors: Vec<_> =
                    authorities.iter().map(|authority| webpki::anchor_from_trusted_cert(authority).unwrap()).collect();
                let now = rustls::pki_types::UnixTime::now();
                let usage = webpki::KeyUsage::server_auth();
                leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &[], now, usage, None, None).unwrap();
            }
            held = next;
        }
    }
}
