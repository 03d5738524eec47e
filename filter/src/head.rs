//! The head of a request or response, read from the host in one call.

use doorward_policy::request::{Header, HttpRequest};

/// Headers of a message. Owns the host's bytes, so that a request whose body is awaited keeps its head.
#[derive(Debug, Default)]
pub struct Head {
    bytes: Vec<u8>,
    /// Start of the name, its length, length of the value (which follows the name and a NUL).
    spans: Vec<(usize, usize, usize)>,
}

/// Headers over this many do not come out of Envoy at all.
const MAX_HEADERS: usize = 1024;

impl Head {
    /// Reads the ABI's form of a header map. `None`: it is not of that form, or a name is not text.
    #[must_use]
    pub fn parse(bytes: Vec<u8>) -> Option<Head> {
        let number = |at: usize| -> Option<usize> {
            let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(four)).ok()
        };
        let count = number(0)?;
        if count > MAX_HEADERS {
            return None;
        }
        let mut spans = Vec::with_capacity(count);
        let mut at = count.checked_mul(8)?.checked_add(4)?;
        for index in 0..count {
            let lengths = index.checked_mul(8)?.checked_add(4)?;
            let (name, value) = (number(lengths)?, number(lengths.checked_add(4)?)?);
            let end = at.checked_add(name)?.checked_add(value)?.checked_add(2)?;
            std::str::from_utf8(bytes.get(at..at.checked_add(name)?)?).ok()?;
            bytes.get(at..end)?;
            spans.push((at, name, value));
            at = end;
        }
        Some(Head { bytes, spans })
    }

    /// A head of these names and values.
    #[must_use]
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Head {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for (name, value) in pairs {
            spans.push((bytes.len(), name.len(), value.len()));
            for part in [name, &[0], value, &[0]] {
                bytes.extend_from_slice(part);
            }
        }
        Head { bytes, spans }
    }

    /// Names and values in their order, pseudo-headers included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.pairs().filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
    }

    /// The same, the names as bytes: they were found to be text already.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().filter_map(|&(at, name, value)| {
            let whole = self.bytes.get(at..at + name + 1 + value)?;
            Some((whole.get(..name)?, whole.get(name + 1..)?))
        })
    }

    /// Number of headers, pseudo-headers included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// First value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.pairs().find(|(have, _)| *have == name.as_bytes()).map(|(_, value)| value)
    }

    /// All headers but the pseudo-headers. Where a body follows and none of them says so (HTTP/2 needs no header for
    /// that, RFC 9113 section 8.1), a `transfer-encoding` does: as Envoy would write it for an HTTP/1.1 upstream. So no
    /// dialect takes a request for one without a body.
    #[must_use]
    #[inline(never)]
    pub fn headers(&self, body_follows: bool) -> Vec<Header<'_>> {
        let mut headers: Vec<_> = self
            .iter()
            .filter(|(name, _)| !name.starts_with(':'))
            .map(|(name, value)| Header { name, value })
            .collect();
        let announced = |header: &Header<'_>| match header.name {
            "transfer-encoding" => true,
            "content-length" => header.value != b"0",
            _ => false,
        };
        if body_follows && !headers.iter().any(announced) {
            headers.push(Header { name: "transfer-encoding", value: b"chunked" });
        }
        headers
    }

    /// The request that this is the head of; `headers` come from [`Head::headers`]. `None`: a part is missing, or not text.
    #[must_use]
    #[inline(never)]
    pub fn request<'a>(
        &'a self,
        headers: &'a [Header<'a>],
        body: Option<&'a [u8]>,
        source_address: &'a str,
    ) -> Option<HttpRequest<'a>> {
        let text = |name| std::str::from_utf8(self.get(name)?).ok();
        Some(HttpRequest {
            method: text(":method")?,
            authority: text(":authority")?,
            path: text(":path")?,
            headers,
            body,
            source_address,
        })
    }
}

/// The IP address in Envoy's `address:port` (`[address]:port` for IPv6).
#[must_use]
pub fn without_port(address: &str) -> &str {
    match address.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None if address.matches(':').count() == 1 => address.split(':').next().unwrap_or(""),
        None => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_no_header_announces_is_announced() {
        let told = |head: &Head, follows| head.headers(follows).iter().any(|header| header.name == "transfer-encoding");
        let head = Head { bytes: b"a\0b\0".to_vec(), spans: vec![(0, 1, 1)] };
        assert!(told(&head, true) && !told(&head, false));
    }

    fn encode(pairs: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = (pairs.len() as u32).to_le_bytes().to_vec();
        for (name, value) in pairs {
            out.extend((name.len() as u32).to_le_bytes());
            out.extend((value.len() as u32).to_le_bytes());
        }
        for (name, value) in pairs {
            out.extend([name.as_bytes(), &[0], value, &[0]].concat());
        }
        out
    }

    #[test]
    fn a_head_is_read_with_duplicates_in_order_and_values_that_are_not_text() {
        let pairs: [(&str, &[u8]); 5] =
            [(":method", b"GET"), (":authority", b"h"), (":path", b"/a?b"), ("x", b"\xff"), ("x", b"")];
        let head = Head::parse(encode(&pairs)).unwrap();
        assert_eq!(head.iter().collect::<Vec<_>>(), pairs);
        let headers = head.headers(false);
        let request = head.request(&headers, None, "").unwrap();
        assert_eq!((request.method, request.authority, request.path), ("GET", "h", "/a?b"));
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn a_head_that_is_cut_off_or_lies_about_lengths_is_refused() {
        let whole = encode(&[(":method", b"GET"), ("a", b"b")]);
        for cut in 0..whole.len() {
            assert!(Head::parse(whole[..cut].to_vec()).is_none(), "cut at {cut}");
        }
        let mut lie = whole.clone();
        lie[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Head::parse(lie).is_none());
        assert!(Head::parse(u32::MAX.to_le_bytes().to_vec()).is_none());
        assert!(Head::parse(encode(&[(":path", b"\xff")])).unwrap().request(&[], None, "").is_none());
    }

    #[test]
    fn ports_are_cut_from_addresses_of_both_families() {
        assert_eq!(without_port("10.0.0.1:80"), "10.0.0.1");
        assert_eq!(without_port("[::1]:80"), "::1");
        assert_eq!(without_port("::1"), "::1");
    }
}
