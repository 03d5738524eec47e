//! The watches: one for each kind of document in each namespace, or in all.
//!
//! A watch lists, and follows what changes from there. When the server no longer has what it would need to go on, it lists
//! again. Errors are waited out: what was seen stays.

use std::{
    pin::pin,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use doorward_policy_compiler::document::{
    API_VERSION, Kind,
    crd::{GROUP, VERSION, names},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, WatchEvent, WatchParams},
    core::ApiResource,
};
use serde_json::{Value, value::RawValue};
use tokio::{sync::oneshot, task::JoinSet};
use tokio_stream::StreamExt as _;

use super::{
    client,
    index::{Field, Index, Key, Object, parse, text},
    item::Item,
};
use crate::source::SourceError;

/// Objects of one answer to a list.
const PAGE: u32 = 500;
/// The server ends a watch after this time, and we begin the next one.
const WATCH_SECONDS: u32 = 290;
/// Between attempts, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Which namespaces are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// That of the kubeconfig or of the pod.
    Own,
    /// These.
    Some(Vec<String>),
    /// All.
    All,
}

impl Namespaces {
    /// As an argument names them: "" is the own one, `*` all, else names with commas between.
    pub fn parse(text: &str) -> Self {
        match text {
            "" => Self::Own,
            "*" => Self::All,
            names => Self::Some(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()),
        }
    }
}

/// Watches that go on until this is dropped.
pub struct Watching {
    /// What they see.
    pub index: Arc<Index>,
    /// The namespaces, as people name them.
    pub namespaces: String,
    /// Documents are called by namespace and name: there can be several of one name.
    pub qualified: bool,
    /// The namespace of the control plane: as it was given, or that of the kubeconfig or of the pod.
    pub own: String,
    _stop: oneshot::Sender<()>,
}

impl Watching {
    /// Begins to watch.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub fn start(namespaces: Namespaces, own: Option<&str>) -> Result<Self, SourceError> {
        let own = own.map(str::to_owned);
        let (stop, stopped) = oneshot::channel();
        let (ready, opened) = mpsc::channel();
        thread::Builder::new()
            .name("kubernetes".to_owned())
            .spawn(move || run(namespaces, own, &ready, stopped))
            .map_err(|error| SourceError::NoCluster(error.into()))?;
        let Opening { index, namespaces, qualified, own } =
            opened.recv().map_err(|ended| SourceError::NoCluster(ended.into()))??;
        Ok(Self { index, namespaces, qualified, own, _stop: stop })
    }
}

/// What is watched.
struct Opening {
    index: Arc<Index>,
    namespaces: String,
    qualified: bool,
    own: String,
}

/// The same, or why nothing can be.
type Opened = Result<Opening, SourceError>;

fn run(namespaces: Namespaces, own: Option<String>, ready: &mpsc::Sender<Opened>, stopped: oneshot::Receiver<()>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(SourceError::NoCluster(error.into())));
            return;
        }
    };
    runtime.block_on(async {
        let (client, own) = match client::connect().await {
            Ok((client, default)) => (client, own.unwrap_or(default)),
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let qualified =
            namespaces != Namespaces::Own && !matches!(&namespaces, Namespaces::Some(names) if names.len() == 1);
        let names = match namespaces {
            Namespaces::Own => vec![own.clone()],
            Namespaces::Some(names) => names,
            Namespaces::All => vec![String::new()],
        };
        let told = names.iter().map(|name| if name.is_empty() { "all" } else { name }).collect::<Vec<_>>().join(", ");
        let index = Arc::new(Index::new(names.len() * Kind::ALL.len()));
        let mut watches = JoinSet::new();
        for kind in Kind::ALL {
            for namespace in &names {
                let api = api(client.clone(), *kind, namespace);
                let field = Field { kind: *kind, namespace: namespace.clone() };
                watches.spawn(watch(field, api, Arc::clone(&index), qualified));
            }
        }
        // Whoever opened it may be gone again.
        let _ = ready.send(Ok(Opening { index: Arc::clone(&index), namespaces: told, qualified, own }));
        tokio::select! {
            // Dropped: nobody reads any more.
            _ = stopped => {}
            _ = watches.join_next() => {
                tracing::error!("a watch of the Kubernetes API server ended; please report it");
                index.broken();
            }
        }
    });
}

/// A kind, as the API names it.
pub fn resource(kind: Kind) -> ApiResource {
    ApiResource {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        api_version: API_VERSION.to_owned(),
        kind: kind.as_str().to_owned(),
        plural: names(kind).plural.to_owned(),
    }
}

/// What the API server has of a kind, in this namespace or ("") in all.
pub fn api(client: Client, kind: Kind, namespace: &str) -> Api<Item> {
    match namespace {
        "" => Api::all_with(client, &resource(kind)),
        namespace => Api::namespaced_with(client, namespace, &resource(kind)),
    }
}

async fn watch(field: Field, api: Api<Item>, index: Arc<Index>, qualified: bool) {
    let mut said = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let began = tokio::time::Instant::now();
        let Err(problem) = follow(&field, &api, &index, qualified).await else { continue };
        if said.replace(problem.clone()).as_ref() != Some(&problem) {
            tracing::warn!(
                kind = field.kind.as_str(),
                namespace = field.namespace,
                problem,
                "the Kubernetes API server cannot be watched; what was seen last stays"
            );
        }
        index.refused(problem);
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        // So that the watches of all replicas do not come back at one moment.
        tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Lists, and follows until the server does not go on from there.
async fn follow(field: &Field, api: &Api<Item>, index: &Index, qualified: bool) -> Result<(), String> {
    let kind = field.kind;
    let object = |object: Item| object_of(kind, object, qualified);
    let (mut objects, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
    let mut version = loop {
        let page = api.list(&params).await.map_err(|error| problem(kind, &error))?;
        objects.extend(page.items.into_iter().map(object));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = ListParams::default().limit(PAGE).continue_token(&token),
            None => break page.metadata.resource_version.unwrap_or_default(),
        }
    };
    index.listed(field, objects, number(&version));
    let params = WatchParams::default().timeout(WATCH_SECONDS);
    loop {
        let stream = api.watch(&params, &version).await.map_err(|error| problem(kind, &error))?;
        let mut stream = pin!(stream);
        index.heard(field, 0);
        while let Some(event) = stream.next().await {
            match event.map_err(|error| problem(kind, &error))? {
                WatchEvent::Added(new) | WatchEvent::Modified(new) => {
                    version = new.resource_version().unwrap_or_default();
                    index.applied(field, object(new));
                }
                WatchEvent::Deleted(old) => {
                    version = old.resource_version().unwrap_or_default();
                    let key = key(kind, &old);
                    index.deleted(field, &key, number(&version));
                }
                WatchEvent::Bookmark(bookmark) => {
                    version = bookmark.metadata.resource_version;
                    index.heard(field, number(&version));
                }
                // It has forgotten where we are: list again.
                WatchEvent::Error(status) if status.code == 410 => return Ok(()),
                WatchEvent::Error(status) => return Err(problem(kind, &kube::Error::Api(status))),
            }
        }
    }
}

fn number(version: &str) -> u64 {
    version.parse().unwrap_or(0)
}

fn key(kind: Kind, object: &Item) -> Key {
    Key { kind, namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

fn object_of(kind: Kind, object: Item, qualified: bool) -> Object {
    let key = key(kind, &object);
    let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
    let name = if qualified { format!("{}/{}", key.namespace, key.name) } else { key.name.clone() };
    // What nests too deep is no document; its status says so.
    let value = |raw: Option<&RawValue>| raw.map(|raw| serde_json::from_str::<Value>(raw.get()));
    let spec = match value(object.spec.as_deref()) {
        None => None,
        Some(Ok(spec)) => Some(spec),
        Some(Err(_)) => Some(Value::from("it nests too deep, or is no JSON that can be read")),
    };
    let text = text(kind, &name, &created, spec.as_ref());
    Object {
        document: parse(&key.origin(), &text),
        text,
        uid: object.metadata.uid.clone().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or(0),
        created,
        status: value(object.status.as_deref()).and_then(Result::ok).unwrap_or_default(),
        version: number(&object.resource_version().unwrap_or_default()),
        key,
    }
}

/// What is wrong, and what to do where that is known.
fn problem(kind: Kind, error: &kube::Error) -> String {
    let code = match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    };
    match code {
        Some(404) => format!("it does not know the kind {kind}; apply deploy/crds"),
        Some(401) => "it does not take our credentials".to_owned(),
        Some(403) => {
            format!(
                "we may not list and watch {}.{GROUP}; apply deploy/kubernetes/control-plane-rbac.yaml, or role.yaml there in one namespace",
                names(kind).plural
            )
        }
        _ => client::told(error),
    }
}
