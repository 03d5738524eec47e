//! Key sets of identity providers: fetched, refreshed, and kept at their last good version.
//!
//! Compilation asks for a key set with [`KeySets::get`]; what it asks for is what is fetched. A set that changed triggers
//! a new compilation. A fetch that fails is repeated with backoff and the last good set stays, also over a restart.
//!
//! A set without a usable key (empty, or of keys that cannot be used) is an answer: it may be a mistake, or the revocation of
//! all keys. The last good set stays for a while, loudly, and then goes.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use reqwest::{Client, Url};
use tokio::{
    io::AsyncReadExt as _,
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::Instrument as _;

use crate::{
    clock::{self, now_micros},
    metrics::Metrics,
    outbound,
    policy_store::{KeySet, PolicyStore, Replaced, StoreError},
    wake::Trigger,
};

const MAX_BODY_BYTES: usize = 1 << 20;
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const MIN_REFRESH: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// Fetches at one time.
const MAX_FETCHES: usize = 16;
/// Sources at most; more providers than this are not fetched.
const MAX_SOURCES: usize = 1_000;

/// Where a key set comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A JSON Web Key Set (RFC 7517) at this address.
    Uri(String),
    /// OpenID Connect Discovery 1.0 at this issuer.
    Issuer(String),
    /// A file of this machine; read every few seconds.
    File(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => write!(f, "uri {uri}"),
            Self::Issuer(issuer) => write!(f, "issuer {issuer}"),
            Self::File(path) => write!(f, "file {path}"),
        }
    }
}

impl Source {
    /// Host and port for logs and labels: an address may hold credentials.
    fn host(&self) -> String {
        let (Self::Uri(text) | Self::Issuer(text)) = self else { return "file".into() };
        let url = Url::parse(text).ok();
        url.and_then(|url| {
            let host = url.host_str()?.to_owned();
            Some(url.port().map_or(host.clone(), |port| format!("{host}:{port}")))
        })
        .unwrap_or_else(|| "invalid".into())
    }
}

struct Entry {
    refresh: Duration,
    keys: Option<Arc<KeySet>>,
    due: Instant,
    failures: u32,
    fetching: bool,
    wanted: u64,
    problem: Option<String>,
    /// Somebody can use a key of `keys`.
    used: bool,
    /// A compilation has looked at `keys`.
    seen: bool,
    /// How long the set before `keys` may stay in its place: the longest that this compilation asks for.
    keep: Duration,
    /// When the set before `keys` stops being used by somebody, Unix microseconds.
    until_micros: Option<i64>,
    /// The log has it that the set before `keys` stays.
    told: bool,
}

impl Entry {
    /// Unix microseconds since which nobody can use a key of the newest set, where one before could be used.
    fn unusable_since(&self) -> Option<i64> {
        let before = self.keys.as_ref().filter(|_| !self.used)?.before.as_ref()?;
        Some(before.since_micros)
    }
}

/// What a compilation asks for.
pub struct Want<'a> {
    /// How often the set is fetched.
    pub refresh: Duration,
    /// How long the last good set stays in place of one without a usable key.
    pub keep: Duration,
    /// Whether a set has a key that can be used.
    pub usable: &'a dyn Fn(&str) -> bool,
}

/// A key set, and whether it is the newest.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The JSON Web Key Set.
    pub body: String,
    /// It stands in for the newest one, which has no usable key: since when, and until when (Unix microseconds).
    pub stands_in: Option<(i64, i64)>,
}

#[derive(Default)]
struct Entries {
    sources: BTreeMap<Source, Entry>,
    /// Of the compilation under way.
    generation: u64,
}

/// All key sets that the policies name.
pub struct KeySets {
    entries: Mutex<Entries>,
    wake: Notify,
    store: Arc<PolicyStore>,
    kept: BTreeMap<String, KeySet>,
    client: Client,
    insecure: bool,
    metrics: Arc<Metrics>,
    changed: mpsc::Sender<Trigger>,
}

/// Why there is no fetcher.
#[derive(Debug, thiserror::Error)]
pub enum KeySetsError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HTTP client could not be made.
    #[error("cannot prepare to fetch key sets: {0}; check --jwks-ca")]
    Client(#[from] reqwest::Error),
}

impl KeySets {
    /// Starts with the sets that were fetched before. `authorities`: additional roots, PEM.
    pub fn new(
        store: Arc<PolicyStore>,
        metrics: Arc<Metrics>,
        insecure: bool,
        authorities: Option<&[u8]>,
        changed: mpsc::Sender<Trigger>,
    ) -> Result<Self, KeySetsError> {
        let client = outbound::client(FETCH_TIMEOUT, authorities)?;
        let kept = store.key_sets()?;
        Ok(Self { entries: Mutex::default(), wake: Notify::new(), store, kept, client, insecure, metrics, changed })
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A compilation begins.
    pub fn begin(&self) {
        self.lock().generation += 1;
    }

    /// A compilation has ended: what it did not ask for is fetched no more.
    pub fn end(&self) {
        let mut entries = self.lock();
        let generation = entries.generation;
        entries.sources.retain(|_, entry| entry.wanted == generation);
        let now = now_micros();
        let mut gone = Vec::new();
        for (source, entry) in &mut entries.sources {
            let over = entry.unusable_since().is_some_and(|since| now >= since.saturating_add(micros(entry.keep)));
            if let Some(keys) = entry.keys.as_mut().filter(|_| over) {
                // For good: neither a clock that goes back nor another setting brings revoked keys back.
                let keys = Arc::make_mut(keys);
                keys.before = None;
                gone.push((source.clone(), keys.clone()));
            }
        }
        drop(entries);
        for (source, keys) in gone {
            tracing::error!(host = %source.host(), "a key set still has no usable key; the last good one is used no more");
            self.store(&source, &keys);
        }
        self.wake.notify_one();
    }

    fn store(&self, source: &Source, keys: &KeySet) {
        if let Err(error) = self.store.set_key_set(&source.to_string(), keys) {
            tracing::error!(%error, "a key set could not be kept for the next start");
        }
    }

    /// The newest set, or the last good one for as long as it may stand in, or a sentence on why there is none yet. Remembers
    /// that it is wanted.
    pub fn get(&self, source: &Source, want: &Want<'_>) -> Result<Found, String> {
        self.check(source)?;
        let mut entries = self.lock();
        let generation = entries.generation;
        if entries.sources.len() >= MAX_SOURCES && !entries.sources.contains_key(source) {
            return Err(format!("more than {MAX_SOURCES} key sets are named; no further one is fetched"));
        }
        let entry = entries.sources.entry(source.clone()).or_insert_with(|| Entry {
            refresh: want.refresh,
            keys: self.kept.get(&source.to_string()).cloned().map(Arc::new),
            due: Instant::now(),
            failures: 0,
            fetching: false,
            wanted: 0,
            problem: None,
            used: false,
            seen: false,
            keep: want.keep,
            until_micros: None,
            told: false,
        });
        if entry.wanted != generation {
            (entry.keep, entry.until_micros) = (want.keep, None);
        }
        entry.wanted = generation;
        entry.keep = entry.keep.max(want.keep);
        entry.refresh = if matches!(source, Source::File(_)) { MIN_REFRESH } else { want.refresh.max(MIN_REFRESH) };
        let Some(keys) = entry.keys.clone() else {
            return Err(match &entry.problem {
                Some(problem) => format!("its key set could not be fetched from {}: {problem}", source.host()),
                None => format!("its key set is being fetched from {}", source.host()),
            });
        };
        entry.seen = true;
        if (want.usable)(&keys.body) {
            (entry.used, entry.told) = (true, false);
            return Ok(Found { body: keys.body.clone(), stands_in: None });
        }
        let before = keys.before.as_ref().filter(|before| (want.usable)(&before.body));
        if let Some(Replaced { body, since_micros }) = before {
            let until = since_micros.saturating_add(micros(want.keep));
            if now_micros() < until {
                entry.until_micros = Some(entry.until_micros.map_or(until, |other| other.min(until)));
                if !std::mem::replace(&mut entry.told, true) {
                    tracing::warn!(host = %source.host(), "a key set has no usable key; the last good one stays for now");
                }
                return Ok(Found { body: body.clone(), stands_in: Some((*since_micros, until)) });
            }
        }
        Ok(Found { body: keys.body.clone(), stands_in: None })
    }

    fn check(&self, source: &Source) -> Result<(), String> {
        let (Source::Uri(text) | Source::Issuer(text)) = source else { return Ok(()) };
        let url = Url::parse(text).map_err(|_| "the address of its key set is not a URL".to_owned())?;
        self.allowed(&url)
    }

    fn allowed(&self, url: &Url) -> Result<(), String> {
        outbound::allowed(url, self.insecure).map_err(|forbidden| format!("key sets are fetched {forbidden}"))
    }

    /// Fetches what is due until the process ends.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut fetches = JoinSet::new();
        loop {
            let now = Instant::now();
            let mut next = now + Duration::from_secs(60);
            {
                let mut entries = self.lock();
                let wall = now_micros();
                // Several sets may be of one host, and a set that recovered must show as such.
                self.metrics.jwks_unusable.clear();
                for (source, entry) in entries.sources.iter_mut().filter(|(_, entry)| !entry.fetching) {
                    if entry.due <= now && fetches.len() >= MAX_FETCHES {
                        // Each has a connection, that is a file descriptor. The end of one wakes this loop.
                    } else if entry.due <= now {
                        entry.fetching = true;
                        let (keys, source) = (Arc::clone(&self), source.clone());
                        // The host only: an address may hold credentials.
                        let span = tracing::info_span!("key_set_fetch", host = %source.host());
                        let fetching = async move {
                            let fetched = timeout(FETCH_TIMEOUT, keys.fetch(&source)).await;
                            keys.fetched(
                                &source,
                                fetched.unwrap_or_else(|_| Err("it took longer than ten seconds".into())),
                            );
                        };
                        fetches.spawn(fetching.instrument(span));
                    } else {
                        next = next.min(entry.due);
                    }
                    if let Some(keys) = &entry.keys {
                        let age = (wall - keys.fetched_micros) as f64 / 1e6;
                        self.metrics.jwks_age.get_or_create(&vec![("host", source.host())]).set(age);
                    }
                }
                for (source, entry) in &mut entries.sources {
                    let labels = vec![("host", source.host())];
                    let gauge = self.metrics.jwks_unusable.get_or_create(&labels);
                    let unusable = i64::from(entry.keys.is_some() && !entry.used);
                    gauge.set(gauge.get().max(unusable));
                    drop(gauge);
                    if let Some(until) = entry.until_micros {
                        if until <= wall {
                            entry.until_micros = None;
                            // The engine is gone only when the process ends.
                            let _ = self.changed.send(Trigger::Keys);
                        } else {
                            let left = Duration::from_micros(u64::try_from(until - wall).unwrap_or(0));
                            next = next.min(now + left + Duration::from_millis(1));
                        }
                    }
                }
            }
            tokio::select! {
                () = clock::ended(&mut shutdown) => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
                Some(_) = fetches.join_next(), if !fetches.is_empty() => {}
            }
        }
    }

    fn fetched(&self, source: &Source, result: Result<String, String>) {
        let mut entries = self.lock();
        let Some(entry) = entries.sources.get_mut(source) else { return };
        entry.fetching = false;
        match result {
            Ok(body) => {
                let changed = entry.keys.as_ref().is_none_or(|keys| keys.body != body);
                let now = now_micros();
                let before = match &entry.keys {
                    Some(keys) if changed && entry.used => {
                        Some(Replaced { body: keys.body.clone(), since_micros: now })
                    }
                    // Of several sets in a row without a usable key, the first began it. One that nobody looked at may have
                    // been good, and have withdrawn keys of the one before.
                    Some(keys) if !changed || entry.seen => keys.before.clone(),
                    _ => None,
                };
                let keys = Arc::new(KeySet { body, fetched_micros: now, before });
                entry.keys = Some(Arc::clone(&keys));
                entry.used &= !changed;
                entry.seen &= !changed;
                entry.failures = 0;
                entry.problem = None;
                entry.due = Instant::now() + entry.refresh;
                drop(entries);
                if changed {
                    tracing::info!(host = %source.host(), "a key set changed");
                    self.store(source, &keys);
                    // The engine is gone only when the process ends.
                    let _ = self.changed.send(Trigger::Keys);
                }
            }
            Err(problem) => {
                tracing::warn!(host = %source.host(), problem, "a key set could not be fetched; the last good one stays");
                self.metrics.jwks_failures.get_or_create(&vec![("host", source.host())]).inc();
                entry.failures = entry.failures.saturating_add(1);
                let backoff = Duration::from_secs(1 << entry.failures.min(9))
                    .min(MAX_BACKOFF)
                    .min(entry.refresh.max(MIN_REFRESH));
                entry.due = Instant::now() + backoff.mul_f64(0.5 + rand::random::<f64>() / 2.0);
                let first = entry.problem.replace(problem).is_none() && entry.keys.is_none();
                drop(entries);
                if first {
                    // So that the provider's diagnostic says what is wrong.
                    let _ = self.changed.send(Trigger::Keys);
                }
            }
        }
    }

    async fn fetch(&self, source: &Source) -> Result<String, String> {
        let body = match source {
            Source::Uri(uri) => self.get_text(uri).await?,
            Source::File(path) => read_file(path).await?,
            Source::Issuer(issuer) => {
                let text = self
                    .get_text(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))
                    .await?;
                let found: serde_json::Value =
                    serde_json::from_str(&text).map_err(|_| "the discovery document is not JSON")?;
                // OpenID Connect Discovery 1.0, 4.3: the issuer must be exactly the one that was asked.
                if found.get("issuer").and_then(|v| v.as_str()) != Some(issuer.as_str()) {
                    return Err("the discovery document names another issuer".into());
                }
                let uri =
                    found.get("jwks_uri").and_then(|v| v.as_str()).ok_or("the discovery document has no jwks_uri")?;
                as_protected(issuer, uri)?;
                self.get_text(uri).await?
            }
        };
        let set: serde_json::Value = serde_json::from_str(&body).map_err(|_| "the key set is not JSON")?;
        match set.get("keys").and_then(|keys| keys.as_array()) {
            // An empty one is an answer, and may be meant.
            Some(_) => Ok(body),
            None => Err("the answer is not a key set".into()),
        }
    }

    async fn get_text(&self, uri: &str) -> Result<String, String> {
        let url = Url::parse(uri).map_err(|_| "its address is not a URL")?;
        self.allowed(&url)?;
        // An error's own text may repeat the address, which may hold credentials.
        let explain = |error: reqwest::Error| {
            let mut text = error.without_url().to_string();
            text.truncate(text.char_indices().nth(200).map_or(text.len(), |(at, _)| at));
            text
        };
        let mut response = self.client.get(url).header("accept", "application/json").send().await.map_err(explain)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("the answer was status {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(explain)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(format!("the answer is longer than {MAX_BODY_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| "the answer is not UTF-8".into())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// An issuer that is asked over https must not send us elsewhere for its keys: over plain http anybody in between could
/// replace them, and on this machine's own ports there is nothing for it to ask.
fn as_protected(issuer: &str, uri: &str) -> Result<(), String> {
    let https = |text: &str| Url::parse(text).is_ok_and(|url| url.scheme() == "https");
    if https(issuer) && !https(uri) {
        return Err("the discovery document of an https issuer names a key set that is not fetched over https".into());
    }
    Ok(())
}

async fn read_file(path: &str) -> Result<String, String> {
    let explain = |error: std::io::Error| format!("the file cannot be read: {error}");
    let file = tokio::fs::File::open(path).await.map_err(explain)?;
    let mut text = String::new();
    file.take(MAX_BODY_BYTES as u64 + 1).read_to_string(&mut text).await.map_err(explain)?;
    if text.len() > MAX_BODY_BYTES { Err(format!("the file is longer than {MAX_BODY_BYTES} bytes")) } else { Ok(text) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn key_sets(dir: &std::path::Path) -> (Arc<KeySets>, mpsc::Receiver<Trigger>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = Arc::new(PolicyStore::open(&dir.join("policy.redb")).unwrap());
        let (sender, receiver) = mpsc::channel();
        (Arc::new(KeySets::new(store, Arc::default(), false, None, sender).unwrap()), receiver)
    }

    async fn identity_provider() -> (String, Arc<Mutex<String>>) {
        let body = Arc::new(Mutex::new(r#"{"keys":[{"kid":"a"}]}"#.to_owned()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (issuer, served) = (address.clone(), Arc::clone(&body));
        let router = axum::Router::new()
            .route(
                "/.well-known/openid-configuration",
                axum::routing::get(
                    move || async move { format!(r#"{{"issuer":"{issuer}","jwks_uri":"{issuer}/keys"}}"#) },
                ),
            )
            .route("/keys", axum::routing::get(move || async move { served.lock().unwrap().clone() }))
            .route("/huge", axum::routing::get(|| async { "x".repeat(MAX_BODY_BYTES + 1) }))
            .route("/away", axum::routing::get(|| async { (axum::http::StatusCode::FOUND, [("location", "/keys")]) }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (address, body)
    }

    /// Asks as a compilation whose provider can use keys with a `kid` that begins with `good`.
    fn ask(keys: &KeySets, source: &Source, keep: Duration) -> Result<Found, String> {
        keys.begin();
        let usable = |body: &str| body.contains("\"good");
        let found = keys.get(source, &Want { refresh: MIN_REFRESH, keep, usable: &usable });
        keys.end();
        found
    }

    const GOOD: &str = r#"{"keys":[{"kid":"good-1"}]}"#;
    const OTHER_GOOD: &str = r#"{"keys":[{"kid":"good-2"}]}"#;
    const EMPTY: &str = r#"{"keys":[]}"#;
    const BROKEN: &str = r#"{"keys":[{"kid":"broken"}]}"#;
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_last_good_set_stands_in_for_one_without_a_usable_key_and_then_goes() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source::Uri("https://idp.example.com/keys".into());
        {
            let (keys, _triggers) = key_sets(dir.path());
            assert!(ask(&keys, &source, HOUR).is_err());
            let publish = |body: &str| {
                keys.fetched(&source, Ok(body.into()));
                ask(&keys, &source, HOUR).unwrap()
            };
            assert_eq!(publish(GOOD), Found { body: GOOD.into(), stands_in: None });
            let Found { body, stands_in } = publish(BROKEN);
            let (since, until) = stands_in.unwrap();
            assert_eq!((body.as_str(), until - since), (GOOD, 3_600_000_000));
            // Another one without a usable key does not begin anew.
            let Found { body, stands_in } = publish(EMPTY);
            assert_eq!((body.as_str(), stands_in), (GOOD, Some((since, until))));
            assert_eq!(publish(EMPTY).stands_in, Some((since, until)));
            assert_eq!(publish(OTHER_GOOD), Found { body: OTHER_GOOD.into(), stands_in: None });
            assert_eq!(publish(EMPTY).body, OTHER_GOOD);
            // What nobody could ever use has nothing in front of it.
            let other = Source::Uri("https://other.example.com/keys".into());
            assert!(ask(&keys, &other, HOUR).is_err());
        }
        let (keys, _triggers) = key_sets(dir.path());
        assert_eq!(ask(&keys, &source, HOUR).unwrap().body, OTHER_GOOD, "also over a restart");
        std::thread::sleep(Duration::from_millis(5));
        let over = Found { body: EMPTY.into(), stands_in: None };
        assert_eq!(ask(&keys, &source, Duration::from_millis(1)).unwrap(), over);
        assert_eq!(ask(&keys, &source, HOUR).unwrap(), over, "gone is gone");
        drop(keys);
        let (keys, _triggers) = key_sets(dir.path());
        assert_eq!(ask(&keys, &source, HOUR).unwrap(), over, "also over a restart");
    }

    #[test]
    fn a_key_that_was_withdrawn_does_not_come_back_because_nobody_compiled_in_between() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source::Uri("https://idp.example.com/keys".into());
        let (keys, _triggers) = key_sets(dir.path());
        assert!(ask(&keys, &source, HOUR).is_err());
        keys.fetched(&source, Ok(GOOD.into()));
        assert_eq!(ask(&keys, &source, HOUR).unwrap().body, GOOD);
        keys.fetched(&source, Ok(OTHER_GOOD.into()));
        keys.fetched(&source, Ok(BROKEN.into()));
        assert_eq!(ask(&keys, &source, HOUR).unwrap(), Found { body: BROKEN.into(), stands_in: None });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_compilation_is_asked_for_when_the_last_good_set_must_go() {
        let dir = tempfile::tempdir().unwrap();
        let (keys, triggers) = key_sets(dir.path());
        let source = Source::File(dir.path().join("keys.json").to_string_lossy().into_owned());
        std::fs::write(dir.path().join("keys.json"), EMPTY).unwrap();
        let keep = Duration::from_millis(300);
        assert!(ask(&keys, &source, keep).is_err());
        keys.fetched(&source, Ok(GOOD.into()));
        assert_eq!(ask(&keys, &source, keep).unwrap().body, GOOD);
        keys.fetched(&source, Ok(EMPTY.into()));
        assert_eq!(triggers.try_iter().count(), 2);
        assert_eq!(ask(&keys, &source, keep).unwrap().body, GOOD);
        let (_stop, shutdown) = watch::channel(false);
        let running = tokio::spawn(Arc::clone(&keys).run(shutdown));
        let trigger = tokio::task::spawn_blocking(move || triggers.recv_timeout(Duration::from_secs(5))).await.unwrap();
        assert_eq!(trigger, Ok(Trigger::Keys));
        assert!(keys.metrics.text().contains("doorward_jwks_unusable{host=\"file\"} 1"), "{}", keys.metrics.text());
        assert_eq!(ask(&keys, &source, keep).unwrap().body, EMPTY);
        running.abort();
    }

    fn any(keys: &KeySets, source: &Source) -> Result<Found, String> {
        keys.get(source, &Want { refresh: MIN_REFRESH, keep: HOUR, usable: &|_| true })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_key_set_is_found_kept_and_never_lost_to_a_bad_answer() {
        let dir = tempfile::tempdir().unwrap();
        let (address, body) = identity_provider().await;
        let source = Source::Issuer(address.clone());
        {
            let (keys, triggers) = key_sets(dir.path());
            let (_stop, shutdown) = watch::channel(false);
            assert!(any(&keys, &source).is_err());
            let running = tokio::spawn(Arc::clone(&keys).run(shutdown));
            let trigger =
                tokio::task::spawn_blocking(move || triggers.recv_timeout(Duration::from_secs(5))).await.unwrap();
            assert_eq!(trigger, Ok(Trigger::Keys));
            assert!(any(&keys, &source).unwrap().body.contains("\"a\""));
            *body.lock().unwrap() = "<html>maintenance</html>".into();
            let result = keys.fetch(&source).await;
            assert!(result.is_err());
            keys.fetched(&source, result);
            assert!(any(&keys, &source).unwrap().body.contains("\"a\""));
            running.abort();
            let _ = running.await;
        }
        let (keys, _triggers) = key_sets(dir.path());
        assert!(any(&keys, &source).unwrap().body.contains("\"a\""), "the set survives a restart");
        for (path, expected) in [("huge", "longer"), ("away", "302"), ("none", "404")] {
            let problem = keys.fetch(&Source::Uri(format!("{address}/{path}"))).await.unwrap_err();
            assert!(problem.contains(expected), "{path}: {problem}");
        }
    }

    #[test]
    fn discovery_over_https_does_not_lead_to_plain_http_or_this_machine() {
        let secure = "https://idp.example.com";
        assert!(as_protected(secure, "https://keys.example.com/k").is_ok());
        for uri in ["http://127.0.0.1:7071/metrics", "http://idp.example.com/k", "k"] {
            assert!(as_protected(secure, uri).is_err(), "{uri}");
        }
        assert!(as_protected("http://127.0.0.1:1", "http://127.0.0.1:1/k").is_ok());
    }

    #[test]
    fn plain_http_is_for_loopback() {
        let dir = tempfile::tempdir().unwrap();
        let (keys, _triggers) = key_sets(dir.path());
        let check = |uri: &str| keys.check(&Source::Uri(uri.into())).is_ok();
        assert!(
            check("https://idp.example.com/k")
                && check("http://127.0.0.1:1/k")
                && check("http://localhost/k")
                && check("http://[::1]/k")
        );
        assert!(
            !check("http://idp.example.com/k")
                && !check("file:///etc/passwd")
                && !check("http://127.0.0.1.example.com/k")
                && !check("k")
        );
        assert!(!Source::Uri("https://user:pw@h/k".into()).host().contains("pw"));
    }
}
