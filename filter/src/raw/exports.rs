//! Where the SDK's callbacks do not reach: three that the build exports in their place, by `exports.txt`.

use crate::{dispatch, stream::Flow};
use proxy_wasm::types::Action;
use std::cell::Cell;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|id| Box::new(dispatch::Root::new(id)));
}}

thread_local! {
    static HOLD_EVERYTHING: Cell<bool> = const { Cell::new(false) };
}

/// Says whether the pause that the callback asks for is one of everything.
pub fn hold_everything(hold: bool) {
    HOLD_EVERYTHING.set(hold);
}

unsafe extern "C" {
    /// The SDK's own callback.
    safe fn proxy_on_response_headers(context: u32, count: usize, end_of_stream: bool) -> Action;
}

/// The SDK's callback, and one answer more: its `Action` cannot say that the body waits too, as long as it takes.
#[unsafe(no_mangle)]
extern "C" fn doorward_on_response_headers(context: u32, count: usize, end_of_stream: bool) -> u32 {
    HOLD_EVERYTHING.set(false);
    match proxy_on_response_headers(context, count, end_of_stream) {
        Action::Continue => Flow::CONTINUE.0,
        _ if HOLD_EVERYTHING.get() => Flow::STOP_ALL.0,
        _ => Flow::STOP.0,
    }
}

/// The SDK drops messages of streams that it did not open.
#[unsafe(no_mangle)]
extern "C" fn doorward_on_grpc_receive(root: u32, token: u32, size: usize) {
    dispatch::grpc_receive(root, token, size);
}

/// The SDK drops the end of streams that it did not open.
#[unsafe(no_mangle)]
extern "C" fn doorward_on_grpc_close(root: u32, token: u32, status: u32) {
    dispatch::grpc_close(root, token, status);
}
