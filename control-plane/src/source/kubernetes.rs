//! Policy documents that are objects of a Kubernetes API server.
//!
//! Until all that is watched was listed once, there is no reading: a kind that is missing would be taken for deleted. When the
//! API server is away, what was seen last stays.

use std::{sync::Arc, time::Duration};

use doorward_policy_compiler::compile::namespaces::Boundary;

use super::{Part, PolicySource, Reading, SourceError, Version, Watch};
use crate::{
    kubernetes::{
        Index, Watching,
        index::{MAX_OBJECTS, Object},
        watch::Namespaces,
    },
    wake::Waker,
};

/// So long a reader waits for the first lists.
const FIRST_LISTS: Duration = Duration::from_secs(10);

/// The documents of some namespaces.
pub struct Kubernetes {
    watching: Watching,
}

impl Kubernetes {
    /// Begins to watch. `namespaces`: "" is that of the kubeconfig or of the pod, `*` all, else names with commas between.
    /// `own`: the namespace of the control plane, if not that of the kubeconfig or of the pod.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub fn open(namespaces: &str, own: Option<&str>) -> Result<Self, SourceError> {
        Ok(Self { watching: Watching::start(Namespaces::parse(namespaces), own)? })
    }

    /// What it has seen.
    pub fn index(&self) -> Arc<Index> {
        Arc::clone(&self.watching.index)
    }

    /// Whether documents are called by namespace and name.
    pub fn qualified(&self) -> bool {
        self.watching.qualified
    }

    /// The namespaces, with commas between.
    pub fn namespaces(&self) -> &str {
        &self.watching.namespaces
    }

    /// Which namespace all others trust: that of the control plane.
    pub fn boundary(&self) -> Boundary {
        Boundary { trusted: Some(self.watching.own.clone()) }
    }

    fn whole(&self) -> Result<u64, SourceError> {
        self.watching
            .index
            .whole(FIRST_LISTS)
            .map_err(|problem| SourceError::Unlisted { namespace: self.watching.namespaces.clone(), problem })
    }
}

impl PolicySource for Kubernetes {
    fn name(&self) -> String {
        format!("the namespace {} of the Kubernetes API server", self.watching.namespaces)
    }

    fn version(&self) -> Result<Version, SourceError> {
        self.whole().map(Version)
    }

    fn read(&self) -> Result<Reading, SourceError> {
        self.whole()?;
        let objects = self.watching.index.read();
        if objects.len() > MAX_OBJECTS {
            return Err(SourceError::TooMany(MAX_OBJECTS));
        }
        let part = |object: &Arc<Object>| Part {
            origin: object.key.origin(),
            text: Ok(object.text.clone()),
            generation: object.generation,
        };
        Ok(Reading { parts: objects.iter().map(part).collect(), remarks: Vec::new(), boundary: self.boundary() })
    }

    fn wake(&self, waker: Waker) -> Option<Watch> {
        self.watching.index.wake(Some(waker));
        Some(Box::new(Waking(self.index())))
    }
}

/// Wakes nobody any more when it is dropped.
struct Waking(Arc<Index>);

impl Drop for Waking {
    fn drop(&mut self) {
        self.0.wake(None);
    }
}
