//! How each provider of the policy in force is asked. It stays in the control plane.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use doorward_policy_compiler::document::{Document, Spec, identity_provider::Introspection};
use tokio::sync::watch;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the secret of the client is. It is read at each use, so that it can be rotated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Secret {
    /// A file of this machine.
    File(String),
    /// A variable of this process's environment.
    Env(String),
}

/// How one provider is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Document name.
    pub provider: String,
    /// The introspection endpoint.
    pub url: String,
    /// The client that asks.
    pub client_id: String,
    /// Its secret.
    pub secret: Secret,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Settings {
    /// None where the document does not say where the secret is, which does not compile.
    fn new(provider: &str, given: &Introspection) -> Option<Self> {
        let secret = match (&given.client_secret.file, &given.client_secret.env) {
            (Some(file), None) => Secret::File(file.clone()),
            (None, Some(name)) => Secret::Env(name.clone()),
            _ => return None,
        };
        let timeout = given.timeout.as_ref().map_or(DEFAULT_TIMEOUT, |time| Duration::from_millis(time.0));
        Some(Self {
            provider: provider.to_owned(),
            url: given.url.clone(),
            client_id: given.client_id.clone(),
            secret,
            timeout: timeout.min(MAX_TIMEOUT),
        })
    }
}

/// All providers that can be asked, by document name.
pub type Providers = BTreeMap<String, Arc<Settings>>;

/// Those of the policy in force.
pub type ProvidersWatch = watch::Receiver<Arc<Providers>>;

/// What these documents say.
pub fn of(documents: &[Document]) -> Providers {
    let spec = |document: &Document| match &document.spec {
        Spec::IdentityProvider(spec) => Settings::new(&document.name, spec.introspection.as_ref()?),
        _ => None,
    };
    documents.iter().filter_map(spec).map(|found| (found.provider.clone(), Arc::new(found))).collect()
}
