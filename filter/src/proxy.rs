//! What the filter's logic asks of the proxy that it runs in.
//!
//! The logic knows no other host than this trait: no clock, no randomness, no environment and no shared state of its own.
//! An implementation is a thin module beside it (`filter/proxy-wasm`). The implementation is chosen where the module is
//! compiled, so that a call costs no more than the host's own call.
//!
//! Every call may fail. It gives a [`Status`], and the caller decides what a failure means, which is always the closed side.
//!
//! The calls act on the *effective context*: the stream or root whose callback is running, unless
//! [`Proxy::set_effective_context`] said otherwise. Events of gRPC come to [`crate::worker::Worker::grpc_receive`] and
//! [`crate::worker::Worker::grpc_close`], for streams and calls alike, and are told apart by their tokens.

use crate::head::Head;
use std::time::Duration;

/// A host's answer to a call that did not succeed. The numbers are those of Proxy-Wasm 0.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// No such key, function or property.
    pub const NOT_FOUND: Status = Status(1);
    /// An argument is out of range or malformed.
    pub const BAD_ARGUMENT: Status = Status(2);
    /// What the host gave could not be read.
    pub const PARSE_FAILURE: Status = Status(4);
    /// Another worker changed the value first.
    pub const CAS_MISMATCH: Status = Status(8);
    /// The host failed.
    pub const INTERNAL_FAILURE: Status = Status(10);
    /// There is no such call here.
    pub const UNIMPLEMENTED: Status = Status(12);
}

/// What a call gave.
pub type Result<T> = core::result::Result<T, Status>;

/// Header maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the ABI's names")]
pub enum Map {
    RequestHeaders = 0,
    RequestTrailers = 1,
    ResponseHeaders = 2,
    ResponseTrailers = 3,
}

/// Buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the ABI's names")]
pub enum Buffer {
    RequestBody = 0,
    ResponseBody = 1,
    GrpcReceive = 5,
    PluginConfiguration = 7,
}

/// Directions of an HTTP stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the ABI's names")]
pub enum Direction {
    Request = 0,
    Response = 1,
}

/// Log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the ABI's names")]
pub enum Level {
    Info = 2,
    Warn = 3,
    Error = 4,
}

/// Kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the ABI's names")]
pub enum Metric {
    Counter = 0,
    Gauge = 1,
    Histogram = 2,
}

/// A unary gRPC call.
#[derive(Clone, Copy, Debug)]
pub struct GrpcCall<'a> {
    /// The proxy's cluster that serves it.
    pub cluster: &'a str,
    /// Full name of the service.
    pub service: &'a str,
    /// Name of the method.
    pub method: &'a str,
    /// Initial metadata: names in lower case, and values.
    pub metadata: &'a [(&'a str, &'a [u8])],
    /// The encoded request.
    pub message: &'a [u8],
    /// After this long the host ends the call with the status `DEADLINE_EXCEEDED` (4). Whole milliseconds.
    pub timeout: Duration,
}

/// A shared value, and the number (CAS) that says which write it is of.
pub type Shared = (Vec<u8>, u32);

/// The proxy that the filter runs in, for one worker.
#[allow(clippy::missing_errors_doc, reason = "the status is the host's, for every call")]
pub trait Proxy {
    /// Writes to the proxy's log.
    fn log(&self, level: Level, message: &str);

    /// Unix time in nanoseconds.
    fn now_nanos(&self) -> u64;

    /// Fills the buffer with bytes of the host's cryptographic source of randomness.
    fn random(&self, buffer: &mut [u8]) -> Result<()>;

    /// A variable of the environment that is meant for the filter; `None`: it is not set, or not text.
    fn variable(&self, name: &str) -> Option<String>;

    /// Asks for a tick this often.
    fn set_tick_period(&self, milliseconds: u32) -> Result<()>;

    /// At most `max` bytes of a buffer from `start` on.
    fn get_buffer(&self, buffer: Buffer, start: usize, max: usize) -> Result<Vec<u8>>;

    /// Replaces the first `size` bytes of a buffer.
    fn set_buffer(&self, buffer: Buffer, size: usize, value: &[u8]) -> Result<()>;

    /// All headers of a map.
    fn get_headers(&self, map: Map) -> Result<Head>;

    /// Replaces all headers of a map at once: one call, where each change would be one.
    fn set_headers(&self, map: Map, headers: &[(&[u8], &[u8])]) -> Result<()>;

    /// Removes all headers of this name.
    fn remove_header(&self, map: Map, name: &str) -> Result<()>;

    /// Sets a header, whatever was there.
    fn replace_header(&self, map: Map, name: &str, value: &[u8]) -> Result<()>;

    /// A property (attribute) of the proxy; the path's segments are separated by NUL.
    fn get_property(&self, path: &str) -> Result<Vec<u8>>;

    /// Lets a paused stream of the effective context go on.
    fn continue_stream(&self, direction: Direction) -> Result<()>;

    /// Resets the stream of the effective context.
    fn close_stream(&self, direction: Direction) -> Result<()>;

    /// Answers the request of the effective context.
    fn send_local_response(&self, status: u16, details: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()>;

    /// Opens a bidirectional gRPC stream from the effective (root) context; gives its token.
    fn open_grpc_stream(&self, cluster: &str, service: &str, method: &str) -> Result<u32>;

    /// Sends one message on a gRPC stream of the effective context.
    fn send_grpc(&self, token: u32, message: &[u8]) -> Result<()>;

    /// Closes a gRPC stream of the effective context.
    fn close_grpc(&self, token: u32) -> Result<()>;

    /// Makes a unary gRPC call from the effective (root) context; gives its token. Its end is either
    /// [`crate::worker::Worker::grpc_receive`] with the answer, or [`crate::worker::Worker::grpc_close`] with a status,
    /// never both.
    fn grpc_call(&self, call: &GrpcCall<'_>) -> Result<u32>;

    /// Gives up a unary call of the effective context: nothing more is heard of it.
    fn cancel_grpc(&self, token: u32) -> Result<()>;

    /// Makes later calls act on this context.
    fn set_effective_context(&self, context: u32) -> Result<()>;

    /// Calls a function that the host offers beside its ABI.
    fn call_foreign_function(&self, name: &str, arguments: &[u8]) -> Result<Vec<u8>>;

    /// Declares a metric; the same name gives the same metric in every worker.
    fn define_metric(&self, kind: Metric, name: &str) -> Result<u32>;

    /// Sets a gauge or adds a value to a histogram.
    fn record_metric(&self, metric: u32, value: u64) -> Result<()>;

    /// Adds to a counter or gauge.
    fn increment_metric(&self, metric: u32, offset: i64) -> Result<()>;

    /// A value that all workers share; `None`: absent.
    fn get_shared(&self, key: &str) -> Result<Option<Shared>>;

    /// Writes a shared value if it is still what `cas` says (`None`: still absent; `Some(0)`: whatever is there).
    fn set_shared(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<()>;

    /// Writes a shared value, whatever is there.
    fn put_shared(&self, key: &str, value: &[u8]) -> Result<()> {
        self.set_shared(key, value, Some(0))
    }
}
