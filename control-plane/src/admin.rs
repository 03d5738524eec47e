//! `Admin`: which proxies are connected and what they enforce; which documents are in force.

use std::sync::Arc;

use doorward_proto::v1::{GetPolicyStatusRequest, ListProxiesRequest, ListProxiesResponse, PolicyStatus, admin_server};
use prost::Message as _;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::{
    access::{Access, Role},
    policies::publish::PolicyWatch,
    push::Registry,
};

/// Bytes of a page after which nothing is added: clients take four megabytes.
const PAGE_BYTES: usize = 1 << 20;

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
        let ListProxiesRequest { page_size, page_token } = request.into_inner();
        let newest = self.policy.borrow().clone();
        let (proxies, next) = self.registry.page(newest.as_deref(), &page_token, size(page_size));
        Ok(Response::new(ListProxiesResponse {
            proxies,
            current_digest: newest.as_ref().map(|policy| policy.digest.clone()).unwrap_or_default(),
            current_epoch: newest.as_ref().map_or(0, |policy| policy.epoch),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn get_policy_status(
        &self,
        request: Request<GetPolicyStatusRequest>,
    ) -> Result<Response<PolicyStatus>, Status> {
        self.access.check(&request, &[Role::Admin])?;
        let GetPolicyStatusRequest { page_size, page_token } = request.into_inner();
        let newest = self.policy.borrow().clone();
        let page = page_of(&self.status.borrow(), size(page_size), &page_token)?;
        Ok(Response::new(PolicyStatus {
            digest: newest.as_ref().map(|policy| policy.digest.clone()).unwrap_or_default(),
            epoch: newest.as_ref().map_or(0, |policy| policy.epoch),
            ..page
        }))
    }
}

fn size(asked: u32) -> usize {
    if asked == 0 { usize::MAX } else { usize::try_from(asked).unwrap_or(usize::MAX) }
}

/// Diagnostics and documents from where the token says, as many as are asked for and fit.
fn page_of(status: &PolicyStatus, size: usize, token: &str) -> Result<PolicyStatus, Status> {
    let start = if token.is_empty() {
        0
    } else {
        let (compiled, start) = token.split_once('.').unwrap_or_default();
        let start =
            start.parse::<usize>().map_err(|_| Status::invalid_argument("the page token is none of this service"))?;
        if compiled != status.compiled_at_micros.to_string() {
            return Err(Status::aborted("the policy documents were read anew in between; begin with the first page"));
        }
        start
    };
    let mut page = PolicyStatus { compiled_at_micros: status.compiled_at_micros, ..Default::default() };
    let (mut at, mut bytes) = (start, 0);
    let all = status.diagnostics.len() + status.documents.len();
    while at < all && at - start < size && bytes < PAGE_BYTES {
        if let Some(found) = status.diagnostics.get(at) {
            bytes += found.encoded_len();
            page.diagnostics.push(found.clone());
        } else if let Some(document) = status.documents.get(at - status.diagnostics.len()) {
            bytes += document.encoded_len();
            page.documents.push(document.clone());
        }
        at += 1;
    }
    if at < all {
        page.next_page_token = format!("{}.{at}", status.compiled_at_micros);
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use doorward_proto::v1::{Diagnostic, DocumentStatus};

    use super::*;

    #[test]
    fn all_pages_of_a_large_status_hold_all_of_it_and_each_is_bounded() {
        let diagnostic = |at: i32| Diagnostic { message: format!("{at} {}", "x".repeat(500)), ..Default::default() };
        let document = |at: i32| DocumentStatus { name: at.to_string(), file: "f".repeat(200), ..Default::default() };
        let status = PolicyStatus {
            compiled_at_micros: 7,
            diagnostics: (0..5_000).map(diagnostic).collect(),
            documents: (0..20_000).map(document).collect(),
            ..Default::default()
        };
        let (mut all, mut token) = (PolicyStatus { compiled_at_micros: 7, ..Default::default() }, String::new());
        loop {
            let page = page_of(&status, size(0), &token).unwrap();
            assert!(page.encoded_len() < PAGE_BYTES + (64 << 10) + 8 * 6_000, "{}", page.encoded_len());
            all.diagnostics.extend(page.diagnostics);
            all.documents.extend(page.documents);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(all, status);
        assert_eq!(page_of(&status, 3, "").unwrap().diagnostics.len(), 3);
        for (token, code) in
            [("6.1", tonic::Code::Aborted), ("7.x", tonic::Code::InvalidArgument), ("7", tonic::Code::InvalidArgument)]
        {
            assert_eq!(page_of(&status, 3, token).unwrap_err().code(), code, "{token}");
        }
        assert!(page_of(&status, 3, "7.999999").unwrap().next_page_token.is_empty());
    }
}
