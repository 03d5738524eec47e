//! The validating admission webhook: an API server asks before it stores a document, and what the compiler would refuse is
//! refused at once, in the same words as `doorward validate`.
//!
//! No answer waits for the API server, for a key set or for a file: what is needed was seen before.

pub mod certificate;
pub mod judge;

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    routing::post,
};
use doorward_policy_compiler::{compile::namespaces::Boundary, document::Kind};
use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation},
};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};

use self::{
    certificate::Certificates,
    judge::{Question, Verdict, judge},
};
use super::index::{Index, Key, text};
use crate::{
    clock,
    connections::{self, Connection, Door, Limits},
    metrics::Metrics,
};

/// Bytes of a question: etcd takes 1.5 MiB of an object, and an update has the old and the new one.
const MAX_QUESTION: usize = 8 << 20;
/// As old as a document that is not there yet.
const YOUNGEST: &str = "9999-01-01T00:00:00Z";
/// Questions that are answered at one time; others wait.
const AT_A_TIME: usize = 4;
/// Characters of all warnings; the API server cuts off what is longer, each and all together.
const MAX_WARNING: usize = 256;

/// Where the webhook listens, and by what configuration it is asked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address for HTTPS.
    pub listen: SocketAddr,
    /// Name of the `ValidatingWebhookConfiguration`.
    pub configuration: String,
}

/// The webhook.
pub struct Webhook {
    index: Arc<Index>,
    qualified: bool,
    boundary: Boundary,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
}

impl Webhook {
    /// Answers from what is in this index. `qualified`: documents are called by namespace and name.
    pub fn new(index: Arc<Index>, qualified: bool, boundary: Boundary, metrics: Arc<Metrics>) -> Self {
        Self { index, qualified, boundary, metrics, places: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn serve(
        self,
        listen: SocketAddr,
        certificates: Certificates,
        shutdown: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let listener = connections::listen(listen)?;
        let address = listener.local_addr()?;
        tracing::info!(%address, "the webhook listens");
        let (ready, incoming) = mpsc::channel(16);
        let door = Door::new(Limits::http(), Arc::clone(&self.metrics));
        let accepting = door.accept(listener, Some(certificates.tls()), ready);
        let router = Router::new()
            .route("/validate", post(validate))
            .layer(DefaultBodyLimit::max(MAX_QUESTION))
            .with_state(Arc::new(self));
        let mut ending = shutdown.clone();
        let serving = axum::serve(Incoming { incoming, address }, router)
            .with_graceful_shutdown(async move { clock::ended(&mut ending).await });
        tokio::select! {
            () = accepting => Ok(()),
            () = certificates.run(shutdown) => Ok(()),
            served = serving => served,
        }
    }
}

/// Connections whose TLS handshake is done.
struct Incoming {
    incoming: mpsc::Receiver<io::Result<Connection>>,
    address: SocketAddr,
}

impl axum::serve::Listener for Incoming {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.incoming.recv().await {
                Some(Ok(connection)) => return (connection, self.address),
                Some(Err(_)) => {}
                // Nothing is accepted any more: the process ends.
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn validate(
    State(webhook): State<Arc<Webhook>>,
    body: Bytes,
) -> Result<([(&'static str, &'static str); 1], Vec<u8>), (StatusCode, &'static str)> {
    let review: Option<AdmissionReview<DynamicObject>> = serde_json::from_slice(&body).ok();
    let request: Option<AdmissionRequest<DynamicObject>> = review.and_then(|review| review.try_into().ok());
    let Some(request) = request else {
        return Err((StatusCode::BAD_REQUEST, "this is no admission review with a request\n"));
    };
    let started = Instant::now();
    // Held until the thread is done, also where nobody waits for its answer any more. Closed only when the process ends.
    let place = Arc::clone(&webhook.places).acquire_owned().await;
    let (judging, asked) = (Arc::clone(&webhook), request.clone());
    let verdict = tokio::task::spawn_blocking(move || {
        let _place = place;
        judging.answer(&asked)
    })
    .await;
    let verdict =
        verdict.unwrap_or_else(|_| Err("doorward failed to judge this document; please report it".to_owned()));
    let mut answer = AdmissionResponse::from(&request);
    let (answer, outcome) = match verdict {
        Ok(Verdict { errors, warnings }) if errors.is_empty() => {
            let warnings = warnings.into_iter().map(|warning| warning.chars().take(MAX_WARNING).collect());
            answer.warnings = Some(warnings.collect()).filter(|warnings: &Vec<String>| !warnings.is_empty());
            (answer, "accepted")
        }
        Ok(Verdict { errors, .. }) => (answer.deny(errors.join("\n")), "refused"),
        Err(problem) => (answer.deny(problem), "failed"),
    };
    webhook.metrics.reviews.get_or_create(&vec![("outcome", outcome.to_owned())]).inc();
    webhook.metrics.review_seconds.observe(started.elapsed().as_secs_f64());
    let review = serde_json::to_vec(&answer.into_review());
    let review = review.map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written\n"))?;
    Ok(([("content-type", "application/json")], review))
}

impl Webhook {
    /// Why a claim may not be changed, where it is: it is as old as its object, and would be taken from whoever has it.
    fn changes_claim(old: Option<&Value>, new: Option<&Value>) -> Option<String> {
        let claims = ["issuer", "preset", "tenants", "trustDomain"];
        let of = |spec: Option<&Value>, name: &str| spec.and_then(|spec| spec.get(name)).cloned();
        let changed = claims.into_iter().find(|name| of(old, name) != of(new, name))?;
        Some(format!(
            "spec.{changed}: the issuers of a provider stay as they are, because they belong to whoever claimed them first; make a \
             new IdentityProvider for others [claim_changed]"
        ))
    }

    /// What is said to a request; or why it cannot be judged.
    fn answer(&self, request: &AdmissionRequest<DynamicObject>) -> Result<Verdict, String> {
        let Some(kind) = Kind::ALL.iter().copied().find(|kind| kind.as_str() == request.kind.kind) else {
            return Err(format!("{} is no kind of doorward; correct the rules of the webhook", request.kind.kind));
        };
        // Of one whose name the API server makes up, the request does not say it.
        let named = request.object.as_ref().and_then(|object| object.metadata.name.clone());
        let name = Some(request.name.clone()).filter(|name| !name.is_empty()).or(named).unwrap_or_default();
        let key = Key { kind, namespace: request.namespace.clone().unwrap_or_default(), name };
        let name = if self.qualified { format!("{}/{}", key.namespace, key.name) } else { key.name.clone() };
        let spec = |object: &Option<DynamicObject>| object.as_ref().and_then(|object| object.data.get("spec").cloned());
        let new = spec(&request.object);
        match &request.operation {
            Operation::Delete => Ok(judge(&self.index, &self.boundary, &key, &name, &Question::Delete)),
            // Labels and the like: what is written is judged already, and an operator must be able to take a finalizer away.
            Operation::Update if new.is_some() && new == spec(&request.old_object) => Ok(Verdict::default()),
            operation => {
                let old = spec(&request.old_object);
                if self.qualified
                    && kind == Kind::IdentityProvider
                    && *operation == Operation::Update
                    && let Some(refused) = Self::changes_claim(old.as_ref(), new.as_ref())
                {
                    return Ok(Verdict { errors: vec![refused], warnings: Vec::new() });
                }
                let created = request.object.as_ref().and_then(|object| object.metadata.creation_timestamp.as_ref());
                // What is not there yet is younger than all that is.
                let created = created.filter(|_| *operation == Operation::Update).map(|time| time.0.to_string());
                let text = text(kind, &name, created.as_deref().unwrap_or(YOUNGEST), new.as_ref());
                Ok(judge(&self.index, &self.boundary, &key, &name, &Question::Put(&text)))
            }
        }
    }
}
