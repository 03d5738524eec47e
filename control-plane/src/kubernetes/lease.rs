//! Who of several replicas writes status: the one that holds a Lease.
//!
//! As in client-go's leader election, nobody compares clocks: a lease is free when it has not changed for its duration, by the
//! clock of who looks at it. All else is the API server's: a write on what has changed since is refused.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

/// So long a lease holds that is not renewed.
pub const DURATION: Duration = Duration::from_secs(10);
/// How often it is renewed, and how often others look whether it is.
pub const RENEW: Duration = Duration::from_secs(2);

/// A candidate for a lease.
pub struct Election {
    api: Api<Lease>,
    name: String,
    me: String,
    /// What the lease said when it last changed, and when that was seen.
    seen: Option<(Option<String>, Option<MicroTime>, Instant)>,
    /// When it was last written by us.
    held: Option<Instant>,
}

impl Election {
    /// For the lease of this name; `me` is told from all other replicas by it.
    pub fn new(api: Api<Lease>, name: &str, me: &str) -> Self {
        Self { api, name: name.to_owned(), me: me.to_owned(), seen: None, held: None }
    }

    /// Whether the lease is ours. One that cannot be renewed any more is given up before another one takes it.
    pub fn leads(&self) -> bool {
        self.held.is_some_and(|held| held.elapsed() < DURATION.mul_f64(0.8))
    }

    /// Renews the lease, or takes it if it is free.
    ///
    /// # Errors
    /// The API server does not answer, or does not permit it.
    pub async fn stand(&mut self) -> kube::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            let made = self.api.create(&PostParams::default(), &lease).await;
            return self.written(made.map(drop));
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        if holder.as_ref() != Some(&self.me) {
            let said = (holder.clone(), spec.renew_time.clone());
            match &self.seen {
                Some((holder, renewed, since)) if (holder, renewed) == (&said.0, &said.1) => {
                    if said.0.is_some() && since.elapsed() < DURATION {
                        return Ok(());
                    }
                }
                _ => {
                    self.seen = Some((said.0, said.1, Instant::now()));
                    if holder.is_some() {
                        self.held = None;
                        return Ok(());
                    }
                }
            }
        }
        lease.spec = Some(self.spec(Some(spec)));
        let written = self.api.replace(&self.name, &PostParams::default(), &lease).await;
        self.written(written.map(drop))
    }

    /// Gives the lease up, so that another one need not wait for its end.
    pub async fn leave(&mut self) {
        if !self.leads() {
            return;
        }
        self.held = None;
        if let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await
            && let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.me))
        {
            spec.holder_identity = None;
            // Its duration would end it as well.
            let _ = self.api.replace(&self.name, &PostParams::default(), &lease).await;
        }
    }

    fn spec(&self, before: Option<LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let before = before.unwrap_or_default();
        let ours = before.holder_identity.as_ref() == Some(&self.me);
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: before.acquire_time.filter(|_| ours).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours)),
            ..LeaseSpec::default()
        }
    }

    fn written(&mut self, written: kube::Result<()>) -> kube::Result<()> {
        match written {
            Ok(()) => {
                if self.held.replace(Instant::now()).is_none() {
                    tracing::info!(lease = self.name, "this replica writes the status of documents");
                }
                Ok(())
            }
            // Another one was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                self.held = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
