//! The response's half of a stream: fields are removed and masked while it streams, and it waits for its record where the
//! policy says so.

use crate::{
    head::Head,
    problem,
    proxy::{Buffer, Direction, Level, Map, Proxy},
    shape::shape,
    stream::{Flow, Stream},
};
use doorward_policy::{
    Name,
    code::{Code, Denial},
    transform::{ResponsePlan, TransformError, Transformer, is_of_preflight, tells_the_original},
};
use doorward_proto::v1::{AuditRecord, RecordKind, RecordResponse};

/// A cache in front of the proxy may keep an answer and give it to somebody else, unless the request had an `authorization`
/// header (RFC 9111, section 3.5). Who came with an API key or a mesh identity looks to it like anybody.
const PRIVATE: &str = "private, no-store";

/// The head waits until this many bytes of the filtered body are there, or all of it: until then a refusal is an answer
/// with a code of its own, and not a reset.
const HOLD: usize = 16 << 10;

const NOT_PROMISED: &str =
    "The response does not have the form that the service's dialect promises, so that it could not be filtered.";

/// What has to happen to a response.
pub enum Response {
    /// Nothing.
    Untouched,
    /// This, once its head is there; and it waits for the record of this number.
    Planned(Box<ResponsePlan>, Option<u64>),
    /// All of it waits for its record; then it is filtered, if it has to be.
    Waiting(Option<Box<Filtering>>),
    /// It is filtered.
    Filtering(Box<Filtering>),
    /// Nothing more of it may go on.
    Ended,
}

/// A response that is filtered.
pub struct Filtering {
    /// What its body goes through.
    transformer: Option<Transformer>,
    /// Names that were removed from its head, and are from its trailers.
    removed: Vec<Name>,
    status: u16,
    /// A byte of its body came.
    begun: bool,
    waits: Waits,
    /// The record that must be durable before anything goes on.
    sequence: Option<u64>,
}

/// What has not gone to the client yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// The head, and this many filtered bytes behind it.
    Head(usize),
    /// Both, for the record; the host holds what is added, as much as its watermarks let it.
    ForRecord,
    /// Nothing.
    Nothing,
}

impl Response {
    /// What this plan and the number of a required record make.
    #[must_use]
    pub fn planned(plan: ResponsePlan, sequence: Option<u64>) -> Response {
        if plan.is_passthrough() && sequence.is_none() {
            Response::Untouched
        } else {
            Response::Planned(Box::new(plan), sequence)
        }
    }

    /// Whether it waits for a record.
    #[must_use]
    pub fn waits(&self) -> bool {
        match self {
            Response::Waiting(_) => true,
            Response::Filtering(filtering) => filtering.waits == Waits::ForRecord,
            _ => false,
        }
    }
}

impl Stream {
    /// The head of the response is there. It may also be an answer of Envoy's own.
    pub fn response_headers(&mut self, proxy: &impl Proxy, end: bool) -> Flow {
        self.take_outcome();
        if std::mem::take(&mut self.caller_is_invisible)
            && proxy.replace_header(Map::ResponseHeaders, "cache-control", PRIVATE.as_bytes()).is_err()
        {
            return self.unverifiable(proxy, "The proxy could not forbid caches to keep the response.", 0);
        }
        let Response::Planned(plan, sequence) = std::mem::replace(&mut self.response, Response::Ended) else {
            self.response = Response::Untouched;
            return Flow::CONTINUE;
        };
        let mut filtering = None;
        if !plan.is_passthrough() {
            match self.prepare(proxy, *plan, end) {
                Ok(prepared) => filtering = prepared,
                Err(flow) => return flow,
            }
        }
        let holds = || {
            let mut worker = self.worker.try_borrow_mut().ok()?;
            Some(worker.active.as_deref_mut()?.holds_head(proxy, self.id, &self.decision_id, sequence))
        };
        if let Some(mut filtering) =
            filtering.take_if(|filtering| filtering.transformer.is_some() && holds().unwrap_or(false))
        {
            filtering.waits = Waits::Head(0);
            filtering.sequence = sequence;
            self.response = Response::Filtering(filtering);
            return Flow::STOP;
        }
        if let Some(sequence) = sequence {
            match self.wait_for(proxy, sequence) {
                Ok(true) => {
                    self.response = Response::Waiting(filtering);
                    return Flow::STOP_ALL;
                }
                Ok(false) => {}
                Err(flow) => return flow,
            }
        }
        self.response = filtering.map_or(Response::Untouched, Response::Filtering);
        Flow::CONTINUE
    }

    /// Whether the response has to wait for this record; from then on it does. `Err`: it is replaced.
    fn wait_for(&mut self, proxy: &impl Proxy, sequence: u64) -> Result<bool, Flow> {
        let shared = std::rc::Rc::clone(&self.worker);
        let mut worker = shared.try_borrow_mut();
        let Some(active) = worker.as_deref_mut().ok().and_then(|worker| worker.active.as_deref_mut()) else {
            // Where nobody can tell that the record is durable, it is not.
            let detail = "The record of this decision cannot be followed any more, and the policy requires it.";
            self.response = Response::Ended;
            problem::deny(proxy, &Denial::new(Code::AuditUnavailable, detail), &self.decision_id);
            return Err(Flow::STOP);
        };
        if active.emitter.is_durable(sequence) {
            return Ok(false);
        }
        active.wait(proxy, sequence, self.id, &self.decision_id);
        Ok(true)
    }

    /// Whether this record is durable.
    fn is_durable(&self, sequence: Option<u64>) -> bool {
        let worker = self.worker.try_borrow();
        let emitter = worker.as_deref().ok().and_then(|worker| worker.active.as_deref()).map(|active| &active.emitter);
        sequence.is_none_or(|sequence| emitter.is_some_and(|emitter| emitter.is_durable(sequence)))
    }

    /// Looks at the head and changes it. `Err`: the response is replaced.
    fn prepare(&mut self, proxy: &impl Proxy, plan: ResponsePlan, end: bool) -> Result<Option<Box<Filtering>>, Flow> {
        let head = proxy.get_headers(Map::ResponseHeaders).ok();
        let Some(head) = head else {
            return Err(self.unverifiable(proxy, "The head of the response could not be read.", 0));
        };
        let shape = shape(&head);
        if plan.preflight {
            return self.preflight(proxy, &head, shape.status, end);
        }
        for name in &plan.remove_headers {
            if head.get(name).is_some() && proxy.remove_header(Map::ResponseHeaders, name).is_err() {
                return Err(self.unverifiable(proxy, "A header of the response could not be removed.", shape.status));
            }
        }
        let mut plan = plan;
        let reads = plan.reads();
        let plain = shape.json && !shape.encoded;
        if shape.status >= 400 {
            if plan.hide_error_bodies || (reads && (!plain || plan.error_sites.is_empty())) {
                if !end {
                    problem::hide_error(proxy, shape.status, &self.decision_id);
                    return Err(Flow::STOP);
                }
                // The answer to HEAD shows no body, but its headers would tell of the one that is hidden.
                self.forget_original(proxy, &head, shape.status)?;
                return Ok(None);
            }
            plan.sites = std::mem::take(&mut plan.error_sites);
            plan.one_row = false;
        }
        let removed = std::mem::take(&mut plan.remove_headers);
        let strips = !removed.is_empty();
        let filtering = |transformer| {
            Box::new(Filtering {
                transformer,
                removed,
                status: shape.status,
                begun: false,
                waits: Waits::Nothing,
                sequence: None,
            })
        };
        if !reads {
            return Ok((!end && strips).then(|| filtering(None)));
        }
        self.forget_original(proxy, &head, shape.status)?;
        if end {
            if plan.one_row {
                // Only the list could tell whether there is such a row.
                return Err(self.unverifiable(
                    proxy,
                    "A record was asked for, and the response has no body.",
                    shape.status,
                ));
            }
            return Ok(None);
        }
        if !plain {
            let detail = "The response had to be filtered, and is not plain JSON in UTF-8.";
            return Err(self.unverifiable(proxy, detail, shape.status));
        }
        let transformer = self.worker.try_borrow().ok().map(|worker| {
            let key = worker.active.as_deref().and_then(|active| active.tokenization_key());
            Transformer::new(plan, key)
        });
        match transformer {
            Some(transformer) => Ok(Some(filtering(Some(transformer)))),
            None => Err(self.unverifiable(proxy, "The filter is busy with itself; this is a defect.", shape.status)),
        }
    }

    /// Removes what describes the body as upstream has it. `Err`: the response is replaced.
    fn forget_original(&mut self, proxy: &impl Proxy, head: &Head, status: u16) -> Result<(), Flow> {
        for (name, _) in head.iter().filter(|(name, _)| *name == "content-length" || tells_the_original(name)) {
            if proxy.remove_header(Map::ResponseHeaders, name).is_err() {
                let detail = "A header that tells the original body could not be removed.";
                return Err(self.unverifiable(proxy, detail, status));
            }
        }
        Ok(())
    }

    /// Lets the answer to a preflight pass without anything that is not of CORS. `Err`: the response is replaced.
    fn preflight(
        &mut self,
        proxy: &impl Proxy,
        head: &Head,
        status: u16,
        end: bool,
    ) -> Result<Option<Box<Filtering>>, Flow> {
        if !end {
            let kept = head.iter().filter(|(name, _)| is_of_preflight(name));
            let kept: Vec<_> =
                kept.filter_map(|(name, value)| Some((name, std::str::from_utf8(value).ok()?))).collect();
            problem::answer_preflight(proxy, status, &kept);
            return Err(Flow::STOP);
        }
        for (name, value) in head.iter().filter(|(name, _)| !name.starts_with(':') && !is_of_preflight(name)) {
            // The length of nothing is nothing.
            let framing = name == "content-length" && value == b"0";
            if !framing && proxy.remove_header(Map::ResponseHeaders, name).is_err() {
                return Err(self.unverifiable(proxy, "A header of the response could not be removed.", status));
            }
        }
        Ok(None)
    }

    /// More of the response's body is there.
    pub fn response_body(&mut self, proxy: &impl Proxy, size: usize, end: bool) -> Flow {
        self.take_outcome();
        // The host calls on only after the wait is over.
        if let Response::Waiting(filtering) = &mut self.response {
            self.response = filtering.take().map_or(Response::Untouched, Response::Filtering);
        }
        let mut filtering = match std::mem::replace(&mut self.response, Response::Ended) {
            Response::Filtering(filtering) => filtering,
            Response::Ended => return Flow::STOP,
            // Its head never came by, so nothing of it was looked at.
            Response::Planned(..) => {
                let _ = proxy.set_buffer(Buffer::ResponseBody, size, &[]);
                return self.cut_off(proxy);
            }
            other @ (Response::Untouched | Response::Waiting(_)) => {
                self.response = other;
                return Flow::CONTINUE;
            }
        };
        self.settle(&mut filtering);
        match filtering.take(proxy, size, end) {
            Ok(ready) => self.pass(proxy, filtering, ready, end),
            Err(error) => {
                let _ = proxy.set_buffer(Buffer::ResponseBody, size, &[]);
                self.refuse(proxy, &filtering, error)
            }
        }
    }

    /// Something came behind a head that was held. It may have been let go meanwhile, because nothing came for long.
    fn settle(&self, filtering: &mut Filtering) {
        if matches!(filtering.waits, Waits::Head(_))
            && let Ok(mut worker) = self.worker.try_borrow_mut()
            && let Some(active) = worker.active.as_deref_mut()
            && active.bodies.head_is_done(self.id)
        {
            filtering.waits = Waits::Nothing;
        }
    }

    /// Lets go on what is ready, `ready` bytes of it new; or keeps it for now.
    fn pass(&mut self, proxy: &impl Proxy, mut filtering: Box<Filtering>, ready: usize, end: bool) -> Flow {
        let flow = match filtering.waits {
            Waits::Nothing => Flow::CONTINUE,
            // Not merely buffered: what is buffered and comes over the host's limit is a 500 of its own.
            Waits::Head(held) if !end && held.saturating_add(ready) < HOLD => {
                filtering.waits = Waits::Head(held.saturating_add(ready));
                Flow::STOP_AND_WATERMARK
            }
            Waits::Head(_) => match filtering.sequence.map_or(Ok(false), |sequence| self.wait_for(proxy, sequence)) {
                Ok(true) => {
                    filtering.waits = Waits::ForRecord;
                    Flow::STOP_AND_WATERMARK
                }
                Ok(false) => {
                    filtering.waits = Waits::Nothing;
                    Flow::CONTINUE
                }
                Err(flow) => return flow,
            },
            // The worker lets the stream go on as soon as the record is durable.
            Waits::ForRecord if !self.is_durable(filtering.sequence) => Flow::STOP_AND_WATERMARK,
            Waits::ForRecord => {
                filtering.waits = Waits::Nothing;
                Flow::CONTINUE
            }
        };
        self.response = Response::Filtering(filtering);
        flow
    }

    /// Trailers are there, so the body is whole: no body callback said so.
    pub fn response_trailers(&mut self, proxy: &impl Proxy) -> Flow {
        self.take_outcome();
        if let Response::Waiting(filtering) = &mut self.response {
            self.response = filtering.take().map_or(Response::Untouched, Response::Filtering);
        }
        let mut filtering = match std::mem::replace(&mut self.response, Response::Ended) {
            Response::Filtering(filtering) => filtering,
            Response::Ended => return Flow::STOP,
            Response::Planned(..) => return self.cut_off(proxy),
            other @ (Response::Untouched | Response::Waiting(_)) => {
                self.response = other;
                return Flow::CONTINUE;
            }
        };
        self.settle(&mut filtering);
        // What is left at the end could not be sent any more; no well-formed object or list leaves anything.
        let mut rest = Vec::new();
        let body = match filtering.finish(&mut rest) {
            Ok(()) if rest.is_empty() => filtering.strip_trailers(proxy),
            Ok(()) => Err(TransformError::Unexpected),
            Err(error) => Err(error),
        };
        match body {
            Ok(()) => {
                let flow = self.pass(proxy, filtering, 0, true);
                if flow == Flow::CONTINUE { flow } else { Flow::STOP }
            }
            Err(error) => self.refuse(proxy, &filtering, error),
        }
    }

    /// The response cannot be filtered: it is replaced where its head has not gone yet, and cut off where it has.
    fn refuse(&mut self, proxy: &impl Proxy, filtering: &Filtering, error: TransformError) -> Flow {
        match (filtering.waits, error) {
            (Waits::Nothing, _) => self.cut_off(proxy),
            (_, TransformError::Absent) => {
                self.forget();
                self.response = Response::Ended;
                problem::absent(proxy, &self.decision_id);
                Flow::STOP
            }
            (..) if filtering.status >= 400 => {
                self.forget();
                self.response = Response::Ended;
                problem::hide_error(proxy, filtering.status, &self.decision_id);
                Flow::STOP
            }
            (..) => {
                self.forget();
                self.unverifiable(proxy, NOT_PROMISED, filtering.status)
            }
        }
    }

    /// Nothing of this stream waits for a record any more.
    fn forget(&self) {
        if let Ok(mut worker) = self.worker.try_borrow_mut()
            && let Some(active) = worker.active.as_deref_mut()
        {
            active.emitter.forget(self.id);
        }
    }

    /// The head has gone already: only a reset tells the client that the response is not whole.
    fn cut_off(&mut self, proxy: &impl Proxy) -> Flow {
        proxy.log(Level::Warn, "doorward: a response is cut off, because it could not be filtered to its end.");
        self.note(proxy, 0);
        let _ = proxy.close_stream(Direction::Response);
        Flow::STOP
    }

    fn unverifiable(&mut self, proxy: &impl Proxy, detail: &'static str, status: u16) -> Flow {
        self.note(proxy, status);
        problem::deny(proxy, &Denial::new(Code::ResponseUnverifiable, detail), &self.decision_id);
        Flow::STOP
    }

    /// Records that the response of an allowed request was refused.
    fn note(&mut self, proxy: &impl Proxy, status: u16) {
        self.response = Response::Ended;
        let Ok(mut worker) = self.worker.try_borrow_mut() else { return };
        let Some(active) = worker.active.as_deref_mut() else { return };
        active.metrics.denied(Code::ResponseUnverifiable);
        let micros = (proxy.now_nanos() / 1_000_000).saturating_mul(1000);
        active.emitter.offer(AuditRecord {
            decision_id: self.decision_id.clone(),
            time_micros: i64::try_from(micros).unwrap_or(i64::MAX),
            kind: RecordKind::Response.into(),
            response: Some(RecordResponse {
                decision_id: self.decision_id.clone(),
                status: u32::from(status),
                code: Code::ResponseUnverifiable.as_str().to_owned(),
                ..RecordResponse::default()
            }),
            ..AuditRecord::default()
        });
    }
}

impl Filtering {
    /// Filters the piece of `size` bytes that came, and gives how many are in its place now.
    fn take(&mut self, proxy: &impl Proxy, size: usize, end: bool) -> Result<usize, TransformError> {
        if self.transformer.is_none() || (size == 0 && !end) {
            return Ok(size);
        }
        let have = if size > 0 { proxy.get_buffer(Buffer::ResponseBody, 0, size) } else { Ok(Vec::new()) };
        let have = have.ok().filter(|have| have.len() == size).ok_or(TransformError::Limit)?;
        let mut out = Vec::with_capacity(size);
        if size > 0 {
            self.begun = true;
            if let Some(transformer) = &mut self.transformer {
                transformer.push(&have, &mut out)?;
            }
        }
        if end {
            self.finish(&mut out)?;
        }
        // What is the same already needs no call into the host.
        if out != have && proxy.set_buffer(Buffer::ResponseBody, size, &out).is_err() {
            return Err(TransformError::Limit);
        }
        Ok(out.len())
    }

    /// The body is at its end. One without a byte shows nothing, so that nothing need be in it.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), TransformError> {
        match &mut self.transformer {
            Some(transformer) if self.begun || transformer.asks_for_one_row() => transformer.finish(out),
            _ => Ok(()),
        }
    }

    /// Removes from the trailers what was removed from the head, or would have been.
    fn strip_trailers(&self, proxy: &impl Proxy) -> Result<(), TransformError> {
        let trailers = proxy.get_headers(Map::ResponseTrailers).ok();
        let trailers = trailers.ok_or(TransformError::Limit)?;
        let filtered = self.transformer.is_some();
        let goes = |name: &str| {
            self.removed.iter().any(|removed| removed.as_ref() == name) || (filtered && tells_the_original(name))
        };
        for (name, _) in trailers.iter().filter(|(name, _)| goes(name)) {
            proxy.remove_header(Map::ResponseTrailers, name).map_err(|_| TransformError::Limit)?;
        }
        Ok(())
    }
}
