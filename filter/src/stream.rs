//! One HTTP request and its response; this file holds the request's half, `response.rs` the other.

use crate::{
    bodies,
    conclusion::{self, Concluded, Decided},
    head::{Head, without_port},
    problem,
    proxy::{Direction, Level, Map, Proxy},
    questions::{self, SharedSlip, Slip},
    response::Response,
    worker::{Active, SharedWorker},
};
use doorward_policy::{
    code::{Code, Denial},
    engine::{Begin, Pending, Verdict},
    request::HttpRequest,
};

/// What the host does next with the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow(pub u32);

impl Flow {
    /// It goes on.
    pub const CONTINUE: Flow = Flow(0);
    /// Headers wait while the body arrives, or the body is buffered.
    pub const STOP: Flow = Flow(1);
    /// A body is buffered, and its sender slowed down as soon as the buffer is full.
    pub const STOP_AND_WATERMARK: Flow = Flow(2);
    /// Everything of this direction waits for `continue_stream`.
    pub const STOP_ALL: Flow = Flow(4);
}

/// How far a request is.
pub enum Phase {
    /// Nothing of it came yet.
    Head,
    /// Somebody was asked about it; its verdict, once there is one, is found there.
    Asking(SharedSlip),
    /// Its body is awaited.
    Body(Box<AwaitedBody>),
    /// It goes on.
    Passing,
    /// It was answered or reset here.
    Ended,
}

/// A request whose body is awaited.
pub struct AwaitedBody {
    /// Bytes that it may have.
    pub limit: usize,
    /// What is known so far.
    pub pending: Pending,
    /// Its head.
    pub head: Head,
    /// Where it comes from.
    pub source: String,
    /// Bytes of its body so far.
    pub size: usize,
    /// What deciding had taken when it began to wait.
    pub decided_nanos: u64,
}

/// A stream context.
pub struct Stream {
    /// Its number.
    pub(crate) id: u32,
    /// Its root's number.
    root: u32,
    /// Its root.
    pub(crate) worker: SharedWorker,
    phase: Phase,
    /// Id of the decision, once there is one.
    pub(crate) decision_id: String,
    /// What has to happen to the response.
    pub(crate) response: Response,
    /// Caches cannot see that the response is for one caller.
    pub(crate) caller_is_invisible: bool,
}

impl Stream {
    /// The stream of a request whose head has not come yet.
    #[must_use]
    pub fn new(id: u32, root: u32, worker: SharedWorker) -> Self {
        Stream {
            id,
            root,
            worker,
            phase: Phase::Head,
            decision_id: String::new(),
            response: Response::Untouched,
            caller_is_invisible: false,
        }
    }

    /// The head of the request is there.
    pub fn request_headers(&mut self, proxy: &impl Proxy, end: bool) -> Flow {
        let now = proxy.now_nanos();
        let head = proxy.get_headers(Map::RequestHeaders).ok().unwrap_or_default();
        let source = proxy.get_property("source\0address").ok().and_then(|value| String::from_utf8(value).ok());
        let source = without_port(source.as_deref().unwrap_or("")).to_owned();
        let shared = std::rc::Rc::clone(&self.worker);
        let Ok(mut worker) = shared.try_borrow_mut() else {
            return self.closed(proxy, "The filter is busy with itself; this is a defect.");
        };
        let Some(active) = worker.active.as_deref_mut() else {
            return self.closed(proxy, "The filter's configuration is not valid; the proxy's log says why.");
        };
        let headers = head.headers(!end);
        let Some(request) = head.request(&headers, None, &source) else {
            let blank = HttpRequest {
                method: "",
                authority: "",
                path: "",
                headers: &headers,
                body: None,
                source_address: &source,
            };
            let denial = Denial::new(Code::Unparsable, "The head of the request is incomplete, or not text.");
            let verdict = active.unavailable(proxy, now, &blank, denial);
            return self.conclude(proxy, active, now, verdict, &head);
        };
        match active.begin(proxy, now, &request) {
            Begin::Done(verdict) => self.conclude(proxy, active, now, *verdict, &head),
            Begin::Body { pending, .. } if end => {
                let whole = HttpRequest { body: Some(&[]), ..request };
                let verdict = active.finish(proxy, now, pending, &whole, true);
                self.conclude(proxy, active, now, verdict, &head)
            }
            Begin::Ask { question, pending } => {
                let decided_nanos = proxy.now_nanos().saturating_sub(now);
                drop(headers);
                let slip = Slip::new((self.id, self.root), head, source, end, decided_nanos);
                let slip = questions::begin(proxy, active, now, slip, question, pending);
                self.phase = Phase::Asking(slip);
                self.take_outcome();
                match self.phase {
                    Phase::Passing => Flow::CONTINUE,
                    Phase::Asking(_) if !active.reads_bodies() => Flow::STOP_ALL,
                    _ => Flow::STOP,
                }
            }
            Begin::Body { limit, pending } => {
                active.bodies.await_body(self.id, pending.decision_id(), now / 1_000_000);
                let decided_nanos = proxy.now_nanos().saturating_sub(now);
                drop(headers);
                let awaited = AwaitedBody { limit, pending, head, source, size: 0, decided_nanos };
                self.phase = Phase::Body(Box::new(awaited));
                Flow::STOP
            }
        }
    }

    /// Takes over the verdict on a request about which somebody was asked, once there is one.
    #[inline(never)]
    pub(crate) fn take_outcome(&mut self) {
        if let Phase::Asking(slip) = &self.phase
            && let Some(concluded) = slip.try_borrow_mut().ok().and_then(|mut slip| slip.outcome.take())
        {
            self.take(concluded);
        }
    }

    #[inline(never)]
    fn take(&mut self, concluded: Concluded) {
        let Concluded { phase, decision_id, response, caller_is_invisible } = concluded;
        self.phase = phase;
        self.decision_id = decision_id;
        self.response = response;
        self.caller_is_invisible = caller_is_invisible;
    }

    /// More of the body is there: `size` bytes so far.
    pub fn request_body(&mut self, proxy: &impl Proxy, so_far: usize, end: bool) -> Flow {
        self.take_outcome();
        let (size, is_whole) = match &mut self.phase {
            Phase::Body(body) => (&mut body.size, end || so_far > body.limit),
            Phase::Asking(slip) => {
                let Ok(mut slip) = slip.try_borrow_mut() else { return Flow::STOP };
                return slip.more_body(&self.worker, so_far, end);
            }
            Phase::Passing => return Flow::CONTINUE,
            Phase::Head | Phase::Ended => return Flow::STOP,
        };
        if *size == 0 {
            a_body_came(&self.worker);
        }
        // Once it was over what may be read, only what is new may be counted.
        *size = so_far.max(*size);
        if is_whole { self.body_is_whole(proxy) } else { Flow::STOP }
    }

    /// Trailers are there, so the body is whole: no body callback said so.
    ///
    /// Nothing of them goes on. They come after the decision, so no rule for headers was applied to them, and servers merge
    /// them into the headers. No data API needs them; in gRPC, clients send none.
    pub fn request_trailers(&mut self, proxy: &impl Proxy) -> Flow {
        self.take_outcome();
        let flow = match &self.phase {
            Phase::Body(_) => self.body_is_whole(proxy),
            Phase::Asking(slip) => {
                if let Ok(mut slip) = slip.try_borrow_mut() {
                    slip.trailers_came();
                }
                Flow::STOP
            }
            Phase::Passing => Flow::CONTINUE,
            Phase::Head | Phase::Ended => Flow::STOP,
        };
        if flow == Flow::CONTINUE && proxy.set_headers(Map::RequestTrailers, &[]).is_err() {
            proxy.log(Level::Error, "doorward: Envoy kept the trailers of a request, which is therefore reset.");
            let _ = proxy.close_stream(Direction::Request);
            self.phase = Phase::Ended;
            return Flow::STOP;
        }
        flow
    }

    fn body_is_whole(&mut self, proxy: &impl Proxy) -> Flow {
        let Phase::Body(body) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return Flow::STOP;
        };
        let now = proxy.now_nanos();
        let shared = std::rc::Rc::clone(&self.worker);
        let Ok(mut worker) = shared.try_borrow_mut() else {
            return self.closed(proxy, "The filter is busy with itself; this is a defect.");
        };
        let Some(active) = worker.active.as_deref_mut() else {
            return self.closed(proxy, "The filter's configuration is not valid; the proxy's log says why.");
        };
        self.take(conclusion::body_is_whole(proxy, active, now, (self.id, self.root), *body));
        self.flow()
    }

    /// Records a verdict on a request without a body, and carries it out.
    fn conclude(
        &mut self,
        proxy: &impl Proxy,
        active: &mut Active,
        now_nanos: u64,
        verdict: Verdict,
        head: &Head,
    ) -> Flow {
        let decided = Decided { context: self.id, root: self.root, head, body: None, decided_nanos: 0 };
        self.take(conclusion::conclude(proxy, active, now_nanos, verdict, &decided));
        self.flow()
    }

    fn flow(&self) -> Flow {
        if matches!(self.phase, Phase::Passing) { Flow::CONTINUE } else { Flow::STOP }
    }

    /// Denies where not even a record can be made.
    #[inline(never)]
    fn closed(&mut self, proxy: &impl Proxy, detail: &'static str) -> Flow {
        problem::deny(proxy, &Denial::new(Code::PolicyUnavailable, detail), "");
        self.phase = Phase::Ended;
        Flow::STOP
    }

    /// A request whose body never came to its end leaves a record too: its caller was verified, and nothing of it went on.
    fn unfinished(&mut self, proxy: &impl Proxy) {
        let Phase::Body(body) = std::mem::replace(&mut self.phase, Phase::Ended) else { return };
        let AwaitedBody { pending, head, source, size, .. } = *body;
        let shared = std::rc::Rc::clone(&self.worker);
        let Ok(mut worker) = shared.try_borrow_mut() else { return };
        let Some(active) = worker.active.as_deref_mut() else { return };
        let denial = if active.bodies.forget(self.id) {
            Denial::new(Code::PolicyUnavailable, bodies::NEVER_CAME)
        } else {
            active.metrics.denied(Code::Unparsable);
            Denial::new(Code::Unparsable, "The body of the request never came to its end.")
        };
        let headers = head.headers(size > 0);
        if let Some(request) = head.request(&headers, None, &source) {
            active.record(proxy, active.unfinished(proxy, &pending, &request, denial).record, false);
        }
    }

    /// The stream is at its end.
    pub fn done(&mut self, proxy: &impl Proxy) {
        self.take_outcome();
        match &self.phase {
            Phase::Body(_) => self.unfinished(proxy),
            Phase::Asking(slip) => {
                if let Ok(mut worker) = self.worker.try_borrow_mut()
                    && let Some(active) = worker.active.as_deref_mut()
                {
                    questions::forget(proxy, active, slip);
                }
                self.phase = Phase::Ended;
            }
            _ => {}
        }
        if let Ok(mut worker) = self.worker.try_borrow_mut()
            && let Some(active) = worker.active.as_deref_mut()
        {
            active.bodies.forget_head(self.id);
        }
        if self.response.waits()
            && let Ok(mut worker) = self.worker.try_borrow_mut()
            && let Some(active) = worker.active.as_deref_mut()
        {
            active.emitter.forget(self.id);
        }
    }
}

/// Bytes of some body came: the host hands bodies over.
#[inline(never)]
pub(crate) fn a_body_came(worker: &SharedWorker) {
    if let Ok(mut worker) = worker.try_borrow_mut()
        && let Some(active) = worker.active.as_deref_mut()
    {
        active.bodies.came();
    }
}
