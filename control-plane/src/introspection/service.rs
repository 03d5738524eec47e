//! `Identity`: proxies ask, the provider answers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use doorward_proto::v1::{
    IntrospectRequest, IntrospectResponse, Unavailable, identity_server, introspect_response::Outcome,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::{
    client::{Answer, Asker, Unanswered},
    settings::{ProvidersWatch, Settings},
};
use crate::{
    access::{Access, Role},
    certificate::Owner,
    clock::now_seconds,
    connections::{Client, Peer, may_take},
    metrics::Metrics,
};

/// Bytes of a token.
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Bytes of a name.
const MAX_NAME_BYTES: usize = 256;
/// Questions that are open at one time. Each has a connection, that is a file descriptor. One client, and one provider, has at
/// most half of what is free: so who asks about invented tokens, and who answers slowly, leaves room for the others.
const MAX_OPEN: usize = 128;
/// Those of one client, of which one provider has at most half of what is free: all proxies may be one client.
const MAX_OPEN_EACH: usize = MAX_OPEN / 2;

/// What is given to everybody who asked.
type Given = Result<Arc<Answer>, Unanswered>;
/// Which question it is: the token by its hash, so that it is kept nowhere.
type Key = (Arc<Settings>, [u8; 32]);
type Flights = Arc<Mutex<HashMap<Key, Flight>>>;

/// A question that is open.
struct Flight {
    /// Who asked first.
    client: Client,
    landed: watch::Receiver<Option<Given>>,
}

/// Whether this client may put one more question to this provider.
fn has_room(flights: &HashMap<Key, Flight>, client: Client, provider: &str) -> bool {
    let at_provider = flights.keys().filter(|key| key.0.provider == provider).count();
    let own = || flights.iter().filter(|(_, flight)| flight.client == client);
    let own_there = own().filter(|(key, _)| key.0.provider == provider).count();
    may_take(own().count(), flights.len(), MAX_OPEN)
        && may_take(at_provider, flights.len(), MAX_OPEN)
        && may_take(own_there, own().count(), MAX_OPEN_EACH)
}

/// The service.
pub struct Identity {
    access: Access,
    scope: String,
    providers: ProvidersWatch,
    asker: Asker,
    metrics: Arc<Metrics>,
    flights: Flights,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a question, also where its task panics.
struct Landing {
    flights: Flights,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        lock(&self.flights).remove(&self.key);
    }
}

impl Identity {
    /// `scope`: name of the set of services. `providers`: those of the policy in force.
    pub fn new(access: Access, scope: String, providers: ProvidersWatch, asker: Asker, metrics: Arc<Metrics>) -> Self {
        Self { access, scope, providers, asker, metrics, flights: Flights::default() }
    }

    /// The same token is asked about once at a time; who comes meanwhile gets the same answer.
    async fn answer(&self, client: Client, settings: Arc<Settings>, token: String) -> Given {
        let mut flight = self.flight(client, settings, token)?;
        let landed = flight.wait_for(Option::is_some).await.map_err(|_| Unanswered::Internal)?;
        landed.clone().unwrap_or(Err(Unanswered::Internal))
    }

    fn flight(
        &self,
        client: Client,
        settings: Arc<Settings>,
        token: String,
    ) -> Result<watch::Receiver<Option<Given>>, Unanswered> {
        let key = (settings, Sha256::digest(&token).into());
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(&key) {
            return Ok(flight.landed.clone());
        }
        if !has_room(&flights, client, &key.0.provider) {
            return Err(Unanswered::Busy);
        }
        let (landed, flight) = watch::channel(None);
        flights.insert(key.clone(), Flight { client, landed: flight.clone() });
        drop(flights);
        let (asker, landing) = (self.asker.clone(), Landing { flights: Arc::clone(&self.flights), key });
        // A task of its own: others may wait for the answer when the first who asked is gone.
        let asking = async move {
            let result = asker.ask(&landing.key.0, &token).await.map(Arc::new);
            drop(landing);
            landed.send_replace(Some(result));
        };
        tokio::spawn(asking.in_current_span());
        Ok(flight)
    }
}

#[tonic::async_trait]
impl identity_server::Identity for Identity {
    async fn introspect(&self, request: Request<IntrospectRequest>) -> Result<Response<IntrospectResponse>, Status> {
        self.access.check(&request, &[Role::Proxy])?;
        let client = request.extensions().get::<Peer>().map_or(Client::Named(Owner::default()), Peer::client);
        let IntrospectRequest { node, scope, provider, token } = request.into_inner();
        if scope != self.scope {
            return Err(Status::not_found(format!(
                "this control plane serves scope `{}`; correct the plugin's `scope`",
                self.scope
            )));
        }
        if node.len() > MAX_NAME_BYTES || provider.len() > MAX_NAME_BYTES {
            return Err(Status::invalid_argument("a name is longer than 256 bytes"));
        }
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Err(Status::invalid_argument("a token has 1 to 16384 bytes"));
        }
        let started = Instant::now();
        let settings = self.providers.borrow().get(&provider).cloned();
        // Only names of documents become labels, and reach the log.
        let name = settings.as_ref().map(|settings| settings.provider.clone()).unwrap_or_default();
        let span = tracing::info_span!(
            "introspection",
            provider = name,
            outcome = tracing::field::Empty,
            milliseconds = tracing::field::Empty,
        );
        let result = match settings {
            Some(settings) => self.answer(client, settings, token).instrument(span.clone()).await,
            None => Err(Unanswered::UnknownProvider),
        };
        let outcome = match &result {
            Ok(answer) if answer.active => "active".to_owned(),
            Ok(_) => "inactive".to_owned(),
            Err(unanswered) => unanswered.to_string(),
        };
        span.record("outcome", outcome.as_str());
        span.record("milliseconds", u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        if let Err(unanswered) = &result {
            // Once a second at most: callers may come as often as they like. The metrics count them all.
            static SAID: AtomicI64 = AtomicI64::new(0);
            let now = now_seconds();
            if SAID.swap(now, Ordering::Relaxed) != now {
                let _entered = span.enter();
                tracing::warn!(reason = %unanswered, "an identity provider could not be asked about a token");
            }
        }
        self.metrics.introspections.get_or_create(&vec![("provider", name), ("outcome", outcome)]).inc();
        let outcome = match result {
            Ok(answer) => Outcome::Claims(answer.body.clone()),
            Err(unanswered) => Outcome::Unavailable(Unavailable { reason: unanswered.to_string() }),
        };
        Ok(Response::new(IntrospectResponse { outcome: Some(outcome) }))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use super::{super::settings::Secret, *};

    /// Puts questions of this client to these providers in turn until it may put no more. How many those are.
    fn fill(flights: &mut HashMap<Key, Flight>, client: Client, providers: usize) -> usize {
        let before = flights.len();
        loop {
            let taken = flights.len();
            for provider in (0..providers).map(|number| number.to_string()) {
                if has_room(flights, client, &provider) {
                    let settings = Settings {
                        provider,
                        url: String::new(),
                        client_id: String::new(),
                        secret: Secret::File(String::new()),
                        timeout: Duration::ZERO,
                    };
                    let token = Sha256::digest(flights.len().to_string()).into();
                    let flight = Flight { client, landed: watch::channel(None).1 };
                    flights.insert((Arc::new(settings), token), flight);
                }
            }
            if flights.len() == taken {
                return taken - before;
            }
        }
    }

    #[test]
    fn clients_and_providers_leave_room_for_others_however_many_they_are() {
        let address = |last| Client::Address(IpAddr::from([127, 0, 0, last]));
        for providers in 1..=20 {
            let mut flights = HashMap::new();
            let taken = fill(&mut flights, address(1), providers);
            assert!((32..=MAX_OPEN / 2).contains(&taken), "{taken} at {providers}");
            // Of the same client another provider can be asked, unless there are more than it has places for.
            let another = has_room(&flights, address(1), "another");
            assert!(another || providers > 5, "the same client at another than {providers}");
            assert!(fill(&mut flights, address(2), 1) >= 16, "another client at the first of {providers}");
            assert!(flights.len() <= MAX_OPEN);
        }
    }
}
