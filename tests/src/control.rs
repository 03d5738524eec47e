//! The control plane's gRPC services, as a test asks them.

use doorward_proto::v1::{
    GetPolicyStatusRequest, ListProxiesRequest, ListProxiesResponse, PolicyStatus, QueryRequest, StoredRecord,
    admin_client::AdminClient, audit_log_client::AuditLogClient,
};
use std::sync::OnceLock;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

/// The runtime that all gRPC of the tests runs on.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

async fn channel(port: u16) -> Option<Channel> {
    Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await.ok()
}

/// Who is connected; none while the control plane is away.
#[must_use]
pub fn proxies(port: u16) -> Option<ListProxiesResponse> {
    runtime().block_on(async {
        let answer = AdminClient::new(channel(port).await?).list_proxies(ListProxiesRequest::default()).await;
        answer.ok().map(tonic::Response::into_inner)
    })
}

/// What is in force; none while the control plane is away.
#[must_use]
pub fn status(port: u16) -> Option<PolicyStatus> {
    runtime().block_on(async {
        let answer = AdminClient::new(channel(port).await?).get_policy_status(GetPolicyStatusRequest::default()).await;
        answer.ok().map(tonic::Response::into_inner)
    })
}

/// Stored records that match, oldest first.
#[must_use]
pub fn records(port: u16, request: QueryRequest) -> Vec<StoredRecord> {
    runtime().block_on(async {
        let Some(channel) = channel(port).await else { return Vec::new() };
        let mut found = Vec::new();
        if let Ok(answer) = AuditLogClient::new(channel).query(request).await {
            let mut stream = answer.into_inner();
            while let Ok(Some(record)) = stream.message().await {
                found.push(record);
            }
        }
        found
    })
}
