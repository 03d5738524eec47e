//! The watches: one for each kind of document.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, mpsc},
};

use doorward_policy_compiler::document::{
    API_VERSION, Kind,
    crd::{GROUP, VERSION, names},
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    core::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinSet};
use tokio_stream::StreamExt as _;

use super::{super::SourceError, seen::Shared};

/// Watches until it is stopped. `ready` gets the namespace, or why nothing can be watched.
pub(super) fn run(
    namespace: String,
    shared: &Arc<Shared>,
    ready: &mpsc::Sender<Result<String, SourceError>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(SourceError::NoCluster(error.into())));
            return;
        }
    };
    runtime.block_on(async {
        let (client, namespace) = match client(namespace).await {
            Ok(found) => found,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let mut watches = JoinSet::new();
        for kind in Kind::ALL {
            let names = names(*kind);
            let resource = ApiResource {
                group: GROUP.to_owned(),
                version: VERSION.to_owned(),
                api_version: API_VERSION.to_owned(),
                kind: kind.as_str().to_owned(),
                plural: names.plural.to_owned(),
            };
            let api = Api::namespaced_with(client.clone(), &namespace, &resource);
            watches.spawn(watch(*kind, api, Arc::clone(shared)));
        }
        // Whoever opened it may be gone again.
        let _ = ready.send(Ok(namespace));
        tokio::select! {
            // Dropped: nobody reads any more.
            _ = stopped => {}
            // A watch ends only by a defect. Without it nothing would be noticed of its kind: then no reading counts.
            _ = watches.join_next() => {
                tracing::error!("a watch of the Kubernetes API server ended; please report it");
                shared.change(|seen| {
                    seen.listed.clear();
                    seen.problem = Some("a watch ended by a defect of doorward; restart it, and please report it".to_owned());
                });
            }
        }
    });
}

async fn client(namespace: String) -> Result<(Client, String), SourceError> {
    let config = Config::infer().await.map_err(|error| SourceError::NoCluster(error.into()))?;
    let namespace = if namespace.is_empty() { config.default_namespace.clone() } else { namespace };
    let client = Client::try_from(config).map_err(|error| SourceError::NoCluster(error.into()))?;
    Ok((client, namespace))
}

/// Follows one kind. Errors are waited out: what was seen stays.
async fn watch(kind: Kind, api: Api<DynamicObject>, shared: Arc<Shared>) {
    let kind_name = kind.as_str();
    let mut events = pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
    // A list under way. Until it is whole, what was there before counts.
    let mut listing: BTreeMap<String, String> = BTreeMap::new();
    let mut said = None;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                let problem = problem(kind, &error);
                if said.replace(problem.clone()).as_ref() != Some(&problem) {
                    tracing::warn!(
                        kind = kind_name,
                        problem,
                        "the Kubernetes API server cannot be watched; what was seen last stays"
                    );
                }
                shared.lock().problem = Some(problem);
                continue;
            }
        };
        match event {
            Event::Init => listing.clear(),
            Event::InitApply(object) => {
                listing.insert(object.name_any(), text(kind, &object));
            }
            Event::InitDone => {
                said = None;
                let listed = std::mem::take(&mut listing);
                shared.change(|seen| {
                    seen.objects.retain(|(of, _), _| *of != kind_name);
                    seen.objects.extend(listed.into_iter().map(|(name, text)| ((kind_name, name), text)));
                    seen.listed.insert(kind_name);
                });
            }
            Event::Apply(object) => {
                let text = text(kind, &object);
                shared.change(|seen| {
                    seen.objects.insert((kind_name, object.name_any()), text);
                });
            }
            Event::Delete(object) => shared.change(|seen| {
                seen.objects.remove(&(kind_name, object.name_any()));
            }),
        }
    }
}

/// What is wrong, and what to do where that is known.
fn problem(kind: Kind, error: &watcher::Error) -> String {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    };
    match status.map(|status| status.code) {
        Some(404) => format!("it does not know the kind {kind}; apply deploy/crds"),
        Some(401) => "it does not take our credentials".to_owned(),
        Some(403) => {
            format!("we may not list and watch {}.{GROUP}; apply deploy/kubernetes/role.yaml", names(kind).plural)
        }
        _ => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(deeper) = source {
                text = format!("{text}: {deeper}");
                source = deeper.source();
            }
            text
        }
    }
}

/// The document as a person would have written it: without what the API server keeps beside it.
fn text(kind: Kind, object: &DynamicObject) -> String {
    let mut document = json!({
        "apiVersion": API_VERSION, "kind": kind.as_str(), "metadata": {"name": object.name_any()},
    });
    if let (Some(members), Some(spec)) = (document.as_object_mut(), object.data.get("spec")) {
        members.insert("spec".to_owned(), spec.clone());
    }
    pretty(&document)
}

/// JSON is YAML; with a line for each member, a finding has its line.
fn pretty(document: &Value) -> String {
    format!("{document:#}\n")
}
