//! Where the SDK's callbacks do not reach: four that the build exports in their place, by `exports.txt`.

use crate::contexts;
use doorward_filter::stream::Flow;
use proxy_wasm::types::Action;
use std::cell::Cell;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|id| Box::new(contexts::Root::new(id)));
}}

thread_local! {
    static ANSWER: Cell<u32> = const { Cell::new(0) };
}

/// Says what the callback answers.
pub fn answer(flow: Flow) {
    ANSWER.set(flow.0);
}

unsafe extern "C" {
    /// The SDK's own callback.
    safe fn proxy_on_response_headers(context: u32, count: usize, end_of_stream: bool) -> Action;
    /// The SDK's own callback.
    safe fn proxy_on_response_body(context: u32, size: usize, end_of_stream: bool) -> Action;
}

/// The answer that was said; the SDK's `Action` can say only the first two of them. Where the SDK found no stream to ask,
/// nothing was said.
fn answered(action: Action) -> u32 {
    match action {
        Action::Continue => Flow::CONTINUE.0,
        _ => ANSWER.get().max(Flow::STOP.0),
    }
}

/// The SDK's callback, and one answer more: that the body waits too, as long as it takes.
#[unsafe(no_mangle)]
extern "C" fn doorward_on_response_headers(context: u32, count: usize, end_of_stream: bool) -> u32 {
    ANSWER.set(Flow::CONTINUE.0);
    answered(proxy_on_response_headers(context, count, end_of_stream))
}

/// The SDK's callback, and one answer more: that the host slows the sender down.
#[unsafe(no_mangle)]
extern "C" fn doorward_on_response_body(context: u32, size: usize, end_of_stream: bool) -> u32 {
    ANSWER.set(Flow::CONTINUE.0);
    answered(proxy_on_response_body(context, size, end_of_stream))
}

/// The SDK drops messages of streams that it did not open.
#[unsafe(no_mangle)]
extern "C" fn doorward_on_grpc_receive(root: u32, token: u32, size: usize) {
    contexts::grpc_receive(root, token, size);
}

/// The SDK drops the end of streams that it did not open.
#[unsafe(no_mangle)]
extern "C" fn doorward_on_grpc_close(root: u32, token: u32, status: u32) {
    contexts::grpc_close(root, token, status);
}
