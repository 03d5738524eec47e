//! An HTTP/1.1 client that sends exactly the bytes it is given, because the interesting requests are those that a good
//! client would never send.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// A response, dechunked.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// `code` of a problem document; empty if it is none.
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Asserts a denial.
    #[track_caller]
    pub fn denied(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
    }

    /// The rows of a Datasette response in any of its shapes, as objects.
    #[must_use]
    pub fn rows(&self) -> Vec<serde_json::Map<String, serde_json::Value>> {
        use serde_json::Value;
        let json = self.json();
        let list = match &json {
            Value::Array(list) => list.clone(),
            Value::Object(members) => match members.get("rows") {
                Some(Value::Array(list)) => list.clone(),
                Some(Value::Object(rows)) => rows.values().cloned().collect(),
                _ => members.values().filter(|value| value.is_object()).cloned().collect(),
            },
            _ => Vec::new(),
        };
        let names: Vec<String> = json
            .get("columns")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        list.into_iter()
            .filter_map(|row| match row {
                Value::Object(row) => Some(row),
                Value::Array(row) => Some(names.iter().cloned().zip(row).collect()),
                _ => None,
            })
            .collect()
    }
}

/// A request in the making.
#[derive(Clone, Debug)]
pub struct Request {
    /// Port of the loopback.
    pub port: u16,
    /// Method.
    pub method: String,
    /// Path with query, sent as it is.
    pub path: String,
    /// Headers, sent as they are after `host`.
    pub headers: Vec<(String, String)>,
    /// Body, with a content-length.
    pub body: Option<Vec<u8>>,
}

/// Starts a GET.
#[must_use]
pub fn get(port: u16, path: &str) -> Request {
    Request { port, method: "GET".into(), path: path.into(), headers: Vec::new(), body: None }
}

/// Starts a request with another method.
#[must_use]
pub fn request(method: &str, port: u16, path: &str) -> Request {
    Request { method: method.into(), ..get(port, path) }
}

impl Request {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds a bearer token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, body: &str) -> Self {
        self.body = Some(body.as_bytes().to_vec());
        self.header("content-type", "application/json")
    }

    /// The bytes of the head, with the body's length unless `chunked`.
    #[must_use]
    pub fn head(&self, chunked: bool) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            out.push_str("host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.body {
            _ if chunked => out.push_str("transfer-encoding: chunked\r\n"),
            Some(body) => out.push_str(&format!("content-length: {}\r\n", body.len())),
            None => {}
        }
        out.push_str("connection: close\r\n\r\n");
        out.into_bytes()
    }

    /// Sends it on a connection of its own. No answer at all is status 0.
    #[must_use]
    pub fn send(&self) -> Response {
        let mut bytes = self.head(false);
        bytes.extend(self.body.iter().flatten());
        exchange(self.port, &[&bytes])
    }

    /// Sends the body in these pieces, chunked, each in a segment of its own, with these trailers.
    #[must_use]
    pub fn send_pieces(&self, pieces: &[&[u8]], trailers: &str) -> Response {
        let segments = self.segments(pieces, trailers);
        exchange(self.port, &segments.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// The head and a chunked body in these pieces, and its end with these trailers.
    #[must_use]
    pub fn segments(&self, pieces: &[&[u8]], trailers: &str) -> Vec<Vec<u8>> {
        let mut out = vec![self.head(true)];
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            out.push(chunk);
        }
        out.push(format!("0\r\n{trailers}\r\n").into_bytes());
        out
    }
}

/// Writes these segments and reads one response.
#[must_use]
pub fn exchange(port: u16, segments: &[&[u8]]) -> Response {
    // So that the kernel sends each as a segment of its own; it does not say when it has.
    exchange_paced(port, segments, Duration::from_millis(1))
}

/// Writes these segments with a pause after each, and reads one response.
#[must_use]
pub fn exchange_paced(port: u16, segments: &[&[u8]], pause: Duration) -> Response {
    let none = Response { status: 0, headers: Vec::new(), body: Vec::new() };
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return none };
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for (at, segment) in segments.iter().enumerate() {
        if at > 0 {
            std::thread::sleep(pause);
        }
        if stream.write_all(segment).is_err() {
            break;
        }
    }
    // Not to the end of the stream: Envoy delays the close by a second after an answer that came early.
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
            _ => break,
        }
        if complete(&bytes) {
            break;
        }
    }
    parse(&bytes).unwrap_or(none)
}

fn complete(bytes: &[u8]) -> bool {
    let Some(split) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..split]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    match length {
        Some(length) => bytes.len() >= split + 4 + length,
        None => head.contains("transfer-encoding: chunked") && bytes.ends_with(b"\r\n0\r\n\r\n"),
    }
}

fn parse(bytes: &[u8]) -> Option<Response> {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &bytes[split + 4..];
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value.contains("chunked"));
    Some(Response { status, headers, body: if chunked { dechunk(body) } else { body.to_vec() } })
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let Ok(size) = usize::from_str_radix(String::from_utf8_lossy(&rest[..end]).trim(), 16) else { break };
        let Some(chunk) = rest.get(end + 2..end + 2 + size).filter(|_| size > 0) else { break };
        out.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
    out
}
