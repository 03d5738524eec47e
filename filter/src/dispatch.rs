//! From the host's context numbers to the contexts. A context that is not there, or is busy, is closed.

use crate::{
    raw::{self, Level},
    stream::{Flow, Stream},
    worker::Worker,
};
use std::{cell::RefCell, collections::HashMap, rc::Rc};

/// A root context, shared by its streams.
pub type SharedWorker = Rc<RefCell<Worker>>;

thread_local! {
    static WORKERS: RefCell<HashMap<u32, SharedWorker>> = RefCell::default();
    static STREAMS: RefCell<HashMap<u32, Rc<RefCell<Stream>>>> = RefCell::default();
}

/// A new context: a root if it has no parent.
pub fn create(context: u32, parent: u32) {
    if parent == 0 {
        WORKERS.with_borrow_mut(|map| map.insert(context, Rc::new(RefCell::new(Worker::new(context)))));
    } else if let Some(worker) = WORKERS.with_borrow(|map| map.get(&parent).cloned()) {
        let stream = Rc::new(RefCell::new(Stream::new(context, parent, worker)));
        STREAMS.with_borrow_mut(|map| map.insert(context, stream));
    }
}

/// The host forgets a context.
pub fn delete(context: u32) {
    if let Some(stream) = STREAMS.with_borrow_mut(|map| map.remove(&context)) {
        if let Ok(mut stream) = stream.try_borrow_mut() {
            stream.delete();
        }
    } else {
        WORKERS.with_borrow_mut(|map| map.remove(&context));
    }
}

fn with_worker(root: u32, act: impl FnOnce(&mut Worker)) {
    let Some(worker) = WORKERS.with_borrow(|map| map.get(&root).cloned()) else { return };
    match worker.try_borrow_mut() {
        Ok(mut worker) => act(&mut worker),
        Err(_) => raw::log(Level::Error, "doorward: a root context was called while it was at work."),
    }
}

fn with_stream(context: u32, act: impl FnOnce(&mut Stream) -> Flow) -> Flow {
    if let Some(stream) = STREAMS.with_borrow(|map| map.get(&context).cloned())
        && let Ok(mut stream) = stream.try_borrow_mut()
    {
        return act(&mut stream);
    }
    let _ = raw::send_local_response(503, "policy_unavailable", &[], &[]);
    Flow::STOP
}

/// The configuration is there.
pub fn configure(root: u32, size: usize) {
    with_worker(root, |worker| worker.configure(size));
}

/// The timer.
pub fn tick(root: u32) {
    with_worker(root, Worker::tick);
}

/// The VM or the stream ends.
pub fn done(context: u32) {
    with_worker(context, Worker::done);
}

/// A message from the control plane.
pub fn grpc_receive(root: u32, token: u32, size: usize) {
    with_worker(root, |worker| worker.grpc_receive(token, size));
}

/// The control plane closed a stream, or could not be reached.
pub fn grpc_close(root: u32, token: u32, _status: u32) {
    with_worker(root, |worker| worker.grpc_close(token));
}

/// The head of a request.
pub fn request_headers(context: u32, end: bool) -> Flow {
    with_stream(context, |stream| stream.request_headers(end))
}

/// More of a request's body.
pub fn request_body(context: u32, size: usize, end: bool) -> Flow {
    with_stream(context, |stream| stream.request_body(size, end))
}

/// The trailers of a request.
pub fn request_trailers(context: u32) -> Flow {
    with_stream(context, Stream::request_trailers)
}

/// The head of a response.
pub fn response_headers(context: u32, end: bool) -> Flow {
    with_stream(context, |stream| stream.response_headers(end))
}

/// More of a response's body.
pub fn response_body(context: u32, size: usize, end: bool) -> Flow {
    with_stream(context, |stream| stream.response_body(size, end))
}

/// The trailers of a response.
pub fn response_trailers(context: u32) -> Flow {
    with_stream(context, Stream::response_trailers)
}
