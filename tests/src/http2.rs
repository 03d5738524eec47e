//! HTTP/2: an upstream that keeps what arrived, trailers too, and a client that writes any head and any trailers, because
//! the interesting ones are those that no library lets one send.

use crate::{control::runtime, upstream::Seen};
use bytes::Bytes;
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A request as an HTTP/2 upstream saw it.
#[derive(Clone, Debug, Default)]
pub struct Arrived {
    /// Head and body; `host` is the `:authority`.
    pub seen: Seen,
    /// Trailers; `None`: none at all.
    pub trailers: Option<Vec<(String, String)>>,
}

/// An HTTP/2 upstream (prior knowledge) that answers every request with `{}` and, so that responses have them too, trailers.
pub struct Upstream {
    /// Its port.
    pub port: u16,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Upstream {
    /// Serves. It ends with the test process.
    #[must_use]
    pub fn start() -> Self {
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&arrived);
        let listener = runtime().block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(answer(request, respond, Arc::clone(&log)));
                    }
                });
            }
        });
        Self { port, arrived }
    }

    /// Takes what arrived since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived.lock().unwrap())
    }
}

async fn answer(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    log: Arc<Mutex<Vec<Arrived>>>,
) {
    let (head, mut body) = request.into_parts();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let pairs = |map: &http::HeaderMap| map.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let mut seen = Seen {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: pairs(&head.headers),
        body: Vec::new(),
    };
    if let Some(authority) = head.uri.authority() {
        seen.headers.push(("host".into(), authority.to_string()));
    }
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        seen.body.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.ok().flatten().map(|map| pairs(&map));
    log.lock().unwrap().push(Arrived { seen, trailers });
    let response = http::Response::builder().header("content-type", "application/json").body(()).unwrap();
    if let Ok(mut send) = respond.send_response(response, false) {
        let _ = send.send_data(Bytes::from_static(b"{}"), false);
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-checked", http::HeaderValue::from_static("yes"));
        let _ = send.send_trailers(trailers);
    }
}

/// What came back on a stream.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Body.
    pub body: Vec<u8>,
    /// Status where it is of the static table of HPACK (RFC 7541, appendix A), else 0.
    pub status: u16,
    /// The stream or the connection was reset.
    pub reset: bool,
}

impl Answer {
    /// `code` of a problem document; empty if it is none.
    #[must_use]
    pub fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Literal fields without indexing and without Huffman codes (RFC 7541, section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a length that needs more than one byte");
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Sends one request (pseudo-headers first among `fields`) with this body and these trailers on a connection of its own.
#[must_use]
pub fn exchange(port: u16, fields: &[(&str, &str)], body: Option<&[u8]>, trailers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    out.extend(frame(SETTINGS, 0, 0, &[]));
    let last = |yes: bool| if yes { END_STREAM } else { 0 };
    out.extend(frame(HEADERS, END_HEADERS | last(body.is_none() && trailers.is_empty()), 1, &block(fields)));
    if let Some(body) = body {
        out.extend(frame(DATA, last(trailers.is_empty()), 1, body));
    }
    if !trailers.is_empty() {
        out.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)));
    }
    let _ = stream.write_all(&out);
    let mut answer = Answer::default();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], id) {
            (DATA, 1) => answer.body.extend(payload),
            (HEADERS, 1) if answer.status == 0 => {
                // A change of the table's size may come first.
                let first = payload.iter().find(|byte| **byte & 0xe0 != 0x20).copied().unwrap_or_default();
                let known = [(0x88, 200), (0x89, 204), (0x8c, 400), (0x8d, 404), (0x8e, 500)];
                answer.status = known.iter().find(|(byte, _)| *byte == first).map_or(0, |(_, status)| *status);
            }
            (3, 1) | (7, 0) => answer.reset = true,
            (SETTINGS, 0) if head[4] & 1 == 0 => {
                let _ = stream.write_all(&frame(SETTINGS, 1, 0, &[]));
            }
            _ => {}
        }
        if answer.reset || (id == 1 && head[3] <= HEADERS && head[4] & END_STREAM != 0) {
            return answer;
        }
    }
    answer.reset = true;
    answer
}
