//! Envoy, by its Proxy-Wasm ABI, as the [`Proxy`] of the filter's logic.

use crate::raw;
use doorward_filter::{
    head::Head,
    proxy::{Buffer, Direction, GrpcCall, Level, Map, Metric, Proxy, Result, Shared, Status},
};

/// The host of this module. It has no state: the ABI is made of global functions.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProxyWasm;

impl Proxy for ProxyWasm {
    fn log(&self, level: Level, message: &str) {
        raw::log(level, message);
    }

    fn now_nanos(&self) -> u64 {
        raw::now_nanos().unwrap_or_else(|_| {
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
        })
    }

    fn random(&self, buffer: &mut [u8]) -> Result<()> {
        getrandom::fill(buffer).map_err(|_| Status::INTERNAL_FAILURE)
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn set_tick_period(&self, milliseconds: u32) -> Result<()> {
        raw::set_tick_period(milliseconds)
    }

    fn get_buffer(&self, buffer: Buffer, start: usize, max: usize) -> Result<Vec<u8>> {
        raw::get_buffer(buffer, start, max)
    }

    fn set_buffer(&self, buffer: Buffer, size: usize, value: &[u8]) -> Result<()> {
        raw::set_buffer(buffer, size, value)
    }

    fn get_headers(&self, map: Map) -> Result<Head> {
        Head::parse(raw::get_headers(map)?).ok_or(Status::PARSE_FAILURE)
    }

    fn set_headers(&self, map: Map, headers: &[(&[u8], &[u8])]) -> Result<()> {
        raw::set_headers(map, headers)
    }

    fn remove_header(&self, map: Map, name: &str) -> Result<()> {
        raw::remove_header(map, name)
    }

    fn replace_header(&self, map: Map, name: &str, value: &[u8]) -> Result<()> {
        raw::replace_header(map, name, value)
    }

    fn get_property(&self, path: &str) -> Result<Vec<u8>> {
        raw::get_property(path)
    }

    fn continue_stream(&self, direction: Direction) -> Result<()> {
        raw::continue_stream(direction)
    }

    fn close_stream(&self, direction: Direction) -> Result<()> {
        raw::close_stream(direction)
    }

    fn send_local_response(&self, status: u16, details: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
        raw::send_local_response(status, details, headers, body)
    }

    fn open_grpc_stream(&self, cluster: &str, service: &str, method: &str) -> Result<u32> {
        raw::open_grpc_stream(cluster, service, method)
    }

    fn send_grpc(&self, token: u32, message: &[u8]) -> Result<()> {
        raw::send_grpc(token, message)
    }

    fn close_grpc(&self, token: u32) -> Result<()> {
        raw::close_grpc(token)
    }

    fn grpc_call(&self, call: &GrpcCall<'_>) -> Result<u32> {
        raw::grpc_call(call)
    }

    fn cancel_grpc(&self, token: u32) -> Result<()> {
        raw::cancel_grpc(token)
    }

    fn set_effective_context(&self, context: u32) -> Result<()> {
        raw::set_effective_context(context)
    }

    fn call_foreign_function(&self, name: &str, arguments: &[u8]) -> Result<Vec<u8>> {
        raw::call_foreign_function(name, arguments)
    }

    fn define_metric(&self, kind: Metric, name: &str) -> Result<u32> {
        raw::define_metric(kind, name)
    }

    fn record_metric(&self, metric: u32, value: u64) -> Result<()> {
        raw::record_metric(metric, value)
    }

    fn increment_metric(&self, metric: u32, offset: i64) -> Result<()> {
        raw::increment_metric(metric, offset)
    }

    fn get_shared(&self, key: &str) -> Result<Option<Shared>> {
        raw::get_shared(key)
    }

    fn set_shared(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<()> {
        raw::set_shared(key, value, cas)
    }
}
