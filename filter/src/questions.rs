//! The control plane is asked about callers that only their identity provider knows (RFC 7662).
//!
//! A request that waits for an answer has a [`Slip`]: what is known of it, kept by its stream and, until the answer is there,
//! by the worker too. The host calls nobody when a paused stream goes on, so the worker's callback decides, changes the
//! request and lets it go, and leaves the outcome on the slip; the stream takes it over at its next callback. The worker's
//! callback never touches a stream, and a stream never touches another's slip, so nothing is borrowed twice.
//!
//! Requests with the same token share one call. Whatever is no answer denies: none in time, one that cannot be read, a call
//! that fails, and one call too many.

use crate::{
    conclusion::{self, Concluded, Decided},
    head::Head,
    problem,
    proxy::{Direction, GrpcCall, Level, Map, Proxy},
    response::Response,
    stream::{AwaitedBody, Flow, Phase, a_body_came},
    worker::{Active, SharedWorker},
};
use doorward_policy::{
    code::{Code, Denial},
    engine::{Answer, Begin, Question, Unanswered},
    identity::Introspection,
    request::HttpRequest,
};
use doorward_proto::v1::{IntrospectResponse, introspect_response::Outcome};
use prost::Message as _;
use std::{cell::RefCell, net::IpAddr, rc::Rc, time::Duration};

const SERVICE: &str = "doorward.v1.Identity";
const METHOD: &str = "Introspect";
/// So long an answer may take: longer than the 10 s that a document may give its provider, so that the control plane gives
/// up its own call before, and says why.
const DEADLINE: Duration = Duration::from_secs(11);
/// After so long without a word of the host, no answer comes any more: the host ends calls at their deadline.
const OVERDUE_MILLIS: u64 = 12_000;
/// Calls at once. At 50 ms an answer, these are 5,000 new tokens a second and worker; a flood of invented tokens goes no
/// further than this, and takes at most 1 MiB. One client has at most half of what is free.
const MAX_CALLS: usize = 256;
/// Requests that wait at once, for any call; one client has at most half of what is free.
const MAX_WAITING: usize = 4096;

/// A request that waits for an answer.
pub struct Slip {
    context: u32,
    root: u32,
    head: Head,
    source: String,
    client: Client,
    /// The head was the end.
    end: bool,
    /// The end of the body came.
    is_whole: bool,
    has_trailers: bool,
    /// Bytes of its body so far.
    size: usize,
    decided_nanos: u64,
    pending: Option<Unanswered>,
    /// What became of it, until its stream takes it over.
    pub outcome: Option<Concluded>,
}

/// Who is given a share: an address; of IPv6 the /64, which one customer of a network has to himself.
type Client = u64;

fn client(source: &str) -> Client {
    match source.parse().map(|ip: IpAddr| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.to_bits().into(),
        Ok(IpAddr::V6(ip)) => u64::try_from(ip.to_bits() >> 64).unwrap_or_default(),
        Err(_) => 0,
    }
}

/// Whether a client that has so many may have one more, of so many for all of whom so many are taken.
fn may_take(own: usize, taken: usize, all: usize) -> bool {
    own < all.saturating_sub(taken)
}

/// A slip, shared by its stream and the worker.
pub type SharedSlip = Rc<RefCell<Slip>>;

impl Slip {
    /// Of the stream of this context and root. `end`: it has no body.
    #[must_use]
    pub fn new((context, root): (u32, u32), head: Head, source: String, end: bool, decided_nanos: u64) -> Self {
        Slip {
            context,
            root,
            head,
            client: client(&source),
            source,
            end,
            is_whole: end,
            has_trailers: false,
            size: 0,
            decided_nanos,
            pending: None,
            outcome: None,
        }
    }

    /// More of its body came while it waits. The host keeps it, up to its own limit.
    pub fn more_body(&mut self, worker: &SharedWorker, so_far: usize, end: bool) -> Flow {
        if self.size == 0 {
            a_body_came(worker);
        }
        self.size = self.size.max(so_far);
        self.is_whole |= end;
        Flow::STOP
    }

    /// Trailers came while it waits: its body is whole.
    pub fn trailers_came(&mut self) {
        self.is_whole = true;
        self.has_trailers = true;
    }

    fn ended(&mut self) {
        let (decision_id, response) = (String::new(), Response::Untouched);
        self.outcome = Some(Concluded { phase: Phase::Ended, decision_id, response, caller_is_invisible: false });
    }
}

/// One call, and who waits for it.
struct Asked {
    /// The call's.
    token: u32,
    question: Introspection,
    /// Unix milliseconds.
    since: u64,
    slips: Vec<SharedSlip>,
}

/// Calls on their way.
#[derive(Default)]
pub struct Questions {
    /// At most [`MAX_CALLS`].
    calls: Vec<Asked>,
}

impl Questions {
    /// Calls on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    fn waiting(&self) -> usize {
        self.calls.iter().map(|asked| asked.slips.len()).sum()
    }

    fn has_room_to_wait(&self, client: Client) -> bool {
        let own = self.calls.iter().flat_map(|asked| &asked.slips).filter(|slip| is_of(slip, client)).count();
        may_take(own, self.waiting(), MAX_WAITING)
    }

    /// A call counts for the client who has waited for it longest.
    fn has_room_to_call(&self, client: Client) -> bool {
        let own = self.calls.iter().filter(|asked| asked.slips.first().is_some_and(|slip| is_of(slip, client))).count();
        may_take(own, self.in_flight(), MAX_CALLS)
    }
}

fn is_of(slip: &SharedSlip, client: Client) -> bool {
    slip.try_borrow().is_ok_and(|slip| slip.client == client)
}

/// Asks on behalf of a request whose head has just come. The effective context is the stream's. Where nobody can be asked,
/// the slip has its outcome at once.
pub fn begin(
    proxy: &impl Proxy,
    active: &mut Active,
    now_nanos: u64,
    mut slip: Slip,
    question: Question,
    pending: Unanswered,
) -> SharedSlip {
    slip.pending = Some(pending);
    let shared = Rc::new(RefCell::new(slip));
    if !ask(proxy, active, now_nanos, &shared, question) {
        resolve(proxy, active, now_nanos, &shared, Answer::None);
    }
    shared
}

/// False: nobody is asked.
fn ask(proxy: &impl Proxy, active: &mut Active, now_nanos: u64, slip: &SharedSlip, question: Question) -> bool {
    let Question::Introspection(question) = question;
    let Ok((context, root, client)) = slip.try_borrow().map(|slip| (slip.context, slip.root, slip.client)) else {
        return false;
    };
    if !active.questions.has_room_to_wait(client) {
        active.metrics.unanswered();
        return false;
    }
    if let Some(asked) = active.questions.calls.iter_mut().find(|asked| asked.question == question) {
        asked.slips.push(Rc::clone(slip));
        return true;
    }
    if !active.questions.has_room_to_call(client) {
        active.metrics.unanswered();
        return false;
    }
    let (cluster, node, scope) = active.asks();
    // An `IntrospectRequest`, without the generated code for it: the module is near its largest size.
    let mut message = Vec::new();
    for (tag, text) in (1..).zip([node, scope, &*question.provider, &*question.token]) {
        prost::encoding::string::encode(tag, &text.to_owned(), &mut message);
    }
    let call =
        GrpcCall { cluster, service: SERVICE, method: METHOD, metadata: &[], message: &message, timeout: DEADLINE };
    // A call belongs to the context that makes it, and its answer comes to that one.
    let called = proxy.set_effective_context(root).and_then(|()| proxy.grpc_call(&call));
    let _ = proxy.set_effective_context(context);
    let Ok(token) = called else {
        active.metrics.unanswered();
        return false;
    };
    active.metrics.asked();
    let asked = Asked { token, question, since: now_nanos / 1_000_000, slips: vec![Rc::clone(slip)] };
    active.questions.calls.push(asked);
    true
}

/// The answer of a call came (`None`: the call ended without one). The effective context is the root's, and is again.
#[inline(never)]
pub fn answered(proxy: &impl Proxy, active: &mut Active, root: u32, token: u32, message: Option<&[u8]>) {
    let calls = &mut active.questions.calls;
    let Some(at) = calls.iter().position(|asked| asked.token == token) else { return };
    let asked = calls.swap_remove(at);
    let outcome = message.and_then(|message| IntrospectResponse::decode(message).ok()?.outcome);
    let answer = match &outcome {
        Some(Outcome::Claims(claims)) => Answer::Introspection(claims),
        Some(Outcome::Unavailable(_)) | None => {
            active.metrics.unanswered();
            Answer::None
        }
    };
    for slip in &asked.slips {
        go_on(proxy, active, slip, answer);
    }
    let _ = proxy.set_effective_context(root);
}

/// Gives up calls of whose end the host has said nothing.
pub fn give_up_overdue(proxy: &impl Proxy, active: &mut Active, root: u32, now_millis: u64) {
    for asked in &mut active.questions.calls {
        // The clock may have been set back since.
        asked.since = asked.since.min(now_millis);
    }
    give_up(proxy, active, root, now_millis.saturating_sub(OVERDUE_MILLIS));
}

/// The worker is configured anew: who waits is denied.
pub fn abandon(proxy: &impl Proxy, active: &mut Active, root: u32) {
    give_up(proxy, active, root, u64::MAX);
}

/// Gives up calls that were made until then.
fn give_up(proxy: &impl Proxy, active: &mut Active, root: u32, until: u64) {
    // Whoever asks anew meanwhile, after a change of policy, is given up at the next tick.
    for _ in 0..active.questions.in_flight() {
        let Some(asked) = active.questions.calls.iter().find(|asked| asked.since <= until) else { return };
        let token = asked.token;
        let _ = proxy.cancel_grpc(token);
        answered(proxy, active, root, token, None);
    }
}

/// The stream ends while it waits. Its record says so; a call for which nobody else waits is given up.
pub fn forget(proxy: &impl Proxy, active: &mut Active, slip: &SharedSlip) {
    let calls = &mut active.questions.calls;
    for asked in calls.iter_mut() {
        asked.slips.retain(|other| !Rc::ptr_eq(other, slip));
    }
    let unused = calls.iter().position(|asked| asked.slips.is_empty()).map(|at| calls.swap_remove(at).token);
    let Ok(slip) = slip.try_borrow() else { return };
    if let Some(token) = unused
        && proxy.set_effective_context(slip.root).is_ok()
    {
        let _ = proxy.cancel_grpc(token);
        let _ = proxy.set_effective_context(slip.context);
    }
    let headers = slip.head.headers(!slip.end);
    let (Some(request), Some(pending)) = (slip.head.request(&headers, None, &slip.source), &slip.pending) else {
        return;
    };
    let detail = "The request ended before the identity provider answered about its token.";
    // As where no answer came, so that the record says who was asked about what.
    let begun = active.answer(proxy, proxy.now_nanos(), &request, pending.clone(), Answer::None);
    let Begin::Done(verdict) = begun else { return };
    let mut record = verdict.record;
    if let Some(decision) = &mut record.decision {
        detail.clone_into(&mut decision.detail);
    }
    active.metrics.denied(Code::IdentityUnavailable);
    active.record(proxy, record, false);
}

/// Decides with the answer, from a callback of the worker, and lets the request go on if it is allowed.
fn go_on(proxy: &impl Proxy, active: &mut Active, slip: &SharedSlip, answer: Answer<'_>) {
    let Ok(context) = slip.try_borrow().map(|slip| slip.context) else { return };
    if proxy.set_effective_context(context).is_err() {
        // Nothing can be said to this stream any more. It stays where it is.
        if let Ok(mut slip) = slip.try_borrow_mut() {
            slip.ended();
        }
        return;
    }
    resolve(proxy, active, proxy.now_nanos(), slip, answer);
    let Ok(mut slip) = slip.try_borrow_mut() else { return };
    if !slip.outcome.as_ref().is_some_and(|outcome| matches!(outcome.phase, Phase::Passing)) {
        return;
    }
    // As for trailers that come later, nothing of them goes on.
    let may_go = proxy.set_effective_context(context).is_ok()
        && (!slip.has_trailers || proxy.set_headers(Map::RequestTrailers, &[]).is_ok())
        && proxy.continue_stream(Direction::Request).is_ok();
    if !may_go {
        proxy.log(Level::Error, "doorward: Envoy did not let a request go on as it was allowed; it is reset.");
        let _ = proxy.close_stream(Direction::Request);
        slip.ended();
    }
}

/// Takes the request as far as it goes with this answer; the effective context is the stream's.
#[inline(never)]
fn resolve(proxy: &impl Proxy, active: &mut Active, now_nanos: u64, shared: &SharedSlip, answer: Answer<'_>) {
    let next = {
        let Ok(mut slip) = shared.try_borrow_mut() else { return };
        let Some(pending) = slip.pending.take() else { return slip.ended() };
        let slip = &mut *slip;
        let headers = slip.head.headers(!slip.end);
        let Some(request) = slip.head.request(&headers, None, &slip.source) else {
            problem::deny(proxy, &Denial::new(Code::Unparsable, "The head of the request is not text."), "");
            drop(headers);
            return slip.ended();
        };
        let decided = Decided {
            context: slip.context,
            root: slip.root,
            head: &slip.head,
            body: None,
            decided_nanos: slip.decided_nanos,
        };
        let mut begun = active.answer(proxy, now_nanos, &request, pending, answer);
        if let (Begin::Body { .. }, true) = (&begun, slip.end)
            && let Begin::Body { pending, .. } = begun
        {
            let whole = HttpRequest { body: Some(&[]), ..request };
            begun = Begin::Done(Box::new(active.finish(proxy, now_nanos, pending, &whole, true)));
        }
        match begun {
            Begin::Done(verdict) => {
                slip.outcome = Some(conclusion::conclude(proxy, active, now_nanos, *verdict, &decided));
                None
            }
            Begin::Body { limit, pending } => {
                let own = proxy.now_nanos().saturating_sub(now_nanos);
                let decision_id = pending.decision_id().to_owned();
                drop(headers);
                let awaited = AwaitedBody {
                    limit,
                    pending,
                    head: std::mem::take(&mut slip.head),
                    source: std::mem::take(&mut slip.source),
                    size: slip.size,
                    decided_nanos: slip.decided_nanos.saturating_add(own),
                };
                slip.outcome = Some(if slip.is_whole || slip.size > limit {
                    let ids = (slip.context, slip.root);
                    conclusion::body_is_whole(proxy, active, proxy.now_nanos(), ids, awaited)
                } else {
                    if slip.size == 0 {
                        active.bodies.await_body(slip.context, &decision_id, now_nanos / 1_000_000);
                    }
                    let response = Response::Untouched;
                    let decision_id = String::new();
                    Concluded {
                        phase: Phase::Body(Box::new(awaited)),
                        decision_id,
                        response,
                        caller_is_invisible: false,
                    }
                });
                None
            }
            Begin::Ask { question, pending } => {
                slip.pending = Some(pending);
                Some(question)
            }
        }
    };
    // Asked anew after a change of policy; without a question the engine has no other answer than a denial.
    if let Some(question) = next
        && !ask(proxy, active, now_nanos, shared, question)
    {
        resolve(proxy, active, now_nanos, shared, Answer::None);
    }
}
