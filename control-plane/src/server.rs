//! Wires everything and watches it: if any task ends before it should, the process ends with an error.

use std::{
    fs,
    future::Future,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use axum::{Router, http::StatusCode, routing::get};
use doorward_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{
        PolicyStatus, admin_server::AdminServer, audit_ingest_server::AuditIngestServer,
        audit_log_server::AuditLogServer, identity_server::IdentityServer,
        policy_discovery_server::PolicyDiscoveryServer,
    },
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::{
    access::{self, Access, Grant},
    admin::Admin,
    audit::{ingest::Ingest, jobs::Keep, read::Reader, store::Store},
    clock,
    connections::{self, Door, HttpListener, Limits},
    introspection::{client::Asker, service::Identity},
    jwks::KeySets,
    kubernetes::{Companion, Index},
    metrics::Metrics,
    policies::{
        engine::{Engine, Settings},
        epochs::{Alone, Epochs},
        publish,
        report::NOT_STORED,
    },
    policy_store::PolicyStore,
    push::{Push, Registry},
    signing::Signer,
    source::PolicySource,
    streams::Bounds,
    wake::Trigger,
};

/// Largest audit batch, in bytes: a filter sends a quarter of a megabyte, and a record of 64 KiB beyond.
const MAX_BATCH_BYTES: usize = 512 << 10;
/// Largest question of a person, in bytes.
const MAX_QUESTION_BYTES: usize = 16 << 10;
/// Largest hello or result of a proxy, in bytes.
const MAX_RESULT_BYTES: usize = 16 << 10;
/// Largest question of a proxy about a token, in bytes: the token has 16 KiB at most.
const MAX_TOKEN_QUESTION_BYTES: usize = 18 << 10;
/// Streams of one connection; a proxy has one for policy and one for each worker's records.
const MAX_STREAMS_PER_CONNECTION: u32 = 256;
/// Bytes that a client may send unread: of one stream, and of a connection. A stream of records that waits for the disk must
/// not keep the policy stream of its connection from being read.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Headers of one request; a call has a few hundred bytes of them.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// Between attempts to write an audit log that could not be written.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How long open streams get to end after a signal.
const GRACE: Duration = Duration::from_secs(10);
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// How the control plane serves. `doorward serve` documents each.
pub struct Options {
    /// Directory for all state.
    pub data: PathBuf,
    /// Address for gRPC.
    pub listen: SocketAddr,
    /// Address for metrics and health.
    pub metrics_listen: SocketAddr,
    /// Seed that signs bundles, if not the one in `data`.
    pub signing_key: Option<PathBuf>,
    /// Name of the set of services.
    pub scope: String,
    /// Certificate chain (PEM) for gRPC.
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of `tls_cert`.
    pub tls_key: Option<PathBuf>,
    /// Certificate authorities (PEM) of clients.
    pub tls_client_ca: Option<PathBuf>,
    /// Roles of clients.
    pub client: Vec<Grant>,
    /// File with more of them.
    pub clients: Option<PathBuf>,
    /// Listen beyond the loopback without certificates of clients.
    pub insecure: bool,
    /// Connections at most, if not by the limit on open files.
    pub max_connections: Option<usize>,
    /// Greatest age of a connection.
    pub max_connection_age: Duration,
    /// How long a signed bundle is valid.
    pub bundle_lifetime: Duration,
    /// Publish an empty policy after one that was not.
    pub allow_empty: bool,
    /// Sign only epochs above this one.
    pub epoch_floor: u64,
    /// Fetch key sets over plain HTTP from anywhere.
    pub insecure_jwks: bool,
    /// Additional certificate authorities (PEM) for fetching key sets.
    pub jwks_ca: Option<PathBuf>,
    /// The folder whose files may be sent to identity providers as secrets of clients.
    pub client_secrets: Option<PathBuf>,
    /// Delete audit records that are older.
    pub audit_retention: Option<Duration>,
    /// For how much longer than that a record is kept that a named cursor has not passed.
    pub audit_cursor_hold: Duration,
    /// Where policy comes from a Kubernetes API server: what else is done there.
    pub kubernetes: Option<Companion>,
}

/// Serves the policy of this source until SIGTERM or SIGINT, or until a part of the server fails.
pub async fn serve(source: Box<dyn PolicySource>, mut options: Options) -> anyhow::Result<()> {
    // Fails only if a provider is installed already, which is then used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let access = access(&options)?;
    let limits = Limits::new(connections::descriptors(), options.max_connections, options.max_connection_age)?;
    let data = &options.data;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("cannot create {}", data.display()))?;
    let metrics = Arc::<Metrics>::default();
    let signer = Signer::open(data, options.signing_key.as_deref())?;
    tracing::info!(
        key_id = signer.key_id(),
        public_key = signer.public_key(),
        "bundles are signed; the filter must trust this public key"
    );
    let policy_store = Arc::new(PolicyStore::open(&data.join("policy.redb"))?);
    let (audit, mut audit_ended) = Store::open(&data.join("audit.redb"), Arc::clone(&metrics))?;

    let authorities =
        options.jwks_ca.as_ref().map(|path| fs::read(path).with_context(|| format!("cannot read {}", path.display())));
    let authorities = authorities.transpose()?;
    if let Some(folder) = options.client_secrets.as_ref().filter(|folder| !folder.is_dir()) {
        bail!("{} (--client-secrets) is no directory that is there", folder.display());
    }
    let asker = Asker::new(options.insecure_jwks, authorities.as_deref(), options.client_secrets.clone())
        .context("cannot prepare to ask identity providers; check --jwks-ca")?;
    let (stop, shutdown) = watch::channel(false);
    let companion = match options.kubernetes.take() {
        Some(companion) => Some(companion.connect().await?),
        None => None,
    };
    let epochs = companion
        .as_ref()
        .map_or_else(|| Box::new(Alone) as Box<dyn Epochs>, |companion| companion.epochs(&options.scope, &shutdown));
    let (trigger, triggers) = mpsc::channel();
    let keys = KeySets::new(
        Arc::clone(&policy_store),
        Arc::clone(&metrics),
        options.insecure_jwks,
        authorities.as_deref(),
        companion.as_ref().map(|companion| companion.secrets()),
        trigger.clone(),
    )?;
    let keys = Arc::new(keys);
    let signing = publish::Settings {
        scope: options.scope.clone(),
        lifetime: options.bundle_lifetime,
        epoch_floor: options.epoch_floor,
    };
    let settings = Settings { signing, allow_empty: options.allow_empty };
    let engine = Engine::new(settings, source, epochs, policy_store, signer, Arc::clone(&keys), Arc::clone(&metrics))?;
    let (policy, status, outrun) = (engine.policy(), engine.status(), engine.outrun());
    let identity = Identity::new(access.clone(), options.scope.clone(), engine.asked(), asker, Arc::clone(&metrics));

    let listen = connections::listen(options.listen)
        .with_context(|| format!("cannot listen on {} (--listen)", options.listen))?;
    let metrics_listen = connections::listen(options.metrics_listen)
        .with_context(|| format!("cannot listen on {} (--metrics-listen)", options.metrics_listen))?;
    let (grpc_address, http_address) = (listen.local_addr()?, metrics_listen.local_addr()?);

    let mut tasks: JoinSet<(&'static str, anyhow::Result<()>)> = JoinSet::new();
    let (engine_done, engine_ended) = oneshot::channel();
    let engine_trigger = trigger.clone();
    std::thread::Builder::new().name("policy".into()).spawn(move || {
        engine.run(engine_trigger, triggers);
        // Nobody waits for it any more when the process ends.
        let _ = engine_done.send(());
    })?;
    tasks.spawn(async move { ("policy thread", engine_ended.await.map_err(|_| anyhow!("it panicked"))) });
    let fetcher = Arc::clone(&keys).run(shutdown.clone());
    tasks.spawn(async move {
        fetcher.await;
        ("key set fetcher", Ok(()))
    });
    let registry = Arc::<Registry>::default();
    let (ready, incoming) = tokio::sync::mpsc::channel(64);
    let door = Door::new(limits, Arc::clone(&metrics));
    let accepted = door.accept(listen, tls(&options)?, ready);
    let mut stopping = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = clock::ended(&mut stopping) => {}
            () = accepted => {}
        }
        ("acceptor", Ok(()))
    });
    let grpc = grpc(
        &options,
        incoming,
        &shutdown,
        Services {
            push: Push {
                access: access.clone(),
                scope: options.scope.clone(),
                policy: policy.clone(),
                outrun,
                audit: audit.clone(),
                registry: Arc::clone(&registry),
                metrics: Arc::clone(&metrics),
                shutdown: shutdown.clone(),
            },
            ingest: Ingest {
                access: access.clone(),
                store: audit.clone(),
                metrics: Arc::clone(&metrics),
                shutdown: shutdown.clone(),
            },
            reader: Reader {
                access: access.clone(),
                store: audit.clone(),
                metrics: Arc::clone(&metrics),
                shutdown: shutdown.clone(),
            },
            identity,
            admin: Admin { access, policy: policy.clone(), status: status.clone(), registry: Arc::clone(&registry) },
        },
    )?;
    tasks.spawn(async move { ("gRPC server", grpc.await) });
    let index = companion.as_ref().map(|companion| companion.index());
    if let Some(companion) = companion {
        let running = companion.run(status.clone(), registry, policy.clone(), Arc::clone(&metrics), shutdown.clone());
        tasks.spawn(async move { ("part for Kubernetes", running.await) });
    }
    let http = http(metrics_listen, shutdown.clone(), metrics, audit.clone(), policy, status, index);
    tasks.spawn(async move { ("metrics server", http.await) });
    tasks.spawn(probe(audit.clone(), shutdown.clone()));
    tasks.spawn(sweep(audit.clone(), options.audit_retention, options.audit_cursor_hold, shutdown.clone()));
    drop(audit);
    tracing::info!(grpc = %grpc_address, http = %http_address, "doorward serves");

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let failure = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        Some(ended) = tasks.join_next() => Some(describe(ended)),
        _ = &mut audit_ended => Some(anyhow!("the audit writer ended unexpectedly")),
    };
    tracing::info!("ending");
    stop.send_replace(true);
    // The engine may be gone already.
    let _ = trigger.send(Trigger::Stop);
    let drained = timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("some streams did not end in time and were cut");
        tasks.abort_all();
    }
    // The writer ends when the last stream has let go of the log; what was acknowledged is on the disk in any case.
    let _ = timeout(Duration::from_secs(2), audit_ended).await;
    failure.map_or(Ok(()), Err)
}

/// Who may do what at the gRPC port. Where clients cannot be told apart, everybody may do everything: that is for the
/// loopback, or for who says so.
fn access(options: &Options) -> anyhow::Result<Access> {
    let mut grants = options.client.clone();
    if let Some(file) = &options.clients {
        grants.extend(access::read(file)?);
    }
    if options.tls_client_ca.is_some() {
        if grants.is_empty() {
            bail!(
                "with --tls-client-ca every client needs a role, and none has one; give each with \
                --client proxy=NAME, --client auditor=NAME or --client admin=NAME"
            );
        }
        return Ok(Access::new(grants));
    }
    if !options.listen.ip().is_loopback() {
        if !options.insecure {
            bail!(
                "--listen {} can be reached from other machines, and without client certificates whoever reaches it \
                may read the audit log, fetch policy and send records; give --tls-cert, --tls-key, --tls-client-ca and \
                --client, or, where a mesh or a firewall lets only trusted clients through, --insecure",
                options.listen
            );
        }
        tracing::warn!(
            "--insecure: whoever reaches the gRPC port may read the audit log, fetch policy and send records"
        );
    }
    Ok(Access::open())
}

fn describe(ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok((task, Ok(()))) => anyhow!("the {task} ended unexpectedly"),
        Ok((task, Err(error))) => error.context(format!("the {task} failed")),
        Err(error) => anyhow!("a task failed: {error}"),
    }
}

struct Services {
    push: Push,
    ingest: Ingest,
    reader: Reader,
    identity: Identity,
    admin: Admin,
}

/// What proves who clients are, and who this is to them. None: plain text.
fn tls(options: &Options) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) else { return Ok(None) };
    let read = |path: &std::path::Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let chain = |path: &std::path::Path| -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
        chain
            .ok()
            .filter(|chain| !chain.is_empty())
            .with_context(|| format!("{} holds no certificates", path.display()))
    };
    let builder = ServerConfig::builder();
    let builder = if let Some(authority) = &options.tls_client_ca {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(chain(authority)?);
        let verifier = WebPkiClientVerifier::builder(roots.into()).build();
        builder.with_client_cert_verifier(verifier.context("--tls-client-ca cannot be used")?)
    } else {
        builder.with_no_client_auth()
    };
    let private =
        PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| anyhow!("{} holds no private key", key.display()))?;
    let mut config =
        builder.with_single_cert(chain(certificate)?, private).context("the TLS certificate or key cannot be used")?;
    config.alpn_protocols.push(b"h2".to_vec());
    // A resumed session would not be asked for its certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Some(Arc::new(config)))
}

fn grpc(
    options: &Options,
    incoming: tokio::sync::mpsc::Receiver<std::io::Result<connections::Connection>>,
    shutdown: &watch::Receiver<bool>,
    services: Services,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
    let mut builder = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        // Tells the client. What it does not end itself, ends with the connection: see `connections`.
        .max_connection_age(options.max_connection_age)
        .layer(Bounds);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    let router = builder
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(PolicyDiscoveryServer::new(services.push).max_decoding_message_size(MAX_RESULT_BYTES))
        .add_service(AuditIngestServer::new(services.ingest).max_decoding_message_size(MAX_BATCH_BYTES))
        .add_service(AuditLogServer::new(services.reader).max_decoding_message_size(MAX_QUESTION_BYTES))
        .add_service(IdentityServer::new(services.identity).max_decoding_message_size(MAX_TOKEN_QUESTION_BYTES))
        .add_service(AdminServer::new(services.admin).max_decoding_message_size(MAX_QUESTION_BYTES));
    let mut shutdown = shutdown.clone();
    Ok(async move {
        health.set_serving::<PolicyDiscoveryServer<Push>>().await;
        health.set_serving::<AuditIngestServer<Ingest>>().await;
        health.set_serving::<AuditLogServer<Reader>>().await;
        health.set_serving::<IdentityServer<Identity>>().await;
        health.set_serving::<AdminServer<Admin>>().await;
        let ending = async move { clock::ended(&mut shutdown).await };
        Ok(router.serve_with_incoming_shutdown(ReceiverStream::new(incoming), ending).await?)
    })
}

async fn http(
    listener: TcpListener,
    mut shutdown: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    audit: Store,
    policy: publish::PolicyWatch,
    status: watch::Receiver<PolicyStatus>,
    index: Option<Arc<Index>>,
) -> anyhow::Result<()> {
    let alive = move || async move {
        if index.is_some_and(|index| index.is_broken()) {
            (StatusCode::INTERNAL_SERVER_ERROR, "a watch of the Kubernetes API server ended by a defect\n")
        } else {
            (StatusCode::OK, "ok\n")
        }
    };
    let ready = move || async move {
        let unstored = status.borrow().diagnostics.iter().any(|found| found.code == NOT_STORED);
        if policy.borrow().is_none() {
            (StatusCode::SERVICE_UNAVAILABLE, "no policy has been compiled yet\n")
        } else if !audit.healthy() {
            (StatusCode::SERVICE_UNAVAILABLE, "the audit log cannot be written\n")
        } else if unstored {
            (StatusCode::SERVICE_UNAVAILABLE, "the policy in force cannot be stored; a restart would not find it\n")
        } else {
            (StatusCode::OK, "ready\n")
        }
    };
    let listener = HttpListener::new(listener, Arc::clone(&metrics));
    let text = move || async move {
        ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.text())
    };
    let router = Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
        // So that a connection's time can be bounded as a whole, whatever its client does with it.
        .layer(axum::middleware::map_response(|mut response: axum::response::Response| async move {
            response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
            response
        }));
    axum::serve(listener, router).with_graceful_shutdown(async move { clock::ended(&mut shutdown).await }).await?;
    Ok(())
}

/// Keeps trying to write an audit log that could not be written: without records nobody else would.
async fn probe(audit: Store, mut shutdown: watch::Receiver<bool>) -> (&'static str, anyhow::Result<()>) {
    let mut every = tokio::time::interval(PROBE_EVERY);
    loop {
        tokio::select! {
            () = clock::ended(&mut shutdown) => return ("audit probe", Ok(())),
            _ = every.tick() => {
                if !audit.healthy() {
                    audit.probe().await;
                }
            }
        }
    }
}

async fn sweep(
    audit: Store,
    retention: Option<Duration>,
    hold: Duration,
    mut shutdown: watch::Receiver<bool>,
) -> (&'static str, anyhow::Result<()>) {
    let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    let keep = retention.map(|keep| Keep { records: micros(keep), held: micros(hold) });
    let mut every = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = clock::ended(&mut shutdown) => return ("audit housekeeping", Ok(())),
            _ = every.tick() => audit.sweep(keep).await,
        }
    }
}
