//! The calls into Envoy by its Proxy-Wasm ABI (0.2.1), and the few callbacks that the SDK cannot serve: the only module
//! with `unsafe` code.
//!
//! The SDK takes the callbacks and keeps the contexts. Its own calls into the host panic on every status that it does not
//! expect, and one panic is a 503 for every stream of the worker. So the filter makes its calls here: each returns its
//! status, and the caller decides what a failure means, which is always the closed side.
//!
//! Outside wasm32 there is no host: calls fail with [`Status::UNIMPLEMENTED`].

#[cfg(all(target_arch = "wasm32", feature = "entry-points"))]
mod exports;

#[cfg(all(target_arch = "wasm32", feature = "entry-points"))]
pub use exports::answer;

use doorward_filter::{
    proxy::{Buffer, Direction, GrpcCall, Level, Map, Metric, Result, Shared, Status},
    upstream::grpc_service,
};

macro_rules! host_functions {
    ($(fn $name:ident($($argument:ident: $kind:ty),*);)*) => {
        #[cfg(target_arch = "wasm32")]
        #[link(wasm_import_module = "env")]
        unsafe extern "C" { $(fn $name($($argument: $kind),*) -> u32;)* }
        #[cfg(not(target_arch = "wasm32"))]
        #[allow(clippy::too_many_arguments, reason = "the ABI")]
        mod absent { $(pub(super) unsafe fn $name($(_: $kind),*) -> u32 { super::Status::UNIMPLEMENTED.0 })* }
        #[cfg(not(target_arch = "wasm32"))]
        use absent::*;
    };
}

host_functions! {
    fn proxy_log(level: u32, data: *const u8, size: usize);
    fn proxy_get_current_time_nanoseconds(out: *mut u64);
    fn proxy_set_tick_period_milliseconds(period: u32);
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, max: usize, data: *mut *mut u8, size: *mut usize);
    fn proxy_set_buffer_bytes(buffer: u32, start: usize, size: usize, data: *const u8, length: usize);
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize);
    fn proxy_set_header_map_pairs(map: u32, data: *const u8, size: usize);
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize);
    fn proxy_replace_header_map_value(map: u32, key: *const u8, key_size: usize, value: *const u8, value_size: usize);
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize);
    fn proxy_continue_stream(direction: u32);
    fn proxy_close_stream(direction: u32);
    fn proxy_send_local_response(status: u32, details: *const u8, details_size: usize, body: *const u8,
        body_size: usize, headers: *const u8, headers_size: usize, grpc_status: i32);
    fn proxy_grpc_stream(upstream: *const u8, upstream_size: usize, service: *const u8, service_size: usize,
        method: *const u8, method_size: usize, metadata: *const u8, metadata_size: usize, out: *mut u32);
    fn proxy_grpc_send(token: u32, message: *const u8, size: usize, end_stream: u32);
    fn proxy_grpc_close(token: u32);
    fn proxy_grpc_call(upstream: *const u8, upstream_size: usize, service: *const u8, service_size: usize,
        method: *const u8, method_size: usize, metadata: *const u8, metadata_size: usize, message: *const u8,
        message_size: usize, timeout_millis: u32, out: *mut u32);
    fn proxy_grpc_cancel(token: u32);
    fn proxy_set_effective_context(context: u32);
    fn proxy_call_foreign_function(name: *const u8, name_size: usize, arguments: *const u8, arguments_size: usize,
        data: *mut *mut u8, size: *mut usize);
    fn proxy_get_shared_data(key: *const u8, key_size: usize, data: *mut *mut u8, size: *mut usize, cas: *mut u32);
    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, value_size: usize, cas: u32);
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, out: *mut u32);
    fn proxy_record_metric(metric: u32, value: u64);
    fn proxy_increment_metric(metric: u32, offset: i64);
}

fn check(status: u32) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(Status(status)) }
}

/// Runs a call that returns memory, and takes that memory over.
fn returned(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>> {
    let (mut data, mut size) = (core::ptr::null_mut::<u8>(), 0_usize);
    check(call(&raw mut data, &raw mut size))?;
    if data.is_null() || size == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the host got this memory from the SDK's `proxy_on_memory_allocate(size)`, which gives away a boxed slice of
    // exactly `size` bytes of this allocator, and filled all of it.
    Ok(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// Writes to the proxy's log.
pub fn log(level: Level, message: &str) {
    // SAFETY: the pointer and length are of a live slice, which the host only reads. (So for every call below.)
    let _ = unsafe { proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// Unix time in nanoseconds.
pub fn now_nanos() -> Result<u64> {
    let mut now = 0;
    // SAFETY: `now` outlives the call.
    check(unsafe { proxy_get_current_time_nanoseconds(&raw mut now) })?;
    Ok(now)
}

/// Asks for a tick this often.
#[allow(clippy::missing_errors_doc, reason = "the status is the host's; so for every call below")]
pub fn set_tick_period(milliseconds: u32) -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
}

/// Bytes of a buffer.
pub fn get_buffer(buffer: Buffer, start: usize, max: usize) -> Result<Vec<u8>> {
    // SAFETY: see `returned`.
    returned(|data, size| unsafe { proxy_get_buffer_bytes(buffer as u32, start, max, data, size) })
}

/// Replaces the first `size` bytes of a buffer.
pub fn set_buffer(buffer: Buffer, size: usize, value: &[u8]) -> Result<()> {
    // SAFETY: see `log`.
    check(unsafe { proxy_set_buffer_bytes(buffer as u32, 0, size, value.as_ptr(), value.len()) })
}

/// All headers of a map, serialised; see `Head::parse` of `doorward_filter`.
pub fn get_headers(map: Map) -> Result<Vec<u8>> {
    // SAFETY: see `returned`.
    returned(|data, size| unsafe { proxy_get_header_map_pairs(map as u32, data, size) })
}

/// Replaces all headers of a map at once: one call, where each change would be one.
pub fn set_headers(map: Map, headers: &[(&[u8], &[u8])]) -> Result<()> {
    let headers = serialize(headers);
    // SAFETY: see `log`.
    check(unsafe { proxy_set_header_map_pairs(map as u32, headers.as_ptr(), headers.len()) })
}

/// Removes all headers of this name.
pub fn remove_header(map: Map, name: &str) -> Result<()> {
    // SAFETY: see `log`.
    check(unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// Sets a header, whatever was there.
pub fn replace_header(map: Map, name: &str, value: &[u8]) -> Result<()> {
    // SAFETY: see `log`.
    check(unsafe { proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// A property; the path's segments are separated by NUL.
pub fn get_property(path: &str) -> Result<Vec<u8>> {
    // SAFETY: see `returned`.
    returned(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

/// Lets a paused stream of the effective context go on.
pub fn continue_stream(direction: Direction) -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_continue_stream(direction as u32) })
}

/// Resets the stream of the effective context.
pub fn close_stream(direction: Direction) -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_close_stream(direction as u32) })
}

/// Answers the request of the effective context.
pub fn send_local_response(status: u16, details: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
    let headers: Vec<(&[u8], &[u8])> =
        headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let headers = serialize(&headers);
    // SAFETY: see `log`.
    check(unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            -1,
        )
    })
}

/// Opens a bidirectional gRPC stream from the effective (root) context.
pub fn open_grpc_stream(cluster: &str, service: &str, method: &str) -> Result<u32> {
    let upstream = grpc_service(cluster);
    let metadata = serialize(&[]);
    let mut token = 0;
    // SAFETY: see `log`; `token` outlives the call.
    check(unsafe {
        proxy_grpc_stream(
            upstream.as_ptr(),
            upstream.len(),
            service.as_ptr(),
            service.len(),
            method.as_ptr(),
            method.len(),
            metadata.as_ptr(),
            metadata.len(),
            &raw mut token,
        )
    })?;
    Ok(token)
}

/// Sends one message on a gRPC stream of the effective context.
pub fn send_grpc(token: u32, message: &[u8]) -> Result<()> {
    // SAFETY: see `log`.
    check(unsafe { proxy_grpc_send(token, message.as_ptr(), message.len(), 0) })
}

/// Closes a gRPC stream of the effective context.
pub fn close_grpc(token: u32) -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_grpc_close(token) })
}

/// Makes a unary gRPC call from the effective (root) context.
pub fn grpc_call(call: &GrpcCall<'_>) -> Result<u32> {
    let metadata: Vec<(&[u8], &[u8])> = call.metadata.iter().map(|(name, value)| (name.as_bytes(), *value)).collect();
    let metadata = serialize(&metadata);
    let upstream = grpc_service(call.cluster);
    // Envoy takes 0 for no deadline at all.
    let timeout = u32::try_from(call.timeout.as_millis()).unwrap_or(u32::MAX).max(1);
    let mut token = 0;
    // SAFETY: see `log`; `token` outlives the call.
    check(unsafe {
        proxy_grpc_call(
            upstream.as_ptr(),
            upstream.len(),
            call.service.as_ptr(),
            call.service.len(),
            call.method.as_ptr(),
            call.method.len(),
            metadata.as_ptr(),
            metadata.len(),
            call.message.as_ptr(),
            call.message.len(),
            timeout,
            &raw mut token,
        )
    })?;
    Ok(token)
}

/// Gives up a unary call of the effective context.
pub fn cancel_grpc(token: u32) -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_grpc_cancel(token) })
}

/// Makes later calls act on this context.
pub fn set_effective_context(context: u32) -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_set_effective_context(context) })
}

/// Calls a function that the host offers beside the ABI.
pub fn call_foreign_function(name: &str, arguments: &[u8]) -> Result<Vec<u8>> {
    // SAFETY: see `returned`.
    returned(|data, size| unsafe {
        proxy_call_foreign_function(name.as_ptr(), name.len(), arguments.as_ptr(), arguments.len(), data, size)
    })
}

/// Declares a metric; the same name gives the same metric in every worker.
pub fn define_metric(kind: Metric, name: &str) -> Result<u32> {
    let mut metric = 0;
    // SAFETY: see `log`; `metric` outlives the call.
    check(unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut metric) })?;
    Ok(metric)
}

/// Sets a gauge or adds a value to a histogram.
pub fn record_metric(metric: u32, value: u64) -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_record_metric(metric, value) })
}

/// Adds to a counter or gauge.
pub fn increment_metric(metric: u32, offset: i64) -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_increment_metric(metric, offset) })
}

/// A CAS value that no entry has: a write with it succeeds only where the key is absent.
const ABSENT: u32 = u32::MAX;

/// A shared value and its CAS; `None`: absent.
pub fn get_shared(key: &str) -> Result<Option<Shared>> {
    let mut cas = 0;
    // SAFETY: see `returned`; `cas` outlives the call.
    match returned(|data, size| unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut cas) }) {
        Ok(value) => Ok(Some((value, cas))),
        Err(Status::NOT_FOUND) => Ok(None),
        Err(status) => Err(status),
    }
}

/// Writes a shared value if it is still what `cas` says (`None`: still absent).
pub fn set_shared(key: &str, value: &[u8], cas: Option<u32>) -> Result<()> {
    // SAFETY: see `log`.
    check(unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas.unwrap_or(ABSENT)) })
}

/// The ABI's form of a header map: count, lengths, then names and values, each followed by NUL; little endian.
fn serialize(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let length = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let size = pairs.iter().fold(4, |size, (name, value)| size + name.len() + value.len() + 10);
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(&length(pairs.len()));
    for (name, value) in pairs {
        out.extend_from_slice(&length(name.len()));
        out.extend_from_slice(&length(value.len()));
    }
    for (name, value) in pairs {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
    out
}
