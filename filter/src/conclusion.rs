//! How a verdict is carried out: recorded, and the request changed, answered, or let go. It happens in a callback of the
//! stream, or, where somebody had to be asked, in one of the worker (see [`crate::questions`]).

use crate::{
    head::Head,
    problem,
    proxy::{Buffer, Level, Map, Proxy},
    response::Response,
    stream::{AwaitedBody, Phase},
    worker::Active,
};
use doorward_policy::{
    code::{Code, Denial},
    dialect::Rewrite,
    engine::{self, Outcome, Verdict},
    request::HttpRequest,
};

/// The request that a verdict is about.
#[derive(Clone, Copy)]
pub struct Decided<'a> {
    /// Its stream.
    pub context: u32,
    /// The stream's root.
    pub root: u32,
    /// Its head.
    pub head: &'a Head,
    /// Bytes of its body in the host's buffer; `None`: no body was awaited.
    pub body: Option<usize>,
    /// What deciding had taken before it waited for a body or an answer.
    pub decided_nanos: u64,
}

/// What is known of a stream once its request is decided.
pub struct Concluded {
    /// Passing, ended, or waiting for the body.
    pub phase: Phase,
    /// Id of the decision.
    pub decision_id: String,
    /// What has to happen to the response.
    pub response: Response,
    /// Caches cannot see that the response is for one caller.
    pub caller_is_invisible: bool,
}

/// Records a verdict and carries it out.
#[inline(never)]
pub fn conclude(
    proxy: &impl Proxy,
    active: &mut Active,
    now_nanos: u64,
    mut verdict: Verdict,
    request: &Decided<'_>,
) -> Concluded {
    let Decided { context, root, head, body, decided_nanos } = *request;
    // The clock is the host's, and asking it costs about as much as a decision.
    if active.metrics.wants_durations() {
        let nanos = proxy.now_nanos().saturating_sub(now_nanos).saturating_add(decided_nanos);
        if let Some(decision) = &mut verdict.record.decision {
            decision.duration_nanos = nanos;
        }
        active.metrics.decided_in(nanos);
    }
    let decision_id = std::mem::take(&mut verdict.decision_id);
    let mut response = Response::Untouched;
    let mut caller_is_invisible = false;
    if let Outcome::Allow(rewrite) = &verdict.outcome {
        // Carried out first, recorded then: a record must not say that a request went out that could not be changed.
        if !apply(proxy, rewrite, head, body) {
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
    if (verdict.audit_required || active.emitter.is_eager()) && proxy.set_effective_context(root).is_ok() {
        active.flush(proxy, now_nanos);
        let _ = proxy.set_effective_context(context);
    }
    let phase = match verdict.outcome {
        Outcome::Deny(denial) => {
            active.metrics.denied(denial.code);
            problem::deny(proxy, &denial, &decision_id);
            Phase::Ended
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
                problem::deny(proxy, &Denial::new(Code::Unsupported, detail), &decision_id);
                return Concluded { phase: Phase::Ended, decision_id, response, caller_is_invisible };
            }
            active.metrics.passed();
            Phase::Passing
        }
        Outcome::Allow(rewrite) => {
            active.metrics.allowed();
            caller_is_invisible = head.get("authorization").is_none();
            response = Response::planned(rewrite.response, sequence.filter(|_| verdict.audit_required));
            Phase::Passing
        }
    };
    Concluded { phase, decision_id, response, caller_is_invisible }
}

/// Decides on a request whose body is whole, or went over its limit, and carries the verdict out.
#[inline(never)]
pub fn body_is_whole(
    proxy: &impl Proxy,
    active: &mut Active,
    now: u64,
    (context, root): (u32, u32),
    awaited: AwaitedBody,
) -> Concluded {
    let AwaitedBody { limit, pending, head, source, size, decided_nanos } = awaited;
    // Trailers alone show it as well; and this request waits no more.
    active.bodies.came();
    let fits = size <= limit;
    let body = if fits && size > 0 { proxy.get_buffer(Buffer::RequestBody, 0, size) } else { Ok(Vec::new()) };
    let headers = head.headers(size > 0);
    let verdict = match (&body, head.request(&headers, body.as_deref().ok(), &source)) {
        (Ok(body), Some(request)) if !fits || body.len() == size => active.finish(proxy, now, pending, &request, fits),
        (_, request) => {
            let denial = Denial::new(Code::Unparsable, "The body of the request could not be read.");
            let blank =
                HttpRequest { method: "", authority: "", path: "", headers: &[], body: None, source_address: &source };
            active.unavailable(proxy, now, request.as_ref().unwrap_or(&blank), denial)
        }
    };
    let decided = Decided { context, root, head: &head, body: Some(size), decided_nanos };
    conclude(proxy, active, now, verdict, &decided)
}

/// Changes the request that waits at the host. False: a change could not be made, and the request must not go on.
#[inline(never)]
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
