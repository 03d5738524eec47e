//! What holds for every request of the gRPC port, whatever service it asks: quotas, and the end of the connection, for
//! its age or for its client's certificate.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::connections::{OpenStream, Peer, Refusal};

/// Puts [`Bounded`] around all services.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds;

impl<S> Layer<S> for Bounds {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded(inner)
    }
}

/// A service whose requests count for their client and end with its connection.
#[derive(Debug, Clone)]
pub struct Bounded<S>(S);

impl<S> Service<http::Request<Body>> for Bounded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            let status = Status::internal("nothing is known about this connection; please report it");
            return Box::pin(async move { Ok(status.into_http()) });
        };
        let open = match peer.stream() {
            Ok(open) => open,
            Err(refusal) => {
                let status = describe(refusal);
                return Box::pin(async move { Ok(status.into_http()) });
            }
        };
        let response = self.0.call(request);
        Box::pin(async move {
            let (end, expires) = peer.end();
            let end = Some((Box::pin(sleep_until(end)), expires));
            Ok(response.await?.map(|body| Body::new(Held { body, end, open: Some(open) })))
        })
    }
}

fn describe(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Expired => expired(),
        Refusal::Connections => Status::resource_exhausted(
            "this client has as many connections as are left for all others; close some, or raise --max-connections",
        ),
        Refusal::Streams => Status::resource_exhausted(
            "this client has as many streams as are left for all others; close some, or run more control planes",
        ),
    }
}

fn expired() -> Status {
    Status::unauthenticated("the client's certificate has expired; connect again with a new one")
}

fn aged() -> Status {
    Status::unavailable("this connection has reached its greatest age; connect again")
}

/// A response that counts until it ends.
struct Held {
    body: Body,
    /// When it is ended, and whether that is because the certificate does.
    end: Option<(Pin<Box<Sleep>>, bool)>,
    open: Option<OpenStream>,
}

impl http_body::Body for Held {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Some((end, expires)) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            let status = if *expires { expired() } else { aged() };
            self.end = None;
            self.open = None;
            // Whoever writes into it sees that nobody reads any more.
            self.body = Body::empty();
            let mut trailers = http::HeaderMap::new();
            return Poll::Ready(match status.add_header(&mut trailers) {
                Ok(()) => Some(Ok(Frame::trailers(trailers))),
                Err(status) => Some(Err(status)),
            });
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = frame {
            self.open = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
