//! `Admin`: which proxies are connected and what they enforce; which documents are in force.

use std::sync::Arc;

use doorward_proto::v1::{GetPolicyStatusRequest, ListProxiesRequest, ListProxiesResponse, PolicyStatus, admin_server};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::{
    access::{Access, Role},
    push::{PolicyWatch, Registry},
};

/// The service.
pub struct Admin {
    /// Who may ask.
    pub access: Access,
    /// The newest policy.
    pub policy: PolicyWatch,
    /// What the last compilation found.
    pub status: watch::Receiver<PolicyStatus>,
    /// What proxies answered.
    pub registry: Arc<Registry>,
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    async fn list_proxies(
        &self,
        request: Request<ListProxiesRequest>,
    ) -> Result<Response<ListProxiesResponse>, Status> {
        self.access.check(&request, &[Role::Admin])?;
        let newest = self.policy.borrow().clone();
        Ok(Response::new(ListProxiesResponse {
            proxies: self.registry.list(newest.as_deref()),
            current_digest: newest.as_ref().map(|policy| policy.digest.clone()).unwrap_or_default(),
            current_epoch: newest.as_ref().map_or(0, |policy| policy.epoch),
        }))
    }

    async fn get_policy_status(
        &self,
        request: Request<GetPolicyStatusRequest>,
    ) -> Result<Response<PolicyStatus>, Status> {
        self.access.check(&request, &[Role::Admin])?;
        let newest = self.policy.borrow().clone();
        let status = self.status.borrow().clone();
        Ok(Response::new(PolicyStatus {
            digest: newest.as_ref().map(|policy| policy.digest.clone()).unwrap_or_default(),
            epoch: newest.as_ref().map_or(0, |policy| policy.epoch),
            ..status
        }))
    }
}
