//! Secrets that documents name: each is read by its name alone, so that the control plane needs no right to see others.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::client::told;
use crate::jwks::Secrets;

/// The secrets of an API server.
pub struct OfCluster {
    client: Client,
    /// Of documents without a namespace.
    namespace: String,
}

impl OfCluster {
    /// `namespace`: that of documents that are called by their names alone.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }
}

#[tonic::async_trait]
impl Secrets for OfCluster {
    async fn read(&self, namespace: &str, name: &str, key: &str) -> Result<String, String> {
        let namespace = if namespace.is_empty() { &self.namespace } else { namespace };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = api.get(name).await.map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 404 => format!("there is no Secret {namespace}/{name}"),
            kube::Error::Api(status) if status.code == 403 => {
                format!(
                    "we may not read the Secret {namespace}/{name}; give the control plane's service account `get` on it, by a \
                     Role there with resourceNames: [{name}]"
                )
            }
            error => told(error),
        })?;
        let data = secret.data.unwrap_or_default();
        let Some(value) = data.get(key) else {
            return Err(format!("the Secret {namespace}/{name} has no key {key}"));
        };
        String::from_utf8(value.0.clone())
            .map_err(|_| format!("the key {key} of the Secret {namespace}/{name} is not UTF-8"))
    }
}
