//! A proxy for tests: it answers what it was told to, keeps what the filter did, and lets any call fail.
//!
//! [`Double`] is the host; [`Exchange`] carries one request and its response through a [`Stream`](crate::stream::Stream), as Envoy would, and keeps
//! what reached the upstream and the client. Also for tests of other crates, by the feature `double`.

mod exchange;

pub use exchange::Exchange;

use crate::{
    head::Head,
    proxy::{Buffer, Direction, GrpcCall, Level, Map, Metric, Proxy, Result, Shared, Status},
    worker::SharedWorker,
};
use std::{
    cell::{Ref, RefCell, RefMut},
    collections::HashMap,
};

/// Names and values of headers.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// An answer of the filter's own: status, code, headers, body.
pub type Local = (u16, String, Vec<(String, String)>, Vec<u8>);

/// What the host keeps of one HTTP stream.
#[derive(Clone, Debug, Default)]
pub struct Http {
    /// By map, in the order of [`Map`].
    pub headers: [Pairs; 4],
    /// The part of the request's body that is buffered.
    pub request_body: Vec<u8>,
    /// The part of the response's body that is buffered.
    pub response_body: Vec<u8>,
    /// The filter's own answer: status, code, headers, body.
    pub local: Option<Local>,
    /// The filter let the request, or the response, go on.
    pub continued: [bool; 2],
    /// The filter reset the stream.
    pub is_reset: bool,
}

/// One gRPC stream or call.
#[derive(Clone, Debug, Default)]
pub struct Grpc {
    /// Full name of the service, a slash, the method.
    pub method: String,
    /// Messages that the filter sent.
    pub sent: Vec<Vec<u8>>,
    /// Initial metadata of a call.
    pub metadata: Vec<(String, Vec<u8>)>,
    /// The deadline of a call; `None`: a stream.
    pub timeout_millis: Option<u128>,
    /// The filter closed or cancelled it.
    pub is_closed: bool,
}

/// Everything that the double holds.
#[derive(Debug, Default)]
pub struct State {
    /// Unix milliseconds.
    pub now_millis: u64,
    /// Names of all calls in their order, the log's left out.
    pub calls: Vec<&'static str>,
    /// How many calls that can fail were made.
    pub fallible: usize,
    /// This one of them fails, counted from 0.
    pub fails_at: Option<usize>,
    /// All after it fail too.
    pub keeps_failing: bool,
    /// The name of the first that failed.
    pub failed: Option<&'static str>,
    /// The effective context.
    pub context: u32,
    /// Values by key, with their CAS.
    pub shared: HashMap<String, Shared>,
    /// Properties by path.
    pub properties: HashMap<String, Vec<u8>>,
    /// The environment.
    pub variables: HashMap<String, String>,
    /// HTTP streams by context.
    pub http: HashMap<u32, Http>,
    /// The plugin's configuration.
    pub configuration: Vec<u8>,
    /// The gRPC message that is being received.
    pub received: Vec<u8>,
    /// gRPC streams and calls by token, from 1.
    pub grpc: Vec<Grpc>,
    /// There is no such cluster.
    pub has_no_cluster: bool,
    /// What was logged.
    pub logs: Vec<String>,
    /// Metrics by name.
    pub metrics: Vec<(String, i64)>,
    random: u64,
}

/// The host.
#[derive(Debug, Default)]
pub struct Double(RefCell<State>);

impl Double {
    /// A host that does not know the control plane's cluster.
    #[must_use]
    pub fn without_control_plane() -> Self {
        let double = Double::default();
        double.set().has_no_cluster = true;
        double
    }

    /// What it holds.
    pub fn get(&self) -> Ref<'_, State> {
        self.0.borrow()
    }

    /// What it holds, to change it.
    pub fn set(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// Makes later calls act on this context, as the host does before each callback.
    pub fn enter(&self, context: u32) {
        self.set().context = context;
    }

    /// What the host has of this stream.
    #[must_use]
    pub fn http(&self, context: u32) -> Http {
        self.get().http.get(&context).cloned().unwrap_or_default()
    }

    /// The last open stream or call of this method: its token.
    #[must_use]
    pub fn token(&self, method: &str) -> Option<u32> {
        let state = self.get();
        let at = state.grpc.iter().rposition(|grpc| grpc.method.ends_with(method) && !grpc.is_closed)?;
        u32::try_from(at).ok()?.checked_add(1)
    }

    /// Messages sent on all streams of this method, which are forgotten.
    #[must_use]
    pub fn take_sent(&self, method: &str) -> Vec<Vec<u8>> {
        let mut state = self.set();
        let streams = state.grpc.iter_mut().filter(|grpc| grpc.method.ends_with(method));
        streams.flat_map(|grpc| std::mem::take(&mut grpc.sent)).collect()
    }

    /// A message comes on this stream, or as the answer of this call.
    pub fn deliver(&self, worker: &SharedWorker, root: u32, token: u32, message: Vec<u8>) {
        let size = message.len();
        {
            let mut state = self.set();
            state.received = message;
            // An answer is the end of its call.
            if let Ok(grpc) = state.grpc(token)
                && grpc.timeout_millis.is_some()
            {
                grpc.is_closed = true;
            }
        }
        self.enter(root);
        worker.borrow_mut().grpc_receive(self, token, size);
    }

    /// Configures a worker.
    pub fn configure(&self, worker: &SharedWorker, root: u32, json: &str) {
        self.set().configuration = json.as_bytes().to_vec();
        self.enter(root);
        worker.borrow_mut().configure(self, json.len());
    }

    /// A tick, this many milliseconds after now.
    pub fn tick(&self, worker: &SharedWorker, root: u32, later: u64) {
        self.set().now_millis += later;
        self.enter(root);
        worker.borrow_mut().tick(self);
    }

    fn infallible(&self, name: &'static str) {
        self.set().calls.push(name);
    }

    /// Counts a call; it fails if its turn has come.
    fn call(&self, name: &'static str) -> Result<RefMut<'_, State>> {
        let mut state = self.set();
        state.calls.push(name);
        let number = state.fallible;
        state.fallible += 1;
        if state.fails_at.is_some_and(|at| number == at || number > at && state.keeps_failing) {
            state.failed.get_or_insert(name);
            return Err(Status::INTERNAL_FAILURE);
        }
        Ok(state)
    }
}

impl State {
    fn stream(&mut self) -> Result<&mut Http> {
        self.http.get_mut(&self.context).ok_or(Status::BAD_ARGUMENT)
    }

    fn map(&mut self, map: Map) -> Result<&mut Pairs> {
        self.stream()?.headers.get_mut(map as usize).ok_or(Status::BAD_ARGUMENT)
    }

    fn buffer(&mut self, buffer: Buffer) -> Result<&mut Vec<u8>> {
        Ok(match buffer {
            Buffer::RequestBody => &mut self.stream()?.request_body,
            Buffer::ResponseBody => &mut self.stream()?.response_body,
            Buffer::GrpcReceive => &mut self.received,
            Buffer::PluginConfiguration => &mut self.configuration,
        })
    }

    fn opened(&mut self, grpc: Grpc) -> Result<u32> {
        if self.has_no_cluster {
            return Err(Status::PARSE_FAILURE);
        }
        self.grpc.push(grpc);
        u32::try_from(self.grpc.len()).map_err(|_| Status::INTERNAL_FAILURE)
    }

    fn grpc(&mut self, token: u32) -> Result<&mut Grpc> {
        let at = usize::try_from(token).ok().and_then(|token| token.checked_sub(1)).ok_or(Status::NOT_FOUND)?;
        self.grpc.get_mut(at).filter(|grpc| !grpc.is_closed).ok_or(Status::NOT_FOUND)
    }
}

impl Proxy for Double {
    fn log(&self, _level: Level, message: &str) {
        self.set().logs.push(message.to_owned());
    }

    fn now_nanos(&self) -> u64 {
        self.infallible("now_nanos");
        self.get().now_millis * 1_000_000
    }

    fn random(&self, buffer: &mut [u8]) -> Result<()> {
        let mut state = self.call("random")?;
        for byte in buffer {
            // splitmix64: different every time, and the same in every run.
            state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state.random ^ (state.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *byte = mixed.to_be_bytes()[0];
        }
        Ok(())
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.infallible("variable");
        self.get().variables.get(name).cloned()
    }

    fn set_tick_period(&self, _milliseconds: u32) -> Result<()> {
        self.call("set_tick_period").map(|_| ())
    }

    fn get_buffer(&self, buffer: Buffer, start: usize, max: usize) -> Result<Vec<u8>> {
        let mut state = self.call("get_buffer")?;
        Ok(state.buffer(buffer)?.iter().skip(start).take(max).copied().collect())
    }

    fn set_buffer(&self, buffer: Buffer, size: usize, value: &[u8]) -> Result<()> {
        let mut state = self.call("set_buffer")?;
        let bytes = state.buffer(buffer)?;
        let rest = bytes.get(size..).unwrap_or_default();
        *bytes = [value, rest].concat();
        Ok(())
    }

    fn get_headers(&self, map: Map) -> Result<Head> {
        let mut state = self.call("get_headers")?;
        Ok(Head::of(state.map(map)?.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))))
    }

    fn set_headers(&self, map: Map, headers: &[(&[u8], &[u8])]) -> Result<()> {
        let mut state = self.call("set_headers")?;
        *state.map(map)? = headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        Ok(())
    }

    fn remove_header(&self, map: Map, name: &str) -> Result<()> {
        let mut state = self.call("remove_header")?;
        state.map(map)?.retain(|(have, _)| have != name.as_bytes());
        Ok(())
    }

    fn replace_header(&self, map: Map, name: &str, value: &[u8]) -> Result<()> {
        let mut state = self.call("replace_header")?;
        let pairs = state.map(map)?;
        pairs.retain(|(have, _)| have != name.as_bytes());
        pairs.push((name.as_bytes().to_vec(), value.to_vec()));
        Ok(())
    }

    fn get_property(&self, path: &str) -> Result<Vec<u8>> {
        self.call("get_property")?.properties.get(path).cloned().ok_or(Status::NOT_FOUND)
    }

    fn continue_stream(&self, direction: Direction) -> Result<()> {
        let mut state = self.call("continue_stream")?;
        if let Some(continued) = state.stream()?.continued.get_mut(direction as usize) {
            *continued = true;
        }
        Ok(())
    }

    fn close_stream(&self, _direction: Direction) -> Result<()> {
        self.call("close_stream")?.stream()?.is_reset = true;
        Ok(())
    }

    fn send_local_response(&self, status: u16, details: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
        let mut state = self.call("send_local_response")?;
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        state.stream()?.local = Some((status, details.to_owned(), headers, body.to_vec()));
        Ok(())
    }

    fn open_grpc_stream(&self, _cluster: &str, service: &str, method: &str) -> Result<u32> {
        let mut state = self.call("open_grpc_stream")?;
        state.opened(Grpc { method: format!("{service}/{method}"), ..Grpc::default() })
    }

    fn send_grpc(&self, token: u32, message: &[u8]) -> Result<()> {
        self.call("send_grpc")?.grpc(token)?.sent.push(message.to_vec());
        Ok(())
    }

    fn close_grpc(&self, token: u32) -> Result<()> {
        self.call("close_grpc")?.grpc(token)?.is_closed = true;
        Ok(())
    }

    fn grpc_call(&self, call: &GrpcCall<'_>) -> Result<u32> {
        let mut state = self.call("grpc_call")?;
        state.opened(Grpc {
            method: format!("{}/{}", call.service, call.method),
            sent: vec![call.message.to_vec()],
            metadata: call.metadata.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect(),
            timeout_millis: Some(call.timeout.as_millis()),
            is_closed: false,
        })
    }

    fn cancel_grpc(&self, token: u32) -> Result<()> {
        self.call("cancel_grpc")?.grpc(token)?.is_closed = true;
        Ok(())
    }

    fn set_effective_context(&self, context: u32) -> Result<()> {
        self.call("set_effective_context")?.context = context;
        Ok(())
    }

    fn call_foreign_function(&self, _name: &str, _arguments: &[u8]) -> Result<Vec<u8>> {
        self.call("call_foreign_function")?;
        Err(Status::NOT_FOUND)
    }

    fn define_metric(&self, _kind: Metric, name: &str) -> Result<u32> {
        let mut state = self.call("define_metric")?;
        state.metrics.push((name.to_owned(), 0));
        u32::try_from(state.metrics.len() - 1).map_err(|_| Status::INTERNAL_FAILURE)
    }

    fn record_metric(&self, metric: u32, value: u64) -> Result<()> {
        let mut state = self.call("record_metric")?;
        let (_, have) = state.metrics.get_mut(metric as usize).ok_or(Status::NOT_FOUND)?;
        *have = i64::try_from(value).unwrap_or(i64::MAX);
        Ok(())
    }

    fn increment_metric(&self, metric: u32, offset: i64) -> Result<()> {
        let mut state = self.call("increment_metric")?;
        let (_, have) = state.metrics.get_mut(metric as usize).ok_or(Status::NOT_FOUND)?;
        *have = have.saturating_add(offset);
        Ok(())
    }

    fn get_shared(&self, key: &str) -> Result<Option<Shared>> {
        Ok(self.call("get_shared")?.shared.get(key).cloned())
    }

    fn set_shared(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<()> {
        let mut state = self.call("set_shared")?;
        let have = state.shared.get(key).map(|(_, have)| *have);
        // As in Envoy, an absent key takes any CAS; 0 writes whatever is there.
        if have.is_some_and(|have| cas != Some(0) && cas != Some(have)) {
            return Err(Status::CAS_MISMATCH);
        }
        state.shared.insert(key.to_owned(), (value.to_vec(), have.unwrap_or(0).saturating_add(1)));
        Ok(())
    }
}

/// Owned names and values.
#[must_use]
pub fn pairs(headers: &[(&str, &str)]) -> Pairs {
    headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// The first value of a header, as text; empty: there is none.
#[must_use]
pub fn value(headers: &Pairs, name: &str) -> String {
    let found = headers.iter().find(|(have, _)| have == name.as_bytes());
    found.map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned())
}
