//! From the host's callbacks to the contexts. The SDK keeps the contexts and calls them; events of gRPC streams, which
//! it passes on only for streams that it opened itself, find their root context here. One that is not there, or is busy,
//! is left alone.

use crate::ProxyWasm;
use doorward_filter::{
    proxy::{Level, Proxy as _},
    stream::Stream,
    worker::{SharedWorker, Worker},
};
use std::{cell::RefCell, collections::HashMap, rc::Rc};

thread_local! {
    static WORKERS: RefCell<HashMap<u32, SharedWorker>> = RefCell::default();
}

fn with_worker(worker: &SharedWorker, act: impl FnOnce(&mut Worker)) {
    match worker.try_borrow_mut() {
        Ok(mut worker) => act(&mut worker),
        Err(_) => ProxyWasm.log(Level::Error, "doorward: a root context was called while it was at work."),
    }
}

fn with_numbered(root: u32, act: impl FnOnce(&mut Worker)) {
    if let Some(worker) = WORKERS.with_borrow(|map| map.get(&root).cloned()) {
        with_worker(&worker, act);
    }
}

/// A message from the control plane.
pub fn grpc_receive(root: u32, token: u32, size: usize) {
    with_numbered(root, |worker| worker.grpc_receive(&ProxyWasm, token, size));
}

/// The control plane closed a stream, or could not be reached.
pub fn grpc_close(root: u32, token: u32, status: u32) {
    with_numbered(root, |worker| worker.grpc_close(&ProxyWasm, token, status));
}

/// A root context as the SDK keeps it.
pub struct Root {
    id: u32,
    worker: SharedWorker,
}

impl Root {
    /// A root context of this number; gRPC events find it as long as it lives.
    #[must_use]
    pub fn new(id: u32) -> Self {
        let worker = Rc::new(RefCell::new(Worker::new(id)));
        WORKERS.with_borrow_mut(|map| map.insert(id, Rc::clone(&worker)));
        Root { id, worker }
    }

    /// The configuration is there.
    pub fn configure(&self, size: usize) {
        with_worker(&self.worker, |worker| worker.configure(&ProxyWasm, size));
    }

    /// The timer.
    pub fn tick(&self) {
        with_worker(&self.worker, |worker| worker.tick(&ProxyWasm));
    }

    /// The VM ends, or gets another configuration.
    pub fn done(&self) {
        with_worker(&self.worker, |worker| worker.done(&ProxyWasm));
    }

    /// A new stream.
    #[must_use]
    pub fn stream(&self, id: u32) -> Stream {
        Stream::new(id, self.id, Rc::clone(&self.worker))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        WORKERS.with_borrow_mut(|map| map.remove(&self.id));
    }
}

/// The SDK's traits. Their other methods, which nothing here calls, panic on statuses that they do not expect: calls to
/// the host go through [`crate::raw`]. Without a host there is nothing to link them against, so natively they are not there.
#[cfg(all(target_arch = "wasm32", feature = "entry-points"))]
mod contexts {
    use super::Root;
    use crate::{ProxyWasm, raw::answer};
    use doorward_filter::stream::{Flow, Stream};
    use proxy_wasm::{
        traits::{Context, HttpContext, RootContext},
        types::{Action, ContextType},
    };

    fn action(flow: Flow) -> Action {
        if flow == Flow::CONTINUE { Action::Continue } else { Action::Pause }
    }

    impl Context for Root {
        fn on_done(&mut self) -> bool {
            Root::done(self);
            true
        }
    }

    impl RootContext for Root {
        fn on_configure(&mut self, size: usize) -> bool {
            self.configure(size);
            // A configuration that is not valid closes the filter; it does not unload it.
            true
        }

        fn on_tick(&mut self) {
            self.tick();
        }

        fn get_type(&self) -> Option<ContextType> {
            Some(ContextType::HttpContext)
        }

        fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
            Some(Box::new(Http(self.stream(id))))
        }
    }

    /// A stream context as the SDK keeps it.
    struct Http(Stream);

    impl Context for Http {
        fn on_done(&mut self) -> bool {
            self.0.done(&ProxyWasm);
            true
        }
    }

    impl HttpContext for Http {
        fn on_http_request_headers(&mut self, _count: usize, end: bool) -> Action {
            action(self.0.request_headers(&ProxyWasm, end))
        }

        fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
            action(self.0.request_body(&ProxyWasm, size, end))
        }

        fn on_http_request_trailers(&mut self, _count: usize) -> Action {
            action(self.0.request_trailers(&ProxyWasm))
        }

        fn on_http_response_headers(&mut self, _count: usize, end: bool) -> Action {
            let flow = self.0.response_headers(&ProxyWasm, end);
            answer(flow);
            action(flow)
        }

        fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
            let flow = self.0.response_body(&ProxyWasm, size, end);
            answer(flow);
            action(flow)
        }

        fn on_http_response_trailers(&mut self, _count: usize) -> Action {
            action(self.0.response_trailers(&ProxyWasm))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_events_find_their_root_context_while_it_lives_and_no_other() {
        let (first, second) = (Root::new(7), Root::new(8));
        let seen = |root: u32| {
            let mut id = None;
            with_numbered(root, |worker| id = Some(worker.id()));
            id
        };
        assert_eq!((seen(7), seen(8), seen(9)), (Some(7), Some(8), None));
        drop(first);
        assert_eq!((seen(7), seen(8)), (None, Some(8)));
        grpc_receive(7, 1, 10);
        grpc_close(7, 1, 14);
        drop(second);
        assert_eq!(seen(8), None);
    }

    #[test]
    fn a_root_context_that_is_at_work_is_left_alone() {
        let root = Root::new(7);
        let mut reached = false;
        with_worker(&root.worker, |_| {
            with_numbered(7, |_| reached = true);
            root.tick();
            root.done();
        });
        assert!(!reached);
    }
}
