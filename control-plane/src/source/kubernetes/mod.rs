//! Policy documents that are objects of a Kubernetes API server, in one namespace.
//!
//! Each kind is watched for itself. Until all of them were listed once, there is no reading: a kind that is missing would be taken
//! for deleted. When the API server is away, what was seen last stays.
//!
//! Nothing of other namespaces is read, so nobody else's objects have a say here.

mod seen;
mod watch;

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use self::seen::{Seen, Shared};
use super::{Part, PolicySource, Reading, SourceError, Version, Watch};
use crate::wake::Waker;

/// Objects of one namespace, as files of one directory.
const MAX_OBJECTS: usize = 50_000;
/// So long a reader waits for the first lists.
const FIRST_LISTS: Duration = Duration::from_secs(10);

/// One namespace of an API server.
pub struct Kubernetes {
    namespace: String,
    shared: Arc<Shared>,
    /// The watches end when this is dropped.
    _stop: oneshot::Sender<()>,
}

impl Kubernetes {
    /// Begins to watch this namespace; "": that of the kubeconfig or of the pod. Which API server, the environment says, as to
    /// `kubectl`: `KUBECONFIG`, `~/.kube/config`, or the pod's service account.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub fn open(namespace: &str) -> Result<Self, SourceError> {
        // Fails only if a provider is installed already, which is then used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (stop, stopped) = oneshot::channel();
        let (ready, opened) = std::sync::mpsc::channel();
        let shared = Arc::<Shared>::default();
        let (namespace, watching) = (namespace.to_owned(), Arc::clone(&shared));
        let run = move || watch::run(namespace, &watching, &ready, stopped);
        thread::Builder::new()
            .name("kubernetes".to_owned())
            .spawn(run)
            .map_err(|error| SourceError::NoCluster(error.into()))?;
        let namespace = opened.recv().map_err(|ended| SourceError::NoCluster(ended.into()))??;
        Ok(Self { namespace, shared, _stop: stop })
    }

    /// What was seen, once all kinds were listed.
    fn whole(&self) -> Result<MutexGuard<'_, Seen>, SourceError> {
        let seen = self.shared.lock();
        let waited = self.shared.listed.wait_timeout_while(seen, FIRST_LISTS, |seen| !seen.is_whole());
        let (seen, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if seen.is_whole() {
            return Ok(seen);
        }
        let problem = seen.problem.clone().unwrap_or_else(|| "it has not answered yet".to_owned());
        Err(SourceError::Unlisted { namespace: self.namespace.clone(), problem })
    }
}

impl PolicySource for Kubernetes {
    fn name(&self) -> String {
        format!("the namespace {} of the Kubernetes API server", self.namespace)
    }

    fn version(&self) -> Result<Version, SourceError> {
        Ok(Version(self.whole()?.changes))
    }

    fn read(&self) -> Result<Reading, SourceError> {
        let seen = self.whole()?;
        if seen.objects.len() > MAX_OBJECTS {
            return Err(SourceError::TooMany(MAX_OBJECTS));
        }
        let part = |((kind, name), text): (&(&str, String), &String)| Part {
            origin: format!("{kind}/{}/{name}", self.namespace),
            text: Ok(text.clone()),
        };
        Ok(Reading { parts: seen.objects.iter().map(part).collect(), remarks: Vec::new() })
    }

    fn wake(&self, waker: Waker) -> Option<Watch> {
        self.shared.lock().waker = Some(waker);
        Some(Box::new(Waking(Arc::clone(&self.shared))))
    }
}

/// Wakes nobody any more when it is dropped.
struct Waking(Arc<Shared>);

impl Drop for Waking {
    fn drop(&mut self) {
        self.0.lock().waker = None;
    }
}
