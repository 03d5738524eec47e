//! The response's half of a stream: fields are removed and masked while it streams, and it waits for its record where the
//! policy says so.

use crate::{
    head::Head,
    host::Envoy,
    problem,
    raw::{self, Buffer, Direction, Level, Map},
    stream::{Flow, Stream},
};
use doorward_policy::{
    code::{Code, Denial},
    host::Host,
    transform::{ResponsePlan, Transformer, is_of_preflight, tells_the_original},
};
use doorward_proto::v1::{AuditRecord, RecordKind, RecordResponse};

/// A cache in front of the proxy may keep an answer and give it to somebody else, unless the request had an `authorization`
/// header (RFC 9111, section 3.5). Who came with an API key or a mesh identity looks to it like anybody.
const PRIVATE: &str = "private, no-store";

/// What has to happen to a response.
pub enum Response {
    /// Nothing.
    Untouched,
    /// This, once its head is there; and it waits for the record of this number.
    Planned(Box<ResponsePlan>, Option<u64>),
    /// It waits; then its body goes through the transformer, if there is one.
    Waiting(Option<Box<Transformer>>),
    /// Its body goes through this.
    Transforming(Box<Transformer>),
    /// Nothing more of it may go on.
    Ended,
}

impl Response {
    /// What this plan and the number of a required record make.
    #[must_use]
    pub fn planned(plan: ResponsePlan, sequence: Option<u64>) -> Response {
        if plan.is_passthrough() && plan.remove_headers.is_empty() && sequence.is_none() {
            Response::Untouched
        } else {
            Response::Planned(Box::new(plan), sequence)
        }
    }
}

/// What the head of a response tells.
struct Shape {
    status: u16,
    json: bool,
    encoded: bool,
}

impl Stream {
    /// The head of the response is there. It may also be an answer of Envoy's own.
    pub fn response_headers(&mut self, end: bool) -> Flow {
        if std::mem::take(&mut self.caller_is_invisible)
            && raw::replace_header(Map::ResponseHeaders, "cache-control", PRIVATE.as_bytes()).is_err()
        {
            return self.unverifiable("The proxy could not forbid caches to keep the response.", 0);
        }
        let Response::Planned(plan, sequence) = std::mem::replace(&mut self.response, Response::Ended) else {
            self.response = Response::Untouched;
            return Flow::CONTINUE;
        };
        let mut transformer = None;
        if !plan.is_passthrough() || !plan.remove_headers.is_empty() {
            match self.prepare(*plan, end) {
                Ok(prepared) => transformer = prepared,
                Err(flow) => return flow,
            }
        }
        if let Some(sequence) = sequence {
            let shared = std::rc::Rc::clone(&self.worker);
            let mut worker = shared.try_borrow_mut();
            let Some(active) = worker.as_deref_mut().ok().and_then(|worker| worker.active.as_deref_mut()) else {
                // Where nobody can tell that the record is durable, it is not.
                let detail = "The record of this decision cannot be followed any more, and the policy requires it.";
                problem::deny(&Denial::new(Code::AuditUnavailable, detail), &self.decision_id);
                return Flow::STOP;
            };
            if !active.emitter.is_durable(sequence) {
                active.wait(sequence, self.id, &self.decision_id);
                self.response = Response::Waiting(transformer);
                return Flow::STOP_ALL;
            }
        }
        self.response = transformer.map_or(Response::Untouched, Response::Transforming);
        Flow::CONTINUE
    }

    /// Looks at the head and changes it. `Err`: the response is replaced.
    fn prepare(&mut self, plan: ResponsePlan, end: bool) -> Result<Option<Box<Transformer>>, Flow> {
        let head = raw::get_headers(Map::ResponseHeaders).ok().and_then(Head::parse);
        let Some(head) = head else {
            return Err(self.unverifiable("The head of the response could not be read.", 0));
        };
        let shape = shape(&head);
        if plan.preflight {
            return self.preflight(&head, shape.status, end);
        }
        for name in &plan.remove_headers {
            if head.get(name).is_some() && raw::remove_header(Map::ResponseHeaders, name).is_err() {
                return Err(self.unverifiable("A header of the response could not be removed.", shape.status));
            }
        }
        let reads = !(plan.sites.is_empty() && plan.remove_keys.is_empty() && plan.replace_keys.is_empty());
        if shape.status >= 400 && (plan.hide_error_bodies || (reads && (!shape.json || shape.encoded))) {
            if !end {
                problem::hide_error(shape.status, &self.decision_id);
                return Err(Flow::STOP);
            }
            return Ok(None);
        }
        if !reads {
            return Ok(None);
        }
        for (name, _) in head.iter().filter(|(name, _)| *name == "content-length" || tells_the_original(name)) {
            if raw::remove_header(Map::ResponseHeaders, name).is_err() {
                return Err(
                    self.unverifiable("A header that tells the original body could not be removed.", shape.status)
                );
            }
        }
        if end {
            return Ok(None);
        }
        if !shape.json || shape.encoded {
            let detail = "The response had to be filtered, and is not plain JSON.";
            return Err(self.unverifiable(detail, shape.status));
        }
        let transformer = self.worker.try_borrow().ok().map(|worker| {
            let key = worker.active.as_deref().and_then(|active| active.tokenization_key());
            Transformer::new(plan, key)
        });
        let Some(transformer) = transformer else {
            return Err(self.unverifiable("The filter is busy with itself; this is a defect.", shape.status));
        };
        Ok(Some(Box::new(transformer)))
    }

    /// Lets the answer to a preflight pass without anything that is not of CORS. `Err`: the response is replaced.
    fn preflight(&mut self, head: &Head, status: u16, end: bool) -> Result<Option<Box<Transformer>>, Flow> {
        if !end {
            let kept = head.iter().filter(|(name, _)| is_of_preflight(name));
            let kept: Vec<_> =
                kept.filter_map(|(name, value)| Some((name, std::str::from_utf8(value).ok()?))).collect();
            problem::answer_preflight(status, &kept);
            return Err(Flow::STOP);
        }
        for (name, value) in head.iter().filter(|(name, _)| !name.starts_with(':') && !is_of_preflight(name)) {
            // The length of nothing is nothing.
            let framing = name == "content-length" && value == b"0";
            if !framing && raw::remove_header(Map::ResponseHeaders, name).is_err() {
                return Err(self.unverifiable("A header of the response could not be removed.", status));
            }
        }
        Ok(None)
    }

    /// More of the response's body is there.
    pub fn response_body(&mut self, size: usize, end: bool) -> Flow {
        // The host calls on only after the wait is over.
        if let Response::Waiting(transformer) = &mut self.response {
            self.response = transformer.take().map_or(Response::Untouched, Response::Transforming);
        }
        let transformer = match &mut self.response {
            Response::Transforming(transformer) => transformer,
            Response::Ended => return Flow::STOP,
            // Its head never came by, so nothing of it was looked at.
            Response::Planned(..) => {
                let _ = raw::set_buffer(Buffer::ResponseBody, size, &[]);
                return self.cut_off();
            }
            Response::Untouched | Response::Waiting(_) => return Flow::CONTINUE,
        };
        let mut out = Vec::with_capacity(size);
        let chunk = if size > 0 { raw::get_buffer(Buffer::ResponseBody, 0, size) } else { Ok(Vec::new()) };
        let good = chunk.is_ok_and(|chunk| {
            chunk.len() == size
                && transformer.push(&chunk, &mut out).is_ok()
                && (!end || transformer.finish(&mut out).is_ok())
                // What is the same already needs no call into the host.
                && (out == chunk || raw::set_buffer(Buffer::ResponseBody, size, &out).is_ok())
        });
        if good {
            return Flow::CONTINUE;
        }
        let _ = raw::set_buffer(Buffer::ResponseBody, size, &[]);
        self.cut_off()
    }

    /// Trailers are there, so the body is whole: no body callback said so.
    pub fn response_trailers(&mut self) -> Flow {
        let whole = match &mut self.response {
            Response::Transforming(transformer) => {
                // What is left at the end could not be sent any more; no well-formed object or list leaves anything.
                let mut rest = Vec::new();
                transformer.finish(&mut rest).is_ok() && rest.is_empty()
            }
            Response::Ended => return Flow::STOP,
            Response::Planned(..) => false,
            Response::Untouched | Response::Waiting(_) => true,
        };
        if whole { Flow::CONTINUE } else { self.cut_off() }
    }

    /// The head has gone already: only a reset tells the client that the response is not whole.
    fn cut_off(&mut self) -> Flow {
        raw::log(Level::Warn, "doorward: a response is cut off, because it could not be filtered to its end.");
        self.note(0);
        let _ = raw::close_stream(Direction::Response);
        Flow::STOP
    }

    fn unverifiable(&mut self, detail: &'static str, status: u16) -> Flow {
        self.note(status);
        problem::deny(&Denial::new(Code::ResponseUnverifiable, detail), &self.decision_id);
        Flow::STOP
    }

    /// Records that the response of an allowed request was refused.
    fn note(&mut self, status: u16) {
        self.response = Response::Ended;
        let Ok(mut worker) = self.worker.try_borrow_mut() else { return };
        let Some(active) = worker.active.as_deref_mut() else { return };
        active.metrics.denied(Code::ResponseUnverifiable);
        let micros = Envoy::now().now_millis().saturating_mul(1000);
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

fn shape(head: &Head) -> Shape {
    let text = |name| head.get(name).and_then(|value| std::str::from_utf8(value).ok());
    let media = text("content-type").and_then(|value| value.split(';').next()).unwrap_or("").trim();
    let media = media.to_ascii_lowercase();
    let types = head.iter().filter(|(name, _)| *name == "content-type").count();
    Shape {
        status: text(":status").and_then(|status| status.parse().ok()).unwrap_or(0),
        json: types == 1
            && (media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))),
        encoded: head
            .iter()
            .any(|(name, value)| name == "content-encoding" && !value.eq_ignore_ascii_case(b"identity")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(pairs: &[(&str, &str)]) -> Head {
        let mut out = (pairs.len() as u32).to_le_bytes().to_vec();
        for (name, value) in pairs {
            out.extend((name.len() as u32).to_le_bytes());
            out.extend((value.len() as u32).to_le_bytes());
        }
        for (name, value) in pairs {
            out.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
        }
        Head::parse(out).unwrap()
    }

    #[test]
    fn only_one_plain_json_content_type_counts_as_json() {
        for (value, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/json", false),
            ("text/html", false),
            ("application/jsonp", false),
        ] {
            assert_eq!(shape(&head(&[(":status", "200"), ("content-type", value)])).json, json, "{value}");
        }
        let twice = head(&[("content-type", "application/json"), ("content-type", "text/html")]);
        assert!(!shape(&twice).json);
        assert!(!shape(&head(&[])).json);
    }

    #[test]
    fn any_content_encoding_but_identity_makes_a_response_unreadable() {
        assert!(shape(&head(&[("content-encoding", "gzip")])).encoded);
        assert!(shape(&head(&[("content-encoding", "identity"), ("content-encoding", "br")])).encoded);
        assert!(!shape(&head(&[("content-encoding", "Identity")])).encoded);
    }
}
