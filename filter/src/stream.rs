//! One HTTP request and its response; this file holds the request's half, `response.rs` the other.

use crate::{
    bodies,
    head::{Head, without_port},
    problem,
    proxy::{Buffer, Direction, Level, Map, Proxy},
    response::Response,
    worker::{Active, SharedWorker},
};
use doorward_policy::{
    code::{Code, Denial},
    dialect::Rewrite,
    engine::{self, Begin, Outcome, Pending, Verdict},
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

/// The body that a verdict waited for.
struct Buffered {
    /// Bytes in the host's buffer.
    size: usize,
    /// What deciding had taken when it began to wait.
    decided_nanos: u64,
}

enum Phase {
    Head,
    Body { limit: usize, pending: Pending, head: Head, source: String, size: usize, decided_nanos: u64 },
    Passing,
    Ended,
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
            return self.conclude(proxy, active, now, verdict, &head, None);
        };
        match active.begin(proxy, now, &request) {
            Begin::Done(verdict) => self.conclude(proxy, active, now, *verdict, &head, None),
            Begin::Body { pending, .. } if end => {
                let whole = HttpRequest { body: Some(&[]), ..request };
                let verdict = active.finish(proxy, now, pending, &whole, true);
                self.conclude(proxy, active, now, verdict, &head, None)
            }
            // The worker has answered every question.
            Begin::Ask { .. } => self.closed(proxy, "A question was left without an answer; this is a defect."),
            Begin::Body { limit, pending } => {
                active.bodies.await_body(self.id, pending.decision_id(), now / 1_000_000);
                let decided_nanos = proxy.now_nanos().saturating_sub(now);
                drop(headers);
                self.phase = Phase::Body { limit, pending, head, source, size: 0, decided_nanos };
                Flow::STOP
            }
        }
    }

    /// More of the body is there: `size` bytes so far.
    pub fn request_body(&mut self, proxy: &impl Proxy, so_far: usize, end: bool) -> Flow {
        match &mut self.phase {
            Phase::Body { limit, size, .. } => {
                if *size == 0
                    && let Ok(mut worker) = self.worker.try_borrow_mut()
                    && let Some(active) = worker.active.as_deref_mut()
                {
                    active.bodies.came();
                }
                *size = so_far;
                if end || so_far > *limit { self.body_is_whole(proxy) } else { Flow::STOP }
            }
            Phase::Passing => Flow::CONTINUE,
            Phase::Head | Phase::Ended => Flow::STOP,
        }
    }

    /// Trailers are there, so the body is whole: no body callback said so.
    ///
    /// Nothing of them goes on. They come after the decision, so no rule for headers was applied to them, and servers merge
    /// them into the headers. No data API needs them; in gRPC, clients send none.
    pub fn request_trailers(&mut self, proxy: &impl Proxy) -> Flow {
        let flow = match &self.phase {
            Phase::Body { .. } => self.body_is_whole(proxy),
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
        let Phase::Body { limit, pending, head, source, size, decided_nanos } =
            std::mem::replace(&mut self.phase, Phase::Ended)
        else {
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
        // Trailers alone show it as well; and this request waits no more.
        active.bodies.came();
        let fits = size <= limit;
        let body = if fits && size > 0 { proxy.get_buffer(Buffer::RequestBody, 0, size) } else { Ok(Vec::new()) };
        let headers = head.headers(size > 0);
        let verdict = match (&body, head.request(&headers, body.as_deref().ok(), &source)) {
            (Ok(body), Some(request)) if !fits || body.len() == size => {
                active.finish(proxy, now, pending, &request, fits)
            }
            (_, request) => {
                let denial = Denial::new(Code::Unparsable, "The body of the request could not be read.");
                let blank = HttpRequest {
                    method: "",
                    authority: "",
                    path: "",
                    headers: &[],
                    body: None,
                    source_address: &source,
                };
                active.unavailable(proxy, now, request.as_ref().unwrap_or(&blank), denial)
            }
        };
        self.conclude(proxy, active, now, verdict, &head, Some(Buffered { size, decided_nanos }))
    }

    /// Records a verdict and carries it out.
    fn conclude(
        &mut self,
        proxy: &impl Proxy,
        active: &mut Active,
        now_nanos: u64,
        mut verdict: Verdict,
        head: &Head,
        buffered: Option<Buffered>,
    ) -> Flow {
        // The clock is the host's, and asking it costs about as much as a decision.
        if active.metrics.wants_durations() {
            let before = buffered.as_ref().map_or(0, |body| body.decided_nanos);
            let nanos = proxy.now_nanos().saturating_sub(now_nanos).saturating_add(before);
            if let Some(decision) = &mut verdict.record.decision {
                decision.duration_nanos = nanos;
            }
            active.metrics.decided_in(nanos);
        }
        self.decision_id = std::mem::take(&mut verdict.decision_id);
        if let Outcome::Allow(rewrite) = &verdict.outcome {
            // Carried out first, recorded then: a record must not say that a request went out that could not be changed.
            if !apply(proxy, rewrite, head, buffered.as_ref().map(|body| body.size)) {
                proxy.log(Level::Error, "doorward: Envoy refused a change to a request, which is therefore denied.");
                let detail = "The proxy could not put the policy's constraints into the request.";
                let denial = Denial::new(Code::Unsupported, detail);
                if let Some(decision) = &mut verdict.record.decision {
                    "deny".clone_into(&mut decision.outcome);
                    denial.code.as_str().clone_into(&mut decision.code);
                    decision.status = u32::from(denial.code.status());
                    detail.clone_into(&mut decision.detail);
                }
                verdict.record.sent = None;
                verdict.outcome = Outcome::Deny(denial);
            }
        }
        let sequence = active.record(proxy, verdict.record, verdict.audit_required);
        if verdict.audit_required && sequence.is_none() && !matches!(verdict.outcome, Outcome::Deny(_)) {
            let detail = "The record of this decision cannot be queued, and the policy requires one.";
            verdict.outcome = Outcome::Deny(Denial::new(Code::AuditUnavailable, detail));
        }
        if (verdict.audit_required || active.emitter.is_eager()) && proxy.set_effective_context(self.root).is_ok() {
            active.flush(proxy, now_nanos);
            let _ = proxy.set_effective_context(self.id);
        }
        match verdict.outcome {
            Outcome::Deny(denial) => {
                active.metrics.denied(denial.code);
                problem::deny(proxy, &denial, &self.decision_id);
                self.phase = Phase::Ended;
                Flow::STOP
            }
            Outcome::Pass => {
                let mut claimed = head.iter().filter(|(name, _)| engine::is_misleading(name));
                if claimed.any(|(name, _)| proxy.remove_header(Map::RequestHeaders, name).is_err()) {
                    proxy.log(
                        Level::Error,
                        "doorward: Envoy kept a header of a client that must not go on; the request is denied.",
                    );
                    let detail = "The proxy could not remove a header that the client may not send.";
                    active.metrics.denied(Code::Unsupported);
                    problem::deny(proxy, &Denial::new(Code::Unsupported, detail), &self.decision_id);
                    self.phase = Phase::Ended;
                    return Flow::STOP;
                }
                active.metrics.passed();
                self.phase = Phase::Passing;
                Flow::CONTINUE
            }
            Outcome::Allow(rewrite) => {
                active.metrics.allowed();
                self.caller_is_invisible = head.get("authorization").is_none();
                self.response = Response::planned(rewrite.response, sequence.filter(|_| verdict.audit_required));
                self.phase = Phase::Passing;
                Flow::CONTINUE
            }
        }
    }

    /// Denies where not even a record can be made.
    fn closed(&mut self, proxy: &impl Proxy, detail: &'static str) -> Flow {
        problem::deny(proxy, &Denial::new(Code::PolicyUnavailable, detail), "");
        self.phase = Phase::Ended;
        Flow::STOP
    }

    /// A request whose body never came to its end leaves a record too: its caller was verified, and nothing of it went on.
    fn unfinished(&mut self, proxy: &impl Proxy) {
        let Phase::Body { pending, head, source, size, .. } = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return;
        };
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
        if matches!(self.phase, Phase::Body { .. }) {
            self.unfinished(proxy);
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

/// Changes the request that waits at the host. False: a change could not be made, and the request must not go on.
fn apply(proxy: &impl Proxy, rewrite: &Rewrite, head: &Head, body: Option<usize>) -> bool {
    let length = match (&rewrite.body, body) {
        (None, _) => None,
        // In the headers phase there is no buffer to put a body in.
        (Some(new), None) if !new.is_empty() => return false,
        (Some(_), None) => None,
        (Some(new), Some(size)) => {
            if proxy.set_buffer(Buffer::RequestBody, size, new).is_err() {
                return false;
            }
            head.get("content-length").map(|_| new.len().to_string())
        }
    };
    match changed(rewrite, head, length.as_deref()) {
        // Each change of its own would be a call into the host, which costs more than writing all headers anew.
        Some(headers) => proxy.set_headers(Map::RequestHeaders, &headers).is_ok(),
        None => true,
    }
}

/// A header's name and value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// The head with the changes in it; `None`: there are none. `length`: the new content length, if it changes.
fn changed<'a>(rewrite: &'a Rewrite, head: &'a Head, length: Option<&'a str>) -> Option<Vec<Pair<'a>>> {
    let path = rewrite.path.as_deref().map(|path| (":path", path));
    let encoding = (!rewrite.response.is_passthrough()).then_some(("accept-encoding", "identity"));
    let length = length.map(|length| ("content-length", length));
    // A header that is to be removed and to be set is set.
    let headers = rewrite.set_headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let set = headers.chain(path).chain(encoding).chain(length);
    let set: Vec<Pair<'_>> = set.map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let mut all = Vec::with_capacity(head.len() + set.len());
    let mut removed = false;
    for (name, value) in head.pairs() {
        let replaced = set.iter().any(|(have, _)| *have == name);
        if replaced || rewrite.remove_headers.iter().any(|have| have.as_bytes() == name) {
            removed |= !replaced;
        } else {
            all.push((name, value));
        }
    }
    let is_there = |(name, value): &Pair<'_>| {
        let mut there = head.pairs().filter(|(have, _)| have == name);
        there.next().is_some_and(|(_, have)| have == *value) && there.next().is_none()
    };
    if !removed && set.iter().all(is_there) {
        return None;
    }
    all.extend(set);
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let pairs: [Pair<'_>; 8] = [
            (b":method", b"GET"),
            (b":path", b"/a"),
            (b"accept-encoding", b"gzip"),
            (b"cookie", b"\xff"),
            (b"x", b"1"),
            (b"x-doorward-user", b"mallory"),
            (b"x", b"2"),
            (b"x-doorward-user", b"eve"),
        ];
        Head::of(pairs)
    }

    #[test]
    fn a_request_without_changes_is_left_alone() {
        let head = head();
        assert_eq!(changed(&Rewrite::default(), &head, None), None);
        let same = Rewrite { path: Some("/a".into()), remove_headers: vec!["range".into()], ..Rewrite::default() };
        assert_eq!(changed(&same, &head, None), None);
    }

    #[test]
    fn removed_headers_go_set_ones_come_once_and_everything_else_stays_in_its_order() {
        let head = head();
        let rewrite = Rewrite {
            path: Some("/b".into()),
            remove_headers: vec!["x-doorward-user".into(), "cookie".into()],
            set_headers: vec![("x-doorward-user".into(), "alice".into()), ("accept".into(), "a/b".into())],
            ..Rewrite::default()
        };
        let expected: [Pair<'_>; 7] = [
            (b":method", b"GET"),
            (b"accept-encoding", b"gzip"),
            (b"x", b"1"),
            (b"x", b"2"),
            (b"x-doorward-user", b"alice"),
            (b"accept", b"a/b"),
            (b":path", b"/b"),
        ];
        assert_eq!(changed(&rewrite, &head, None).unwrap(), expected);
        let filtered = Rewrite {
            response: doorward_policy::transform::ResponsePlan { hide_error_bodies: true, ..Default::default() },
            ..Rewrite::default()
        };
        let headers = changed(&filtered, &head, Some("7")).unwrap();
        let of = |wanted: &str| {
            headers.iter().filter(|(name, _)| *name == wanted.as_bytes()).map(|pair| pair.1).collect::<Vec<_>>()
        };
        assert_eq!(of("accept-encoding"), [b"identity"]);
        assert_eq!(of("content-length"), [b"7"]);
        // Two lines of which one is right are not what is to be sent.
        let twice = Rewrite { set_headers: vec![("x".into(), "1".into())], ..Rewrite::default() };
        let headers = changed(&twice, &head, None).unwrap();
        assert_eq!(headers.iter().filter(|(name, _)| *name == b"x").count(), 1);
    }
}
