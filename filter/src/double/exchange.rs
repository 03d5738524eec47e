//! One request through the filter.

use super::{Double, Http, Pairs, pairs};
use crate::{
    proxy::Map,
    stream::{Flow, Stream},
    worker::SharedWorker,
};

/// One request and its response on their way through the filter, as Envoy carries them.
pub struct Exchange<'a> {
    proxy: &'a Double,
    /// The filter's stream.
    pub stream: Stream,
    /// Its context.
    pub context: u32,
    /// What the upstream got: the head, and the body so far.
    pub upstream: Option<(Pairs, Vec<u8>)>,
    /// What the client got of the upstream's response: the head, and the body so far.
    pub client: Option<(Pairs, Vec<u8>)>,
    /// Response bytes that wait at the host behind the filter.
    held: Vec<u8>,
    /// Pieces of the response that the filter has not seen, because everything waits.
    queued: Vec<(Vec<u8>, bool)>,
    stopped_all: bool,
}

impl<'a> Exchange<'a> {
    /// A stream of this context of a worker whose root context is `root`.
    #[must_use]
    pub fn new(proxy: &'a Double, worker: &SharedWorker, root: u32, context: u32) -> Self {
        proxy.set().http.insert(context, Http::default());
        Exchange {
            proxy,
            stream: Stream::new(context, root, SharedWorker::clone(worker)),
            context,
            upstream: None,
            client: None,
            held: Vec::new(),
            queued: Vec::new(),
            stopped_all: false,
        }
    }

    fn change(&self, act: impl FnOnce(&mut Http)) {
        if let Some(http) = self.proxy.set().http.get_mut(&self.context) {
            act(http);
        }
    }

    fn put_headers(&self, map: Map, headers: &[(&str, &str)]) {
        self.change(|http| {
            if let Some(have) = http.headers.get_mut(map as usize) {
                *have = pairs(headers);
            }
        });
    }

    /// What the host has of the stream.
    #[must_use]
    pub fn http(&self) -> Http {
        self.proxy.http(self.context)
    }

    /// The filter's own answer, if it gave one: its status and code.
    #[must_use]
    pub fn answer(&self) -> Option<(u16, String)> {
        self.http().local.map(|(status, code, ..)| (status, code))
    }

    fn is_over(&self) -> bool {
        let http = self.http();
        http.local.is_some() || http.is_reset
    }

    /// The client sends a request of these pieces of a body; `whole`: and its end.
    pub fn request(&mut self, headers: &[(&str, &str)], pieces: &[&[u8]], whole: bool) -> &mut Self {
        self.put_headers(Map::RequestHeaders, headers);
        self.proxy.enter(self.context);
        let flow = self.stream.request_headers(self.proxy, pieces.is_empty() && whole);
        if flow == Flow::CONTINUE {
            self.pass_request();
        }
        for (at, piece) in pieces.iter().enumerate() {
            if self.is_over() {
                break;
            }
            self.change(|http| http.request_body.extend_from_slice(piece));
            self.proxy.enter(self.context);
            let size = self.http().request_body.len();
            if self.stream.request_body(self.proxy, size, whole && at + 1 == pieces.len()) == Flow::CONTINUE {
                self.pass_request();
            }
        }
        self
    }

    /// What waits of the request goes on.
    fn pass_request(&mut self) {
        if self.is_over() {
            return;
        }
        let http = self.http();
        let [headers, ..] = http.headers;
        self.upstream.get_or_insert((headers, Vec::new())).1.extend(http.request_body);
        self.change(|http| http.request_body.clear());
    }

    /// The upstream answers, if it was asked. No pieces: an answer without a body.
    pub fn response(&mut self, headers: &[(&str, &str)], pieces: &[&[u8]]) -> &mut Self {
        if self.upstream.is_none() || self.is_over() {
            return self;
        }
        self.put_headers(Map::ResponseHeaders, headers);
        self.proxy.enter(self.context);
        match self.stream.response_headers(self.proxy, pieces.is_empty()) {
            Flow::CONTINUE => self.pass_response(),
            flow => self.stopped_all = flow == Flow::STOP_ALL,
        }
        let last = pieces.len();
        self.queued = pieces.iter().enumerate().map(|(at, piece)| (piece.to_vec(), at + 1 == last)).collect();
        self.drain()
    }

    fn drain(&mut self) -> &mut Self {
        for (piece, end) in std::mem::take(&mut self.queued) {
            if self.is_over() {
                break;
            }
            if self.stopped_all {
                self.queued.push((piece, end));
                continue;
            }
            self.change(|http| http.response_body.extend(piece));
            self.proxy.enter(self.context);
            let size = self.http().response_body.len();
            match self.stream.response_body(self.proxy, size, end) {
                Flow::CONTINUE => self.pass_response(),
                Flow::STOP_AND_WATERMARK => {
                    // What the filter has seen waits behind it; the next callback is about what is new.
                    self.held.extend(self.http().response_body);
                    self.change(|http| http.response_body.clear());
                }
                _ => {}
            }
        }
        self
    }

    /// What waits of the response goes on.
    fn pass_response(&mut self) {
        if self.is_over() {
            return;
        }
        let http = self.http();
        let [_, _, headers, _] = http.headers;
        let client = self.client.get_or_insert((headers, Vec::new()));
        client.1.append(&mut self.held);
        client.1.extend(http.response_body);
        self.change(|http| http.response_body.clear());
    }

    /// Carries out what the worker said to this stream from a callback of its own.
    pub fn resume(&mut self) -> &mut Self {
        let [request, response] = self.http().continued;
        self.change(|http| http.continued = [false; 2]);
        if request {
            self.pass_request();
        }
        if response {
            self.stopped_all = false;
            self.pass_response();
            self.drain();
        }
        self
    }

    /// The stream ends.
    pub fn done(&mut self) {
        self.proxy.enter(self.context);
        self.stream.done(self.proxy);
    }
}
