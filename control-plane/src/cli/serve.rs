//! `doorward serve`: the control plane as one process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;

use super::values;
use crate::{
    access::Grant,
    kubernetes::{Companion, webhook},
    server,
    source::{PolicySource, kubernetes::Kubernetes, registry},
};

/// Run the control plane: compile, sign and push policy; store and serve the audit log.
///
/// Reads every *.yaml and *.yml file under --policies, watches them, and pushes one signed bundle to all proxies within
/// a second of an edit. A document that does not validate keeps its last good version in force and is reported by
/// `doorward proxies`, in the log and in the metrics. All state lives in --data: the epoch, the last bundle, the last
/// good documents, fetched key sets, and the audit log. Back that directory up as a whole.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  \
    Try it on one machine:\n    doorward serve --policies ./policies --data ./data\n  \
    Production, with mutual TLS:\n    doorward serve --policies /etc/doorward/policies --data /var/lib/doorward \\\n      \
    --listen 0.0.0.0:7070 --tls-cert tls.crt --tls-key tls.key --tls-client-ca ca.crt \\\n      \
    --client proxy=spiffe://corp.example/ns/edge/sa/envoy --client auditor=audit.corp.example \\\n      \
    --client 'admin=*.ops.corp.example'\n\n\
    ROLES OF CLIENTS:\n  \
    proxy    subscribes to policy, sends audit records, and has tokens asked about; an emitter is written by the client\n           \
    that began it\n  \
    auditor  reads the audit log; moves the cursors of its own exports\n  \
    admin    the same; makes and removes cursors, and sees the proxies and the state of the documents\n  \
    Without --tls-client-ca clients cannot be told apart and may do everything, so --listen must be a loopback\n  \
    address, or --insecure must be given.\n\n\
    The filter trusts the public key in DATA/policy-signing.pub; put it in the plugin's configuration.")]
pub struct Args {
    /// Directory of policy documents, read recursively; hidden files are ignored. Or another source as KIND:REST.
    #[arg(long, env = "DOORWARD_POLICIES", value_name = "DIR", required_unless_present = "kubernetes")]
    pub policies: Option<PathBuf>,
    /// Instead of --policies: the documents of these namespaces of the Kubernetes API server that the environment names, as to
    /// kubectl; without a value, of all. Their status tells what proxies enforce.
    #[arg(long, env = "DOORWARD_KUBERNETES", value_name = "NAMESPACE,…", num_args = 0..=1, require_equals = true,
        default_missing_value = "*", conflicts_with = "policies")]
    pub kubernetes: Option<String>,
    /// With --kubernetes: the namespace of the control plane itself, with its Leases; documents in it are trusted by those of all
    /// others [default: that of the kubeconfig or of the pod].
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub pod_namespace: Option<String>,
    /// With --kubernetes: a name that no other replica has [default: that of the machine, and something random].
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// With --kubernetes: answer the API server's admission reviews over HTTPS on this address, e.g. 0.0.0.0:9443 [default: no
    /// webhook].
    #[arg(long, env = "DOORWARD_WEBHOOK_LISTEN", value_name = "ADDR", conflicts_with = "policies")]
    pub webhook_listen: Option<SocketAddr>,
    /// The ValidatingWebhookConfiguration that asks it. The control plane makes and renews a certificate for the names in it, and
    /// writes its authority there.
    #[arg(long, env = "DOORWARD_WEBHOOK_CONFIGURATION", value_name = "NAME", default_value = "doorward")]
    pub webhook_configuration: String,
    /// Directory for all state; created if it does not exist. One process per directory.
    #[arg(long, env = "DOORWARD_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Address for gRPC: policy push, audit, admin, health, reflection.
    #[arg(long, env = "DOORWARD_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,
    /// Address for HTTP: /metrics, /healthz, /readyz.
    #[arg(long, env = "DOORWARD_METRICS_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:7071")]
    pub metrics_listen: SocketAddr,
    /// Ed25519 seed (32 bytes in base64) that signs bundles [default: DATA/policy-signing.key, created on first start].
    #[arg(long, env = "DOORWARD_SIGNING_KEY", value_name = "FILE")]
    pub signing_key: Option<PathBuf>,
    /// Name of the set of services that these policies govern; proxies subscribe to it by this name.
    #[arg(long, env = "DOORWARD_SCOPE", value_name = "NAME", default_value = "default")]
    pub scope: String,
    /// Certificate chain (PEM) for gRPC.
    #[arg(long, env = "DOORWARD_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of --tls-cert.
    #[arg(long, env = "DOORWARD_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Certificate authorities (PEM); if given, a client must present a certificate of one of them (mutual TLS).
    #[arg(long, env = "DOORWARD_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Give a role (proxy, auditor, admin) to the client whose certificate has this name: a SPIFFE ID, which may end in
    /// /*, or a DNS name, which may begin with *. for any one label. Repeat it, or separate with commas.
    #[arg(long, env = "DOORWARD_CLIENT", value_name = "ROLE=NAME", value_delimiter = ',', requires = "tls_client_ca")]
    pub client: Vec<Grant>,
    /// File with more of --client, one ROLE=NAME a line; # begins a comment.
    #[arg(long, env = "DOORWARD_CLIENTS", value_name = "FILE", requires = "tls_client_ca")]
    pub clients: Option<PathBuf>,
    /// Listen beyond the loopback although clients have no certificates: whoever reaches --listen may then read the audit
    /// log, fetch policy and send records. For a port that only trusted clients reach, e.g. inside a mesh with mutual TLS.
    #[arg(long, env = "DOORWARD_INSECURE", conflicts_with = "tls_client_ca")]
    pub insecure: bool,
    /// Connections to --listen at most; one client may have half of those that are free [default: from the limit on open
    /// files].
    #[arg(long, env = "DOORWARD_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Greatest age of a connection; then the client is told to make a new one, and half a minute later it is cut. It ends
    /// earlier where the client's certificate does.
    #[arg(long, env = "DOORWARD_MAX_CONNECTION_AGE", value_name = "DURATION", default_value = "6h", value_parser = values::duration)]
    pub max_connection_age: Duration,
    /// How long a signed bundle is valid; it is renewed at half of that. Past it a proxy acts as its `onStale` says.
    #[arg(long, env = "DOORWARD_BUNDLE_LIFETIME", value_name = "DURATION", default_value = "24h", value_parser = values::duration)]
    pub bundle_lifetime: Duration,
    /// Publish an empty policy even if the one in force is not empty. Without it, losing all documents (an unmounted
    /// volume, a wrong path) keeps the last policy in force.
    #[arg(long, env = "DOORWARD_ALLOW_EMPTY")]
    pub allow_empty: bool,
    /// Never sign an epoch at or below this one. For a rebuilt data directory: proxies refuse lower epochs than the
    /// one they hold.
    #[arg(long, env = "DOORWARD_EPOCH_FLOOR", value_name = "N", default_value_t = 0)]
    pub epoch_floor: u64,
    /// Fetch key sets, and ask about tokens, over plain HTTP from hosts other than loopback. Whoever can change that traffic can forge tokens.
    #[arg(long, env = "DOORWARD_INSECURE_JWKS")]
    pub insecure_jwks: bool,
    /// Additional certificate authorities (PEM) for fetching key sets and asking about tokens.
    #[arg(long, env = "DOORWARD_JWKS_CA", value_name = "FILE")]
    pub jwks_ca: Option<PathBuf>,
    /// The folder with the secrets by which identity providers are asked about tokens (`introspection.clientSecret.file`). No
    /// file outside it is sent.
    #[arg(long, env = "DOORWARD_CLIENT_SECRETS", value_name = "DIR")]
    pub client_secrets: Option<PathBuf>,
    /// Delete audit records older than this, e.g. 90d [default: keep all].
    #[arg(long, env = "DOORWARD_AUDIT_RETENTION", value_name = "DURATION", value_parser = values::duration)]
    pub audit_retention: Option<Duration>,
    /// With --audit-retention: keep records that a named cursor has not passed for so much longer at most. Then they are
    /// deleted all the same, and counted as lost to that cursor.
    #[arg(long, env = "DOORWARD_AUDIT_CURSOR_HOLD", value_name = "DURATION", default_value = "7d", value_parser = values::duration)]
    pub audit_cursor_hold: Duration,
    /// Form of the process's own log on standard error. RUST_LOG sets its level, e.g. `doorward=debug`.
    #[arg(long, env = "DOORWARD_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Form of the process's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Args {
    /// Where policy comes from, and what runs beside it where that is an API server.
    fn source(&self) -> anyhow::Result<(Box<dyn PolicySource>, Option<Companion>)> {
        let Some(namespaces) = self.kubernetes.as_deref() else {
            return Ok((registry::open(self.policies.as_deref().unwrap_or(Path::new("")))?, None));
        };
        let source = Kubernetes::open(namespaces, self.pod_namespace.as_deref())?;
        let webhook = self
            .webhook_listen
            .map(|listen| webhook::Settings { listen, configuration: self.webhook_configuration.clone() });
        let companion = Companion {
            index: source.index(),
            namespace: self.pod_namespace.clone(),
            name: self.pod_name.clone(),
            qualified: source.qualified(),
            boundary: source.boundary(),
            served: source.namespaces().to_owned(),
            webhook,
        };
        Ok((Box::new(source), Some(companion)))
    }

    fn options(self, kubernetes: Option<Companion>) -> server::Options {
        let args = self;
        server::Options {
            kubernetes,
            data: args.data,
            listen: args.listen,
            metrics_listen: args.metrics_listen,
            signing_key: args.signing_key,
            scope: args.scope,
            tls_cert: args.tls_cert,
            tls_key: args.tls_key,
            tls_client_ca: args.tls_client_ca,
            client: args.client,
            clients: args.clients,
            insecure: args.insecure,
            max_connections: args.max_connections,
            max_connection_age: args.max_connection_age,
            bundle_lifetime: args.bundle_lifetime,
            allow_empty: args.allow_empty,
            epoch_floor: args.epoch_floor,
            insecure_jwks: args.insecure_jwks,
            jwks_ca: args.jwks_ca,
            client_secrets: args.client_secrets,
            audit_retention: args.audit_retention,
            audit_cursor_hold: args.audit_cursor_hold,
        }
    }
}

/// Runs until SIGTERM or SIGINT.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    // What the client of Kubernetes meets, our own watches say once.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,doorward=info,kube_client=off"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    let (source, companion) = args.source()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let result = runtime.block_on(server::serve(source, args.options(companion)));
    // Blocking reads of tail and query may be under way; they hold nothing that must be finished.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        crate::cli::Cli::command().debug_assert();
    }
}
