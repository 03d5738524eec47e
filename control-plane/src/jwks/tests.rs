use super::{
    fetch::{MAX_BODY_BYTES, as_protected},
    *,
};
use tokio::sync::watch;

pub(crate) fn key_sets(dir: &std::path::Path) -> (Arc<KeySets>, mpsc::Receiver<Trigger>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = Arc::new(PolicyStore::open(&dir.join("policy.redb")).unwrap());
    let (sender, receiver) = mpsc::channel();
    (Arc::new(KeySets::new(store, Arc::default(), false, None, None, sender).unwrap()), receiver)
}

async fn identity_provider() -> (String, Arc<Mutex<String>>) {
    let body = Arc::new(Mutex::new(r#"{"keys":[{"kid":"a"}]}"#.to_owned()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (issuer, served) = (address.clone(), Arc::clone(&body));
    let router = axum::Router::new()
        .route(
            "/.well-known/openid-configuration",
            axum::routing::get(move || async move { format!(r#"{{"issuer":"{issuer}","jwks_uri":"{issuer}/keys"}}"#) }),
        )
        .route("/keys", axum::routing::get(move || async move { served.lock().unwrap().clone() }))
        .route("/huge", axum::routing::get(|| async { "x".repeat(MAX_BODY_BYTES + 1) }))
        .route("/away", axum::routing::get(|| async { (axum::http::StatusCode::FOUND, [("location", "/keys")]) }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, body)
}

/// Asks as a compilation whose provider can use keys with a `kid` that begins with `good`.
fn ask(keys: &KeySets, source: &Source, keep: Duration) -> Result<Found, Missing> {
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

fn any(keys: &KeySets, source: &Source) -> Result<Found, Missing> {
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
        let trigger = tokio::task::spawn_blocking(move || triggers.recv_timeout(Duration::from_secs(5))).await.unwrap();
        assert_eq!(trigger, Ok(Trigger::Keys));
        assert!(any(&keys, &source).unwrap().body.contains("\"a\""));
        *body.lock().unwrap() = "<html>maintenance</html>".into();
        let result = keys.fetcher.fetch(&source).await;
        assert!(result.is_err());
        keys.fetched(&source, result);
        assert!(any(&keys, &source).unwrap().body.contains("\"a\""));
        running.abort();
        let _ = running.await;
    }
    let (keys, _triggers) = key_sets(dir.path());
    assert!(any(&keys, &source).unwrap().body.contains("\"a\""), "the set survives a restart");
    for (path, expected) in [("huge", "longer"), ("away", "302"), ("none", "404")] {
        let problem = keys.fetcher.fetch(&Source::Uri(format!("{address}/{path}"))).await.unwrap_err();
        assert!(problem.to_string().contains(expected), "{path}: {problem}");
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
    let check = |uri: &str| keys.fetcher.check(&Source::Uri(uri.into())).is_ok();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_ends_by_a_defect_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, _triggers) = key_sets(dir.path());
    let source = Source::Uri("https://idp.example.com/keys".into());
    assert_eq!(any(&keys, &source), Err(Missing::Pending { host: "idp.example.com".into() }));
    let (_stop, shutdown) = watch::channel(false);
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let fetch = move |_: Arc<KeySets>, _: Source| {
        let call = counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            match call {
                0 => panic!("a defect"),
                _ => Ok(GOOD.to_owned()),
            }
        }
    };
    let running = tokio::spawn(Arc::clone(&keys).run_with(shutdown, fetch));
    let mut problems = Vec::new();
    let found = loop {
        match any(&keys, &source) {
            Ok(found) => break found,
            Err(missing) => problems.push(missing.to_string()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(found.body, GOOD);
    assert!(problems.iter().any(|told| told.contains("a defect of doorward")), "{problems:?}");
    assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 2);
    running.abort();
}
